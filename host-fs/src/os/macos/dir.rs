//! Listing a directory by `getattrlistbulk`, whole and before the first entry is given: see
//! [`Snapshot`] for the reason. A directory that changed while it was read is read again, and what
//! the first reading missed is added. What is removed after the reading stays in the listing, as
//! POSIX allows.
//!
//! Cookies are places in what was read. Going back to the start reads anew; a cookie from before
//! that, or from another stream of the same directory, leads to the entry with the same place.

use super::darwin::record;
use super::darwin::snapshot::{Full, Snapshot};
use super::{errno, last_error};
use crate::os::DirEntry;
use protocol::Errno;
use rustix::fs::{AtFlags, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Room for one call: some thousand entries. In words, for the records are aligned to 8 bytes.
const ROOM: usize = 64 * 1024 / size_of::<u64>();

/// How often a directory is read while it does not hold still.
const READINGS: usize = 4;

/// `DT_DIR`.
const DIRECTORY: u8 = 4;

/// What is asked of each entry, <sys/attr.h>.
const WANTED: u32 =
    record::RETURNED | record::NAME | record::ERROR | record::OBJTYPE | record::FILEID;

/// See [`crate::os::DirStream`].
#[derive(Debug)]
pub struct DirStream {
    fd: OwnedFd,
    /// What was read; none before the first entry is asked for.
    read: Option<Snapshot>,
    /// How many entries were taken.
    position: u64,
}

impl DirStream {
    /// Lists a directory from its beginning.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, read: None, position: 0 }
    }

    /// Never: all was read before.
    pub fn is_long(&self) -> bool {
        false
    }

    /// Goes to a cookie.
    pub fn seek(&mut self, cookie: u64) -> Result<(), Errno> {
        if cookie == 0 {
            self.read = None;
        }
        self.position = cookie;
        Ok(())
    }

    /// The next entry.
    pub fn peek(&mut self) -> Result<Option<DirEntry<'_>>, Errno> {
        let read = match &mut self.read {
            Some(read) => read,
            empty => empty.insert(read_all(self.fd.as_fd())?),
        };
        let at = usize::try_from(self.position).unwrap_or(usize::MAX);
        let cookie = self.position.saturating_add(1);
        Ok(read.get(at).map(|(ino, kind, name)| DirEntry { ino, cookie, kind, name }))
    }

    /// Past the entry last peeked.
    pub fn advance(&mut self) {
        let end = self.read.as_ref().map_or(0, Snapshot::len) as u64;
        if self.position < end {
            self.position += 1;
        }
    }
}

impl AsFd for DirStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// All entries of a directory, `.` and `..` first.
fn read_all(fd: BorrowedFd<'_>) -> Result<Snapshot, Errno> {
    let full = |Full| Errno::ENOMEM;
    let mut before = rustix::fs::fstat(fd).map_err(errno)?;
    let parent = rustix::fs::statat(fd, c"..", AtFlags::SYMLINK_NOFOLLOW);
    let parent = parent.map_or(before.st_ino, |parent| parent.st_ino);
    let mut all = Snapshot::default();
    all.push(before.st_ino, DIRECTORY, b".").map_err(full)?;
    all.push(parent, DIRECTORY, b"..").map_err(full)?;
    read_into(&mut all, fd)?;
    for _ in 1..READINGS {
        let now = rustix::fs::fstat(fd).map_err(errno)?;
        if (now.st_mtime, now.st_mtime_nsec) == (before.st_mtime, before.st_mtime_nsec) {
            break;
        }
        before = now;
        let mut again = Snapshot::default();
        read_into(&mut again, fd)?;
        all.merge(&again).map_err(full)?;
    }
    Ok(all)
}

/// One reading from start to end.
fn read_into(all: &mut Snapshot, fd: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::seek(fd, SeekFrom::Start(0)).map_err(errno)?;
    let mut wanted = libc::attrlist {
        bitmapcount: libc::ATTR_BIT_MAP_COUNT,
        reserved: 0,
        commonattr: WANTED,
        volattr: 0,
        dirattr: 0,
        fileattr: 0,
        forkattr: 0,
    };
    let mut room = vec![0u64; ROOM];
    loop {
        // SAFETY: `fd` is open, `wanted` is a whole `struct attrlist`, and the kernel writes at
        // most so many bytes into `room`.
        let entries = unsafe {
            libc::getattrlistbulk(
                fd.as_raw_fd(),
                (&raw mut wanted).cast(),
                room.as_mut_ptr().cast(),
                size_of_val(room.as_slice()),
                0,
            )
        };
        match entries {
            0 => return Ok(()),
            1.. => {}
            _ => match last_error() {
                Errno::EINTR => continue,
                // A directory that has been removed is empty.
                Errno::ENOENT => return Ok(()),
                error => return Err(error),
            },
        }
        let (_, mut rest, _) = {
            // SAFETY: every byte of a number is a byte.
            unsafe { room.align_to::<u8>() }
        };
        for _ in 0..entries {
            let (entry, behind) = record::next(rest).ok_or(Errno::EIO)?;
            rest = behind;
            // Some file systems do list these two.
            if !matches!(entry.name, b"" | b"." | b"..") {
                all.push(entry.ino, entry.kind, entry.name).map_err(|Full| Errno::ENOMEM)?;
            }
        }
    }
}
