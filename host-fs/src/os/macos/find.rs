//! Finding objects: confined opening, state, and where something is now.
//!
//! A way of several components is walked by one call with `O_NOFOLLOW_ANY`, which fails with
//! `ELOOP` at the first symbolic link. Without symbolic links, and without `..` in it, a relative
//! path can only lead downwards, however names are changed meanwhile; `O_RESOLVE_BENEATH` of
//! newer systems would add nothing. Where the call is refused (`EINVAL`), the way is walked one
//! component at a time.

use super::darwin::number::encode_device;
use super::darwin::path::{first_piece, is_plain, split_last};
use super::hold::{self, Identity, RETRIES, hold};
use super::{Dir, errno, last_error, sys};
use crate::os::Stat;
use protocol::{AccessMask, Errno, Time, mode};
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Of a directory on the way.
const STEP: OFlags =
    OFlags::CLOEXEC.union(OFlags::DIRECTORY).union(OFlags::from_bits_retain(sys::O_EVTONLY));

pub fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    match rustix::fs::open(path, STEP, Mode::empty()) {
        Err(rustix::io::Errno::ACCESS) => {
            let search = OFlags::from_bits_retain(sys::O_SEARCH) | OFlags::CLOEXEC;
            rustix::fs::open(path, search, Mode::empty()).map_err(errno)
        }
        other => other.map_err(errno),
    }
}

pub fn open_beneath(base: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if !is_plain(path) {
        return Err(Errno::EINVAL);
    }
    let (way, name) = split_last(path);
    if way.is_empty() {
        return hold(base, name);
    }
    hold(walk(base, way)?.as_fd(), name)
}

/// The directory at `way`, relative to `base`, of plain names.
fn walk(base: BorrowedFd<'_>, way: &[u8]) -> Result<OwnedFd, Errno> {
    match walk_in_pieces(base, way, false) {
        Err(Errno::EINVAL) => walk_in_pieces(base, way, true),
        other => other,
    }
}

fn walk_in_pieces(base: BorrowedFd<'_>, way: &[u8], singly: bool) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut rest = way;
    while !rest.is_empty() {
        let (piece, behind) = first_piece(rest, singly);
        let from = held.as_ref().map_or(base, AsFd::as_fd);
        held = Some(step(from, piece)?);
        rest = behind;
    }
    held.ok_or(Errno::ENOENT)
}

fn step(from: BorrowedFd<'_>, piece: &[u8]) -> Result<OwnedFd, Errno> {
    // The kernel takes only one of the two flags.
    let one = !piece.contains(&b'/');
    let links = if one { OFlags::NOFOLLOW } else { OFlags::NOFOLLOW_ANY };
    let opened = match rustix::fs::openat(from, piece, STEP | links, Mode::empty()) {
        Err(rustix::io::Errno::ACCESS) => {
            let search = OFlags::from_bits_retain(sys::O_SEARCH) | OFlags::CLOEXEC | links;
            rustix::fs::openat(from, piece, search, Mode::empty())
        }
        other => other,
    };
    opened.map_err(|error| match error {
        rustix::io::Errno::NOTDIR if one && is_link(from, piece) => Errno::ELOOP,
        error => errno_at(from, error),
    })
}

fn is_link(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// The error of a call that took a name in `dir`. A stand-in for a directory that may not be
/// passed through is no directory to the kernel.
pub fn errno_at(dir: BorrowedFd<'_>, error: rustix::io::Errno) -> Errno {
    match error {
        rustix::io::Errno::NOTDIR if hold::is_stand_in(dir) => Errno::EACCES,
        error => errno(error),
    }
}

pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    let stat = rustix::fs::fstat(fd).map_err(errno)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Socket
        && let Some(identity) = hold::stands_for(fd)
    {
        return locate(fd, identity, path_by_number).map(|(_, stat)| convert(&stat));
    }
    Ok(convert(&stat))
}

pub fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|stat| convert(&stat))
        .map_err(|error| errno_at(dir, error))
}

pub fn present_path(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    for _ in 0..RETRIES {
        let (identity, path) = present(fd)?;
        if path == b"/" {
            return Ok(path);
        }
        match at_path(&path) {
            Ok((_, stat)) if Identity::of(&stat) == identity => return Ok(path),
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::ENOENT)
}

/// The present path as the kernel says, which may be that of a name gone or given to another.
fn present(fd: BorrowedFd<'_>) -> Result<(Identity, Vec<u8>), Errno> {
    if let Some(identity) = hold::stands_for(fd) {
        return Ok((identity, path_by_number(fd, identity)?));
    }
    let stat = rustix::fs::fstat(fd).map_err(errno)?;
    if stat.st_nlink == 0 {
        return Err(Errno::ENOENT);
    }
    let identity = Identity::of(&stat);
    Ok((identity, path_by_descriptor(fd, identity)?))
}

fn path_by_descriptor(fd: BorrowedFd<'_>, identity: Identity) -> Result<Vec<u8>, Errno> {
    match rustix::fs::getpath(fd) {
        Ok(path) => Ok(path.into_bytes()),
        // It does not fit into the room that `F_GETPATH` has.
        Err(rustix::io::Errno::NOSPC | rustix::io::Errno::NAMETOOLONG) => {
            path_by_number(fd, identity)
        }
        Err(error) => Err(errno(error)),
    }
}

fn path_by_number(_: BorrowedFd<'_>, identity: Identity) -> Result<Vec<u8>, Errno> {
    let mut path: Vec<u8> = Vec::with_capacity(sys::MAX_LONG_PATH);
    // Of the second number the call takes no notice; the first is also the `st_dev` of the volume's
    // objects.
    let mut volume = sys::VolumeId { val: [identity.dev, 0] };
    // SAFETY: `path` has room for so many bytes, and `volume` is a whole volume id.
    let got = unsafe {
        sys::fsgetpath(path.as_mut_ptr().cast(), path.capacity(), &raw mut volume, identity.ino)
    };
    let got = usize::try_from(got).map_err(|_| last_error())?;
    // SAFETY: the call has written so many bytes, the last of them a NUL.
    unsafe { path.set_len(got.min(path.capacity())) };
    if let Some(end) = path.iter().position(|b| *b == 0) {
        path.truncate(end);
    }
    if path.first() == Some(&b'/') { Ok(path) } else { Err(Errno::ENOENT) }
}

/// A directory and a name in it.
pub struct Place<'a> {
    pub dir: Dir<'a>,
    pub name: std::borrow::Cow<'a, [u8]>,
}

/// A place, if the object is still there.
pub fn known_place<'a>(
    place: Option<(BorrowedFd<'a>, &'a [u8])>,
    identity: Identity,
) -> Option<Place<'a>> {
    let (dir, name) = place?;
    let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let dir = Dir::Given(dir);
    (Identity::of(&found) == identity).then(|| Place { dir, name: name.into() })
}

/// Where an object is now: its directory, reached without symbolic links, and its name there.
/// `ESTALE` if it is nowhere.
pub fn place<'a>(fd: BorrowedFd<'_>) -> Result<Place<'a>, Errno> {
    let identity = identity(fd)?;
    let by = if hold::is_stand_in(fd) { path_by_number } else { path_by_descriptor };
    locate(fd, identity, by).map(|(place, _)| place)
}

/// What a descriptor holds or stands for.
pub fn identity(fd: BorrowedFd<'_>) -> Result<Identity, Errno> {
    if let Some(identity) = hold::stands_for(fd) {
        return Ok(identity);
    }
    rustix::fs::fstat(fd).map(|stat| Identity::of(&stat)).map_err(errno)
}

/// Asks for an object's path until it is found at the end of it.
fn locate<'a>(
    fd: BorrowedFd<'_>,
    identity: Identity,
    path: fn(BorrowedFd<'_>, Identity) -> Result<Vec<u8>, Errno>,
) -> Result<(Place<'a>, rustix::fs::Stat), Errno> {
    for _ in 0..RETRIES {
        let path = match path(fd, identity) {
            Err(Errno::ENOENT) => return Err(Errno::ESTALE),
            other => other?,
        };
        match at_path(&path) {
            Ok((place, stat)) if Identity::of(&stat) == identity => return Ok((place, stat)),
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::ESTALE)
}

/// What is at an absolute path without symbolic links.
fn at_path<'a>(path: &[u8]) -> Result<(Place<'a>, rustix::fs::Stat), Errno> {
    let relative = path.strip_prefix(b"/").ok_or(Errno::ENOENT)?;
    if !is_plain(relative) {
        return Err(Errno::ENOENT);
    }
    let (way, name) = split_last(relative);
    let root = open_root(Path::new("/"))?;
    let dir = if way.is_empty() { root } else { walk(root.as_fd(), way)? };
    let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)?;
    Ok((Place { dir: Dir::Found(dir), name: name.to_vec().into() }, stat))
}

/// By the object's present name: macOS judges no descriptor. `ESTALE` for an unlinked object.
pub fn may_access(fd: BorrowedFd<'_>, mask: AccessMask) -> Result<(), Errno> {
    let pairs = [
        (AccessMask::READ, Access::READ_OK),
        (AccessMask::WRITE, Access::WRITE_OK),
        (AccessMask::EXEC, Access::EXEC_OK),
    ];
    let wanted = pairs.iter().filter(|(ours, _)| mask.contains(*ours));
    let wanted = wanted.fold(Access::EXISTS, |all, (_, its)| all | *its);
    let Place { dir, name } = place(fd)?;
    rustix::fs::accessat(dir, &*name, wanted, AtFlags::empty()).map_err(errno)
}

/// False: setting a modification time before the birth moves the birth (APFS and HFS+), as any
/// `tar x` does. APFS never uses an inode number twice.
pub fn birth_is_identity(_: BorrowedFd<'_>) -> bool {
    false
}

fn convert(stat: &rustix::fs::Stat) -> Stat {
    let kind = u32::from(stat.st_mode) & mode::IFMT;
    let device = matches!(kind, mode::IFBLK | mode::IFCHR);
    Stat {
        dev: u64::from(stat.st_dev as u32),
        ino: stat.st_ino,
        mode: stat.st_mode.into(),
        nlink: stat.st_nlink.into(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: if device { encode_device(stat.st_rdev) } else { 0 },
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        btime: time(stat.st_birthtime, stat.st_birthtime_nsec),
    }
}

fn time(sec: i64, nsec: i64) -> Time {
    Time { sec, nsec: u32::try_from(nsec).unwrap_or(0).min(999_999_999) }
}
