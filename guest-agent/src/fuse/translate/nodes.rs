//! A node itself: attributes, target, rights, extended attributes, and its file system.

use super::{Finish, FollowUp, Stop, View};
use crate::fuse::abi::{self, FattrMask};
use crate::fuse::reply::{self, Answer};
use crate::fuse::request::{Operation as Op, Request};
use crate::handles::Cached;
use crate::nodes::LocalId;
use protocol::{
    AccessMask, Attr, AttrReply, Consistency, Errno, OwnershipMode, Reply, Request as Ask, SetAttr,
    SetAttrMask, Time, XattrFlags, XattrValue, mode,
};

/// The kernel asks for this attribute before every write, to take it away.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

pub(super) fn begin<'a>(view: &View<'_>, node: u64, operation: &Op<'a>) -> Result<Ask<'a>, Stop> {
    match operation {
        Op::Access { mask } => access_without_server(view, *mask)?,
        Op::GetXattr { name, .. }
            if name.as_bytes() == CAPABILITY && view.nodes.has_no_capability(LocalId(node)) =>
        {
            return Err(Errno::ENODATA.into());
        }
        Op::GetAttr | Op::Statx => {
            if let Some(attr) = view.nodes.take_next(LocalId(node), view.arrivals) {
                return Err(attr_answer(operation, &attr).into());
            }
        }
        Op::StatFs if view.policy.consistency != Consistency::Consistent => {
            if let Some(figures) = view.nodes.figures(LocalId(node), view.arrivals) {
                return Err(Answer::StatFs(reply::statfs(&figures)).into());
            }
        }
        _ => {}
    }
    let local = node;
    let node = view.node(local)?;
    Ok(match operation {
        Op::GetAttr | Op::Statx => Ask::GetAttr { node },
        Op::SetAttr { set } => {
            let valid = FattrMask::from_bits_retain(set.valid);
            let set_attr = set_attr(set, valid);
            if set_attr.mask.is_empty() {
                return Ok(Ask::GetAttr { node });
            }
            let through_file = valid.contains(FattrMask::FH) && valid.contains(FattrMask::SIZE);
            let handle = if through_file { Some(view.handle(set.fh)?) } else { None };
            Ask::SetAttr { node, handle, set: set_attr }
        }
        Op::ReadLink => Ask::ReadLink { node },
        Op::StatFs => Ask::StatFs { node },
        Op::SyncFs => Ask::SyncFs { node },
        Op::Access { mask } => Ask::Access { node, mask: AccessMask::from_bits_truncate(*mask) },
        Op::SetXattr { name, value, flags, .. } => {
            let flags = XattrFlags::from_bits(*flags).ok_or(Errno::EINVAL)?;
            let value = XattrValue::new(value).map_err(|_| Errno::E2BIG)?;
            Ask::SetXattr { node, name: *name, value, flags }
        }
        Op::GetXattr { name, .. } => Ask::GetXattr { node, name: *name },
        Op::ListXattr { .. } => Ask::ListXattr { node },
        Op::RemoveXattr { name } => Ask::RemoveXattr { node, name: *name },
        _ => return Err(Errno::ENOSYS.into()),
    })
}

/// The server says that an attribute is not there.
pub(super) fn note_missing(view: &View<'_>, request: &Request<'_>) {
    if let Op::GetXattr { name, .. } = &request.operation
        && name.as_bytes() == CAPABILITY
    {
        view.nodes.note_capability(LocalId(request.node()), false);
    }
}

/// A file that the host has removed while it was open here alone: the kernel has its content, and
/// wants to know its attributes to give it out. It would not if they were newer. Of a directory they are
/// what whoever has it open is told.
pub(super) fn last_known(
    view: &View<'_>,
    request: &Request<'_>,
    errno: Errno,
) -> Option<Answer<'static>> {
    let node = LocalId(request.node());
    let asked = matches!(request.operation, Op::GetAttr | Op::Statx);
    if errno != Errno::ESTALE || !asked {
        return None;
    }
    let (fh, _) = view.handles.unopened_of(node)?;
    let last = view.nodes.last(node)?;
    let attr = match view.handles.cached(fh) {
        Some(Cached { mtime, size }) => Attr { mtime, size, ..last },
        None if last.is_dir() => last,
        None => return None,
    };
    Some(attr_answer(&request.operation, &AttrReply { attr, attr_ms: 0 }))
}

/// With owners as on the host the kernel checks permissions itself; it is told not to ask again.
fn access_without_server(view: &View<'_>, mask: u32) -> Result<(), Stop> {
    if view.policy.ownership == OwnershipMode::Host {
        return Err(Errno::ENOSYS.into());
    }
    // F_OK: the node exists, or the kernel could not ask.
    if AccessMask::from_bits_truncate(mask).is_empty() {
        return Err(Stop::Done);
    }
    Ok(())
}

/// The change time follows from the change, so `CTIME` has no counterpart.
fn set_attr(set: &abi::SetattrIn, valid: FattrMask) -> SetAttr {
    let pairs = [
        (FattrMask::MODE, SetAttrMask::MODE),
        (FattrMask::UID, SetAttrMask::UID),
        (FattrMask::GID, SetAttrMask::GID),
        (FattrMask::SIZE, SetAttrMask::SIZE),
        (FattrMask::ATIME, SetAttrMask::ATIME),
        (FattrMask::MTIME, SetAttrMask::MTIME),
        (FattrMask::ATIME_NOW, SetAttrMask::ATIME_NOW),
        (FattrMask::MTIME_NOW, SetAttrMask::MTIME_NOW),
    ];
    let set_bits = pairs.iter().filter(|(kernel, _)| valid.contains(*kernel));
    SetAttr {
        mask: set_bits.fold(SetAttrMask::empty(), |mask, (_, ours)| mask | *ours),
        mode: set.mode & mode::PERMISSIONS,
        uid: set.uid,
        gid: set.gid,
        size: set.size,
        atime: Time { sec: set.atime as i64, nsec: set.atimensec },
        mtime: Time { sec: set.mtime as i64, nsec: set.mtimensec },
    }
}

fn attr_answer(operation: &Op<'_>, attr: &AttrReply) -> Answer<'static> {
    match operation {
        Op::Statx => reply::statx(attr),
        _ => Answer::Attr(reply::attr_out(attr)),
    }
}

pub(super) fn finish<'r>(
    view: &View<'_>,
    request: &Request<'_>,
    reply: &'r Reply<'r>,
) -> Option<Finish<'r>> {
    let local = LocalId(request.node());
    let answer = match (&request.operation, reply) {
        (Op::GetAttr | Op::SetAttr { .. } | Op::Statx, Reply::Attr { attr }) => {
            let attr = view.attr(attr);
            view.nodes.told(local, &attr);
            attr_answer(&request.operation, &attr)
        }
        (Op::ReadLink, Reply::Target { target }) => Answer::Data(target.as_bytes()),
        (Op::StatFs, Reply::StatFs { statfs }) => {
            if view.is_latest() {
                view.nodes.told_figures(local, statfs, view.arrivals);
            }
            Answer::StatFs(reply::statfs(statfs))
        }
        (Op::SyncFs | Op::Access { .. } | Op::RemoveXattr { .. }, Reply::Done) => Answer::Done,
        (Op::SetXattr { kill_sgid: true, .. }, Reply::Done) => {
            return Some(Finish::Then(FollowUp::DropSetGid(local, Answer::Done)));
        }
        (Op::SetXattr { name, .. }, Reply::Done) => {
            if name.as_bytes() == CAPABILITY {
                view.nodes.note_capability(local, true);
            }
            Answer::Done
        }
        (Op::GetXattr { size, .. } | Op::ListXattr { size }, Reply::Data { data }) => {
            match (data.0.len(), *size as usize) {
                (len, 0) => Answer::XattrSize(len as u32),
                (len, size) if len > size => Answer::Error(Errno::ERANGE),
                _ => Answer::Data(data.0),
            }
        }
        _ => return None,
    };
    Some(Finish::Answer(answer))
}
