//! Open files: reading, writing, space, copying, locks.

use super::darwin::space::zeroing;
use super::{errno, last_error, sys};
use protocol::{Errno, FallocateMode, LockKind, StatFs, Whence};
use rustix::fs::{FlockOperation, OFlags, SeekFrom};
use rustix::io::Errno as HostErrno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A buffer's worth when copying.
const COPY_BUFFER: usize = 256 * 1024;

/// The most that one copy does, so that an interrupted guest is not kept waiting.
const MAX_COPY: u64 = 64 << 20;

/// Zeros to write, a block's worth of most file systems.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

pub fn read_at(
    fd: BorrowedFd<'_>,
    data: &mut Vec<u8>,
    size: usize,
    offset: u64,
) -> Result<(), Errno> {
    data.clear();
    data.reserve(size);
    while data.len() < size {
        let at = offset.checked_add(data.len() as u64).ok_or(Errno::EINVAL)?;
        let wanted = size - data.len();
        let read = rustix::io::pread(fd, &mut data.spare_capacity_mut()[..wanted], at);
        match read.map(|(read, _)| read.len()) {
            Ok(0) => break,
            Ok(read) => {
                // SAFETY: the call has filled so many bytes behind the present length.
                unsafe { data.set_len(data.len() + read) }
            }
            Err(HostErrno::INTR) => {}
            Err(_) if !data.is_empty() => break,
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(())
}

pub fn write_at(fd: BorrowedFd<'_>, data: &[u8], offset: u64) -> Result<usize, Errno> {
    // Here `pwrite` keeps to its offset even in a file opened to append, as POSIX says; Linux's
    // appends.
    let append = rustix::fs::fcntl_getfl(fd).map_err(errno)?.contains(OFlags::APPEND);
    let mut done = 0;
    while done < data.len() {
        let at = offset.checked_add(done as u64).ok_or(Errno::EFBIG)?;
        let rest = &data[done..];
        let written =
            if append { rustix::io::write(fd, rest) } else { rustix::io::pwrite(fd, rest, at) };
        match written {
            Ok(0) => break,
            Ok(written) => done += written,
            Err(HostErrno::INTR) => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(done)
}

pub fn truncate(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    if i64::try_from(size).is_err() {
        return Err(Errno::EFBIG);
    }
    rustix::fs::ftruncate(fd, size).map_err(errno)
}

/// `fsync` of macOS only hands data to the drive, whose cache a power cut empties; on Linux it is
/// on the medium. So `fsync` is `F_FULLFSYNC`. `fdatasync`, which databases call for every
/// transaction, is `F_BARRIERFSYNC`: all before it reaches the medium before anything after it, so
/// that a database is whole after a power cut but may lack its last transactions. Either falls back
/// to the next weaker where the file system (SMB, FAT) does not know it. The death of the server
/// loses nothing in any case.
pub fn sync(fd: BorrowedFd<'_>, data_only: bool) -> Result<(), Errno> {
    let strongest = if data_only { libc::F_BARRIERFSYNC } else { libc::F_FULLFSYNC };
    // SAFETY: the descriptor is open, and the command takes no argument.
    if unsafe { libc::fcntl(fd.as_raw_fd(), strongest) } != -1 {
        return Ok(());
    }
    match last_error() {
        Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOTTY | Errno::ENOSYS | Errno::ENODEV => {
            rustix::fs::fsync(fd).map_err(errno)
        }
        error => Err(error),
    }
}

pub fn fallocate(
    fd: BorrowedFd<'_>,
    mode: FallocateMode,
    offset: u64,
    length: u64,
) -> Result<(), Errno> {
    let end = offset.checked_add(length).filter(|end| i64::try_from(*end).is_ok());
    let end = end.ok_or(Errno::EFBIG)?;
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    let keep = FallocateMode::KEEP_SIZE;
    let size = size_of_file(fd)?;
    if mode.is_empty() || mode == keep {
        return reserve(fd, offset, end, size, mode == keep);
    }
    if mode == FallocateMode::PUNCH_HOLE | keep {
        return zero(fd, offset, length, size);
    }
    if mode.difference(keep) == FallocateMode::ZERO_RANGE {
        zero(fd, offset, length, size)?;
        if end > size && mode != FallocateMode::ZERO_RANGE | keep {
            grow(fd, end)?;
        }
        return Ok(());
    }
    Err(Errno::EOPNOTSUPP)
}

fn size_of_file(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let stat = rustix::fs::fstat(fd).map_err(errno)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// Makes a file at least so long, never shorter: another may be writing.
fn grow(fd: BorrowedFd<'_>, end: u64) -> Result<(), Errno> {
    if size_of_file(fd)? < end { truncate(fd, end) } else { Ok(()) }
}

/// Space for what is to be written behind the end. macOS cannot fill a hole in the middle:
/// `EOPNOTSUPP`, upon which `posix_fallocate` in the guest writes zeros itself.
fn reserve(
    fd: BorrowedFd<'_>,
    offset: u64,
    end: u64,
    size: u64,
    keep_size: bool,
) -> Result<(), Errno> {
    if offset < size && seek(fd, offset, Whence::Hole)? < end.min(size) {
        return Err(Errno::EOPNOTSUPP);
    }
    if end <= size {
        return Ok(());
    }
    let mut flags = libc::F_ALLOCATEALL;
    if keep_size {
        flags |= sys::F_ALLOCATEPERSIST;
    }
    let mut space = libc::fstore_t {
        fst_flags: flags,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: (end - size) as libc::off_t,
        fst_bytesalloc: 0,
    };
    // SAFETY: the descriptor is open, and `space` is a whole `fstore_t`, which the call also writes.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_PREALLOCATE, &raw mut space) };
    if done == -1 {
        return Err(match last_error() {
            // A file system that does not know it.
            Errno::EINVAL | Errno::ENOTTY | Errno::ENOSYS => Errno::EOPNOTSUPP,
            error => error,
        });
    }
    if keep_size { Ok(()) } else { grow(fd, end) }
}

/// Makes a range read as zeros, up to the end of the file, and gives its whole blocks back.
fn zero(fd: BorrowedFd<'_>, offset: u64, length: u64, size: u64) -> Result<(), Errno> {
    let block = rustix::fs::fstatfs(fd).map_err(errno)?.f_bsize;
    let plan = zeroing(offset, length, size, block.into());
    if !plan.punch.is_empty() {
        let hole = libc::fpunchhole_t {
            fp_flags: 0,
            reserved: 0,
            fp_offset: plan.punch.start as libc::off_t,
            fp_length: (plan.punch.end - plan.punch.start) as libc::off_t,
        };
        // SAFETY: the descriptor is open, and `hole` is a whole `fpunchhole_t` that is only read.
        if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) } == -1 {
            return Err(match last_error() {
                Errno::EINVAL | Errno::ENOTTY | Errno::ENOSYS => Errno::EOPNOTSUPP,
                // What it says of a descriptor that is not open for writing.
                Errno::EPERM => Errno::EBADF,
                error => error,
            });
        }
    }
    for edge in plan.write {
        let mut at = edge.start;
        while at < edge.end {
            let part = usize::try_from(edge.end - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
            match rustix::io::pwrite(fd, &ZEROS[..part], at) {
                Ok(written) => at += written as u64,
                Err(HostErrno::INTR) => {}
                Err(error) => return Err(errno(error)),
            }
        }
    }
    Ok(())
}

pub fn seek(fd: BorrowedFd<'_>, offset: u64, whence: Whence) -> Result<u64, Errno> {
    // The shared offset that this moves is used by nobody: reading is by `pread`, and what is
    // opened to append writes at the end.
    let from = match whence {
        Whence::Data => SeekFrom::Data(offset),
        Whence::Hole => SeekFrom::Hole(offset),
    };
    if i64::try_from(offset).is_err() {
        return Err(Errno::ENXIO);
    }
    match rustix::fs::seek(fd, from) {
        // A file system without holes: all is data up to the end.
        Err(HostErrno::INVAL | HostErrno::NOTTY | HostErrno::NOTSUP | HostErrno::OPNOTSUPP) => {
            let size = size_of_file(fd)?;
            match whence {
                _ if offset >= size => Err(Errno::ENXIO),
                Whence::Data => Ok(offset),
                Whence::Hole => Ok(size),
            }
        }
        other => other.map_err(errno),
    }
}

/// Reads and writes; what is a hole of the source stays one behind the target's end.
///
/// Not by `clonefile`, which makes only whole new files with a name of their own: the target is
/// open already, and would become another object.
pub fn copy_range(
    source: BorrowedFd<'_>,
    source_offset: u64,
    target: BorrowedFd<'_>,
    target_offset: u64,
    length: u64,
) -> Result<u64, Errno> {
    let from = rustix::fs::fstat(source).map_err(errno)?;
    let to = rustix::fs::fstat(target).map_err(errno)?;
    let size = u64::try_from(from.st_size).unwrap_or(0);
    let length = length.min(size.saturating_sub(source_offset)).min(MAX_COPY);
    let target_end = target_offset.checked_add(length).ok_or(Errno::EFBIG)?;
    let same = (from.st_dev, from.st_ino) == (to.st_dev, to.st_ino);
    if same && source_offset < target_end && target_offset < source_offset + length {
        return Err(Errno::EINVAL);
    }
    let behind_end = target_offset >= u64::try_from(to.st_size).unwrap_or(0);
    let mut buffer = Vec::new();
    let (mut done, mut skipped) = (0, false);
    let mut failed = None;
    while done < length {
        if behind_end && let Some(gap) = hole(source, source_offset + done, length - done) {
            done += gap;
            skipped = true;
            continue;
        }
        let wanted = usize::try_from(length - done).unwrap_or(COPY_BUFFER).min(COPY_BUFFER);
        let copied = read_at(source, &mut buffer, wanted, source_offset + done)
            .and_then(|()| write_at(target, &buffer, target_offset + done));
        match copied {
            // The source has become shorter, or the target takes no more.
            Ok(0) => break,
            Ok(copied) => {
                done += copied as u64;
                skipped = false;
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    match failed {
        Some(error) if done == 0 => Err(error),
        _ if skipped => {
            // Something must stand at the end of what was skipped, for the target to be as long.
            write_at(target, &ZEROS[..1], target_offset + done - 1).map(|_| done)
        }
        _ => Ok(done),
    }
}

/// How much from `offset` on is a hole; none if there is data.
fn hole(fd: BorrowedFd<'_>, offset: u64, most: u64) -> Option<u64> {
    match seek(fd, offset, Whence::Data) {
        Ok(data) if data > offset => Some((data - offset).min(most)),
        // Nothing but a hole up to the end.
        Err(Errno::ENXIO) => Some(most),
        _ => None,
    }
}

pub fn statfs(fd: BorrowedFd<'_>) -> Result<StatFs, Errno> {
    let fs = rustix::fs::fstatfs(fd).map_err(errno)?;
    Ok(StatFs {
        blocks: fs.f_blocks,
        bfree: fs.f_bfree,
        bavail: fs.f_bavail,
        files: fs.f_files,
        ffree: fs.f_ffree,
        bsize: u32::try_from(fs.f_iosize).ok().filter(|size| *size > 0).unwrap_or(fs.f_bsize),
        frsize: fs.f_bsize,
        namelen: longest_name(fd),
    })
}

fn longest_name(fd: BorrowedFd<'_>) -> u32 {
    // SAFETY: the descriptor is open, and the call touches no memory.
    let longest = unsafe { libc::fpathconf(fd.as_raw_fd(), libc::_PC_NAME_MAX) };
    u32::try_from(longest).ok().filter(|longest| *longest > 0).unwrap_or(255)
}

pub fn sync_fs(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = sys::SYNC_VOLUME_FULLSYNC | sys::SYNC_VOLUME_WAIT;
    // SAFETY: the descriptor is open, and the call touches no memory.
    if unsafe { sys::fsync_volume_np(dir.as_raw_fd(), flags) } == 0 {
        return Ok(());
    }
    match last_error() {
        Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOTTY | Errno::ENOSYS => {
            // All volumes, without waiting to the end: the file system offers no more.
            rustix::fs::sync();
            Ok(())
        }
        error => Err(error),
    }
}

/// On macOS locks of ranges and `flock`s exclude each other, even those of one open file: with host
/// locks, a file on which a guest holds one kind refuses the other (`EAGAIN`).
pub fn lock_range(fd: BorrowedFd<'_>, kind: LockKind, start: u64, end: u64) -> Result<(), Errno> {
    let far = i64::MAX as u64;
    let start = start.min(far);
    let len = if end >= far { 0 } else { end.checked_sub(start).ok_or(Errno::EINVAL)? as i64 + 1 };
    let lock = libc::flock {
        l_start: start as i64,
        l_len: len,
        l_pid: 0,
        l_type: match kind {
            LockKind::Read => libc::F_RDLCK,
            LockKind::Write => libc::F_WRLCK,
            LockKind::Unlock => libc::F_UNLCK,
        } as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
    };
    // SAFETY: `fd` is open for the duration of the call and `lock` is a whole `struct flock` that
    // the call only reads.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    match done {
        0 => Ok(()),
        _ => Err(match last_error() {
            Errno::EACCES => Errno::EAGAIN,
            error => error,
        }),
    }
}

pub fn lock_whole(fd: BorrowedFd<'_>, kind: LockKind) -> Result<(), Errno> {
    let operation = match kind {
        LockKind::Read => FlockOperation::NonBlockingLockShared,
        LockKind::Write => FlockOperation::NonBlockingLockExclusive,
        LockKind::Unlock => FlockOperation::Unlock,
    };
    rustix::fs::flock(fd, operation).map_err(errno)
}
