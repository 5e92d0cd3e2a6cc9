//! Where the host's programs find the guest's ports, and the guest theirs.
//!
//! | way | to the guest | from the guest to port P |
//! | --- | --- | --- |
//! | [hybrid](HostSide::hybrid) | connect to PATH, say `CONNECT port` | to the socket `PATH_P` |
//! | [hyperkit](HostSide::hyperkit) | connect to `DIR/connect`, say `cid.port`; or to `DIR/cid.port` of a forwarded port | to the socket `DIR/00000002.P` |
//! | [a socket for a port](PortSocket) | connect to it | to it |
//! | [a program of this process](PortListener) | | handed a [`Stream`] |
//!
//! For a guest's wish the last row is looked at first, then the one above, and so on.

use super::handshake::Dialect;
use super::{Cid, Port, Stream};
use mio::net::{UnixListener, UnixStream};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// A program of this process that guests may connect to.
pub trait PortListener: Send + Sync {
    /// A guest has connected, from this port of its own. Called on the device's thread: must not
    /// wait, and hands the stream to a thread.
    fn accept(&self, from: Port, stream: Stream);
}

/// Who connects to a [`PortSocket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Programs of the host do; the guest listens on the port. We make the socket.
    ToGuest,
    /// We do, when the guest connects to the port; a program of the host listens.
    ToHost,
}

/// One socket for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSocket {
    /// The port.
    pub port: Port,
    /// The socket's path.
    pub path: PathBuf,
    /// Who connects.
    pub direction: Direction,
}

/// A directory as hyperkit makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hyperkit {
    /// The directory, which exists.
    pub directory: PathBuf,
    /// Ports of the guest that get sockets of their own.
    pub forwards: Vec<Port>,
}

/// All ways together.
#[derive(Clone, Default)]
pub struct HostSide {
    /// The socket of Firecracker's convention.
    pub hybrid: Option<PathBuf>,
    /// The directory of hyperkit's convention.
    pub hyperkit: Option<Hyperkit>,
    /// Sockets for single ports.
    pub sockets: Vec<PortSocket>,
    /// Programs of this process.
    pub ports: HashMap<Port, Arc<dyn PortListener>>,
}

/// Why a socket cannot be made.
#[derive(Debug, Error)]
pub enum HostError {
    /// Somebody listens there.
    #[error("cannot listen on {0}: another program does; stop it or choose another path")]
    InUse(PathBuf),
    /// Something else is at that path.
    #[error("cannot listen on {0}: the path exists and is no socket; choose another path")]
    NotASocket(PathBuf),
    /// It does not fit into an address.
    #[error("cannot listen on {0}: the path is too long for a unix socket; choose a shorter one")]
    PathTooLong(PathBuf),
    /// The number is nobody's to use.
    #[error("{0} is no number for a guest: choose one from 3 to 4294967294")]
    Cid(u64),
    /// It cannot be waited for.
    #[error("no descriptor can be had to wait for sockets: {0}")]
    Descriptors(io::Error),
    /// The system says no.
    #[error("cannot listen on {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a connection to a socket of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Its first line will say.
    Said(Dialect),
    /// This port of the guest.
    Port(Port),
}

pub(super) struct Listener {
    pub socket: UnixListener,
    pub wish: Wish,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

/// Whom a guest's wish led to.
pub(super) enum Found {
    Program(Arc<dyn PortListener>),
    Socket(UnixStream),
    Nobody,
}

/// The sockets are made, and nobody has been heard yet. They are removed with it.
pub struct Host {
    side: HostSide,
    pub(super) cid: Cid,
    pub(super) listeners: Vec<Listener>,
}

impl Host {
    /// Makes the sockets for the guest `cid`.
    ///
    /// # Errors
    /// One cannot be made; then none is left.
    pub fn bind(side: HostSide, cid: Cid) -> Result<Self, HostError> {
        if !(3..u64::from(u32::MAX)).contains(&cid.0) {
            return Err(HostError::Cid(cid.0));
        }
        let mut listeners = Vec::new();
        let mut listen = |path: PathBuf, wish| {
            let socket = bind(&path)?;
            listeners.push(Listener { socket, wish, path });
            Ok(())
        };
        if let Some(path) = &side.hybrid {
            listen(path.clone(), Wish::Said(Dialect::Hybrid))?;
        }
        if let Some(hyperkit) = &side.hyperkit {
            listen(hyperkit.directory.join("connect"), Wish::Said(Dialect::Hyperkit))?;
            for &port in &hyperkit.forwards {
                listen(hyperkit.directory.join(hyperkit_name(cid, port)), Wish::Port(port))?;
            }
        }
        for socket in &side.sockets {
            if socket.direction == Direction::ToGuest {
                listen(socket.path.clone(), Wish::Port(socket.port))?;
            }
        }
        Ok(Self { side, cid, listeners })
    }

    /// The paths of its sockets.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.listeners.iter().map(|listener| listener.path.as_path())
    }

    /// Leads a guest's wish for a port of the host to whoever listens.
    pub(super) fn find(&self, port: Port) -> Found {
        if let Some(program) = self.side.ports.get(&port) {
            return Found::Program(program.clone());
        }
        let to_host =
            |socket: &&PortSocket| socket.port == port && socket.direction == Direction::ToHost;
        let single = self.side.sockets.iter().find(to_host).map(|socket| socket.path.clone());
        let hyperkit = self.side.hyperkit.as_ref();
        let hyperkit = hyperkit.map(|it| it.directory.join(hyperkit_name(Cid::HOST, port)));
        let hybrid = self.side.hybrid.as_ref().map(|path| {
            let mut path = path.clone().into_os_string();
            path.push(format!("_{}", port.0));
            PathBuf::from(path)
        });
        for path in [single, hyperkit, hybrid].into_iter().flatten() {
            match UnixStream::connect(&path) {
                Ok(stream) => return Found::Socket(stream),
                Err(error) => tracing::debug!(?path, %error, "nobody for a guest's connection"),
            }
        }
        Found::Nobody
    }
}

fn hyperkit_name(cid: Cid, port: Port) -> String {
    format!("{:08x}.{:08x}", cid.0, port.0)
}

/// Makes a socket for this user alone; one that a program left behind when it died is replaced.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, HostError> {
    let io = |source| HostError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(HostError::NotASocket(path.to_owned()));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(HostError::InUse(path.to_owned()));
        }
        Ok(_) => std::fs::remove_file(path).map_err(io)?,
        Err(_) => {}
    }
    // Never open to others, not even between bind and chmod.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => HostError::PathTooLong(path.to_owned()),
        io::ErrorKind::AddrInUse => HostError::InUse(path.to_owned()),
        _ => io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn hybrid(path: PathBuf) -> HostSide {
        HostSide { hybrid: Some(path), ..HostSide::default() }
    }

    #[test]
    fn sockets_are_for_this_user_alone_and_go_with_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vsock");
        let host = Host::bind(hybrid(path.clone()), Cid(3)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        drop(host);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_is_taken_is_refused_and_one_that_was_left_behind_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vsock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(Host::bind(hybrid(path.clone()), Cid(3)), Err(HostError::InUse(_))));
        drop(listener);
        assert!(Host::bind(hybrid(path.clone()), Cid(3)).is_ok());
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Host::bind(hybrid(path.clone()), Cid(3)), Err(HostError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let long = dir.path().join("x".repeat(200));
        assert!(matches!(Host::bind(hybrid(long), Cid(3)), Err(HostError::PathTooLong(_))));
    }

    #[test]
    fn hyperkit_s_directory_has_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let hyperkit =
            Hyperkit { directory: dir.path().to_owned(), forwards: vec![Port(2376), Port(1525)] };
        let side = HostSide { hyperkit: Some(hyperkit), ..HostSide::default() };
        let host = Host::bind(side, Cid(3)).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["00000003.000005f5", "00000003.00000948", "connect"]);
        let listener =
            std::os::unix::net::UnixListener::bind(dir.path().join("00000002.0000002a")).unwrap();
        assert!(matches!(host.find(Port(42)), Found::Socket(_)));
        assert!(matches!(host.find(Port(43)), Found::Nobody));
        drop(listener);
        assert!(matches!(host.find(Port(42)), Found::Nobody));
    }
}
