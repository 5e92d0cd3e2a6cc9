//! Names: making, opening, linking, renaming, removing.
//!
//! Linux and macOS differ in what a new object gets: macOS takes the group from the directory
//! always, strips the set-id and sticky bits from the mode of an open and a `mkdir`, and passes no
//! set-group-id bit on to a new directory. [`New`] makes up for it.

use super::attr::permissions;
use super::darwin::number::decode_device;
use super::find::{self, Place, errno_at};
use super::hold::{self, Identity, RETRIES};
use super::inside::Inside;
use super::process::acting;
use super::{errno, last_error, sys};
use crate::os::Object;
use protocol::{Errno, OpenFlags, RenameFlags, mode};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// Always: never a controlling terminal, never inherited, never waiting on an opener elsewhere.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Bits that a new object is not made with, but given.
const SPECIAL: u32 = 0o7000;

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

pub fn reopen(anchor: BorrowedFd<'_>, flags: OpenFlags) -> Result<OwnedFd, Errno> {
    let flags = host_flags(flags);
    let identity = find::identity(anchor)?;
    for _ in 0..RETRIES {
        let Place { dir, name } = match find::place(anchor) {
            Err(Errno::ESTALE) => return share(anchor, flags),
            other => other?,
        };
        match rustix::fs::openat(dir, &*name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => {
                let found = rustix::fs::fstat(&fd).map_err(errno)?;
                if Identity::of(&found) == identity {
                    return Ok(fd);
                }
            }
            // Another object has taken its name meanwhile.
            Err(
                rustix::io::Errno::NOENT
                | rustix::io::Errno::LOOP
                | rustix::io::Errno::NXIO
                | rustix::io::Errno::OPNOTSUPP
                | rustix::io::Errno::NOTSUP
                | rustix::io::Errno::ISDIR,
            ) => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Err(Errno::ESTALE)
}

/// An unlinked file cannot be opened anew, but the descriptor that is there can be shared if it
/// allows what is asked: the locks of both are then one, for they are of the same open file.
fn share(open: BorrowedFd<'_>, wanted: OFlags) -> Result<OwnedFd, Errno> {
    let has = rustix::fs::fcntl_getfl(open).map_err(errno)?;
    let (allowed, asked) = (has & OFlags::RWMODE, wanted & OFlags::RWMODE);
    let enough = allowed == OFlags::RDWR || allowed == asked;
    let same = (has & OFlags::APPEND) == (wanted & OFlags::APPEND);
    if !enough || !same || hold::is_stand_in(open) {
        return Err(Errno::ESTALE);
    }
    rustix::io::fcntl_dupfd_cloexec(open, 0).map_err(errno)
}

pub fn open_dir(anchor: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = ALWAYS | OFlags::RDONLY | OFlags::DIRECTORY;
    rustix::fs::openat(anchor, c".", flags, Mode::empty()).map_err(|error| errno_at(anchor, error))
}

pub fn create(
    dir: BorrowedFd<'_>,
    name: &[u8],
    flags: OpenFlags,
    mode: u32,
) -> Result<OwnedFd, Errno> {
    let new = New::in_dir(dir, name, mode::IFREG | mode)?;
    let flags = host_flags(flags) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let fd = rustix::fs::openat(dir, name, flags, new.mode_at_first())
        .map_err(|error| errno_at(dir, error))?;
    new.finish(Some(fd.as_fd()))?;
    Ok(fd)
}

/// macOS has no files without a name.
pub fn create_unnamed(
    _dir: BorrowedFd<'_>,
    _flags: OpenFlags,
    _mode: u32,
) -> Result<OwnedFd, Errno> {
    Err(Errno::EOPNOTSUPP)
}

pub fn make_dir(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<(), Errno> {
    let new = New::in_dir(dir, name, mode::IFDIR | mode)?;
    rustix::fs::mkdirat(dir, name, new.mode_at_first()).map_err(|error| errno_at(dir, error))?;
    new.finish(None)
}

pub fn make_node(dir: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: u32) -> Result<(), Errno> {
    if mode & mode::IFMT == mode::IFREG {
        return create(dir, name, OpenFlags::WRONLY, mode).map(drop);
    }
    let new = New::in_dir(dir, name, mode)?;
    let path = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let inside = Inside::of(dir)?;
    let bits = new.mode_at_first().as_raw_mode();
    match mode & mode::IFMT {
        // By the thread's directory and not by `mkfifoat`, which came with macOS 13.
        mode::IFIFO => {
            // SAFETY: `path` is a C string.
            check(unsafe { libc::mkfifo(path.as_ptr(), bits) })?;
        }
        mode::IFSOCK => bind(name)?,
        kind @ (mode::IFCHR | mode::IFBLK) => {
            let device = decode_device(rdev).ok_or(Errno::EINVAL)?;
            let bits = bits | kind as libc::mode_t;
            // SAFETY: `path` is a C string.
            check(unsafe { libc::mknod(path.as_ptr(), bits, device) })?;
        }
        _ => return Err(Errno::EINVAL),
    }
    drop(inside);
    new.finish(None)
}

/// Leaves a socket behind that nobody listens on, as `mknod` does on Linux. `ENAMETOOLONG` beyond
/// the 103 bytes that an address has room for.
fn bind(name: &[u8]) -> Result<(), Errno> {
    let address = rustix::net::SocketAddrUnix::new(name).map_err(errno)?;
    let family = rustix::net::AddressFamily::UNIX;
    let socket =
        rustix::net::socket(family, rustix::net::SocketType::STREAM, None).map_err(errno)?;
    match rustix::net::bind(&socket, &address) {
        Err(rustix::io::Errno::ADDRINUSE) => Err(Errno::EEXIST),
        other => other.map_err(errno),
    }
}

pub fn make_symlink(dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> Result<(), Errno> {
    let new = New::in_dir(dir, name, mode::IFLNK)?;
    rustix::fs::symlinkat(target, dir, name).map_err(|error| errno_at(dir, error))?;
    new.finish(None)
}

/// What an object that is being made is to have in the end.
struct New<'a> {
    dir: BorrowedFd<'a>,
    name: &'a [u8],
    mode: u32,
    owner: Option<(u32, u32)>,
}

impl<'a> New<'a> {
    fn in_dir(dir: BorrowedFd<'a>, name: &'a [u8], mode: u32) -> Result<Self, Errno> {
        let mut new = Self { dir, name, mode, owner: acting() };
        if let Some((_, group)) = &mut new.owner {
            let parent = find::stat(dir)?;
            if parent.mode & u32::from(libc::S_ISGID) != 0 {
                *group = parent.gid;
                if mode & mode::IFMT == mode::IFDIR {
                    new.mode |= u32::from(libc::S_ISGID);
                }
            }
        }
        Ok(new)
    }

    /// The mode to make it with: no set-id bit before it has its owner.
    fn mode_at_first(&self) -> Mode {
        permissions(self.mode & !SPECIAL)
    }

    /// Gives it what it lacks; takes it back if that fails.
    fn finish(&self, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let done = self.give(fd);
        if done.is_err() {
            let directory = self.mode & mode::IFMT == mode::IFDIR;
            let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // What remains if even this fails is an object of the server's own user.
            let _ = rustix::fs::unlinkat(self.dir, self.name, flags);
        }
        done
    }

    fn give(&self, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            match fd {
                Some(fd) => rustix::fs::fchown(fd, uid, gid),
                None => rustix::fs::chownat(self.dir, self.name, uid, gid, nofollow),
            }
            .map_err(errno)?;
        }
        // A socket has had no mode yet.
        let kind = self.mode & mode::IFMT;
        if kind != mode::IFLNK && (self.mode & SPECIAL != 0 || kind == mode::IFSOCK) {
            let bits = permissions(self.mode);
            match fd {
                Some(fd) => rustix::fs::fchmod(fd, bits),
                None => rustix::fs::chmodat(self.dir, self.name, bits, nofollow),
            }
            .map_err(errno)?;
        }
        Ok(())
    }
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

pub fn link(object: Object<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let identity = find::identity(object.fd)?;
    let mut known = find::known_place(object.place, identity);
    for _ in 0..RETRIES {
        let old = match known.take() {
            Some(place) => place,
            None => find::place(object.fd)?,
        };
        match rustix::fs::linkat(&old.dir, &*old.name, dir, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(errno_at(dir, error)),
            Ok(()) => {
                let made = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
                if made.is_ok_and(|made| Identity::of(&made) == identity) {
                    return Ok(());
                }
                // Another object has taken the old name meanwhile.
                rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(errno)?;
            }
        }
    }
    Err(Errno::ESTALE)
}

pub fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(|error| {
        // What POSIX, and macOS, says of a directory.
        let directory = error == rustix::io::Errno::PERM
            && rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if directory { Errno::EISDIR } else { errno_at(dir, error) }
    })
}

pub fn remove_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).map_err(|error| errno_at(dir, error))
}

pub fn rename(
    dir: BorrowedFd<'_>,
    name: &[u8],
    new_dir: BorrowedFd<'_>,
    new_name: &[u8],
    flags: RenameFlags,
) -> Result<(), Errno> {
    use rustix::fs::RenameFlags as Host;
    let host = match flags {
        RenameFlags::NOREPLACE => Host::NOREPLACE,
        RenameFlags::EXCHANGE => Host::EXCHANGE,
        none if none.is_empty() => {
            return rustix::fs::renameat(dir, name, new_dir, new_name)
                .map_err(|error| errno_at(dir, error));
        }
        // Whiteouts are unknown, and the other two exclude each other.
        _ => return Err(Errno::EINVAL),
    };
    rustix::fs::renameat_with(dir, name, new_dir, new_name, host).map_err(|error| match error {
        // The file system cannot.
        rustix::io::Errno::NOTSUP | rustix::io::Errno::OPNOTSUPP => Errno::EINVAL,
        error => errno_at(dir, error),
    })
}

pub fn read_link(object: Object<'_>, target: &mut Vec<u8>) -> Result<(), Errno> {
    if object.kind != mode::IFLNK {
        return Err(Errno::EINVAL);
    }
    if let Some(freadlink) = freadlink()
        && !hold::is_stand_in(object.fd)
    {
        target.clear();
        // One more than macOS allows, so that none is cut.
        target.reserve(libc::PATH_MAX as usize + 1);
        // SAFETY: the descriptor is open, and the vector has so much room behind its end, which is
        // its start.
        let got = unsafe {
            freadlink(object.fd.as_raw_fd(), target.as_mut_ptr().cast(), target.capacity())
        };
        let got = usize::try_from(got).map_err(|_| last_error())?;
        // SAFETY: the call has written so many bytes.
        unsafe { target.set_len(got) };
        return Ok(());
    }
    let identity = find::identity(object.fd)?;
    let Place { dir, name } = match find::known_place(object.place, identity) {
        Some(place) => place,
        None => find::place(object.fd)?,
    };
    let reuse = std::mem::take(target);
    *target = rustix::fs::readlinkat(dir, &*name, reuse).map_err(errno)?.into_bytes();
    Ok(())
}

/// `freadlink`, where this macOS has it.
fn freadlink() -> Option<sys::Freadlink> {
    static FOUND: OnceLock<Option<sys::Freadlink>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: the name is a C string; the search is among what is loaded anyway.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"freadlink".as_ptr()) };
        // SAFETY: where it exists, the function has the type that <unistd.h> says, and the null
        // pointer is `None`.
        unsafe { std::mem::transmute::<*mut libc::c_void, Option<sys::Freadlink>>(found) }
    })
}
