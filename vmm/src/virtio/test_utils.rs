//! The driver's side of a device, for tests and fuzzing: it lays rings and buffers into a small guest
//! memory, hands chains to a device and collects them again.
//!
//! ```ignore
//! let mut driver = Driver::new(&[64]);
//! device.activate(driver.context(0))?;
//! let sent = driver.send(0, &[Part::Read(b"question"), Part::Write(16)]);
//! let answer = driver.wait(0);        // blocks until the device gives the chain back
//! assert_eq!(driver.written(&sent, answer.len), b"answer");
//! ```
//!
//! Without a thread: [`Driver::desk`] and [`step`].

use super::worker::{Desk, Wake, Work, turn};
use super::{Broken, Context, Signal};
use crate::hypervisor::{Event, Interrupt};
use crate::memory::Memory;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};
use virtio_bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

/// Where the first queue's rings and buffers lie, and how far apart those of the next.
const AREA: u64 = 1 << 20;
/// Where in it the buffers begin.
const BUFFERS: u64 = 1 << 16;
/// How long a device may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A part of a chain.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// The device reads these bytes.
    Read(&'a [u8]),
    /// It may write so many.
    Write(u32),
}

/// A chain as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its first descriptor.
    pub head: u16,
    /// What the device may write: address and length.
    pub writable: Vec<(GuestAddress, u32)>,
}

/// A chain as it came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// Its first descriptor.
    pub head: u16,
    /// The bytes that the device says it wrote.
    pub len: u32,
}

/// Keeps what a device signals.
#[derive(Default)]
pub struct Recorder {
    state: Mutex<Recorded>,
    changed: Condvar,
}

/// What it has kept.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Queues with used buffers, in order.
    pub used: Vec<u16>,
    /// Changes of the configuration.
    pub config_changes: usize,
    /// How often it asked for a reset.
    pub resets_needed: usize,
}

impl Recorder {
    /// Until now.
    pub fn so_far(&self) -> Recorded {
        self.state.lock().clone()
    }

    /// Waits until that is so, or panics.
    pub fn wait_until(&self, what: &str, so: impl Fn(&Recorded) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        while !so(&state) {
            assert!(!self.changed.wait_until(&mut state, end).timed_out(), "never: {what}");
        }
    }

    fn record(&self, what: impl FnOnce(&mut Recorded)) {
        what(&mut self.state.lock());
        self.changed.notify_all();
    }
}

impl Signal for Recorder {
    fn used(&self, queue: u16) {
        self.record(|state| state.used.push(queue));
    }

    fn config_changed(&self) {
        self.record(|state| state.config_changes += 1);
    }

    fn needs_reset(&self) {
        self.record(|state| state.resets_needed += 1);
    }
}

impl Interrupt for Recorder {
    /// Counted as a used queue 0.
    fn raise(&self) {
        self.used(0);
    }
}

/// One queue, from the driver's side.
pub struct FakeQueue {
    memory: Memory,
    base: u64,
    size: u16,
    next_descriptor: u16,
    next_buffer: u64,
    available: u16,
    used: u16,
}

impl FakeQueue {
    fn new(memory: Memory, n: usize, size: u16) -> Self {
        let base = AREA * (n as u64 + 1);
        let mut queue =
            Self { memory, base, size, next_descriptor: 0, next_buffer: 0, available: 0, used: 0 };
        queue.restart();
        queue
    }

    /// Empties the rings, as a driver does for a new beginning.
    pub fn restart(&mut self) {
        (self.next_descriptor, self.next_buffer, self.available, self.used) = (0, 0, 0, 0);
        self.memory.write_slice(&vec![0; BUFFERS as usize], GuestAddress(self.base)).unwrap();
    }

    /// Where its descriptors lie.
    pub fn descriptors(&self) -> u64 {
        self.base
    }

    /// Where its available ring lies.
    pub fn available_ring(&self) -> u64 {
        self.base + 0x8000
    }

    /// Where its used ring lies.
    pub fn used_ring(&self) -> u64 {
        self.base + 0xa000
    }

    /// The device's side of it.
    pub fn device_side(&self, event_idx: bool) -> Queue {
        let mut queue = Queue::new(self.size).unwrap();
        queue.try_set_desc_table_address(GuestAddress(self.descriptors())).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(self.available_ring())).unwrap();
        queue.try_set_used_ring_address(GuestAddress(self.used_ring())).unwrap();
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        assert!(queue.is_valid(&self.memory));
        queue
    }

    /// Room for a buffer; the oldest one is taken when there is no other.
    pub fn allocate(&mut self, len: u32) -> GuestAddress {
        let len = u64::from(len);
        if self.next_buffer + len > AREA - BUFFERS {
            self.next_buffer = 0;
        }
        let address = self.base + BUFFERS + self.next_buffer;
        self.next_buffer += len;
        GuestAddress(address)
    }

    /// Lays a chain of these parts out, without making it available.
    pub fn lay(&mut self, parts: &[Part<'_>]) -> Sent {
        let head = self.next_descriptor;
        let mut sent = Sent { head, writable: Vec::new() };
        for (n, part) in parts.iter().enumerate() {
            let more = if n + 1 < parts.len() { VRING_DESC_F_NEXT } else { 0 };
            let next = (self.next_descriptor + 1) % self.size;
            let descriptor = match *part {
                Part::Read(data) => {
                    let address = self.allocate(data.len() as u32);
                    self.memory.write_slice(data, address).unwrap();
                    Descriptor::new(address.0, data.len() as u32, more as u16, next)
                }
                Part::Write(len) => {
                    let address = self.allocate(len);
                    sent.writable.push((address, len));
                    Descriptor::new(address.0, len, (more | VRING_DESC_F_WRITE) as u16, next)
                }
            };
            self.put(self.next_descriptor, descriptor);
            self.next_descriptor = next;
        }
        sent
    }

    /// Writes a descriptor as it is.
    pub fn put(&self, index: u16, descriptor: Descriptor) {
        let address = GuestAddress(self.descriptors() + 16 * u64::from(index));
        self.memory.write_obj(RawDescriptor::from(descriptor), address).unwrap();
    }

    /// Makes the chain that begins at this descriptor available.
    pub fn offer(&mut self, head: u16) {
        let slot = self.available_ring() + 4 + 2 * u64::from(self.available % self.size);
        self.memory.write_obj(head.to_le(), GuestAddress(slot)).unwrap();
        self.available = self.available.wrapping_add(1);
        self.set_available(self.available);
    }

    /// Says how far the available ring is filled.
    pub fn set_available(&self, index: u16) {
        let address = GuestAddress(self.available_ring() + 2);
        self.memory.store(index.to_le(), address, std::sync::atomic::Ordering::Release).unwrap();
    }

    /// The next chain that came back.
    pub fn collect(&mut self) -> Option<Used> {
        let address = GuestAddress(self.used_ring() + 2);
        let index: u16 = self
            .memory
            .load(address, std::sync::atomic::Ordering::Acquire)
            .map(u16::from_le)
            .unwrap();
        if index == self.used {
            return None;
        }
        let slot = self.used_ring() + 4 + 8 * u64::from(self.used % self.size);
        let element: u64 = self.memory.read_obj(GuestAddress(slot)).map(u64::from_le).unwrap();
        self.used = self.used.wrapping_add(1);
        // It wants to be told of the next one (`used_event`).
        let event = self.available_ring() + 4 + 2 * u64::from(self.size);
        self.memory.write_obj(self.used.to_le(), GuestAddress(event)).unwrap();
        let (head, len) = (element as u32, (element >> 32) as u32);
        Some(Used { head: u16::try_from(head).unwrap(), len })
    }
}

/// A driver with its guest.
pub struct Driver {
    /// The guest's memory: a mebibyte for each queue, and one.
    pub memory: Memory,
    /// What the device has signalled.
    pub signal: Arc<Recorder>,
    /// What notifications of each queue signal.
    pub events: Vec<Arc<Event>>,
    /// Its queues.
    pub queues: Vec<FakeQueue>,
}

impl Driver {
    /// One with queues of these sizes (at most 1024).
    pub fn new(sizes: &[u16]) -> Self {
        let len = AREA as usize * (sizes.len() + 1);
        let memory = Memory::from_ranges(&[(GuestAddress(0), len)]).unwrap();
        let queue = |(n, &size)| FakeQueue::new(memory.clone(), n, size);
        let queues = sizes.iter().enumerate().map(queue).collect();
        let events = sizes.iter().map(|_| Arc::new(Event::new().unwrap())).collect();
        Self { memory, signal: Arc::default(), events, queues }
    }

    /// What a device is activated with. The rings begin empty.
    pub fn context(&mut self, features: u64) -> Context {
        let event_idx = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        self.queues.iter_mut().for_each(FakeQueue::restart);
        let queues = self.queues.iter().map(|queue| queue.device_side(event_idx));
        Context {
            memory: self.memory.clone(),
            features,
            queues: queues.zip(self.events.iter().cloned()).collect(),
            signal: self.signal.clone(),
        }
    }

    /// The same for a device's work without its thread.
    pub fn desk(&mut self, features: u64) -> Desk {
        desk(self.context(features))
    }

    /// Sends a chain and notifies the device.
    pub fn send(&mut self, queue: usize, parts: &[Part<'_>]) -> Sent {
        let sent = self.queues[queue].lay(parts);
        self.queues[queue].offer(sent.head);
        self.events[queue].signal();
        sent
    }

    /// The next chain that comes back, or panics.
    pub fn wait(&mut self, queue: usize) -> Used {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(used) = self.queues[queue].collect() {
                return used;
            }
            assert!(Instant::now() < end, "nothing comes back from queue {queue}");
            // The device may rightly not signal, so the ring is looked at, too.
            let mut state = self.signal.state.lock();
            _ = self.signal.changed.wait_for(&mut state, Duration::from_millis(1));
        }
    }

    /// The first `len` bytes of what the device may write in a chain.
    pub fn written(&self, sent: &Sent, len: u32) -> Vec<u8> {
        let mut data = Vec::new();
        for &(address, part) in &sent.writable {
            let start = data.len();
            data.resize(start + part as usize, 0);
            self.memory.read_slice(&mut data[start..], address).unwrap();
        }
        data.truncate(len as usize);
        data
    }
}

/// What a device's work is done on.
pub fn desk(context: Context) -> Desk {
    Desk::new(context).0
}

/// Lets a device's work take its turn on all queues, until nothing is left to do.
///
/// # Errors
/// The driver broke a rule.
pub fn step(work: &mut impl Work, desk: &mut Desk) -> Result<(), Broken> {
    let mut wakes: Vec<Wake> = (0..).zip(&desk.rings).map(|(n, _)| Wake::Queue(n)).collect();
    // Each turn takes chains out, of which there are no more than fit the queues.
    for _ in 0..1 << 10 {
        if wakes.is_empty() {
            break;
        }
        turn(work, desk, &mut wakes)?;
    }
    Ok(())
}
