//! A queue at work: takes checked chains out, gives them back, and asks for no more notifications than
//! are needed.
//!
//! Notifications are asked for only when the queue was found empty. Only [`TURN`] chains are taken out
//! before the other queues and sources of the device have their turn, so a driver that never stops
//! sending cannot keep a device from stopping.

use super::chain::Chain;
use super::{Broken, Signal};
use crate::memory::Memory;
use std::sync::Arc;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress};

/// Chains that are taken out of a queue in one go.
pub const TURN: u32 = 256;

/// A queue of an active device.
pub struct Ring {
    index: u16,
    queue: Queue,
    memory: Memory,
    signal: Arc<dyn Signal>,
    /// Whether the driver has been told that notifications are of no use.
    quiet: bool,
    /// Chains that may still be taken out in this turn.
    left: u32,
    /// Whether more was asked for than that.
    cut_short: bool,
    /// Whether something was given back that the driver may not know of.
    owed: bool,
    /// Whether several were given back at once, of which the queue counts one.
    uncounted: bool,
}

impl Ring {
    pub(super) fn new(index: u16, queue: Queue, memory: Memory, signal: Arc<dyn Signal>) -> Self {
        Self {
            index,
            queue,
            memory,
            signal,
            quiet: false,
            left: TURN,
            cut_short: false,
            owed: false,
            uncounted: false,
        }
    }

    /// The queue itself, for an owner that lends it for a turn only (vhost-user).
    pub(super) fn into_queue(self) -> Queue {
        self.queue
    }

    /// Whether the driver uses it.
    pub fn is_ready(&self) -> bool {
        self.queue.ready()
    }

    /// How many chains it can hold at most.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// The next request; none if there is none, or in this turn no more.
    ///
    /// # Errors
    /// The driver broke a rule.
    pub fn pop(&mut self) -> Result<Option<Chain>, Broken> {
        if !self.queue.ready() {
            return Ok(None);
        }
        if self.left == 0 {
            self.cut_short = true;
            return Ok(None);
        }
        // A driver adds a chain at the very moment in which the queue was found empty; only a hostile
        // one does so again and again, and has to wait for the next turn.
        for _ in 0..2 {
            let descriptors = self.queue.iter(&self.memory).map_err(|_| Broken::Index)?.next();
            if let Some(descriptors) = descriptors {
                self.left -= 1;
                if !self.quiet {
                    self.queue.disable_notification(&self.memory).map_err(|_| Broken::Memory)?;
                    self.quiet = true;
                }
                return Chain::check(descriptors, &self.memory).map(Some);
            }
            self.quiet = false;
            if !self.queue.enable_notification(&self.memory).map_err(|_| Broken::Memory)? {
                return Ok(None);
            }
        }
        self.cut_short = true;
        Ok(None)
    }

    /// Puts the chain that was taken out last back: there is no use for it yet, and
    /// [`pop`](Self::pop) will bring it again.
    pub fn unpop(&mut self) {
        self.queue.go_to_previous_position();
        self.left += 1;
    }

    /// Gives a chain back, of whose writable part `written` bytes were filled.
    ///
    /// # Errors
    /// The chain's head is none of the queue.
    pub fn complete(&mut self, head: u16, written: usize) -> Result<(), Broken> {
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        self.owed = true;
        self.queue.add_used(&self.memory, head, written).map_err(|_| Broken::Head { head })
    }

    /// Gives chains (head, bytes written) back that belong together: the driver sees all of them or none.
    ///
    /// # Errors
    /// A chain's head is none of the queue, or they are more than it has.
    pub fn complete_together(&mut self, chains: &[(u16, usize)]) -> Result<(), Broken> {
        let Some((&(last, last_written), before)) = chains.split_last() else { return Ok(()) };
        let size = self.queue.size();
        if chains.len() > usize::from(size) {
            return Err(Broken::Head { head: last });
        }
        // The entries of the used ring (virtio 1.2, 2.7.8) are written first; its index, which makes
        // them visible, moves with the last one.
        let mut next = self.queue.next_used();
        for &(head, written) in before {
            if head >= size {
                return Err(Broken::Head { head });
            }
            let written = u32::try_from(written).unwrap_or(u32::MAX);
            let entry = u64::from(head) | u64::from(written) << 32;
            let offset = 4 + 8 * u64::from(next % size);
            let place = GuestAddress(self.queue.used_ring()).checked_add(offset);
            let place = place.ok_or(Broken::Memory)?;
            self.memory.write_obj(entry.to_le(), place).map_err(|_| Broken::Memory)?;
            next = next.wrapping_add(1);
        }
        self.queue.set_next_used(next);
        self.uncounted |= !before.is_empty();
        self.complete(last, last_written)
    }

    /// Tells the driver of what was given back, if it wants to know. Done by the worker after each
    /// turn; earlier if the rest of the turn takes long.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn flush(&mut self) -> Result<(), Broken> {
        let uncounted = std::mem::take(&mut self.uncounted);
        if std::mem::take(&mut self.owed)
            && (self.queue.needs_notification(&self.memory).map_err(|_| Broken::Memory)?
                || uncounted)
        {
            self.signal.used(self.index);
        }
        Ok(())
    }

    /// Begins a turn.
    pub(super) fn begin_turn(&mut self) {
        self.left = TURN;
        self.cut_short = false;
    }

    /// Whether the turn ended with requests possibly left.
    pub(super) fn is_cut_short(&self) -> bool {
        self.cut_short
    }
}
