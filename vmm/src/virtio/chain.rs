//! The buffers that a driver hands to a device, checked once and for all.
//!
//! A chain of descriptors comes from a hostile guest. It is walked once: it must end, have at most
//! [`MAX_CHAIN`] descriptors, none of them empty, first those that the device reads and then those
//! that it writes, all within guest memory. What passes is plain data ([`Chain`]) that nothing the
//! guest does later can change, except the bytes themselves.

use super::Broken;
use crate::memory::Memory;
use std::collections::VecDeque;
use virtio_queue::DescriptorChain;
use vm_memory::bitmap::BS;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions, VolatileSlice};

/// The most descriptors that a chain may have. Linux sends what fits the `seg_max` of a device.
pub const MAX_CHAIN: usize = 1024;

/// A piece of guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it begins.
    pub address: GuestAddress,
    /// Its bytes; at least one.
    pub len: u32,
}

/// Segments one after the other, consumed from the front.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Buffer {
    segments: VecDeque<Segment>,
    len: usize,
}

impl Buffer {
    fn push(&mut self, segment: Segment) {
        self.len = self.len.saturating_add(segment.len as usize);
        self.segments.push_back(segment);
    }

    /// The bytes that are left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is left.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.segments.iter().copied()
    }

    /// Cuts the first `len` bytes off, or all if there are fewer.
    pub fn take(&mut self, len: usize) -> Self {
        let mut front = Self::default();
        while let (Some(first), missing @ 1..) = (self.segments.front_mut(), len - front.len) {
            if first.len as usize <= missing {
                front.push(*first);
                self.segments.pop_front();
            } else {
                // Smaller than the segment, so it fits 32 bits and the address stays in memory.
                let part = missing as u32;
                front.push(Segment { address: first.address, len: part });
                first.address.0 += u64::from(part);
                first.len -= part;
            }
        }
        self.len -= front.len;
        front
    }

    /// Cuts the last `len` bytes off, or all if there are fewer.
    pub fn take_end(&mut self, len: usize) -> Self {
        let front = self.take(self.len.saturating_sub(len));
        std::mem::replace(self, front)
    }

    /// Reads from the front until `data` is full or nothing is left. Tells how many bytes.
    ///
    /// # Errors
    /// Guest memory cannot be read.
    pub fn read(&mut self, memory: &Memory, data: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for segment in self.take(data.len()).segments {
            let Some(part) = data.get_mut(done..done + segment.len as usize) else { break };
            memory.read_slice(part, segment.address).map_err(|_| Broken::Memory)?;
            done += part.len();
        }
        Ok(done)
    }

    /// Reads exactly so many bytes from the front, or none if there are fewer.
    ///
    /// # Errors
    /// Guest memory cannot be read.
    pub fn read_array<const N: usize>(
        &mut self,
        memory: &Memory,
    ) -> Result<Option<[u8; N]>, Broken> {
        let mut data = [0; N];
        if self.len < N {
            return Ok(None);
        }
        self.read(memory, &mut data)?;
        Ok(Some(data))
    }

    /// Writes to the front until `data` ends or no room is left. Tells how many bytes.
    ///
    /// # Errors
    /// Guest memory cannot be written.
    pub fn write(&mut self, memory: &Memory, data: &[u8]) -> Result<usize, Broken> {
        let mut done = 0;
        for segment in self.take(data.len()).segments {
            let Some(part) = data.get(done..done + segment.len as usize) else { break };
            memory.write_slice(part, segment.address).map_err(|_| Broken::Memory)?;
            done += part.len();
        }
        Ok(done)
    }

    /// The memory itself, for I/O without a copy.
    ///
    /// # Errors
    /// It is not there.
    pub fn slices<'m>(
        &self,
        memory: &'m Memory,
        access: Permissions,
    ) -> Result<Vec<VolatileSlice<'m, BS<'m, ()>>>, Broken> {
        let mut slices = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let parts = memory
                .get_slices(segment.address, segment.len as usize, access)
                .map_err(|_| Broken::Memory)?;
            for part in parts {
                slices.push(part.map_err(|_| Broken::Memory)?);
            }
        }
        Ok(slices)
    }
}

/// One request of a driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// By what it is returned.
    pub head: u16,
    /// What the device reads.
    pub readable: Buffer,
    /// What it writes.
    pub writable: Buffer,
}

impl Chain {
    /// Walks descriptors.
    ///
    /// # Errors
    /// They break a rule.
    pub(super) fn check(
        descriptors: DescriptorChain<&Memory>,
        memory: &Memory,
    ) -> Result<Self, Broken> {
        let head = descriptors.head_index();
        let (mut readable, mut writable) = (Buffer::default(), Buffer::default());
        let mut ended = false;
        for (n, descriptor) in descriptors.enumerate() {
            let segment = Segment { address: descriptor.addr(), len: descriptor.len() };
            if n >= MAX_CHAIN {
                return Err(Broken::TooLong);
            }
            let access = match descriptor.is_write_only() {
                true => Permissions::Write,
                false => Permissions::Read,
            };
            let len = segment.len as usize;
            if len == 0 || !memory.check_range(segment.address, len, access) {
                return Err(Broken::Descriptor { head, address: segment.address.0, len });
            }
            match descriptor.is_write_only() {
                true => writable.push(segment),
                false if !writable.is_empty() => return Err(Broken::Order { head }),
                false => readable.push(segment),
            }
            ended = !descriptor.has_next();
        }
        // The iterator ends early where it finds a loop, a missing table or more than 4 GiB.
        if ended { Ok(Self { head, readable, writable }) } else { Err(Broken::Endless { head }) }
    }
}
