//! Drives the [reconciler](crate::reconcile) of one session: hints in, notices out.
//!
//! ```text
//! request threads ── Observer ──┐
//!                               ├─ core (lock) ── changes ── Session::renamed, removed ── Notice
//! this thread ── HintSource ────┘     │
//!              acknowledged ──────────┴─ no more hints are judged while too much is unacknowledged
//! ```
//!
//! Hints are read as they come and kept, bounded by `BACKLOG`; beyond it, and where the source
//! itself lost some, every lease is broken first, every directory is told to be in doubt, and every
//! name that was told is compared again. Only then are the leases given back.
//!
//! Lock order: `core`, then the session's `state` (through [`Lookup`]), then `leases`. The session
//! calls the observer with none of its locks held; what it reports of calls that this very thread
//! makes is ignored, for the reconciler knows it already and `core` may be held.

use super::{HintSource, Report, WatchError, WatchKey};
use crate::observe::{Act, Blind, Done, Figures, Observe, Observer};
use crate::os;
use crate::reconcile::{Looked, Lookup, OwnedChange, Reconciler};
use crate::session::Session;
use parking_lot::{Mutex, RwLock};
use protocol::{Attachment, Attr, Change, Changes, Entry, Errno, NodeId, Notice, Place, limits};
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use tracing::{debug, trace, warn};

/// Hints kept while they cannot be judged.
const BACKLOG: usize = 65_536;
/// Hints judged between two notices.
const ROUND: usize = 256;
/// Names compared between two notices, after a loss.
const COMPARE_ROUND: usize = 1024;
/// Most bytes of changes in one notice, well below [`limits::MAX_FRAME`].
const NOTICE_BYTES: usize = limits::MAX_FRAME / 2;

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

/// What one session's driver and its observer share.
pub struct Driver {
    session: Weak<Session>,
    source: Arc<dyn HintSource>,
    core: Mutex<Reconciler>,
    leases: RwLock<FxHashSet<NodeId>>,
    thread: OnceLock<ThreadId>,
    closed: AtomicBool,
    refused: AtomicBool,
    /// Directories that this thread's own calls made known, while `core` may be held.
    adopted: Mutex<Vec<NodeId>>,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    stalled: AtomicBool,
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
            adopted: Mutex::default(),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
        });
        let shared = driver.clone();
        let run = move || {
            // Set nowhere else, and before this thread can call back.
            let _ = shared.thread.set(thread::current().id());
            Loop { driver: &shared, backlog: VecDeque::new(), pending: VecDeque::new() }.run();
        };
        thread::Builder::new().name("osxfs-watch".into()).spawn(run)?;
        Ok(driver)
    }

    /// Whether the session reports what this driver itself makes it do.
    fn is_own_call(&self) -> bool {
        self.thread.get().is_some_and(|thread| *thread == thread::current().id())
    }

    /// What became known while a hint was judged is known to the reconciler before the next one is.
    fn adopt(&self) {
        let dirs = std::mem::take(&mut *self.adopted.lock());
        if !dirs.is_empty() {
            let core = &mut *self.core.lock();
            dirs.into_iter().for_each(|dir| core.watched(dir));
        }
    }

    fn may_send(&self) -> bool {
        let outstanding = self
            .sent
            .load(Ordering::Relaxed)
            .saturating_sub(self.acknowledged.load(Ordering::Acquire));
        outstanding < limits::MAX_UNACKNOWLEDGED as u64
    }
}

impl Observer for Driver {
    fn serving(&self) {
        self.source.serving();
    }

    fn attached(&self, _attachment: Attachment, root: &Entry) {
        let Some(session) = self.session.upgrade() else { return };
        match session.directory(root.node) {
            Ok(dir) => self.source.anchor(dir.as_fd()),
            Err(error) => debug!(%error, "the root of an export is not there"),
        }
    }

    fn before_read(&self, dir: NodeId, fd: BorrowedFd<'_>) {
        match self.source.watch(WatchKey(dir), fd) {
            Ok(()) => {
                match self.is_own_call() {
                    false => self.core.lock().watched(dir),
                    true => self.adopted.lock().push(dir),
                }
                self.leases.write().insert(dir);
            }
            Err(error) => {
                let first = !self.refused.swap(true, Ordering::Relaxed);
                match error {
                    WatchError::Limit if first => {
                        warn!(%error, "further directories have no lease: changes there show after a second");
                    }
                    error => debug!(%dir, %error, "no lease"),
                }
            }
        }
    }

    fn told(&self, at: Place<'_>, what: Option<(NodeId, &Attr)>) {
        if !self.is_own_call() {
            let wall = os::now();
            self.core.lock().told(at, what, wall);
        }
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
        // Read under the lock, so that of two writes the later state is kept.
        let content = match (act, done.fd) {
            (Act::Write { .. }, Some(fd)) => os::stat(fd).ok().map(|stat| Attr {
                size: stat.size,
                mtime: stat.mtime,
                ctime: stat.ctime,
                mode: stat.mode,
                ..Attr::default()
            }),
            _ => done.attr.copied(),
        };
        core.did(now, act, &done, content.as_ref());
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

    fn detached(&self, _attachment: Attachment) {
        // The nodes are gone without a word: whatever the session no longer knows goes.
        let Some(session) = self.session.upgrade() else { return };
        let gone: Vec<NodeId> =
            self.leases.read().iter().copied().filter(|dir| !session.knows(*dir)).collect();
        gone.into_iter().for_each(|dir| self.forgotten(dir));
    }

    fn acknowledged(&self, seq: u64) {
        self.acknowledged.fetch_max(seq.min(self.sent.load(Ordering::Acquire)), Ordering::Release);
        if self.stalled.swap(false, Ordering::AcqRel) {
            self.source.wake();
        }
    }

    fn closed(&self) {
        self.closed.store(true, Ordering::Release);
        self.source.wake();
    }

    fn figures(&self) -> Figures {
        let counters = self.core.lock().counters();
        let leases = self.leases.read().len() as u64;
        Figures { leases, hints: counters.hints, changes: counters.changes }
    }
}

/// The host through the session's confined access.
struct HostView<'s>(&'s Session);

impl Lookup for HostView<'_> {
    fn look(&mut self, dir: NodeId, name: &[u8]) -> Looked {
        match self.0.look(dir, name) {
            Ok(Some(looked)) => Looked::There { node: looked.node, attr: looked.attr },
            Ok(None) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE) => Looked::Absent,
            Err(errno) => {
                debug!(%dir, name = %name.escape_ascii(), %errno, "cannot look");
                Looked::Failed
            }
        }
    }

    fn entry(&mut self, dir: NodeId, name: &[u8]) -> Option<Entry> {
        self.0.entry_for(dir, name).ok().flatten()
    }

    fn entry_of(&mut self, node: NodeId) -> Option<Entry> {
        self.0.entry_of_node(node).ok()
    }

    fn links(&mut self, node: NodeId) -> Option<u32> {
        self.0.attr(node).ok().map(|attr| attr.nlink)
    }

    fn target(&mut self, node: NodeId) -> Option<Box<[u8]>> {
        self.0.target(node).ok().map(Vec::into_boxed_slice)
    }
}

/// What only the driving thread has.
struct Loop<'d> {
    driver: &'d Driver,
    backlog: VecDeque<Report>,
    pending: VecDeque<OwnedChange>,
}

impl Loop<'_> {
    fn run(&mut self) {
        let mut reports = Vec::new();
        while !self.driver.closed.load(Ordering::Acquire) {
            let timeout = self.timeout();
            if let Err(error) = self.driver.source.wait(timeout, &mut reports) {
                warn!(%error, "the host is watched no longer");
                self.driver.leases.write().clear();
                reports.push(Report::Overflow);
            }
            let Some(session) = self.driver.session.upgrade() else { return };
            self.keep(&mut reports);
            self.round(&session);
        }
        trace!("the watching thread ends");
    }

    /// How long nothing has to be done.
    fn timeout(&self) -> Option<Duration> {
        let busy = !self.backlog.is_empty() || !self.pending.is_empty();
        if busy {
            self.driver.stalled.store(true, Ordering::Release);
            if self.driver.may_send() {
                return Some(Duration::ZERO);
            }
        }
        let deadline = self.driver.core.lock().deadline()?;
        // While stalled nothing that falls due could be sent.
        (!busy).then(|| deadline.saturating_duration_since(Instant::now()))
    }

    fn keep(&mut self, reports: &mut Vec<Report>) {
        if self.backlog.len() + reports.len() > BACKLOG {
            let ended = |report: &Report| matches!(report, Report::Ended(_));
            self.backlog.retain(ended);
            reports.retain(ended);
            self.backlog.push_front(Report::Overflow);
        }
        self.backlog.extend(reports.drain(..));
    }

    fn round(&mut self, session: &Session) {
        self.send(session);
        for _ in 0..ROUND {
            if !self.pending.is_empty() || !self.driver.may_send() {
                return;
            }
            let Some(report) = self.backlog.pop_front() else { break };
            match report {
                Report::Hint(hint) => {
                    trace!(?hint, "hint");
                    let now = Instant::now();
                    self.driver.core.lock().hint(now, hint, &mut HostView(session));
                    self.driver.adopt();
                }
                Report::Ended(key) => self.ended(session, key),
                Report::Overflow | Report::Subtree(_) => self.compare_all(session),
            }
        }
        self.driver.core.lock().tick(Instant::now(), &mut HostView(session));
        self.driver.adopt();
        self.send(session);
    }

    fn ended(&mut self, session: &Session, WatchKey(dir): WatchKey) {
        self.driver.leases.write().remove(&dir);
        let told = self.driver.core.lock().unwatched(dir);
        session.unwatched(dir);
        if told && session.knows(dir) {
            self.pending.push_back(OwnedChange::Doubt { dir });
        }
    }

    /// Hints were lost.
    fn compare_all(&mut self, session: &Session) {
        let leases = std::mem::take(&mut *self.driver.leases.write());
        let dirs = self.driver.core.lock().lost();
        debug!(directories = dirs.len(), "hints were lost; comparing again");
        self.send(session);
        let mut compared = 0;
        for dir in dirs {
            let names = self.driver.core.lock().names(dir);
            for name in names {
                self.driver.core.lock().compare(dir, &name, &mut HostView(session));
                self.driver.adopt();
                compared += 1;
                if compared % COMPARE_ROUND == 0 {
                    self.send(session);
                }
            }
            let watched = self.driver.core.lock().is_watched(dir);
            if watched && leases.contains(&dir) {
                self.driver.leases.write().insert(dir);
            }
        }
        self.send(session);
    }

    /// Sends what is found, as far as it may.
    fn send(&mut self, session: &Session) {
        let found = self.driver.core.lock().take();
        for change in &found {
            note(session, change);
        }
        self.pending.extend(found);
        while !self.pending.is_empty() && self.driver.may_send() {
            let Some(attachment) = self.next_attachment(session) else { continue };
            let mut bytes = 0;
            let mut batch = Vec::new();
            while let Some(change) = self.pending.front() {
                bytes += change.encoded_len();
                let full = batch.len() == limits::MAX_CHANGES || bytes > NOTICE_BYTES;
                let foreign = session.attachment_of(subject(change)) != Some(attachment);
                if !batch.is_empty() && (full || foreign) {
                    break;
                }
                batch.extend(self.pending.pop_front());
            }
            self.notice(session, attachment, &batch);
        }
    }

    /// The attachment of the first pending change; drops the change if it has none any more.
    fn next_attachment(&mut self, session: &Session) -> Option<Attachment> {
        let change = self.pending.front()?;
        let attachment = session.attachment_of(subject(change));
        if attachment.is_none() {
            let change = self.pending.pop_front()?;
            give_back(session, &change);
        }
        attachment
    }

    fn notice(&self, session: &Session, attachment: Attachment, batch: &[OwnedChange]) {
        let changes: Vec<Change<'_>> = batch.iter().filter_map(OwnedChange::borrow).collect();
        trace!(?changes, "changes");
        let seq = self.driver.sent.fetch_add(1, Ordering::AcqRel) + 1;
        let notice = Notice::Changes { attachment, seq, changes: Changes(changes) };
        if session.notices().notice(&notice).is_err() {
            // The session ends with its connection, and all lookups with it.
            debug!("changes for a guest that is gone");
        }
    }
}

/// The session's own memory of names follows.
fn note(session: &Session, change: &OwnedChange) {
    match change {
        OwnedChange::Renamed { from, to, entry, replaced } => {
            if let (Some(from), Some(to)) = (from.borrow(), to.borrow()) {
                let replaced = (*replaced != NodeId(0)).then_some(*replaced);
                session.renamed(entry.node, from, to, replaced);
            }
        }
        OwnedChange::Removed { at, node, .. } if *node != NodeId(0) => {
            if let Some(at) = at.borrow() {
                session.removed(*node, at);
            }
        }
        _ => {}
    }
}

/// The node whose attachment a change belongs to.
fn subject(change: &OwnedChange) -> NodeId {
    match change {
        OwnedChange::Created { at, .. }
        | OwnedChange::Modified { at, .. }
        | OwnedChange::Removed { at, .. }
        | OwnedChange::Passed { at, .. }
        | OwnedChange::Attrib { at: Some(at), .. } => at.parent,
        OwnedChange::Attrib { at: None, entry } => entry.node,
        OwnedChange::Renamed { to, .. } => to.parent,
        OwnedChange::Doubt { dir } => *dir,
    }
}

fn give_back(session: &Session, change: &OwnedChange) {
    if let Some(node) = change.lookup() {
        session.give_back(node, 1);
    }
}
