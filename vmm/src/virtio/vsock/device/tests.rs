//! The device with a guest's driver of our own in front of it, and real sockets and threads behind it.

use super::*;
use crate::virtio::test_utils::{Driver as Guest, Part, Sent};
use crate::virtio::vsock::muxer::tests::{BUF_ALLOC, GUEST, packet};
use crate::virtio::vsock::packet::{HEADER, Header, Op, Shutdown};
use crate::virtio::vsock::{Hyperkit, Port, PortListener, Stream};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

mod hostile;
mod programs;
mod sockets;

/// A guest with a driver, and a device.
struct Bench {
    guest: Guest,
    vsock: Vsock,
    /// Buffers that wait for packets.
    posted: VecDeque<Sent>,
    buffer: u32,
    dir: tempfile::TempDir,
}

fn bench(side: impl FnOnce(&Path) -> HostSide) -> Bench {
    bench_with(4096 + HEADER as u32, side)
}

/// One whose guest has receive buffers of that size.
fn bench_with(buffer: u32, side: impl FnOnce(&Path) -> HostSide) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let mut vsock = Vsock::new(GUEST, side(dir.path())).unwrap();
    let mut guest = Guest::new(&QUEUE_SIZES);
    vsock.activate(guest.context(0)).unwrap();
    let mut bench = Bench { guest, vsock, posted: VecDeque::new(), buffer, dir };
    bench.post(8);
    bench
}

fn hybrid(dir: &Path) -> HostSide {
    HostSide { hybrid: Some(dir.join("v")), ..HostSide::default() }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives the device receive buffers.
    fn post(&mut self, n: usize) {
        for _ in 0..n {
            // Cut as an older Linux does: the header apart.
            let parts = [Part::Write(HEADER as u32), Part::Write(self.buffer - HEADER as u32)];
            let sent = self.guest.send(RX, &parts);
            self.posted.push_back(sent);
        }
    }

    /// The next packet to the guest.
    fn receive(&mut self) -> (Header, Vec<u8>) {
        let used = self.guest.wait(RX);
        let sent = self.posted.pop_front().unwrap();
        assert_eq!(sent.head, used.head);
        let bytes = self.guest.written(&sent, used.len);
        let header = Header::decode(bytes.first_chunk().unwrap());
        assert_eq!(bytes.len(), HEADER + header.len as usize);
        assert_eq!((header.src.cid, header.dst.cid), (Cid::HOST, GUEST));
        self.post(1);
        (header, bytes[HEADER..].to_vec())
    }

    /// The next one, which is of this kind.
    fn expect(&mut self, op: Op) -> (Header, Vec<u8>) {
        let (header, payload) = self.receive();
        assert_eq!(Op::from_number(header.op), Some(op), "{header:?}");
        (header, payload)
    }

    fn send(&mut self, header: &Header, payload: &[u8]) {
        let header = Header { len: payload.len() as u32, ..*header };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(payload);
        // In three descriptors and more, cut at odd places, as newer Linux may do.
        let (a, rest) = bytes.split_at(13);
        let (b, c) = rest.split_at(rest.len() / 2);
        self.guest.send(TX, &[Part::Read(a), Part::Read(b), Part::Read(c)]);
        self.guest.wait(TX);
    }

    /// Connects from the guest's `peer` to the host's `local`.
    fn connect(&mut self, local: u32, peer: u32) {
        self.send(&packet(Op::Request, local, peer), &[]);
        let (header, _) = self.expect(Op::Response);
        assert_eq!((header.src.port, header.dst.port), (Port(local), Port(peer)));
    }

    /// Agrees to the connection that the host asks for.
    fn agree(&mut self, port: u32) -> (u32, u32) {
        let (header, _) = self.expect(Op::Request);
        assert_eq!(header.dst.port, Port(port));
        let local = header.src.port.0;
        self.send(&packet(Op::Response, local, port), &[]);
        (local, port)
    }

    /// Sends it all, as a Linux does: never further ahead than its own buffer is long. Then the end.
    fn send_all(&mut self, key: (u32, u32), data: &[u8]) {
        let (mut sent, mut taken) = (0_u32, 0_u32);
        for part in data.chunks(60_000) {
            while sent + part.len() as u32 - taken > BUF_ALLOC {
                taken = self.expect(Op::CreditUpdate).0.fwd_cnt;
            }
            self.send(&packet(Op::Data, key.0, key.1), part);
            sent += part.len() as u32;
        }
        self.send(&shutdown(Shutdown::SEND, key.0, key.1), &[]);
    }

    /// The device says that both directions are closed; the guest agrees.
    fn expect_end(&mut self, key: (u32, u32)) {
        loop {
            let (header, _) = self.receive();
            if header.op == Op::Shutdown as u16 && header.flags == Shutdown::all().bits() {
                break;
            }
            assert!(header.op != Op::Data as u16 && header.op != Op::Reset as u16, "{header:?}");
        }
        self.send(&packet(Op::Reset, key.0, key.1), &[]);
    }

    /// Bytes of connection `key` until there are `len`, and what room the guest tells in between.
    fn collect(&mut self, key: (u32, u32), len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            let (header, payload) = self.receive();
            match Op::from_number(header.op) {
                Some(Op::Data) => all.extend_from_slice(&payload),
                Some(Op::CreditRequest) => {
                    let update = packet(Op::CreditUpdate, key.0, key.1);
                    self.send(&Header { fwd_cnt: all.len() as u32, ..update }, &[]);
                }
                Some(Op::CreditUpdate) => {}
                other => panic!("{other:?}"),
            }
        }
        all
    }
}

fn shutdown(what: Shutdown, local: u32, peer: u32) -> Header {
    Header { flags: what.bits(), ..packet(Op::Shutdown, local, peer) }
}

fn is_closed(client: &mut UnixStream) -> bool {
    // Bytes that nobody read make it an error instead of the end.
    matches!(client.read(&mut [0; 64]), Ok(0) | Err(_))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n ^ (n >> 8)) as u8).collect()
}

fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_guest_finds_its_number_in_the_configuration_space() {
    let bench = bench(hybrid);
    let mut data = [0xff; 10];
    bench.vsock.read_config(0, &mut data);
    assert_eq!(data, [3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_number_that_is_no_guest_s_is_refused() {
    for cid in [0, 1, 2, u64::from(u32::MAX), u64::MAX] {
        assert!(matches!(
            Vsock::new(Cid(cid), HostSide::default()),
            Err(HostError::Cid(found)) if found == cid
        ));
    }
}

#[test]
fn a_driver_hears_that_its_connections_are_gone_after_a_restore() {
    let mut bench = bench(hybrid);
    let sent = bench.guest.send(2, &[Part::Write(4)]);
    bench.vsock.reset();
    bench.vsock.lost_connections();
    bench.vsock.activate(bench.guest.context(0)).unwrap();
    let again = bench.guest.send(2, &[Part::Write(4)]);
    assert_eq!(again.head, sent.head);
    let used = bench.guest.wait(2);
    assert_eq!(used.len, 4);
    assert_eq!(bench.guest.written(&again, 4), [0; 4]);
    bench.guest.send(2, &[Part::Write(4)]);
    bench.connect_nobody();
    assert_eq!(bench.guest.queues[2].collect(), None, "told once");
}

impl Bench {
    /// A whole exchange on a fresh driver, to know that the device has had its turn.
    fn connect_nobody(&mut self) {
        self.posted.clear();
        self.post(8);
        self.send(&packet(Op::Request, 9999, 1), &[]);
        self.expect(Op::Reset);
    }
}

#[test]
fn a_device_that_is_reset_closes_its_connections_and_works_again() {
    let mut bench = bench(hybrid);
    let mut client = UnixStream::connect(bench.path("v")).unwrap();
    client.write_all(b"CONNECT 22\n").unwrap();
    bench.agree(22);
    let mut word = [0; 3];
    client.read_exact(&mut word).unwrap();
    bench.vsock.reset();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    bench.vsock.activate(bench.guest.context(0)).unwrap();
    bench.connect_nobody();
    let mut client = UnixStream::connect(bench.path("v")).unwrap();
    client.write_all(b"CONNECT 23\n").unwrap();
    bench.agree(23);
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"OK ");
}
