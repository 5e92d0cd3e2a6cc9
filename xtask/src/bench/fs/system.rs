//! The file systems that are measured, each over a folder of its own on the same disk.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::daemon::{Daemon, Used};
use super::super::share::{Shape, Share};
use super::peers::Peers;
use crate::command::output_of;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum System {
    /// The folder itself.
    Local,
    /// libfuse's fastest example: no wire, a descriptor a file, told of no change.
    PassthroughHp,
    Bindfs,
    /// Over a pair of sockets to `sftp-server`, without encryption.
    Sshfs,
    /// `osxfs mount`.
    Embedded,
    /// `osxfs serve` and `osxfs agent`.
    UnixSocket,
}

impl System {
    pub const ALL: [Self; 6] = [
        Self::Local,
        Self::PassthroughHp,
        Self::Bindfs,
        Self::Sshfs,
        Self::Embedded,
        Self::UnixSocket,
    ];
    pub const OURS: [Self; 2] = [Self::Embedded, Self::UnixSocket];

    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local disk",
            Self::PassthroughHp => "passthrough_hp",
            Self::Bindfs => "bindfs",
            Self::Sshfs => "sshfs",
            Self::Embedded => "osxfs embedded",
            Self::UnixSocket => "osxfs unix socket",
        }
    }
}

/// Requests up to some moment.
#[derive(Clone, Copy, Default)]
pub struct Requests {
    /// Of the kernel to the agent.
    pub kernel: u64,
    /// Of the agent to the server.
    pub wire: u64,
}

/// A file system that is mounted.
pub struct Running {
    pub system: System,
    share: Share,
    osxfs: PathBuf,
}

impl Running {
    /// Makes a folder below `base`, lets `fill` put into it what is there from the beginning, and
    /// mounts it.
    pub fn start(
        system: System,
        base: &Path,
        osxfs: &Path,
        peers: &Peers,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let mut share = Share::bare(base)?;
        fill(share.host_path())?;
        let (host, mount) = (share.host_path().to_owned(), share.mount_path().to_owned());
        match system {
            System::Local => share.mount(Shape::Local, osxfs)?,
            System::Embedded => share.mount(Shape::Embedded, osxfs)?,
            System::UnixSocket => share.mount(Shape::UnixSocket, osxfs)?,
            System::PassthroughHp => {
                let mut command = Daemon::command(&peers.passthrough_hp);
                command.arg("--foreground").args([&host, &mount]);
                share.add(Daemon::mounting("passthrough_hp", &mount, &mut command)?);
            }
            System::Bindfs => {
                let mut command = Daemon::command(Path::new("bindfs"));
                command.arg("-f").args([&host, &mount]);
                share.add(Daemon::mounting("bindfs", &mount, &mut command)?);
            }
            System::Sshfs => {
                let (server, client) = UnixStream::pair()?;
                let mut command = wired(&peers.sftp_server, server)?;
                share.add(Daemon::beside("sftp-server", &mut command)?);
                // What it holds of the sockets must be closed, or the server never sees the end.
                drop(command);
                let mut command = wired(Path::new("sshfs"), client)?;
                command
                    .args(["-f", "-o", "passive"])
                    .arg(format!(":{}", host.display()))
                    .arg(&mount);
                share.add(Daemon::mounting("sshfs", &mount, &mut command)?);
            }
        }
        Ok(Self { system, share, osxfs: osxfs.to_owned() })
    }

    /// Where it is used.
    pub fn path(&self) -> &Path {
        self.share.mount_path()
    }

    pub fn processor_time(&self) -> Result<Vec<Used>> {
        self.share.processor_time()
    }

    /// What osxfs has been asked up to now; nothing of the others.
    pub fn requests(&self) -> Result<Option<Requests>> {
        if !System::OURS.contains(&self.system) {
            return Ok(None);
        }
        let mut status = Command::new(&self.osxfs);
        status.args(["status", "--json"]).env("OSXFS_RUNTIME_DIR", self.share.runtime_dir());
        let text = output_of(&mut status).context("`osxfs status` failed")?;
        let processes: Vec<Value> = serde_json::from_str(&text)?;
        let operations = |value: &Value| value["operations"].as_u64();
        let wire = processes.iter().filter_map(operations).sum();
        let mounts = processes.iter().filter_map(|process| process["mounts"].as_array()).flatten();
        Ok(Some(Requests { kernel: mounts.filter_map(operations).sum(), wire }))
    }
}

/// A command that speaks over this socket.
fn wired(program: &Path, socket: UnixStream) -> Result<Command> {
    let mut command = Daemon::command(program);
    let input = OwnedFd::from(socket);
    command.stdout(Stdio::from(input.try_clone()?)).stdin(Stdio::from(input));
    Ok(command)
}

/// Whether the caches of this machine may be dropped, which the cold rows need.
pub fn may_drop_caches() -> bool {
    fs::OpenOptions::new().write(true).open(super::measure::DROP_CACHES).is_ok()
}
