//! The mount point: is it fit for use, and what stands in the way.

use super::table;
use crate::error::Error;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

/// Checks the mount point, clears a stale mount of ours from it, and returns its absolute path.
///
/// # Errors
/// See [`Error`].
pub fn prepare(point: &Path) -> Result<PathBuf, Error> {
    let path = resolve(point)?;
    let failed = |source| Error::MountPoint { path: path.clone(), source };
    loop {
        let table = table::read().map_err(failed)?;
        let Some(entry) = table.find(&path) else { break };
        if !entry.is_ours() || !is_stale(&path) {
            return Err(Error::MountPointBusy {
                path,
                kind: entry.kind.clone(),
                source_name: entry.source.clone(),
            });
        }
        warn!(mount_point = %path.display(), "clearing a stale mount whose server is gone");
        clear(&path).map_err(failed)?;
    }
    match std::fs::metadata(&path) {
        Ok(of) if of.is_dir() => {}
        Ok(_) => return Err(Error::MountPointNotDirectory(path)),
        Err(error) => return Err(failed(error)),
    }
    let mut entries = std::fs::read_dir(&path).map_err(failed)?;
    match entries.next() {
        None => Ok(path),
        Some(_) => Err(Error::MountPointNotEmpty(path)),
    }
}

/// The path as the kernel's table shows it. The last component may be a dead mount, which cannot be
/// looked at: then its parent is resolved.
fn resolve(point: &Path) -> Result<PathBuf, Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::MountPointMissing(point.to_owned()),
        io::ErrorKind::NotADirectory => Error::MountPointNotDirectory(point.to_owned()),
        _ => Error::MountPoint { path: point.to_owned(), source },
    };
    match point.canonicalize() {
        Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => {
            let whole = std::path::absolute(point).map_err(failed)?;
            match (whole.parent(), whole.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize().map_err(failed)?.join(name)),
                _ => Err(failed(error)),
            }
        }
        other => other.map_err(failed),
    }
}

/// By a request that every mount sends to its server: attributes the kernel may have cached, and then
/// it answers for a server that is dead.
fn is_stale(path: &Path) -> bool {
    rustix::fs::statfs(path).is_err_and(|error| error == Errno::NOTCONN)
}

fn clear(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => super::fusermount::unmount(path),
        other => other.map_err(Into::into),
    }
}
