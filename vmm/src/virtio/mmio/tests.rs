//! The order in which a driver sets a device up, and what happens out of it.

mod random;

use super::*;
use crate::virtio::test_utils::{Driver, Part, Recorder};
use virtio_bindings::virtio_mmio::*;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;
const FAILED: u32 = 128;
const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;

/// A device that counts what is done to it.
#[derive(Default)]
struct Counts {
    activated: AtomicU32,
    reset: AtomicU32,
    ready: AtomicU32,
    fails: AtomicBool,
    active: AtomicBool,
}

struct Counting(Arc<Counts>);

impl Device for Counting {
    fn id(&self) -> u32 {
        42
    }

    fn features(&self) -> u64 {
        0b101 | 1 << 40
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64, 16]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        crate::virtio::read_config(b"configuration", offset, data);
    }

    fn write_config(&mut self, _: u64, _: &[u8]) {}

    fn activate(&mut self, context: Context) -> io::Result<()> {
        if self.0.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("as the test wants"));
        }
        assert!(!self.0.active.swap(true, Ordering::SeqCst), "activated twice");
        let ready = context.queues.iter().filter(|(queue, _)| virtio_queue::QueueT::ready(queue));
        self.0.ready.store(ready.count() as u32, Ordering::SeqCst);
        self.0.activated.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn reset(&mut self) {
        self.0.active.store(false, Ordering::SeqCst);
        self.0.reset.fetch_add(1, Ordering::SeqCst);
    }
}

struct Setup {
    driver: Driver,
    counts: Arc<Counts>,
    transport: Transport,
}

fn setup() -> Setup {
    let driver = Driver::new(&[64, 16]);
    let counts = Arc::<Counts>::default();
    let device = Box::new(Counting(counts.clone()));
    let transport = Transport::new(device, driver.memory.clone(), driver.signal.clone()).unwrap();
    Setup { driver, counts, transport }
}

fn get(transport: &Transport, register: u32) -> u32 {
    let mut data = [0; 4];
    transport.read(register.into(), &mut data);
    u32::from_le_bytes(data)
}

fn set(transport: &Transport, register: u32, value: u32) {
    transport.write(register.into(), &value.to_le_bytes());
}

fn status(transport: &Transport) -> u32 {
    get(transport, VIRTIO_MMIO_STATUS)
}

fn accept(transport: &Transport, features: u64) {
    for (page, value) in [(1, features >> 32), (0, features & 0xffff_ffff)] {
        set(transport, VIRTIO_MMIO_DRIVER_FEATURES_SEL, page);
        set(transport, VIRTIO_MMIO_DRIVER_FEATURES, value as u32);
    }
}

fn describe(transport: &Transport, driver: &Driver, n: usize) {
    let queue = &driver.queues[n];
    set(transport, VIRTIO_MMIO_QUEUE_SEL, n as u32);
    set(transport, VIRTIO_MMIO_QUEUE_NUM, 16);
    for (low, address) in [
        (VIRTIO_MMIO_QUEUE_DESC_LOW, queue.descriptors()),
        (VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue.available_ring()),
        (VIRTIO_MMIO_QUEUE_USED_LOW, queue.used_ring()),
    ] {
        set(transport, low, address as u32);
        set(transport, low + 4, (address >> 32) as u32);
    }
}

/// As a driver does it, up to and with this status.
fn negotiate(setup: &Setup, until: u32) {
    let transport = &setup.transport;
    set(transport, VIRTIO_MMIO_STATUS, 0);
    set(transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
    set(transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
    accept(transport, VERSION_1 | 1);
    set(transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if until == DRIVER_OK {
        for n in 0..2 {
            describe(transport, &setup.driver, n);
            set(transport, VIRTIO_MMIO_QUEUE_READY, 1);
            assert_eq!(get(transport, VIRTIO_MMIO_QUEUE_READY), 1);
        }
        set(transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }
}

#[test]
fn a_driver_finds_the_device() {
    let Setup { transport, .. } = setup();
    assert_eq!(get(&transport, VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
    assert_eq!(get(&transport, VIRTIO_MMIO_VERSION), 2);
    assert_eq!(get(&transport, VIRTIO_MMIO_DEVICE_ID), 42);
    let mut features = 0;
    for page in 0..2 {
        set(&transport, VIRTIO_MMIO_DEVICE_FEATURES_SEL, page);
        features |= u64::from(get(&transport, VIRTIO_MMIO_DEVICE_FEATURES)) << (32 * page);
    }
    assert_eq!(features, 0b101 | 1 << 40 | FEATURES);
    set(&transport, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_eq!(get(&transport, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    for (queue, max) in [(0, 64), (1, 16), (2, 0), (u32::MAX, 0)] {
        set(&transport, VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(get(&transport, VIRTIO_MMIO_QUEUE_NUM_MAX), max);
    }
    assert_eq!(get(&transport, VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
}

#[test]
fn the_whole_way_activates_once_with_the_queues_that_are_ready() {
    let setup = setup();
    negotiate(&setup, DRIVER_OK);
    assert_eq!(status(&setup.transport), 15);
    set(&setup.transport, VIRTIO_MMIO_STATUS, 15);
    assert_eq!(setup.counts.activated.load(Ordering::SeqCst), 1);
    assert_eq!(setup.counts.ready.load(Ordering::SeqCst), 2);
}

#[test]
fn steps_out_of_order_change_nothing() {
    let Setup { transport, counts, .. } = setup();
    set(&transport, VIRTIO_MMIO_STATUS, DRIVER);
    assert_eq!(status(&transport), 0);
    set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
    set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER_OK);
    assert_eq!(status(&transport), ACKNOWLEDGE);
    set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
    set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
    assert_eq!(status(&transport), ACKNOWLEDGE | DRIVER, "taking a bit back");
    assert_eq!(counts.activated.load(Ordering::SeqCst), 0);
}

#[test]
fn features_must_be_offered_and_modern() {
    for (features, agreed) in [
        (VERSION_1, true),
        (VERSION_1 | 1 << 40 | 1, true),
        (1, false),
        (VERSION_1 | 0b10, false),
        (VERSION_1 | 1 << 63, false),
    ] {
        let Setup { transport, .. } = setup();
        set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
        set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
        accept(&transport, features);
        set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_eq!(status(&transport) & FEATURES_OK != 0, agreed, "{features:#x}");
    }
}

#[test]
fn features_are_fixed_once_agreed() {
    let setup = setup();
    negotiate(&setup, FEATURES_OK);
    accept(&setup.transport, VERSION_1 | 1 << 63);
    assert_eq!(setup.transport.state.lock().registers.features(), VERSION_1 | 1);
}

#[test]
fn queues_that_cannot_be_need_a_reset() {
    type Change = fn(&Transport);
    let cases: [(&str, Change); 8] = [
        ("no size", |transport| set(transport, VIRTIO_MMIO_QUEUE_NUM, 0)),
        ("no power of two", |transport| set(transport, VIRTIO_MMIO_QUEUE_NUM, 12)),
        ("too large", |transport| set(transport, VIRTIO_MMIO_QUEUE_NUM, 128)),
        ("too large by far", |transport| set(transport, VIRTIO_MMIO_QUEUE_NUM, 0x1_0010)),
        ("an uneven address", |transport| set(transport, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x10_0008)),
        ("outside memory", |transport| set(transport, VIRTIO_MMIO_QUEUE_USED_HIGH, 1)),
        ("across its end", |transport| set(transport, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x2f_fff0)),
        ("overflowing", |transport| {
            set(transport, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0xffff_fffe);
            set(transport, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0xffff_ffff);
        }),
    ];
    for (name, change) in cases {
        let setup = setup();
        negotiate(&setup, FEATURES_OK);
        let transport = &setup.transport;
        describe(transport, &setup.driver, 0);
        change(transport);
        set(transport, VIRTIO_MMIO_QUEUE_READY, 1);
        assert_eq!(get(transport, VIRTIO_MMIO_QUEUE_READY), 0, "{name}");
        assert_ne!(status(transport) & NEEDS_RESET, 0, "{name}");
        set(transport, VIRTIO_MMIO_STATUS, 15);
        assert_eq!(setup.counts.activated.load(Ordering::SeqCst), 0, "{name}");
        negotiate(&setup, DRIVER_OK);
        assert_eq!(status(transport), 15, "{name}, after a reset");
    }
}

#[test]
fn a_ready_queue_stays_as_it_is() {
    let setup = setup();
    negotiate(&setup, DRIVER_OK);
    set(&setup.transport, VIRTIO_MMIO_QUEUE_SEL, 0);
    set(&setup.transport, VIRTIO_MMIO_QUEUE_NUM, 1);
    set(&setup.transport, VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(get(&setup.transport, VIRTIO_MMIO_QUEUE_READY), 1);
}

#[test]
fn a_reset_at_work_stops_the_device_and_forgets_everything() {
    let setup = setup();
    negotiate(&setup, DRIVER_OK);
    let transport = &setup.transport;
    transport.line.used(0);
    transport.line.needs_reset();
    assert_eq!(status(transport), 15 | NEEDS_RESET);
    let before = setup.counts.reset.load(Ordering::SeqCst);
    set(transport, VIRTIO_MMIO_STATUS, 0);
    assert_eq!(setup.counts.reset.load(Ordering::SeqCst), before + 1);
    assert_eq!(status(transport), 0);
    assert_eq!(get(transport, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_eq!(get(transport, VIRTIO_MMIO_QUEUE_READY), 0);
    negotiate(&setup, DRIVER_OK);
    assert_eq!(status(transport), 15);
}

#[test]
fn a_driver_that_gave_up_must_reset() {
    let setup = setup();
    negotiate(&setup, FEATURES_OK);
    set(&setup.transport, VIRTIO_MMIO_STATUS, 11 | FAILED);
    set(&setup.transport, VIRTIO_MMIO_STATUS, 15 | FAILED);
    assert_eq!(status(&setup.transport), 11 | FAILED);
    assert_eq!(setup.counts.activated.load(Ordering::SeqCst), 0);
}

#[test]
fn a_device_that_cannot_work_says_so() {
    let setup = setup();
    setup.counts.fails.store(true, Ordering::SeqCst);
    negotiate(&setup, DRIVER_OK);
    assert_eq!(status(&setup.transport), 15 | NEEDS_RESET);
    assert_eq!(get(&setup.transport, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
}

#[test]
fn interrupts_stay_until_they_are_acknowledged() {
    let Setup { transport, driver, .. } = setup();
    transport.line.used(1);
    transport.line.config_changed();
    assert_eq!(get(&transport, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    assert_eq!(get(&transport, VIRTIO_MMIO_CONFIG_GENERATION), 1);
    set(&transport, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    assert_eq!(get(&transport, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
    assert_eq!(driver.signal.so_far().used.len(), 2, "raised for each");
}

#[test]
fn a_notification_wakes_its_queue_only() {
    let Setup { transport, .. } = setup();
    set(&transport, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    set(&transport, VIRTIO_MMIO_QUEUE_NOTIFY, 2);
    assert!(!transport.queue_events()[0].clear());
    assert!(transport.queue_events()[1].clear());
}

#[test]
fn configuration_is_read_in_any_width_and_ends_in_zeros() {
    let Setup { transport, .. } = setup();
    let mut data = [9; 8];
    transport.read(0x100 + 8, &mut data);
    assert_eq!(&data, b"ation\0\0\0");
    transport.read(u64::MAX, &mut data);
    assert_eq!(data, [0; 8]);
    let mut byte = [9];
    transport.read(0x101, &mut byte);
    assert_eq!(&byte, b"o");
}

#[test]
fn registers_are_read_and_written_whole() {
    let Setup { transport, .. } = setup();
    let (mut two, mut odd) = ([9; 2], [9; 4]);
    transport.read(0, &mut two);
    transport.read(1, &mut odd);
    assert_eq!((two, odd), ([0; 2], [0; 4]));
    transport.write(VIRTIO_MMIO_STATUS.into(), &[1]);
    assert_eq!(status(&transport), 0);
}

#[test]
fn a_real_device_serves_a_driver_through_its_registers() {
    let mut driver = Driver::new(&[64]);
    let device = Box::new(crate::virtio::rng::Rng::open().unwrap());
    let transport = Transport::new(device, driver.memory.clone(), Arc::new(Recorder::default()));
    let transport = transport.unwrap();
    for _ in 0..2 {
        driver.queues[0].restart();
        set(&transport, VIRTIO_MMIO_STATUS, 0);
        set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE);
        set(&transport, VIRTIO_MMIO_STATUS, ACKNOWLEDGE | DRIVER);
        accept(&transport, VERSION_1);
        set(&transport, VIRTIO_MMIO_STATUS, 11);
        describe(&transport, &driver, 0);
        set(&transport, VIRTIO_MMIO_QUEUE_NUM, 64);
        set(&transport, VIRTIO_MMIO_QUEUE_READY, 1);
        set(&transport, VIRTIO_MMIO_STATUS, 15);
        let sent = driver.send(0, &[Part::Write(32)]);
        set(&transport, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        assert_eq!(driver.wait(0).head, sent.head);
    }
    assert_ne!(get(&transport, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}
