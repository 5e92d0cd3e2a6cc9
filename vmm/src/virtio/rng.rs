//! Random numbers of the host for the guest (virtio 1.2, 5.4).
//!
//! One queue: the driver sends writable buffers, the device fills them and says how many bytes it
//! wrote. Where the host's source fails, that is fewer, down to none; never bytes that are not random.

use super::chain::Chain;
use super::worker::{Desk, Task, Wake, Work};
use super::{Broken, Context, Device};
use std::fs::File;
use std::io::{self, Read};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

/// Where they come from.
const SOURCE: &str = "/dev/urandom";
/// The largest request that is filled; a larger one is filled so far.
const MAX_REQUEST: usize = 1 << 16;
const QUEUE_SIZES: [u16; 1] = [64];

/// The host has no source of random numbers.
#[derive(Debug, thiserror::Error)]
#[error("cannot open {SOURCE}, the source of the guest's random numbers: {0}; is /dev mounted?")]
pub struct OpenError(#[source] io::Error);

/// The device.
pub struct Rng {
    task: Task<Numbers<File>>,
}

impl Rng {
    /// One that is fed by the host's kernel.
    ///
    /// # Errors
    /// The source cannot be opened.
    pub fn open() -> Result<Self, OpenError> {
        let source = File::open(SOURCE).map_err(OpenError)?;
        Ok(Self { task: Task::Idle(Numbers::new(source)) })
    }
}

impl Device for Rng {
    fn id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, context: Context) -> io::Result<()> {
        self.task.activate("virtio-rng", context)
    }

    fn reset(&mut self) {
        self.task.reset();
    }
}

/// What the device does.
pub struct Numbers<R> {
    source: R,
    bytes: Vec<u8>,
}

impl<R: Read> Numbers<R> {
    /// Fills buffers from this source.
    pub fn new(source: R) -> Self {
        Self { source, bytes: Vec::new() }
    }

    fn fill(&mut self, mut chain: Chain, desk: &Desk) -> Result<usize, Broken> {
        self.bytes.resize(chain.writable.len().min(MAX_REQUEST), 0);
        let mut len = 0;
        while let Some(rest @ [_, ..]) = self.bytes.get_mut(len..) {
            match self.source.read(rest) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "no random numbers for the guest");
                    break;
                }
            }
        }
        chain.writable.write(&desk.memory, self.bytes.get(..len).unwrap_or_default())
    }
}

impl<R: Read + Send + 'static> Work for Numbers<R> {
    fn run(&mut self, _wake: Wake, desk: &mut Desk) -> Result<(), Broken> {
        while let Some(chain) = desk.ring(0)?.pop()? {
            let head = chain.head;
            let written = self.fill(chain, desk)?;
            desk.ring(0)?.complete(head, written)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::test_utils::{Driver, Part, step};

    #[test]
    fn a_buffer_is_filled_with_numbers_that_differ() {
        let mut driver = Driver::new(&QUEUE_SIZES);
        let mut rng = Rng::open().unwrap();
        rng.activate(driver.context(0)).unwrap();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let sent = driver.send(0, &[Part::Write(20), Part::Write(44)]);
            let used = driver.wait(0);
            assert_eq!((used.head, used.len), (sent.head, 64));
            seen.push(driver.written(&sent, used.len));
        }
        assert_ne!(seen[0], seen[1]);
        assert!(seen.iter().all(|bytes| bytes[32..] != [0; 32]));
    }

    #[test]
    fn a_source_that_ends_or_fails_gives_a_short_answer() {
        let mut driver = Driver::new(&QUEUE_SIZES);
        let mut desk = driver.desk(0);
        let mut work = Numbers::new(&b"random"[..]);
        let (first, second) = (driver.queues[0].lay(&[Part::Write(10)]), Part::Write(10));
        driver.queues[0].offer(first.head);
        let second = driver.queues[0].lay(&[second]);
        driver.queues[0].offer(second.head);
        step(&mut work, &mut desk).unwrap();
        assert_eq!(driver.queues[0].collect().unwrap().len, 6);
        assert_eq!(driver.written(&first, 6), b"random");
        assert_eq!(driver.queues[0].collect().unwrap().len, 0);
    }

    #[test]
    fn a_huge_request_is_filled_in_part() {
        let mut driver = Driver::new(&QUEUE_SIZES);
        let mut desk = driver.desk(0);
        let sent = driver.queues[0].lay(&[Part::Write(200_000)]);
        driver.queues[0].offer(sent.head);
        step(&mut Numbers::new(io::repeat(7)), &mut desk).unwrap();
        assert_eq!(driver.queues[0].collect().unwrap().len as usize, MAX_REQUEST);
    }

    #[test]
    fn what_is_sent_after_a_reset_is_served_by_a_new_activation() {
        let mut driver = Driver::new(&QUEUE_SIZES);
        let mut rng = Rng::open().unwrap();
        for _ in 0..3 {
            rng.activate(driver.context(0)).unwrap();
            driver.send(0, &[Part::Write(8)]);
            assert_eq!(driver.wait(0).len, 8);
            rng.reset();
        }
        driver.send(0, &[Part::Write(8)]);
        assert_eq!(driver.queues[0].collect(), None);
    }
}
