//! Drives the [reconciler](crate::reconcile) of one session: hints in, notices out.
//!
//! ```text
//! request threads ── Observer ──┐
//!                               ├─ core (lock) ── changes ── Session::renamed, removed ── Notice
//! this thread ── HintSource ────┘     │
//!              acknowledged ──────────┴─ no more hints are judged while too much is unacknowledged
//! ```
//!
//! What the thread does stands in `run`.
//!
//! Lock order: `core`, then the session's `state` (through [`Lookup`](crate::reconcile::Lookup)), then `leases`. The session
//! calls the observer with none of its locks held; what it reports of calls that this very thread
//! makes is ignored, for the reconciler knows it already and `core` may be held. `unwatched`, `guests` and
//! the other locks are leaves.

use super::heard::Heard;
use super::run::{Loop, Moment};
use super::{HintSource, WatchError, WatchKey};
use crate::export::Export;
use crate::observe::{Act, Blind, Done, Figures, Glance, Observe, Observer};
use crate::os;
use crate::reconcile::Reconciler;
use crate::session::Session;
use parking_lot::{Mutex, RwLock};
use protocol::{Attachment, Attr, Entry, Errno, NodeId, Place, limits};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, ThreadId};
use std::time::Instant;
use tracing::{debug, warn};

/// Watches the host for every session, with the best source of the host. To be given to
/// [`ServerOptions::observe`](crate::server::ServerOptions).
#[derive(Clone, Copy, Debug, Default)]
pub struct Watching;

impl Observe for Watching {
    fn observer(&self, session: &Arc<Session>) -> Arc<dyn Observer> {
        let started = super::open().and_then(|source| Driver::start(session, source));
        match started {
            Ok(driver) => driver,
            Err(error) => {
                warn!(%error, "the host is not watched for this guest: changes show after a second");
                Arc::new(Blind)
            }
        }
    }
}

/// A notice that is not acknowledged yet.
pub(super) struct UnderWay {
    pub seq: u64,
    pub export: Arc<Export>,
    pub changes: u64,
    pub sent: Instant,
}

/// The parent of an export's folder, and the folder's name in it.
struct Parent {
    key: WatchKey,
    attachment: Attachment,
    folder: Box<[u8]>,
}

/// A directory that the host does not watch.
pub(super) struct Unwatched {
    pub dir: NodeId,
    /// Since when it is known as it is.
    pub since: Moment,
    /// For want of room, not for another reason.
    pub for_room: bool,
}

/// What one session's driver and its observer share.
pub struct Driver {
    pub(super) session: Weak<Session>,
    pub(super) source: Arc<dyn HintSource>,
    pub(super) core: Mutex<Reconciler>,
    pub(super) leases: RwLock<FxHashSet<NodeId>>,
    thread: OnceLock<ThreadId>,
    pub(super) closed: AtomicBool,
    refused: AtomicBool,
    parents: Mutex<Vec<Parent>>,
    pub(super) unwatched: Mutex<VecDeque<Unwatched>>,
    /// Directories of each attachment that are being watched in the guest, as far as the agent says.
    pub(super) guests: Mutex<FxHashMap<Attachment, FxHashSet<NodeId>>>,
    /// It has said so since watches were shared out last.
    pub(super) is_asked: AtomicBool,
    /// Leases that were given up in favour of others.
    pub(super) given_up: AtomicU64,
    /// Directories that this thread's own calls made known, while `core` may be held.
    adopted: Mutex<Vec<NodeId>>,
    pub(super) sent: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) stalled: AtomicBool,
    pub(super) under_way: Mutex<VecDeque<UnderWay>>,
    /// Written with `core` locked.
    pub(super) heard: Heard,
}

impl Driver {
    /// Begins to drive.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(
        session: &Arc<Session>,
        source: Arc<dyn HintSource>,
    ) -> std::io::Result<Arc<Self>> {
        let driver = Arc::new(Self {
            session: Arc::downgrade(session),
            source,
            core: Mutex::default(),
            leases: RwLock::default(),
            thread: OnceLock::new(),
            closed: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            parents: Mutex::default(),
            unwatched: Mutex::default(),
            guests: Mutex::default(),
            is_asked: AtomicBool::new(false),
            given_up: AtomicU64::new(0),
            adopted: Mutex::default(),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            under_way: Mutex::default(),
            heard: Heard::default(),
        });
        let shared = driver.clone();
        let run = move || {
            // Set nowhere else, and before this thread can call back.
            let _ = shared.thread.set(thread::current().id());
            Loop::new(&shared).run();
        };
        os::spawn("watch", run)?;
        Ok(driver)
    }

    /// Whether the session reports what this driver itself makes it do.
    fn is_own_call(&self) -> bool {
        self.thread.get().is_some_and(|thread| *thread == thread::current().id())
    }

    /// What became known while a hint was judged is known to the reconciler before the next one is.
    pub(super) fn adopt(&self) {
        let dirs = std::mem::take(&mut *self.adopted.lock());
        if !dirs.is_empty() {
            let core = &mut *self.core.lock();
            dirs.into_iter().for_each(|dir| core.watched(dir));
        }
    }

    /// It is compared now and then instead.
    fn not_watched(&self, dir: NodeId, error: &WatchError) {
        if self.refused.swap(true, Ordering::Relaxed) {
            debug!(%dir, %error, "not watched");
        } else {
            warn!(%error, "further directories are compared in turn: changes there come late");
        }
        let for_room = matches!(error, WatchError::Limit);
        let mut unwatched = self.unwatched.lock();
        let is_first = unwatched.is_empty();
        unwatched.push_back(Unwatched { dir, since: Moment::now(), for_room });
        drop(unwatched);
        // Else it has a turn before it already.
        if is_first {
            self.source.wake();
        }
    }

    /// Of which attachment this watch of a parent is, and whether the name is that of its folder.
    pub(super) fn parent_of(&self, key: WatchKey, name: &[u8]) -> Option<(Attachment, bool)> {
        let parents = self.parents.lock();
        let parent = parents.iter().find(|parent| parent.key == key)?;
        Some((parent.attachment, *parent.folder == *name))
    }

    /// Whether the guest has attached more than one export, or one more than once: they may overlap.
    pub(super) fn has_several_mounts(&self) -> bool {
        self.parents.lock().len() > 1
    }

    pub(super) fn may_send(&self) -> bool {
        let outstanding = self
            .sent
            .load(Ordering::Relaxed)
            .saturating_sub(self.acknowledged.load(Ordering::Acquire));
        outstanding < limits::MAX_UNACKNOWLEDGED as u64
    }
}

/// A number that no node has: their generation ends before.
fn parent_key(attachment: Attachment) -> WatchKey {
    WatchKey(NodeId(u64::MAX - u64::from(attachment.0)))
}

impl Observer for Driver {
    fn serving(&self) {
        self.source.serving();
    }

    fn attached(&self, attachment: Attachment, root: &Entry) {
        let Some(session) = self.session.upgrade() else { return };
        match session.directory(root.node) {
            Ok(dir) => self.source.anchor(dir.as_fd()),
            Err(error) => debug!(%error, "the root of an export is not there"),
        }
        let Some((_, path)) = session.root_of(attachment) else { return };
        let key = parent_key(attachment);
        let name = path.file_name().unwrap_or_default();
        let folder = name.as_encoded_bytes().into();
        self.parents.lock().push(Parent { key, attachment, folder });
        // A folder without a parent cannot be replaced.
        let Some(parent) = path.parent() else { return };
        let watched = os::open_root(parent)
            .map_err(|errno| errno.to_string())
            .and_then(|dir| self.source.watch_parent(key, dir.as_fd()).map_err(|e| e.to_string()));
        if let Err(error) = watched {
            debug!(parent = %parent.display(), error, "a replaced folder will not be noticed");
        }
    }

    fn before_read(&self, dir: NodeId, fd: BorrowedFd<'_>) {
        let watched = self.source.watch(WatchKey(dir), fd);
        match self.is_own_call() {
            false => self.core.lock().watched(dir),
            true => self.adopted.lock().push(dir),
        }
        match watched {
            Ok(()) => _ = self.leases.write().insert(dir),
            Err(error) => self.not_watched(dir, &error),
        }
    }

    fn glance(&self, dir: NodeId, name: &[u8]) -> Glance {
        self.heard.of(dir, name)
    }

    fn is_current(&self, dir: NodeId, name: &[u8], glance: Glance) -> bool {
        self.heard.of(dir, name) == glance
    }

    fn told(&self, at: Place<'_>, what: Option<(NodeId, &Attr)>, glance: Option<Glance>) -> bool {
        if self.is_own_call() {
            return true;
        }
        let wall = os::now();
        let mut core = self.core.lock();
        let (dir, name) = (at.parent, at.name.as_bytes());
        let is_current = glance.is_none_or(|glance| self.is_current(dir, name, glance));
        if is_current {
            core.told(at, what, wall);
        }
        is_current
    }

    fn told_attr(&self, node: NodeId, attr: &Attr) {
        if !self.is_own_call() {
            let wall = os::now();
            self.core.lock().told_attr(node, attr, wall);
        }
    }

    fn will(&self, act: &Act<'_>) {
        self.core.lock().will(act);
    }

    fn did(&self, act: &Act<'_>, outcome: Result<Done<'_>, Errno>) {
        let now = Instant::now();
        let mut core = self.core.lock();
        let Ok(done) = outcome else { return core.failed(act) };
        core.did(now, act, &done);
    }

    fn forgotten(&self, node: NodeId) {
        self.leases.write().remove(&node);
        self.source.unwatch(WatchKey(node));
        // What the driver itself gives back it does with `core` free.
        match self.is_own_call() {
            false => self.core.lock().forgotten(node),
            true => self.core.try_lock().into_iter().for_each(|mut core| core.forgotten(node)),
        }
    }

    fn lease(&self, dir: NodeId) -> bool {
        self.leases.read().contains(&dir)
    }

    fn detached(&self, attachment: Attachment) {
        self.source.unwatch(parent_key(attachment));
        self.parents.lock().retain(|parent| parent.attachment != attachment);
        self.guests.lock().remove(&attachment);
        // The nodes are gone without a word: whatever the session no longer knows goes.
        let Some(session) = self.session.upgrade() else { return };
        let gone: Vec<NodeId> =
            self.leases.read().iter().copied().filter(|dir| !session.knows(*dir)).collect();
        gone.into_iter().for_each(|dir| self.forgotten(dir));
    }

    fn acknowledged(&self, seq: u64) {
        self.acknowledged.fetch_max(seq.min(self.sent.load(Ordering::Acquire)), Ordering::SeqCst);
        self.under_way.lock().retain(|notice| {
            let delivered = notice.seq <= seq;
            if delivered {
                notice.export.counters.queued.sub(notice.changes);
                notice.export.counters.delays.add(notice.sent.elapsed());
            }
            !delivered
        });
        if self.stalled.swap(false, Ordering::SeqCst) {
            self.source.wake();
        }
    }

    fn watched_by_guest(&self, attachment: Attachment, dirs: &[NodeId]) {
        self.guests.lock().insert(attachment, dirs.iter().copied().collect());
        self.is_asked.store(true, Ordering::Release);
        self.source.wake();
    }

    fn closed(&self) {
        for notice in self.under_way.lock().drain(..) {
            notice.export.counters.queued.sub(notice.changes);
        }
        self.closed.store(true, Ordering::Release);
        self.source.wake();
    }

    fn figures(&self) -> Figures {
        let counters = self.core.lock().counters();
        let leases = self.leases.read().len() as u64;
        Figures {
            leases,
            hints: counters.hints,
            changes: counters.changes,
            unwatched: self.unwatched.lock().len() as u64,
            given_up: self.given_up.load(Ordering::Relaxed),
        }
    }
}
