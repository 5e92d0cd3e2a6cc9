//! Whole frames, as they stand on a stream, from and to messages.

use protocol::frame::HEADER;
use protocol::handshake::Handshake;
use protocol::{Caller, DecodeError, FrameHeader, Notice, Reply, Request, Tag};

/// Bytes of a caller without groups and processor.
pub const CALLER: usize = 17;

/// Any message that fills a frame of its own.
#[derive(Clone, PartialEq, Debug)]
pub enum Message<'a> {
    Handshake(Handshake<'a>),
    Request(Caller<'a>, Request<'a>),
    Reply(Reply<'a>),
    Notice(Notice<'a>),
}

impl<'a> Message<'a> {
    pub fn opcode(&self) -> u16 {
        match self {
            Self::Handshake(Handshake::Hello(_)) => 0x0001,
            Self::Handshake(Handshake::Welcome(_)) => 0x8001,
            Self::Handshake(Handshake::Refuse(_)) => 0x8002,
            Self::Request(_, request) => request.opcode(),
            Self::Reply(reply) => reply.opcode(),
            Self::Notice(notice) => notice.opcode(),
        }
    }

    pub fn payload(&self) -> &'a [u8] {
        match self {
            Self::Handshake(_) => &[],
            Self::Request(_, request) => request.payload(),
            Self::Reply(reply) => reply.payload(),
            Self::Notice(notice) => notice.payload(),
        }
    }

    /// Whether the last field is the rest of the frame, so that any length of it is right.
    pub fn has_payload(&self) -> bool {
        matches!(
            self,
            Self::Request(_, Request::Write { .. })
                | Self::Reply(
                    Reply::Data { .. }
                        | Reply::Listing { .. }
                        | Reply::OpenedRead { .. }
                        | Reply::Listed { .. }
                )
        )
    }

    /// Header and fields, without the payload.
    pub fn head(&self, tag: Tag) -> Vec<u8> {
        // Not empty, for `encode` has to clear it.
        let mut out = b"left over".to_vec();
        match self {
            Self::Handshake(handshake) => handshake.encode(&mut out),
            Self::Request(caller, request) => request.encode(tag, caller, &mut out),
            Self::Reply(reply) => reply.encode(tag, &mut out),
            Self::Notice(notice) => notice.encode(tag, &mut out),
        }
        out
    }

    /// The frame as it stands on a stream.
    pub fn frame(&self, tag: Tag) -> Vec<u8> {
        let mut frame = self.head(tag);
        frame.extend_from_slice(self.payload());
        frame
    }

    /// Reads a body by the decoder of this message's kind.
    pub fn decode_like<'b>(&self, opcode: u16, body: &'b [u8]) -> Result<Message<'b>, DecodeError> {
        Ok(match self {
            Self::Handshake(_) => Message::Handshake(Handshake::decode(opcode, body)?),
            Self::Request(..) => {
                let (caller, request) = Request::decode(opcode, body)?;
                Message::Request(caller, request)
            }
            Self::Reply(_) => Message::Reply(Reply::decode(opcode, body)?),
            Self::Notice(_) => Message::Notice(Notice::decode(opcode, body)?),
        })
    }
}

/// Cuts a frame into its decoded header and its body.
pub fn split(frame: &[u8]) -> (FrameHeader, &[u8]) {
    let (header, body) = frame.split_first_chunk::<HEADER>().expect("a whole header");
    (FrameHeader::decode(header).expect("a good header"), body)
}
