//! Those who come to the engine and those who go: clients of the host's sockets, from their first byte
//! until the guest is asked for a connection; sockets that have not taken all that a guest sent before
//! it left; and whose time is up.

use super::{End, Engine, Source};
use crate::virtio::vsock::Port;
use crate::virtio::vsock::handshake::{self, Parsed};
use crate::virtio::vsock::host::Wish;
use crate::virtio::vsock::socket::Socket;
use mio::net::UnixStream;
use mio::{Interest, Token};
use rustix::net::RecvFlags;
use std::io;
use std::time::{Duration, Instant};

/// Clients that have not yet said what they want: how many, and how long they may take.
const MAX_CLIENTS: usize = 128;
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a program may take to read what a guest that has left sent before.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long nobody is accepted when there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Accepted in one go from one socket.
const ACCEPT_AT_ONCE: usize = 64;

pub(super) struct Client {
    stream: UnixStream,
    wish: Wish,
    until: Instant,
}

pub(super) struct Leaver {
    socket: Socket,
    until: Instant,
}

impl Engine {
    /// The connection is over, and its socket has yet to take something.
    pub(super) fn keep(&mut self, socket: Socket, now: Instant) {
        self.sources.insert(socket.token, Source::Leaver);
        let until = now + LEAVING_TIMEOUT;
        self.leavers.insert(socket.token, Leaver { socket, until });
        self.sweep.get_or_insert(until);
    }

    pub(super) fn flush_leaver(&mut self, token: Token, now: Instant) {
        let Some(leaver) = self.leavers.get_mut(&token) else { return };
        if leaver.socket.flush() > 0 {
            leaver.until = now + LEAVING_TIMEOUT;
        }
        if !leaver.socket.is_behind() {
            self.leavers.remove(&token);
            self.sources.remove(&token);
        }
    }

    /// Takes clients of a socket, until there are no more or it is time for others.
    pub(super) fn accept(&mut self, n: usize, now: Instant) {
        for _ in 0..ACCEPT_AT_ONCE {
            let Some(listener) = self.host.listeners.get(n) else { return };
            let wish = listener.wish;
            match listener.socket.accept() {
                Ok((stream, _)) => self.greet(stream, wish, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a vsock client; trying again");
                    self.accept_again = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accept_again = Some(now);
    }

    fn greet(&mut self, stream: UnixStream, wish: Wish, now: Instant) {
        match wish {
            Wish::Port(port) => {
                self.connect(stream, port, false, now);
            }
            Wish::Said(_) => {
                if self.clients.len() >= MAX_CLIENTS {
                    return;
                }
                let Some((token, stream)) = self.register(stream, Source::Client) else { return };
                let until = now + CLIENT_TIMEOUT;
                self.clients.insert(token, Client { stream, wish, until });
                self.sweep.get_or_insert(until);
                self.hear_client(token, false, now);
            }
        }
    }

    /// Reads a client's line, no byte more, once it is whole. It may have `left`, after part of it.
    pub(super) fn hear_client(&mut self, token: Token, left: bool, now: Instant) {
        let Some(client) = self.clients.get(&token) else { return };
        let Wish::Said(dialect) = client.wish else { return };
        let mut line = [0; handshake::MAX_LINE];
        let seen = receive(&client.stream, &mut line, RecvFlags::PEEK);
        let parsed = match seen {
            Ok(0) => Parsed::Garbage,
            Ok(len) => handshake::parse(dialect, &line[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => Parsed::Garbage,
        };
        let wanted = match parsed {
            Parsed::More if !left => return,
            Parsed::More | Parsed::Garbage => None,
            Parsed::Connect { cid, port, len } => {
                let here = cid.is_none_or(|cid| cid == self.host.cid);
                let read = receive(&client.stream, &mut line[..len], RecvFlags::empty());
                (here && read.is_ok_and(|read| read == len)).then_some(port)
            }
        };
        let Some(Client { mut stream, .. }) = self.clients.remove(&token) else { return };
        self.sources.remove(&token);
        _ = self.poll.registry().deregister(&mut stream);
        if let Some(port) = wanted {
            self.connect(stream, port, dialect == handshake::Dialect::Hybrid, now);
        }
    }

    /// Asks the guest for a connection for a client.
    fn connect(&mut self, stream: UnixStream, port: Port, awaits_word: bool, now: Instant) {
        let Some(key) = self.muxer.connect(port, now) else { return };
        let Some(permit) = self.muxer.permit(key) else { return };
        match self.register(stream, Source::End(key)) {
            Some((token, stream)) => {
                let mut socket = Socket::new(stream, token, permit);
                socket.awaits_word = awaits_word;
                self.ends.insert(key, End::Socket(socket));
            }
            None => self.muxer.refuse(key),
        }
    }

    pub(super) fn register(
        &mut self,
        mut stream: UnixStream,
        what: Source,
    ) -> Option<(Token, UnixStream)> {
        let token = Token(self.next_token);
        self.next_token += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut stream, token, interest) {
            Ok(()) => {
                self.sources.insert(token, what);
                Some((token, stream))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot watch a vsock client's socket");
                None
            }
        }
    }

    pub(super) fn pass_time(&mut self, now: Instant) {
        while let Some(key) = self.muxer.expire(now) {
            self.end(key, now);
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
            for n in 0..self.host.listeners.len() {
                self.accept(n, now);
            }
        }
        if self.sweep.is_some_and(|at| at <= now) {
            self.clients.retain(|_, client| client.until > now);
            self.leavers.retain(|_, leaver| leaver.until > now);
            let (clients, leavers) = (&self.clients, &self.leavers);
            self.sources.retain(|token, source| match source {
                Source::Client => clients.contains_key(token),
                Source::Leaver => leavers.contains_key(token),
                Source::Listener(_) | Source::End(_) => true,
            });
            let clients = self.clients.values().map(|client| client.until);
            self.sweep = clients.chain(self.leavers.values().map(|leaver| leaver.until)).min();
        }
    }
}

fn receive(stream: &UnixStream, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    let (len, _) = rustix::net::recv(stream, buf, flags)?;
    Ok(len)
}
