//! Looking: lookup, walk, attributes, access, and what else changes nothing.

use super::locate::{Dir, Found, NameBuf};
use super::{Session, handle_request::Result};
use crate::export::Export;
use crate::observe::{Glance, place};
use crate::os::{self, Stat};
use crate::ownership::{self, Record};
use protocol::{
    AccessMask, Attr, AttrReply, Caller, Entry, Errno, Name, NodeId, Place, StatFs, Validity, mode,
};
use std::os::fd::{AsFd, BorrowedFd};

impl Session {
    /// Finds one name. The inner error is for how long its absence holds.
    pub(super) fn lookup(
        &self,
        caller: &Caller<'_>,
        parent: NodeId,
        name: Name<'_>,
    ) -> Result<std::result::Result<Entry, Validity>> {
        let dir = self.dir_of_name(parent)?;
        self.check_dir(caller, &dir, AccessMask::EXEC)?;
        self.watch(&dir);
        for glance in self.glances(&dir, name.as_bytes()) {
            match self.stat_name(&dir, name.as_bytes())? {
                Some(stat) => {
                    if let Some(entry) = self.entry_seen(&dir, name.as_bytes(), &stat, glance)? {
                        self.keep_new(&dir, name.as_bytes(), &stat, entry.node);
                        return Ok(Ok(entry));
                    }
                }
                None if self.observer().told(Place { parent, name }, None, glance) => break,
                None => {}
            }
        }
        Ok(Err(self.validity(&dir.export, Some(parent), None)))
    }

    /// One for each time that a name is looked at, until what was seen is current when it is told: a
    /// change of the host that was heard of in between has been told already. The last time it is told
    /// as it is.
    pub(super) fn glances(&self, dir: &Dir, name: &[u8]) -> impl Iterator<Item = Option<Glance>> {
        /// Nobody changes one name so fast.
        const TIMES: usize = 8;
        let glance = || Some(self.observer().glance(dir.node, name));
        (1..TIMES).map(move |_| glance()).chain([None])
    }

    /// Finds a path, as far as there is one.
    pub(super) fn walk(
        &self,
        caller: &Caller<'_>,
        base: NodeId,
        names: &[Name<'_>],
    ) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::with_capacity(names.len());
        let mut at = base;
        for name in names {
            match self.lookup(caller, at, *name) {
                Ok(Ok(entry)) => {
                    entries.push(entry);
                    at = entry.node;
                    if !entry.attr.is_dir() {
                        break;
                    }
                }
                Ok(Err(_)) => break,
                // What was found so far has been counted: it must be told.
                Err(errno) if entries.is_empty() => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(entries)
    }

    /// The guest makes use of a directory: tells the observer that it is about to be read, unless it
    /// knows.
    pub(super) fn watch(&self, dir: &Dir) {
        if !self.state.lock().nodes.make_use(dir.node) {
            self.have_watched(dir);
        }
    }

    fn have_watched(&self, dir: &Dir) {
        self.observer().before_read(dir.node, dir.as_fd());
        // Only now may others on their way pass without asking.
        self.state.lock().nodes.set_watched(dir.node, true);
    }

    /// A directory is watched from when the guest knows it, for from then on somebody may be
    /// watching it there, without having looked into it.
    pub(super) fn watch_known(&self, node: NodeId) {
        if !self.state.lock().nodes.is_watched(node)
            && let Ok(dir) = self.dir(node)
        {
            self.have_watched(&dir);
        }
    }

    /// Enters what a name leads to and makes the entry for it, with one lookup.
    pub(super) fn entry(&self, dir: &Dir, name: &[u8], stat: &Stat) -> Result<Entry> {
        self.entry_seen(dir, name, stat, None)?.ok_or(Errno::ESTALE)
    }

    /// The same for a guest that only looks. None if what was seen is not current any more.
    pub(super) fn entry_seen(
        &self,
        dir: &Dir,
        name: &[u8],
        stat: &Stat,
        glance: Option<Glance>,
    ) -> Result<Option<Entry>> {
        let attr = self.attr_at(dir, name, stat);
        let identity = dir.export.identity(stat);
        let kind = stat.mode & mode::IFMT;
        let node = {
            let state = &mut *self.state.lock();
            // What is heard of from here on is entered behind this.
            if glance.is_some_and(|glance| !self.observer().is_current(dir.node, name, glance)) {
                return Ok(None);
            }
            state.nodes.enter(dir.node, name, identity, kind)?
        };
        if kind == mode::IFDIR {
            self.watch_known(node);
        }
        if let Some(at) = place(dir.node, name)
            && !self.observer().told(at, Some((node, &attr)), glance)
        {
            self.forget(node, 1);
            return Ok(None);
        }
        let valid = self.validity(&dir.export, Some(dir.node), Some((node, &attr)));
        Ok(Some(Entry { node, attr, valid }))
    }

    /// Attributes of what a name leads to.
    pub(super) fn attr_at(&self, dir: &Dir, name: &[u8], stat: &Stat) -> Attr {
        let record = match self.server.own_mounts.beneath(dir.key, name) {
            Some(fd) => dir.export.record(fd.as_fd(), stat),
            None => dir.export.record_at(dir.as_fd(), name, stat),
        };
        dir.export.attr(stat, record.as_ref())
    }

    /// Attributes of an object that was found.
    pub(super) fn attr_of(&self, found: &Found) -> Result<Attr> {
        found.on(|object| {
            let record = found.export.record(object.fd, &found.stat);
            Ok(found.export.attr(&found.stat, record.as_ref()))
        })
    }

    pub(super) fn get_attr(&self, node: NodeId) -> Result<AttrReply> {
        let (attr, export) = match self.stat_by_name(node)? {
            Some((dir, name, stat)) => (self.attr_at(&dir, &name, &stat), dir.export),
            None => {
                let found = self.find_attr(node)?;
                (self.attr_of(&found)?, found.export)
            }
        };
        self.tell_attr(node, attr, &export)
    }

    /// The guest is told the attributes of a node.
    pub(super) fn tell_attr(&self, node: NodeId, attr: Attr, export: &Export) -> Result<AttrReply> {
        self.observer().told_attr(node, &attr);
        let parent = self.state.lock().nodes.watched_at(node)?;
        Ok(AttrReply { attr, attr_ms: self.validity(export, parent, Some((node, &attr))).attr_ms })
    }

    /// Attributes of a directory in which something was done.
    pub(super) fn dir_attr(&self, dir: &Dir) -> Option<AttrReply> {
        let attr = attr_of_fd(dir.as_fd(), &dir.export)?;
        self.tell_attr(dir.node, attr, &dir.export).ok()
    }

    /// The quick way to a node's state: by its name in its directory, without opening anything.
    /// None where that does not lead to it, or where it is open or a directory.
    fn stat_by_name(&self, node: NodeId) -> Result<Option<(Dir, NameBuf, Stat)>> {
        let known = {
            let state = self.state.lock();
            let known = state.nodes.get(node)?;
            if known.is_dir() || state.handles.of_node(node).is_some() {
                return Ok(None);
            }
            known
        };
        let Some((parent, name)) = self.name_of(node, 0)? else { return Ok(None) };
        let Ok(dir) = self.dir(parent) else { return Ok(None) };
        match self.stat_name(&dir, &name)? {
            Some(stat) if dir.export.identity(&stat) == known.identity => {
                Ok(Some((dir, name, stat)))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn read_link(&self, node: NodeId, target: &mut Vec<u8>) -> Result<()> {
        let found = self.find(node)?;
        found.on(|object| os::read_link(object, target))
    }

    pub(super) fn stat_fs(&self, node: NodeId) -> Result<StatFs> {
        let found = self.find_attr(node)?;
        found.on(|object| os::statfs(object.fd))
    }

    pub(super) fn sync_fs(&self, node: NodeId) -> Result<()> {
        let export = self.export_of(node)?;
        os::sync_fs(export.root().as_fd())
    }

    /// `access(2)` for mapped owners: what is recorded decides, else what the host's user may.
    pub(super) fn access(&self, caller: &Caller<'_>, node: NodeId, mask: AccessMask) -> Result<()> {
        let found = self.find_attr(node)?;
        let attr = self.attr_of(&found)?;
        if mask.contains(AccessMask::WRITE) && found.export.config.read_only {
            return Err(Errno::EROFS);
        }
        match found.on(|object| Ok(found.export.record(object.fd, &found.stat)))? {
            Some(_) => ownership::access(caller, attr.uid, attr.gid, attr.mode, mask),
            None if !found.export.maps() => {
                ownership::access(caller, attr.uid, attr.gid, attr.mode, mask)
            }
            None => found.on(|object| os::may_access(object.fd, mask)),
        }
    }

    /// Whether the caller may do this in a directory, by its record.
    pub(super) fn check_dir(&self, caller: &Caller<'_>, dir: &Dir, mask: AccessMask) -> Result<()> {
        self.dir_record(dir).map_or(Ok(()), |(record, stat)| {
            ownership::access(caller, record.uid, record.gid, record.mode(&stat), mask)
        })
    }

    /// A directory's record and state. None, at no cost, where owners are not mapped.
    pub(super) fn dir_record(&self, dir: &Dir) -> Option<(Record, Stat)> {
        if !dir.export.maps() {
            return None;
        }
        let stat = os::stat(dir.as_fd()).ok()?;
        dir.export.record(dir.as_fd(), &stat).map(|record| (record, stat))
    }
}

/// Attributes of what is open.
pub(super) fn attr_of_fd(fd: BorrowedFd<'_>, export: &Export) -> Option<Attr> {
    let stat = os::stat(fd).ok()?;
    Some(export.attr(&stat, export.record(fd, &stat).as_ref()))
}
