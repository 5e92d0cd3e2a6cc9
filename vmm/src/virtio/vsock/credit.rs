//! How much one end may send: both sides of the bookkeeping. All counts run modulo 2³².
//!
//! A receiver tells, in every packet, the size of its buffer (`buf_alloc`) and how much has left it
//! since the connection began (`fwd_cnt`). So the sender knows what is still in it.
//!
//! Newer guests (Linux 6.12.92 and its contemporaries) count more than the protocol says: each packet
//! that waits in their buffer costs a few hundred bytes besides its payload, and a connection that
//! exceeds the buffer by that is reset. [`Window`] therefore remembers where each packet ended that the
//! guest still holds, charges for it, and rather waits than sends a sliver.

use std::collections::VecDeque;

/// What a packet costs a guest besides its payload: more than `SKB_TRUESIZE(0)` of 64-bit Linux.
const PACKET_COST: u32 = 768;
/// More is never in flight to a guest, whatever it offers.
const MAX_WINDOW: u32 = 8 << 20;
/// With less than this left for the peer, it is told at once what has become free.
const LOW: u32 = 4 << 10;
/// While the guest has much to read, less than this is not worth a packet.
const SLIVER: u32 = 4 << 10;

/// What the guest has room for.
#[derive(Debug, Default)]
pub struct Window {
    size: u32,
    /// All that was sent, and what of it has left the guest's buffer.
    sent: u32,
    forwarded: u32,
    /// The value of `sent` at the end of each packet that may still be in the guest's buffer.
    ends: VecDeque<u32>,
}

impl Window {
    /// Hears what a packet of the guest tells. A count that cannot be is old, or a lie: either way it
    /// changes nothing. Tells whether there is more room than before.
    pub fn update(&mut self, buf_alloc: u32, fwd_cnt: u32) -> bool {
        let before = self.free();
        self.size = buf_alloc;
        if fwd_cnt.wrapping_sub(self.forwarded) <= self.in_flight() {
            self.forwarded = fwd_cnt;
            let in_flight = self.in_flight();
            // Packets end in order, so the first that is still there ends the search.
            while let Some(&end) = self.ends.front() {
                let held = self.sent.wrapping_sub(end) < in_flight;
                if held {
                    break;
                }
                self.ends.pop_front();
            }
        }
        self.free() > before
    }

    /// Bytes that the guest has been sent and has not told to be gone.
    pub fn in_flight(&self) -> u32 {
        self.sent.wrapping_sub(self.forwarded)
    }

    /// The size of the guest's buffer.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The longest payload that may be sent now.
    pub fn free(&self) -> u32 {
        let size = self.size.min(MAX_WINDOW);
        if self.in_flight() == 0 {
            // A packet that fills a tiny buffer would leave nothing for its own cost.
            return size.saturating_sub(PACKET_COST).max(size.div_ceil(2));
        }
        let packets = u32::try_from(self.ends.len()).unwrap_or(u32::MAX).saturating_add(1);
        let charged = self.in_flight().saturating_add(packets.saturating_mul(PACKET_COST));
        let free = size.saturating_sub(charged);
        if free < SLIVER.min(size / 4) { 0 } else { free }
    }

    /// A packet of `len` bytes was sent; `len` is at most [`free`](Self::free).
    pub fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
        self.ends.push_back(self.sent);
    }
}

/// What the guest may send us.
#[derive(Debug)]
pub struct Allowance {
    size: u32,
    received: u32,
    forwarded: u32,
    told: u32,
}

/// The guest sent more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded;

impl Allowance {
    /// A buffer of `size` bytes.
    pub fn new(size: u32) -> Self {
        Self { size, received: 0, forwarded: 0, told: 0 }
    }

    /// The size of the buffer.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Bytes that came and have not been passed on.
    pub fn held(&self) -> u32 {
        self.received.wrapping_sub(self.forwarded)
    }

    /// `len` bytes came.
    ///
    /// # Errors
    /// They do not fit.
    pub fn receive(&mut self, len: u32) -> Result<(), Exceeded> {
        if len > self.size.saturating_sub(self.held()) {
            return Err(Exceeded);
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// `len` bytes were passed on.
    pub fn forward(&mut self, len: u32) {
        self.forwarded = self.forwarded.wrapping_add(len.min(self.held()));
    }

    /// What has become free and the guest does not know: after how much of it it is to be told, if its
    /// own buffer has `peer` bytes. Linux sends no more than its own buffer's size ahead, however large
    /// ours is, so the smaller one counts.
    pub fn step(&self, peer: u32) -> u32 {
        (self.size.min(peer) / 4).max(1)
    }

    /// Whether the guest must be told.
    pub fn is_due(&self, peer: u32) -> bool {
        let untold = self.forwarded.wrapping_sub(self.told);
        let known = self.received.wrapping_sub(self.told);
        let left = self.size.min(peer).saturating_sub(known);
        untold > 0 && (untold >= self.step(peer) || left < LOW)
    }

    /// A packet tells it: what it is to say.
    pub fn tell(&mut self) -> u32 {
        self.told = self.forwarded;
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: u32, start: u32) -> Window {
        Window { size, sent: start, forwarded: start, ends: VecDeque::new() }
    }

    #[test]
    fn what_the_guest_has_taken_is_free_again_across_the_wrap() {
        let start = u32::MAX - 5000;
        let mut window = window(64 << 10, start);
        window.send(4000);
        window.send(4000);
        assert_eq!(window.in_flight(), 8000);
        assert!(window.update(64 << 10, start.wrapping_add(4000)));
        assert_eq!((window.in_flight(), window.ends.len()), (4000, 1));
        assert!(window.update(64 << 10, start.wrapping_add(8000)));
        assert_eq!((window.in_flight(), window.ends.len()), (0, 0));
    }

    #[test]
    fn a_packet_that_was_taken_in_part_is_still_held() {
        let mut window = window(64 << 10, 0);
        window.send(4000);
        window.update(64 << 10, 3999);
        assert_eq!((window.in_flight(), window.ends.len()), (1, 1));
    }

    #[test]
    fn an_old_or_impossible_count_changes_nothing() {
        let mut window = window(64 << 10, 0);
        window.send(4000);
        window.update(64 << 10, 3000);
        for wrong in [2000, 4001, u32::MAX, 1 << 31] {
            assert!(!window.update(64 << 10, wrong));
            assert_eq!(window.in_flight(), 1000, "{wrong}");
        }
    }

    #[test]
    fn small_packets_never_exceed_what_newer_guests_count() {
        let size = 256 << 10;
        let mut window = window(size, 0);
        let mut packets = 0;
        while window.free() > 0 {
            window.send(1);
            packets += 1;
        }
        // `(skb_queue_len + 1) * SKB_TRUESIZE(0) + bytes > buf_alloc` resets the connection.
        assert!((packets + 1) * 576 + packets <= size);
        assert!(packets > 100);
    }

    #[test]
    fn a_tiny_buffer_lets_something_through() {
        for size in 1..2000 {
            let free = window(size, 0).free();
            assert!(free >= 1 && free <= size, "{size}: {free}");
        }
        assert_eq!(window(0, 0).free(), 0);
    }

    #[test]
    fn a_guest_that_shrinks_its_buffer_gets_nothing_until_it_is_empty_enough() {
        let mut window = window(64 << 10, 0);
        window.send(32 << 10);
        window.update(16 << 10, 0);
        assert_eq!(window.free(), 0);
        window.update(16 << 10, 32 << 10);
        assert!(window.free() > 0);
    }

    #[test]
    fn a_guest_that_has_less_than_four_kilobytes_left_is_told() {
        let mut allowance = Allowance::new(64 << 10);
        allowance.receive((64 << 10) - 4000).unwrap();
        assert!(!allowance.is_due(1 << 20));
        allowance.forward(1);
        assert!(allowance.is_due(1 << 20));
        allowance.tell();
        assert!(!allowance.is_due(1 << 20));
    }

    #[test]
    fn a_guest_with_a_small_buffer_is_told_although_ours_is_large() {
        let mut allowance = Allowance::new(1 << 20);
        allowance.receive(8 << 10).unwrap();
        allowance.forward(8 << 10);
        assert!(!allowance.is_due(1 << 20));
        assert!(allowance.is_due(8 << 10));
    }

    #[test]
    fn more_than_the_buffer_holds_is_refused_across_the_wrap() {
        let start = u32::MAX - 10;
        let mut allowance = Allowance { size: 100, received: start, forwarded: start, told: start };
        assert_eq!(allowance.receive(60), Ok(()));
        assert_eq!(allowance.receive(41), Err(Exceeded));
        assert_eq!(allowance.receive(40), Ok(()));
        allowance.forward(50);
        assert_eq!(allowance.held(), 50);
        assert_eq!(allowance.receive(50), Ok(()));
        assert_eq!(allowance.receive(1), Err(Exceeded));
    }
}
