//! How a guest finds a virtio device: registers in memory (virtio 1.2, 4.2, version 2), announced by
//! ACPI (`LNRO0005`) or a device tree.
//!
//! ```text
//! 0x000 magic, version, device, vendor     0x050 a queue has buffers (also by ioeventfd)
//! 0x010 features, 0x020 accepted           0x060 interrupt status, 0x064 acknowledged
//! 0x030 queue: size, addresses, ready      0x070 device status; 0 resets
//! 0x0fc generation of the configuration    0x100 configuration space of the device
//! ```
//!
//! [`registers`] decides what a write means; here it is carried out. A lock covers registers and
//! device; notifications and interrupts pass it by. The lock is held while a device stops, so no
//! thread of a device may wait for a virtual processor.

pub mod registers;
#[cfg(test)]
mod tests;

use super::{Context, Device, Signal};
use crate::bus::BusDevice;
use crate::hypervisor::{Event, Interrupt};
use crate::memory::Memory;
use parking_lot::Mutex;
use registers::{Effect, Registers, Status};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_DEVICE_ID,
    VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING, VIRTIO_MMIO_INTERRUPT_ACK,
    VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_MAGIC_VALUE, VIRTIO_MMIO_QUEUE_NOTIFY,
    VIRTIO_MMIO_VENDOR_ID, VIRTIO_MMIO_VERSION,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// Bytes that the registers of a device take.
pub const SIZE: u64 = 0x1000;

/// The register that a driver writes a queue's index into (32 bits) when it has buffers.
pub const NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// `virt`, read as a little-endian number.
const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"osxf");

/// What the transport and the queues know to do for every device.
const FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// A device with its registers.
pub struct Transport {
    memory: Memory,
    events: Vec<Arc<Event>>,
    line: Arc<Line>,
    state: Mutex<State>,
}

struct State {
    registers: Registers,
    device: Box<dyn Device>,
}

/// The way from a device's thread to the driver.
struct Line {
    interrupt: Arc<dyn Interrupt>,
    status: AtomicU32,
    generation: AtomicU32,
    needs_reset: AtomicBool,
}

impl Line {
    fn raise(&self, cause: u32) {
        self.status.fetch_or(cause, Ordering::SeqCst);
        self.interrupt.raise();
    }
}

impl Signal for Line {
    fn used(&self, _queue: u16) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }
}

impl Transport {
    /// Registers for a device.
    ///
    /// # Errors
    /// No descriptors can be had for the events of its queues.
    pub fn new(
        device: Box<dyn Device>,
        memory: Memory,
        interrupt: Arc<dyn Interrupt>,
    ) -> io::Result<Self> {
        let sizes = device.queue_sizes();
        let events = sizes.iter().map(|_| Event::new().map(Arc::new)).collect::<io::Result<_>>()?;
        let registers = Registers::new(device.features() | FEATURES, sizes);
        let line = Line {
            interrupt,
            status: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
        };
        let state = Mutex::new(State { registers, device });
        Ok(Self { memory, events, line: Arc::new(line), state })
    }

    /// What a driver's notification of each queue signals. Whoever can spare the guest an exit does it
    /// itself when the queue's index is written to [`NOTIFY`].
    pub fn queue_events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// The registers, aware of what the device's thread has said meanwhile.
    fn locked(&self) -> parking_lot::MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if self.line.needs_reset.load(Ordering::SeqCst) {
            state.registers.need_reset();
        }
        state
    }

    fn read_register(&self, register: u32) -> u32 {
        match register {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_ID => self.locked().device.id(),
            VIRTIO_MMIO_INTERRUPT_STATUS => self.line.status.load(Ordering::SeqCst),
            VIRTIO_MMIO_CONFIG_GENERATION => self.line.generation.load(Ordering::SeqCst),
            _ => self.locked().registers.read(register),
        }
    }

    fn write_register(&self, register: u32, value: u32) {
        match register {
            VIRTIO_MMIO_QUEUE_NOTIFY => {
                if let Some(event) = self.events.get(value as usize) {
                    event.signal();
                }
            }
            VIRTIO_MMIO_INTERRUPT_ACK => {
                self.line.status.fetch_and(!value, Ordering::SeqCst);
            }
            _ => {
                let mut state = self.locked();
                match state.registers.write(register, value, &self.memory) {
                    Effect::Nothing => {}
                    Effect::Activate => self.activate(&mut state),
                    Effect::Reset => self.reset(&mut state),
                }
            }
        }
    }

    fn activate(&self, state: &mut State) {
        let queues = state.registers.queues(&self.memory);
        let context = Context {
            memory: self.memory.clone(),
            features: state.registers.features(),
            queues: queues.into_iter().zip(self.events.iter().cloned()).collect(),
            signal: self.line.clone(),
        };
        let id = state.device.id();
        match state.device.activate(context) {
            Ok(()) => tracing::debug!(id, "virtio device at work"),
            Err(error) => {
                tracing::error!(id, %error, "virtio device cannot work");
                state.registers.need_reset();
                self.line.needs_reset();
            }
        }
    }

    fn reset(&self, state: &mut State) {
        state.device.reset();
        for event in &self.events {
            event.clear();
        }
        self.line.status.store(0, Ordering::SeqCst);
        self.line.needs_reset.store(false, Ordering::SeqCst);
    }
}

impl BusDevice for Transport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(VIRTIO_MMIO_CONFIG.into()) {
            self.state.lock().device.read_config(offset, data);
        } else if let (Some(register), Ok(data)) =
            (register(offset), <&mut [u8; 4]>::try_from(data))
        {
            *data = self.read_register(register).to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(VIRTIO_MMIO_CONFIG.into()) {
            let mut state = self.locked();
            // Before it is a driver, nobody may configure the device.
            if state.registers.status().contains(Status::DRIVER) {
                state.device.write_config(offset, data);
            }
        } else if let (Some(register), Ok(data)) = (register(offset), <[u8; 4]>::try_from(data)) {
            self.write_register(register, u32::from_le_bytes(data));
        }
    }
}

/// Registers are read and written whole.
fn register(offset: u64) -> Option<u32> {
    u32::try_from(offset).ok().filter(|offset| offset.is_multiple_of(4))
}
