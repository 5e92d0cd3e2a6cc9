//! What a driver has told a virtio-mmio device so far: pure, so that every order of writes can be
//! tried.
//!
//! ```text
//!   0 ─ACKNOWLEDGE─▶ ─DRIVER─▶ (features) ─FEATURES_OK─▶ (queues) ─DRIVER_OK─▶ at work
//!   ▲                                                                            │
//!   └──────────── 0 written, from anywhere ◀── NEEDS_RESET, FAILED ◀─────────────┘
//! ```
//!
//! Invariants: the status is always a prefix of that path; from `FEATURES_OK` on the accepted features
//! are some of those offered, with `VIRTIO_F_VERSION_1`, and do not change; a queue that is ready lies
//! in guest memory; a device is activated once between two resets, and not if it needs one.

use crate::memory::Memory;
use bitflags::bitflags;
use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DRIVER_FEATURES,
    VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_NUM,
    VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL,
    VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_SHM_BASE_HIGH,
    VIRTIO_MMIO_SHM_BASE_LOW, VIRTIO_MMIO_SHM_LEN_HIGH, VIRTIO_MMIO_SHM_LEN_LOW,
    VIRTIO_MMIO_STATUS,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

bitflags! {
    /// How far driver and device have come (virtio 1.2, 2.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Status: u32 {
        /// The driver has seen the device.
        const ACKNOWLEDGE = VIRTIO_CONFIG_S_ACKNOWLEDGE;
        /// It knows how to drive it.
        const DRIVER = VIRTIO_CONFIG_S_DRIVER;
        /// Both agree on features.
        const FEATURES_OK = VIRTIO_CONFIG_S_FEATURES_OK;
        /// The device may work.
        const DRIVER_OK = VIRTIO_CONFIG_S_DRIVER_OK;
        /// The device cannot go on.
        const NEEDS_RESET = VIRTIO_CONFIG_S_NEEDS_RESET;
        /// The driver has given up.
        const FAILED = VIRTIO_CONFIG_S_FAILED;
    }
}

/// The order in which a driver sets them.
const PATH: [Status; 4] =
    [Status::ACKNOWLEDGE, Status::DRIVER, Status::FEATURES_OK, Status::DRIVER_OK];

/// What is to be done with the device after a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// It goes to work.
    Activate,
    /// It stops; the registers are already as at the beginning.
    Reset,
}

/// A queue, as far as the driver has described it.
#[derive(Clone, Debug)]
struct Setup {
    max_size: u16,
    size: u32,
    ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

impl Setup {
    fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: max_size.into(),
            ready: false,
            descriptors: 0,
            available: 0,
            used: 0,
        }
    }

    /// The queue, if it can be one and lies in guest memory.
    fn queue(&self, memory: &Memory, event_idx: bool) -> Option<Queue> {
        let mut queue = Queue::new(self.max_size).ok()?;
        queue.try_set_size(u16::try_from(self.size).ok()?).ok()?;
        queue.try_set_desc_table_address(GuestAddress(self.descriptors)).ok()?;
        queue.try_set_avail_ring_address(GuestAddress(self.available)).ok()?;
        queue.try_set_used_ring_address(GuestAddress(self.used)).ok()?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        // An available ring at 0 stands for "none" in `virtio-queue`.
        (self.available != 0 && queue.is_valid(memory)).then_some(queue)
    }
}

/// The registers.
#[derive(Clone, Debug)]
pub struct Registers {
    offered: u64,
    accepted: u64,
    offered_page: u32,
    accepted_page: u32,
    selected: u32,
    status: Status,
    queues: Vec<Setup>,
}

impl Registers {
    /// Those of a device with these features and largest queue sizes, which nobody has touched.
    pub fn new(offered: u64, queue_sizes: &[u16]) -> Self {
        Self {
            offered,
            accepted: 0,
            offered_page: 0,
            accepted_page: 0,
            selected: 0,
            status: Status::empty(),
            queues: queue_sizes.iter().map(|&size| Setup::new(size)).collect(),
        }
    }

    /// How far it has come.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What the driver has accepted.
    pub fn features(&self) -> u64 {
        self.accepted
    }

    /// The device cannot go on before it is reset.
    pub fn need_reset(&mut self) {
        self.status |= Status::NEEDS_RESET;
    }

    /// All queues in their order. Those that the driver did not make ready are not ready.
    pub fn queues(&self, memory: &Memory) -> Vec<Queue> {
        let event_idx = self.accepted & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let queue = |setup: &Setup| {
            let ready = setup.ready.then(|| setup.queue(memory, event_idx)).flatten();
            ready.unwrap_or_default()
        };
        self.queues.iter().map(queue).collect()
    }

    /// Reads a register; those that belong to the device, and those that are none, as zero.
    pub fn read(&self, register: u32) -> u32 {
        let selected = self.queues.get(self.selected as usize);
        match register {
            VIRTIO_MMIO_DEVICE_FEATURES => page(self.offered, self.offered_page),
            VIRTIO_MMIO_QUEUE_NUM_MAX => selected.map_or(0, |queue| queue.max_size.into()),
            VIRTIO_MMIO_QUEUE_READY => selected.map_or(0, |queue| queue.ready.into()),
            VIRTIO_MMIO_STATUS => self.status.bits(),
            // All ones: there is no such shared memory.
            VIRTIO_MMIO_SHM_LEN_LOW
            | VIRTIO_MMIO_SHM_LEN_HIGH
            | VIRTIO_MMIO_SHM_BASE_LOW
            | VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            _ => 0,
        }
    }

    /// Writes a register. What comes out of order changes nothing.
    pub fn write(&mut self, register: u32, value: u32, memory: &Memory) -> Effect {
        match register {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.offered_page = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.accepted_page = value,
            VIRTIO_MMIO_DRIVER_FEATURES => self.accept(value),
            VIRTIO_MMIO_QUEUE_SEL => self.selected = value,
            VIRTIO_MMIO_STATUS => return self.set_status(value),
            _ => self.set_up(register, value, memory),
        }
        Effect::Nothing
    }

    fn accept(&mut self, value: u32) {
        let expected = Status::ACKNOWLEDGE | Status::DRIVER;
        let shift = match self.accepted_page {
            0 => 0,
            1 => 32,
            // There are 64 features; a driver that asks for others gets no `FEATURES_OK`.
            _ if value == 0 => return,
            _ => return self.need_reset(),
        };
        if self.status == expected {
            let others = self.accepted & !(u64::from(u32::MAX) << shift);
            self.accepted = others | u64::from(value) << shift;
        }
    }

    fn set_status(&mut self, value: u32) -> Effect {
        if value == 0 {
            let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.max_size).collect();
            *self = Self::new(self.offered, &sizes);
            return Effect::Reset;
        }
        // Whether it needs a reset is not for the driver to say; it writes what it has read.
        let wanted = Status::from_bits_truncate(value) - Status::NEEDS_RESET;
        if wanted.contains(Status::FAILED) {
            self.status |= Status::FAILED;
        }
        let kept = self.status - Status::NEEDS_RESET;
        if self.status.intersects(Status::NEEDS_RESET | Status::FAILED) || !wanted.contains(kept) {
            return Effect::Nothing;
        }
        for (n, step) in PATH.into_iter().enumerate() {
            if self.status.contains(step) {
                continue;
            }
            let before = PATH.get(..n).unwrap_or_default().iter().copied().collect();
            let agreed = step != Status::FEATURES_OK || self.is_agreed();
            if !wanted.contains(step) || self.status != before || !agreed {
                return Effect::Nothing;
            }
            self.status |= step;
            if step == Status::DRIVER_OK {
                return Effect::Activate;
            }
        }
        Effect::Nothing
    }

    fn is_agreed(&self) -> bool {
        self.accepted & !self.offered == 0 && self.accepted & (1 << VIRTIO_F_VERSION_1) != 0
    }

    /// Describes the selected queue: after the features, before the work, and not while it is ready.
    fn set_up(&mut self, register: u32, value: u32, memory: &Memory) {
        let expected = Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK;
        let Some(queue) = self.queues.get_mut(self.selected as usize) else { return };
        if self.status != expected || (queue.ready && register != VIRTIO_MMIO_QUEUE_READY) {
            return;
        }
        match register {
            VIRTIO_MMIO_QUEUE_NUM => queue.size = value,
            VIRTIO_MMIO_QUEUE_DESC_LOW => set_low(&mut queue.descriptors, value),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => set_high(&mut queue.descriptors, value),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_low(&mut queue.available, value),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_high(&mut queue.available, value),
            VIRTIO_MMIO_QUEUE_USED_LOW => set_low(&mut queue.used, value),
            VIRTIO_MMIO_QUEUE_USED_HIGH => set_high(&mut queue.used, value),
            VIRTIO_MMIO_QUEUE_READY if value == 0 => queue.ready = false,
            VIRTIO_MMIO_QUEUE_READY => {
                queue.ready = queue.queue(memory, false).is_some();
                if !queue.ready {
                    self.need_reset();
                }
            }
            _ => {}
        }
    }
}

/// 32 of 64 features.
fn page(features: u64, page: u32) -> u32 {
    let shifted = page.checked_mul(32).and_then(|shift| features.checked_shr(shift)).unwrap_or(0);
    (shifted & u64::from(u32::MAX)) as u32
}

fn set_low(address: &mut u64, value: u32) {
    *address = *address >> 32 << 32 | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = *address & u64::from(u32::MAX) | u64::from(value) << 32;
}
