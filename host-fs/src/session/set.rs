//! Setting: mode, owner, size, times, extended attributes.
//!
//! With owners of the host everything is set as asked: the guest's kernel has checked it. With
//! mapped owners, an object with a record obeys it, whoever asks; one without obeys the host.

use super::locate::{Found, Held};
use super::{Session, handle_request::Result};
use crate::export::Export;
use crate::handle::Handle;
use crate::observe::{Act, Done};
use crate::os::{self, Object, SetTime, Stat};
use crate::ownership::{self, Record, record};
use protocol::{
    AccessMask, Attr, AttrReply, Caller, Errno, HandleId, NodeId, SetAttr, SetAttrMask, XattrFlags,
    mode,
};
use std::os::fd::AsFd;

const OWNER: SetAttrMask = SetAttrMask::UID.union(SetAttrMask::GID);
const TIMES: SetAttrMask = SetAttrMask::ATIME
    .union(SetAttrMask::MTIME)
    .union(SetAttrMask::ATIME_NOW)
    .union(SetAttrMask::MTIME_NOW);
const EXPLICIT_TIMES: SetAttrMask = SetAttrMask::ATIME.union(SetAttrMask::MTIME);

impl Session {
    pub(super) fn set_attr(
        &self,
        caller: &Caller<'_>,
        node: NodeId,
        handle: Option<HandleId>,
        set: &SetAttr,
    ) -> Result<AttrReply> {
        let found = match handle {
            Some(handle) => self.found_open(node, handle)?,
            None if set.mask.contains(SetAttrMask::SIZE) => self.find(node)?,
            None => self.find_attr(node)?,
        };
        let act = Act::SetAttr { node };
        self.observer().will(&act);
        let result = self.set_found(caller, &found, handle.is_some(), set);
        let done = result.as_ref().map(|attr| Done {
            node: Some(node),
            attr: Some(attr),
            ..Done::default()
        });
        self.observer().did(&act, done.map_err(|errno| *errno));
        let attr = result?;
        self.observer().told_attr(node, &attr);
        let parent = self.state.lock().nodes.place(node)?.map(|(parent, _)| parent);
        Ok(AttrReply {
            attr,
            attr_ms: self.validity(&found.export, parent, Some((node, &attr))).attr_ms,
        })
    }

    /// The object of an open file, which must be one of the node.
    fn found_open(&self, node: NodeId, handle: HandleId) -> Result<Found> {
        let file = self.state.lock().handles.file(handle)?;
        if file.node != node {
            return Err(Errno::EBADF);
        }
        let stat = os::stat(file.fd.as_fd())?;
        let export = file.export.clone();
        Ok(Found { held: Held::Open(Handle::File(file)), stat, export, place: None })
    }

    fn set_found(
        &self,
        caller: &Caller<'_>,
        found: &Found,
        by_handle: bool,
        set: &SetAttr,
    ) -> Result<Attr> {
        let export = &found.export;
        found.on(|object| {
            let stat = &found.stat;
            if export.maps() {
                set_mapped(export, caller, object, stat, by_handle, set)?;
            } else {
                if set.mask.intersects(OWNER) {
                    os::set_owner(object, wanted_uid(set), wanted_gid(set))?;
                }
                // Behind the owner, whose change takes set-id bits away.
                if set.mask.contains(SetAttrMask::MODE) {
                    os::set_mode(object, set.mode & mode::PERMISSIONS)?;
                }
            }
            if set.mask.contains(SetAttrMask::SIZE) {
                set_size(object, by_handle, set.size)?;
            }
            if set.mask.intersects(TIMES) {
                let of = |now, explicit, time| match set.mask {
                    mask if mask.contains(now) => SetTime::Now,
                    mask if mask.contains(explicit) => SetTime::To(time),
                    _ => SetTime::Omit,
                };
                let atime = of(SetAttrMask::ATIME_NOW, SetAttrMask::ATIME, set.atime);
                let mtime = of(SetAttrMask::MTIME_NOW, SetAttrMask::MTIME, set.mtime);
                os::set_times(object, atime, mtime)?;
            }
            let stat = os::stat(object.fd)?;
            Ok(export.attr(&stat, export.record(object.fd, &stat).as_ref()))
        })
    }

    /// Finds a node for its extended attributes, and checks the name.
    fn find_xattr(&self, node: NodeId, name: &[u8], refused: Errno) -> Result<Found> {
        // Our own record is nobody's business; and with mapped owners nothing that the host's
        // kernel gives a meaning to (capabilities, labels, access control lists) may become real.
        if name == record::NAME {
            return Err(refused);
        }
        let known = self.export_of(node)?;
        if known.maps() && !name.starts_with(b"user.") {
            let refused = if refused == Errno::EPERM { Errno::EOPNOTSUPP } else { refused };
            return Err(refused);
        }
        let found = self.find_attr(node)?;
        // The type that a record gives counts: devices and fifos take no such attributes.
        Ok(found)
    }

    /// Whether the record of an object lets the caller do this.
    fn check_record(&self, caller: &Caller<'_>, found: &Found, mask: AccessMask) -> Result<()> {
        match found.on(|object| Ok(found.export.record(object.fd, &found.stat)))? {
            Some(r) => ownership::access(caller, r.uid, r.gid, r.mode(&found.stat), mask),
            None => Ok(()),
        }
    }

    pub(super) fn get_xattr(
        &self,
        caller: &Caller<'_>,
        node: NodeId,
        name: &[u8],
        value: &mut Vec<u8>,
    ) -> Result<()> {
        let found = self.find_xattr(node, name, Errno::ENODATA)?;
        self.check_record(caller, &found, AccessMask::READ)?;
        found.on(|object| os::get_xattr(object, name, value))
    }

    pub(super) fn list_xattr(&self, node: NodeId, names: &mut Vec<u8>) -> Result<()> {
        let found = self.find_attr(node)?;
        found.on(|object| os::list_xattr(object, names))?;
        let maps = found.export.maps();
        let shown = |name: &[u8]| name != record::NAME && (!maps || name.starts_with(b"user."));
        let mut kept = 0;
        let mut at = 0;
        while let Some(len) = names[at..].iter().position(|b| *b == 0) {
            if shown(&names[at..at + len]) {
                names.copy_within(at..=at + len, kept);
                kept += len + 1;
            }
            at += len + 1;
        }
        names.truncate(kept);
        Ok(())
    }

    pub(super) fn set_xattr(
        &self,
        caller: &Caller<'_>,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        let found = self.find_xattr(node, name, Errno::EPERM)?;
        self.check_record(caller, &found, AccessMask::WRITE)?;
        self.setting(node, || found.on(|object| os::set_xattr(object, name, value, flags)))
    }

    pub(super) fn remove_xattr(
        &self,
        caller: &Caller<'_>,
        node: NodeId,
        name: &[u8],
    ) -> Result<()> {
        let found = self.find_xattr(node, name, Errno::ENODATA)?;
        self.check_record(caller, &found, AccessMask::WRITE)?;
        self.setting(node, || found.on(|object| os::remove_xattr(object, name)))
    }

    fn setting(&self, node: NodeId, set: impl FnOnce() -> Result<()>) -> Result<()> {
        let act = Act::SetAttr { node };
        self.observer().will(&act);
        let result = set();
        self.observer().did(&act, result.map(|()| Done { node: Some(node), ..Done::default() }));
        result
    }
}

fn wanted_uid(set: &SetAttr) -> Option<u32> {
    set.mask.contains(SetAttrMask::UID).then_some(set.uid)
}

fn wanted_gid(set: &SetAttr) -> Option<u32> {
    set.mask.contains(SetAttrMask::GID).then_some(set.gid)
}

fn set_size(object: Object<'_>, by_handle: bool, size: u64) -> Result<()> {
    if by_handle {
        return os::truncate(object.fd, size);
    }
    match object.kind {
        mode::IFREG => os::set_size(object, size),
        mode::IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EINVAL),
    }
}

/// Checks what a record says, and sets mode and owner, in a record where the host cannot.
fn set_mapped(
    export: &Export,
    caller: &Caller<'_>,
    object: Object<'_>,
    stat: &Stat,
    by_handle: bool,
    set: &SetAttr,
) -> Result<()> {
    let old = export.record(object.fd, stat);
    let attr = export.attr(stat, old.as_ref());
    if old.is_some() {
        check_recorded(caller, &attr, by_handle, set)?;
    }
    let (uid, gid) = (wanted_uid(set), wanted_gid(set));
    let owner = (uid.unwrap_or(attr.uid), gid.unwrap_or(attr.gid));
    let moves = owner != (attr.uid, attr.gid);
    if moves || (set.mask.intersects(OWNER) && old.is_some()) {
        ownership::may_chown(caller, (attr.uid, attr.gid), uid, gid)?;
    }
    let mut full = attr.mode;
    if moves || (set.mask.intersects(OWNER) && old.is_some()) {
        full = ownership::mode_after_chown(full);
    }
    if set.mask.contains(SetAttrMask::MODE) {
        let bits = set.mode & mode::PERMISSIONS;
        let bits =
            if old.is_some() { ownership::mode_for_chmod(caller, owner.1, bits) } else { bits };
        full = full & mode::IFMT | bits;
    }
    let needed = old.is_some() || moves || !Record::holds(full, attr.kind());
    if !needed {
        return if set.mask.contains(SetAttrMask::MODE) {
            os::set_mode(object, full & mode::PERMISSIONS)
        } else {
            Ok(())
        };
    }
    if !moves && full == attr.mode {
        return Ok(());
    }
    if !matches!(object.kind, mode::IFREG | mode::IFDIR) {
        return Err(Errno::EOPNOTSUPP);
    }
    let held = Record::to_hold(full, attr.kind());
    if stat.mode & mode::PERMISSIONS != held {
        os::set_mode(object, held)?;
    }
    let new = Record { uid: owner.0, gid: owner.1, mode: full, rdev: attr.rdev, held };
    export.write_record(object.fd, stat, &new)
}

/// Whether a record lets the caller set this.
fn check_recorded(caller: &Caller<'_>, attr: &Attr, by_handle: bool, set: &SetAttr) -> Result<()> {
    let owns = caller.uid == attr.uid || ownership::is_root(caller);
    let may_write = || ownership::access(caller, attr.uid, attr.gid, attr.mode, AccessMask::WRITE);
    if set.mask.contains(SetAttrMask::MODE) && !owns {
        // The kernel takes set-id bits from a file that somebody else writes to.
        let (bits, old) = (set.mode & mode::PERMISSIONS, attr.mode & mode::PERMISSIONS);
        if bits | 0o6000 != old | 0o6000 || bits & !old != 0 {
            return Err(Errno::EPERM);
        }
        may_write().map_err(|_| Errno::EPERM)?;
    }
    if set.mask.contains(SetAttrMask::SIZE) && !by_handle {
        may_write()?;
    }
    if set.mask.intersects(EXPLICIT_TIMES) && !owns {
        return Err(Errno::EPERM);
    }
    if set.mask.intersects(TIMES) && !owns {
        may_write()?;
    }
    Ok(())
}
