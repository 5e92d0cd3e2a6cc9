//! Guests' locks on the host (`--host-locks`), so that they exclude the host's own programs too.
//!
//! The host sees one holder, this server, with one open file description per locked file. On it lies
//! the union of what guests hold: on each byte the strongest of their locks. Among guests the
//! [`LockTable`] decides, before the host is asked. A lock that must wait is tried again every
//! [`RETRY`] and whenever a guest gives something up, since the host wakes nobody here; circles of
//! such waits are not seen (no `EDEADLK`).
//!
//! Lock order: the server's lock table, then `waiting`, then `files`. The host is asked with all of
//! them held: it never waits.

use crate::handle::{OpenFile, Permit, Share};
use crate::locks::{FileKey, LockTable, Range};
use crate::os;
use crate::session::Waiting;
use parking_lot::{Condvar, Mutex};
use protocol::{Errno, LockFamily, LockKind, OpenFlags, Reply, Tag};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How often a lock that waits is tried.
const RETRY: Duration = Duration::from_millis(20);

/// The host's side of all locks.
#[derive(Default)]
pub(crate) struct HostLocks {
    files: Mutex<FxHashMap<FileKey, HostFile>>,
    waiting: Mutex<Waits>,
    changed: Condvar,
}

#[derive(Default)]
struct Waits {
    list: Vec<Wait>,
    /// A thread tries them.
    running: bool,
}

struct HostFile {
    fd: OwnedFd,
    _permit: Permit,
}

/// A request that waits.
pub(crate) struct Wait {
    pub file: Arc<OpenFile>,
    pub range: Range,
    pub tag: Tag,
    pub answer: Waiting,
    pub share: Arc<Share>,
}

impl HostLocks {
    /// Takes a lock on the host and in the table, if both allow it at once. Gives the waiters that
    /// may go on.
    pub fn take(
        &self,
        table: &mut LockTable<Waiting>,
        file: &OpenFile,
        share: &Arc<Share>,
        range: Range,
    ) -> Result<Vec<Waiting>, Errno> {
        let key = file.identity.key();
        if table.conflict(key, &range).is_some() {
            return Err(Errno::EAGAIN);
        }
        let mut files = self.files.lock();
        let host = match files.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(HostFile::open(file, share)?),
        };
        let kind = if range.exclusive { LockKind::Write } else { LockKind::Read };
        let taken = match range.owner.family {
            LockFamily::Posix => os::lock_range(host.fd.as_fd(), kind, range.start, range.end),
            LockFamily::Flock => os::lock_whole(host.fd.as_fd(), kind),
        };
        match taken {
            Ok(()) => Ok(table.put(key, range)),
            Err(errno) => {
                // A failed conversion of a flock has lost the old one: take it again.
                self.apply(table, &mut files, key);
                Err(errno)
            }
        }
    }

    /// Something of a file was released in the table: the host's locks follow.
    pub fn follow(&self, table: &LockTable<Waiting>, key: FileKey) {
        self.apply(table, &mut self.files.lock(), key);
        self.changed.notify_all();
    }

    /// As [`follow`](Self::follow) for all files.
    pub fn follow_all(&self, table: &LockTable<Waiting>) {
        let mut files = self.files.lock();
        let keys: Vec<FileKey> = files.keys().copied().collect();
        for key in keys {
            self.apply(table, &mut files, key);
        }
        drop(files);
        self.changed.notify_all();
    }

    fn apply(
        &self,
        table: &LockTable<Waiting>,
        files: &mut FxHashMap<FileKey, HostFile>,
        key: FileKey,
    ) {
        let Some(host) = files.get(&key) else { return };
        let held: Vec<Range> = table.held(key).copied().collect();
        if held.is_empty() {
            files.remove(&key); // closing releases everything
            return;
        }
        set_union(host.fd.as_fd(), &held);
    }

    /// Keeps a request to be tried again. Tells whether the caller must start a thread that runs
    /// [`due`](Self::due).
    pub fn wait(&self, wait: Wait) -> bool {
        let mut waits = self.waiting.lock();
        waits.list.push(wait);
        !std::mem::replace(&mut waits.running, true)
    }

    /// Sleeps until it is time to try again. False if nothing waits any more, and then the thread
    /// must end.
    pub fn due(&self) -> bool {
        let mut waits = self.waiting.lock();
        if !waits.list.is_empty() {
            self.changed.wait_for(&mut waits, RETRY);
        }
        waits.running = !waits.list.is_empty();
        waits.running
    }

    /// Tries all that wait, in their order. Gives those that are to be answered now, and how.
    pub fn try_all(&self, table: &mut LockTable<Waiting>) -> Vec<(Waiting, Result<(), Errno>)> {
        let mut done = Vec::new();
        let mut waits = self.waiting.lock();
        for wait in std::mem::take(&mut waits.list) {
            match self.take(table, &wait.file, &wait.share, wait.range) {
                Ok(woken) => {
                    done.push((wait.answer, Ok(())));
                    done.extend(woken.into_iter().map(|answer| (answer, Ok(()))));
                }
                Err(Errno::EAGAIN) => waits.list.push(wait),
                Err(errno) => done.push((wait.answer, Err(errno))),
            }
        }
        done
    }

    /// Takes all requests back: there is no thread to try them.
    pub fn give_up(&self) -> Vec<Waiting> {
        let mut waits = self.waiting.lock();
        waits.running = false;
        std::mem::take(&mut waits.list).into_iter().map(|wait| wait.answer).collect()
    }

    /// Takes requests back that are given up: one with this tag, or all of a session.
    pub fn cancel(&self, session: u64, tag: Option<Tag>) -> Vec<Waiting> {
        let is_it = |wait: &mut Wait| {
            wait.range.owner.session == session && tag.is_none_or(|tag| tag == wait.tag)
        };
        let mut waits = self.waiting.lock();
        waits.list.extract_if(.., is_it).map(|wait| wait.answer).collect()
    }
}

impl HostFile {
    /// A description of our own: locks on the guest's would end with its handle.
    fn open(file: &OpenFile, share: &Arc<Share>) -> Result<Self, Errno> {
        let permit = share.take().map_err(|_| Errno::ENOLCK)?;
        let both = os::reopen(file.fd.as_fd(), OpenFlags::RDWR);
        let alike = OpenFlags::WRONLY | OpenFlags::RDWR;
        let fd = both.or_else(|_| os::reopen(file.fd.as_fd(), file.flags & alike))?;
        Ok(Self { fd, _permit: permit })
    }
}

/// Makes what lies on the host the union of what is held. Weakening a lock cannot fail.
fn set_union(fd: BorrowedFd<'_>, held: &[Range]) {
    let strongest = |ranges: &mut dyn Iterator<Item = &Range>| {
        ranges.fold(LockKind::Unlock, |strongest, range| match (strongest, range.exclusive) {
            (LockKind::Write, _) | (_, true) => LockKind::Write,
            _ => LockKind::Read,
        })
    };
    let of = |family| held.iter().filter(move |range| range.owner.family == family);
    let _ = os::lock_whole(fd, strongest(&mut of(LockFamily::Flock)));
    let mut cuts = vec![0];
    for range in of(LockFamily::Posix) {
        cuts.push(range.start);
        cuts.push(range.end.saturating_add(1));
    }
    cuts.sort_unstable();
    cuts.dedup();
    for (at, start) in cuts.iter().enumerate() {
        let end = cuts.get(at + 1).map_or(i64::MAX as u64, |next| next - 1);
        let mut covering = of(LockFamily::Posix).filter(|r| r.start <= *start && *start <= r.end);
        if *start <= i64::MAX as u64 {
            let _ = os::lock_range(fd, strongest(&mut covering), *start, end);
        }
    }
}

/// What a request that waited is answered with.
pub(crate) fn answer(answer: Waiting, result: Result<(), Errno>) {
    match result {
        Ok(()) => answer(&Reply::Done),
        Err(errno) => answer(&Reply::Error { errno }),
    }
}
