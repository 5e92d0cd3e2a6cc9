//! A second way to the same folder, as containers get theirs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::share::detach;
use super::{Daemon, PROMPT, Suite};

/// A bind mount, undone at the end.
pub struct Bind {
    path: PathBuf,
    /// Lives in the mount namespace that has it; none if it is ours.
    keeper: Option<Daemon>,
}

impl Bind {
    /// Shows `folder` at the empty folder `at`, perhaps read-only.
    #[track_caller]
    pub fn mount(folder: &Path, at: &Path, read_only: bool) -> Self {
        let script = if read_only {
            r#"mount --bind "$1" "$2"; mount -o remount,bind,ro "$2""#
        } else {
            r#"mount --bind "$1" "$2""#
        };
        Suite::shell(PROMPT, script, [folder, at]);
        Self { path: at.to_owned(), keeper: None }
    }

    /// Shows `folder` at `at` in a mount namespace of its own, which alone sees it there.
    #[track_caller]
    pub fn in_a_namespace(folder: &Path, at: &Path) -> Self {
        const SCRIPT: &str = r#"mount --bind "$1" "$2" && echo ready && exec sleep 1000"#;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "private"]);
        command.args(["sh", "-c", SCRIPT, "sh"]).arg(folder).arg(at);
        let mut keeper = Daemon::spawn("a mount namespace", command, Duration::from_secs(1000));
        keeper.await_line("ready");
        let root = PathBuf::from(format!("/proc/{}/root", keeper.pid()));
        let path = root.join(at.strip_prefix("/").expect("an absolute path"));
        Self { path, keeper: Some(keeper) }
    }

    /// Where this process finds it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        if self.keeper.is_none() {
            detach(&self.path);
        }
    }
}
