//! What is encoded comes back.

use crate::arbitrary::{dir_entry, message, messages, notices, replies, requests};
use crate::frames::{Message, split};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use protocol::codec::{Reader, Wire};
use protocol::frame::HEADER;
use protocol::handshake::Handshake;
use protocol::listing::{self, DirEntry, Listing};
use protocol::{DecodeError, Errno, FrameHeader, Notice, Reply, Request, Tag};
use std::collections::BTreeSet;

/// Few cases for each of many variants; failures stand in the output, not in files.
pub fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn every_message_comes_back_from_its_frame() {
    for (name, strategy) in messages() {
        let run = |(message, tag): (Message<'static>, u32)| {
            let tag = if matches!(message, Message::Handshake(_)) { Tag::NONE } else { Tag(tag) };
            let frame = message.frame(tag);
            let (header, body) = split(&frame);
            let expected = FrameHeader { size: frame.len(), opcode: message.opcode(), tag };
            prop_assert_eq!(header, expected, "{}", name);
            prop_assert_eq!(header.body(), body.len());
            prop_assert_eq!(message.decode_like(header.opcode, body), Ok(message.clone()));
            Ok(())
        };
        let strategy = (strategy, any::<u32>());
        TestRunner::new(config(32)).run(&strategy, run).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// A new message has to come with a strategy, and with it falls under all tests here.
#[test]
fn every_opcode_has_a_strategy() {
    fn known<T>(decode: impl Fn(u16, &'static [u8]) -> Result<T, DecodeError>) -> BTreeSet<u16> {
        const ZEROS: &[u8] = &[0; 512];
        (0..=u16::MAX)
            .filter(|op| !matches!(decode(*op, ZEROS), Err(DecodeError::UnknownOpcode(_))))
            .collect()
    }
    fn generated<T: std::fmt::Debug>(
        variants: crate::arbitrary::Variants<T>,
        opcode: impl Fn(&T) -> u16,
    ) -> BTreeSet<u16> {
        let mut runner = TestRunner::deterministic();
        let mut sample = |strategy: BoxedStrategy<T>| {
            let tree = strategy.new_tree(&mut runner).expect("no rejections");
            opcode(&proptest::strategy::ValueTree::current(&tree))
        };
        variants.into_iter().map(|(_, strategy)| sample(strategy)).collect()
    }
    assert_eq!(known(Request::decode), generated(requests(), Request::opcode));
    assert_eq!(known(Reply::decode), generated(replies(), Reply::opcode));
    assert_eq!(known(Notice::decode), generated(notices(), Notice::opcode));
    assert_eq!(known(Handshake::decode), BTreeSet::from([0x0001, 0x8001, 0x8002]));
}

#[test]
fn an_error_number_that_linux_does_not_have_is_eio() {
    for raw in [0u32, 4096, u32::MAX, 1 << 31] {
        let body = raw.to_le_bytes();
        let reply = Reply::decode(0x8100, &body);
        assert_eq!(reply, Ok(Reply::Error { errno: Errno::EIO }));
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn messages_follow_each_other_on_a_stream(messages in prop::collection::vec(message(), 1..8)) {
        let stream: Vec<u8> =
            messages.iter().flat_map(|message| message.frame(Tag::NONE)).collect();
        let mut rest = &stream[..];
        for message in &messages {
            let header = FrameHeader::decode(rest.first_chunk().expect("a header"));
            let (frame, behind) = rest.split_at(header.expect("a good header").size);
            let (header, body) = split(frame);
            prop_assert_eq!(&message.decode_like(header.opcode, body)?, message);
            rest = behind;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn every_frame_header_comes_back(size in HEADER..=protocol::limits::MAX_FRAME, opcode: u16, tag: u32) {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&(size as u32).to_le_bytes());
        bytes[4..6].copy_from_slice(&opcode.to_le_bytes());
        bytes[8..].copy_from_slice(&tag.to_le_bytes());
        prop_assert_eq!(FrameHeader::decode(&bytes), Ok(FrameHeader { size, opcode, tag: Tag(tag) }));
    }

    #[test]
    fn a_listing_holds_what_fits_and_nothing_else(
        entries in prop::collection::vec(dir_entry(), 0..20),
        size in 0..4000usize,
    ) {
        let mut out = Vec::new();
        let fitting = entries.iter().take_while(|entry| listing::push(&mut out, size, entry)).count();
        prop_assert!(out.len() <= size);
        let back: Result<Vec<DirEntry<'_>>, _> = Listing::new(&out).collect();
        prop_assert_eq!(back.as_deref(), Ok(&entries[..fitting]));
        if let Some(next) = entries.get(fitting) {
            let mut alone = Vec::new();
            next.put(&mut alone);
            prop_assert!(out.len() + alone.len() > size);
        }
    }

    #[test]
    fn a_directory_entry_comes_back(entry in dir_entry()) {
        let mut out = Vec::new();
        entry.put(&mut out);
        let mut reader = Reader::new(&out);
        prop_assert_eq!(DirEntry::get(&mut reader), Ok(entry));
        prop_assert!(reader.is_empty());
    }
}
