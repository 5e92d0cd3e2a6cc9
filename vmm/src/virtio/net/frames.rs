//! Ethernet frames in a byte stream, as passt and QEMU's `-netdev stream` send them: four bytes of
//! length, big-endian, then the frame.

use std::io;

/// The largest frame: 64 KiB of payload, its header and a tag of a VLAN.
pub const MAX_FRAME: usize = 65536 + 18;
const LENGTH: usize = 4;
/// Bytes that are read in one go, at least one whole frame.
const CAPACITY: usize = 2 * (LENGTH + MAX_FRAME);

/// What has come in and was not consumed yet.
pub struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: vec![0; CAPACITY].into(), start: 0, end: 0 }
    }

    /// Where the next bytes go; never empty while no whole frame is there.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were put into the room.
    pub fn filled(&mut self, len: usize) {
        self.end = self.end.saturating_add(len).min(self.bytes.len());
    }

    /// The first whole frame.
    ///
    /// # Errors
    /// What stands there is no length of a frame: the stream is lost.
    pub fn frame(&self) -> io::Result<Option<&[u8]>> {
        let bytes = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        Ok(rest.get(..length))
    }

    /// Drops the first whole frame.
    pub fn consume(&mut self) {
        if let Ok(Some(frame)) = self.frame() {
            self.start += LENGTH + frame.len();
        }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

/// The length that stands before a frame.
pub fn length(frame: &[u8]) -> [u8; LENGTH] {
    u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            lengths in prop::collection::vec(prop_oneof![0..3000_usize, Just(MAX_FRAME)], 0..12),
            cuts in prop::collection::vec(1..5000_usize, 1..40),
        ) {
            let frames: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(n, &len)| vec![n as u8; len]).collect();
            let stream: Vec<u8> =
                frames.iter().flat_map(|frame| [&length(frame)[..], frame].concat()).collect();
            let (mut inbox, mut seen, mut rest) = (Inbox::new(), Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                while let Some(frame) = inbox.frame().unwrap() {
                    seen.push(frame.to_vec());
                    inbox.consume();
                }
                if rest.is_empty() {
                    break;
                }
                let room = inbox.room();
                let len = room.len().min(*cut).min(rest.len());
                prop_assert_ne!(len, 0);
                room[..len].copy_from_slice(&rest[..len]);
                inbox.filled(len);
                rest = &rest[len..];
            }
            prop_assert_eq!(seen, frames);
        }
    }

    #[test]
    fn a_length_that_is_none_ends_the_stream() {
        let mut inbox = Inbox::new();
        inbox.room()[..4].copy_from_slice(&(MAX_FRAME as u32 + 1).to_be_bytes());
        inbox.filled(4);
        assert!(inbox.frame().is_err());
    }
}
