//! What one guest may have the host hold: places of connections, and bytes that it sent and nobody
//! has taken. A connection has a permit, and so has whatever still holds bytes of it when it is over
//! (a program that has yet to read, a socket that is full): a guest that comes, sends and goes again
//! and again gains nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most connections at a time, those that are over and not yet read to the end among them.
pub const MAX_CONNECTIONS: usize = 1024;
/// What a connection may have us hold: at most, at least, and all together beyond the least.
const BUFFER: u32 = 1 << 20;
const LEAST_BUFFER: u32 = 64 << 10;
const ALL_BUFFERS: u64 = 64 << 20;

/// See the module. Changed by the thread that makes connections, and by whoever drops a permit.
#[derive(Debug, Default)]
pub struct Budget {
    places: AtomicUsize,
    /// Beyond the least.
    bytes: AtomicU64,
}

/// A place, and a buffer. Given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    buffer: u32,
}

impl Budget {
    /// A permit, if there is a place. The more others have, the smaller is its buffer.
    pub fn permit(self: &Arc<Self>) -> Option<Arc<Permit>> {
        if self.places.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            self.places.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let left = ALL_BUFFERS.saturating_sub(self.bytes.load(Ordering::Relaxed));
        let extra = (left / 16).min(u64::from(BUFFER - LEAST_BUFFER));
        self.bytes.fetch_add(extra, Ordering::Relaxed);
        // Less than BUFFER, so it fits.
        Some(Arc::new(Permit { budget: self.clone(), buffer: LEAST_BUFFER + extra as u32 }))
    }
}

impl Permit {
    /// Bytes that the guest may send ahead.
    pub fn buffer(&self) -> u32 {
        self.buffer
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let extra = u64::from(self.buffer - LEAST_BUFFER);
        self.budget.bytes.fetch_sub(extra, Ordering::Relaxed);
        self.budget.places.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bytes_are_bounded_and_come_back() {
        let budget = Arc::new(Budget::default());
        let permits: Vec<_> = std::iter::from_fn(|| budget.permit()).collect();
        assert_eq!(permits.len(), MAX_CONNECTIONS);
        let bytes: u64 = permits.iter().map(|permit| u64::from(permit.buffer())).sum();
        assert!(bytes <= ALL_BUFFERS + MAX_CONNECTIONS as u64 * u64::from(LEAST_BUFFER));
        assert_eq!(permits[0].buffer(), BUFFER);
        assert!(permits.iter().all(|permit| permit.buffer() >= LEAST_BUFFER));
        drop(permits);
        assert_eq!(budget.permit().unwrap().buffer(), BUFFER);
    }
}
