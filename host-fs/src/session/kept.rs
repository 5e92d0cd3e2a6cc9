//! What a guest removed and may still use: a fifo that it has open (of which the server knows
//! nothing), the working directory of a process, a link held with `O_PATH`. Such an object has no
//! name by which to find it again, so a descriptor of it is kept from its removal until the guest
//! forgets the node. Not of a file: its space must be free when its removal returns.

use super::Session;
use super::handle_request::Result;
use super::locate::Dir;
use crate::handle::Permit;
use crate::os::{self, Stat};
use protocol::{NodeId, mode};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Most objects that one session keeps; the oldest go first.
const MOST: usize = 64;

/// An object without a name.
#[derive(Debug)]
pub(super) struct Kept {
    fd: Arc<OwnedFd>,
    _permit: Permit,
}

/// The objects of a session, oldest first.
#[derive(Debug, Default)]
pub(super) struct KeptTable(VecDeque<(NodeId, Kept)>);

impl KeptTable {
    pub fn get(&self, node: NodeId) -> Option<Arc<OwnedFd>> {
        self.0.iter().find(|(of, _)| *of == node).map(|(_, kept)| kept.fd.clone())
    }

    /// What is returned is to be dropped without the lock, as closing is a system call.
    pub fn remove(&mut self, node: NodeId) -> Option<Kept> {
        let at = self.0.iter().position(|(of, _)| *of == node)?;
        self.0.remove(at).map(|(_, kept)| kept)
    }

    /// Takes those out of whose node this holds; to be dropped without the lock.
    pub fn take_if(&mut self, gone: impl Fn(NodeId) -> bool) -> Self {
        let all = std::mem::take(&mut self.0).into_iter();
        let (taken, rest) = all.partition(|(node, _)| gone(*node));
        self.0 = rest;
        Self(taken)
    }

    fn put(&mut self, node: NodeId, kept: Kept) -> Option<Kept> {
        let old = self.remove(node);
        self.0.push_back((node, kept));
        let surplus = self.0.len() > MOST;
        old.or_else(|| surplus.then(|| self.0.pop_front().map(|(_, kept)| kept)).flatten())
    }
}

impl Session {
    /// A descriptor of an object whose last name is about to go, if the guest knows it by `node` and
    /// it is no file.
    pub(super) fn last_look(
        &self,
        dir: &Dir,
        name: &[u8],
        stat: &Stat,
        node: Option<NodeId>,
    ) -> Option<(NodeId, Kept)> {
        let node = node?;
        let kind = stat.mode & mode::IFMT;
        if kind == mode::IFREG || stat.nlink > 1 && kind != mode::IFDIR {
            return None;
        }
        let permit = self.share.take().ok()?;
        let fd = os::open_beneath(dir.as_fd(), name).ok()?;
        let found = os::stat(fd.as_fd()).ok()?;
        let same = dir.export.identity(&found) == dir.export.identity(stat);
        same.then(|| (node, Kept { fd: Arc::new(fd), _permit: permit }))
    }

    /// Its name has gone.
    pub(super) fn keep(&self, kept: Option<(NodeId, Kept)>) {
        let Some((node, kept)) = kept else { return };
        let mut state = self.state.lock();
        let surplus = match state.nodes.get(node) {
            Ok(_) => state.kept.put(node, kept),
            // The guest forgot it meanwhile.
            Err(_) => Some(kept),
        };
        drop(state);
        drop(surplus);
    }

    /// The right to one more handle, for which what is kept gives way.
    pub(super) fn permit(&self) -> Result<Permit> {
        self.share.take().or_else(|_| {
            let kept = std::mem::take(&mut self.state.lock().kept);
            drop(kept);
            self.share.take()
        })
    }
}
