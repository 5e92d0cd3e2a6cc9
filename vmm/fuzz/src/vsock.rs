//! Packets of a guest, and clients of the host's sockets.

use crate::hostile::{Input, drive};
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vmm::virtio::Broken;
use vmm::virtio::vsock::engine::Engine;
use vmm::virtio::vsock::handshake::{Dialect, MAX_LINE, Parsed, parse};
use vmm::virtio::vsock::packet::{Address, Header};
use vmm::virtio::vsock::{Cid, Host, HostSide, Port, PortListener, Stream};
use vmm::virtio::worker::{Desk, Wake, Work};

const GUEST: Cid = Cid(3);
const PORT: Port = Port(1525);

/// Keeps the connections that it gets.
#[derive(Default)]
struct Keeper(Mutex<Vec<Stream>>);

impl PortListener for Keeper {
    fn accept(&self, _: Port, stream: Stream) {
        self.0.lock().unwrap().push(stream);
    }
}

/// The engine, driven as the device drives it.
struct Driven {
    engine: Engine,
}

impl Work for Driven {
    fn begin(&mut self, _: &mut Desk) {
        self.engine.reset();
    }

    fn run(&mut self, _: Wake, desk: &mut Desk) -> Result<(), Broken> {
        self.engine.look(Some(Duration::ZERO), &mut Vec::new()).unwrap();
        let [rx, tx, ..] = &mut desk.rings[..] else { unreachable!() };
        self.engine.turn(&desk.memory, rx, tx)
    }
}

/// The header of a packet, most of them of a few connections and of the right length.
fn header(input: &mut Input<'_>, payload: &[u8]) -> Vec<u8> {
    let odd = input.u8();
    let src = Address { cid: GUEST, port: Port(u32::from(input.u8() % 4)) };
    let dst = Address { cid: Cid::HOST, port: Port(PORT.0 + u32::from(odd & 1)) };
    let mut header = Header {
        src,
        dst,
        len: payload.len() as u32,
        kind: 1,
        op: u16::from(input.u8() % 9),
        flags: u32::from(input.u8() & 3),
        buf_alloc: input.u32(),
        fwd_cnt: u32::from(input.u16()),
    };
    match odd >> 3 {
        1 => header.len = input.u32(),
        2 => header.src.cid = Cid(input.u64()),
        3 => header.dst.cid = Cid(input.u64()),
        4 => header.kind = input.u16(),
        5 => header.fwd_cnt = input.u32(),
        6 => header.dst.port = Port(input.u32()),
        _ => {}
    }
    header.encode().to_vec()
}

/// Packets in any order, with clients of the host's socket and a program of ours at the other end.
pub fn vsock(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vsock");
    let keeper = Arc::<Keeper>::default();
    let ports = HashMap::from([(PORT, keeper.clone() as Arc<dyn PortListener>)]);
    let side = HostSide { hybrid: Some(path.clone()), ports, ..HostSide::default() };
    let engine = Engine::new(Host::bind(side, GUEST).unwrap()).unwrap();
    let mut clients: Vec<UnixStream> = Vec::new();
    let host = |bytes: &[u8]| {
        let Some((&what, bytes)) = bytes.split_first() else { return };
        let slot = usize::from(what >> 2);
        match what & 3 {
            0 if clients.len() < 32 => {
                let mut client = UnixStream::connect(&path).unwrap();
                client.set_nonblocking(true).unwrap();
                _ = client.write(bytes);
                clients.push(client);
            }
            1 if !clients.is_empty() => {
                let slot = slot % clients.len();
                clients.swap_remove(slot);
            }
            2 if !clients.is_empty() => {
                let slot = slot % clients.len();
                _ = clients[slot].write(bytes);
            }
            _ => drop(keeper.0.lock().unwrap().pop()),
        }
    };
    drive(&[64, 64, 16], data, &mut Driven { engine }, header, host);
}

/// The first line of a client.
pub fn vsock_handshake(data: &[u8]) {
    for dialect in [Dialect::Hybrid, Dialect::Hyperkit] {
        match parse(dialect, data) {
            Parsed::More => assert!(data.len() < MAX_LINE),
            Parsed::Connect { len, .. } => assert!(len <= MAX_LINE && data[len - 1] == b'\n'),
            Parsed::Garbage => {}
        }
    }
}
