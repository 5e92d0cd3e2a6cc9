//! All connections of a guest. Pure, like [`connection`](super::connection): no I/O, no payload, time
//! comes in.
//!
//! Packets of the guest are led to their connection, or answered with `Reset` where there is none.
//! Whoever has something for the guest waits in one line, and after one packet goes to its end: no
//! connection can keep another from its turn. Numbers are bounded: connections and bytes that guests
//! may have us hold (`budget`), and resets that wait. A guest that takes no resets is not listened to
//! ([`Muxer::is_congested`]) until it does.

use super::budget::{Budget, Permit};
use super::connection::{Connection, Next, Reaction};
use super::packet::{Address, Header, Op, STREAM, Shutdown};
use super::{Cid, Port};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Resets that may wait for the guest before it is not listened to.
const MAX_RESETS: usize = 256;
/// Ports that the host's side of a connection to the guest is given.
const FIRST_PORT: u32 = 1 << 30;

/// A connection's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The host's port.
    pub local: Port,
    /// The guest's.
    pub peer: Port,
}

/// What a packet of the guest means for the host's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    Nothing,
    /// The guest asks for a connection: to be answered by [`Muxer::accept`] or [`Muxer::refuse`].
    Requested(Key),
    /// The guest agrees to one.
    Established(Key),
    /// The payload is to be passed on; [`Muxer::forwarded`] says when.
    Data(Key),
    /// The guest has closed a direction or two; see [`Muxer::peer`].
    Shutdown(Key),
    /// It is over. What came before is still to be passed on.
    Ended(Key),
}

/// What to send to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// This, which has no payload.
    Control(Header),
    /// Payload of a connection, up to `max` bytes; [`Muxer::sent`] or [`Muxer::drained`] is to follow.
    Data {
        /// Of which.
        key: Key,
        /// At most.
        max: u32,
    },
}

struct Entry {
    connection: Connection,
    permit: Arc<Permit>,
    in_line: bool,
    wakes: Option<Instant>,
}

/// See the module.
pub struct Muxer {
    cid: Cid,
    connections: HashMap<Key, Entry>,
    /// Those with something for the guest. Names of connections that are gone may be among them.
    line: VecDeque<Key>,
    resets: VecDeque<Header>,
    timers: BTreeSet<(Instant, Key)>,
    budget: Arc<Budget>,
    next_port: u32,
}

impl Muxer {
    /// No connections, for the guest of this number.
    pub fn new(cid: Cid) -> Self {
        Self {
            cid,
            connections: HashMap::new(),
            line: VecDeque::new(),
            resets: VecDeque::new(),
            timers: BTreeSet::new(),
            budget: Arc::default(),
            next_port: FIRST_PORT,
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether the guest must take resets before it is heard again.
    pub fn is_congested(&self) -> bool {
        self.resets.len() >= MAX_RESETS
    }

    /// A packet of the guest.
    pub fn receive(&mut self, header: &Header, now: Instant) -> Event {
        if header.src.cid != self.cid {
            // Not this guest's address: nobody to answer to.
            return Event::Nothing;
        }
        let key = Key { local: header.dst.port, peer: header.src.port };
        if header.dst.cid != Cid::HOST || header.kind != STREAM {
            self.reject(header);
            return Event::Nothing;
        }
        let Some(entry) = self.connections.get_mut(&key) else {
            let asks = header.op == Op::Request as u16;
            let Some(permit) = asks.then(|| self.budget.permit()).flatten() else {
                self.reject(header);
                return Event::Nothing;
            };
            let connection = Connection::offered(header, permit.buffer());
            self.insert(key, connection, permit);
            return Event::Requested(key);
        };
        let event = match entry.connection.receive(header, now) {
            Reaction::Nothing => Event::Nothing,
            Reaction::Established => Event::Established(key),
            Reaction::Data => Event::Data(key),
            Reaction::Shutdown => Event::Shutdown(key),
            Reaction::Ended => {
                self.remove(key);
                return Event::Ended(key);
            }
            Reaction::Reset => {
                self.reset(key);
                return Event::Ended(key);
            }
        };
        self.settle(key);
        event
    }

    /// Answers a packet that belongs nowhere.
    fn reject(&mut self, header: &Header) {
        // A reset is not answered, or two machines would do so for ever.
        if header.op != Op::Reset as u16 {
            let answer = Header { src: header.dst, dst: header.src, ..self.control(Op::Reset) };
            self.resets.push_back(Header { kind: header.kind, ..answer });
        }
    }

    /// Somebody of the host takes the connection that the guest asks for.
    pub fn accept(&mut self, key: Key) {
        self.with(key, Connection::accept);
    }

    /// Nobody does; or the host breaks a connection off.
    pub fn refuse(&mut self, key: Key) {
        if self.connections.contains_key(&key) {
            self.reset(key);
        }
    }

    /// The host asks for a connection to a port of the guest; none if there are too many.
    pub fn connect(&mut self, peer: Port, now: Instant) -> Option<Key> {
        let permit = self.budget.permit()?;
        let key = loop {
            let local = Port(self.next_port);
            // Below the range are the ports that people choose, and the last one means "any".
            self.next_port = self.next_port.wrapping_add(1);
            if self.next_port == u32::MAX {
                self.next_port = FIRST_PORT;
            }
            let key = Key { local, peer };
            if !self.connections.contains_key(&key) {
                break key;
            }
        };
        let connection = Connection::requested(permit.buffer(), now);
        self.insert(key, connection, permit);
        Some(key)
    }

    /// The host's side may have data for the guest.
    pub fn readable(&mut self, key: Key) {
        self.with(key, Connection::readable);
    }

    /// It has none, at the moment.
    pub fn drained(&mut self, key: Key) {
        self.with(key, Connection::drained);
    }

    /// It has taken so many bytes.
    pub fn forwarded(&mut self, key: Key, len: u32) {
        self.with(key, |connection| connection.forwarded(len));
    }

    /// It will not do this any more. What it sent before has been [`sent`](Self::sent).
    pub fn shutdown(&mut self, key: Key, what: Shutdown) {
        self.with(key, |connection| connection.shutdown(what));
    }

    /// What the guest does not do any more; both if there is no such connection.
    pub fn peer(&self, key: Key) -> Shutdown {
        self.connections.get(&key).map_or(Shutdown::all(), |entry| entry.connection.peer())
    }

    /// The permit of a connection, for whatever holds bytes of it.
    pub fn permit(&self, key: Key) -> Option<Arc<Permit>> {
        self.connections.get(&key).map(|entry| entry.permit.clone())
    }

    /// After how many bytes that were taken the guest is worth telling.
    pub fn step(&self, key: Key) -> u32 {
        self.connections.get(&key).map_or(1, |entry| entry.connection.step())
    }

    /// Forgets all connections: the guest that knew them is gone. What is still held of them counts on.
    pub fn clear(&mut self) {
        let budget = self.budget.clone();
        *self = Self { budget, ..Self::new(self.cid) };
    }

    /// Whether there may be something to send.
    pub fn has_next(&self) -> bool {
        !self.resets.is_empty() || !self.line.is_empty()
    }

    /// What to send next. Only to be asked when there is a place for it: it counts as sent.
    pub fn next(&mut self, now: Instant) -> Option<Packet> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(Packet::Control(reset));
        }
        while let Some(key) = self.line.pop_front() {
            let Some(entry) = self.connections.get_mut(&key) else { continue };
            entry.in_line = false;
            match entry.connection.next(now) {
                None => {}
                Some(Next::Data(max)) => return Some(Packet::Data { key, max }),
                Some(Next::Control(op, flags)) => {
                    let header = self.header(key, op, 0);
                    self.settle(key);
                    return Some(Packet::Control(Header { flags: flags.bits(), ..header }));
                }
            }
        }
        None
    }

    /// `len` bytes go to the guest, after [`Packet::Data`]: their header.
    pub fn sent(&mut self, key: Key, len: u32) -> Header {
        self.with(key, |connection| connection.sent(len));
        self.header(key, Op::Data, len)
    }

    /// When [`expire`](Self::expire) is to be called.
    pub fn wakes(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// Time has passed. Returns a connection that this ended; to be called until it returns none.
    pub fn expire(&mut self, now: Instant) -> Option<Key> {
        while let Some(&(at, key)) = self.timers.first() {
            if at > now {
                break;
            }
            let entry = self.connections.get_mut(&key)?;
            if entry.connection.expire(now) {
                self.reset(key);
                return Some(key);
            }
            self.settle(key);
        }
        None
    }

    fn with(&mut self, key: Key, act: impl FnOnce(&mut Connection)) {
        if let Some(entry) = self.connections.get_mut(&key) {
            act(&mut entry.connection);
            self.settle(key);
        }
    }

    /// After anything happened to a connection: is it in the line, is its timer right?
    fn settle(&mut self, key: Key) {
        let Some(entry) = self.connections.get_mut(&key) else { return };
        if !entry.in_line && entry.connection.has_next() {
            entry.in_line = true;
            self.line.push_back(key);
        }
        let wakes = entry.connection.wakes();
        if wakes != entry.wakes {
            if let Some(before) = entry.wakes {
                self.timers.remove(&(before, key));
            }
            entry.wakes = wakes;
            if let Some(at) = wakes {
                self.timers.insert((at, key));
            }
        }
    }

    fn insert(&mut self, key: Key, connection: Connection, permit: Arc<Permit>) {
        self.connections.insert(key, Entry { connection, permit, in_line: false, wakes: None });
        self.settle(key);
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.connections.remove(&key) {
            if let Some(at) = entry.wakes {
                self.timers.remove(&(at, key));
            }
            if entry.in_line {
                // Another connection of this name must not find two places in the line.
                self.line.retain(|&other| other != key);
            }
        }
    }

    fn reset(&mut self, key: Key) {
        let header = self.header(key, Op::Reset, 0);
        self.remove(key);
        self.resets.push_back(header);
    }

    fn control(&self, op: Op) -> Header {
        let host = Address { cid: Cid::HOST, port: Port(0) };
        Header {
            src: host,
            dst: host,
            len: 0,
            kind: STREAM,
            op: op as u16,
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        }
    }

    fn header(&mut self, key: Key, op: Op, len: u32) -> Header {
        let entry = self.connections.get_mut(&key);
        let (buf_alloc, fwd_cnt) = entry.map_or((0, 0), |entry| entry.connection.credit());
        let src = Address { cid: Cid::HOST, port: key.local };
        let dst = Address { cid: self.cid, port: key.peer };
        Header { src, dst, len, buf_alloc, fwd_cnt, ..self.control(op) }
    }
}

#[cfg(test)]
pub(super) mod tests;
