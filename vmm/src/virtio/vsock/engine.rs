//! Moves the bytes: packets of the guest to the host's programs and back, on one thread, which
//! belongs to whoever owns the queues.
//!
//! ```text
//! loop {
//!     look(timeout)   sleeps for sockets, programs, and what the owner registered
//!     turn(rings)     tx: packets in;  rx: as many packets out as there are and fit, as large as fits
//! }                   (the owner then raises one interrupt for all of it)
//! ```
//!
//! Readiness is told by edges and remembered in the muxer, so what cannot go on (no buffer of the
//! guest, no credit, a full socket) costs nothing until it can.

mod clients;

use super::handshake;
use super::host::{Found, Host};
use super::muxer::{Event, Key, Muxer, Packet};
use super::packet::{self, Header, Shutdown, Slot};
use super::socket::Socket;
use super::stream::{self, Bell, Filled, Tail};
use crate::memory::Memory;
use crate::virtio::chain::Buffer;
use crate::virtio::ring::Ring;
use crate::virtio::{Broken, Signal};
use clients::{Client, Leaver};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::fd::{AsFd, AsRawFd, RawFd};
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use virtio_queue::Queue;

/// Tokens below are the owner's.
pub const FIRST_TOKEN: usize = 16;
const BELL: Token = Token(FIRST_TOKEN);
/// A guest has nothing to do with a packet that was sent but to free its memory, for which each time
/// it is interrupted, and a thread of it woken. So it gets them back when there are so many, or a quarter
/// of its queue, or after this time.
const GIVE_BACK_AT: usize = 32;
const GIVE_BACK: Duration = Duration::from_millis(2);

/// What a token stands for.
#[derive(Clone, Copy)]
enum Source {
    Listener(usize),
    Client,
    End(Key),
    Leaver,
}

enum End {
    Socket(Socket),
    Program(Tail),
}

impl End {
    /// The guest does not do this any more.
    fn shut(&mut self, peer: Shutdown) {
        match self {
            Self::Program(tail) => {
                if peer.contains(Shutdown::SEND) {
                    tail.finish();
                }
                if peer.contains(Shutdown::RECEIVE) {
                    tail.refuse();
                }
            }
            Self::Socket(socket) => {
                if peer.contains(Shutdown::SEND) {
                    socket.finish();
                }
                if peer.contains(Shutdown::RECEIVE) {
                    socket.refuse();
                }
            }
        }
    }
}

/// See the module.
pub struct Engine {
    muxer: Muxer,
    host: Host,
    poll: Poll,
    events: Events,
    bell: Arc<Bell>,
    rung: Vec<Key>,
    ends: HashMap<Key, End>,
    clients: HashMap<Token, Client>,
    leavers: HashMap<Token, Leaver>,
    sources: HashMap<Token, Source>,
    next_token: usize,
    scratch: Vec<u8>,
    accept_again: Option<Instant>,
    /// When the tables of clients and leavers are to be looked through.
    sweep: Option<Instant>,
    /// Packets of the guest that it has not been given back (their heads, and nothing written).
    heard: Vec<(u16, usize)>,
    /// When they are given back at the latest.
    give_back: Option<Instant>,
}

impl Engine {
    /// One that has nothing to do yet.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub fn new(mut host: Host) -> io::Result<Self> {
        let poll = Poll::new()?;
        let bell = Arc::new(Bell::new()?);
        let registry = poll.registry();
        let fd = bell.event.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), BELL, Interest::READABLE)?;
        let mut sources = HashMap::new();
        let mut next_token = BELL.0 + 1;
        for (n, listener) in host.listeners.iter_mut().enumerate() {
            let token = Token(next_token);
            next_token += 1;
            registry.register(&mut listener.socket, token, Interest::READABLE)?;
            sources.insert(token, Source::Listener(n));
        }
        Ok(Self {
            muxer: Muxer::new(host.cid),
            host,
            poll,
            events: Events::with_capacity(256),
            bell,
            rung: Vec::new(),
            ends: HashMap::new(),
            clients: HashMap::new(),
            leavers: HashMap::new(),
            sources,
            next_token,
            scratch: vec![0; packet::MAX_PAYLOAD as usize],
            accept_again: None,
            sweep: None,
            heard: Vec::new(),
            give_back: None,
        })
    }

    /// Where the owner registers what it waits for, under tokens below [`FIRST_TOKEN`].
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// When [`look`](Self::look) has something to do although nothing happens.
    pub fn wakes(&self) -> Option<Instant> {
        let all = [self.muxer.wakes(), self.accept_again, self.sweep, self.give_back];
        all.into_iter().flatten().min()
    }

    /// Sleeps until something happens, at most for `timeout`, and hears what the host has to say. The
    /// owner's tokens that are ready are put into `owner`.
    ///
    /// # Errors
    /// It cannot wait.
    pub fn look(&mut self, timeout: Option<Duration>, owner: &mut Vec<Token>) -> io::Result<()> {
        let wakes = self.wakes().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = match (timeout, wakes) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if let Err(error) = self.poll.poll(&mut self.events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let now = Instant::now();
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                Token(..FIRST_TOKEN) => owner.push(event.token()),
                BELL => self.answer_bell(),
                token => match self.sources.get(&token) {
                    Some(&Source::Listener(n)) if self.accept_again.is_none() => {
                        self.accept(n, now);
                    }
                    Some(Source::Client) => {
                        self.hear_client(token, event.is_read_closed(), now);
                    }
                    Some(&Source::End(key)) => self.hear_end(key, event),
                    Some(Source::Leaver) => self.flush_leaver(token, now),
                    Some(Source::Listener(_)) | None => {}
                },
            }
        }
        self.events = events;
        self.pass_time(now);
        Ok(())
    }

    /// One turn of the guest's queues.
    ///
    /// # Errors
    /// The driver broke a rule.
    pub fn turn(&mut self, memory: &Memory, rx: &mut Ring, tx: &mut Ring) -> Result<(), Broken> {
        let now = Instant::now();
        loop {
            self.hear_guest(memory, tx, now)?;
            let congested = self.muxer.is_congested();
            self.serve_guest(memory, rx, now)?;
            if !congested || self.muxer.is_congested() {
                return Ok(());
            }
        }
    }

    /// One turn of queues (to the guest, from the guest) that their owner lends. Tells whether there may
    /// be more to do; the queues are given back in any case.
    pub fn turn_of(
        &mut self,
        memory: &Memory,
        queues: [Queue; 2],
        signal: &Arc<dyn Signal>,
    ) -> ([Queue; 2], Result<bool, Broken>) {
        let mut index = 0..;
        let [mut rx, mut tx] = queues.map(|queue| {
            let index = index.next().unwrap_or_default();
            Ring::new(index, queue, memory.clone(), signal.clone())
        });
        let result = self.turn(memory, &mut rx, &mut tx).and_then(|()| {
            rx.flush()?;
            tx.flush()?;
            Ok(rx.is_cut_short() || tx.is_cut_short())
        });
        ([rx.into_queue(), tx.into_queue()], result)
    }

    /// Forgets all connections: the guest that knew them is gone.
    pub fn reset(&mut self) {
        let keys: Vec<_> = self.ends.keys().copied().collect();
        for key in keys {
            self.end(key, Instant::now());
        }
        self.muxer.clear();
        self.heard.clear();
        self.give_back = None;
        // They would wait for a guest that never heard of them.
        for token in std::mem::take(&mut self.clients).into_keys() {
            self.sources.remove(&token);
        }
    }

    fn hear_guest(&mut self, memory: &Memory, tx: &mut Ring, now: Instant) -> Result<(), Broken> {
        while !self.muxer.is_congested() {
            let Some(chain) = tx.pop()? else { break };
            let (header, payload) = packet::read(memory, chain.readable)?;
            self.receive(memory, &header, payload, now)?;
            self.heard.push((chain.head, 0));
            self.give_back.get_or_insert(now + GIVE_BACK);
            if self.heard.len() >= GIVE_BACK_AT.min(usize::from(tx.size() / 4)) {
                self.give_back(tx)?;
            }
        }
        if self.give_back.is_some_and(|at| at <= now) {
            self.give_back(tx)?;
        }
        Ok(())
    }

    /// Gives the guest back the packets that it has sent.
    fn give_back(&mut self, tx: &mut Ring) -> Result<(), Broken> {
        self.give_back = None;
        let result = tx.complete_together(&self.heard);
        self.heard.clear();
        result
    }

    fn receive(
        &mut self,
        memory: &Memory,
        header: &Header,
        mut payload: Buffer,
        now: Instant,
    ) -> Result<(), Broken> {
        match self.muxer.receive(header, now) {
            Event::Nothing => {}
            Event::Requested(key) => self.offer(key),
            Event::Established(key) => {
                if let Some(End::Socket(socket)) = self.ends.get_mut(&key)
                    && std::mem::take(&mut socket.awaits_word)
                {
                    // A client that has left is found out when its socket is read.
                    _ = socket.stream.write_all(handshake::agreed(key.local).as_bytes());
                }
                self.muxer.readable(key);
            }
            Event::Data(key) => {
                let step = self.muxer.step(key);
                let taken = match self.ends.get_mut(&key) {
                    Some(End::Program(tail)) => tail.push(memory, &mut payload, step)?,
                    Some(End::Socket(socket)) => {
                        let taken = socket.push(memory, &mut payload, &mut self.scratch)?;
                        if socket.is_deaf() {
                            self.muxer.shutdown(key, Shutdown::RECEIVE);
                        }
                        taken
                    }
                    None => header.len,
                };
                if taken > 0 {
                    self.muxer.forwarded(key, taken);
                }
            }
            Event::Shutdown(key) => {
                let peer = self.muxer.peer(key);
                if let Some(end) = self.ends.get_mut(&key) {
                    end.shut(peer);
                }
            }
            Event::Ended(key) => self.end(key, now),
        }
        Ok(())
    }

    /// Finds somebody for a connection that the guest asks for.
    fn offer(&mut self, key: Key) {
        let Some(permit) = self.muxer.permit(key) else { return };
        match self.host.find(key.local) {
            Found::Program(program) => {
                let (stream, tail) = stream::pair(key, permit, self.bell.clone());
                self.ends.insert(key, End::Program(tail));
                self.muxer.accept(key);
                program.accept(key.peer, stream);
            }
            Found::Socket(stream) => match self.register(stream, Source::End(key)) {
                Some((token, stream)) => {
                    let socket = Socket::new(stream, token, permit);
                    self.ends.insert(key, End::Socket(socket));
                    self.muxer.accept(key);
                }
                None => self.muxer.refuse(key),
            },
            Found::Nobody => self.muxer.refuse(key),
        }
    }

    /// The guest's end is gone, or ours is to go.
    fn end(&mut self, key: Key, now: Instant) {
        match self.ends.remove(&key) {
            Some(End::Socket(mut socket)) => {
                socket.refuse();
                socket.finish();
                self.sources.remove(&socket.token);
                if socket.is_behind() {
                    self.keep(socket, now);
                }
            }
            // Dropping it tells the program, which still reads what came before.
            Some(End::Program(_)) | None => {}
        }
    }

    fn serve_guest(&mut self, memory: &Memory, rx: &mut Ring, now: Instant) -> Result<(), Broken> {
        while self.muxer.has_next() {
            let Some(chain) = rx.pop()? else { break };
            let mut slot = Slot::new(chain.writable)?;
            let Some(header) = self.next_packet(memory, &mut slot, now)? else {
                rx.unpop();
                break;
            };
            let len = slot.finish(memory, &header)?;
            rx.complete(chain.head, len)?;
        }
        Ok(())
    }

    /// The next packet; its payload is put into `slot`.
    fn next_packet(
        &mut self,
        memory: &Memory,
        slot: &mut Slot,
        now: Instant,
    ) -> Result<Option<Header>, Broken> {
        while let Some(packet) = self.muxer.next(now) {
            let (key, max) = match packet {
                Packet::Control(header) => return Ok(Some(header)),
                Packet::Data { key, max } => (key, max),
            };
            if slot.room() == 0 {
                return Err(Broken::Request("a receive buffer has no room for payload"));
            }
            let filled = match self.ends.get_mut(&key) {
                Some(End::Program(tail)) => tail.fill(memory, slot, max)?,
                Some(End::Socket(socket)) => socket.fill(memory, slot, max, &mut self.scratch)?,
                None => Filled::End,
            };
            match filled {
                Filled::Bytes(len) => return Ok(Some(self.muxer.sent(key, len))),
                Filled::Nothing => self.muxer.drained(key),
                Filled::End => {
                    self.muxer.drained(key);
                    self.muxer.shutdown(key, Shutdown::SEND);
                }
            }
        }
        Ok(None)
    }

    fn answer_bell(&mut self) {
        let mut rung = std::mem::take(&mut self.rung);
        self.bell.answer(&mut rung);
        for key in rung.drain(..) {
            let Some(End::Program(tail)) = self.ends.get(&key) else { continue };
            let (taken, reads) = tail.taken();
            if taken > 0 {
                self.muxer.forwarded(key, taken);
            }
            if !reads {
                self.muxer.shutdown(key, Shutdown::RECEIVE);
            }
            self.muxer.readable(key);
        }
        self.rung = rung;
    }

    fn hear_end(&mut self, key: Key, event: &mio::event::Event) {
        let Some(End::Socket(socket)) = self.ends.get_mut(&key) else { return };
        let mut taken = 0;
        if event.is_write_closed() || event.is_error() {
            taken += socket.hang_up();
        } else if event.is_writable() {
            taken += socket.flush();
        }
        let deaf = socket.is_deaf();
        if taken > 0 {
            self.muxer.forwarded(key, taken);
        }
        if deaf {
            self.muxer.shutdown(key, Shutdown::RECEIVE);
        }
        if event.is_readable() || event.is_read_closed() {
            self.muxer.readable(key);
        }
    }
}

/// Readable when [`look`](Engine::look) has something to hear, its timers aside.
impl AsRawFd for Engine {
    fn as_raw_fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }
}
