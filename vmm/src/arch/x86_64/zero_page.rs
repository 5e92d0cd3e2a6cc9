//! `struct boot_params` of Linux (`Documentation/arch/x86/zero-page.rst`): what a boot loader tells a
//! kernel.

use super::kernel::{Initrd, Kernel};
use super::layout::{ACPI, CMDLINE, HIGH, LOW_END};
use crate::memory::Memory;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

/// `type_of_loader` of those who have none assigned.
const LOADER: u8 = 0xff;
/// Type of memory that is free.
const E820_RAM: u32 = 1;
/// Type of memory that is not to be touched.
const E820_RESERVED: u32 = 2;

/// All that this kernel is told.
pub fn boot_params(memory: &Memory, kernel: &Kernel, initrd: Option<Initrd>) -> boot_params {
    let mut params =
        boot_params { hdr: kernel.header, acpi_rsdp_addr: ACPI.raw_value(), ..Default::default() };
    params.hdr.type_of_loader = LOADER;
    params.hdr.cmd_line_ptr = CMDLINE.raw_value() as u32;
    params.hdr.vid_mode = u16::MAX;
    if let Some(initrd) = initrd {
        params.hdr.ramdisk_image = initrd.start;
        params.hdr.ramdisk_size = initrd.len;
    }
    let mut entries =
        vec![entry(0, LOW_END, E820_RAM), entry(LOW_END, HIGH.raw_value(), E820_RESERVED)];
    for region in memory.iter() {
        let start = region.start_addr().max(HIGH).raw_value();
        entries.push(entry(start, region.last_addr().raw_value() + 1, E820_RAM));
    }
    params.e820_entries = entries.len() as u8;
    for (place, entry) in params.e820_table.iter_mut().zip(entries) {
        *place = entry;
    }
    params
}

fn entry(start: u64, end: u64, kind: u32) -> boot_e820_entry {
    boot_e820_entry { addr: start, size: end.saturating_sub(start), r#type: kind }
}
