//! Names that the server told before the kernel asks for them.
//!
//! A program that looks at one file of a directory after the other (`git status`, a compiler, a module
//! resolver) would wait for the server once a name. At the second name in a row the agent asks for all
//! of the directory, and answers the rest from here.
//!
//! What lies here is what the server holds a lease on and what the kernel does not know, each with one
//! lookup. It is given back when it is not asked for within a second, when the guest does something
//! under the name, and all of it when any change arrives: whatever the kernel is told comes from the
//! server or is as new as that. Where all names of a directory were told, any other is not there, unless
//! the guest has done something under it since the server was asked. Nor is a name there from which the guest
//! has just taken something away: programs that replace files look for it before they make the new one.

use crate::nodes::{LocalId, digest_name};
use parking_lot::Mutex;
use protocol::{Entry, NodeId};
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// For how long names are kept.
pub const KEPT: Duration = Duration::from_secs(1);
/// Most names that are kept.
const MOST: usize = 16_384;
/// Directories whose use is observed, and of which names are kept.
const OBSERVED: usize = 1024;
/// Names that are known to be gone.
const MOST_GONE: usize = 1024;
/// Names of a directory that are asked for one by one before all are.
const ONE_BY_ONE: u32 = 2;
/// How often a directory whose names were asked for in vain is looked up in before they are again.
const IN_VAIN: u32 = 1000;

/// The names of one mount. One lock, inside no other.
#[derive(Debug, Default)]
pub struct Ahead(Mutex<Table>);

/// What is known of a name.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Told {
    /// It leads to this, with its lookup.
    There(Entry),
    /// It leads nowhere.
    Absent,
}

#[derive(Debug, Default)]
struct Table {
    dirs: FxHashMap<LocalId, Names>,
    /// Directories that the server is asked about, and the names under which the guest has done
    /// something since.
    asked: FxHashMap<LocalId, FxHashSet<u64>>,
    /// How often a directory was looked up in until its names are asked for.
    until: FxHashMap<LocalId, u32>,
    count: usize,
    /// Names from which the guest has taken something away, and when.
    gone: FxHashMap<u64, Gone>,
}

/// By the digest of both, and so verified on use.
#[derive(Debug)]
struct Gone {
    dir: LocalId,
    name: Box<[u8]>,
    since: Instant,
}

#[derive(Debug)]
struct Names {
    came: Instant,
    told: usize,
    /// How many questions were answered from here.
    used: usize,
    names: FxHashMap<Box<[u8]>, Entry>,
    /// Digests of all names that may be there, if nothing else is. Where two are the same, the server is
    /// asked.
    may_be: Option<FxHashSet<u64>>,
}

impl Ahead {
    /// What is known of a name that the kernel asks for.
    pub fn take(&self, dir: LocalId, name: &[u8]) -> Option<Told> {
        let table = &mut *self.0.lock();
        if table.take_gone(dir, name).is_some_and(|since| since.elapsed() < KEPT) {
            return Some(Told::Absent);
        }
        let names = table.dirs.get_mut(&dir)?;
        if names.came.elapsed() >= KEPT {
            return None;
        }
        let told = match names.names.remove(name) {
            Some(entry) => {
                table.count -= 1;
                Told::There(entry)
            }
            None if names.may_be.as_ref()?.contains(&digest(name)) => return None,
            None => Told::Absent,
        };
        names.used += 1;
        Some(told)
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
            table.asked.insert(dir, FxHashSet::default());
        }
        now
    }

    /// The server did not answer.
    pub fn not_told(&self, dir: LocalId) {
        self.0.lock().asked.remove(&dir);
    }

    /// These were told. `all` are the digests of all names in the directory, if they were. Gives those that
    /// are not kept.
    pub fn put(
        &self,
        dir: LocalId,
        told: Vec<(Box<[u8]>, Entry)>,
        all: Option<FxHashSet<u64>>,
    ) -> Vec<NodeId> {
        let table = &mut *self.0.lock();
        let asked = table.asked.remove(&dir);
        let is_much = table.count + told.len() > MOST || table.dirs.len() >= OBSERVED;
        if is_much || table.dirs.contains_key(&dir) {
            return told.into_iter().map(|(_, entry)| entry.node).collect();
        }
        table.count += told.len();
        let mut may_be = all.filter(|_| asked.is_some());
        if let Some(names) = &mut may_be {
            names.extend(asked.into_iter().flatten());
        }
        let (came, names) = (Instant::now(), told.into_iter().collect::<FxHashMap<_, _>>());
        table.dirs.insert(dir, Names { came, told: names.len(), used: 0, names, may_be });
        Vec::new()
    }

    /// The guest does something under this name, has done it, or was told of it by the server.
    pub fn drop_name(&self, dir: LocalId, name: &[u8]) -> Option<NodeId> {
        let table = &mut *self.0.lock();
        table.take_gone(dir, name);
        if let Some(asked) = table.asked.get_mut(&dir) {
            asked.insert(digest(name));
        }
        let names = table.dirs.get_mut(&dir)?;
        if let Some(may_be) = &mut names.may_be {
            may_be.insert(digest(name));
        }
        let entry = names.names.remove(name)?;
        table.count -= 1;
        Some(entry.node)
    }

    /// The guest has taken something away from this name, so that nothing is there.
    pub fn gone(&self, dir: LocalId, name: &[u8]) {
        let table = &mut *self.0.lock();
        if table.gone.len() >= MOST_GONE {
            table.gone.clear();
        }
        let gone = Gone { dir, name: name.into(), since: Instant::now() };
        table.gone.insert(digest_name(dir, name), gone);
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
            // It was of use: the next walk is to be as quick.
            if names.used * 2 > names.told {
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
        table.asked.clear();
        table.gone.clear();
        let dirs = std::mem::take(&mut table.dirs);
        dirs.into_values()
            .flat_map(|names| names.names.into_values().map(|entry| entry.node))
            .collect()
    }
}

impl Table {
    fn take_gone(&mut self, dir: LocalId, name: &[u8]) -> Option<Instant> {
        let key = digest_name(dir, name);
        self.gone.get(&key).filter(|gone| gone.dir == dir && *gone.name == *name)?;
        self.gone.remove(&key).map(|gone| gone.since)
    }
}

/// A name as a number.
pub fn digest(name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    hasher.finish()
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
        assert_eq!(ahead.put(DIR, told(3), None), []);
        let entry = told(2).pop().map(|(_, entry)| Told::There(entry));
        assert_eq!(ahead.take(DIR, b"1"), entry);
        assert_eq!(ahead.take(DIR, b"1"), None);
        assert_eq!(ahead.drop_name(DIR, b"2"), Some(NodeId(2)));
        assert_eq!(ahead.clear(), [NodeId(0)]);
        assert_eq!(ahead.take(DIR, b"0"), None);
    }

    #[test]
    fn what_nobody_asks_for_goes_after_a_second() {
        let ahead = Ahead::default();
        ahead.put(DIR, told(2), None);
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
            ahead.put(DIR, told(4), None);
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
        assert_eq!(ahead.put(DIR, told(MOST as u64 + 1), None).len(), MOST + 1);
        assert_eq!(ahead.put(DIR, told(1), None), []);
        assert_eq!(ahead.put(DIR, told(1), None), [NodeId(0)], "it is there already");
    }

    fn all(names: &[&[u8]]) -> Option<FxHashSet<u64>> {
        Some(names.iter().map(|name| digest(name)).collect())
    }

    fn asked() -> Ahead {
        let ahead = Ahead::default();
        assert_eq!([(); 2].map(|()| ahead.missed(DIR)), [false, true]);
        ahead
    }

    #[test]
    fn what_is_not_among_all_names_is_absent() {
        let ahead = asked();
        ahead.put(DIR, told(1), all(&[b"0", b"known to the kernel"]));
        assert_eq!(ahead.take(DIR, b"1"), Some(Told::Absent));
        assert_eq!(ahead.take(DIR, b"known to the kernel"), None);
        assert!(matches!(ahead.take(DIR, b"0"), Some(Told::There(_))));
        assert_eq!(ahead.take(DIR, b"0"), None, "the kernel may have forgotten it since");
        assert_eq!(ahead.take(LocalId(8), b"1"), None, "another directory");
        ahead.clear();
        assert_eq!(ahead.take(DIR, b"1"), None);
    }

    #[test]
    fn a_name_under_which_the_guest_has_done_something_is_not_absent() {
        let ahead = asked();
        // While the server is asked, and behind its answer.
        ahead.drop_name(DIR, b"early");
        ahead.put(DIR, Vec::new(), all(&[]));
        ahead.drop_name(DIR, b"late");
        assert_eq!(ahead.take(DIR, b"early"), None);
        assert_eq!(ahead.take(DIR, b"late"), None);
        assert_eq!(ahead.take(DIR, b"other"), Some(Told::Absent));
    }

    #[test]
    fn nothing_is_absent_where_it_is_not_known_what_the_guest_did_meanwhile() {
        let ahead = asked();
        ahead.clear();
        ahead.put(DIR, Vec::new(), all(&[]));
        assert_eq!(ahead.take(DIR, b"1"), None);
        let ahead = asked();
        ahead.not_told(DIR);
        ahead.put(DIR, Vec::new(), all(&[]));
        assert_eq!(ahead.take(DIR, b"1"), None);
    }

    #[test]
    fn a_name_is_gone_once_until_something_is_put_there_or_changes() {
        let ahead = Ahead::default();
        let is_gone = |name| ahead.take(DIR, name) == Some(Told::Absent);
        ahead.gone(DIR, b"a");
        assert!(!is_gone(b"b") && is_gone(b"a") && !is_gone(b"a"));
        ahead.gone(DIR, b"a");
        ahead.drop_name(DIR, b"a");
        assert!(!is_gone(b"a"));
        ahead.gone(DIR, b"a");
        ahead.clear();
        assert!(!is_gone(b"a"));
        (0..=MOST_GONE).for_each(|n| ahead.gone(DIR, n.to_string().as_bytes()));
        assert!(!is_gone(b"0") && is_gone(MOST_GONE.to_string().as_bytes()), "not more than some");
        assert_eq!(ahead.0.lock().gone.len(), 0);
    }
}
