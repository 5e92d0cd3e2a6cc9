//! Frames: how messages are cut out of a byte stream.
//!
//! ```text
//! 0        4        6        8        12
//! | size   | opcode | zero   | tag    | fields …            | payload … |
//!   u32      u16      u16      u32      (per message)          (the rest)
//! ```
//!
//! `size` counts the whole frame, itself included, and lies between [`HEADER`] and
//! [`MAX_FRAME`]. All integers are little-endian.

use crate::Tag;
use crate::codec::{DecodeError, Reader, Wire};
use crate::limits::MAX_FRAME;
use std::io::IoSlice;

/// Size of a frame header in bytes.
pub const HEADER: usize = 12;

/// A decoded frame header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Size of the whole frame in bytes.
    pub size: usize,
    /// Which message it holds.
    pub opcode: u16,
    /// Pairs request and reply.
    pub tag: Tag,
}

impl FrameHeader {
    /// Reads a header and checks its size.
    ///
    /// # Errors
    /// [`DecodeError::FrameSize`] outside the limits, [`DecodeError::UnknownValue`] if the reserved
    /// bytes are not zero.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Self, DecodeError> {
        let from = &mut Reader::new(bytes);
        let size = u32::get(from)?;
        let opcode = u16::get(from)?;
        let reserved = u16::get(from)?;
        let tag = Tag::get(from)?;
        if (size as usize) < HEADER || size as usize > MAX_FRAME {
            return Err(DecodeError::FrameSize(size));
        }
        if reserved != 0 {
            return Err(DecodeError::UnknownValue { field: "reserved", value: reserved.into() });
        }
        Ok(Self { size: size as usize, opcode, tag })
    }

    /// Bytes that follow the header.
    pub fn body(&self) -> usize {
        self.size - HEADER
    }
}

/// Writes header and fields of one frame into `out` (cleared first). `fields` appends the fields;
/// `payload` is the length of what the caller will send right behind `out`.
pub(crate) fn write(
    out: &mut Vec<u8>,
    opcode: u16,
    tag: Tag,
    payload: usize,
    fields: impl FnOnce(&mut Vec<u8>),
) {
    out.clear();
    out.extend_from_slice(&[0; HEADER]);
    fields(out);
    let size = (out.len() + payload) as u32;
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&size.to_le_bytes());
    header[4..6].copy_from_slice(&opcode.to_le_bytes());
    header[8..].copy_from_slice(&tag.0.to_le_bytes());
    out[..HEADER].copy_from_slice(&header);
}

/// Sends `head` and `payload` whole, without putting them together. `write` takes what is left and
/// tells how much of it, never nothing, it has sent.
///
/// # Errors
/// That of `write`; part of the frame may then be sent, so the stream cannot be used again.
pub fn send<E>(
    head: &[u8],
    payload: &[u8],
    mut write: impl FnMut(&[IoSlice<'_>]) -> Result<usize, E>,
) -> Result<(), E> {
    let mut slices = [IoSlice::new(head), IoSlice::new(payload)];
    let mut rest = &mut slices[..];
    loop {
        // Also drops slices that are empty from the start.
        IoSlice::advance_slices(&mut rest, 0);
        if rest.is_empty() {
            return Ok(());
        }
        let sent = write(rest)?;
        IoSlice::advance_slices(&mut rest, sent);
    }
}
