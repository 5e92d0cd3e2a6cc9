//! The four system calls of fanotify, by the numbers of linux/fanotify.h, fcntl.h and libc.

use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Longest handle of any file system (`MAX_HANDLE_SZ`, linux/exportfs.h).
const MAX_HANDLE: usize = 128;
/// Asks for a handle that identifies, also of file systems that cannot be exported
/// (`AT_HANDLE_FID`, linux/fcntl.h, since 6.5).
const AT_HANDLE_FID: libc::c_int = 0x200;

/// What happens to names in a marked directory, to what they lead to, and to itself.
const MASK: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_RENAME
    | libc::FAN_MODIFY
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_ATTRIB
    | libc::FAN_DELETE_SELF
    | libc::FAN_MOVE_SELF
    | libc::FAN_ONDIR
    | libc::FAN_EVENT_ON_CHILD;

/// `struct file_handle` of linux/exportfs.h with room for the largest.
#[repr(C, align(8))]
struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; MAX_HANDLE],
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn through_proc(fd: BorrowedFd<'_>) -> Result<CString, Errno> {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| Errno::INVAL)
}

/// A group that reports directories by handle with names, and the thread that did it. Needs
/// `CAP_SYS_ADMIN`, with which marks are not counted.
pub fn init() -> Result<OwnedFd, Errno> {
    let flags = libc::FAN_CLASS_NOTIF
        | libc::FAN_CLOEXEC
        | libc::FAN_NONBLOCK
        | libc::FAN_UNLIMITED_MARKS
        | libc::FAN_REPORT_TID
        | libc::FAN_REPORT_DFID_NAME;
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::fanotify_init(flags, 0) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: the call has just opened it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Marks a directory, or removes the mark.
pub fn mark(group: BorrowedFd<'_>, dir: BorrowedFd<'_>, add: bool) -> Result<(), Errno> {
    let path = through_proc(dir)?;
    let act = if add { libc::FAN_MARK_ADD } else { libc::FAN_MARK_REMOVE };
    let flags = act | libc::FAN_MARK_ONLYDIR;
    // SAFETY: the path is a C string that outlives the call.
    let result = unsafe {
        libc::fanotify_mark(group.as_raw_fd(), flags, MASK, libc::AT_FDCWD, path.as_ptr())
    };
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

/// The handle of an object: its type, and the bytes.
pub fn handle(object: BorrowedFd<'_>) -> Result<(i32, Vec<u8>), Errno> {
    handle_with(object, 0).or_else(|_| handle_with(object, AT_HANDLE_FID))
}

fn handle_with(object: BorrowedFd<'_>, flags: libc::c_int) -> Result<(i32, Vec<u8>), Errno> {
    let mut handle = FileHandle { bytes: MAX_HANDLE as u32, kind: 0, handle: [0; MAX_HANDLE] };
    let mut mount = 0;
    // SAFETY: the empty path is a C string, `handle` has the layout of `struct file_handle` and the
    // room that it says, and both pointers are good for the call.
    let result = unsafe {
        libc::name_to_handle_at(
            object.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount,
            flags | libc::AT_EMPTY_PATH,
        )
    };
    if result < 0 {
        return Err(last_error());
    }
    let bytes = handle.handle.get(..handle.bytes as usize).ok_or(Errno::OVERFLOW)?;
    Ok((handle.kind, bytes.to_vec()))
}

/// Opens an object by its handle. `anchor` is any object of its file system, opened for reading.
pub fn open_by_handle(
    anchor: BorrowedFd<'_>,
    (kind, bytes): (i32, &[u8]),
) -> Result<OwnedFd, Errno> {
    let mut handle = FileHandle { bytes: bytes.len() as u32, kind, handle: [0; MAX_HANDLE] };
    handle.handle.get_mut(..bytes.len()).ok_or(Errno::OVERFLOW)?.copy_from_slice(bytes);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `handle` has the layout of `struct file_handle` and outlives the call.
    let fd =
        unsafe { libc::open_by_handle_at(anchor.as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: the call has just opened it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
