//! Which directories are watched, by path. FSEvents watches paths, a session knows objects: the
//! table follows the renames that the events tell of.

use super::{EventId, FileId, is_within, split};
use crate::watch::WatchKey;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// Renames of directories remembered for events that come after them though they happened before.
const MOST_MOVED: usize = 64;

/// One key's watch of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// The key.
    pub key: WatchKey,
    /// The directory itself.
    pub file: FileId,
    /// Events up to this one happened before it was watched.
    pub since: EventId,
}

impl Watch {
    /// Whether the event counts. Zero is no number.
    pub fn counts(&self, id: EventId) -> bool {
        id == EventId(0) || id > self.since
    }
}

/// A rename of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Rename<'a> {
    /// Its old path.
    pub from: &'a [u8],
    /// Its new path.
    pub to: &'a [u8],
    /// The directory, if known.
    pub file: Option<FileId>,
    /// When it happened.
    pub id: EventId,
    /// The last event that may have happened before it.
    pub until: EventId,
}

struct Moved {
    from: Box<[u8]>,
    to: Box<[u8]>,
    until: EventId,
}

/// The table.
#[derive(Default)]
pub struct Watched {
    dirs: BTreeMap<Box<[u8]>, Vec<Watch>>,
    paths: FxHashMap<WatchKey, Box<[u8]>>,
    moved: VecDeque<Moved>,
}

impl Watched {
    /// Whether the key is in use.
    pub fn has(&self, key: WatchKey) -> bool {
        self.paths.contains_key(&key)
    }

    /// Adds a watch under a key that is not in use.
    pub fn add(&mut self, path: &[u8], watch: Watch) {
        self.paths.insert(watch.key, path.into());
        self.dirs.entry(path.into()).or_default().push(watch);
    }

    /// Removes it.
    pub fn remove(&mut self, key: WatchKey) {
        let Some(path) = self.paths.remove(&key) else { return };
        let Some(watches) = self.dirs.get_mut(&path) else { return };
        watches.retain(|watch| watch.key != key);
        if watches.is_empty() {
            self.dirs.remove(&path);
        }
    }

    /// The watches of the directory at a path.
    pub fn at(&self, path: &[u8]) -> &[Watch] {
        self.dirs.get(path).map_or(&[], Vec::as_slice)
    }

    /// The watches of the directory that held a path when the event with this number happened.
    pub fn holding<'p>(&self, path: &'p [u8], id: EventId) -> Option<(&[Watch], &'p [u8])> {
        let (dir, name) = split(path)?;
        let watches = match self.at(dir) {
            [] => self.at(&self.now(dir, id)?),
            watches => watches,
        };
        (!watches.is_empty()).then_some((watches, name))
    }

    /// Where a directory has been moved by what was judged before the event with this number.
    fn now(&self, dir: &[u8], id: EventId) -> Option<Vec<u8>> {
        let mut now: Option<Vec<u8>> = None;
        for moved in self.moved.iter().filter(|moved| id <= moved.until) {
            let path = now.as_deref().unwrap_or(dir);
            if is_within(path, &moved.from) {
                now = Some([&moved.to, &path[moved.from.len()..]].concat());
            }
        }
        now
    }

    /// Whether a directory at the path or beneath it is watched.
    pub fn any_within(&self, path: &[u8]) -> bool {
        self.within(path).next().is_some()
    }

    /// The directories at a path and beneath it.
    pub fn within<'s>(
        &'s self,
        path: &[u8],
    ) -> impl Iterator<Item = (&'s [u8], &'s [Watch])> + use<'s> {
        let (first, last) = if path == b"/" {
            (Bound::Included(path.to_vec()), Bound::Unbounded)
        } else {
            // What is beneath begins with a slash, and `0` follows the slash.
            let beneath = [path, b"/"].concat();
            (Bound::Included(beneath), Bound::Excluded([path, b"0"].concat()))
        };
        let itself = self.dirs.get_key_value(path).filter(|_| path != b"/");
        let beneath = self.dirs.range::<[u8], _>((as_slice(&first), as_slice(&last)));
        itself.into_iter().chain(beneath).map(|(path, watches)| (&**path, watches.as_slice()))
    }

    /// Keys at a path and beneath it such that each watched directory there is one of them or
    /// beneath one. A directory with more keys than the next one above has a root of its own.
    pub fn tops(&self, path: &[u8]) -> Vec<WatchKey> {
        let is_top = |(dir, watches): &(&[u8], &[Watch])| {
            let above = self.above(dir).filter(|above| is_within(above, path));
            above.is_none_or(|above| self.at(above).len() < watches.len())
        };
        let tops = self.within(path).filter(is_top);
        tops.flat_map(|(_, watches)| watches.iter().map(|watch| watch.key)).collect()
    }

    /// The nearest watched directory above.
    fn above<'p>(&self, mut path: &'p [u8]) -> Option<&'p [u8]> {
        while let Some((dir, _)) = split(path) {
            if !self.at(dir).is_empty() {
                return Some(dir);
            }
            path = dir;
        }
        None
    }

    /// Whether every watched directory is at the path or beneath it.
    pub fn is_all(&self, path: &[u8]) -> bool {
        self.dirs.keys().all(|dir| is_within(dir, path))
    }

    /// A directory was moved, with all beneath it, unless another is watched under its old name by
    /// now. What is watched only since then is where it is. Events up to `until` may still tell of
    /// the old path.
    pub fn rename(&mut self, moved: &Rename<'_>) {
        let Rename { from, to, file, id, until } = *moved;
        let at = self.at(from);
        if file.is_some_and(|file| !at.is_empty() && at.iter().all(|watch| watch.file != file)) {
            return;
        }
        let paths: Vec<Box<[u8]>> = self.within(from).map(|(path, _)| path.into()).collect();
        for path in paths {
            let watches = self.dirs.remove(&path).unwrap_or_default();
            let (moved, stay): (Vec<_>, Vec<_>) =
                watches.into_iter().partition(|watch| watch.counts(id));
            let new: Box<[u8]> = [to, &path[from.len()..]].concat().into();
            for watch in moved {
                self.paths.insert(watch.key, new.clone());
                self.dirs.entry(new.clone()).or_default().push(watch);
            }
            if !stay.is_empty() {
                self.dirs.entry(path).or_default().extend(stay);
            }
        }
        if self.moved.len() == MOST_MOVED {
            self.moved.pop_front();
        }
        self.moved.push_back(Moved { from: from.into(), to: to.into(), until });
    }

    /// The numbers of events have begun anew.
    pub fn wrapped(&mut self) {
        self.moved.clear();
        self.dirs.values_mut().flatten().for_each(|watch| watch.since = EventId(0));
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(path) => Bound::Included(path),
        Bound::Excluded(path) => Bound::Excluded(path),
        Bound::Unbounded => Bound::Unbounded,
    }
}
