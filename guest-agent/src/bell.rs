//! A bell: rung when something has happened, by whom it costs next to nothing while nobody waits.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes one who waits for something to happen.
#[derive(Debug, Default)]
pub struct Bell {
    awaited: AtomicBool,
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// It has happened.
    pub fn ring(&self) {
        if self.awaited.load(Ordering::Acquire) && self.awaited.swap(false, Ordering::AcqRel) {
            let _lock = self.lock.lock();
            self.rung.notify_all();
        }
    }

    /// Waits until the next ring, unless `happened` already.
    pub fn wait(&self, happened: impl Fn() -> bool) {
        self.awaited.store(true, Ordering::Release);
        if happened() {
            return;
        }
        let mut lock = self.lock.lock();
        self.rung.wait_while(&mut lock, |()| self.awaited.load(Ordering::Acquire));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_woken_and_who_is_late_does_not_wait() {
        let bell = Bell::default();
        let happened = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| bell.wait(|| happened.load(Ordering::SeqCst)));
            happened.store(true, Ordering::SeqCst);
            while !waits.is_finished() {
                bell.ring();
                std::thread::yield_now();
            }
        });
        bell.wait(|| true);
    }
}
