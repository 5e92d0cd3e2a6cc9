//! Answers to the kernel, and the bytes they are made of.

use super::abi;
use protocol::{Attr, AttrReply, Entry, Errno, StatFs, Validity};
use std::time::Duration;
use zerocopy::IntoBytes;

/// An answer to one request. Payloads are borrowed from where they lie and leave through `writev`.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer<'a> {
    /// It failed.
    Error(Errno),
    /// It is done, and there is nothing to say.
    Done,
    /// A name was found or made.
    Entry(abi::EntryOut),
    /// A file was made and opened.
    Created(abi::EntryOut, abi::OpenOut),
    /// Attributes.
    Attr(abi::AttrOut),
    /// Attributes with birth time.
    Statx(Box<abi::StatxOut>),
    /// A file or directory is open.
    Opened(abi::OpenOut),
    /// So many bytes are written.
    Written(u32),
    /// So many bytes are copied (`COPY_FILE_RANGE_64`).
    Copied(u64),
    /// Bytes, as they are.
    Data(&'a [u8]),
    /// Bytes that were put together for this answer.
    Bytes(Vec<u8>),
    /// The length that an extended attribute would have.
    XattrSize(u32),
    /// An offset.
    Offset(u64),
    /// A lock.
    Lock(abi::FileLock),
    /// The file system.
    StatFs(abi::Kstatfs),
    /// The answer to `INIT`.
    Init(abi::InitOut),
}

/// Room for the largest fixed part of an answer.
const FIXED: usize = size_of::<abi::StatxOut>();

/// The fixed part of an answer.
pub struct Fixed {
    bytes: [u8; FIXED],
    len: usize,
}

impl Fixed {
    fn empty() -> Self {
        Self { bytes: [0; FIXED], len: 0 }
    }

    fn of<T: IntoBytes + zerocopy::Immutable>(value: &T) -> Self {
        Self::empty().and(value)
    }

    fn and<T: IntoBytes + zerocopy::Immutable>(mut self, value: &T) -> Self {
        let bytes = value.as_bytes();
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
        self
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Answer<'_> {
    /// The error number of the header: zero or negative.
    pub fn error(&self) -> i32 {
        match self {
            Self::Error(errno) => -errno.raw(),
            _ => 0,
        }
    }

    /// The fixed part, behind the header.
    pub fn fixed(&self) -> Fixed {
        match self {
            Self::Error(_) | Self::Done | Self::Data(_) | Self::Bytes(_) => Fixed::empty(),
            Self::Entry(entry) => Fixed::of(entry),
            Self::Created(entry, open) => Fixed::of(entry).and(open),
            Self::Attr(attr) => Fixed::of(attr),
            Self::Statx(statx) => Fixed::of(&**statx),
            Self::Opened(open) => Fixed::of(open),
            Self::Written(size) => Fixed::of(&abi::WriteOut { size: *size, padding: 0 }),
            Self::Copied(bytes) => Fixed::of(&abi::CopyFileRangeOut { bytes_copied: *bytes }),
            Self::XattrSize(size) => Fixed::of(&abi::GetxattrOut { size: *size, padding: 0 }),
            Self::Offset(offset) => Fixed::of(&abi::LseekOut { offset: *offset }),
            Self::Lock(lock) => Fixed::of(&abi::LkOut { lk: *lock }),
            Self::StatFs(statfs) => Fixed::of(statfs),
            Self::Init(init) => Fixed::of(init),
        }
    }

    /// What follows the fixed part.
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Data(bytes) => bytes,
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

/// How long a leased entry or attribute lives in the kernel: until it is told otherwise.
const LEASED: Duration = Duration::from_secs(365 * 24 * 3600);

/// The kernel's timeout for a validity of the protocol.
pub fn timeout(ms: u32) -> Duration {
    if ms == Validity::LEASED { LEASED } else { Duration::from_millis(ms.into()) }
}

/// Attributes as the kernel takes them.
pub fn attr(attr: &Attr) -> abi::Attr {
    abi::Attr {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.sec as u64,
        mtime: attr.mtime.sec as u64,
        ctime: attr.ctime.sec as u64,
        atimensec: attr.atime.nsec,
        mtimensec: attr.mtime.nsec,
        ctimensec: attr.ctime.nsec,
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: attr.blksize,
        flags: 0,
    }
}

/// An entry under the local number `node`.
pub fn entry(node: u64, entry: &Entry) -> abi::EntryOut {
    let (name, attributes) = (timeout(entry.valid.entry_ms), timeout(entry.valid.attr_ms));
    abi::EntryOut {
        nodeid: node,
        generation: 0,
        entry_valid: name.as_secs(),
        attr_valid: attributes.as_secs(),
        entry_valid_nsec: name.subsec_nanos(),
        attr_valid_nsec: attributes.subsec_nanos(),
        attr: attr(&entry.attr),
    }
}

/// "There is no such name", to be believed for a while. Without a while it is an error.
pub fn no_entry(entry_ms: u32) -> Answer<'static> {
    if entry_ms == 0 {
        return Answer::Error(Errno::ENOENT);
    }
    let time = timeout(entry_ms);
    Answer::Entry(abi::EntryOut {
        entry_valid: time.as_secs(),
        entry_valid_nsec: time.subsec_nanos(),
        ..Default::default()
    })
}

/// The answer to `GETATTR` and `SETATTR`.
pub fn attr_out(reply: &AttrReply) -> abi::AttrOut {
    let time = timeout(reply.attr_ms);
    abi::AttrOut {
        attr_valid: time.as_secs(),
        attr_valid_nsec: time.subsec_nanos(),
        dummy: 0,
        attr: attr(&reply.attr),
    }
}

/// The answer to `STATX`.
pub fn statx(reply: &AttrReply) -> Answer<'static> {
    let (time, attr) = (timeout(reply.attr_ms), &reply.attr);
    let moment =
        |time: protocol::Time| abi::SxTime { tv_sec: time.sec, tv_nsec: time.nsec, reserved: 0 };
    let born = if attr.btime == protocol::Time::default() { 0 } else { abi::STATX_BTIME };
    // `new_encode_dev`: twelve bits of major in the middle, minor around them.
    let (major, minor) = ((attr.rdev >> 8) & 0xfff, attr.rdev & 0xff | (attr.rdev >> 12) & 0xfff00);
    let stat = abi::Statx {
        mask: abi::STATX_BASIC_STATS | born,
        blksize: attr.blksize,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        mode: attr.mode as u16,
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: moment(attr.atime),
        btime: moment(attr.btime),
        ctime: moment(attr.ctime),
        mtime: moment(attr.mtime),
        rdev_major: major,
        rdev_minor: minor,
        ..Default::default()
    };
    Answer::Statx(Box::new(abi::StatxOut {
        attr_valid: time.as_secs(),
        attr_valid_nsec: time.subsec_nanos(),
        stat,
        ..Default::default()
    }))
}

/// The answer to `STATFS`.
pub fn statfs(of: &StatFs) -> abi::Kstatfs {
    abi::Kstatfs {
        blocks: of.blocks,
        bfree: of.bfree,
        bavail: of.bavail,
        files: of.files,
        ffree: of.ffree,
        bsize: of.bsize,
        namelen: of.namelen,
        frsize: of.frsize,
        ..Default::default()
    }
}

/// Fills the answer to `READDIR` or `READDIRPLUS`.
pub struct DirBuffer {
    bytes: Vec<u8>,
    size: usize,
}

impl DirBuffer {
    /// Room for `size` bytes.
    pub fn new(size: u32) -> Self {
        let size = (size as usize).min(protocol::limits::MAX_PAYLOAD);
        Self { bytes: Vec::with_capacity(size), size }
    }

    /// Whether an entry with a name of this length fits.
    pub fn fits(&self, name: usize, plus: bool) -> bool {
        let entry = if plus { size_of::<abi::EntryOut>() } else { 0 };
        let len = abi::record_align(entry + size_of::<abi::Dirent>() + name);
        self.bytes.len() + len <= self.size
    }

    /// Appends an entry that fits. `entry` is given for `READDIRPLUS`.
    pub fn push(
        &mut self,
        dirent: &protocol::listing::DirEntry<'_>,
        entry: Option<&abi::EntryOut>,
    ) {
        if let Some(entry) = entry {
            self.bytes.extend_from_slice(entry.as_bytes());
        }
        let head = abi::Dirent {
            ino: dirent.ino,
            off: dirent.cookie,
            namelen: dirent.name.len() as u32,
            kind: dirent.kind.into(),
        };
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(dirent.name);
        self.bytes.resize(abi::record_align(self.bytes.len()), 0);
    }

    /// The answer.
    pub fn finish(self) -> Answer<'static> {
        Answer::Bytes(self.bytes)
    }
}
