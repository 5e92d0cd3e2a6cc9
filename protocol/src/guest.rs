//! The control connection of a VM: how the monitor tells the agent, where it is the guest's first
//! process (init), what to mount and to run, and how it hears of it. It is no part of the file
//! protocol, which has a connection of its own; it borrows its [codec](crate::codec) and its
//! [frames](crate::frame).
//!
//! ```text
//! init                                     monitor
//!   | Hello (versions)                       |   init connects to port CONTROL_PORT of the host
//!   | -------------------------------------> |
//!   |   Start (mounts, command, time, …)     |   the shares come from port FILES_PORT
//!   | <------------------------------------- |
//!   | Ready                                  |   everything is mounted; the command starts
//!   | -------------------------------------> |
//!   |   Stdin, Resize, Signal, Time          |
//!   | <------------------------------------- |
//!   | Stdout, Stderr, Taken                  |
//!   | -------------------------------------> |
//!   | Exited, and the guest powers off       |
//!   | -------------------------------------> |
//! ```
//!
//! All frames carry [`Tag::NONE`]. [`Start`] tells the version that is spoken, the highest that both
//! know; a monitor that knows none of those offered hangs up. Without a command the guest stays up
//! until [`Order::Stop`]. When the connection ends, the guest powers off. [`Report::Failed`] is the
//! last word of an init that could not do what it was told; it powers off, too.
//!
//! Of the command's input the monitor sends no more than [`INPUT_WINDOW`] bytes ahead of what
//! [`Report::Taken`] said was taken, so that init never stops reading this connection. A command
//! with a terminal has it as standard input, output and error, and all of its output is `Stdout`.

use crate::attr::Time;
use crate::codec::{
    Argument, DecodeError, ExportName, GuestPath, Payload, Reader, Text, Wire, get_list, put_list,
    wire_number, wire_struct,
};
use crate::{Tag, frame, limits};

/// The version that this crate describes.
pub const VERSION: u16 = 1;
/// The lowest version that this crate can still speak.
pub const MIN_VERSION: u16 = 1;
/// Where init finds the shares: this port of the host's vsock speaks the file protocol.
pub const FILES_PORT: u32 = 1525;
/// Where init finds the monitor.
pub const CONTROL_PORT: u32 = 1526;
/// Most bytes of input on their way.
pub const INPUT_WINDOW: usize = 256 * 1024;
/// Most bytes of input or output in one frame.
pub const MAX_CHUNK: usize = 64 * 1024;
/// Most bytes of a [`Start`].
pub const MAX_START: usize = limits::MAX_FRAME - frame::HEADER;

wire_number! {enum
    /// How a guest ends.
    Halt: u8 {
        /// Power off.
        PowerOff = 0,
        /// Start again.
        Restart = 1,
    }
}

wire_struct! {
    /// A share and its place.
    GuestMount<'a> {
        /// The export's name.
        export: ExportName<'a>,
        /// Where it is mounted; made if it is not there.
        point: GuestPath<'a>,
        /// Whether the guest may only read.
        read_only: bool,
    }

    /// The size of a terminal in characters.
    WindowSize {
        /// Across.
        columns: u16,
        /// Down.
        rows: u16,
    }
}

/// What init is to do. Its fields stand on the wire in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start<'a> {
    /// The version to speak.
    pub version: u16,
    /// What the host's clock says.
    pub now: Time,
    /// What to mount, in this order; at most [`MAX_ATTACHMENTS`](limits::MAX_ATTACHMENTS).
    pub mounts: Vec<GuestMount<'a>>,
    /// The command and its arguments, at most [`MAX_ARGUMENTS`](limits::MAX_ARGUMENTS); empty if
    /// there is none.
    pub command: Vec<Argument<'a>>,
    /// `NAME=value`, as many.
    pub environment: Vec<Argument<'a>>,
    /// Where the command starts; `/` if it does not matter.
    pub directory: GuestPath<'a>,
    /// The size of the command's terminal, if it is to have one.
    pub terminal: Option<WindowSize>,
}

impl<'a> Wire<'a> for Start<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        self.version.put(out);
        self.now.put(out);
        put_list(&self.mounts, out);
        put_list(&self.command, out);
        put_list(&self.environment, out);
        self.directory.put(out);
        self.terminal.put(out);
    }
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: Wire::get(from)?,
            now: Wire::get(from)?,
            mounts: get_list(from, "mounts", limits::MAX_ATTACHMENTS)?,
            command: get_list(from, "arguments", limits::MAX_ARGUMENTS)?,
            environment: get_list(from, "environment variables", limits::MAX_ARGUMENTS)?,
            directory: Wire::get(from)?,
            terminal: Wire::get(from)?,
        })
    }
}

impl Start<'_> {
    /// Whether it fits into a frame, and its lists and texts are within their limits.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check(&self) -> Result<(), DecodeError> {
        let mut fields = Vec::new();
        self.put(&mut fields);
        let (what, got, limit) = ("command with its environment", fields.len(), MAX_START);
        if got > limit {
            return Err(DecodeError::Limit { what, got, limit });
        }
        Start::get(&mut Reader::new(&fields)).map(|_| ())
    }
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It exited with this status. On the wire: 0 and a `u8`.
    Status(u8),
    /// This signal ended it. On the wire: 1 and a `u8`.
    Signal(u8),
}

impl Outcome {
    /// The exit status by which a shell tells of it.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

impl<'a> Wire<'a> for Outcome {
    fn put(&self, out: &mut Vec<u8>) {
        let (kind, number) = match self {
            Self::Status(status) => (false, status),
            Self::Signal(signal) => (true, signal),
        };
        kind.put(out);
        number.put(out);
    }
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = bool::get(from)?;
        u8::get(from).map(if kind { Self::Signal } else { Self::Status })
    }
}

/// What the monitor says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order<'a> {
    /// `0x4001`: the answer to [`Report::Hello`].
    Start(Start<'a>),
    /// `0x4002`: input of the command, at most [`MAX_CHUNK`]; nothing is its end.
    Stdin(Payload<'a>),
    /// `0x4003`: the terminal has another size.
    Resize(WindowSize),
    /// `0x4004`: a signal for the command, by Linux's number.
    Signal(u8),
    /// `0x4005`: what the host's clock says, after the host has slept.
    Time(Time),
    /// `0x4006`: end in good order.
    Stop(Halt),
}

impl<'a> Order<'a> {
    /// Writes header and fields into `out`, which is cleared first; the
    /// [payload](Self::payload) follows it on the stream.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let opcode = match self {
            Self::Start(_) => 0x4001,
            Self::Stdin(_) => 0x4002,
            Self::Resize(_) => 0x4003,
            Self::Signal(_) => 0x4004,
            Self::Time(_) => 0x4005,
            Self::Stop(_) => 0x4006,
        };
        frame::write(out, opcode, Tag::NONE, self.payload().len(), |out| match self {
            Self::Start(start) => start.put(out),
            Self::Stdin(_) => {}
            Self::Resize(size) => size.put(out),
            Self::Signal(signal) => signal.put(out),
            Self::Time(now) => now.put(out),
            Self::Stop(halt) => halt.put(out),
        });
    }

    /// What stands behind the fields.
    pub fn payload(&self) -> &'a [u8] {
        if let Self::Stdin(data) = self { data.0 } else { &[] }
    }

    /// Reads the body of a frame with this opcode.
    ///
    /// # Errors
    /// [`DecodeError::UnknownOpcode`] for any other message, and whatever the fields hold wrong.
    pub fn decode(opcode: u16, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(body);
        let order = match opcode {
            0x4001 => Self::Start(Wire::get(&mut from)?),
            0x4002 => Self::Stdin(chunk(&mut from)?),
            0x4003 => Self::Resize(Wire::get(&mut from)?),
            0x4004 => Self::Signal(Wire::get(&mut from)?),
            0x4005 => Self::Time(Wire::get(&mut from)?),
            0x4006 => Self::Stop(Wire::get(&mut from)?),
            other => return Err(DecodeError::UnknownOpcode(other)),
        };
        from.finish().map(|()| order)
    }
}

/// What init says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report<'a> {
    /// `0xc001`: the first frame.
    Hello {
        /// The lowest version that init speaks.
        min_version: u16,
        /// The highest.
        version: u16,
        /// Who it is: `osxfs-agent/0.1.0 on Linux 6.1`.
        name: Text<'a>,
    },
    /// `0xc002`: everything is mounted.
    Ready,
    /// `0xc003`: output of the command, at most [`MAX_CHUNK`].
    Stdout(Payload<'a>),
    /// `0xc004`: error output of the command, at most [`MAX_CHUNK`].
    Stderr(Payload<'a>),
    /// `0xc005`: so many bytes of input were taken, by the command or because it takes no more.
    Taken(u32),
    /// `0xc006`: the command has ended and all that it wrote was sent.
    Exited(Outcome),
    /// `0xc007`: init can not do what it was told.
    Failed {
        /// What, with its object: `mounting code on /src`.
        what: Text<'a>,
        /// Why, in words.
        why: Text<'a>,
    },
}

impl<'a> Report<'a> {
    /// Writes header and fields into `out`, which is cleared first; the
    /// [payload](Self::payload) follows it on the stream.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let opcode = match self {
            Self::Hello { .. } => 0xc001,
            Self::Ready => 0xc002,
            Self::Stdout(_) => 0xc003,
            Self::Stderr(_) => 0xc004,
            Self::Taken(_) => 0xc005,
            Self::Exited(_) => 0xc006,
            Self::Failed { .. } => 0xc007,
        };
        frame::write(out, opcode, Tag::NONE, self.payload().len(), |out| match self {
            Self::Hello { min_version, version, name } => {
                min_version.put(out);
                version.put(out);
                name.put(out);
            }
            Self::Ready | Self::Stdout(_) | Self::Stderr(_) => {}
            Self::Taken(bytes) => bytes.put(out),
            Self::Exited(outcome) => outcome.put(out),
            Self::Failed { what, why } => {
                what.put(out);
                why.put(out);
            }
        });
    }

    /// What stands behind the fields.
    pub fn payload(&self) -> &'a [u8] {
        if let Self::Stdout(data) | Self::Stderr(data) = self { data.0 } else { &[] }
    }

    /// Reads the body of a frame with this opcode. Bytes behind the fields of a hello belong to a
    /// later version and are ignored.
    ///
    /// # Errors
    /// [`DecodeError::UnknownOpcode`] for any other message, and whatever the fields hold wrong.
    pub fn decode(opcode: u16, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(body);
        let report = match opcode {
            0xc001 => {
                let (min_version, version) = (Wire::get(&mut from)?, Wire::get(&mut from)?);
                let name = Wire::get(&mut from)?;
                from.take_rest();
                Self::Hello { min_version, version, name }
            }
            0xc002 => Self::Ready,
            0xc003 => Self::Stdout(chunk(&mut from)?),
            0xc004 => Self::Stderr(chunk(&mut from)?),
            0xc005 => Self::Taken(Wire::get(&mut from)?),
            0xc006 => Self::Exited(Wire::get(&mut from)?),
            0xc007 => Self::Failed { what: Wire::get(&mut from)?, why: Wire::get(&mut from)? },
            other => return Err(DecodeError::UnknownOpcode(other)),
        };
        from.finish().map(|()| report)
    }
}

fn chunk<'a>(from: &mut Reader<'a>) -> Result<Payload<'a>, DecodeError> {
    let bytes = from.take_rest();
    if bytes.len() > MAX_CHUNK {
        let (what, got, limit) = ("chunk", bytes.len(), MAX_CHUNK);
        return Err(DecodeError::Limit { what, got, limit });
    }
    Ok(Payload(bytes))
}

/// The version to speak with an init that offers `min..=max`, if there is one.
pub fn agree(min: u16, max: u16) -> Option<u16> {
    let version = max.min(VERSION);
    (version >= min.max(MIN_VERSION)).then_some(version)
}
