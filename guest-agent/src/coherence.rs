//! Coherence: what the server says has changed becomes the kernel's state, and events.
//!
//! ```text
//! thread that brings replies ── ChangeSink::changes ── queue ── worker ── Injector ── delivered
//!                               (never waits)           │         ▲
//!                                              watchdog ─┴─ replaces one that is stuck
//! ```
//!
//! A mount has one worker, which takes changes in their order, one at a time. An injection can be
//! held up by an operation of the guest in the same directory; the watchdog gives it up after
//! [`PATIENCE`] and lets a new worker go on with the next change. The old one ends as soon as the
//! kernel lets go of it.
//!
//! The queue is bounded: what is beyond becomes doubt about the directories concerned.
//!
//! Lock order: `queue`, then `root`.

use crate::fuse::ChangeSink;
use crate::fuse::session::{Session, entry_of};
use crate::inject::{Hand, Notice, Outcome, Root};
use crate::nodes::LocalId;
use parking_lot::{Condvar, Mutex};
use protocol::codec::{Reader, Wire};
use protocol::{Change, Changes, NodeId};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// How long one injection may take.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often the watchdog looks while there is work.
const LOOK: Duration = Duration::from_millis(500);
/// Changes that may wait.
const CAPACITY: usize = 32_768;
/// Workers that may be stuck at once. With more, changes are no longer injected, only the kernel's
/// state is declared void.
const MAX_STUCK: usize = 8;

/// Something to be done in its turn.
enum Item {
    /// An encoded change of connection `.0`.
    Change(u32, Box<[u8]>),
    /// All changes of this number are done.
    Delivered(u32, u64),
    /// Nothing that is cached may be believed.
    DoubtAll,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// How many of them are changes.
    changes: usize,
    /// Counts workers: only the last one takes items.
    worker: u64,
    /// Since when the worker has been at its present item.
    since: Option<Instant>,
    stuck: usize,
    ended: bool,
}

/// The coherence of one mount.
pub struct Coherence {
    session: Weak<Session>,
    point: PathBuf,
    /// The way into the mount for a new worker, while there is a mount.
    root: Mutex<Option<Root>>,
    queue: Mutex<Queue>,
    /// For the worker: there is something to do.
    work: Condvar,
    /// For the watchdog: there is something to watch.
    watch: Condvar,
}

impl Coherence {
    /// Begins to deliver the changes of `session`, which is mounted on `point` and serves the
    /// kernel already. `device` is the mount's `st_dev`. The visible mount may be
    /// restricted from now on.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(session: &Arc<Session>, point: PathBuf, device: u64) -> io::Result<()> {
        let root = Root::new(&point, device);
        let coherence = Arc::new(Self {
            session: Arc::downgrade(session),
            point,
            root: Mutex::new(Some(root)),
            queue: Mutex::default(),
            work: Condvar::new(),
            watch: Condvar::new(),
        });
        coherence.spawn_worker(0)?;
        let shared = coherence.clone();
        thread::Builder::new().name("osxfs-watchdog".into()).spawn(move || shared.watch())?;
        session.set_sink(coherence);
        Ok(())
    }

    fn spawn_worker(self: &Arc<Self>, number: u64) -> io::Result<()> {
        let shared = self.clone();
        let name = format!("osxfs-inject-{number}");
        thread::Builder::new().name(name).spawn(move || shared.work(number)).map(drop)
    }

    /// What the worker does.
    fn work(&self, number: u64) {
        let Some(session) = self.session.upgrade() else { return };
        let Some(root) = self.root.lock().clone() else { return };
        let hand = match Hand::start(session.clone(), root) {
            Ok(hand) => hand,
            Err(error) => {
                warn!(%error, "no further events can be injected");
                return;
            }
        };
        while let Some(item) = self.next(number, &hand) {
            match item {
                Item::Change(epoch, bytes) if epoch == session.epoch() => {
                    self.deliver(&session, &hand, epoch, bytes);
                }
                Item::Change(..) => {}
                Item::Delivered(epoch, seq) if epoch == session.epoch() => session.delivered(seq),
                Item::Delivered(..) => {}
                Item::DoubtAll => {
                    session.nodes.parents().into_iter().for_each(|dir| doubt(&session, dir));
                }
            }
        }
    }

    /// The next item, in its turn. None if this worker is to end.
    fn next(&self, number: u64, hand: &Hand) -> Option<Item> {
        let mut queue = self.queue.lock();
        loop {
            if queue.worker != number {
                queue.stuck = queue.stuck.saturating_sub(1);
                return None;
            }
            queue.since = None;
            if queue.ended {
                return None;
            }
            if let Some(item) = queue.items.pop_front() {
                if matches!(item, Item::Change(..)) {
                    queue.changes -= 1;
                }
                queue.since = Some(Instant::now());
                return Some(item);
            }
            hand.rest();
            self.work.wait(&mut queue);
        }
    }

    /// What the watchdog does. Sleeps while there is nothing to do.
    fn watch(self: &Arc<Self>) {
        let mut queue = self.queue.lock();
        while !queue.ended {
            match queue.since {
                None if queue.items.is_empty() => self.watch.wait(&mut queue),
                Some(since) if since.elapsed() > PATIENCE && queue.stuck < MAX_STUCK => {
                    queue.worker += 1;
                    queue.stuck += 1;
                    queue.since = None;
                    let number = queue.worker;
                    warn!(
                        mount_point = %self.point.display(),
                        stuck = queue.stuck,
                        "an event could not be injected in {PATIENCE:?}; going on with the next"
                    );
                    drop(queue);
                    if let Err(error) = self.spawn_worker(number) {
                        warn!(%error, "no further events can be injected");
                        return;
                    }
                    queue = self.queue.lock();
                }
                _ => _ = self.watch.wait_for(&mut queue, LOOK),
            }
        }
    }

    fn deliver(&self, session: &Session, hand: &Hand, epoch: u32, bytes: Box<[u8]>) {
        // It was encoded here.
        let Ok(change) = Change::get(&mut Reader::new(&bytes)) else { return };
        if let Change::Doubt { dir } = change {
            if let Some(dir) = session.nodes.local(dir) {
                doubt(session, dir);
            }
            return;
        }
        let other = self.take_other_half(epoch, &change);
        if let Outcome::Refused(errno) = hand.deliver(bytes, other) {
            debug!(%errno, "an event was not injected");
        }
    }

    /// Two renames of each other's names are one exchange.
    fn take_other_half(&self, epoch: u32, change: &Change<'_>) -> Option<Box<[u8]>> {
        let Change::Renamed { from, to, replaced, .. } = change else { return None };
        if *replaced == NodeId(0) {
            return None;
        }
        let mut queue = self.queue.lock();
        let Some(Item::Change(of, bytes)) = queue.items.front() else { return None };
        let other = Change::get(&mut Reader::new(bytes)).ok().filter(|_| *of == epoch)?;
        let matches = matches!(other, Change::Renamed { from: back, to: home, entry, .. }
            if back == *to && home == *from && entry.node == *replaced);
        match matches.then(|| queue.items.pop_front())? {
            Some(Item::Change(_, bytes)) => {
                queue.changes -= 1;
                Some(bytes)
            }
            _ => None,
        }
    }

    fn push(&self, queue: &mut Queue, item: Item) {
        if queue.items.is_empty() && queue.since.is_none() {
            self.work.notify_all();
            self.watch.notify_one();
        }
        queue.items.push_back(item);
    }
}

/// No cached name in this directory is believed any more.
fn doubt(session: &Session, dir: LocalId) {
    Notice::Pages(dir).give(session);
    for (child, name) in session.nodes.children(dir) {
        Notice::Name(dir, name).give(session);
        session.nodes.distrust_cache(child);
        Notice::Pages(child).give(session);
    }
}

/// The directories whose names a change is about.
fn directories(change: &Change<'_>) -> [Option<NodeId>; 2] {
    match change {
        Change::Created { at, .. }
        | Change::Modified { at, .. }
        | Change::Removed { at, .. }
        | Change::Passed { at, .. } => [Some(at.parent), None],
        Change::Attrib { at, .. } => [at.map(|at| at.parent), None],
        Change::Renamed { from, to, .. } => [Some(from.parent), Some(to.parent)],
        Change::Doubt { dir } => [Some(*dir), None],
    }
}

fn encode(change: &Change<'_>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(256);
    change.put(&mut bytes);
    bytes.into()
}

impl ChangeSink for Coherence {
    fn changes(&self, seq: u64, changes: &Changes<'_>) {
        let Some(session) = self.session.upgrade() else { return };
        let epoch = session.epoch();
        let mut queue = self.queue.lock();
        let full = queue.changes + changes.0.len() > CAPACITY;
        if full {
            let mut dirs: Vec<_> = changes.0.iter().flat_map(directories).flatten().collect();
            dirs.sort_unstable();
            dirs.dedup();
            for dir in dirs {
                queue.changes += 1;
                self.push(&mut queue, Item::Change(epoch, encode(&Change::Doubt { dir })));
            }
        } else {
            for change in &changes.0 {
                queue.changes += 1;
                self.push(&mut queue, Item::Change(epoch, encode(change)));
            }
        }
        self.push(&mut queue, Item::Delivered(epoch, seq));
        drop(queue);
        if full {
            warn!(mount_point = %self.point.display(), "too many changes wait; directories are in doubt instead");
            for entry in changes.0.iter().filter_map(entry_of) {
                if session.nodes.absorb(entry).is_none() {
                    session.give_back(entry.node, 1);
                }
            }
        }
    }

    fn reconnected(&self) {
        let mut queue = self.queue.lock();
        queue.items.clear();
        queue.changes = 0;
        self.push(&mut queue, Item::DoubtAll);
    }

    fn disconnected(&self) {
        // What waits is of a connection that is no more, and its lookups went with it.
        let mut queue = self.queue.lock();
        queue.items.clear();
        queue.changes = 0;
    }

    fn unmounted(&self) {
        let mut queue = self.queue.lock();
        queue.ended = true;
        *self.root.lock() = None;
        self.work.notify_all();
        self.watch.notify_all();
    }
}
