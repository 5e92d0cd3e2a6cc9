//! Open files: opening, reading, writing, space, copying, releasing.

use super::look::attr_of_fd;
use super::{Session, handle_request::Result};
use crate::handle::{Handle, OpenDir, OpenFile};
use crate::observe::{Act, Done};
use crate::os::{self, DirStream};
use crate::ownership;
use parking_lot::Mutex;
use protocol::{
    AccessMask, AttrReply, Caller, Errno, FallocateMode, HandleId, LockOwner, NodeId, OpenFlags,
    Whence, limits, mode,
};
use std::os::fd::AsFd;
use std::sync::Arc;

/// The rights that opening like this needs.
pub(super) fn needed(flags: OpenFlags) -> AccessMask {
    let mut mask = AccessMask::empty();
    mask.set(AccessMask::READ, !flags.contains(OpenFlags::WRONLY));
    let writes = OpenFlags::WRONLY | OpenFlags::RDWR | OpenFlags::TRUNC;
    mask.set(AccessMask::WRITE, flags.intersects(writes));
    mask
}

impl Session {
    /// Enters a handle. If the session has been closed meanwhile, it goes with it.
    pub(super) fn insert(&self, handle: Handle) -> HandleId {
        self.state.lock().handles.insert(handle)
    }

    fn file(&self, handle: HandleId) -> Result<Arc<OpenFile>> {
        self.state.lock().handles.file(handle)
    }

    pub(super) fn open(
        &self,
        caller: &Caller<'_>,
        node: NodeId,
        flags: OpenFlags,
    ) -> Result<HandleId> {
        let permit = self.permit()?;
        let found = self.find(node)?;
        let known = self.state.lock().nodes.get(node)?;
        match found.stat.mode & mode::IFMT {
            mode::IFREG => {}
            mode::IFDIR => return Err(Errno::EISDIR),
            mode::IFLNK => return Err(Errno::ELOOP),
            // Fifos, sockets and devices are the guest's own affair; the host's are never opened.
            _ => return Err(Errno::ENXIO),
        }
        let fd = found.on(|object| {
            if let Some(r) = found.export.record(object.fd, &found.stat) {
                if r.mode & mode::IFMT != mode::IFREG {
                    return Err(Errno::ENXIO);
                }
                ownership::access(caller, r.uid, r.gid, r.mode(&found.stat), needed(flags))?;
            }
            os::reopen(object.fd, flags)
        })?;
        let file = Arc::new(OpenFile {
            fd,
            node,
            identity: known.identity,
            export: found.export,
            attachment: known.attachment,
            flags,
            _permit: permit,
        });
        if flags.contains(OpenFlags::TRUNC) {
            self.writing(&file, |file| {
                if file.writable() {
                    return os::truncate(file.fd.as_fd(), 0);
                }
                let object = os::Object { fd: file.fd.as_fd(), kind: mode::IFREG, place: None };
                os::set_size(object, 0)
            })?;
        }
        Ok(self.insert(Handle::File(file)))
    }

    /// Opens a file and puts all of it into `data`. Its attributes are those of what was read; none
    /// where it was not: it is longer than `size`, may not be read so, or changes meanwhile.
    pub(super) fn open_read(
        &self,
        caller: &Caller<'_>,
        node: NodeId,
        flags: OpenFlags,
        size: u32,
        data: &mut Vec<u8>,
    ) -> Result<(HandleId, Option<AttrReply>)> {
        let handle = self.open(caller, node, flags)?;
        let mut read = || {
            let before = os::stat(self.file(handle)?.fd.as_fd())?;
            if before.size > u64::from(size) {
                return Ok(None);
            }
            self.read(handle, 0, size, data)?;
            let reply = self.get_attr(node)?;
            let attr = &reply.attr;
            let same = (attr.size, attr.mtime) == (before.size, before.mtime);
            Ok::<_, Errno>((same && attr.size == data.len() as u64).then_some(reply))
        };
        Ok((handle, read().unwrap_or(None)))
    }

    /// Runs what changes the content of an open file, between the observer's `will` and `did`. Tells what
    /// the file is like after it, if that can be looked at.
    fn writing<T>(
        &self,
        file: &OpenFile,
        write: impl FnOnce(&OpenFile) -> Result<T>,
    ) -> Result<(T, Option<AttrReply>)> {
        let act = Act::Write { node: file.node };
        self.observer().will(&act);
        let result = write(file);
        let attr = result.is_ok().then(|| attr_of_fd(file.fd.as_fd(), &file.export)).flatten();
        let done = Done { node: Some(file.node), attr: attr.as_ref(), ..Done::default() };
        self.observer().did(&act, result.as_ref().map(|_| done).map_err(|errno| *errno));
        let reply = attr.and_then(|attr| self.tell_attr(file.node, attr, &file.export).ok());
        Ok((result?, reply))
    }

    pub(super) fn read(
        &self,
        handle: HandleId,
        offset: u64,
        size: u32,
        data: &mut Vec<u8>,
    ) -> Result<()> {
        let file = self.file(handle)?;
        if file.flags.contains(OpenFlags::WRONLY) {
            return Err(Errno::EBADF);
        }
        let size = (size as usize).min(limits::MAX_PAYLOAD);
        os::read_at(file.fd.as_fd(), data, size, offset)?;
        self.counters.bytes_read.add(data.len() as u64);
        file.export.counters.bytes_read.add(data.len() as u64);
        Ok(())
    }

    pub(super) fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
    ) -> Result<(usize, Option<AttrReply>)> {
        let file = self.file(handle)?;
        if !file.writable() {
            return Err(Errno::EBADF);
        }
        let (written, attr) =
            self.writing(&file, |file| os::write_at(file.fd.as_fd(), data, offset))?;
        self.counters.bytes_written.add(written as u64);
        file.export.counters.bytes_written.add(written as u64);
        Ok((written, attr))
    }

    pub(super) fn fallocate(
        &self,
        handle: HandleId,
        mode: FallocateMode,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        let file = self.file(handle)?;
        self.writing(&file, |file| os::fallocate(file.fd.as_fd(), mode, offset, length))?;
        Ok(())
    }

    pub(super) fn seek(&self, handle: HandleId, offset: u64, whence: Whence) -> Result<u64> {
        let file = self.file(handle)?;
        os::seek(file.fd.as_fd(), offset, whence)
    }

    pub(super) fn copy(
        &self,
        (source, source_offset): (HandleId, u64),
        (target, target_offset): (HandleId, u64),
        length: u64,
    ) -> Result<(u64, Option<AttrReply>)> {
        let (source, target) = (self.file(source)?, self.file(target)?);
        let (copied, attr) = self.writing(&target, |target| {
            let (from, to) = (source.fd.as_fd(), target.fd.as_fd());
            os::copy_range(from, source_offset, to, target_offset, length)
        })?;
        self.counters.bytes_written.add(copied);
        target.export.counters.bytes_written.add(copied);
        Ok((copied, attr))
    }

    pub(super) fn fsync(&self, handle: HandleId, data_only: bool) -> Result<()> {
        let open = self.state.lock().handles.get(handle)?;
        match open {
            Handle::File(file) => os::sync(file.fd.as_fd(), data_only),
            Handle::Dir(dir) => os::sync(dir.stream.lock().as_fd(), data_only),
        }
    }

    /// Nothing is written late here, so only locks go.
    pub(super) fn flush(&self, handle: HandleId, owner: LockOwner) -> Result<()> {
        let open = self.state.lock().handles.get(handle)?;
        if let Handle::File(file) = open {
            self.drop_locks_of_owner(&file, owner);
        }
        Ok(())
    }

    pub(super) fn release(&self, handle: HandleId) {
        let open = self.state.lock().handles.remove(handle);
        if let Ok(Handle::File(file)) = open {
            self.drop_locks_of_handle(&file, handle);
        }
    }

    pub(super) fn open_dir(&self, caller: &Caller<'_>, node: NodeId) -> Result<HandleId> {
        let permit = self.permit()?;
        let dir = self.dir(node)?;
        self.check_dir(caller, &dir, AccessMask::READ)?;
        self.watch(&dir);
        let known = self.state.lock().nodes.get(node)?;
        let open = OpenDir {
            stream: Mutex::new(DirStream::new(os::open_dir(dir.as_fd())?)),
            node,
            identity: known.identity,
            export: dir.export,
            attachment: known.attachment,
            _permit: permit,
        };
        Ok(self.insert(Handle::Dir(Arc::new(open))))
    }
}
