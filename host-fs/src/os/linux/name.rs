//! Names: making, opening, linking, renaming, removing.

use super::{MagicLink, errno, find::decode_device};
use crate::os::Object;
use protocol::{Errno, OpenFlags, RenameFlags, mode};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Always: never a controlling terminal, never inherited, never waiting on an opener elsewhere.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn host_flags(flags: OpenFlags) -> OFlags {
    let pairs = [
        (OpenFlags::WRONLY, OFlags::WRONLY),
        (OpenFlags::RDWR, OFlags::RDWR),
        (OpenFlags::APPEND, OFlags::APPEND),
        (OpenFlags::DSYNC, OFlags::DSYNC),
        (OpenFlags::SYNC, OFlags::SYNC),
    ];
    pairs.iter().filter(|(ours, _)| flags.contains(*ours)).fold(ALWAYS, |all, (_, its)| all | *its)
}

fn permissions(bits: u32) -> Mode {
    Mode::from_raw_mode(bits & mode::PERMISSIONS)
}

pub fn reopen(anchor: BorrowedFd<'_>, flags: OpenFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(MagicLink::of(anchor).path(), host_flags(flags), Mode::empty()).map_err(errno)
}

pub fn open_dir(anchor: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = ALWAYS | OFlags::RDONLY | OFlags::DIRECTORY;
    rustix::fs::openat(anchor, c".", flags, Mode::empty()).map_err(errno)
}

pub fn create(
    dir: BorrowedFd<'_>,
    name: &[u8],
    flags: OpenFlags,
    mode: u32,
) -> Result<OwnedFd, Errno> {
    let flags = host_flags(flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    rustix::fs::openat(dir, name, flags, permissions(mode)).map_err(errno)
}

pub fn create_unnamed(dir: BorrowedFd<'_>, flags: OpenFlags, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = host_flags(flags) | OFlags::TMPFILE;
    match rustix::fs::openat(dir, c".", flags, permissions(mode)) {
        // A kernel or file system that does not know the flag opens a directory for writing.
        Err(rustix::io::Errno::ISDIR) => Err(Errno::EOPNOTSUPP),
        other => other.map_err(errno),
    }
}

pub fn make_dir(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<(), Errno> {
    rustix::fs::mkdirat(dir, name, permissions(mode)).map_err(errno)
}

pub fn make_node(dir: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: u32) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(mode);
    rustix::fs::mknodat(dir, name, kind, permissions(mode), decode_device(rdev)).map_err(errno)
}

pub fn make_symlink(dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> Result<(), Errno> {
    rustix::fs::symlinkat(target, dir, name).map_err(errno)
}

pub fn link(object: Object<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    // The magic link is followed, to the object itself and no further, even to a symbolic link.
    let old = MagicLink::of(object.fd);
    rustix::fs::linkat(CWD, old.path(), dir, name, AtFlags::SYMLINK_FOLLOW).map_err(errno)
}

pub fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(errno)
}

pub fn remove_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(errno)
}

pub fn rename(
    dir: BorrowedFd<'_>,
    name: &[u8],
    new_dir: BorrowedFd<'_>,
    new_name: &[u8],
    flags: RenameFlags,
) -> Result<(), Errno> {
    let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
    rustix::fs::renameat_with(dir, name, new_dir, new_name, flags).map_err(errno)
}

pub fn read_link(object: Object<'_>, target: &mut Vec<u8>) -> Result<(), Errno> {
    let reuse = std::mem::take(target);
    let found = rustix::fs::readlinkat(object.fd, c"", reuse).map_err(|error| match error {
        // What an empty path of something else than a symbolic link gives.
        rustix::io::Errno::NOENT => Errno::EINVAL,
        other => errno(other),
    })?;
    *target = found.into_bytes();
    Ok(())
}
