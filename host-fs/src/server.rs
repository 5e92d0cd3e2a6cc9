//! The server: exports, sessions, and what all sessions share.

use crate::counters::SessionCounters;
use crate::dirs::DirCache;
use crate::error::Error;
use crate::export::Export;
pub use crate::export::ExportConfig;
use crate::handle::Budget;
use crate::host_locks::HostLocks;
use crate::locks::LockTable;
use crate::mounts::OwnMounts;
use crate::observe::{Blind, Observe};
use crate::os;
use crate::session::Waiting;
pub use crate::session::{Responder, Session};
pub use crate::status::Status;
use parking_lot::Mutex;
use protocol::Notice;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tracing::{debug, info};

/// The peer is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

/// Where a session sends its notices.
pub trait NoticeSink: Send + Sync {
    /// Sends one. May wait for the peer.
    ///
    /// # Errors
    /// [`Closed`] if the peer is gone.
    fn notice(&self, notice: &Notice<'_>) -> Result<(), Closed>;
}

/// What is not about one export.
#[derive(Clone, Default)]
pub struct ServerOptions {
    /// Mounts of this process on this kernel, if host and guest are one.
    pub own_mounts: OwnMounts,
    /// Who watches the host; by default nobody.
    pub observe: Option<Arc<dyn Observe>>,
}

/// What all connections share.
pub struct Server {
    exports: Vec<Arc<Export>>,
    sessions: Mutex<FxHashMap<u64, Weak<Session>>>,
    next_session: AtomicU64,
    pub(crate) own_mounts: OwnMounts,
    pub(crate) observe: Arc<dyn Observe>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) dirs: DirCache,
    /// A leaf: waiters are answered after it is let go.
    pub(crate) locks: Mutex<LockTable<Waiting>>,
    pub(crate) host_locks: HostLocks,
    /// What sessions that are over have done.
    pub(crate) ended: SessionCounters,
}

impl Server {
    /// Opens the exports. Raises the process's limit of descriptors as far as it may, and clears
    /// its umask.
    ///
    /// # Errors
    /// [`Error`] for a folder that cannot be shared and names that are bad or double.
    pub fn new(exports: Vec<ExportConfig>, options: ServerOptions) -> Result<Arc<Self>, Error> {
        let descriptors = os::raise_descriptor_limit();
        os::clear_umask();
        Self::with_descriptors(exports, options, descriptors)
    }

    /// A server that plans with so many descriptors.
    pub(crate) fn with_descriptors(
        exports: Vec<ExportConfig>,
        options: ServerOptions,
        descriptors: u64,
    ) -> Result<Arc<Self>, Error> {
        let mut opened: Vec<Arc<Export>> = Vec::with_capacity(exports.len());
        for config in exports {
            if opened.iter().any(|other| other.config.name == config.name) {
                return Err(Error::DuplicateExport(config.name));
            }
            opened.push(Arc::new(Export::open(config)?));
        }
        let budget = Arc::new(Budget::new(descriptors));
        info!(descriptors, handles = budget.limit(), exports = opened.len(), "serving");
        Ok(Arc::new(Self {
            exports: opened,
            sessions: Mutex::default(),
            next_session: AtomicU64::new(1),
            own_mounts: options.own_mounts,
            observe: options.observe.unwrap_or_else(|| Arc::new(Blind)),
            budget,
            dirs: DirCache::new(descriptors),
            locks: Mutex::default(),
            host_locks: HostLocks::default(),
            ended: SessionCounters::default(),
        }))
    }

    /// Begins a session for an agent. Ended by [`Session::close`] or when it is dropped.
    ///
    /// # Errors
    /// [`Error`] if no more agents can be served.
    pub fn connect(
        self: &Arc<Self>,
        name: &str,
        notices: Arc<dyn NoticeSink>,
    ) -> Result<Arc<Session>, Error> {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let session = Session::new(id, name, self.clone(), notices);
        self.sessions.lock().insert(id, Arc::downgrade(&session));
        debug!(id, name, "session begins");
        Ok(session)
    }

    pub(crate) fn disconnect(&self, id: u64) {
        self.sessions.lock().remove(&id);
        debug!(id, "session ends");
    }

    /// The sessions there are.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().values().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn exports(&self) -> &[Arc<Export>] {
        &self.exports
    }

    pub(crate) fn export(&self, name: &[u8]) -> Option<Arc<Export>> {
        self.exports.iter().find(|export| export.config.name.as_bytes() == name).cloned()
    }

    /// Figures for people and for monitoring.
    pub fn status(&self) -> Status {
        Status::of(self)
    }
}
