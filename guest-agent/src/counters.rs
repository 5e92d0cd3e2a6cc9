//! What a mount has done so far, readable at any time.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one mount. They only grow.
        #[derive(Debug, Default)]
        pub struct Counters { $(pub(crate) $name: Counter,)* }

        /// The counters at one moment.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Their present values.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Requests of the kernel, forgets and interrupts not counted.
    operations,
    /// Those that were answered with an error, "no such file" not counted.
    errors,
    /// Bytes that went to readers.
    bytes_read,
    /// Bytes that came from writers.
    bytes_written,
    /// Requests of actuator threads that were answered here.
    injected_requests,
    /// Events that were injected.
    injected,
    /// Changes that the server told of.
    changes,
    /// Requests that had to wait for a connection.
    parked,
    /// Connections after the first.
    reconnects,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
