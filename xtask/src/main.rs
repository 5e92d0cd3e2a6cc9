//! `cargo xtask`: the tasks of a developer and of CI, each one command.
//!
//! | command | does |
//! | --- | --- |
//! | `setup` | installs what the tests need; quick when nothing is to do |
//! | `test [FILTER]` | every check, from formatting to the end-to-end suites |
//! | `test vm` | the tests of the VM monitor, which boot real guests on an emulated host |
//! | `agent` | builds the guest's program as one static file |
//! | `image` | makes the kernel and initrd that `osxfs vm run` boots by itself |
//! | `check-macos` | type-checks the host side for `aarch64-apple-darwin` |
//! | `bench` | measures what is promised, and fails on a missed budget |
//! | `fuzz` | runs the fuzz targets of the protocol's decoders |
//!
//! `.ci/run` is `setup` and then `test`, nothing else.

mod agent;
#[cfg(target_os = "linux")]
mod bench;
mod command;
mod fuzz;
mod image;
mod macos;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of osxfs.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the programs that the tests use
    Setup(setup::Options),
    /// Run every check, or only the tests whose name contains FILTER
    Test(test::Options),
    /// Build the guest's program as one static file
    Agent,
    /// Make what `osxfs vm run` boots: Debian's stock cloud kernel, and the agent as init
    Image,
    /// Type-check the host side for aarch64-apple-darwin
    CheckMacos,
    /// Measure what is promised
    #[cfg(target_os = "linux")]
    #[command(subcommand)]
    Bench(bench::Benchmark),
    /// Run the fuzz targets of the protocol's decoders
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Setup(options) => setup::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Agent => agent::run(),
        Task::Image => image::run(),
        Task::CheckMacos => macos::check(),
        #[cfg(target_os = "linux")]
        Task::Bench(benchmark) => bench::run(&benchmark),
        Task::Fuzz(options) => fuzz::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
