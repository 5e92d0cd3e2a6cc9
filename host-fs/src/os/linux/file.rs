//! Open files: reading, writing, space, copying, locks.

use super::errno;
use protocol::{Errno, FallocateMode, LockKind, StatFs, Whence};
use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom};
use rustix::io::Errno as HostErrno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

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
    let mut done = 0;
    while done < data.len() {
        let at = offset.checked_add(done as u64).ok_or(Errno::EFBIG)?;
        match rustix::io::pwrite(fd, &data[done..], at) {
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
    rustix::fs::ftruncate(fd, size).map_err(errno)
}

pub fn sync(fd: BorrowedFd<'_>, data_only: bool) -> Result<(), Errno> {
    if data_only { rustix::fs::fdatasync(fd) } else { rustix::fs::fsync(fd) }.map_err(errno)
}

pub fn fallocate(
    fd: BorrowedFd<'_>,
    mode: FallocateMode,
    offset: u64,
    length: u64,
) -> Result<(), Errno> {
    let mode = FallocateFlags::from_bits_retain(mode.bits());
    loop {
        match rustix::fs::fallocate(fd, mode, offset, length) {
            Err(HostErrno::INTR) => {}
            other => return other.map_err(errno),
        }
    }
}

pub fn seek(fd: BorrowedFd<'_>, offset: u64, whence: Whence) -> Result<u64, Errno> {
    // The shared offset that this moves is used by nobody: all reading is by `pread`.
    let from = match whence {
        Whence::Data => SeekFrom::Data(offset),
        Whence::Hole => SeekFrom::Hole(offset),
    };
    rustix::fs::seek(fd, from).map_err(errno)
}

pub fn copy_range(
    source: BorrowedFd<'_>,
    mut source_offset: u64,
    target: BorrowedFd<'_>,
    mut target_offset: u64,
    length: u64,
) -> Result<u64, Errno> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (from, to) = (Some(&mut source_offset), Some(&mut target_offset));
    rustix::fs::copy_file_range(source, from, target, to, length)
        .map(|copied| copied as u64)
        .map_err(errno)
}

pub fn statfs(fd: BorrowedFd<'_>) -> Result<StatFs, Errno> {
    let fs = rustix::fs::fstatfs(fd).map_err(errno)?;
    let narrow = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
    Ok(StatFs {
        blocks: fs.f_blocks,
        bfree: fs.f_bfree,
        bavail: fs.f_bavail,
        files: fs.f_files,
        ffree: fs.f_ffree,
        bsize: narrow(fs.f_bsize),
        frsize: narrow(if fs.f_frsize == 0 { fs.f_bsize } else { fs.f_frsize }),
        namelen: narrow(fs.f_namelen),
    })
}

pub fn sync_fs(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let open = super::open_dir(dir)?;
    rustix::fs::syncfs(open.as_fd()).map_err(errno)
}

pub fn lock_range(fd: BorrowedFd<'_>, kind: LockKind, start: u64, end: u64) -> Result<(), Errno> {
    let far = i64::MAX as u64;
    let start = start.min(far);
    let len = if end >= far { 0 } else { (end - start + 1) as i64 };
    let lock = libc::flock {
        l_type: match kind {
            LockKind::Read => libc::F_RDLCK,
            LockKind::Write => libc::F_WRLCK,
            LockKind::Unlock => libc::F_UNLCK,
        } as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start as i64,
        l_len: len,
        l_pid: 0,
    };
    // SAFETY: `fd` is open for the duration of the call and `lock` is a whole `struct flock` that
    // the call only reads.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if done == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error();
    match raw.unwrap_or(libc::EIO) {
        libc::EACCES => Errno::EAGAIN,
        raw => Errno::from_raw(raw),
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
