//! What is said of an event: hints at its name, ends of watches, subtrees to be compared.

use super::{Event, FileId, Flags, Hints, There};
use crate::watch::{Doer, Hint, Kinds, Report, WatchKey};

/// What happens to names.
pub(super) const OF_NAMES: Kinds =
    Kinds::CREATE.union(Kinds::DELETE).union(Kinds::MOVED_FROM).union(Kinds::MOVED_TO);

impl Hints {
    /// What is about streams and volumes.
    pub(super) fn control(&mut self, event: &Event, out: &mut Vec<Report>) {
        let flags = event.flags;
        if flags.intersects(Flags::LOST) || flags.is_empty() {
            self.scan(event, out);
        }
        if flags.contains(Flags::ROOT_CHANGED) {
            match event.there {
                // It is back.
                There::File(file) if self.is_known(&event.path, file) => self.scan(event, out),
                _ => self.end_within(event, None, Kinds::SELF_MOVE, out),
            }
        }
        if flags.intersects(Flags::MOUNT | Flags::UNMOUNT) {
            self.named(event, Kinds::ATTRIB, 0, out);
            self.end_within(event, None, Kinds::empty(), out);
        }
    }

    /// Whether this is the directory that is watched at the path.
    fn is_known(&self, path: &[u8], file: FileId) -> bool {
        self.watched.at(path).iter().any(|watch| watch.file == file)
    }

    fn scan(&mut self, event: &Event, out: &mut Vec<Report>) {
        if self.watched.is_all(&event.path) {
            return self.lost(out);
        }
        self.standing.clear();
        self.doubt(&event.path);
        out.extend(self.watched.tops(&event.path).into_iter().map(Report::Subtree));
        self.named(event, Kinds::ATTRIB, 0, out);
    }

    /// The watches at the event's path and beneath it are no more, unless the directory itself
    /// stands there.
    pub(super) fn end_within(
        &mut self,
        event: &Event,
        there: Option<FileId>,
        how: Kinds,
        out: &mut Vec<Report>,
    ) {
        if there.is_some_and(|file| self.is_known(&event.path, file)) {
            return;
        }
        self.itself(event, how, out);
        let within = self.watched.within(&event.path).flat_map(|(_, watches)| watches);
        let ended: Vec<WatchKey> =
            within.filter(|watch| watch.counts(event.id)).map(|watch| watch.key).collect();
        for key in ended {
            self.watched.remove(key);
            out.push(Report::Ended(key));
        }
    }

    /// Hints at the event's name, for each key of the directory that holds it. Tells whether that
    /// is a watched one.
    pub(super) fn named(
        &self,
        event: &Event,
        kinds: Kinds,
        cookie: u32,
        out: &mut Vec<Report>,
    ) -> bool {
        let Some((watches, name)) = self.watched.holding(&event.path, event.id) else {
            return false;
        };
        if kinds.is_empty() {
            return true;
        }
        // What is told of the name has been told apart from what was told before. Of the file it may
        // be the same again, so it counts only as far as the state bears it out.
        let is_passed =
            kinds.contains(Kinds::CREATE | Kinds::DELETE) && event.there == There::Nothing;
        let (of_name, of_file) = match is_passed {
            true => (kinds, Kinds::empty()),
            false => (kinds & OF_NAMES, kinds - OF_NAMES),
        };
        let by = match event.flags.contains(Flags::OWN_EVENT) {
            true => Doer::Unknown,
            false => Doer::Another,
        };
        for watch in watches.iter().filter(|watch| watch.counts(event.id)) {
            for (kinds, by) in [(of_name, by), (of_file, Doer::Unknown)] {
                if !kinds.is_empty() {
                    let name = Some(name.into());
                    out.push(Report::Hint(hint(watch.key, name, kinds, cookie, event, by)));
                }
            }
        }
        true
    }

    /// Hints at the directory that the event's path itself is.
    pub(super) fn itself(&self, event: &Event, kinds: Kinds, out: &mut Vec<Report>) {
        if kinds.is_empty() {
            return;
        }
        for watch in self.watched.at(&event.path).iter().filter(|watch| watch.counts(event.id)) {
            out.push(Report::Hint(hint(watch.key, None, kinds, 0, event, Doer::Unknown)));
        }
    }
}

fn hint(
    dir: WatchKey,
    name: Option<Box<[u8]>>,
    kinds: Kinds,
    cookie: u32,
    event: &Event,
    by: Doer,
) -> Hint {
    let is_dir = name.is_none() || event.flags.contains(Flags::IS_DIR);
    Hint { dir, name, kinds, cookie, is_dir, by }
}
