//! What the guest finds when it starts: processors, tables, the kernel and what it is told.

use super::cpuid::{Leaf, adapt};
use super::*;
use crate::config::MemorySize;
use crate::memory;
use std::io::Write;
use vm_memory::GuestMemoryBackend;

fn guest(mib: u32) -> Memory {
    memory::map(&ranges(MemorySize::mib(mib).bytes())).unwrap()
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A bzImage with one sector of setup code, that wants to be at 16 MiB.
fn bzimage(init_size: u32) -> Vec<u8> {
    let mut image = vec![0; 1024 + 0x300];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x211] = 1;
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    image[0x234] = 1;
    image[0x236] = 1;
    image[0x238..0x23c].copy_from_slice(&2047_u32.to_le_bytes());
    image[0x258..0x260].copy_from_slice(&(16_u64 << 20).to_le_bytes());
    image[0x260..0x264].copy_from_slice(&init_size.to_le_bytes());
    image[1024..].fill(0x90);
    image
}

fn boot<'a>(kernel: &'a std::path::Path, initrd: Option<&'a std::path::Path>) -> Boot<'a> {
    Boot { kernel, initrd, cmdline: "console=ttyS0", cpus: 2, slots: 3 }
}

fn refusal(memory: &Memory, boot: &Boot<'_>) -> String {
    load(memory, boot).unwrap_err().to_string()
}

#[test]
fn memory_makes_room_for_devices_below_4_gib() {
    let gib = |n: u64| n << 30;
    assert_eq!(ranges(gib(3)), [(GuestAddress(0), gib(3) as usize)]);
    assert_eq!(
        ranges(gib(5)),
        [(GuestAddress(0), gib(3) as usize), (GuestAddress(gib(4)), gib(2) as usize)]
    );
}

#[test]
fn slots_have_places_of_their_own_outside_memory_and_lines_of_the_io_apic() {
    let slots: Vec<_> = (0..MAX_SLOTS).map(|n| slot(n).unwrap()).collect();
    for (n, a) in slots.iter().enumerate() {
        assert!((5..24).contains(&a.line));
        assert!(a.address.raw_value() >= HOLE);
        assert!(a.address.raw_value() + crate::virtio::mmio::SIZE <= layout::IO_APIC.into());
        assert!(slots[..n].iter().all(|b| b.address != a.address));
    }
    assert_eq!(slot(MAX_SLOTS), None);
}

#[test]
fn a_bzimage_lies_where_it_wants_to_and_the_initrd_at_the_end_of_memory() {
    let (memory, kernel) = (guest(64), file(&bzimage(8 << 20)));
    let initrd = file(&[7; 5000]);
    let start = load(&memory, &boot(kernel.path(), Some(initrd.path()))).unwrap();
    assert_eq!(start.entry, GuestAddress((16 << 20) + 0x200));
    let code: u8 = memory.read_obj(start.entry).unwrap();
    assert_eq!(code, 0x90);
    let params: linux_loader::loader::bootparam::boot_params =
        memory.read_obj(start.argument).unwrap();
    let (at, len) = (params.hdr.ramdisk_image, params.hdr.ramdisk_size);
    assert_eq!((at, len), ((64 << 20) - 8192, 5000));
    let byte: u8 = memory.read_obj(GuestAddress(u64::from(at) + 4999)).unwrap();
    assert_eq!(byte, 7);
    let cmdline = params.hdr.cmd_line_ptr;
    let mut text = [0; 14];
    memory.read_slice(&mut text, GuestAddress(cmdline.into())).unwrap();
    assert_eq!(&text, b"console=ttyS0\0");
    let ram: u64 = params.e820_table[..params.e820_entries.into()]
        .iter()
        .filter(|entry| entry.r#type == 1)
        .map(|entry| entry.size)
        .sum();
    assert_eq!(ram, (63 << 20) + layout::LOW_END);
}

#[test]
fn a_kernel_that_does_not_fit_is_refused_with_what_it_needs() {
    let (memory, kernel) = (guest(64), file(&bzimage(60 << 20)));
    let text = refusal(&memory, &boot(kernel.path(), None));
    assert!(text.contains("needs 60 MiB where the guest has 48 MiB"), "{text}");
}

#[test]
fn an_initrd_that_does_not_fit_is_refused_with_what_it_needs() {
    let (memory, kernel) = (guest(64), file(&bzimage(40 << 20)));
    let initrd = tempfile::NamedTempFile::new().unwrap();
    initrd.as_file().set_len(9 << 20).unwrap();
    let text = refusal(&memory, &boot(kernel.path(), Some(initrd.path())));
    assert!(text.starts_with("initrd "), "{text}");
    assert!(text.contains("needs 9 MiB where the guest has 8 MiB"), "{text}");
}

#[test]
fn what_is_no_kernel_is_refused_with_the_reason() {
    let memory = guest(64);
    let mut arm = vec![0; 64];
    arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    let mut elf = vec![0; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let mut foreign = elf.clone();
    foreign[0x12] = 183;
    elf[0x12] = 62;
    for (bytes, expected) in [
        (b"hello".to_vec(), "no kernel"),
        (vec![], "no kernel"),
        (arm, "for arm64"),
        (foreign, "another processor (machine 183)"),
        (elf, "damaged"),
        (b"\x1f\x8b".to_vec(), "gzip -dc"),
        (bzimage(1 << 20)[..0x250].to_vec(), "fill whole buffer"),
        (bzimage(1 << 20)[..0x300].to_vec(), "damaged"),
    ] {
        let kernel = file(&bytes);
        let text = refusal(&memory, &boot(kernel.path(), None));
        assert!(text.contains(expected), "{text}");
    }
    let nowhere = std::path::Path::new("/nonexistent/vmlinuz");
    assert!(refusal(&memory, &boot(nowhere, None)).contains("/nonexistent/vmlinuz: No such file"));
    let folder = tempfile::tempdir().unwrap();
    assert!(refusal(&memory, &boot(folder.path(), None)).contains("no regular file"));
}

#[test]
fn a_command_line_that_the_kernel_would_cut_is_refused() {
    let (memory, kernel) = (guest(64), file(&bzimage(1 << 20)));
    let long = "x".repeat(2048);
    let text = refusal(&memory, &Boot { cmdline: &long, ..boot(kernel.path(), None) });
    assert!(text.contains("2048 bytes") && text.contains("2047"), "{text}");
}

#[test]
fn every_acpi_table_is_whole_and_found_from_the_root() {
    for (cpus, slots) in [(1, 0), (2, 5), (255, MAX_SLOTS)] {
        let image = acpi::tables(cpus, slots);
        assert!(image.len() as u64 <= layout::ACPI_END - layout::ACPI.raw_value());
        let number = |at: usize, len: usize| {
            image[at..at + len].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let table = |address: u64, signature: &[u8]| {
            let at = (address - layout::ACPI.raw_value()) as usize;
            let table = &image[at..at + number(at + 4, 4) as usize];
            assert_eq!(&table[..4], signature);
            assert_eq!(sum(table), 0, "{signature:?}");
            (at, table.len())
        };
        assert_eq!(&image[..8], b"RSD PTR ");
        assert_eq!((sum(&image[..20]), sum(&image[..36])), (0, 0));
        let (xsdt, len) = table(number(24, 8), b"XSDT");
        assert_eq!(len, 36 + 16);
        let (fadt, _) = table(number(xsdt + 36, 8), b"FACP");
        let (madt, len) = table(number(xsdt + 44, 8), b"APIC");
        assert_eq!(len, 44 + usize::from(cpus) * 8 + 12);
        assert_eq!(number(madt + 36, 4), u64::from(layout::LOCAL_APIC));
        let (dsdt, len) = table(number(fadt + 140, 8), b"DSDT");
        let body = &image[dsdt..dsdt + len];
        let devices = body.windows(8).filter(|bytes| bytes == b"LNRO0005").count();
        assert_eq!(devices, slots);
        assert_eq!(body.windows(8).filter(|b| b == b"ACPI0007").count(), usize::from(cpus));
    }
}

fn find(leaves: &[Leaf], function: u32, index: Option<u32>) -> Leaf {
    *leaves.iter().find(|leaf| leaf.function == function && leaf.index == index).unwrap()
}

#[test]
fn every_processor_says_its_id_and_the_same_topology() {
    let leaf = |function, index, eax| Leaf {
        function,
        index,
        eax,
        ebx: u32::MAX,
        ecx: u32::MAX,
        edx: u32::MAX,
    };
    let host = vec![
        leaf(0, None, 0x1f),
        leaf(1, None, 0x1234),
        leaf(4, Some(0), 0xffff_c121),
        leaf(4, Some(3), 0xffff_c163),
        leaf(0xb, Some(0), 1),
        leaf(0x1f, Some(0), 1),
        leaf(0x8000_0001, None, 0),
        leaf(0x8000_0008, None, 0x3030),
    ];
    for (id, cpus, bits) in [(0, 1, 0), (1, 2, 1), (4, 5, 3), (254, 255, 8)] {
        let mut leaves = host.clone();
        adapt(&mut leaves, id, cpus, true);
        let one = find(&leaves, 1, None);
        assert_eq!(one.ebx >> 24, u32::from(id));
        assert_eq!(one.ebx >> 16 & 0xff, u32::from(cpus));
        assert_eq!(one.ecx >> 31, 1, "there is a hypervisor");
        assert_eq!(one.ecx & 1 << 5, 0, "but none inside");
        assert_eq!(one.edx >> 28 & 1, u32::from(cpus > 1));
        assert_eq!(find(&leaves, 4, Some(0)).eax >> 14 & 0xfff, 0);
        assert_eq!(find(&leaves, 4, Some(3)).eax >> 14 & 0xfff, (1 << bits) - 1);
        assert_eq!(find(&leaves, 0xb, Some(0)).edx, u32::from(id));
        let core = find(&leaves, 0xb, Some(1));
        assert_eq!((core.eax, core.ebx, core.ecx), (bits, cpus.into(), 0x201));
        assert!(leaves.iter().all(|leaf| leaf.function != 0x1f));
        assert_eq!(find(&leaves, 0x8000_0001, None).ecx & 1 << 2, 0);
        let sizes = find(&leaves, 0x8000_0008, None).ecx;
        assert_eq!((sizes & 0xff, sizes >> 12 & 0xf), (u32::from(cpus) - 1, bits));
    }
}

#[test]
fn the_first_four_gib_are_mapped_to_themselves() {
    let memory = guest(64);
    registers::write_tables(&memory).unwrap();
    let entry = |table: u64, index: u64| -> u64 {
        memory.read_obj(GuestAddress((table & !0xfff) + index * 8)).unwrap()
    };
    for address in [0, 0x20_0000, 0x1234_5678, 0xfee0_0000, 0xffff_ffff_u64] {
        let second = entry(layout::PAGE_TABLES.raw_value(), address >> 39);
        let third = entry(second, address >> 30 & 0x1ff);
        let page = entry(third, address >> 21 & 0x1ff);
        assert_eq!(page & 0x83, 0x83, "a present, writable, large page");
        assert_eq!((page & !0x1f_ffff) | (address & 0x1f_ffff), address);
    }
    assert!(memory.last_addr() > layout::STACK);
}

struct Silent;

impl crate::hypervisor::Interrupt for Silent {
    fn raise(&self) {}
}

proptest::proptest! {
    #[test]
    fn no_access_to_a_port_does_harm(
        accesses in proptest::collection::vec(
            (
                proptest::prop_oneof![0x3f0_u64..0x400, 0x60_u64..0x68, 0x5fe_u64..0x604, 0_u64..0x1_0000],
                proptest::collection::vec(proptest::num::u8::ANY, 1..5),
                proptest::bool::ANY,
            ),
            0..200,
        )
    ) {
        let power = Power::new();
        let serial = Serial::new(Arc::new(Silent), Box::new(std::io::sink())).unwrap();
        let (mut ports, mut memory) = (Bus::default(), Bus::default());
        place(&mut ports, &mut memory, Arc::new(serial), &power).unwrap();
        for (port, mut data, write) in accesses {
            if write {
                ports.write(port, &data);
            } else {
                ports.read(port, &mut data);
            }
        }
    }
}
