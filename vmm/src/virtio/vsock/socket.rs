//! The host's end of a connection where it is a unix socket. Never waits.
//!
//! What the socket does not take at once is kept, no more than the guest was promised, and counts as
//! taken when the socket has taken it. In the other direction it reads ahead: most guests take packets
//! of four kilobytes, for each of which a system call would be too much.

use super::budget::Permit;
use super::fifo::Fifo;
use super::packet::Slot;
use super::stream::Filled;
use crate::memory::Memory;
use crate::virtio::Broken;
use crate::virtio::chain::Buffer;
use mio::Token;
use mio::net::UnixStream;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

/// Bytes that are read ahead at most.
const AHEAD: usize = 64 << 10;

/// See the module.
pub(super) struct Socket {
    pub stream: UnixStream,
    pub token: Token,
    /// Whether its client waits for the word that the guest has agreed.
    pub awaits_word: bool,
    kept: Fifo,
    /// Read and not yet sent.
    ahead: Fifo,
    /// The guest sends no more: when nothing is kept, the socket is told.
    finishing: bool,
    /// Nobody reads at its other end.
    deaf: bool,
    _permit: Arc<Permit>,
}

impl Socket {
    /// One for whose connection the guest may send as much ahead as `permit` says.
    pub fn new(stream: UnixStream, token: Token, permit: Arc<Permit>) -> Self {
        Self {
            stream,
            token,
            awaits_word: false,
            kept: Fifo::new(permit.buffer() as usize),
            ahead: Fifo::new(AHEAD),
            finishing: false,
            deaf: false,
            _permit: permit,
        }
    }

    /// Passes payload on. Tells how many bytes were taken.
    ///
    /// # Errors
    /// Guest memory cannot be read.
    pub fn push(
        &mut self,
        memory: &Memory,
        payload: &mut Buffer,
        scratch: &mut [u8],
    ) -> Result<u32, Broken> {
        let len = payload.len();
        if self.deaf {
            return Ok(len as u32);
        }
        if !self.kept.is_empty() {
            self.kept.push_with(len, |part| payload.read(memory, part).map(|_| ()))?;
            return Ok(0);
        }
        let len = payload.read(memory, scratch)?;
        let data = &scratch[..len];
        let (sent, deaf) = write(&self.stream, data);
        self.deaf = deaf;
        if deaf {
            return Ok(len as u32);
        }
        self.kept.push(&data[sent..]);
        Ok(sent as u32)
    }

    /// The socket may take more of what is kept. Tells how many bytes were taken.
    pub fn flush(&mut self) -> u32 {
        let before = self.kept.len();
        while !self.kept.is_empty() && !self.deaf {
            let wanted = self.kept.front().len();
            let (sent, deaf) = write(&self.stream, self.kept.front());
            self.deaf = deaf;
            self.kept.consume(sent);
            if sent < wanted {
                break;
            }
        }
        if self.deaf {
            self.kept.clear();
        }
        if self.kept.is_empty() && self.finishing {
            _ = self.stream.shutdown(Shutdown::Write);
        }
        (before - self.kept.len()) as u32
    }

    /// Its other end is closed: nobody will read. Tells how many kept bytes count as taken.
    pub fn hang_up(&mut self) -> u32 {
        self.deaf = true;
        self.flush()
    }

    /// Whether nobody reads at its other end.
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Whether it has yet to take something.
    pub fn is_behind(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The guest sends no more.
    pub fn finish(&mut self) {
        self.finishing = true;
        self.flush();
    }

    /// The guest receives no more.
    pub fn refuse(&self) {
        _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Moves up to `max` bytes into a packet.
    ///
    /// # Errors
    /// Guest memory cannot be written.
    pub fn fill(
        &mut self,
        memory: &Memory,
        slot: &mut Slot,
        max: u32,
        scratch: &mut [u8],
    ) -> Result<Filled, Broken> {
        let max = max.min(slot.room()) as usize;
        if self.ahead.is_empty() {
            let read = match self.read(scratch) {
                Ok(0) => return Ok(Filled::End),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Filled::Nothing);
                }
                Err(_) => return Ok(Filled::End),
            };
            let (now, later) = scratch[..read].split_at(read.min(max));
            slot.write(memory, now)?;
            self.ahead.push(later);
            return Ok(Filled::Bytes(now.len() as u32));
        }
        let mut done = 0;
        while done < max && !self.ahead.is_empty() {
            let front = self.ahead.front();
            let len = front.len().min(max - done);
            slot.write(memory, &front[..len])?;
            self.ahead.consume(len);
            done += len;
        }
        if self.ahead.is_empty() {
            self.ahead.clear();
        }
        Ok(Filled::Bytes(done as u32))
    }

    fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        let len = scratch.len().min(AHEAD);
        loop {
            match self.stream.read(&mut scratch[..len]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

/// Writes what the socket takes. Tells how much, and whether it will never take more.
fn write(mut stream: &UnixStream, data: &[u8]) -> (usize, bool) {
    let mut done = 0;
    while done < data.len() {
        match stream.write(&data[done..]) {
            Ok(len) => done += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (done, false),
            Err(_) => return (done, true),
        }
    }
    (done, false)
}
