//! Names of what exists: link, unlink, rmdir, rename.

use super::locate::Dir;
use super::make::CHANGE;
use super::{Session, handle_request::Result};
use crate::observe::{Act, Done};
use crate::os::{self, Stat};
use crate::ownership;
use protocol::{Caller, Entry, Errno, Name, NodeId, Place, RenameFlags, Reply, mode};
use std::os::fd::AsFd;

impl Session {
    pub(super) fn link(
        &self,
        caller: &Caller<'_>,
        node: NodeId,
        parent: NodeId,
        name: Name<'_>,
    ) -> Result<Reply<'static>> {
        let dir = self.dir_to_change(caller, parent)?;
        let found = self.find(node)?;
        if !std::sync::Arc::ptr_eq(&found.export, &dir.export) {
            return Err(Errno::EXDEV);
        }
        if found.stat.mode & mode::IFMT == mode::IFDIR {
            return Err(Errno::EPERM);
        }
        let act = Act::Link { node, at: Place { parent, name } };
        self.watch(&dir);
        self.observer().will(&act);
        let result =
            found.on(|object| os::link(object, dir.as_fd(), name.as_bytes())).and_then(|()| {
                let stat = self.stat_name(&dir, name.as_bytes())?.ok_or(Errno::ENOENT)?;
                self.entry(&dir, name.as_bytes(), &stat)
            });
        let done = |entry: &Entry| (entry.node, entry.attr);
        let (node, attr) = result.as_ref().map(done).unwrap_or_default();
        let outcome = Done { node: Some(node), attr: Some(&attr), ..Done::default() };
        self.observer().did(&act, result.as_ref().map(|_| outcome).map_err(|errno| *errno));
        Ok(self.made(result?, &dir))
    }

    pub(super) fn remove(
        &self,
        caller: &Caller<'_>,
        parent: NodeId,
        name: Name<'_>,
        is_dir: bool,
    ) -> Result<Reply<'static>> {
        let dir = self.dir_to_change(caller, parent)?;
        let stat = self.stat_name(&dir, name.as_bytes())?.ok_or(Errno::ENOENT)?;
        self.check_sticky(caller, &dir, name, &stat)?;
        let node = self.known_as(&dir, &stat);
        let act = Act::Remove { at: Place { parent, name }, is_dir };
        self.observer().will(&act);
        let kept = self.last_look(&dir, name.as_bytes(), &stat, node);
        drop(node.and_then(|node| self.state.lock().found.remove(node)));
        let result = match is_dir {
            true => os::remove_dir(dir.as_fd(), name.as_bytes()),
            false => os::unlink(dir.as_fd(), name.as_bytes()),
        };
        if let (Ok(()), Some(node)) = (result, node) {
            self.state.lock().nodes.unname(node, parent, name.as_bytes());
            self.keep(kept);
            if is_dir {
                self.server.dirs.remove(self.id, node);
            }
        }
        self.observer().did(&act, result.map(|()| Done { node, ..Done::default() }));
        result.map(|()| Reply::Removed { dir: self.dir_attr(&dir) })
    }

    pub(super) fn rename(
        &self,
        caller: &Caller<'_>,
        (parent, name): (NodeId, Name<'_>),
        (new_parent, new_name): (NodeId, Name<'_>),
        flags: RenameFlags,
    ) -> Result<Reply<'static>> {
        let dir = self.dir_to_change(caller, parent)?;
        let new_dir = self.dir_of_name(new_parent)?;
        self.check_dir(caller, &new_dir, CHANGE)?;
        if !std::sync::Arc::ptr_eq(&dir.export, &new_dir.export) {
            return Err(Errno::EXDEV);
        }
        if flags.contains(RenameFlags::WHITEOUT) && dir.export.maps() {
            return Err(Errno::EINVAL); // a whiteout is a device
        }
        let source = self.stat_name(&dir, name.as_bytes())?.ok_or(Errno::ENOENT)?;
        let target = self.stat_name(&new_dir, new_name.as_bytes())?;
        self.check_sticky(caller, &dir, name, &source)?;
        if let Some(target) = &target {
            self.check_sticky(caller, &new_dir, new_name, target)?;
        }
        let node = self.known_as(&dir, &source);
        let replaced = target.as_ref().and_then(|stat| self.known_as(&new_dir, stat));
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let (from, to) = (Place { parent, name }, Place { parent: new_parent, name: new_name });
        let act = Act::Rename { from, to, exchange };
        self.watch(&new_dir);
        self.observer().will(&act);
        // Two names of one object: rename does nothing, and both stay.
        let same = target.as_ref().is_some_and(|t| (t.dev, t.ino) == (source.dev, source.ino));
        let kept = target
            .as_ref()
            .filter(|_| !same && !exchange)
            .and_then(|target| self.last_look(&new_dir, new_name.as_bytes(), target, replaced));
        let result =
            os::rename(dir.as_fd(), name.as_bytes(), new_dir.as_fd(), new_name.as_bytes(), flags);
        if result.is_ok() && !same {
            self.note_rename(from, to, node, replaced, exchange);
            self.keep(kept);
        }
        self.observer().did(&act, result.map(|()| Done { node, replaced, ..Done::default() }));
        result.map(|()| Reply::Renamed {
            from: self.dir_attr(&dir),
            to: if parent == new_parent { None } else { self.dir_attr(&new_dir) },
        })
    }

    /// Enters a rename that has happened into the names of the nodes.
    pub(super) fn note_rename(
        &self,
        from: Place<'_>,
        to: Place<'_>,
        node: Option<NodeId>,
        replaced: Option<NodeId>,
        exchange: bool,
    ) {
        let nodes = &mut self.state.lock().nodes;
        if let Some(replaced) = replaced {
            nodes.unname(replaced, to.parent, to.name.as_bytes());
            if exchange {
                nodes.name(replaced, from.parent, from.name.as_bytes());
            }
        }
        if let Some(node) = node {
            nodes.unname(node, from.parent, from.name.as_bytes());
            nodes.name(node, to.parent, to.name.as_bytes());
        }
    }

    /// The node of an object with this state, if the guest knows it.
    pub(super) fn known_as(&self, dir: &Dir, stat: &Stat) -> Option<NodeId> {
        let state = self.state.lock();
        let attachment = state.nodes.get(dir.node).ok()?.attachment;
        state.nodes.by_identity(attachment, dir.export.identity(stat))
    }

    /// The sticky bit of a recorded directory. Of any other the host sees to itself.
    fn check_sticky(
        &self,
        caller: &Caller<'_>,
        dir: &Dir,
        name: Name<'_>,
        stat: &Stat,
    ) -> Result<()> {
        let Some((record, dir_stat)) = self.dir_record(dir) else { return Ok(()) };
        let entry = self.attr_at(dir, name.as_bytes(), stat);
        ownership::may_remove(caller, record.mode(&dir_stat), record.uid, entry.uid)
    }
}
