//! `cargo xtask bench vm-fs`: how long file operations take in a VM, on osxfs over virtio-sock, on
//! virtiofsd and on QEMU's 9p. The rows, steps and figures are those of `bench fs`; this program runs
//! once more in the guest and does there what it is asked for.
//!
//! | file | job |
//! | --- | --- |
//! | `guest-init.sh` | PID 1 of the guest: mounts everything |
//! | `machine` | what the guest boots, and QEMU |
//! | `servers` | osxfs and virtiofsd on the host |
//! | `line` | how host and guest speak with each other |
//! | `inside` | runs in the guest, and measures |
//! | `devices` | interrupts, as the guest counts them |
//!
//! ```text
//! bench vm-fs ◀── virtio-serial ──▶ bench vm-fs-inside ──▶ find, grep, git, npm
//!      │                                                       │
//!      ├─▶ osxfs vsock ◀──────── vhost-user ────────▶ virtio-sock, osxfs agent
//!      ├─▶ virtiofsd auto, always ◀── vhost-user ───▶ virtiofs
//!      └─▶ QEMU ◀──────────────────────────────────▶ virtio-9p, virtio-blk
//! ```

mod devices;
pub mod inside;
mod line;
mod machine;
mod servers;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use self::line::Line;
use self::machine::Machine;
use self::servers::Servers;
use super::daemon::Daemon;
use super::environment::Environment;
use super::fs::contest::{IN_A_GUEST, System};
use super::fs::material::{Sizes, Template};
use super::fs::measure::Sample;
use super::fs::report::Report;
use super::fs::rows::Row;
use super::fs::steps::{STEPS, Step};
use super::fs::{Options, Page};

/// Where the guest has its programs and the cache of npm: in memory, so that no disk is in the way.
const OSXFS: &str = "/tools/bin/osxfs";
const NPM_CACHE: &str = "/bench/npm-cache";

/// How large everything is in a guest whose processor is emulated.
fn sizes(quick: bool) -> Sizes {
    if quick { Sizes::GUEST_QUICK } else { Sizes::GUEST }
}

/// Who serves a file system: a process of the host, and one of the guest.
fn processes(system: System) -> &'static [&'static str] {
    match system {
        System::VirtioSock => &["osxfs vsock", "osxfs agent"],
        System::VirtiofsdAuto => &["virtiofsd auto"],
        System::VirtiofsdAlways => &["virtiofsd always"],
        // The guest's kernel, and QEMU, which is also the guest.
        _ => &[],
    }
}

pub fn run(options: &Options) -> Result<()> {
    // A compiler in an emulated guest would be what is measured.
    let steps = options.steps(|step| !step.rows.contains(&Row::Cargo))?;
    let qemu = machine::qemu()?;
    let virtiofsd = servers::virtiofsd()?;
    let program = options.program()?;
    let template = Template::make(sizes(options.quick), &options.dir)?;
    let scratch = tempfile::Builder::new().prefix("osxfs-bench-").tempdir_in(&options.dir)?;
    let servers = Servers::start(&program, &virtiofsd, scratch.path(), &template)?;
    let machine =
        Machine { qemu: &qemu, osxfs: &program, template: &template, scratch: scratch.path() };
    let kernel = machine.prepare(options.quick)?;
    let mut guest = Guest::boot(&machine, servers)?;
    let results =
        options.measure(&IN_A_GUEST, &steps, |system, step| guest.perform(system, step))?;
    guest.end()?;
    let report = Report {
        environment: Environment::of(&program, &options.dir),
        peers: format!(
            "**Everything runs in one guest whose processor is emulated** ({}, without KVM, {}): what \
             the guest computes costs many times as much as on a processor, and what the servers on the \
             host do costs what it costs everywhere. The ratios mean something, the absolute times do not.\n\n\
             Guest: Debian's kernel {kernel}, programs and the cache of npm in memory. All file systems \
             are mounted at once, each over a folder of its own on the host's disk: osxfs by \
             `osxfs vsock --vhost-user` and `osxfs agent`; virtiofsd {} by `vhost-user-fs-pci` with `--cache auto` \
             and `--cache always`, its other options as they are by default; 9p by QEMU's \
             `virtio-9p-pci`, `security_model=passthrough`, `cache=loose`, `msize=512000` (the most that the kernel takes); the local \
             disk is ext4 on `virtio-blk`. Cold means that the caches of the guest and of the host are \
             dropped. `cargo build` is left out: it would measure an emulated compiler; `npm install`, which is mostly \
             an emulated JavaScript machine at work, is measured in the first round only.\n\n\
             Requests on the wire are counted for osxfs only; interrupts of its device are about as many \
             as requests for virtiofs and 9p. Processor time of `osxfs agent` is the \
             guest's, emulated; that of 9p, of the local disk and of the guest's kernel is QEMU's and \
             cannot be told apart.",
            machine::version(&qemu),
            machine::SHAPE,
            servers::VIRTIOFSD.version,
        ),
        sizes: template.material.sizes.line(),
        rounds: options.rounds,
        results,
    };
    options.conclude(&report, &Page { name: "vm-fs", title: "File operations in a VM" })
}

/// The guest, which does one step after the other.
struct Guest<'a> {
    line: Line,
    /// Ended before its servers are.
    machine: Daemon,
    servers: Servers,
    scratch: &'a Path,
}

impl<'a> Guest<'a> {
    /// Returns when everything is mounted.
    fn boot(machine: &Machine<'a>, servers: Servers) -> Result<Self> {
        let daemon = machine.start()?;
        let line = Line::to_guest(&machine.line())?;
        let mut guest = Self { line, machine: daemon, servers, scratch: machine.scratch };
        match guest.line.hear() {
            Ok(first) if first == line::READY => Ok(guest),
            Ok(other) => bail!("the guest begins with {other:?}"),
            Err(error) => Err(guest.with_console(error)),
        }
    }

    /// Does a step on one file system. What was measured before it failed is kept.
    fn perform(&mut self, system: System, step: &Step) -> (Vec<Sample>, Result<()>) {
        let mut samples = Vec::new();
        let outcome = self.ask_for(system, step, &mut samples);
        (samples, outcome)
    }

    fn ask_for(&mut self, system: System, step: &Step, samples: &mut Vec<Sample>) -> Result<()> {
        let step = STEPS.iter().position(|other| other.rows == step.rows).context("a step")?;
        let number = IN_A_GUEST.systems.iter().position(|other| *other == system);
        self.line.say(&format!("{}{step} {}", line::STEP, number.context("a file system")?))?;
        loop {
            let said = self.line.hear().map_err(|error| self.with_console(error))?;
            if let Some(sample) = said.strip_prefix(line::SAMPLE) {
                samples.push(line::sample_of_text(sample, processes(system))?);
            } else if let Some(why) = said.strip_prefix(line::FAIL) {
                bail!("{why}");
            } else if said == line::END {
                return Ok(());
            } else {
                let answer = self.servers.answer(system, &said)?;
                self.line.say(&answer.to_string())?;
            }
        }
    }

    /// Lets the guest power off. One that is slow at it takes nothing away from what was measured.
    fn end(mut self) -> Result<()> {
        self.line.say(line::OFF)?;
        self.machine.ends()?;
        Ok(())
    }

    fn with_console(&self, error: anyhow::Error) -> anyhow::Error {
        let said = fs::read(self.scratch.join(machine::CONSOLE)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n  ");
        error.context(format!("the guest has said\n  {last}\n"))
    }
}
