//! What can go wrong before a mount serves, in sentences for people: the thing, the cause, the next
//! step.

use crate::wire::ConnectError;
use protocol::Errno;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no mount.
#[derive(Debug, Error)]
pub enum Error {
    /// No connection to the server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The name cannot be that of an export.
    #[error("\"{0}\" cannot be the name of an export: 1 to 128 bytes without '/'")]
    BadExportName(String),
    /// The server has no such export.
    #[error("the server has no export \"{0}\"; `osxfs status` lists what it shares")]
    UnknownExport(String),
    /// The server does not attach the export.
    #[error("cannot attach the export \"{export}\": {errno}")]
    Attach {
        /// Its name.
        export: String,
        /// Why.
        errno: Errno,
    },
    /// There is no mount point.
    #[error("the mount point {} does not exist; create it with `mkdir -p {}`", .0.display(), .0.display())]
    MountPointMissing(PathBuf),
    /// The mount point is something else.
    #[error("the mount point {} is not a directory", .0.display())]
    MountPointNotDirectory(PathBuf),
    /// The mount point has content that would be hidden.
    #[error("the mount point {} is not empty; choose an empty directory", .0.display())]
    MountPointNotEmpty(PathBuf),
    /// Something is mounted there.
    #[error(
        "the mount point {} is busy: {kind} \"{source_name}\" is mounted on it; unmount it first with `umount {}`",
        .path.display(), .path.display()
    )]
    MountPointBusy {
        /// The mount point.
        path: PathBuf,
        /// The file system type.
        kind: String,
        /// What is mounted.
        source_name: String,
    },
    /// The mount point cannot be examined.
    #[error("cannot use the mount point {}: {source}", .path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel has no FUSE.
    #[error(
        "there is no /dev/fuse; load the kernel's module with `modprobe fuse`, or give the container the device"
    )]
    NoFuse,
    /// The device may not be opened.
    #[error("no permission to open /dev/fuse; its mode should be 0666, or run as root")]
    FusePermission,
    /// The device cannot be opened.
    #[error("cannot open /dev/fuse: {0}")]
    Fuse(io::Error),
    /// An ordinary user needs a helper.
    #[error(
        "mounting as an ordinary user needs `fusermount3`, which is not installed; install the package `fuse3`, or run as root"
    )]
    NoFusermount,
    /// The helper refused.
    #[error("fusermount3 did not mount {}: {message}", .path.display())]
    Fusermount {
        /// The mount point.
        path: PathBuf,
        /// Its words.
        message: String,
    },
    /// `mount(2)` failed.
    #[error("cannot mount on {}: {source}", .path.display())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel did not begin.
    #[error("mounted on {}, but the kernel does not begin to use it (it needs Linux 5.4 or newer)", .0.display())]
    NoInit(PathBuf),
    /// It cannot be unmounted.
    #[error("cannot unmount {}: {source}", .path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(io::Error),
}
