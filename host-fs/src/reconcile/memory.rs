//! What one guest was told: a few fingerprints for each name and node, about 130 bytes and the name.

use super::Events;
use protocol::{Attr, NodeId};
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Fingerprints of a node's state. Equal fingerprints are taken for equal state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Print {
    /// Of size and modification time; the same for all directories, whose content are their names.
    pub content: u64,
    /// Of mode, owner, group and (except for directories) link count.
    pub attrs: u32,
    /// Change time in nanoseconds: tells extended attributes, and older from newer.
    pub ctime: i64,
}

impl Print {
    /// Of these attributes. The link count is not among them: it changes with a name, and the
    /// kernel tells of it when that name is made or removed.
    pub fn of(attr: &Attr) -> Self {
        let content =
            if attr.is_dir() { 0 } else { hash(&(attr.size, attr.mtime.sec, attr.mtime.nsec)) };
        let attrs = hash(&(attr.mode, attr.uid, attr.gid)) as u32;
        Self { content, attrs, ctime: attr.ctime.nanoseconds() }
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What a node's guest knows of it.
#[derive(Clone, Debug)]
pub struct Known {
    /// A directory with a name of the node.
    pub parent: NodeId,
    /// The name there.
    pub name: Arc<[u8]>,
    /// The state told last.
    pub print: Print,
    /// Events that are still to come although the state was told already: the next hint of the
    /// kind is delivered whatever the comparison says.
    pub owed: Events,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// How many names it had when it was told last.
    pub links: u32,
}

/// Names and nodes.
#[derive(Debug, Default)]
pub struct Memory {
    dirs: FxHashMap<NodeId, FxHashMap<Arc<[u8]>, NodeId>>,
    nodes: FxHashMap<NodeId, Known>,
}

impl Memory {
    /// Remembers names of this directory from now on.
    pub fn watch(&mut self, dir: NodeId) {
        self.dirs.entry(dir).or_default();
    }

    /// Forgets all names of this directory.
    pub fn unwatch(&mut self, dir: NodeId) {
        self.dirs.remove(&dir);
    }

    /// Whether names of this directory are remembered.
    pub fn is_watched(&self, dir: NodeId) -> bool {
        self.dirs.contains_key(&dir)
    }

    /// The watched directories.
    pub fn watched(&self) -> impl Iterator<Item = NodeId> {
        self.dirs.keys().copied()
    }

    /// How many they are.
    pub fn watched_len(&self) -> usize {
        self.dirs.len()
    }

    /// The names told in a directory.
    pub fn names(&self, dir: NodeId) -> Vec<Arc<[u8]>> {
        self.dirs.get(&dir).map(|names| names.keys().cloned().collect()).unwrap_or_default()
    }

    /// What the name leads to, as far as the guest was told.
    pub fn at(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        self.dirs.get(&dir)?.get(name).copied()
    }

    /// What is known of a node.
    pub fn node(&self, node: NodeId) -> Option<&Known> {
        self.nodes.get(&node)
    }

    /// The same, to be changed.
    pub fn node_mut(&mut self, node: NodeId) -> Option<&mut Known> {
        self.nodes.get_mut(&node)
    }

    /// The name leads to this node, whose state is `attr` unless something newer is known. Gives
    /// the state known before, and what else the name led to.
    pub fn tell(
        &mut self,
        dir: NodeId,
        name: &[u8],
        node: NodeId,
        attr: &Attr,
    ) -> (Option<Print>, Option<NodeId>) {
        let print = Print::of(attr);
        let known = self.nodes.get_mut(&node);
        let before = known.as_ref().map(|known| known.print);
        let name = match known {
            Some(known) => {
                if known.parent != dir || *known.name != *name {
                    (known.parent, known.name) = (dir, name.into());
                }
                if known.print.ctime <= print.ctime {
                    known.print = print;
                    known.links = attr.nlink;
                }
                known.name.clone()
            }
            None => {
                let name: Arc<[u8]> = name.into();
                let known = Known {
                    parent: dir,
                    name: name.clone(),
                    print,
                    owed: Events::empty(),
                    is_dir: attr.is_dir(),
                    links: attr.nlink,
                };
                self.nodes.insert(node, known);
                name
            }
        };
        let other = self.dirs.get_mut(&dir).and_then(|names| names.insert(name, node));
        (before, other.filter(|other| *other != node))
    }

    /// The name leads nowhere. Gives what it led to.
    pub fn tell_none(&mut self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        self.dirs.get_mut(&dir)?.remove(name)
    }

    /// The name leads to this node, of which nothing new is known.
    pub fn rename(&mut self, dir: NodeId, name: &[u8], node: NodeId) {
        let name: Arc<[u8]> = name.into();
        if let Some(known) = self.nodes.get_mut(&node) {
            (known.parent, known.name) = (dir, name.clone());
        }
        if let Some(names) = self.dirs.get_mut(&dir) {
            names.insert(name, node);
        }
    }

    /// The guest knows the node no longer.
    pub fn forget(&mut self, node: NodeId) {
        self.dirs.remove(&node);
        let Some(known) = self.nodes.remove(&node) else { return };
        if let Some(names) = self.dirs.get_mut(&known.parent)
            && names.get(&known.name) == Some(&node)
        {
            names.remove(&known.name);
        }
    }

    /// A new beginning.
    pub fn clear(&mut self) {
        self.dirs.clear();
        self.nodes.clear();
    }
}
