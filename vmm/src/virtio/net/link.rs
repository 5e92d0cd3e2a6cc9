//! The socket of a user-mode network. Two kinds are in use, told apart by what the socket is: a stream
//! of frames with lengths (passt, QEMU's `stream`), and a datagram for each frame (gvproxy's and
//! vmnet-helper's `unixgram`, opened as vfkit does).

use super::frames::{Inbox, MAX_FRAME, length};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// What a datagram socket is greeted with; it tells the other side where to answer.
const GREETING: &[u8] = b"VFKT";
/// Room in the host's kernel for frames that are on their way. A Mac's default does not hold one.
const SEND_ROOM: usize = 1 << 20;
const RECEIVE_ROOM: usize = 4 << 20;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody is there.
    #[error("cannot reach the network at {socket:?}: {source}; start it first, for example `passt --socket {}`", socket.display())]
    Connect {
        /// Its socket.
        socket: PathBuf,
        /// What the host says.
        source: io::Error,
    },
    /// Our own end cannot be made.
    #[error("cannot make a socket for the network at {socket:?}: {source}; is {dir:?} writable?")]
    Bind {
        /// The network's socket.
        socket: PathBuf,
        /// Where ours should be.
        dir: PathBuf,
        /// What the host says.
        source: io::Error,
    },
}

enum Socket {
    Stream(UnixStream, Inbox),
    /// With the datagram that has come, and our own address, which is a file.
    Datagram(UnixDatagram, Option<Vec<u8>>, PathBuf),
}

/// An open one.
pub struct Link {
    socket: Socket,
    /// Bytes of the stream that it did not take yet.
    unsent: VecDeque<u8>,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn connect(socket: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Connect { socket: socket.into(), source };
        let link = match UnixStream::connect(socket) {
            Ok(stream) => Self::over_stream(stream).map_err(failed)?,
            Err(error) if error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => {
                Self::over_datagrams(socket)?
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(link)
    }

    /// Over a stream that is connected.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn over_stream(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        make_room(stream.as_fd());
        Ok(Self { socket: Socket::Stream(stream, Inbox::new()), unsent: VecDeque::new() })
    }

    fn over_datagrams(socket: &Path) -> Result<Self, OpenError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let failed = |source| OpenError::Connect { socket: socket.into(), source };
        let dir = std::env::temp_dir();
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let ours = dir.join(format!("osxfs-net-{}-{n}.sock", std::process::id()));
        // Left behind by a process of the same number.
        _ = std::fs::remove_file(&ours);
        let datagrams = UnixDatagram::bind(&ours).map_err(|source| OpenError::Bind {
            socket: socket.into(),
            dir,
            source,
        })?;
        make_room(datagrams.as_fd());
        let link =
            Self { socket: Socket::Datagram(datagrams, None, ours), unsent: VecDeque::new() };
        if let Socket::Datagram(datagrams, ..) = &link.socket {
            datagrams.connect(socket).map_err(failed)?;
            datagrams.send(GREETING).map_err(failed)?;
            datagrams.set_nonblocking(true).map_err(failed)?;
        }
        Ok(link)
    }

    /// Whether frames are on their way that the socket did not take; the next ones wait.
    pub fn is_congested(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends a frame. It is lost if the socket takes no datagram now; a stream keeps what it cannot
    /// send.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        match &self.socket {
            Socket::Stream(..) => {
                self.unsent.extend(length(frame));
                self.unsent.extend(frame);
                self.push()
            }
            Socket::Datagram(datagrams, ..) => match datagrams.send(frame) {
                Ok(_) => Ok(()),
                Err(error) if is_for_now(&error) => Ok(()),
                Err(error) => Err(error),
            },
        }
    }

    /// Sends what was kept.
    ///
    /// # Errors
    /// The other side has gone.
    pub fn push(&mut self) -> io::Result<()> {
        let Socket::Stream(stream, _) = &mut self.socket else { return Ok(()) };
        while !self.unsent.is_empty() {
            let (front, back) = self.unsent.as_slices();
            match stream.write_vectored(&[io::IoSlice::new(front), io::IoSlice::new(back)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => _ = self.unsent.drain(..len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_for_now(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next frame that has come in; the same until it is [`consume`](Self::consume)d.
    ///
    /// # Errors
    /// The other side has gone, or what it sends are no frames.
    pub fn frame(&mut self) -> io::Result<Option<&[u8]>> {
        match &mut self.socket {
            Socket::Stream(stream, inbox) => {
                while inbox.frame()?.is_none() {
                    match stream.read(inbox.room()) {
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(len) => inbox.filled(len),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if is_for_now(&error) => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
                inbox.frame()
            }
            Socket::Datagram(datagrams, frame, _) => {
                if frame.is_none() {
                    let mut data = vec![0; MAX_FRAME];
                    match datagrams.recv(&mut data) {
                        Ok(len) => {
                            data.truncate(len);
                            *frame = Some(data);
                        }
                        Err(error) if is_for_now(&error) => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
                Ok(frame.as_deref())
            }
        }
    }

    /// Drops the frame that has come in.
    pub fn consume(&mut self) {
        match &mut self.socket {
            Socket::Stream(_, inbox) => inbox.consume(),
            Socket::Datagram(_, frame, _) => *frame = None,
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Stream(stream, _) => stream.as_fd(),
            Socket::Datagram(datagrams, ..) => datagrams.as_fd(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Socket::Datagram(_, _, ours) = &self.socket {
            _ = std::fs::remove_file(ours);
        }
    }
}

/// Not an end: it may work again. Without room for a datagram a Mac says `ENOBUFS`.
fn is_for_now(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}

/// As much as the host allows.
fn make_room(socket: BorrowedFd<'_>) {
    _ = sockopt::set_socket_send_buffer_size(socket, SEND_ROOM);
    _ = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_ROOM);
}
