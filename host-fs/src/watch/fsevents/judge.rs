//! From batches of events to reports: the part about names. The rules are told at the top of the
//! [module](super).

use super::renames::Renames;
use super::watched::Rename;
use super::{Event, EventId, FileId, Flags, Hints, There};
use crate::watch::{Kinds, Report};

impl Hints {
    /// Says what an event of a name hints at. What renames hint at is said with the first event
    /// that belongs to them, and noted in `said`, unless the directory is watched under that path
    /// only when a later event has been judged.
    pub(super) fn judge(
        &mut self,
        index: usize,
        events: &[Event],
        renames: &Renames,
        said: &mut [bool],
        out: &mut Vec<Report>,
    ) {
        for way in renames.ways(index) {
            // What stands in between may have happened before.
            let last = way.iter().max().copied().unwrap_or(index);
            let until = events[index..=last].iter().map(|event| event.id).max().unwrap_or_default();
            for name in &way[..way.len() - 1] {
                self.before_leaving(&events[*name], out);
            }
            for hop in way.windows(2) {
                let (from, to) = self.moved(&events[hop[0]], &events[hop[1]], until, out);
                said[hop[0]] |= from;
                said[hop[1]] |= to;
            }
        }
        let (event, role) = (&events[index], renames.roles[index]);
        if !event.flags.intersects(Flags::HAPPENED) {
            return;
        }
        match event.there {
            There::Unknown => self.unknown(event, out),
            // Another file was made and removed where an ancestor is moved away: it was looked for
            // in the wrong place.
            There::Nothing if is_astray(index, events, renames) => self.unknown(event, out),
            There::Nothing if role.left_for && said[index] => {}
            There::Nothing if role.left => {
                if !role.taken_from {
                    self.before_leaving(event, out);
                }
                self.gone(event, out);
            }
            There::Nothing => self.absent(event, out),
            There::File(file) => {
                if role.left && !role.left_for && !self.standing.is(&event.path, file) {
                    self.named(event, Kinds::MOVED_FROM, 0, out);
                    self.standing.remove(&event.path);
                    self.end_within(event, Some(file), Kinds::SELF_MOVE, out);
                }
                match role.taken {
                    true if role.left && !role.taken_from && is_told_later(index, events) => {}
                    true if role.taken_from && said[index] => {
                        self.named(event, content(event), 0, out);
                    }
                    true => self.taken(event, file, out),
                    false => self.present(event, file, out),
                }
            }
        }
    }

    /// What happened under a name before the file left it.
    fn before_leaving(&mut self, event: &Event, out: &mut Vec<Report>) {
        if event.there == There::Nothing {
            let kinds = self.created(event, event.file) | content(event);
            self.named(event, kinds, 0, out);
        }
    }

    /// `CREATE`, if the event tells of a creation that was not reported yet. Whoever makes a
    /// regular file has it open, and closes it; that by itself brings no event.
    fn created(&self, event: &Event, file: Option<FileId>) -> Kinds {
        let stood = file.is_some_and(|file| self.standing.is(&event.path, file));
        match event.flags.contains(Flags::CREATED) && !stood {
            true if event.flags.contains(Flags::IS_FILE) => Kinds::CREATE | Kinds::CLOSE_WRITE,
            true => Kinds::CREATE,
            false => Kinds::empty(),
        }
    }

    /// Tells whether both names are in watched directories.
    fn moved(
        &mut self,
        from: &Event,
        to: &Event,
        until: EventId,
        out: &mut Vec<Report>,
    ) -> (bool, bool) {
        let is_told = |event: &Event| {
            let held = self.watched.holding(&event.path, event.id);
            held.is_some_and(|(watches, _)| watches.iter().any(|watch| watch.counts(event.id)))
        };
        let mut cookie = 0;
        if is_told(from) && is_told(to) {
            self.cookie = self.cookie.checked_add(1).unwrap_or(1);
            cookie = self.cookie;
        }
        let said = (
            self.named(from, Kinds::MOVED_FROM, cookie, out),
            self.named(to, Kinds::MOVED_TO, cookie, out),
        );
        self.standing.remove(&from.path);
        if let There::File(file) = to.there {
            self.standing.set(&to.path, file);
        }
        if from.path != to.path {
            // What it took the place of.
            self.end_within(to, from.file, Kinds::SELF_DELETE, out);
            self.itself(from, Kinds::SELF_MOVE, out);
            let (file, id) = (from.file, from.id.max(to.id));
            self.watched.rename(&Rename { from: &from.path, to: &to.path, file, id, until });
        }
        said
    }

    /// The file left its name, and where to is not known.
    fn gone(&mut self, event: &Event, out: &mut Vec<Report>) {
        let (kinds, how) = match event.flags.contains(Flags::REMOVED) {
            true => (Kinds::DELETE, Kinds::SELF_DELETE),
            false => (Kinds::MOVED_FROM, Kinds::SELF_MOVE),
        };
        self.named(event, kinds, 0, out);
        self.standing.remove(&event.path);
        self.end_within(event, None, how, out);
    }

    /// Nothing is there, and nothing was moved away.
    fn absent(&mut self, event: &Event, out: &mut Vec<Report>) {
        let created = self.created(event, event.file);
        if event.flags.contains(Flags::REMOVED) {
            if !created.is_empty() {
                // It came and went.
                self.named(event, created | Kinds::DELETE | content(event), 0, out);
                self.standing.remove(&event.path);
                return self.end_within(event, None, Kinds::SELF_DELETE, out);
            }
            return self.gone(event, out);
        }
        // Why it is gone is yet to be told.
        let kinds = created | content(event);
        self.named(event, if kinds.is_empty() { Kinds::ATTRIB } else { kinds }, 0, out);
    }

    /// Something came from where nobody watches.
    fn taken(&mut self, event: &Event, file: FileId, out: &mut Vec<Report>) {
        let kinds = match self.created(event, Some(file)) {
            kinds if kinds.is_empty() => Kinds::MOVED_TO,
            kinds => kinds,
        };
        self.named(event, kinds | content(event), 0, out);
        self.standing.set(&event.path, file);
        self.end_within(event, Some(file), Kinds::SELF_DELETE, out);
    }

    /// Something is there, and nothing was moved.
    fn present(&mut self, event: &Event, file: FileId, out: &mut Vec<Report>) {
        let mut kinds = self.created(event, Some(file)) | content(event);
        let is_news = !self.standing.is(&event.path, file);
        if is_news && event.flags.contains(Flags::REMOVED) {
            // Something was removed, so this is something else.
            kinds |= Kinds::DELETE | Kinds::CREATE;
        }
        self.named(event, if kinds.is_empty() { Kinds::ATTRIB } else { kinds }, 0, out);
        if kinds.contains(Kinds::CREATE) {
            self.standing.set(&event.path, file);
            self.end_within(event, Some(file), Kinds::SELF_DELETE, out);
        }
        if event.flags.intersects(Flags::ATTRIBUTES) {
            self.itself(event, Kinds::SELF_ATTRIB, out);
        }
    }

    /// It cannot be told what is there: the directory is to be compared.
    fn unknown(&mut self, event: &Event, out: &mut Vec<Report>) {
        self.standing.remove(&event.path);
        if let Some((watches, _)) = self.watched.holding(&event.path, event.id) {
            let counting = watches.iter().filter(|watch| watch.counts(event.id));
            out.extend(counting.map(|watch| Report::Subtree(watch.key)));
        }
        out.extend(self.watched.tops(&event.path).into_iter().map(Report::Subtree));
    }
}

/// What happened to the file itself; each of it is compared with the state.
fn content(event: &Event) -> Kinds {
    let mut kinds = Kinds::empty();
    if event.flags.contains(Flags::MODIFIED) && !event.flags.contains(Flags::IS_DIR) {
        kinds |= Kinds::MODIFY | Kinds::CLOSE_WRITE;
    }
    if event.flags.intersects(Flags::ATTRIBUTES) {
        kinds |= Kinds::ATTRIB;
    }
    kinds
}

/// Whether a later event tells how what stands at this one's path came there.
fn is_told_later(index: usize, events: &[Event]) -> bool {
    let came = Flags::CREATED | Flags::RENAMED | Flags::REMOVED;
    let tells = |later: &Event| later.path == events[index].path && later.flags.intersects(came);
    !events[index].flags.contains(Flags::CREATED) && events[index + 1..].iter().any(tells)
}

fn is_astray(index: usize, events: &[Event], renames: &Renames) -> bool {
    let event = &events[index];
    event.flags.contains(Flags::CREATED | Flags::REMOVED)
        && events.iter().zip(&renames.roles).any(|(other, role)| {
            role.left && other.path != event.path && super::is_within(&event.path, &other.path)
        })
}
