//! Where a benchmark ran: figures without it say nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use super::wake::Wake;
use crate::command::{output_of, workspace};

pub struct Environment {
    kernel: String,
    cores: usize,
    processor: String,
    file_system: String,
    osxfs: String,
    wake: Option<Wake>,
}

impl Environment {
    /// Of this machine, with `program` as osxfs and its shared folders below `dir`.
    pub fn of(program: &Path, dir: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        let version = output_of(Command::new(program).arg("--version")).unwrap_or_else(unknown);
        let mut describe = Command::new("git");
        describe.args(["describe", "--always", "--dirty"]).current_dir(workspace());
        let commit = output_of(&mut describe).unwrap_or_else(unknown);
        Self {
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(1, usize::from),
            processor: processor().unwrap_or_else(unknown),
            file_system: output_of(
                Command::new("findmnt").args(["-n", "-o", "FSTYPE", "--target"]).arg(dir),
            )
            .and_then(|types| Some(types.lines().last()?.to_owned()))
            .unwrap_or_else(unknown),
            osxfs: format!("{version} ({commit})"),
            wake: Wake::measure().ok(),
        }
    }

    pub fn line(&self) -> String {
        let Self { kernel, cores, processor, file_system, osxfs, wake } = self;
        let wake = wake.as_ref().map(|wake| format!("; {}", wake.line())).unwrap_or_default();
        format!(
            "{osxfs}, Linux {kernel}, {cores} cores of {processor}, host folder on {file_system}{wake}"
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "osxfs": self.osxfs, "kernel": self.kernel, "cores": self.cores,
            "processor": self.processor, "file_system": self.file_system,
        })
    }
}

/// A setting of the kernel, in one line.
pub fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn processor() -> Option<String> {
    let cpus = read("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "))?;
    Some(model.1.to_owned())
}
