//! The hint source of a Linux host: fanotify where the right to it and the file system allow, and
//! inotify for every directory where they do not.

use super::fanotify::Fanotify;
use super::inotify::Inotify;
use super::{HintSource, Report, WatchError, WatchKey};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use tracing::debug;

/// Most reports of one [`wait`](HintSource::wait): beyond it the caller gets to work first.
const BATCH: usize = 4096;

/// Both sources of one session.
pub struct Linux {
    fanotify: Option<Fanotify>,
    inotify: Inotify,
    wake: OwnedFd,
}

impl Linux {
    /// New sources that watch nothing.
    ///
    /// # Errors
    /// The user has too many inotify instances (`fs.inotify.max_user_instances`) or descriptors.
    pub fn new() -> io::Result<Self> {
        let fanotify =
            Fanotify::new().inspect_err(|error| debug!(%error, "no fanotify; inotify serves")).ok();
        Self::of(fanotify)
    }

    /// The same without fanotify, as for an ordinary user.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn inotify_only() -> io::Result<Self> {
        Self::of(None)
    }

    fn of(fanotify: Option<Fanotify>) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { fanotify, inotify: Inotify::new()?, wake })
    }
}

impl HintSource for Linux {
    fn serving(&self) {
        if let Some(fanotify) = &self.fanotify {
            fanotify.serving();
        }
    }

    fn anchor(&self, root: BorrowedFd<'_>) {
        if let Some(fanotify) = &self.fanotify {
            fanotify.anchor(root);
        }
    }

    fn watch_parent(&self, key: WatchKey, dir: BorrowedFd<'_>) -> Result<(), WatchError> {
        self.watch(key, dir)
    }

    fn watch(&self, key: WatchKey, dir: BorrowedFd<'_>) -> Result<(), WatchError> {
        if let Some(fanotify) = &self.fanotify {
            match fanotify.watch(key, dir) {
                Ok(()) => return Ok(()),
                Err(error) => debug!(%error, "inotify serves"),
            }
        }
        self.inotify.watch(key, dir)
    }

    fn unwatch(&self, key: WatchKey) {
        if !self.fanotify.as_ref().is_some_and(|fanotify| fanotify.unwatch(key)) {
            self.inotify.unwatch(key);
        }
    }

    fn limited(&self) -> Vec<WatchKey> {
        self.inotify.limited()
    }

    fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Report>) -> io::Result<()> {
        let timeout = timeout.map(timespec);
        let fanotify = self.fanotify.as_ref().map_or(self.wake.as_fd(), Fanotify::queue);
        let mut fds = [self.wake.as_fd(), self.inotify.queue(), fanotify]
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [woken, inotify, fanotify] = fds.map(|fd| !fd.revents().is_empty());
        if woken {
            match rustix::io::read(&self.wake, &mut [0; 8]) {
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(source) = self.fanotify.as_ref().filter(|_| fanotify) {
            source.drain(BATCH, out)?;
        }
        if inotify { self.inotify.drain(BATCH, out) } else { Ok(()) }
    }

    fn gather(&self, time: Duration) {
        // Who wakes us ends this, and then the next wait. An error only means that nothing piles up.
        _ = poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], Some(&timespec(time)));
    }

    fn wake(&self) {
        // Fails only where the counter is full, and then the waiter is awake.
        _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
