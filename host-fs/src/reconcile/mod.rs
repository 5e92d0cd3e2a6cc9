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
//! # What waits
//! ```text
//! MOVED_FROM  for its MOVED_TO (same cookie); alone, it is Removed         MOVE_WAIT
//! MOVED_TO    whose object has moved on: its next MOVED_FROM takes over    MOVE_WAIT
//! MODIFY      for its CLOSE_WRITE, so that both are one Modified           SETTLE
//! any hint    for the guest's own act on the same name or node             OWN_WAIT
//! ```

pub mod echo;
pub mod memory;
mod moves;
mod owned;
#[cfg(test)]
mod tests;

pub use owned::{OwnedChange, OwnedPlace};

use crate::observe::{Act, Done};
use crate::watch::{Hint, Kinds};
use bitflags::bitflags;
use echo::{Echo, Echoes, InFlight, PlaceHash};
use memory::{Memory, Print};
use moves::{Moves, Origin};
use protocol::{Attr, Entry, NodeId, Place, Time, mode};
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
    /// Target of a symbolic link.
    fn target(&mut self, node: NodeId) -> Option<Box<[u8]>>;
}

/// A hinted name.
#[derive(Clone, Copy)]
struct Here<'a> {
    dir: NodeId,
    name: &'a [u8],
    hash: PlaceHash,
}

impl<'a> Here<'a> {
    fn new(dir: NodeId, name: &'a [u8]) -> Self {
        Self { dir, name, hash: PlaceHash::of(dir, name) }
    }

    fn owned(self) -> OwnedPlace {
        OwnedPlace::new(self.dir, self.name)
    }
}

struct Waiting {
    hint: Hint,
    since: Instant,
}

/// A name that another made, and that led nowhere any more when it was looked at: the guest was not
/// told. If it was removed, its end is no news; if it was renamed, its beginning still is.
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
    settling: Vec<Settling>,
    unborn: Vec<Unborn>,
    waiting: VecDeque<Waiting>,
    retry: Duration,
    retry_at: Option<Instant>,
    out: Vec<OwnedChange>,
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
        let Some((node, attr)) = what else {
            self.memory.tell_none(here.dir, here.name);
            return;
        };
        let before = self.memory.tell(here.dir, here.name, node, attr);
        if self.in_flight.touches_name(here.hash) || self.in_flight.touches_node(node) {
            return;
        }
        self.owe(node, before, Print::of(attr), wall);
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
            None if memory::nanoseconds(wall).saturating_sub(now.ctime) < RECENT => {
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

    /// It has done so. `content` is the state of a written file, read after the write.
    pub fn did(&mut self, now: Instant, act: &Act<'_>, done: &Done<'_>, content: Option<&Attr>) {
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
                if let Some(attr) = content {
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
        self.memory.forget(node);
    }

    /// The guest knows nothing any more.
    pub fn clear(&mut self) {
        let counters = self.counters;
        *self = Self { counters, ..Self::default() };
    }
}

/// What the host hints.
impl Reconciler {
    /// Takes the changes found so far.
    pub fn take(&mut self) -> Vec<OwnedChange> {
        std::mem::take(&mut self.out)
    }

    /// When [`tick`](Self::tick) wants to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let settling = self.settling.iter().map(|settling| settling.until).min();
        [self.retry_at, self.moves.deadline(), settling].into_iter().flatten().min()
    }

    /// A hint has come.
    pub fn hint(&mut self, now: Instant, hint: Hint, lookup: &mut dyn Lookup) {
        if !self.memory.is_watched(hint.dir.0) {
            return;
        }
        self.counters.hints += 1;
        if self.waiting.iter().any(|before| follows(&hint, &before.hint)) || self.is_own(&hint) {
            if self.waiting.is_empty() {
                self.retry = RETRY;
                self.retry_at = Some(now + RETRY);
            }
            self.waiting.push_back(Waiting { hint, since: now });
            return;
        }
        self.judge(now, &hint, lookup);
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, lookup: &mut dyn Lookup) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_waiting(now, lookup);
        }
        for origin in self.moves.expired(now) {
            self.moved_out(origin);
        }
        while let Some(index) = self.settling.iter().position(|settling| settling.until <= now) {
            let at = self.settling.remove(index).at;
            self.emit_modified(Here::new(at.parent, &at.name), lookup);
        }
    }

    fn retry_waiting(&mut self, now: Instant, lookup: &mut dyn Lookup) {
        let mut still: VecDeque<Waiting> = VecDeque::new();
        while let Some(waiting) = self.waiting.pop_front() {
            let hint = &waiting.hint;
            let waited = now.duration_since(waiting.since);
            if still.iter().any(|before| follows(hint, &before.hint)) {
                still.push_back(waiting);
            } else if !self.is_own(hint) || waited >= OWN_NAME_WAIT {
                self.judge(now, hint, lookup);
            } else if waited < OWN_WAIT || self.is_own_name(hint) {
                still.push_back(waiting);
            } else {
                // The guest has been writing to it all the time.
                self.counters.echoes += 1;
            }
        }
        self.waiting = still;
        self.retry = (self.retry * 2).min(OWN_WAIT);
        self.retry_at = (!self.waiting.is_empty()).then(|| now + self.retry);
    }

    fn is_own_name(&self, hint: &Hint) -> bool {
        let name = hint.name.as_deref().unwrap_or_default();
        self.in_flight.touches_name(PlaceHash::of(hint.dir.0, name))
    }

    /// Whether an act of the guest's own that is under way may be what is hinted.
    fn is_own(&self, hint: &Hint) -> bool {
        let Some(name) = hint.name.as_deref() else {
            return self.in_flight.touches_node(hint.dir.0);
        };
        let content = Kinds::MODIFY | Kinds::CLOSE_WRITE | Kinds::ATTRIB;
        self.is_own_name(hint)
            || hint.kinds.intersects(content)
                && self
                    .memory
                    .at(hint.dir.0, name)
                    .is_some_and(|node| self.in_flight.touches_node(node))
    }

    fn judge(&mut self, now: Instant, hint: &Hint, lookup: &mut dyn Lookup) {
        let kinds = hint.kinds;
        let Some(name) = hint.name.as_deref() else {
            // A directory's parent tells of it, and the root has none.
            if kinds.contains(Kinds::SELF_ATTRIB) {
                self.judge_self(now, hint.dir.0, lookup);
            }
            return;
        };
        let here = Here::new(hint.dir.0, name);
        // Whatever comes for a name that has just moved away is about another object.
        if let Some(origin) = self.moves.take_origin(here.hash, hint.cookie) {
            self.moved_out(origin);
        }
        if kinds.contains(Kinds::DELETE) {
            self.judge_delete(now, here, hint.is_dir, lookup);
        }
        if kinds.contains(Kinds::MOVED_FROM) {
            self.judge_moved_from(now, here, hint);
        }
        if kinds.contains(Kinds::CREATE) {
            self.judge_create(now, here, lookup);
        }
        if kinds.contains(Kinds::MOVED_TO) {
            self.judge_moved_to(now, here, hint.cookie, lookup);
        }
        if kinds.intersects(Kinds::MODIFY | Kinds::CLOSE_WRITE) {
            self.judge_content(now, here, kinds, lookup);
        }
        if kinds.contains(Kinds::ATTRIB) {
            self.judge_attrib(now, here, lookup);
        }
    }

    fn echo(&mut self, now: Instant, echo: Echo) -> bool {
        let is_echo = self.echoes.consume(echo, now);
        self.counters.echoes += u64::from(is_echo);
        is_echo
    }

    fn push(&mut self, change: OwnedChange) {
        self.counters.changes += 1;
        self.out.push(change);
    }

    fn is_dir(&self, node: NodeId) -> bool {
        self.memory.node(node).is_some_and(|known| known.is_dir)
    }

    fn judge_delete(
        &mut self,
        now: Instant,
        here: Here<'_>,
        is_dir: bool,
        lookup: &mut dyn Lookup,
    ) {
        self.unsettle(here);
        if self.echo(now, Echo::Removed(here.hash)) {
            return;
        }
        if let Some(origin) = self.moves.land(here.hash) {
            return self.moved_out(origin);
        }
        if self.take_unborn(here).is_some() {
            return;
        }
        let node = match self.memory.at(here.dir, here.name) {
            // The guest knows the successor already: what was removed is something before it.
            Some(told) if self.stands_at(here, told, lookup) => NodeId(0),
            Some(told) => {
                self.memory.tell_none(here.dir, here.name);
                told
            }
            None => NodeId(0),
        };
        self.push(OwnedChange::Removed { at: here.owned(), node, is_dir });
    }

    fn stands_at(&self, here: Here<'_>, node: NodeId, lookup: &mut dyn Lookup) -> bool {
        let looked = lookup.look(here.dir, here.name);
        matches!(looked, Looked::There { node: Some(there), .. } if there == node)
    }

    fn judge_create(&mut self, now: Instant, here: Here<'_>, lookup: &mut dyn Lookup) {
        if self.echo(now, Echo::Created(here.hash)) {
            return;
        }
        if let Some(origin) = self.moves.land(here.hash) {
            self.moved_out(origin);
        }
        // Its writing, its closing and its mode may be part of the state already.
        if !self.emit_created(here, Events::CONTENT | Events::ATTRS | Events::CLOSE, lookup) {
            self.unborn(now, here);
        }
    }

    fn unborn(&mut self, now: Instant, here: Here<'_>) {
        self.unborn.retain(|name| name.until > now && name.hash != here.hash);
        if self.unborn.len() < MOST_UNBORN {
            let until = now + UNBORN_WAIT;
            self.unborn.push(Unborn { hash: here.hash, passed: Events::empty(), until });
        }
    }

    fn take_unborn(&mut self, here: Here<'_>) -> Option<Events> {
        let index = self.unborn.iter().position(|name| name.hash == here.hash)?;
        Some(self.unborn.swap_remove(index).passed)
    }

    fn judge_moved_from(&mut self, now: Instant, here: Here<'_>, hint: &Hint) {
        self.unsettle(here);
        if self.echo(now, Echo::MovedFrom(here.hash)) {
            return;
        }
        let unborn = self.take_unborn(here);
        let origin = self.moves.land(here.hash).unwrap_or_else(|| Origin {
            at: here.owned(),
            hash: here.hash,
            node: self.memory.at(here.dir, here.name),
            is_dir: hint.is_dir,
            unborn,
        });
        if hint.cookie == 0 {
            self.moved_out(origin);
        } else {
            self.moves.leave(hint.cookie, origin, now + MOVE_WAIT);
        }
    }

    fn judge_moved_to(
        &mut self,
        now: Instant,
        here: Here<'_>,
        cookie: u32,
        lookup: &mut dyn Lookup,
    ) {
        let origin = self.moves.arrive(cookie);
        if self.echo(now, Echo::MovedTo(here.hash)) {
            return;
        }
        if let Some(overwritten) = self.moves.land(here.hash) {
            self.moved_out(overwritten);
        }
        let Some(origin) = origin else {
            if !self.emit_created(here, Events::empty(), lookup) {
                self.unborn(now, here);
            }
            return;
        };
        match lookup.look(here.dir, here.name) {
            Looked::Absent => self.moves.fly(here.hash, origin, now + MOVE_WAIT),
            Looked::Failed => self.doubt(here.dir),
            Looked::There { node, .. } if origin.node.is_some() && node != origin.node => {
                // Something else stands there by now; its own hint follows, or was this one.
                let from = Here::new(origin.at.parent, &origin.at.name);
                let is_back = origin.node.is_some_and(|node| self.stands_at(from, node, lookup));
                if !is_back {
                    self.moved_out(origin);
                }
                self.emit_created(here, Events::empty(), lookup);
            }
            Looked::There { .. } => {
                let other = self.exchanged(&origin, here, lookup);
                let from = origin.at.clone();
                self.emit_renamed(origin, here, lookup);
                if let Some(other) = other {
                    let from = Here::new(from.parent, &from.name);
                    self.echoes.expect(Echo::MovedFrom(here.hash), now);
                    self.echoes.expect(Echo::MovedTo(from.hash), now);
                    self.emit_renamed(other, from, lookup);
                }
            }
        }
    }

    /// Whether what was under the new name is under the old one now: then the two were exchanged,
    /// and the hints of the other half follow.
    fn exchanged(&self, origin: &Origin, to: Here<'_>, lookup: &mut dyn Lookup) -> Option<Origin> {
        let other = self.memory.at(to.dir, to.name).filter(|told| Some(*told) != origin.node)?;
        let from = Here::new(origin.at.parent, &origin.at.name);
        self.stands_at(from, other, lookup).then(|| Origin {
            at: to.owned(),
            hash: to.hash,
            node: Some(other),
            is_dir: self.is_dir(other),
            unborn: None,
        })
    }

    fn judge_content(
        &mut self,
        now: Instant,
        here: Here<'_>,
        kinds: Kinds,
        lookup: &mut dyn Lookup,
    ) {
        let (node, attr) = match lookup.look(here.dir, here.name) {
            Looked::There { node, attr } => (node, attr),
            Looked::Absent => {
                if let Some(unborn) = self.unborn.iter_mut().find(|name| name.hash == here.hash) {
                    unborn.passed |= Events::CONTENT;
                }
                self.passed(here);
                return;
            }
            Looked::Failed => return self.doubt(here.dir),
        };
        let known = node.and_then(|node| self.memory.node(node));
        let owed = known.map_or(Events::empty(), |known| known.owed);
        let differs = known.is_none_or(|known| known.print.content != Print::of(&attr).content);
        if kinds.contains(Kinds::CLOSE_WRITE) {
            let owes = owed.contains(Events::CLOSE)
                || kinds.contains(Kinds::MODIFY) && owed.contains(Events::CONTENT);
            if self.unsettle(here) || differs || owes {
                self.emit_modified(here, lookup);
            }
        } else if differs || owed.contains(Events::CONTENT) {
            let is_settling = self.settling.iter().any(|settling| settling.hash == here.hash);
            if !is_settling {
                let (at, until) = (here.owned(), now + SETTLE);
                self.settling.push(Settling { hash: here.hash, at, until });
            }
        }
    }

    /// No modification waits here any more. Tells whether one did.
    fn unsettle(&mut self, here: Here<'_>) -> bool {
        let before = self.settling.len();
        self.settling.retain(|settling| settling.hash != here.hash);
        self.settling.len() != before
    }

    fn judge_attrib(&mut self, now: Instant, here: Here<'_>, lookup: &mut dyn Lookup) {
        match lookup.look(here.dir, here.name) {
            Looked::There { node: Some(node), attr } => {
                if self.is_attrib_news(now, node, &attr) {
                    self.emit_attrib(here, lookup);
                }
            }
            Looked::There { node: None, .. } => self.emit_attrib(here, lookup),
            Looked::Absent => self.passed(here),
            Looked::Failed => self.doubt(here.dir),
        }
    }

    fn is_attrib_news(&mut self, now: Instant, node: NodeId, attr: &Attr) -> bool {
        let print = Print::of(attr);
        let Some(known) = self.memory.node(node) else { return true };
        if known.print.attrs != print.attrs || known.owed.contains(Events::ATTRS) {
            return true;
        }
        let same = known.print.ctime == print.ctime;
        if self.echo(now, Echo::Attrib(node)) {
            if let Some(known) = self.memory.node_mut(node) {
                known.print.ctime = print.ctime;
            }
            return false;
        }
        !same
    }

    fn judge_self(&mut self, now: Instant, dir: NodeId, lookup: &mut dyn Lookup) {
        if self.memory.node(dir).is_some_and(|known| self.memory.is_watched(known.parent)) {
            return;
        }
        if self.echo(now, Echo::Attrib(dir)) {
            return;
        }
        if let Some(entry) = lookup.entry_of(dir) {
            self.push(OwnedChange::Attrib { at: None, entry });
        }
    }
}

/// What is found to be news.
impl Reconciler {
    fn doubt(&mut self, dir: NodeId) {
        self.push(OwnedChange::Doubt { dir });
    }

    /// Remembers an entry as told with an event; the events in `owed` may still be to come.
    fn tell(&mut self, here: Here<'_>, entry: &Entry, settles: Events, owed: Events) {
        let before = self.memory.tell(here.dir, here.name, entry.node, &entry.attr);
        let print = Print::of(&entry.attr);
        if let Some(known) = self.memory.node_mut(entry.node) {
            known.print = print;
            known.owed.remove(settles);
            known.owed |= owed;
            if let Some(before) = before {
                let mut passed = Events::empty();
                passed.set(Events::CONTENT, before.content != print.content);
                passed.set(Events::ATTRS, before.attrs != print.attrs);
                known.owed |= passed - settles;
            }
        }
    }

    /// Tells whether there is anything. The events in `owed` may still be to come, unless it is but
    /// another name of something old.
    fn emit_created(&mut self, here: Here<'_>, owed: Events, lookup: &mut dyn Lookup) -> bool {
        let Some(entry) = lookup.entry(here.dir, here.name) else { return false };
        if let Some(told) = self.memory.at(here.dir, here.name).filter(|told| *told != entry.node) {
            let is_dir = self.is_dir(told);
            self.push(OwnedChange::Removed { at: here.owned(), node: told, is_dir });
        }
        let is_link = entry.attr.kind() == mode::IFLNK;
        let target = if is_link { lookup.target(entry.node) } else { None };
        let is_old = !entry.attr.is_dir() && entry.attr.nlink > 1;
        let owed = if is_old { Events::empty() } else { owed };
        self.tell(here, &entry, Events::empty(), owed);
        self.push(OwnedChange::Created { at: here.owned(), entry, target });
        true
    }

    fn emit_modified(&mut self, here: Here<'_>, lookup: &mut dyn Lookup) {
        let Some(entry) = lookup.entry(here.dir, here.name) else { return };
        self.tell(here, &entry, Events::CONTENT | Events::CLOSE, Events::empty());
        self.push(OwnedChange::Modified { at: here.owned(), entry });
    }

    fn emit_attrib(&mut self, here: Here<'_>, lookup: &mut dyn Lookup) {
        let Some(entry) = lookup.entry(here.dir, here.name) else { return };
        self.tell(here, &entry, Events::ATTRS, Events::empty());
        self.push(OwnedChange::Attrib { at: Some(here.owned()), entry });
    }

    fn emit_renamed(&mut self, origin: Origin, to: Here<'_>, lookup: &mut dyn Lookup) {
        let Some(entry) = lookup.entry(to.dir, to.name) else { return self.moved_out(origin) };
        let from = Here::new(origin.at.parent, &origin.at.name);
        if self.memory.at(from.dir, from.name) == Some(entry.node) {
            self.memory.tell_none(from.dir, from.name);
        }
        let replaced = self.memory.at(to.dir, to.name).filter(|told| *told != entry.node);
        let before = self.memory.node(entry.node).map(|known| known.print);
        if let Some(passed) = origin.unborn.filter(|_| before.is_none()) {
            self.emit_beginning(from, &entry, passed, lookup);
        }
        self.emit_passed(from, &entry, lookup);
        self.tell(to, &entry, Events::empty(), Events::empty());
        let (from, replaced) = (from.owned(), replaced.unwrap_or(NodeId(0)));
        self.push(OwnedChange::Renamed { from, to: to.owned(), entry, replaced });
    }

    /// Something was hinted under a name, and what it was about is there no longer.
    fn passed(&mut self, here: Here<'_>) {
        if let Some(node) = self.memory.at(here.dir, here.name)
            && let Some(known) = self.memory.node_mut(node)
        {
            known.owed |= Events::UNDER_OLD_NAME;
        }
    }

    /// Says under its old name what was hinted under it.
    fn emit_passed(&mut self, from: Here<'_>, to: &Entry, lookup: &mut dyn Lookup) {
        let Some(known) = self.memory.node_mut(to.node) else { return };
        if !known.owed.contains(Events::UNDER_OLD_NAME) {
            return;
        }
        let content = Events::CONTENT | Events::CLOSE;
        let owes = known.owed.intersects(content);
        known.owed -= Events::UNDER_OLD_NAME | content;
        let (before, print) = (known.print, Print::of(&to.attr));
        known.print = print;
        if (owes || before.content != print.content)
            && let Some(entry) = lookup.entry_of(to.node)
        {
            self.push(OwnedChange::Modified { at: from.owned(), entry });
        }
        if before.attrs != print.attrs
            && let Some(entry) = lookup.entry_of(to.node)
        {
            self.push(OwnedChange::Attrib { at: Some(from.owned()), entry });
        }
    }

    /// A file was made, written and renamed before anyone could look, as editors do when they save.
    fn emit_beginning(
        &mut self,
        from: Here<'_>,
        to: &Entry,
        passed: Events,
        lookup: &mut dyn Lookup,
    ) {
        let is_link = to.attr.kind() == mode::IFLNK;
        let target = if is_link { lookup.target(to.node) } else { None };
        let mut entry = || lookup.entry_of(to.node);
        if let Some(entry) = entry() {
            self.push(OwnedChange::Created { at: from.owned(), entry, target });
        }
        if passed.contains(Events::CONTENT)
            && let Some(entry) = entry()
        {
            self.push(OwnedChange::Modified { at: from.owned(), entry });
        }
    }

    /// The object left its name for somewhere unknown.
    fn moved_out(&mut self, origin: Origin) {
        let Origin { at, node, is_dir, unborn, .. } = origin;
        if unborn.is_some() {
            return; // Its beginning was not told, nor is its end.
        }
        if node.is_some() && self.memory.at(at.parent, &at.name) == node {
            self.memory.tell_none(at.parent, &at.name);
        }
        self.push(OwnedChange::Removed { at, node: node.unwrap_or(NodeId(0)), is_dir });
    }
}

/// Comparing again.
impl Reconciler {
    /// Hints were lost. All that waits is void; each directory given is in doubt and is to be
    /// compared name by name ([`compare`](Self::compare)).
    pub fn lost(&mut self) -> Vec<NodeId> {
        self.echoes.clear();
        self.moves = Moves::default();
        self.settling.clear();
        self.unborn.clear();
        self.waiting.clear();
        self.retry_at = None;
        let dirs: Vec<_> = self.memory.watched().collect();
        dirs.iter().for_each(|dir| self.doubt(*dir));
        dirs
    }

    /// The names told in a directory.
    pub fn names(&mut self, dir: NodeId) -> Vec<std::sync::Arc<[u8]>> {
        self.counters.comparisons += 1;
        self.memory.names(dir)
    }

    /// Compares one told name with what stands there, whatever was hinted.
    pub fn compare(&mut self, dir: NodeId, name: &[u8], lookup: &mut dyn Lookup) {
        let here = Here::new(dir, name);
        let Some(told) = self.memory.at(dir, name) else { return };
        match lookup.look(dir, name) {
            Looked::There { node, attr } if node == Some(told) => {
                let print = Print::of(&attr);
                let Some(known) = self.memory.node(told).map(|known| known.print) else { return };
                if known.content != print.content {
                    self.emit_modified(here, lookup);
                }
                if known.attrs != print.attrs {
                    self.emit_attrib(here, lookup);
                }
            }
            Looked::There { .. } => {
                self.emit_created(here, Events::empty(), lookup);
            }
            Looked::Absent => {
                self.memory.tell_none(dir, name);
                let is_dir = self.is_dir(told);
                self.push(OwnedChange::Removed { at: here.owned(), node: told, is_dir });
            }
            Looked::Failed => self.doubt(dir),
        }
    }
}

/// Whether `hint` must not be judged before `before`.
fn follows(hint: &Hint, before: &Hint) -> bool {
    hint.dir == before.dir && (hint.name == before.name || hint.cookie != 0)
        || hint.cookie != 0 && hint.cookie == before.cookie
}
