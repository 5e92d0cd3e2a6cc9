//! Renames of which only a part is known yet.

use super::echo::PlaceHash;
use super::{Events, OwnedPlace};
use protocol::NodeId;
use std::time::Instant;

/// Where an object was when the guest was last told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The name.
    pub at: OwnedPlace,
    /// The same as a number.
    pub hash: PlaceHash,
    /// The object, if it was told.
    pub node: Option<NodeId>,
    /// Whether the guest saw something else under this name before it was hinted.
    pub is_displaced: bool,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// What happened under this name since it was made, if the guest was not told of it.
    pub unborn: Option<Events>,
}

/// An object that left its name.
#[derive(Debug)]
enum Where {
    /// The other half of the rename, with this cookie, is still to come.
    Leaving(u32),
    /// It was moved here, and on, before anyone could look.
    Passed(PlaceHash),
}

#[derive(Debug)]
struct Moving {
    origin: Origin,
    whither: Where,
    until: Instant,
}

/// Objects on their way, oldest first: few, and only for milliseconds.
#[derive(Debug, Default)]
pub struct Moves(Vec<Moving>);

impl Moves {
    /// It left; the rest is to follow under this cookie.
    pub fn leave(&mut self, cookie: u32, origin: Origin, until: Instant) {
        self.0.push(Moving { origin, whither: Where::Leaving(cookie), until });
    }

    /// It is here no longer.
    pub fn fly(&mut self, here: PlaceHash, origin: Origin, until: Instant) {
        self.0.push(Moving { origin, whither: Where::Passed(here), until });
    }

    /// What left under this cookie.
    pub fn arrive(&mut self, cookie: u32) -> Option<Origin> {
        let leaving = |moving: &Moving| matches!(moving.whither, Where::Leaving(c) if c == cookie);
        (cookie != 0).then(|| self.take(leaving)).flatten()
    }

    /// What passed this name.
    pub fn land(&mut self, here: PlaceHash) -> Option<Origin> {
        self.take(|moving| matches!(moving.whither, Where::Passed(place) if place == here))
    }

    /// What left this name, unless under this cookie.
    pub fn take_origin(&mut self, here: PlaceHash, cookie: u32) -> Option<Origin> {
        self.take(|moving| match moving.whither {
            Where::Leaving(other) => moving.origin.hash == here && other != cookie,
            Where::Passed(_) => false,
        })
    }

    /// What has waited long enough.
    pub fn expired(&mut self, now: Instant) -> Vec<Origin> {
        let due = self.0.extract_if(.., |moving| moving.until <= now);
        due.map(|moving| moving.origin).collect()
    }

    /// When the first has waited long enough.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|moving| moving.until).min()
    }

    fn take(&mut self, wanted: impl Fn(&Moving) -> bool) -> Option<Origin> {
        let index = self.0.iter().position(wanted)?;
        Some(self.0.remove(index).origin)
    }
}
