//! The first exchange on every connection.
//!
//! ```text
//! agent                                   server
//!   | Hello (highest version, features)     |
//!   | ------------------------------------> |
//!   |    Welcome (version, features, limits)|
//!   | <------------------------------------ |   or Refuse (why), and the server hangs up
//!   | Attach, Lookup, …                     |
//! ```
//!
//! The version spoken is the one in [`Welcome`]: the highest that both know. Features are those
//! that both announced. Nothing else may be sent before [`Welcome`] has arrived. All three frames
//! carry [`Tag::NONE`]; their opcodes are `0x0001` (Hello), `0x8001` (Welcome) and `0x8002` (Refuse).
//! They are the same in every version, but for fields that a later one may add at the end: whoever
//! reads a handshake ignores bytes behind the fields that it knows, and feature bits that it does
//! not know.
//!
//! A server that gets another first frame, or another [`MAGIC`], answers
//! [`RefuseReason::NotHello`]. An agent hangs up if the version, or a feature that it can not do
//! without, is not what it asked for. Either end may give up on a peer that does not finish the
//! handshake in a time of its choice.

use crate::attr::Time;
use crate::codec::{DecodeError, Payload, Reader, Text, Wire, wire_number, wire_struct};
use crate::{Tag, frame};
use bitflags::bitflags;

/// The version that this crate describes.
pub const VERSION: u16 = 1;
/// The lowest version that this crate can still speak.
pub const MIN_VERSION: u16 = 1;
/// Begins every [`Hello`], so that a stranger on the socket is told apart. Little-endian as any
/// integer, so the eight bytes on the wire are `sfxso` in ASCII and three zeros. [`Handshake::decode`]
/// takes any value: it is for the server to compare, and to refuse.
pub const MAGIC: u64 = u64::from_be_bytes(*b"\0\0\0osxfs");

bitflags! {
    /// What an end can do beyond the common ground of version 1; a `u64`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Features: u64 {
        /// The server sends [`Notice::Changes`](crate::Notice::Changes).
        const CHANGES = 1;
        /// The server keeps locks among its agents.
        const LOCKS = 1 << 1;
    }
}

impl<'a> Wire<'a> for Features {
    fn put(&self, out: &mut Vec<u8>) {
        self.bits().put(out);
    }
    /// Bits of a later version are dropped: the other end learns from the answer that we lack them.
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        u64::get(from).map(Self::from_bits_truncate)
    }
}

wire_number! {enum
    /// Why a server declines a connection.
    RefuseReason: u16 {
        /// No common version.
        Version = 1,
        /// The first frame was no [`Hello`].
        NotHello = 2,
        /// The server serves as many agents as it may.
        Busy = 3,
        /// The peer is not a user that may connect.
        Denied = 4,
    }
}

/// A number for a running kernel, from what Linux says in `/proc/sys/kernel/random/boot_id`: a UUID.
/// 0 if it is none.
pub fn machine(boot_id: &str) -> u64 {
    let digits: String = boot_id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or_default()
}

wire_struct! {
    /// The agent's first frame.
    Hello<'a> {
        /// [`MAGIC`].
        magic: u64,
        /// The lowest version that the agent speaks.
        min_version: u16,
        /// The highest version that the agent speaks.
        version: u16,
        /// What the agent can do.
        features: Features,
        /// Who it is, for logs and `osxfs status`: `osxfs-agent/0.1.0 on name`.
        name: Text<'a>,
        /// What [`machine`] says of the kernel that the agent runs on; 0 if it does not know.
        machine: u64,
    }

    /// The server's answer if it takes the connection.
    Welcome<'a> {
        /// The version to speak.
        version: u16,
        /// What both can do: never more than the agent announced.
        features: Features,
        /// Largest frame in bytes that the server takes, at most [`MAX_FRAME`](crate::limits::MAX_FRAME).
        /// The agent cuts its writes accordingly. It takes frames of `MAX_FRAME` itself.
        max_frame: u32,
        /// Most requests in flight, at most [`MAX_IN_FLIGHT`](crate::limits::MAX_IN_FLIGHT).
        max_in_flight: u32,
        /// Files and directories that this agent may hold open at once; beyond it `EMFILE`.
        max_handles: u32,
        /// Who the server is.
        name: Text<'a>,
        /// What the server's clock says: that by which times of its files are set.
        now: Time,
    }

    /// The server's answer if it does not. It hangs up after it.
    Refuse<'a> {
        /// Why.
        reason: RefuseReason,
        /// The lowest version that the server speaks.
        min_version: u16,
        /// The highest version that the server speaks.
        version: u16,
        /// A sentence for people.
        text: Text<'a>,
    }
}

/// The frames of the handshake. Their tag is [`Tag::NONE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handshake<'a> {
    /// Agent to server.
    Hello(Hello<'a>),
    /// Server to agent.
    Welcome(Welcome<'a>),
    /// Server to agent.
    Refuse(Refuse<'a>),
}

impl<'a> Handshake<'a> {
    const HELLO: u16 = 0x0001;
    const WELCOME: u16 = 0x8001;
    const REFUSE: u16 = 0x8002;

    /// Writes the whole frame into `out`, which is cleared first.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let opcode = match self {
            Self::Hello(_) => Self::HELLO,
            Self::Welcome(_) => Self::WELCOME,
            Self::Refuse(_) => Self::REFUSE,
        };
        frame::write(out, opcode, Tag::NONE, 0, |out| match self {
            Self::Hello(hello) => hello.put(out),
            Self::Welcome(welcome) => welcome.put(out),
            Self::Refuse(refuse) => refuse.put(out),
        });
    }

    /// Reads the body of a frame with this opcode.
    ///
    /// Trailing bytes are allowed here, and only here: a later version may have more to say.
    ///
    /// # Errors
    /// [`DecodeError::UnknownOpcode`] for any other message, and whatever the fields hold wrong.
    pub fn decode(opcode: u16, body: &'a [u8]) -> Result<Self, DecodeError> {
        let from = &mut Reader::new(body);
        let message = match opcode {
            Self::HELLO => Self::Hello(Hello::get(from)?),
            Self::WELCOME => Self::Welcome(Welcome::get(from)?),
            Self::REFUSE => Self::Refuse(Refuse::get(from)?),
            other => return Err(DecodeError::UnknownOpcode(other)),
        };
        Payload::get(from)?;
        Ok(message)
    }
}

/// The version to speak with an agent that offers `min..=max`, if there is one.
pub fn agree(min: u16, max: u16) -> Option<u16> {
    let version = max.min(VERSION);
    (version >= min.max(MIN_VERSION)).then_some(version)
}
