//! Standard input on its way to the guest's command, no further ahead than the guest allows.

use super::guest::Orders;
use protocol::Payload;
use protocol::guest::{INPUT_WINDOW, MAX_CHUNK, Order};
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// How much may be sent.
pub struct Window {
    room: Mutex<usize>,
    grown: Condvar,
}

impl Default for Window {
    fn default() -> Self {
        Self { room: Mutex::new(INPUT_WINDOW), grown: Condvar::new() }
    }
}

impl Window {
    /// The guest has taken so much. It cannot make the window larger than it was.
    pub fn grow(&self, bytes: usize) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        *room = room.saturating_add(bytes).min(INPUT_WINDOW);
        self.grown.notify_all();
    }

    /// Waits for room, and takes up to `wanted` of it.
    fn take(&self, wanted: usize) -> usize {
        let room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room =
            self.grown.wait_while(room, |room| *room == 0).unwrap_or_else(PoisonError::into_inner);
        let taken = wanted.min(*room);
        *room -= taken;
        taken
    }
}

/// Starts the thread that reads it. It ends with its input, or the process.
pub fn forward(orders: Arc<Orders>, window: Arc<Window>) -> io::Result<()> {
    let forward = move || {
        let mut chunk = vec![0; MAX_CHUNK];
        loop {
            let len = match io::stdin().read(&mut chunk) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            let mut rest = chunk.get(..len).unwrap_or_default();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(window.take(rest.len()));
                if orders.send(&Order::Stdin(Payload(now))).is_err() {
                    return;
                }
                rest = later;
            }
            if len == 0 {
                let _ = orders.send(&Order::Stdin(Payload(&[])));
                return;
            }
        }
    };
    thread::Builder::new().name("osxfs-input".into()).spawn(forward).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_waits_for_room_and_a_guest_cannot_make_more_than_there_was() {
        let window = Arc::new(Window::default());
        assert_eq!(window.take(10), 10);
        assert_eq!(window.take(usize::MAX), INPUT_WINDOW - 10);
        let waiting = thread::spawn({
            let window = window.clone();
            move || window.take(100)
        });
        window.grow(7);
        assert_eq!(waiting.join().unwrap(), 7);
        window.grow(usize::MAX);
        assert_eq!(window.take(usize::MAX), INPUT_WINDOW);
    }
}
