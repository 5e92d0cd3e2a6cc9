//! Descriptors of the directories used last, of all sessions together.
//!
//! A descriptor here is trusted for [`TRUSTED`]; then the directory's path is walked again, so that
//! one that was moved out of the export is lost to the guest soon after.

use parking_lot::Mutex;
use protocol::NodeId;
use rustc_hash::FxHashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long a directory is believed to be where it was.
const TRUSTED: Duration = Duration::from_secs(1);

/// The cache. A leaf lock, held for no system call.
#[derive(Debug)]
pub(crate) struct DirCache {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: FxHashMap<(u64, NodeId), Cached>,
    clock: u64,
}

#[derive(Debug)]
struct Cached {
    fd: Arc<OwnedFd>,
    checked: Instant,
    used: u64,
}

impl DirCache {
    /// For a process that may have so many descriptors: 32 of 1024.
    pub fn new(descriptors: u64) -> Self {
        let capacity = (descriptors / 32).clamp(8, 512) as usize;
        Self { capacity, inner: Mutex::default() }
    }

    /// A descriptor of a directory of a session, if there is one to be trusted.
    pub fn get(&self, session: u64, dir: NodeId) -> Option<Arc<OwnedFd>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let cached = inner.entries.get_mut(&(session, dir))?;
        if cached.checked.elapsed() > TRUSTED {
            return None;
        }
        cached.used = clock;
        Some(cached.fd.clone())
    }

    /// Keeps a descriptor that was found to be right just now.
    pub fn put(&self, session: u64, dir: NodeId, fd: Arc<OwnedFd>) {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let cached = Cached { fd, checked: Instant::now(), used: inner.clock };
        let replaced = inner.entries.insert((session, dir), cached);
        let mut evicted = None;
        if inner.entries.len() > self.capacity {
            let oldest = inner.entries.iter().min_by_key(|(_, c)| c.used).map(|(key, _)| *key);
            evicted = oldest.and_then(|key| inner.entries.remove(&key));
        }
        drop(inner);
        drop((replaced, evicted)); // closing is a system call
    }

    /// Gives up a directory.
    pub fn remove(&self, session: u64, dir: NodeId) {
        let removed = self.inner.lock().entries.remove(&(session, dir));
        drop(removed);
    }

    /// Gives up all of a session's.
    pub fn clear(&self, session: u64) {
        let mut inner = self.inner.lock();
        let gone: Vec<Cached> =
            inner.entries.extract_if(|key, _| key.0 == session).map(|(_, cached)| cached).collect();
        drop(inner);
        drop(gone);
    }
}
