//! Listing a directory by `getdents64`, with the file system's own cookies.
//!
//! Where cookies are places in the directory (ramfs, tmpfs before Linux 6.6, some that are served by
//! programs) they shift with every removal, and going to one passes over entries that were there all the
//! time. A guest takes less than it was given where its reader's buffer is small, comes back for the
//! rest, and may have removed what it took. So what was given last is kept, and the listing goes on in
//! it; the file system is asked to go somewhere only where a reader really does.

use crate::os::DirEntry;
use protocol::Errno;
use rustix::fs::SeekFrom;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Room for one call: some hundred entries. As much is given at once at least, and not much more, for it
/// is kept with every handle.
const ROOM: usize = 32 * 1024;

/// Where `struct linux_dirent64` has its fields: inode, cookie, length of the record, type, name.
const LENGTH_AT: usize = 16;
const KIND_AT: usize = 18;
const NAME_AT: usize = 19;

/// See [`crate::os::DirStream`].
#[derive(Debug)]
pub struct DirStream {
    fd: OwnedFd,
    /// What the kernel gave. `read[from..next]` was taken since the last [`seek`](Self::seek), and what
    /// is behind `next` nobody has taken yet.
    read: Vec<u8>,
    from: usize,
    next: usize,
    /// The cookie behind which `read[from..]` begins.
    start: u64,
    /// The cookie of the entry last taken.
    position: u64,
}

impl DirStream {
    /// Lists a directory from its beginning.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, read: Vec::new(), from: 0, next: 0, start: 0, position: 0 }
    }

    /// Goes to a cookie. To the beginning also means to read anew.
    pub fn seek(&mut self, cookie: u64) -> Result<(), Errno> {
        let at = match cookie {
            0 => self.read.is_empty().then_some(0).filter(|_| self.position == 0),
            _ if cookie == self.position => Some(self.next),
            _ => self.find(cookie),
        };
        match at {
            Some(at) if at < self.read.len() => (self.from, self.next) = (at, at),
            _ => {
                self.read = Vec::new();
                (self.from, self.next) = (0, 0);
            }
        }
        (self.start, self.position) = (cookie, cookie);
        if at.is_none() {
            rustix::fs::seek(&self.fd, SeekFrom::Start(cookie)).map_err(super::errno)?;
        }
        Ok(())
    }

    /// Where in `read` the entry behind this cookie begins.
    fn find(&self, cookie: u64) -> Option<usize> {
        let mut at = self.from;
        let mut before = self.start;
        while before != cookie {
            let (entry, length) = record(self.read.get(at..)?)?;
            before = entry.cookie;
            at += length;
        }
        Some(at)
    }

    /// Whether so much was taken that the rest has to wait for the next [`seek`](Self::seek).
    pub fn is_long(&self) -> bool {
        self.next >= self.read.len() && self.next - self.from >= ROOM
    }

    /// The next entry.
    pub fn peek(&mut self) -> Result<Option<DirEntry<'_>>, Errno> {
        if self.next >= self.read.len() && !self.fill()? {
            return Ok(None);
        }
        record(&self.read[self.next..]).map(|(entry, _)| Some(entry)).ok_or(Errno::EIO)
    }

    /// Past the entry last peeked.
    pub fn advance(&mut self) {
        if let Some((entry, length)) = self.read.get(self.next..).and_then(record) {
            self.position = entry.cookie;
            self.next += length;
        }
    }

    /// Asks the kernel for more. False at the end.
    fn fill(&mut self) -> Result<bool, Errno> {
        self.read.drain(..self.from);
        self.next -= self.from;
        self.from = 0;
        self.read.reserve(ROOM);
        let (fd, room) = (self.fd.as_raw_fd(), self.read.spare_capacity_mut());
        let room = room.get_mut(..ROOM).unwrap_or_default();
        // SAFETY: `fd` is open, and the kernel writes at most `room.len()` bytes into `room`.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, fd, room.as_mut_ptr(), room.len()) };
        match usize::try_from(got) {
            Ok(0) => Ok(false),
            Ok(got) => {
                let len = self.read.len() + got;
                // SAFETY: the kernel has written so many bytes behind those that are there.
                unsafe { self.read.set_len(len) };
                Ok(true)
            }
            Err(_) => match std::io::Error::last_os_error().raw_os_error() {
                // A directory that has been removed is empty.
                Some(libc::ENOENT) => Ok(false),
                raw => Err(Errno::from_raw(raw.unwrap_or(libc::EIO))),
            },
        }
    }
}

impl AsFd for DirStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The record at the start of `bytes` and its length.
fn record(bytes: &[u8]) -> Option<(DirEntry<'_>, usize)> {
    let number =
        |at: usize| -> Option<u64> { Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?)) };
    let length = u16::from_ne_bytes(*bytes.get(LENGTH_AT..)?.first_chunk()?) as usize;
    let name = bytes.get(NAME_AT..length)?;
    let name = name.split(|b| *b == 0).next()?;
    let entry = DirEntry { ino: number(0)?, cookie: number(8)?, kind: *bytes.get(KIND_AT)?, name };
    Some((entry, length))
}
