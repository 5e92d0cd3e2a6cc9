//! What names led to before the guest looked, and saw something else there: the hint of that change is
//! still to come, and whoever watches the old object has to hear of its end by it.

use super::echo::PlaceHash;
use protocol::NodeId;
use std::time::{Duration, Instant};

/// A hint that has not come by then will not come.
const EXPIRES: Duration = Duration::from_secs(2);
/// How many are remembered: the guest has to look at each within the delay of its hint.
const MOST: usize = 1024;

#[derive(Debug)]
struct Old {
    hash: PlaceHash,
    node: NodeId,
    /// From the first hint of anything on.
    until: Option<Instant>,
}

/// Names whose change the guest saw before it was hinted, oldest first.
#[derive(Debug, Default)]
pub struct Displaced(Vec<Old>);

impl Displaced {
    /// The name led to this node, and the guest sees something else or nothing there. What it led to
    /// when the last hint was judged is what counts, so a second glance changes nothing.
    pub fn put(&mut self, hash: PlaceHash, node: NodeId) {
        if self.at(hash).is_some() {
            return;
        }
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Old { hash, node, until: None });
    }

    /// What was there.
    pub fn at(&self, hash: PlaceHash) -> Option<NodeId> {
        self.0.iter().find(|old| old.hash == hash).map(|old| old.node)
    }

    /// What was there; the hint has come.
    pub fn take(&mut self, hash: PlaceHash) -> Option<NodeId> {
        let index = self.0.iter().position(|old| old.hash == hash)?;
        Some(self.0.remove(index).node)
    }

    /// The guest knows the node no longer.
    pub fn forget(&mut self, node: NodeId) {
        self.0.retain(|old| old.node != node);
    }

    /// Some time has passed.
    pub fn pass(&mut self, now: Instant) {
        self.0.retain_mut(|old| *old.until.get_or_insert(now + EXPIRES) > now);
    }
}
