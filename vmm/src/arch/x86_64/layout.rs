//! Where everything is in the physical addresses of an x86 guest.
//!
//! ```text
//!        0 ┬ memory: what the first processor begins with (below), the rest free
//!   640 Ki ┼ nothing; ACPI tables from 896 Ki on, where kernels look for them
//!     1 Mi ┼ memory: kernel, initrd
//!     3 Gi ┼ virtio devices, one page each … I/O APIC, local APIC, KVM's own pages
//!     4 Gi ┴ the rest of the memory
//! ```

use vm_memory::GuestAddress;

/// Descriptors of segments for the first processor, until the kernel has its own.
pub const GDT: GuestAddress = GuestAddress(0x1000);
/// `struct boot_params` of Linux.
pub const ZERO_PAGE: GuestAddress = GuestAddress(0x2000);
/// Page tables for the first processor, until the kernel has its own: six pages.
pub const PAGE_TABLES: GuestAddress = GuestAddress(0x3000);
/// The stack at the beginning, growing down.
pub const STACK: GuestAddress = GuestAddress(0xa000);
/// What is tried on a hypervisor before the kernel starts.
pub const TRIAL: GuestAddress = GuestAddress(0xa000);
/// The kernel's command line with its NUL.
pub const CMDLINE: GuestAddress = GuestAddress(0x1_0000);
/// The longest that is read of it everywhere (`COMMAND_LINE_SIZE` of Linux on x86), with its NUL.
pub const CMDLINE_MAX: usize = 2048;

/// Where low memory ends for a kernel: what was ROM on a PC is not given to it.
pub const LOW_END: u64 = 0x9_fc00;
/// ACPI tables, beginning with their root pointer.
pub const ACPI: GuestAddress = GuestAddress(0xe_0000);
/// Where they end at the latest.
pub const ACPI_END: u64 = RESET_VECTOR.0;
/// Where a PC's firmware begins.
pub const RESET_VECTOR: GuestAddress = GuestAddress(0xf_fff0);
/// Where memory goes on.
pub const HIGH: GuestAddress = GuestAddress(0x10_0000);

/// Where memory makes room for devices.
pub const HOLE: u64 = 0xc000_0000;
/// Where it goes on behind them.
pub const HOLE_END: u64 = 1 << 32;
/// Registers of the first virtio device.
pub const VIRTIO: GuestAddress = GuestAddress(HOLE);
/// Most virtio devices.
pub const MAX_SLOTS: usize = 64;

/// The I/O APIC's registers, where they are on every PC.
pub const IO_APIC: u32 = 0xfec0_0000;
/// A local APIC's registers, likewise.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// A page of KVM for a mode of the processor without paging (Intel), below the reset vector.
pub const KVM_IDENTITY: u64 = 0xfeff_c000;
/// Three pages of KVM for the same, behind it.
pub const KVM_TSS: u64 = 0xfeff_d000;

/// Lines of the I/O APIC that virtio devices take turns with: those behind the serial port's.
pub const FIRST_LINE: u32 = 5;
/// Behind the last line that there is.
pub const LINES: u32 = 24;
/// The serial port's line, where it is on every PC.
pub const SERIAL_LINE: u32 = 4;

/// The serial port (`COM1`).
pub const SERIAL: u16 = 0x3f8;
/// Its registers.
pub const SERIAL_LEN: u16 = 8;
/// The command port of the keyboard controller, of which only the reset command exists.
pub const RESET: u16 = 0x64;
/// The command.
pub const RESET_COMMAND: u8 = 0xfe;
/// ACPI's sleep control register, with the status register behind it.
pub const SLEEP: u16 = 0x600;
