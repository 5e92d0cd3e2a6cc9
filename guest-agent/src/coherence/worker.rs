//! The workers, each with its hand, and the watchdog that looks after them.
//!
//! A worker takes a job, has its hand carry it out, and settles what is complete by that. While the
//! one that leads is stuck the watchdog lets another lead; it starts up to
//! [`MAX_HANDS`](super::queue::MAX_HANDS) of them, and those that are not needed any more rest.
//! Nobody is woken by time while nothing is under way.

use super::queue::{GivenUp, Job, MAX_HANDS, PATIENCE, Ticket};
use super::tap::{self, Fate, Kind, Told, Why};
use super::{Act, Coherence, Names, State, again, keep_or_give_back};
use crate::fuse::session::{Session, entry_of};
use crate::inject::{Hand, Notice, Outcome};
use crate::nodes::LocalId;
use parking_lot::MutexGuard;
use protocol::codec::{Reader, Wire};
use protocol::{Change, NodeId};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// When so many changes wait, the threads that inject them are gathered on one processor.
const MANY: usize = 32;

/// Starts the first worker and the watchdog.
///
/// # Errors
/// No thread can be made.
pub fn start(coherence: &Arc<Coherence>) -> io::Result<()> {
    spawn(coherence, 0)?;
    coherence.state.lock().workers = 1;
    let shared = coherence.clone();
    thread::Builder::new().name("osxfs-watchdog".into()).spawn(move || shared.look_after())?;
    Ok(())
}

fn spawn(coherence: &Arc<Coherence>, number: usize) -> io::Result<()> {
    let shared = coherence.clone();
    let name = format!("osxfs-inject-{number}");
    thread::Builder::new().name(name).spawn(move || shared.work(number)).map(drop)
}

/// What a worker has taken: a job, and the other half of it if it is an exchange.
type Taken = (Job<Act>, Option<Job<Act>>);

impl Coherence {
    /// What a worker does.
    fn work(self: Arc<Self>, number: usize) {
        let Some(session) = self.session.upgrade() else { return };
        let Some(root) = self.root.lock().clone() else { return };
        let hand = match Hand::start(session.clone(), root) {
            Ok(hand) => hand,
            Err(error) => {
                warn!(%error, "no further events can be injected");
                return;
            }
        };
        let _member = session.affinity.join();
        let mut rests = true;
        while let Some((job, other)) = self.next(&session, number, &hand, &mut rests) {
            self.perform(&session, &hand, job, other);
        }
    }

    /// Puts down the last job and takes the next. None if this worker is to end.
    fn next(
        self: &Arc<Self>,
        session: &Arc<Session>,
        number: usize,
        hand: &Hand,
        rests: &mut bool,
    ) -> Option<Taken> {
        let worker = self.work.get(number)?;
        let mut state = self.state.lock();
        loop {
            let (complete, lost) = state.queue.done(number);
            if state.queue.leader() != number {
                // What was in its way may be free by that.
                self.alert(&state);
            }
            if !complete.is_empty() || !lost.is_empty() {
                MutexGuard::unlocked(&mut state, || {
                    self.settle(session, &complete);
                    again::directories(self, lost);
                });
                continue;
            }
            if state.ended {
                return None;
            }
            if let Some(taken) = take(&mut state, number) {
                self.alert_watchdog(&state);
                let many = state.queue.len() >= MANY;
                drop(state);
                if many {
                    session.affinity.gather();
                }
                *rests = false;
                return Some(taken);
            }
            if !std::mem::replace(rests, true) {
                hand.rest();
                if state.queue.len() == 0 {
                    session.affinity.scatter();
                }
            }
            worker.wait(&mut state);
        }
    }

    /// These are complete. May send.
    pub(super) fn settle(&self, session: &Session, complete: &[Ticket]) {
        for ticket in complete {
            match *ticket {
                Ticket::Notice(epoch, seq) if epoch == session.epoch() => session.delivered(seq),
                Ticket::Notice(..) => {}
                Ticket::Comparison(id) => self.again.delivered(session, id),
            }
        }
    }

    fn perform(&self, session: &Session, hand: &Hand, job: Job<Act>, other: Option<Job<Act>>) {
        let Job { act, ticket, arrived, .. } = job;
        let (epoch, bytes) = match act {
            Act::Nothing => return,
            Act::Doubt(dir, names) => return doubt(session, dir, names),
            Act::Change(epoch, bytes) => (epoch, bytes),
        };
        // It was encoded here.
        let Ok(change) = Change::get(&mut Reader::new(&bytes)) else { return };
        let why = match ticket {
            Some(Ticket::Comparison(id)) => self.again.why(id),
            _ => None,
        };
        let told = self.tap.is_open().then(|| tap::describe(session, &change, why));
        let fate = if epoch != session.epoch() {
            return;
        } else if let Change::Doubt { dir } = change {
            if let Some(dir) = session.nodes.local(dir) {
                doubt(session, dir, session.nodes.children(dir));
            }
            Fate::Void
        } else if why.is_some() && session.own.did(&session.nodes, &change) {
            entry_of(&change).into_iter().for_each(|entry| keep_or_give_back(session, entry));
            Fate::OwnWork
        } else {
            let other = other.and_then(|job| match job.act {
                Act::Change(_, bytes) => Some(bytes),
                _ => None,
            });
            let outcome = hand.deliver(bytes, other);
            if let Outcome::Refused(errno) = outcome {
                debug!(%errno, "an event was not injected");
            }
            outcome.into()
        };
        let delay = arrived.elapsed();
        self.delays.record(delay);
        if let Some(told) = told {
            self.tap.tell(&Told { fate, delay, ..told });
        }
    }

    /// What the watchdog does.
    fn look_after(self: Arc<Self>) {
        let mut state = self.state.lock();
        while !state.ended {
            let look = state.queue.look(Instant::now(), MAX_HANDS);
            if let Some(leader) = look.leader {
                if leader >= state.workers {
                    state.workers = leader + 1;
                    let started = MutexGuard::unlocked(&mut state, || spawn(&self, leader));
                    if let Err(error) = started {
                        warn!(%error, "no further events can be injected");
                        return;
                    }
                }
                self.alert(&state);
                continue;
            }
            if !look.given_up.is_empty() {
                MutexGuard::unlocked(&mut state, || {
                    look.given_up.into_iter().for_each(|given_up| self.give_up(given_up));
                });
                continue;
            }
            state.next_look = look.again;
            match look.again {
                None => self.watch.wait(&mut state),
                Some(at) => _ = self.watch.wait_until(&mut state, at),
            }
        }
    }

    fn give_up(&self, given_up: GivenUp<Act>) {
        let Some(session) = self.session.upgrade() else { return };
        self.given_up.fetch_add(1, Ordering::Relaxed);
        let mut dirs = given_up.concerns.iter();
        let path = tap::directory_of(&session, dirs.next().unwrap_or(NodeId(0)));
        warn!(
            mount_point = %self.point.display(),
            directory = %path.display(),
            "an event could not be injected in {PATIENCE:?}: something holds the directory; it is compared when that ends"
        );
        if self.tap.is_open() {
            self.tap.tell(&Told {
                kind: Kind::Doubt,
                path,
                to: None,
                is_dir: true,
                fate: Fate::GivenUp,
                why: None,
                delay: given_up.arrived.elapsed(),
                missed: 0,
            });
        }
        given_up.dropped.into_iter().for_each(|job| self.drop_job(&session, job));
        self.settle(&session, &given_up.complete);
    }

    /// A job is not done, because its directory will be compared. Neither waits nor sends.
    pub(super) fn drop_job(&self, session: &Session, job: Job<Act>) {
        let Act::Change(epoch, bytes) = job.act else { return };
        let Ok(change) = Change::get(&mut Reader::new(&bytes)) else { return };
        if epoch != session.epoch() {
            return;
        }
        if self.tap.is_open() {
            let told = tap::describe(session, &change, None);
            self.tap.tell(&Told { fate: Fate::Dropped, delay: job.arrived.elapsed(), ..told });
        }
        // What is remembered of the node stays: the comparison is to find the difference.
        if let Some(entry) = entry_of(&change) {
            session.give_back(entry.node, 1);
        }
        self.again.not_told(bytes);
    }

    /// A comparison begins or ends.
    pub(super) fn tell_compared(
        &self,
        path: std::path::PathBuf,
        why: Why,
        found: u64,
        took: Duration,
    ) {
        if self.tap.is_open() {
            self.tap.tell(&Told {
                kind: Kind::Compared,
                path,
                to: None,
                is_dir: true,
                fate: Fate::Found(found),
                why: Some(why),
                delay: took,
                missed: 0,
            });
        }
    }
}

fn take(state: &mut State, number: usize) -> Option<Taken> {
    let (job, at) = state.queue.take(number, Instant::now())?;
    let other = state.queue.take_too(number, at, |next| are_exchange(&job, next));
    Some((job, other))
}

/// Two renames of each other's names are one exchange.
fn are_exchange(one: &Job<Act>, next: &Job<Act>) -> bool {
    let (Act::Change(epoch, one), Act::Change(of, next)) = (&one.act, &next.act) else {
        return false;
    };
    let change = |bytes| Change::get(&mut Reader::new(bytes)).ok();
    let Some(Change::Renamed { from, to, replaced, .. }) = change(one) else { return false };
    replaced != NodeId(0)
        && of == epoch
        && matches!(change(next), Some(Change::Renamed { from: back, to: home, entry, .. })
            if back == to && home == from && entry.node == replaced)
}

/// No cached name in this directory is believed any more.
fn doubt(session: &Session, dir: LocalId, names: Names) {
    session.nodes.distrust(dir);
    Notice::Pages(dir).give(session);
    for (child, name) in names {
        Notice::Name(dir, name).give(session);
        session.nodes.distrust(child);
        Notice::Pages(child).give(session);
    }
}
