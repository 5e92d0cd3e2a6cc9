//! Threads that hand work to each other, on one processor while there is much of it.
//!
//! An injection is a handful of short turns: worker, hand, FUSE thread, hand, … Each turn wakes one
//! thread and lets another sleep. On another processor, which has nothing else to do, waking costs
//! several times what is done in the turn. So while many changes wait, the threads that take such
//! turns are *gathered* on one processor, and let go as soon as nothing waits.

pub mod follow;
mod stat;

use parking_lot::Mutex;
use rustix::process::{Pid, getpid};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A thread that can be bound to a processor, and the processors that it may use otherwise.
#[derive(Clone, Copy, Debug)]
struct Movable {
    thread: Pid,
    own: CpuSet,
}

impl Movable {
    /// The calling thread, if the system tells what it may use.
    fn this() -> Option<Self> {
        Some(Self { thread: gettid(), own: sched_getaffinity(None).ok()? })
    }

    /// Binds it to a processor. Tells whether that can be.
    fn bind(&self, processor: usize) -> bool {
        let mut there = CpuSet::new();
        there.set(processor);
        sched_setaffinity(Some(self.thread), &there).is_ok()
    }

    /// Lets it go again.
    fn free(&self) {
        _ = sched_setaffinity(Some(self.thread), &self.own);
    }
}

/// Makes the calling thread, which was perhaps started by one that is bound, run where the first one of the
/// process does.
pub fn leave_inherited_place() {
    if let Ok(own) = sched_getaffinity(Some(getpid())) {
        _ = sched_setaffinity(None, &own);
    }
}

/// The threads of one mount that take turns.
#[derive(Debug, Default)]
pub struct Affinity {
    /// Held while they are moved, so that a thread that has left is never touched: its number may be
    /// another's by then.
    members: Mutex<Vec<Movable>>,
    gathered: AtomicBool,
}

/// A thread takes part until this is dropped.
#[derive(Debug)]
pub struct Member {
    affinity: Arc<Affinity>,
    thread: Pid,
}

impl Affinity {
    /// The calling thread takes part from now on.
    pub fn join(self: &Arc<Self>) -> Member {
        self.members.lock().extend(Movable::this());
        Member { affinity: self.clone(), thread: gettid() }
    }

    /// Gathers all on the processor of the calling thread.
    pub fn gather(&self) {
        if self.gathered.swap(true, Ordering::AcqRel) {
            return;
        }
        let here = sched_getcpu();
        for member in &*self.members.lock() {
            member.bind(here);
        }
    }

    /// Whether they are.
    pub fn is_gathered(&self) -> bool {
        self.gathered.load(Ordering::Acquire)
    }

    /// Lets them go again.
    pub fn scatter(&self) {
        if !self.gathered.swap(false, Ordering::AcqRel) {
            return;
        }
        self.members.lock().iter().for_each(Movable::free);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.affinity.members.lock().retain(|member| member.thread != self.thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn members_share_one_processor_while_gathered_and_have_their_own_back_after() {
        let affinity = Arc::new(Affinity::default());
        let before = sched_getaffinity(None).unwrap();
        let [joined, gathered, seen, scattered] = [(); 4].map(|()| Barrier::new(2));
        std::thread::scope(|scope| {
            let member = scope.spawn(|| {
                let _member = affinity.join();
                joined.wait();
                gathered.wait();
                let there = sched_getaffinity(None).unwrap();
                seen.wait();
                scattered.wait();
                (there.count(), sched_getaffinity(None).unwrap())
            });
            joined.wait();
            affinity.gather();
            affinity.gather();
            let not_moved = sched_getaffinity(None).unwrap();
            gathered.wait();
            seen.wait();
            affinity.scatter();
            scattered.wait();
            assert_eq!(member.join().unwrap(), (1, before));
            assert_eq!(not_moved, before, "only members are moved");
        });
        assert!(affinity.members.lock().is_empty(), "who has ended takes no part");
    }

    #[test]
    fn who_is_started_by_a_member_may_go_anywhere() {
        let affinity = Arc::new(Affinity::default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _member = affinity.join();
                affinity.gather();
                let inherited = std::thread::spawn(|| {
                    let inherited = sched_getaffinity(None).unwrap();
                    leave_inherited_place();
                    (inherited.count(), sched_getaffinity(None).unwrap())
                });
                let first = sched_getaffinity(Some(getpid())).unwrap();
                assert_eq!(inherited.join().unwrap(), (1, first));
                affinity.scatter();
            });
        });
    }

    #[test]
    fn what_was_restricted_before_stays_so() {
        let affinity = Arc::new(Affinity::default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut first = CpuSet::new();
                let all = sched_getaffinity(None).unwrap();
                first.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
                sched_setaffinity(None, &first).unwrap();
                let _member = affinity.join();
                affinity.gather();
                affinity.scatter();
                assert_eq!(sched_getaffinity(None).unwrap(), first);
            });
        });
    }
}
