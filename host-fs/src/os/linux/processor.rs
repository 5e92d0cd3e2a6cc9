//! Threads of this process on one processor, behind all others.

use rustix::process::{Pid, getpid};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use std::io;
use std::sync::OnceLock;

/// See [`crate::os::Movable`].
#[derive(Clone, Copy, Debug)]
pub struct Movable {
    thread: Pid,
    /// The processors that it may use otherwise.
    own: CpuSet,
}

impl Movable {
    /// See there.
    pub fn this() -> Option<Self> {
        let this = Self { thread: gettid(), own: sched_getaffinity(None).ok()? };
        (this.own.count() > 1 && may_return()).then_some(this)
    }

    /// See there.
    pub fn number(&self) -> u32 {
        self.thread.as_raw_pid().unsigned_abs()
    }

    /// See there.
    pub fn keep_to(&self, processor: u16) -> bool {
        let processor = usize::from(processor);
        if processor >= CpuSet::MAX_CPU || !self.own.is_set(processor) {
            return false;
        }
        let mut there = CpuSet::new();
        there.set(processor);
        let kept = set_idle(self.thread, true).is_ok()
            && sched_setaffinity(Some(self.thread), &there).is_ok();
        if !kept {
            self.free();
        }
        kept
    }

    /// See there.
    pub fn free(&self) {
        _ = set_idle(self.thread, false);
        _ = sched_setaffinity(Some(self.thread), &self.own);
    }

    /// See there.
    pub fn wants_to_run(&self) -> bool {
        let path = format!("/proc/self/task/{}/stat", self.number());
        // The second field, the name, ends with the last bracket; the third is the state.
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
    }
}

pub fn leave_inherited_place() {
    if let (Ok(here), Ok(first)) = (sched_getaffinity(None), sched_getaffinity(Some(getpid())))
        && here != first
    {
        Movable { thread: gettid(), own: first }.free();
    }
}

/// Whether the system lets a thread come last and then be itself again: that takes `CAP_SYS_NICE`, or a
/// limit of `RLIMIT_NICE`.
fn may_return() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let there_and_back = || {
            let this = gettid();
            set_idle(this, true).and_then(|()| set_idle(this, false)).is_ok()
        };
        std::thread::spawn(there_and_back).join().unwrap_or(false)
    })
}

/// One thread (linux/ioprio.h).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// Between `SCHED_IDLE` and `SCHED_OTHER`. The disk serves the thread as before.
fn set_idle(thread: Pid, idle: bool) -> io::Result<()> {
    let policy = if idle { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    let priority: libc::c_int = 0;
    let (call, thread) = (libc::SYS_sched_setscheduler, thread.as_raw_pid());
    // What is not said follows from the policy: who comes last would come last at the disk, too.
    if idle {
        // SAFETY: numbers go in, and a number comes out.
        let at_disk = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, thread) };
        if at_disk > 0 {
            // SAFETY: the same.
            unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, thread, at_disk) };
        }
    }
    // SAFETY: `struct sched_param` is one number, which is only read. musl's function does nothing.
    match unsafe { libc::syscall(call, thread, policy, &raw const priority) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the calling thread.
    fn policy() -> i32 {
        // SAFETY: takes a number and gives one.
        unsafe { libc::sched_getscheduler(0) }
    }

    fn at_disk() -> i64 {
        // SAFETY: takes numbers and gives one.
        unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) }
    }

    #[test]
    fn a_thread_keeps_to_a_processor_of_its_own_and_is_as_before_then() {
        std::thread::spawn(|| {
            let Some(this) = Movable::this() else {
                return eprintln!("skipped: needs two processors and CAP_SYS_NICE");
            };
            let (own, served) = (sched_getaffinity(None).unwrap(), at_disk());
            let first = (0..CpuSet::MAX_CPU).find(|at| own.is_set(*at)).unwrap();
            assert!(!this.keep_to(u16::MAX), "there is no such processor");
            assert!(this.keep_to(first as u16) && this.wants_to_run());
            let there = sched_getaffinity(None).unwrap();
            assert!(there.count() == 1 && there.is_set(first));
            assert_eq!((policy(), at_disk()), (libc::SCHED_IDLE, served));
            this.free();
            assert_eq!((sched_getaffinity(None).unwrap(), policy()), (own, libc::SCHED_OTHER));
        })
        .join()
        .unwrap();
    }
}
