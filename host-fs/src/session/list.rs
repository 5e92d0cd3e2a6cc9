//! Listing directories, with attributes where they are asked for.
//!
//! The host's own cookies go through to the guest and come back, so a directory of any size is
//! listed without a copy of it, and what changes meanwhile neither hides nor doubles what stays. What was
//! given last is kept, for the guest may come back for a part of it: see
//! [`DirStream`](crate::os::DirStream).

use super::locate::Dir;
use super::{Session, handle_request::Result};
use crate::handle::OpenDir;
use crate::os::{self, DirStream};
use protocol::listing::{self, DirEntry};
use protocol::{AccessMask, Caller, Entry, Errno, HandleId, NodeId, limits, mode};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// `DT_REG`.
const REGULAR: u8 = (mode::IFREG >> 12) as u8;

/// What a listing is to hold.
struct Wanted {
    /// Most bytes.
    size: usize,
    /// Nodes and attributes, too.
    plus: bool,
    /// All that fits, since nobody will come back for the rest.
    at_once: bool,
}

impl Session {
    pub(super) fn read_dir(
        &self,
        handle: HandleId,
        cookie: u64,
        size: u32,
        plus: bool,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let open = self.state.lock().handles.dir(handle)?;
        let size = (size as usize).min(limits::MAX_PAYLOAD);
        let mut stream = open.stream.lock();
        stream.seek(cookie)?;
        let dir =
            self.dir_of(&open, stream.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?);
        self.fill(&mut stream, &dir, Wanted { size, plus, at_once: false }, out).map(drop)
    }

    /// Lists from the beginning. Tells whether that is all.
    pub(super) fn list_at_once(
        &self,
        caller: &Caller<'_>,
        node: NodeId,
        size: u32,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        let dir = self.dir(node)?;
        self.check_dir(caller, &dir, AccessMask::READ)?;
        let mut stream = DirStream::new(os::open_dir(dir.as_fd())?);
        let size = (size as usize).min(limits::MAX_PAYLOAD);
        self.fill(&mut stream, &dir, Wanted { size, plus: true, at_once: true }, out)
    }

    /// Tells whether nothing is left.
    fn fill(
        &self,
        stream: &mut DirStream,
        dir: &Dir,
        Wanted { size, plus, at_once }: Wanted,
        out: &mut Vec<u8>,
    ) -> Result<bool> {
        self.watch(dir);
        let mut name = Vec::with_capacity(limits::MAX_NAME);
        while (at_once || !stream.is_long())
            && let Some(raw) = stream.peek()?
        {
            name.clear();
            name.extend_from_slice(raw.name);
            let dots = matches!(name.as_slice(), b"." | b"..");
            let mut entry = DirEntry {
                cookie: raw.cookie,
                ino: self.listed_ino(dir, raw.ino, raw.name),
                kind: raw.kind,
                name: &name,
                entry: None,
            };
            if !dots {
                if plus {
                    self.add_attributes(dir, &mut entry);
                } else if dir.export.maps() && entry.kind == REGULAR {
                    entry.kind = self.recorded_kind(dir, &name);
                }
            }
            if !listing::push(out, size, &entry) {
                if let Some(Entry { node, .. }) = entry.entry {
                    self.forget(node, 1);
                }
                // Not even one fits: the reply would look like the end.
                if out.is_empty() {
                    return Err(Errno::EINVAL);
                }
                return Ok(false);
            }
            stream.advance();
        }
        Ok(at_once)
    }

    fn dir_of(&self, open: &Arc<OpenDir>, fd: OwnedFd) -> Dir {
        Dir {
            fd: Arc::new(fd),
            node: open.node,
            key: open.identity.key(),
            export: open.export.clone(),
        }
    }

    /// The directory above an export is none of the guest's business.
    fn listed_ino(&self, dir: &Dir, ino: u64, name: &[u8]) -> u64 {
        if name == b".." && dir.key == dir.export.root_identity().key() {
            return dir.key.1;
        }
        dir.export.ino(dir.key.0, ino)
    }

    fn add_attributes(&self, dir: &Dir, entry: &mut DirEntry<'_>) {
        // Names that vanished meanwhile, and what cannot be looked at, come without.
        for glance in self.glances(dir, entry.name) {
            let Ok(Some(stat)) = self.stat_name(dir, entry.name) else { return };
            let Ok(seen) = self.entry_seen(dir, entry.name, &stat, glance) else { return };
            if let Some(found) = seen {
                entry.ino = found.attr.ino;
                entry.kind = (found.attr.kind() >> 12) as u8;
                entry.entry = Some(found);
                return;
            }
        }
    }

    /// A regular file of the host may be kept for a fifo, socket or device.
    fn recorded_kind(&self, dir: &Dir, name: &[u8]) -> u8 {
        let stat = os::Stat { mode: mode::IFREG, ..os::Stat::default() };
        let record = dir.export.record_at(dir.as_fd(), name, &stat);
        record.map_or(REGULAR, |record| ((record.mode & mode::IFMT) >> 12) as u8)
    }
}
