//! Whose turn it is to read the next request of a connection.
//!
//! The threads of a connection take turns. The one that has it reads a request, passes the turn on and
//! carries the request out, so that a slow one keeps nobody waiting. A request that ends within
//! microseconds is carried out before the turn is passed on (*in between*), because waking another
//! thread would take longer. If that was an error, the disk or a file system of the host hanging, one
//! of those that wait takes the turn away:
//!
//! ```text
//! take ── read ──┬── pass ─────────────── carry out ── take …
//!                └── begin ── carry out ──┬── resume: still its turn ── read …
//!                                         └── resume: taken away ── take …
//! ```
//!
//! Whoever waits looks at the time only while requests come in between; with nothing to do nobody
//! wakes up.

use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// A request that takes so long is not carried out in between.
const LONG: Duration = Duration::from_millis(10);

/// The turn at one connection.
#[derive(Debug, Default)]
pub struct Turns {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody has the turn.
    taken: bool,
    /// Which request that one carries out in between, and since when.
    between: Option<(u64, Instant)>,
    /// How many of those were begun.
    begun: u64,
    /// Threads that wait.
    waiting: usize,
    /// Whether one of them looks at the time.
    watch: Watch,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Watch {
    #[default]
    Nobody,
    /// One is woken up to do so.
    Called,
    Somebody,
}

/// A request that is carried out in between.
#[derive(Debug)]
pub struct Between(u64);

impl Turns {
    /// Waits for the turn. False when the connection is closed.
    #[must_use]
    pub fn take(&self) -> bool {
        let mut state = self.state.lock();
        state.waiting += 1;
        let mut seen = state.begun;
        let got = loop {
            if state.closed {
                break false;
            }
            if !state.taken {
                state.taken = true;
                break true;
            }
            if state.between.is_some_and(|(_, since)| since.elapsed() >= LONG) {
                state.between = None;
                break true;
            }
            let busy = state.between.is_some() || state.begun != seen;
            if busy && state.watch != Watch::Somebody {
                state.watch = Watch::Somebody;
                seen = state.begun;
                self.free.wait_for(&mut state, LONG);
                state.watch = Watch::Nobody;
            } else {
                self.free.wait(&mut state);
                // Whoever was called is awake, and does what there is to do, if not this one.
                if state.watch == Watch::Called {
                    state.watch = Watch::Nobody;
                }
            }
        };
        state.waiting -= 1;
        got
    }

    /// Passes the turn on. Tells whether somebody waits for it.
    #[must_use]
    pub fn pass(&self) -> bool {
        let mut state = self.state.lock();
        state.taken = false;
        self.wake_one(&state)
    }

    /// Something is to be carried out in between from `now` on, before [`resume`](Self::resume). Tells
    /// also whether somebody waits who could take over.
    #[must_use]
    pub fn begin(&self, now: Instant) -> (Between, bool) {
        let mut state = self.state.lock();
        state.begun += 1;
        state.between = Some((state.begun, now));
        let waits = match state.watch {
            Watch::Nobody => self.wake_one(&state),
            Watch::Called | Watch::Somebody => true,
        };
        if waits && state.watch == Watch::Nobody {
            state.watch = Watch::Called;
        }
        (Between(state.begun), waits)
    }

    /// It is carried out. False if the turn was taken away meanwhile.
    #[must_use]
    pub fn resume(&self, Between(number): Between) -> bool {
        let mut state = self.state.lock();
        state.between.take_if(|(other, _)| *other == number).is_some()
    }

    /// There are no more turns.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.free.notify_all();
    }

    fn wake_one(&self, state: &State) -> bool {
        state.waiting > 0 && {
            self.free.notify_one();
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_turn_is_one_threads_until_it_is_passed_on() {
        let turns = Turns::default();
        assert!(turns.take());
        let (took, taken) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| took.send(turns.take()));
            assert!(taken.recv_timeout(LONG * 5).is_err(), "the turn is not free");
            assert!(turns.pass());
            assert_eq!(taken.recv_timeout(SOON), Ok(true));
        });
        assert!(!turns.pass(), "nobody waits any more");
    }

    #[test]
    fn what_is_quick_keeps_the_turn() {
        let turns = Turns::default();
        assert!(turns.take());
        let (between, waits) = turns.begin(Instant::now());
        assert!(!waits);
        assert!(turns.resume(between));
    }

    #[test]
    fn what_turns_out_to_be_slow_loses_the_turn_to_one_who_waits() {
        let turns = Turns::default();
        assert!(turns.take());
        let (took, taken) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| took.send(turns.take()));
            while turns.state.lock().waiting == 0 {
                thread::yield_now();
            }
            let (slow, waits) = turns.begin(Instant::now());
            assert!(waits);
            assert_eq!(taken.recv_timeout(SOON), Ok(true), "the turn is taken away");
            // The other one is at something quick itself by now.
            let (other, _) = turns.begin(Instant::now());
            assert!(!turns.resume(slow));
            assert!(turns.resume(other));
        });
    }

    #[test]
    fn one_after_the_other_finds_what_hangs() {
        const THREADS: usize = 8;
        let turns = Turns::default();
        let hanging = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    assert!(turns.take());
                    let (between, _) = turns.begin(Instant::now());
                    hanging.fetch_add(1, Ordering::AcqRel);
                    while hanging.load(Ordering::Acquire) < THREADS {
                        thread::yield_now();
                    }
                    // Whoever was the last may still have it.
                    let _ = turns.resume(between);
                });
            }
        });
    }

    #[test]
    fn the_end_of_the_connection_ends_the_wait() {
        let turns = Turns::default();
        assert!(turns.take());
        thread::scope(|scope| {
            let waits = scope.spawn(|| turns.take());
            turns.close();
            assert!(!waits.join().unwrap());
        });
    }
}
