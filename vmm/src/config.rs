//! What a VM is made of, and how people write it on a command line.
//!
//! Each part parses from its own text by [`FromStr`]; [`VmConfig::validate`] checks what only the
//! whole can tell, and every limit. Nothing here touches a file: whether one is there, is free and
//! holds what it should is found out by whoever opens it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

mod foreign;
#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
mod tests;
pub mod vfkit;
pub mod xhyve;

/// Most virtual processors: the ids of an xAPIC, of which one means all.
pub const MAX_CPUS: u16 = 255;
/// Least memory; a stock kernel with its initrd needs about this much.
pub const MIN_MEMORY: MemorySize = MemorySize::mib(64);
/// Most memory: half of what 40 bits address, the rest is for devices.
pub const MAX_MEMORY: MemorySize = MemorySize::mib(512 * 1024);
/// Longest kernel command line in bytes (`COMMAND_LINE_SIZE` of x86 and arm64 without its NUL).
pub const MAX_CMDLINE: usize = 2047;
/// Most shared folders: what one connection of the protocol may attach.
pub const MAX_SHARES: usize = 64;
/// Most disks.
pub const MAX_DISKS: usize = 16;
/// Longest path of a unix socket in bytes (`sun_path` of macOS without its NUL; Linux has four more).
pub const MAX_SOCKET_PATH: usize = 103;
/// Longest path of the vsock's sockets: `_4294967295` is appended for a port.
pub const MAX_VSOCK_PATH: usize = MAX_SOCKET_PATH - 11;

/// What is wrong with a configuration: the thing, the cause, and what to write.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// Text of a share that is none.
    #[error("share `{given}`: {cause}; write DIR:/path or DIR:/path:ro")]
    Share {
        /// What was written.
        given: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// Text of a disk that is none.
    #[error("disk `{given}`: {cause}; write FILE, FILE:raw or FILE:qcow2, and :ro behind it")]
    Disk {
        /// What was written.
        given: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// Text of a size that is none.
    #[error("memory size `{}`: {cause}; write a whole number with M, G or T, such as 512M", .given.escape_debug())]
    Memory {
        /// What was written.
        given: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// Nothing where a path has to be.
    #[error("{what}: the path is empty; write {expected}")]
    NoPath {
        /// Whose path.
        what: &'static str,
        /// What may be written.
        expected: &'static str,
    },
    /// A number outside its limits.
    #[error("{what}: {got} is outside {min} to {max}; choose a value between them")]
    Range {
        /// What is counted.
        what: &'static str,
        /// What was asked for.
        got: String,
        /// The least.
        min: String,
        /// The most.
        max: String,
    },
    /// More of something than a VM can have.
    #[error("{what}: {got} exceed the limit of {limit}; have fewer of them")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many were asked for.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// A command line that a kernel would not read as it was meant.
    #[error("kernel command line: byte {at} is a control character; remove it")]
    Cmdline {
        /// Its position.
        at: usize,
    },
    /// A word of another tool's command line that means nothing here.
    #[error("{tool}: `{word}`: {cause}")]
    Foreign {
        /// Whose.
        tool: &'static str,
        /// The word, on one line.
        word: String,
        /// What is wrong with it, and what to do about it.
        cause: String,
    },
    /// Two shares at one place.
    #[error("two shares are to appear at {guest}; give one of them another path")]
    SameMountPoint {
        /// The place in the guest.
        guest: String,
    },
    /// A disk that two writers would destroy.
    #[error("disk {file} is attached twice and not read-only; write :ro behind both, or leave one out",
        file = file.display())]
    SameDisk {
        /// The file.
        file: PathBuf,
    },
}

/// A size of memory: whole mebibytes, held in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemorySize(u64);

impl MemorySize {
    /// So many mebibytes.
    pub const fn mib(mib: u32) -> Self {
        Self((mib as u64) << 20)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for MemorySize {
    type Err = ConfigError;

    /// `512M`, `2G`, `1T`: powers of 1024.
    fn from_str(given: &str) -> Result<Self, ConfigError> {
        let error = |cause| ConfigError::Memory { given: given.into(), cause };
        let (digits, shift) = match given.char_indices().next_back() {
            Some((at, 'm' | 'M')) => (&given[..at], 0),
            Some((at, 'g' | 'G')) => (&given[..at], 10),
            Some((at, 't' | 'T')) => (&given[..at], 20),
            _ => return Err(error("the unit is missing")),
        };
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(error("that is no number"));
        }
        let too_large = || error("the number is too large");
        let number: u32 = digits.parse().map_err(|_| too_large())?;
        number.checked_mul(1 << shift).map(Self::mib).ok_or_else(too_large)
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 >> 20 {
            mib if mib != 0 && mib % 1024 == 0 => write!(f, "{}G", mib / 1024),
            mib => write!(f, "{mib}M"),
        }
    }
}

/// A folder of the host and where the guest has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// The folder on the host.
    pub host: PathBuf,
    /// Where the guest mounts it: absolute, not `/`, without `.`, `..` and empty components.
    pub guest: String,
    /// Whether the guest may only read.
    pub read_only: bool,
}

impl FromStr for Share {
    type Err = ConfigError;

    /// `DIR:/path[:ro]`. The last `:/` divides, so `DIR` may have colons in it.
    fn from_str(given: &str) -> Result<Self, ConfigError> {
        let error = |cause| Err(ConfigError::Share { given: given.into(), cause });
        let (text, read_only) = strip(given, ":ro");
        let Some((host, guest)) = text.rsplit_once(":/") else {
            return error("the path in the guest is missing or not absolute");
        };
        if host.is_empty() {
            return error("the folder is missing");
        }
        let guest = guest.strip_suffix('/').unwrap_or(guest);
        if guest.is_empty() {
            return error("the guest's root can not be replaced");
        }
        if guest.contains(':') {
            return error("only `ro` may stand behind the path in the guest");
        }
        if guest.contains(char::is_control)
            || guest.split('/').any(|c| matches!(c, "" | "." | ".."))
        {
            return error("the path in the guest is not plain");
        }
        Ok(Self { host: host.into(), guest: format!("/{guest}"), read_only })
    }
}

/// How the bytes of a disk lie in its file. Never guessed from the content, which the guest writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFormat {
    /// As they are.
    Raw,
    /// In QEMU's format.
    Qcow2,
}

/// A disk in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// The file.
    pub file: PathBuf,
    /// Its format; if not written, as the name ends: `.qcow2`, otherwise raw.
    pub format: DiskFormat,
    /// Whether the guest may only read.
    pub read_only: bool,
}

impl FromStr for Disk {
    type Err = ConfigError;

    /// `FILE[:raw|qcow2][:ro]`. A file with a colon in its name needs its format behind it.
    fn from_str(given: &str) -> Result<Self, ConfigError> {
        let error = |cause| Err(ConfigError::Disk { given: given.into(), cause });
        let (text, read_only) = strip(given, ":ro");
        let (file, format) = match (strip(text, ":raw"), strip(text, ":qcow2")) {
            ((file, true), _) => (file, Some(DiskFormat::Raw)),
            (_, (file, true)) => (file, Some(DiskFormat::Qcow2)),
            _ => (text, None),
        };
        let path = Path::new(file);
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return error("the file is missing");
        };
        if format.is_none() && name.contains(':') {
            return error("what stands behind the colon is neither a format nor `ro`");
        }
        let by_name = if name.ends_with(".qcow2") { DiskFormat::Qcow2 } else { DiskFormat::Raw };
        Ok(Self { file: path.into(), format: format.unwrap_or(by_name), read_only })
    }
}

/// A network card, joined to a user-mode network (passt, gvproxy, vmnet-helper) by its socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Net {
    /// The unix socket of the network.
    pub socket: PathBuf,
}

impl FromStr for Net {
    type Err = ConfigError;

    /// The path of the socket.
    fn from_str(given: &str) -> Result<Self, ConfigError> {
        let (what, expected) = ("network", "the path of its socket");
        let missing = ConfigError::NoPath { what, expected };
        if given.is_empty() { Err(missing) } else { Ok(Self { socket: given.into() }) }
    }
}

/// Where the guest's console goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Console {
    /// The terminal of the command.
    #[default]
    Stdio,
    /// A new pseudo terminal.
    Pty,
    /// The end of a file; nothing comes in.
    File(PathBuf),
}

impl FromStr for Console {
    type Err = ConfigError;

    /// `stdio`, `pty` or a file (`./pty`, if it is called so).
    fn from_str(given: &str) -> Result<Self, ConfigError> {
        match given {
            "stdio" => Ok(Self::Stdio),
            "pty" => Ok(Self::Pty),
            "" => Err(ConfigError::NoPath { what: "console", expected: "stdio, pty or a file" }),
            file => Ok(Self::File(file.into())),
        }
    }
}

/// A whole VM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmConfig {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its first file system.
    pub initrd: Option<PathBuf>,
    /// What is added to the kernel's command line.
    pub cmdline: String,
    /// Virtual processors.
    pub cpus: u16,
    /// Memory of the guest.
    pub memory: MemorySize,
    /// Shared folders.
    pub shares: Vec<Share>,
    /// Disks, in the order in which the guest finds them.
    pub disks: Vec<Disk>,
    /// The network, if there is one.
    pub net: Option<Net>,
    /// Where programs of the host reach the guest's vsock ports.
    pub vsock_path: Option<PathBuf>,
    /// The console.
    pub console: Console,
}

impl VmConfig {
    /// A VM of one processor and 512 MiB with this kernel and nothing else.
    pub fn new(kernel: impl Into<PathBuf>) -> Self {
        Self {
            kernel: kernel.into(),
            initrd: None,
            cmdline: String::new(),
            cpus: 1,
            memory: MemorySize::mib(512),
            shares: Vec::new(),
            disks: Vec::new(),
            net: None,
            vsock_path: None,
            console: Console::default(),
        }
    }

    /// Checks every limit, and that the parts do not contradict each other.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        path("kernel", "the kernel's file", &self.kernel)?;
        self.initrd.iter().try_for_each(|file| path("initrd", "the initrd's file", file))?;
        in_range("processors", self.cpus, 1, MAX_CPUS)?;
        in_range("memory", self.memory, MIN_MEMORY, MAX_MEMORY)?;
        at_most("shares", self.shares.len(), MAX_SHARES)?;
        at_most("disks", self.disks.len(), MAX_DISKS)?;
        at_most("bytes of the kernel command line", self.cmdline.len(), MAX_CMDLINE)?;
        if let Some(at) = self.cmdline.bytes().position(|byte| byte.is_ascii_control()) {
            return Err(ConfigError::Cmdline { at });
        }
        for (socket, what, limit) in [
            (self.vsock_path.as_ref(), "bytes of the vsock path", MAX_VSOCK_PATH),
            (
                self.net.as_ref().map(|net| &net.socket),
                "bytes of the network socket",
                MAX_SOCKET_PATH,
            ),
        ] {
            let Some(socket) = socket else { continue };
            path(what.trim_start_matches("bytes of the "), "the path of a socket", socket)?;
            at_most(what, socket.as_os_str().len(), limit)?;
        }
        for (n, share) in self.shares.iter().enumerate() {
            if self.shares[..n].iter().any(|other| other.guest == share.guest) {
                return Err(ConfigError::SameMountPoint { guest: share.guest.clone() });
            }
        }
        for (n, disk) in self.disks.iter().enumerate() {
            let twice =
                |other: &Disk| other.file == disk.file && !(other.read_only && disk.read_only);
            if self.disks[..n].iter().any(twice) {
                return Err(ConfigError::SameDisk { file: disk.file.clone() });
            }
        }
        Ok(())
    }
}

/// `text` without `suffix`, and whether it had it.
fn strip<'a>(text: &'a str, suffix: &str) -> (&'a str, bool) {
    text.strip_suffix(suffix).map_or((text, false), |rest| (rest, true))
}

fn path(what: &'static str, expected: &'static str, path: &Path) -> Result<(), ConfigError> {
    let empty = path.as_os_str().is_empty();
    if empty { Err(ConfigError::NoPath { what, expected }) } else { Ok(()) }
}

fn in_range<T: Copy + PartialOrd + ToString>(
    what: &'static str,
    got: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if (&min..=&max).contains(&&got) {
        return Ok(());
    }
    let (got, min, max) = (got.to_string(), min.to_string(), max.to_string());
    Err(ConfigError::Range { what, got, min, max })
}

fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), ConfigError> {
    if got > limit { Err(ConfigError::TooMany { what, got, limit }) } else { Ok(()) }
}
