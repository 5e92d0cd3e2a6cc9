//! Finding everything again on a new connection: the export, its nodes, open files and locks.
//!
//! Nodes and handles are found when they are first used, on the errand threads, which may wait. One
//! thing is found at a time, so that no two threads open one file twice.

use crate::fuse::session::Session;
use crate::fuse::translate::Need;
use crate::nodes::{LocalId, Unresolved};
use protocol::{
    Attachment, Entries, Errno, ExportName, HandleId, LockKind, Name, Names, NodeId, OpenFlags,
    Reply, Request as Ask, SetAttr, SetAttrMask, limits, mode,
};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// How long one answer of the server is waited for.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Attaches the export on connection `epoch`.
///
/// # Errors
/// What the server says; `ENOTCONN` if the connection is gone.
pub fn attach(session: &Arc<Session>, epoch: u32) -> Result<(), Errno> {
    let name = ExportName::new(session.export.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let weak = Arc::downgrade(session);
    session.client.call(epoch, &Ask::Attach { name }, PATIENCE, move |reply| match reply {
        Reply::Attached { attached } => {
            weak.upgrade()?.attach(epoch, attached);
            Some(())
        }
        _ => None,
    })
}

/// Tells the server that the export is no longer used here.
pub fn detach(session: &Session) {
    let Some(attachment): Option<Attachment> = session.attachment() else { return };
    let (epoch, done) =
        (session.epoch(), |reply: &Reply<'_>| matches!(reply, Reply::Done).then_some(()));
    let ask = Ask::Detach { attachment };
    if let Err(errno) = session.client.call(epoch, &ask, PATIENCE, done) {
        debug!(%errno, "not detached");
    }
    if session.client.epoch() == epoch {
        session.client.unroute(attachment);
    }
}

/// Finds one thing again.
///
/// # Errors
/// `ESTALE` if it is no longer there, `ENOTCONN` if the connection is gone again, or what the server
/// says.
pub fn recover(session: &Session, need: Need) -> Result<(), Errno> {
    let _one = session.recovery();
    match need {
        Need::Node(node) => find(session, node).map(|_| ()),
        Need::Handle(fh) => reopen(session, fh),
        Need::Pages(fh) => open_pages(session, fh),
    }
}

/// Opens on the server what is open here alone. Tells whether that was possible; if not, it is not tried
/// again.
pub fn open_here(session: &Session, fh: u64) -> bool {
    if !session.handles.is_unopened(fh) {
        return session.handles.resolve(fh, session.epoch()).is_ok();
    }
    recover(session, Need::Handle(fh))
        .inspect_err(|errno| {
            debug!(%errno, "a file that the kernel has cached is not opened");
            session.handles.give_up(fh);
        })
        .is_ok()
}

/// Walks to a node from the nearest ancestor that is known on this connection.
fn find(session: &Session, node: LocalId) -> Result<NodeId, Errno> {
    match session.nodes.resolve(node) {
        Ok(server) => return Ok(server),
        Err(Unresolved::Unknown) => return Err(Errno::ESTALE),
        Err(Unresolved::Stale) => {}
    }
    let path = session.nodes.path(node).ok_or(Errno::ESTALE)?;
    let known = path.iter().rposition(|(at, _)| session.nodes.resolve(*at).is_ok());
    let start = known.map_or(LocalId::ROOT, |at| path.get(at).map_or(LocalId::ROOT, |of| of.0));
    let rest = path.get(known.map_or(0, |at| at + 1)..).unwrap_or_default();
    let mut base = session.nodes.resolve(start).map_err(|_| Errno::ENOTCONN)?;
    for part in rest.chunks(limits::MAX_WALK) {
        base = walk(session, base, part)?;
    }
    Ok(base)
}

fn walk(session: &Session, base: NodeId, steps: &[(LocalId, Box<[u8]>)]) -> Result<NodeId, Errno> {
    let names: Result<Vec<_>, _> = steps.iter().map(|(_, name)| Name::new(name)).collect();
    let names = Names(names.map_err(|_| Errno::ESTALE)?);
    let ask = Ask::Walk { base, names };
    let Entries(entries) =
        session.client.call(session.epoch(), &ask, PATIENCE, |reply| match reply {
            Reply::Walked { entries } => Some(entries.clone()),
            _ => None,
        })?;
    let mut at = Some(base);
    for (number, entry) in entries.iter().enumerate() {
        let same = match steps.get(number) {
            Some((node, _)) if at.is_some() => session.nodes.refound(*node, entry),
            _ => false,
        };
        if same {
            at = Some(entry.node);
        } else {
            at = None;
            session.give_back(entry.node, 1);
        }
    }
    at.filter(|_| entries.len() == steps.len()).ok_or(Errno::ESTALE)
}

fn reopen(session: &Session, fh: u64) -> Result<(), Errno> {
    let epoch = session.epoch();
    if session.handles.resolve(fh, epoch).is_ok() {
        return Ok(());
    }
    let opened = session.handles.opened(fh).ok_or(Errno::EBADF)?;
    let node = find(session, opened.node)?;
    let ask = match opened.directory {
        true => Ask::OpenDir { node },
        false => Ask::Open { node, flags: opened.flags },
    };
    let handle = open(session, epoch, &ask)?;
    session.handles.reopened(fh, handle, epoch);
    for lock in session.handles.locks(fh).into_iter().filter(|of| of.kind != LockKind::Unlock) {
        let done = |reply: &Reply<'_>| matches!(reply, Reply::Done).then_some(());
        let ask = Ask::SetLock { handle, lock, wait: false };
        if let Err(errno) = session.client.call(epoch, &ask, PATIENCE, done) {
            warn!(%errno, ?lock, "a lock was lost with the connection");
        }
    }
    Ok(())
}

fn open_pages(session: &Session, fh: u64) -> Result<(), Errno> {
    let epoch = session.epoch();
    if session.handles.resolve_pages(fh, epoch).is_ok() {
        return Ok(());
    }
    let opened = session.handles.opened(fh).ok_or(Errno::EBADF)?;
    if !opened.flags.contains(OpenFlags::APPEND) {
        return reopen(session, fh);
    }
    let node = find(session, opened.node)?;
    let flags = opened.flags - OpenFlags::APPEND;
    let handle = open(session, epoch, &Ask::Open { node, flags })?;
    session.handles.pages_opened(fh, handle, epoch);
    Ok(())
}

fn open(session: &Session, epoch: u32, ask: &Ask<'_>) -> Result<HandleId, Errno> {
    session.client.call(epoch, ask, PATIENCE, |reply| match reply {
        Reply::Opened { handle } => Some(*handle),
        _ => None,
    })
}

/// Changes the permissions of a node after a write or an ACL that takes some away. A failure is
/// only logged: the write itself is done.
pub fn change_mode(session: &Session, epoch: u32, node: LocalId, change: impl Fn(u32) -> u32) {
    let Ok(server) = session.nodes.resolve(node) else { return };
    let attr = |reply: &Reply<'_>| match reply {
        Reply::Attr { attr } => Some(attr.attr),
        _ => None,
    };
    let client = &session.client;
    let changed =
        client.call(epoch, &Ask::GetAttr { node: server }, PATIENCE, attr).and_then(|now| {
            let wanted = change(now.mode) & mode::PERMISSIONS;
            if wanted == now.mode & mode::PERMISSIONS {
                return Ok(now);
            }
            let set = SetAttr { mask: SetAttrMask::MODE, mode: wanted, ..SetAttr::NOTHING };
            client.call(epoch, &Ask::SetAttr { node: server, handle: None, set }, PATIENCE, attr)
        });
    match changed {
        Ok(attr) => {
            session.nodes.outdate([node]);
            session.nodes.note_attr(node, &attr);
            // The kernel still believes the old mode.
            let _ = session.device.invalidate_inode(node.0, -1, 0);
        }
        Err(errno) => warn!(%errno, "set-id bits stay after a write"),
    }
}
