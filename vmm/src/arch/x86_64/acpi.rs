//! ACPI tables (ACPI 6.5): processors, interrupts, virtio devices, the serial port, and how to power
//! off and reset. Hardware-reduced: no PIT, PIC, PM timer or SCI.

use super::layout::{
    ACPI, ACPI_END, IO_APIC, LOCAL_APIC, RESET, RESET_COMMAND, SERIAL, SERIAL_LEN, SERIAL_LINE,
    SLEEP,
};
use super::slot;
use crate::legacy::SLEEP_TYPE_OFF;
use crate::virtio::mmio;
use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path, ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use vm_memory::Address;

const OEM: [u8; 6] = *b"OSXFS ";
const TABLE: [u8; 8] = *b"OSXFSVM ";
const REVISION: u32 = 1;
/// Tables begin at multiples of this.
const ALIGN: usize = 16;
/// `IAPC_BOOT_ARCH`: there is neither VGA nor a CMOS clock, and no flag for a keyboard controller.
const NO_VGA_NO_CMOS: u16 = 1 << 2 | 1 << 5;

/// All tables, as they lie in memory from [`ACPI`] on; the root pointer is the first.
pub fn tables(cpus: u16, slots: usize) -> Vec<u8> {
    let mut image = vec![0; Rsdp::len().next_multiple_of(ALIGN)];
    let dsdt = append(&mut image, &dsdt(cpus, slots));
    let fadt = append(&mut image, &fadt(dsdt));
    let madt = append(&mut image, &madt(cpus));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = append(&mut image, &bytes(&xsdt));
    let root = bytes(&Rsdp::new(OEM, xsdt));
    image[..root.len()].copy_from_slice(&root);
    debug_assert!(image.len() as u64 <= ACPI_END - ACPI.raw_value());
    image
}

/// Puts a table behind the others. Tells its address.
fn append(image: &mut Vec<u8>, table: &[u8]) -> u64 {
    let at = image.len();
    image.extend_from_slice(table);
    image.resize(image.len().next_multiple_of(ALIGN), 0);
    ACPI.raw_value() + at as u64
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port(port: u16) -> GAS {
    GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, port.into())
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let mut table = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    table.iapc_boot_arch = NO_VGA_NO_CMOS.into();
    table.reset_reg = port(RESET);
    table.reset_value = RESET_COMMAND;
    table.sleep_control_reg = port(SLEEP);
    table.sleep_status_reg = port(SLEEP + 1);
    bytes(&table.finalize())
}

fn madt(cpus: u16) -> Vec<u8> {
    let mut table = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(LOCAL_APIC));
    for cpu in (0..cpus).filter_map(|cpu| u8::try_from(cpu).ok()) {
        table.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    table.add_structure(IoApic::new(0, IO_APIC, 0));
    bytes(&table)
}

fn dsdt(cpus: u16, slots: usize) -> Vec<u8> {
    let mut table = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    let mut body = Vec::new();
    let off = Package::new(vec![&SLEEP_TYPE_OFF]);
    Name::new("_S5_".into(), &off).to_aml_bytes(&mut body);
    let devices: Vec<Vec<u8>> =
        (0..cpus).map(processor).chain((0..slots).filter_map(virtio)).chain([serial()]).collect();
    let devices = devices.iter().map(|bytes| Raw(bytes)).collect::<Vec<_>>();
    let children = devices.iter().map(|raw| raw as &dyn Aml).collect();
    Scope::new("_SB_".into(), children).to_aml_bytes(&mut body);
    table.append_slice(&body);
    table.update_checksum();
    table.as_slice().to_vec()
}

/// What has become bytes already.
struct Raw<'a>(&'a [u8]);

impl Aml for Raw<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(self.0);
    }
}

/// A name of four characters: a letter and a number.
fn numbered(letter: char, number: usize) -> Path {
    Path::new(&format!("{letter}{number:03X}"))
}

fn processor(cpu: u16) -> Vec<u8> {
    bytes(&Device::new(
        numbered('C', cpu.into()),
        vec![&Name::new("_HID".into(), &"ACPI0007"), &Name::new("_UID".into(), &cpu)],
    ))
}

/// A virtio device, as Linux's `virtio_mmio` finds it.
fn virtio(index: usize) -> Option<Vec<u8>> {
    let slot = slot(index)?;
    let address = u32::try_from(slot.address.raw_value()).ok()?;
    let window = Memory32Fixed::new(true, address, mmio::SIZE as u32);
    let interrupt = Interrupt::new(true, true, false, true, slot.line);
    Some(bytes(&Device::new(
        numbered('V', index),
        vec![
            &Name::new("_HID".into(), &"LNRO0005"),
            &Name::new("_UID".into(), &(index as u32)),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&window, &interrupt])),
        ],
    )))
}

/// The serial port, so that its interrupt is known where there is no PIC.
fn serial() -> Vec<u8> {
    let ports = IO::new(SERIAL, SERIAL, 1, SERIAL_LEN as u8);
    let interrupt = Interrupt::new(true, true, false, false, SERIAL_LINE);
    bytes(&Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &0_u8),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&ports, &interrupt])),
        ],
    ))
}
