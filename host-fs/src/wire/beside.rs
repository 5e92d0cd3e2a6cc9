//! Serving an agent on the processor on which somebody waits for the answer.
//!
//! While one program of the guest asks alone and fast, an agent on the same machine keeps to that
//! program's processor, and says so with each request. Waking a thread on another processor takes longer
//! than most requests. So the thread that reads its requests keeps to it as well, and comes last there
//! (`SCHED_IDLE`): a processor that runs nothing else counts as free, and so the system leaves the program
//! on it.
//!
//! Who comes last does not get on where others are at work. So a *guard* looks every [`TICK`] whether
//! requests are still read, and sets the thread free if not. At rest nobody is kept, and the guard sleeps.

use crate::os::{Movable, spawn};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::warn;

/// Who has not read a request for so long is set free.
const TICK: Duration = Duration::from_millis(5);
/// Nobody is kept for so long after others wanted the processor, twice as long each time up to the most,
/// until one was kept for longer than that.
const PAUSE_LEAST: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(3);

/// Which thread of a connection is kept.
#[derive(Debug)]
pub struct Beside {
    /// Requests that were read, and who is kept where: for whoever is kept, which must hold no lock
    /// when others take the processor away from it.
    read: AtomicU32,
    place: AtomicU64,
    state: Mutex<State>,
    /// Somebody is kept, or the connection is closed.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    kept: Option<Kept>,
    pause: Duration,
    not_before: Instant,
    has_guard: bool,
    closed: bool,
}

#[derive(Debug)]
struct Kept {
    thread: Movable,
    since: Instant,
}

/// A thread at a processor; 0 stands for none at any.
fn place(thread: Movable, processor: u16) -> u64 {
    u64::from(thread.number()) << 32 | u64::from(processor)
}

impl Default for Beside {
    fn default() -> Self {
        let (kept, pause, not_before) = (None, Duration::ZERO, Instant::now());
        let state = State { kept, pause, not_before, has_guard: false, closed: false };
        let (read, place) = (AtomicU32::default(), AtomicU64::default());
        Self { read, place, state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl Beside {
    /// The calling thread, `this`, has read a request of somebody who asks alone and waits on a processor,
    /// or of anybody. Tells whether it is kept there.
    pub fn serves(self: &Arc<Self>, this: Movable, processor: Option<u16>) -> bool {
        self.read.fetch_add(1, Ordering::Relaxed);
        let wanted = processor.map_or(0, |processor| place(this, processor));
        if self.place.load(Ordering::Acquire) == wanted {
            return wanted != 0;
        }
        let state = &mut *self.state.lock();
        self.free(state);
        let Some(processor) = processor else { return false };
        let since = Instant::now();
        if state.closed || since < state.not_before || !self.has_guard(state) {
            return false;
        }
        let keeps = this.keep_to(processor);
        if keeps {
            state.kept = Some(Kept { thread: this, since });
            self.place.store(wanted, Ordering::Release);
            self.changed.notify_all();
        }
        keeps
    }

    /// The calling thread ends, or waits for somebody else to read.
    pub fn rests(&self, this: Movable) {
        let is_kept = |place: u64| place >> 32 == u64::from(this.number());
        // Nobody but this thread says that it is kept.
        if is_kept(self.place.load(Ordering::Acquire)) {
            let state = &mut *self.state.lock();
            if is_kept(self.place.load(Ordering::Acquire)) {
                self.free(state);
            }
        }
    }

    /// Nobody is kept any more.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.free(&mut state);
        self.changed.notify_all();
    }

    fn has_guard(self: &Arc<Self>, state: &mut State) -> bool {
        if !state.has_guard {
            let this = self.clone();
            match spawn("guard", move || this.guard()) {
                Ok(_) => state.has_guard = true,
                Err(error) => {
                    warn!(%error, "cannot start a thread; who asks alone is served as others");
                }
            }
        }
        state.has_guard
    }

    fn guard(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            if state.kept.is_none() {
                self.changed.wait(&mut state);
                continue;
            }
            let before = self.read.load(Ordering::Relaxed);
            let timed_out = self.changed.wait_for(&mut state, TICK).timed_out();
            if timed_out && self.read.load(Ordering::Relaxed) == before {
                let others = state.kept.as_ref().is_some_and(|kept| kept.thread.wants_to_run());
                self.free(&mut state);
                if others {
                    state.pause = (state.pause * 2).clamp(PAUSE_LEAST, PAUSE_MOST);
                    state.not_before = Instant::now() + state.pause;
                }
            }
        }
    }

    fn free(&self, state: &mut State) {
        let Some(kept) = state.kept.take() else { return };
        self.place.store(0, Ordering::Release);
        kept.thread.free();
        if kept.since.elapsed() > PAUSE_MOST {
            state.pause = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Works on a thread that may be kept.
    fn on_a_thread(work: impl FnOnce(&Arc<Beside>, Movable) + Send) {
        let beside = Arc::<Beside>::default();
        thread::scope(|scope| {
            scope.spawn(|| match Movable::this() {
                None => eprintln!("skipped: needs two processors and CAP_SYS_NICE"),
                Some(this) => work(&beside, this),
            });
        });
        beside.close();
    }

    fn until_free(beside: &Beside) {
        while beside.place.load(Ordering::Acquire) != 0 {
            thread::sleep(20 * TICK);
        }
    }

    #[test]
    fn who_asks_alone_is_served_beside_until_it_rests() {
        on_a_thread(|beside, this| {
            assert!(!beside.serves(this, None));
            assert!(beside.serves(this, Some(0)));
            assert!(beside.serves(this, Some(0)));
            assert!(beside.serves(this, Some(1)), "it has moved");
            until_free(beside);
            assert!(beside.serves(this, Some(0)), "nobody else wanted it");
            assert!(!beside.serves(this, None), "somebody else asks, too");
            assert_eq!(beside.place.load(Ordering::Acquire), 0);
        });
    }

    #[test]
    fn who_is_gone_or_waits_is_not_kept() {
        on_a_thread(|beside, this| {
            assert!(beside.serves(this, Some(0)));
            beside.rests(this);
            assert_eq!(beside.place.load(Ordering::Acquire), 0);
            assert!(!beside.serves(this, Some(u16::MAX)), "there is no such processor");
            beside.close();
            assert!(!beside.serves(this, Some(0)));
        });
    }

    #[test]
    fn where_others_are_at_work_nobody_is_kept_for_a_while() {
        on_a_thread(|beside, this| {
            assert!(beside.serves(this, Some(0)));
            // It reads nothing, and waits for nothing.
            while beside.place.load(Ordering::Acquire) != 0 {
                std::hint::spin_loop();
            }
            assert!(!beside.serves(this, Some(0)));
            assert!(beside.state.lock().pause >= PAUSE_LEAST);
        });
    }
}
