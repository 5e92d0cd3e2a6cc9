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

    /// Tells the driver of what was given back, if it wants to know. Done by the worker after each
    /// turn; earlier if the rest of the turn takes long.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn flush(&mut self) -> Result<(), Broken> {
        if std::mem::take(&mut self.owed)
            && self.queue.needs_notification(&self.memory).map_err(|_| Broken::Memory)?
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
