//! A 16550 serial port. What the guest writes goes to a thread that writes it out, so that a virtual
//! processor never waits for a terminal; what comes in waits until the guest has room.

use crate::Error;
use crate::bus::BusDevice;
use crate::hypervisor::Interrupt;
use parking_lot::{Condvar, Mutex};
use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vm_superio::Trigger;
use vm_superio::serial::SerialEvents;

/// What waits to be written out at most; what the guest writes beyond is lost, and said so.
const LIMIT: usize = 1 << 20;
/// How long the last output may take to be written.
const PATIENCE: Duration = Duration::from_secs(1);

type Uart = vm_superio::Serial<Line, Drained, Sender>;

/// The port as the guest has it.
pub struct Serial {
    uart: Arc<Mutex<Uart>>,
    room: Arc<Condvar>,
    output: Arc<Output>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The way in.
#[derive(Clone)]
pub struct Input {
    uart: Arc<Mutex<Uart>>,
    room: Arc<Condvar>,
    output: Arc<Output>,
}

struct Line(Arc<dyn Interrupt>);

impl Trigger for Line {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.raise();
        Ok(())
    }
}

/// Wakes those who wait for room.
struct Drained(Arc<Condvar>);

impl SerialEvents for Drained {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        self.0.notify_all();
    }
}

#[derive(Default)]
struct Output {
    state: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    lost: u64,
    closed: bool,
}

/// Where the port's output goes.
struct Sender(Arc<Output>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        if state.bytes.len() + bytes.len() <= LIMIT {
            state.bytes.extend_from_slice(bytes);
        } else {
            state.lost += bytes.len() as u64;
        }
        self.0.changed.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    /// Writes out what comes, until it is closed and everything is written.
    fn carry(&self, mut writer: Box<dyn Write + Send>) {
        let mut bytes = Vec::new();
        loop {
            {
                let mut state = self.state.lock();
                while state.bytes.is_empty() && state.lost == 0 && !state.closed {
                    self.changed.wait(&mut state);
                }
                if state.bytes.is_empty() && state.lost == 0 {
                    return;
                }
                std::mem::swap(&mut bytes, &mut state.bytes);
                let lost = std::mem::take(&mut state.lost);
                if lost > 0 {
                    bytes.extend_from_slice(format!("\r\n[{lost} bytes lost]\r\n").as_bytes());
                }
            }
            if let Err(error) = writer.write_all(&bytes).and_then(|()| writer.flush()) {
                tracing::warn!(%error, "serial port: output lost");
            }
            bytes.clear();
        }
    }
}

impl Serial {
    /// A port with this interrupt that writes to `writer`.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn new(
        interrupt: Arc<dyn Interrupt>,
        writer: Box<dyn Write + Send>,
    ) -> Result<Self, Error> {
        let output = Arc::<Output>::default();
        let room = Arc::<Condvar>::default();
        let sender = Sender(output.clone());
        let uart = Uart::with_events(Line(interrupt), Drained(room.clone()), sender);
        let carrier = output.clone();
        let thread = thread::Builder::new()
            .name("serial".into())
            .spawn(move || carrier.carry(writer))
            .map_err(|source| Error::Host { act: "thread of the serial port", source })?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { uart: Arc::new(Mutex::new(uart)), room, output, thread })
    }

    /// The way in.
    pub fn input(&self) -> Input {
        let (uart, room, output) = (&self.uart, &self.room, &self.output);
        Input { uart: uart.clone(), room: room.clone(), output: output.clone() }
    }

    /// Writes out what the guest has written, unless that takes too long, and lets go of those who
    /// send. Nothing more goes out or comes in.
    pub fn close(&self) {
        {
            let _uart = self.uart.lock();
            self.output.state.lock().closed = true;
            self.output.changed.notify_all();
            self.room.notify_all();
        }
        let Some(thread) = self.thread.lock().take() else { return };
        let end = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            _ = thread.join();
        }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.close();
    }
}

impl Input {
    /// Sends to the guest; waits while it has no room. `false` if the port is closed.
    pub fn send(&self, mut bytes: &[u8]) -> bool {
        let mut uart = self.uart.lock();
        loop {
            if self.output.state.lock().closed {
                return false;
            }
            let len = match uart.fifo_capacity() {
                0 => 0,
                // A port in loop mode takes nothing.
                _ => uart.enqueue_raw_bytes(bytes).unwrap_or(0),
            };
            bytes = bytes.get(len..).unwrap_or_default();
            if bytes.is_empty() {
                return true;
            }
            self.room.wait_for(&mut uart, Duration::from_millis(100));
        }
    }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (Ok(offset), [byte]) = (u8::try_from(offset), data) {
            *byte = self.uart.lock().read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(offset), &[byte]) = (u8::try_from(offset), data) {
            // It cannot fail: neither the interrupt nor the sender does.
            _ = self.uart.lock().write(offset, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Interrupt for Count {
        fn raise(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn read(serial: &Serial, register: u64) -> u8 {
        let mut data = [0];
        serial.read(register, &mut data);
        data[0]
    }

    #[test]
    fn what_the_guest_writes_has_gone_out_when_the_port_is_closed() {
        let buffer = Buffer::default();
        let serial = Serial::new(Arc::<Count>::default(), Box::new(buffer.clone())).unwrap();
        for byte in b"hello" {
            serial.write(0, &[*byte]);
        }
        serial.close();
        assert_eq!(*buffer.0.lock(), b"hello");
    }

    #[test]
    fn input_interrupts_the_guest_and_waits_for_it_to_read() {
        let count = Arc::new(Count::default());
        let serial = Serial::new(count.clone(), Box::new(io::sink())).unwrap();
        // Interrupts for received data, please.
        serial.write(1, &[1]);
        let (input, sent) = (serial.input(), vec![b'x'; 200]);
        let thread = thread::spawn(move || input.send(&sent));
        let mut got = 0;
        while got < 200 {
            if read(&serial, 5) & 1 != 0 {
                assert_eq!(read(&serial, 0), b'x');
                got += 1;
            }
        }
        assert!(thread.join().unwrap());
        assert!(count.0.load(Ordering::SeqCst) > 0);
    }

    #[test]
    fn closing_the_port_lets_go_of_who_sends() {
        let serial = Serial::new(Arc::<Count>::default(), Box::new(io::sink())).unwrap();
        let input = serial.input();
        let thread = thread::spawn(move || input.send(&[0; 1000]));
        serial.close();
        assert!(!thread.join().unwrap());
    }

    #[test]
    fn a_writer_that_hangs_stops_neither_the_guest_nor_the_end() {
        struct Stuck(mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (_hold, stuck) = mpsc::channel();
        let serial = Serial::new(Arc::<Count>::default(), Box::new(Stuck(stuck))).unwrap();
        for _ in 0..LIMIT * 2 {
            serial.write(0, b"x");
        }
        assert!(serial.output.state.lock().bytes.len() <= LIMIT);
        serial.close();
    }

    #[test]
    fn odd_accesses_do_nothing() {
        let buffer = Buffer::default();
        let serial = Serial::new(Arc::<Count>::default(), Box::new(buffer.clone())).unwrap();
        serial.write(0, b"xx");
        serial.write(u64::MAX, b"x");
        serial.write(7, b"x");
        let mut data = [0xff; 4];
        serial.read(0, &mut data);
        assert_eq!(data, [0; 4]);
        serial.close();
        assert!(buffer.0.lock().is_empty());
    }
}
