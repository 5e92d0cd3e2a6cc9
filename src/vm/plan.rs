//! From the command line to what is done: the machine, the exports, and what its init is told.

use super::args::RunArgs;
use super::{image, terminal};
use crate::cli::ExportArgs;
use anyhow::{Context, Result};
use host_fs::server::ExportConfig;
use protocol::codec::{Argument, ExportName, GuestPath};
use protocol::guest::{GuestMount, Start, VERSION, WindowSize};
use protocol::{DecodeError, Time};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use vmm::config::vfkit::{Devices, VsockPort};
use vmm::config::xhyve::{self, Xhyve};
use vmm::{Console, Share, VmConfig};

/// What goes before the words that people add: the console, unless they name one; and that a kernel
/// that has crashed starts again at once, which ends it here.
const CONSOLE: &str = "console=";
const SERIAL: &str = "console=ttyS0";
const PANIC: &str = "panic=-1";
/// An idle kernel otherwise wakes up twice a second to compare clocks, which KVM keeps, and to look for
/// lockups, which it finds where only the host has slept.
const IDLE: &str = "tsc=reliable nowatchdog";
/// Where nobody watches the console the kernel says less, for each character is an exit.
const QUIET: &str = "quiet";
/// Without a command there is a shell on the console; in our own image on the better one.
const SHELL: &str = "osxfs.shell";
const SHELL_ON_HVC: &str = "osxfs.shell=hvc0";
/// Variables that the programs of a terminal need.
const TERMINAL_VARIABLES: [&str; 2] = ["TERM", "COLORTERM"];

/// On which console of the guest goes what is typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typing {
    /// `ttyS0`, which every kernel has from its first moment.
    Serial,
    /// `hvc0`.
    Virtio,
}

/// Everything that is decided before anything is done.
pub struct Plan {
    pub config: VmConfig,
    pub exports: Vec<ExportConfig>,
    /// The console; none keeps what it says for the case that something fails.
    pub console: Option<Console>,
    pub typing: Typing,
    /// Where a link to the console's pseudo terminal is made, and where the console is written to
    /// as well.
    pub console_link: Option<PathBuf>,
    pub console_log: Option<PathBuf>,
    /// The guest's vsock as hyperkit has it.
    pub vsock: Option<xhyve::Vsock>,
    /// Sockets for single ports of it.
    pub ports: Vec<VsockPort>,
    /// The address of the network card, if it was chosen.
    pub mac: Option<[u8; 6]>,
    pub command: Option<Command>,
    /// Whether our own terminal is the guest's.
    pub wants_terminal: bool,
    mounts: Vec<(String, Share)>,
}

/// What is to run in the guest.
pub struct Command {
    words: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    pub terminal: bool,
}

impl Plan {
    /// Decides.
    pub fn new(args: RunArgs) -> Result<Self> {
        let xhyve = args.xhyve_args.as_deref().map(read_xhyve).transpose()?;
        let own_image = xhyve.is_none() && args.kernel.is_none() && args.initrd.is_none();
        let vfkit = Devices::parse(args.devices.iter().map(String::as_str))?;
        let mut config = match &xhyve {
            Some(xhyve) => xhyve.config.clone(),
            None => boot(args.kernel, args.initrd)?,
        };
        config.cpus = args.cpus.unwrap_or(config.cpus);
        config.memory = args.memory.unwrap_or(config.memory);
        config.shares.extend(args.shares.into_iter().chain(vfkit.shares));
        config.disks.extend(args.disks.into_iter().chain(vfkit.disks));
        config.net = args.net.or(vfkit.net);
        config.vsock_path = args.vsock_path;
        let terminal = terminal::is_ours();
        let command = (!args.command.is_empty())
            .then(|| Command::new(args.command, args.environment, terminal));
        // A shell on the console is the command of whoever gives none.
        let console = args
            .console
            .or(vfkit.console)
            .or_else(|| xhyve.as_ref().map(|xhyve| xhyve.config.console.clone()))
            .or_else(|| command.is_none().then_some(Console::Stdio));
        let mut words = Vec::new();
        match &xhyve {
            // It says all of it.
            Some(xhyve) => words.push(xhyve.config.cmdline.as_str()),
            None => {
                let named = args.cmdline.as_deref().is_some_and(|line| console_of(line).is_some());
                words.extend((!named).then_some(SERIAL));
                words.extend([PANIC, IDLE]);
                words.extend(console.is_none().then_some(QUIET));
                let shell = if own_image { SHELL_ON_HVC } else { SHELL };
                words.extend(command.is_none().then_some(shell));
            }
        }
        words.extend(args.cmdline.as_deref());
        config.cmdline = words.join(" ").trim().to_owned();
        let on_hvc = console_of(&config.cmdline).is_some_and(|name| name.starts_with("hvc"));
        let typing = match on_hvc || own_image && command.is_none() {
            true => Typing::Virtio,
            false => Typing::Serial,
        };
        config.validate()?;
        let wants_terminal =
            terminal && (command.is_some() || matches!(console, Some(Console::Stdio)));
        let mounts = named(&config.shares);
        let exports = exports(&mounts, &args.export);
        let (console_link, console_log, vsock) = match xhyve {
            Some(Xhyve { console_link, console_log, vsock, .. }) => {
                (console_link, console_log, vsock)
            }
            None => (None, None, None),
        };
        let plan = Self {
            config,
            exports,
            console,
            typing,
            console_link,
            console_log,
            vsock,
            ports: vfkit.ports,
            mac: vfkit.mac,
            command,
            wants_terminal,
            mounts,
        };
        plan.start(Time { sec: 0, nsec: 0 }, None)
            .and_then(|start| start.check())
            .context("the guest cannot be told what to do")?;
        Ok(plan)
    }

    /// What init is told.
    pub fn start(&self, now: Time, size: Option<WindowSize>) -> Result<Start<'_>, DecodeError> {
        let mut mounts = Vec::with_capacity(self.mounts.len());
        for (name, share) in &self.mounts {
            mounts.push(GuestMount {
                export: ExportName::new(name.as_bytes())?,
                point: GuestPath::new(share.guest.as_bytes())?,
                read_only: share.read_only,
            });
        }
        let (command, environment) = match &self.command {
            Some(command) => (arguments(&command.words)?, arguments(&command.environment)?),
            None => (Vec::new(), Vec::new()),
        };
        Ok(Start {
            version: VERSION,
            now,
            mounts,
            command,
            environment,
            directory: GuestPath::new(b"/")?,
            terminal: size.filter(|_| self.command.as_ref().is_some_and(|of| of.terminal)),
        })
    }
}

fn read_xhyve(file: &Path) -> Result<Xhyve> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the command line in {}", file.display()))?;
    Xhyve::parse(&text).with_context(|| format!("{}", file.display()))
}

/// The console that a kernel with this command line has as its own: the last that is named.
fn console_of(cmdline: &str) -> Option<&str> {
    cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix(CONSOLE)).next_back()
}

/// Kernel and initrd as they are named, or those of the image.
fn boot(kernel: Option<PathBuf>, initrd: Option<PathBuf>) -> Result<VmConfig> {
    if let Some(kernel) = kernel {
        return Ok(VmConfig { initrd, ..VmConfig::new(kernel) });
    }
    let image = image::find()?;
    let initrd = Some(initrd.unwrap_or(image.initrd));
    Ok(VmConfig { initrd, ..VmConfig::new(image.kernel) })
}

impl Command {
    fn new(words: Vec<OsString>, environment: Vec<String>, terminal: bool) -> Self {
        let taken = |name: &str| {
            let value = std::env::var_os(name)?;
            Some([name.as_bytes(), b"=", &value.into_vec()].concat())
        };
        let named = environment.into_iter().filter_map(|word| match word.contains('=') {
            true => Some(word.into_bytes()),
            false => taken(&word),
        });
        let of_terminal = TERMINAL_VARIABLES.iter().filter(|_| terminal).filter_map(|n| taken(n));
        Self {
            words: words.into_iter().map(OsString::into_vec).collect(),
            environment: of_terminal.chain(named).collect(),
            terminal,
        }
    }
}

fn arguments(list: &[Vec<u8>]) -> Result<Vec<Argument<'_>>, DecodeError> {
    list.iter().map(|word| Argument::new(word)).collect()
}

/// A name for each share: the last part of its place in the guest, with a number where that is taken.
fn named(shares: &[Share]) -> Vec<(String, Share)> {
    let mut named: Vec<(String, Share)> = Vec::with_capacity(shares.len());
    for (number, share) in shares.iter().enumerate() {
        let last = share.guest.rsplit('/').next().unwrap_or_default();
        // A number makes it longer.
        let last = &last[..last.floor_char_boundary(protocol::limits::MAX_EXPORT_NAME - 4)];
        let taken = named.iter().any(|(name, _)| name == last);
        let name = if taken { format!("{last}-{number}") } else { last.to_owned() };
        named.push((name, share.clone()));
    }
    named
}

fn exports(mounts: &[(String, Share)], rules: &ExportArgs) -> Vec<ExportConfig> {
    mounts
        .iter()
        .map(|(name, share)| rules.config(name.clone(), share.host.clone(), share.read_only))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn plan(words: &[&str]) -> Result<Plan> {
        let words = ["osxfs", "vm", "run", "--kernel", "/k"].iter().chain(words);
        let cli = Cli::try_parse_from(words)?;
        let crate::cli::Command::Vm(args) = cli.command else { panic!("another command") };
        let super::super::VmCommand::Run(run) = args.command;
        Plan::new(*run)
    }

    #[test]
    fn without_a_command_there_is_a_shell_on_the_console() {
        let plan = plan(&["--cmdline", "nokaslr"]).unwrap();
        assert_eq!(
            plan.config.cmdline,
            "console=ttyS0 panic=-1 tsc=reliable nowatchdog osxfs.shell nokaslr"
        );
        assert_eq!(plan.console, Some(Console::Stdio));
        assert!(plan.command.is_none());
        assert_eq!(plan.typing, Typing::Serial, "whose image it is nobody knows");
    }

    #[test]
    fn what_is_typed_goes_to_the_console_that_the_kernel_has() {
        let of_line = |line: &str| plan(&["--cmdline", line]).unwrap();
        for (line, cmdline, typing) in [
            (
                "console=hvc0",
                "panic=-1 tsc=reliable nowatchdog osxfs.shell console=hvc0",
                Typing::Virtio,
            ),
            (
                "console=hvc0 console=ttyS0,115200",
                "panic=-1 tsc=reliable nowatchdog osxfs.shell console=hvc0 console=ttyS0,115200",
                Typing::Serial,
            ),
            (
                "quiet",
                "console=ttyS0 panic=-1 tsc=reliable nowatchdog osxfs.shell quiet",
                Typing::Serial,
            ),
        ] {
            let plan = of_line(line);
            assert_eq!((plan.config.cmdline.as_str(), plan.typing), (cmdline, typing));
        }
    }

    #[test]
    fn a_command_has_its_words_and_a_quiet_console() {
        let plan = plan(&["--share", ".:/src:ro", "--env", "A=b", "--", "sh", "-c", "ls --all"]);
        let plan = plan.unwrap();
        assert_eq!(plan.config.cmdline, "console=ttyS0 panic=-1 tsc=reliable nowatchdog quiet");
        assert_eq!(plan.console, None);
        let start = plan.start(Time { sec: 1, nsec: 2 }, None).unwrap();
        let words: Vec<_> = start.command.iter().map(|word| word.as_bytes()).collect();
        assert_eq!(words, [&b"sh"[..], b"-c", b"ls --all"]);
        assert_eq!(start.environment.last().unwrap().as_bytes(), b"A=b");
        assert_eq!(start.mounts[0].point.as_bytes(), b"/src");
        assert!(start.mounts[0].read_only);
        assert_eq!((plan.exports[0].name.as_str(), plan.exports[0].read_only), ("src", true));
    }

    #[test]
    fn shares_have_names_of_their_own() {
        let plan = plan(&["--share", ".:/a/src", "--share", ".:/b/src", "--share", ".:/c"]);
        let names: Vec<_> = plan.unwrap().exports.into_iter().map(|of| of.name).collect();
        assert_eq!(names, ["src", "src-1", "c"]);
    }

    #[test]
    fn command_lines_of_others_add_up_with_ours() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("args");
        let text = "-m 1G -c 2 -f kexec,/vmlinuz,/initrd,\"console=ttyS0 quiet\" \
            -s 8,virtio-sock,guest_cid=9,path=/vms,guest_forwards=22 -l com1,stdio";
        std::fs::write(&file, text).unwrap();
        let words = ["osxfs", "vm", "run", "--xhyve-args", file.to_str().unwrap()];
        let more =
            ["--device", "virtio-vsock,port=7,socketURL=/x", "--cpus", "3", "--cmdline", "a=b"];
        let cli = Cli::try_parse_from(words.iter().chain(&more)).unwrap();
        let crate::cli::Command::Vm(args) = cli.command else { panic!("another command") };
        let super::super::VmCommand::Run(run) = args.command;
        let plan = Plan::new(*run).unwrap();
        assert_eq!(plan.config.cmdline, "console=ttyS0 quiet a=b");
        assert_eq!((plan.config.cpus, plan.config.memory.to_string()), (3, "1G".into()));
        assert_eq!(plan.vsock.unwrap().cid, 9);
        assert_eq!(plan.ports[0].port, 7);
        std::fs::write(&file, "-f kexec,k -s 3,virtio-gpu").unwrap();
        let cli = Cli::try_parse_from(words).unwrap();
        let crate::cli::Command::Vm(args) = cli.command else { panic!("another command") };
        let super::super::VmCommand::Run(run) = args.command;
        let error = format!("{:#}", Plan::new(*run).map(|_| ()).unwrap_err());
        assert!(error.contains("`3,virtio-gpu`: no device that is known here"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_begins() {
        let two = plan(&["--share", ".:/a", "--share", "..:/a"]).map(|_| ()).unwrap_err();
        assert!(two.to_string().contains("two shares are to appear at /a"), "{two}");
        let long = "x".repeat(protocol::limits::MAX_ARGUMENT + 1);
        let error = plan(&["--", &long]).map(|_| ()).unwrap_err();
        assert!(format!("{error:#}").contains("argument of 131072"), "{error:#}");
    }
}
