//! Processors for which there is no machine yet: nothing can be placed, and loading says why.

use super::{Boot, Slot, Start};
use crate::Error;
use crate::bus::Bus;
use crate::legacy::{Power, Serial};
use crate::memory::Memory;
use std::sync::Arc;
use vm_memory::GuestAddress;

/// Most virtio devices.
pub const MAX_SLOTS: usize = 0;
/// The serial port's interrupt.
pub const SERIAL_LINE: u32 = 0;

/// Where memory of this size lies.
pub fn ranges(size: u64) -> Vec<(GuestAddress, usize)> {
    vec![(GuestAddress(0), size as usize)]
}

/// The place of a virtio device.
pub fn slot(_index: usize) -> Option<Slot> {
    None
}

/// Puts what a machine of this kind has beside virtio devices on its buses.
///
/// # Errors
/// Two of them have the same place.
pub fn place(
    _ports: &mut Bus,
    _memory: &mut Bus,
    _serial: Arc<Serial>,
    _power: &Arc<Power>,
) -> Result<(), Error> {
    Ok(())
}

/// Loads what the guest begins with.
///
/// # Errors
/// Always.
pub fn load(_memory: &Memory, boot: &Boot<'_>) -> Result<Start, Error> {
    Err(Error::Kernel {
        file: boot.kernel.into(),
        cause: "this build cannot start kernels of this processor".into(),
        next: "use a host with an x86-64 processor",
    })
}
