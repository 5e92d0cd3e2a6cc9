//! What can go wrong with a VM, for people to read: the thing, the cause, the next step.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no VM, or no longer.
#[derive(Debug, Error)]
pub enum Error {
    /// The host has no hypervisor that we can use.
    #[error("no VM is possible here: {cause}; {next}")]
    NoHypervisor {
        /// Why.
        cause: String,
        /// What to do about it.
        next: &'static str,
    },
    /// Its hypervisor runs guests, but not as real hardware does.
    #[error(
        "this host cannot boot a stock kernel: its hypervisor ({name}) {cause}; use a host with \
         hardware virtualisation (VT-x or AMD-V, nested where the host itself is a VM)"
    )]
    PoorHypervisor {
        /// What it calls itself.
        name: String,
        /// How that shows.
        cause: &'static str,
    },
    /// A call of the hypervisor failed.
    #[error("the hypervisor cannot {act}: {source}")]
    Hypervisor {
        /// What was asked of it.
        act: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The guest did what the hypervisor has no answer to.
    #[error("processor {vcpu} of the guest stopped: {cause}")]
    Vcpu {
        /// Which one.
        vcpu: u16,
        /// What the hypervisor says.
        cause: String,
    },
    /// Memory for the guest.
    #[error("{size} MiB of memory for the guest cannot be mapped: {cause}; give it less")]
    Memory {
        /// How much was asked for.
        size: u64,
        /// What the host says.
        cause: String,
    },
    /// Two devices at one place: a mistake of whoever places them.
    #[error("two devices at {address:#x}")]
    Overlap {
        /// Where the second one begins.
        address: u64,
    },
    /// More devices than there is room for.
    #[error("{got} devices exceed the limit of {limit}; have fewer of them")]
    TooManyDevices {
        /// How many.
        got: usize,
        /// The most.
        limit: usize,
    },
    /// A file that the VM begins with.
    #[error("{what} {file}: {source}", file = file.display())]
    File {
        /// Kernel or initrd.
        what: &'static str,
        /// Which file.
        file: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// A kernel that cannot be started.
    #[error("kernel {file}: {cause}; {next}", file = file.display())]
    Kernel {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
        /// What to do about it.
        next: &'static str,
    },
    /// Kernel and initrd and what they need do not fit.
    #[error(
        "{what} {file} needs {needs} MiB where the guest has {has} MiB left for it; give it more \
         memory (--memory)", file = file.display()
    )]
    TooLarge {
        /// Kernel or initrd.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// Its need in MiB, rounded up.
        needs: u64,
        /// The room in MiB, rounded down.
        has: u64,
    },
    /// A command line that is longer than the kernel reads.
    #[error("the kernel command line has {got} bytes, and this kernel reads {limit}; shorten it")]
    Cmdline {
        /// Its length.
        got: usize,
        /// What the kernel reads.
        limit: usize,
    },
    /// A thread, a descriptor or the like that the host did not give.
    #[error("{act}: {source}")]
    Host {
        /// What was tried.
        act: &'static str,
        /// What the host says.
        source: io::Error,
    },
}
