//! What the server counts while it serves. Relaxed: figures for people, in no order.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// Of one export.
#[derive(Debug, Default)]
pub(crate) struct ExportCounters {
    pub bytes_read: Counter,
    pub bytes_written: Counter,
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
