//! Temporary folders on a real disk: a `tmpfs` would hide what the suites look for.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::share::{detach, mounts_below};

/// A folder that anybody may enter, removed at the end of the test.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("osxfs-e2e-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in(base())
            .expect("a temporary folder");
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Lets any user make files in it.
    pub fn open_to_all(&self) {
        let all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(self.path(), all).expect("a folder of ours");
    }

    /// A new folder of that name in it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.path().join(name);
        std::fs::create_dir(&dir).expect("a new folder");
        dir
    }
}

impl Drop for Scratch {
    /// Takes out what is still mounted in it: a removal must never walk into a mount.
    fn drop(&mut self) {
        let mut left = mounts_below(self.path());
        left.reverse();
        for at in left {
            eprintln!("{} is still mounted at the end", at.display());
            detach(&at);
        }
    }
}

/// `OSXFS_TEST_DIR`, or `/var/tmp`, or cargo's folder for tests where `/var/tmp` is in memory.
fn base() -> PathBuf {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    if let Some(dir) = std::env::var_os("OSXFS_TEST_DIR") {
        return dir.into();
    }
    let on_disk = rustix::fs::statfs("/var/tmp")
        .is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|magic| magic != TMPFS_MAGIC));
    if on_disk { "/var/tmp".into() } else { env!("CARGO_TARGET_TMPDIR").into() }
}
