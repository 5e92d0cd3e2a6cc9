//! How long changes took from their arrival here to the watchers: a histogram of fixed size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps of a doubling.
const STEPS: u64 = 4;
/// Doublings from one microsecond on: up to 18 minutes.
const DOUBLINGS: usize = 30;

/// Counts durations by their size, to a quarter of a doubling.
#[derive(Debug)]
pub struct Histogram([AtomicU64; DOUBLINGS * STEPS as usize]);

impl Default for Histogram {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; DOUBLINGS * STEPS as usize])
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, time: Duration) {
        let micros = time.as_micros().clamp(1, 1 << DOUBLINGS) as u64;
        let doubling = u64::from(micros.ilog2());
        let step = ((micros - (1 << doubling)) * STEPS) >> doubling;
        let at = (doubling * STEPS + step) as usize;
        if let Some(count) = self.0.get(at).or(self.0.last()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What `percent` of them did not exceed; nothing before the first.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let counts = self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        let all: u64 = counts.iter().sum();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut below = 0;
        let at = counts.iter().position(|count| {
            below += count;
            below >= wanted
        })? as u64;
        let (doubling, step) = (at / STEPS, at % STEPS);
        Some(Duration::from_micros(((STEPS + step + 1) << doubling) / STEPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_right_to_a_quarter() {
        let histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (percent, exact) in [(50, 5_000), (99, 9_900), (100, 10_000)] {
            let micros = histogram.percentile(percent).unwrap().as_micros();
            assert!((exact..=exact * 5 / 4).contains(&micros), "{percent}: {micros}");
        }
    }

    #[test]
    fn no_duration_is_too_short_or_too_long() {
        let histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        assert!(histogram.percentile(1).unwrap() <= Duration::from_micros(2));
        histogram.record(Duration::MAX);
        assert!(histogram.percentile(100).unwrap() > Duration::from_secs(600));
    }
}
