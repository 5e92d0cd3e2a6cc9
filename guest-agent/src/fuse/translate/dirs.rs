//! Open directories and their entries.

use super::{Finish, FollowUp, Stop, View};
use crate::ahead;
use crate::fuse::abi::{self, FopenFlags};
use crate::fuse::reply::{Answer, DirBuffer};
use crate::fuse::request::{Operation as Op, Request};
use crate::handles::Opened;
use crate::nodes::LocalId;
use crate::rest::{Rest, lookups};
use protocol::listing::Listing;
use protocol::{Consistency, Entry, Errno, OpenFlags, Reply, Request as Ask, Validity, limits};
use rustc_hash::FxHashSet;

/// A directory is listed at once, without being opened, if it has so many bytes at most: then its entries
/// should fit in what is asked for.
const SMALL: u64 = 12 * 1024;
/// How much of a listing is asked for, of what is not listed at once the first time and later.
const AT_ONCE: u32 = 64 * 1024;
const FIRST: u32 = 16 * 1024;

pub(super) fn begin<'a>(
    view: &View<'_>,
    node: u64,
    operation: &Op<'a>,
    attempt: u8,
) -> Result<Ask<'a>, Stop> {
    let dir = LocalId(node);
    Ok(match *operation {
        Op::OpenDir if view.needs_no_server(dir) || is_listed_at_once(view, dir) => {
            let fh = view.handles.insert_unopened(directory(dir), None);
            return Err(Answer::Opened(open_out(view, dir, fh)).into());
        }
        Op::OpenDir => Ask::OpenDir { node: view.node(node)? },
        Op::ReadDir { handle, offset, size, plus } => {
            if let Some(mut rest) = view.handles.take_rest(handle) {
                if rest.is_outdated(view.moment()) {
                    give_back(view, &rest);
                    rest.make_void();
                    view.handles.note_piecemeal(handle);
                }
                if rest.follows(offset, plus) && (rest.all || !rest.is_void()) {
                    return Err(tell_rest(view, dir, Wanted { handle, size, plus }, rest).into());
                }
                give_back(view, &rest);
            }
            let first = offset == 0 && attempt == 0;
            let has_room = view.handles.may_have_rest();
            if first && has_room && view.handles.is_unopened(handle) && is_listed_at_once(view, dir)
            {
                return Ok(Ask::List { node: view.node(node)?, size: AT_ONCE });
            }
            let keeps = has_room && keeps_rests(view, dir) && !view.handles.is_piecemeal(handle);
            let size = match keeps {
                true => listing_size(size, plus).max(if offset == 0 { FIRST } else { AT_ONCE }),
                false => listing_size(size, plus),
            };
            Ask::ReadDir { handle: view.handle(handle)?, cookie: offset, size, plus }
        }
        Op::ReleaseDir { handle } => {
            if let Some(rest) = view.handles.take_rest(handle) {
                give_back(view, &rest);
            }
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
        (
            Op::ReadDir { handle, size, plus, .. },
            Reply::Listing { data } | Reply::Listed { all: true, data },
        ) => {
            let wanted = Wanted { handle: *handle, size: *size, plus: *plus };
            let all = matches!(reply, Reply::Listed { .. });
            tell(view, LocalId(request.node()), wanted, data.0, all)
        }
        // It is long, and has to be opened.
        (Op::ReadDir { .. }, Reply::Listed { all: false, data }) => {
            lookups(data.0).for_each(|node| view.leftovers.give_back(node, 1));
            return Some(Finish::Then(FollowUp::Again));
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

/// Whether a directory is listed without being opened: the kernel decides who may, the server tells of
/// changes, and it is small.
fn is_listed_at_once(view: &View<'_>, dir: LocalId) -> bool {
    view.may_be_ahead(dir) && view.nodes.last(dir).is_some_and(|attr| attr.size <= SMALL)
}

/// Whether more of a listing may be asked for than the kernel takes.
fn keeps_rests(view: &View<'_>, dir: LocalId) -> bool {
    view.policy.consistency != Consistency::Consistent && view.nodes.is_leased(dir)
}

/// What the kernel wants of a listing.
#[derive(Clone, Copy)]
struct Wanted {
    handle: u64,
    size: u32,
    plus: bool,
}

/// Tells the kernel what came of a listing, and keeps the rest.
fn tell(
    view: &View<'_>,
    dir: LocalId,
    wanted: Wanted,
    listing: &[u8],
    all: bool,
) -> Answer<'static> {
    let (answer, told, last) = fill(view, dir, wanted, listing, false);
    let entries = listing.get(told..).unwrap_or_default();
    // Attributes come with what is listed at once.
    let plus = all || wanted.plus;
    let mut rest = Rest::new(entries, all, plus, last, view.moment());
    let is_current = !view.overtaken && view.is_latest();
    if !is_current || !keeps_rests(view, dir) {
        give_back(view, &rest);
        rest.make_void();
    }
    keep(view, wanted.handle, rest, told > 0);
    answer
}

/// The same of what was kept.
fn tell_rest(view: &View<'_>, dir: LocalId, wanted: Wanted, mut rest: Rest) -> Answer<'static> {
    let (answer, told, last) = fill(view, dir, wanted, rest.entries(), rest.is_void());
    rest.tell(told, last);
    keep(view, wanted.handle, rest, told > 0);
    answer
}

/// Unless the kernel has been told the end.
fn keep(view: &View<'_>, handle: u64, rest: Rest, goes_on: bool) {
    let is_of_use = goes_on && (rest.all || !rest.entries().is_empty() && !rest.is_void());
    if let Some(rest) = if is_of_use { view.handles.put_rest(handle, rest) } else { Some(rest) } {
        give_back(view, &rest);
    }
}

fn give_back(view: &View<'_>, rest: &Rest) {
    rest.lookups(view.epoch).for_each(|node| view.leftovers.give_back(node, 1));
}

/// As much as the kernel has room for, only the names of what is void: the answer, how many bytes of the
/// listing that was, and the cookie of the last entry.
fn fill(
    view: &View<'_>,
    dir: LocalId,
    Wanted { size, plus, .. }: Wanted,
    listing: &[u8],
    void: bool,
) -> (Answer<'static>, usize, u64) {
    let mut out = DirBuffer::new(size);
    let no_entry = abi::EntryOut::default();
    let (mut told, mut last) = (0, 0);
    let mut entries = Listing::new(listing);
    while let Some(dirent) = entries.next() {
        let dirent = match dirent {
            Ok(dirent) => dirent,
            Err(error) => {
                tracing::error!(%error, "the server sent a bad listing");
                return (Answer::Error(Errno::EIO), listing.len(), last);
            }
        };
        if !out.fits(dirent.name.len(), plus) {
            break;
        }
        match dirent.entry.filter(|_| !void) {
            Some(entry) if plus => {
                view.is_asked_for(dir, dirent.name);
                let local = view.looked_up(dir, dirent.name, &entry);
                out.push(&dirent, Some(&view.entry(local, &entry)));
            }
            unused => {
                unused.iter().for_each(|entry| view.leftovers.give_back(entry.node, 1));
                // Without a number the kernel takes the name alone.
                out.push(&dirent, plus.then_some(&no_entry));
            }
        }
        last = dirent.cookie;
        told = listing.len() - entries.rest().len();
    }
    if listing.is_empty() && !view.overtaken && !void {
        view.nodes.note_listed(dir);
    }
    (out.finish(), told, last)
}
