//! Comparing again, after hints were lost or where none come: directory by directory, what stands there
//! with what the guest was told.
//!
//! ```text
//! lost            everything that waits is void, every directory is in doubt
//! compare_dir     for each directory, parents first: what is missing, what is found
//! match_moves     what is missing under one name and found under another was renamed
//!   (…and again for directories that could not be found before they were known to have moved)
//! compare_gone    for each that still cannot be found
//! finish          the rest is removed, children first, and created, parents first
//! ```
//!
//! The guest is not told of every name in a directory. One that it does not know was there all the
//! time, or is new: its time of change, which nobody can set, decides.

use super::displaced::Displaced;
use super::memory::Print;
use super::moves::{Moves, Origin};
use super::{Events, Here, Looked, Lookup, OwnedPlace, Reconciler};
use protocol::{ContentEvents, NodeId, Time};
use rustc_hash::FxHashSet;

/// How coarsely file systems keep times, in nanoseconds: by the kernel's tick, or in seconds (or
/// two).
const FINE: i64 = 20_000_000;
const COARSE: i64 = 2_000_000_000;
/// Deeper than any path that a system call could name.
const DEEPEST: usize = 4096;

/// What a comparison has come upon and not said yet.
#[derive(Default)]
pub struct Again {
    missing: Vec<Missing>,
    found: Vec<Found>,
    /// Events that are owed will not be hinted any more.
    pays: bool,
}

impl Again {
    /// After hints were lost, or where none come.
    pub fn after_loss() -> Self {
        Self { pays: true, ..Self::default() }
    }
}

struct Missing {
    at: OwnedPlace,
    node: NodeId,
    depth: usize,
}

struct Found {
    at: OwnedPlace,
    node: Option<NodeId>,
    ctime: i64,
    depth: usize,
}

impl Reconciler {
    /// Hints were lost. All that waits is void; each directory given, parents first, is in doubt and
    /// to be compared.
    pub fn lost(&mut self) -> Vec<NodeId> {
        self.echoes.clear();
        self.moves = Moves::default();
        self.displaced = Displaced::default();
        self.settling.clear();
        self.unborn.clear();
        self.waiting.clear();
        self.retry_at = None;
        let mut dirs: Vec<_> = self.memory.watched().map(|dir| (self.depth(dir), dir)).collect();
        dirs.sort_unstable();
        let dirs: Vec<_> = dirs.into_iter().map(|(_, dir)| dir).collect();
        dirs.iter().for_each(|dir| self.doubt(*dir));
        dirs
    }

    /// Directories at and below this one that the guest knows, parents first.
    pub fn beneath(&self, top: NodeId) -> Vec<NodeId> {
        let below = |dir: &NodeId| self.way(*dir).any(|at| at == top);
        let mut dirs: Vec<_> =
            self.memory.watched().filter(below).map(|dir| (self.depth(dir), dir)).collect();
        dirs.sort_unstable();
        dirs.into_iter().map(|(_, dir)| dir).collect()
    }

    fn way(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let up = |at: &NodeId| self.memory.node(*at).map(|known| known.parent);
        std::iter::successors(Some(node), up).take(DEEPEST)
    }

    fn depth(&self, node: NodeId) -> usize {
        self.way(node).count()
    }

    /// Compares some of the names that stand in a directory with what the guest was told of them.
    pub fn compare_names<'n>(
        &mut self,
        again: &mut Again,
        dir: NodeId,
        names: impl IntoIterator<Item = &'n [u8]>,
        lookup: &mut dyn Lookup,
    ) {
        let depth = self.depth(dir);
        for name in names {
            let here = Here::new(dir, name);
            if self.in_flight.touches_name(here.hash) {
                continue; // The guest itself is at it, and will know.
            }
            let told = self.memory.at(dir, name);
            match lookup.look(dir, name) {
                Looked::There { node, attr } if node.is_some() && node == told => {
                    self.compare_state(here, Print::of(&attr), again.pays, lookup);
                }
                Looked::There { node, attr } => {
                    if let Some(node) = told {
                        again.missing.push(Missing { at: here.owned(), node, depth });
                    }
                    let ctime = attr.ctime.nanoseconds();
                    again.found.push(Found { at: here.owned(), node, ctime, depth });
                }
                Looked::Absent | Looked::Failed => {}
            }
        }
    }

    fn compare_state(&mut self, here: Here<'_>, print: Print, pays: bool, lookup: &mut dyn Lookup) {
        let told = self.memory.at(here.dir, here.name);
        let Some(known) = told.and_then(|node| self.memory.node(node)) else { return };
        let owed = if pays { known.owed } else { Events::empty() };
        let before = known.print;
        let written = before.content != print.content || owed.contains(Events::CONTENT);
        let set = before.attrs != print.attrs || owed.contains(Events::ATTRS);
        if written {
            self.emit_modified(here, ContentEvents::all(), lookup);
        }
        // With neither, an extended attribute was set.
        if set || !written && before.ctime != print.ctime {
            self.emit_attrib(here, lookup);
        }
    }

    /// Compares the names told of a directory with all that stand in it.
    pub fn compare_dir(&mut self, again: &mut Again, dir: NodeId, present: &FxHashSet<&[u8]>) {
        self.counters.comparisons += 1;
        let depth = self.depth(dir);
        for name in self.memory.names(dir) {
            let hash = Here::new(dir, &name).hash;
            if !present.contains(&*name)
                && !self.in_flight.touches_name(hash)
                && let Some(node) = self.memory.at(dir, &name)
            {
                again.missing.push(Missing { at: OwnedPlace::new(dir, &name), node, depth });
            }
        }
    }

    /// Says what was renamed. Tells whether anything was: what could not be found may be now.
    pub fn match_moves(&mut self, again: &mut Again, lookup: &mut dyn Lookup) -> bool {
        let mut any = false;
        let missing: rustc_hash::FxHashMap<NodeId, usize> =
            again.missing.iter().enumerate().map(|(at, missing)| (missing.node, at)).collect();
        let mut moved = FxHashSet::default();
        again.found.retain(|found| {
            let from = found.node.and_then(|node| missing.get(&node));
            let Some((at, from)) = from.and_then(|at| Some((*at, again.missing.get(*at)?))) else {
                return true;
            };
            if from.at == found.at || !moved.insert(at) {
                return true;
            }
            let origin = Origin {
                hash: Here::new(from.at.parent, &from.at.name).hash,
                at: from.at.clone(),
                node: Some(from.node),
                is_displaced: false,
                is_dir: self.is_dir(from.node),
                unborn: None,
            };
            let to = Here::new(found.at.parent, &found.at.name);
            self.emit_renamed(origin, to, None, lookup);
            any = true;
            false
        });
        let mut at = 0;
        again.missing.retain(|_| {
            at += 1;
            !moved.contains(&(at - 1))
        });
        any
    }

    /// Says the rest: what is gone, and what is new since that time on the host's clock.
    pub fn finish(&mut self, again: Again, since: Time, lookup: &mut dyn Lookup) {
        let Again { mut missing, mut found, .. } = again;
        let since = since.nanoseconds();
        missing.sort_by_key(|missing| std::cmp::Reverse(missing.depth));
        found.sort_by_key(|found| found.depth);
        let mut replaced = FxHashSet::default();
        for Missing { at, node, .. } in missing {
            // A rename may have put something else there.
            if self.memory.at(at.parent, &at.name) == Some(node) {
                self.memory.tell_none(at.parent, &at.name);
                let is_dir = self.is_dir(node);
                replaced.insert(at.clone());
                self.push_removed(at, node, is_dir, lookup);
            }
        }
        for Found { at, node, ctime, .. } in found {
            let here = Here::new(at.parent, &at.name);
            let told = self.memory.at(here.dir, here.name);
            let slack = if ctime % 1_000_000_000 == 0 { COARSE } else { FINE };
            let is_new = ctime.saturating_add(slack) >= since || replaced.contains(&at);
            if is_new && (told.is_none() || told != node) {
                self.emit_created(here, Events::empty(), false, lookup);
            }
        }
    }
}
