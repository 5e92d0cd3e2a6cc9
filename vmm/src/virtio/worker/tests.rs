//! Chains and queues as they come, whole and broken, and the thread that serves them.

use super::*;
use crate::virtio::chain::MAX_CHAIN;
use crate::virtio::test_utils::{Driver, Part, step};
use virtio_bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};
use virtio_queue::desc::split::Descriptor;

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// Gives every chain back, with what it read written into it.
struct Echo {
    chains: usize,
}

impl Work for Echo {
    fn run(&mut self, _: Wake, desk: &mut Desk) -> Result<(), Broken> {
        while let Some(mut chain) = desk.ring(0)?.pop()? {
            let mut data = vec![0; chain.readable.len()];
            chain.readable.read(&desk.memory, &mut data)?;
            let written = chain.writable.write(&desk.memory, &data)?;
            self.chains += 1;
            desk.ring(0)?.complete(chain.head, written)?;
        }
        Ok(())
    }
}

fn outcome(prepare: impl FnOnce(&mut Driver)) -> Result<(), Broken> {
    let mut driver = Driver::new(&[16]);
    let mut desk = driver.desk(0);
    prepare(&mut driver);
    step(&mut Echo { chains: 0 }, &mut desk)
}

#[test]
fn chains_over_many_descriptors_arrive_whole() {
    let mut driver = Driver::new(&[16]);
    let mut task = Task::Idle(Echo { chains: 0 });
    task.activate("echo", driver.context(0)).unwrap();
    let parts = [Part::Read(b"ab"), Part::Read(b"cde"), Part::Write(1), Part::Write(9)];
    let sent = driver.send(0, &parts);
    let used = driver.wait(0);
    assert_eq!((used.head, used.len), (sent.head, 5));
    assert_eq!(driver.written(&sent, used.len), b"abcde");
}

#[test]
fn broken_chains_are_told_apart() {
    let end = 2 << 20;
    type Case = (&'static str, fn(&mut Driver), Broken);
    let cases: [Case; 9] = [
        ("a loop", |d| put(d, &[(0x1000, 1, NEXT, 1), (0x1000, 1, NEXT, 0)]), endless()),
        ("an index behind the table", |d| put(d, &[(0x1000, 1, NEXT, 16)]), endless()),
        ("an empty buffer", |d| put(d, &[(0x1000, 0, 0, 0)]), outside(0x1000, 0)),
        ("behind the end", |d| put(d, &[(2 << 20, 1, 0, 0)]), outside(end, 1)),
        ("across the end", |d| put(d, &[((2 << 20) - 1, 2, 0, 0)]), outside(end - 1, 2)),
        ("an overflow", |d| put(d, &[(u64::MAX, 2, 0, 0)]), outside(u64::MAX, 2)),
        ("read behind write", |d| put(d, &[(0, 1, WRITE | NEXT, 1), (0, 1, 0, 0)]), order()),
        ("an uneven table", |d| put(d, &[(0x1000, 17, INDIRECT, 0)]), endless()),
        ("a table in a table", table_in_table, endless()),
    ];
    for (name, prepare, expected) in cases {
        assert_eq!(outcome(prepare), Err(expected), "{name}");
    }

    fn put(driver: &mut Driver, descriptors: &[(u64, u32, u16, u16)]) {
        for (n, &(address, len, flags, next)) in (0..).zip(descriptors) {
            driver.queues[0].put(n, Descriptor::new(address, len, flags, next));
        }
        driver.queues[0].offer(0);
    }
    fn table_in_table(driver: &mut Driver) {
        // The table is the queue's own, whose first entry is this very table.
        let table = driver.queues[0].descriptors();
        put(driver, &[(table, 32, INDIRECT, 0)]);
    }
    fn endless() -> Broken {
        Broken::Endless { head: 0 }
    }
    fn outside(address: u64, len: usize) -> Broken {
        Broken::Descriptor { head: 0, address, len }
    }
    fn order() -> Broken {
        Broken::Order { head: 0 }
    }
}

#[test]
fn a_head_or_an_index_outside_the_queue_is_noticed() {
    assert_eq!(outcome(|driver| driver.queues[0].offer(16)), Err(Broken::Endless { head: 16 }));
    assert_eq!(outcome(|driver| driver.queues[0].set_available(17)), Err(Broken::Index));
}

#[test]
fn an_indirect_table_may_be_long_but_not_endless() {
    let with_table = |len: u32, driver: &mut Driver| {
        let table = 0x1000_u64;
        for n in 0..len {
            let flags = if n + 1 < len { NEXT } else { 0 };
            let entry = Descriptor::new(0x1000, 1, flags, (n + 1) as u16);
            let entry = virtio_queue::desc::RawDescriptor::from(entry);
            let address = vm_memory::GuestAddress(table + 16 * u64::from(n));
            vm_memory::Bytes::write_obj(&driver.memory, entry, address).unwrap();
        }
        driver.queues[0].put(0, Descriptor::new(table, 16 * len, INDIRECT, 0));
        driver.queues[0].offer(0);
    };
    assert_eq!(outcome(|driver| with_table(MAX_CHAIN as u32, driver)), Ok(()));
    let longer = outcome(|driver| with_table(MAX_CHAIN as u32 + 1, driver));
    assert_eq!(longer, Err(Broken::TooLong));
}

#[test]
fn a_broken_driver_is_told_once_and_the_thread_waits_to_be_stopped() {
    let mut driver = Driver::new(&[16]);
    let mut task = Task::Idle(Echo { chains: 0 });
    task.activate("echo", driver.context(0)).unwrap();
    driver.queues[0].put(0, Descriptor::new(u64::MAX, 2, 0, 0));
    driver.queues[0].offer(0);
    driver.events[0].signal();
    driver.signal.wait_until("asks for a reset", |so_far| so_far.resets_needed == 1);
    driver.send(0, &[Part::Read(b"x")]);
    task.reset();
    assert_eq!(driver.queues[0].collect(), None);
    assert_eq!(driver.signal.so_far().resets_needed, 1);

    task.activate("echo", driver.context(0)).unwrap();
    driver.send(0, &[Part::Read(b"x")]);
    driver.wait(0);
}

#[test]
fn many_chains_at_once_all_come_back() {
    for features in [0, 1 << VIRTIO_RING_F_EVENT_IDX] {
        let mut driver = Driver::new(&[1024]);
        let mut task = Task::Idle(Echo { chains: 0 });
        task.activate("echo", driver.context(features)).unwrap();
        for round in 0..100_u32 {
            let sent: Vec<_> = (0..300)
                .map(|n| driver.send(0, &[Part::Read(&n_bytes(round, n)), Part::Write(8)]))
                .collect();
            for (n, sent) in (0..).zip(&sent) {
                let used = driver.wait(0);
                assert_eq!(used.head, sent.head);
                assert_eq!(driver.written(sent, used.len), n_bytes(round, n));
            }
        }
        task.reset();
        assert!(matches!(task, Task::Idle(Echo { chains: 30_000 })));
    }

    fn n_bytes(round: u32, n: u32) -> [u8; 8] {
        [round.to_le_bytes(), n.to_le_bytes()].concat().try_into().unwrap()
    }
}

#[test]
fn with_event_idx_the_driver_is_told_only_when_it_wants_to_be() {
    let mut driver = Driver::new(&[16]);
    let mut desk = driver.desk(1 << VIRTIO_RING_F_EVENT_IDX);
    let mut work = Echo { chains: 0 };
    for _ in 0..3 {
        driver.send(0, &[Part::Read(b"x")]);
        step(&mut work, &mut desk).unwrap();
    }
    // It asked for the first and has collected nothing since.
    assert_eq!(driver.signal.so_far().used, [0]);
    while driver.queues[0].collect().is_some() {}
    driver.send(0, &[Part::Read(b"x")]);
    step(&mut work, &mut desk).unwrap();
    assert_eq!(driver.signal.so_far().used, [0, 0]);
}
