//! How much was heard of names: by that a request that has looked at one finds out whether what it saw
//! is still current when the guest is told of it.
//!
//! ```text
//! request    glance ── look at the name ───────────────────── tell: not current, look again
//! host                          rename ──┐
//! driver                                 └─ hint ── judged ── changes
//! ```
//!
//! Told after the hint was judged, what was seen before it would be taken for something new. The other
//! way round it is no trouble: what was heard of and not looked at yet is seen as it is now.

use super::{Doer, Hint, Kinds};
use crate::observe::Glance;
use crate::reconcile::echo::PlaceHash;
use protocol::NodeId;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names that share a count, by their hash.
const SHARES: usize = 256;

/// Counts of what was heard.
#[derive(Debug)]
pub struct Heard {
    names: [AtomicU32; SHARES],
    anything: AtomicU32,
}

impl Default for Heard {
    fn default() -> Self {
        Self { names: [const { AtomicU32::new(0) }; SHARES], anything: AtomicU32::new(0) }
    }
}

impl Heard {
    /// Of one name, so far.
    pub fn of(&self, dir: NodeId, name: &[u8]) -> Glance {
        let (names, all) = (self.count(dir, name), &self.anything);
        let [of_name, of_all] = [names, all].map(|count| count.load(Ordering::Acquire));
        Glance(u64::from(of_all) << 32 | u64::from(of_name))
    }

    /// A hint is about to be judged. The guest's own work is no news to itself.
    pub fn hint(&self, hint: &Hint) {
        const NAMES: Kinds =
            Kinds::CREATE.union(Kinds::DELETE).union(Kinds::MOVED_FROM).union(Kinds::MOVED_TO);
        if let Some(name) = &hint.name
            && hint.by != Doer::Ourselves
            && hint.kinds.intersects(NAMES)
        {
            self.count(hint.dir.0, name).fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Any name is about to be looked at, and what is found to be told.
    pub fn anything(&self) {
        self.anything.fetch_add(1, Ordering::AcqRel);
    }

    fn count(&self, dir: NodeId, name: &[u8]) -> &AtomicU32 {
        let hash = PlaceHash::of(dir, name).number();
        // The upper bits are the better mixed ones.
        &self.names[(hash >> 56) as usize % SHARES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::WatchKey;

    #[test]
    fn only_what_another_does_to_a_name_makes_what_was_seen_there_old() {
        let heard = Heard::default();
        let of = || heard.of(NodeId(1), b"a");
        let hint = |kinds, by| {
            let (dir, name) = (WatchKey(NodeId(1)), Some(b"a"[..].into()));
            heard.hint(&Hint { dir, name, kinds, cookie: 0, is_dir: false, by });
        };
        let before = of();
        hint(Kinds::MODIFY, Doer::Another);
        hint(Kinds::CREATE, Doer::Ourselves);
        assert_eq!(of(), before);
        for kinds in [Kinds::CREATE, Kinds::DELETE, Kinds::MOVED_FROM, Kinds::MOVED_TO] {
            let before = of();
            hint(kinds, Doer::Unknown);
            assert_ne!(of(), before);
        }
        let before = of();
        heard.anything();
        assert_ne!(of(), before);
    }
}
