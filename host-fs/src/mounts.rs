//! Mounts of our own that lie inside an export: shown as the plain directory beneath, not entered.
//!
//! When host and guest are one kernel, a mount point inside an exported folder would lead every walk
//! back into our own file system, and a thread that serves a request would wait for itself. A
//! descriptor opened *before* the mount still holds the directory beneath it, and everything
//! relative to that descriptor stays beneath; this needs no privilege, and other mounts inside the
//! export are shared as ever (a private clone of the mount, by `open_tree`, would hide them and
//! needs `CAP_SYS_ADMIN`).
//!
//! So the embedder calls [`OwnMounts::cover`] before it mounts and [`OwnMounts::avoid`] after. A
//! mount point is recognised by its parent directory's identity and its name, *before* anything is
//! asked about what is mounted there. Where one of our file systems turns up at another place (a
//! bind mount), it is recognised by its device after the `statx`, answered `ELOOP`, and never
//! entered.

use crate::error::Error;
use crate::os::{self, Stat};
use parking_lot::RwLock;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The mounts of this process. Clones are one list.
#[derive(Clone, Debug, Default)]
pub struct OwnMounts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether there is anything to look for.
    any: AtomicBool,
    list: RwLock<List>,
}

#[derive(Debug, Default)]
struct List {
    covered: Vec<Covered>,
    devices: Vec<u64>,
}

/// A directory under a mount of ours.
#[derive(Clone, Debug)]
struct Covered {
    /// Opened before the mount.
    fd: Arc<OwnedFd>,
    object: (u64, u64),
    /// The directory that it stands in, and its name there.
    parent: (u64, u64),
    name: Vec<u8>,
}

impl OwnMounts {
    /// Takes note of a directory on which we are about to mount. To be called before the mount.
    ///
    /// # Errors
    /// [`Error::MountPoint`] if it cannot be opened.
    pub fn cover(&self, mount_point: &Path) -> Result<(), Error> {
        let error = |errno| Error::MountPoint { path: mount_point.to_owned(), errno };
        let fd = os::open_root(mount_point).map_err(error)?;
        let object = key(&os::stat(fd.as_fd()).map_err(error)?);
        let path = os::present_path(fd.as_fd()).map_err(error)?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(()); // the root directory stands in nothing
        };
        let parent = os::open_root(parent).map_err(error)?;
        let parent = key(&os::stat(parent.as_fd()).map_err(error)?);
        let covered = Covered { fd: Arc::new(fd), object, parent, name: name.as_bytes().to_vec() };
        self.0.list.write().covered.push(covered);
        self.0.any.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes note of the device (`st_dev`) of a file system of ours, once it is mounted.
    pub fn avoid(&self, device: u64) {
        self.0.list.write().devices.push(device);
        self.0.any.store(true, Ordering::Release);
    }

    fn any(&self) -> bool {
        self.0.any.load(Ordering::Acquire)
    }

    /// The directory beneath our mount at this name, if there is one.
    pub(crate) fn beneath(&self, parent: (u64, u64), name: &[u8]) -> Option<Arc<OwnedFd>> {
        let find = |covered: &&Covered| covered.parent == parent && covered.name == name;
        self.any().then(|| self.0.list.read().covered.iter().find(find).map(|c| c.fd.clone()))?
    }

    /// A descriptor of this directory, if it is one beneath a mount of ours.
    pub(crate) fn covered(&self, object: (u64, u64)) -> Option<Arc<OwnedFd>> {
        let find = |covered: &&Covered| covered.object == object;
        self.any().then(|| self.0.list.read().covered.iter().find(find).map(|c| c.fd.clone()))?
    }

    /// Whether a device is a file system of ours.
    pub(crate) fn is_own(&self, device: u64) -> bool {
        self.any() && self.0.list.read().devices.contains(&device)
    }
}

fn key(stat: &Stat) -> (u64, u64) {
    (stat.dev, stat.ino)
}
