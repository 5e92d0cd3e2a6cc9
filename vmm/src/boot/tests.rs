//! What a file is that is to be a kernel, by its first bytes.

use super::*;

fn with(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    for (at, bytes) in parts {
        head[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    head
}

#[test]
fn a_kernel_is_told_from_its_first_bytes() {
    let bzimage = |version: &[u8], flags: &[u8]| {
        with(&[(0, b"MZ"), (0x202, b"HdrS"), (0x206, version), (0x236, flags)])
    };
    let table: &[(Vec<u8>, Image)] = &[
        (bzimage(&[0x0f, 2], &[0x7f, 0]), Image::Bzimage { long: true }),
        (bzimage(&[0x0f, 2], &[0x7e, 0]), Image::Bzimage { long: false }),
        (bzimage(&[0x0b, 2], &[0xff, 0]), Image::Bzimage { long: false }),
        (
            with(&[(0, b"\x7fELF\x02\x01"), (0x12, &[62, 0])]),
            Image::Elf { machine: EM_X86_64, long: true },
        ),
        (with(&[(0, b"\x7fELF\x01\x01"), (0x12, &[3, 0])]), Image::Elf { machine: 3, long: false }),
        (
            with(&[(0, b"\x7fELF\x02\x01"), (0x12, &[183, 0])]),
            Image::Elf { machine: 183, long: true },
        ),
        (with(&[(0, b"MZ"), (0x38, b"ARM\x64")]), Image::Foreign("arm64")),
        (with(&[(0, b"MZ"), (4, b"zimg")]), Image::Packed("the kernel's own extract-vmlinux")),
        (with(&[(0, b"\x1f\x8b\x08")]), Image::Packed("gzip -dc")),
        (with(&[(0, b"\xfd7zXZ\0")]), Image::Packed("xz -dc")),
        (with(&[(0, b"\x28\xb5\x2f\xfd")]), Image::Packed("zstd -dc")),
        (with(&[(0, b"#!/bin/sh")]), Image::Unknown),
        (vec![], Image::Unknown),
        (b"\x7fEL".to_vec(), Image::Unknown),
        (b"\x7fELF".to_vec(), Image::Elf { machine: 0, long: false }),
    ];
    for (head, image) in table {
        assert_eq!(recognise(head), *image, "{:x?}", &head[..head.len().min(8)]);
    }
}
