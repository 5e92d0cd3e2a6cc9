//! A bounded queue of bytes. It takes memory as it fills, and when it is empty it starts again at its
//! beginning, so that one which never holds much never touches much.

/// See the module.
#[derive(Debug)]
pub struct Fifo {
    bytes: Vec<u8>,
    head: usize,
    len: usize,
    limit: usize,
}

/// The least memory of one that holds something.
const LEAST: usize = 8 << 10;

impl Fifo {
    /// An empty one for up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), head: 0, len: 0, limit }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that may be added.
    pub fn free(&self) -> usize {
        self.limit - self.len
    }

    /// Adds what fits of `data`. Tells how much.
    pub fn push(&mut self, mut data: &[u8]) -> usize {
        let len = data.len().min(self.free());
        data = &data[..len];
        let done: Result<(), ()> = self.push_with(len, |part| {
            let (here, rest) = data.split_at(part.len());
            part.copy_from_slice(here);
            data = rest;
            Ok(())
        });
        debug_assert_eq!(done, Ok(()));
        len
    }

    /// Adds `len` bytes, or as many as fit, that `fill` writes into one or two pieces of memory.
    ///
    /// # Errors
    /// That of `fill`; then nothing was added.
    pub fn push_with<E>(
        &mut self,
        len: usize,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let len = len.min(self.free());
        if len == 0 {
            return Ok(());
        }
        self.reserve(self.len + len);
        let size = self.bytes.len();
        let start = (self.head + self.len) % size;
        let first = len.min(size - start);
        fill(&mut self.bytes[start..start + first])?;
        if first < len {
            fill(&mut self.bytes[..len - first])?;
        }
        self.len += len;
        Ok(())
    }

    /// The first bytes: as many as lie in one piece.
    pub fn front(&self) -> &[u8] {
        let end = self.bytes.len().min(self.head + self.len);
        &self.bytes[self.head..end]
    }

    /// Removes the first `len` bytes, or all.
    pub fn consume(&mut self, len: usize) {
        let len = len.min(self.len);
        self.len -= len;
        self.head = if self.len == 0 { 0 } else { (self.head + len) % self.bytes.len() };
    }

    /// Moves the first bytes into `buf`. Tells how many.
    pub fn pop(&mut self, mut buf: &mut [u8]) -> usize {
        let mut done = 0;
        while !buf.is_empty() && !self.is_empty() {
            let front = self.front();
            let len = front.len().min(buf.len());
            let (here, rest) = buf.split_at_mut(len);
            here.copy_from_slice(&front[..len]);
            buf = rest;
            self.consume(len);
            done += len;
        }
        done
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    fn reserve(&mut self, len: usize) {
        if self.bytes.len() >= len {
            return;
        }
        let size = len.next_power_of_two().max(LEAST).min(self.limit.max(len));
        let mut bytes = Vec::with_capacity(size);
        let first = self.front();
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(&self.bytes[..self.len - first.len()]);
        bytes.resize(size, 0);
        self.bytes = bytes;
        self.head = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(
            limit in 1_usize..40_000,
            acts in proptest::collection::vec((any::<bool>(), 0_usize..20_000), 0..60),
        ) {
            let (mut fifo, mut model) = (Fifo::new(limit), VecDeque::new());
            let mut next = 0_u8;
            for (push, len) in acts {
                if push {
                    let data: Vec<u8> = (0..len).map(|n| next.wrapping_add(n as u8)).collect();
                    let pushed = fifo.push(&data);
                    prop_assert_eq!(pushed, len.min(limit - model.len()));
                    model.extend(&data[..pushed]);
                    next = next.wrapping_add(pushed as u8);
                } else {
                    let mut buf = vec![0; len];
                    let popped = fifo.pop(&mut buf);
                    let expected: Vec<u8> = model.drain(..len.min(model.len())).collect();
                    prop_assert_eq!(&buf[..popped], &expected[..]);
                }
                prop_assert_eq!(fifo.len(), model.len());
                prop_assert!(fifo.bytes.len() <= limit);
            }
        }
    }

    #[test]
    fn bytes_that_could_not_be_written_are_not_in_it() {
        let mut fifo = Fifo::new(100);
        assert_eq!(fifo.push_with(10, |_| Err(7)), Err(7));
        assert!(fifo.is_empty());
    }
}
