//! Open files and directories, and the budget of descriptors that they are paid from.

use crate::export::Export;
use crate::node::Identity;
use crate::os::DirStream;
use parking_lot::{Mutex, MutexGuard};
use protocol::{Errno, HandleId, NodeId, OpenFlags};
use rustc_hash::FxHashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Descriptors that are not for handles: sockets, watches, roots, cached directories, and what
/// requests need for a moment.
const RESERVED: u64 = 124;
/// Most handles that any server gives out, however high the limit.
const MOST: u64 = 1 << 20;

/// How many handles there may be.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
    sessions: AtomicUsize,
}

impl Budget {
    /// For a process that may have so many descriptors.
    pub fn new(descriptors: u64) -> Self {
        let limit = descriptors.saturating_sub(RESERVED).clamp(16, MOST) as usize;
        Self { limit, used: AtomicUsize::new(0), sessions: AtomicUsize::new(0) }
    }

    /// Handles of all sessions together.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Enters a session.
    pub fn join(self: &Arc<Self>) -> Arc<Share> {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Arc::new(Share { budget: self.clone(), used: AtomicUsize::new(0) })
    }
}

/// One session's part of the budget.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    used: AtomicUsize,
}

impl Share {
    /// What this session may hold now: all of it when alone, or three quarters.
    pub fn limit(&self) -> usize {
        let limit = self.budget.limit;
        if self.budget.sessions.load(Ordering::Relaxed) > 1 { limit / 4 * 3 } else { limit }
    }

    /// How many handles it holds.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes one. `EMFILE` if there is none left.
    pub fn take(self: &Arc<Self>) -> Result<Permit, Errno> {
        if !take_below(&self.used, self.limit()) {
            return Err(Errno::EMFILE);
        }
        if !take_below(&self.budget.used, self.budget.limit) {
            self.used.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::EMFILE);
        }
        Ok(Permit(self.clone()))
    }
}

fn take_below(count: &AtomicUsize, limit: usize) -> bool {
    let more = |used| (used < limit).then_some(used + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to one descriptor, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Share>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
        self.0.budget.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub fd: OwnedFd,
    pub node: NodeId,
    pub identity: Identity,
    pub export: Arc<Export>,
    pub attachment: u16,
    pub flags: OpenFlags,
    pub _permit: Permit,
}

impl OpenFile {
    /// Whether it was opened to write.
    pub fn writable(&self) -> bool {
        self.flags.intersects(OpenFlags::WRONLY | OpenFlags::RDWR)
    }
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct OpenDir {
    pub stream: Mutex<DirStream>,
    pub node: NodeId,
    pub identity: Identity,
    pub export: Arc<Export>,
    pub attachment: u16,
    pub _permit: Permit,
}

impl OpenDir {
    /// The stream, unless a listing is under way: that one may be what asks (through the observer),
    /// so nobody waits for it. `ESTALE` makes the guest try again.
    pub fn quiet(&self) -> Result<MutexGuard<'_, DirStream>, Errno> {
        self.stream.try_lock().ok_or(Errno::ESTALE)
    }
}

/// Either.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    File(Arc<OpenFile>),
    Dir(Arc<OpenDir>),
}

impl Handle {
    pub fn node(&self) -> NodeId {
        match self {
            Self::File(file) => file.node,
            Self::Dir(dir) => dir.node,
        }
    }

    fn attachment(&self) -> u16 {
        match self {
            Self::File(file) => file.attachment,
            Self::Dir(dir) => dir.attachment,
        }
    }
}

/// The handles of one session. A [`HandleId`] is a slot number and a generation, as a node's.
#[derive(Debug, Default)]
pub(crate) struct HandleTable {
    slots: Vec<(u32, Option<Handle>)>,
    free: Vec<u32>,
    /// The handles of each node that has any.
    by_node: FxHashMap<NodeId, Vec<HandleId>>,
}

impl HandleTable {
    pub fn insert(&mut self, handle: Handle) -> HandleId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((1, None));
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let id = HandleId(u64::from(slot.0) << 32 | u64::from(index));
        self.by_node.entry(handle.node()).or_default().push(id);
        slot.1 = Some(handle);
        id
    }

    fn slot(&self, id: HandleId) -> Option<&Handle> {
        let (generation, handle) = self.slots.get(id.0 as u32 as usize)?;
        handle.as_ref().filter(|_| u64::from(*generation) == id.0 >> 32)
    }

    /// `ESTALE` for a number that is not valid.
    pub fn get(&self, id: HandleId) -> Result<Handle, Errno> {
        self.slot(id).cloned().ok_or(Errno::ESTALE)
    }

    /// `EBADF` for a directory.
    pub fn file(&self, id: HandleId) -> Result<Arc<OpenFile>, Errno> {
        match self.slot(id).ok_or(Errno::ESTALE)? {
            Handle::File(file) => Ok(file.clone()),
            Handle::Dir(_) => Err(Errno::EBADF),
        }
    }

    /// `ENOTDIR` for a file.
    pub fn dir(&self, id: HandleId) -> Result<Arc<OpenDir>, Errno> {
        match self.slot(id).ok_or(Errno::ESTALE)? {
            Handle::Dir(dir) => Ok(dir.clone()),
            Handle::File(_) => Err(Errno::ENOTDIR),
        }
    }

    /// An open file of a node, a writable one if there is one.
    pub fn of_node(&self, node: NodeId) -> Option<Handle> {
        let ids = self.by_node.get(&node)?;
        let mut handles = ids.iter().filter_map(|id| self.slot(*id));
        let writable = |h: &&Handle| matches!(h, Handle::File(file) if file.writable());
        handles.clone().find(writable).or_else(|| handles.next()).cloned()
    }

    pub fn remove(&mut self, id: HandleId) -> Result<Handle, Errno> {
        let handle = self.get(id)?;
        let index = id.0 as u32;
        let slot = &mut self.slots[index as usize];
        slot.0 = slot.0.wrapping_add(1);
        slot.1 = None;
        // A slot whose numbers have all been used is left alone.
        if slot.0 != 0 {
            self.free.push(index);
        }
        if let Some(ids) = self.by_node.get_mut(&handle.node()) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_node.remove(&handle.node());
            }
        }
        Ok(handle)
    }

    /// Removes those of one attachment, or all.
    pub fn remove_all(&mut self, attachment: Option<u16>) -> Vec<(HandleId, Handle)> {
        let ids: Vec<HandleId> = (0..)
            .zip(&self.slots)
            .filter(|(_, (_, handle))| {
                handle.as_ref().is_some_and(|h| attachment.is_none_or(|a| a == h.attachment()))
            })
            .map(|(index, (generation, _)): (u64, _)| {
                HandleId(u64::from(*generation) << 32 | index)
            })
            .collect();
        ids.into_iter().filter_map(|id| self.remove(id).ok().map(|handle| (id, handle))).collect()
    }
}
