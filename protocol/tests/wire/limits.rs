//! Each limit: reached it is fine, exceeded by one it is named.

use crate::frames::{CALLER, Message, split};
use protocol::codec::Wire;
use protocol::frame::HEADER;
use protocol::handshake::Handshake;
use protocol::limits::{self, MAX_FRAME};
use protocol::{
    Attachment, Caller, Change, Changes, DecodeError, Directories, Entries, Entry, ForgetList,
    ForgetOne, FrameHeader, Groups, HandleId, Handles, Name, Names, NodeId, Notice, Payload, Place,
    Reply, Request, Tag, Target, Text,
};

/// A decoder, an opcode, what stands in front of the counted bytes, and what is counted.
type Case = (fn(u16, &[u8]) -> Result<(), DecodeError>, u16, usize, &'static str, usize);

fn request(opcode: u16, body: &[u8]) -> Result<(), DecodeError> {
    Request::decode(opcode, body).map(|_| ())
}
fn reply(opcode: u16, body: &[u8]) -> Result<(), DecodeError> {
    Reply::decode(opcode, body).map(|_| ())
}
fn handshake(opcode: u16, body: &[u8]) -> Result<(), DecodeError> {
    Handshake::decode(opcode, body).map(|_| ())
}

#[test]
fn byte_strings_end_at_their_limit() {
    let cases: &[Case] = &[
        (request, 0x10, CALLER, "export name", limits::MAX_EXPORT_NAME),
        (request, 0x20, CALLER + 8, "name", limits::MAX_NAME),
        (request, 0x50, CALLER + 8, "extended attribute name", limits::MAX_XATTR_NAME),
        (reply, 0x8107, 0, "symbolic link target", limits::MAX_TARGET),
        (handshake, 0x0001, 20, "text", limits::MAX_TEXT),
        (handshake, 0x8001, 22, "text", limits::MAX_TEXT),
        (handshake, 0x8002, 6, "text", limits::MAX_TEXT),
    ];
    for &(decode, opcode, before, what, limit) in cases {
        let body = |len: usize| {
            let mut body = vec![0; before];
            if opcode == 0x8002 {
                body[0] = 1; // a reason that exists
            }
            body.extend((len as u32).to_le_bytes());
            body.extend(vec![b'x'; len]);
            match opcode {
                0x0001 => body.extend([0; 8]),  // the machine
                0x8001 => body.extend([0; 12]), // the clock
                _ => {}
            }
            body
        };
        assert_eq!(decode(opcode, &body(limit)), Ok(()), "{what}");
        let error = DecodeError::Limit { what, got: limit + 1, limit };
        assert_eq!(decode(opcode, &body(limit + 1)), Err(error));
        // The length is judged before the bytes are there, and whatever it claims.
        let hostile = [&body(0)[..before], &u32::MAX.to_le_bytes()].concat();
        let error = DecodeError::Limit { what, got: u32::MAX as usize, limit };
        assert_eq!(decode(opcode, &hostile), Err(error));
    }
    let value = |len: usize| {
        let mut body = vec![0; CALLER + 8];
        [&1u32.to_le_bytes()[..], b"x", &(len as u32).to_le_bytes(), &vec![0; len], &[0; 4]]
            .iter()
            .for_each(|part| body.extend_from_slice(part));
        request(0x52, &body)
    };
    let (what, limit) = ("extended attribute value", limits::MAX_XATTR_VALUE);
    assert_eq!(value(limit), Ok(()));
    assert_eq!(value(limit + 1), Err(DecodeError::Limit { what, got: limit + 1, limit }));
}

/// Encodes and decodes again.
fn through(message: &Message<'_>) -> Result<(), DecodeError> {
    let frame = message.frame(Tag::NONE);
    message.decode_like(message.opcode(), &frame[HEADER..]).map(|_| ())
}

#[test]
fn lists_and_payloads_end_at_their_limit() {
    static PAYLOAD: [u8; limits::MAX_PAYLOAD + 1] = [0; limits::MAX_PAYLOAD + 1];
    let name = Name::new(b"x").expect("valid");
    let (node, caller) = (NodeId(1), Caller::default());
    let check = |what: &'static str, limit: usize, make: &dyn Fn(usize) -> Message<'static>| {
        assert_eq!(through(&make(limit)), Ok(()), "{what}");
        let error = DecodeError::Limit { what, got: limit + 1, limit };
        assert_eq!(through(&make(limit + 1)), Err(error));
    };
    check("components", limits::MAX_WALK, &|n| {
        Message::Request(caller, Request::Walk { base: node, names: Names(vec![name; n]) })
    });
    check("nodes to forget", limits::MAX_FORGET, &|n| {
        let nodes = ForgetList(vec![ForgetOne { node, count: 1 }; n]);
        Message::Request(caller, Request::Forget { nodes })
    });
    check("handles to close", limits::MAX_CLOSE, &|n| {
        let handles = Handles(vec![HandleId(1); n]);
        Message::Request(caller, Request::Close { handles })
    });
    check("watched directories", limits::MAX_WATCHED, &|n| {
        let dirs = Directories(vec![node; n]);
        Message::Request(caller, Request::Watched { attachment: Attachment(0), dirs })
    });
    check("entries", limits::MAX_WALK, &|n| {
        Message::Reply(Reply::Walked { entries: Entries(vec![Entry::default(); n]) })
    });
    check("changes", limits::MAX_CHANGES, &|n| {
        let changes = Changes(vec![Change::Doubt { dir: node }; n]);
        Message::Notice(Notice::Changes { attachment: Attachment(0), seq: 1, changes })
    });
    check("payload", limits::MAX_PAYLOAD, &|n| {
        let data = Payload(&PAYLOAD[..n]);
        Message::Request(caller, Request::Write { handle: HandleId(1), offset: 0, data })
    });
    check("payload", limits::MAX_PAYLOAD, &|n| {
        Message::Reply(Reply::Data { data: Payload(&PAYLOAD[..n]) })
    });
    check("payload", limits::MAX_PAYLOAD, &|n| {
        Message::Reply(Reply::Listing { data: Payload(&PAYLOAD[..n]) })
    });
}

#[test]
fn groups_end_at_their_limit() {
    let (what, limit) = ("groups", limits::MAX_GROUPS);
    let bytes = vec![0; (limit + 1) * 4];
    let error = DecodeError::Limit { what, got: limit + 1, limit };
    assert!(Groups::from_bytes(&bytes[..limit * 4]).is_ok());
    assert_eq!(Groups::from_bytes(&bytes), Err(error));
    assert_eq!(Groups::from_bytes(&bytes[..5]), Err(DecodeError::Truncated));

    let mut body = vec![0; 12];
    body.extend((limit as u32 + 1).to_le_bytes());
    body.extend(&bytes);
    assert_eq!(request(0x22, &body), Err(error));
}

#[test]
fn frames_end_at_their_limit() {
    let header = |size: usize| {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&(size as u32).to_le_bytes());
        FrameHeader::decode(&bytes).map(|header| header.size)
    };
    assert_eq!(header(HEADER), Ok(HEADER));
    assert_eq!(header(MAX_FRAME), Ok(MAX_FRAME));
    for size in [0, HEADER - 1, MAX_FRAME + 1, u32::MAX as usize] {
        assert_eq!(header(size), Err(DecodeError::FrameSize(size as u32)));
    }
}

/// Whoever keeps to the other limits need not think of this one.
#[test]
fn the_largest_messages_fit_a_frame() {
    let (name, target) = ([b'x'; limits::MAX_NAME], [b'x'; limits::MAX_TARGET]);
    let name = Name::new(&name).expect("valid");
    let at = Place { parent: NodeId(1), name };
    let created = Change::Created {
        at,
        entry: Entry::default(),
        target: Some(Target::new(&target).expect("valid")),
        moved: false,
    };
    let changes = Changes(vec![created; limits::MAX_CHANGES]);
    let groups = [0; limits::MAX_GROUPS * 4];
    let groups = Groups::from_bytes(&groups).expect("valid");
    let caller = Caller { groups, ..Caller::default() };
    let payload = vec![0; limits::MAX_PAYLOAD];
    let nodes = ForgetList(vec![ForgetOne { node: NodeId(1), count: 1 }; limits::MAX_FORGET]);
    let largest = [
        Message::Notice(Notice::Changes { attachment: Attachment(0), seq: 1, changes }),
        Message::Request(
            caller,
            Request::Write { handle: HandleId(1), offset: 0, data: Payload(&payload) },
        ),
        Message::Request(caller, Request::Forget { nodes }),
        Message::Request(
            caller,
            Request::Walk { base: NodeId(1), names: Names(vec![name; limits::MAX_WALK]) },
        ),
        Message::Reply(Reply::Listing { data: Payload(&payload) }),
    ];
    for message in largest {
        let frame = message.frame(Tag::NONE);
        let (header, body) = split(&frame);
        assert_eq!(message.decode_like(header.opcode, body), Ok(message));
    }
}

#[test]
fn text_is_cut_at_a_character() {
    let long = "ä".repeat(limits::MAX_TEXT);
    let mut out = Vec::new();
    Text(&long[..limits::MAX_TEXT - 2]).put(&mut out);
    assert_eq!(out.len(), 4 + limits::MAX_TEXT - 2);
    let odd = format!("x{long}");
    out.clear();
    Text(&odd).put(&mut out);
    assert_eq!(out.len(), 4 + limits::MAX_TEXT - 1);
    let bad = [&[0; 20][..], &2u32.to_le_bytes(), &[0xc3, 0x28]].concat();
    assert_eq!(handshake(0x0001, &bad), Err(DecodeError::BadText));
}
