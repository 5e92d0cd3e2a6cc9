//! The tap: whoever wants to see changes as they are delivered. Nothing is made up for it while
//! nobody does.

use crate::fuse::session::Session;
use crate::inject::Outcome;
use crate::nodes::LocalId;
use parking_lot::Mutex;
use protocol::{Change, Errno, NodeId, Place};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Changes that wait for one watcher; what is beyond is only counted.
const BACKLOG: usize = 4096;

/// What kind of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A name leads somewhere.
    Created,
    /// The content differs, or a writer closed it.
    Modified,
    /// Attributes differ.
    Attrib,
    /// A name leads nowhere any more.
    Removed,
    /// A name has moved.
    Renamed,
    /// A name came and went.
    Passed,
    /// What was cached of a directory is not believed any more: the host compares it.
    Doubt,
    /// Directories are compared again.
    Compared,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The kernel performed it: whoever watches has heard.
    Injected,
    /// The kernel does not know the directory: nobody can be watching.
    NobodyCanWatch,
    /// The guest did it itself meanwhile.
    OwnWork,
    /// The kernel refused; what it had cached is void.
    Refused(Errno),
    /// The kernel did not finish it in time; the directory is compared when it does.
    GivenUp,
    /// Dropped with another of its directory that was given up.
    Dropped,
    /// The cache of the directory is void.
    Void,
    /// A comparison found so many differences, which follow.
    Found(u64),
}

/// Why directories are compared again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The server was away.
    Reconnected,
    /// A change could not be injected in time.
    GivenUp,
}

/// One change, as it was delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// What.
    pub kind: Kind,
    /// Where within the mount. Empty for its root.
    pub path: PathBuf,
    /// The new name of what has moved.
    pub to: Option<PathBuf>,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// What came of it.
    pub fate: Fate,
    /// The comparison that found it, if one did.
    pub why: Option<Why>,
    /// How long it took from its arrival.
    pub delay: Duration,
    /// Changes before this one that are missing here, because they were not read in time.
    pub missed: u64,
}

/// All who watch one mount.
#[derive(Default)]
pub struct Tap {
    count: AtomicUsize,
    takers: Mutex<Vec<Taker>>,
}

struct Taker {
    sender: mpsc::SyncSender<Told>,
    missed: Arc<AtomicU64>,
}

impl Tap {
    /// Whether anybody watches.
    pub fn is_open(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Watches from now on, until the receiver is dropped.
    pub fn open(&self) -> mpsc::Receiver<Told> {
        let (sender, receiver) = mpsc::sync_channel(BACKLOG);
        let takers = &mut *self.takers.lock();
        takers.push(Taker { sender, missed: Arc::default() });
        self.count.store(takers.len(), Ordering::Relaxed);
        receiver
    }

    /// Tells all who watch. Does not wait.
    pub fn tell(&self, told: &Told) {
        let takers = &mut *self.takers.lock();
        takers.retain(|taker| {
            let missed = taker.missed.swap(0, Ordering::Relaxed);
            match taker.sender.try_send(Told { missed, ..told.clone() }) {
                Ok(()) => true,
                Err(mpsc::TrySendError::Full(_)) => {
                    taker.missed.store(missed + 1, Ordering::Relaxed);
                    true
                }
                Err(mpsc::TrySendError::Disconnected(_)) => false,
            }
        });
        self.count.store(takers.len(), Ordering::Relaxed);
    }

    /// Everybody has seen all there is.
    pub fn close(&self) {
        self.takers.lock().clear();
        self.count.store(0, Ordering::Relaxed);
    }
}

/// A change in words of the mount. To be made before it is delivered, while names still are what they
/// were. Its fate is not known yet.
pub fn describe(session: &Session, change: &Change<'_>, why: Option<Why>) -> Told {
    let place = |at: &Place<'_>| {
        let mut path = directory(session, session.nodes.local(at.parent));
        path.push(OsString::from_vec(at.name.as_bytes().to_vec()));
        path
    };
    let (kind, path, to, is_dir) = match change {
        Change::Created { at, entry, .. } => (Kind::Created, place(at), None, entry.attr.is_dir()),
        Change::Modified { at, .. } => (Kind::Modified, place(at), None, false),
        Change::Attrib { at, entry } => {
            let path = at.as_ref().map(place).unwrap_or_default();
            (Kind::Attrib, path, None, entry.attr.is_dir())
        }
        Change::Removed { at, is_dir, .. } => (Kind::Removed, place(at), None, *is_dir),
        Change::Renamed { from, to, entry, .. } => {
            (Kind::Renamed, place(from), Some(place(to)), entry.attr.is_dir())
        }
        Change::Passed { at, is_dir, .. } => (Kind::Passed, place(at), None, *is_dir),
        Change::Doubt { dir } => {
            (Kind::Doubt, directory(session, session.nodes.local(*dir)), None, true)
        }
    };
    Told { kind, path, to, is_dir, fate: Fate::Void, why, delay: Duration::ZERO, missed: 0 }
}

/// Where a directory is; `?` if that is not known.
pub fn directory(session: &Session, dir: Option<LocalId>) -> PathBuf {
    match dir.and_then(|dir| session.nodes.path(dir)) {
        Some(steps) => {
            steps.into_iter().map(|(_, name)| OsString::from_vec(name.into_vec())).collect()
        }
        None => PathBuf::from("?"),
    }
}

/// The node of a directory, however the server calls it.
pub fn directory_of(session: &Session, dir: NodeId) -> PathBuf {
    directory(session, session.nodes.local(dir))
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Injected => Self::Injected,
            Outcome::Unknown => Self::NobodyCanWatch,
            Outcome::Refused(errno) => Self::Refused(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> Told {
        Told {
            kind: Kind::Created,
            path: name.into(),
            to: None,
            is_dir: false,
            fate: Fate::Injected,
            why: None,
            delay: Duration::ZERO,
            missed: 0,
        }
    }

    #[test]
    fn who_is_slow_loses_lines_and_hears_how_many() {
        let tap = Tap::default();
        assert!(!tap.is_open());
        let slow = tap.open();
        (0..BACKLOG + 3).for_each(|_| tap.tell(&told("a")));
        let read = slow.try_iter().count();
        assert_eq!(read, BACKLOG);
        tap.tell(&told("b"));
        assert_eq!(slow.recv().unwrap(), Told { missed: 3, ..told("b") });
    }

    #[test]
    fn who_has_gone_costs_nothing_any_more() {
        let tap = Tap::default();
        drop(tap.open());
        assert!(tap.is_open());
        tap.tell(&told("a"));
        assert!(!tap.is_open());
    }
}
