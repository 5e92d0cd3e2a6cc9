//! Names that the server told before the kernel asks for them.
//!
//! A program that looks at one file of a directory after the other (`git status`, a compiler, a module
//! resolver) would wait for the server once a name. At the second name in a row the agent asks for all
//! of the directory, and answers the rest from here.
//!
//! What lies here is what the server holds a lease on and what the kernel does not know, each with one
//! lookup. It is given back when it is not asked for within a second, when the guest does something
//! under the name, and all of it when any change arrives: whatever the kernel is told comes from the
//! server or is as new as that.

use crate::nodes::LocalId;
use parking_lot::Mutex;
use protocol::{Entry, NodeId};
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// For how long names are kept.
pub const KEPT: Duration = Duration::from_secs(1);
/// Most names that are kept.
const MOST: usize = 16_384;
/// Directories whose use is observed.
const OBSERVED: usize = 1024;
/// Names of a directory that are asked for one by one before all are.
const ONE_BY_ONE: u32 = 2;
/// How often a directory whose names were asked for in vain is looked up in before they are again.
const IN_VAIN: u32 = 1000;

/// The names of one mount. One lock, inside no other.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    dirs: FxHashMap<LocalId, Names>,
    /// How often a directory was looked up in until its names are asked for.
    until: FxHashMap<LocalId, u32>,
    count: usize,
}

#[derive(Debug)]
struct Names {
    came: Instant,
    told: usize,
    names: FxHashMap<Box<[u8]>, Entry>,
}

impl Ahead {
    /// A name that the kernel asks for, with its lookup.
    pub fn take(&self, dir: LocalId, name: &[u8]) -> Option<Entry> {
        let table = &mut *self.0.lock();
        if table.dirs.get(&dir)?.came.elapsed() >= KEPT {
            return None;
        }
        table.remove(dir, name)
    }

    /// The server is asked for a name. Tells whether it should be asked for all in the directory.
    pub fn missed(&self, dir: LocalId) -> bool {
        let table = &mut *self.0.lock();
        if table.dirs.contains_key(&dir) {
            return false;
        }
        if table.until.len() >= OBSERVED && !table.until.contains_key(&dir) {
            table.until.clear();
        }
        let until = table.until.entry(dir).or_insert(ONE_BY_ONE);
        *until -= 1;
        let now = *until == 0;
        if now {
            *until = IN_VAIN;
        }
        now
    }

    /// These were told. Gives those that are not kept.
    pub fn put(&self, dir: LocalId, told: Vec<(Box<[u8]>, Entry)>) -> Vec<NodeId> {
        let table = &mut *self.0.lock();
        if table.count + told.len() > MOST || table.dirs.contains_key(&dir) {
            return told.into_iter().map(|(_, entry)| entry.node).collect();
        }
        table.count += told.len();
        let names =
            Names { came: Instant::now(), told: told.len(), names: told.into_iter().collect() };
        table.dirs.insert(dir, names);
        Vec::new()
    }

    /// The guest does something under this name, or was told of it by the server.
    pub fn drop_name(&self, dir: LocalId, name: &[u8]) -> Option<NodeId> {
        self.0.lock().remove(dir, name).map(|entry| entry.node)
    }

    /// Gives what has been kept for too long, and when to look again.
    pub fn expire(&self, now: Instant) -> (Vec<NodeId>, Option<Instant>) {
        let table = &mut *self.0.lock();
        let mut given = Vec::new();
        let old: Vec<_> = table
            .dirs
            .iter()
            .filter(|(_, names)| now.saturating_duration_since(names.came) >= KEPT)
            .map(|(dir, _)| *dir)
            .collect();
        for dir in old {
            let Some(names) = table.dirs.remove(&dir) else { continue };
            // Most of them were of use: the next walk is to be as quick.
            if names.names.len() * 2 < names.told {
                table.until.remove(&dir);
            }
            table.count -= names.names.len();
            given.extend(names.names.values().map(|entry| entry.node));
        }
        let next = table.dirs.values().map(|names| names.came + KEPT).min();
        (given, next)
    }

    /// Something has changed. Gives all.
    pub fn clear(&self) -> Vec<NodeId> {
        let table = &mut *self.0.lock();
        table.count = 0;
        let dirs = std::mem::take(&mut table.dirs);
        dirs.into_values()
            .flat_map(|names| names.names.into_values().map(|entry| entry.node))
            .collect()
    }
}

impl Table {
    fn remove(&mut self, dir: LocalId, name: &[u8]) -> Option<Entry> {
        let entry = self.dirs.get_mut(&dir)?.names.remove(name)?;
        self.count -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: LocalId = LocalId(7);

    fn told(count: u64) -> Vec<(Box<[u8]>, Entry)> {
        let entry = |node| Entry { node: NodeId(node), ..Entry::default() };
        (0..count).map(|n| (n.to_string().into_bytes().into(), entry(n))).collect()
    }

    #[test]
    fn the_second_name_in_a_row_asks_for_all_once() {
        let ahead = Ahead::default();
        assert!(!ahead.missed(DIR));
        assert!(ahead.missed(DIR));
        assert!((0..100).all(|_| !ahead.missed(DIR)));
    }

    #[test]
    fn a_name_is_given_once_and_the_rest_given_back() {
        let ahead = Ahead::default();
        assert_eq!(ahead.put(DIR, told(3)), []);
        assert_eq!(ahead.take(DIR, b"1").map(|entry| entry.node), Some(NodeId(1)));
        assert_eq!(ahead.take(DIR, b"1"), None);
        assert_eq!(ahead.drop_name(DIR, b"2"), Some(NodeId(2)));
        assert_eq!(ahead.clear(), [NodeId(0)]);
        assert_eq!(ahead.take(DIR, b"0"), None);
    }

    #[test]
    fn what_nobody_asks_for_goes_after_a_second() {
        let ahead = Ahead::default();
        ahead.put(DIR, told(2));
        let (given, next) = ahead.expire(Instant::now());
        assert!(given.is_empty() && next.is_some());
        let (mut given, next) = ahead.expire(Instant::now() + KEPT);
        given.sort_unstable();
        assert_eq!((given, next), (vec![NodeId(0), NodeId(1)], None));
    }

    #[test]
    fn a_directory_whose_names_were_of_use_is_asked_for_soon_again() {
        let ahead = Ahead::default();
        for (used, again) in [(3, true), (1, false)] {
            ahead.clear();
            ahead.put(DIR, told(4));
            ahead.0.lock().until.insert(DIR, IN_VAIN);
            (0..used).for_each(|n| _ = ahead.take(DIR, n.to_string().as_bytes()));
            ahead.expire(Instant::now() + KEPT);
            ahead.missed(DIR);
            assert_eq!(ahead.missed(DIR), again, "{used} used");
        }
    }

    #[test]
    fn what_is_too_much_is_given_back_at_once() {
        let ahead = Ahead::default();
        assert_eq!(ahead.put(DIR, told(MOST as u64 + 1)).len(), MOST + 1);
        assert_eq!(ahead.put(DIR, told(1)), []);
        assert_eq!(ahead.put(DIR, told(1)), [NodeId(0)], "it is there already");
    }
}
