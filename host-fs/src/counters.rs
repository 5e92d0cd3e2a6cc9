//! What the server counts while it serves. Relaxed: figures for people, in no order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One figure.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The figure now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A figure that also falls.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// Rises.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Falls, by no more than it rose.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The figure now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many times there were of each length: in bucket `n` those below 2ⁿ microseconds.
#[derive(Debug, Default)]
pub(crate) struct Delays([Counter; 32]);

impl Delays {
    /// Counts one.
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        if let Some(counter) = self.0.get(bucket.min(self.0.len() - 1)) {
            counter.add(1);
        }
    }

    /// Microseconds that this share of them did not exceed, rounded up to a power of two. None if
    /// there was none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let counts: Vec<u64> = self.0.iter().map(Counter::get).collect();
        let all: u64 = counts.iter().sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        bucket.filter(|_| all > 0).map(|bucket| 1 << bucket)
    }
}

/// Of one export.
#[derive(Debug, Default)]
pub(crate) struct ExportCounters {
    pub bytes_read: Counter,
    pub bytes_written: Counter,
    /// Hints of the host.
    pub hints: Counter,
    /// Of them, dropped as a guest's own work.
    pub echoes: Counter,
    /// Changes sent.
    pub changes: Counter,
    /// Directories compared again.
    pub comparisons: Counter,
    /// Changes sent and not delivered yet.
    pub queued: Gauge,
    /// From sending changes until they are delivered to watchers.
    pub delays: Delays,
}

/// Of one session.
#[derive(Debug, Default)]
pub(crate) struct SessionCounters {
    pub operations: Counter,
    pub errors: Counter,
    pub bytes_read: Counter,
    pub bytes_written: Counter,
}

impl SessionCounters {
    /// Adds all figures of another.
    pub fn add(&self, other: &Self) {
        self.operations.add(other.operations.get());
        self.errors.add(other.errors.get());
        self.bytes_read.add(other.bytes_read.get());
        self.bytes_written.add(other.bytes_written.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bucket_that_reaches_the_share() {
        let delays = Delays::default();
        assert_eq!(delays.quantile(0.5), None);
        for micros in [3, 3, 3, 900] {
            delays.add(Duration::from_micros(micros));
        }
        assert_eq!(delays.quantile(0.5), Some(4));
        assert_eq!(delays.quantile(0.99), Some(1024));
        delays.add(Duration::MAX);
    }
}
