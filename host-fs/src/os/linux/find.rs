//! Finding objects: confined opening, state, and where something is now.

use super::{MagicLink, errno};
use crate::os::Stat;
use protocol::{AccessMask, Errno, Time};
use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp, openat,
    openat2, statx,
};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// How every path of more than one component is resolved.
const CONFINED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Longest path handed to one call; longer ones are walked in pieces (`PATH_MAX` is 4096 with its
/// NUL).
const MAX_PATH: usize = 4000;

/// How often a walk is begun again when the kernel says that something moved under it.
const RETRIES: usize = 16;

/// File systems that copy an object to another place when it is first written, with another birth.
const STACKED: [i64; 2] = [0x794c_7630 /* overlayfs */, 0x6175_6673 /* aufs */];

pub fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(errno)
}

pub fn open_beneath(base: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > MAX_PATH {
        let cut = rest[..MAX_PATH].iter().rposition(|b| *b == b'/').ok_or(Errno::ENAMETOOLONG)?;
        let from = held.as_ref().map_or(base, std::os::fd::AsFd::as_fd);
        held = Some(confined(from, &rest[..cut], OFlags::DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    confined(held.as_ref().map_or(base, std::os::fd::AsFd::as_fd), rest, OFlags::empty())
}

fn confined(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..RETRIES {
        match openat2(base, path, flags, Mode::empty(), CONFINED) {
            Err(rustix::io::Errno::AGAIN) => {}
            Err(rustix::io::Errno::NOSYS) => return step_by_step(base, path, flags),
            other => return other.map_err(errno),
        }
    }
    Err(Errno::EAGAIN)
}

/// For kernels before 5.6 and sandboxes without `openat2`: one component at a time.
fn step_by_step(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut names = path.split(|b| *b == b'/').peekable();
    while let Some(name) = names.next() {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::EINVAL);
        }
        let flags = if names.peek().is_some() { flags | OFlags::DIRECTORY } else { flags };
        let from = held.as_ref().map_or(base, std::os::fd::AsFd::as_fd);
        held = Some(openat(from, name, flags, Mode::empty()).map_err(errno)?);
    }
    held.ok_or(Errno::ENOENT)
}

pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
        .map(|x| convert(&x))
        .map_err(errno)
}

pub fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
        .map(|x| convert(&x))
        .map_err(errno)
}

pub fn present_path(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let path = rustix::fs::readlinkat(CWD, MagicLink::of(fd).path(), Vec::new()).map_err(errno)?;
    let path = path.into_bytes();
    // The kernel marks a removed object so; a name may really end like this, and then the walk of
    // the caller decides.
    let gone = path.ends_with(b" (deleted)") && stat(fd)?.nlink == 0;
    if gone || path.first() != Some(&b'/') { Err(Errno::ENOENT) } else { Ok(path) }
}

pub fn may_access(fd: BorrowedFd<'_>, mask: AccessMask) -> Result<(), Errno> {
    let pairs = [
        (AccessMask::READ, Access::READ_OK),
        (AccessMask::WRITE, Access::WRITE_OK),
        (AccessMask::EXEC, Access::EXEC_OK),
    ];
    let wanted = pairs.iter().filter(|(ours, _)| mask.contains(*ours));
    let wanted = wanted.fold(Access::EXISTS, |all, (_, its)| all | *its);
    rustix::fs::accessat(CWD, MagicLink::of(fd).path(), wanted, AtFlags::empty()).map_err(errno)
}

pub fn birth_is_identity(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|fs| !STACKED.contains(&fs.f_type))
}

fn convert(x: &Statx) -> Stat {
    Stat {
        dev: rustix::fs::makedev(x.stx_dev_major, x.stx_dev_minor),
        ino: x.stx_ino,
        mode: x.stx_mode.into(),
        nlink: x.stx_nlink,
        uid: x.stx_uid,
        gid: x.stx_gid,
        rdev: encode_device(x.stx_rdev_major, x.stx_rdev_minor),
        blksize: x.stx_blksize,
        size: x.stx_size,
        blocks: x.stx_blocks,
        atime: time(x.stx_atime),
        mtime: time(x.stx_mtime),
        ctime: time(x.stx_ctime),
        btime: if x.stx_mask & StatxFlags::BTIME.bits() == 0 {
            Time::default()
        } else {
            time(x.stx_btime)
        },
    }
}

fn time(stamp: StatxTimestamp) -> Time {
    Time { sec: stamp.tv_sec, nsec: stamp.tv_nsec }
}

/// `new_encode_dev` of linux/kdev_t.h.
fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The reverse of [`encode_device`], as `makedev` wants it.
pub(super) fn decode_device(encoded: u32) -> u64 {
    let minor = (encoded & 0xff) | ((encoded >> 12) & 0xf_ff00);
    rustix::fs::makedev((encoded >> 8) & 0xfff, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_encoding_of_fuse() {
        for (major, minor) in [(1, 3), (8, 17), (259, 70_000), (4095, 0xf_ffff), (0, 0)] {
            let decoded = decode_device(encode_device(major, minor));
            assert_eq!(decoded, rustix::fs::makedev(major, minor), "{major}:{minor}");
        }
    }

    #[test]
    fn paths_longer_than_one_call_takes_are_walked_in_pieces() -> Result<(), Errno> {
        let dir = tempfile::tempdir().map_err(|_| Errno::EIO)?;
        let root = open_root(dir.path())?;
        let name = [b'n'; 200];
        let mut path = Vec::new();
        let mut at = open_root(dir.path())?;
        for _ in 0..45 {
            crate::os::make_dir(std::os::fd::AsFd::as_fd(&at), &name, 0o755)?;
            at = open_beneath(std::os::fd::AsFd::as_fd(&at), &name)?;
            path.extend_from_slice(&name);
            path.push(b'/');
        }
        path.pop();
        assert!(path.len() > 2 * MAX_PATH);
        let found = open_beneath(std::os::fd::AsFd::as_fd(&root), &path)?;
        let (found, at) = (std::os::fd::AsFd::as_fd(&found), std::os::fd::AsFd::as_fd(&at));
        assert_eq!(stat(found)?.ino, stat(at)?.ino);
        Ok(())
    }
}
