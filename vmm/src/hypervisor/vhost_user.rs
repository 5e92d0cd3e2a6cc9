//! The vsock device for virtual machines that are not ours: a vhost-user backend, to which QEMU
//! (`vhost-user-vsock-pci`) or another monitor connects and lends the guest's memory and queues.
//!
//! ```text
//! QEMU ── socket ── vhost-user-backend ── handle_event ── Engine ── host
//!                    its one thread: queues, and the engine's descriptors as one
//! ```
//!
//! The library polls; the engine's own poll is one descriptor in the library's, and a timer and a
//! doorbell of ours are in the engine's. The queues are borrowed from the library for each turn.

use crate::hypervisor::Event;
use crate::memory::Memory;
use crate::virtio::vsock::device::{FEATURES, QUEUE_SIZES};
use crate::virtio::vsock::engine::Engine;
use crate::virtio::vsock::{Cid, Host, HostError, HostSide, host};
use crate::virtio::{Signal, read_config};
use mio::unix::SourceFd;
use mio::{Interest, Token};
use parking_lot::Mutex;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringMutex, VringT};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

/// Queues are up to so long; a monitor chooses.
const MAX_QUEUE_SIZE: usize = 1024;
const RX: usize = 0;
const TX: usize = 1;
/// The library's name for the engine's descriptor. Numbers up to that of the queues are its own.
const ENGINE: u16 = 8;
/// In the engine's poll.
const AGAIN: Token = Token(0);
const TIMER: Token = Token(1);
/// Turns in a row before the library may look at something else.
const TURNS: usize = 8;

/// Why there is no backend, or no more.
#[derive(Debug, Error)]
pub enum VhostUserError {
    /// A socket cannot be made.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The library cannot go on.
    #[error("the vhost-user socket {path} cannot be served: {reason}")]
    Serve {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No descriptor, no thread.
    #[error("the vhost-user backend cannot be started: {0}")]
    Io(#[from] io::Error),
}

/// A backend whose sockets are made, and that nobody uses yet.
pub struct VhostUser {
    path: PathBuf,
    sockets: Vec<PathBuf>,
    listener: Listener,
    backend: Arc<Backend>,
}

impl VhostUser {
    /// Makes the socket for the monitor at `path`, and those of the host's side, for the guest `cid`.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub fn bind(path: &Path, cid: Cid, side: HostSide) -> Result<Self, VhostUserError> {
        let host = Host::bind(side, cid)?;
        let mut sockets: Vec<_> = host.paths().map(Path::to_owned).collect();
        sockets.push(path.to_owned());
        let core = Core::new(Engine::new(host)?)?;
        let socket = OwnedFd::from(host::bind(path)?);
        let socket = UnixListener::from(socket);
        socket.set_nonblocking(false)?;
        let backend = Backend { config: cid.0.to_le_bytes(), core: Mutex::new(core) };
        Ok(Self {
            path: path.to_owned(),
            sockets,
            listener: Listener::from(socket),
            backend: Arc::new(backend),
        })
    }

    /// All sockets that were made, for whoever ends without dropping this: serving has no other end.
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// Serves monitors that connect, one after the other.
    ///
    /// # Errors
    /// It cannot wait for the next one.
    pub fn serve(mut self) -> Result<(), VhostUserError> {
        loop {
            self.serve_one()?;
            self.backend.core.lock().forget();
        }
    }

    fn serve_one(&mut self) -> Result<(), VhostUserError> {
        let failed = |path: &Path, error: vhost_user_backend::Error| VhostUserError::Serve {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let memory = GuestMemoryAtomic::new(Memory::new());
        let backend = self.backend.clone();
        let mut daemon = VhostUserDaemon::new("osxfs-vhost-user".into(), backend, memory)
            .map_err(|error| failed(&self.path, error))?;
        let fd = self.backend.core.lock().engine.as_raw_fd();
        for handler in daemon.get_epoll_handlers() {
            handler.register_listener(fd, EventSet::IN, u64::from(ENGINE))?;
        }
        daemon.start(&mut self.listener).map_err(|error| failed(&self.path, error))?;
        tracing::info!("a monitor has connected");
        match daemon.wait() {
            Ok(()) => tracing::info!("the monitor has left"),
            Err(error) => tracing::info!(%error, "the monitor has left"),
        }
        Ok(())
    }
}

/// Serves the vsock device of the guest `cid` at the vhost-user socket `path`, for ever.
///
/// # Errors
/// A socket cannot be made or served.
pub fn serve(path: &Path, cid: Cid, side: HostSide) -> Result<(), VhostUserError> {
    VhostUser::bind(path, cid, side)?.serve()
}

/// What the library calls.
struct Backend {
    config: [u8; 8],
    core: Mutex<Core>,
}

struct Core {
    engine: Engine,
    memory: Option<Memory>,
    calls: Arc<Calls>,
    /// What stands in for a queue while it is lent.
    spare: Option<[Queue; 2]>,
    again: Event,
    timer: OwnedFd,
    armed: Option<Instant>,
    ready: Vec<Token>,
    /// The guest broke a rule: nothing happens before its queues are started again.
    broken: bool,
    /// The queues were stopped: either a new driver comes, or the guest only held its breath.
    stopped: bool,
}

/// Remembers which queues the driver is to be told of.
#[derive(Default)]
struct Calls(AtomicU16);

impl Signal for Calls {
    fn used(&self, queue: u16) {
        self.0.fetch_or(1 << queue, Ordering::Relaxed);
    }

    fn config_changed(&self) {}

    fn needs_reset(&self) {}
}

impl Core {
    fn new(engine: Engine) -> Result<Self, VhostUserError> {
        let again = Event::new()?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(io::Error::from)?;
        for (fd, token) in [(again.as_fd(), AGAIN), (timer.as_fd(), TIMER)] {
            let fd = fd.as_raw_fd();
            engine.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        let spare = || Queue::new(1).map_err(|error| io::Error::other(error.to_string()));
        Ok(Self {
            engine,
            memory: None,
            calls: Arc::default(),
            spare: Some([spare()?, spare()?]),
            again,
            timer,
            armed: None,
            ready: Vec::new(),
            broken: false,
            stopped: true,
        })
    }

    /// The monitor is gone, and the guest with it.
    fn forget(&mut self) {
        self.engine.reset();
        self.memory = None;
        self.broken = false;
        self.stopped = true;
    }

    fn look(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.engine.look(Some(Duration::ZERO), &mut self.ready)?;
        if self.ready.contains(&AGAIN) {
            self.again.clear();
        }
        Ok(())
    }

    /// Takes turns until nothing is left to do or it is time for others.
    fn run(&mut self, vrings: &[VringMutex]) {
        for _ in 0..TURNS {
            if !self.turn(vrings) {
                return;
            }
        }
        self.again.signal();
    }

    /// One turn. Tells whether there may be more to do.
    fn turn(&mut self, vrings: &[VringMutex]) -> bool {
        let (Some(memory), Some(rx), Some(tx)) = (&self.memory, vrings.get(RX), vrings.get(TX))
        else {
            return false;
        };
        let (mut rx, mut tx) = (rx.get_mut(), tx.get_mut());
        let able = [&*rx, &*tx].iter().all(|ring| ring.is_enabled() && ring.get_queue().ready());
        if !able {
            return false;
        }
        if std::mem::take(&mut self.stopped) {
            self.broken = false;
            if rx.get_queue().next_avail() == 0 && tx.get_queue().next_avail() == 0 {
                self.engine.reset();
            }
        }
        if self.broken {
            return false;
        }
        let Some(mut lent) = self.spare.take() else { return false };
        std::mem::swap(rx.get_queue_mut(), &mut lent[RX]);
        std::mem::swap(tx.get_queue_mut(), &mut lent[TX]);
        let calls: Arc<dyn Signal> = self.calls.clone();
        let (mut lent, result) = self.engine.turn_of(memory, lent, &calls);
        std::mem::swap(rx.get_queue_mut(), &mut lent[RX]);
        std::mem::swap(tx.get_queue_mut(), &mut lent[TX]);
        self.spare = Some(lent);
        let called = self.calls.0.swap(0, Ordering::Relaxed);
        for (index, ring) in [(RX, &rx), (TX, &tx)] {
            if called & 1 << index != 0
                && let Err(error) = ring.signal_used_queue()
            {
                tracing::warn!(%error, "the monitor cannot be told of used buffers");
            }
        }
        result.unwrap_or_else(|error| {
            tracing::warn!(%error, "a guest broke the rules of its vsock device; it rests until the queues are started again");
            self.broken = true;
            false
        })
    }

    /// Sets the timer for what the engine does next without being woken.
    fn arm(&mut self) {
        let wakes = self.engine.wakes();
        if wakes == self.armed {
            return;
        }
        self.armed = wakes;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = wakes.map_or(zero, |at| {
            // Never zero, which would disarm it.
            let left = at.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
        });
        let value = Itimerspec { it_interval: zero, it_value: value };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value) {
            tracing::warn!(%error, "the timer of the vsock device cannot be set");
        }
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        QUEUE_SIZES.len()
    }

    fn max_queue_size(&self) -> usize {
        MAX_QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
            | FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn reset_device(&self) {
        self.core.lock().stopped = true;
    }

    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let mut data = vec![0; self.config.len().min(size as usize)];
        read_config(&self.config, u64::from(offset), &mut data);
        data
    }

    fn update_memory(&self, memory: GuestMemoryAtomic<Memory>) -> io::Result<()> {
        self.core.lock().memory = Some(Memory::clone(&memory.memory()));
        Ok(())
    }

    fn exit_event(&self, _thread_index: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::CLOEXEC | EventFlag::NONBLOCK).ok()
    }

    fn stop_vring(&self, _queue_index: u32) -> io::Result<()> {
        self.core.lock().stopped = true;
        Ok(())
    }

    fn handle_event(
        &self,
        device_event: u16,
        _events: EventSet,
        vrings: &[VringMutex],
        _thread_id: usize,
    ) -> io::Result<()> {
        let mut core = self.core.lock();
        if device_event == ENGINE {
            core.look()?;
        }
        core.run(vrings);
        core.arm();
        Ok(())
    }
}
