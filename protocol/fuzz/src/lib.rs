//! What must hold for any bytes: the bodies of the fuzz targets.
//!
//! Each takes bytes as a peer could send them. Nothing may panic, and what decodes must encode to
//! the very same bytes: a value has one encoding. Where a decoder is lenient on purpose, what it
//! made of the bytes must come back unchanged. The tests of `protocol` include this file, so that
//! the checks run on stable Rust as well.

use protocol::codec::Wire;
use protocol::frame::HEADER;
use protocol::guest::{Order, Report};
use protocol::handshake::Handshake;
use protocol::listing::Listing;
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{FrameHeader, Notice, Reply, Request, Tag, limits};

/// Splits input into opcode and body; what is too short is no input.
fn message(data: &[u8]) -> Option<(u16, &[u8])> {
    let (opcode, body) = data.split_first_chunk()?;
    Some((u16::from_le_bytes(*opcode), body))
}

/// Reads a frame header, and the message that its opcode names from what follows.
pub fn frame_header(data: &[u8]) {
    let Some((bytes, body)) = data.split_first_chunk::<HEADER>() else { return };
    let Ok(header) = FrameHeader::decode(bytes) else { return };
    assert!((HEADER..=limits::MAX_FRAME).contains(&header.size));
    assert_eq!(header.body() + HEADER, header.size);
    let mut again = (header.size as u32).to_le_bytes().to_vec();
    again.extend(header.opcode.to_le_bytes());
    again.extend([0; 2]);
    again.extend(header.tag.0.to_le_bytes());
    assert_eq!(again, bytes);

    let body = &body[..body.len().min(header.body())];
    let _ = Handshake::decode(header.opcode, body);
    let _ = Request::decode(header.opcode, body);
    let _ = Reply::decode(header.opcode, body);
    let _ = Notice::decode(header.opcode, body);
}

/// Input: opcode and body of a frame of the handshake.
pub fn handshake(data: &[u8]) {
    let Some((opcode, body)) = message(data) else { return };
    let Ok(decoded) = Handshake::decode(opcode, body) else { return };
    let mut out = Vec::new();
    decoded.encode(&mut out);
    // Bytes and features of a later version are dropped.
    assert!(out.len() - HEADER <= body.len());
    assert_eq!(Handshake::decode(opcode, &out[HEADER..]), Ok(decoded));
}

/// Input: opcode and body of a request.
pub fn request(data: &[u8]) {
    let Some((opcode, body)) = message(data) else { return };
    let Ok((caller, decoded)) = Request::decode(opcode, body) else { return };
    let mut out = Vec::new();
    decoded.encode(Tag(1), &caller, &mut out);
    out.extend_from_slice(decoded.payload());
    assert_eq!(&out[HEADER..], body);
    assert_eq!(decoded.opcode(), opcode);
    assert_eq!(Request::decode(opcode, &out[HEADER..]), Ok((caller, decoded.clone())));
    let _ = (decoded.name(), decoded.modifies(), decoded.is_answered());
    let _ = format!("{decoded:?} {:?}", caller.groups.iter().last());
}

/// Input: opcode and body of a reply.
pub fn reply(data: &[u8]) {
    let Some((opcode, body)) = message(data) else { return };
    let Ok(decoded) = Reply::decode(opcode, body) else { return };
    let mut out = Vec::new();
    decoded.encode(Tag(1), &mut out);
    out.extend_from_slice(decoded.payload());
    // An error number that Linux does not have is read as EIO.
    if !matches!(decoded, Reply::Error { .. }) {
        assert_eq!(&out[HEADER..], body);
    }
    assert_eq!(decoded.opcode(), opcode);
    assert_eq!(Reply::decode(opcode, &out[HEADER..]), Ok(decoded.clone()));
    let _ = format!("{} {decoded:?}", decoded.name());
}

/// Input: opcode and body of a notice.
pub fn notice(data: &[u8]) {
    let Some((opcode, body)) = message(data) else { return };
    let Ok(decoded) = Notice::decode(opcode, body) else { return };
    let mut out = Vec::new();
    decoded.encode(Tag::NONE, &mut out);
    assert_eq!(&out[HEADER..], body);
    assert_eq!(decoded.opcode(), opcode);
    assert_eq!(Notice::decode(opcode, &out[HEADER..]), Ok(decoded.clone()));
    let _ = format!("{} {decoded:?}", decoded.name());
}

/// Input: opcode and body of a frame of the control connection of a VM, from either end.
pub fn guest(data: &[u8]) {
    let Some((opcode, body)) = message(data) else { return };
    let mut out = Vec::new();
    if let Ok(order) = Order::decode(opcode, body) {
        order.encode(&mut out);
        out.extend_from_slice(order.payload());
        assert_eq!(&out[HEADER..], body);
        assert_eq!(Order::decode(opcode, &out[HEADER..]), Ok(order.clone()));
        if let Order::Start(start) = &order {
            let limit = body.len() > limits::MAX_FRAME - HEADER;
            assert_eq!(start.check().is_err(), limit);
        }
        let _ = format!("{order:?}");
    }
    if let Ok(report) = Report::decode(opcode, body) {
        report.encode(&mut out);
        out.extend_from_slice(report.payload());
        // What a later version adds to a hello is dropped.
        assert!(body.starts_with(&out[HEADER..]));
        assert!(out.len() - HEADER == body.len() || matches!(report, Report::Hello { .. }));
        assert_eq!(Report::decode(opcode, &out[HEADER..]), Ok(report.clone()));
        let _ = format!("{report:?}");
    }
}

/// Input: the payload of a listing.
pub fn listing(data: &[u8]) {
    let mut out = Vec::new();
    let mut listing = Listing::new(data);
    for entry in listing.by_ref() {
        let Ok(entry) = entry else { break };
        entry.put(&mut out);
        assert!(entry.cookie != 0 && !entry.name.is_empty());
    }
    assert!(data.starts_with(&out));
    // After the end, or an error, there is nothing more.
    assert_eq!(listing.next(), None);
    let whole: Result<Vec<_>, _> = Listing::new(data).collect();
    assert!(whole.is_err() || out.len() == data.len());
}

/// Input: how many bytes a read gives at most, and a stream.
pub fn stream(data: &[u8]) {
    let Some((chop, mut rest)) = data.split_first() else { return };
    let (chop, whole) = (usize::from(*chop).max(1), rest);
    let read = |buffer: &mut [u8]| -> Result<usize, ()> {
        let (head, tail) = rest.split_at(chop.min(buffer.len()).min(rest.len()));
        buffer[..head.len()].copy_from_slice(head);
        rest = tail;
        Ok(head.len())
    };
    let (mut splitter, mut frame, mut read, mut cut) =
        (Splitter::default(), Frame::default(), read, whole);
    loop {
        match splitter.next(&mut frame, &mut read) {
            Ok(header) => {
                let (this, behind) = cut.split_at(header.size);
                assert_eq!(&this[HEADER..], frame.body());
                cut = behind;
            }
            // Only between two frames is an end no error.
            Err(ReadError::Closed) => break assert!(cut.is_empty()),
            Err(ReadError::Decode(_)) => break assert!(!cut.is_empty()),
            Err(ReadError::Io(())) => unreachable!("reading a slice does not fail"),
        }
    }
}
