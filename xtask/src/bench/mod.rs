//! `cargo xtask bench`: measures what osxfs promises to be fast at, and fails on a missed budget.
//!
//! | file | job |
//! | --- | --- |
//! | `events` | the benchmark of events: options, flow, budgets |
//! | `delay` | from a host's system call to the watcher's wake-up, idle and under load |
//! | `storm` | how many changes a second go through |
//! | `act` | what is done on the host, and the paced load of it |
//! | `watcher` | inotify on the mount, and what it is expected to tell |
//! | `fs` | the benchmark of file operations, beside a local disk and other file systems |
//! | `growth` | how time and memory grow with the number of files, and requests in flight |
//! | `profile` | where the time of those goes |
//! | `vm_fs` | the benchmark of file operations in a guest |
//! | `vm` | the benchmark of the VM monitor, beside QEMU |
//! | `share`, `daemon` | the shares that are measured, their processes and processor time |
//! | `environment`, `wake`, `stats`, `table` | what every benchmark prints |
//!
//! Every figure is the median of several runs. The machine is shared by all that takes part: whoever
//! writes on the host, the server, the agent and the watcher.

mod act;
mod daemon;
mod delay;
mod environment;
mod events;
mod fs;
mod growth;
mod profile;
mod report;
mod share;
mod stats;
mod storm;
mod table;
mod vm;
mod vm_fs;
mod wake;
mod watcher;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{cargo, execute, target_dir};

#[derive(clap::Subcommand)]
pub enum Benchmark {
    /// Delay of events, injections a second, processor time a change
    Events(events::Options),
    /// Time of file operations, as ratios to a local disk and to other file systems
    Fs(fs::Options),
    /// Time and memory for a file as a tree grows, large directories, requests in flight
    Growth(growth::Options),
    /// Flame graphs of file operations
    Profile(profile::Options),
    /// The VM monitor: start, memory, idleness, vsock, beside QEMU on an emulated host
    Vm(vm::Options),
    /// Time of file operations in a VM, beside virtiofsd and 9p; an emulated guest
    VmFs(fs::Options),
    /// What `vm-fs` runs in that guest
    #[command(hide = true)]
    VmFsInside(vm_fs::inside::Options),
    /// What `vm` runs in that host
    #[command(hide = true)]
    VmInside(vm::inside::Options),
}

pub fn run(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Events(options) => events::run(options),
        Benchmark::Fs(options) => fs::run(options),
        Benchmark::Growth(options) => growth::run(options),
        Benchmark::Profile(options) => profile::run(options),
        Benchmark::Vm(options) => vm::run(options),
        Benchmark::VmFs(options) => vm_fs::run(options),
        Benchmark::VmFsInside(options) => vm_fs::inside::run(options),
        Benchmark::VmInside(options) => vm::inside::run(options),
    }
}

/// The osxfs to measure: the one that was named, or one that is built now.
fn measured_program(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(program) = named {
        return program.canonicalize().with_context(|| program.display().to_string());
    }
    execute(&mut cargo(["build", "--release", "--package", "osxfs"]))?;
    Ok(target_dir().join("release/osxfs"))
}
