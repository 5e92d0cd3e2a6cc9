//! The monitor's end of the control connection: what init is told, and what becomes of what it says.

use super::input::{self, Window};
use super::news::News;
use protocol::guest::{CONTROL_PORT, Order, Report, Start, agree};
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{FrameHeader, frame};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;
use tracing::{debug, info, warn};
use vmm::virtio::vsock::{Port, PortListener, Stream};

/// The port of the host's vsock that init connects to.
pub const PORT: Port = Port(CONTROL_PORT);
/// How long a guest may take to say who it is, and to take an order.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of `SIGPIPE` in every Linux.
const BROKEN_PIPE: u8 = 13;

/// The way to init.
pub struct Orders {
    stream: Arc<Stream>,
    turn: Mutex<()>,
}

impl Orders {
    /// Sends one.
    pub fn send(&self, order: &Order<'_>) -> io::Result<()> {
        let mut head = Vec::new();
        order.encode(&mut head);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stream = &*self.stream;
        frame::send(&head, order.payload(), |rest| stream.write_vectored(rest))
    }
}

/// The init of one boot.
#[derive(Default)]
pub struct Guest {
    pub news: News,
    orders: OnceLock<Arc<Orders>>,
}

impl Guest {
    /// Says something to init, if it is there.
    pub fn order(&self, order: &Order<'_>) {
        if let Some(orders) = self.orders.get()
            && let Err(error) = orders.send(order)
        {
            debug!(%error, "init does not listen");
        }
    }

    /// Whether init is there.
    pub fn is_there(&self) -> bool {
        self.orders.get().is_some()
    }
}

/// Takes the guest's connection; one at a time.
pub struct Listener(Mutex<mpsc::Sender<Stream>>);

impl PortListener for Listener {
    fn accept(&self, _: Port, stream: Stream) {
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(stream);
    }
}

/// Waits for init on a thread of its own, and goes along with it to its end. `start` says what it is
/// to do when it asks.
pub fn wait(
    guest: Arc<Guest>,
    start: impl Fn(u16, &mut dyn FnMut(&Start<'_>)) + Send + 'static,
    feeds: bool,
) -> io::Result<Arc<Listener>> {
    let (sender, streams) = mpsc::channel();
    let serve = move || {
        for stream in streams {
            let stream = Arc::new(stream);
            if let Err(error) = serve(&guest, &stream, &start, feeds) {
                warn!(%error, "the guest's init");
            }
            stream.shutdown(Shutdown::Both);
        }
    };
    thread::Builder::new().name("osxfs-guest".into()).spawn(serve)?;
    Ok(Arc::new(Listener(Mutex::new(sender))))
}

fn serve(
    guest: &Guest,
    stream: &Arc<Stream>,
    start: &impl Fn(u16, &mut dyn FnMut(&Start<'_>)),
    feeds: bool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(HELLO_TIMEOUT));
    stream.set_write_timeout(Some(SEND_TIMEOUT));
    let (mut splitter, mut frame) = (Splitter::default(), Frame::default());
    let Some(header) = next(&mut splitter, &mut frame, stream)? else { return Ok(()) };
    let version = match Report::decode(header.opcode, frame.body()).map_err(bad)? {
        Report::Hello { min_version, version, name } => {
            info!(init = name.0, "the guest is up");
            let agreed = agree(min_version, version);
            agreed.ok_or_else(|| bad("its agent is of another version; make the image again"))?
        }
        other => return Err(bad(format!("it says {other:?} before hello"))),
    };
    let orders = Arc::new(Orders { stream: stream.clone(), turn: Mutex::default() });
    let mut sent = Ok(());
    start(version, &mut |start| sent = orders.send(&Order::Start(start.clone())));
    sent?;
    if guest.orders.set(orders.clone()).is_err() {
        return Err(bad("it asks twice what to do"));
    }
    stream.set_read_timeout(None);
    let window = Arc::new(Window::default());
    let mut output = Output { orders: &orders, out: true, err: true };
    while let Some(header) = next(&mut splitter, &mut frame, stream)? {
        match Report::decode(header.opcode, frame.body()).map_err(bad)? {
            Report::Ready => {
                guest.news.change(|told| told.ready = true);
                if feeds {
                    input::forward(orders.clone(), window.clone())?;
                }
            }
            Report::Stdout(data) => output.out(data.0),
            Report::Stderr(data) => output.err(data.0),
            Report::Taken(bytes) => window.grow(usize::try_from(bytes).unwrap_or(usize::MAX)),
            Report::Exited(outcome) => guest.news.change(|told| told.ended = Some(outcome)),
            Report::Failed { what, why } => {
                let text = format!("{}: {}", what.0, why.0);
                guest.news.change(|told| told.failed = Some(text));
            }
            Report::Hello { .. } => return Err(bad("it says hello twice")),
        }
    }
    Ok(())
}

/// Our standard output and error. Where nobody reads them any more the command hears it, as it
/// would on a pipe of its own.
struct Output<'a> {
    orders: &'a Orders,
    out: bool,
    err: bool,
}

impl Output<'_> {
    fn out(&mut self, data: &[u8]) {
        let mut out = io::stdout().lock();
        if self.out && out.write_all(data).and_then(|()| out.flush()).is_err() {
            self.out = false;
            let _ = self.orders.send(&Order::Signal(BROKEN_PIPE));
        }
    }

    fn err(&mut self, data: &[u8]) {
        if self.err && io::stderr().lock().write_all(data).is_err() {
            self.err = false;
            let _ = self.orders.send(&Order::Signal(BROKEN_PIPE));
        }
    }
}

fn next(
    splitter: &mut Splitter,
    frame: &mut Frame,
    mut stream: &Stream,
) -> io::Result<Option<FrameHeader>> {
    match splitter.next(frame, |buf| stream.read(buf)) {
        Ok(header) => Ok(Some(header)),
        Err(ReadError::Closed) => Ok(None),
        Err(ReadError::Decode(error)) => Err(bad(error)),
        Err(ReadError::Io(error)) => Err(error),
    }
}

fn bad(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
