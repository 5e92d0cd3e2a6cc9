//! The checks of the fuzz targets, on random bytes and on good frames with bytes gone bad.

#[path = "../../fuzz/src/lib.rs"]
pub mod checks;

use crate::arbitrary::{dir_entry, message};
use crate::frames::Message;
use crate::roundtrip::config;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use protocol::Tag;
use protocol::codec::Wire;
use protocol::frame::HEADER;

/// Runs every check; those that are not meant see an unknown opcode, or nonsense.
fn all(data: &[u8]) {
    checks::frame_header(data);
    checks::handshake(data);
    checks::request(data);
    checks::reply(data);
    checks::notice(data);
    checks::listing(data);
    checks::stream(data);
    checks::guest(data);
}

/// A good message as the checks take it: opcode and body.
fn input(message: &Message<'_>) -> Vec<u8> {
    let frame = message.frame(Tag(1));
    [&message.opcode().to_le_bytes(), &frame[HEADER..]].concat()
}

fn any_opcode() -> impl Strategy<Value = u16> {
    prop_oneof![
        0x10..0x62u16,
        0x4001..0x4007u16,
        0xc001..0xc008u16,
        0x8100..0x8110u16,
        0x8200..0x8202u16,
        0x8001..0x8003u16,
        Just(1)
    ]
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn random_bytes_harm_nothing(data in vec(any::<u8>(), 0..600)) {
        all(&data);
    }

    #[test]
    fn random_bodies_harm_nothing(opcode in any_opcode(), body in vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200)) {
        all(&[&opcode.to_le_bytes()[..], &body].concat());
    }

    #[test]
    fn a_changed_byte_of_a_stream_harms_nothing(messages in vec(message(), 1..4), at: Index, to: u8) {
        let frames = messages.iter().flat_map(|message| message.frame(Tag(1)));
        let mut data: Vec<u8> = std::iter::once(to).chain(frames).collect();
        checks::stream(&data);
        let at = 1 + at.index(data.len().min(600) - 1);
        data[at] = to;
        checks::stream(&data);
    }

    #[test]
    fn a_changed_byte_harms_nothing(message in message(), at: Index, to: u8) {
        let mut data = input(&message);
        all(&data);
        let at = at.index(data.len());
        data[at] = to;
        all(&data);
        let mut frame = message.frame(Tag(1));
        let at = at.min(frame.len() - 1);
        frame[at] = to;
        checks::frame_header(&frame);
    }

    #[test]
    fn a_changed_byte_of_a_listing_harms_nothing(entries in vec(dir_entry(), 1..5), at: Index, to: u8) {
        let mut data = Vec::new();
        entries.iter().for_each(|entry| entry.put(&mut data));
        checks::listing(&data);
        let at = at.index(data.len());
        data[at] = to;
        checks::listing(&data);
    }
}
