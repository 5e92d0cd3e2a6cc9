//! The shares that are measured: `osxfs mount`, `osxfs serve` with `osxfs agent`, and the bare folder
//! as a floor. Each stands in a temporary folder and is gone at the end, however it comes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::daemon::{Daemon, Used, is_mounted};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// No osxfs: the watcher watches the host's folder.
    Local,
    /// `osxfs mount`: one process.
    Embedded,
    /// `osxfs serve` and `osxfs agent`, joined by a unix socket.
    UnixSocket,
}

impl Shape {
    pub const ALL: [Self; 3] = [Self::Local, Self::Embedded, Self::UnixSocket];

    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "the folder itself, without osxfs",
            Self::Embedded => "embedded (`osxfs mount`)",
            Self::UnixSocket => "unix socket (`osxfs serve`, `osxfs agent`)",
        }
    }
}

/// A folder, and whatever serves it.
pub struct Share {
    /// Ended from the last to the first.
    daemons: Vec<Daemon>,
    host: PathBuf,
    mount: PathBuf,
    scratch: Option<TempDir>,
}

impl Share {
    /// Starts it below `base`, and returns when it is mounted.
    pub fn start(shape: Shape, program: &Path, base: &Path) -> Result<Self> {
        let mut share = Self::bare(base)?;
        share.mount(shape, program)?;
        Ok(share)
    }

    /// An empty folder below `base` that nothing serves yet.
    pub fn bare(base: &Path) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("osxfs-bench-")
            .tempdir_in(base)
            .with_context(|| format!("cannot make a folder in {}", base.display()))?;
        let dir = |name| {
            let dir = scratch.path().join(name);
            fs::create_dir(&dir).map(|()| dir)
        };
        let (host, mount, _) = (dir("host")?, dir("mount")?, dir("run")?);
        Ok(Self { daemons: Vec::new(), host, mount, scratch: Some(scratch) })
    }

    /// Serves it by osxfs.
    pub fn mount(&mut self, shape: Shape, program: &Path) -> Result<()> {
        let osxfs = || {
            let mut command = Daemon::command(program);
            command.env("OSXFS_RUNTIME_DIR", self.runtime_dir());
            command
        };
        let socket = format!("unix:{}", self.beside("socket").display());
        match shape {
            Shape::Local => self.mount.clone_from(&self.host),
            Shape::Embedded => {
                let mut mount = osxfs();
                mount.arg("mount").arg(&self.host).arg(&self.mount);
                self.add(Daemon::printing("osxfs mount", "sharing ", &mut mount)?);
            }
            Shape::UnixSocket => {
                let (mut serve, mut agent) = (osxfs(), osxfs());
                let export = format!("{}:bench", self.host.display());
                serve.args(["serve", "--export", &export, "--listen", &socket]);
                self.add(Daemon::printing("osxfs serve", "listening on ", &mut serve)?);
                let mount = format!("bench:{}", self.mount.display());
                agent.args(["agent", "--connect", &socket, "--mount", &mount]);
                self.add(Daemon::printing("osxfs agent", "mounted ", &mut agent)?);
            }
        }
        Ok(())
    }

    /// From now on this process takes part in serving it.
    pub fn add(&mut self, daemon: Daemon) {
        self.daemons.push(daemon);
    }

    /// A folder of this name, made on the host.
    pub fn dir(&self, name: &str) -> Result<Dir> {
        let dir = Dir { host: self.host.join(name), mount: self.mount.join(name) };
        fs::create_dir(&dir.host)?;
        Ok(dir)
    }

    /// The folder itself.
    pub fn host_path(&self) -> &Path {
        &self.host
    }

    /// Where a guest sees it.
    pub fn mount_path(&self) -> &Path {
        &self.mount
    }

    /// Where `osxfs status` finds the servers and agents of this share.
    pub fn runtime_dir(&self) -> PathBuf {
        self.beside("run")
    }

    /// The memory, in bytes, that each process holds now.
    pub fn memory(&self) -> Result<Vec<(&'static str, u64)>> {
        self.daemons.iter().map(|daemon| Ok((daemon.name(), daemon.memory()?))).collect()
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.host.with_file_name(name)
    }

    /// The processor time that each process has used up to now.
    pub fn processor_time(&self) -> Result<Vec<Used>> {
        self.daemons.iter().map(Daemon::used).collect()
    }
}

/// A folder of a share.
pub struct Dir {
    pub host: PathBuf,
    /// The same for a guest.
    pub mount: PathBuf,
}

impl Drop for Share {
    fn drop(&mut self) {
        while self.daemons.pop().is_some() {}
        let Some(scratch) = self.scratch.take() else { return };
        if is_mounted(scratch.path()) {
            let detach = ["-f", "-l"];
            _ = Command::new("umount").args(detach).arg(&self.mount).status();
        }
        // A removal must never walk into a mount.
        if is_mounted(scratch.path()) {
            eprintln!("bench: {} is still mounted and is left", self.mount.display());
            _ = scratch.keep();
        }
    }
}
