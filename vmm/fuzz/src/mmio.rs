//! Random accesses to the registers of a device, which answers every chain it gets.

use crate::hostile::Input;
use std::io;
use vm_memory::{Bytes as _, GuestAddress};
use vmm::bus::BusDevice;
use vmm::virtio::mmio::Transport;
use vmm::virtio::test_utils::{Driver, desk, step};
use vmm::virtio::worker::{Desk, Wake, Work};
use vmm::virtio::{Broken, Context, Device};

const SIZES: [u16; 2] = [64, 16];

/// Gives back what it gets, and whatever the queues are does not do so for ever.
struct Echo;

impl Work for Echo {
    fn run(&mut self, wake: Wake, desk: &mut Desk) -> Result<(), Broken> {
        let Wake::Queue(queue) = wake else { return Ok(()) };
        let memory = desk.memory.clone();
        let ring = desk.ring(queue)?;
        while let Some(mut chain) = ring.pop()? {
            let mut data = vec![0; chain.readable.len().min(4096)];
            chain.readable.read(&memory, &mut data)?;
            let written = chain.writable.write(&memory, &data)?;
            ring.complete(chain.head, written)?;
        }
        Ok(())
    }
}

/// Works when it is activated, on the thread that does so.
struct Once {
    active: bool,
}

impl Device for Once {
    fn id(&self) -> u32 {
        1
    }

    fn features(&self) -> u64 {
        0xff
    }

    fn queue_sizes(&self) -> &[u16] {
        &SIZES
    }

    fn read_config(&self, _: u64, data: &mut [u8]) {
        data.fill(7);
    }

    fn write_config(&mut self, _: u64, _: &[u8]) {}

    fn activate(&mut self, context: Context) -> io::Result<()> {
        assert!(!self.active, "activated twice");
        self.active = true;
        let signal = context.signal.clone();
        if step(&mut Echo, &mut desk(context)).is_err() {
            signal.needs_reset();
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.active = false;
    }
}

/// Registers, notifications, and memory written in between.
pub fn mmio(data: &[u8]) {
    let mut input = Input(data);
    let driver = Driver::new(&SIZES);
    let device = Box::new(Once { active: false });
    let transport = Transport::new(device, driver.memory.clone(), driver.signal.clone()).unwrap();
    let set = |register: u64, value: u32| transport.write(register, &value.to_le_bytes());
    if input.u8() & 1 == 0 {
        agree(&set, &driver);
    }
    while !input.is_empty() {
        let kind = input.u8();
        match kind & 7 {
            0..=3 => set(u64::from(input.u8() % 64) * 4, input.u32()),
            4 => set(u64::from(input.u16()), u32::from(input.u8())),
            5 => {
                let len = usize::from(input.u8() % 16);
                let bytes = input.bytes(len);
                transport.write(input.u64(), bytes);
            }
            6 => {
                let mut data = [0; 16];
                let len = usize::from(input.u8() % 17);
                transport.read(u64::from(input.u16()), &mut data[..len]);
            }
            _ => {
                let address = GuestAddress(u64::from(input.u32() % (4 << 20)));
                let len = input.u8().into();
                _ = driver.memory.write_slice(input.bytes(len), address);
            }
        }
        let mut status = [0; 4];
        transport.read(0x70, &mut status);
        let path = u32::from_le_bytes(status) & !(64 | 128);
        assert!([0, 1, 3, 11, 15].contains(&path), "status {path:#x}");
    }
}

/// Features and queues, as a good driver sets them; the rest is left to chance.
fn agree(set: &impl Fn(u64, u32), driver: &Driver) {
    for status in [1, 3] {
        set(0x70, status);
    }
    // `VIRTIO_F_VERSION_1`, and `VIRTIO_RING_F_EVENT_IDX`.
    for (page, value) in [(1, 1), (0, 1 << 29)] {
        set(0x24, page);
        set(0x20, value);
    }
    set(0x70, 11);
    for (n, queue) in driver.queues.iter().enumerate() {
        set(0x30, n as u32);
        set(0x38, 16);
        for (register, address) in
            [(0x80, queue.descriptors()), (0x90, queue.available_ring()), (0xa0, queue.used_ring())]
        {
            set(register, address as u32);
            set(register + 4, (address >> 32) as u32);
        }
        set(0x44, 1);
    }
}
