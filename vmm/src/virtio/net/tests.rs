//! Frames between a driver and a network at the other end of a socket.

use super::*;
use crate::virtio::test_utils::{Driver, Part, step};
use frames::length;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

const MAC: Mac = Mac([2, 0, 0, 1, 2, 3]);

fn setup() -> (UnixStream, Net, Driver) {
    let (network, ours) = UnixStream::pair().unwrap();
    let net = Net::new(Link::over_stream(ours).unwrap(), MAC);
    (network, net, Driver::new(&QUEUE_SIZES))
}

fn on_the_wire(frame: &[u8]) -> Vec<u8> {
    [&length(frame)[..], frame].concat()
}

fn frame(n: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| n.wrapping_add(at as u8)).collect()
}

#[test]
fn what_the_guest_sends_arrives_as_frames() {
    let (mut network, mut net, mut driver) = setup();
    net.activate(driver.context(0)).unwrap();
    let (small, large) = (frame(1, MIN_FRAME), frame(2, MAX_FRAME));
    driver.send(1, &[Part::Read(&[0; HEADER]), Part::Read(&small)]);
    let joined = [&[0; HEADER][..], &large].concat();
    driver.send(1, &[Part::Read(&joined[..5]), Part::Read(&joined[5..])]);
    let expected = [on_the_wire(&small), on_the_wire(&large)].concat();
    let mut seen = vec![0; expected.len()];
    network.read_exact(&mut seen).unwrap();
    assert_eq!(seen, expected);
    driver.wait(1);
    driver.wait(1);
}

#[test]
fn a_slow_network_holds_the_guest_up_and_loses_nothing() {
    let (mut network, mut net, mut driver) = setup();
    net.activate(driver.context(0)).unwrap();
    let sent: Vec<_> = (0..120).map(|n| frame(n, 60_000)).collect();
    let mut expected = Vec::new();
    let reader = {
        let expect: usize = sent.iter().map(|frame| 4 + frame.len()).sum();
        for frame in &sent {
            expected.extend(on_the_wire(frame));
        }
        std::thread::spawn(move || {
            let mut seen = vec![0; expect];
            network.read_exact(&mut seen).unwrap();
            seen
        })
    };
    for frame in &sent {
        driver.send(1, &[Part::Read(&[0; HEADER]), Part::Read(frame)]);
        driver.wait(1);
    }
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn what_the_network_sends_fills_one_buffer_each() {
    let (mut network, mut net, mut driver) = setup();
    net.activate(driver.context(0)).unwrap();
    let frames = [frame(1, 60), frame(2, 1514)];
    // They come before the guest has buffers.
    for frame in &frames {
        network.write_all(&on_the_wire(frame)).unwrap();
    }
    for frame in &frames {
        let sent = driver.send(0, &[Part::Write(12), Part::Write(1514)]);
        let used = driver.wait(0);
        let written = driver.written(&sent, used.len);
        assert_eq!(written[..HEADER], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(&written[HEADER..], frame);
    }
}

#[test]
fn a_large_frame_is_spread_over_buffers_that_may_come_late() {
    let (mut network, mut net, mut driver) = setup();
    net.activate(driver.context(1 << VIRTIO_NET_F_MRG_RXBUF)).unwrap();
    let large = frame(9, 5000);
    network.write_all(&on_the_wire(&large)).unwrap();
    let buffers: Vec<_> = (0..4).map(|_| driver.send(0, &[Part::Write(1526)])).collect();
    let mut all = Vec::new();
    for buffer in &buffers {
        let used = driver.wait(0);
        assert_eq!(used.head, buffer.head);
        all.extend(driver.written(buffer, used.len));
    }
    assert_eq!(all[10..12], [4, 0]);
    assert_eq!(all[12..], large);
}

#[test]
fn the_buffers_of_a_frame_are_given_back_at_once() {
    let (mut network, mut net, mut driver) = setup();
    net.activate(driver.context(1 << VIRTIO_NET_F_MRG_RXBUF)).unwrap();
    for n in 0..2000_u32 {
        let first = driver.send(0, &[Part::Write(40)]);
        let others = 7;
        for _ in 0..others {
            driver.send(0, &[Part::Write(40)]);
        }
        network.write_all(&on_the_wire(&frame(n as u8, 8 * 40 - HEADER))).unwrap();
        let used = loop {
            if let Some(used) = driver.queues[0].collect() {
                break used;
            }
            std::hint::spin_loop();
        };
        assert_eq!(driver.written(&first, used.len)[10..12], [others + 1, 0]);
        let there = (0..others).map_while(|_| driver.queues[0].collect()).count();
        assert_eq!(there, usize::from(others), "frame {n}");
    }
}

#[test]
fn a_turn_that_ends_within_a_frame_is_taken_up_again() {
    let (mut network, ours) = UnixStream::pair().unwrap();
    let link = Link::over_stream(ours).unwrap();
    let mut card = Card::new(link, Arc::new(AtomicBool::new(true)));
    let mut driver = Driver::new(&[1024, 64]);
    let mut desk = driver.desk(1 << VIRTIO_NET_F_MRG_RXBUF);
    card.begin(&mut desk);
    // Three buffers each, which does not divide a turn.
    let frames: Vec<_> = (0..200).map(|n| frame(n, 200)).collect();
    for _ in 0..frames.len() * 3 {
        let sent = driver.queues[0].lay(&[Part::Write(80)]);
        driver.queues[0].offer(sent.head);
    }
    // In one piece: a socket has room for more bytes than for writes.
    network
        .write_all(&frames.iter().flat_map(|frame| on_the_wire(frame)).collect::<Vec<_>>())
        .unwrap();
    step(&mut card, &mut desk).unwrap();
    assert_eq!(std::iter::from_fn(|| driver.queues[0].collect()).count(), frames.len() * 3);
}

#[test]
fn a_frame_too_large_for_a_buffer_is_lost_and_the_next_one_comes() {
    let (mut network, mut net, mut driver) = setup();
    net.activate(driver.context(0)).unwrap();
    let sent = driver.send(0, &[Part::Write(1526)]);
    network.write_all(&on_the_wire(&frame(1, 1515))).unwrap();
    network.write_all(&on_the_wire(&frame(2, 1514))).unwrap();
    let used = driver.wait(0);
    assert_eq!(driver.written(&sent, used.len)[HEADER..], frame(2, 1514));
}

#[test]
fn what_is_no_frame_needs_a_reset() {
    for parts in [&[Part::Read(&[0; 11])][..], &[Part::Read(&[0; 12 + 13])], &[Part::Write(64)]] {
        let (_network, mut net, mut driver) = setup();
        net.activate(driver.context(0)).unwrap();
        driver.send(1, parts);
        driver.signal.wait_until("asks for a reset", |so_far| so_far.resets_needed == 1);
    }
    let (mut network, mut net, mut driver) = setup();
    net.activate(driver.context(0)).unwrap();
    driver.send(0, &[Part::Write(11)]);
    network.write_all(&on_the_wire(&frame(1, 60))).unwrap();
    driver.signal.wait_until("asks for a reset", |so_far| so_far.resets_needed == 1);
}

fn is_up(net: &Net) -> bool {
    let mut status = [0; 2];
    net.read_config(6, &mut status);
    status == [1, 0]
}

#[test]
fn a_network_that_goes_or_talks_nonsense_takes_the_link_down() {
    for nonsense in [&b""[..], &[0xff; 8]] {
        let (mut network, mut net, mut driver) = setup();
        net.activate(driver.context(0)).unwrap();
        assert!(is_up(&net));
        network.write_all(nonsense).unwrap();
        if nonsense.is_empty() {
            drop(network);
        }
        driver.signal.wait_until("tells of it", |so_far| so_far.config_changes == 1);
        assert!(!is_up(&net));
        // The guest may go on sending.
        driver.send(1, &[Part::Read(&[0; HEADER]), Part::Read(&frame(1, 60))]);
        driver.wait(1);
    }
}

#[test]
fn a_reset_in_the_middle_of_a_frame_loses_none() {
    let (mut network, mut net, mut driver) = setup();
    let wire = on_the_wire(&frame(1, 60));
    network.write_all(&wire[..30]).unwrap();
    net.activate(driver.context(0)).unwrap();
    net.reset();
    network.write_all(&wire[30..]).unwrap();
    net.activate(driver.context(0)).unwrap();
    let sent = driver.send(0, &[Part::Write(1526)]);
    let used = driver.wait(0);
    assert_eq!(driver.written(&sent, used.len)[HEADER..], frame(1, 60));
}

#[test]
fn both_kinds_of_sockets_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str| Config { socket: dir.path().join(name) };

    let stream = UnixListener::bind(dir.path().join("stream")).unwrap();
    let mut net = Net::open(&config("stream"), MAC).unwrap();
    let (mut network, _) = stream.accept().unwrap();
    let mut driver = Driver::new(&QUEUE_SIZES);
    net.activate(driver.context(0)).unwrap();
    driver.send(1, &[Part::Read(&[0; HEADER]), Part::Read(&frame(1, 60))]);
    let mut seen = [0; 64];
    network.read_exact(&mut seen).unwrap();
    assert_eq!(seen[4..], frame(1, 60));

    let network = UnixDatagram::bind(dir.path().join("datagrams")).unwrap();
    let mut net = Net::open(&config("datagrams"), MAC).unwrap();
    let mut driver = Driver::new(&QUEUE_SIZES);
    net.activate(driver.context(0)).unwrap();
    let mut seen = [0; 2000];
    let (len, from) = network.recv_from(&mut seen).unwrap();
    assert_eq!(&seen[..len], b"VFKT");
    let ours = from.as_pathname().unwrap().to_owned();
    driver.send(1, &[Part::Read(&[0; HEADER]), Part::Read(&frame(1, 60))]);
    let len = network.recv(&mut seen).unwrap();
    assert_eq!(seen[..len], frame(1, 60));
    let sent = driver.send(0, &[Part::Write(1526)]);
    network.send_to(&frame(2, 1500), &ours).unwrap();
    let used = driver.wait(0);
    assert_eq!(driver.written(&sent, used.len)[HEADER..], frame(2, 1500));
    drop(net);
    assert!(!ours.exists());
}

#[test]
fn a_network_that_is_not_there_says_what_to_do() {
    let error = Net::open(&Config { socket: "/nonexistent/socket".into() }, MAC).err().unwrap();
    let message = error.to_string();
    assert!(message.contains("/nonexistent/socket") && message.contains("passt"), "{message}");
}

#[test]
fn addresses_are_local_and_differ() {
    let (first, second) = (Mac::random(), Mac::random());
    assert_ne!(first, second);
    assert_eq!(first.0[0] & 3, 2, "given locally, not a group");
}
