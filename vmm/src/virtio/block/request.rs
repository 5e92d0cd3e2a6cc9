//! Requests to a disk: read from a chain, checked, carried out.
//!
//! ```text
//! readable: type 4 · reserved 4 · sector 8 │ data to write, or ranges to discard
//! writable: data that was read              │ status 1
//! ```
//!
//! How a driver cuts this into descriptors is its own affair: the header is the first 16 readable
//! bytes, the status the last writable one.

use super::image::{Image, SECTOR};
use crate::memory::Memory;
use crate::virtio::Broken;
use crate::virtio::chain::{Buffer, Chain};
use std::io;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use vm_memory::Permissions;

/// The most sectors that one range to discard or to zero may have.
pub const MAX_RANGE: u32 = 1 << 22;
/// The most ranges in a request.
pub const MAX_RANGES: u32 = 32;

/// Why a request fails.
#[derive(Debug)]
enum Failure {
    /// It means nothing to this device.
    Unsupported,
    /// It cannot be carried out.
    Io(io::Error),
    /// Guest memory is not there.
    Broken(Broken),
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::Unsupported => Self::Unsupported,
            _ => Self::Io(error),
        }
    }
}

/// A request that is wrong in itself.
fn wrong(why: &'static str) -> Failure {
    Failure::Io(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// The disk and what requests to it need.
pub struct Requests {
    image: Image,
    serial: [u8; VIRTIO_BLK_ID_BYTES as usize],
    /// Whether every write survives a crash, because the driver knows of no flush.
    write_through: bool,
}

impl Requests {
    /// For this disk, which says that it is called so.
    pub fn new(image: Image, serial: &str) -> Self {
        let mut id = [0; VIRTIO_BLK_ID_BYTES as usize];
        for (byte, given) in id.iter_mut().zip(serial.bytes()) {
            *byte = given;
        }
        Self { image, serial: id, write_through: false }
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn set_write_through(&mut self, write_through: bool) {
        self.write_through = write_through;
    }

    /// Carries out the request in a chain. Tells how many bytes were written into it.
    ///
    /// # Errors
    /// It is no request at all: no header, or no room for the status.
    pub fn serve(&mut self, chain: Chain, memory: &Memory) -> Result<usize, Broken> {
        let Chain { mut readable, mut writable, .. } = chain;
        let header: Option<[u8; 16]> = readable.read_array(memory)?;
        let header = header.ok_or(Broken::Request("a request to a disk without a header"))?;
        let mut status = writable.take_end(1);
        if status.is_empty() {
            return Err(Broken::Request("a request to a disk without room for its status"));
        }
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let kind = u32::from_le_bytes([t0, t1, t2, t3]);
        let sector = u64::from_le_bytes(sector);
        let room = writable.len();
        let (code, written) = match self.carry_out(kind, sector, &mut readable, writable, memory) {
            Ok(written) => (VIRTIO_BLK_S_OK, written),
            Err(Failure::Unsupported) => (VIRTIO_BLK_S_UNSUPP, 0),
            Err(Failure::Io(error)) => {
                tracing::warn!(kind, sector, %error, "a request to a disk failed");
                (VIRTIO_BLK_S_IOERR, 0)
            }
            Err(Failure::Broken(broken)) => return Err(broken),
        };
        status.write(memory, &[code as u8])?;
        // The status counts; before it lies what was not filled, if anything.
        Ok(if written == room { written + 1 } else { written })
    }

    fn carry_out(
        &mut self,
        kind: u32,
        sector: u64,
        readable: &mut Buffer,
        mut writable: Buffer,
        memory: &Memory,
    ) -> Result<usize, Failure> {
        match kind {
            VIRTIO_BLK_T_IN => {
                let offset = self.place(sector, writable.len())?;
                self.image.read(&writable.slices(memory, Permissions::Write)?, offset)?;
                Ok(writable.len())
            }
            VIRTIO_BLK_T_OUT => {
                let offset = self.place(sector, readable.len())?;
                self.check_writable()?;
                self.image.write(&readable.slices(memory, Permissions::Read)?, offset)?;
                self.written()
            }
            VIRTIO_BLK_T_FLUSH => {
                self.image.sync()?;
                Ok(0)
            }
            VIRTIO_BLK_T_GET_ID => Ok(writable.write(memory, &self.serial)?),
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
                self.check_writable()?;
                self.clear_ranges(kind, readable, memory)?;
                self.written()
            }
            _ => Err(Failure::Unsupported),
        }
    }

    fn check_writable(&self) -> Result<(), Failure> {
        if self.image.is_read_only() { Err(wrong("the disk is read-only")) } else { Ok(()) }
    }

    fn written(&self) -> Result<usize, Failure> {
        if self.write_through {
            self.image.sync()?;
        }
        Ok(0)
    }

    /// Where so many bytes from a sector on begin, if they are whole sectors of the disk.
    fn place(&self, sector: u64, len: usize) -> Result<u64, Failure> {
        let len = len as u64;
        let end = sector.checked_add(len / SECTOR);
        if !len.is_multiple_of(SECTOR) {
            return Err(wrong("not whole sectors"));
        }
        if end.is_none_or(|end| end > self.image.sectors()) {
            return Err(wrong("behind the end of the disk"));
        }
        // Below the end of the disk, which is a number of bytes.
        Ok(sector * SECTOR)
    }

    /// Discards or zeroes; nothing, if one of the ranges is wrong.
    fn clear_ranges(
        &mut self,
        kind: u32,
        readable: &mut Buffer,
        memory: &Memory,
    ) -> Result<(), Failure> {
        let discards = kind == VIRTIO_BLK_T_DISCARD;
        if readable.len() > 16 * MAX_RANGES as usize || !readable.len().is_multiple_of(16) {
            return Err(wrong("too many ranges, or part of one"));
        }
        let mut ranges = Vec::new();
        while let Some(range) = readable.read_array::<16>(memory)? {
            let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = range;
            let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
            let flags = u32::from_le_bytes(flags);
            let unmap = flags == VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
            if flags != 0 && (discards || !unmap) {
                return Err(Failure::Unsupported);
            }
            if sectors > MAX_RANGE {
                return Err(wrong("a range that is too long"));
            }
            let len = u64::from(sectors) * SECTOR;
            ranges.push((self.place(sector, len as usize)?, len, unmap));
        }
        for (offset, len, unmap) in ranges {
            if discards {
                self.image.discard(offset, len)?;
            } else {
                self.image.write_zeroes(offset, len, unmap)?;
            }
        }
        Ok(())
    }
}
