//! Coherence: what the server says has changed becomes the kernel's state, and events.
//!
//! ```text
//! thread that brings replies ── ChangeSink ──▶ queue ──▶ worker ── Hand ── delivered
//!                               (never waits)  ▲  ▲        │
//!                     again: compares ─────────┘  │        └── tap, figures
//!                     watchdog: looks for hands that are stuck
//! ```
//!
//! * [`queue`] decides who does what when: in order, but for what is stuck.
//! * [`worker`] carries it out: one worker with its hand, and more of them while some are stuck.
//! * [`again`] compares directories anew: all after a lost connection, one whose event was given up.
//!   [`compare`] is the pure part of it, and [`own`] knows what the guest itself did meanwhile.
//! * [`tap`] and [`delay`] tell people.
//!
//! The queue is bounded: what is beyond becomes doubt about the directories concerned.
//!
//! Lock order: `state`, then the node table's. No lock is held across a call of the server or the
//! kernel.

mod again;
pub(crate) mod compare;
mod delay;
pub(crate) mod own;
mod queue;
pub mod tap;
mod worker;

use crate::fuse::ChangeSink;
use crate::fuse::session::{Session, entry_of};
use crate::inject::Root;
use crate::nodes::LocalId;
use again::Again;
use delay::Histogram;
use parking_lot::{Condvar, Mutex, MutexGuard};
use protocol::{Change, Changes, NodeId, codec::Wire};
use queue::{Concerns, Job, MAX_HANDS, Queue, Ticket};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tap::Tap;
use tracing::warn;

/// Changes that may wait.
const CAPACITY: usize = 32_768;

/// Nodes in a directory, with their names.
type Names = Vec<(LocalId, Box<[u8]>)>;

/// Something to be done in its turn.
#[derive(Debug)]
pub(crate) enum Act {
    /// An encoded change of this connection.
    Change(u32, Box<[u8]>),
    /// No cached name of a directory is to be believed: it and the names in it.
    Doubt(LocalId, Names),
    /// Nothing: it stands for a notice without changes.
    Nothing,
}

/// How delivering gets on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Changes that wait.
    pub waiting: usize,
    /// From arrival here to delivery: half of the changes took no longer.
    pub delay_p50: Option<Duration>,
    /// And 99 of 100.
    pub delay_p99: Option<Duration>,
    /// Injections that were given up.
    pub given_up: u64,
    /// Directories that were compared again.
    pub compared: u64,
}

struct State {
    queue: Queue<Act>,
    /// Workers that were started.
    workers: usize,
    /// When the watchdog will look.
    next_look: Option<Instant>,
    ended: bool,
}

/// The coherence of one mount.
pub struct Coherence {
    session: Weak<Session>,
    point: PathBuf,
    /// The way into the mount for a new worker, while there is a mount.
    root: Mutex<Option<Root>>,
    state: Mutex<State>,
    /// For each worker: it leads, and there is something to do.
    work: [Condvar; MAX_HANDS],
    /// For the watchdog: there is something to watch.
    watch: Condvar,
    again: Again,
    tap: Tap,
    delays: Histogram,
    given_up: AtomicU64,
    compared: AtomicU64,
}

impl Coherence {
    /// Begins to deliver the changes of `session`, which is mounted on `point` and serves the
    /// kernel already. `device` is the mount's `st_dev`. The visible mount may be
    /// restricted from now on.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(session: &Arc<Session>, point: PathBuf, device: u64) -> io::Result<Arc<Self>> {
        let root = Root::new(&point, device);
        let state = State { queue: Queue::default(), workers: 0, next_look: None, ended: false };
        let coherence = Arc::new(Self {
            session: Arc::downgrade(session),
            point,
            root: Mutex::new(Some(root)),
            state: Mutex::new(state),
            work: Default::default(),
            watch: Condvar::new(),
            again: Again::default(),
            tap: Tap::default(),
            delays: Histogram::default(),
            given_up: AtomicU64::new(0),
            compared: AtomicU64::new(0),
        });
        worker::start(&coherence)?;
        session.set_sink(coherence.clone());
        Ok(coherence)
    }

    /// How it gets on.
    pub fn figures(&self) -> Figures {
        Figures {
            waiting: self.state.lock().queue.len(),
            delay_p50: self.delays.percentile(50),
            delay_p99: self.delays.percentile(99),
            given_up: self.given_up.load(Ordering::Relaxed),
            compared: self.compared.load(Ordering::Relaxed),
        }
    }

    /// Who wants to see what is delivered.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    fn change(epoch: u32, change: &Change<'_>, ticket: Ticket, arrived: Instant) -> Job<Act> {
        let mut bytes = Vec::with_capacity(256);
        change.put(&mut bytes);
        let act = Act::Change(epoch, bytes.into());
        Job { act, concerns: concerns(change), ticket: Some(ticket), arrived }
    }

    /// Adds a job; what may not be done is settled by the returned list, outside of the lock.
    fn push(&self, state: &mut State, job: Job<Act>, refused: &mut Refused) {
        if let Some((job, complete)) = state.queue.push(job) {
            refused.jobs.push(job);
            refused.complete.extend(complete);
        }
    }

    /// Wakes whoever is needed now.
    fn alert(&self, state: &MutexGuard<'_, State>) {
        if let Some(leader) = self.work.get(state.queue.leader()) {
            leader.notify_one();
        }
        self.alert_watchdog(state);
    }

    fn alert_watchdog(&self, state: &State) {
        let look = state.queue.next_look();
        if look.is_some_and(|at| state.next_look.is_none_or(|next| next > at + queue::STUCK)) {
            self.watch.notify_one();
        }
    }
}

/// Jobs that are not to be done, and what is complete by that.
#[derive(Default)]
struct Refused {
    jobs: Vec<Job<Act>>,
    complete: Vec<Ticket>,
}

/// What a change is about: the directories of its names, and what may take their place.
fn concerns(change: &Change<'_>) -> Concerns {
    let none = NodeId(0);
    Concerns(match change {
        Change::Created { at, .. } | Change::Modified { at, .. } | Change::Passed { at, .. } => {
            [at.parent, none, none, none]
        }
        Change::Attrib { at, entry } => {
            let itself = if entry.attr.is_dir() { entry.node } else { none };
            [at.map_or(none, |at| at.parent), itself, none, none]
        }
        Change::Removed { at, node, is_dir, .. } => {
            [at.parent, if *is_dir { *node } else { none }, none, none]
        }
        Change::Renamed { from, to, entry, replaced } => {
            let itself = if entry.attr.is_dir() { entry.node } else { none };
            [from.parent, to.parent, itself, *replaced]
        }
        Change::Doubt { dir } => [*dir, none, none, none],
    })
}

impl ChangeSink for Coherence {
    fn changes(&self, seq: u64, changes: &Changes<'_>) {
        let Some(session) = self.session.upgrade() else { return };
        let (epoch, arrived) = (session.epoch(), Instant::now());
        let ticket = Ticket::Notice(epoch, seq);
        let mut refused = Refused::default();
        let mut state = self.state.lock();
        let full = state.queue.len() + changes.0.len() > CAPACITY;
        if full {
            let mut dirs: Vec<_> = changes.0.iter().flat_map(|c| concerns(c).0).collect();
            dirs.sort_unstable();
            dirs.dedup();
            for dir in dirs.into_iter().filter(|dir| *dir != NodeId(0)) {
                let job = Self::change(epoch, &Change::Doubt { dir }, ticket, arrived);
                self.push(&mut state, job, &mut refused);
            }
        } else {
            for change in &changes.0 {
                let job = Self::change(epoch, change, ticket, arrived);
                self.push(&mut state, job, &mut refused);
            }
        }
        // Only a worker may send what becomes complete by this.
        let (concerns, ticket) = (Concerns::default(), Some(ticket));
        let last = Job { act: Act::Nothing, concerns, ticket, arrived };
        self.push(&mut state, last, &mut refused);
        self.alert(&state);
        drop(state);
        refused.jobs.into_iter().for_each(|job| self.drop_job(&session, job));
        if full {
            warn!(mount_point = %self.point.display(), "too many changes wait; directories are in doubt instead");
            changes
                .0
                .iter()
                .filter_map(entry_of)
                .for_each(|entry| keep_or_give_back(&session, entry));
        }
    }

    fn overtaken(&self, node: LocalId, names: Names) {
        let Some(session) = self.session.upgrade() else { return };
        let none = NodeId(0);
        let dir = session.nodes.resolve(node).unwrap_or(none);
        let concerns = Concerns([dir, none, none, none]);
        let act = Act::Doubt(node, names);
        let mut refused = Refused::default();
        let mut state = self.state.lock();
        let job = Job { act, concerns, ticket: None, arrived: Instant::now() };
        self.push(&mut state, job, &mut refused);
        self.alert(&state);
        drop(state);
        refused.jobs.into_iter().for_each(|job| self.drop_job(&session, job));
    }

    fn disconnected(&self) {
        // What waits is of a connection that is no more, and its lookups went with it.
        let mut state = self.state.lock();
        let oldest = state.queue.oldest();
        state.queue.clear();
        drop(state);
        if let Some(session) = self.session.upgrade() {
            self.again.lost(&session, oldest);
        }
    }

    fn reconnecting(&self) {
        if let Some(session) = self.session.upgrade() {
            self.again.remember(&session);
        }
    }

    fn reconnected(self: Arc<Self>) {
        self.state.lock().queue.shut();
        again::everything(&self);
    }

    fn unmounted(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        *self.root.lock() = None;
        self.work.iter().for_each(|worker| _ = worker.notify_all());
        self.watch.notify_all();
        drop(state);
        self.tap.close();
    }
}

/// The lookup of an entry that the kernel is not told of.
fn keep_or_give_back(session: &Session, entry: &protocol::Entry) {
    if session.nodes.absorb(entry).is_none() {
        session.give_back(entry.node, 1);
    }
}
