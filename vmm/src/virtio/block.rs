//! A disk for the guest (virtio 1.2, 5.2), in a file of the host.
//!
//! One queue, served in order by one thread: [`request`] says what a request looks like, [`image`] what
//! lies in the file. What the driver has written survives a crash of the host once a later flush was
//! answered; without flushes, once it was answered itself.

pub mod image;
pub mod request;
#[cfg(test)]
mod tests;

pub use image::{Image, OpenError};

use super::worker::{Desk, Task, Wake, Work};
use super::{Broken, Context, Device, read_config};
use crate::config::Disk;
use request::{MAX_RANGE, MAX_RANGES, Requests};
use std::io;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

const QUEUE_SIZES: [u16; 1] = [256];
/// Parts of a request's data, besides its header and status.
const SEG_MAX: u32 = QUEUE_SIZES[0] as u32 - 2;

/// The device.
pub struct Block {
    features: u64,
    config: [u8; 60],
    task: Task<Requests>,
}

impl Block {
    /// Opens and locks a disk. The guest can tell its disks apart by `serial` (up to 20 bytes).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(disk: &Disk, serial: &str) -> Result<Self, OpenError> {
        let image = Image::open(disk)?;
        let mut features = 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_TOPOLOGY
            | 1 << VIRTIO_BLK_F_FLUSH;
        features |= match image.is_read_only() {
            true => 1 << VIRTIO_BLK_F_RO,
            false => 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES,
        };
        let config = config(&image);
        Ok(Self { features, config, task: Task::Idle(Requests::new(image, serial)) })
    }
}

/// `struct virtio_blk_config`.
fn config(image: &Image) -> [u8; 60] {
    let mut config = [0; 60];
    let mut put = |offset: usize, bytes: &[u8]| {
        if let Some(field) = config.get_mut(offset..offset + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(0, &image.sectors().to_le_bytes());
    put(12, &SEG_MAX.to_le_bytes());
    put(20, &(image::SECTOR as u32).to_le_bytes());
    // Topology: physical blocks of 2³ sectors, the least that is written well.
    put(24, &[3]);
    put(26, &8_u16.to_le_bytes());
    put(36, &MAX_RANGE.to_le_bytes());
    put(40, &MAX_RANGES.to_le_bytes());
    put(44, &image.discard_sectors().to_le_bytes());
    put(48, &MAX_RANGE.to_le_bytes());
    put(52, &MAX_RANGES.to_le_bytes());
    // Zeroing may give room back.
    put(56, &[1]);
    config
}

impl Device for Block {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config(&self.config, offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, context: Context) -> io::Result<()> {
        self.task.activate("virtio-blk", context)
    }

    fn reset(&mut self) {
        self.task.reset();
        if let Task::Idle(requests) = &self.task
            && let Err(error) = requests.image().sync()
        {
            tracing::error!(%error, "a disk could not be written at its end");
        }
    }
}

impl Work for Requests {
    fn begin(&mut self, desk: &mut Desk) {
        self.set_write_through(desk.features & (1 << VIRTIO_BLK_F_FLUSH) == 0);
    }

    fn run(&mut self, _wake: Wake, desk: &mut Desk) -> Result<(), Broken> {
        while let Some(chain) = desk.ring(0)?.pop()? {
            let head = chain.head;
            let written = self.serve(chain, &desk.memory)?;
            let ring = desk.ring(0)?;
            ring.complete(head, written)?;
            // The next request may take long.
            ring.flush()?;
        }
        Ok(())
    }
}
