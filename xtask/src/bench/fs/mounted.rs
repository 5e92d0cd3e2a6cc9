//! What a measurement needs of a file system, wherever it is mounted.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::daemon::Used;
use crate::command::output_of;

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

pub trait Mounted {
    /// Where it is used.
    fn path(&self) -> &Path;

    /// What each process that serves it has used up to now.
    fn processor_time(&self) -> Result<Vec<Used>>;

    /// What ours has been asked up to now; nothing of the others.
    fn requests(&self) -> Result<Option<Requests>>;

    /// How often the device that carries it has interrupted the guest up to now, if there is one: about
    /// once a request of virtiofs and 9p, less often where answers come together.
    fn interrupts(&self) -> Result<Option<f64>> {
        Ok(None)
    }

    /// Writes everything to the disk, and drops the caches of all kernels that take part.
    fn forget(&self) -> Result<()>;
}

/// Requests up to some moment, or for one act.
#[derive(Clone, Copy, Default)]
pub struct Requests {
    /// Of the kernel to the agent.
    pub kernel: f64,
    /// Of the agent to the server.
    pub wire: f64,
}

impl Requests {
    /// What the servers and agents with this runtime folder have been asked up to now.
    pub fn of(osxfs: &Path, runtime_dir: &Path) -> Result<Self> {
        let mut status = Command::new(osxfs);
        status.args(["status", "--json"]).env("OSXFS_RUNTIME_DIR", runtime_dir);
        let text = output_of(&mut status).context("`osxfs status` failed")?;
        let processes: Vec<Value> = serde_json::from_str(&text)?;
        let operations = |value: &Value| value["operations"].as_f64();
        let wire = processes.iter().filter_map(operations).sum();
        let mounts = processes.iter().filter_map(|process| process["mounts"].as_array()).flatten();
        Ok(Self { kernel: mounts.filter_map(operations).sum(), wire })
    }
}

/// Whether the caches of this machine may be dropped, which the cold rows need.
pub fn may_drop_caches() -> bool {
    OpenOptions::new().write(true).open(DROP_CACHES).is_ok()
}

/// Writes everything to the disk, and drops the caches of this machine.
pub fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write(DROP_CACHES, "3\n").context(DROP_CACHES)
}
