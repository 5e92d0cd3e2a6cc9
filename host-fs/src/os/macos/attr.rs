//! Attributes, extended ones among them.
//!
//! The calls that take a descriptor ask for no access that the descriptor would have to have been
//! opened with, so that an anchor serves them, that of a symbolic link too. What a stand-in stands
//! for (see [`hold`]) is reached by its name in its directory, never following.

use super::darwin::xattr;
use super::errno;
use super::find::{self, Place};
use super::hold::place_of_stand_in;
use super::inside::Inside;
use crate::os::{Object, SetTime};
use protocol::limits::MAX_XATTR_VALUE;
use protocol::{Errno, Time, XattrFlags, mode};
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use std::os::fd::{AsFd, BorrowedFd};

pub fn set_mode(object: Object<'_>, bits: u32) -> Result<(), Errno> {
    if object.kind == mode::IFLNK {
        return Err(Errno::EOPNOTSUPP);
    }
    let bits = permissions(bits);
    match place_of_stand_in(&object)? {
        None => rustix::fs::fchmod(object.fd, bits),
        Some(Place { dir, name }) => {
            rustix::fs::chmodat(dir, &*name, bits, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
    .map_err(errno)
}

/// The bits that `chmod` takes.
pub fn permissions(bits: u32) -> Mode {
    // Darwin's `mode_t` has 16 bits, and all of these fit.
    Mode::from_raw_mode((bits & mode::PERMISSIONS) as libc::mode_t)
}

pub fn set_owner(object: Object<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    match place_of_stand_in(&object)? {
        None => rustix::fs::fchown(object.fd, uid, gid),
        Some(Place { dir, name }) => {
            rustix::fs::chownat(dir, &*name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
    .map_err(errno)
}

pub fn set_times(object: Object<'_>, atime: SetTime, mtime: SetTime) -> Result<(), Errno> {
    let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
    match place_of_stand_in(&object)? {
        None => rustix::fs::futimens(object.fd, &times),
        Some(Place { dir, name }) => {
            rustix::fs::utimensat(dir, &*name, &times, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
    .map_err(errno)
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
    // A descriptor of an open file may be open for writing; an anchor is not.
    match super::truncate(object.fd, size) {
        Err(Errno::EINVAL | Errno::EBADF) => {
            let file = super::reopen(object.fd, protocol::OpenFlags::WRONLY)?;
            super::truncate(file.as_fd(), size)
        }
        other => other,
    }
}

pub fn get_xattr(object: Object<'_>, name: &[u8], value: &mut Vec<u8>) -> Result<(), Errno> {
    xattr::check(name)?;
    value.clear();
    value.reserve(MAX_XATTR_VALUE);
    match place_of_stand_in(&object)? {
        None => rustix::fs::fgetxattr(object.fd, name, spare_capacity(value)),
        Some(place) => {
            let _inside = Inside::of(place.dir.as_fd())?;
            rustix::fs::lgetxattr(&*place.name, name, spare_capacity(value))
        }
    }
    .map(drop)
    .map_err(errno)
}

pub fn list_xattr(object: Object<'_>, names: &mut Vec<u8>) -> Result<(), Errno> {
    names.clear();
    names.reserve(MAX_XATTR_VALUE);
    match place_of_stand_in(&object)? {
        None => rustix::fs::flistxattr(object.fd, spare_capacity(names)),
        Some(place) => {
            let _inside = Inside::of(place.dir.as_fd())?;
            rustix::fs::llistxattr(&*place.name, spare_capacity(names))
        }
    }
    .map_err(errno)?;
    xattr::retain_visible(names);
    Ok(())
}

pub fn set_xattr(
    object: Object<'_>,
    name: &[u8],
    value: &[u8],
    flags: XattrFlags,
) -> Result<(), Errno> {
    xattr::check_new(name)?;
    let pairs = [
        (XattrFlags::CREATE, rustix::fs::XattrFlags::CREATE),
        (XattrFlags::REPLACE, rustix::fs::XattrFlags::REPLACE),
    ];
    let flags = pairs
        .iter()
        .filter(|(ours, _)| flags.contains(*ours))
        .fold(rustix::fs::XattrFlags::empty(), |all, (_, its)| all | *its);
    match place_of_stand_in(&object)? {
        None => rustix::fs::fsetxattr(object.fd, name, value, flags),
        Some(place) => {
            let _inside = Inside::of(place.dir.as_fd())?;
            rustix::fs::lsetxattr(&*place.name, name, value, flags)
        }
    }
    .map_err(errno)
}

pub fn remove_xattr(object: Object<'_>, name: &[u8]) -> Result<(), Errno> {
    xattr::check(name)?;
    match place_of_stand_in(&object)? {
        None => rustix::fs::fremovexattr(object.fd, name),
        Some(place) => {
            let _inside = Inside::of(place.dir.as_fd())?;
            rustix::fs::lremovexattr(&*place.name, name)
        }
    }
    .map_err(errno)
}

pub fn get_xattr_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    attribute: &[u8],
    value: &mut Vec<u8>,
) -> Result<(), Errno> {
    xattr::check(attribute)?;
    value.clear();
    value.reserve(MAX_XATTR_VALUE);
    let _inside = Inside::of(dir)?;
    rustix::fs::lgetxattr(name, attribute, spare_capacity(value))
        .map(drop)
        .map_err(|error| find::errno_at(dir, error))
}

/// False: the inheritance of macOS's access control lists leaves the umask as it is.
pub fn has_default_acl(_: BorrowedFd<'_>) -> bool {
    false
}
