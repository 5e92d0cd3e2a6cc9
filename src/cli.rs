//! The command line, with its help.

use crate::vm::VmArgs;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use host_fs::server::ExportConfig;
use protocol::{Address, Consistency, OwnershipMode};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Share a folder of this host with a Linux guest, with live file events.
#[derive(Parser, Debug)]
#[command(name = "osxfs", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// How much is logged, and how.
#[derive(Args, Debug)]
pub struct LogArgs {
    /// Log more: -v what happens, -vv how, -vvv every request.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// The form of log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Mount a folder on this machine: server and agent in one process.
    Mount(MountArgs),
    /// Run a Linux guest in a VM, with folders of this host in it.
    Vm(VmArgs),
    /// Be the vsock device of a guest that another monitor runs, by vhost-user.
    Vsock(VsockArgs),
    /// Offer folders to agents over a socket.
    Serve(ServeArgs),
    /// Mount what a server offers. Runs in the guest.
    Agent(AgentArgs),
    /// Show running servers and mounts: exports, agents, counters, delays.
    Status(StatusArgs),
    /// Print the changes of a mount as they are delivered to its watchers.
    Watch(WatchArgs),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
    /// Write the man pages into a folder.
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub struct MountArgs {
    /// The folder to share.
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// An empty folder that will show it.
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: PathBuf,
    /// Refuse all writing.
    #[arg(long, visible_alias = "ro")]
    pub read_only: bool,
    #[command(flatten)]
    pub export: ExportArgs,
    /// Let other users than the one who mounts use the mount.
    #[arg(long)]
    pub allow_other: bool,
}

/// Rules that hold for every export of a server.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// How fresh the guest's view is.
    #[arg(long, value_enum, default_value_t = ConsistencyArg::Cached)]
    pub consistency: ConsistencyArg,
    /// How owners appear [default: host as root, map as an ordinary user].
    #[arg(long, value_enum)]
    pub ownership: Option<OwnershipArg>,
    /// With mapped ownership: the user that files without a record appear to belong to
    /// [default: the user who runs the server].
    #[arg(long, value_name = "N")]
    pub uid: Option<u32>,
    /// The same for the group.
    #[arg(long, value_name = "N")]
    pub gid: Option<u32>,
    /// Take the locks of guests on the host's files as well, so that host programs respect them.
    #[arg(long)]
    pub host_locks: bool,
}

#[derive(Args, Debug)]
pub struct ServeArgs {
    /// A folder to offer, with a name (its own by default) and perhaps read-only. May be repeated.
    #[arg(long = "export", value_name = "DIR[:NAME][:ro]", required = true)]
    pub exports: Vec<ExportSpec>,
    /// Where to listen: unix:PATH or vsock:CID:PORT. May be repeated.
    #[arg(long = "listen", value_name = "ADDRESS", required = true)]
    pub listen: Vec<Address>,
    #[command(flatten)]
    pub export: ExportArgs,
}

#[derive(Args, Debug)]
pub struct VsockArgs {
    /// The socket that the monitor connects to; QEMU:
    /// -chardev socket,id=c,path=SOCKET -device vhost-user-vsock-pci,chardev=c, with shared memory.
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub vhost_user: PathBuf,
    /// The guest's number.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..4_294_967_295))]
    pub cid: u32,
    /// A folder to offer to the guest at port 1525, with a name (its own by default) and perhaps
    /// read-only. May be repeated.
    #[arg(long = "export", value_name = "DIR[:NAME][:ro]")]
    pub exports: Vec<ExportSpec>,
    /// Make a socket by which programs of this host reach the guest's ports (`CONNECT port`); the
    /// guest reaches those that listen on PATH_PORT.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub vsock_path: Option<PathBuf>,
    /// The same in hyperkit's way, in an existing folder.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub vsock_dir: Option<PathBuf>,
    #[command(flatten)]
    pub export: ExportArgs,
}

#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Where the server listens: unix:PATH or vsock:CID:PORT.
    #[arg(long, value_name = "ADDRESS")]
    pub connect: Address,
    /// What to mount where. May be repeated.
    #[arg(long = "mount", value_name = "NAME:MOUNTPOINT", required = true)]
    pub mounts: Vec<String>,
    /// Let other users than the one who mounts use the mounts.
    #[arg(long)]
    pub allow_other: bool,
}

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Print JSON: an array with one object a server.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct WatchArgs {
    /// Where the folder is mounted.
    #[arg(value_hint = ValueHint::DirPath)]
    pub mount: PathBuf,
    /// Print JSON: one object a line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct ManArgs {
    /// An existing folder.
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum ConsistencyArg {
    /// Every system call sees the host as it is at that moment.
    Consistent,
    /// A host change is seen within the delay of its event; a guest's write is on the host when the
    /// call returns.
    Cached,
    /// A guest's writes reach the host by fsync, close or one second.
    Delegated,
}

impl From<ConsistencyArg> for Consistency {
    fn from(arg: ConsistencyArg) -> Self {
        match arg {
            ConsistencyArg::Consistent => Self::Consistent,
            ConsistencyArg::Cached => Self::Cached,
            ConsistencyArg::Delegated => Self::Delegated,
        }
    }
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum OwnershipArg {
    /// As on the host. The server must be root.
    Host,
    /// Files belong to --uid and --gid until somebody changes it; the change is kept in an extended
    /// attribute.
    Map,
}

impl From<OwnershipArg> for OwnershipMode {
    fn from(arg: OwnershipArg) -> Self {
        match arg {
            OwnershipArg::Host => Self::Host,
            OwnershipArg::Map => Self::Map,
        }
    }
}

/// `DIR[:NAME][:ro]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportSpec {
    path: PathBuf,
    name: Option<String>,
    read_only: bool,
}

impl FromStr for ExportSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, read_only) = match text.strip_suffix(":ro") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (path, name) = match rest.rsplit_once(':') {
            Some((path, name)) if !name.contains('/') => (path, Some(name.to_owned())),
            _ => (rest, None),
        };
        if path.is_empty() || name.as_deref() == Some("") {
            return Err("write DIR, DIR:NAME, DIR:ro or DIR:NAME:ro".into());
        }
        Ok(Self { path: path.into(), name, read_only })
    }
}

impl ExportSpec {
    /// With the rules that hold for all exports.
    pub fn with(self, args: &ExportArgs) -> ExportConfig {
        let name = self.name.unwrap_or_else(|| default_name(&self.path));
        args.config(name, self.path, self.read_only)
    }
}

impl ExportArgs {
    /// One export under these rules.
    pub fn config(&self, name: String, path: PathBuf, read_only: bool) -> ExportConfig {
        ExportConfig {
            name,
            path: std::path::absolute(&path).unwrap_or(path),
            read_only,
            ownership: self.ownership.map(Into::into),
            consistency: self.consistency.into(),
            uid: self.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw()),
            gid: self.gid.unwrap_or_else(|| rustix::process::getegid().as_raw()),
            host_locks: self.host_locks,
        }
    }
}

/// The name of an export that was given none: the last part of its path.
pub fn default_name(path: &Path) -> String {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let full = full.canonicalize().unwrap_or(full);
    full.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exports_are_read_as_people_write_them() {
        let spec = |path: &str, name: Option<&str>, read_only| {
            Ok(ExportSpec { path: path.into(), name: name.map(Into::into), read_only })
        };
        for (text, expected) in [
            ("/src", spec("/src", None, false)),
            ("/src:ro", spec("/src", None, true)),
            ("/src:code", spec("/src", Some("code"), false)),
            ("/src:code:ro", spec("/src", Some("code"), true)),
            ("/a:b/c", spec("/a:b/c", None, false)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for text in ["", ":ro", ":name", "/src:"] {
            assert!(text.parse::<ExportSpec>().is_err(), "{text}");
        }
    }
}
