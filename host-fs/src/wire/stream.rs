//! What carries the bytes of a connection.

use rustix::net::Shutdown;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::time::Duration;

/// A stream of bytes in both directions, used by several threads at once.
pub trait Stream: Send + Sync {
    /// Waits until there is something to read; 0 at the end.
    ///
    /// # Errors
    /// The stream is broken, or it took too long.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as there is room for, and waits for room.
    ///
    /// # Errors
    /// The stream is broken, or it took too long.
    fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends both directions, and whatever waits for them.
    fn shutdown(&self);

    /// How long a read may wait; for ever if none.
    ///
    /// # Errors
    /// It cannot be limited.
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// How long a write may wait.
    ///
    /// # Errors
    /// It cannot be limited.
    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()>;
}

/// A connected socket, of whichever family.
pub(super) struct Socket(pub File);

impl Stream for Socket {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(buffers)
    }

    fn shutdown(&self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }

    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, timeout)?)
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(timeout))?)
    }
}
