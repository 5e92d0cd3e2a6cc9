//! What the kernel is told before its events are fired: that what it remembers is void.
//!
//! Notices need `/dev/fuse`, which the [`hand`](super::hand) does not have. So the worker gives those
//! that a change needs first, before it hands the change over, and at the end those that the hand left
//! for it. Only where a call did not go as it should the hand asks for more on the way.

use crate::fuse::abi;
use crate::fuse::session::{Session, entry_of};
use crate::nodes::LocalId;
use crate::recover;
use protocol::{Change, Entry, NodeId, Place};

/// Nodes in one notice.
const PRUNE_BATCH: usize = 256;

/// A notice to the kernel.
#[derive(Debug)]
pub enum Notice {
    /// The attributes of a node are void.
    Attributes(LocalId),
    /// And its pages.
    Pages(LocalId),
    /// A name is not to be believed any more.
    Name(LocalId, Box<[u8]>),
    /// A node is out of sight: nothing is to be believed of it and of what is below, and what nobody
    /// uses is to be forgotten.
    OutOfSight(LocalId),
}

impl Notice {
    /// Gives it. It fails where the kernel does not have the node or name, which is as good. May ask the
    /// server.
    pub fn give(&self, session: &Session) {
        match self {
            Self::Attributes(node) => _ = session.device.invalidate_inode(node.0, -1, 0),
            Self::Pages(node) => drop_pages(session, *node),
            Self::Name(parent, name) => expire(session, *parent, name),
            Self::OutOfSight(node) => out_of_sight(session, *node),
        }
    }
}

/// Drops attributes and pages of a node, but the pages of a file that is open here alone and that the
/// server can not open any more: nobody else has its content.
fn drop_pages(session: &Session, node: LocalId) {
    // First, so that it is not opened here alone from now on.
    session.nodes.note_dropped(node);
    let is_last = session.handles.unopened_of(node).is_some_and(|(fh, may_be_opened)| {
        let is_file = session.handles.opened(fh).is_some_and(|of| !of.directory);
        is_file && !(may_be_opened && recover::open_here(session, fh))
    });
    _ = session.device.invalidate_inode(node.0, if is_last { -1 } else { 0 }, 0);
}

fn out_of_sight(session: &Session, node: LocalId) {
    let mut nodes = Vec::new();
    for (local, parent, name) in session.nodes.below(node) {
        expire(session, parent, &name);
        nodes.push(local.0);
    }
    nodes.push(node.0);
    for node in &nodes {
        session.nodes.distrust(LocalId(*node));
        drop_pages(session, LocalId(*node));
    }
    // Older kernels forget when they need the memory.
    let agreed = session.negotiated().map(|agreed| agreed.out.minor);
    if agreed.is_some_and(|minor| minor >= abi::notify::PRUNE_MINOR) {
        for batch in nodes.chunks(PRUNE_BATCH) {
            _ = session.device.prune(batch);
        }
    }
}

/// A name expires.
fn expire(session: &Session, parent: LocalId, name: &[u8]) {
    let device = &session.device;
    if session.negotiated().is_some_and(|agreed| agreed.expire_only) {
        _ = device.expire_entry(parent.0, name);
    } else if session.nodes.child(parent, name).is_none() {
        // The name is dropped, which is safe only where nothing is there that something could be
        // mounted on.
        _ = device.invalidate_entry(parent.0, name);
    }
}

/// What the worker found when it prepared a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Prepared {
    /// The names are cached in the state before the change, and were left so: acting on them costs no
    /// lookup. Otherwise they have expired.
    pub as_before: bool,
    /// Content, owner and permissions of an object whose attributes are told are known already.
    pub nothing_new: bool,
    /// The node was known, and what the kernel has of it is void.
    pub refreshed: bool,
}

/// Takes in what is new and declares void what the kernel has, for a change, or two that are an
/// exchange.
pub(super) fn prepare(
    session: &Session,
    change: &Change<'_>,
    other: Option<&Change<'_>>,
) -> Prepared {
    let nodes = &session.nodes;
    let nothing_new = match change {
        Change::Attrib { entry, .. } => {
            nodes.local(entry.node).is_some_and(|local| nodes.is_as_known(local, &entry.attr))
        }
        _ => false,
    };
    let refreshed = entry_of(change).is_some_and(|entry| nodes.local(entry.node).is_some());
    for entry in [Some(change), other].into_iter().flatten().filter_map(entry_of) {
        refresh(session, entry, matches!(change, Change::Modified { .. }));
    }
    let leads = |at: &Place<'_>, node: NodeId| {
        let Some(parent) = nodes.local(at.parent) else { return false };
        nodes.child(parent, at.name.as_bytes()) == nodes.local(node)
    };
    let known = |node: NodeId| nodes.local(node).is_some();
    let (names, as_before) = match change {
        Change::Created { at, .. } | Change::Passed { at, .. } => ([Some(*at), None], false),
        Change::Removed { at, node, .. } => ([Some(*at), None], known(*node) && leads(at, *node)),
        Change::Modified { at, entry, .. } | Change::Attrib { at: Some(at), entry } => {
            ([Some(*at), None], known(entry.node) && leads(at, entry.node))
        }
        Change::Renamed { from, to, entry, replaced } => {
            let as_before = known(entry.node)
                && leads(from, entry.node)
                && leads(to, *replaced)
                && (*replaced == NodeId(0) || known(*replaced));
            ([Some(*from), Some(*to)], as_before)
        }
        Change::Attrib { at: None, .. } | Change::Doubt { .. } => ([None, None], true),
    };
    if !as_before {
        for at in names.iter().flatten() {
            if let Some(parent) = nodes.local(at.parent) {
                expire(session, parent, at.name.as_bytes());
            }
        }
    }
    Prepared { as_before, nothing_new, refreshed }
}

/// Whoever looks from now on sees what is new of a node.
fn refresh(session: &Session, entry: &Entry, content: bool) {
    if let Some(local) = session.nodes.local(entry.node) {
        let grown = session.nodes.note_attr(local, &entry.attr);
        // The kernel would show zeros for what its pages do not reach.
        let notice =
            if content || grown { Notice::Pages(local) } else { Notice::Attributes(local) };
        notice.give(session);
    }
}
