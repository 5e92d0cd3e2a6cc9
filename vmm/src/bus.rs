//! Where a virtual processor's accesses to device registers go.
//!
//! There are two of them: ports (x86) and memory. Devices are put on a bus before the guest runs, so
//! that looking one up takes no lock.

use crate::Error;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Something with registers on a bus. Called on the threads of virtual processors, by several at
/// once: must not wait.
pub trait BusDevice: Send + Sync {
    /// Reads registers from `offset` on into `data` (1, 2, 4 or 8 bytes). What is not there reads as
    /// the device says, and as zero if it says nothing.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Writes `data` to the registers from `offset` on. What is not there takes nothing.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Devices by their addresses.
#[derive(Default)]
pub struct Bus {
    /// Sorted by address; no two overlap.
    places: Vec<Place>,
}

struct Place {
    start: u64,
    len: u64,
    device: Arc<dyn BusDevice>,
}

impl Bus {
    /// Puts a device at `len` bytes from `start` on.
    ///
    /// # Errors
    /// Something is there already, or the place ends behind the last address.
    pub fn insert(
        &mut self,
        start: u64,
        len: u64,
        device: Arc<dyn BusDevice>,
    ) -> Result<(), Error> {
        let overlap = Error::Overlap { address: start };
        let Some(end) = start.checked_add(len) else { return Err(overlap) };
        let at = self.places.partition_point(|place| place.start < start);
        let before = at.checked_sub(1).and_then(|at| self.places.get(at));
        let after = self.places.get(at);
        if before.is_some_and(|place| start - place.start < place.len)
            || after.is_some_and(|place| place.start < end)
        {
            return Err(overlap);
        }
        self.places.insert(at, Place { start, len, device });
        Ok(())
    }

    /// Reads what is at `address`: all ones where nothing is, as from a bus that nobody drives.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes to what is at `address`; lost where nothing is.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    /// The device that has all of these bytes, and their offset in it.
    fn find(&self, address: u64, len: usize) -> Option<(&dyn BusDevice, u64)> {
        let at = self.places.partition_point(|place| place.start <= address);
        let place = self.places.get(at.checked_sub(1)?)?;
        let offset = address - place.start;
        let end = offset.checked_add(len as u64)?;
        (end <= place.len).then_some((&*place.device, offset))
    }
}
