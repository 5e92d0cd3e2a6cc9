//! Hints from Linux's fanotify: one group for a session, one mark for each directory.
//!
//! Unlike inotify it says which thread did it, so the session's own work is known for certain, and
//! marks are not limited. It needs `CAP_SYS_ADMIN` and a file system with handles; where either is
//! missing, [`inotify`](super::inotify) serves. Directories, not whole file systems, are marked:
//! nobody else's work on the disk wakes us.
//!
//! The kernel merges events of one name and one thread that wait in its queue. So a hint may have
//! several kinds at once, and an old event may say what happened last. That costs order, never a
//! hint.
//!
//! Lock order: `marks` alone. It is held while a mark is added, so that a report of a new mark
//! always finds its key.

mod records;
mod sys;

use super::threads::Threads;
use super::{Doer, Hint, Kinds, Report, WatchError, WatchKey};
use crate::os;
use parking_lot::Mutex;
use records::{DirHandle, Event, Record, Role};
use rustc_hash::FxHashMap;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tracing::debug;

/// Bytes read at once: some hundred events.
const BUFFER: usize = 16 * 1024;

/// More than the largest event takes: a read that leaves so much room has emptied the queue.
const LARGEST: usize = 1024;

/// Tells our cookies from those of inotify, which count up from 1.
const OURS: u32 = 1 << 31;

#[derive(Default)]
struct Marks {
    keys: FxHashMap<DirHandle, Vec<WatchKey>>,
    handles: FxHashMap<WatchKey, DirHandle>,
    /// An open directory of each file system that holds an export, to find marked ones again.
    anchors: FxHashMap<[u8; 8], OwnedFd>,
    /// Counts renames.
    cookie: u32,
}

/// A fanotify group.
pub struct Fanotify {
    group: OwnedFd,
    threads: Threads,
    marks: Mutex<Marks>,
}

impl Fanotify {
    /// A new group that watches nothing.
    ///
    /// # Errors
    /// The right is missing, or the kernel is too old.
    pub fn new() -> io::Result<Self> {
        Ok(Self { group: sys::init()?, threads: Threads::new(), marks: Mutex::default() })
    }

    /// The calling thread works for the session.
    pub fn serving(&self) {
        self.threads.enter();
    }

    /// Directories of this one's file system can be watched from now on.
    pub fn anchor(&self, root: BorrowedFd<'_>) {
        let anchored = fsid(root).and_then(|fsid| {
            let fd = rustix::fs::openat(
                root,
                c".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            Ok((fsid, fd))
        });
        match anchored {
            Ok((fsid, fd)) => _ = self.marks.lock().anchors.entry(fsid).or_insert(fd),
            Err(error) => debug!(%error, "an export is not watched by fanotify"),
        }
    }

    /// Watches a directory from now on.
    ///
    /// # Errors
    /// Another source has to do it.
    pub fn watch(&self, key: WatchKey, dir: BorrowedFd<'_>) -> Result<(), WatchError> {
        let refused = |error: Errno| WatchError::Refused(error.into());
        let fsid = fsid(dir).map_err(refused)?;
        let mut marks = self.marks.lock();
        if marks.handles.contains_key(&key) {
            return Ok(());
        }
        // A mark elsewhere could not be removed: nothing may be held open that the host may want
        // to unmount.
        if !marks.anchors.contains_key(&fsid) {
            return Err(refused(Errno::XDEV));
        }
        let (kind, bytes) = sys::handle(dir).map_err(refused)?;
        sys::mark(self.group.as_fd(), dir, true).map_err(refused)?;
        let handle = DirHandle { fsid, kind, bytes: bytes.into() };
        marks.keys.entry(handle.clone()).or_default().push(key);
        marks.handles.insert(key, handle);
        Ok(())
    }

    /// Watches it no longer. Tells whether it was watched here.
    pub fn unwatch(&self, key: WatchKey) -> bool {
        let mut marks = self.marks.lock();
        let Some(handle) = marks.handles.remove(&key) else { return false };
        let Some(keys) = marks.keys.get_mut(&handle) else { return true };
        keys.retain(|other| *other != key);
        if keys.is_empty() {
            marks.keys.remove(&handle);
            if let Some(anchor) = marks.anchors.get(&handle.fsid)
                // If it is gone, so is the mark.
                && let Ok(dir) = sys::open_by_handle(anchor.as_fd(), (handle.kind, &handle.bytes))
            {
                _ = sys::mark(self.group.as_fd(), dir.as_fd(), false);
            }
        }
        true
    }

    /// Becomes readable when there is something to [`drain`](Self::drain).
    pub fn queue(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// Takes what the kernel has queued, until `most` reports are there.
    ///
    /// # Errors
    /// The group is beyond repair.
    pub fn drain(&self, most: usize, out: &mut Vec<Report>) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        while out.len() < most {
            let len = match rustix::io::read(&self.group, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut rest = buffer.get(..len).unwrap_or_default();
            while let Some(event) = records::next(&mut rest) {
                self.report(&event, out);
            }
            if len + LARGEST <= BUFFER {
                break;
            }
        }
        Ok(())
    }

    fn report(&self, event: &Event<'_>, out: &mut Vec<Report>) {
        if event.mask & libc::FAN_Q_OVERFLOW != 0 {
            out.push(Report::Overflow);
            return;
        }
        let by = if self.threads.contains(event.thread) { Doer::Ourselves } else { Doer::Another };
        let is_dir = event.mask & libc::FAN_ONDIR != 0;
        let marks = &mut *self.marks.lock();
        // A rename of which the other end is not watched has no other half to wait for.
        let ends = event.records.iter().filter(|record| marks.keys.contains_key(&record.dir));
        let cookie = if event.mask & libc::FAN_RENAME != 0 && ends.count() == 2 {
            marks.cookie = marks.cookie.wrapping_add(1);
            marks.cookie | OURS
        } else {
            0
        };
        for record in &event.records {
            let kinds = kinds(event.mask, record);
            if kinds == Kinds::SELF_ATTRIB
                && !marks.keys.contains_key(&record.dir)
                && let Some((parent, name)) = marks.place(&record.dir)
            {
                let keys = marks.keys.get(&parent).map(Vec::as_slice).unwrap_or_default();
                let name = Some(Box::from(name));
                out.extend(keys.iter().map(|&dir| {
                    let name = name.clone();
                    Report::Hint(Hint { dir, name, kinds: Kinds::ATTRIB, cookie, is_dir, by })
                }));
            }
            let keys = marks.keys.get(&record.dir).map(Vec::as_slice).unwrap_or_default();
            let name = (!record.name.is_empty()).then(|| Box::from(record.name));
            let hints = keys.iter().filter(|_| !kinds.is_empty()).map(|&dir| {
                Report::Hint(Hint { dir, name: name.clone(), kinds, cookie, is_dir, by })
            });
            out.extend(hints);
            if kinds.contains(Kinds::SELF_DELETE) {
                let gone = marks.keys.remove(&record.dir).unwrap_or_default();
                for key in gone {
                    marks.handles.remove(&key);
                    out.push(Report::Ended(key));
                }
            }
        }
    }
}

impl Marks {
    /// Where a directory stands that is not marked, but its parent is. The kernel names it alone,
    /// when it tells of its attributes.
    fn place(&self, dir: &DirHandle) -> Option<(DirHandle, Vec<u8>)> {
        let anchor = self.anchors.get(&dir.fsid)?;
        let fd = sys::open_by_handle(anchor.as_fd(), (dir.kind, &dir.bytes)).ok()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(&fd, c"..", flags, Mode::empty()).ok()?;
        let (kind, bytes) = sys::handle(parent.as_fd()).ok()?;
        let path = os::present_path(fd.as_fd()).ok()?;
        let name = path.rsplit(|byte| *byte == b'/').next()?.to_vec();
        Some((DirHandle { fsid: dir.fsid, kind, bytes: bytes.into() }, name))
    }
}

fn fsid(fd: BorrowedFd<'_>) -> Result<[u8; 8], Errno> {
    rustix::fs::fstatvfs(fd).map(|stat| stat.f_fsid.to_ne_bytes())
}

fn kinds(mask: u64, record: &Record<'_>) -> Kinds {
    const NAMED: [(u64, Kinds); 5] = [
        (libc::FAN_CREATE, Kinds::CREATE),
        (libc::FAN_DELETE, Kinds::DELETE),
        (libc::FAN_MODIFY, Kinds::MODIFY),
        (libc::FAN_CLOSE_WRITE, Kinds::CLOSE_WRITE),
        (libc::FAN_ATTRIB, Kinds::ATTRIB),
    ];
    const OWN: [(u64, Kinds); 3] = [
        (libc::FAN_DELETE_SELF, Kinds::SELF_DELETE),
        (libc::FAN_MOVE_SELF, Kinds::SELF_MOVE),
        (libc::FAN_ATTRIB, Kinds::SELF_ATTRIB),
    ];
    match record.role {
        Role::From => Kinds::MOVED_FROM,
        Role::To => Kinds::MOVED_TO,
        Role::At => {
            let table: &[_] = if record.name.is_empty() { &OWN } else { &NAMED };
            table.iter().filter(|(flag, _)| mask & flag != 0).map(|(_, kind)| *kind).collect()
        }
    }
}
