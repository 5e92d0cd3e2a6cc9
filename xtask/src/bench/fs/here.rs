//! The file systems that are measured on this machine, each over a folder of its own on the same disk.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use super::super::daemon::{Daemon, Used};
use super::super::share::{Shape, Share};
use super::contest::{HERE, System};
use super::mounted::{Mounted, Requests, drop_caches};
use super::peers::Peers;

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
            System::VirtioSock
            | System::VirtiofsdAuto
            | System::VirtiofsdAlways
            | System::NineP => bail!("{} needs a guest", system.name()),
        }
        Ok(Self { system, share, osxfs: osxfs.to_owned() })
    }
}

impl Mounted for Running {
    fn path(&self) -> &Path {
        self.share.mount_path()
    }

    fn processor_time(&self) -> Result<Vec<Used>> {
        self.share.processor_time()
    }

    fn requests(&self) -> Result<Option<Requests>> {
        let ours = HERE.ours.contains(&self.system);
        ours.then(|| Requests::of(&self.osxfs, &self.share.runtime_dir())).transpose()
    }

    fn forget(&self) -> Result<()> {
        drop_caches()
    }
}

/// A command that speaks over this socket.
fn wired(program: &Path, socket: UnixStream) -> Result<Command> {
    let mut command = Daemon::command(program);
    let input = OwnedFd::from(socket);
    command.stdout(Stdio::from(input.try_clone()?)).stdin(Stdio::from(input));
    Ok(command)
}
