//! The actuator's way into the mount: a private clone of it, so that nothing that the guest mounts,
//! makes read-only or renames on the way is in it.
//!
//! Cloning needs `CAP_SYS_ADMIN`. Without it the mount point itself is opened for each burst of
//! changes and let go behind it, since a descriptor on it makes `umount` fail.

use super::scene::ELSEWHERE_NAME;
use crate::fuse::session::Session;
use crate::nodes::LocalId;
use crate::os;
use protocol::Errno;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::mount::OpenTreeFlags;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::debug;

/// Longest path given to one call, below `PATH_MAX`.
const MAX_PATH: usize = 3800;

const DIR: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The root of the mount.
#[derive(Clone, Debug)]
pub struct Root {
    point: PathBuf,
    device: u64,
    /// Does not make the mount busy, but keeps the file system alive.
    clone: Option<Arc<OwnedFd>>,
    /// Makes the mount busy.
    direct: Option<Arc<OwnedFd>>,
}

impl Root {
    /// Of the mount on `point`, whose `st_dev` is `device`, as it is now. It must be served already.
    pub fn new(point: &Path, device: u64) -> Self {
        let mut root = Self { point: point.to_owned(), device, clone: None, direct: None };
        let tree = rustix::mount::open_tree(
            rustix::fs::CWD,
            point,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        );
        match tree {
            Ok(tree) if root.is_it(&tree) => root.clone = Some(Arc::new(tree)),
            Ok(_) => debug!(point = %point.display(), "something else is mounted on top"),
            Err(error) => debug!(%error, "no private clone of the mount"),
        }
        root
    }

    /// The same for the calling thread, which has a descriptor table of its own from now on.
    /// `self` must not be dropped on it.
    pub fn adopt(&self) -> Self {
        let clone = match os::isolate(self.clone.as_ref().map(|clone| clone.as_fd())) {
            Ok(mine) => mine.map(Arc::new),
            Err(error) => {
                debug!(%error, "no descriptor table of its own for the actuator");
                self.clone.clone()
            }
        };
        Self { point: self.point.clone(), device: self.device, clone, direct: None }
    }

    /// Lets go of what makes the mount busy.
    pub fn rest(&mut self) {
        self.direct = None;
    }

    fn is_it(&self, fd: impl AsFd) -> bool {
        // What the kernel has cached will do: it must not ask us.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        rustix::fs::statx(fd, "", flags, StatxFlags::empty()).is_ok_and(|stat| {
            rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor) == self.device
        })
    }

    fn open(&mut self) -> Result<BorrowedFd<'_>, Errno> {
        if self.clone.is_none() && self.direct.is_none() {
            let root = rustix::fs::open(&self.point, DIR, Mode::empty()).map_err(errno)?;
            if !self.is_it(&root) {
                return Err(Errno::ENODEV);
            }
            self.direct = Some(Arc::new(root));
        }
        let root = self.clone.as_ref().or(self.direct.as_ref());
        root.map(|root| root.as_fd()).ok_or(Errno::ENODEV)
    }

    /// A descriptor of the directory that only actuators find.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_elsewhere(&mut self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(self.open()?, ELSEWHERE_NAME, DIR, Mode::empty()).map_err(errno)
    }

    /// A descriptor of a directory that the kernel knows. None if its place is not known.
    ///
    /// # Errors
    /// What the kernel says on the way.
    pub fn open_dir(&mut self, session: &Session, dir: LocalId) -> Result<Option<OwnedFd>, Errno> {
        let Some(path) = session.nodes.path(dir) else { return Ok(None) };
        let root = self.open()?;
        let mut names = path.iter().map(|(_, name)| &**name).peekable();
        let mut at = rustix::fs::openat(root, ".", DIR, Mode::empty()).map_err(errno)?;
        while names.peek().is_some() {
            let mut part: Vec<u8> = Vec::new();
            while let Some(name) = names.next_if(|name| part.len() + name.len() < MAX_PATH) {
                if !part.is_empty() {
                    part.push(b'/');
                }
                part.extend_from_slice(name);
            }
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            at = rustix::fs::openat2(&at, &*part, DIR, Mode::empty(), resolve).map_err(errno)?;
        }
        Ok(Some(at))
    }
}

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
