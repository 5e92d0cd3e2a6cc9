//! Putting the file system into the tree and taking it out again.

mod fusermount;
mod point;
pub(crate) mod table;

pub use point::prepare;

use crate::error::Error;
use protocol::OwnershipMode;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

/// The type of the mounts: `fuse` with a subtype, so that people see whose it is.
pub const FS_TYPE: &str = "fuse.osxfs";

/// Set-id programs and devices of a shared folder are data, not rights.
const RESTRICTIONS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// How to mount.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Shown as what is mounted.
    pub source: String,
    /// Whether users other than the mounting one may use it.
    pub allow_other: bool,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// Who checks permissions.
    pub ownership: OwnershipMode,
}

/// A mount that was made.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// Where it is.
    pub point: PathBuf,
    /// Its device number, as `st_dev` of everything on it; 0 if it cannot be found.
    pub device: u64,
    /// Whether the helper made it, and must undo it.
    by_helper: bool,
}

/// Mounts on `point`, directly or through `fusermount3`. Returns the device to serve as well.
///
/// # Errors
/// See [`Error`].
pub(crate) fn mount(plan: &Plan, point: &Path) -> Result<(Mounted, OwnedFd), Error> {
    let point = point::prepare(point)?;
    let (fd, by_helper) = match directly(plan, &point) {
        Err(Error::Mount { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            (fusermount::mount(plan, &point)?, true)
        }
        Err(Error::FusePermission) if !rustix::process::geteuid().is_root() => {
            // The helper has the right, if it is there.
            match fusermount::mount(plan, &point) {
                Ok(fd) => (fd, true),
                Err(Error::NoFusermount) => return Err(Error::FusePermission),
                // It opens the device with the rights of its caller.
                Err(Error::Fusermount { message, .. }) if message.contains("/dev/fuse") => {
                    return Err(Error::FusePermission);
                }
                Err(error) => return Err(error),
            }
        }
        other => (other?, false),
    };
    let found = table::read().ok().and_then(|table| table.find(&point).map(|at| at.device));
    Ok((Mounted { device: found.unwrap_or(0), point, by_helper }, fd))
}

fn directly(plan: &Plan, point: &Path) -> Result<OwnedFd, Error> {
    use rustix::fs::{Mode, OFlags, open};
    let fd = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
        match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::NODEV | rustix::io::Errno::NXIO => {
                Error::NoFuse
            }
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => Error::FusePermission,
            other => Error::Fuse(other.into()),
        }
    })?;
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let mut options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},{}",
        fd.as_raw_fd(),
        uid.as_raw(),
        gid.as_raw(),
        common_options(plan)
    );
    options.truncate(options.trim_end_matches(',').len());
    let failed = |source: io::Error| Error::Mount { path: point.to_owned(), source };
    let options = CString::new(options).map_err(|error| failed(error.into()))?;
    // A read-only mount becomes so later, by itself and not with the file system: see
    // `Mounted::make_read_only`.
    let flags = RESTRICTIONS;
    rustix::mount::mount(plan.source.as_str(), point, FS_TYPE, flags, options.as_c_str())
        .map_err(|error| failed(error.into()))?;
    Ok(fd)
}

/// The options that both ways share, each with a comma behind it.
fn common_options(plan: &Plan) -> String {
    let mut options = String::new();
    if plan.ownership == OwnershipMode::Host {
        options.push_str("default_permissions,");
    }
    if plan.allow_other {
        options.push_str("allow_other,");
    }
    options
}

impl Mounted {
    /// Makes the visible mount read-only. The file system below is not: events are injected through
    /// another mount of it. (The helper can make only the whole file system so, and has done it.)
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn make_read_only(&self) -> Result<(), Error> {
        if self.by_helper {
            return Ok(());
        }
        let flags = RESTRICTIONS | MountFlags::RDONLY | MountFlags::BIND;
        rustix::mount::mount_remount(&self.point, flags, "")
            .map_err(|error| Error::Mount { path: self.point.clone(), source: error.into() })
    }

    /// Takes the mount out of the tree; who still uses it keeps it until then.
    ///
    /// # Errors
    /// What the kernel or the helper says; not if it is gone already.
    pub(crate) fn unmount(&self) -> Result<(), Error> {
        if !self.is_mounted() {
            return Ok(());
        }
        let result = if self.by_helper {
            fusermount::unmount(&self.point)
        } else {
            rustix::mount::unmount(&self.point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .map_err(io::Error::from)
        };
        match result {
            Err(_) if !self.is_mounted() => Ok(()),
            Err(source) => Err(Error::Unmount { path: self.point.clone(), source }),
            Ok(()) => Ok(()),
        }
    }

    /// Whether it is still there, and is the topmost at its place.
    pub(crate) fn is_mounted(&self) -> bool {
        table::read().is_ok_and(|table| {
            table.find(&self.point).is_some_and(|at| at.device == self.device && at.is_ours())
        })
    }

    /// Whether it is still mounted anywhere in this process's namespace.
    pub(crate) fn is_anywhere(&self) -> bool {
        table::read().is_ok_and(|table| table.has_device(self.device))
    }

    /// Lets the kernel read ahead further than it does by default, where that may be set.
    pub(crate) fn set_readahead(&self, kib: u32) {
        let (major, minor) = (rustix::fs::major(self.device), rustix::fs::minor(self.device));
        let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        if let Err(error) = std::fs::write(&file, kib.to_string()) {
            tracing::debug!(file, %error, "read-ahead stays at the default");
        }
    }
}
