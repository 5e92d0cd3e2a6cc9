//! A connection whose host end is in this process: no socket, no system call but to wake a thread
//! that sleeps.
//!
//! ```text
//! guest ══▶ engine ── push ─▶ ( down ) ── read ──▶ ┐
//!             ▲                                    ├ the program's threads, through Stream
//! guest ◀══ engine ◀─ fill ── (  up  ) ◀─ write ── ┘
//!             └── Bell: "something happened to these connections"
//! ```
//!
//! `down` has room for all that the guest has been promised, so the engine never waits for a program.
//! `up` is bounded: a program waits until the guest has taken enough. The bell wakes the engine once
//! for any number of things that happen before it looks.
//!
//! Locks: each direction has one; none is held while another is taken, except that the bell is rung
//! under them. The bell's is a leaf.

use super::budget::Permit;
use super::fifo::Fifo;
use super::muxer::Key;
use super::packet::Slot;
use crate::hypervisor::Event;
use crate::memory::Memory;
use crate::virtio::Broken;
use crate::virtio::chain::Buffer;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that wait for the guest at most.
const UP: usize = 256 << 10;

/// Tells the engine which connections to look at.
pub(super) struct Bell {
    /// Readable when there are some.
    pub event: Event,
    rung: Mutex<Vec<Key>>,
}

impl Bell {
    pub fn new() -> io::Result<Self> {
        Ok(Self { event: Event::new()?, rung: Mutex::default() })
    }

    fn ring(&self, key: Key) {
        let mut rung = self.rung.lock();
        rung.push(key);
        if rung.len() == 1 {
            self.event.signal();
        }
    }

    /// Takes those that it was rung for into `keys`, which is empty. It is quiet afterwards.
    pub fn answer(&self, keys: &mut Vec<Key>) {
        let mut rung = self.rung.lock();
        if !rung.is_empty() {
            self.event.clear();
            std::mem::swap(&mut *rung, keys);
        }
    }
}

struct Pipe {
    key: Key,
    bell: Arc<Bell>,
    down: Half,
    up: Half,
    _permit: Arc<Permit>,
}

struct Half {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    fifo: Fifo,
    /// The writing end will write no more; the reading end will read no more.
    finished: bool,
    refused: bool,
    /// Threads of the program that wait here.
    waiting: usize,
    timeout: Option<Duration>,
    /// The engine has been told and has not looked yet.
    rung: bool,
    /// `down` only: bytes that the program took and the engine does not know of; from how many on the
    /// engine is told.
    taken: u32,
    step: u32,
}

impl Half {
    fn new(limit: usize) -> Self {
        let state = State {
            fifo: Fifo::new(limit),
            finished: false,
            refused: false,
            waiting: 0,
            timeout: None,
            rung: false,
            taken: 0,
            step: 1,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits until it is `ready`.
    fn wait(&self, ready: impl Fn(&State) -> bool) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        let until = state.timeout.map(|timeout| Instant::now() + timeout);
        while !ready(&state) {
            state.waiting += 1;
            let late = match until {
                Some(until) => self.changed.wait_until(&mut state, until).timed_out(),
                None => {
                    self.changed.wait(&mut state);
                    false
                }
            };
            state.waiting -= 1;
            if late && !ready(&state) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        Ok(state)
    }

    /// Closes it from one end or both, and wakes all who wait.
    fn close(&self, finished: bool, refused: bool) {
        let mut state = self.state.lock();
        state.finished |= finished;
        state.refused |= refused;
        if refused {
            // Nobody will read what is left.
            state.fifo.clear();
        }
        self.changed.notify_all();
    }
}

/// The program's end of a connection. It may be used by many threads at once, through `&Stream`; each
/// direction is a stream of bytes of its own. Closed when dropped.
pub struct Stream {
    pipe: Arc<Pipe>,
}

impl Stream {
    /// Closes one direction or both, for this end. A guest reads what was written before, and then
    /// the end; what it sends to a stream that is not read any more is dropped.
    pub fn shutdown(&self, how: Shutdown) {
        let Pipe { key, bell, down, up, .. } = &*self.pipe;
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            up.close(true, false);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            down.close(false, true);
        }
        bell.ring(*key);
    }

    /// How long a read may wait: then it fails with `WouldBlock`. For ever if none.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) {
        self.pipe.down.state.lock().timeout = timeout;
    }

    /// How long a write may wait for room: then it fails with `WouldBlock`. For ever if none.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) {
        self.pipe.up.state.lock().timeout = timeout;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shutdown(Shutdown::Both);
    }
}

impl Read for &Stream {
    /// Waits until there is something; nothing is the end.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Pipe { key, bell, down, .. } = &*self.pipe;
        let mut state =
            down.wait(|state| !state.fifo.is_empty() || state.finished || state.refused)?;
        let len = state.fifo.pop(buf);
        // No more than the guest was promised, so it fits.
        state.taken = state.taken.wrapping_add(len as u32);
        if state.taken >= state.step && !state.rung {
            state.rung = true;
            bell.ring(*key);
        }
        Ok(len)
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    /// Waits until there is room, and takes what fits.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let Pipe { key, bell, up, .. } = &*self.pipe;
        let mut state =
            up.wait(|state| state.fifo.free() > 0 || state.finished || state.refused)?;
        if state.finished || state.refused {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut done = 0;
        for buf in bufs {
            let len = state.fifo.push(buf);
            done += len;
            if len < buf.len() {
                break;
            }
        }
        if !state.rung {
            state.rung = true;
            bell.ring(*key);
        }
        Ok(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came of [`Tail::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// So many bytes.
    Bytes(u32),
    /// Nothing, at the moment.
    Nothing,
    /// Nothing any more.
    End,
}

/// The engine's end. Never waits.
pub(super) struct Tail {
    pipe: Arc<Pipe>,
}

/// A connection of this name: the program's end, and the engine's. The guest may send as much ahead as
/// `permit` says.
pub(super) fn pair(key: Key, permit: Arc<Permit>, bell: Arc<Bell>) -> (Stream, Tail) {
    let down = Half::new(permit.buffer() as usize);
    let pipe = Arc::new(Pipe { key, bell, down, up: Half::new(UP), _permit: permit });
    (Stream { pipe: pipe.clone() }, Tail { pipe })
}

impl Tail {
    /// Passes payload on to the program, which is told `step`: after how many bytes that it took the
    /// engine wants to know. Tells how many bytes nobody will read.
    ///
    /// # Errors
    /// Guest memory cannot be read.
    pub fn push(&self, memory: &Memory, payload: &mut Buffer, step: u32) -> Result<u32, Broken> {
        let mut state = self.pipe.down.state.lock();
        state.step = step;
        if state.refused {
            return Ok(payload.len() as u32);
        }
        let len = payload.len();
        state.fifo.push_with(len, |part| payload.read(memory, part).map(|_| ()))?;
        if state.waiting > 0 {
            self.pipe.down.changed.notify_one();
        }
        Ok(0)
    }

    /// How many bytes the program took since it was asked last, and whether it will read more.
    pub fn taken(&self) -> (u32, bool) {
        let mut state = self.pipe.down.state.lock();
        state.rung = false;
        (std::mem::take(&mut state.taken), !state.refused)
    }

    /// Moves up to `max` bytes of the program into a packet.
    ///
    /// # Errors
    /// Guest memory cannot be written.
    pub fn fill(&self, memory: &Memory, slot: &mut Slot, max: u32) -> Result<Filled, Broken> {
        let up = &self.pipe.up;
        let mut state = up.state.lock();
        let mut left = max.min(slot.room()) as usize;
        if state.fifo.is_empty() {
            state.rung = false;
            return Ok(if state.finished { Filled::End } else { Filled::Nothing });
        }
        let mut done = 0;
        while left > 0 && !state.fifo.is_empty() {
            let front = state.fifo.front();
            let len = front.len().min(left);
            slot.write(memory, &front[..len])?;
            state.fifo.consume(len);
            left -= len;
            done += len;
        }
        // Waking a program for every packet would cost more than it brings.
        if state.waiting > 0 && state.fifo.free() >= UP / 2 {
            up.changed.notify_all();
        }
        Ok(Filled::Bytes(done as u32))
    }

    /// The guest sends no more.
    pub fn finish(&self) {
        self.pipe.down.close(true, false);
    }

    /// The guest receives no more.
    pub fn refuse(&self) {
        self.pipe.up.close(false, true);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.finish();
        self.refuse();
    }
}

#[cfg(test)]
mod tests;
