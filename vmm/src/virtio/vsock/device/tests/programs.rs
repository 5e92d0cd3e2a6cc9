//! Programs of this process.

use super::*;
use std::net::Shutdown as How;

struct Hand(mpsc::Sender<(Port, Stream)>);

impl PortListener for Hand {
    fn accept(&self, from: Port, stream: Stream) {
        self.0.send((from, stream)).unwrap();
    }
}

fn program() -> (Bench, mpsc::Receiver<(Port, Stream)>) {
    let (sender, receiver) = mpsc::channel();
    let listener: Arc<dyn PortListener> = Arc::new(Hand(sender));
    let ports = [(Port(1525), listener)].into();
    (bench(|_| HostSide { ports, ..HostSide::default() }), receiver)
}

#[test]
fn a_program_of_this_process_is_reached_without_a_socket() {
    let (mut bench, streams) = program();
    bench.connect(1525, 77);
    let (from, stream) = streams.recv().unwrap();
    assert_eq!(from, Port(77));
    bench.send(&packet(Op::Data, 1525, 77), b"question");
    let mut buf = [0; 100];
    assert_eq!((&stream).read(&mut buf).unwrap(), 8);
    assert_eq!(&buf[..8], b"question");
    (&stream).write_all(b"answer").unwrap();
    assert_eq!(bench.expect(Op::Data).1, b"answer");
}

#[test]
fn a_program_gets_everything_in_order_and_the_guest_is_told_of_room() {
    let (mut bench, streams) = program();
    bench.connect(1525, 77);
    let (_, stream) = streams.recv().unwrap();
    let data = pattern(3 << 20);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        (&stream).read_to_end(&mut all).unwrap();
        all
    });
    bench.send_all((1525, 77), &data);
    assert!(reader.join().unwrap() == data);
}

#[test]
fn a_program_s_frames_fill_the_guest_s_buffers_and_never_more_than_it_has_room_for() {
    let (mut bench, streams) = program();
    bench.connect(1525, 77);
    let (_, stream) = streams.recv().unwrap();
    let data = pattern(2 << 20);
    let writer = std::thread::spawn({
        let data = data.clone();
        move || {
            (&stream).write_all(&data).unwrap();
            stream
        }
    });
    assert!(bench.collect((1525, 77), data.len()) == data);
    drop(writer.join().unwrap());
    bench.expect_end((1525, 77));
}

#[test]
fn many_small_writes_become_few_packets_when_the_guest_is_slow() {
    let (mut bench, streams) = program();
    bench.connect(1525, 77);
    let (_, stream) = streams.recv().unwrap();
    // Seven buffers are left; what does not fit them waits together.
    for _ in 0..30_000 {
        (&stream).write_all(b"x").unwrap();
    }
    stream.shutdown(How::Write);
    let mut packets = 0;
    let mut bytes = 0;
    while bytes < 30_000 {
        let (header, payload) = bench.receive();
        if header.op == Op::Data as u16 {
            packets += 1;
            bytes += payload.len();
        }
    }
    assert!(packets < 100, "{packets}");
}

#[test]
fn both_directions_of_a_program_half_close() {
    let (mut bench, streams) = program();
    bench.connect(1525, 77);
    let (_, stream) = streams.recv().unwrap();
    bench.send(&packet(Op::Data, 1525, 77), b"all");
    bench.send(&shutdown(Shutdown::SEND, 1525, 77), &[]);
    let mut all = Vec::new();
    (&stream).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"all");
    (&stream).write_all(b"rest").unwrap();
    assert_eq!(bench.expect(Op::Data).1, b"rest");
    stream.shutdown(How::Write);
    bench.expect(Op::Shutdown);

    bench.connect(1525, 78);
    let (_, stream) = streams.recv().unwrap();
    stream.shutdown(How::Write);
    assert_eq!(bench.expect(Op::Shutdown).0.flags, Shutdown::SEND.bits());
    bench.send(&packet(Op::Data, 1525, 78), b"after");
    let mut buf = [0; 5];
    (&stream).read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"after");
}

#[test]
fn a_guest_that_resets_ends_the_program_s_reads_after_what_came_before() {
    let (mut bench, streams) = program();
    bench.connect(1525, 77);
    let (_, stream) = streams.recv().unwrap();
    bench.send(&packet(Op::Data, 1525, 77), b"last words");
    bench.send(&packet(Op::Reset, 1525, 77), &[]);
    let mut all = Vec::new();
    (&stream).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last words");
    eventually("its writes fail", || (&stream).write(b"x").is_err());
}

#[test]
fn all_packets_that_there_are_go_in_one_turn_with_one_interrupt() {
    let (mut bench, streams) = program();
    bench.vsock.reset();
    bench.posted.clear();
    let (mut driver, _stop) = bench.vsock.driver(bench.guest.context(0)).unwrap();
    bench.post(30);
    bench.guest.send(TX, &[Part::Read(&packet(Op::Request, 1525, 77).encode())]);
    while driver.turn() {}
    let (_, stream) = streams.recv().unwrap();
    (&stream).write_all(&pattern(100_000)).unwrap();
    driver.look(Some(Duration::ZERO)).unwrap();
    let before = bench.guest.signal.so_far().used.len();
    driver.turn();
    // What the guest has sent may be given back now, too.
    let used = bench.guest.signal.so_far().used[before..].to_vec();
    assert_eq!(used.iter().filter(|&&queue| queue == RX as u16).count(), 1, "{used:?}");
    // The answer to the request, and as much in each packet as its buffer holds.
    let mut packets = Vec::new();
    while let Some(used) = bench.guest.queues[RX].collect() {
        packets.push(used.len);
    }
    let full = packets.iter().filter(|&&len| len == bench.buffer).count();
    assert_eq!(full, 100_000 / 4096, "{packets:?}");
}

#[test]
fn a_guest_gets_what_it_sent_back_in_few_interrupts_and_soon() {
    const SENT: usize = 100;
    let (mut bench, streams) = program();
    bench.vsock.reset();
    let (mut driver, _stop) = bench.vsock.driver(bench.guest.context(0)).unwrap();
    bench.guest.send(TX, &[Part::Read(&packet(Op::Request, 1525, 77).encode())]);
    driver.turn();
    let _stream = streams.recv().unwrap();
    for _ in 1..SENT {
        bench.guest.send(TX, &[Part::Read(&packet(Op::CreditUpdate, 1525, 77).encode())]);
        driver.turn();
    }
    while driver.engine.wakes().is_some() {
        driver.look(None).unwrap();
        driver.turn();
    }
    let back = std::iter::from_fn(|| bench.guest.queues[TX].collect()).count();
    assert_eq!(back, SENT);
    let used = bench.guest.signal.so_far().used;
    let interrupts = used.iter().filter(|&&queue| queue == TX as u16).count();
    assert!((1..SENT / 10).contains(&interrupts), "{interrupts} interrupts");
}

#[test]
fn a_guest_that_sends_and_leaves_again_and_again_does_not_fill_the_host() {
    let (mut bench, streams) = program();
    // The program is busy and looks at none of its connections.
    let mut came = 0;
    for peer in 0.. {
        assert!(peer < 5000, "it is never refused");
        bench.send(&packet(Op::Request, 1525, peer), &[]);
        if bench.receive().0.op == Op::Reset as u16 {
            break;
        }
        bench.send(&packet(Op::Data, 1525, peer), b"unread");
        bench.send(&shutdown(Shutdown::all(), 1525, peer), &[]);
        bench.expect(Op::Reset);
        came += 1;
    }
    let unread: Vec<_> = streams.try_iter().collect();
    assert_eq!(unread.len(), came);
    let mut all = Vec::new();
    (&unread[0].1).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"unread");
    drop(unread);
    bench.connect(1525, 6000);
}
