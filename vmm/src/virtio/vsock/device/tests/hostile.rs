//! Clients and guests that misbehave.

use super::*;
use proptest::prelude::*;
use virtio_queue::desc::split::Descriptor;

/// The device still does its work.
fn assert_works(bench: &mut Bench, port: u32) {
    let mut client = UnixStream::connect(bench.path("v")).unwrap();
    client.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
    bench.agree(port);
    let mut word = [0; 3];
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"OK ");
}

#[test]
fn a_client_that_leaves_before_its_newline_disturbs_nobody() {
    let mut bench = bench(hybrid);
    // More than there are places for: they are free again at once.
    for half in [&b""[..], b"C", b"CONNECT 2"].repeat(100) {
        let mut client = UnixStream::connect(bench.path("v")).unwrap();
        client.write_all(half).unwrap();
    }
    eventually("all have been seen to leave", || bench.is_heard());
    assert_works(&mut bench, 22);
}

#[test]
fn a_client_that_leaves_before_the_guest_agrees_disturbs_nobody() {
    let mut bench = bench(hybrid);
    let mut client = UnixStream::connect(bench.path("v")).unwrap();
    client.write_all(b"CONNECT 5\n").unwrap();
    let (request, _) = bench.expect(Op::Request);
    drop(client);
    let key = (request.src.port.0, 5);
    bench.send(&packet(Op::Response, key.0, key.1), &[]);
    bench.expect_end(key);
    assert_works(&mut bench, 22);
}

#[test]
fn clients_that_say_nonsense_are_closed() {
    let mut bench = bench(hybrid);
    for nonsense in ["GET / HTTP/1.0\n", "CONNECT x\n", &"A".repeat(100), "\n\n\n"] {
        let mut client = UnixStream::connect(bench.path("v")).unwrap();
        client.write_all(nonsense.as_bytes()).unwrap();
        assert!(is_closed(&mut client), "{nonsense:?}");
    }
    assert_works(&mut bench, 22);
}

#[test]
fn clients_that_say_nothing_are_bounded_and_the_rest_is_closed() {
    let bench = bench(hybrid);
    let clients: Vec<_> = (0..300).map(|_| UnixStream::connect(bench.path("v")).unwrap()).collect();
    clients.iter().for_each(|client| client.set_nonblocking(true).unwrap());
    let mut open = 300;
    eventually("all but 128 are closed", || {
        let alive = |client: &&UnixStream| (&**client).read(&mut [0]).is_err();
        open = clients.iter().filter(alive).count();
        open <= 128
    });
    assert_eq!(open, 128);
    drop(clients);
    eventually("those who left make room for others", || bench.is_heard());
}

impl Bench {
    /// Whether a client is heard: it waits for its second word, instead of being closed at once.
    fn is_heard(&self) -> bool {
        let mut client = UnixStream::connect(self.path("v")).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let said = client.write_all(b"CONNECT ").is_ok();
        let answer = client.read(&mut [0]);
        said && answer.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

#[test]
fn a_guest_that_breaks_the_rules_of_its_queues_is_told_to_reset_and_nothing_else_happens() {
    let short = [0; HEADER - 1];
    let long = Header { len: 100, ..packet(Op::Data, 1, 2) }.encode();
    for bytes in [&short[..], &long] {
        let mut bench = bench(hybrid);
        bench.guest.send(TX, &[Part::Read(bytes)]);
        bench.guest.signal.wait_until("needs a reset", |recorded| recorded.resets_needed == 1);
        bench.vsock.reset();
        bench.vsock.activate(bench.guest.context(0)).unwrap();
        bench.connect_nobody();
    }
}

#[test]
fn descriptors_outside_of_memory_are_never_touched() {
    for queue in [RX, TX] {
        for (address, len) in [(u64::MAX - 10, 100), (1 << 40, 100), (0, u32::MAX)] {
            let mut bench = bench(hybrid);
            let (flags, index) = (if queue == RX { 2 } else { 0 }, 200);
            bench.guest.queues[queue].put(index, Descriptor::new(address, len, flags, 0));
            bench.guest.queues[queue].offer(index);
            bench.guest.events[queue].signal();
            if queue == RX {
                // The bad buffer's turn comes after eight good ones.
                for peer in 0..12 {
                    let request = packet(Op::Request, 9999, peer).encode();
                    bench.guest.send(TX, &[Part::Read(&request)]);
                }
            }
            bench.guest.signal.wait_until("needs a reset", |recorded| recorded.resets_needed == 1);
        }
    }
}

#[test]
fn a_guest_without_receive_buffers_costs_nothing_and_loses_nothing() {
    let mut bench = bench(hybrid);
    bench.vsock.reset();
    bench.posted.clear();
    let (mut driver, _stop) = bench.vsock.driver(bench.guest.context(0)).unwrap();
    let listener = UnixListener::bind(bench.path("v_80")).unwrap();
    let request = packet(Op::Request, 80, 1).encode();
    bench.guest.send(TX, &[Part::Read(&request)]);
    assert!(!driver.turn());
    let (mut stream, _) = listener.accept().unwrap();
    let data = pattern(100_000);
    stream.write_all(&data).unwrap();
    let pause = Duration::from_millis(100);
    let run = |driver: &mut super::super::Driver| {
        while driver.turn() {}
        driver.look(Some(Duration::ZERO)).unwrap();
        while driver.turn() {}
        while driver.engine.wakes().is_some() {
            driver.look(None).unwrap();
            driver.turn();
        }
        // There is much to send and no place for it: nothing wakes it.
        let start = Instant::now();
        driver.look(Some(pause)).unwrap();
        assert!(start.elapsed() >= pause, "it does not sleep");
    };
    run(&mut driver);
    let mut all = Vec::new();
    while all.len() < data.len() {
        bench.post(8);
        run(&mut driver);
        while let Some(used) = bench.guest.queues[RX].collect() {
            let sent = bench.posted.pop_front().unwrap();
            all.extend_from_slice(&bench.guest.written(&sent, used.len).split_off(HEADER));
        }
    }
    assert!(all == data);
}

#[test]
fn a_guest_that_sends_without_taking_is_heard_to_the_end_when_it_takes() {
    let mut bench = bench(hybrid);
    bench.vsock.reset();
    bench.posted.clear();
    bench.vsock.activate(bench.guest.context(0)).unwrap();
    let request = packet(Op::Request, 9999, 1).encode();
    let whole = u32::from(QUEUE_SIZES[TX]);
    for _ in 0..whole {
        bench.guest.send(TX, &[Part::Read(&request)]);
    }
    (0..whole).for_each(|_| _ = bench.guest.wait(TX));
    // No more of them are heard than answers may wait.
    for _ in 0..50 {
        bench.guest.send(TX, &[Part::Read(&request)]);
    }
    // Many buffers, and the device is told once.
    for _ in 0..QUEUE_SIZES[RX] {
        let sent = bench.guest.queues[RX].lay(&[Part::Write(HEADER as u32)]);
        bench.guest.queues[RX].offer(sent.head);
    }
    bench.guest.events[RX].signal();
    (0..50).for_each(|_| _ = bench.guest.wait(TX));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn nothing_that_a_guest_sends_stops_the_device(
        packets in proptest::collection::vec(
            (0_usize..4, 0_u32..3, 0_u16..9, any::<u32>(), any::<u32>(), 0_usize..5000, 1_usize..60),
            1..40,
        ),
    ) {
        let mut bench = bench(hybrid);
        let listeners: Vec<_> = (0..3)
            .map(|n| UnixListener::bind(bench.path(&format!("v_{n}"))).unwrap())
            .collect();
        bench.vsock.reset();
        bench.posted.clear();
        let (mut driver, _stop) = bench.vsock.driver(bench.guest.context(0)).unwrap();
        bench.post(8);
        for (local, peer, op, flags, count, len, cut) in packets {
            let header = Header {
                op, flags, len: len as u32, buf_alloc: count, fwd_cnt: count ^ flags,
                ..packet(Op::Data, local as u32, peer)
            };
            let mut bytes = header.encode().to_vec();
            bytes.extend(pattern(len));
            let cut = cut.min(bytes.len() - 1);
            bench.guest.send(TX, &[Part::Read(&bytes[..cut]), Part::Read(&bytes[cut..])]);
            while driver.turn() {}
            driver.look(Some(Duration::ZERO)).unwrap();
            while bench.guest.queues[RX].collect().is_some() {
                bench.post(1);
            }
            while bench.guest.queues[TX].collect().is_some() {}
            if let Some(listener) = listeners.get(local) {
                listener.set_nonblocking(true).unwrap();
                if let Ok((mut stream, _)) = listener.accept() {
                    _ = stream.write_all(b"something");
                }
            }
            prop_assert!(!driver.broken);
        }
    }
}
