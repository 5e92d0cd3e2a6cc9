//! `cargo xtask check-macos`: type-checks the host side for macOS, on Linux too.
//!
//! A check needs no linker and no SDK, only macOS's `std`. It comes from rustup where the target
//! is installed; otherwise Debian's second Rust (`rustc-web` with `rust-web-src`) builds it from
//! source. On macOS itself the check is a plain one.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{cargo, execute, output_of, target_dir, workspace};

pub const TARGET: &str = "aarch64-apple-darwin";

/// What runs on macOS; the rest is the guest's and knows only Linux.
const PACKAGES: &[&str] = &["osxfs-protocol", "osxfs-host-fs", "osxfs-vmm", "osxfs"];

/// Where Debian's second Rust has its program and its sources.
const SECOND_RUSTC: &str = "/usr/bin/rustc";
const SECOND_CARGO: &str = "/usr/bin/cargo";

/// Where the standard library of macOS can come from on this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MacosStd {
    /// This is macOS.
    Native,
    /// The toolchain in use has the target installed.
    Toolchain,
    /// Debian's second Rust builds it from its sources.
    FromSource,
}

pub fn std_source() -> Option<MacosStd> {
    if cfg!(target_os = "macos") {
        return Some(MacosStd::Native);
    }
    let toolchain = output_of(Command::new("rustc").current_dir(workspace()).args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]));
    if toolchain.is_some_and(|dir| Path::new(&dir).is_dir()) {
        return Some(MacosStd::Toolchain);
    }
    let sysroot = output_of(Command::new(SECOND_RUSTC).args(["--print", "sysroot"]))?;
    let sources = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std");
    (sources.is_dir() && Path::new(SECOND_CARGO).is_file()).then_some(MacosStd::FromSource)
}

pub fn check() -> Result<()> {
    let Some(source) = std_source() else {
        bail!("there is no standard library for {TARGET} here: run `cargo xtask setup`");
    };
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let mut check = match source {
        MacosStd::Native => cargo(["clippy"]),
        MacosStd::Toolchain => cargo(["check", "--target", TARGET]),
        MacosStd::FromSource => {
            let mut command = Command::new(SECOND_CARGO);
            // rustup's proxies put their own programs into the environment of what they run.
            for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTDOC", "RUSTFLAGS"] {
                command.env_remove(variable);
            }
            command
                .current_dir(workspace())
                .env("RUSTC", SECOND_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["check", "-Zbuild-std=std", "--target", TARGET]);
            command
        }
    };
    check.arg("--locked").args(packages).env("CARGO_TARGET_DIR", target_dir().join("check-macos"));
    match source {
        MacosStd::Native => check.args(["--all-targets", "--", "-D", "warnings"]),
        MacosStd::Toolchain | MacosStd::FromSource => check.args(["--quiet"]),
    };
    execute(&mut check)
}
