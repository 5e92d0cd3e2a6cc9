//! What the guest kernel knows: one record for each node it has looked up.
//!
//! The kernel names nodes by numbers of ours ([`LocalId`]), which live as long as the kernel
//! remembers them. The server names them by [`NodeId`]s that die with the connection. A record ties
//! the two together, and holds what is needed to find the node again on another connection: parent,
//! name and inode number.
//!
//! Invariants
//! * A record exists exactly while the kernel has lookups of it (the root always).
//! * `epoch` counts connections. A record whose epoch is not the table's has no valid `server` and
//!   is *stale* until [`NodeTable::found`] meets it again.
//! * Two records never share a valid `server`, but for directories that the kernel has removed: they
//!   are not in `by_server`.
//! * Name and parent are the last known ones: a hint that is verified by inode number.
//!
//! A record costs about 130 bytes and its name, and its two index entries about 40 more.

mod node;
mod table;

pub use node::digests;
pub use table::digest_name;

use crate::coherence::compare::Belief;
use node::{Node, digest_attrs, digest_content};
use parking_lot::Mutex;
use protocol::{Attr, AttrReply, Entry, ForgetOne, NodeId, StatFs, Validity, mode};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use table::{Slot, Table};

/// The number of a node towards the kernel (`nodeid` of linux/fuse.h): below, an index into the
/// table; above bit 32, how often that index was used before. So no number is ever used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LocalId(pub u64);

impl LocalId {
    /// The root of the mount (`FUSE_ROOT_ID`).
    pub const ROOT: Self = Self(1);
    /// No node.
    const NONE: Self = Self(0);

    fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | (u64::from(index) + 1))
    }

    fn index(self) -> Option<usize> {
        (self.0 as u32).checked_sub(1).map(|index| index as usize)
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Why a local number does not lead to one of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unresolved {
    /// The kernel should not know this number.
    Unknown,
    /// It belongs to an earlier connection and must be found again.
    Stale,
}

/// What a node was like when last heard of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Inode number.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Where it was last seen.
    pub parent: Option<LocalId>,
    /// Lookups that the kernel holds.
    pub lookups: u64,
}

/// All records of one mount. One lock, held for the time of a few memory accesses, inside no other.
#[derive(Debug)]
pub struct NodeTable {
    table: Mutex<Table>,
    /// What the guest has begun and ended that changes something.
    acts: AtomicU64,
}

/// For so long figures of a file system are told again.
const FIGURES: Duration = Duration::from_secs(1);
/// Of so many nodes attributes are kept that the kernel is about to ask for.
const MOST_NEXT: usize = 1024;

impl NodeTable {
    /// A table with nothing but the root, in epoch `epoch`.
    pub fn new(epoch: u32, root: &Entry) -> Self {
        let node = Node::new(epoch, root);
        let table = Table {
            epoch,
            by_server: FxHashMap::from_iter([(root.node, 0)]),
            slots: vec![Slot { generation: 0, node: Some(node) }],
            free: Vec::new(),
            count: 1,
            by_name: FxHashMap::default(),
            by_ino: FxHashMap::default(),
            next: FxHashMap::default(),
            figures: None,
        };
        Self { table: Mutex::new(table), acts: AtomicU64::new(0) }
    }

    /// Begins a new epoch on a new connection: only the root is known there.
    pub fn begin_epoch(&self, epoch: u32, root: &Entry) {
        let table = &mut *self.table.lock();
        table.epoch = epoch;
        table.next.clear();
        table.by_server.clear();
        table.by_ino.clear();
        for (index, slot) in table.slots.iter().enumerate().skip(1) {
            if let Some(node) = slot.node.as_ref().filter(|node| node.parent != LocalId::NONE) {
                table.by_ino.insert(node.ino, index as u32);
            }
        }
        table.bind(0, root);
    }

    /// The server's number of a node.
    ///
    /// # Errors
    /// [`Unresolved`].
    pub fn resolve(&self, local: LocalId) -> Result<NodeId, Unresolved> {
        let table = self.table.lock();
        let node = table.get(local).ok_or(Unresolved::Unknown)?;
        if node.epoch == table.epoch { Ok(node.server) } else { Err(Unresolved::Stale) }
    }

    /// The kernel is about to be told of `entry` under this name: counts a lookup on both sides.
    pub fn found(&self, parent: LocalId, name: &[u8], entry: &Entry) -> LocalId {
        let table = &mut *self.table.lock();
        let index = table.found(parent, name, entry);
        table.id(index)
    }

    /// The same where it may have been so before a change that is on its way here, or delivered: a
    /// directory that has a place keeps it, for what is told of the directory finds it by that.
    pub fn found_late(&self, parent: LocalId, name: &[u8], entry: &Entry) -> LocalId {
        self.found_so(entry, |table, index| {
            let keeps = |index: u32| {
                let node = table.at(index);
                node.is_some_and(|node| node.is_dir() && node.parent != LocalId::NONE)
            };
            if !keeps(index) && !table.named(parent, name).is_some_and(keeps) {
                table.place(index, parent, name);
            }
        })
    }

    /// The same where the guest has just made what is there, or a new name of it.
    pub fn made(&self, parent: LocalId, name: &[u8], entry: &Entry) -> LocalId {
        let table = &mut *self.table.lock();
        let index = table.found(parent, name, entry);
        if let Some(node) = table.at_mut(index) {
            node.put = true;
        }
        table.relist(parent);
        table.id(index)
    }

    /// The same for what was there before the guest put something else in its place, if it did.
    pub fn found_before(&self, parent: LocalId, name: &[u8], entry: &Entry) -> LocalId {
        self.found_so(entry, |table, index| {
            let there = table.named(parent, name).and_then(|there| table.at(there));
            if !there.is_some_and(|node| node.put) {
                table.place(index, parent, name);
            }
        })
    }

    /// The same for a file that has no name.
    pub fn found_unnamed(&self, entry: &Entry) -> LocalId {
        self.found_so(entry, |_, _| {})
    }

    fn found_so(&self, entry: &Entry, place: impl FnOnce(&mut Table, u32)) -> LocalId {
        let table = &mut *self.table.lock();
        let index = table.meet(entry);
        place(table, index);
        table.add(index, 1);
        table.id(index)
    }

    /// An entry came that the kernel is not told of (a change, a step of a walk). If the kernel
    /// knows the node, its lookup is kept with the record; if not, the caller gives it back.
    pub fn absorb(&self, entry: &Entry) -> Option<LocalId> {
        let table = &mut *self.table.lock();
        let index = table.find(entry)?;
        table.bind(index, entry);
        if let Some(node) = table.at_mut(index) {
            node.no_capability = false;
        }
        Some(table.id(index))
    }

    /// The kernel is told of a node that it knows, by an answer of our own: a lookup that the server
    /// knows nothing of.
    pub fn shown(&self, local: LocalId) {
        if let Some(node) = self.table.lock().get_mut(local) {
            node.lookups += 1;
        }
    }

    /// Keeps a node, by the server's number, though the kernel may forget it meanwhile. To be
    /// [forgotten](Self::forget) once more.
    pub fn hold(&self, node: NodeId) -> Option<LocalId> {
        let table = &mut *self.table.lock();
        let index = *table.by_server.get(&node)?;
        table.add(index, 1);
        Some(table.id(index))
    }

    /// The nodes that were last seen in this directory, with their names. Looks at every record.
    pub fn children(&self, parent: LocalId) -> Vec<(LocalId, Box<[u8]>)> {
        let table = self.table.lock();
        let records = table.slots.iter().enumerate().filter_map(|(index, slot)| {
            let node = slot.node.as_ref().filter(|node| node.parent == parent)?;
            Some((table.id(index as u32), node.name.clone()))
        });
        records.collect()
    }

    /// The server's numbers of directories with these inode numbers, and of those in which other nodes
    /// with these were last seen. Looks at every record.
    pub fn directories_of(&self, inodes: &FxHashSet<u64>) -> BTreeSet<NodeId> {
        let table = self.table.lock();
        let valid = |node: &&Node| node.epoch == table.epoch;
        let wanted = |node: &&Node| valid(node) && inodes.contains(&node.ino);
        let records = table.slots.iter().filter_map(|slot| slot.node.as_ref());
        let dirs = records.filter(wanted).filter_map(|node| match node.mode & mode::IFMT {
            mode::IFDIR => Some(node.server),
            _ => table.get(node.parent).filter(valid).map(|parent| parent.server),
        });
        dirs.collect()
    }

    /// All directories in which a node was last seen.
    pub fn parents(&self) -> Vec<LocalId> {
        let table = self.table.lock();
        let records = table.slots.iter().filter_map(|slot| slot.node.as_ref());
        let mut parents: Vec<_> = records.map(|node| node.parent).collect();
        parents.sort_unstable_by_key(|parent| parent.0);
        parents.dedup();
        parents.retain(|parent| *parent != LocalId::NONE);
        parents
    }

    /// What is believed of all names, or of those in some directories.
    pub fn beliefs(&self, dirs: Option<&[LocalId]>) -> Vec<Belief> {
        let table = self.table.lock();
        let wanted = |parent| dirs.is_none_or(|dirs| dirs.contains(&parent));
        let records = table.slots.iter().enumerate().filter_map(|(index, slot)| {
            let node = slot.node.as_ref()?;
            (node.parent != LocalId::NONE && wanted(node.parent))
                .then(|| node.belief(table.id(index as u32)))
        });
        records.collect()
    }

    /// What is believed of one node, wherever it is.
    pub fn belief(&self, local: LocalId) -> Option<Belief> {
        self.table.lock().get(local).map(|node| node.belief(local))
    }

    /// A listing came upon this node: ties the two together, without the lookup of the entry.
    pub fn reunite(&self, local: LocalId, entry: &Entry) {
        let table = &mut *self.table.lock();
        let (epoch, Some(index)) = (table.epoch, local.index().map(|index| index as u32)) else {
            return;
        };
        let Some(node) = table.get(local) else { return };
        let is_bound = node.epoch == epoch && node.server == entry.node;
        let is_other = table.by_server.get(&entry.node).is_some_and(|other| *other != index);
        if !is_bound && !is_other {
            table.bind(index, entry);
            if let Some(node) = table.at_mut(index) {
                node.owed = 0;
            }
        }
    }

    /// What a change may call a node: as the server does or, where it has not been found again, by a
    /// number that [`local`](Self::local) understands and no server gives.
    pub fn call(&self, local: LocalId) -> NodeId {
        let table = self.table.lock();
        let node = table.get(local).filter(|node| node.epoch == table.epoch);
        let known = node.filter(|node| table.by_server.contains_key(&node.server));
        known.map_or(NodeId(!local.0), |node| node.server)
    }

    /// A walk came upon what should be this stale node. Returns whether it is; if not, the caller
    /// gives the entry's lookup back.
    pub fn refound(&self, local: LocalId, entry: &Entry) -> bool {
        let table = &mut *self.table.lock();
        let Some(index) = local.index().map(|index| index as u32) else { return false };
        let Some(node) = table.get(local) else { return false };
        let same = node.ino == entry.attr.ino
            && node.mode & mode::IFMT == entry.attr.kind()
            && table.by_server.get(&entry.node).is_none_or(|other| *other == index);
        if same {
            table.bind(index, entry);
        }
        same
    }

    /// The server told the attributes of a node, and for how long they hold.
    pub fn told(&self, local: LocalId, reply: &AttrReply) {
        self.table.lock().told(local, reply);
    }

    /// And so of what the guest did something to or in, before the kernel asks for it. Kept only of what is
    /// found by all its names, since it may lose one.
    pub fn told_next(&self, local: LocalId, reply: &AttrReply, arrivals: u64) {
        let table = &mut *self.table.lock();
        table.told(local, reply);
        let placed =
            |node: &Node| node.parent != LocalId::NONE && (node.is_dir() || node.nlink == 1);
        let is_found = local == LocalId::ROOT || table.get(local).is_some_and(placed);
        if is_found && reply.attr_ms == Validity::LEASED {
            if table.next.len() >= MOST_NEXT {
                table.next.clear();
            }
            table.next.insert(local, (*reply, arrivals));
        }
    }

    /// What was told of a node and is still so, if no changes have come. Given once.
    pub fn take_next(&self, local: LocalId, arrivals: u64) -> Option<AttrReply> {
        let (reply, at) = self.table.lock().next.remove(&local)?;
        (at == arrivals).then_some(reply)
    }

    /// The guest does something to these that their attributes will tell, or has done so.
    pub fn outdate(&self, locals: impl IntoIterator<Item = LocalId>) {
        let table = &mut *self.table.lock();
        self.acts.fetch_add(1, Ordering::Release);
        table.figures = None;
        for local in locals {
            table.next.remove(&local);
        }
    }

    /// The guest uses a file or directory, which its attributes tell and nothing else.
    pub fn is_used(&self, local: LocalId) {
        self.table.lock().next.remove(&local);
    }

    /// Counts what the guest begins and ends that changes something. What the server was asked for at one
    /// number and the kernel is told at another may be older than what the kernel knows.
    pub fn acts(&self) -> u64 {
        self.acts.load(Ordering::Acquire)
    }

    /// Figures of the file system of a node were told.
    pub fn told_figures(&self, local: LocalId, figures: &StatFs, arrivals: u64) {
        self.table.lock().figures = Some((local, *figures, Instant::now(), arrivals));
    }

    /// What was told of the file system of this node just now, if nothing has changed since.
    pub fn figures(&self, local: LocalId, arrivals: u64) -> Option<StatFs> {
        let (of, figures, since, at) = self.table.lock().figures?;
        (of == local && at == arrivals && since.elapsed() < FIGURES).then_some(figures)
    }

    /// What is known of the attributes of a node is new. Tells whether it is a file that has grown.
    pub fn note_attr(&self, local: LocalId, attr: &Attr) -> bool {
        let mut table = self.table.lock();
        let Some(node) = table.get_mut(local) else { return false };
        let grown = attr.size > node.size && !node.is_dir();
        node.note(attr);
        grown
    }

    /// Whether content, owner and permissions are as they were when last heard of.
    pub fn is_as_known(&self, local: LocalId, attr: &Attr) -> bool {
        let same = |node: &Node| {
            node.content == digest_content(attr) && node.attrs() == digest_attrs(attr)
        };
        self.table.lock().get(local).is_some_and(same)
    }

    /// Whether the pages that the kernel may have of a file are those of the content last heard
    /// of. They are taken for such from now on.
    pub fn keeps_cache(&self, local: LocalId) -> bool {
        let mut table = self.table.lock();
        let Some(node) = table.get_mut(local) else { return false };
        node.was_opened = true;
        let keeps = std::mem::replace(&mut node.cached_content, node.content) == node.content;
        if !keeps {
            node.read_to = 0;
        }
        keeps
    }

    /// Whether the kernel may be given all of a file as it is opened: of this size at most, told of when
    /// it changes, and not there already.
    pub fn wants_content(&self, local: LocalId, most: u64) -> bool {
        let table = self.table.lock();
        table.get(local).is_some_and(|node| {
            let is_told = node.leased && node.epoch == table.epoch;
            is_told && (1..=most).contains(&node.size) && !node.is_whole()
        })
    }

    /// Whether nothing else has been heard of the content of a file than that it is this.
    pub fn has_content(&self, local: LocalId, attr: &Attr) -> bool {
        let table = self.table.lock();
        let same = |node: &Node| node.content == digest_content(attr) && node.size == attr.size;
        table.get(local).is_some_and(|node| node.leased && same(node))
    }

    /// Whether the kernel may have pages of a file.
    pub fn was_opened(&self, local: LocalId) -> bool {
        self.table.lock().get(local).is_none_or(|node| node.was_opened)
    }

    /// Nothing is to be believed of a node until the server tells of it again: neither the kernel's
    /// pages at the next open, nor that the server tells of changes.
    pub fn distrust(&self, local: LocalId) {
        if let Some(node) = self.table.lock().get_mut(local) {
            node.cached_content = !node.content;
            node.read_to = 0;
            node.no_capability = false;
            node.leased = false;
        }
    }

    /// The kernel drops its pages of a file, or the listing of a directory.
    pub fn note_dropped(&self, local: LocalId) {
        self.table.lock().relist(local);
    }

    /// The kernel has got these bytes of a file into its page cache.
    pub fn note_read(&self, local: LocalId, offset: u64, len: u64) {
        if let Some(node) = self.table.lock().get_mut(local)
            && offset <= node.read_to
        {
            node.read_to = node.read_to.max(offset.saturating_add(len));
        }
    }

    /// The guest has changed the content of a file: how much of it there is, and what of that the
    /// kernel has, is not known.
    pub fn note_written(&self, local: LocalId) {
        if let Some(node) = self.table.lock().get_mut(local) {
            node.size = u64::MAX;
            node.read_to = 0;
        }
    }

    /// The kernel has got the listing of a directory to its end.
    pub fn note_listed(&self, local: LocalId) {
        if let Some(node) = self.table.lock().get_mut(local) {
            node.cached_content = node.content;
            node.read_to = u64::MAX;
        }
    }

    /// Whether the kernel should have all of a file or of a listing and may keep it, so that nothing
    /// will be asked of the server.
    pub fn is_cached(&self, local: LocalId) -> bool {
        let table = self.table.lock();
        let is_cached = |node: &Node| node.epoch == table.epoch && node.leased && node.is_whole();
        table.get(local).is_some_and(is_cached)
    }

    /// What a file that has no name any more was like when last heard of.
    pub fn last(&self, local: LocalId) -> Option<Attr> {
        self.table.lock().get(local).map(Node::last)
    }

    /// Whether the server tells when a node changes.
    pub fn is_leased(&self, local: LocalId) -> bool {
        let table = self.table.lock();
        table.get(local).is_some_and(|node| node.leased && node.epoch == table.epoch)
    }

    /// A file has no capabilities: it is new, or the server was asked. Before every write the kernel
    /// wants to know.
    pub fn note_capability(&self, local: LocalId, has: bool) {
        if let Some(node) = self.table.lock().get_mut(local) {
            node.no_capability = !has;
        }
    }

    /// Whether a file is known to have no capabilities: the server, which would tell of a change, has
    /// told of none.
    pub fn has_no_capability(&self, local: LocalId) -> bool {
        let table = self.table.lock();
        table.get(local).is_some_and(|node| node.leased && node.no_capability)
    }

    /// The kernel gives `count` lookups back. At zero the record goes, and what it owes the server
    /// is returned.
    pub fn forget(&self, local: LocalId, count: u64) -> Option<ForgetOne> {
        let table = &mut *self.table.lock();
        let epoch = table.epoch;
        let node = table.get_mut(local)?;
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups > 0 || local == LocalId::ROOT {
            return None;
        }
        let gone = table.remove(local)?;
        (gone.epoch == epoch).then_some(ForgetOne { node: gone.server, count: gone.owed })
    }

    /// The kernel's number of a node of the server.
    pub fn local(&self, server: NodeId) -> Option<LocalId> {
        let table = self.table.lock();
        let called = LocalId(!server.0);
        let found = table.by_server.get(&server).map(|index| table.id(*index));
        found.or_else(|| table.get(called).map(|_| called))
    }

    /// The node that was last seen under this name, if the kernel still knows it.
    pub fn child(&self, parent: LocalId, name: &[u8]) -> Option<LocalId> {
        let table = self.table.lock();
        table.named(parent, name).map(|index| table.id(index))
    }

    /// What the guest itself has put under this name, if that is still there: the node and its type.
    pub fn put_here(&self, parent: LocalId, name: &[u8]) -> Option<(LocalId, u32)> {
        let table = self.table.lock();
        let index = table.named(parent, name)?;
        let node = table.at(index).filter(|node| node.put)?;
        Some((table.id(index), node.mode & mode::IFMT))
    }

    /// The guest has moved a node to this place.
    fn put(&self, local: LocalId, parent: LocalId, name: &[u8]) {
        self.placed(local, parent, name);
        if let Some(node) = self.table.lock().get_mut(local) {
            node.put = true;
        }
    }

    /// What is known of a node; nothing if the kernel does not know it.
    pub fn known(&self, local: LocalId) -> Option<Known> {
        let table = self.table.lock();
        table.get(local).map(|node| Known {
            ino: node.ino,
            mode: node.mode,
            nlink: node.nlink,
            parent: (node.parent != LocalId::NONE).then_some(node.parent),
            lookups: node.lookups,
        })
    }

    /// The way from the root to a node: the numbers of the nodes on it, the node itself last, each
    /// with its name. Nothing if a link is missing (unlinked, or known by a name that is gone).
    pub fn path(&self, local: LocalId) -> Option<Vec<(LocalId, Box<[u8]>)>> {
        /// Deeper than any path that a system call could name (`PATH_MAX` / 2).
        const DEEPEST: usize = 2048;
        let table = self.table.lock();
        let mut path = Vec::new();
        let mut at = local;
        while at != LocalId::ROOT {
            let node = table.get(at)?;
            if node.parent == LocalId::NONE || path.len() == DEEPEST {
                return None;
            }
            path.push((at, node.name.clone()));
            at = node.parent;
        }
        path.reverse();
        Some(path)
    }

    /// Everything that was last seen anywhere below a directory, what is deepest first: the nodes, each
    /// with its directory and name. Looks at every record.
    pub fn below(&self, dir: LocalId) -> Vec<(LocalId, LocalId, Box<[u8]>)> {
        let table = self.table.lock();
        // How deep what was passed on the way is below, if it is, so that no way is gone twice.
        let mut depths: FxHashMap<LocalId, Option<usize>> = FxHashMap::from_iter([(dir, Some(0))]);
        let mut found = Vec::new();
        let mut way = Vec::new();
        for (index, slot) in table.slots.iter().enumerate() {
            let Some(node) = &slot.node else { continue };
            let mut at = node.parent;
            let mut depth = loop {
                match depths.get(&at) {
                    Some(depth) => break *depth,
                    None if way.contains(&at) => break None,
                    None => way.push(at),
                }
                match table.get(at) {
                    Some(next) => at = next.parent,
                    None => break None,
                }
            };
            for passed in way.drain(..).rev() {
                depth = depth.map(|depth| depth + 1);
                depths.insert(passed, depth);
            }
            if let Some(depth) = depth {
                found.push((depth, (table.id(index as u32), node.parent, node.name.clone())));
            }
        }
        found.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        found.into_iter().map(|(_, node)| node).collect()
    }

    /// A node has this place now, and no other.
    pub fn placed(&self, local: LocalId, parent: LocalId, name: &[u8]) {
        let table = &mut *self.table.lock();
        if let Some(index) = local.index().filter(|_| table.get(local).is_some()) {
            table.place(index as u32, parent, name);
            table.relist(parent);
        }
    }

    /// A node has lost this place, if that is where it is.
    pub fn left(&self, local: LocalId, parent: LocalId, name: &[u8]) {
        let table = &mut *self.table.lock();
        table.relist(parent);
        if let Some(index) = table.named(parent, name).filter(|index| table.id(*index) == local) {
            table.displace(index);
        }
    }

    /// A directory is removed in the kernel, whose inode of it is dead from now on. The object may
    /// live on elsewhere on the host: where it is found again it gets a new number.
    pub fn bury(&self, local: LocalId) {
        let table = &mut *self.table.lock();
        if let Some(index) = local.index().filter(|_| table.get(local).is_some()) {
            table.bury(index as u32);
        }
    }

    /// The kernel has removed this node's name, and it has lost its place.
    pub fn removed(&self, local: LocalId, parent: LocalId, name: &[u8]) {
        self.left(local, parent, name);
        self.bury(local);
    }

    /// The kernel has renamed what was at one name; what was at the other has lost its place, or changed
    /// with it. Somebody may have looked at the names since.
    pub fn renamed(
        &self,
        [moved, target]: [Option<LocalId>; 2],
        (from, name): (LocalId, &[u8]),
        (to, new_name): (LocalId, &[u8]),
        exchange: bool,
    ) {
        if moved == target {
            return;
        }
        self.note_dropped(from);
        if let Some(target) = target {
            match exchange {
                true => self.left(target, to, new_name),
                false => self.removed(target, to, new_name),
            }
        }
        if let Some(moved) = moved {
            self.put(moved, to, new_name);
        }
        if let Some(target) = target.filter(|_| exchange) {
            self.put(target, from, name);
        }
    }

    /// How many nodes the kernel knows.
    pub fn count(&self) -> usize {
        self.table.lock().count
    }
}

#[cfg(test)]
mod tests;
