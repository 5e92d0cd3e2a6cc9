//! Frames that are cut, lengthened, of no known kind, or that lie about their counts.

use crate::arbitrary::{dir_entry, message};
use crate::frames::{CALLER, Message, split};
use crate::roundtrip::config;
use proptest::prelude::*;
use protocol::codec::Wire;
use protocol::frame::HEADER;
use protocol::handshake::Handshake;
use protocol::listing::Listing;
use protocol::{
    Change, DecodeError, Entry, ForgetOne, FrameHeader, HandleId, Name, NodeId, Notice, Reply,
    Request, Tag, limits,
};

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn a_message_cut_at_any_byte_of_its_fields_is_truncated(message in message()) {
        let head = message.head(Tag(7));
        for cut in HEADER..head.len() {
            let decoded = message.decode_like(message.opcode(), &head[HEADER..cut]);
            prop_assert_eq!(decoded, Err(DecodeError::Truncated), "cut at {}", cut);
        }
    }

    #[test]
    fn bytes_behind_the_last_field_are_named(message in message(), extra in 1..20usize) {
        let mut frame = message.frame(Tag(7));
        frame.extend(std::iter::repeat_n(0x55, extra));
        let decoded = message.decode_like(message.opcode(), &frame[HEADER..]);
        match &message {
            // The payload is whatever is there; a handshake may have more to say in later versions.
            _ if message.has_payload() => prop_assert!(decoded.is_ok()),
            Message::Handshake(_) => prop_assert_eq!(decoded.as_ref(), Ok(&message)),
            _ => prop_assert_eq!(decoded, Err(DecodeError::Trailing(extra))),
        }
    }

    #[test]
    fn a_listing_cut_inside_an_entry_ends_with_an_error(entry in dir_entry(), cut: prop::sample::Index) {
        let mut out = Vec::new();
        entry.put(&mut out);
        let whole = out.len();
        entry.put(&mut out);
        let cut = whole + 1 + cut.index(whole - 1);
        let mut listing = Listing::new(&out[..cut]);
        prop_assert_eq!(listing.next(), Some(Ok(entry)));
        prop_assert_eq!(listing.next(), Some(Err(DecodeError::Truncated)));
        prop_assert_eq!(listing.next(), None);
    }
}

#[test]
fn an_opcode_of_another_direction_or_of_none_is_unknown() {
    const ZEROS: &[u8] = &[0; 64];
    let unknown = |op| Err(DecodeError::UnknownOpcode(op));
    for op in [0u16, 0x0001, 0x000f, 0x0070, 0x7fff, 0x8001, 0x8100, 0x8200, 0xffff] {
        assert_eq!(Request::decode(op, ZEROS).map(|_| ()), unknown(op));
    }
    for op in [0u16, 0x0010, 0x8000, 0x80ff, 0x81f0, 0x8200, 0xffff] {
        assert_eq!(Reply::decode(op, ZEROS).map(|_| ()), unknown(op));
    }
    for op in [0u16, 0x0010, 0x8100, 0x81ff, 0x8203, 0xffff] {
        assert_eq!(Notice::decode(op, ZEROS).map(|_| ()), unknown(op));
    }
    for op in [0u16, 2, 0x0010, 0x8000, 0x8003, 0x8100, 0xffff] {
        assert_eq!(Handshake::decode(op, ZEROS).map(|_| ()), unknown(op));
    }
}

#[test]
fn a_header_with_reserved_bits_is_refused() {
    let mut frame = Message::Reply(Reply::Done).frame(Tag(1));
    assert_eq!(split(&frame).0.size, HEADER);
    frame[7] = 1;
    let error = DecodeError::UnknownValue { field: "reserved", value: 0x100 };
    assert_eq!(FrameHeader::decode(frame.first_chunk().expect("a header")), Err(error));
}

#[test]
fn values_that_do_not_exist_are_named() {
    let body = |fields: &[&[u8]]| [&[0; CALLER][..], &fields.concat()[..]].concat();
    let (node, flags) = ([9; 8], |bits: u32| bits.to_le_bytes());
    let requests: &[(u16, Vec<u8>, &str, u64)] = &[
        (0x30, body(&[&node, &flags(0o100)]), "OpenFlags", 0o100),
        (0x2c, body(&[&node, &flags(8)]), "AccessMask", 8),
        (0x38, body(&[&node, &node, &node, &flags(4)]), "FallocateMode", 4),
        (0x39, body(&[&node, &node, &[2]]), "Whence", 2),
        (0x37, body(&[&node, &[2]]), "boolean", 2),
        (0x23, body(&[&node, &[0xff]]), "boolean", 0xff),
        (0x60, body(&[&node, &[2]]), "LockFamily", 2),
        (0x60, body(&[&node, &[0, 3]]), "LockKind", 3),
    ];
    for (op, body, field, value) in requests {
        let error = DecodeError::UnknownValue { field, value: *value };
        assert_eq!(Request::decode(*op, body), Err(error));
    }
    let change = [&[0; 10][..], &1u32.to_le_bytes(), &[8]].concat();
    let error = DecodeError::UnknownValue { field: "change", value: 8 };
    assert_eq!(Notice::decode(0x8200, &change), Err(error));
    let entry = [&[0; 17][..], &[1, 0, b'x', 0]].concat();
    let error = DecodeError::UnknownValue { field: "cookie", value: 0 };
    assert_eq!(Listing::new(&entry).next(), Some(Err(error)));
}

/// A list grows item by item as they are decoded, so what it may take is bounded twice: by the
/// bytes that came, and by the limit.
#[test]
fn memory_for_lists_is_bounded() {
    let lists = [
        ("components", limits::MAX_WALK * size_of::<Name<'_>>()),
        ("nodes to forget", limits::MAX_FORGET * size_of::<ForgetOne>()),
        ("handles to close", limits::MAX_CLOSE * size_of::<HandleId>()),
        ("watched directories", limits::MAX_WATCHED * size_of::<NodeId>()),
        ("entries", limits::MAX_WALK * size_of::<Entry>()),
        ("changes", limits::MAX_CHANGES * size_of::<Change<'_>>()),
    ];
    for (what, bytes) in lists {
        assert!(bytes <= 128 * 1024, "{what} may take {bytes} bytes");
    }
    // The highest count that passes, and one item: fails for want of bytes, having kept one item.
    let frame = [&[0; CALLER][..], &(limits::MAX_FORGET as u32).to_le_bytes(), &[1; 16]].concat();
    assert_eq!(Request::decode(0x12, &frame), Err(DecodeError::Truncated));
    let one = [&[0; CALLER][..], &1u32.to_le_bytes(), &[1; 16]].concat();
    let Ok((_, Request::Forget { nodes })) = Request::decode(0x12, &one) else {
        panic!("a good frame");
    };
    assert!(nodes.0.capacity() <= 8, "capacity {} for one item", nodes.0.capacity());
}
