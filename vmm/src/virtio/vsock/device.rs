//! The device in our own monitor: configuration space, activation, and the thread that drives the
//! [`engine`](super::engine).

use super::Cid;
use super::engine::Engine;
use super::host::{Host, HostError, HostSide};
use crate::hypervisor::Event;
use crate::memory::Memory;
use crate::virtio::ring::Ring;
use crate::virtio::{Broken, Context, Device, Signal, read_config};
use mio::unix::SourceFd;
use mio::{Interest, Token};
use rustix::fd::{AsFd, AsRawFd};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

/// Sizes of its queues: to the guest, from the guest, events.
pub const QUEUE_SIZES: [u16; 3] = [256, 256, 16];
/// Stream sockets are supported (`VIRTIO_VSOCK_F_STREAM`, virtio 1.2, 5.10.3).
pub const FEATURES: u64 = 1;

/// The event that tells a driver that its connections are gone (`VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`).
const TRANSPORT_RESET: [u8; 4] = 0_u32.to_le_bytes();

const RX: usize = 0;
const TX: usize = 1;
const STOP: Token = Token(QUEUE_SIZES.len());

/// The vsock device.
pub struct Vsock {
    config: [u8; 8],
    state: State,
    lost: Arc<AtomicBool>,
}

enum State {
    Idle(Box<Engine>),
    Running {
        stop: Arc<Event>,
        thread: JoinHandle<Engine>,
    },
    /// Its thread could not be started or has died.
    Dead,
}

impl Vsock {
    /// A device for the guest `cid`, whose host side is open from now on. Clients wait until the
    /// guest's driver is ready.
    ///
    /// # Errors
    /// A socket cannot be made.
    pub fn new(cid: Cid, side: HostSide) -> Result<Self, HostError> {
        let engine = Engine::new(Host::bind(side, cid)?).map_err(HostError::Descriptors)?;
        Ok(Self {
            config: cid.0.to_le_bytes(),
            state: State::Idle(Box::new(engine)),
            lost: Arc::default(),
        })
    }

    /// The guest goes on where it was, but its connections are gone (it was restored from a
    /// snapshot): its driver is told when the device is activated.
    pub fn lost_connections(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// All that the thread needs, and what stops it.
    fn driver(&mut self, context: Context) -> io::Result<(Driver, Arc<Event>)> {
        let State::Idle(engine) = std::mem::replace(&mut self.state, State::Dead) else {
            return Err(io::Error::other("its thread is not at hand"));
        };
        let stop = Arc::new(Event::new()?);
        let Context { memory, queues, signal, .. } = context;
        let (mut rings, mut events) = (Vec::new(), Vec::new());
        for (index, (queue, event)) in (0..).zip(queues) {
            rings.push(Ring::new(index, queue, memory.clone(), signal.clone()));
            events.push(event);
        }
        let rings: [Ring; 3] =
            rings.try_into().map_err(|_| io::Error::other("it has three queues"))?;
        events.push(stop.clone());
        let lost = self.lost.clone();
        let driver = Driver {
            engine: *engine,
            rings,
            events,
            memory,
            signal,
            lost,
            broken: false,
            ready: Vec::new(),
        };
        driver.register()?;
        Ok((driver, stop))
    }
}

impl Device for Vsock {
    fn id(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config(&self.config, offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, context: Context) -> io::Result<()> {
        let (driver, stop) = self.driver(context)?;
        let thread =
            std::thread::Builder::new().name("osxfs-vsock".into()).spawn(move || driver.run())?;
        self.state = State::Running { stop, thread };
        Ok(())
    }

    fn reset(&mut self) {
        if let State::Running { .. } = self.state
            && let State::Running { stop, thread } = std::mem::replace(&mut self.state, State::Dead)
        {
            stop.signal();
            if let Ok(engine) = thread.join() {
                self.state = State::Idle(Box::new(engine));
            }
        }
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        self.reset();
    }
}

/// The thread of an active device.
struct Driver {
    engine: Engine,
    rings: [Ring; 3],
    /// The queues' and the one to stop; their places are their tokens.
    events: Vec<Arc<Event>>,
    memory: Memory,
    signal: Arc<dyn Signal>,
    lost: Arc<AtomicBool>,
    broken: bool,
    /// Tokens of those that have happened.
    ready: Vec<Token>,
}

impl Driver {
    fn register(&self) -> io::Result<()> {
        for (n, event) in self.events.iter().enumerate() {
            let fd = event.as_fd().as_raw_fd();
            let registry = self.engine.registry();
            registry.register(&mut SourceFd(&fd), Token(n), Interest::READABLE)?;
        }
        Ok(())
    }

    fn run(mut self) -> Engine {
        loop {
            let timeout = self.turn().then_some(Duration::ZERO);
            match self.look(timeout) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "the vsock device cannot wait");
                    self.signal.needs_reset();
                    break;
                }
            }
        }
        for event in &self.events {
            let fd = event.as_fd().as_raw_fd();
            _ = self.engine.registry().deregister(&mut SourceFd(&fd));
        }
        self.engine.reset();
        self.engine
    }

    /// Sleeps until something happens. Tells whether to go on.
    fn look(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.ready.clear();
        self.engine.look(timeout, &mut self.ready)?;
        for token in &self.ready {
            if let Some(event) = self.events.get(token.0) {
                event.clear();
            }
        }
        Ok(!self.ready.contains(&STOP))
    }

    /// One turn of the queues. Tells whether there may be more to do.
    fn turn(&mut self) -> bool {
        if self.broken {
            return false;
        }
        self.try_turn().unwrap_or_else(|error| {
            tracing::warn!(%error, "a guest broke the rules of its vsock device, which now needs a reset");
            self.broken = true;
            self.signal.needs_reset();
            false
        })
    }

    fn try_turn(&mut self) -> Result<bool, Broken> {
        self.rings.iter_mut().for_each(Ring::begin_turn);
        let [rx, tx, event] = &mut self.rings;
        if self.lost.load(Ordering::Relaxed)
            && let Some(mut chain) = event.pop()?
        {
            let len = chain.writable.write(&self.memory, &TRANSPORT_RESET)?;
            event.complete(chain.head, len)?;
            self.lost.store(false, Ordering::Relaxed);
        }
        self.engine.turn(&self.memory, rx, tx)?;
        for ring in &mut self.rings {
            ring.flush()?;
        }
        Ok(self.rings[RX].is_cut_short() || self.rings[TX].is_cut_short())
    }
}

#[cfg(test)]
mod tests;
