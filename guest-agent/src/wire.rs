//! The way to a server over a stream: connecting, the handshake, requests out, replies and notices
//! in, and connecting again when the server has gone.
//!
//! One thread reads. Requests are written by whoever makes them, a large payload straight from where it
//! lies; see [`Joiner`].

use crate::affinity::follow::Bringer;
use crate::client::{Client, Disconnected, Transport};
use crate::os;
use protocol::handshake::{Features, Handshake, Hello, MAGIC, MIN_VERSION, VERSION, machine};
use protocol::joiner::{Joiner, SendError};
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{Address, Caller, DecodeError, FrameHeader, Notice, Reply, Request, Tag, Text};
use rustix::net::Shutdown;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use thiserror::Error;
use tracing::{debug, info, warn};
use vsock::VsockStream;

/// How long a server may take to answer the handshake, and to take a request.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two attempts to connect again: short at first, so that a restarted server is found
/// at once.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// What a vsock connection holds until it is read. Kernels count what a packet takes of their memory,
/// not only its bytes: with the usual 256 KiB, many small notices and replies break a connection.
const VSOCK_BUFFER: u64 = 8 << 20;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody answers.
    #[error("cannot connect to {address}: {source}; is `osxfs serve --listen {address}` running?")]
    Io {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// The path does not fit into a socket address.
    #[error("cannot connect to {0}: the path is too long for a unix socket")]
    PathTooLong(Address),
    /// The server said no.
    #[error("the server at {address} refuses: {text}")]
    Refused {
        /// Where.
        address: Address,
        /// Its words.
        text: String,
    },
    /// Whatever listens there is no osxfs server.
    #[error("{address} does not speak the osxfs protocol: {source}")]
    Stranger {
        /// Where.
        address: Address,
        /// What it did.
        source: DecodeError,
    },
}

/// Connects `client` to the server at `address` and keeps it connected: when the server goes away a
/// thread tries again until it is back.
///
/// # Errors
/// [`ConnectError`] if the first attempt fails.
pub fn connect(address: &Address, client: Arc<Client>) -> Result<(), ConnectError> {
    let io = |source| ConnectError::Io { address: address.clone(), source };
    let mut connection = Connection::open(address, &client)?;
    client.connected(connection.sender.clone());
    let address = address.clone();
    let keep = move || {
        client.bringer.join();
        loop {
            let why = connection.read_all(&client);
            connection.sender.close();
            client.disconnected();
            info!(%address, reason = %why, "server gone, connecting again");
            connection = reconnect(&address, &client);
            client.connected(connection.sender.clone());
            info!(%address, "connected again");
        }
    };
    thread::Builder::new().name("osxfs-receive".into()).spawn(keep).map_err(io)?;
    Ok(())
}

fn reconnect(address: &Address, client: &Client) -> Connection {
    let mut pause = RETRY_FIRST;
    let mut reported = false;
    loop {
        match Connection::open(address, client) {
            Ok(connection) => return connection,
            Err(error @ ConnectError::Io { .. }) => debug!(%error, "not yet"),
            Err(error) if !reported => {
                warn!(%error, "still trying");
                reported = true;
            }
            Err(_) => {}
        }
        thread::sleep(pause);
        pause = (pause * 2).min(RETRY_MOST);
    }
}

/// The sending half.
struct Sender {
    stream: File,
    joiner: Joiner,
    closed: AtomicBool,
    bringer: Arc<Bringer>,
}

impl Sender {
    fn send(&self, head: &[u8], payload: &[u8]) -> io::Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut stream = &self.stream;
        let write = |rest: &[IoSlice<'_>]| retry(|| stream.write_vectored(rest));
        self.joiner.send(head, payload, write).map_err(|error| match error {
            SendError::Broken => io::ErrorKind::NotConnected.into(),
            SendError::Io(error) => error,
        })
    }

    fn close(&self) {
        if !self.closed.swap(true, Ordering::SeqCst) {
            let _ = rustix::net::shutdown(&self.stream, Shutdown::Both);
        }
    }
}

impl Transport for Sender {
    fn send(
        &self,
        tag: Tag,
        caller: &Caller<'_>,
        request: &Request<'_>,
    ) -> Result<(), Disconnected> {
        thread_local! {
            static HEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let caller = Caller { processor: self.bringer.processor(), ..*caller };
        HEAD.with_borrow_mut(|head| {
            request.encode(tag, &caller, head);
            self.send(head, request.payload()).map_err(|_| {
                // The reading thread finds out and connects again.
                self.close();
                Disconnected
            })
        })
    }
}

/// Connects to `address`, without a word yet.
pub(crate) fn connect_once(address: &Address) -> io::Result<OwnedFd> {
    match address {
        Address::Unix(path) => UnixStream::connect(path).map(Into::into),
        Address::Vsock { cid, port } => {
            let stream = OwnedFd::from(VsockStream::connect_with_cid_port(*cid, *port)?);
            if let Err(error) = os::set_vsock_buffer(&stream, VSOCK_BUFFER) {
                debug!(%error, "the vsock connection keeps its small buffer");
            }
            Ok(stream)
        }
    }
}

struct Connection {
    sender: Arc<Sender>,
    incoming: Splitter,
    frame: Frame,
}

impl Connection {
    fn open(address: &Address, client: &Client) -> Result<Self, ConnectError> {
        let io = |source: io::Error| ConnectError::Io { address: address.clone(), source };
        let stream = match connect_once(address) {
            Err(error)
                if matches!(address, Address::Unix(_))
                    && error.kind() == io::ErrorKind::InvalidInput =>
            {
                return Err(ConnectError::PathTooLong(address.clone()));
            }
            other => File::from(other.map_err(io)?),
        };
        let timeout = |which, time| {
            set_socket_timeout(&stream, which, time).map_err(|error| io(error.into()))
        };
        timeout(Timeout::Send, Some(SEND_TIMEOUT))?;
        timeout(Timeout::Recv, Some(HELLO_TIMEOUT))?;
        let sender = Sender {
            stream: stream.try_clone().map_err(io)?,
            joiner: Joiner::default(),
            closed: AtomicBool::new(false),
            bringer: client.bringer.clone(),
        };
        let mut connection = Self {
            sender: Arc::new(sender),
            incoming: Splitter::default(),
            frame: Frame::default(),
        };
        connection.shake_hands(address, client)?;
        timeout(Timeout::Recv, None)?;
        Ok(connection)
    }

    fn shake_hands(&mut self, address: &Address, client: &Client) -> Result<(), ConnectError> {
        let io = |source: io::Error| ConnectError::Io { address: address.clone(), source };
        let stranger = |source| ConnectError::Stranger { address: address.clone(), source };
        let node = rustix::system::uname();
        let name = format!(
            "osxfs-agent/{} on {}",
            env!("CARGO_PKG_VERSION"),
            node.nodename().to_string_lossy()
        );
        let hello = Handshake::Hello(Hello {
            magic: MAGIC,
            min_version: MIN_VERSION,
            version: VERSION,
            features: Features::all(),
            name: Text(&name),
            machine: machine(&std::fs::read_to_string(BOOT_ID).unwrap_or_default()),
        });
        let mut head = Vec::new();
        hello.encode(&mut head);
        self.sender.send(&head, &[]).map_err(io)?;
        let header = self.read_frame().map_err(|error| match error {
            ReadError::Closed => io(io::ErrorKind::ConnectionReset.into()),
            ReadError::Decode(error) => stranger(error),
            ReadError::Io(error) => io(error),
        })?;
        match Handshake::decode(header.opcode, self.frame.body()).map_err(stranger)? {
            Handshake::Welcome(welcome) if !(MIN_VERSION..=VERSION).contains(&welcome.version) => {
                let version = welcome.version;
                Err(ConnectError::Refused {
                    address: address.clone(),
                    text: format!(
                        "it wants to speak version {version}; this agent speaks {MIN_VERSION} to {VERSION}"
                    ),
                })
            }
            Handshake::Welcome(welcome) => {
                info!(server = welcome.name.0, version = welcome.version, "connected");
                client.limit_in_flight(welcome.max_in_flight as usize);
                client.set_clock(welcome.now);
                Ok(())
            }
            Handshake::Refuse(refuse) => Err(ConnectError::Refused {
                address: address.clone(),
                text: refuse.text.0.to_owned(),
            }),
            Handshake::Hello(_) => Err(stranger(DecodeError::UnknownOpcode(header.opcode))),
        }
    }

    fn read_frame(&mut self) -> Result<FrameHeader, ReadError<io::Error>> {
        let mut stream = &self.sender.stream;
        self.incoming.next(&mut self.frame, |buf| retry(|| stream.read(buf)))
    }

    /// Hands everything that comes to `client`, until nothing more can come. Returns why.
    fn read_all(&mut self, client: &Client) -> String {
        loop {
            let header = match self.read_frame() {
                Ok(header) => header,
                Err(ReadError::Closed) => return "it hung up".into(),
                Err(ReadError::Decode(error)) => return error.to_string(),
                Err(ReadError::Io(error)) => return error.to_string(),
            };
            client.hear();
            let body = self.frame.body();
            let handled = match header.tag {
                Tag::NONE => Notice::decode(header.opcode, body).map(|n| client.on_notice(&n)),
                tag => Reply::decode(header.opcode, body).map(|reply| client.on_reply(tag, &reply)),
            };
            if let Err(error) = handled {
                return error.to_string();
            }
        }
    }
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
