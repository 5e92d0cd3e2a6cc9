//! Cuts a byte stream into frames, for both ends. Pure: the caller supplies the reading.
//!
//! Small frames are read many at a time into one buffer and copied out of it; the rest of a frame
//! that is not wholly in the buffer is read straight to where it will be used, so that a large
//! payload is copied at most in part.

use crate::codec::DecodeError;
use crate::frame::{FrameHeader, HEADER};

/// Size of the buffer for small frames in bytes.
const BUFFER: usize = 64 * 1024;

/// One received frame; its buffer is used again for the next.
#[derive(Debug, Default)]
pub struct Frame {
    bytes: Vec<u8>,
    len: usize,
}

impl Frame {
    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Makes room for a body and hands it out. Grows only, so that no byte is cleared twice.
    fn reserve(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        self.len = len;
        &mut self.bytes[..len]
    }
}

/// Why no frame came.
#[derive(Debug)]
pub enum ReadError<E> {
    /// The peer hung up between two frames.
    Closed,
    /// The peer sent something wrong, or hung up inside a frame.
    Decode(DecodeError),
    /// Reading failed.
    Io(E),
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct Splitter {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Splitter {
    /// How many bytes of next frames are already here.
    pub fn buffered(&self) -> usize {
        self.end - self.start
    }

    /// Reads the next frame into `frame`. `read` fills some of a slice and returns how much; zero
    /// is the end of the stream.
    ///
    /// # Errors
    /// See [`ReadError`]. The stream cannot be used after any of them.
    pub fn next<E>(
        &mut self,
        frame: &mut Frame,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<FrameHeader, ReadError<E>> {
        let header = loop {
            if let Some(bytes) = self.buffer[self.start..self.end].first_chunk::<HEADER>() {
                break FrameHeader::decode(bytes).map_err(ReadError::Decode)?;
            }
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            match read(&mut self.buffer[self.end..]).map_err(ReadError::Io)? {
                0 if self.buffered() > 0 => return Err(ReadError::Decode(DecodeError::Truncated)),
                0 => return Err(ReadError::Closed),
                n => self.end += n,
            }
        };
        self.start += HEADER;
        let body = frame.reserve(header.body());
        let buffered = body.len().min(self.end - self.start);
        let (head, mut rest) = body.split_at_mut(buffered);
        head.copy_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        while !rest.is_empty() {
            match read(rest).map_err(ReadError::Io)? {
                0 => return Err(ReadError::Decode(DecodeError::Truncated)),
                n => rest = &mut rest[n..],
            }
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caller, NodeId, Request, Tag};

    fn stream() -> Vec<u8> {
        let mut all = Vec::new();
        let mut frame = Vec::new();
        for tag in 0..50 {
            let data = vec![tag as u8; tag as usize * 3000];
            let request = Request::Write {
                handle: crate::HandleId(1),
                offset: 0,
                data: crate::Payload(&data),
            };
            request.encode(Tag(tag), &Caller::default(), &mut frame);
            all.extend_from_slice(&frame);
            all.extend_from_slice(&data);
            Request::GetAttr { node: NodeId(7) }.encode(Tag(tag), &Caller::default(), &mut frame);
            all.extend_from_slice(&frame);
        }
        all
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_chopped() {
        let stream = stream();
        for chop in [1, 2, 11, 12, 13, 4096, 65_536, 1 << 20] {
            let mut rest = &stream[..];
            let mut splitter = Splitter::default();
            let mut frame = Frame::default();
            for count in 0..100 {
                let header = splitter
                    .next(&mut frame, |buf| -> Result<usize, ()> {
                        let n = chop.min(buf.len()).min(rest.len());
                        buf[..n].copy_from_slice(&rest[..n]);
                        rest = &rest[n..];
                        Ok(n)
                    })
                    .expect("a frame");
                assert_eq!(header.tag, Tag(count / 2));
                Request::decode(header.opcode, frame.body()).expect("a request");
            }
        }
    }

    #[test]
    fn an_end_inside_a_frame_is_an_error_and_between_frames_is_not() {
        let mut frame = Vec::new();
        Request::GetAttr { node: NodeId(7) }.encode(Tag(1), &Caller::default(), &mut frame);
        for cut in 0..frame.len() {
            let mut rest = &frame[..cut];
            let result = Splitter::default().next(&mut Frame::default(), |buf| {
                let n = buf.len().min(rest.len());
                buf[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                Ok::<_, ()>(n)
            });
            match cut {
                0 => assert!(matches!(result, Err(ReadError::Closed))),
                _ => assert!(matches!(result, Err(ReadError::Decode(DecodeError::Truncated)))),
            }
        }
    }
}
