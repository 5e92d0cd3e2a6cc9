//! Making: files, directories, symbolic links, special files.
//!
//! With owners of the host, an object is made *as* the caller, so that owner, group and mode are
//! right from its first moment. With mapped owners it belongs to the server's user; what the host
//! must not or cannot have (set-id bits, devices, fifos, sockets) is recorded.

use super::locate::Dir;
use super::{Session, handle_request::Result};
use crate::export::Export;
use crate::handle::{Handle, OpenFile};
use crate::observe::{Act, Done};
use crate::os::{self, Stat};
use crate::ownership::Record;
use protocol::{
    AccessMask, Attr, Caller, Created, Entry, Errno, Name, NodeId, OpenFlags, Place, Reply, Target,
    mode,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Rights needed to change a directory.
pub(super) const CHANGE: AccessMask = AccessMask::WRITE.union(AccessMask::EXEC);

/// How often `Create` tries anew when the name comes and goes meanwhile.
const RETRIES: usize = 8;

impl Session {
    /// The directory in which something is to be changed.
    pub(super) fn dir_to_change(&self, caller: &Caller<'_>, parent: NodeId) -> Result<Dir> {
        let dir = self.dir_of_name(parent)?;
        self.check_dir(caller, &dir, CHANGE)?;
        Ok(dir)
    }

    /// Runs what makes an object, between the observer's `will` and `did`.
    fn making(
        &self,
        dir: &Dir,
        name: Name<'_>,
        make: impl FnOnce() -> Result<Entry>,
    ) -> Result<Entry> {
        let act = Act::Create { at: Place { parent: dir.node, name } };
        self.watch(dir);
        self.observer().will(&act);
        let result = make();
        let done = result.as_ref().map(|entry| Done {
            node: Some(entry.node),
            attr: Some(&entry.attr),
            ..Done::default()
        });
        self.observer().did(&act, done.map_err(|errno| *errno));
        result
    }

    /// The permissions to ask the host for: less the umask, unless the directory has a default ACL,
    /// which takes its place.
    fn masked(&self, dir: &Dir, bits: u32, umask: u32) -> u32 {
        let matters = bits & umask & 0o777 != 0;
        let by_acl = matters && !dir.export.maps() && os::has_default_acl(dir.as_fd());
        if by_acl { bits } else { bits & !(umask & 0o777) }
    }

    /// Acts as the caller while something is made, where owners are those of the host.
    fn as_caller(&self, caller: &Caller<'_>, export: &Export) -> Result<Option<os::Acting>> {
        if export.maps() { Ok(None) } else { os::act_as(caller.uid, caller.gid).map(Some) }
    }

    /// The record that a new object needs from its beginning, if any: for bits that the host cannot
    /// hold, and for the group of a recorded set-group-id directory.
    fn first_record(&self, dir: &Dir, bits: u32, kind: u32, rdev: u32) -> Option<Record> {
        if !dir.export.maps() {
            return None;
        }
        let config = &dir.export.config;
        let parent = self.dir_record(dir).map(|(record, stat)| (record, record.mode(&stat)));
        let inherits = parent.filter(|(_, parent_mode)| parent_mode & 0o2000 != 0);
        let special = !matches!(kind, mode::IFREG | mode::IFDIR);
        if inherits.is_none() && Record::holds(bits, kind) && !special {
            return None;
        }
        let set_group = if inherits.is_some() && kind == mode::IFDIR { 0o2000 } else { 0 };
        Some(Record {
            uid: config.uid,
            gid: inherits.map_or(config.gid, |(record, _)| record.gid),
            mode: kind | bits & mode::PERMISSIONS | set_group,
            rdev,
            held: Record::to_hold(bits, kind),
        })
    }

    /// The new object's entry, after its record is written. If that fails the object goes again.
    fn finish(
        &self,
        dir: &Dir,
        name: &[u8],
        record: Option<&Record>,
        is_dir: bool,
    ) -> Result<Entry> {
        let recorded = || -> Result<Entry> {
            if let Some(record) = record {
                let fd = os::open_beneath(dir.as_fd(), name)?;
                let stat = os::stat(fd.as_fd())?;
                dir.export.write_record(fd.as_fd(), &stat, record)?;
            }
            let stat = self.stat_name(dir, name)?.ok_or(Errno::ENOENT)?;
            self.entry(dir, name, &stat)
        };
        recorded().inspect_err(|_| {
            if record.is_some() {
                let _ = match is_dir {
                    true => os::remove_dir(dir.as_fd(), name),
                    false => os::unlink(dir.as_fd(), name),
                };
            }
        })
    }

    /// The reply for what was made in a directory.
    pub(super) fn made(&self, entry: Entry, dir: &Dir) -> Reply<'static> {
        Reply::Made { entry, dir: self.dir_attr(dir) }
    }

    pub(super) fn make_node(
        &self,
        caller: &Caller<'_>,
        parent: NodeId,
        name: Name<'_>,
        full_mode: u32,
        umask: u32,
        rdev: u32,
    ) -> Result<Reply<'static>> {
        let dir = self.dir_to_change(caller, parent)?;
        let kind = match full_mode & mode::IFMT {
            0 => mode::IFREG,
            mode::IFDIR | mode::IFLNK => return Err(Errno::EINVAL),
            kind => kind,
        };
        let bits = self.masked(&dir, full_mode & mode::PERMISSIONS, umask);
        let record = self.first_record(&dir, bits, kind, rdev);
        let on_host = match &record {
            Some(record) => mode::IFREG | record.held,
            None => kind | bits,
        };
        let rdev = if record.is_some() { 0 } else { rdev };
        let entry = self.making(&dir, name, || {
            {
                let _acting = self.as_caller(caller, &dir.export)?;
                os::make_node(dir.as_fd(), name.as_bytes(), on_host, rdev)?;
            }
            self.finish(&dir, name.as_bytes(), record.as_ref(), false)
        })?;
        Ok(self.made(entry, &dir))
    }

    pub(super) fn make_dir(
        &self,
        caller: &Caller<'_>,
        parent: NodeId,
        name: Name<'_>,
        bits: u32,
        umask: u32,
    ) -> Result<Reply<'static>> {
        let dir = self.dir_to_change(caller, parent)?;
        let bits = self.masked(&dir, bits & 0o1777, umask);
        let record = self.first_record(&dir, bits, mode::IFDIR, 0);
        let on_host = record.as_ref().map_or(bits, |record| record.held);
        let entry = self.making(&dir, name, || {
            {
                let _acting = self.as_caller(caller, &dir.export)?;
                os::make_dir(dir.as_fd(), name.as_bytes(), on_host)?;
            }
            self.finish(&dir, name.as_bytes(), record.as_ref(), true)
        })?;
        Ok(self.made(entry, &dir))
    }

    pub(super) fn make_symlink(
        &self,
        caller: &Caller<'_>,
        parent: NodeId,
        name: Name<'_>,
        target: Target<'_>,
    ) -> Result<Reply<'static>> {
        let dir = self.dir_to_change(caller, parent)?;
        let entry = self.making(&dir, name, || {
            {
                let _acting = self.as_caller(caller, &dir.export)?;
                os::make_symlink(dir.as_fd(), name.as_bytes(), target.as_bytes())?;
            }
            self.finish(&dir, name.as_bytes(), None, false)
        })?;
        Ok(self.made(entry, &dir))
    }

    /// Makes and opens a file, or opens it if it is there.
    pub(super) fn create(
        &self,
        caller: &Caller<'_>,
        parent: NodeId,
        name: Name<'_>,
        (bits, umask): (u32, u32),
        flags: OpenFlags,
    ) -> Result<Created> {
        let dir = self.dir_of_name(parent)?;
        let bits = self.masked(&dir, bits & mode::PERMISSIONS, umask);
        for _ in 0..RETRIES {
            if let Err(denied) = self.check_dir(caller, &dir, CHANGE) {
                // Opening what is there needs less.
                self.check_dir(caller, &dir, AccessMask::EXEC)?;
                if self.stat_name(&dir, name.as_bytes())?.is_none() {
                    return Err(denied);
                }
            } else {
                let permit = self.permit()?;
                match self.create_new(caller, &dir, name, bits, flags) {
                    Ok((entry, fd, stat)) => {
                        let identity = dir.export.identity(&stat);
                        let attachment = self.state.lock().nodes.get(entry.node)?.attachment;
                        let file = OpenFile {
                            fd,
                            node: entry.node,
                            identity,
                            export: dir.export.clone(),
                            attachment,
                            flags,
                            _permit: permit,
                        };
                        let handle = self.insert(Handle::File(Arc::new(file)));
                        return Ok(Created { entry, handle, dir: self.dir_attr(&dir) });
                    }
                    Err(Errno::EEXIST) if !flags.contains(OpenFlags::EXCL) => {}
                    Err(errno) => return Err(errno),
                }
            }
            match self.open_existing(caller, &dir, name, flags) {
                Err(Errno::ENOENT) => {}
                other => return other,
            }
        }
        Err(Errno::ESTALE)
    }

    fn create_new(
        &self,
        caller: &Caller<'_>,
        dir: &Dir,
        name: Name<'_>,
        bits: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, OwnedFd, Stat)> {
        let record = self.first_record(dir, bits, mode::IFREG, 0);
        let on_host = record.as_ref().map_or(bits, |record| record.held);
        let mut made = None;
        let entry = self.making(dir, name, || {
            let fd = {
                let _acting = self.as_caller(caller, &dir.export)?;
                os::create(dir.as_fd(), name.as_bytes(), flags, on_host)?
            };
            let stat = os::stat(fd.as_fd())?;
            if let Some(record) = &record {
                dir.export.write_record(fd.as_fd(), &stat, record).inspect_err(|_| {
                    let _ = os::unlink(dir.as_fd(), name.as_bytes());
                })?;
            }
            // The descriptor is the object, whatever the name leads to by now.
            let attr = dir.export.attr(&stat, record.as_ref());
            let entry = self.entry_of(dir, name, &stat, attr)?;
            made = Some((fd, stat));
            Ok(entry)
        })?;
        made.map(|(fd, stat)| (entry, fd, stat)).ok_or(Errno::EIO)
    }

    fn entry_of(&self, dir: &Dir, name: Name<'_>, stat: &Stat, attr: Attr) -> Result<Entry> {
        let identity = dir.export.identity(stat);
        let kind = stat.mode & mode::IFMT;
        let node = self.state.lock().nodes.enter(dir.node, name.as_bytes(), identity, kind)?;
        self.observer().told(Place { parent: dir.node, name }, Some((node, &attr)), None);
        let valid = self.validity(&dir.export, Some(dir.node), Some((node, &attr)));
        Ok(Entry { node, attr, valid })
    }

    /// `Create` of a name that is there. The guest believes that it makes the file and does not
    /// check permissions; where it might be refused, `ESTALE` makes it look again and open it as
    /// what it is.
    fn open_existing(
        &self,
        caller: &Caller<'_>,
        dir: &Dir,
        name: Name<'_>,
        flags: OpenFlags,
    ) -> Result<Created> {
        self.watch(dir);
        let stat = self.stat_name(dir, name.as_bytes())?.ok_or(Errno::ENOENT)?;
        match stat.mode & mode::IFMT {
            mode::IFREG => {}
            mode::IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::ESTALE),
        }
        let attr = self.attr_at(dir, name.as_bytes(), &stat);
        if attr.kind() != mode::IFREG {
            return Err(Errno::ESTALE);
        }
        if !dir.export.maps() {
            let mask = super::io::needed(flags);
            crate::ownership::access(caller, attr.uid, attr.gid, attr.mode, mask)
                .map_err(|_| Errno::ESTALE)?;
        }
        let entry = self.entry(dir, name.as_bytes(), &stat)?;
        match self.open(caller, entry.node, flags) {
            Ok(handle) => Ok(Created { entry, handle, dir: None }),
            Err(errno) => {
                self.forget(entry.node, 1);
                Err(if errno == Errno::ESTALE { Errno::ENOENT } else { errno })
            }
        }
    }

    /// Makes and opens a file without a name.
    pub(super) fn create_unnamed(
        &self,
        caller: &Caller<'_>,
        parent: NodeId,
        (bits, umask): (u32, u32),
        flags: OpenFlags,
    ) -> Result<Created> {
        let dir = self.dir_to_change(caller, parent)?;
        let permit = self.permit()?;
        let bits = self.masked(&dir, bits & mode::PERMISSIONS, umask);
        let record = self.first_record(&dir, bits, mode::IFREG, 0);
        let on_host = record.as_ref().map_or(bits, |record| record.held);
        // A file without a name must be opened for writing; it is so for whoever asks.
        let fd = {
            let _acting = self.as_caller(caller, &dir.export)?;
            os::create_unnamed(dir.as_fd(), flags, on_host)?
        };
        let stat = os::stat(fd.as_fd())?;
        if let Some(record) = &record {
            dir.export.write_record(fd.as_fd(), &stat, record)?;
        }
        let attr = dir.export.attr(&stat, record.as_ref());
        let identity = dir.export.identity(&stat);
        let (node, attachment) = {
            let nodes = &mut self.state.lock().nodes;
            let node = nodes.enter_unnamed(parent, identity, mode::IFREG)?;
            (node, nodes.get(node)?.attachment)
        };
        let entry =
            Entry { node, attr, valid: self.validity(&dir.export, None, Some((node, &attr))) };
        let file = OpenFile {
            fd,
            node,
            identity,
            export: dir.export.clone(),
            attachment,
            flags,
            _permit: permit,
        };
        Ok(Created { entry, handle: self.insert(Handle::File(Arc::new(file))), dir: None })
    }
}
