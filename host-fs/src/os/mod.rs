//! The operating system: the only system calls of this crate outside `watch`.
//!
//! This file is the one list of what a platform offers; `linux` and `macos` implement each function
//! under the same name. Everything that takes a name takes *one* component relative to a directory
//! descriptor and never follows a symbolic link; the one that takes a path,
//! [`open_beneath`], is confined to what lies below its base.
//!
//! # Anchors
//! An *anchor* is a descriptor that holds an object without opening it for data: `O_PATH` on Linux,
//! `O_EVTONLY | O_SYMLINK` on macOS. It never blocks on a fifo, starts no device, and is what
//! [`stat`], [`reopen`], [`link`] and the functions on an [`Object`] act on. Any other descriptor of
//! an object may stand in for its anchor. Where macOS cannot open an object so (sockets, fifos,
//! devices, what this user may not read), the anchor is a descriptor that stands for it; see
//! `macos/hold.rs`.
//!
//! # Errors
//! Every function returns a Linux errno, whatever the host's own numbers are.

#[cfg(any(target_os = "macos", test))]
#[cfg_attr(not(target_os = "macos"), allow(dead_code))]
mod darwin;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as imp;
#[cfg(target_os = "macos")]
use macos as imp;

use protocol::{
    AccessMask, Errno, FallocateMode, LockKind, OpenFlags, RenameFlags, StatFs, Time, Whence,
    XattrFlags,
};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the clock says by which the times of files are set. Before 1970 it says 1970.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let sec = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Time { sec, nsec: since.subsec_nanos() }
}

/// What a system call gave, or the Linux errno that it failed with.
pub type Result<T> = std::result::Result<T, Errno>;

/// An object's state as the host reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Device of its file system.
    pub dev: u64,
    /// Inode number on that device.
    pub ino: u64,
    /// Type and permissions in Linux's numbers.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node in the encoding of FUSE (`new_encode_dev`).
    pub rdev: u32,
    /// Preferred size of I/O.
    pub blksize: u32,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last modification.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
    /// Birth; zero where unknown.
    pub btime: Time,
}

/// An object to be changed in place.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// Its anchor, or any open descriptor of it.
    pub fd: BorrowedFd<'a>,
    /// Its type bits (`S_IFMT`).
    pub kind: u32,
    /// A directory and the name that it has there: for what a platform cannot do by descriptor
    /// (extended attributes of symbolic links on Linux). None for an unlinked object.
    pub place: Option<(BorrowedFd<'a>, &'a [u8])>,
}

/// A time to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// Leave it.
    Omit,
    /// The host's present time.
    Now,
    /// This one.
    To(Time),
}

/// One entry of a directory as the host lists it, `.` and `..` among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirEntry<'a> {
    /// Inode number (of the covered directory, where something is mounted on it).
    pub ino: u64,
    /// Where the listing goes on behind this entry. Never zero.
    pub cookie: u64,
    /// `DT_*` of linux/fs_types.h, 0 where unknown.
    pub kind: u8,
    /// The name.
    pub name: &'a [u8],
}

/// An open directory being listed. Implemented by each platform:
///
/// - `DirStream::new(fd: OwnedFd) -> Self`: `fd` from [`open_dir`].
/// - `seek(&mut self, cookie: u64) -> Result<()>`: to a cookie that an entry had, or 0. To one that was
///   taken since the last `seek`, or is to be taken next, it goes without passing over what stays,
///   whatever was removed.
/// - `is_long(&self) -> bool`: whether so much was taken since that it is time for the next.
/// - `peek(&mut self) -> Result<Option<DirEntry<'_>>>`: the next entry; none at the end. The
///   same again until `advance`.
/// - `advance(&mut self)`: past the entry last peeked.
/// - `AsFd`.
///
/// A file system that changes meanwhile must not make it skip or repeat an entry that stays.
pub use imp::DirStream;

/// A thread of this process that can be kept to one processor, behind all others. Implemented by each
/// platform:
///
/// - `Movable::this() -> Option<Self>`: the calling thread, unless there is but one processor for it or it
///   could not be as before again.
/// - `number(&self) -> u32`: no other thread has it at the same time. Never zero.
/// - `keep_to(&self, processor: u16) -> bool`: tells whether it is; not if it may not use that processor.
/// - `free(&self)`: it is as before.
/// - `wants_to_run(&self) -> bool`: whether it waits for nothing but a processor.
pub use imp::Movable;

/// Starts a thread `osxfs-NAME`. It runs as the first thread of the process does: otherwise it would keep for
/// ever to the processor to which the calling one may be kept for the moment.
///
/// # Errors
/// If there cannot be another thread.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(format!("osxfs-{name}")).spawn(move || {
        leave_inherited_place();
        body()
    })
}

/// Longest path of a unix socket in bytes.
pub use imp::MAX_SOCKET_PATH;

/// Keeps this thread acting for another user until dropped; see [`act_as`].
pub use imp::Acting;

/// Declares each function once, with its documentation, and forwards to the platform's.
macro_rules! platform {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name($($arg: $ty),*) $(-> $ret)? { imp::$name($($arg),*) }
    )*};
}

// Process
platform! {
    /// Raises the soft limit of open descriptors to the hard one and tells what it is now.
    fn raise_descriptor_limit() -> u64;
    /// Sets the process's umask to zero: the guest's is applied by us.
    fn clear_umask();
    /// Whether this process may make files for other users (is root).
    fn is_privileged() -> bool;
    /// Makes the calling thread run where, and as, the first one of the process does, if it does not.
    fn leave_inherited_place();
    /// What Linux calls the time since it was booted; empty where that has no name.
    fn boot_id() -> String;
    /// The user at the other end of a unix socket.
    fn peer_uid(stream: &UnixStream) -> io::Result<u32>;
    /// From now until the guard is dropped, objects that this thread makes belong to `uid` and
    /// `gid` (or the group of a set-group-id directory). What the thread may do stays as it is.
    fn act_as(uid: u32, gid: u32) -> Result<Acting>;
}

// Finding
platform! {
    /// An anchor of the directory at `path`, symbolic links followed: the root of an export.
    fn open_root(path: &Path) -> Result<OwnedFd>;
    /// An anchor of the object at `path`, relative to `base`, of one or more components without
    /// `.` or `..`. No component may be a symbolic link (`ELOOP`) except the last, which is then
    /// held itself. The way never leaves `base`, however it is changed meanwhile.
    fn open_beneath(base: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd>;
    /// State of the object that a descriptor holds.
    fn stat(fd: BorrowedFd<'_>) -> Result<Stat>;
    /// State of the object with this name, a symbolic link itself.
    fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat>;
    /// The path that the object has now, as the kernel tells it, absolute. `ENOENT` if unlinked.
    fn present_path(fd: BorrowedFd<'_>) -> Result<Vec<u8>>;
    /// Whether the user of this process may do this to the object. `EACCES` if not.
    fn may_access(fd: BorrowedFd<'_>, mask: AccessMask) -> Result<()>;
    /// Whether a change of birth time on this object's file system means another object. False
    /// for stacked file systems that copy an object when it is first written.
    fn birth_is_identity(fd: BorrowedFd<'_>) -> bool;
}

// Opening. Of `flags`, `EXCL` and `TRUNC` are ignored.
platform! {
    /// Opens the *regular file* of an anchor for data.
    fn reopen(anchor: BorrowedFd<'_>, flags: OpenFlags) -> Result<OwnedFd>;
    /// Opens the directory of an anchor for listing and `fsync`.
    fn open_dir(anchor: BorrowedFd<'_>) -> Result<OwnedFd>;
    /// Makes and opens a regular file; `EEXIST` if the name is taken.
    fn create(dir: BorrowedFd<'_>, name: &[u8], flags: OpenFlags, mode: u32) -> Result<OwnedFd>;
    /// Makes and opens a regular file without a name. `EOPNOTSUPP` where the host cannot.
    fn create_unnamed(dir: BorrowedFd<'_>, flags: OpenFlags, mode: u32) -> Result<OwnedFd>;
}

// Names
platform! {
    /// Makes a directory.
    fn make_dir(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<()>;
    /// Makes a regular file, fifo, socket or device; `rdev` in the encoding of FUSE.
    fn make_node(dir: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: u32) -> Result<()>;
    /// Makes a symbolic link.
    fn make_symlink(dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> Result<()>;
    /// Gives an object another name (its first, for an unnamed file).
    fn link(object: Object<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()>;
    /// Removes a name that is no directory.
    fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()>;
    /// Renames. `EINVAL` for flags that the host does not know.
    fn rename(
        dir: BorrowedFd<'_>,
        name: &[u8],
        new_dir: BorrowedFd<'_>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()>;
    /// Replaces `target` by the target of a symbolic link.
    fn read_link(object: Object<'_>, target: &mut Vec<u8>) -> Result<()>;
}

// Attributes
platform! {
    /// Sets permissions. `EOPNOTSUPP` for a symbolic link.
    fn set_mode(object: Object<'_>, mode: u32) -> Result<()>;
    /// Sets owner and group.
    fn set_owner(object: Object<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()>;
    /// Sets times.
    fn set_times(object: Object<'_>, atime: SetTime, mtime: SetTime) -> Result<()>;
    /// Sets the size of a regular file.
    fn set_size(object: Object<'_>, size: u64) -> Result<()>;
    /// Replaces `value` by the value of an extended attribute. `ENODATA` if there is none.
    fn get_xattr(object: Object<'_>, name: &[u8], value: &mut Vec<u8>) -> Result<()>;
    /// Replaces `names` by the names of all extended attributes, each with a NUL behind it.
    fn list_xattr(object: Object<'_>, names: &mut Vec<u8>) -> Result<()>;
    /// Sets an extended attribute.
    fn set_xattr(object: Object<'_>, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()>;
    /// Removes an extended attribute. `ENODATA` if there is none.
    fn remove_xattr(object: Object<'_>, name: &[u8]) -> Result<()>;
    /// As [`get_xattr`] of the object (never a symbolic link) with this name.
    fn get_xattr_at(dir: BorrowedFd<'_>, name: &[u8], xattr: &[u8], value: &mut Vec<u8>) -> Result<()>;
    /// Whether a directory has an access control list that new objects inherit, in place of the
    /// umask.
    fn has_default_acl(dir: BorrowedFd<'_>) -> bool;
}

// Open files
platform! {
    /// Replaces `data` by up to `size` bytes from `offset` on; shorter only at the end.
    fn read_at(fd: BorrowedFd<'_>, data: &mut Vec<u8>, size: usize, offset: u64) -> Result<()>;
    /// Writes all of `data` at `offset` (at the end, if opened to append). Tells how much was
    /// written if something was before an error.
    fn write_at(fd: BorrowedFd<'_>, data: &[u8], offset: u64) -> Result<usize>;
    /// Sets the size.
    fn truncate(fd: BorrowedFd<'_>, size: u64) -> Result<()>;
    /// Writes to disk.
    fn sync(fd: BorrowedFd<'_>, data_only: bool) -> Result<()>;
    /// Reserves, punches, zeroes. `EOPNOTSUPP` for what the host cannot do.
    fn fallocate(fd: BorrowedFd<'_>, mode: FallocateMode, offset: u64, length: u64) -> Result<()>;
    /// Next data or hole. `ENXIO` beyond the end.
    fn seek(fd: BorrowedFd<'_>, offset: u64, whence: Whence) -> Result<u64>;
    /// Copies on the host, as `copy_file_range(2)`. Tells how much.
    fn copy_range(
        source: BorrowedFd<'_>,
        source_offset: u64,
        target: BorrowedFd<'_>,
        target_offset: u64,
        length: u64,
    ) -> Result<u64>;
    /// Figures of the file system that holds this.
    fn statfs(fd: BorrowedFd<'_>) -> Result<StatFs>;
    /// Writes the file system of this directory to disk.
    fn sync_fs(dir: BorrowedFd<'_>) -> Result<()>;
    /// Takes or releases a lock on bytes `start..=end` for this open file description, without
    /// waiting. `EAGAIN` if another holds one.
    fn lock_range(fd: BorrowedFd<'_>, kind: LockKind, start: u64, end: u64) -> Result<()>;
    /// The same for a `flock`.
    fn lock_whole(fd: BorrowedFd<'_>, kind: LockKind) -> Result<()>;
}
