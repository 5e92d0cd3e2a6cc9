//! One thread that serves a single asker, on the asker's processor.
//!
//! A program that does one thing after the other (`cp`, `git`, `rm -r`) waits for each answer: its
//! request wakes a thread here, and the answer wakes the program. The kernel sends whoever wakes to a
//! processor that has nothing to do, and waking that one costs many times what is done there. So while
//! one asker asks fast and alone, one thread *follows* it: this thread alone reads requests, bound to
//! the processor on which the asker was last seen. It runs as `SCHED_IDLE` then: a processor that runs
//! nothing else counts as free, so the kernel leaves the asker there when it wakes. Where a server
//! answers over a socket, the thread that brings its replies goes along.
//!
//! Who is bound and comes last does not get on where somebody else is at work. So the other threads
//! stand by. Every [`TICK`] one of them, the *guard*, looks whether the follower gets on, and sets it
//! free if not: then all read again. Another, the *scout*, looks where the asker is. The follower must
//! not do that itself: `/proc` waits for a process that executes a program, and such a process closes
//! files, for which it may be waiting for us.

use super::stat::Stat;
use super::{Affinity, Movable};
use crate::os::set_idle;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::thread::{CpuSet, gettid, sched_getaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, trace};

/// A follower that has not got on for so long is set free.
const TICK: Duration = Duration::from_millis(5);
/// So often is looked where the asker is, with so many times as long a rest as that took.
const LOOK: Duration = Duration::from_micros(500);
const REST: u32 = 20;
/// One asker is followed after so many requests in a row that nobody else made one between, ...
const RUN: u32 = 32;
/// ... in no more than this.
const FAST: Duration = Duration::from_millis(64);
/// How many requests of the same asker make good for one of another.
const FOREIGN: u32 = 8;
/// A follower, a guard and a scout.
const LEAST_THREADS: usize = 3;
/// Nobody is followed for so long after others wanted the follower's processor, twice as long each time
/// up to the most, until a follower has got on for longer than that.
const PAUSE_LEAST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(3);

/// The threads of one mount that read requests.
pub struct Following {
    affinity: Arc<Affinity>,
    bringer: Arc<Bringer>,
    /// Whether the system lets a thread come last and then be itself again.
    able: AtomicBool,
    /// The thread that follows, or 0 while all read.
    follower: AtomicI32,
    /// Requests that it has read.
    turns: AtomicU32,
    /// Who asked last, and while all read, how often in a row since when.
    asker: AtomicU32,
    run: AtomicU32,
    run_since: AtomicU64,
    created: Instant,
    state: Mutex<State>,
    /// All read again.
    free: Condvar,
}

/// The thread that brings replies to all mounts of a client; none if they come on the thread that sends.
pub struct Bringer {
    thread: Mutex<Option<Movable>>,
    /// The follower with which it goes along, or 0.
    lent: AtomicI32,
    /// Where, or [`NOWHERE`].
    place: AtomicU32,
}

const NOWHERE: u32 = u32::MAX;

struct State {
    /// The follower and who goes along.
    party: Vec<Movable>,
    /// Where they are bound.
    place: Option<usize>,
    begun: Instant,
    has_guard: bool,
    has_scout: bool,
    pause: Duration,
    not_before: Instant,
}

/// One thread that reads requests.
pub struct Reader<'f> {
    following: &'f Following,
    this: Movable,
    /// While it follows, how sure it is that there is but one asker.
    trust: u32,
}

impl Default for Bringer {
    fn default() -> Self {
        let (thread, lent) = (Mutex::default(), AtomicI32::default());
        Self { thread, lent, place: AtomicU32::new(NOWHERE) }
    }
}

impl Bringer {
    /// To which processor it keeps, together with who asks, if to one.
    pub fn processor(&self) -> Option<u16> {
        u16::try_from(self.place.load(Ordering::Relaxed)).ok()
    }

    /// The calling thread is it. It never ends.
    pub fn join(&self) {
        *self.thread.lock() = Movable::this();
    }

    /// Adds it to a party, if there is one. Tells whether no other mount has it.
    fn lend(&self, follower: i32, party: &mut Vec<Movable>) -> bool {
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        let is_free = self.lent.compare_exchange(0, follower, order.0, order.1).is_ok();
        if is_free {
            party.extend(*self.thread.lock());
        }
        is_free
    }

    /// It has gone along.
    fn keeps_to(&self, processor: usize) {
        self.place.store(u32::try_from(processor).unwrap_or(NOWHERE), Ordering::Relaxed);
    }

    fn give_back(&self, follower: i32) {
        if self.lent.load(Ordering::Acquire) == follower {
            self.place.store(NOWHERE, Ordering::Relaxed);
            self.lent.store(0, Ordering::Release);
        }
    }
}

impl Following {
    /// Nobody is followed yet.
    pub fn new(affinity: Arc<Affinity>, bringer: Arc<Bringer>) -> Self {
        let now = Instant::now();
        Self {
            affinity,
            bringer,
            able: AtomicBool::new(false),
            follower: AtomicI32::new(0),
            turns: AtomicU32::new(0),
            asker: AtomicU32::new(0),
            run: AtomicU32::new(0),
            run_since: AtomicU64::new(0),
            created: now,
            state: Mutex::new(State {
                party: Vec::new(),
                place: None,
                begun: now,
                has_guard: false,
                has_scout: false,
                pause: Duration::ZERO,
                not_before: now,
            }),
            free: Condvar::new(),
        }
    }

    /// From now on askers may be followed, if the system lets a thread of ours do that, enough of them
    /// read and there are several processors.
    pub fn allow(&self, threads: usize) {
        let several = |set: CpuSet| set.count() > 1;
        let able = threads >= LEAST_THREADS
            && sched_getaffinity(None).is_ok_and(several)
            && std::thread::spawn(|| {
                set_idle(gettid(), true).and_then(|()| set_idle(gettid(), false)).is_ok()
            })
            .join()
            .unwrap_or(false);
        debug!(able, "askers can be followed");
        self.able.store(able, Ordering::Relaxed);
    }

    /// The calling thread reads requests from now on.
    pub fn join(&self) -> Reader<'_> {
        let nowhere = || Movable { thread: gettid(), own: CpuSet::new() };
        Reader { following: self, this: Movable::this().unwrap_or_else(nowhere), trust: 0 }
    }

    /// Somebody asked while all read.
    fn count(&self, asker: u32) {
        if self.asker.swap(asker, Ordering::Relaxed) == asker {
            self.run.fetch_add(1, Ordering::Relaxed);
        } else {
            self.run_since.store(self.created.elapsed().as_millis() as u64, Ordering::Relaxed);
            self.run.store(1, Ordering::Relaxed);
        }
    }

    /// Whether one asker has asked fast and alone.
    fn is_run(&self) -> bool {
        if self.run.load(Ordering::Relaxed) < RUN {
            return false;
        }
        let since = Duration::from_millis(self.run_since.load(Ordering::Relaxed));
        let fast = self.created.elapsed().saturating_sub(since) < FAST;
        if !fast {
            self.asker.store(0, Ordering::Relaxed);
            self.run.store(0, Ordering::Relaxed);
        }
        fast
    }

    fn is_followed(&self) -> bool {
        self.follower.load(Ordering::Acquire) != 0
    }

    /// Sets the follower free when it does not get on.
    fn guard(&self, state: &mut MutexGuard<'_, State>) {
        let mut before = self.turns.load(Ordering::Relaxed);
        while self.is_followed() {
            let timed_out = self.free.wait_for(state, TICK).timed_out();
            let now = self.turns.load(Ordering::Relaxed);
            if timed_out && std::mem::replace(&mut before, now) == now {
                let got_on = !state.wants_to_run();
                self.release(state, got_on);
            }
        }
    }

    /// Binds the follower to where the asker is.
    fn scout(&self, state: &mut MutexGuard<'_, State>, this: Movable) {
        while self.is_followed() {
            let asker = self.asker.load(Ordering::Relaxed);
            let begun = Instant::now();
            // May wait for the asker.
            let stat = MutexGuard::unlocked(state, || Stat::of("/proc", asker));
            let rest = (begun.elapsed() * REST).max(LOOK);
            let follower = self.follower.load(Ordering::Acquire);
            if let Some(Stat { processor, .. }) = stat
                && follower != 0
                && state.has_guard
                && state.place != Some(processor)
            {
                let has_all = state.place.is_some() || {
                    state.party.push(this);
                    self.bringer.lend(follower, &mut state.party)
                };
                if has_all && state.bind(processor) {
                    self.bringer.keeps_to(processor);
                } else {
                    self.release(state, false);
                }
            }
            self.free.wait_for(state, rest);
        }
    }

    /// All read again. If the follower wanted to and did not get on, nobody is followed for a while.
    fn release(&self, state: &mut State, got_on: bool) {
        let follower = self.follower.swap(0, Ordering::AcqRel);
        if follower == 0 {
            return;
        }
        let is_bound = state.place.take().is_some();
        // None of them ends while it is bound.
        for member in state.party.drain(..).filter(|_| is_bound) {
            _ = set_idle(member.thread, false);
            member.free();
        }
        self.bringer.give_back(follower);
        let now = Instant::now();
        if !got_on {
            state.pause = (state.pause * 2).clamp(PAUSE_LEAST, PAUSE_MOST);
            state.not_before = now + state.pause;
        } else if now - state.begun > PAUSE_MOST {
            state.pause = Duration::ZERO;
        }
        self.asker.store(0, Ordering::Relaxed);
        self.run.store(0, Ordering::Relaxed);
        trace!(got_on, turns = self.turns.load(Ordering::Relaxed), "all read again");
        self.free.notify_all();
    }
}

impl Reader<'_> {
    /// To be called before a request is read: waits while another thread follows somebody.
    pub fn stand_by(&mut self) {
        let following = self.following;
        match following.follower.load(Ordering::Acquire) {
            0 if following.is_run() => self.begin(),
            0 => {}
            follower if follower == self.this.thread.as_raw_pid() => {}
            _ => self.wait(),
        }
    }

    /// To be called when a request is read: of whom (0 if it is the kernel's), and whether it is one of
    /// many that are better carried out beside each other.
    pub fn asked(&mut self, asker: u32, bulk: bool) {
        let following = self.following;
        if !following.able.load(Ordering::Relaxed) {
            return;
        }
        if following.follower.load(Ordering::Acquire) != self.this.thread.as_raw_pid() {
            if bulk {
                following.run.store(0, Ordering::Relaxed);
            } else if asker != 0 {
                following.count(asker);
            }
            return;
        }
        following.turns.fetch_add(1, Ordering::Relaxed);
        if asker == 0 {
            return;
        }
        if following.asker.load(Ordering::Relaxed) == asker && !bulk {
            self.trust = (self.trust + 1).min(RUN);
        } else {
            following.asker.store(asker, Ordering::Relaxed);
            self.trust = self.trust.saturating_sub(FOREIGN);
        }
        if self.trust == 0 {
            following.release(&mut following.state.lock(), true);
        }
    }

    /// Follows whoever asks.
    fn begin(&mut self) {
        let following = self.following;
        let mut state = following.state.lock();
        let now = Instant::now();
        following.run.store(0, Ordering::Relaxed);
        if following.follower.load(Ordering::Acquire) == 0
            && now >= state.not_before
            && !following.affinity.is_gathered()
        {
            self.trust = RUN;
            state.party = vec![self.this];
            state.begun = now;
            following.follower.store(self.this.thread.as_raw_pid(), Ordering::Release);
        }
    }

    /// Until all read again.
    fn wait(&self) {
        let following = self.following;
        let mut state = following.state.lock();
        if !std::mem::replace(&mut state.has_guard, true) {
            following.guard(&mut state);
            state.has_guard = false;
        } else if !std::mem::replace(&mut state.has_scout, true) {
            following.scout(&mut state, self.this);
            state.has_scout = false;
        } else {
            following.free.wait_while(&mut state, |_| following.is_followed());
        }
    }
}

impl State {
    /// Binds them to a processor. Tells whether that can be.
    fn bind(&mut self, processor: usize) -> bool {
        let comes_last = |thread| self.place.is_some() || set_idle(thread, true).is_ok();
        let bound = self.party.iter().all(|member| {
            member.own.is_set(processor) && comes_last(member.thread) && member.bind(processor)
        });
        self.place = Some(processor);
        bound
    }

    /// Whether one of them only has no processor.
    fn wants_to_run(&self) -> bool {
        self.party.iter().any(|member| {
            let thread = member.thread.as_raw_pid().unsigned_abs();
            let stat = Stat::of("/proc/self/task", thread);
            stat.is_some_and(|stat| stat.state == b'R')
        })
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let following = self.following;
        let mut state = following.state.lock();
        if following.follower.load(Ordering::Acquire) == self.this.thread.as_raw_pid() {
            following.release(&mut state, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Pid;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    /// What a reader does with a request: nothing, or wait until it may go on.
    type Ask = (u32, Option<Receiver<()>>, Sender<()>);

    /// Reads from a queue that ends with its sender.
    fn serve(following: &Following, asks: &Mutex<Receiver<Ask>>) {
        let mut reader = following.join();
        loop {
            reader.stand_by();
            let Ok((asker, held, answer)) = asks.lock().recv() else { break };
            reader.asked(asker, false);
            if let Some(held) = held {
                held.recv().unwrap();
            }
            answer.send(()).unwrap();
        }
    }

    fn with_readers(work: impl FnOnce(&Following, Sender<Ask>)) {
        let following = Following::new(Arc::default(), Arc::default());
        following.allow(LEAST_THREADS);
        if !following.able.load(Ordering::Relaxed) {
            eprintln!("skipped: needs two processors and CAP_SYS_NICE");
            return;
        }
        let (ask, asks) = channel();
        let asks = Mutex::new(asks);
        thread::scope(|scope| {
            for _ in 0..LEAST_THREADS {
                scope.spawn(|| serve(&following, &asks));
            }
            work(&following, ask);
        });
        assert_eq!(following.follower.load(Ordering::Relaxed), 0, "nobody follows for ever");
    }

    fn ask(asks: &Sender<Ask>, asker: Pid) {
        let (answer, answered) = channel();
        asks.send((asker.as_raw_pid().unsigned_abs(), None, answer)).unwrap();
        answered.recv().unwrap();
    }

    /// Asks until one of the readers follows.
    fn until_followed(following: &Following, asks: &Sender<Ask>) {
        while following.state.lock().place.is_none() {
            ask(asks, gettid());
        }
    }

    #[test]
    fn who_asks_alone_and_fast_is_followed_and_nobody_else_is() {
        with_readers(|following, asks| {
            for _ in 0..10 * RUN {
                ask(&asks, gettid());
                ask(&asks, Pid::INIT);
                assert_eq!(following.follower.load(Ordering::Acquire), 0);
            }
            until_followed(following, &asks);
            let party = following.state.lock().party.clone();
            while following.follower.load(Ordering::Acquire) != 0 {
                thread::sleep(TICK);
            }
            for Movable { thread, own } in party {
                assert_eq!(sched_getaffinity(Some(thread)).unwrap(), own);
            }
        });
    }

    #[test]
    fn a_follower_that_hangs_is_replaced_by_all() {
        with_readers(|following, asks| {
            let me = gettid().as_raw_pid().unsigned_abs();
            let (go_on, held) = channel();
            let [(answer, answered), (late, answered_late)] = [channel(), channel()];
            until_followed(following, &asks);
            asks.send((me, Some(held), answer)).unwrap();
            asks.send((me, None, late)).unwrap();
            answered_late.recv().unwrap();
            go_on.send(()).unwrap();
            answered.recv().unwrap();
        });
    }
}
