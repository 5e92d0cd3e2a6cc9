//! Comparing again: what happened while nobody told is found out, and goes the same way as what is
//! told.
//!
//! ```text
//! connection lost ── when? ───────────────┐         the time on the server's clock
//! back ── what is believed is kept ───────┤         before anybody can ask the new server
//!      ── the queue is shut, all names are in doubt
//!      ── each directory is listed ── compare ── differences ── queue, which is opened behind them
//! ```
//!
//! The same for a directory whose event was given up, once the kernel lets go of it: only what
//! concerns it waits. A comparison runs on a thread of its own. What was remembered is let go when all
//! differences are delivered; if the connection is lost before, it is compared with once more: rather
//! an event twice than none.

mod changes;
mod untold;

use super::compare::{Belief, Comparison, Verdict};
use super::queue::{Concerns, Job};
use super::tap::{self, Why};
use super::{Act, Coherence, Refused};
use crate::affinity;
use crate::client::{self, Client};
use crate::fuse::session::Session;
use crate::fuse::translate::Need;
use crate::nodes::{LocalId, NodeTable, digests};
use crate::recover::{self, PATIENCE};
use parking_lot::Mutex;
use protocol::codec::{Reader, Wire};
use protocol::listing::Listing;
use protocol::{Change, Entry, Errno, HandleId, Handles, NodeId, Reply, Request as Ask, Time};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};
use untold::Told;

/// What happened so long before a loss may not have been told.
const SLACK: Duration = Duration::from_secs(2);
/// The same where changes were waiting.
const SLACK_OF_WAITING: Duration = Duration::from_secs(30);
/// Answers that may fail to come in time before a comparison is given up.
const TIMEOUTS: usize = 3;
/// Bytes of one listing.
const PAGE: u32 = 256 * 1024;
/// After so many directories the progress is logged.
const PROGRESS: usize = 5_000;

/// So many changes that nobody was told are remembered.
const MOST_UNTOLD: usize = 16 * 1024;

/// What comparisons of one mount need to remember. Its lock is taken within no other.
#[derive(Default)]
pub struct Again(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    /// What was believed when the connection was lost.
    base: Option<Arc<Vec<Belief>>>,
    loss: Option<Loss>,
    next: u64,
    running: Vec<(u64, Why)>,
    /// Changes of directories that will be compared, encoded.
    untold: Vec<Box<[u8]>>,
}

/// Since when nothing was told.
#[derive(Clone, Copy, Debug)]
struct Loss {
    /// By the clock of the server that was lost.
    server: Time,
    /// By ours, as time since this machine started.
    at: Duration,
}

impl Loss {
    fn at(client: &Client, at: Duration) -> Self {
        Self { server: client.server_time(at), at }
    }

    /// By the clock that the server has now: the earlier of two, in case it was set meanwhile.
    fn since(self, client: &Client) -> Time {
        let Time { sec, nsec } = self.server.min(client.server_time(self.at));
        Time { sec: sec.saturating_sub(SLACK.as_secs() as i64), nsec }
    }
}

impl Again {
    /// The connection is lost. The oldest change that was not delivered is as old as `oldest`.
    pub fn lost(&self, session: &Session, oldest: Option<Instant>) {
        let heard = session.client.last_heard();
        let at = match oldest {
            None => heard,
            Some(oldest) => {
                let arrived = client::up().saturating_sub(oldest.elapsed());
                heard.min(arrived.saturating_sub(SLACK_OF_WAITING))
            }
        };
        let loss = Loss::at(&session.client, at);
        let memory = &mut *self.0.lock();
        memory.loss.get_or_insert(loss);
        memory.untold.clear();
        // Everything will be compared.
        memory.running.retain(|(_, why)| {
            let of_all = *why == Why::Reconnected;
            if !of_all {
                session.own.release();
            }
            of_all
        });
    }

    /// There is a connection again, on which nothing was asked so far.
    pub fn remember(&self, session: &Session) {
        let memory = &mut *self.0.lock();
        if memory.base.is_none() {
            memory.base = Some(Arc::new(session.nodes.beliefs(None)));
            session.own.keep();
        }
    }

    /// A change is not told, because its directory will be compared.
    pub fn not_told(&self, change: Box<[u8]>) {
        let memory = &mut *self.0.lock();
        if memory.untold.len() < MOST_UNTOLD {
            memory.untold.push(change);
        }
    }

    /// What watchers were told of these directories, which are being compared.
    fn told(&self, nodes: &NodeTable, held: &[NodeId], dirs: &[LocalId]) -> Vec<Belief> {
        let untold = std::mem::take(&mut self.0.lock().untold);
        let mut beliefs = nodes.beliefs(Some(dirs));
        let mut told = Told { nodes, dirs, beliefs: &mut beliefs };
        let mut left = Vec::new();
        for bytes in untold.into_iter().rev() {
            let Ok(change) = Change::get(&mut Reader::new(&bytes)) else { continue };
            told.undo(&change);
            if super::concerns(&change).iter().any(|dir| !held.contains(&dir)) {
                left.push(bytes);
            }
        }
        let memory = &mut *self.0.lock();
        left.reverse();
        left.append(&mut memory.untold);
        memory.untold = left;
        beliefs
    }

    /// All differences of a comparison are delivered.
    pub fn delivered(&self, session: &Session, id: u64) {
        let memory = &mut *self.0.lock();
        let Some(at) = memory.running.iter().position(|(of, _)| *of == id) else { return };
        if memory.running.remove(at).1 == Why::Reconnected {
            memory.base = None;
            memory.loss = None;
        }
        session.own.release();
    }

    /// Why a comparison was made.
    pub fn why(&self, id: u64) -> Option<Why> {
        self.0.lock().running.iter().find(|(of, _)| *of == id).map(|(_, why)| *why)
    }

    fn begin(&self, session: &Session, why: Why) -> u64 {
        let memory = &mut *self.0.lock();
        match why {
            // What is remembered of the one before is still kept.
            Why::Reconnected => memory.running.retain(|(_, of)| *of != why),
            Why::GivenUp => session.own.keep(),
        }
        memory.next += 1;
        memory.running.push((memory.next, why));
        memory.next
    }
}

/// Compares everything, after a loss. The queue is shut.
pub fn everything(coherence: &Arc<Coherence>) {
    let Some(session) = coherence.session.upgrade() else { return };
    let id = coherence.again.begin(&session, Why::Reconnected);
    let (base, loss) = {
        let memory = coherence.again.0.lock();
        (memory.base.clone().unwrap_or_default(), memory.loss)
    };
    start(coherence, move |coherence, session| {
        let since = loss.map(|loss| loss.since(&session.client));
        let task = Task { coherence, session, epoch: session.epoch(), id, why: Why::Reconnected };
        task.doubt(&base);
        let roots = vec![LocalId::ROOT];
        task.run(Comparison::new(base.to_vec(), since), roots, true, &[]);
    });
}

/// Compares single directories, each not told of since some time. They are held.
pub fn directories(coherence: &Arc<Coherence>, lost: Vec<(NodeId, Instant)>) {
    let Some(since) = lost.iter().map(|(_, since)| *since).min() else { return };
    let Some(session) = coherence.session.upgrade() else { return };
    let id = coherence.again.begin(&session, Why::GivenUp);
    start(coherence, move |coherence, session| {
        let at = client::up().saturating_sub(since.elapsed());
        let since = Loss::at(&session.client, at).since(&session.client);
        let held: Vec<NodeId> = lost.into_iter().map(|(node, _)| node).collect();
        let dirs: Vec<LocalId> = held.iter().filter_map(|dir| session.nodes.local(*dir)).collect();
        let beliefs = coherence.again.told(&session.nodes, &held, &dirs);
        let task = Task { coherence, session, epoch: session.epoch(), id, why: Why::GivenUp };
        task.run(Comparison::new(beliefs, Some(since)), dirs, false, &held);
    });
}

fn start(coherence: &Arc<Coherence>, compare: impl FnOnce(&Coherence, &Session) + Send + 'static) {
    let shared = coherence.clone();
    let run = move || {
        affinity::leave_inherited_place();
        if let Some(session) = shared.session.upgrade() {
            compare(&shared, &session);
        }
    };
    if let Err(error) = thread::Builder::new().name("osxfs-compare".into()).spawn(run) {
        warn!(%error, "what happened meanwhile is not compared; changes show after a second");
    }
}

/// One comparison at work.
struct Task<'c> {
    coherence: &'c Coherence,
    session: &'c Session,
    epoch: u32,
    id: u64,
    why: Why,
}

impl Task<'_> {
    /// Nothing that was cached is believed until it was asked for anew.
    fn doubt(&self, base: &[Belief]) {
        let mut names: FxHashMap<LocalId, super::Names> = FxHashMap::default();
        for belief in base {
            names.entry(belief.parent).or_default().push((belief.local, belief.name.clone()));
        }
        let arrived = Instant::now();
        let mut state = self.coherence.state.lock();
        for (dir, names) in names {
            let none = NodeId(0);
            let concerns = Concerns([self.session.nodes.call(dir), none, none, none]);
            let job = Job { act: Act::Doubt(dir, names), concerns, ticket: None, arrived };
            self.coherence.push(&mut state, job, &mut Refused::default());
        }
        self.coherence.alert(&state);
    }

    fn run(&self, mut comparison: Comparison, roots: Vec<LocalId>, descend: bool, held: &[NodeId]) {
        let begun = Instant::now();
        let path = match roots.first() {
            Some(dir) => tap::directory(self.session, Some(*dir)),
            None => PathBuf::new(),
        };
        let listed = self.list(&mut comparison, roots, descend);
        let (found, jobs) = match listed {
            Ok(directories) => {
                self.coherence.compared.fetch_add(directories as u64, Ordering::Relaxed);
                let (differences, no_news, comparison) = comparison.finish();
                for came in no_news {
                    self.session.give_back(came.entry.node, 1);
                }
                let found = differences.len() as u64;
                info!(
                    mount_point = %self.coherence.point.display(),
                    directories,
                    differences = found,
                    took = ?begun.elapsed(),
                    "compared again"
                );
                (found, self.jobs(&comparison, differences))
            }
            Err(errno) => {
                if self.session.epoch() == self.epoch && errno != Errno::ENOTCONN {
                    warn!(
                        mount_point = %self.coherence.point.display(),
                        %errno,
                        "what happened meanwhile could not be compared: watchers may have missed changes"
                    );
                }
                (0, Vec::new())
            }
        };
        self.coherence.tell_compared(path, self.why, found, begun.elapsed());
        self.conclude(jobs, held);
    }

    fn conclude(&self, jobs: Vec<Job<Act>>, held: &[NodeId]) {
        let none = jobs.is_empty();
        let mut state = self.coherence.state.lock();
        if self.session.epoch() != self.epoch || !self.session.client.is_connected() {
            // Another comparison will be, or is already, under way.
            return;
        }
        state.queue.compared(held);
        match self.why {
            Why::GivenUp => state.queue.push_front(jobs),
            Why::Reconnected => {
                let mut refused = Refused::default();
                for job in jobs {
                    self.coherence.push(&mut state, job, &mut refused);
                }
                state.queue.unshut();
            }
        }
        self.coherence.alert(&state);
        drop(state);
        if none {
            self.coherence.again.delivered(self.session, self.id);
        }
    }

    /// Lists directories, and what is in them if wanted. Returns how many.
    fn list(
        &self,
        comparison: &mut Comparison,
        roots: Vec<LocalId>,
        descend: bool,
    ) -> Result<usize, Errno> {
        let (mut next, mut timeouts, mut count) = (VecDeque::from(roots), 0, 0);
        while let Some(dir) = next.pop_front() {
            if comparison.is_visited(dir) {
                continue;
            }
            match self.list_one(comparison, dir) {
                Ok(found) if descend => next.extend(found),
                Ok(_) => {}
                Err(Errno::ENOTCONN) => return Err(Errno::ENOTCONN),
                Err(Errno::ETIMEDOUT) if timeouts == TIMEOUTS => return Err(Errno::ETIMEDOUT),
                Err(errno) => {
                    timeouts += usize::from(errno == Errno::ETIMEDOUT);
                    debug!(?dir, %errno, "not compared");
                    comparison.skip(dir);
                    if descend {
                        next.extend(comparison.directories_in(dir));
                    }
                }
            }
            count += 1;
            if count % PROGRESS == 0 {
                debug!(directories = count, "comparing again");
            }
        }
        Ok(count)
    }

    /// Lists one directory; returns the known directories in it.
    fn list_one(&self, comparison: &mut Comparison, dir: LocalId) -> Result<Vec<LocalId>, Errno> {
        let Self { session, epoch, .. } = self;
        recover::recover(session, Need::Node(dir))?;
        let node = session.nodes.resolve(dir).map_err(|_| Errno::ESTALE)?;
        let handle =
            session.client.call(*epoch, &Ask::OpenDir { node }, PATIENCE, |reply| match reply {
                Reply::Opened { handle } => Some(*handle),
                _ => None,
            })?;
        let pages = self.pages(handle);
        session.client.post(*epoch, &Ask::Close { handles: Handles(vec![handle]) });
        comparison.visit(dir);
        let mut dirs = Vec::new();
        for page in pages? {
            for listed in Listing::new(&page).flatten() {
                let Some(entry) = listed.entry else { continue };
                let is = digests(&entry.attr);
                let verdict = comparison.listed(dir, listed.name, &entry, is);
                dirs.extend(self.take_in(comparison, verdict, &entry));
            }
        }
        Ok(dirs)
    }

    fn pages(&self, handle: HandleId) -> Result<Vec<Box<[u8]>>, Errno> {
        let (mut pages, mut cookie): (Vec<Box<[u8]>>, u64) = (Vec::new(), 0);
        loop {
            let ask = Ask::ReadDir { handle, cookie, size: PAGE, plus: true };
            let page =
                self.session.client.call(self.epoch, &ask, PATIENCE, |reply| match reply {
                    Reply::Listing { data } => Some(Box::<[u8]>::from(data.0)),
                    _ => None,
                })?;
            let Some(last) = Listing::new(&page).flatten().last() else { return Ok(pages) };
            cookie = last.cookie;
            pages.push(page);
        }
    }

    /// The table follows. Returns the node if it is a directory to be listed.
    fn take_in(&self, comparison: &Comparison, verdict: Verdict, entry: &Entry) -> Option<LocalId> {
        let nodes = &self.session.nodes;
        let index = match verdict {
            Verdict::Same(index) | Verdict::Differs(index) => index,
            Verdict::Kept => return None,
            Verdict::NoNews => {
                super::keep_or_give_back(self.session, entry);
                return None;
            }
        };
        let local = comparison.belief(index)?.local;
        nodes.reunite(local, entry);
        if matches!(verdict, Verdict::Same(_)) {
            super::keep_or_give_back(self.session, entry);
        }
        entry.attr.is_dir().then_some(local)
    }
}
