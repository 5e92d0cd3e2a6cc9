//! Memory that the guest does not use goes back to the host (virtio 1.2, 5.5).
//!
//! Two ways. By free page reporting (queue 2) the guest tells, on its own, of larger ranges that are
//! free; they are dropped and come back as zeros when it touches them. And the host can ask the guest to
//! give up a number of pages ([`Target`]), which it then lists (queue 0) and takes back (queue 1, or when
//! it runs out of memory).

use super::chain::Chain;
use super::worker::{Desk, Task, Wake, Work};
use super::{Broken, Context, Device, Signal, read_config};
use crate::hypervisor::release_pages;
use crate::memory::Memory;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use vm_memory::GuestAddress;

/// The guest may take pages back when it needs them (virtio 1.2, 5.5.3).
const VIRTIO_BALLOON_F_DEFLATE_ON_OOM: u32 = 2;
/// Free pages are known to hold a pattern, which it tells; zeros in a kernel with `init_on_free`, which
/// reports nothing without this.
const VIRTIO_BALLOON_F_PAGE_POISON: u32 = 4;
/// It reports free pages.
const VIRTIO_BALLOON_F_REPORTING: u32 = 5;
/// Where the driver says, in the configuration space, how many pages it gave up, and the pattern.
const ACTUAL: u64 = 4;
const POISON: u64 = 12;
/// Pages of the balloon have 4 KiB, whatever those of guest and host have.
const PAGE_SHIFT: u32 = 12;

const QUEUE_SIZES: [u16; 3] = [64, 64, 64];
const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
/// Queues whose feature is not offered have no number, so reporting comes third.
const REPORTING: u16 = 2;
/// The most page numbers in one request; Linux sends 256.
const MAX_PAGES: usize = 1 << 14;

/// The device.
pub struct Balloon {
    target: Target,
    task: Task<Pages>,
}

/// How many pages the guest should give up.
#[derive(Clone, Default)]
pub struct Target(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    wanted: u32,
    actual: u32,
    poison: u32,
    signal: Option<Arc<dyn Signal>>,
}

impl Target {
    /// Asks for so many pages of 4 KiB.
    pub fn set(&self, pages: u32) {
        let mut shared = self.0.lock();
        shared.wanted = pages;
        let signal = shared.signal.clone();
        drop(shared);
        if let Some(signal) = signal {
            signal.config_changed();
        }
    }

    /// What the guest says that it has given up.
    pub fn actual(&self) -> u32 {
        self.0.lock().actual
    }
}

impl Balloon {
    /// An empty one.
    pub fn new() -> Self {
        let target = Target::default();
        Self { target: target.clone(), task: Task::Idle(Pages::new(target)) }
    }

    /// By what it is filled.
    pub fn target(&self) -> Target {
        self.target.clone()
    }
}

impl Default for Balloon {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for Balloon {
    fn id(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_BALLOON_F_DEFLATE_ON_OOM
            | 1 << VIRTIO_BALLOON_F_PAGE_POISON
            | 1 << VIRTIO_BALLOON_F_REPORTING
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let shared = self.target.0.lock();
        let fields = [shared.wanted, shared.actual, 0, shared.poison].map(u32::to_le_bytes);
        read_config(fields.as_flattened(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let Ok(value) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) else { return };
        match offset {
            ACTUAL => self.target.0.lock().actual = value,
            POISON => self.target.0.lock().poison = value,
            _ => {}
        }
    }

    fn activate(&mut self, context: Context) -> io::Result<()> {
        self.target.0.lock().signal = Some(context.signal.clone());
        self.task.activate("virtio-balloon", context)
    }

    fn reset(&mut self) {
        let mut shared = self.target.0.lock();
        *shared = Shared { wanted: shared.wanted, ..Shared::default() };
        drop(shared);
        self.task.reset();
    }
}

/// What the device does.
pub struct Pages(Target);

impl Pages {
    /// For a guest with this target.
    pub fn new(target: Target) -> Self {
        Self(target)
    }

    /// Drops what is reported as free, which must not come back as zeros if the guest expects another
    /// pattern there.
    fn report(&self, chain: &Chain, memory: &Memory) {
        if self.0.0.lock().poison == 0 {
            for range in chain.writable.segments() {
                release(memory, range.address, range.len as usize);
            }
        }
    }

    /// Drops the pages that a request lists.
    fn inflate(mut chain: Chain, memory: &Memory) -> Result<(), Broken> {
        if chain.readable.len() > 4 * MAX_PAGES {
            return Err(Broken::Request("too many pages for a balloon at once"));
        }
        // Pages that follow each other are dropped together.
        let mut run: Option<(u64, u64)> = None;
        while let Some(number) = chain.readable.read_array(memory)? {
            let page = u64::from(u32::from_le_bytes(number));
            run = match run {
                Some((first, end)) if page == end => Some((first, end + 1)),
                Some((first, end)) if page + 1 == first => Some((page, end)),
                other => {
                    release_run(memory, other);
                    Some((page, page + 1))
                }
            };
        }
        release_run(memory, run);
        Ok(())
    }
}

fn release_run(memory: &Memory, run: Option<(u64, u64)>) {
    if let Some((first, end)) = run {
        release(memory, GuestAddress(first << PAGE_SHIFT), ((end - first) << PAGE_SHIFT) as usize);
    }
}

/// It is the guest that loses if that is no memory of its own.
fn release(memory: &Memory, start: GuestAddress, len: usize) {
    if let Err(error) = release_pages(memory, start, len) {
        tracing::debug!(?start, len, %error, "free memory of the guest could not be given back");
    }
}

impl Work for Pages {
    fn run(&mut self, wake: Wake, desk: &mut Desk) -> Result<(), Broken> {
        let Wake::Queue(queue) = wake else { return Ok(()) };
        let memory = desk.memory.clone();
        let ring = desk.ring(queue)?;
        while let Some(chain) = ring.pop()? {
            let head = chain.head;
            match queue {
                INFLATE => Self::inflate(chain, &memory)?,
                REPORTING => self.report(&chain, &memory),
                // They come back by being touched.
                DEFLATE => {}
                _ => return Err(Broken::NoQueue),
            }
            ring.complete(head, 0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::test_utils::{Driver, Part, step};
    use vm_memory::Bytes;

    fn filled(driver: &Driver, start: u64, len: usize) -> bool {
        let mut data = vec![0; len];
        driver.memory.read_slice(&mut data, GuestAddress(start)).unwrap();
        data.iter().all(|&byte| byte == 7)
    }

    fn fill(driver: &Driver, start: u64, len: usize) {
        driver.memory.write_slice(&vec![7; len], GuestAddress(start)).unwrap();
    }

    #[test]
    fn listed_pages_are_dropped_and_others_stay() {
        let mut driver = Driver::new(&QUEUE_SIZES);
        let mut desk = driver.desk(0);
        fill(&driver, 0, 1 << 20);
        // Upwards, downwards, alone, and far outside of memory.
        let pages = [16_u32, 17, 18, 19, 35, 34, 33, 32, 64, u32::MAX, 80];
        let list: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        let sent = driver.queues[0].lay(&[Part::Read(&list)]);
        driver.queues[0].offer(sent.head);
        step(&mut Pages::new(Target::default()), &mut desk).unwrap();
        assert_eq!(driver.queues[0].collect().unwrap().head, sent.head);
        let kept = |page: u64| filled(&driver, page << PAGE_SHIFT, 4096);
        assert!([15, 20, 31, 36, 63, 65, 79, 81].into_iter().all(kept));
        // Hosts with larger pages keep single ones.
        assert!(![16, 17, 18, 19, 32, 33, 34, 35].into_iter().any(kept));
    }

    #[test]
    fn reported_ranges_are_dropped() {
        let mut driver = Driver::new(&QUEUE_SIZES);
        let mut balloon = Balloon::new();
        balloon.activate(driver.context(0)).unwrap();
        let size = 128 << 10;
        let sent = driver.queues[2].lay(&[Part::Write(size), Part::Write(size)]);
        for &(address, len) in &sent.writable {
            fill(&driver, address.0, len as usize);
        }
        driver.queues[2].offer(sent.head);
        driver.events[2].signal();
        assert_eq!(driver.wait(2).len, 0);
        assert!(driver.written(&sent, 2 * size).iter().all(|&byte| byte == 0));
        balloon.reset();
    }

    #[test]
    fn a_guest_that_expects_a_pattern_keeps_its_free_pages() {
        for (poison, keeps) in [(0xaaaa_aaaa_u32, true), (0, false)] {
            let mut driver = Driver::new(&QUEUE_SIZES);
            let mut balloon = Balloon::new();
            balloon.write_config(POISON, &poison.to_le_bytes());
            balloon.activate(driver.context(0)).unwrap();
            let sent = driver.queues[2].lay(&[Part::Write(128 << 10)]);
            let (address, len) = sent.writable[0];
            fill(&driver, address.0, len as usize);
            driver.queues[2].offer(sent.head);
            driver.events[2].signal();
            driver.wait(2);
            assert_eq!(filled(&driver, address.0, len as usize), keeps);
        }
    }

    #[test]
    fn a_list_too_long_needs_a_reset() {
        let mut driver = Driver::new(&QUEUE_SIZES);
        let mut desk = driver.desk(0);
        let sent = driver.queues[0].lay(&[Part::Read(&vec![0; 4 * MAX_PAGES + 4])]);
        driver.queues[0].offer(sent.head);
        assert!(matches!(
            step(&mut Pages::new(Target::default()), &mut desk),
            Err(Broken::Request(_))
        ));
    }

    #[test]
    fn the_guest_is_told_of_a_target_and_tells_what_it_gave() {
        let mut driver = Driver::new(&QUEUE_SIZES);
        let mut balloon = Balloon::new();
        let target = balloon.target();
        target.set(5);
        balloon.activate(driver.context(0)).unwrap();
        target.set(0x1234);
        assert_eq!(driver.signal.so_far().config_changes, 1);
        let mut wanted = [0; 4];
        balloon.read_config(0, &mut wanted);
        assert_eq!(u32::from_le_bytes(wanted), 0x1234);
        balloon.write_config(0, &9_u32.to_le_bytes());
        balloon.write_config(4, &77_u32.to_le_bytes());
        balloon.write_config(4, &[1]);
        assert_eq!(target.actual(), 77);
        balloon.reset();
        target.set(6);
        assert_eq!(driver.signal.so_far().config_changes, 1, "after a reset nobody listens");
    }
}
