//! Waiting for every process that ends: children of ours, and orphans, which are the first process's.

use super::Event;
use parking_lot::{Condvar, Mutex};
use protocol::guest::Outcome;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// Knows when no process is left.
pub(super) struct Reaper(Arc<(Mutex<bool>, Condvar)>);

impl Reaper {
    /// Reaps from now on, and tells of the end of `command`. Nothing else may wait for children
    /// from now on, so nothing may be started either: a failed start waits.
    pub fn start(command: Option<Pid>, events: &mpsc::Sender<Event>) -> io::Result<Self> {
        let alone = Arc::new((Mutex::new(false), Condvar::new()));
        let (told, events) = (alone.clone(), events.clone());
        let reap = move || {
            loop {
                match wait(WaitOptions::empty()) {
                    Ok(Some((pid, status))) if Some(pid) == command => {
                        let _ = events.send(Event::Ended(outcome(status)));
                    }
                    Ok(_) | Err(Errno::INTR) => {}
                    // Nobody is left who could leave us an orphan.
                    Err(_) => break,
                }
            }
            *told.0.lock() = true;
            told.1.notify_all();
        };
        thread::Builder::new().name("osxfs-reaper".into()).spawn(reap)?;
        Ok(Self(alone))
    }

    /// Waits until no process is left, for so long. Tells whether that is so.
    pub fn wait_alone(&self, limit: Duration) -> bool {
        let (alone, changed) = &*self.0;
        let mut alone = alone.lock();
        changed.wait_while_for(&mut alone, |alone| !*alone, limit);
        *alone
    }
}

fn outcome(status: WaitStatus) -> Outcome {
    let number = |raw: i32| u8::try_from(raw).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Outcome::Status(number(status)),
        (None, signal) => Outcome::Signal(number(signal.unwrap_or(0))),
    }
}
