//! Open files: how they are opened in each consistency mode, and what is done with them.
//!
//! | mode | opened on the server | the kernel |
//! | --- | --- | --- |
//! | `consistent` | as asked | never uses its page cache (`DIRECT_IO`) |
//! | `cached` | as asked | keeps its pages if time and size are unchanged; files opened to append bypass the cache, so that both sides append to the true end, and so do those opened only to write, since the kernel copies what it writes into its cache page by page and asks for capabilities before |
//! | `delegated` | to read and write, since the kernel completes pages by reading, and not to append, since the kernel knows the end | as `cached`, and writes back later |

use super::{Fill, Finish, FollowUp, Need, Stop, View, stop};
use crate::fuse::abi::{self, FopenFlags};
use crate::fuse::reply::Answer;
use crate::fuse::request::{Operation as Op, Request};
use crate::handles::{Cached, Opened};
use crate::nodes::LocalId;
use protocol::{
    Attr, Consistency, Errno, FallocateMode, HandleId, LockOwner, OpenFlags, Payload, Reply,
    Request as Ask, Time, Whence, limits,
};

/// `O_EXCL` (asm-generic/fcntl.h).
const O_EXCL: u32 = OpenFlags::EXCL.bits();
/// Files of so many bytes at most are read as they are opened.
const FILL: u32 = 64 * 1024;
/// Most bytes of one `copy_file_range`: what fits in the reply of older kernels, in whole pages
/// (`MAX_RW_COUNT`, linux/fs.h).
const MAX_COPY: u64 = 0x7fff_f000;

pub(super) fn begin<'a>(
    view: &View<'_>,
    node: u64,
    operation: &Op<'a>,
    attempt: u8,
) -> Result<Ask<'a>, Stop> {
    Ok(match *operation {
        Op::Open { flags } => {
            if is_read_only(flags)
                && let Some(opened) = unopened(view, LocalId(node))
            {
                return Err(Answer::Opened(opened).into());
            }
            let fills = is_read_only(flags) && may_fill(view, LocalId(node));
            let flags = open_flags(view, flags, attempt) - OpenFlags::EXCL;
            let node = view.node(node)?;
            match fills {
                true => Ask::OpenRead { node, flags, size: FILL },
                false => Ask::Open { node, flags },
            }
        }
        Op::Create { name, flags, mode, umask } => {
            view.is_asked_for(LocalId(node), name.as_bytes());
            let flags = open_flags(view, flags, attempt);
            Ask::Create { parent: view.node(node)?, name, mode, umask, flags }
        }
        Op::TmpFile { flags, mode, umask } => {
            let flags = open_flags(view, flags, attempt) - OpenFlags::EXCL;
            Ask::TmpFile { parent: view.node(node)?, mode, umask, flags }
        }
        Op::Read { handle, offset, size } => {
            let size = size.min(limits::MAX_PAYLOAD as u32);
            Ask::Read { handle: view.handle(handle)?, offset, size }
        }
        Op::Write { handle, offset, write_flags, data } => {
            if data.len() > limits::MAX_PAYLOAD {
                return Err(Errno::EIO.into());
            }
            let handle = write_handle(view, handle, write_flags)?;
            Ask::Write { handle, offset, data: Payload(data) }
        }
        Op::Flush { handle, owner } => {
            let owner = LockOwner(owner);
            // Nothing is written late by the server.
            if !view.handles.drop_posix_locks(handle, owner) {
                return Err(Stop::Done);
            }
            match view.handle(handle) {
                Ok(handle) => Ask::Flush { handle, owner },
                // The locks went with the connection.
                Err(Stop::Stale(_)) => return Err(Stop::Done),
                Err(stop) => return Err(stop),
            }
        }
        Op::Release { handle } => {
            view.leftovers.close(view.handles.remove(handle, view.epoch));
            return Err(Stop::Done);
        }
        Op::Fsync { handle, data_only } => Ask::Fsync { handle: view.handle(handle)?, data_only },
        Op::Fallocate { handle, offset, length, mode } => {
            let mode = FallocateMode::from_bits(mode).ok_or(Errno::EOPNOTSUPP)?;
            Ask::Fallocate { handle: view.handle(handle)?, offset, length, mode }
        }
        Op::Lseek { handle, offset, whence } => {
            let whence = match whence {
                3 => Whence::Data,
                4 => Whence::Hole,
                _ => return Err(Errno::EINVAL.into()),
            };
            Ask::Seek { handle: view.handle(handle)?, offset, whence }
        }
        Op::CopyFileRange { copy, .. } => Ask::CopyRange {
            source: view.handle(copy.fh_in)?,
            source_offset: copy.off_in,
            target: view.handle(copy.fh_out)?,
            target_offset: copy.off_out,
            length: copy.len.min(MAX_COPY),
        },
        _ => return Err(Errno::ENOSYS.into()),
    })
}

fn open_flags(view: &View<'_>, kernel: u32, attempt: u8) -> OpenFlags {
    let mut flags = OpenFlags::from_bits_truncate(kernel);
    // Access mode 3 asks for the rights of both.
    if flags.contains(OpenFlags::WRONLY | OpenFlags::RDWR) {
        flags -= OpenFlags::WRONLY;
    }
    if view.policy.consistency == Consistency::Delegated {
        flags -= OpenFlags::APPEND;
        if attempt == 0 && flags.contains(OpenFlags::WRONLY) {
            flags = (flags - OpenFlags::WRONLY) | OpenFlags::RDWR;
        }
    }
    flags
}

/// A file that the caller may write but not read is opened only to write at the second attempt.
pub(super) fn retries(view: &View<'_>, operation: &Op<'_>, attempt: u8, errno: Errno) -> bool {
    let (Op::Open { flags } | Op::Create { flags, .. }) = operation else { return false };
    attempt == 0
        && errno == Errno::EACCES
        && open_flags(view, *flags, 0) != open_flags(view, *flags, 1)
}

/// Pages written back have an offset even if the file was opened to append.
fn write_handle(view: &View<'_>, fh: u64, write_flags: u32) -> Result<HandleId, Stop> {
    if write_flags & abi::WRITE_CACHE == 0 {
        return view.handle(fh);
    }
    let found = view.handles.resolve_pages(fh, view.epoch);
    found.map_err(|why| stop(why, Errno::EBADF, Need::Pages(fh)))
}

pub(super) fn writes_at_offset(view: &View<'_>, fh: u64, write_flags: u32) -> bool {
    let appends = view.handles.opened(fh).is_none_or(|of| of.flags.contains(OpenFlags::APPEND));
    !appends || write_flags & abi::WRITE_CACHE != 0
}

pub(super) fn finish<'r>(
    view: &View<'_>,
    request: &Request<'_>,
    attempt: u8,
    reply: &'r Reply<'r>,
) -> Option<Finish<'r>> {
    let parent = LocalId(request.node());
    let answer = match (&request.operation, reply) {
        (Op::Open { flags }, Reply::Opened { handle }) => {
            let asked = open_flags(view, *flags, attempt);
            Answer::Opened(opened(view, parent, *handle, asked))
        }
        (Op::Open { flags }, Reply::OpenedRead { handle, attr: reply, data }) => {
            let replaces = view.nodes.was_opened(parent);
            let out = opened(view, parent, *handle, open_flags(view, *flags, attempt));
            let (attr, data) = (reply.attr, data.0);
            let is_content = may_be_filled(view, parent, &attr, data);
            if is_content && view.is_latest() {
                view.told_next(parent, &Some(*reply));
            }
            if is_content && view.handles.opens(parent) == 1 {
                let kept = out.open_flags & FopenFlags::KEEP_CACHE.bits() != 0;
                let replaces = replaces && !kept;
                return Some(Finish::Fill(Fill { node: parent, attr, data, replaces }, out));
            }
            Answer::Opened(out)
        }
        (Op::Create { name, flags, .. }, Reply::Created { created }) => {
            view.is_asked_for(parent, name.as_bytes());
            let local = view.nodes.made(parent, name.as_bytes(), &created.entry);
            if *flags & O_EXCL != 0 || is_unchanged(&created.entry.attr) {
                view.nodes.note_capability(local, false);
            }
            view.told_next(parent, &created.dir);
            let open = opened(view, local, created.handle, open_flags(view, *flags, attempt));
            Answer::Created(view.entry(local, &created.entry), open)
        }
        (Op::TmpFile { flags, .. }, Reply::Created { created }) => {
            let local = view.nodes.found_unnamed(&created.entry);
            let open = opened(view, local, created.handle, open_flags(view, *flags, attempt));
            Answer::Created(view.entry(local, &created.entry), open)
        }
        (Op::Read { size, offset, .. }, Reply::Data { data }) if data.0.len() <= *size as usize => {
            if !view.overtaken {
                view.nodes.note_read(parent, *offset, data.0.len() as u64);
            }
            Answer::Data(data.0)
        }
        (Op::Write { handle, write_flags, data, .. }, Reply::Written { size, attr })
            if *size as usize <= data.len() =>
        {
            view.nodes.note_written(parent);
            let direct = view.handles.opened(*handle).is_some_and(|of| of.direct);
            let answer = Answer::Written(*size);
            let late = write_flags & abi::WRITE_CACHE != 0;
            if direct && !late && must_drop_set_id(view, parent, request) {
                return Some(Finish::Then(FollowUp::DropSetId(parent, answer)));
            }
            // Of pages that are written late several may be under way.
            match late {
                true => view.nodes.outdate([parent]),
                false => view.told_next(parent, attr),
            }
            answer
        }
        (Op::CopyFileRange { wide, copy }, Reply::Written { size, attr }) => {
            if let Some(target) = view.handles.opened(copy.fh_out) {
                view.nodes.note_written(target.node);
                view.told_next(target.node, attr);
            }
            if *wide { Answer::Copied((*size).into()) } else { Answer::Written(*size) }
        }
        (Op::Lseek { .. }, Reply::Offset { offset }) => Answer::Offset(*offset),
        (Op::Fallocate { .. }, Reply::Done) => {
            view.nodes.note_written(parent);
            Answer::Done
        }
        (Op::Flush { .. } | Op::Fsync { .. }, Reply::Done) => Answer::Done,
        _ => return None,
    };
    Some(Finish::Answer(answer))
}

/// Whether an object is as it was born, and so without capabilities.
fn is_unchanged(attr: &Attr) -> bool {
    attr.btime != Time::default() && attr.btime == attr.ctime
}

/// Whether to ask for the content of a file as it is opened. Nobody may be reading it at the same time.
fn may_fill(view: &View<'_>, node: LocalId) -> bool {
    view.policy.consistency == Consistency::Cached
        && view.nodes.wants_content(node, FILL.into())
        && view.handles.opens(node) == 0
}

/// Whether what came with an answer is the content of the file still.
fn may_be_filled(view: &View<'_>, node: LocalId, attr: &Attr, data: &[u8]) -> bool {
    !view.overtaken && view.nodes.has_content(node, attr) && data.len() as u64 == attr.size
}

/// Keeps an open file and tells the kernel how to treat it.
fn opened(view: &View<'_>, node: LocalId, handle: HandleId, asked: OpenFlags) -> abi::OpenOut {
    let direct = match view.policy.consistency {
        // Without it, the kernel compares times and size at every read instead.
        Consistency::Consistent => view.maps_direct,
        Consistency::Cached => asked.intersects(OpenFlags::APPEND | OpenFlags::WRONLY),
        Consistency::Delegated => false,
    };
    let mut kernel = FopenFlags::empty();
    kernel.set(FopenFlags::DIRECT_IO, direct);
    // Others may have it cached, or mapped.
    let keeps = view.policy.consistency != Consistency::Consistent || !direct;
    kernel.set(FopenFlags::KEEP_CACHE, keeps && view.nodes.keeps_cache(node));
    kernel.set(FopenFlags::NOFLUSH, closes_silently(view, asked));
    let flags = asked - OpenFlags::TRUNC - OpenFlags::EXCL;
    let record = Opened { node, flags, directory: false, direct };
    let fh = view.handles.insert(record, handle, view.epoch);
    abi::OpenOut { fh, open_flags: kernel.bits(), backing_id: 0 }
}

/// `O_ACCMODE` (asm-generic/fcntl.h).
const O_ACCMODE: u32 = 3;
/// `O_TRUNC`.
const O_TRUNC: u32 = OpenFlags::TRUNC.bits();
/// `O_DIRECT` of x86-64 and of arm64, where the other one asks for a directory.
const O_DIRECT: u32 = 0o40_000 | 0o200_000;

/// Whether nothing is wanted but to read, through the page cache.
fn is_read_only(kernel: u32) -> bool {
    kernel & (O_ACCMODE | O_TRUNC | O_DIRECT) == 0
}

/// Whether nothing has to be done when a descriptor is closed that is not the last: nothing is written
/// late, neither by the kernel's cache nor through a mapping, and nobody locks by `fcntl`.
fn closes_silently(view: &View<'_>, asked: OpenFlags) -> bool {
    view.policy.consistency != Consistency::Delegated
        && !asked.contains(OpenFlags::RDWR)
        && !view.handles.has_seen_posix_locks()
}

/// Opens a file here alone, if that can be.
fn unopened(view: &View<'_>, node: LocalId) -> Option<abi::OpenOut> {
    if !view.needs_no_server(node) {
        return None;
    }
    let flags = OpenFlags::empty();
    let opened = Opened { node, flags, directory: false, direct: false };
    let cached = view.nodes.last(node).map(|Attr { mtime, size, .. }| Cached { mtime, size });
    let fh = view.handles.insert_unopened(opened, cached);
    // Whoever drops its pages looks who has it open after it has said so.
    if !view.needs_no_server(node) {
        view.handles.remove(fh, view.epoch);
        return None;
    }
    let mut kernel = FopenFlags::KEEP_CACHE;
    kernel.set(FopenFlags::NOFLUSH, closes_silently(view, flags));
    Some(abi::OpenOut { fh, open_flags: kernel.bits(), backing_id: 0 })
}

/// The kernel takes set-id bits away when it writes through its cache or changes a size, but not
/// when it writes past the cache.
fn must_drop_set_id(view: &View<'_>, node: LocalId, request: &Request<'_>) -> bool {
    let mode = view.nodes.known(node).map_or(0, |known| known.mode);
    request.header.uid != 0 && drop_set_id(mode) != mode
}

/// A mode without what a write by another user takes away (`setattr_should_drop_suidgid`).
pub(crate) fn drop_set_id(mode: u32) -> u32 {
    let group = if mode & 0o010 != 0 { 0o2000 } else { 0 };
    mode & !(0o4000 | group)
}
