//! How the file protocol gets to the server: the guest's connections to port 1525 are the server's,
//! without a socket in between.

use host_fs::server::Server;
use host_fs::wire::{self, Connections};
use protocol::guest::FILES_PORT;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;
use vmm::virtio::vsock::{HostSide, Port, PortListener, Stream};

/// A server that guests may connect to. Says goodbye to them when dropped.
pub struct Files {
    connections: Arc<Connections>,
    listener: Arc<Listener>,
}

impl Files {
    /// This server. Its threads start from one of its own: those of devices are confined, and what
    /// they start is as well.
    pub fn new(server: Arc<Server>) -> io::Result<Self> {
        let connections = Connections::new(server);
        let (sender, streams) = mpsc::channel::<(Port, Stream)>();
        let shared = connections.clone();
        let serve = move || {
            for (Port(port), stream) in streams {
                shared.serve(Box::new(Channel(stream)), format!("the guest's port {port}"));
            }
        };
        thread::Builder::new().name("osxfs-files".into()).spawn(serve)?;
        Ok(Self { connections, listener: Arc::new(Listener(Mutex::new(sender))) })
    }

    /// Shows a guest the way.
    pub fn offer(&self, side: &mut HostSide) {
        side.ports.insert(Port(FILES_PORT), self.listener.clone());
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.connections.stop();
    }
}

struct Listener(Mutex<mpsc::Sender<(Port, Stream)>>);

impl PortListener for Listener {
    fn accept(&self, port: Port, stream: Stream) {
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send((port, stream));
    }
}

/// The guest's end as the server uses it.
struct Channel(Stream);

impl wire::Stream for Channel {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buf)
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(bufs)
    }

    fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(time);
        Ok(())
    }

    fn set_write_timeout(&self, time: Duration) -> io::Result<()> {
        self.0.set_write_timeout(Some(time));
        Ok(())
    }

    fn shutdown(&self) {
        self.0.shutdown(Shutdown::Both);
    }
}
