//! The threads that work for one session, by which its own work is told from that of others.

use parking_lot::RwLock;
use rustc_hash::FxHashSet;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of threads, of which each has entered by itself.
pub struct Threads {
    /// Never given twice in this process.
    number: u64,
    known: RwLock<FxHashSet<i32>>,
}

thread_local! {
    /// The set that this thread entered last.
    static ENTERED: Cell<u64> = const { Cell::new(0) };
}

impl Threads {
    /// Nobody.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), known: RwLock::default() }
    }

    /// The calling thread belongs to it from now on. Costs next to nothing the second time.
    pub fn enter(&self) {
        if ENTERED.get() != self.number {
            ENTERED.set(self.number);
            self.known.write().insert(rustix::thread::gettid().as_raw_pid());
        }
    }

    /// Whether the thread with this number has entered.
    pub fn contains(&self, thread: i32) -> bool {
        self.known.read().contains(&thread)
    }
}
