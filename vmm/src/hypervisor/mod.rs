//! What the monitor asks of a hypervisor.
//!
//! ```text
//! open() ─▶ Vm ─┬─ vcpu ─▶ Vcpu::run ── Exits (the buses) … ─▶ Stop
//!               ├─ interrupt ─▶ Interrupt::raise
//!               └─ notify: a write that only signals an Event
//! ```
//!
//! A [`Vcpu`] belongs to the thread that made it. What stops it from elsewhere is its [`Kick`]. Where the
//! virtual machine is another monitor's, `vhost_user` stands in for all of this.

mod event;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kvm;
mod pages;
pub mod sandbox;
#[cfg(target_os = "linux")]
pub mod vhost_user;

use crate::Error;
use crate::arch::Start;
use crate::memory::Memory;
use std::sync::Arc;

pub use event::Event;
pub use pages::{keep_out_of_dumps, release_pages};

/// An interrupt of the guest, as a device sees it. Called on any thread; does not wait.
pub trait Interrupt: Send + Sync {
    /// Raises it once (edge).
    fn raise(&self);
}

/// A virtual machine: memory and an interrupt controller.
pub trait Vm: Send + Sync {
    /// Makes a virtual processor. The first one begins at `start`; the others, without one, wait to be
    /// started by the guest. Called on the thread that will run it.
    ///
    /// # Errors
    /// The hypervisor refuses.
    fn vcpu(&self, id: u16, start: Option<Start>) -> Result<Box<dyn Vcpu>, Error>;

    /// An edge-triggered line of the interrupt controller.
    ///
    /// # Errors
    /// The hypervisor refuses.
    fn interrupt(&self, line: u32) -> Result<Arc<dyn Interrupt>, Error>;

    /// Lets the hypervisor itself answer a write of `value` (32 bits) to `address` by signalling
    /// `event`. `false` if it cannot: the write then comes as an exit like any other.
    ///
    /// # Errors
    /// It could, but refuses.
    fn notify(&self, address: u64, value: u32, event: &Event) -> Result<bool, Error>;
}

/// A virtual processor.
pub trait Vcpu {
    /// What stops it. May be kept beyond its end, and does nothing then.
    fn kick(&self) -> Arc<dyn Kick>;

    /// Runs the guest until it or somebody else stops it.
    ///
    /// # Errors
    /// The guest did something that has no meaning, or the hypervisor failed.
    fn run(&mut self, exits: &dyn Exits) -> Result<Stop, Error>;
}

/// Stops a virtual processor from any thread.
pub trait Kick: Send + Sync {
    /// Its [`Vcpu::run`] returns [`Stop::Kicked`] soon, also if it only begins later.
    fn kick(&self);
}

/// Who answers the accesses of virtual processors. Called on their threads; must not wait.
pub trait Exits: Sync {
    /// A read of a port.
    fn port_read(&self, port: u16, data: &mut [u8]);
    /// A write to a port.
    fn port_write(&self, port: u16, data: &[u8]);
    /// A read of memory that is none.
    fn memory_read(&self, address: u64, data: &mut [u8]);
    /// A write to memory that is none.
    fn memory_write(&self, address: u64, data: &[u8]);
    /// Whether what was just answered is to be the last.
    fn stops(&self) -> bool;
}

/// Why a virtual processor does not run any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It was kicked, or [`Exits::stops`].
    Kicked,
    /// It gave itself up (x86: a triple fault), which on real hardware resets the machine.
    Reset,
    /// It asked for power off by a call to the hypervisor.
    PowerOff,
}

/// The host's hypervisor, with a VM of this memory in it.
///
/// # Errors
/// There is none, we may not use it, or it cannot do what a stock kernel needs.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn open(memory: &Memory, cpus: u16) -> Result<Box<dyn Vm>, Error> {
    Ok(Box::new(kvm::Kvm::open(memory, cpus)?))
}

/// The host's hypervisor, with a VM of this memory in it.
///
/// # Errors
/// There is none that we know.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn open(_memory: &Memory, _cpus: u16) -> Result<Box<dyn Vm>, Error> {
    Err(Error::NoHypervisor {
        cause: "this build knows no hypervisor for this system and processor".into(),
        next: "use a Linux host with an x86-64 processor and KVM",
    })
}

/// How much memory the host has, swap included, if it says.
#[cfg(target_os = "linux")]
pub fn host_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    (info.totalram.checked_add(info.totalswap)?).checked_mul(info.mem_unit.into())
}

/// How much memory the host has, swap included, if it says.
#[cfg(not(target_os = "linux"))]
pub fn host_memory() -> Option<u64> {
    None
}
