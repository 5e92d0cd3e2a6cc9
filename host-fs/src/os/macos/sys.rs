//! What the `libc` crate does not declare.

use libc::{c_char, c_int, size_t, ssize_t};

/// `fsid_t` of <sys/_types/_fsid_t.h>, whose numbers the `libc` crate keeps to itself.
#[repr(C)]
pub struct VolumeId {
    pub val: [i32; 2],
}

unsafe extern "C" {
    /// <sys/fsgetpath.h>, macOS 10.13: the path of the object with an inode number on a volume.
    pub fn fsgetpath(
        buffer: *mut c_char,
        size: size_t,
        volume: *mut VolumeId,
        object: u64,
    ) -> ssize_t;

    /// libsystem_pthread, macOS 10.12 (no public header): gives this thread a working directory of
    /// its own; -1 takes it away.
    pub fn pthread_fchdir_np(fd: c_int) -> c_int;

    /// <unistd.h>, macOS 10.8: writes a volume to disk.
    pub fn fsync_volume_np(fd: c_int, flags: c_int) -> c_int;
}

/// `freadlink` of <unistd.h>, which came with macOS 13.
pub type Freadlink = unsafe extern "C" fn(c_int, *mut c_char, size_t) -> ssize_t;

/// <fcntl.h>: the descriptor is for watching only; it holds up no unmount.
pub const O_EVTONLY: u32 = libc::O_EVTONLY as u32;
/// `O_SEARCH` of <fcntl.h> (`O_EXEC | O_DIRECTORY`), macOS 13: a directory for what lies below it,
/// not to be listed. Older kernels ignore the first bit and ask for permission to read.
pub const O_SEARCH: u32 = 0x4000_0000 | libc::O_DIRECTORY as u32;

/// <unistd.h>: to the medium, not only to the drive.
pub const SYNC_VOLUME_FULLSYNC: c_int = 1;
/// <unistd.h>: return when done.
pub const SYNC_VOLUME_WAIT: c_int = 2;

/// <sys/fcntl.h>: what is preallocated outlives the last close.
pub const F_ALLOCATEPERSIST: u32 = 8;

/// `MAXLONGPATHLEN` of <sys/syslimits.h>: the most that `fsgetpath` takes.
pub const MAX_LONG_PATH: usize = 8192;
