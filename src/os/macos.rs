//! macOS has no FUSE of its own: a folder is seen by a Linux guest, not by the Mac itself.

use crate::cli::{AgentArgs, MountArgs};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use vmm::virtio::vsock::{Cid, HostSide};

/// Says what to do instead.
pub fn mount(args: &MountArgs) -> Result<()> {
    let MountArgs { dir, .. } = args;
    bail!(
        "cannot mount on macOS itself, which has no FUSE: offer the folder to a Linux guest with `osxfs serve --export {} --listen unix:PATH`",
        dir.display()
    )
}

/// Says where to run it.
pub fn agent(_args: &AgentArgs) -> Result<()> {
    bail!("the agent mounts by FUSE and runs in the Linux guest: start `osxfs-agent` there")
}

/// vhost-user hands descriptors of memory over in ways that this system does not have.
pub struct VhostUser;

impl VhostUser {
    /// Says so.
    pub fn bind(_path: &Path, _cid: Cid, _side: HostSide) -> Result<Self> {
        bail!("vhost-user works on Linux only: here use `osxfs vm run`")
    }

    /// Never reached.
    pub fn sockets(&self) -> &[PathBuf] {
        &[]
    }

    /// Never reached.
    pub fn serve(self) -> Result<()> {
        Ok(())
    }
}
