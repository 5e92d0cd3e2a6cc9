//! What is known of one object: times, attributes, and for how long they may be believed.

use crate::NodeId;
use crate::codec::{wire_number, wire_struct};
use bitflags::bitflags;

/// The type bits of a mode (`S_IFMT` and its values, linux/stat.h).
pub mod mode {
    /// Mask of the type bits.
    pub const IFMT: u32 = 0o170_000;
    /// A socket.
    pub const IFSOCK: u32 = 0o140_000;
    /// A symbolic link.
    pub const IFLNK: u32 = 0o120_000;
    /// A regular file.
    pub const IFREG: u32 = 0o100_000;
    /// A block device.
    pub const IFBLK: u32 = 0o060_000;
    /// A directory.
    pub const IFDIR: u32 = 0o040_000;
    /// A character device.
    pub const IFCHR: u32 = 0o020_000;
    /// A fifo.
    pub const IFIFO: u32 = 0o010_000;
    /// All but the type bits.
    pub const PERMISSIONS: u32 = 0o7777;
}

/// In a second.
const NANOS: i64 = 1_000_000_000;

impl Time {
    /// As one number of nanoseconds since 1970; far ends of time are held fast at the ends.
    pub fn nanoseconds(self) -> i64 {
        self.sec.saturating_mul(NANOS).saturating_add(self.nsec.into())
    }

    /// Of such a number.
    pub fn from_nanoseconds(nanoseconds: i64) -> Self {
        let (sec, nsec) = (nanoseconds.div_euclid(NANOS), nanoseconds.rem_euclid(NANOS));
        Self { sec, nsec: nsec as u32 }
    }
}

wire_struct! {
    /// A moment: seconds since 1970 (may be negative) and nanoseconds.
    #[derive(Default, PartialOrd, Ord, Hash)]
    Time {
        /// Seconds since the epoch.
        sec: i64,
        /// 0 to 999,999,999.
        nsec: u32,
    }

    /// The attributes of one object as the guest is to see them (owners already mapped).
    #[derive(Default)]
    Attr {
        /// Inode number: the same for all links of an object, for its whole life.
        ino: u64,
        /// Size in bytes.
        size: u64,
        /// Space taken, in units of 512 bytes.
        blocks: u64,
        /// Last access.
        atime: Time,
        /// Last modification of the content.
        mtime: Time,
        /// Last change of content or attributes.
        ctime: Time,
        /// Birth; zero where the host keeps none.
        btime: Time,
        /// Type and permissions, as `st_mode` of Linux.
        mode: u32,
        /// Number of hard links.
        nlink: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Device number of a device node in the encoding of FUSE (`new_encode_dev`).
        rdev: u32,
        /// Preferred size of I/O in bytes.
        blksize: u32,
    }

    /// A found object: its node (with one more lookup to be forgotten later) and attributes.
    Entry {
        /// The node.
        node: NodeId,
        /// Its attributes.
        attr: Attr,
        /// For how long name and attributes hold.
        valid: Validity,
    }

    /// For how long the agent may believe a reply, in milliseconds; [`Validity::LEASED`] is "until
    /// the server says otherwise".
    Validity {
        /// For the name: that it leads to this node, or to none.
        entry_ms: u32,
        /// For the attributes.
        attr_ms: u32,
    }

    /// Attributes alone.
    AttrReply {
        /// The attributes.
        attr: Attr,
        /// For how long they hold in milliseconds, or [`Validity::LEASED`].
        attr_ms: u32,
    }

    /// A file system as `statfs(2)` reports it.
    #[derive(Default)]
    StatFs {
        /// Blocks in all, in units of `frsize`.
        blocks: u64,
        /// Free blocks.
        bfree: u64,
        /// Free blocks for ordinary users.
        bavail: u64,
        /// Inodes.
        files: u64,
        /// Free inodes.
        ffree: u64,
        /// Preferred size of I/O in bytes.
        bsize: u32,
        /// Size of a block in bytes.
        frsize: u32,
        /// Longest name in bytes.
        namelen: u32,
    }
}

impl Validity {
    /// Until the server says otherwise: the server watches the directory.
    pub const LEASED: u32 = u32::MAX;
    /// Not beyond this reply.
    pub const NONE: Self = Self { entry_ms: 0, attr_ms: 0 };
}

impl Attr {
    /// The type bits of the mode.
    pub fn kind(&self) -> u32 {
        self.mode & mode::IFMT
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == mode::IFDIR
    }
}

bitflags! {
    /// Which fields of a [`SetAttr`] are to be set.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SetAttrMask: u32 {
        /// `mode`, permissions only.
        const MODE = 1;
        /// `uid`.
        const UID = 1 << 1;
        /// `gid`.
        const GID = 1 << 2;
        /// `size`.
        const SIZE = 1 << 3;
        /// `atime`.
        const ATIME = 1 << 4;
        /// `mtime`.
        const MTIME = 1 << 5;
        /// The access time is the server's now; `atime` is ignored.
        const ATIME_NOW = 1 << 6;
        /// The modification time is the server's now; `mtime` is ignored.
        const MTIME_NOW = 1 << 7;
    }
}
wire_number!(flags SetAttrMask: u32);

wire_struct! {
    /// Several attributes to set at once; those outside the mask are ignored.
    SetAttr {
        /// What to set.
        mask: SetAttrMask,
        /// Permissions.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Size in bytes.
        size: u64,
        /// Access time.
        atime: Time,
        /// Modification time.
        mtime: Time,
    }
}
