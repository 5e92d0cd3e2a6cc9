//! The objects that one agent knows.
//!
//! A node is a name in a parent node, and the identity that the object behind the name had: no
//! descriptor. [`NodeTable`] is pure; finding the object is the work of `session/locate.rs`.
//!
//! A [`NodeId`] is a slot number and the slot's generation, which grows whenever a number becomes
//! void, so no value is ever used twice. A node outlives its lookups while known nodes stand in it
//! (they need its name), but its number does not.
//!
//! Memory, measured with names of 32 bytes: 231 bytes a node (a slot of 72 in a vector that may be half
//! empty, the name's allocation, an entry of the map by identity). A test holds it below 400.

use protocol::{Errno, NodeId, mode};
use rustc_hash::FxHashMap;

/// What makes an object the same object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Identity {
    /// Device.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Time of birth, zero where it says nothing. Inode numbers are soon used again.
    pub birth: u64,
}

impl Identity {
    /// Device and inode number.
    pub fn key(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }
}

/// Most nodes of one session: some 1.5 GB. An agent that never forgets is told `ENOMEM`.
pub const MAX_NODES: usize = 1 << 23;
/// No slot.
const NONE: u32 = u32::MAX;
/// Names kept of one object beside the latest.
const MAX_ALIASES: usize = 32;
/// Longest way from a node to its root. Stale names can form a circle.
const MAX_DEPTH: usize = 8192;

/// What a caller needs to know of a node to find it.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// What object it is.
    pub identity: Identity,
    /// Its type bits.
    pub kind: u32,
    /// The attachment that it belongs to.
    pub attachment: u16,
}

impl Node {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == mode::IFDIR
    }
}

/// When the guest last made use of a directory, told apart by its turns from one to another: of two,
/// the greater is the later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Recency(pub u32);

impl Recency {
    /// Known, but not looked into.
    pub const NEVER: Self = Self(0);
}

#[derive(Debug)]
struct Slot {
    /// Of the number that is valid now.
    generation: u32,
    /// What the table's `uses` was when the guest last made use of it; 0 for never.
    used: u32,
    /// In use.
    live: bool,
    /// The root of its attachment.
    root: bool,
    /// The map by identity leads here.
    mapped: bool,
    /// The observer has been told to watch it.
    watched: bool,
    /// Type bits, shifted down.
    kind: u8,
    attachment: u16,
    /// Names of other slots that lead here, in `aliases`.
    has_aliases: bool,
    /// Slot of the parent; [`NONE`] for a root and for what has no name.
    parent: u32,
    /// How many names of live slots stand in it, and one if it is a root.
    pins: u32,
    /// How many entries the agent has to give back.
    lookups: u64,
    identity: Identity,
    name: Box<[u8]>,
}

/// A further name: the slot of its directory, and the name there.
type Alias = (u32, Box<[u8]>);

/// The nodes of one session.
#[derive(Debug, Default)]
pub struct NodeTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_object: FxHashMap<(u64, u64, u16), u32>,
    /// Further names of objects with several links, oldest first.
    aliases: FxHashMap<u32, Vec<Alias>>,
    live: usize,
    /// See [`NodeTable::uses`], and the slot that the guest made use of last.
    uses: u32,
    last_used: u32,
}

fn id(generation: u32, index: u32) -> NodeId {
    NodeId(u64::from(generation) << 32 | u64::from(index + 1))
}

impl NodeTable {
    /// How many nodes are known.
    pub fn count(&self) -> usize {
        self.live
    }

    fn index(&self, node: NodeId) -> Result<u32, Errno> {
        let index = (node.0 as u32).wrapping_sub(1);
        let slot = self.slots.get(index as usize).ok_or(Errno::ESTALE)?;
        let valid = slot.live && slot.lookups > 0 && u64::from(slot.generation) == node.0 >> 32;
        if valid { Ok(index) } else { Err(Errno::ESTALE) }
    }

    fn slot(&self, index: u32) -> &Slot {
        &self.slots[index as usize]
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// What is known of a node. `ESTALE` for a number that is not valid.
    pub fn get(&self, node: NodeId) -> Result<Node, Errno> {
        self.index(node).map(|index| self.node(index))
    }

    fn node(&self, index: u32) -> Node {
        let slot = self.slot(index);
        Node {
            identity: slot.identity,
            kind: u32::from(slot.kind) << 12,
            attachment: slot.attachment,
        }
    }

    /// Enters the root of an attachment, with one lookup. It stays until the attachment ends.
    pub fn root(&mut self, attachment: u16, identity: Identity) -> NodeId {
        let index = self.allocate(attachment, identity, mode::IFDIR);
        let slot = self.slot_mut(index);
        slot.root = true;
        slot.pins = 1;
        slot.lookups = 1;
        id(slot.generation, index)
    }

    /// The root of an attachment is this object from now on.
    pub fn replace_root(&mut self, node: NodeId, identity: Identity) -> Result<(), Errno> {
        let index = self.index(node)?;
        let slot = self.slot_mut(index);
        let key = (slot.identity.dev, slot.identity.ino, slot.attachment);
        let new_key = (identity.dev, identity.ino, slot.attachment);
        slot.identity = identity;
        slot.watched = false;
        let mapped = std::mem::replace(&mut slot.mapped, true);
        if mapped {
            self.by_object.remove(&key);
        }
        if let Some(other) = self.by_object.insert(new_key, index) {
            self.slot_mut(other).mapped = false;
        }
        Ok(())
    }

    /// Enters what a name was found to lead to, or finds it, and counts one lookup.
    pub fn enter(
        &mut self,
        parent: NodeId,
        name: &[u8],
        identity: Identity,
        kind: u32,
    ) -> Result<NodeId, Errno> {
        let parent = self.index(parent)?;
        let attachment = self.slot(parent).attachment;
        let index = match self.find(attachment, identity, kind) {
            Some(index) => {
                self.add_name(index, parent, name);
                index
            }
            None if self.live >= MAX_NODES => return Err(Errno::ENOMEM),
            None => {
                let index = self.allocate(attachment, identity, kind);
                self.set_name(index, parent, name.into());
                index
            }
        };
        let slot = self.slot_mut(index);
        slot.lookups += 1;
        Ok(id(slot.generation, index))
    }

    /// Enters an object that has no name, with one lookup.
    pub fn enter_unnamed(
        &mut self,
        beside: NodeId,
        identity: Identity,
        kind: u32,
    ) -> Result<NodeId, Errno> {
        let attachment = self.slot(self.index(beside)?).attachment;
        let index = match self.find(attachment, identity, kind) {
            Some(index) => index,
            None => self.allocate(attachment, identity, kind),
        };
        let slot = self.slot_mut(index);
        slot.lookups += 1;
        Ok(id(slot.generation, index))
    }

    /// Counts one more lookup of a valid node.
    pub fn again(&mut self, node: NodeId) -> Result<(), Errno> {
        let index = self.index(node)?;
        self.slot_mut(index).lookups += 1;
        Ok(())
    }

    /// The number of an object, if the agent knows it.
    pub fn by_identity(&self, attachment: u16, identity: Identity) -> Option<NodeId> {
        let index = *self.by_object.get(&(identity.dev, identity.ino, attachment))?;
        let slot = self.slot(index);
        (slot.lookups > 0 && slot.identity == identity).then(|| id(slot.generation, index))
    }

    /// The slot of the same object. One that only has its inode number loses its place in the map.
    fn find(&mut self, attachment: u16, identity: Identity, kind: u32) -> Option<u32> {
        let index = *self.by_object.get(&(identity.dev, identity.ino, attachment))?;
        let slot = self.slot_mut(index);
        if slot.identity == identity && u32::from(slot.kind) << 12 == kind {
            return Some(index);
        }
        slot.mapped = false;
        self.by_object.remove(&(identity.dev, identity.ino, attachment));
        None
    }

    fn allocate(&mut self, attachment: u16, identity: Identity, kind: u32) -> u32 {
        let fresh = Slot {
            generation: 0,
            used: 0,
            live: true,
            root: false,
            mapped: true,
            watched: false,
            kind: (kind >> 12) as u8,
            attachment,
            has_aliases: false,
            parent: NONE,
            pins: 0,
            lookups: 0,
            identity,
            name: Box::default(),
        };
        let index = match self.free.pop() {
            Some(index) => {
                let slot = self.slot_mut(index);
                *slot = Slot { generation: slot.generation, ..fresh };
                index
            }
            None => {
                self.slots.push(fresh);
                (self.slots.len() - 1) as u32
            }
        };
        self.by_object.insert((identity.dev, identity.ino, attachment), index);
        self.live += 1;
        index
    }

    /// Gives lookups back. Tells whether the number is void now.
    pub fn forget(&mut self, node: NodeId, count: u64) -> bool {
        let Ok(index) = self.index(node) else { return false };
        let slot = self.slot_mut(index);
        slot.lookups = slot.lookups.saturating_sub(count);
        if slot.lookups > 0 {
            return false;
        }
        slot.watched = false;
        slot.generation = slot.generation.saturating_add(1);
        if slot.generation == u32::MAX {
            // Nearly every number of the slot has been used: it is never given up, nor found.
            slot.pins += 1;
            let key = (slot.identity.dev, slot.identity.ino, slot.attachment);
            if std::mem::take(&mut slot.mapped) {
                self.by_object.remove(&key);
            }
        }
        self.release(index);
        true
    }

    /// Removes a slot that nothing needs any more, and then its parent if it was the last.
    fn release(&mut self, index: u32) {
        let mut next = index;
        while next != NONE {
            let slot = self.slot_mut(next);
            if !slot.live || slot.lookups > 0 || slot.pins > 0 {
                return;
            }
            let index = next;
            slot.live = false;
            next = std::mem::replace(&mut slot.parent, NONE);
            slot.name = Box::default();
            let (mapped, key) =
                (slot.mapped, (slot.identity.dev, slot.identity.ino, slot.attachment));
            let aliased = std::mem::take(&mut slot.has_aliases);
            if mapped {
                self.by_object.remove(&key);
            }
            self.free.push(index);
            self.live -= 1;
            if aliased {
                for (parent, _) in self.aliases.remove(&index).unwrap_or_default() {
                    self.unpin(parent);
                }
            }
            if next != NONE {
                let parent = self.slot_mut(next);
                parent.pins = parent.pins.saturating_sub(1);
            }
        }
    }

    fn unpin(&mut self, index: u32) {
        let slot = self.slot_mut(index);
        slot.pins = slot.pins.saturating_sub(1);
        self.release(index);
    }

    fn set_name(&mut self, index: u32, parent: u32, name: Box<[u8]>) {
        self.slot_mut(parent).pins += 1;
        let slot = self.slot_mut(index);
        slot.name = name;
        let old = std::mem::replace(&mut slot.parent, parent);
        if old != NONE {
            self.unpin(old);
        }
    }

    /// The latest name becomes the first to try; of a directory it is the only one.
    fn add_name(&mut self, index: u32, parent: u32, name: &[u8]) {
        let slot = self.slot(index);
        if slot.root || (slot.parent == parent && *slot.name == *name) {
            return;
        }
        let old_parent = slot.parent;
        if self.node(index).is_dir() && self.stands_in(parent, index) {
            return; // a directory mounted below itself: the way by its other name stays
        }
        if old_parent == NONE || self.node(index).is_dir() {
            self.set_name(index, parent, name.into());
            return;
        }
        let old_name = std::mem::take(&mut self.slot_mut(index).name);
        // The pin of the old parent goes over to the alias.
        self.slot_mut(index).parent = NONE;
        let aliases = self.aliases.entry(index).or_default();
        let known = aliases.iter().position(|(p, n)| *p == parent && **n == *name);
        let known = known.map(|at| aliases.remove(at).0);
        aliases.push((old_parent, old_name));
        let dropped = (aliases.len() > MAX_ALIASES).then(|| aliases.remove(0).0);
        self.slot_mut(index).has_aliases = true;
        self.set_name(index, parent, name.into());
        for parent in known.into_iter().chain(dropped) {
            self.unpin(parent);
        }
    }

    /// Whether `index` is `ancestor` or below it.
    fn stands_in(&self, index: u32, ancestor: u32) -> bool {
        let mut at = index;
        for _ in 0..MAX_DEPTH {
            if at == ancestor || at == NONE {
                break;
            }
            at = self.slot(at).parent;
        }
        at == ancestor
    }

    /// A name no longer leads to this node.
    pub fn unname(&mut self, node: NodeId, parent: NodeId, name: &[u8]) {
        let (Ok(index), Ok(parent)) = (self.index(node), self.index(parent)) else { return };
        let slot = self.slot(index);
        if slot.parent == parent && *slot.name == *name {
            let other = self.aliases.get_mut(&index).and_then(Vec::pop);
            let slot = self.slot_mut(index);
            let (parent_now, name) = other.unwrap_or((NONE, Box::default()));
            slot.name = name;
            slot.parent = parent_now;
            self.unpin(parent);
        } else if slot.has_aliases {
            let Some(aliases) = self.aliases.get_mut(&index) else { return };
            let Some(at) = aliases.iter().position(|(p, n)| *p == parent && **n == *name) else {
                return;
            };
            aliases.remove(at);
            self.unpin(parent);
        }
    }

    /// A node has a name, known from elsewhere than a lookup of the agent.
    pub fn name(&mut self, node: NodeId, parent: NodeId, name: &[u8]) {
        if let (Ok(index), Ok(parent)) = (self.index(node), self.index(parent)) {
            self.add_name(index, parent, name);
        }
    }

    /// The latest name of a node. None for a root and for what has no name.
    pub fn place(&self, node: NodeId) -> Result<Option<(NodeId, &[u8])>, Errno> {
        self.nth_place(node, 0)
    }

    /// The directory whose watch tells of changes of a node: the one it is in; of a root, itself.
    pub fn watched_at(&self, node: NodeId) -> Result<Option<NodeId>, Errno> {
        let place = self.place(node)?.map(|(parent, _)| parent);
        let is_root = self.slot(self.index(node)?).root;
        Ok(place.or_else(|| is_root.then_some(node)))
    }

    /// The `at`-th name of a node, latest first. The number of its directory may be void.
    pub fn nth_place(&self, node: NodeId, at: usize) -> Result<Option<(NodeId, &[u8])>, Errno> {
        let name = self.nth_name(self.index(node)?, at);
        Ok(name.map(|(parent, name)| (id(self.slot(parent).generation, parent), name)))
    }

    fn nth_name(&self, index: u32, at: usize) -> Option<(u32, &[u8])> {
        let slot = self.slot(index);
        let (parent, name) = match at {
            0 => (slot.parent, &slot.name),
            _ if !slot.has_aliases => return None,
            at => {
                let (parent, name) = self.aliases.get(&index)?.iter().rev().nth(at - 1)?;
                (*parent, name)
            }
        };
        (parent != NONE).then_some((parent, name))
    }

    /// The way down to the `at`-th name of a node: calls `stop` with each directory upwards from
    /// its parent until that gives a base (or the root is reached), and leaves the names below it
    /// in `path`. None if there is no such name.
    pub fn way<T>(
        &self,
        node: NodeId,
        at: usize,
        path: &mut Vec<u8>,
        mut stop: impl FnMut(NodeId, &Node) -> Option<T>,
    ) -> Result<Option<Way<T>>, Errno> {
        let Some((mut parent, name)) = self.nth_name(self.index(node)?, at) else {
            return Ok(None);
        };
        path.clear();
        path.extend(name.iter().rev());
        for _ in 0..MAX_DEPTH {
            let slot = self.slot(parent);
            let base = stop(id(slot.generation, parent), &self.node(parent));
            if base.is_some() || slot.root {
                path.reverse();
                return Ok(Some(base.map_or(Way::Root, Way::Base)));
            }
            if slot.parent == NONE {
                return Ok(None);
            }
            path.push(b'/');
            path.extend(slot.name.iter().rev());
            parent = slot.parent;
        }
        Err(Errno::ESTALE)
    }

    /// The guest makes use of this directory. Tells whether the observer has been told of it.
    pub fn make_use(&mut self, node: NodeId) -> bool {
        let Ok(index) = self.index(node) else { return false };
        if self.uses == 0 || self.last_used != index {
            self.last_used = index;
            self.uses = self.uses.checked_add(1).unwrap_or(1);
        }
        let uses = self.uses;
        let slot = self.slot_mut(index);
        slot.used = uses;
        slot.watched
    }

    /// How often the guest has turned from one directory to another. Begins anew at the end of the
    /// number: what was not used since then is taken for used lately.
    pub fn uses(&self) -> u32 {
        self.uses
    }

    /// When the guest last made use of a directory.
    pub fn recency(&self, node: NodeId) -> Recency {
        match self.index(node).map(|index| self.slot(index).used) {
            Ok(0) | Err(_) => Recency::NEVER,
            Ok(used) => Recency(u32::MAX - self.uses.wrapping_sub(used)),
        }
    }

    /// Whether the observer has been told of this directory.
    pub fn is_watched(&self, node: NodeId) -> bool {
        self.index(node).is_ok_and(|index| self.slot(index).watched)
    }

    /// Notes whether it has.
    pub fn set_watched(&mut self, node: NodeId, watched: bool) {
        if let Ok(index) = self.index(node) {
            self.slot_mut(index).watched = watched;
        }
    }

    /// Removes all nodes of an attachment.
    pub fn detach(&mut self, attachment: u16) {
        for index in 0..self.slots.len() as u32 {
            let slot = self.slot_mut(index);
            if !slot.live || slot.attachment != attachment {
                continue;
            }
            slot.live = false;
            slot.generation = slot.generation.saturating_add(1);
            slot.name = Box::default();
            slot.parent = NONE;
            slot.lookups = 0;
            let (mapped, key) = (slot.mapped, (slot.identity.dev, slot.identity.ino, attachment));
            if mapped {
                self.by_object.remove(&key);
            }
            self.aliases.remove(&index);
            self.free.push(index);
            self.live -= 1;
        }
    }
}

/// Where a way begins.
#[derive(Debug, PartialEq, Eq)]
pub enum Way<T> {
    /// At the root of the attachment.
    Root,
    /// At a base that was found on the way.
    Base(T),
}

#[cfg(test)]
mod tests;
