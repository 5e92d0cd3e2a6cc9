//! One connected agent: the handshake, frames in, replies and notices out.
//!
//! Each connection has a few threads that take [turns](super::turns) at the stream: whoever has the
//! turn reads one frame, passes the turn on, carries the request out and writes the reply itself. What
//! ends within microseconds, by its kind and by the [pace](super::pace) of those before it, is carried
//! out before the turn is passed on. So a request costs no hand-over between threads, requests overtake
//! each other, and a peer can occupy no more than `MAX_WORKERS` threads.
//!
//! Lock order: none of the locks is held while another is taken.

use super::beside::Beside;
use super::pace::Pace;
use super::stream::Stream;
use super::turns::Turns;
use crate::os;
use crate::server::{Closed, NoticeSink, Responder, Server, Session};
use parking_lot::Mutex;
use protocol::handshake::{
    self, Features, Handshake, MAGIC, MIN_VERSION, Refuse, RefuseReason, VERSION, Welcome,
};
use protocol::joiner::{Joiner, SendError};
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{DecodeError, Notice, Reply, Request, Tag, Text, limits};
use rustc_hash::FxHashSet;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
use tracing::{debug, info, warn};

/// Most threads that serve one connection.
const MAX_WORKERS: usize = 16;
/// Most bytes that are read or written by whoever reads the request: copying more takes longer than
/// waking another thread.
const SMALL: usize = 64 * 1024;
/// Bytes of a few requests that one thread carries out sooner than another is awake.
const FEW: usize = 512;
/// How long a peer may take to say hello, and to take a reply, before it is given up.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a connection ended.
#[derive(Debug, Error)]
pub(super) enum ConnectionError {
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
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    turns: Turns,
    pace: Pace,
    /// Of whoever has the turn.
    incoming: Mutex<Splitter>,
    outgoing: Joiner,
    in_flight: Mutex<FxHashSet<Tag>>,
    beside: Arc<Beside>,
    /// Whether the agent's processors are those of this machine.
    is_near: AtomicBool,
    /// Threads that serve it.
    workers: AtomicUsize,
    closed: AtomicBool,
}

thread_local! {
    static HEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Connection {
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            turns: Turns::default(),
            pace: Pace::default(),
            incoming: Mutex::default(),
            outgoing: Joiner::default(),
            in_flight: Mutex::default(),
            beside: Arc::default(),
            is_near: AtomicBool::new(false),
            workers: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Shakes hands, then serves until the peer leaves.
    pub fn serve(
        self: Arc<Self>,
        server: &Arc<Server>,
        peer: &str,
        refusal: Option<(RefuseReason, &str)>,
    ) -> Result<(), ConnectionError> {
        self.stream.set_write_timeout(SEND_TIMEOUT)?;
        self.stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
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
        let here = handshake::machine(&os::boot_id());
        self.is_near.store(here != 0 && here == hello.machine, Ordering::Relaxed);
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
        let result =
            self.send_handshake(&welcome).and_then(|()| self.stream.set_read_timeout(None));
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
        let this = self.is_near.load(Ordering::Relaxed).then(os::Movable::this).flatten();
        let mut has_turn = false;
        let result = loop {
            if !has_turn {
                if let Some(this) = this {
                    self.beside.rests(this);
                }
                if !self.turns.take() {
                    break Ok(());
                }
            }
            match self.step(session, &mut frame, this) {
                Ok(Some(keeps)) => has_turn = keeps,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Some(this) = this {
            self.beside.rests(this);
        }
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
        this: Option<os::Movable>,
    ) -> Result<Option<bool>, ConnectionError> {
        let mut incoming = self.incoming.lock();
        let Some(header) = self.read_frame(&mut incoming, frame)? else { return Ok(None) };
        let more = incoming.buffered();
        drop(incoming);
        let (caller, request) = Request::decode(header.opcode, frame.body())?;
        let is_kept = this.is_some_and(|this| self.beside.serves(this, caller.processor));
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
        let mut responder = SocketResponder { connection: self.clone(), tag, begun: None };
        if must_keep_order(&request) {
            session.handle(tag, &caller, &request, responder);
            return Ok(Some(true));
        }
        let begun = Instant::now();
        let is_brief = is_brief(&request);
        if is_brief {
            responder.begun = Some(begun);
        }
        // With much more to read at once, others have something to do as well.
        // Nobody else has anything to do when one asks alone.
        if is_brief && more <= FEW && (is_kept || self.pace.is_quick()) {
            let (between, somebody_waits) = self.turns.begin(begun);
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
        let started = os::spawn("serve", move || {
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
        match incoming.next(frame, |buf| retry(|| self.stream.read(buf))) {
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
        if self.closed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let write = |rest: &[IoSlice<'_>]| retry(|| self.stream.write_vectored(rest));
        self.outgoing.send(head, payload, write).map_err(|error| match error {
            SendError::Broken => io::ErrorKind::NotConnected.into(),
            SendError::Io(error) => {
                debug!(%error, "cannot send");
                self.close();
                error
            }
        })
    }

    pub fn close(&self) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            self.stream.shutdown();
            self.turns.close();
            self.beside.close();
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
    /// When it was begun, if that tells the pace.
    begun: Option<Instant>,
}

impl Responder for SocketResponder {
    fn respond(self, reply: &Reply<'_>) {
        if let Some(begun) = self.begun {
            self.connection.pace.took(begun.elapsed());
        }
        self.connection.in_flight.lock().remove(&self.tag);
        HEAD.with_borrow_mut(|head| {
            reply.encode(self.tag, head);
            // A failure closes the connection; whoever reads from it finds out and cleans up.
            let _ = self.connection.send(head, reply.payload());
        });
    }
}

/// Whether a request ends within microseconds unless the disk is slow.
fn is_brief(request: &Request<'_>) -> bool {
    match request {
        Request::Read { size, .. }
        | Request::OpenRead { size, .. }
        | Request::ReadDir { size, .. }
        | Request::List { size, .. } => *size as usize <= SMALL,
        Request::Write { data, .. } => data.0.len() <= SMALL,
        // These wait for the disk, move much, or do much at once.
        Request::Fsync { .. }
        | Request::SyncFs { .. }
        | Request::Fallocate { .. }
        | Request::CopyRange { .. }
        | Request::Walk { .. }
        | Request::Attach { .. }
        | Request::Detach { .. } => false,
        _ => true,
    }
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
