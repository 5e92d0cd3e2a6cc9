//! Virtio devices (OASIS virtio 1.2), and the one seam between them and what announces them to a
//! guest.
//!
//! ```text
//! guest ── registers ── mmio (or vhost-user) ── Device ── its thread ── host
//!              queue notified ──▶ Event ──▶   ▲              │
//!              interrupt      ◀── Signal ◀────┴──────────────┘
//! ```
//!
//! Life of a device: made; configured by the driver; [`activate`](Device::activate)d, from when on its
//! thread owns the queues; [`reset`](Device::reset), which returns when the thread has let go of guest
//! memory; and activated again, or dropped. A driver that breaks the rules of a queue gets
//! [`needs_reset`](Signal::needs_reset) and nothing more until it resets the device.
//!
//! What devices share: [`chain`] checks what a driver hands over, [`ring`] takes it out of a queue and
//! gives it back, [`worker`] is the thread. A device file says what its device does.

pub mod balloon;
pub mod block;
pub mod chain;
pub mod console;
pub mod mmio;
pub mod net;
pub mod ring;
pub mod rng;
#[cfg(any(test, feature = "test-utils"))]
pub mod test_utils;
pub mod vsock;
pub mod worker;

use crate::hypervisor::Event;
use crate::memory::Memory;
use std::io;
use std::sync::Arc;
use virtio_queue::Queue;

/// A virtio device, independent of how a guest finds it.
pub trait Device: Send {
    /// The device's number (`VIRTIO_ID_*`).
    fn id(&self) -> u32;

    /// The features that it offers, the transport's own (`VIRTIO_F_VERSION_1`) not among them.
    fn features(&self) -> u64;

    /// The largest size of each of its queues.
    fn queue_sizes(&self) -> &[u16];

    /// Reads its configuration space from `offset` on. What lies behind its end reads as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Writes its configuration space. What is read-only or behind its end is not written.
    fn write_config(&mut self, offset: u64, data: &[u8]);

    /// The driver is ready: the device goes to work, on a thread of its own. Queues that the driver
    /// did not make ready are not usable.
    ///
    /// # Errors
    /// It cannot work; the transport then tells the driver that it needs a reset.
    fn activate(&mut self, context: Context) -> io::Result<()>;

    /// Stops, and returns when nothing of it touches guest memory any more. Does nothing to a device
    /// that is not active.
    fn reset(&mut self);
}

/// What an active device works with.
pub struct Context {
    /// The guest's memory.
    pub memory: Memory,
    /// What device and driver have agreed on.
    pub features: u64,
    /// Its queues, in their order, each with what the driver's notifications signal.
    pub queues: Vec<(Queue, Arc<Event>)>,
    /// The way back.
    pub signal: Arc<dyn Signal>,
}

/// What a device tells the driver. Called on any thread; does not wait.
pub trait Signal: Send + Sync {
    /// This queue has used buffers. (Ask [`QueueT::needs_notification`](virtio_queue::QueueT) first.)
    fn used(&self, queue: u16);

    /// The configuration space has changed.
    fn config_changed(&self);

    /// The driver broke the rules, and nothing works before it resets the device.
    fn needs_reset(&self);
}

/// How a driver broke the rules of its queues.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// The available ring is further ahead than the queue is long.
    #[error("the available ring runs ahead of its queue")]
    Index,
    /// A ring or buffer is not in guest memory.
    #[error("guest memory cannot be reached")]
    Memory,
    /// A chain has too many descriptors.
    #[error("a chain has more than {max} descriptors", max = chain::MAX_CHAIN)]
    TooLong,
    /// A descriptor is empty or outside guest memory.
    #[error("chain {head} has {len} bytes at {address:#x}: empty, or not in guest memory")]
    Descriptor {
        /// The chain.
        head: u16,
        /// Where.
        address: u64,
        /// How many bytes.
        len: usize,
    },
    /// What the device reads comes behind what it writes.
    #[error("chain {head} has a readable part behind a writable one")]
    Order {
        /// The chain.
        head: u16,
    },
    /// A chain loops, leads nowhere or is longer than 4 GiB.
    #[error("chain {head} has no end")]
    Endless {
        /// The chain.
        head: u16,
    },
    /// A chain begins outside the queue.
    #[error("there is no chain {head}")]
    Head {
        /// Where it should begin.
        head: u16,
    },
    /// The device has no such queue.
    #[error("there is no such queue")]
    NoQueue,
    /// A request is not as its device's specification says.
    #[error("{0}")]
    Request(&'static str),
}

/// Reads a configuration space that is `config`.
pub(crate) fn read_config(config: &[u8], offset: u64, data: &mut [u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = config.get(start..).unwrap_or_default();
    for (n, byte) in data.iter_mut().enumerate() {
        *byte = rest.get(n).copied().unwrap_or_default();
    }
}
