//! The guest's clock: what the host's says. A guest whose host has slept is behind by that time.

use protocol::Time;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::time::Duration;
use tracing::{debug, warn};

/// A difference that is left alone: the way of the message, and no reason to make time jump.
const TOLERANCE: Duration = Duration::from_millis(50);

/// Sets the clock if it is wrong.
pub(super) fn set(now: Time) {
    let ours = clock_gettime(ClockId::Realtime);
    let difference = difference(now, Time { sec: ours.tv_sec, nsec: nanos(ours.tv_nsec) });
    if difference <= TOLERANCE {
        return;
    }
    let time = Timespec { tv_sec: now.sec, tv_nsec: now.nsec.into() };
    match clock_settime(ClockId::Realtime, time) {
        Ok(()) => debug!(?difference, "set the clock"),
        Err(error) => warn!(?difference, "cannot set the clock: {error}"),
    }
}

fn nanos(nsec: impl TryInto<u32>) -> u32 {
    nsec.try_into().unwrap_or(0)
}

/// How far two times are apart.
fn difference(a: Time, b: Time) -> Duration {
    let nanos = |time: Time| i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    let apart = nanos(a).abs_diff(nanos(b));
    Duration::from_nanos(u64::try_from(apart).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_apart_by_the_same_in_both_directions() {
        let time = |sec, nsec| Time { sec, nsec };
        for (a, b, apart) in [
            (time(1, 0), time(0, 999_999_999), Duration::from_nanos(1)),
            (time(-1, 5), time(1, 4), Duration::new(1, 999_999_999)),
            (time(7, 7), time(7, 7), Duration::ZERO),
        ] {
            assert_eq!(difference(a, b), apart);
            assert_eq!(difference(b, a), apart);
        }
        assert_eq!(
            difference(time(i64::MIN, 0), time(i64::MAX, 0)),
            Duration::from_nanos(u64::MAX)
        );
    }
}
