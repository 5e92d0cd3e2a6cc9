//! The host's side of the guest's file systems, each over a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::super::daemon::Daemon;
use super::super::fs::contest::System;
use super::super::fs::material::Template;
use super::super::fs::measure::rest;
use super::super::fs::mounted::{Requests, drop_caches};
use super::line;
use crate::command::tools_dir;
use crate::setup::{Crate, Probe, provide, provide_crate};

pub const VIRTIOFSD: Crate =
    Crate { name: "virtiofsd", version: "1.14.0", program: "virtiofsd", profile: "release" };
/// What it is built with.
const PACKAGES: &[(&str, Probe)] =
    &[("libcap-ng-dev", Probe::Package), ("libseccomp-dev", Probe::Package)];

/// Folders of the host, by the names of their devices.
pub const OSXFS: &str = "shared";
pub const AUTO: &str = "auto";
pub const ALWAYS: &str = "always";
pub const NINE_P: &str = "ninep";

/// Builds virtiofsd if it is not there.
pub fn virtiofsd() -> Result<PathBuf> {
    provide(PACKAGES)?;
    provide_crate(&VIRTIOFSD)?;
    Ok(tools_dir().join("bin").join(VIRTIOFSD.program))
}

/// The socket of a vhost-user device.
pub fn socket(scratch: &Path, device: &str) -> PathBuf {
    scratch.join(format!("{device}.socket"))
}

pub struct Servers {
    vsock: Daemon,
    auto: Daemon,
    always: Daemon,
    osxfs: PathBuf,
    runtime_dir: PathBuf,
}

impl Servers {
    /// Makes the folders, and starts what serves them.
    pub fn start(
        osxfs: &Path,
        virtiofsd: &Path,
        scratch: &Path,
        template: &Template,
    ) -> Result<Self> {
        for name in [OSXFS, AUTO, ALWAYS, NINE_P] {
            fs::create_dir(scratch.join(name)).context("no folder to share")?;
            template.copy_to(&scratch.join(name))?;
        }
        let runtime_dir = scratch.join("run");
        fs::create_dir(&runtime_dir)?;
        let mut vsock = Daemon::command(osxfs);
        vsock.env("OSXFS_RUNTIME_DIR", &runtime_dir).args(["vsock", "--vhost-user"]);
        vsock.arg(socket(scratch, OSXFS)).arg("--export").arg(scratch.join(OSXFS));
        let passed_through = |name, folder: &str, cache| {
            let (mut command, socket) = (Daemon::command(virtiofsd), socket(scratch, folder));
            command.arg("--socket-path").arg(&socket);
            command.arg("--shared-dir").arg(scratch.join(folder)).args(["--cache", cache]);
            Daemon::listening(name, &socket, &mut command)
        };
        Ok(Self {
            vsock: Daemon::printing("osxfs vsock", "serving guest ", &mut vsock)?,
            auto: passed_through("virtiofsd auto", AUTO, "auto")?,
            always: passed_through("virtiofsd always", ALWAYS, "always")?,
            osxfs: osxfs.to_owned(),
            runtime_dir,
        })
    }

    fn processor_time(&self) -> Result<Duration> {
        let servers = [&self.vsock, &self.auto, &self.always];
        servers.into_iter().map(|server| Ok(server.used()?.time)).sum()
    }

    /// What the guest asks of the server of a file system.
    pub fn answer(&self, of: System, question: &str) -> Result<f64> {
        let server = match of {
            System::VirtioSock => Some(&self.vsock),
            System::VirtiofsdAuto => Some(&self.auto),
            System::VirtiofsdAlways => Some(&self.always),
            _ => None,
        };
        match question {
            line::USED => Ok(server.context("it has no server")?.used()?.time.as_secs_f64()),
            line::WIRE => Ok(Requests::of(&self.osxfs, &self.runtime_dir)?.wire),
            line::FORGET => {
                drop_caches()?;
                // The guest's kernel tells the servers of all its file systems what it has forgotten.
                rest(|| self.processor_time())?;
                Ok(0.0)
            }
            other => bail!("the guest asks {other:?}"),
        }
    }
}
