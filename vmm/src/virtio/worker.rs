//! The thread of an active device: it sleeps until a queue is notified, something of the host is
//! ready, or it is told to stop, and lets the device's [`Work`] do what there is to do.
//!
//! ```text
//! queue's Event ─┐
//! host's socket ─┼─ poll ─▶ Work::run(what) ─▶ Ring::flush ─▶ interrupt
//! stop ──────────┘
//! ```
//!
//! When the driver breaks a rule, it is told that the device needs a reset, and the thread only waits
//! to be stopped. Readiness is told once (by edge): what was not read or written to the end must be
//! remembered by the work.

use super::ring::Ring;
use super::{Broken, Context, Signal};
use crate::hypervisor::Event;
use crate::memory::Memory;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Why a device wakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// A queue may have buffers. Every queue is tried once at the beginning.
    Queue(u16),
    /// The source of this number may be ready.
    Source(usize),
}

/// What an active device works on.
pub struct Desk {
    /// The guest's memory.
    pub memory: Memory,
    /// What was agreed on.
    pub features: u64,
    /// Its queues.
    pub rings: Vec<Ring>,
    /// The way to the driver.
    pub signal: Arc<dyn Signal>,
}

impl Desk {
    pub(super) fn new(context: Context) -> (Self, Vec<Arc<Event>>) {
        let Context { memory, features, queues, signal } = context;
        let (mut rings, mut events) = (Vec::new(), Vec::new());
        for (index, (queue, event)) in (0..).zip(queues) {
            rings.push(Ring::new(index, queue, memory.clone(), signal.clone()));
            events.push(event);
        }
        (Self { memory, features, rings, signal }, events)
    }

    /// A queue of the device, by its number.
    ///
    /// # Errors
    /// The device has no such queue.
    pub fn ring(&mut self, index: u16) -> Result<&mut Ring, Broken> {
        self.rings.get_mut(usize::from(index)).ok_or(Broken::NoQueue)
    }
}

/// What a device does on its thread.
pub trait Work: Send + 'static {
    /// The descriptors that it waits for, besides its queues. They must be non-blocking, or the work
    /// must ask before it reads or writes.
    fn sources(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        Vec::new()
    }

    /// A new driver begins.
    fn begin(&mut self, _desk: &mut Desk) {}

    /// Does what there is to do. Must not wait for long.
    ///
    /// # Errors
    /// The driver broke a rule.
    fn run(&mut self, wake: Wake, desk: &mut Desk) -> Result<(), Broken>;
}

/// A device's work, wherever it is now.
pub enum Task<W> {
    /// No driver, no thread.
    Idle(W),
    /// On its thread.
    Running(Worker<W>),
    /// Its thread could not be started or ended badly.
    Lost,
}

impl<W: Work> Task<W> {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started, or was already.
    pub fn activate(&mut self, name: &str, context: Context) -> io::Result<()> {
        let Self::Idle(work) = std::mem::replace(self, Self::Lost) else {
            return Err(io::Error::other("its thread is not at hand"));
        };
        *self = Self::Running(Worker::start(name, work, context)?);
        Ok(())
    }

    /// Stops the thread. Afterwards nothing touches guest memory.
    pub fn reset(&mut self) {
        if let Self::Running(worker) = self {
            *self = worker.stop().map_or(Self::Lost, Self::Idle);
        }
    }
}

/// A thread at work; stopped when dropped.
pub struct Worker<W> {
    stop: Arc<Event>,
    thread: Option<JoinHandle<W>>,
}

const STOP: Token = Token(usize::MAX - 1);

impl<W: Work> Worker<W> {
    fn start(name: &str, work: W, context: Context) -> io::Result<Self> {
        let (desk, events) = Desk::new(context);
        let stop = Arc::new(Event::new()?);
        let poll = Poll::new()?;
        register(poll.registry(), stop.as_fd(), STOP, Interest::READABLE)?;
        for (n, event) in events.iter().enumerate() {
            register(poll.registry(), event.as_fd(), Token(n), Interest::READABLE)?;
        }
        let mut always = Vec::new();
        for (n, (source, interest)) in work.sources().into_iter().enumerate() {
            let token = Token(events.len() + n);
            if let Err(error) = register(poll.registry(), source, token, interest) {
                // Files and /dev/null are always ready and cannot be waited for.
                if !matches!(error.kind(), io::ErrorKind::PermissionDenied) {
                    return Err(error);
                }
                always.push(Wake::Source(n));
            }
        }
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || Loop { work, desk, events, poll, stop: stopped }.run(&always))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl<W> Worker<W> {
    fn stop(&mut self) -> Option<W> {
        self.stop.signal();
        self.thread.take().and_then(|thread| thread.join().ok())
    }
}

impl<W> Drop for Worker<W> {
    fn drop(&mut self) {
        _ = self.stop();
    }
}

fn register(
    registry: &Registry,
    fd: BorrowedFd<'_>,
    token: Token,
    interest: Interest,
) -> io::Result<()> {
    registry.register(&mut SourceFd(&fd.as_raw_fd()), token, interest)
}

struct Loop<W> {
    work: W,
    desk: Desk,
    events: Vec<Arc<Event>>,
    poll: Poll,
    stop: Arc<Event>,
}

impl<W: Work> Loop<W> {
    fn run(mut self, always: &[Wake]) -> W {
        let queues = (0..).zip(&self.desk.rings).map(|(index, _)| Wake::Queue(index));
        let mut wakes: Vec<Wake> = queues.chain(always.iter().copied()).collect();
        self.work.begin(&mut self.desk);
        let mut broken = false;
        let mut ready = Events::with_capacity(16);
        loop {
            if !broken && let Err(error) = turn(&mut self.work, &mut self.desk, &mut wakes) {
                tracing::warn!(%error, "a driver broke the rules of its device, which now needs a reset");
                broken = true;
                self.desk.signal.needs_reset();
            }
            // With something left to do it only looks who else is ready.
            let timeout = (!broken && !wakes.is_empty()).then_some(std::time::Duration::ZERO);
            if let Err(error) = self.poll.poll(&mut ready, timeout) {
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                tracing::error!(%error, "a device cannot wait for its queues");
                self.desk.signal.needs_reset();
                return self.work;
            }
            for event in &ready {
                let token = event.token();
                if token == STOP {
                    self.stop.clear();
                    return self.work;
                }
                let wake = match self.events.get(token.0) {
                    Some(queue) => {
                        queue.clear();
                        Wake::Queue(u16::try_from(token.0).unwrap_or(u16::MAX))
                    }
                    None => Wake::Source(token.0 - self.events.len()),
                };
                if !wakes.contains(&wake) {
                    wakes.push(wake);
                }
            }
        }
    }
}

/// One turn of all that has something to do. What is left to do afterwards stays in `wakes`.
pub(super) fn turn(
    work: &mut impl Work,
    desk: &mut Desk,
    wakes: &mut Vec<Wake>,
) -> Result<(), Broken> {
    if wakes.is_empty() {
        return Ok(());
    }
    desk.rings.iter_mut().for_each(Ring::begin_turn);
    for wake in std::mem::take(wakes) {
        work.run(wake, desk)?;
    }
    for (index, ring) in (0..).zip(&mut desk.rings) {
        ring.flush()?;
        if ring.is_cut_short() {
            wakes.push(Wake::Queue(index));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
