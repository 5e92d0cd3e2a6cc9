//! Anchors.
//!
//! `O_EVTONLY | O_SYMLINK` opens regular files, directories and symbolic links without following
//! and without holding up an unmount. But it is an open for reading, so that it
//! - fails for a socket, and for what this user may not read,
//! - starts a device,
//! - makes a fifo have a reader, upon which writers on the host no longer wait for one.
//!
//! For these the anchor is a *stand-in*: one end of a socket pair that holds the object's device
//! and inode number, unread forever. No other anchor is a socket, so that none can be mistaken for
//! one. The object is found through its number by `fsgetpath` (APFS, HFS+; other file systems
//! hardly have such objects), and what is found must have that number. A stand-in holds no object
//! alive: once the object is unlinked it is `ESTALE`.

use super::find::{self, Place};
use super::{errno, sys};
use protocol::Errno;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::net::{RecvFlags, SendFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often something that was replaced while we looked is looked at again.
pub const RETRIES: usize = 16;

/// Of an anchor, whatever its type.
const ANCHOR: OFlags = OFlags::CLOEXEC
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::SYMLINK)
    .union(OFlags::from_bits_retain(sys::O_EVTONLY));

/// What tells an object from all others on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub dev: i32,
    pub ino: u64,
}

impl Identity {
    pub fn of(stat: &Stat) -> Self {
        Self { dev: stat.st_dev, ino: stat.st_ino }
    }
}

/// An anchor of the object with this name.
pub fn hold(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    for _ in 0..RETRIES {
        let seen = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| find::errno_at(dir, error))?;
        let kind = FileType::from_raw_mode(seen.st_mode);
        if !can_be_opened(kind) {
            return stand_in(&seen);
        }
        let mut held = rustix::fs::openat(dir, name, ANCHOR, Mode::empty());
        if matches!(held, Err(rustix::io::Errno::ACCESS)) && kind == FileType::Directory {
            held = search_only(dir, name);
        }
        match held {
            Ok(fd) => {
                let now = rustix::fs::fstat(&fd).map_err(errno)?;
                if can_be_opened(FileType::from_raw_mode(now.st_mode)) {
                    return Ok(fd);
                }
            }
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => return stand_in(&seen),
            // What stood there a moment ago was opened as what it no longer is.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOTSUP)
            | Err(rustix::io::Errno::NXIO | rustix::io::Errno::NOTDIR) => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Err(Errno::EAGAIN)
}

fn can_be_opened(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink)
}

/// A directory that may be passed through but not listed.
pub fn search_only(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::from_bits_retain(sys::O_SEARCH) | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// What a stand-in carries: the two numbers.
const CARRIED: usize = 4 + 8;

fn stand_in(stat: &Stat) -> Result<OwnedFd, Errno> {
    let (ours, other) = std::os::unix::net::UnixStream::pair()
        .map_err(|error| super::darwin::errno::to_linux(error.raw_os_error().unwrap_or(0)))?;
    let mut numbers = [0; CARRIED];
    numbers[..4].copy_from_slice(&stat.st_dev.to_ne_bytes());
    numbers[4..].copy_from_slice(&stat.st_ino.to_ne_bytes());
    // The buffer of a new pair takes far more; what is written stays when the writer closes.
    match rustix::net::send(&other, &numbers, SendFlags::DONTWAIT).map_err(errno)? {
        CARRIED => Ok(ours.into()),
        _ => Err(Errno::ENOMEM),
    }
}

/// What a stand-in stands for. None for any other descriptor.
pub fn stands_for(fd: BorrowedFd<'_>) -> Option<Identity> {
    let mut numbers = [0; CARRIED];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (_, got) = rustix::net::recv(fd, &mut numbers, flags).ok()?;
    let dev = i32::from_ne_bytes(*numbers.first_chunk()?);
    let ino = u64::from_ne_bytes(*numbers.last_chunk()?);
    (got == CARRIED).then_some(Identity { dev, ino })
}

/// Where an object is reached that a stand-in stands for, by its known place if it is still
/// there. None for any other descriptor, which reaches the object itself.
pub fn place_of_stand_in<'a>(object: &crate::os::Object<'a>) -> Result<Option<Place<'a>>, Errno> {
    let Some(identity) = stands_for(object.fd) else { return Ok(None) };
    if let Some(place) = find::known_place(object.place, identity) {
        return Ok(Some(place));
    }
    find::place(object.fd).map(Some)
}

/// Whether a directory descriptor is a stand-in: one that may not even be passed through.
pub fn is_stand_in(fd: BorrowedFd<'_>) -> bool {
    stands_for(fd.as_fd()).is_some()
}
