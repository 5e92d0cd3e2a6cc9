//! An event that a thread sleeps for: an eventfd on Linux, so that the kernel can ring it for a
//! guest; a pipe elsewhere.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::io;

/// Signalled by [`signal`](Self::signal), by several as by one; readable until cleared.
#[derive(Debug)]
pub struct Event {
    read: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    write: OwnedFd,
}

impl Event {
    /// A quiet one.
    ///
    /// # Errors
    /// No descriptor can be had.
    #[cfg(target_os = "linux")]
    pub fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self { read: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// A quiet one.
    ///
    /// # Errors
    /// No descriptor can be had.
    #[cfg(not(target_os = "linux"))]
    pub fn new() -> io::Result<Self> {
        use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
        let (read, write) = rustix::pipe::pipe()?;
        for end in [&read, &write] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            ioctl_fionbio(end, true)?;
        }
        Ok(Self { read, write })
    }

    /// Wakes whoever sleeps for it.
    pub fn signal(&self) {
        #[cfg(target_os = "linux")]
        let write = &self.read;
        #[cfg(not(target_os = "linux"))]
        let write = &self.write;
        // Full is as good as written; it fails in no other way while the other end is open.
        _ = rustix::io::retry_on_intr(|| rustix::io::write(write, &1_u64.to_ne_bytes()));
    }

    /// Makes it quiet again. Tells whether it had been signalled.
    pub fn clear(&self) -> bool {
        let mut buffer = [0; 512];
        let mut any = false;
        loop {
            match rustix::io::read(&self.read, &mut buffer) {
                Ok(len) => {
                    any |= len > 0;
                    if len < buffer.len() {
                        return any;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return any,
            }
        }
    }
}

impl AsFd for Event {
    /// To be polled for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
