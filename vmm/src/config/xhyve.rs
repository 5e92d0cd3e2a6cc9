//! The command line of hyperkit and xhyve, as far as it means something here:
//!
//! | flag | means |
//! | --- | --- |
//! | `-m 2G`, `-c 2` | memory (a plain number is MiB, or bytes from a million on), processors |
//! | `-f kexec,KERNEL,INITRD,CMDLINE` | what boots; the command line may have commas in it |
//! | `-s SLOT,virtio-blk,FILE` | a disk: a path or `file://` URL; `ro` and `format=` behind it. Where that says nothing it is qcow2 if the name ends so |
//! | `-s SLOT,virtio-sock,guest_cid=N,path=DIR,guest_forwards=P;P` | vsock in hyperkit's folder |
//! | `-s SLOT,virtio-rnd`, `hostbridge`, `lpc` | there anyway |
//! | `-l com1,…` | the console: `stdio`, `pty`, `autopty=LINK`, `log=FILE` |
//! | `-A`, `-u`, `-H`, `-P`, `-w`, `-x` | how it is here anyway |
//!
//! Anything else is an error, so that nothing is lost in silence.

use super::foreign::{error, option, words};
use super::{ConfigError, Console, Disk, DiskFormat, MemorySize, VmConfig};
use std::path::PathBuf;

const TOOL: &str = "xhyve arguments";
/// Most slots and functions that a bus has.
const MAX_SLOTS: u32 = 32;
/// Most forwarded ports.
const MAX_FORWARDS: usize = 64;

/// vsock as hyperkit has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vsock {
    /// The guest's number.
    pub cid: u32,
    /// The folder of the sockets.
    pub directory: PathBuf,
    /// Ports of the guest that get sockets of their own.
    pub forwards: Vec<u32>,
}

/// A machine by such a command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Xhyve {
    /// What is like anywhere.
    pub config: VmConfig,
    /// Its vsock, if it has one.
    pub vsock: Option<Vsock>,
    /// Where a link to the console's pseudo terminal is made.
    pub console_link: Option<PathBuf>,
    /// Where the console is written to as well.
    pub console_log: Option<PathBuf>,
}

impl Xhyve {
    /// Reads the text of a command line, with or without the program's name in front.
    ///
    /// # Errors
    /// The first word that means nothing here.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let words = words(TOOL, text)?;
        let mut words = words.iter().map(String::as_str).peekable();
        words.next_if(|first| !first.starts_with('-'));
        let mut xhyve = Self {
            config: VmConfig::new(PathBuf::new()),
            vsock: None,
            console_link: None,
            console_log: None,
        };
        while let Some(word) = words.next() {
            // A value may follow its flag directly.
            let (flag, joined) = match word.char_indices().nth(2) {
                Some((at, _)) if word.starts_with('-') => word.split_at(at),
                _ => (word, ""),
            };
            if joined.is_empty() && matches!(flag, "-A" | "-u" | "-H" | "-P" | "-w" | "-x") {
                continue;
            }
            let mut value = || match joined {
                "" => words.next().ok_or_else(|| error(TOOL, flag, "its value is missing; add it")),
                joined => Ok(joined),
            };
            match flag {
                "-m" => xhyve.config.memory = memory(value()?)?,
                "-c" => xhyve.config.cpus = cpus(value()?)?,
                "-s" => xhyve.slot(value()?)?,
                "-l" => xhyve.line(value()?)?,
                "-f" => xhyve.firmware(value()?)?,
                // Numbers of the machine and files for other programs; nobody here asks for them.
                "-U" | "-F" => drop(value()?),
                _ => return Err(error(TOOL, word, "no flag that is known here; leave it out")),
            }
        }
        if xhyve.config.kernel.as_os_str().is_empty() {
            let cause = "nothing to boot; add -f kexec,KERNEL,INITRD,CMDLINE";
            return Err(error(TOOL, "-f", cause));
        }
        Ok(xhyve)
    }

    fn slot(&mut self, text: &str) -> Result<(), ConfigError> {
        let bad = |cause: &str| error(TOOL, text, cause);
        let mut parts = text.split(',');
        let slot = parts.next().unwrap_or_default();
        let number = slot.rsplit(':').all(|part| part.parse().is_ok_and(|n: u32| n < MAX_SLOTS));
        if !number {
            return Err(bad("the slot is no number below 32; write SLOT,DEVICE,…"));
        }
        match parts.next().unwrap_or_default() {
            "hostbridge" | "lpc" | "virtio-rnd" => {}
            "virtio-blk" => self.config.disks.push(disk(text, parts)?),
            "virtio-sock" if self.vsock.is_some() => {
                return Err(bad("a second vsock; leave one out"));
            }
            "virtio-sock" => self.vsock = Some(vsock(text, parts)?),
            "virtio-9p" => {
                return Err(bad("no device 9P here; share the folder with --share DIR:/path"));
            }
            "virtio-net" | "virtio-tap" | "virtio-vpnkit" | "virtio-vmnet" => {
                return Err(bad(
                    "that network is not known here; leave it out and join one with --net SOCKET (passt, gvproxy)",
                ));
            }
            "ahci-hd" | "ahci-cd" => {
                return Err(bad("no such controller here; write virtio-blk"));
            }
            _ => return Err(bad("no device that is known here; leave it out")),
        }
        Ok(())
    }

    fn line(&mut self, text: &str) -> Result<(), ConfigError> {
        let bad = |cause: &str| error(TOOL, text, cause);
        let mut parts = text.split(',');
        if parts.next() != Some("com1") {
            return Err(bad("the guest has com1 only; leave it out"));
        }
        let mut console = None;
        for part in parts {
            match option(part) {
                ("stdio", None) => console = Some(Console::Stdio),
                ("pty" | "autopty", None) => console = Some(Console::Pty),
                ("pty" | "autopty", Some(link)) if !link.is_empty() => {
                    console = Some(Console::Pty);
                    self.console_link = Some(link.into());
                }
                ("log", Some(file)) if !file.is_empty() => self.console_log = Some(file.into()),
                _ => {
                    return Err(bad(
                        "write com1,stdio or com1,autopty=LINK, and log=FILE behind it",
                    ));
                }
            }
        }
        self.config.console = match (console, &self.console_log) {
            (Some(console), _) => console,
            (None, Some(_)) => Console::File(self.console_log.take().unwrap_or_default()),
            (None, None) => return Err(bad("it leads nowhere; write com1,stdio")),
        };
        Ok(())
    }

    fn firmware(&mut self, text: &str) -> Result<(), ConfigError> {
        let bad = |cause: &str| error(TOOL, text, cause);
        let mut parts = text.splitn(4, ',');
        if parts.next() != Some("kexec") {
            return Err(bad("only a Linux kernel boots here; write kexec,KERNEL,INITRD,CMDLINE"));
        }
        match parts.next() {
            Some(kernel) if !kernel.is_empty() => self.config.kernel = kernel.into(),
            _ => return Err(bad("the kernel is missing; write kexec,KERNEL,INITRD,CMDLINE")),
        }
        self.config.initrd = parts.next().filter(|file| !file.is_empty()).map(PathBuf::from);
        // Quotes within a word, as they stand where no shell has read them.
        let cmdline = parts.next().unwrap_or_default();
        let bare = cmdline.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        self.config.cmdline = bare.unwrap_or(cmdline).to_owned();
        Ok(())
    }
}

/// A plain number is in MiB, unless that would be more than anybody has: then in bytes.
fn memory(text: &str) -> Result<MemorySize, ConfigError> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain {
        return text.parse();
    }
    let number: u64 = text.parse().map_err(|_| error(TOOL, text, "too large; write -m 2G"))?;
    let mib = if number < 1 << 20 { number } else { number >> 20 };
    u32::try_from(mib).map(MemorySize::mib).map_err(|_| error(TOOL, text, "too large; write -m 2G"))
}

/// Sockets, cores and threads are processors here.
fn cpus(text: &str) -> Result<u16, ConfigError> {
    text.parse().map_err(|_| error(TOOL, text, "no number of processors; write -c 2"))
}

fn disk<'a>(text: &str, mut parts: impl Iterator<Item = &'a str>) -> Result<Disk, ConfigError> {
    let bad = |cause: &str| error(TOOL, text, cause);
    let place = parts.next().unwrap_or_default();
    let path = match place.split_once("://") {
        Some(("file", path)) => path.split('?').next().unwrap_or_default(),
        Some(_) => return Err(bad("a disk is a file; write file:///PATH")),
        None => place,
    };
    if path.is_empty() {
        return Err(bad("the disk's file is missing; write virtio-blk,FILE"));
    }
    let mut format = match path.ends_with(".qcow2") {
        true => DiskFormat::Qcow2,
        false => DiskFormat::Raw,
    };
    let mut read_only = false;
    for part in parts {
        match option(part) {
            ("ro", None) => read_only = true,
            ("format", Some("qcow" | "qcow2")) => format = DiskFormat::Qcow2,
            ("format", Some("raw")) => format = DiskFormat::Raw,
            // How its data is written, which is always safe here, or how qcow2 is kept small.
            ("nocache" | "sync" | "direct", None)
            | (
                "sectorsize" | "size" | "split" | "sparse" | "qcow-config" | "qcow-tool"
                | "qcow-stats-config",
                Some(_),
            ) => {}
            _ => return Err(bad("an option of the disk that is not known here; leave it out")),
        }
    }
    Ok(Disk { file: path.into(), format, read_only })
}

fn vsock<'a>(text: &str, parts: impl Iterator<Item = &'a str>) -> Result<Vsock, ConfigError> {
    let bad = |cause: &str| error(TOOL, text, cause);
    let (mut cid, mut directory, mut forwards) = (None, PathBuf::new(), Vec::new());
    for part in parts {
        match option(part) {
            ("guest_cid", Some(number)) => {
                cid = number.parse().ok().filter(|cid| (3..u32::MAX).contains(cid));
                if cid.is_none() {
                    return Err(bad("guest_cid is no number from 3 to 4294967294; write one"));
                }
            }
            ("path", Some(path)) => directory = path.into(),
            ("guest_forwards", Some(ports)) => {
                for port in ports.split(';').filter(|port| !port.is_empty()) {
                    let port = port
                        .parse()
                        .map_err(|_| bad("a forwarded port is no number; write 1;2"))?;
                    if forwards.len() >= MAX_FORWARDS {
                        return Err(bad("more than 64 forwarded ports; have fewer of them"));
                    }
                    if !forwards.contains(&port) {
                        forwards.push(port);
                    }
                }
            }
            _ => return Err(bad("an option of vsock that is not known here; leave it out")),
        }
    }
    if directory.as_os_str().is_empty() {
        return Err(bad("the folder of the sockets is missing; add path=DIR"));
    }
    Ok(Vsock { cid: cid.unwrap_or(3), directory, forwards })
}
