//! What the guest itself did while directories were compared: it is no news to anybody here.

use crate::fuse::request::{Operation, Request};
use crate::nodes::NodeTable;
use parking_lot::Mutex;
use protocol::{Change, NodeId, Place};
use rustc_hash::FxHashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Deeds that are kept. What is beyond may come back as an event.
const MOST: usize = 100_000;

/// The deeds of one mount, kept while a comparison is under way.
#[derive(Debug, Default)]
pub struct Own {
    keeping: AtomicUsize,
    deeds: Mutex<Deeds>,
}

#[derive(Debug, Default)]
struct Deeds {
    /// Names that it made, removed or renamed, by the kernel's number of the directory.
    names: FxHashSet<(u64, Box<[u8]>)>,
    /// Objects that it changed, by the kernel's number.
    nodes: FxHashSet<u64>,
}

impl Own {
    /// A comparison begins.
    pub fn keep(&self) {
        self.keeping.fetch_add(1, Ordering::AcqRel);
    }

    /// It has ended, and all that it found is delivered.
    pub fn release(&self) {
        if self.keeping.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.deeds.lock() = Deeds::default();
        }
    }

    /// The guest has done this.
    pub fn note(&self, request: &Request<'_>) {
        if self.keeping.load(Ordering::Acquire) == 0 {
            return;
        }
        let node = request.node();
        let deeds = &mut *self.deeds.lock();
        if deeds.names.len() + deeds.nodes.len() >= MOST {
            return;
        }
        let mut name = |dir: u64, name: &[u8]| _ = deeds.names.insert((dir, name.into()));
        match &request.operation {
            Operation::MkNod { name: of, .. }
            | Operation::MkDir { name: of, .. }
            | Operation::SymLink { name: of, .. }
            | Operation::Link { name: of, .. }
            | Operation::Create { name: of, .. }
            | Operation::Unlink { name: of }
            | Operation::RmDir { name: of } => name(node, of.as_bytes()),
            Operation::Rename { name: of, new_parent, new_name, .. } => {
                name(node, of.as_bytes());
                name(*new_parent, new_name.as_bytes());
            }
            Operation::Write { .. }
            | Operation::SetAttr { .. }
            | Operation::Fallocate { .. }
            | Operation::CopyFileRange { .. } => _ = deeds.nodes.insert(node),
            _ => {}
        }
    }

    /// Whether a difference that was found is the guest's own work.
    pub fn did(&self, nodes: &NodeTable, change: &Change<'_>) -> bool {
        let deeds = self.deeds.lock();
        let name = |at: &Place<'_>| {
            let dir = nodes.local(at.parent);
            dir.is_some_and(|dir| deeds.names.contains(&(dir.0, at.name.as_bytes().into())))
        };
        let object =
            |node: NodeId| nodes.local(node).is_some_and(|node| deeds.nodes.contains(&node.0));
        match change {
            Change::Created { at, .. } | Change::Removed { at, .. } | Change::Passed { at, .. } => {
                name(at)
            }
            Change::Renamed { from, to, .. } => name(from) || name(to),
            Change::Modified { at, entry, .. } => name(at) || object(entry.node),
            Change::Attrib { at, entry } => at.as_ref().is_some_and(name) || object(entry.node),
            Change::Doubt { .. } => false,
        }
    }
}
