//! From hints to changes: compares what the host hints at with what one guest was told, and says
//! only the difference. Pure: hints, states and the time come in, changes go out.
//!
//! # What comes in
//! * What the guest is told ([`told`](Reconciler::told), [`told_attr`](Reconciler::told_attr)): kept
//!   as fingerprints in [`memory`].
//! * What the guest does itself ([`will`](Reconciler::will), [`did`](Reconciler::did)): a record for
//!   each hint that this brings, kept in [`echo`] and consumed once; and the state that it left.
//! * [Hints](crate::watch::Hint), in order, and the states of objects through [`Lookup`].
//! * The time ([`tick`](Reconciler::tick), wanted at [`deadline`](Reconciler::deadline)).
//!
//! # How a hint is judged
//! 1. While an act of the guest's own that touches its name or node is under way, it waits: the act's
//!    record and state are about to come.
//! 2. If a record matches, it is an echo, and dropped.
//! 3. The object is looked at. What equals the state told is no news, *unless an event is owed*: the
//!    guest learned of the state by reading, or with another event, before the hint came; then a
//!    watcher in the guest still has to hear of it.
//! 4. Everything else is a change. In doubt it is delivered rather than lost.
//!
//! A guest that looks at a name before its hint has come sees what is there now. What was there
//! (`displaced`) is what the hint is about.
//!
//! Where the source knows [who did it](crate::watch::Doer), 1 and 2 need no guessing: the guest's own
//! work is dropped, and what another did is said, with the state that is found.
//!
//! # What waits
//! ```text
//! MOVED_FROM  for its MOVED_TO (same cookie); alone, it is Removed         MOVE_WAIT
//! MOVED_TO    whose object has moved on: its next MOVED_FROM takes over    MOVE_WAIT
//! MODIFY      for its CLOSE_WRITE, so that both are one Modified           SETTLE
//! any hint    for the guest's own act on the same name or node             OWN_WAIT
//! ```

pub mod again;
mod displaced;
pub mod echo;
mod judge;
pub mod memory;
mod moves;
mod news;
mod owned;
#[cfg(test)]
mod tests;

pub use owned::{OwnedChange, OwnedPlace};

use crate::observe::{Act, Done};
use crate::watch::{Doer, Hint};
use bitflags::bitflags;
use displaced::Displaced;
use echo::{Echo, Echoes, InFlight, PlaceHash};
use memory::{Memory, Print};
use moves::Moves;
use protocol::{Attr, Entry, NodeId, Place, Time};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long half a rename waits for the other.
pub const MOVE_WAIT: Duration = Duration::from_millis(5);
/// How long a modification waits for the file to be closed.
pub const SETTLE: Duration = Duration::from_micros(500);
/// How long a hint waits for the guest's own act on the same node, and then is taken for its echo.
pub const OWN_WAIT: Duration = Duration::from_millis(20);
/// How long it waits for the guest's own act on the same name, and then is judged as it is.
pub const OWN_NAME_WAIT: Duration = Duration::from_secs(1);
/// How long a name that came and went may be spoken of.
const UNBORN_WAIT: Duration = Duration::from_secs(2);
/// How many such names are remembered.
const MOST_UNBORN: usize = 256;
/// Time between two attempts at the waiting hints, at first; it doubles up to [`OWN_WAIT`].
const RETRY: Duration = Duration::from_micros(100);
/// A state that changed no longer ago than this when it was first told may have hints under way.
const RECENT: i64 = 100_000_000;

bitflags! {
    /// Events that a watcher may be owed.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Events: u8 {
        /// Content changed.
        const CONTENT = 1;
        /// Attributes changed.
        const ATTRS = 1 << 1;
        /// A new file was closed.
        const CLOSE = 1 << 2;
        /// Some of it was hinted under a name that the object had left by then.
        const UNDER_OLD_NAME = 1 << 3;
    }
}

/// What stands under a name on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Looked {
    /// Nothing.
    Absent,
    /// This.
    There {
        /// Its node, if the guest knows one.
        node: Option<NodeId>,
        /// Its state, as the guest would see it.
        attr: Attr,
    },
    /// It cannot be told.
    Failed,
}

/// The host's present state, as the guest would see it.
pub trait Lookup {
    /// Looks, and leaves no trace.
    fn look(&mut self, dir: NodeId, name: &[u8]) -> Looked;
    /// An entry to be sent to the guest: carries a lookup.
    fn entry(&mut self, dir: NodeId, name: &[u8]) -> Option<Entry>;
    /// The same for a node itself.
    fn entry_of(&mut self, node: NodeId) -> Option<Entry>;
    /// How many names a node has, if it can be found by one.
    fn links(&mut self, node: NodeId) -> Option<u32>;
    /// Target of a symbolic link.
    fn target(&mut self, node: NodeId) -> Option<Box<[u8]>>;
}

/// A hinted name.
#[derive(Clone, Copy)]
struct Here<'a> {
    dir: NodeId,
    name: &'a [u8],
    hash: PlaceHash,
    /// Whether it is known for certain that the guest did not do it.
    foreign: bool,
}

impl<'a> Here<'a> {
    fn new(dir: NodeId, name: &'a [u8]) -> Self {
        Self { dir, name, hash: PlaceHash::of(dir, name), foreign: false }
    }

    fn hinted(dir: NodeId, name: &'a [u8], by: Doer) -> Self {
        Self { foreign: by == Doer::Another, ..Self::new(dir, name) }
    }

    fn owned(self) -> OwnedPlace {
        OwnedPlace::new(self.dir, self.name)
    }
}

struct Waiting {
    hint: Hint,
    since: Instant,
}

/// A name that another made, and that led nowhere any more when it was looked at: the guest is told
/// of its beginning together with its end or its new name.
struct Unborn {
    hash: PlaceHash,
    passed: Events,
    until: Instant,
}

struct Settling {
    hash: PlaceHash,
    at: OwnedPlace,
    until: Instant,
}

/// Figures of a reconciler.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Hints of watched directories.
    pub hints: u64,
    /// Of them, dropped for a record of the guest's own work.
    pub echoes: u64,
    /// Changes found.
    pub changes: u64,
    /// Directories compared name by name.
    pub comparisons: u64,
}

/// The state machine of one session.
#[derive(Default)]
pub struct Reconciler {
    memory: Memory,
    echoes: Echoes,
    in_flight: InFlight,
    moves: Moves,
    displaced: Displaced,
    settling: Vec<Settling>,
    unborn: Vec<Unborn>,
    waiting: VecDeque<Waiting>,
    retry: Duration,
    retry_at: Option<Instant>,
    out: Vec<OwnedChange>,
    returned: Vec<NodeId>,
    counters: Counters,
}

/// What the guest is told and does.
impl Reconciler {
    /// The directory is watched from now on.
    pub fn watched(&mut self, dir: NodeId) {
        self.memory.watch(dir);
    }

    /// The directory is watched no longer. Tells whether names of it had been told.
    pub fn unwatched(&mut self, dir: NodeId) -> bool {
        let told = !self.memory.names(dir).is_empty();
        self.memory.unwatch(dir);
        told
    }

    /// Whether the directory is watched.
    pub fn is_watched(&self, dir: NodeId) -> bool {
        self.memory.is_watched(dir)
    }

    /// Directories that came back into sight, to be compared with all that is beneath them: of what
    /// happened elsewhere not all could be looked at.
    pub fn take_returned(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.returned)
    }

    /// How many directories are watched.
    pub fn watched_len(&self) -> usize {
        self.memory.watched_len()
    }

    /// Figures.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The guest is told where a name leads. `wall` is the host's clock.
    pub fn told(&mut self, at: Place<'_>, what: Option<(NodeId, &Attr)>, wall: Time) {
        let here = Here::new(at.parent, at.name.as_bytes());
        let is_own = self.in_flight.touches_name(here.hash);
        let (before, displaced) = match what {
            Some((node, attr)) => self.memory.tell(here.dir, here.name, node, attr),
            None => (None, self.memory.tell_none(here.dir, here.name)),
        };
        if let Some(old) = displaced.filter(|_| !is_own) {
            self.displaced.put(here.hash, old);
        }
        if let Some((node, attr)) = what
            && !is_own
            && !self.in_flight.touches_node(node)
        {
            self.owe(node, before, Print::of(attr), wall);
        }
    }

    /// The guest is told the state of a node.
    pub fn told_attr(&mut self, node: NodeId, attr: &Attr, wall: Time) {
        let print = Print::of(attr);
        let Some(known) = self.memory.node_mut(node) else { return };
        let before = known.print;
        if before.ctime > print.ctime {
            return;
        }
        known.print = print;
        if !self.in_flight.touches_node(node) {
            self.owe(node, Some(before), print, wall);
        }
    }

    /// The guest has read a state: whatever is new in it is still owed as an event.
    fn owe(&mut self, node: NodeId, before: Option<Print>, now: Print, wall: Time) {
        let mut owed = Events::empty();
        match before {
            Some(before) if before.ctime > now.ctime => {}
            Some(before) => {
                owed.set(Events::CONTENT, before.content != now.content);
                owed.set(Events::ATTRS, before.attrs != now.attrs);
            }
            None if wall.nanoseconds().saturating_sub(now.ctime) < RECENT => {
                owed = Events::CONTENT | Events::ATTRS;
            }
            None => {}
        }
        if let Some(known) = self.memory.node_mut(node) {
            known.owed |= owed;
        }
    }

    /// The guest is about to do this.
    pub fn will(&mut self, act: &Act<'_>) {
        let at = |place: &Place<'_>| self.memory.at(place.parent, place.name.as_bytes());
        let nodes = match act {
            Act::Create { .. } | Act::Write { .. } | Act::SetAttr { .. } => [None; 2],
            Act::Link { node, .. } => [Some(*node), None],
            Act::Remove { at: place, .. } => [at(place), None],
            Act::Rename { from, to, .. } => [at(from), at(to)],
        };
        self.in_flight.begin(act, nodes);
    }

    /// It has failed to.
    pub fn failed(&mut self, act: &Act<'_>) {
        self.in_flight.end(act);
    }

    /// It has done so.
    pub fn did(&mut self, now: Instant, act: &Act<'_>, done: &Done<'_>) {
        self.in_flight.end(act);
        match *act {
            Act::Create { at } => {
                self.expect(now, at, Echo::Created);
                if let (Some(node), Some(attr)) = (done.node, done.attr) {
                    self.memory.tell(at.parent, at.name.as_bytes(), node, attr);
                    self.settled(node);
                }
            }
            Act::Link { node, at } => {
                self.expect(now, at, Echo::Created);
                self.memory.rename(at.parent, at.name.as_bytes(), node);
                self.left(node, done.attr);
            }
            Act::Remove { at, .. } => {
                self.expect(now, at, Echo::Removed);
                self.memory.tell_none(at.parent, at.name.as_bytes());
            }
            Act::Rename { from, to, exchange } => self.renamed(now, from, to, exchange, done),
            Act::Write { node } => {
                let Some(known) = self.memory.node_mut(node) else { return };
                if let Some(attr) = done.attr {
                    let print = Print::of(attr);
                    if known.print.ctime <= print.ctime {
                        (known.print.content, known.print.ctime) = (print.content, print.ctime);
                    }
                }
                known.owed.remove(Events::CONTENT | Events::CLOSE);
            }
            Act::SetAttr { node } => {
                self.echoes.expect(Echo::Attrib(node), now);
                self.left(node, done.attr);
                self.settled(node);
            }
        }
    }

    fn expect(&mut self, now: Instant, at: Place<'_>, echo: impl Fn(PlaceHash) -> Echo) {
        if self.memory.is_watched(at.parent) {
            self.echoes.expect(echo(PlaceHash::of(at.parent, at.name.as_bytes())), now);
        }
    }

    fn renamed(
        &mut self,
        now: Instant,
        from: Place<'_>,
        to: Place<'_>,
        exchange: bool,
        done: &Done<'_>,
    ) {
        if done.node.is_some() && done.node == done.replaced {
            return; // Two names of one object: nothing happens, and nothing is hinted.
        }
        self.expect(now, from, Echo::MovedFrom);
        self.expect(now, to, Echo::MovedTo);
        if exchange {
            self.expect(now, to, Echo::MovedFrom);
            self.expect(now, from, Echo::MovedTo);
        }
        let (old, new) = (from.name.as_bytes(), to.name.as_bytes());
        let node = self.memory.tell_none(from.parent, old).or(done.node);
        let replaced = self.memory.tell_none(to.parent, new).or(done.replaced);
        if let Some(node) = node {
            self.memory.rename(to.parent, new, node);
            self.left(node, done.attr);
        }
        if let (true, Some(other)) = (exchange, replaced) {
            self.memory.rename(from.parent, old, other);
        }
    }

    /// The guest's own act left the node in this state.
    fn left(&mut self, node: NodeId, attr: Option<&Attr>) {
        if let (Some(known), Some(attr)) = (self.memory.node_mut(node), attr) {
            let print = Print::of(attr);
            if known.print.ctime <= print.ctime {
                known.print = print;
            }
        }
    }

    /// No event of the node is owed.
    fn settled(&mut self, node: NodeId) {
        if let Some(known) = self.memory.node_mut(node) {
            known.owed = Events::empty();
        }
    }

    /// The guest knows the node no longer.
    pub fn forgotten(&mut self, node: NodeId) {
        self.displaced.forget(node);
        self.memory.forget(node);
    }

    /// The guest knows nothing any more.
    pub fn clear(&mut self) {
        let counters = self.counters;
        *self = Self { counters, ..Self::default() };
    }
}
