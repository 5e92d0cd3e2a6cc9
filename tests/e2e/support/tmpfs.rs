//! A small file system of its own: to fill, to make read-only, to mount within a share.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::share::detach;
use super::{PROMPT, Suite};

/// Mounted until it is dropped.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one on an empty folder; `options` as of `mount -o`.
    #[track_caller]
    pub fn mount(at: &Path, options: &str) -> Self {
        Self::mount_of("tmpfs", at, options)
    }

    /// The same of the kind that numbers the entries of a directory, so that those behind a removed one
    /// have other numbers from then on.
    #[track_caller]
    pub fn with_shifting_offsets(at: &Path) -> Self {
        Self::mount_of("ramfs", at, "mode=755")
    }

    #[track_caller]
    fn mount_of(kind: &str, at: &Path, options: &str) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", kind, "-o", options, "osxfs-e2e"]).arg(at);
        Suite::run("mount", PROMPT, &mut mount).succeeds();
        Self(at.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    #[track_caller]
    pub fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(&self.0);
        Suite::run("mount", PROMPT, &mut mount).succeeds();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        detach(&self.0);
    }
}
