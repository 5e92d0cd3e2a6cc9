//! `cargo xtask test`: every check in order of its cost, stopping at the first that fails.
//!
//! The last stage is `cargo test` itself and nothing is printed after it, so that the closing
//! lines of a run are the test runner's. On macOS the run ends with the unit tests: `clippy` has
//! type-checked the host side there, and mounts need Linux.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::command::{cargo, execute, find};
use crate::{agent, image, macos};

const LINUX: bool = cfg!(target_os = "linux");

#[derive(clap::Args)]
pub struct Options {
    /// Run only the unit and end-to-end tests whose name contains this, and no other check; `vm`
    /// means those of the VM monitor
    filter: Option<String>,
}

/// A part of the run.
struct Stage<'a> {
    name: &'static str,
    /// Whether it runs here: on this system, with or without a filter.
    runs: bool,
    work: Box<dyn Fn() -> Result<()> + 'a>,
}

pub fn run(options: &Options) -> Result<()> {
    let filter = options.filter.as_deref();
    let all = filter.is_none();
    let stage = |name, runs, work: Box<dyn Fn() -> Result<()>>| Stage { name, runs, work };
    let filter_of = |tests: fn(Option<&str>) -> Result<()>| {
        let filter = options.filter.clone();
        Box::new(move || tests(filter.as_deref()))
    };
    let stages = [
        stage("format", all, Box::new(format)),
        stage("clippy", all, Box::new(clippy)),
        stage("documentation", all, Box::new(documentation)),
        stage("unit tests", true, filter_of(unit_tests)),
        stage("check-macos", all && LINUX, Box::new(macos::check)),
        stage("release build", LINUX, Box::new(release_build)),
        stage("end-to-end tests", LINUX, filter_of(end_to_end)),
    ];
    let mut before: Option<(&str, Instant)> = None;
    for stage in stages.iter().filter(|stage| stage.runs) {
        if let Some((name, start)) = before {
            println!("== {name}: {:.0} s", start.elapsed().as_secs_f64());
        }
        println!("== {}", stage.name);
        before = Some((stage.name, Instant::now()));
        (stage.work)().with_context(|| format!("stage `{}` failed", stage.name))?;
    }
    Ok(())
}

/// `cargo` for all crates that this system builds: the guest's are Linux programs.
fn cargo_workspace(command: &str) -> Command {
    let mut cargo = cargo([command, "--workspace"]);
    if !LINUX {
        cargo.args(["--exclude", agent::PACKAGE]);
    }
    cargo
}

fn format() -> Result<()> {
    execute(&mut cargo(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    execute(cargo_workspace("clippy").args(["--all-targets", "--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    execute(cargo_workspace("doc").arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"))
}

/// The filter that means the monitor, and the end-to-end tests that are its own.
const VM: &str = "vm";
const VM_TESTS: &str = "vm::";
/// Those of them that are too slow to be among all tests.
const SLOW_VM_TESTS: [&str; 2] = ["vm::slow::", "vm::other::slow::"];

/// Everything but the root package's `tests/`, which needs a release build and real mounts.
fn unit_tests(filter: Option<&str>) -> Result<()> {
    if filter == Some(VM) {
        execute(&mut cargo(["test", "--package", "osxfs", "--bins", VM_TESTS]))?;
        return execute(&mut cargo(["test", "--package", "osxfs-vmm"]));
    }
    execute(cargo(["test", "--package", "osxfs", "--bins"]).args(filter))?;
    execute(cargo_workspace("test").args(["--exclude", "osxfs"]).args(filter))
}

fn release_build() -> Result<()> {
    execute(&mut cargo(["build", "--release", "--package", "osxfs", "--bins"]))?;
    // What the guests of the VM tests boot is made of Debian's packages, and has the agent in it.
    if find("apt-get").is_some() {
        image::build()?;
        return image::services::provide().map(drop);
    }
    agent::build().map(drop)
}

fn end_to_end(filter: Option<&str>) -> Result<()> {
    let e2e = || cargo(["test", "--release", "--package", "osxfs", "--test", "e2e"]);
    if filter == Some(VM) {
        execute(e2e().arg(VM_TESTS))?;
        return execute(e2e().args(["--", "--ignored"]).args(SLOW_VM_TESTS));
    }
    execute(e2e().args(filter))
}
