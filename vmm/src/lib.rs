//! The VM monitor: it boots a stock Linux kernel and gives it devices, among them the virtio-sock
//! that carries the protocol.
//!
//! ```text
//! config ─▶ vm ─┬─ arch + boot   what the guest finds in memory when it starts
//!               ├─ hypervisor    virtual processors, interrupts, notifications
//!               └─ bus ── virtio::mmio ── device (a thread of its own) ── host
//! ```
//!
//! A virtual processor leaves the guest, the [`bus`] finds the device, and a device never does I/O
//! there: it is woken by its queue's [`Event`](hypervisor::Event) on its own thread. Everything that a
//! guest writes is checked by whoever reads it first.
//!
//! The crate knows neither server nor agent: it is handed a listener for a vsock port.
#![deny(unsafe_code)]

pub mod arch;
pub mod boot;
pub mod bus;
pub mod config;
pub mod error;
pub mod hypervisor;
pub mod legacy;
pub mod memory;
pub mod virtio;
pub mod vm;

pub use config::{ConfigError, Console, Disk, DiskFormat, MemorySize, Net, Share, VmConfig};
pub use error::Error;
pub use vm::{Outcome, Stopper, Vm};
