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
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use std::os::fd::BorrowedFd;

/// The default ACL of a directory.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

pub fn set_mode(object: Object<'_>, bits: u32) -> Result<(), Errno> {
    if object.kind == mode::IFLNK {
        return Err(Errno::EOPNOTSUPP);
    }
    let bits = Mode::from_raw_mode(bits & mode::PERMISSIONS);
    rustix::fs::chmodat(CWD, MagicLink::of(object.fd).path(), bits, AtFlags::empty())
        .map_err(errno)
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
        SetTime::To(Time { sec, nsec }) => Timespec { tv_sec: sec, tv_nsec: nsec.min(999_999_999).into() },
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
    value.clear();
    value.reserve(MAX_XATTR_VALUE);
    if object.kind == mode::IFLNK {
        rustix::fs::lgetxattr(link.path(), name, spare_capacity(value))
    } else {
        rustix::fs::getxattr(link.path(), name, spare_capacity(value))
    }
    .map(drop)
    .map_err(errno)
}

pub fn list_xattr(object: Object<'_>, names: &mut Vec<u8>) -> Result<(), Errno> {
    let link = xattr_path(&object)?;
    names.clear();
    names.reserve(MAX_XATTR_VALUE);
    if object.kind == mode::IFLNK {
        rustix::fs::llistxattr(link.path(), spare_capacity(names))
    } else {
        rustix::fs::listxattr(link.path(), spare_capacity(names))
    }
    .map(drop)
    .map_err(errno)
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
    value.clear();
    value.reserve(MAX_XATTR_VALUE);
    rustix::fs::lgetxattr(link.path(), xattr, spare_capacity(value)).map(drop).map_err(errno)
}

pub fn has_default_acl(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::getxattr_query(MagicLink::of(dir).path(), DEFAULT_ACL).is_ok()
}
