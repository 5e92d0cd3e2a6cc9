//! Open directories and their entries.

use super::{Finish, Stop, View};
use crate::fuse::abi;
use crate::fuse::reply::{Answer, DirBuffer};
use crate::fuse::request::{Operation as Op, Request};
use crate::handles::Opened;
use crate::nodes::LocalId;
use protocol::listing::Listing;
use protocol::{Errno, OpenFlags, Reply, Request as Ask, limits};

pub(super) fn begin<'a>(view: &View<'_>, node: u64, operation: &Op<'a>) -> Result<Ask<'a>, Stop> {
    Ok(match *operation {
        Op::OpenDir => Ask::OpenDir { node: view.node(node)? },
        Op::ReadDir { handle, offset, size, plus } => {
            let size = listing_size(size, plus);
            Ask::ReadDir { handle: view.handle(handle)?, cookie: offset, size, plus }
        }
        Op::ReleaseDir { handle } => match view.handles.remove(handle, view.epoch) {
            (Some(handle), _) => Ask::ReleaseDir { handle },
            _ => return Err(Stop::Done),
        },
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

pub(super) fn finish<'r>(
    view: &View<'_>,
    request: &Request<'_>,
    reply: &'r Reply<'r>,
) -> Option<Finish<'r>> {
    let answer = match (&request.operation, reply) {
        (Op::OpenDir, Reply::Opened { handle }) => {
            let (node, flags) = (LocalId(request.node()), OpenFlags::empty());
            let record = Opened { node, flags, directory: true, direct: false };
            let fh = view.handles.insert(record, *handle, view.epoch);
            Answer::Opened(abi::OpenOut { fh, ..Default::default() })
        }
        (Op::ReadDir { size, plus, .. }, Reply::Listing { data }) => {
            list(view, LocalId(request.node()), *size, *plus, data.0)
        }
        (Op::ReleaseDir { .. } | Op::FsyncDir { .. }, Reply::Done) => Answer::Done,
        _ => return None,
    };
    Some(Finish::Answer(answer))
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
                let local = view.looked_up(dir, dirent.name, &entry);
                out.push(&dirent, Some(&view.entry(local, &entry)));
            }
            // Without a number the kernel takes the name alone.
            None if !full => out.push(&dirent, plus.then_some(&no_entry)),
            None => {}
        }
    }
    out.finish()
}
