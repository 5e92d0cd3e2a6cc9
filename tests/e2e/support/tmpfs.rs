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
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "osxfs-e2e"]).arg(at);
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
