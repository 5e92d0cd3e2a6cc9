//! `cargo xtask bench`: measures what osxfs promises to be fast at, and fails on a missed budget.
//!
//! | file | job |
//! | --- | --- |
//! | `events` | the benchmark of events: options, flow, budgets |
//! | `delay` | from a host's system call to the watcher's wake-up, idle and under load |
//! | `storm` | how many changes a second go through |
//! | `act` | what is done on the host, and the paced load of it |
//! | `watcher` | inotify on the mount, and what it is expected to tell |
//! | `share` | the shares that are measured, and their processor time |
//! | `environment`, `stats`, `table` | what every benchmark prints |
//!
//! Every figure is the median of several runs. The machine is shared by all that takes part: whoever
//! writes on the host, the server, the agent and the watcher.

mod act;
mod delay;
mod environment;
mod events;
mod report;
mod share;
mod stats;
mod storm;
mod table;
mod watcher;

use anyhow::Result;

#[derive(clap::Subcommand)]
pub enum Benchmark {
    /// Delay of events, injections a second, processor time a change
    Events(events::Options),
}

pub fn run(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Events(options) => events::run(options),
    }
}
