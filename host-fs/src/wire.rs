//! Connections over a stream: listening, the handshake, frames in, replies and notices out.
//!
//! Stands before [`server`](crate::server) on the way down: bytes of a unix or vsock socket become
//! calls of [`Session::handle`], its replies become bytes.
//!
//! Each connection has a few threads that take [turns] at the socket: whoever has the turn reads one
//! frame, passes the turn on, carries the request out and writes the reply itself. So a request costs
//! no hand-over between threads, requests overtake each other, and a peer can occupy no more than
//! `MAX_WORKERS` threads.
//!
//! Lock order: none of the locks is held while another is taken.

mod turns;

use crate::os;
use crate::server::{Closed, NoticeSink, Responder, Server, Session};
use parking_lot::Mutex;
use protocol::handshake::{
    self, Features, Handshake, MAGIC, MIN_VERSION, Refuse, RefuseReason, VERSION, Welcome,
};
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{Address, DecodeError, Notice, Reply, Request, Tag, Text, frame, limits};
use rustc_hash::{FxHashMap, FxHashSet};
use rustix::net::Shutdown;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use thiserror::Error;
use tracing::{debug, info, warn};
use turns::Turns;
use vsock::VsockListener;

/// Most threads that serve one connection.
const MAX_WORKERS: usize = 16;
/// Most connections of one listener.
const MAX_CONNECTIONS: usize = 64;
/// How long a peer may take to say hello, and to take a reply, before it is given up.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a server cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody listens there.
    #[error(
        "cannot listen on {0}: a server already listens there; stop it or choose another address"
    )]
    InUse(Address),
    /// Something else than a socket is at that path.
    #[error("cannot listen on {0}: the path exists and is no socket; choose another path")]
    NotASocket(Address),
    /// The path does not fit into a socket address.
    #[error("cannot listen on {0}: the path is too long for a unix socket; choose one of at most {max} bytes", max = os::MAX_SOCKET_PATH)]
    PathTooLong(Address),
    /// The system says no.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
}

/// A listening server. Stops listening when dropped; its connections go on until they end or
/// [`stop`](Self::stop) is called.
pub struct Listening {
    shared: Arc<Shared>,
    address: Address,
    socket: OwnedFd,
    accepting: Option<thread::JoinHandle<()>>,
}

struct Shared {
    server: Arc<Server>,
    stopping: AtomicBool,
    next_id: AtomicUsize,
    connections: Mutex<FxHashMap<usize, Arc<Connection>>>,
}

/// Listens on `address` and serves whoever connects, on threads of its own.
///
/// A unix socket is made with mode 0600, and only root and the user who runs the server may use
/// it; one left behind by a server that is gone is replaced.
///
/// # Errors
/// [`ListenError`], before any thread is started.
pub fn listen(server: Arc<Server>, address: &Address) -> Result<Listening, ListenError> {
    let io = |source| ListenError::Io { address: address.clone(), source };
    let acceptor = match address {
        Address::Unix(path) => Acceptor::Unix(bind_unix(path, address)?),
        Address::Vsock { cid, port } => {
            Acceptor::Vsock(VsockListener::bind_with_cid_port(*cid, *port).map_err(io)?)
        }
    };
    let socket = acceptor.try_clone().map_err(io)?;
    let shared = Arc::new(Shared {
        server,
        stopping: AtomicBool::new(false),
        next_id: AtomicUsize::new(0),
        connections: Mutex::default(),
    });
    let accepting = {
        let shared = shared.clone();
        spawn("accept", move || accept_all(&acceptor, &shared)).map_err(io)?
    };
    Ok(Listening { shared, address: address.clone(), socket, accepting: Some(accepting) })
}

impl Listening {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Says goodbye to all agents and ends their connections.
    pub fn stop(&self) {
        self.stop_accepting();
        for connection in self.shared.connections.lock().values() {
            let _ = connection.notice(&Notice::Goodbye);
            connection.close();
        }
    }

    fn stop_accepting(&self) {
        if !self.shared.stopping.swap(true, Ordering::SeqCst) {
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
            if let Address::Unix(path) = &self.address {
                // Wakes an accept that a shutdown does not (macOS); nobody listens after it.
                let _ = UnixStream::connect(path);
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop_accepting();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn bind_unix(path: &Path, address: &Address) -> Result<UnixListener, ListenError> {
    let io = |source| ListenError::Io { address: address.clone(), source };
    if path.as_os_str().len() > os::MAX_SOCKET_PATH {
        return Err(ListenError::PathTooLong(address.clone()));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket(address.clone()));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(ListenError::InUse(address.clone()));
        }
        Ok(_) => std::fs::remove_file(path).map_err(io)?,
        Err(_) => {}
    }
    // The socket must never be open to others, not even between bind and chmod.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener.map_err(io)
}

enum Acceptor {
    Unix(UnixListener),
    Vsock(VsockListener),
}

impl Acceptor {
    fn try_clone(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(listener) => listener.try_clone().map(Into::into),
            Self::Vsock(listener) => rustix::io::dup(listener).map_err(Into::into),
        }
    }

    /// The next connection, who it is in words, and whether it may connect.
    fn accept(&self) -> io::Result<(OwnedFd, String, bool)> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                let (uid, me) = (os::peer_uid(&stream)?, rustix::process::geteuid().as_raw());
                Ok((stream.into(), format!("user {uid}"), uid == me || uid == 0))
            }
            Self::Vsock(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((stream.into(), format!("vsock {}:{}", peer.cid(), peer.port()), true))
            }
        }
    }
}

fn accept_all(acceptor: &Acceptor, shared: &Arc<Shared>) {
    loop {
        let accepted = acceptor.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let (stream, peer, allowed) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Typically EMFILE: wait for somebody to leave rather than spin.
                warn!(%error, "cannot accept a connection");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(File::from(stream)));
        let full = {
            let mut connections = shared.connections.lock();
            connections.insert(id, connection.clone());
            connections.len() > MAX_CONNECTIONS
        };
        let shared = shared.clone();
        let started = spawn("connection", move || {
            let refusal = match (allowed, full) {
                (false, _) => {
                    Some((RefuseReason::Denied, "only root and the server's user may connect"))
                }
                (_, true) => {
                    Some((RefuseReason::Busy, "the server has as many agents as it takes"))
                }
                _ => None,
            };
            if let Err(error) = connection.clone().serve(&shared.server, &peer, refusal) {
                info!(%peer, %error, "connection ended");
            }
            shared.connections.lock().remove(&id);
        });
        if let Err(error) = started {
            warn!(%error, "cannot serve a connection");
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum ConnectionError {
    #[error("{0}")]
    Protocol(#[from] DecodeError),
    #[error("the agent used tag {0} twice")]
    TagInUse(Tag),
    #[error("the agent has more than {max} requests in flight", max = limits::MAX_IN_FLIGHT)]
    TooMany,
    #[error("refused: {0}")]
    Refused(String),
    #[error("{0}")]
    Server(#[from] crate::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One connected agent.
struct Connection {
    stream: File,
    turns: Turns,
    /// Of whoever has the turn.
    incoming: Mutex<Splitter>,
    outgoing: Mutex<()>,
    in_flight: Mutex<FxHashSet<Tag>>,
    /// Threads that serve it.
    workers: AtomicUsize,
    closed: AtomicBool,
}

thread_local! {
    static HEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Connection {
    fn new(stream: File) -> Self {
        Self {
            stream,
            turns: Turns::default(),
            incoming: Mutex::default(),
            outgoing: Mutex::new(()),
            in_flight: Mutex::default(),
            workers: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Shakes hands, then serves until the peer leaves.
    fn serve(
        self: Arc<Self>,
        server: &Arc<Server>,
        peer: &str,
        refusal: Option<(RefuseReason, &str)>,
    ) -> Result<(), ConnectionError> {
        set_socket_timeout(&self.stream, Timeout::Send, Some(SEND_TIMEOUT))
            .map_err(io::Error::from)?;
        set_socket_timeout(&self.stream, Timeout::Recv, Some(HELLO_TIMEOUT))
            .map_err(io::Error::from)?;
        let mut frame = Frame::default();
        let header = self.read_frame(&mut self.incoming.lock(), &mut frame)?;
        let Some(header) = header else { return Ok(()) };
        let hello = match Handshake::decode(header.opcode, frame.body()) {
            Ok(Handshake::Hello(hello)) if hello.magic == MAGIC => hello,
            _ => return self.refuse(RefuseReason::NotHello, "the first frame is no hello"),
        };
        if let Some((reason, text)) = refusal {
            return self.refuse(reason, text);
        }
        let Some(version) = handshake::agree(hello.min_version, hello.version) else {
            let text = format!(
                "the agent speaks versions {} to {}, this server {MIN_VERSION} to {VERSION}: update the older one",
                hello.min_version, hello.version
            );
            return self.refuse(RefuseReason::Version, &text);
        };
        let session = server.connect(&format!("{} ({peer})", hello.name.0), self.clone())?;
        let ours = Features::CHANGES | Features::LOCKS;
        let name = concat!("osxfs/", env!("CARGO_PKG_VERSION"));
        let welcome = Handshake::Welcome(Welcome {
            version,
            features: hello.features & ours,
            max_frame: limits::MAX_FRAME as u32,
            max_in_flight: limits::MAX_IN_FLIGHT as u32,
            max_handles: session.max_handles(),
            name: Text(name),
            now: os::now(),
        });
        info!(agent = hello.name.0, %peer, "agent connected");
        let result = self.send_handshake(&welcome).and_then(|()| {
            set_socket_timeout(&self.stream, Timeout::Recv, None).map_err(io::Error::from)
        });
        let result = result.map_err(ConnectionError::from).and_then(|()| self.work(&session));
        self.close();
        session.close();
        result
    }

    fn refuse(&self, reason: RefuseReason, text: &str) -> Result<(), ConnectionError> {
        let refuse =
            Refuse { reason, min_version: MIN_VERSION, version: VERSION, text: Text(text) };
        self.send_handshake(&Handshake::Refuse(refuse))?;
        Err(ConnectionError::Refused(text.to_owned()))
    }

    /// Takes part in serving until the connection ends. The first thread stays to the end; others
    /// are started when all are occupied and leave with the connection.
    fn work(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), ConnectionError> {
        self.workers.fetch_add(1, Ordering::Relaxed);
        let mut frame = Frame::default();
        let mut has_turn = false;
        let result = loop {
            if !has_turn && !self.turns.take() {
                break Ok(());
            }
            match self.step(session, &mut frame) {
                Ok(Some(keeps)) => has_turn = keeps,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.close();
        self.workers.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Reads and serves one frame, by the thread that has the turn. Tells whether it still has it, or
    /// nothing at the end of the connection.
    fn step(
        self: &Arc<Self>,
        session: &Arc<Session>,
        frame: &mut Frame,
    ) -> Result<Option<bool>, ConnectionError> {
        let mut incoming = self.incoming.lock();
        let Some(header) = self.read_frame(&mut incoming, frame)? else { return Ok(None) };
        let more = incoming.has_buffered();
        drop(incoming);
        let (caller, request) = Request::decode(header.opcode, frame.body())?;
        let tag = header.tag;
        if request.is_answered() {
            let mut in_flight = self.in_flight.lock();
            if in_flight.len() >= limits::MAX_IN_FLIGHT {
                return Err(ConnectionError::TooMany);
            }
            if !in_flight.insert(tag) {
                return Err(ConnectionError::TagInUse(tag));
            }
        }
        let responder = SocketResponder { connection: self.clone(), tag };
        if must_keep_order(&request) {
            session.handle(tag, &caller, &request, responder);
            return Ok(Some(true));
        }
        // A lone peer waits for this answer: waking another thread would only delay it.
        if is_quick(&request) && !more {
            let (between, somebody_waits) = self.turns.begin();
            if !somebody_waits {
                self.add_worker(session);
            }
            session.handle(tag, &caller, &request, responder);
            return Ok(Some(self.turns.resume(between)));
        }
        if !self.turns.pass() {
            self.add_worker(session);
        }
        session.handle(tag, &caller, &request, responder);
        Ok(Some(false))
    }

    fn add_worker(self: &Arc<Self>, session: &Arc<Session>) {
        if self.workers.load(Ordering::Relaxed) >= MAX_WORKERS {
            return;
        }
        let (this, session) = (self.clone(), session.clone());
        let started = spawn("serve", move || {
            if let Err(error) = this.work(&session) {
                info!(%error, "connection ended");
            }
        });
        if let Err(error) = started {
            warn!(%error, "cannot start a thread; fewer requests run at once");
        }
    }

    /// The next frame, or none if the peer has left or the connection is closed.
    fn read_frame(
        &self,
        incoming: &mut Splitter,
        frame: &mut Frame,
    ) -> Result<Option<protocol::FrameHeader>, ConnectionError> {
        match incoming.next(frame, |buf| retry(|| (&self.stream).read(buf))) {
            Ok(header) => Ok(Some(header)),
            Err(ReadError::Closed) => Ok(None),
            Err(_) if self.closed.load(Ordering::Relaxed) => Ok(None),
            Err(ReadError::Decode(error)) => Err(error.into()),
            Err(ReadError::Io(error)) => Err(error.into()),
        }
    }

    fn send_handshake(&self, message: &Handshake<'_>) -> io::Result<()> {
        let mut head = Vec::new();
        message.encode(&mut head);
        self.send(&head, &[])
    }

    /// Sends one frame. A peer that does not take it within [`SEND_TIMEOUT`] is given up.
    fn send(&self, head: &[u8], payload: &[u8]) -> io::Result<()> {
        let _turn = self.outgoing.lock();
        if self.closed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut stream = &self.stream;
        let result = frame::send(head, payload, |rest| retry(|| stream.write_vectored(rest)));
        if let Err(error) = &result {
            debug!(%error, "cannot send");
            self.close();
        }
        result
    }

    fn close(&self) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            let _ = rustix::net::shutdown(&self.stream, Shutdown::Both);
            self.turns.close();
        }
    }
}

impl NoticeSink for Connection {
    fn notice(&self, notice: &Notice<'_>) -> Result<(), Closed> {
        HEAD.with_borrow_mut(|head| {
            notice.encode(Tag::NONE, head);
            self.send(head, &[]).map_err(|_| Closed)
        })
    }
}

struct SocketResponder {
    connection: Arc<Connection>,
    tag: Tag,
}

impl Responder for SocketResponder {
    fn respond(self, reply: &Reply<'_>) {
        self.connection.in_flight.lock().remove(&self.tag);
        HEAD.with_borrow_mut(|head| {
            reply.encode(self.tag, head);
            // A failure closes the connection; whoever reads from it finds out and cleans up.
            let _ = self.connection.send(head, reply.payload());
        });
    }
}

/// Whether a request ends within microseconds unless the disk is slow.
fn is_quick(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Lookup { .. }
            | Request::GetAttr { .. }
            | Request::ReadLink { .. }
            | Request::Open { .. }
            | Request::OpenDir { .. }
            | Request::ReleaseDir { .. }
            | Request::GetXattr { .. }
    )
}

/// Whether a request must be carried out before the next is read: what is not answered, since the
/// agent cannot wait for it, and locks, so that a cancellation finds what it is to cancel.
fn must_keep_order(request: &Request<'_>) -> bool {
    !request.is_answered() || matches!(request, Request::SetLock { .. })
}

/// Repeats a system call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(format!("osxfs-{name}")).spawn(body)
}
