//! What kind of kernel a file is, told from its first bytes.
//!
//! Only recognised here; which kinds can be started is for the processor's [`arch`](crate::arch).

#[cfg(test)]
mod tests;

/// How much of a file [`recognise`] wants to see, if there is as much.
pub const HEAD: usize = 0x240;

/// A kind of kernel file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Image {
    /// Linux for x86 with its own decompressor (`bzImage`, usually called `vmlinuz`).
    Bzimage {
        /// Whether it can be entered in 64-bit mode.
        long: bool,
    },
    /// An ELF file (`vmlinux`).
    Elf {
        /// `e_machine`.
        machine: u16,
        /// 64 bits, little-endian.
        long: bool,
    },
    /// Linux for another processor.
    Foreign(&'static str),
    /// A file that has to be unpacked first, with the command that does.
    Packed(&'static str),
    /// Nothing of that.
    Unknown,
}

/// `e_machine` of x86-64.
pub const EM_X86_64: u16 = 62;

/// Files that are compressed as a whole: their magic numbers and what unpacks them.
const PACKED: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip -dc"),
    (b"\xfd7zXZ\0", "xz -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd -dc"),
    (b"BZh", "bzip2 -dc"),
    (b"\x02\x21\x4c\x18", "lz4 -dc"),
    (b"\x04\x22\x4d\x18", "lz4 -dc"),
    (b"\x89LZO", "lzop -dc"),
    (b"\x5d\0\0", "xz --format=lzma -dc"),
];

/// Tells the kind from the beginning of a file.
pub fn recognise(head: &[u8]) -> Image {
    let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let number = |at: usize| -> u16 {
        head.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    };
    if has(0x202, b"HdrS") {
        // `xloadflags` came with version 2.12 of the protocol; its first bit is XLF_KERNEL_64.
        return Image::Bzimage { long: number(0x206) >= 0x20c && number(0x236) & 1 != 0 };
    }
    if has(0, b"\x7fELF") {
        return Image::Elf { machine: number(0x12), long: has(4, &[2, 1]) };
    }
    if has(0x38, b"ARM\x64") {
        return Image::Foreign("arm64");
    }
    if has(0x38, b"RSC\x05") {
        return Image::Foreign("RISC-V");
    }
    if has(0, b"MZ") && has(4, b"zimg") {
        return Image::Packed("the kernel's own extract-vmlinux");
    }
    match PACKED.iter().find(|(magic, _)| has(0, magic)) {
        Some((_, tool)) => Image::Packed(tool),
        None => Image::Unknown,
    }
}
