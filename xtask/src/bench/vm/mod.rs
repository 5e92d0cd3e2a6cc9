//! `cargo xtask bench vm`: the VM monitor beside QEMU's `microvm`, under the same conditions: guests of
//! both, in turn, on one emulated host with KVM, with the same kernel, initial file system, devices and
//! agent.
//!
//! | file | job |
//! | --- | --- |
//! | `host-init.sh`, `guest-init.sh` | PID 1 of the host and of each guest |
//! | `inside` | runs in that host, which is this program again: starts guests and measures |
//! | `report` | medians, ratios, budgets; the page |
//!
//! ```text
//! xtask ─▶ QEMU, emulating ─▶ xtask bench vm-inside ─┬─▶ osxfs vm run        ─▶ guest
//!                                                    └─▶ QEMU microvm, KVM   ─▶ guest
//! ```

pub mod inside;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::report::Report;
use super::environment::Environment;
use super::measured_program;
use crate::command::{cargo, execute, find, output_of, target_dir, workspace};
use crate::image::{self, cpio::Archive, emulated};

/// What begins a line with figures.
const MARK: &str = "bench-figures: ";
/// What the host's init says in the end.
const VERDICT: &str = "bench-host: status ";
/// Of a guest.
const PROCESSORS: u32 = 1;
/// What QEMU's `microvm` starts a guest with.
const FIRMWARE: [&str; 2] =
    ["/usr/share/seabios/bios-microvm.bin", "/usr/share/qemu/linuxboot_dma.bin"];

/// Who runs a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Monitor {
    Osxfs,
    Qemu,
}

impl Monitor {
    const ALL: [Self; 2] = [Self::Osxfs, Self::Qemu];

    fn name(self) -> &'static str {
        match self {
            Self::Osxfs => "osxfs",
            Self::Qemu => "QEMU microvm",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Osxfs => "osxfs",
            Self::Qemu => "qemu-system-x86_64",
        }
    }
}

#[derive(clap::Args)]
pub struct Options {
    /// Guests of each monitor; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// For how long an idle guest is watched
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    idle: u64,
    /// Round trips of 64 bytes
    #[arg(long, value_name = "N", default_value_t = 300)]
    pings: u32,
    /// Mebibytes through vsock in each direction
    #[arg(long, value_name = "N", default_value_t = 64)]
    mebibytes: u64,
    /// Write everything that was measured into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Succeed also if a budget is missed
    #[arg(long)]
    report_only: bool,
    /// Measure this program instead of building one
    #[arg(long, value_name = "PROGRAM")]
    osxfs: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    let qemu = find(Monitor::Qemu.program());
    let qemu = qemu.context("there is no qemu-system-x86_64; `cargo xtask setup` installs it")?;
    let program = measured_program(options.osxfs.as_deref())?;
    let image = image::build()?;
    let work = tempfile::tempdir()?;
    let initrd = work.path().join("initrd");
    fs::write(&initrd, host(&image, &program, &qemu, options)?)?;
    let runs = run_host(&mut emulated::machine(&qemu, &image, &initrd))?;
    ensure!(!runs.is_empty(), "nothing was measured");
    let version = output_of(Command::new(&qemu).arg("--version")).unwrap_or_default();
    let report = Report {
        environment: Environment::of(&program, work.path()),
        qemu: version.lines().next().unwrap_or("QEMU").to_owned(),
        guest: fs::read_to_string(image.join("release")).unwrap_or_default(),
        idle: options.idle,
        mebibytes: options.mebibytes,
        runs,
    };
    println!("{report}");
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    let folder = options.out.clone().unwrap_or_else(|| workspace().join("docs/bench"));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let page = format!("# The VM monitor\n\nWritten by `cargo xtask bench vm`.\n\n{report}");
    fs::write(folder.join("vm.md"), page)?;
    println!("written: {}", folder.join("vm.md").display());
    let missed = report.missed();
    if missed > 0 && !options.report_only {
        bail!("{missed} budgets are missed");
    }
    Ok(())
}

/// Runs the host to its end. Returns what it measured.
fn run_host(command: &mut Command) -> Result<Vec<Value>> {
    let mut host = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = host.stdout.take().context("piped")?;
    let (mut runs, mut said, mut succeeded) = (Vec::new(), String::new(), false);
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if let Some((_, figures)) = line.split_once(MARK) {
            eprintln!("bench: {figures}");
            runs.push(serde_json::from_str(figures).context("figures are cut off")?);
        }
        succeeded |= line == format!("{VERDICT}0");
        said.push_str(&line);
        said.push('\n');
    }
    host.wait()?;
    if !succeeded {
        bail!("it failed in the emulated host, which said\n{said}");
    }
    Ok(runs)
}

/// The host's initial file system.
fn host(image: &Path, osxfs: &Path, qemu: &Path, options: &Options) -> Result<Vec<u8>> {
    let peer = peer()?;
    let mut archive = Archive::default();
    archive.file("init", 0o755, include_bytes!("host-init.sh"));
    let Options { rounds, idle, pings, mebibytes, .. } = options;
    let bytes = mebibytes << 20;
    let arguments = format!("--rounds {rounds} --idle {idle} --pings {pings} --bytes {bytes}");
    archive.file("arguments", 0o644, arguments.as_bytes());
    let programs = BTreeMap::from([
        (Monitor::Osxfs.program(), osxfs.to_owned()),
        (Monitor::Qemu.program(), qemu.to_owned()),
        ("xtask", std::env::current_exe()?),
    ]);
    emulated::add_programs(&mut archive, &programs)?;
    archive.file("tools/bin/vsock_peer", 0o755, &emulated::stripped(&peer)?);
    for path in FIRMWARE.map(Path::new) {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("tools/qemu/{name}"), 0o644, &bytes);
    }
    archive.file("image/vmlinuz", 0o644, &fs::read(image.join("vmlinuz"))?);
    archive.file("image/bench-initrd", 0o644, &guest(image, &peer)?);
    let mut whole = fs::read(image.join("host-initrd"))?;
    whole.extend(archive.finish());
    Ok(whole)
}

/// A guest's: the image's, and what is measured with.
fn guest(image: &Path, peer: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.file("bench", 0o755, include_bytes!("guest-init.sh"));
    archive.file("bin/vsock_peer", 0o755, &emulated::stripped(peer)?);
    // Started by this name it is an agent like any other.
    archive.link("bin/osxfs-agent", "/init");
    let mut whole = fs::read(image.join("initrd"))?;
    whole.extend(archive.finish());
    Ok(whole)
}

/// The program at both ends of a vsock connection, without libraries.
fn peer() -> Result<PathBuf> {
    let version = output_of(Command::new("rustc").arg("-vV")).context("`rustc -vV` failed")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host")?;
    let arguments = ["build", "--release", "--package", "osxfs-vmm", "--example", "vsock_peer"];
    let mut build = cargo(arguments);
    execute(build.args(["--target", host]).env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(target_dir().join(host).join("release/examples/vsock_peer"))
}
