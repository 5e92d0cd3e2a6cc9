//! How a thread that runs the guest is got back: `immediate_exit` keeps it from entering, a signal
//! makes it leave. The signal's handler does nothing.

use super::super::Kick;
use parking_lot::Mutex;
use std::io;
use std::ptr;
use std::sync::{Arc, Once};

/// See [`Kick`].
#[derive(Default)]
pub struct Target {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kicked: bool,
    running: Option<Running>,
}

/// A thread inside [`Target::enter`] and the flag of its processor.
struct Running {
    thread: libc::pthread_t,
    immediate_exit: *mut u8,
}

// SAFETY: the pointer is used under the lock only, while the thread that owns the memory behind it is
// inside `enter` and cannot free it.
unsafe impl Send for Running {}

impl Target {
    /// Runs `body` so that a kick reaches it. `None` if it is to end before it begins.
    ///
    /// # Safety
    /// `immediate_exit` is the flag of a processor that this thread runs in `body`, and stays valid
    /// until this returns.
    pub unsafe fn enter<T>(&self, immediate_exit: *mut u8, body: impl FnOnce() -> T) -> Option<T> {
        {
            let mut state = self.state.lock();
            if state.kicked {
                return None;
            }
            // SAFETY: it has no preconditions.
            let thread = unsafe { libc::pthread_self() };
            state.running = Some(Running { thread, immediate_exit });
        }
        /// Leaves also if `body` panics.
        struct Leave<'a>(&'a Target);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.state.lock().running = None;
            }
        }
        let _leave = Leave(self);
        Some(body())
    }

    /// Whether it was kicked.
    pub fn is_kicked(&self) -> bool {
        self.state.lock().kicked
    }
}

impl Kick for Target {
    fn kick(&self) {
        let mut state = self.state.lock();
        state.kicked = true;
        if let Some(running) = &state.running {
            // SAFETY: valid while `running` is there, see `enter`; only the kernel reads it meanwhile.
            unsafe { ptr::write_volatile(running.immediate_exit, 1) };
            // SAFETY: the thread is inside `enter`, so it exists.
            unsafe { libc::pthread_kill(running.thread, signal()) };
        }
    }
}

/// The signal: the first real-time signal that the C library leaves to programs.
pub fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Gives the signal its handler, once, and lets it reach this thread.
pub fn prepare() -> io::Result<()> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: an action of zeros is one without flags: system calls do not restart.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as usize;
        // SAFETY: the action is valid and its handler may run at any point.
        unsafe { libc::sigaction(signal(), &raw const action, ptr::null_mut()) };
    });
    // SAFETY: a set of zeros is a set, which the next call makes empty by its rules.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: the set is ours and the signal exists.
    unsafe { libc::sigaddset(&raw mut set, signal()) };
    // SAFETY: the set is valid, and the old one is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// For the thread that makes a processor.
pub fn target() -> io::Result<Arc<Target>> {
    prepare()?;
    Ok(Arc::default())
}
