//! Listing a directory by `getdents64`, with the file system's own cookies.

use crate::os::DirEntry;
use protocol::Errno;
use rustix::fs::SeekFrom;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Room for one call: some hundred entries.
const ROOM: usize = 32 * 1024;

/// Where `struct linux_dirent64` has its fields: inode, cookie, length of the record, type, name.
const LENGTH_AT: usize = 16;
const KIND_AT: usize = 18;
const NAME_AT: usize = 19;

/// See [`crate::os::DirStream`].
#[derive(Debug)]
pub struct DirStream {
    fd: OwnedFd,
    /// What the kernel gave and nobody has taken yet: `read[next..]`.
    read: Vec<u8>,
    next: usize,
    /// The cookie of the entry last taken.
    position: u64,
}

impl DirStream {
    /// Lists a directory from its beginning.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, read: Vec::new(), next: 0, position: 0 }
    }

    /// The cookie behind which [`peek`](Self::peek) goes on.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Goes to a cookie.
    pub fn seek(&mut self, cookie: u64) -> Result<(), Errno> {
        self.read.clear();
        self.next = 0;
        rustix::fs::seek(&self.fd, SeekFrom::Start(cookie)).map_err(super::errno)?;
        self.position = cookie;
        Ok(())
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

    /// Asks the kernel for more. False at the end, where the buffer is given up.
    fn fill(&mut self) -> Result<bool, Errno> {
        self.next = 0;
        self.read.clear();
        self.read.reserve_exact(ROOM);
        let (fd, room) = (self.fd.as_raw_fd(), self.read.spare_capacity_mut());
        // SAFETY: `fd` is open, and the kernel writes at most `room.len()` bytes into `room`.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, fd, room.as_mut_ptr(), room.len()) };
        match usize::try_from(got) {
            Ok(0) => {
                self.read = Vec::new();
                Ok(false)
            }
            Ok(got) => {
                // SAFETY: the kernel has written so many bytes at the start of the empty vector.
                unsafe { self.read.set_len(got) };
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
