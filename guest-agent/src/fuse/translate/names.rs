//! Names in directories: look up, make, link, remove, rename.

use super::{Before, Finish, Need, Stop, View};
use crate::ahead::Told;
use crate::fuse::reply::{self, Answer};
use crate::fuse::request::{Operation as Op, Request};
use crate::nodes::{LocalId, NodeTable};
use protocol::{Errno, Name, RenameFlags, Reply, Request as Ask, Validity};

pub(super) fn begin<'a>(view: &View<'_>, node: u64, operation: &Op<'a>) -> Result<Ask<'a>, Stop> {
    match *operation {
        Op::Lookup { name } => {
            let (dir, name) = (LocalId(node), name.as_bytes());
            match view.ahead.take(dir, name) {
                Some(Told::There(entry)) => {
                    let local = view.nodes.found(dir, name, &entry);
                    return Err(Answer::Entry(view.entry(local, &entry)).into());
                }
                Some(Told::Absent)
                    if view.may_be_ahead(dir) && view.nodes.child(dir, name).is_none() =>
                {
                    return Err(reply::no_entry(Validity::LEASED).into());
                }
                Some(Told::Absent) | None => {}
            }
        }
        Op::SymLink { name, .. }
        | Op::MkNod { name, .. }
        | Op::MkDir { name, .. }
        | Op::Link { name, .. }
        | Op::RmDir { name } => view.is_asked_for(LocalId(node), name.as_bytes()),
        Op::Unlink { name } => {
            view.is_asked_for(LocalId(node), name.as_bytes());
            open_first(view, node, name)?;
        }
        Op::Rename { name, new_parent, new_name, .. } => {
            view.is_asked_for(LocalId(node), name.as_bytes());
            view.is_asked_for(LocalId(new_parent), new_name.as_bytes());
            open_first(view, new_parent, new_name)?;
        }
        _ => {}
    }
    let parent = view.node(node)?;
    Ok(match *operation {
        Op::Lookup { name } => Ask::Lookup { parent, name },
        Op::SymLink { name, target } => Ask::SymLink { parent, name, target },
        Op::MkNod { name, mode, rdev, umask } => Ask::MkNod { parent, name, mode, umask, rdev },
        Op::MkDir { name, mode, umask } => Ask::MkDir { parent, name, mode, umask },
        Op::Unlink { name } => Ask::Unlink { parent, name },
        Op::RmDir { name } => Ask::RmDir { parent, name },
        Op::Rename { name, new_parent, new_name, flags } => {
            let new_parent = view.node(new_parent)?;
            let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
            Ask::Rename { parent, name, new_parent, new_name, flags }
        }
        Op::Link { node, name } => Ask::Link { node: view.node(node)?, parent, name },
        _ => return Err(Errno::ENOSYS.into()),
    })
}

/// A file that is about to lose its name stays usable only if the server has it open too.
fn open_first(view: &View<'_>, dir: u64, name: Name<'_>) -> Result<(), Stop> {
    let file = view.nodes.child(LocalId(dir), name.as_bytes());
    match file.and_then(|file| view.handles.unopened_of(file)) {
        Some((fh, true)) => Err(Stop::Stale(Need::Handle(fh))),
        Some((_, false)) | None => Ok(()),
    }
}

/// What the names of a request lead to, before it is made.
pub(crate) fn led_to(nodes: &NodeTable, request: &Request<'_>) -> Before {
    let dir = LocalId(request.node());
    match &request.operation {
        Op::Lookup { name } | Op::Unlink { name } | Op::RmDir { name } => {
            [nodes.child(dir, name.as_bytes()), None]
        }
        Op::Rename { name, new_parent, new_name, .. } => [
            nodes.child(dir, name.as_bytes()),
            nodes.child(LocalId(*new_parent), new_name.as_bytes()),
        ],
        _ => [None; 2],
    }
}

pub(super) fn finish<'r>(
    view: &View<'_>,
    request: &Request<'_>,
    reply: &Reply<'_>,
) -> Option<Finish<'r>> {
    let parent = LocalId(request.node());
    let answer = match (&request.operation, reply) {
        (Op::Lookup { name }, Reply::Entry { entry }) => {
            view.is_asked_for(parent, name.as_bytes());
            let local = view.looked_up(parent, name.as_bytes(), entry);
            Answer::Entry(view.entry(local, entry))
        }
        (
            Op::SymLink { name, .. }
            | Op::MkNod { name, .. }
            | Op::MkDir { name, .. }
            | Op::Link { name, .. },
            Reply::Made { entry, dir },
        ) => {
            view.is_asked_for(parent, name.as_bytes());
            let local = view.nodes.made(parent, name.as_bytes(), entry);
            view.told_next(parent, dir);
            Answer::Entry(view.entry(local, entry))
        }
        (Op::Lookup { name }, Reply::NoEntry { entry_ms }) => {
            view.is_asked_for(parent, name.as_bytes());
            if let Some(gone) = view.before[0].filter(|_| !view.overtaken) {
                view.nodes.left(gone, parent, name.as_bytes());
            }
            reply::no_entry(view.believed(*entry_ms))
        }
        (Op::Unlink { name } | Op::RmDir { name }, Reply::Removed { dir }) => {
            if let Some(gone) = view.before[0] {
                view.nodes.removed(gone, parent, name.as_bytes());
            }
            view.is_gone(parent, name.as_bytes());
            view.told_next(parent, dir);
            Answer::Done
        }
        (
            Op::Rename { name, new_parent, new_name, flags },
            Reply::Renamed { from: old_dir, to: new_dir },
        ) => {
            let exchange = flags & RenameFlags::EXCHANGE.bits() != 0;
            let new_parent = LocalId(*new_parent);
            let (from, to) = ((parent, name.as_bytes()), (new_parent, new_name.as_bytes()));
            view.is_asked_for(from.0, from.1);
            view.is_asked_for(to.0, to.1);
            view.nodes.renamed(view.before, from, to, exchange);
            if !exchange {
                view.is_gone(from.0, from.1);
            }
            view.told_next(parent, old_dir);
            view.told_next(new_parent, new_dir);
            Answer::Done
        }
        _ => return None,
    };
    Some(Finish::Answer(answer))
}
