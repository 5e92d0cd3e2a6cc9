//! Open directories and their entries.

use super::{Finish, Stop, View};
use crate::ahead;
use crate::fuse::abi::{self, FopenFlags};
use crate::fuse::reply::{Answer, DirBuffer};
use crate::fuse::request::{Operation as Op, Request};
use crate::handles::Opened;
use crate::nodes::LocalId;
use protocol::listing::Listing;
use protocol::{Consistency, Entry, Errno, OpenFlags, Reply, Request as Ask, Validity, limits};
use rustc_hash::FxHashSet;

pub(super) fn begin<'a>(view: &View<'_>, node: u64, operation: &Op<'a>) -> Result<Ask<'a>, Stop> {
    Ok(match *operation {
        Op::OpenDir if view.needs_no_server(LocalId(node)) => {
            let fh = view.handles.insert_unopened(directory(LocalId(node)), None);
            return Err(Answer::Opened(open_out(view, LocalId(node), fh)).into());
        }
        Op::OpenDir => Ask::OpenDir { node: view.node(node)? },
        Op::ReadDir { handle, offset, size, plus } => {
            let size = listing_size(size, plus);
            Ask::ReadDir { handle: view.handle(handle)?, cookie: offset, size, plus }
        }
        Op::ReleaseDir { handle } => {
            view.leftovers.close(view.handles.remove(handle, view.epoch));
            return Err(Stop::Done);
        }
        Op::FsyncDir { handle, data_only } => {
            Ask::Fsync { handle: view.handle(handle)?, data_only }
        }
        _ => return Err(Errno::ENOSYS.into()),
    })
}

/// How much listing to ask for, so that it nearly fills the kernel's buffer and seldom exceeds it.
/// An entry of the protocol is shorter than the kernel's: 20 against 24 bytes and the name, or 132
/// against 152, and the kernel's is rounded up to eight. The least that is asked for holds any name.
fn listing_size(kernel: u32, plus: bool) -> u32 {
    let kernel = u64::from(kernel.min(limits::MAX_PAYLOAD as u32));
    let size = if plus { kernel * 13 / 16 } else { kernel * 3 / 4 };
    (size as u32).max(512)
}

/// Keeps what was told of a directory for when it is asked for: what the kernel does not know, and the
/// server tells changes of. `whole`: nothing else is in it.
pub(crate) fn take_ahead(view: &View<'_>, dir: LocalId, listing: &[u8], whole: bool) {
    let mut all = FxHashSet::default();
    let listed = Listing::new(listing).map_while(Result::ok);
    let told = listed.filter_map(|listed| {
        all.insert(ahead::digest(listed.name));
        Some((Box::<[u8]>::from(listed.name), listed.entry?))
    });
    let is_kept = |name: &[u8], entry: &Entry| {
        !view.overtaken
            && entry.valid.entry_ms == Validity::LEASED
            && entry.valid.attr_ms == Validity::LEASED
            && view.nodes.child(dir, name).is_none()
            && view.nodes.local(entry.node).is_none()
    };
    let (kept, rest): (Vec<_>, Vec<_>) = told.partition(|(name, entry)| is_kept(name, entry));
    rest.iter().for_each(|(_, entry)| view.leftovers.give_back(entry.node, 1));
    let all = Some(all).filter(|_| whole && !view.overtaken);
    let given = view.ahead.put(dir, kept, all);
    given.into_iter().for_each(|node| view.leftovers.give_back(node, 1));
}

pub(super) fn finish<'r>(
    view: &View<'_>,
    request: &Request<'_>,
    reply: &'r Reply<'r>,
) -> Option<Finish<'r>> {
    let answer = match (&request.operation, reply) {
        (Op::OpenDir, Reply::Opened { handle }) => {
            let node = LocalId(request.node());
            let fh = view.handles.insert(directory(node), *handle, view.epoch);
            Answer::Opened(open_out(view, node, fh))
        }
        (Op::ReadDir { size, plus, .. }, Reply::Listing { data }) => {
            list(view, LocalId(request.node()), *size, *plus, data.0)
        }
        (Op::FsyncDir { .. }, Reply::Done) => Answer::Done,
        _ => return None,
    };
    Some(Finish::Answer(answer))
}

/// A directory that the host has removed while it was open here alone: whoever has it open may open it
/// once more. The kernel knows that nothing is in it.
pub(super) fn open_removed(
    view: &View<'_>,
    request: &Request<'_>,
    errno: Errno,
) -> Option<Answer<'static>> {
    let node = LocalId(request.node());
    if errno != Errno::ESTALE || !matches!(request.operation, Op::OpenDir) {
        return None;
    }
    view.handles.unopened_of(node)?;
    let fh = view.handles.insert_unopened(directory(node), None);
    Some(Answer::Opened(open_out(view, node, fh)))
}

fn directory(node: LocalId) -> Opened {
    Opened { node, flags: OpenFlags::empty(), directory: true, direct: false }
}

/// The kernel may keep a listing as long as it is told of changes: what it makes, removes and renames,
/// by itself or injected, ends it.
fn open_out(view: &View<'_>, node: LocalId, fh: u64) -> abi::OpenOut {
    let kept = match view.policy.consistency {
        Consistency::Consistent => false,
        Consistency::Cached | Consistency::Delegated => view.nodes.is_leased(node),
    };
    let flags = match kept {
        true => FopenFlags::KEEP_CACHE | FopenFlags::CACHE_DIR,
        false => FopenFlags::empty(),
    };
    abi::OpenOut { fh, open_flags: flags.bits(), backing_id: 0 }
}

/// What does not fit is not told to the kernel, which asks again from the last entry it got.
fn list(view: &View<'_>, dir: LocalId, size: u32, plus: bool, listing: &[u8]) -> Answer<'static> {
    let mut out = DirBuffer::new(size);
    let mut full = false;
    let no_entry = abi::EntryOut::default();
    for dirent in Listing::new(listing) {
        let dirent = match dirent {
            Ok(dirent) => dirent,
            Err(error) => {
                tracing::error!(%error, "the server sent a bad listing");
                return Answer::Error(Errno::EIO);
            }
        };
        full = full || !out.fits(dirent.name.len(), plus);
        match dirent.entry {
            Some(entry) if full || !plus => view.leftovers.give_back(entry.node, 1),
            Some(entry) => {
                view.is_asked_for(dir, dirent.name);
                let local = view.looked_up(dir, dirent.name, &entry);
                out.push(&dirent, Some(&view.entry(local, &entry)));
            }
            // Without a number the kernel takes the name alone.
            None if !full => out.push(&dirent, plus.then_some(&no_entry)),
            None => {}
        }
    }
    if listing.is_empty() && !view.overtaken {
        view.nodes.note_listed(dir);
    }
    out.finish()
}
