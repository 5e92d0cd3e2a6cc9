//! Connections over a stream: listening, and one agent at each.
//!
//! Stands before [`server`](crate::server) on the way down: bytes of a unix or vsock socket, or of any
//! other [`Stream`], become calls of [`Session::handle`](crate::server::Session), its replies become
//! bytes.

mod beside;
mod connection;
mod pace;
mod stream;
mod turns;

use crate::os;
use crate::server::{NoticeSink, Server};
use connection::Connection;
use parking_lot::Mutex;
use protocol::handshake::RefuseReason;
use protocol::{Address, Notice};
use rustc_hash::FxHashMap;
use rustix::net::Shutdown;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use stream::Socket;
pub use stream::Stream;
use thiserror::Error;
use tracing::{info, warn};
use vsock::VsockListener;

/// Most connections of one listener.
const MAX_CONNECTIONS: usize = 64;

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
    connections: Arc<Connections>,
    stopping: Arc<AtomicBool>,
    address: Address,
    socket: OwnedFd,
    accepting: Option<thread::JoinHandle<()>>,
}

/// The connections of a server, however they come.
pub struct Connections {
    server: Arc<Server>,
    next_id: AtomicUsize,
    open: Mutex<FxHashMap<usize, Arc<Connection>>>,
}

impl Connections {
    /// None yet.
    pub fn new(server: Arc<Server>) -> Arc<Self> {
        Arc::new(Self { server, next_id: AtomicUsize::new(0), open: Mutex::default() })
    }

    /// Serves whoever is at the other end of `stream` on threads of its own. `peer` says who that is.
    pub fn serve(self: &Arc<Self>, stream: Box<dyn Stream>, peer: String) {
        self.add(stream, peer, true);
    }

    /// Says goodbye to all agents and ends their connections.
    pub fn stop(&self) {
        for connection in self.open.lock().values() {
            let _ = connection.notice(&Notice::Goodbye);
            connection.close();
        }
    }

    fn add(self: &Arc<Self>, stream: Box<dyn Stream>, peer: String, is_allowed: bool) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::new(stream));
        let is_full = {
            let mut open = self.open.lock();
            open.insert(id, connection.clone());
            open.len() > MAX_CONNECTIONS
        };
        let shared = self.clone();
        let started = os::spawn("connection", move || {
            let refusal = match (is_allowed, is_full) {
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
            shared.open.lock().remove(&id);
        });
        if let Err(error) = started {
            self.open.lock().remove(&id);
            warn!(%error, "cannot serve a connection");
        }
    }
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
    let (connections, stopping) = (Connections::new(server), Arc::new(AtomicBool::new(false)));
    let accepting = {
        let (connections, stopping) = (connections.clone(), stopping.clone());
        os::spawn("accept", move || accept_all(&acceptor, &connections, &stopping)).map_err(io)?
    };
    let (address, accepting) = (address.clone(), Some(accepting));
    Ok(Listening { connections, stopping, address, socket, accepting })
}

impl Listening {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Says goodbye to all agents and ends their connections.
    pub fn stop(&self) {
        self.stop_accepting();
        self.connections.stop();
    }

    fn stop_accepting(&self) {
        if !self.stopping.swap(true, Ordering::SeqCst) {
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

fn accept_all(acceptor: &Acceptor, connections: &Arc<Connections>, stopping: &AtomicBool) {
    loop {
        let accepted = acceptor.accept();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((stream, peer, is_allowed)) => {
                connections.add(Box::new(Socket(File::from(stream))), peer, is_allowed);
            }
            Err(error) => {
                // Typically EMFILE: wait for somebody to leave rather than spin.
                warn!(%error, "cannot accept a connection");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
