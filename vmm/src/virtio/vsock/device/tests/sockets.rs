//! Programs behind sockets, in each of the ways that people know.

use super::*;
use crate::virtio::vsock::{Direction, PortSocket};
use std::net::Shutdown as How;

fn word(client: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        client.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn a_client_connects_to_a_port_of_the_guest() {
    let mut bench = bench(hybrid);
    let mut client = UnixStream::connect(bench.path("v")).unwrap();
    client.write_all(b"CONNECT 22\nearly").unwrap();
    let key = bench.agree(22);
    assert_eq!(word(&mut client), format!("OK {}\n", key.0));
    assert_eq!(bench.expect(Op::Data).1, b"early");
    bench.send(&packet(Op::Data, key.0, key.1), b"hello");
    let mut buf = [0; 5];
    client.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"hello");
    client.shutdown(How::Write).unwrap();
    assert_eq!(bench.expect(Op::Shutdown).0.flags, Shutdown::SEND.bits());
    bench.send(&packet(Op::Data, key.0, key.1), b"more");
    bench.send(&shutdown(Shutdown::SEND, key.0, key.1), &[]);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"more");
    assert_eq!(bench.expect(Op::Shutdown).0.flags, Shutdown::all().bits());
}

#[test]
fn a_client_of_a_port_that_nobody_listens_on_in_the_guest_is_closed_without_a_word() {
    let mut bench = bench(hybrid);
    let mut client = UnixStream::connect(bench.path("v")).unwrap();
    client.write_all(b"CONNECT 22\n").unwrap();
    let (request, _) = bench.expect(Op::Request);
    bench.send(&packet(Op::Reset, request.src.port.0, 22), &[]);
    assert!(is_closed(&mut client));
}

#[test]
fn a_guest_reaches_the_socket_of_its_port_and_no_other() {
    let mut bench = bench(hybrid);
    let listener = UnixListener::bind(bench.path("v_80")).unwrap();
    bench.connect(80, 5000);
    let (mut stream, _) = listener.accept().unwrap();
    bench.send(&packet(Op::Data, 80, 5000), b"ping");
    let mut buf = [0; 4];
    stream.read_exact(&mut buf).unwrap();
    stream.write_all(b"pong").unwrap();
    assert_eq!(bench.expect(Op::Data).1, b"pong");
    bench.send(&packet(Op::Request, 81, 5000), &[]);
    assert_eq!(bench.expect(Op::Reset).0.src.port, Port(81));
}

#[test]
fn megabytes_arrive_in_order_in_both_directions_though_the_program_is_slow() {
    let mut bench = bench(hybrid);
    let listener = UnixListener::bind(bench.path("v_80")).unwrap();
    bench.connect(80, 5000);
    let (stream, _) = listener.accept().unwrap();
    let data = pattern(2 << 20);
    let mut reading = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buf = [0; 10_000];
        loop {
            match reading.read(&mut buf).unwrap() {
                0 => return all,
                len => all.extend_from_slice(&buf[..len]),
            }
            std::thread::yield_now();
        }
    });
    bench.send_all((80, 5000), &data);
    assert!(reader.join().unwrap() == data);
    let writer = std::thread::spawn({
        let data = data.clone();
        let mut stream = stream;
        move || stream.write_all(&data).unwrap()
    });
    let got = bench.collect((80, 5000), data.len());
    writer.join().unwrap();
    assert!(got == data);
}

#[test]
fn what_a_guest_sent_before_it_left_still_reaches_a_program_that_reads_late() {
    let mut bench = bench(hybrid);
    let listener = UnixListener::bind(bench.path("v_80")).unwrap();
    bench.connect(80, 5000);
    let (mut stream, _) = listener.accept().unwrap();
    let data = pattern(4 * 65_536);
    for part in data.chunks(65_536) {
        bench.send(&packet(Op::Data, 80, 5000), part);
    }
    bench.send(&shutdown(Shutdown::all(), 80, 5000), &[]);
    while bench.receive().0.op != Op::Reset as u16 {}
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all == data);
}

#[test]
fn a_program_that_leaves_closes_both_directions() {
    let mut bench = bench(hybrid);
    let listener = UnixListener::bind(bench.path("v_80")).unwrap();
    bench.connect(80, 5000);
    drop(listener.accept().unwrap());
    bench.expect_end((80, 5000));
}

#[test]
fn hyperkit_s_directory_serves_both_directions_and_forwards() {
    let mut bench = bench(|dir| {
        let hyperkit = Hyperkit { directory: dir.to_owned(), forwards: vec![Port(2376)] };
        HostSide { hyperkit: Some(hyperkit), ..HostSide::default() }
    });
    let mut client = UnixStream::connect(bench.path("connect")).unwrap();
    client.write_all(b"00000003.00000016\nhi").unwrap();
    let key = bench.agree(22);
    assert_eq!(bench.expect(Op::Data).1, b"hi");
    bench.send(&packet(Op::Data, key.0, key.1), b"SSH");
    let mut buf = [0; 3];
    client.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"SSH", "no word comes before");

    let mut stranger = UnixStream::connect(bench.path("connect")).unwrap();
    stranger.write_all(b"00000004.00000016\n").unwrap();
    assert!(is_closed(&mut stranger));

    let mut forwarded = UnixStream::connect(bench.path("00000003.00000948")).unwrap();
    forwarded.write_all(b"GET").unwrap();
    bench.agree(2376);
    assert_eq!(bench.expect(Op::Data).1, b"GET");

    let listener = UnixListener::bind(bench.path("00000002.00000050")).unwrap();
    bench.connect(80, 5000);
    listener.accept().unwrap();
}

#[test]
fn one_socket_serves_one_port_in_either_direction() {
    let mut bench = bench(|dir| {
        let socket = |port, name, direction| PortSocket {
            port: Port(port),
            path: dir.join(name),
            direction,
        };
        HostSide {
            sockets: vec![
                socket(22, "ssh", Direction::ToGuest),
                socket(80, "web", Direction::ToHost),
            ],
            ..HostSide::default()
        }
    });
    let mut client = UnixStream::connect(bench.path("ssh")).unwrap();
    client.write_all(b"hi").unwrap();
    bench.agree(22);
    assert_eq!(bench.expect(Op::Data).1, b"hi");
    let listener = UnixListener::bind(bench.path("web")).unwrap();
    bench.connect(80, 5000);
    let _accepted = listener.accept().unwrap();
    bench.send(&packet(Op::Request, 22, 5001), &[]);
    bench.expect(Op::Reset);
}
