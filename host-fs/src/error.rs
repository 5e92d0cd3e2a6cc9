//! Why a server cannot be made or cannot take a connection.
//!
//! What fails while serving is a Linux errno and goes to the guest; this is for people.

use protocol::Errno;
use std::path::PathBuf;
use thiserror::Error;

/// The error of this crate.
#[derive(Debug, Error)]
pub enum Error {
    /// The folder of an export cannot be opened.
    #[error("cannot share {}: {}", path.display(), folder_hint(*errno))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Two exports have one name.
    #[error("two exports are named '{0}': give one of them another name")]
    DuplicateExport(String),
    /// A name that no agent could ask for.
    #[error(
        "'{0}' is no name for an export: use 1 to 128 bytes without '/', and neither '.' nor '..'"
    )]
    ExportName(String),
    /// Owners of the host need root.
    #[error(
        "export '{0}' with ownership 'host' needs a server that runs as root: run it with sudo, or use ownership 'map'"
    )]
    NeedsRoot(String),
    /// The mount point cannot be looked at.
    #[error("cannot use {} as a mount point: {errno}", path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// A thread cannot be started.
    #[error("cannot start the thread '{name}': {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

fn folder_hint(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "there is no such folder".to_owned(),
        Errno::ENOTDIR => "it is no folder".to_owned(),
        Errno::EACCES => "this user may not open it".to_owned(),
        other => other.to_string(),
    }
}
