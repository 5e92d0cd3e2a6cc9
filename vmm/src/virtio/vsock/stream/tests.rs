//! The program's end of a connection: waiting, closing, and what is kept for it.

use super::*;
use crate::virtio::test_utils::{Driver, Part};
use crate::virtio::vsock::Port;
use crate::virtio::vsock::budget::Budget;
use crate::virtio::worker::Desk;
use std::thread;

/// A pair, with a guest whose memory payload comes from and goes to.
struct Bench {
    driver: Driver,
    desk: Desk,
    bell: Arc<Bell>,
    stream: Stream,
    tail: Tail,
}

fn bench() -> Bench {
    let bell = Arc::new(Bell::new().unwrap());
    let mut driver = Driver::new(&[16]);
    let desk = driver.desk(0);
    let key = Key { local: Port(1), peer: Port(2) };
    let (stream, tail) = pair(key, Arc::new(Budget::default()).permit().unwrap(), bell.clone());
    Bench { driver, desk, bell, stream, tail }
}

impl Bench {
    fn push(&mut self, data: &[u8]) -> u32 {
        self.driver.send(0, &[Part::Read(data)]);
        let mut chain = self.desk.rings[0].pop().unwrap().unwrap();
        self.tail.push(&self.driver.memory, &mut chain.readable, 100).unwrap()
    }

    fn fill(&mut self, room: u32) -> (Filled, Vec<u8>) {
        let sent = self.driver.send(0, &[Part::Write(44 + room)]);
        let chain = self.desk.rings[0].pop().unwrap().unwrap();
        let mut slot = Slot::new(chain.writable).unwrap();
        let filled = self.tail.fill(&self.driver.memory, &mut slot, u32::MAX).unwrap();
        let len = if let Filled::Bytes(len) = filled { len } else { 0 };
        (filled, self.driver.written(&sent, 44 + len).split_off(44))
    }

    fn rung(&self) -> usize {
        let mut keys = Vec::new();
        self.bell.answer(&mut keys);
        keys.len()
    }
}

#[test]
fn what_the_guest_sends_is_read_and_then_the_end() {
    let mut bench = bench();
    assert_eq!(bench.push(b"hello, "), 0);
    assert_eq!(bench.push(b"world"), 0);
    bench.tail.finish();
    let mut text = String::new();
    (&bench.stream).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello, world");
}

#[test]
fn a_reader_waits_until_there_is_something() {
    let mut bench = bench();
    thread::scope(|scope| {
        let stream = &bench.stream;
        let reader = scope.spawn(move || {
            let mut buf = [0; 10];
            let mut stream = stream;
            let len = stream.read(&mut buf).unwrap();
            buf[..len].to_vec()
        });
        while bench.tail.pipe.down.state.lock().waiting == 0 {
            thread::yield_now();
        }
        bench.driver.send(0, &[Part::Read(b"late")]);
        let mut chain = bench.desk.rings[0].pop().unwrap().unwrap();
        bench.tail.push(&bench.driver.memory, &mut chain.readable, 100).unwrap();
        assert_eq!(reader.join().unwrap(), b"late");
    });
}

#[test]
fn the_bell_rings_once_for_many_writes_and_again_after_it_was_found_empty() {
    let mut bench = bench();
    for _ in 0..5 {
        assert_eq!((&bench.stream).write(b"ab").unwrap(), 2);
    }
    assert_eq!(bench.rung(), 1);
    assert_eq!(bench.fill(4), (Filled::Bytes(4), b"abab".to_vec()));
    (&bench.stream).write_all(b"c").unwrap();
    assert_eq!(bench.rung(), 0, "the engine knows that there is more");
    assert_eq!(bench.fill(100), (Filled::Bytes(7), b"abababc".to_vec()));
    assert_eq!(bench.fill(100).0, Filled::Nothing);
    (&bench.stream).write_all(b"d").unwrap();
    assert_eq!(bench.rung(), 1);
}

#[test]
fn the_engine_hears_of_what_was_read_when_it_is_worth_it() {
    let mut bench = bench();
    bench.push(&[7; 150]);
    let mut buf = [0; 60];
    assert_eq!((&bench.stream).read(&mut buf).unwrap(), 60);
    assert_eq!(bench.rung(), 0);
    assert_eq!((&bench.stream).read(&mut buf).unwrap(), 60);
    assert_eq!(bench.rung(), 1);
    assert_eq!(bench.tail.taken(), (120, true));
    assert_eq!(bench.tail.taken(), (0, true));
}

#[test]
fn a_frame_in_pieces_is_one_write() {
    let mut bench = bench();
    let parts = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(b"body")];
    assert_eq!((&bench.stream).write_vectored(&parts).unwrap(), 8);
    assert_eq!(bench.fill(100), (Filled::Bytes(8), b"headbody".to_vec()));
}

#[test]
fn a_writer_waits_for_room_and_everything_arrives() {
    let mut bench = bench();
    let data: Vec<u8> = (0..3 * UP as u32).map(|n| (n / 3) as u8).collect();
    let (stream, bell) = (bench.stream, bench.bell.clone());
    let writer = thread::spawn({
        let data = data.clone();
        move || (&stream).write_all(&data).unwrap()
    });
    let mut got = Vec::new();
    loop {
        let sent = bench.driver.send(0, &[Part::Write(44 + 5000)]);
        let chain = bench.desk.rings[0].pop().unwrap().unwrap();
        let mut slot = Slot::new(chain.writable).unwrap();
        match bench.tail.fill(&bench.driver.memory, &mut slot, u32::MAX).unwrap() {
            Filled::Bytes(len) => {
                got.extend_from_slice(&bench.driver.written(&sent, 44 + len)[44..]);
            }
            Filled::Nothing => {
                bell.answer(&mut Vec::new());
                thread::yield_now();
            }
            Filled::End => break,
        }
    }
    writer.join().unwrap();
    assert!(got == data);
}

#[test]
fn a_half_closed_stream_goes_on_in_the_other_direction() {
    let mut bench = bench();
    (&bench.stream).write_all(b"last").unwrap();
    bench.stream.shutdown(Shutdown::Write);
    assert_eq!(bench.fill(100).1, b"last");
    assert_eq!(bench.fill(100).0, Filled::End);
    assert_eq!((&bench.stream).write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    bench.push(b"still");
    let mut buf = [0; 10];
    assert_eq!((&bench.stream).read(&mut buf).unwrap(), 5);
}

#[test]
fn what_nobody_will_read_is_dropped_and_counted() {
    let mut bench = bench();
    bench.push(b"lost");
    bench.stream.shutdown(Shutdown::Read);
    assert_eq!(bench.rung(), 1);
    assert_eq!(bench.tail.taken(), (0, false));
    assert_eq!(bench.push(b"more"), 4);
    assert_eq!((&bench.stream).read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn a_connection_that_is_gone_ends_reads_and_fails_writes_also_of_those_who_wait() {
    let Bench { stream, tail, .. } = bench();
    thread::scope(|scope| {
        let stream = &stream;
        let reader = scope.spawn(move || {
            let mut stream = stream;
            stream.read(&mut [0; 10])
        });
        let writer = scope.spawn(move || {
            let mut stream = stream;
            stream.write_all(&vec![0; 2 * UP])
        });
        while tail.pipe.down.state.lock().waiting + tail.pipe.up.state.lock().waiting < 2 {
            thread::yield_now();
        }
        drop(tail);
        assert_eq!(reader.join().unwrap().unwrap(), 0);
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_read_waits_no_longer_than_it_may() {
    let bench = bench();
    bench.stream.set_read_timeout(Some(Duration::from_millis(1)));
    let error = (&bench.stream).read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}
