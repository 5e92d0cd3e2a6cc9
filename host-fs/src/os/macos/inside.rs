//! A directory as the working directory of this thread alone, for calls that take only a path: a
//! plain name is then as confined as with a directory descriptor.

use super::{last_error, sys};
use protocol::Errno;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

/// While it lives, relative paths of this thread start in a directory.
pub struct Inside {
    /// The working directory belongs to the thread, so the guard stays on it.
    thread: PhantomData<*const ()>,
}

impl Inside {
    pub fn of(dir: BorrowedFd<'_>) -> Result<Self, Errno> {
        // SAFETY: the descriptor is open, and the call touches no memory.
        if unsafe { sys::pthread_fchdir_np(dir.as_raw_fd()) } == 0 {
            Ok(Self { thread: PhantomData })
        } else {
            Err(last_error())
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // SAFETY: -1 names no descriptor: the thread shares the process's directory again.
        unsafe { sys::pthread_fchdir_np(-1) };
    }
}
