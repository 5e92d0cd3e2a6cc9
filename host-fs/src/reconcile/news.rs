//! Saying what is news: changes, each with the state that the guest is told by it, remembered in the
//! same step.

use super::memory::Print;
use super::moves::Origin;
use super::{Events, Here, Lookup, OwnedChange, OwnedPlace, Reconciler};
use protocol::{ContentEvents, Entry, NodeId, mode};

impl Reconciler {
    pub(super) fn push(&mut self, change: OwnedChange) {
        self.counters.changes += 1;
        self.out.push(change);
    }

    /// A name leads nowhere any more, and to this node last, if it was told.
    pub(super) fn push_removed(
        &mut self,
        at: OwnedPlace,
        node: NodeId,
        is_dir: bool,
        lookup: &mut dyn Lookup,
    ) {
        let before = self.memory.node(node).filter(|known| !known.is_dir).map(|known| known.links);
        let links = match before {
            // Where it cannot be found by another name it is gone, for all that is known.
            Some(before) if before > 1 => lookup.links(node).unwrap_or(0),
            _ => 0,
        };
        if let Some(known) = self.memory.node_mut(node) {
            known.links = links;
        }
        self.push(OwnedChange::Removed { at, node, is_dir, moved: false, links });
    }

    pub(super) fn is_dir(&self, node: NodeId) -> bool {
        self.memory.node(node).is_some_and(|known| known.is_dir)
    }

    /// Nothing that was told of this directory is to be believed.
    pub fn doubt(&mut self, dir: NodeId) {
        self.push(OwnedChange::Doubt { dir });
    }

    /// Remembers an entry as told with an event; the events in `owed` may still be to come.
    pub(super) fn tell(&mut self, here: Here<'_>, entry: &Entry, settles: Events, owed: Events) {
        let (before, _) = self.memory.tell(here.dir, here.name, entry.node, &entry.attr);
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
    pub(super) fn emit_created(
        &mut self,
        here: Here<'_>,
        owed: Events,
        moved: bool,
        lookup: &mut dyn Lookup,
    ) -> bool {
        let Some(entry) = lookup.entry(here.dir, here.name) else { return false };
        let displaced = self.take_displaced(here);
        let told = displaced.or_else(|| self.memory.at(here.dir, here.name));
        if let Some(told) = told.filter(|told| *told != entry.node) {
            let is_dir = self.is_dir(told);
            // What is moved over a file takes its place, as in any rename, if the guest's kernel has
            // that there still.
            if !moved || is_dir || displaced.is_some() {
                self.push_removed(here.owned(), told, is_dir, lookup);
            }
        }
        let target = target_of(&entry, lookup);
        let is_old = !entry.attr.is_dir() && entry.attr.nlink > 1;
        let owed = if is_old { Events::empty() } else { owed };
        self.tell(here, &entry, Events::empty(), owed);
        if moved && self.memory.is_watched(entry.node) {
            self.returned.push(entry.node);
        }
        self.push(OwnedChange::Created { at: here.owned(), entry, target, moved });
        true
    }

    pub(super) fn emit_modified(
        &mut self,
        here: Here<'_>,
        events: ContentEvents,
        lookup: &mut dyn Lookup,
    ) {
        let Some(entry) = lookup.entry(here.dir, here.name) else { return };
        let closed = events.contains(ContentEvents::CLOSED);
        let owed = if closed { Events::empty() } else { Events::CLOSE };
        self.tell(here, &entry, Events::CONTENT | Events::CLOSE, owed);
        self.push(OwnedChange::Modified { at: here.owned(), entry, events });
    }

    pub(super) fn emit_attrib(&mut self, here: Here<'_>, lookup: &mut dyn Lookup) {
        let Some(entry) = lookup.entry(here.dir, here.name) else { return };
        self.tell(here, &entry, Events::ATTRS, Events::empty());
        self.push(OwnedChange::Attrib { at: Some(here.owned()), entry });
    }

    /// `exchanged` has taken its old name.
    pub(super) fn emit_renamed(
        &mut self,
        origin: Origin,
        to: Here<'_>,
        exchanged: Option<NodeId>,
        lookup: &mut dyn Lookup,
    ) {
        let Some(entry) = lookup.entry(to.dir, to.name) else { return self.moved_out(origin) };
        let from = Here::new(origin.at.parent, &origin.at.name);
        if (from.dir, from.name) == (to.dir, to.name) {
            return self.emit_return(to, entry, lookup);
        }
        if self.memory.at(from.dir, from.name) == Some(entry.node) {
            self.memory.tell_none(from.dir, from.name);
        }
        let displaced = self.take_displaced(to);
        let replaced = exchanged.or(displaced).or_else(|| self.memory.at(to.dir, to.name));
        let replaced = replaced.filter(|told| *told != entry.node);
        let before = self.memory.node(entry.node).map(|known| known.print);
        if let Some(passed) = origin.unborn.filter(|_| before.is_none()) {
            self.emit_beginning(from, &entry, passed, lookup);
        }
        self.emit_passed(from, &entry, lookup);
        self.tell(to, &entry, Events::empty(), Events::empty());
        let (from, replaced) = (from.owned(), replaced.unwrap_or(NodeId(0)));
        self.push(OwnedChange::Renamed { from, to: to.owned(), entry, replaced });
    }

    /// It was moved elsewhere and back before anyone could look: as a rename it would be none.
    fn emit_return(&mut self, here: Here<'_>, entry: Entry, lookup: &mut dyn Lookup) {
        let Entry { node, attr, .. } = entry;
        let target = target_of(&entry, lookup);
        self.tell(here, &entry, Events::empty(), Events::empty());
        let (is_dir, links) = (attr.is_dir(), attr.nlink);
        self.push(OwnedChange::Removed { at: here.owned(), node, is_dir, moved: true, links });
        self.push(OwnedChange::Created { at: here.owned(), entry, target, moved: true });
    }

    /// Something was hinted under a name, and what it was about is there no longer.
    pub(super) fn passed(&mut self, here: Here<'_>) {
        if let Some(node) = self.memory.at(here.dir, here.name)
            && let Some(known) = self.memory.node_mut(node)
        {
            known.owed |= Events::UNDER_OLD_NAME;
        }
    }

    /// Says under its old name what was hinted under it.
    pub(super) fn emit_passed(&mut self, from: Here<'_>, to: &Entry, lookup: &mut dyn Lookup) {
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
            self.push(OwnedChange::Modified {
                at: from.owned(),
                entry,
                events: ContentEvents::all(),
            });
        }
        if before.attrs != print.attrs
            && let Some(entry) = lookup.entry_of(to.node)
        {
            self.push(OwnedChange::Attrib { at: Some(from.owned()), entry });
        }
    }

    /// A file was made, written and renamed before anyone could look, as editors do when they save.
    pub(super) fn emit_beginning(
        &mut self,
        from: Here<'_>,
        to: &Entry,
        passed: Events,
        lookup: &mut dyn Lookup,
    ) {
        let target = target_of(to, lookup);
        let mut entry = || lookup.entry_of(to.node);
        if let Some(entry) = entry() {
            self.push(OwnedChange::Created { at: from.owned(), entry, target, moved: false });
        }
        let events = passed.of_content();
        if !events.is_empty()
            && let Some(entry) = entry()
        {
            self.push(OwnedChange::Modified { at: from.owned(), entry, events });
        }
    }

    /// The object left its name, and then was removed.
    pub(super) fn gone(&mut self, origin: Origin, lookup: &mut dyn Lookup) {
        if let Some((at, node, is_dir)) = self.left_name(origin) {
            self.push_removed(at, node, is_dir, lookup);
        }
    }

    /// The object left its name for somewhere unknown.
    pub(super) fn moved_out(&mut self, origin: Origin) {
        let Some((at, node, is_dir)) = self.left_name(origin) else { return };
        let links = self.memory.node(node).map_or(1, |known| known.links);
        self.push(OwnedChange::Removed { at, node, is_dir, moved: true, links });
    }

    /// Where it was and what it was; nothing if that is not to be said.
    fn left_name(&mut self, origin: Origin) -> Option<(OwnedPlace, NodeId, bool)> {
        let Origin { at, node, is_dir, is_displaced, unborn, .. } = origin;
        if let Some(passed) = unborn {
            let events = passed.of_content();
            self.push(OwnedChange::Passed { at, is_dir, events });
            return None;
        }
        let told = self.memory.at(at.parent, &at.name);
        let is_taken = told.is_some() && told != node;
        if is_taken && !is_displaced {
            return None; // Its end was told with what came in its place.
        }
        if !is_taken {
            self.memory.tell_none(at.parent, &at.name);
        }
        Some((at, node.unwrap_or(NodeId(0)), is_dir))
    }
}

/// Where a symbolic link points to; nothing for anything else.
fn target_of(entry: &Entry, lookup: &mut dyn Lookup) -> Option<Box<[u8]>> {
    (entry.attr.kind() == mode::IFLNK).then(|| lookup.target(entry.node)).flatten()
}
