//! A PC as far as a stock Linux kernel needs one: started in 64-bit mode without firmware, with ACPI
//! of the hardware-reduced kind.

pub mod acpi;
pub mod cpuid;
mod kernel;
pub mod layout;
pub mod registers;
#[cfg(test)]
mod tests;
mod zero_page;

use super::{Boot, Slot, Start};
use crate::Error;
use crate::bus::Bus;
use crate::legacy::{Power, Serial};
use crate::memory::Memory;
use layout::{
    FIRST_LINE, HOLE, HOLE_END, LINES, RESET, RESET_COMMAND, RESET_VECTOR, SERIAL, SERIAL_LEN,
    SLEEP, VIRTIO,
};
use std::sync::Arc;
use vm_memory::{Address, Bytes, GuestAddress};

pub use layout::{MAX_SLOTS, SERIAL_LINE};

/// All the firmware there is. Linux jumps to it to reboot where ACPI is hardware-reduced and there is
/// no EFI; it resets the machine.
const FIRMWARE: [u8; 7] = [
    0xb0,
    RESET_COMMAND, // mov al, RESET_COMMAND
    0xe6,
    RESET as u8, // out RESET, al
    0xf4,        // hlt
    0xeb,
    0xfd, // jmp to the hlt
];

/// Where memory of this size lies.
pub fn ranges(size: u64) -> Vec<(GuestAddress, usize)> {
    let low = size.min(HOLE);
    let mut ranges = vec![(GuestAddress(0), low as usize)];
    if size > low {
        ranges.push((GuestAddress(HOLE_END), (size - low) as usize));
    }
    ranges
}

/// The place of a virtio device.
pub fn slot(index: usize) -> Option<Slot> {
    let number = u32::try_from(index).ok().filter(|_| index < MAX_SLOTS)?;
    let address = VIRTIO.unchecked_add(u64::from(number) * crate::virtio::mmio::SIZE);
    Some(Slot { address, line: FIRST_LINE + number % (LINES - FIRST_LINE) })
}

/// Puts what a PC has beside virtio devices on its buses.
///
/// # Errors
/// Two of them have the same place.
pub fn place(
    ports: &mut Bus,
    _memory: &mut Bus,
    serial: Arc<Serial>,
    power: &Arc<Power>,
) -> Result<(), Error> {
    ports.insert(SERIAL.into(), SERIAL_LEN.into(), serial)?;
    ports.insert(RESET.into(), 1, Arc::new(power.keyboard_controller()))?;
    ports.insert(SLEEP.into(), 2, Arc::new(power.sleep_registers()))
}

/// Loads kernel and initrd, and writes all that the kernel looks at when it starts.
///
/// # Errors
/// Files that cannot be read, are of the wrong kind, or do not fit.
pub fn load(memory: &Memory, boot: &Boot<'_>) -> Result<Start, Error> {
    let kernel = kernel::load(memory, boot.kernel)?;
    let initrd = boot.initrd.map(|file| kernel::load_initrd(memory, &kernel, file)).transpose()?;
    let limit = kernel.cmdline_max.min(layout::CMDLINE_MAX - 1);
    if boot.cmdline.len() > limit {
        return Err(Error::Cmdline { got: boot.cmdline.len(), limit });
    }
    let tables = acpi::tables(boot.cpus, boot.slots);
    let params = zero_page::boot_params(memory, &kernel, initrd);
    let written = memory
        .write_slice(boot.cmdline.as_bytes(), layout::CMDLINE)
        .and_then(|()| {
            memory.write_obj(0_u8, layout::CMDLINE.unchecked_add(boot.cmdline.len() as u64))
        })
        .and_then(|()| memory.write_slice(&tables, layout::ACPI))
        .and_then(|()| memory.write_obj(params, layout::ZERO_PAGE))
        .and_then(|()| memory.write_slice(&FIRMWARE, RESET_VECTOR))
        .and_then(|()| registers::write_tables(memory));
    written.map_err(|error| Error::Memory { size: 1, cause: error.to_string() })?;
    Ok(Start { entry: kernel.entry, argument: layout::ZERO_PAGE })
}
