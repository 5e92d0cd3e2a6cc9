//! The guest's own work: what it is doing now, and the hints that what it did will bring.
//!
//! Names are compared by hash: a guest that makes two collide confuses only itself.

use crate::observe::Act;
use protocol::{NodeId, Place};
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// A hint that has not come by then will not come.
const EXPIRES: Duration = Duration::from_secs(10);
/// Records kept before the expired ones are looked for.
const SWEEP_AT: usize = 4096;

/// A name in a directory, as a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PlaceHash(u64);

impl PlaceHash {
    /// Of this name in this directory.
    pub fn of(dir: NodeId, name: &[u8]) -> Self {
        let mut hasher = FxHasher::default();
        dir.0.hash(&mut hasher);
        name.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }

    fn at(place: &Place<'_>) -> Self {
        Self::of(place.parent, place.name.as_bytes())
    }
}

/// One hint that is expected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Echo {
    /// The name was made.
    Created(PlaceHash),
    /// The name was removed.
    Removed(PlaceHash),
    /// The name was moved away.
    MovedFrom(PlaceHash),
    /// The name was moved here.
    MovedTo(PlaceHash),
    /// Attributes were set.
    Attrib(NodeId),
    /// The name was moved away by the other half of an exchange, which was told with the first.
    ExchangedFrom(PlaceHash),
    /// The name was moved here by it.
    ExchangedTo(PlaceHash),
}

/// Expected hints, each consumed once.
#[derive(Debug, Default)]
pub struct Echoes {
    expected: FxHashMap<Echo, (u32, Instant)>,
    sweep_at: usize,
}

impl Echoes {
    /// This hint will come.
    pub fn expect(&mut self, echo: Echo, now: Instant) {
        let (count, since) = self.expected.entry(echo).or_insert((0, now));
        *since = now;
        *count = count.saturating_add(1);
        if self.expected.len() > self.sweep_at.max(SWEEP_AT) {
            self.expected.retain(|_, (_, since)| now.duration_since(*since) < EXPIRES);
            self.sweep_at = self.expected.len() * 2;
        }
    }

    /// Whether this hint, which has come, was expected.
    pub fn consume(&mut self, echo: Echo, now: Instant) -> bool {
        let Some((count, since)) = self.expected.get_mut(&echo) else { return false };
        let fresh = now.duration_since(*since) < EXPIRES;
        *count -= 1;
        if *count == 0 || !fresh {
            self.expected.remove(&echo);
        }
        fresh
    }

    /// Hints were lost: none is expected any more.
    pub fn clear(&mut self) {
        self.expected.clear();
    }
}

/// What is known by now of what an act touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Touch {
    Names([Option<PlaceHash>; 2]),
    Content(NodeId),
}

impl Touch {
    fn of(act: &Act<'_>) -> Self {
        match act {
            Act::Create { at } | Act::Link { at, .. } | Act::Remove { at, .. } => {
                Self::Names([Some(PlaceHash::at(at)), None])
            }
            Act::Rename { from, to, .. } => {
                Self::Names([Some(PlaceHash::at(from)), Some(PlaceHash::at(to))])
            }
            Act::Write { node } | Act::SetAttr { node } => Self::Content(*node),
        }
    }
}

/// Acts that have begun and not ended: as many as there are threads that serve the guest.
#[derive(Debug, Default)]
pub struct InFlight(Vec<(Touch, [Option<NodeId>; 2])>);

impl InFlight {
    /// It begins. `nodes` are what its names lead to so far: their link counts and times change
    /// with it.
    pub fn begin(&mut self, act: &Act<'_>, nodes: [Option<NodeId>; 2]) {
        self.0.push((Touch::of(act), nodes));
    }

    /// It has ended.
    pub fn end(&mut self, act: &Act<'_>) {
        let touch = Touch::of(act);
        if let Some(index) = self.0.iter().position(|(other, _)| *other == touch) {
            self.0.swap_remove(index);
        }
    }

    /// Whether one changes what this name leads to.
    pub fn touches_name(&self, place: PlaceHash) -> bool {
        let touches =
            |touch: &Touch| matches!(touch, Touch::Names(places) if places.contains(&Some(place)));
        self.0.iter().any(|(touch, _)| touches(touch))
    }

    /// Whether one changes this node.
    pub fn touches_node(&self, node: NodeId) -> bool {
        let content = Touch::Content(node);
        self.0.iter().any(|(touch, nodes)| *touch == content || nodes.contains(&Some(node)))
    }
}
