//! The connection to the monitor: finding it, the first words, orders in and reports out.

use crate::wire::connect_once;
use parking_lot::Mutex;
use protocol::guest::{MIN_VERSION, Order, Report, Start, VERSION};
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{Address, DecodeError, Text, frame};
use rustix::net::Shutdown;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long the device and the monitor may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the monitor may take to say what to do.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last words may take to be heard.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(5);

/// Both halves.
pub(super) struct Control {
    /// To the monitor.
    pub reports: Reports,
    /// From the monitor.
    pub orders: Orders,
}

/// The frame that said what to do.
pub(super) struct Started(Frame);

impl Started {
    /// What it says.
    pub fn get(&self) -> Result<Start<'_>, DecodeError> {
        match Order::decode(START, self.0.body())? {
            Order::Start(start) => Ok(start),
            _ => Err(DecodeError::UnknownOpcode(START)),
        }
    }
}

/// The opcode of [`Order::Start`].
const START: u16 = 0x4001;

/// Connects, says who we are, and waits for what to do.
pub(super) fn connect(address: &Address) -> io::Result<(Control, Started)> {
    let stream = File::from(retry_connect(address)?);
    set_socket_timeout(&stream, Timeout::Recv, Some(START_TIMEOUT))?;
    let reports = Reports(Arc::new(Mutex::new(stream.try_clone()?)));
    let mut orders = Orders { stream, splitter: Splitter::default(), frame: Frame::default() };
    let kernel = rustix::system::uname();
    let name = format!(
        "osxfs-agent/{} on {} {}",
        env!("CARGO_PKG_VERSION"),
        kernel.sysname().to_string_lossy(),
        kernel.release().to_string_lossy()
    );
    reports.send(&Report::Hello {
        min_version: MIN_VERSION,
        version: VERSION,
        name: Text(&name),
    })?;
    let version = match orders.next()? {
        Some(Order::Start(start)) => start.version,
        Some(other) => return Err(bad(format!("it says {other:?} before what to do"))),
        None => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    if !(MIN_VERSION..=VERSION).contains(&version) {
        return Err(bad(format!("it speaks version {version}, and we {MIN_VERSION} to {VERSION}")));
    }
    set_socket_timeout(&orders.stream, Timeout::Recv, None)?;
    let started = Started(std::mem::take(&mut orders.frame));
    Ok((Control { reports, orders }, started))
}

fn bad(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The transport of a VM comes up while we are running already.
fn retry_connect(address: &Address) -> io::Result<OwnedFd> {
    let begun = Instant::now();
    loop {
        match connect_once(address) {
            Err(_) if begun.elapsed() < PATIENCE => thread::sleep(RETRY),
            other => return other,
        }
    }
}

/// The way to the monitor. Several threads report, each whole frames.
#[derive(Clone)]
pub(super) struct Reports(Arc<Mutex<File>>);

impl Reports {
    /// Sends one. Waits for a monitor that does not read.
    pub fn send(&self, report: &Report<'_>) -> io::Result<()> {
        let mut head = Vec::new();
        report.encode(&mut head);
        let mut stream = self.0.lock();
        frame::send(&head, report.payload(), |rest| retry(|| stream.write_vectored(rest)))
    }

    /// Lets the last words arrive: the stream ends from here, and then, soon, from there.
    pub fn finish(&self) {
        let mut stream = self.0.lock();
        let _ = rustix::net::shutdown(&*stream, Shutdown::Write);
        let _ = set_socket_timeout(&*stream, Timeout::Recv, Some(FINISH_TIMEOUT));
        let begun = Instant::now();
        let mut rest = [0; 512];
        while begun.elapsed() < FINISH_TIMEOUT && matches!(stream.read(&mut rest), Ok(1..)) {}
    }
}

/// The way from the monitor.
pub(super) struct Orders {
    stream: File,
    splitter: Splitter,
    frame: Frame,
}

impl Orders {
    /// The next one, or none if the monitor has gone.
    pub fn next(&mut self) -> io::Result<Option<Order<'_>>> {
        let mut stream = &self.stream;
        let next = self.splitter.next(&mut self.frame, |buf| retry(|| stream.read(buf)));
        match next {
            Ok(header) => {
                let order = Order::decode(header.opcode, self.frame.body());
                order.map(Some).map_err(|error| bad(error.to_string()))
            }
            Err(ReadError::Closed) => Ok(None),
            Err(ReadError::Decode(error)) => Err(bad(error.to_string())),
            Err(ReadError::Io(error)) => Err(error),
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
