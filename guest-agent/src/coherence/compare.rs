//! What differs between what the kernel believes and what the host has: pure, beliefs and listings
//! in, differences out.
//!
//! Directories are compared one by one, each by its listing; what a name led to that now leads
//! elsewhere may turn up under another name in a later one. So the differences are known at the end,
//! in an order in which a file system can perform them:
//!
//! 1. what is gone, the deepest first, as `rm -r` would do it; but not what something was moved out of;
//! 2. what was moved, each after what stands in its place;
//! 3. the rest of what is gone; 4. what is new; 5. what has other content or attributes.
//!
//! An object is the same if inode number, type and, where known, time of birth are. A name that the
//! guest never looked up is news only if something happened to it after the loss.

use crate::nodes::LocalId;
use protocol::{Attr, Entry, Time, mode};
use rustc_hash::{FxHashMap, FxHashSet};

mod order;

/// What makes an object the same one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Object {
    /// Inode number.
    pub ino: u64,
    /// Type bits of the mode.
    pub kind: u32,
    /// Digest of the time of birth; zero if it is not known.
    pub born: u32,
}

impl Object {
    /// Whether the two are one, as far as is known.
    pub fn is(self, other: Self) -> bool {
        let born = self.born == other.born || self.born == 0 || other.born == 0;
        self.ino == other.ino && self.kind == other.kind && born
    }
}

/// What the kernel believes of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Belief {
    /// The node.
    pub local: LocalId,
    /// Its directory.
    pub parent: LocalId,
    /// Its name there.
    pub name: Box<[u8]>,
    /// What it is.
    pub object: Object,
    /// Digest of size and time of modification.
    pub content: u64,
    /// Digest of permissions and owner.
    pub attrs: u32,
    /// Names of the object.
    pub nlink: u32,
}

impl Belief {
    fn is_dir(&self) -> bool {
        self.object.kind == mode::IFDIR
    }
}

/// What a listing says of a name, in the terms of a [`Belief`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digests {
    /// What it is.
    pub object: Object,
    /// Digest of size and time of modification.
    pub content: u64,
    /// Digest of permissions and owner.
    pub attrs: u32,
}

/// A name that leads to something else than it did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Came {
    /// The directory.
    pub dir: LocalId,
    /// The name.
    pub name: Box<[u8]>,
    /// What is there.
    pub entry: Entry,
    /// The same in the terms of a belief.
    pub is: Digests,
}

/// One difference. Beliefs are given by their index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    /// A name leads nowhere any more.
    Removed(usize),
    /// An object has another name, where something else was before.
    Renamed(usize, Came, Option<usize>),
    /// A name leads to what was not known.
    Created(Came),
    /// Other content.
    Modified(Came),
    /// Other attributes.
    Attrib(Came),
}

/// What becomes of an entry of a listing, and of the lookup that came with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the object of this belief, and nothing is to be told of it now.
    Same(usize),
    /// It is the object of this belief, and its lookup goes with a difference.
    Differs(usize),
    /// It may be told; its lookup is kept until the end.
    Kept,
    /// It is of no interest.
    NoNews,
}

/// A comparison under way.
#[derive(Debug)]
pub struct Comparison {
    beliefs: Vec<Belief>,
    /// From when on what happened was not told, by the clock of the server.
    since: Option<Time>,
    by_name: FxHashMap<(LocalId, Box<[u8]>), usize>,
    by_ino: FxHashMap<u64, usize>,
    by_local: FxHashMap<LocalId, usize>,
    /// Directories that are not compared: nothing is said of what is in them.
    skipped: FxHashSet<LocalId>,
    visited: FxHashSet<LocalId>,
    children: FxHashMap<LocalId, Vec<usize>>,
    present: Vec<bool>,
    came: Vec<(Came, bool)>,
    changed: Vec<Difference>,
}

impl Comparison {
    /// Of what is believed with what will be listed.
    pub fn new(beliefs: Vec<Belief>, since: Option<Time>) -> Self {
        let mut children: FxHashMap<LocalId, Vec<usize>> = FxHashMap::default();
        let mut by_name = FxHashMap::default();
        let mut by_ino = FxHashMap::default();
        let mut by_local = FxHashMap::default();
        for (index, belief) in beliefs.iter().enumerate() {
            children.entry(belief.parent).or_default().push(index);
            by_name.insert((belief.parent, belief.name.clone()), index);
            by_ino.insert(belief.object.ino, index);
            if belief.is_dir() {
                by_local.insert(belief.local, index);
            }
        }
        let present = vec![false; beliefs.len()];
        Self {
            beliefs,
            since,
            by_name,
            by_ino,
            by_local,
            skipped: FxHashSet::default(),
            visited: FxHashSet::default(),
            children,
            present,
            came: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// A belief by its index.
    pub fn belief(&self, index: usize) -> Option<&Belief> {
        self.beliefs.get(index)
    }

    /// The directories that are believed to be in a directory.
    pub fn directories_in(&self, dir: LocalId) -> Vec<LocalId> {
        let children = self.children.get(&dir).into_iter().flatten();
        let beliefs = children.filter_map(|index| self.beliefs.get(*index));
        beliefs.filter(|belief| belief.is_dir()).map(|belief| belief.local).collect()
    }

    /// A directory cannot be listed, but may be there.
    pub fn skip(&mut self, dir: LocalId) {
        self.skipped.insert(dir);
        self.visited.insert(dir);
    }

    /// Whether a directory is done with.
    pub fn is_visited(&self, dir: LocalId) -> bool {
        self.visited.contains(&dir)
    }

    /// A directory begins to be listed.
    pub fn visit(&mut self, dir: LocalId) {
        self.visited.insert(dir);
    }

    /// A name that is in the directory that is being listed.
    pub fn listed(&mut self, dir: LocalId, name: &[u8], entry: &Entry, is: Digests) -> Verdict {
        let came = || Came { dir, name: name.into(), entry: *entry, is };
        let known = self.by_name.get(&(dir, name.into())).copied();
        let belief = known.and_then(|index| Some((index, self.beliefs.get(index)?)));
        if let Some((index, belief)) = belief.filter(|(_, belief)| belief.object.is(is.object)) {
            if let Some(present) = self.present.get_mut(index) {
                *present = true;
            }
            let difference = self.changed(belief, entry, is, came);
            let differs = difference.is_some();
            self.changed.extend(difference);
            return if differs { Verdict::Differs(index) } else { Verdict::Same(index) };
        }
        let elsewhere = self.by_ino.get(&entry.attr.ino).copied();
        let elsewhere = elsewhere
            .filter(|index| self.beliefs.get(*index).is_some_and(|b| b.object.is(is.object)));
        let news = News::of(&entry.attr, self.since);
        if known.is_none() && elsewhere.is_none() {
            match news {
                News::None => return Verdict::NoNews,
                News::Content => {
                    self.changed.push(Difference::Modified(came()));
                    return Verdict::Kept;
                }
                News::Name => {}
            }
        }
        self.came.push((came(), known.is_some() || news != News::None));
        elsewhere.map_or(Verdict::Kept, Verdict::Differs)
    }

    fn changed(
        &self,
        belief: &Belief,
        entry: &Entry,
        is: Digests,
        came: impl FnOnce() -> Came,
    ) -> Option<Difference> {
        if self.since.is_some_and(|since| entry.attr.ctime < since) {
            return None;
        }
        if entry.attr.kind() == mode::IFREG && belief.content != is.content {
            return Some(Difference::Modified(came()));
        }
        let links = !belief.is_dir() && belief.nlink != entry.attr.nlink;
        (belief.attrs != is.attrs || links).then(|| Difference::Attrib(came()))
    }
}

/// What happened to a name that the guest never looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    None,
    /// It is new, made or moved here.
    Name,
    /// It was there, and was written.
    Content,
}

impl News {
    fn of(attr: &Attr, since: Option<Time>) -> Self {
        let Some(since) = since else { return Self::None };
        if attr.ctime < since {
            return Self::None;
        }
        let is_old = attr.btime != Time::default() && attr.btime < since;
        match attr.kind() {
            mode::IFREG if is_old && attr.mtime >= since => Self::Content,
            mode::IFDIR if is_old && attr.mtime >= since => Self::None,
            _ => Self::Name,
        }
    }
}

#[cfg(test)]
mod tests;
