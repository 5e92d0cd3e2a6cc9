//! What differs between processors: where things are, and what a kernel finds when it starts.
//!
//! Everything here is said in numbers and bytes of guest memory; how a hypervisor is told to set a
//! processor's registers stands with the hypervisor.

#[cfg(not(target_arch = "x86_64"))]
mod other;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub use other::{MAX_SLOTS, SERIAL_LINE, load, place, ranges, slot};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{MAX_SLOTS, SERIAL_LINE, load, place, ranges, slot};

use std::path::Path;
use vm_memory::GuestAddress;

/// Where the first processor begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// The kernel's entry.
    pub entry: GuestAddress,
    /// What it is handed: the zero page (x86) or the device tree.
    pub argument: GuestAddress,
}

/// A place for a virtio device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Where its registers are.
    pub address: GuestAddress,
    /// Its line at the interrupt controller, edge-triggered. Several slots may have the same one: each
    /// edge makes the guest look at all of them.
    pub line: u32,
}

/// What the guest begins with.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The kernel's file.
    pub kernel: &'a Path,
    /// The first file system's file.
    pub initrd: Option<&'a Path>,
    /// The whole command line of the kernel.
    pub cmdline: &'a str,
    /// Processors.
    pub cpus: u16,
    /// Slots that have a device.
    pub slots: usize,
}
