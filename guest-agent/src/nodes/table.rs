//! The records themselves, beneath the lock of the [`NodeTable`](super::NodeTable): found by
//! number, by the server's number, by name, and, after a reconnect, by inode number.

use super::LocalId;
use super::node::{Node, digest_born, digests};
use protocol::{AttrReply, Entry, NodeId, StatFs, Validity};
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) node: Option<Node>,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) epoch: u32,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u32>,
    pub(super) count: usize,
    pub(super) by_server: FxHashMap<NodeId, u32>,
    /// Digest of (parent, name) → index; verified on use.
    pub(super) by_name: FxHashMap<u64, u32>,
    /// Stale records by inode number, filled when an epoch begins.
    pub(super) by_ino: FxHashMap<u64, u32>,
    /// Attributes that the kernel is about to ask for, and how many times changes had come when they were
    /// told.
    pub(super) next: FxHashMap<LocalId, (AttrReply, u64)>,
    /// Figures of the file system, of which directory they were told, when, and behind how many changes.
    pub(super) figures: Option<(LocalId, StatFs, Instant, u64)>,
}

impl Table {
    pub(super) fn told(&mut self, local: LocalId, reply: &AttrReply) {
        self.next.remove(&local);
        if let Some(node) = self.get_mut(local) {
            node.note(&reply.attr);
            node.leased = reply.attr_ms == Validity::LEASED;
        }
    }

    pub(super) fn get(&self, local: LocalId) -> Option<&Node> {
        let slot = self.slots.get(local.index()?)?;
        slot.node.as_ref().filter(|_| slot.generation == local.generation())
    }

    pub(super) fn get_mut(&mut self, local: LocalId) -> Option<&mut Node> {
        let slot = self.slots.get_mut(local.index()?)?;
        slot.node.as_mut().filter(|_| slot.generation == local.generation())
    }

    pub(super) fn at(&self, index: u32) -> Option<&Node> {
        self.slots.get(index as usize)?.node.as_ref()
    }

    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut Node> {
        self.slots.get_mut(index as usize)?.node.as_mut()
    }

    pub(super) fn id(&self, index: u32) -> LocalId {
        LocalId::new(index, self.slots.get(index as usize).map_or(0, |slot| slot.generation))
    }

    /// The record of an entry: by number, or a stale one by inode number and type.
    pub(super) fn find(&self, entry: &Entry) -> Option<u32> {
        self.by_server.get(&entry.node).copied().or_else(|| {
            let index = *self.by_ino.get(&entry.attr.ino)?;
            let object = digests(&entry.attr).object;
            self.at(index).is_some_and(|node| node.object().is(object)).then_some(index)
        })
    }

    /// The record of an entry, made if there is none; counts the lookup that came with it.
    pub(super) fn meet(&mut self, entry: &Entry) -> u32 {
        if let Some(index) = self.find(entry) {
            self.bind(index, entry);
            return index;
        }
        let node = Some(Node::new(self.epoch, entry));
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, node: None });
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.node = node;
        }
        self.count += 1;
        self.by_server.insert(entry.node, index);
        index
    }

    /// The same, at the place where it was found; counts a lookup of the kernel.
    pub(super) fn found(&mut self, parent: LocalId, name: &[u8], entry: &Entry) -> u32 {
        let index = self.meet(entry);
        self.place(index, parent, name);
        self.add(index, 1);
        index
    }

    /// An entry came for a record: counts its lookup and ties the two together.
    pub(super) fn bind(&mut self, index: u32, entry: &Entry) {
        let epoch = self.epoch;
        let Some(node) = self.at_mut(index) else { return };
        if node.epoch == epoch && node.server == entry.node {
            node.owed += 1;
        } else {
            node.epoch = epoch;
            node.server = entry.node;
            node.owed = 1;
            node.ino = entry.attr.ino;
            node.born = digest_born(&entry.attr);
            node.no_capability = false;
        }
        node.note(&entry.attr);
        node.leased = entry.valid.attr_ms == Validity::LEASED;
        self.by_ino.remove(&entry.attr.ino);
        self.by_server.insert(entry.node, index);
    }

    pub(super) fn add(&mut self, index: u32, lookups: u64) {
        if let Some(node) = self.at_mut(index) {
            node.lookups += lookups;
        }
    }

    pub(super) fn named(&self, parent: LocalId, name: &[u8]) -> Option<u32> {
        let index = *self.by_name.get(&digest_name(parent, name))?;
        let same = |node: &Node| node.parent == parent && *node.name == *name;
        self.at(index).is_some_and(same).then_some(index)
    }

    pub(super) fn place(&mut self, index: u32, parent: LocalId, name: &[u8]) {
        if index == 0 || self.named(parent, name) == Some(index) {
            return;
        }
        if let Some(other) = self.named(parent, name) {
            self.displace(other);
        }
        self.displace(index);
        if let Some(node) = self.at_mut(index) {
            node.parent = parent;
            node.name = name.into();
            self.by_name.insert(digest_name(parent, name), index);
        }
    }

    /// The kernel will list this directory, or read this file, anew.
    pub(super) fn relist(&mut self, dir: LocalId) {
        if let Some(node) = self.get_mut(dir) {
            node.read_to = 0;
        }
    }

    pub(super) fn displace(&mut self, index: u32) {
        let Some(node) = self.at_mut(index) else { return };
        let key = digest_name(node.parent, &node.name);
        node.parent = LocalId::NONE;
        node.name = Box::default();
        node.put = false;
        if self.by_name.get(&key) == Some(&index) {
            self.by_name.remove(&key);
        }
    }

    /// The record of a directory keeps its numbers, but is not found by the server's any more.
    pub(super) fn bury(&mut self, index: u32) {
        let Some(node) = self.at(index) else { return };
        if index == 0 || !node.is_dir() {
            return;
        }
        let (server, ino) = (node.server, node.ino);
        if self.by_server.get(&server) == Some(&index) {
            self.by_server.remove(&server);
        }
        if self.by_ino.get(&ino) == Some(&index) {
            self.by_ino.remove(&ino);
        }
    }

    pub(super) fn remove(&mut self, local: LocalId) -> Option<Node> {
        let index = local.index()? as u32;
        self.get(local)?;
        self.displace(index);
        let slot = self.slots.get_mut(index as usize)?;
        let node = slot.node.take()?;
        // An index whose generations are used up is left alone.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(index);
        }
        self.count -= 1;
        if self.by_server.get(&node.server) == Some(&index) {
            self.by_server.remove(&node.server);
        }
        if self.by_ino.get(&node.ino) == Some(&index) {
            self.by_ino.remove(&node.ino);
        }
        Some(node)
    }
}

/// A name in a directory as a number.
pub fn digest_name(parent: LocalId, name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    (parent, name).hash(&mut hasher);
    hasher.finish()
}
