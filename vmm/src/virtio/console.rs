//! A console of the guest (virtio 1.2, 5.3): `hvc0`, with one port.
//!
//! ```text
//! input ──▶ pending (4 KiB) ──▶ queue 0, the guest's buffers
//! queue 1, what the guest prints ──▶ backlog (256 KiB) ──▶ output
//! ```
//!
//! A Linux guest spins on a processor until what it prints was taken, so the output may not hold it up
//! for long: what the host's side does not take goes into a backlog. When that is full, the guest waits
//! ([`Overflow::Wait`]: a terminal that is stopped, a pipe to a slow program), or what it prints is lost
//! ([`Overflow::Drop`]: a pseudo terminal that nobody has opened).
//!
//! Both ends may be blocking: descriptors of a terminal are shared with the shell, for which they must
//! stay as they are. So it is asked before every read and write.

use super::worker::{Desk, Task, Wake, Work};
use super::{Broken, Context, Device, Signal, read_config};
use mio::Interest;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;

/// The size of the console is known (virtio 1.2, 5.3.3).
const VIRTIO_CONSOLE_F_SIZE: u32 = 0;

const QUEUE_SIZES: [u16; 2] = [64, 64];
const INPUT: u16 = 0;
const OUTPUT: u16 = 1;
/// Bytes that are read of the input in one go.
const PENDING: usize = 4096;
/// Bytes that are kept for an output that takes nothing.
const BACKLOG: usize = 1 << 18;
/// Bytes that an output takes at once if it says that it is ready: so many a pipe promises to take, and
/// so few a terminal has room for.
const PIPE_STEP: usize = 4096;
const TERMINAL_STEP: usize = 256;

/// What becomes of what the guest prints when the backlog is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overflow {
    /// The guest waits.
    Wait,
    /// It is lost.
    Drop,
}

/// The device.
pub struct Console {
    size: Size,
    task: Task<Terminal>,
}

/// The size of a console, which changes with the window that it is in.
#[derive(Clone, Default)]
pub struct Size(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    columns: u16,
    rows: u16,
    signal: Option<Arc<dyn Signal>>,
}

impl Size {
    /// Tells the guest of a new size.
    pub fn set(&self, columns: u16, rows: u16) {
        let mut shared = self.0.lock();
        (shared.columns, shared.rows) = (columns, rows);
        let signal = shared.signal.clone();
        drop(shared);
        if let Some(signal) = signal {
            signal.config_changed();
        }
    }
}

impl Console {
    /// A console between these ends; without an input nothing can be typed.
    pub fn new(input: Option<OwnedFd>, output: OwnedFd, overflow: Overflow) -> Self {
        let terminal = Terminal::new(input, output, overflow);
        Self { size: Size::default(), task: Task::Idle(terminal) }
    }

    /// By what its size is told.
    pub fn size(&self) -> Size {
        self.size.clone()
    }
}

impl Device for Console {
    fn id(&self) -> u32 {
        VIRTIO_ID_CONSOLE
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_CONSOLE_F_SIZE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let shared = self.size.0.lock();
        let ([c0, c1], [r0, r1]) = (shared.columns.to_le_bytes(), shared.rows.to_le_bytes());
        read_config(&[c0, c1, r0, r1], offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, context: Context) -> io::Result<()> {
        let signal = context.signal.clone();
        self.task.activate("virtio-console", context)?;
        let mut shared = self.size.0.lock();
        shared.signal = Some(signal.clone());
        let known = (shared.columns, shared.rows) != (0, 0);
        drop(shared);
        // Linux asks for the size of a console with one port only when told that it has changed.
        if known {
            signal.config_changed();
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.size.0.lock().signal = None;
        self.task.reset();
    }
}

/// The two ends of the host and what is on its way between them and the guest.
pub struct Terminal {
    input: Option<OwnedFd>,
    /// Whether the input may have something.
    readable: bool,
    pending: VecDeque<u8>,
    /// None when it has gone: then everything is lost.
    output: Option<OwnedFd>,
    backlog: VecDeque<u8>,
    overflow: Overflow,
    step: usize,
}

impl Terminal {
    /// Nothing is on its way yet.
    pub fn new(input: Option<OwnedFd>, output: OwnedFd, overflow: Overflow) -> Self {
        let step = if rustix::termios::isatty(&output) { TERMINAL_STEP } else { PIPE_STEP };
        Self {
            readable: input.is_some(),
            input,
            pending: VecDeque::new(),
            output: Some(output),
            backlog: VecDeque::new(),
            overflow,
            step,
        }
    }

    /// From the input to the guest, until the one is empty or the other has no buffers.
    fn pump_in(&mut self, desk: &mut Desk) -> Result<(), Broken> {
        loop {
            if self.pending.is_empty() && !self.read() {
                return Ok(());
            }
            let Some(mut chain) = desk.ring(INPUT)?.pop()? else { return Ok(()) };
            let data = self.pending.make_contiguous();
            let written = chain.writable.write(&desk.memory, data)?;
            if written == 0 {
                return Err(Broken::Request("a buffer for input that cannot be written"));
            }
            self.pending.drain(..written);
            desk.ring(INPUT)?.complete(chain.head, written)?;
        }
    }

    /// Reads once. Tells whether there is something now.
    fn read(&mut self) -> bool {
        let Some(input) = self.input.as_ref().filter(|_| self.readable) else { return false };
        let mut data = [0; PENDING];
        let result = match is_ready(input.as_fd(), PollFlags::IN) {
            true => rustix::io::retry_on_intr(|| rustix::io::read(input, &mut data)),
            false => Err(Errno::AGAIN),
        };
        match result {
            // The other end of a pseudo terminal is not there yet, or not any more (`EIO`).
            Err(Errno::AGAIN | Errno::IO) => self.readable = false,
            Ok(0) | Err(_) => {
                tracing::debug!(?result, "the input of the console has ended");
                self.input = None;
            }
            Ok(len) => self.pending.extend(data.iter().take(len)),
        }
        !self.pending.is_empty()
    }

    /// From the guest to the output, as far as that takes it.
    fn pump_out(&mut self, desk: &mut Desk) -> Result<(), Broken> {
        self.write();
        loop {
            let room = BACKLOG.saturating_sub(self.backlog.len());
            if room == 0 && self.overflow == Overflow::Wait {
                return Ok(());
            }
            let memory = desk.memory.clone();
            let ring = desk.ring(OUTPUT)?;
            let Some(mut chain) = ring.pop()? else { return Ok(()) };
            let len = chain.readable.len();
            if len > BACKLOG {
                return Err(Broken::Request("more to print at once than a console takes"));
            }
            if len > room && self.overflow == Overflow::Wait {
                ring.unpop();
                return Ok(());
            }
            let mut data = vec![0; len.min(room)];
            chain.readable.read(&memory, &mut data)?;
            self.backlog.extend(data);
            ring.complete(chain.head, 0)?;
            // The guest spins until it is told.
            ring.flush()?;
            self.write();
        }
    }

    /// Writes as much of the backlog as the output takes.
    fn write(&mut self) {
        while let Some(output) = &self.output
            && !self.backlog.is_empty()
        {
            if !is_ready(output.as_fd(), PollFlags::OUT) {
                return;
            }
            let (data, _) = self.backlog.as_slices();
            let data = data.get(..self.step).unwrap_or(data);
            match rustix::io::write(output, data) {
                Ok(len) => _ = self.backlog.drain(..len),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    tracing::warn!(%error, "the output of the console has gone");
                    self.output = None;
                }
            }
        }
        if self.output.is_none() {
            self.backlog.clear();
        }
    }
}

impl Work for Terminal {
    fn sources(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        let input = self.input.iter().map(|fd| (fd.as_fd(), Interest::READABLE));
        let output = self.output.iter().map(|fd| (fd.as_fd(), Interest::WRITABLE));
        input.chain(output).collect()
    }

    fn run(&mut self, wake: Wake, desk: &mut Desk) -> Result<(), Broken> {
        match wake {
            Wake::Queue(INPUT) => self.pump_in(desk),
            Wake::Queue(_) => self.pump_out(desk),
            // They are two, and cheap to ask.
            Wake::Source(_) => {
                self.readable = true;
                self.pump_in(desk)?;
                self.pump_out(desk)
            }
        }
    }
}

impl Drop for Terminal {
    /// The last words of a guest should be seen, if somebody takes them.
    fn drop(&mut self) {
        self.write();
    }
}

fn is_ready(fd: BorrowedFd<'_>, flags: PollFlags) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // What has hung up answers, too.
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now))).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests;
