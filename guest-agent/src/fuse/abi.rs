//! The kernel's side of the FUSE protocol: structures, opcodes and flags of `linux/fuse.h`, from
//! version 7.31 (the oldest that is spoken, Linux 5.4) to 7.45 (Linux 6.18).
//!
//! Names are those of the kernel in Rust's spelling: [`InHeader`] is `struct fuse_in_header`,
//! `FUSE_INIT_EXT` is [`InitFlags::INIT_EXT`]. Integers have the machine's byte order. Every size is
//! checked against the kernel's at compile time.
#![allow(dead_code, reason = "the kernel's vocabulary stands here whole, used or not")]

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_KERNEL_VERSION`.
pub const MAJOR: u32 = 7;
/// The oldest minor version that is spoken.
pub const MIN_MINOR: u32 = 31;
/// The newest minor version that is known here.
pub const MAX_MINOR: u32 = 45;
/// `FUSE_ROOT_ID`: the node id of the root.
pub const ROOT_ID: u64 = 1;
/// `FUSE_INT_REQ_BIT` (fs/fuse/fuse_dev_i.h): set in the number of an interrupt.
pub const INTERRUPT_BIT: u64 = 1;

/// `enum fuse_opcode`.
pub mod opcode {
    macro_rules! opcodes {
        ($($name:ident = $number:literal),* $(,)?) => {
            $(pub const $name: u32 = $number;)*

            /// The kernel's name of an opcode, for logs.
            pub fn name(opcode: u32) -> &'static str {
                match opcode { $($number => stringify!($name),)* _ => "unknown" }
            }
        };
    }
    opcodes! {
        LOOKUP = 1, FORGET = 2, GETATTR = 3, SETATTR = 4, READLINK = 5, SYMLINK = 6, MKNOD = 8,
        MKDIR = 9, UNLINK = 10, RMDIR = 11, RENAME = 12, LINK = 13, OPEN = 14, READ = 15,
        WRITE = 16, STATFS = 17, RELEASE = 18, FSYNC = 20, SETXATTR = 21, GETXATTR = 22,
        LISTXATTR = 23, REMOVEXATTR = 24, FLUSH = 25, INIT = 26, OPENDIR = 27, READDIR = 28,
        RELEASEDIR = 29, FSYNCDIR = 30, GETLK = 31, SETLK = 32, SETLKW = 33, ACCESS = 34,
        CREATE = 35, INTERRUPT = 36, BMAP = 37, DESTROY = 38, IOCTL = 39, POLL = 40,
        NOTIFY_REPLY = 41, BATCH_FORGET = 42, FALLOCATE = 43, READDIRPLUS = 44, RENAME2 = 45,
        LSEEK = 46, COPY_FILE_RANGE = 47, SETUPMAPPING = 48, REMOVEMAPPING = 49, SYNCFS = 50,
        TMPFILE = 51, STATX = 52, COPY_FILE_RANGE_64 = 53,
    }
}

/// `enum fuse_notify_code`.
pub mod notify {
    pub const INVAL_INODE: i32 = 2;
    pub const INVAL_ENTRY: i32 = 3;
    pub const STORE: i32 = 4;
    /// `FUSE_EXPIRE_ONLY`, a flag of [`INVAL_ENTRY`] (7.38).
    pub const EXPIRE_ONLY: u32 = 1;
    /// From 7.45 on.
    pub const PRUNE: i32 = 9;
    pub const PRUNE_MINOR: u32 = 45;
}

bitflags! {
    /// Flags of `FUSE_INIT`, `flags` below and `flags2` above bit 32.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct InitFlags: u64 {
        const ASYNC_READ = 1;
        const POSIX_LOCKS = 1 << 1;
        const EXPORT_SUPPORT = 1 << 4;
        const BIG_WRITES = 1 << 5;
        const DONT_MASK = 1 << 6;
        const FLOCK_LOCKS = 1 << 10;
        const AUTO_INVAL_DATA = 1 << 12;
        const DO_READDIRPLUS = 1 << 13;
        const READDIRPLUS_AUTO = 1 << 14;
        const ASYNC_DIO = 1 << 15;
        const WRITEBACK_CACHE = 1 << 16;
        const PARALLEL_DIROPS = 1 << 18;
        const HANDLE_KILLPRIV = 1 << 19;
        const POSIX_ACL = 1 << 20;
        const MAX_PAGES = 1 << 22;
        const CACHE_SYMLINKS = 1 << 23;
        const EXPLICIT_INVAL_DATA = 1 << 25;
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        const SETXATTR_EXT = 1 << 29;
        const INIT_EXT = 1 << 30;
        const CREATE_SUPP_GROUP = 1 << 34;
        const HAS_EXPIRE_ONLY = 1 << 35;
        const DIRECT_IO_ALLOW_MMAP = 1 << 36;
        const _ = !0;
    }

    /// `FATTR_*`: what a `FUSE_SETATTR` sets.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FattrMask: u32 {
        const MODE = 1;
        const UID = 1 << 1;
        const GID = 1 << 2;
        const SIZE = 1 << 3;
        const ATIME = 1 << 4;
        const MTIME = 1 << 5;
        const FH = 1 << 6;
        const ATIME_NOW = 1 << 7;
        const MTIME_NOW = 1 << 8;
        const LOCKOWNER = 1 << 9;
        const CTIME = 1 << 10;
        const KILL_SUIDGID = 1 << 11;
        const _ = !0;
    }

    /// `FOPEN_*`: how the kernel is to treat an open file.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct FopenFlags: u32 {
        const DIRECT_IO = 1;
        const KEEP_CACHE = 1 << 1;
        const NONSEEKABLE = 1 << 2;
        const CACHE_DIR = 1 << 3;
        const STREAM = 1 << 4;
        const NOFLUSH = 1 << 5;
        const PARALLEL_DIRECT_WRITES = 1 << 6;
    }
}

/// `FUSE_GETATTR_FH`.
pub const GETATTR_FH: u32 = 1;
/// `FUSE_LK_FLOCK`.
pub const LK_FLOCK: u32 = 1;
/// `FUSE_WRITE_CACHE`: pages written back, not a `write(2)`.
pub const WRITE_CACHE: u32 = 1;
/// `FUSE_FSYNC_FDATASYNC`.
pub const FSYNC_FDATASYNC: u32 = 1;
/// `FUSE_SETXATTR_ACL_KILL_SGID`.
pub const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// `F_RDLCK` (asm-generic/fcntl.h).
pub const F_RDLCK: u32 = 0;
/// `F_WRLCK`.
pub const F_WRLCK: u32 = 1;
/// `F_UNLCK`.
pub const F_UNLCK: u32 = 2;
/// `STATX_BASIC_STATS` (linux/stat.h).
pub const STATX_BASIC_STATS: u32 = 0x7ff;
/// `STATX_BTIME` (linux/stat.h).
pub const STATX_BTIME: u32 = 0x800;

macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident[$size:literal] { $($field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $(pub $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

structs! {
    /// Begins every request.
    InHeader[40] {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        total_extlen: u16, padding: u16,
    }
    /// Begins every reply and notification.
    OutHeader[16] { len: u32, error: i32, unique: u64 }
    /// Attributes.
    Attr[88] {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64, atimensec: u32,
        mtimensec: u32, ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32,
        blksize: u32, flags: u32,
    }
    /// A time of [`Statx`].
    SxTime[16] { tv_sec: i64, tv_nsec: u32, reserved: i32 }
    /// Attributes with birth time (7.39).
    Statx[256] {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16,
        spare0: u16, ino: u64, size: u64, blocks: u64, attributes_mask: u64, atime: SxTime,
        btime: SxTime, ctime: SxTime, mtime: SxTime, rdev_major: u32, rdev_minor: u32,
        dev_major: u32, dev_minor: u32, spare2: [u64; 14],
    }
    Kstatfs[80] {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32,
        frsize: u32, padding: u32, spare: [u32; 6],
    }
    FileLock[24] { start: u64, end: u64, kind: u32, pid: u32 }
    EntryOut[128] {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32,
        attr_valid_nsec: u32, attr: Attr,
    }
    ForgetIn[8] { nlookup: u64 }
    ForgetOne[16] { nodeid: u64, nlookup: u64 }
    BatchForgetIn[8] { count: u32, dummy: u32 }
    GetattrIn[16] { getattr_flags: u32, dummy: u32, fh: u64 }
    AttrOut[104] { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }
    StatxIn[24] { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32 }
    StatxOut[288] { attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: Statx }
    MknodIn[16] { mode: u32, rdev: u32, umask: u32, padding: u32 }
    MkdirIn[8] { mode: u32, umask: u32 }
    RenameIn[8] { newdir: u64 }
    Rename2In[16] { newdir: u64, flags: u32, padding: u32 }
    LinkIn[8] { oldnodeid: u64 }
    SetattrIn[88] {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64,
        ctime: u64, atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32,
        uid: u32, gid: u32, unused5: u32,
    }
    OpenIn[8] { flags: u32, open_flags: u32 }
    CreateIn[16] { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    OpenOut[16] { fh: u64, open_flags: u32, backing_id: i32 }
    ReleaseIn[24] { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    FlushIn[24] { fh: u64, unused: u32, padding: u32, lock_owner: u64 }
    ReadIn[40] {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    WriteIn[40] {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
    WriteOut[8] { size: u32, padding: u32 }
    FsyncIn[16] { fh: u64, fsync_flags: u32, padding: u32 }
    /// With [`InitFlags::SETXATTR_EXT`].
    SetxattrIn[16] { size: u32, flags: u32, setxattr_flags: u32, padding: u32 }
    /// Without it.
    CompatSetxattrIn[8] { size: u32, flags: u32 }
    GetxattrIn[8] { size: u32, padding: u32 }
    GetxattrOut[8] { size: u32, padding: u32 }
    LkIn[48] { fh: u64, owner: u64, lk: FileLock, lk_flags: u32, padding: u32 }
    LkOut[24] { lk: FileLock }
    AccessIn[8] { mask: u32, padding: u32 }
    /// From 7.36 on; before, it ended behind `flags`.
    InitIn[64] {
        major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11],
    }
    /// The part of [`InitIn`] that every version has.
    CompatInitIn[16] { major: u32, minor: u32, max_readahead: u32, flags: u32 }
    InitOut[64] {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16,
        congestion_threshold: u16, max_write: u32, time_gran: u32, max_pages: u16,
        map_alignment: u16, flags2: u32, max_stack_depth: u32, request_timeout: u16,
        unused: [u16; 11],
    }
    InterruptIn[8] { unique: u64 }
    FallocateIn[32] { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    Dirent[24] { ino: u64, off: u64, namelen: u32, kind: u32 }
    NotifyInvalInodeOut[24] { ino: u64, off: i64, len: i64 }
    NotifyInvalEntryOut[16] { parent: u64, namelen: u32, flags: u32 }
    /// Bytes follow.
    NotifyStoreOut[24] { nodeid: u64, offset: u64, size: u32, padding: u32 }
    /// Node ids follow.
    NotifyPruneOut[16] { count: u32, padding: u32, spare: u64 }
    LseekIn[24] { fh: u64, offset: u64, whence: u32, padding: u32 }
    LseekOut[8] { offset: u64 }
    CopyFileRangeIn[56] {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    }
    /// Of `FUSE_COPY_FILE_RANGE_64` (7.45).
    CopyFileRangeOut[8] { bytes_copied: u64 }
    SyncfsIn[8] { padding: u64 }
}

/// `FUSE_REC_ALIGN`: directory records begin at multiples of eight bytes.
pub const fn record_align(len: usize) -> usize {
    len.next_multiple_of(8)
}
