//! Finds out which renamed names of a batch belong together.
//!
//! A renamed name is *left* by the file that the event names, if that does not stand there (any
//! more), and *taken* by what stands there. It can be both: the flags of two renames accumulate.
//! What one file left, in the order of the events, and at last what it took, is its *way*:
//!
//! ```text
//! a left by 7, b taken by 7                  a → b
//! b taken by 7, a left by 7                  a → b         out of order
//! a left by 7, b left by 7, c taken by 7     a → b → c     twice, before we could look
//! a left by 7                                a →           to where nobody watches, or it is late
//! ```

use super::{Event, FileId, Flags, There, is_within};
use rustc_hash::FxHashMap;

/// What a rename made of one event's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Role {
    /// A file left the name.
    pub left: bool,
    /// Where it went is known.
    pub left_for: bool,
    /// A file stands at the name that was not known to.
    pub taken: bool,
    /// Where it came from is known.
    pub taken_from: bool,
}

impl Role {
    /// Whether only one half of a rename is known, and nothing else.
    pub fn is_half(self) -> bool {
        let Self { left, left_for, taken, taken_from } = self;
        !left_for && !taken_from && left != taken
    }
}

/// The renames of a batch.
#[derive(Debug, Default)]
pub struct Renames {
    /// A role for each event.
    pub roles: Vec<Role>,
    /// Ways of two or more names, as indices; found by the least of them.
    ways: FxHashMap<usize, Vec<Vec<usize>>>,
}

impl Renames {
    /// Finds them. `stood` tells whether it is known already that what stands at an event's path
    /// does so.
    pub fn of(events: &[Event], stood: impl Fn(&Event) -> bool) -> Self {
        let mut renames = Self {
            roles: events.iter().map(|event| role(event, &stood)).collect(),
            ..Self::default()
        };
        let mut files: Vec<FileId> = Vec::new();
        let mut ways: FxHashMap<FileId, (Vec<usize>, Option<usize>)> = FxHashMap::default();
        for (index, event) in events.iter().enumerate() {
            let left = event.file.filter(|_| renames.roles[index].left);
            let stands = match event.there {
                There::File(file) if event.flags.contains(Flags::RENAMED) => Some(file),
                _ => None,
            };
            for file in [left, stands].into_iter().flatten() {
                let (names, end) = ways.entry(file).or_insert_with(|| {
                    files.push(file);
                    Default::default()
                });
                if stands == Some(file) {
                    end.get_or_insert(index);
                } else if names.last().is_none_or(|last| events[*last].path != event.path) {
                    names.push(index);
                }
            }
        }
        for file in files {
            let Some((mut way, end)) = ways.remove(&file) else { continue };
            if let Some(end) = end {
                way.pop_if(|last| events[*last].path == events[end].path);
                way.push(end);
            }
            renames.add(&way, events);
        }
        renames.add_hidden(events);
        renames
    }

    /// Notes a way.
    fn add(&mut self, way: &[usize], events: &[Event]) {
        for pair in way.windows(2) {
            self.roles[pair[0]].left_for = true;
            let to = &mut self.roles[pair[1]];
            (to.taken, to.taken_from) = (true, true);
        }
        if let (Some(first), [_, _, ..]) = (way.iter().min().copied(), way) {
            debug_assert!(way.iter().all(|index| events[*index].flags.contains(Flags::RENAMED)));
            self.ways.entry(first).or_default().push(way.to_vec());
        }
    }

    /// `a` is moved to `b`, and a new file made at `a`: if the file id of `a`'s event is the new
    /// one's, nothing tells what left `a`. It is what `b` was taken by, where that is the only
    /// possibility. (Should it be wrong, the reconciler sees another object at `b`.)
    fn add_hidden(&mut self, events: &[Event]) {
        let lone = |created: bool| {
            let fits = |index: &usize| {
                let (role, flags) = (self.roles[*index], events[*index].flags);
                role.taken && role.is_half() && flags.contains(Flags::CREATED) == created
            };
            let mut found = (0..events.len()).filter(fits);
            found.next().filter(|_| found.next().is_none())
        };
        if let (Some(from), Some(to)) = (lone(true), lone(false))
            && events[from].path != events[to].path
        {
            self.roles[from].left = true;
            self.add(&[from, to], events);
        }
    }

    /// The ways of which this event is the first to come.
    pub fn ways(&self, first: usize) -> &[Vec<usize>] {
        self.ways.get(&first).map_or(&[], Vec::as_slice)
    }

    /// Whether this event is half a rename whose other half may still come, and may wait for it:
    /// nothing in the batch follows it at its place.
    pub fn may_wait(&self, index: usize, events: &[Event]) -> bool {
        let event = &events[index];
        let follows = |later: &Event| is_within(&later.path, &event.path);
        self.roles[index].is_half()
            && event.file.is_some()
            && !event.flags.contains(Flags::REMOVED)
            && !events[index + 1..].iter().any(follows)
    }
}

fn role(event: &Event, stood: impl Fn(&Event) -> bool) -> Role {
    if !event.flags.contains(Flags::RENAMED) {
        return Role::default();
    }
    let (left, taken) = match (event.there, event.file) {
        (There::Nothing, _) => (true, false),
        (There::File(file), Some(about)) => (file != about, true),
        (There::File(_), None) => (false, true),
        (There::Unknown, _) => (false, false),
    };
    Role { left, taken: taken && !stood(event), ..Role::default() }
}
