//! The record of one node: what it was like when last heard of, and what the kernel has of it.

use super::LocalId;
use crate::coherence::compare::{Belief, Digests, Object};
use protocol::{Attr, Entry, NodeId, Time, Validity, mode};
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};

#[derive(Debug)]
pub(super) struct Node {
    pub(super) server: NodeId,
    pub(super) ino: u64,
    /// Lookups that the kernel holds.
    pub(super) lookups: u64,
    /// Lookups that the server has counted for us.
    pub(super) owed: u64,
    /// Digest of (mtime, size) when last heard of, and when its pages were last declared valid.
    pub(super) content: u64,
    pub(super) cached_content: u64,
    /// The kernel has opened it, and so may have pages of it.
    pub(super) was_opened: bool,
    pub(super) size: u64,
    /// How far from its beginning the kernel has a file in its page cache; a directory whose listing
    /// it has to the end: `u64::MAX`. A guess: it may have dropped pages since.
    pub(super) read_to: u64,
    pub(super) parent: LocalId,
    pub(super) name: Box<[u8]>,
    pub(super) epoch: u32,
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Times of modification and change, in nanoseconds.
    pub(super) mtime: i64,
    pub(super) ctime: i64,
    /// Digest of the time of birth.
    pub(super) born: u32,
    /// The server tells when its attributes change.
    pub(super) leased: bool,
    /// It has no file capabilities, as of the last that the server told.
    pub(super) no_capability: bool,
    /// The guest has put it at its place.
    pub(super) put: bool,
}

impl Node {
    pub(super) fn new(epoch: u32, entry: &Entry) -> Self {
        let content = digest_content(&entry.attr);
        Self {
            server: entry.node,
            ino: entry.attr.ino,
            lookups: 0,
            owed: 1,
            content,
            // Nothing is cached yet, so nothing can be wrong, but the first open need not say so.
            cached_content: !content,
            was_opened: false,
            size: entry.attr.size,
            read_to: 0,
            parent: LocalId::NONE,
            name: Box::default(),
            epoch,
            mode: entry.attr.mode,
            nlink: entry.attr.nlink,
            uid: entry.attr.uid,
            gid: entry.attr.gid,
            mtime: entry.attr.mtime.nanoseconds(),
            ctime: entry.attr.ctime.nanoseconds(),
            born: digest_born(&entry.attr),
            leased: entry.valid.attr_ms == Validity::LEASED,
            no_capability: false,
            put: false,
        }
    }

    pub(super) fn object(&self) -> Object {
        Object { ino: self.ino, kind: self.mode & mode::IFMT, born: self.born }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.mode & mode::IFMT == mode::IFDIR
    }

    /// Whether the kernel should have all of its present content, or of its listing.
    pub(super) fn is_whole(&self) -> bool {
        let all = if self.is_dir() { u64::MAX } else { self.size };
        self.cached_content == self.content && self.read_to >= all
    }

    pub(super) fn belief(&self, local: LocalId) -> Belief {
        Belief {
            local,
            parent: self.parent,
            name: self.name.clone(),
            object: self.object(),
            content: self.content,
            attrs: self.attrs(),
            nlink: self.nlink,
        }
    }

    pub(super) fn note(&mut self, attr: &Attr) {
        let content = digest_content(attr);
        if content != self.content {
            self.read_to = 0;
        }
        self.content = content;
        self.size = attr.size;
        self.mode = attr.mode;
        self.nlink = attr.nlink;
        (self.uid, self.gid) = (attr.uid, attr.gid);
        (self.mtime, self.ctime) = (attr.mtime.nanoseconds(), attr.ctime.nanoseconds());
    }

    /// Digest of owner and permissions.
    pub(super) fn attrs(&self) -> u32 {
        let Self { mode, uid, gid, .. } = *self;
        digest_attrs(&Attr { mode, uid, gid, ..Attr::default() })
    }

    /// What it was like, now that it has no name.
    pub(super) fn last(&self) -> Attr {
        /// Bytes of a block of `st_blocks` (sys/stat.h), and of a page.
        const BLOCK: u64 = 512;
        const PAGE: u32 = 4096;
        Attr {
            ino: self.ino,
            size: self.size,
            blocks: self.size.div_ceil(PAGE.into()) * (u64::from(PAGE) / BLOCK),
            atime: Time::from_nanoseconds(self.mtime),
            mtime: Time::from_nanoseconds(self.mtime),
            ctime: Time::from_nanoseconds(self.ctime),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            blksize: PAGE,
            ..Attr::default()
        }
    }
}

pub(super) fn digest_content(attr: &Attr) -> u64 {
    let mut hasher = FxHasher::default();
    (attr.mtime, attr.size).hash(&mut hasher);
    hasher.finish()
}

pub(super) fn digest_attrs(attr: &Attr) -> u32 {
    let mut hasher = FxHasher::default();
    (attr.mode, attr.uid, attr.gid).hash(&mut hasher);
    (hasher.finish() >> 32) as u32
}

/// Never zero, which stands for a time that is not known.
pub(super) fn digest_born(attr: &Attr) -> u32 {
    if attr.btime == Time::default() {
        return 0;
    }
    let mut hasher = FxHasher::default();
    attr.btime.hash(&mut hasher);
    (hasher.finish() >> 32) as u32 | 1
}

/// What a comparison takes of attributes.
pub fn digests(attr: &Attr) -> Digests {
    let object = Object { ino: attr.ino, kind: attr.kind(), born: digest_born(attr) };
    Digests { object, content: digest_content(attr), attrs: digest_attrs(attr) }
}
