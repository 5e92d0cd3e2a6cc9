//! What processors begin with: segments and pages in guest memory, and the numbers that go into
//! registers (Linux `Documentation/arch/x86/boot.rst`, "64-bit boot protocol"; Intel SDM volume 3 for
//! the bits).

use super::layout::{GDT, PAGE_TABLES};
use crate::memory::Memory;
use vm_memory::{Address, Bytes, GuestMemoryError};

/// Selector of the code segment (`__BOOT_CS` of Linux).
pub const CODE: u16 = 0x10;
/// Selector of the data segments (`__BOOT_DS`).
pub const DATA: u16 = 0x18;
/// Selector of the task segment.
pub const TASK: u16 = 0x20;

/// `CR0`: protected mode, native FPU errors, paging.
pub const CR0: u64 = 1 | 1 << 5 | 1 << 31;
/// `CR4`: page tables of 64 bits.
pub const CR4: u64 = 1 << 5;
/// `EFER`: long mode enabled and active.
pub const EFER: u64 = 1 << 8 | 1 << 10;
/// `RFLAGS`: nothing but the bit that is always set; interrupts are off.
pub const RFLAGS: u64 = 1 << 1;
/// The x87 control word after `FNINIT`.
pub const FPU_CONTROL: u16 = 0x37f;
/// `MXCSR` after reset.
pub const MXCSR: u32 = 0x1f80;

/// `IA32_MISC_ENABLE`, and its bit for fast string operations.
pub const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// `IA32_MTRR_DEF_TYPE`: enabled, write-back where nothing else is said.
pub const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 1 << 11 | 6);

/// A segment of the whole address space: its number in the table, its type and how it is run.
#[derive(Clone, Copy)]
pub struct Segment {
    /// What selects it.
    pub selector: u16,
    /// The type as descriptors and hypervisors have it.
    pub kind: u8,
    /// Code or data, as opposed to a task.
    pub code_or_data: bool,
    /// 64-bit code.
    pub long: bool,
    /// 32-bit data.
    pub big: bool,
}

/// Code: executable, readable, accessed.
pub const CODE_SEGMENT: Segment =
    Segment { selector: CODE, kind: 0xb, code_or_data: true, long: true, big: false };
/// Data: writable, accessed.
pub const DATA_SEGMENT: Segment =
    Segment { selector: DATA, kind: 0x3, code_or_data: true, long: false, big: true };
/// A busy task, which long mode wants to be there.
pub const TASK_SEGMENT: Segment =
    Segment { selector: TASK, kind: 0xb, code_or_data: false, long: false, big: false };

impl Segment {
    /// Its limit in bytes.
    pub fn limit(self) -> u32 {
        if self.code_or_data { u32::MAX } else { 0x67 }
    }

    /// Its eight bytes in the table: base zero.
    fn descriptor(self) -> u64 {
        let granular = u64::from(self.code_or_data);
        let limit = u64::from(self.limit() >> if self.code_or_data { 12 } else { 0 });
        (limit & 0xffff)
            | u64::from(self.kind) << 40
            | u64::from(self.code_or_data) << 44
            | 1 << 47
            | (limit >> 16 & 0xf) << 48
            | u64::from(self.long) << 53
            | u64::from(self.big) << 54
            | granular << 55
    }
}

/// Descriptors in the table: null twice, code, data, and a task of two.
const GDT_ENTRIES: usize = 6;
/// Its limit, as the register wants it.
pub const GDT_LIMIT: u16 = (GDT_ENTRIES * 8 - 1) as u16;

const PAGE: u64 = 0x1000;
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7;
const GIBS: u64 = 4;

/// Writes segments, and pages that map the first 4 GiB to themselves.
///
/// # Errors
/// There is no memory at their place.
pub fn write_tables(memory: &Memory) -> Result<(), GuestMemoryError> {
    let mut gdt = [0_u64; GDT_ENTRIES];
    for segment in [CODE_SEGMENT, DATA_SEGMENT, TASK_SEGMENT] {
        gdt[usize::from(segment.selector / 8)] = segment.descriptor();
    }
    memory.write_obj(gdt, GDT)?;
    let (top, second) = (PAGE_TABLES, PAGE_TABLES.unchecked_add(PAGE));
    let pages = second.unchecked_add(PAGE);
    memory.write_obj(second.raw_value() | PRESENT_WRITABLE, top)?;
    for gib in 0..GIBS {
        let table = pages.unchecked_add(gib * PAGE);
        memory.write_obj(table.raw_value() | PRESENT_WRITABLE, second.unchecked_add(gib * 8))?;
        let entries = (0..512_u64).map(|n| gib << 30 | n << 21 | LARGE | PRESENT_WRITABLE);
        let bytes: Vec<u8> = entries.flat_map(u64::to_le_bytes).collect();
        memory.write_slice(&bytes, table)?;
    }
    Ok(())
}
