//! macOS's hints: FSEvents.
//!
//! # What FSEvents says
//! ```text
//! kernel ── fseventsd (journal) ── stream of one root ── batches of events ── Hints ── Reports
//! ```
//! An event is a path, flags, an id and mostly a file id. It is less than a hint of inotify in five
//! ways, and [`Hints`] makes up for each:
//!
//! | of an event | so |
//! | --- | --- |
//! | its flags accumulate, and come again with later events of the same path | a name is looked at when its event comes ([`There`]); what was reported to stand there is remembered |
//! | a rename is two events, of which either may come first, late, or never | halves are paired by file id; the half whose name leads to that file is the new one (`renames`) |
//! | it tells of paths, of a tree of any depth | the table (`watched`) maps directories to keys, and follows their renames |
//! | it may be older than the watch | each watch has the id from which on it counts |
//! | it may be "too many: look yourself" | the journal is replayed, or a subtree is to be compared again; then each path is verified |
//!
//! Whether our own process did it is marked ([`Flags::OWN_EVENT`]). Marks accumulate like the rest, and
//! the process serves several guests: an event without one is another's, one with it is anybody's.
//!
//! # What is certain
//! Of a name that is gone the last hint is `DELETE` or `MOVED_FROM`. Of a name that is there no
//! `DELETE` comes without a `CREATE`. Each event in a watched directory, unless it is history, brings
//! a report of that directory. Everything else the reconciler finds by looking.
//!
//! [`Hints`] is pure. What touches the framework is `source`, and is compiled on macOS alone.

mod judge;
mod record;
mod renames;
mod say;
#[cfg(target_os = "macos")]
mod source;
mod standing;
mod stream;
#[cfg(target_os = "macos")]
mod sys;
#[cfg(test)]
mod tests;
mod watched;

#[cfg(target_os = "macos")]
pub use source::FsEvents;
pub use stream::{Batch, Hints, Replay, StreamId};
pub use watched::Watch;

use bitflags::bitflags;

/// The number of an event, ascending over all streams of a host until it wraps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct EventId(pub u64);

/// The inode number that an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId(pub u64);

bitflags! {
    /// `FSEventStreamEventFlags` of <FSEvents.h> (CoreServices, FSEvents.framework).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Flags: u32 {
        /// `kFSEventStreamEventFlagMustScanSubDirs`
        const MUST_SCAN_SUB_DIRS = 0x1;
        /// `kFSEventStreamEventFlagUserDropped`: lost between fseventsd and us.
        const USER_DROPPED = 0x2;
        /// `kFSEventStreamEventFlagKernelDropped`: lost before fseventsd saw it.
        const KERNEL_DROPPED = 0x4;
        /// `kFSEventStreamEventFlagEventIdsWrapped`
        const EVENT_IDS_WRAPPED = 0x8;
        /// `kFSEventStreamEventFlagHistoryDone`: the replay ends here; no event of a path.
        const HISTORY_DONE = 0x10;
        /// `kFSEventStreamEventFlagRootChanged`: the way to the root; has no id.
        const ROOT_CHANGED = 0x20;
        /// `kFSEventStreamEventFlagMount`
        const MOUNT = 0x40;
        /// `kFSEventStreamEventFlagUnmount`
        const UNMOUNT = 0x80;
        /// `kFSEventStreamEventFlagItemCreated`
        const CREATED = 0x100;
        /// `kFSEventStreamEventFlagItemRemoved`
        const REMOVED = 0x200;
        /// `kFSEventStreamEventFlagItemInodeMetaMod`
        const INODE_META_MOD = 0x400;
        /// `kFSEventStreamEventFlagItemRenamed`: it moved from this path, or to it.
        const RENAMED = 0x800;
        /// `kFSEventStreamEventFlagItemModified`: it was closed after having been written to.
        const MODIFIED = 0x1000;
        /// `kFSEventStreamEventFlagItemFinderInfoMod`
        const FINDER_INFO_MOD = 0x2000;
        /// `kFSEventStreamEventFlagItemChangeOwner`: owner or mode.
        const CHANGE_OWNER = 0x4000;
        /// `kFSEventStreamEventFlagItemXattrMod`
        const XATTR_MOD = 0x8000;
        /// `kFSEventStreamEventFlagItemIsFile`
        const IS_FILE = 0x1_0000;
        /// `kFSEventStreamEventFlagItemIsDir`
        const IS_DIR = 0x2_0000;
        /// `kFSEventStreamEventFlagItemIsSymlink`
        const IS_SYMLINK = 0x4_0000;
        /// `kFSEventStreamEventFlagOwnEvent`: by this process.
        const OWN_EVENT = 0x8_0000;
        /// `kFSEventStreamEventFlagItemIsHardlink`
        const IS_HARDLINK = 0x10_0000;
        /// `kFSEventStreamEventFlagItemIsLastHardlink`
        const IS_LAST_HARDLINK = 0x20_0000;
        /// `kFSEventStreamEventFlagItemCloned`
        const CLONED = 0x40_0000;
    }
}

impl Flags {
    /// Something was not told in detail.
    const LOST: Self =
        Self::MUST_SCAN_SUB_DIRS.union(Self::USER_DROPPED).union(Self::KERNEL_DROPPED);
    /// About the stream or a volume, not about what a name leads to.
    const CONTROL: Self = Self::LOST
        .union(Self::EVENT_IDS_WRAPPED)
        .union(Self::HISTORY_DONE)
        .union(Self::ROOT_CHANGED)
        .union(Self::MOUNT)
        .union(Self::UNMOUNT);
    /// What shows in attributes.
    const ATTRIBUTES: Self = Self::INODE_META_MOD
        .union(Self::FINDER_INFO_MOD)
        .union(Self::CHANGE_OWNER)
        .union(Self::XATTR_MOD);
    /// Something happened to what a name leads to.
    const HAPPENED: Self = Self::ATTRIBUTES
        .union(Self::CREATED)
        .union(Self::REMOVED)
        .union(Self::RENAMED)
        .union(Self::MODIFIED)
        .union(Self::CLONED);
}

/// What stands at the path of an event, looked at after the event came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum There {
    /// Nothing of exactly this spelling.
    Nothing,
    /// This; a symbolic link itself.
    File(FileId),
    /// It cannot be told.
    Unknown,
}

/// An event and what stands at its path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Absolute, without symbolic links on the way, without a slash at the end.
    pub path: Box<[u8]>,
    /// What has accumulated.
    pub flags: Flags,
    /// Its number; zero for [`Flags::ROOT_CHANGED`].
    pub id: EventId,
    /// What it is about, where the file system has such numbers.
    pub file: Option<FileId>,
    /// What the path leads to.
    pub there: There,
}

impl Event {
    /// Notes what a look at the path has found, and under which name. A volume may find a file
    /// under another spelling than its own: after a rename that is the one it had before, else the
    /// event is meant for its own.
    pub fn found(&mut self, found: Option<(FileId, Vec<u8>)>) {
        let name = split(&self.path).map_or(&b"/"[..], |(_, name)| name);
        self.there = match found {
            None => There::Nothing,
            Some((file, stored)) if stored == name || name == b"/" => There::File(file),
            Some(_) if self.flags.contains(Flags::RENAMED) => There::Nothing,
            Some((file, stored)) => {
                let end = self.path.len() - name.len();
                self.path = [&self.path[..end], &stored].concat().into();
                There::File(file)
            }
        };
    }
}

/// The directory of an absolute path, and the name there. None for `/`.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = path.iter().rposition(|byte| *byte == b'/')?;
    let (dir, name) = (&path[..at.max(1)], &path[at + 1..]);
    (!name.is_empty()).then_some((dir, name))
}

/// Whether `path` is `dir` or beneath it.
fn is_within(path: &[u8], dir: &[u8]) -> bool {
    match path.strip_prefix(dir) {
        Some(rest) => rest.is_empty() || rest[0] == b'/' || dir == b"/",
        None => false,
    }
}
