//! Signals of this process are for the guest's command. Without one they end the guest; said three
//! times, they pull its plug.

use super::guest::Guest;
use super::{clock, terminal};
use anyhow::Result;
use protocol::guest::{Halt, Order};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use vmm::Stopper;
use vmm::virtio::console::Size;

/// After so many the guest is not asked any more.
const ENOUGH: u32 = 3;

/// The guest that signals are for.
struct Current {
    guest: Arc<Guest>,
    stopper: Stopper,
    /// Of its console, if that is in our window.
    size: Option<Size>,
    has_command: bool,
}

/// Catches them until the process ends.
#[derive(Clone, Default)]
pub struct Signals {
    current: Arc<Mutex<Option<Current>>>,
    last: Arc<AtomicI32>,
}

impl Signals {
    pub fn catch() -> Result<Self> {
        let signals = Self::default();
        let mut caught =
            signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH])?;
        let this = signals.clone();
        thread::Builder::new().name("osxfs-signals".into()).spawn(move || {
            let mut count = 0;
            for signal in caught.forever() {
                if signal == SIGWINCH {
                    this.resize();
                } else {
                    count += 1;
                    this.last.store(signal, Ordering::Relaxed);
                    this.end(signal, count);
                }
            }
        })?;
        let this = signals.clone();
        thread::Builder::new().name("osxfs-clock".into()).spawn(move || {
            let mut before = clock::Look::now();
            loop {
                thread::sleep(clock::PERIOD);
                let now = clock::Look::now();
                if now.jumped_since(before) {
                    this.tell(&Order::Time(clock::time()));
                }
                before = now;
            }
        })?;
        Ok(signals)
    }

    /// They are for this guest from now on.
    pub fn attend(
        &self,
        guest: Arc<Guest>,
        stopper: Stopper,
        size: Option<Size>,
        has_command: bool,
    ) {
        *self.lock() = Some(Current { guest, stopper, size, has_command });
        // One that came while there was no guest.
        match self.last.load(Ordering::Relaxed) {
            0 => {}
            signal => self.end(signal, 1),
        }
    }

    /// How a process ends that a signal ended.
    pub fn exit_code(&self) -> ExitCode {
        let signal = self.last.load(Ordering::Relaxed);
        u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from)
    }

    /// The command's terminal has the size of our window, and so has the console.
    fn resize(&self) {
        let now = terminal::size();
        self.tell(&Order::Resize(now));
        if let Some(Current { size: Some(size), .. }) = &*self.lock() {
            size.set(now.columns, now.rows);
        }
    }

    fn tell(&self, order: &Order<'_>) {
        if let Some(current) = &*self.lock() {
            current.guest.order(order);
        }
    }

    fn end(&self, signal: i32, count: u32) {
        let current = self.lock();
        let Some(Current { guest, stopper, has_command, .. }) = &*current else { return };
        if count >= ENOUGH || !guest.is_there() {
            return stopper.stop();
        }
        match (has_command, u8::try_from(signal)) {
            (true, Ok(signal)) => guest.order(&Order::Signal(signal)),
            _ => guest.order(&Order::Stop(Halt::PowerOff)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
