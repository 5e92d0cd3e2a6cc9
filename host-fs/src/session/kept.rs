//! What a guest removed and may still use: a fifo that it has open (of which the server knows
//! nothing), the working directory of a process, a link held with `O_PATH`. Such an object has no
//! name by which to find it again, so a descriptor of it is kept from its removal until the guest
//! forgets the node. Not of a file: its space must be free when its removal returns.
//!
//! And what a guest has just found and is about to open: whoever saves by renaming over a file does so
//! between the two, and if that happens each time the guest tries, opening fails. So of small files
//! that are new, a few are kept for the moment.

use super::Session;
use super::handle_request::Result;
use super::locate::Dir;
use crate::handle::Permit;
use crate::os::{self, Stat};
use protocol::{NodeId, mode};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Most objects that one session keeps from their removal; the oldest go first.
const MOST: usize = 64;
/// Most files that one session keeps from when they are found, and in bytes how large they may be: if
/// the host removes them, their space is free only when others have come.
const MOST_NEW: usize = 8;
const MOST_BYTES: u64 = 1 << 20;
/// For so many nanoseconds after its last change a file is new. A file that is replaced less often than
/// that is opened in between.
const NEW: i64 = 1_000_000_000;

/// An object that may have no name.
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

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
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

    fn put(&mut self, node: NodeId, kept: Kept, most: usize) -> Option<Kept> {
        let old = self.remove(node);
        self.0.push_back((node, kept));
        let surplus = self.0.len() > most;
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
        self.hold(dir, name, stat).map(|kept| (node, kept))
    }

    /// A descriptor of what was found under a name, if it is still there.
    fn hold(&self, dir: &Dir, name: &[u8], stat: &Stat) -> Option<Kept> {
        let permit = self.share.take().ok()?;
        let fd = os::open_beneath(dir.as_fd(), name).ok()?;
        let found = os::stat(fd.as_fd()).ok()?;
        let same = dir.export.identity(&found) == dir.export.identity(stat);
        same.then(|| Kept { fd: Arc::new(fd), _permit: permit })
    }

    /// A guest has found a file, and may be about to open it.
    pub(super) fn keep_new(&self, dir: &Dir, name: &[u8], stat: &Stat, node: NodeId) {
        let is_small = stat.mode & mode::IFMT == mode::IFREG && stat.size <= MOST_BYTES;
        let age = os::now().nanoseconds().saturating_sub(stat.ctime.nanoseconds());
        if !is_small || age >= NEW || self.state.lock().found.get(node).is_some() {
            return;
        }
        let Some(kept) = self.hold(dir, name, stat) else { return };
        let surplus = self.state.lock().found.put(node, kept, MOST_NEW);
        drop(surplus);
    }

    /// Its name has gone.
    pub(super) fn keep(&self, kept: Option<(NodeId, Kept)>) {
        let Some((node, kept)) = kept else { return };
        let mut state = self.state.lock();
        let surplus = match state.nodes.get(node) {
            Ok(_) => state.kept.put(node, kept, MOST),
            // The guest forgot it meanwhile.
            Err(_) => Some(kept),
        };
        drop(state);
        drop(surplus);
    }

    /// The right to one more handle, for which what is kept gives way.
    pub(super) fn permit(&self) -> Result<Permit> {
        self.share.take().or_else(|_| {
            let kept = {
                let state = &mut *self.state.lock();
                (std::mem::take(&mut state.kept), std::mem::take(&mut state.found))
            };
            drop(kept);
            self.share.take()
        })
    }
}
