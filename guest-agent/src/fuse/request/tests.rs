//! Tests of parsing: what the kernel really sends, and what it never should.

use super::*;
use proptest::prelude::*;
use zerocopy::IntoBytes;

fn header(opcode: u32, len: usize) -> abi::InHeader {
    abi::InHeader { len: len as u32, opcode, unique: 8, nodeid: 1, ..Default::default() }
}

fn message(opcode: u32, body: &[u8]) -> Vec<u8> {
    let len = size_of::<abi::InHeader>() + body.len();
    [header(opcode, len).as_bytes(), body].concat()
}

fn parse_error(bytes: &[u8]) -> Malformed {
    Request::parse(bytes, Dialect::default()).unwrap_err()
}

#[test]
fn names_are_checked_before_anybody_sees_them() {
    let long = [b"x".repeat(256), vec![0]].concat();
    let lookup = |name: &[u8]| parse_error(&message(opcode::LOOKUP, name)).errno;
    assert_eq!(lookup(&long), Errno::ENAMETOOLONG);
    assert_eq!(lookup(b"no end"), Errno::EIO);
    for bad in [&b"\0"[..], b".\0", b"..\0", b"a/b\0"] {
        assert_eq!(lookup(bad), Errno::EINVAL);
    }
    let good = message(opcode::LOOKUP, &[b"x".repeat(255), vec![0]].concat());
    assert!(Request::parse(&good, Dialect::default()).is_ok());
}

#[test]
fn a_write_carries_exactly_the_bytes_it_announces() {
    let write = |size, data: &[u8]| {
        let head = abi::WriteIn { fh: 3, offset: 7, size, ..Default::default() };
        message(opcode::WRITE, &[head.as_bytes(), data].concat())
    };
    let bytes = write(5, b"hello");
    match Request::parse(&bytes, Dialect::default()).unwrap().operation {
        Operation::Write { handle: 3, offset: 7, data: b"hello", .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(parse_error(&write(6, b"hello")).errno, Errno::EIO);
    assert_eq!(parse_error(&write(u32::MAX, b"hello")).errno, Errno::EIO);
}

#[test]
fn the_header_of_setxattr_depends_on_what_was_agreed() {
    let short = abi::CompatSetxattrIn { size: 1, flags: 2 };
    let long = abi::SetxattrIn { size: 1, flags: 2, setxattr_flags: 1, padding: 0 };
    for (ext, head) in [(false, short.as_bytes()), (true, long.as_bytes())] {
        let bytes = message(opcode::SETXATTR, &[head, b"user.a\0v"].concat());
        match Request::parse(&bytes, Dialect { setxattr_ext: ext }).unwrap().operation {
            Operation::SetXattr { value: b"v", flags: 2, kill_sgid, .. } => {
                assert_eq!(kill_sgid, ext);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn extensions_behind_a_request_are_not_taken_for_names() {
    let mut bytes = message(opcode::RENAME2, &[0; 16]);
    bytes.extend_from_slice(b"old\0new\0");
    bytes.extend_from_slice(&[0xff; 16]);
    let len = bytes.len();
    bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
    bytes[36..38].copy_from_slice(&2u16.to_ne_bytes());
    match Request::parse(&bytes, Dialect::default()).unwrap().operation {
        Operation::Rename { name, new_name, .. } => {
            assert_eq!((name.as_bytes(), new_name.as_bytes()), (&b"old"[..], &b"new"[..]));
        }
        other => panic!("{other:?}"),
    }
    bytes[36..38].copy_from_slice(&u16::MAX.to_ne_bytes());
    assert_eq!(parse_error(&bytes).errno, Errno::EIO);
}

#[test]
fn what_is_not_served_is_refused_with_the_errno_that_the_kernel_expects() {
    for (opcode, errno) in [
        (opcode::IOCTL, Errno::ENOTTY),
        (opcode::POLL, Errno::ENOSYS),
        (opcode::BMAP, Errno::ENOSYS),
        (9999, Errno::ENOSYS),
    ] {
        let bytes = message(opcode, &[]);
        match Request::parse(&bytes, Dialect::default()).unwrap().operation {
            Operation::Refused { errno: got } => assert_eq!(got, errno),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_request_that_wants_no_answer_gets_none_even_if_it_is_malformed() {
    assert_eq!(parse_error(&message(opcode::FORGET, &[0; 3])).unique, None);
    assert_eq!(parse_error(&message(opcode::GETATTR, &[0; 3])).unique, Some(8));
    assert_eq!(parse_error(&[0; 39]).unique, None);
}

/// Where the machine has the kernel's header, its numbers are compared with ours.
#[test]
fn opcodes_are_those_of_the_kernel_header() {
    let Ok(text) = std::fs::read_to_string("/usr/include/linux/fuse.h") else { return };
    let opcodes = text.split_once("enum fuse_opcode {").and_then(|(_, rest)| rest.split_once("};"));
    let (opcodes, _) = opcodes.unwrap();
    let mut compared = 0;
    for line in opcodes.lines() {
        let Some((name, number)) = line.split_once('=') else { continue };
        let Some(name) = name.trim().strip_prefix("FUSE_") else { continue };
        let digits: String = number.trim().chars().take_while(char::is_ascii_digit).collect();
        let number: u32 = digits.parse().unwrap();
        if number < 4096 {
            assert_eq!(opcode::name(number), name);
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared}");
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), ext: bool) {
        let _ = Request::parse(&bytes, Dialect { setxattr_ext: ext });
    }

    #[test]
    fn garbage_behind_any_header_never_panics(
        opcode in 0u32..60,
        body in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..200),
        ext: bool,
    ) {
        let bytes = message(opcode, &body);
        if let Ok(request) = Request::parse(&bytes, Dialect { setxattr_ext: ext }) {
            if let Operation::BatchForget { items } = &request.operation {
                prop_assert!(items.iter().count() <= body.len() / 16);
            }
            prop_assert_eq!(request.unique(), 8);
        }
    }

    #[test]
    fn every_truncation_is_refused(cut in 0usize..88) {
        let whole = message(opcode::SETATTR, &[1; 88]);
        prop_assert!(Request::parse(&whole, Dialect::default()).is_ok());
        prop_assert!(Request::parse(&whole[..40 + cut], Dialect::default()).is_err());
    }
}
