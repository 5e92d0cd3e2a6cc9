//! Watching the host: what an operating system says may have changed, as [`Report`]s.
//!
//! A [`HintSource`] watches the directories that a session reads (rule 2: watch before read) and
//! reports hints. A hint is no event: the [reconciler](crate::reconcile) compares it with what the
//! guest was told. The only code here that differs by platform is the source itself:
//!
//! | source | says | what it fills in |
//! | --- | --- | --- |
//! | `inotify` | one kind, one name, a cookie | everything but [`Hint::by`] |
//! | `fanotify` | kinds of one name and doer, both ends of a rename | everything |
//! | [`fsevents`] | accumulated flags, no order, file ids, own-event marks | [`Hint::by`] of names, [`Report::Subtree`] |

mod claims;
pub mod driver;
#[cfg(target_os = "linux")]
mod fanotify;
pub mod fsevents;
mod heard;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(target_os = "linux")]
pub mod linux;
mod run;
#[cfg(all(test, target_os = "linux"))]
mod tests;
#[cfg(target_os = "linux")]
mod threads;

use bitflags::bitflags;
use protocol::NodeId;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// What a watch is known by: the directory, as the session numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WatchKey(pub NodeId);

bitflags! {
    /// What may have happened. A source that accumulates sets several.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Kinds: u16 {
        /// A name was made.
        const CREATE = 1;
        /// A name was removed.
        const DELETE = 1 << 1;
        /// Content was changed.
        const MODIFY = 1 << 2;
        /// A file that was open for writing was closed.
        const CLOSE_WRITE = 1 << 3;
        /// Mode, owner, times, extended attributes were changed.
        const ATTRIB = 1 << 4;
        /// A name was moved away.
        const MOVED_FROM = 1 << 5;
        /// A name was moved here.
        const MOVED_TO = 1 << 6;
        /// The watched directory itself was removed.
        const SELF_DELETE = 1 << 7;
        /// The watched directory itself was moved.
        const SELF_MOVE = 1 << 8;
        /// Attributes of the watched directory itself were changed.
        const SELF_ATTRIB = 1 << 9;
    }
}

/// Who did it, where the source can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Doer {
    /// The source cannot tell.
    #[default]
    Unknown,
    /// The session whose source this is, on behalf of its guest.
    Ourselves,
    /// Anybody else, also another session of this process.
    Another,
}

/// Something may have happened to a name in a directory, or to the directory itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hint {
    /// The watched directory.
    pub dir: WatchKey,
    /// The name; none for the directory itself.
    pub name: Option<Box<[u8]>>,
    /// What may have happened.
    pub kinds: Kinds,
    /// The same number, not zero, on both halves of one rename; zero where there is none.
    pub cookie: u32,
    /// Whether the object is a directory, as far as the source tells.
    pub is_dir: bool,
    /// Who did it.
    pub by: Doer,
}

/// What a source reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// One hint.
    Hint(Hint),
    /// Something may have happened anywhere beneath this directory.
    Subtree(WatchKey),
    /// This watch is no more: the directory is gone or unreachable.
    Ended(WatchKey),
    /// Hints were lost: something may have happened in every watched directory.
    Overflow,
}

/// Why a directory is not watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The host allows no more watches.
    #[error("the host allows no more watches (raise fs.inotify.max_user_watches)")]
    Limit,
    /// The host declined.
    #[error("the host does not watch the directory: {0}")]
    Refused(#[source] io::Error),
}

/// Watches directories and reports hints. Shared by the threads that serve requests (which add
/// watches) and the one thread that waits for reports.
pub trait HintSource: Send + Sync {
    /// The calling thread works for the session: what it does is the session's own work. Called
    /// for every request.
    fn serving(&self) {}

    /// An export begins here. Called before its directories are watched; `root` is good for the
    /// duration of the call.
    fn anchor(&self, root: BorrowedFd<'_>) {
        let _ = root;
    }

    /// Watches what happens to names in a directory that is shared with nobody: the parent of an
    /// export, whose folder may be replaced. A source that sees that otherwise does nothing.
    ///
    /// # Errors
    /// A folder that is removed and made again is then not noticed.
    fn watch_parent(&self, key: WatchKey, dir: BorrowedFd<'_>) -> Result<(), WatchError> {
        let _ = (key, dir);
        Ok(())
    }

    /// Watches a directory from now on. Watching again what is watched does nothing.
    ///
    /// # Errors
    /// The directory then is not watched, and may not be leased.
    fn watch(&self, key: WatchKey, dir: BorrowedFd<'_>) -> Result<(), WatchError>;

    /// No longer watches it. Reports of it may still come.
    fn unwatch(&self, key: WatchKey);

    /// What is watched at the cost of others: for each of these that is watched no longer another
    /// directory can be. None where watches are not limited.
    fn limited(&self) -> Vec<WatchKey> {
        Vec::new()
    }

    /// Blocks until there are reports, [`wake`](Self::wake) is called, or the time is over, and
    /// appends the reports to `out`. Uses no processor time while it blocks.
    ///
    /// # Errors
    /// The source is beyond repair: nothing is watched any more.
    fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Report>) -> io::Result<()>;

    /// Lets reports pile up for so long, unless [`wake`](Self::wake) is called meanwhile. A source
    /// that gathers them by itself does nothing.
    fn gather(&self, time: Duration) {
        let _ = time;
    }

    /// Ends the present or next [`wait`](Self::wait), from any thread.
    fn wake(&self);
}

/// The best source of this host for one session.
///
/// # Errors
/// The host has none, or gives none now (descriptors, instances).
pub fn open() -> io::Result<Arc<dyn HintSource>> {
    #[cfg(target_os = "linux")]
    return linux::Linux::new().map(|source| Arc::new(source) as Arc<dyn HintSource>);
    #[cfg(target_os = "macos")]
    return Ok(Arc::new(fsevents::FsEvents::new()));
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    return Err(io::Error::from(io::ErrorKind::Unsupported));
}
