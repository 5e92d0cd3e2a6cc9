//! The command line of `osxfs vm`, with its help.

use crate::cli::ExportArgs;
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use vmm::{Console, Disk, MemorySize, Net, Share};

/// `osxfs vm`.
#[derive(Args, Debug)]
pub struct VmArgs {
    #[command(subcommand)]
    pub command: VmCommand,
}

#[derive(Subcommand, Debug)]
pub enum VmCommand {
    /// Boot a Linux guest with folders of this host in it, and perhaps run a command there.
    Run(Box<RunArgs>),
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// The kernel [default: the image that `cargo xtask image` makes].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kernel: Option<PathBuf>,
    /// Its first file system [default: that of the image, if the kernel is].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub initrd: Option<PathBuf>,
    /// What is added to the kernel's command line.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline: Option<String>,
    /// Virtual processors [default: 1].
    #[arg(long, value_name = "N")]
    pub cpus: Option<u16>,
    /// Memory of the guest, such as 2G [default: 512M].
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<MemorySize>,
    /// A folder and where the guest has it. May be repeated.
    #[arg(long = "share", value_name = "DIR:/path[:ro]")]
    pub shares: Vec<Share>,
    /// A disk. May be repeated.
    #[arg(long = "disk", value_name = "FILE[:raw|qcow2][:ro]")]
    pub disks: Vec<Disk>,
    /// A network card, joined to a user-mode network (passt, gvproxy) at this socket.
    #[arg(long, value_name = "SOCKET")]
    pub net: Option<Net>,
    /// Make a socket by which programs of this host reach the guest's vsock ports (`CONNECT port`);
    /// the guest reaches those that listen on PATH_PORT.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub vsock_path: Option<PathBuf>,
    /// Where the guest's console goes: stdio, pty or a file [default: with a command nowhere, and
    /// shown if it fails; otherwise stdio].
    #[arg(long, value_name = "WHERE")]
    pub console: Option<Console>,
    /// Take all of it from a file that has the command line of hyperkit or xhyve in it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["kernel", "initrd"])]
    pub xhyve_args: Option<PathBuf>,
    /// A device, as vfkit has it: virtio-blk,path=…; virtio-net,unixSocketPath=…; virtio-vsock,…;
    /// virtio-fs,sharedDir=…,mountTag=…; virtio-serial,…; virtio-rng. May be repeated.
    #[arg(long = "device", value_name = "TYPE,…")]
    pub devices: Vec<String>,
    /// Let the guest have a variable of this environment, or NAME=VALUE. May be repeated.
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub environment: Vec<String>,
    #[command(flatten)]
    pub export: ExportArgs,
    /// Run this in the guest, and return its exit status.
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<std::ffi::OsString>,
}
