//! `cargo xtask agent`: builds the guest's program as one static file, to copy into any Linux of
//! this architecture.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{cargo, execute, output_of, target_dir};

pub const PACKAGE: &str = "osxfs-guest-agent";
const PROGRAM: &str = "osxfs-agent";

pub fn run() -> Result<()> {
    println!("{}", build()?.display());
    Ok(())
}

/// Builds it and returns where it is. The end-to-end tests look there too
/// (`tests/e2e/lifecycle.rs`).
pub fn build() -> Result<PathBuf> {
    ensure!(cfg!(target_os = "linux"), "the guest's program is built on Linux");
    let version = output_of(Command::new("rustc").arg("-vV")).context("`rustc -vV` failed")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host")?;
    // With a target named, the flag is not for build scripts and proc macros.
    let mut build = cargo(["build", "--release", "--package", PACKAGE, "--bins", "--target", host]);
    execute(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(target_dir().join(host).join("release").join(PROGRAM))
}
