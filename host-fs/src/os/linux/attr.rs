//! Attributes, extended ones among them.
//!
//! An `O_PATH` descriptor takes no `fchmod` and no `fgetxattr`, but its magic link can be followed
//! by the calls that take a path. For a symbolic link that would again end at the anchor, which
//! holds the link itself, but the kernel follows the magic link only in calls that follow: so a
//! symbolic link's extended attributes are reached by its name in its directory.

use super::{MagicLink, errno};
use crate::os::{Object, SetTime};
use protocol::limits::MAX_XATTR_VALUE;
use protocol::{Errno, Time, XattrFlags, mode};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

/// Room for most attributes.
const FEW: usize = 256;

/// The default ACL of a directory.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

pub fn set_mode(object: Object<'_>, bits: u32) -> Result<(), Errno> {
    if object.kind == mode::IFLNK {
        return Err(Errno::EOPNOTSUPP);
    }
    let bits = Mode::from_raw_mode(bits & mode::PERMISSIONS);
    rustix::fs::chmodat(CWD, MagicLink::of(object.fd).path(), bits, AtFlags::empty()).map_err(errno)
}

pub fn set_owner(object: Object<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    rustix::fs::chownat(object.fd, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)
}

pub fn set_times(object: Object<'_>, atime: SetTime, mtime: SetTime) -> Result<(), Errno> {
    let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
    match rustix::fs::utimensat(object.fd, c"", &times, AtFlags::EMPTY_PATH) {
        // Before Linux 5.8 the flag is unknown.
        Err(rustix::io::Errno::INVAL) if object.kind != mode::IFLNK => {
            let link = MagicLink::of(object.fd);
            rustix::fs::utimensat(CWD, link.path(), &times, AtFlags::empty()).map_err(errno)
        }
        other => other.map_err(errno),
    }
}

fn timespec(time: SetTime) -> Timespec {
    match time {
        SetTime::Omit => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        SetTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        SetTime::To(Time { sec, nsec }) => {
            Timespec { tv_sec: sec, tv_nsec: nsec.min(999_999_999).into() }
        }
    }
}

pub fn set_size(object: Object<'_>, size: u64) -> Result<(), Errno> {
    let file = super::reopen(object.fd, protocol::OpenFlags::WRONLY)?;
    super::truncate(std::os::fd::AsFd::as_fd(&file), size)
}

/// The path by which an object's extended attributes are reached. For a symbolic link the call
/// must not follow the last component; for all others it must.
fn xattr_path(object: &Object<'_>) -> Result<MagicLink, Errno> {
    if object.kind != mode::IFLNK {
        return Ok(MagicLink::of(object.fd));
    }
    let (dir, name) = object.place.ok_or(Errno::EOPNOTSUPP)?;
    MagicLink::at(dir, name)
}

pub fn get_xattr(object: Object<'_>, name: &[u8], value: &mut Vec<u8>) -> Result<(), Errno> {
    let link = xattr_path(&object)?;
    let path = link.path();
    if object.kind == mode::IFLNK {
        grow(value, |room| rustix::fs::lgetxattr(path, name, room))
    } else {
        grow(value, |room| rustix::fs::getxattr(path, name, room))
    }
}

pub fn list_xattr(object: Object<'_>, names: &mut Vec<u8>) -> Result<(), Errno> {
    let link = xattr_path(&object)?;
    let path = link.path();
    if object.kind == mode::IFLNK {
        grow(names, |room| rustix::fs::llistxattr(path, room))
    } else {
        grow(names, |room| rustix::fs::listxattr(path, room))
    }
}

/// Runs a call that fills a buffer: first with little room, since the kernel clears a buffer of its
/// own of that size, then with the most there can be.
fn grow(
    out: &mut Vec<u8>,
    call: impl Fn(&mut [MaybeUninit<u8>]) -> rustix::io::Result<(&mut [u8], &mut [MaybeUninit<u8>])>,
) -> Result<(), Errno> {
    for room in [FEW, MAX_XATTR_VALUE] {
        out.clear();
        out.reserve(room);
        let got = call(&mut out.spare_capacity_mut()[..room]).map(|(got, _)| got.len());
        match got {
            Ok(got) => {
                // SAFETY: the call has filled so many bytes of the empty vector's capacity.
                unsafe { out.set_len(got) };
                return Ok(());
            }
            Err(rustix::io::Errno::RANGE) => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Err(Errno::E2BIG)
}

pub fn set_xattr(
    object: Object<'_>,
    name: &[u8],
    value: &[u8],
    flags: XattrFlags,
) -> Result<(), Errno> {
    let link = xattr_path(&object)?;
    let flags = rustix::fs::XattrFlags::from_bits_retain(flags.bits());
    if object.kind == mode::IFLNK {
        rustix::fs::lsetxattr(link.path(), name, value, flags)
    } else {
        rustix::fs::setxattr(link.path(), name, value, flags)
    }
    .map_err(errno)
}

pub fn remove_xattr(object: Object<'_>, name: &[u8]) -> Result<(), Errno> {
    let link = xattr_path(&object)?;
    if object.kind == mode::IFLNK {
        rustix::fs::lremovexattr(link.path(), name)
    } else {
        rustix::fs::removexattr(link.path(), name)
    }
    .map_err(errno)
}

pub fn get_xattr_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    xattr: &[u8],
    value: &mut Vec<u8>,
) -> Result<(), Errno> {
    let link = MagicLink::at(dir, name)?;
    grow(value, |room| rustix::fs::lgetxattr(link.path(), xattr, room))
}

pub fn has_default_acl(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::getxattr_query(MagicLink::of(dir).path(), DEFAULT_ACL).is_ok()
}
