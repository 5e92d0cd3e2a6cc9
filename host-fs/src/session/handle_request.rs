//! From a request to its answer: checks what holds for all, calls what serves it, forms the reply.

use super::{Responder, Session};
use crate::scratch;
use protocol::{
    Caller, Entries, Errno, HandleId, NodeId, Payload, Reply, Request, Tag, Target, limits,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::trace;

/// What every operation gives.
pub(super) type Result<T> = std::result::Result<T, Errno>;

/// What a request is about, for the checks that hold for all.
enum Subject {
    Node(NodeId),
    Handle(HandleId),
    None,
}

fn subject(request: &Request<'_>) -> Subject {
    match *request {
        Request::MkNod { parent, .. }
        | Request::MkDir { parent, .. }
        | Request::SymLink { parent, .. }
        | Request::Link { parent, .. }
        | Request::Unlink { parent, .. }
        | Request::RmDir { parent, .. }
        | Request::Rename { parent, .. }
        | Request::Create { parent, .. }
        | Request::TmpFile { parent, .. } => Subject::Node(parent),
        Request::SetAttr { node, .. }
        | Request::Open { node, .. }
        | Request::OpenRead { node, .. }
        | Request::SetXattr { node, .. }
        | Request::RemoveXattr { node, .. } => Subject::Node(node),
        Request::Write { handle, .. } | Request::Fallocate { handle, .. } => {
            Subject::Handle(handle)
        }
        Request::CopyRange { target, .. } => Subject::Handle(target),
        _ => Subject::None,
    }
}

impl Session {
    /// Serves a request on this thread and answers it, except that a lock which must wait is
    /// answered later, from the thread that releases it. Requests without an answer drop the
    /// responder.
    pub fn handle<R: Responder>(
        self: &Arc<Self>,
        tag: Tag,
        caller: &Caller<'_>,
        request: &Request<'_>,
        respond: R,
    ) {
        self.counters.operations.add(1);
        self.observer().serving();
        trace!(session = self.id, tag = tag.0, ?request, "request");
        if self.closed.load(Ordering::SeqCst) {
            if request.is_answered() {
                respond.respond(&Reply::Error { errno: Errno::ENOTCONN });
            }
            return;
        }
        if let Err(errno) = self.check_read_only(request) {
            return self.answer(respond, Err(errno));
        }
        match request {
            Request::Forget { nodes } => {
                for one in &nodes.0 {
                    self.forget(one.node, one.count);
                }
            }
            Request::Cancel { tag } => self.cancel(*tag),
            Request::Acknowledge { seq } => self.observer().acknowledged(*seq),
            Request::Close { handles } => handles.0.iter().for_each(|handle| self.release(*handle)),
            Request::Watched { attachment, dirs } => {
                // Of what is not attached nothing may be kept.
                if self.state.lock().root(attachment.0).is_ok() {
                    self.observer().watched_by_guest(*attachment, &dirs.0);
                }
            }
            Request::SetLock { handle, lock, wait } => {
                self.set_lock(tag, *handle, lock, *wait, respond);
            }
            Request::Read { handle, offset, size } => {
                self.answer_bytes(
                    respond,
                    |buffer| self.read(*handle, *offset, *size, buffer),
                    |data, ()| Reply::Data { data: Payload(data) },
                );
            }
            Request::OpenRead { node, flags, size } => {
                self.answer_bytes(
                    respond,
                    |buffer| self.open_read(caller, *node, *flags, *size, buffer),
                    |data, (handle, attr)| match attr {
                        Some(attr) => Reply::OpenedRead { handle, attr, data: Payload(data) },
                        None => Reply::Opened { handle },
                    },
                );
            }
            Request::ReadDir { handle, cookie, size, plus } => {
                self.answer_bytes(
                    respond,
                    |buffer| self.read_dir(*handle, *cookie, *size, *plus, buffer),
                    |data, ()| Reply::Listing { data: Payload(data) },
                );
            }
            Request::List { node, size } => {
                self.answer_bytes(
                    respond,
                    |buffer| self.list_at_once(caller, *node, *size, buffer),
                    |data, all| Reply::Listed { all, data: Payload(data) },
                );
            }
            Request::GetXattr { node, name } => {
                self.answer_bytes(
                    respond,
                    |buffer| self.get_xattr(caller, *node, name.as_bytes(), buffer),
                    |data, ()| Reply::Data { data: Payload(data) },
                );
            }
            Request::ListXattr { node } => {
                self.answer_bytes(
                    respond,
                    |buffer| self.list_xattr(*node, buffer),
                    |data, ()| Reply::Data { data: Payload(data) },
                );
            }
            Request::ReadLink { node } => {
                self.answer_bytes(
                    respond,
                    |buffer| self.read_link(*node, buffer),
                    |data, ()| match Target::new(data) {
                        Ok(target) => Reply::Target { target },
                        Err(_) => Reply::Error { errno: Errno::EIO },
                    },
                );
            }
            _ => {
                let result = self.serve(caller, request);
                self.answer(respond, result);
            }
        }
    }

    fn answer<R: Responder>(&self, respond: R, result: Result<Reply<'_>>) {
        match result {
            Ok(reply) => respond.respond(&reply),
            Err(errno) => {
                self.counters.errors.add(1);
                trace!(session = self.id, ?errno, "failed");
                respond.respond(&Reply::Error { errno });
            }
        }
    }

    /// For replies that carry bytes: `fill` puts them in this thread's buffer, from where the
    /// responder takes them; what else it found goes to `reply`.
    fn answer_bytes<R: Responder, T>(
        &self,
        respond: R,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<T>,
        reply: impl FnOnce(&[u8], T) -> Reply<'_>,
    ) {
        scratch::with(|buffer| {
            let filled = fill(buffer);
            self.answer(respond, filled.map(|found| reply(buffer, found)));
        });
    }

    fn check_read_only(&self, request: &Request<'_>) -> Result<()> {
        let modifies = request.modifies()
            || matches!(
                request,
                Request::Write { .. } | Request::Fallocate { .. } | Request::CopyRange { .. }
            );
        if !modifies {
            return Ok(());
        }
        let state = self.state.lock();
        let attachment = match subject(request) {
            Subject::Node(node) => state.nodes.get(node)?.attachment,
            Subject::Handle(handle) => state.handles.file(handle)?.attachment,
            Subject::None => return Ok(()),
        };
        let read_only = state.root(attachment)?.export.config.read_only;
        if read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// Everything that is answered at once and carries no bytes.
    fn serve(
        self: &Arc<Self>,
        caller: &Caller<'_>,
        request: &Request<'_>,
    ) -> Result<Reply<'static>> {
        Ok(match *request {
            Request::Attach { name } => Reply::Attached { attached: self.attach(name.as_bytes())? },
            Request::Detach { attachment } => {
                self.detach(attachment)?;
                Reply::Done
            }
            Request::Lookup { parent, name } => match self.lookup(caller, parent, name)? {
                Ok(entry) => Reply::Entry { entry },
                Err(validity) => Reply::NoEntry { entry_ms: validity.entry_ms },
            },
            Request::Walk { base, ref names } => {
                let entries = self.walk(caller, base, &names.0)?;
                Reply::Walked { entries: Entries(entries) }
            }
            Request::GetAttr { node } => Reply::Attr { attr: self.get_attr(node)? },
            Request::SetAttr { node, handle, ref set } => {
                Reply::Attr { attr: self.set_attr(caller, node, handle, set)? }
            }
            Request::MkNod { parent, name, mode, umask, rdev } => {
                self.make_node(caller, parent, name, mode, umask, rdev)?
            }
            Request::MkDir { parent, name, mode, umask } => {
                self.make_dir(caller, parent, name, mode, umask)?
            }
            Request::SymLink { parent, name, target } => {
                self.make_symlink(caller, parent, name, target)?
            }
            Request::Link { node, parent, name } => self.link(caller, node, parent, name)?,
            Request::Unlink { parent, name } => self.remove(caller, parent, name, false)?,
            Request::RmDir { parent, name } => self.remove(caller, parent, name, true)?,
            Request::Rename { parent, name, new_parent, new_name, flags } => {
                self.rename(caller, (parent, name), (new_parent, new_name), flags)?
            }
            Request::Access { node, mask } => {
                self.access(caller, node, mask)?;
                Reply::Done
            }
            Request::StatFs { node } => Reply::StatFs { statfs: self.stat_fs(node)? },
            Request::SyncFs { node } => {
                self.sync_fs(node)?;
                Reply::Done
            }
            Request::Open { node, flags } => {
                Reply::Opened { handle: self.open(caller, node, flags)? }
            }
            Request::Create { parent, name, mode, umask, flags } => {
                let created = self.create(caller, parent, name, (mode, umask), flags)?;
                Reply::Created { created }
            }
            Request::TmpFile { parent, mode, umask, flags } => {
                let created = self.create_unnamed(caller, parent, (mode, umask), flags)?;
                Reply::Created { created }
            }
            Request::Write { handle, offset, data } => {
                let (size, attr) = self.write(handle, offset, data.0)?;
                Reply::Written { size: size as u32, attr }
            }
            Request::Flush { handle, owner } => {
                self.flush(handle, owner)?;
                Reply::Done
            }
            Request::Fsync { handle, data_only } => {
                self.fsync(handle, data_only)?;
                Reply::Done
            }
            Request::Fallocate { handle, offset, length, mode } => {
                self.fallocate(handle, mode, offset, length)?;
                Reply::Done
            }
            Request::Seek { handle, offset, whence } => {
                Reply::Offset { offset: self.seek(handle, offset, whence)? }
            }
            Request::CopyRange { source, source_offset, target, target_offset, length } => {
                let length = length.min(limits::MAX_PAYLOAD as u64 * COPY_STEPS);
                let (size, attr) =
                    self.copy((source, source_offset), (target, target_offset), length)?;
                Reply::Written { size: size as u32, attr }
            }
            Request::OpenDir { node } => Reply::Opened { handle: self.open_dir(caller, node)? },
            Request::SetXattr { node, name, value, flags } => {
                self.set_xattr(caller, node, name.as_bytes(), value.as_bytes(), flags)?;
                Reply::Done
            }
            Request::RemoveXattr { node, name } => {
                self.remove_xattr(caller, node, name.as_bytes())?;
                Reply::Done
            }
            Request::GetLock { handle, ref lock } => {
                Reply::Lock { lock: self.get_lock(handle, lock)? }
            }
            // Served by `handle`.
            Request::Forget { .. }
            | Request::Cancel { .. }
            | Request::Acknowledge { .. }
            | Request::Watched { .. }
            | Request::Close { .. }
            | Request::ReadLink { .. }
            | Request::Read { .. }
            | Request::OpenRead { .. }
            | Request::ReadDir { .. }
            | Request::List { .. }
            | Request::GetXattr { .. }
            | Request::ListXattr { .. }
            | Request::SetLock { .. } => return Err(Errno::ENOSYS),
        })
    }
}

/// How many times a payload's size one copy may move before it reports back, so that a cancelled or
/// enormous copy does not hold a thread for long.
const COPY_STEPS: u64 = 256;
