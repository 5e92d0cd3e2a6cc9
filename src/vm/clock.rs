//! Notices that the host has slept: its clock has gone on, and what counts running time has not.

use std::time::{Duration, Instant, SystemTime};

/// How often the two are compared.
pub const PERIOD: Duration = Duration::from_secs(2);
/// By how much they may differ.
const TOLERANCE: Duration = Duration::from_millis(200);

/// Two clocks at one moment.
#[derive(Clone, Copy)]
pub struct Look {
    running: Instant,
    wall: SystemTime,
}

impl Look {
    pub fn now() -> Self {
        Self { running: Instant::now(), wall: SystemTime::now() }
    }

    /// Whether the clock was set, or the host slept, between `before` and this.
    pub fn jumped_since(&self, before: Self) -> bool {
        let ran = self.running.saturating_duration_since(before.running);
        match self.wall.duration_since(before.wall) {
            Ok(passed) => passed.abs_diff(ran) > TOLERANCE,
            Err(_) => true,
        }
    }
}

/// The host's clock, for the guest.
pub fn time() -> protocol::Time {
    let (sec, nsec) = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(_) => (0, 0),
    };
    protocol::Time { sec, nsec }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_slept_is_noticed_and_one_that_ran_is_not() {
        let before = Look::now();
        let after = |ran, passed| Look {
            running: before.running + Duration::from_secs(ran),
            wall: before.wall + Duration::from_secs(passed),
        };
        assert!(!after(2, 2).jumped_since(before));
        assert!(after(2, 3600).jumped_since(before));
        assert!(before.jumped_since(after(0, 5)), "a clock that was set back");
    }
}
