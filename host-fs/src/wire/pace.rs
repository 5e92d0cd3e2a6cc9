//! Whether requests end so soon that the thread which reads them had better carry them out.
//!
//! What comes out of the host's memory takes microseconds, less than waking another thread. What has
//! to come from a disk takes long enough for others to be carried out meanwhile: after one that was
//! slow, so many are passed on to other threads. Whichever of those is slow again begins anew.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longer than any request takes that waits for nothing, and several times what waking a thread
/// costs.
const SLOW: Duration = Duration::from_micros(200);
/// How many are passed on after a slow one.
const PASSED_ON: u32 = 8;

/// The pace of one connection.
#[derive(Debug, Default)]
pub struct Pace {
    /// How many requests are still to be passed on.
    to_pass: AtomicU32,
}

impl Pace {
    /// Whether the next request is likely to end soon. Counts it.
    pub fn is_quick(&self) -> bool {
        // Only whoever has the turn counts down; a slow one in between may win or not.
        match self.to_pass.load(Ordering::Relaxed) {
            0 => true,
            left => {
                self.to_pass.store(left - 1, Ordering::Relaxed);
                false
            }
        }
    }

    /// A request has been carried out in this time, its answer not yet sent.
    pub fn took(&self, time: Duration) {
        if time > SLOW {
            self.to_pass.store(PASSED_ON, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_slow_request_some_are_passed_on() {
        let pace = Pace::default();
        assert!(pace.is_quick());
        pace.took(SLOW);
        assert!(pace.is_quick());
        pace.took(SLOW * 2);
        assert!((0..PASSED_ON).all(|_| !pace.is_quick()));
        assert!(pace.is_quick());
    }

    #[test]
    fn what_is_still_slow_begins_anew() {
        let pace = Pace::default();
        pace.took(SLOW * 2);
        assert!((1..PASSED_ON).all(|_| !pace.is_quick()));
        pace.took(SLOW * 2);
        assert!((0..PASSED_ON).all(|_| !pace.is_quick()));
        assert!(pace.is_quick());
    }
}
