//! A hostile driver: bytes are read as a list of what it does to the queues of a device.

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes as _, GuestAddress};
use vmm::virtio::Broken;
use vmm::virtio::test_utils::{Driver, Part, step};
use vmm::virtio::worker::{Desk, Wake, Work};

/// What it does in one go at most.
const DEEDS: usize = 256;

/// Bytes, read from the front; where they end, zeros.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// So many bytes, or what is left.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }
}

/// Makes the header of a request that carries this payload.
pub type MakeHeader = fn(&mut Input<'_>, payload: &[u8]) -> Vec<u8>;

/// Any bytes.
pub fn any_header(input: &mut Input<'_>, _payload: &[u8]) -> Vec<u8> {
    let len = usize::from(input.u8() % 40);
    input.bytes(len).to_vec()
}

/// Drives a device's work with queues of these sizes. `host` is what its other side does with bytes.
pub fn drive(
    sizes: &[u16],
    data: &[u8],
    work: &mut impl Work,
    header: MakeHeader,
    mut host: impl FnMut(&[u8]),
) {
    let mut input = Input(data);
    let features = input.u64();
    let mut driver = Driver::new(sizes);
    let mut desk = driver.desk(features);
    work.begin(&mut desk);
    for _ in 0..DEEDS {
        if input.is_empty() {
            break;
        }
        let deed = input.u8();
        let queue = usize::from(deed >> 4) % sizes.len();
        match deed & 15 {
            0..=2 => put(&mut driver, queue, sizes[queue], &mut input),
            3 | 4 => driver.queues[queue].offer(u16::from(input.u8())),
            5 => driver.queues[queue].set_available(input.u16()),
            6..=8 => well_formed(&mut driver, queue, header, &mut input),
            9 => {
                let len = input.u8().into();
                host(input.bytes(len));
                _ = work.run(Wake::Source(queue), &mut desk);
            }
            10 => {
                let address = GuestAddress(input.u32().into());
                let len = input.u8().into();
                _ = driver.memory.write_slice(input.bytes(len), address);
            }
            _ => {
                if turn(&mut driver, &mut desk, work, sizes).is_err() {
                    // As after a reset.
                    desk = driver.desk(features);
                    work.begin(&mut desk);
                }
            }
        }
    }
    _ = turn(&mut driver, &mut desk, work, sizes);
}

fn turn(
    driver: &mut Driver,
    desk: &mut Desk,
    work: &mut impl Work,
    sizes: &[u16],
) -> Result<(), Broken> {
    step(work, desk)?;
    for (queue, &size) in driver.queues.iter_mut().zip(sizes) {
        for _ in 0..size {
            let Some(used) = queue.collect() else { break };
            assert!(used.head < size);
        }
    }
    Ok(())
}

/// A descriptor as it comes: near the queue's own buffers, or anywhere.
fn put(driver: &mut Driver, queue: usize, size: u16, input: &mut Input<'_>) {
    let kind = input.u8();
    let base = driver.queues[queue].descriptors();
    let address = if kind & 1 == 0 { base + u64::from(input.u16()) * 16 } else { input.u64() };
    let len = if kind & 2 == 0 { u32::from(input.u8()) } else { input.u32() };
    let (index, next) = (u16::from(input.u8()) % size, u16::from(input.u8()));
    driver.queues[queue].put(index, Descriptor::new(address, len, u16::from(kind >> 2) & 7, next));
}

/// A chain as a good driver would lay it out, with any content.
fn well_formed(driver: &mut Driver, queue: usize, header: MakeHeader, input: &mut Input<'_>) {
    let shape = input.u8();
    let len = usize::from(input.u8());
    let payload = input.bytes(len);
    let header = header(input, payload);
    let mut parts = Vec::new();
    for part in [&header, payload] {
        if !part.is_empty() {
            parts.push(Part::Read(part));
        }
    }
    if shape & 1 == 0 {
        parts.push(Part::Write(u32::from(input.u16()) + 1));
    }
    if shape & 2 == 0 {
        parts.push(Part::Write(1));
    }
    if !parts.is_empty() {
        let sent = driver.queues[queue].lay(&parts);
        driver.queues[queue].offer(sent.head);
    }
}
