//! Judging a hint: is it an echo, is it no news, or does the guest have to hear of it? The rules are
//! told at the top of the [module](super); what is news goes to [`news`](super::news).

use super::echo::{Echo, PlaceHash};
use super::memory::Print;
use super::moves::Origin;
use super::{
    Events, Here, Looked, Lookup, MOST_UNBORN, MOVE_WAIT, OWN_NAME_WAIT, OWN_WAIT, OwnedChange,
    RETRY, Reconciler, SETTLE, Settling, UNBORN_WAIT, Unborn, Waiting,
};
use crate::watch::{Doer, Hint, Kinds};
use protocol::{Attr, ContentEvents, NodeId};
use std::collections::VecDeque;
use std::time::Instant;

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
        self.displaced.pass(now);
        if hint.by == Doer::Ourselves {
            return self.own(now, &hint);
        }
        if self.waiting.iter().any(|before| follows(&hint, &before.hint))
            || hint.by == Doer::Unknown && self.is_own(&hint)
        {
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
            let here = Here::new(at.parent, &at.name);
            self.emit_modified(here, ContentEvents::WRITTEN, lookup);
        }
    }

    fn retry_waiting(&mut self, now: Instant, lookup: &mut dyn Lookup) {
        let mut still: VecDeque<Waiting> = VecDeque::new();
        while let Some(waiting) = self.waiting.pop_front() {
            let hint = &waiting.hint;
            let waited = now.duration_since(waiting.since);
            if still.iter().any(|before| follows(hint, &before.hint)) {
                still.push_back(waiting);
            } else if hint.by == Doer::Another || !self.is_own(hint) || waited >= OWN_NAME_WAIT {
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
                self.judge_self(now, hint, lookup);
            }
            return;
        };
        let here = Here::hinted(hint.dir.0, name, hint.by);
        // Whatever comes for a name that has just moved away is about another object.
        if let Some(origin) = self.moves.take_origin(here.hash, hint.cookie) {
            self.moved_out(origin);
        }
        let passes = kinds.contains(Kinds::CREATE | Kinds::DELETE)
            && self.memory.at(here.dir, here.name).is_none()
            && lookup.look(here.dir, here.name) == Looked::Absent;
        if passes {
            if let Some(old) = self.take_displaced(here) {
                self.push_removed(here.owned(), old, self.is_dir(old), lookup);
            }
            // Made first, and removed then: one hint for both.
            let events = content_events(kinds);
            return self.push(OwnedChange::Passed {
                at: here.owned(),
                is_dir: hint.is_dir,
                events,
            });
        }
        if kinds.contains(Kinds::DELETE) {
            self.judge_delete(now, here, hint.is_dir, lookup);
        }
        if kinds.contains(Kinds::MOVED_FROM) {
            self.judge_moved_from(now, here, hint);
        }
        if kinds.contains(Kinds::CREATE) {
            let removed = kinds.contains(Kinds::DELETE);
            self.judge_create(now, here, removed, lookup);
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

    /// A hint of the guest's own work, for certain. What it did is remembered already.
    fn own(&mut self, now: Instant, hint: &Hint) {
        self.counters.echoes += 1;
        let Some(name) = hint.name.as_deref() else { return };
        let hash = PlaceHash::of(hint.dir.0, name);
        // The records are for hints of whose doer nothing is known.
        for (kind, echo) in [
            (Kinds::CREATE, Echo::Created(hash)),
            (Kinds::DELETE, Echo::Removed(hash)),
            (Kinds::MOVED_FROM, Echo::MovedFrom(hash)),
            (Kinds::MOVED_TO, Echo::MovedTo(hash)),
        ] {
            if hint.kinds.contains(kind) {
                self.echoes.consume(echo, now);
            }
        }
        if let Some(node) =
            self.memory.at(hint.dir.0, name).filter(|_| hint.kinds.contains(Kinds::ATTRIB))
        {
            self.echoes.consume(Echo::Attrib(node), now);
        }
    }

    fn echo(&mut self, now: Instant, here: Here<'_>, echo: Echo) -> bool {
        let is_echo = !here.foreign && self.echoes.consume(echo, now);
        self.counters.echoes += u64::from(is_echo);
        is_echo
    }

    fn judge_delete(
        &mut self,
        now: Instant,
        here: Here<'_>,
        is_dir: bool,
        lookup: &mut dyn Lookup,
    ) {
        self.unsettle(here);
        if self.echo(now, here, Echo::Removed(here.hash)) {
            return;
        }
        if let Some(origin) = self.moves.land(here.hash) {
            return self.gone(origin, lookup);
        }
        if let Some(passed) = self.take_unborn(here) {
            let events = passed.of_content();
            return self.push(OwnedChange::Passed { at: here.owned(), is_dir, events });
        }
        let displaced = self.take_displaced(here).unwrap_or(NodeId(0));
        let node = match self.memory.at(here.dir, here.name) {
            // The guest knows the successor already: what was removed is something before it.
            Some(told) if self.stands_at(here, told, lookup) => displaced,
            Some(told) => {
                self.memory.tell_none(here.dir, here.name);
                told
            }
            None => displaced,
        };
        self.push_removed(here.owned(), node, is_dir, lookup);
    }

    /// What the name led to before the guest looked, if that has this name still, for all that is
    /// known.
    pub(super) fn take_displaced(&mut self, here: Here<'_>) -> Option<NodeId> {
        let old = self.displaced.take(here.hash)?;
        let known = self.memory.node(old)?;
        let is_here = known.parent == here.dir && *known.name == *here.name;
        (is_here || known.links > 1).then_some(old)
    }

    fn stands_at(&self, here: Here<'_>, node: NodeId, lookup: &mut dyn Lookup) -> bool {
        let looked = lookup.look(here.dir, here.name);
        matches!(looked, Looked::There { node: Some(there), .. } if there == node)
    }

    fn judge_create(
        &mut self,
        now: Instant,
        here: Here<'_>,
        removed: bool,
        lookup: &mut dyn Lookup,
    ) {
        if self.echo(now, here, Echo::Created(here.hash)) {
            return;
        }
        if let Some(origin) = self.moves.land(here.hash) {
            self.moved_out(origin);
        }
        // Its writing, its closing and its mode may be part of the state already.
        let owed = Events::CONTENT | Events::ATTRS | Events::CLOSE;
        let created = self.emit_created(here, owed, false, lookup);
        // What was told is no newcomer: its removal is still to be said, and will be hinted.
        if !created && !removed && self.memory.at(here.dir, here.name).is_none() {
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
        if self.unsettle(here) {
            self.passed(here);
        }
        let other_half = self.echoes.consume(Echo::ExchangedFrom(here.hash), now);
        if other_half || self.echo(now, here, Echo::MovedFrom(here.hash)) {
            return;
        }
        let unborn = self.take_unborn(here);
        let origin = self.moves.land(here.hash).unwrap_or_else(|| {
            let displaced = self.displaced.take(here.hash);
            let node = displaced.or_else(|| self.memory.at(here.dir, here.name));
            Origin {
                at: here.owned(),
                hash: here.hash,
                // What the guest has forgotten has another number by now, where it is found.
                node: node.filter(|node| self.memory.node(*node).is_some()),
                is_displaced: displaced.is_some(),
                is_dir: hint.is_dir,
                unborn,
            }
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
        let other_half = self.echoes.consume(Echo::ExchangedTo(here.hash), now);
        if other_half || self.echo(now, here, Echo::MovedTo(here.hash)) {
            return;
        }
        if let Some(overwritten) = self.moves.land(here.hash) {
            self.moved_out(overwritten);
        }
        let Some(origin) = origin else {
            if !self.emit_created(here, Events::empty(), true, lookup) {
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
                self.emit_created(here, Events::empty(), true, lookup);
            }
            Looked::There { .. } => {
                let other = self.exchanged(&origin, here, lookup);
                let from = origin.at.clone();
                let replaced = other.as_ref().and_then(|other| other.node);
                self.emit_renamed(origin, here, replaced, lookup);
                if let Some(other) = other {
                    let from = Here::new(from.parent, &from.name);
                    self.echoes.expect(Echo::ExchangedFrom(here.hash), now);
                    self.echoes.expect(Echo::ExchangedTo(from.hash), now);
                    self.emit_renamed(other, from, None, lookup);
                }
            }
        }
    }

    /// Whether what was under the new name is under the old one now: then the two were exchanged,
    /// and the hints of the other half follow.
    fn exchanged(&self, origin: &Origin, to: Here<'_>, lookup: &mut dyn Lookup) -> Option<Origin> {
        let other = self.displaced.at(to.hash).or_else(|| self.memory.at(to.dir, to.name));
        let other = other.filter(|told| Some(*told) != origin.node)?;
        let from = Here::new(origin.at.parent, &origin.at.name);
        self.stands_at(from, other, lookup).then(|| Origin {
            at: to.owned(),
            hash: to.hash,
            node: Some(other),
            is_displaced: false,
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
                    for (kind, event) in
                        [(Kinds::MODIFY, Events::CONTENT), (Kinds::CLOSE_WRITE, Events::CLOSE)]
                    {
                        if kinds.contains(kind) {
                            unborn.passed |= event;
                        }
                    }
                }
                self.passed(here);
                return;
            }
            Looked::Failed => return self.doubt(here.dir),
        };
        let known = node.and_then(|node| self.memory.node(node));
        let owed = known.map_or(Events::empty(), |known| known.owed);
        let differs = known.is_none_or(|known| known.print.content != Print::of(&attr).content);
        let hinted = kinds.contains(Kinds::MODIFY);
        let written = match here.foreign {
            true => hinted,
            false => differs || hinted && owed.contains(Events::CONTENT),
        };
        if kinds.contains(Kinds::CLOSE_WRITE) {
            let mut events = ContentEvents::CLOSED;
            events.set(ContentEvents::WRITTEN, self.unsettle(here) || written);
            if events.contains(ContentEvents::WRITTEN)
                || here.foreign
                || owed.contains(Events::CLOSE)
            {
                self.emit_modified(here, events, lookup);
            }
        } else if written {
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
                if here.foreign || self.is_attrib_news(now, here, node, &attr) {
                    self.emit_attrib(here, lookup);
                }
            }
            Looked::There { node: None, .. } => self.emit_attrib(here, lookup),
            Looked::Absent => self.passed(here),
            Looked::Failed => self.doubt(here.dir),
        }
    }

    fn is_attrib_news(&mut self, now: Instant, here: Here<'_>, node: NodeId, attr: &Attr) -> bool {
        let print = Print::of(attr);
        let Some(known) = self.memory.node(node) else { return true };
        if known.print.attrs != print.attrs || known.owed.contains(Events::ATTRS) {
            return true;
        }
        let same = known.print.ctime == print.ctime;
        if self.echo(now, here, Echo::Attrib(node)) {
            if let Some(known) = self.memory.node_mut(node) {
                known.print.ctime = print.ctime;
            }
            return false;
        }
        !same
    }

    fn judge_self(&mut self, now: Instant, hint: &Hint, lookup: &mut dyn Lookup) {
        let dir = hint.dir.0;
        let place = self.memory.node(dir).filter(|known| self.memory.is_watched(known.parent));
        if let Some(known) = place {
            // A source that knows the doer says it once, and inotify once more to the parent.
            if hint.by == Doer::Another {
                let (parent, name) = (known.parent, known.name.clone());
                let here = Here::hinted(parent, &name, hint.by);
                // If something else stands there, it is on its way out, and that is hinted.
                if self.stands_at(here, dir, lookup) {
                    self.emit_attrib(here, lookup);
                }
            }
            return;
        }
        if self.echo(now, Here::hinted(dir, b"", hint.by), Echo::Attrib(dir)) {
            return;
        }
        if let Some(entry) = lookup.entry_of(dir) {
            self.push(OwnedChange::Attrib { at: None, entry });
        }
    }
}

impl Events {
    /// Those of content, as the protocol has them.
    pub(super) fn of_content(self) -> ContentEvents {
        let mut events = ContentEvents::empty();
        events.set(ContentEvents::WRITTEN, self.contains(Self::CONTENT));
        events.set(ContentEvents::CLOSED, self.contains(Self::CLOSE));
        events
    }
}

fn content_events(kinds: Kinds) -> ContentEvents {
    let mut events = ContentEvents::empty();
    events.set(ContentEvents::WRITTEN, kinds.contains(Kinds::MODIFY));
    events.set(ContentEvents::CLOSED, kinds.contains(Kinds::CLOSE_WRITE));
    events
}

/// Whether `hint` must not be judged before `before`.
fn follows(hint: &Hint, before: &Hint) -> bool {
    hint.dir == before.dir && (hint.name == before.name || hint.cookie != 0)
        || hint.cookie != 0 && hint.cookie == before.cookie
}
