//! The messages after the handshake: requests of the agent, replies and notices of the server.
//!
//! Each variant below names its opcode; its fields are encoded in the order in which they stand. The
//! fields of every request begin with the [`Caller`], `Forget` and its like included.
//!
//! | opcodes | from | message |
//! | --- | --- | --- |
//! | `0x0001` | agent | [Hello](crate::handshake::Hello) |
//! | `0x0010` to `0x00ff` | agent | [`Request`]: session `1x`, names and attributes `2x`, files `3x`, directories `4x`, extended attributes `5x`, locks `6x` |
//! | `0x8001`, `0x8002` | server | [Welcome](crate::handshake::Welcome), [Refuse](crate::handshake::Refuse) |
//! | `0x8100` to `0x81ff` | server | [`Reply`] |
//! | `0x8200` to `0x82ff` | server | [`Notice`] |
//!
//! A request that is answered has one of two replies: the one behind its arrow, or
//! [`Reply::Error`].

use crate::attr::{Attr, AttrReply, Entry, SetAttr, StatFs, Time, Validity};
use crate::change::Change;
use crate::codec::{
    DecodeError, ExportName, Name, Payload, Reader, Target, Wire, XattrName, XattrValue, get_list,
    put_list, wire_number, wire_struct,
};
use crate::{Attachment, Errno, HandleId, LockOwner, NodeId, Tag, frame, limits};
use bitflags::bitflags;

bitflags! {
    /// Open flags with the numbers of Linux on x86-64 and arm64's common ground
    /// (asm-generic/fcntl.h). The agent translates those of its own architecture. Neither `WRONLY`
    /// nor `RDWR` is read only.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct OpenFlags: u32 {
        /// Write only.
        const WRONLY = 0o1;
        /// Read and write.
        const RDWR = 0o2;
        /// With `Create`: fail if the name exists.
        const EXCL = 0o200;
        /// Cut to zero length.
        const TRUNC = 0o1000;
        /// Every write goes to the end, wherever that then is.
        const APPEND = 0o2000;
        /// Data is on disk when a write returns.
        const DSYNC = 0o10000;
        /// Data and attributes are on disk when a write returns.
        const SYNC = 0o4_000_000;
    }

    /// Flags of [`Request::Rename`] (`RENAME_*`, linux/fs.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RenameFlags: u32 {
        /// Fail if the new name exists.
        const NOREPLACE = 1;
        /// Swap the two.
        const EXCHANGE = 2;
        /// Leave a whiteout behind.
        const WHITEOUT = 4;
    }

    /// Modes of [`Request::Fallocate`] (`FALLOC_FL_*`, linux/falloc.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FallocateMode: u32 {
        /// Do not change the size.
        const KEEP_SIZE = 0x01;
        /// Make a hole.
        const PUNCH_HOLE = 0x02;
        /// Cut a range out.
        const COLLAPSE_RANGE = 0x08;
        /// Make a range zero.
        const ZERO_RANGE = 0x10;
        /// Insert a range.
        const INSERT_RANGE = 0x20;
        /// Unshare shared blocks.
        const UNSHARE_RANGE = 0x40;
    }

    /// Flags of [`Request::SetXattr`] (`XATTR_*`, linux/xattr.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct XattrFlags: u32 {
        /// Fail if it exists.
        const CREATE = 1;
        /// Fail if it does not.
        const REPLACE = 2;
    }

    /// What is asked of [`Request::Access`] (`R_OK`, `W_OK`, `X_OK`, unistd.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AccessMask: u32 {
        /// Execute, or search.
        const EXEC = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}
wire_number!(flags OpenFlags: u32, RenameFlags: u32, FallocateMode: u32, XattrFlags: u32, AccessMask: u32);

wire_number! {enum
    /// `whence` of [`Request::Seek`] (linux/fs.h).
    Whence: u8 {
        /// `SEEK_DATA`.
        Data = 3,
        /// `SEEK_HOLE`.
        Hole = 4,
    }

    /// What a lock does (`F_RDLCK`, `F_WRLCK`, `F_UNLCK`, asm-generic/fcntl.h).
    LockKind: u8 {
        /// Shared.
        Read = 0,
        /// Exclusive.
        Write = 1,
        /// None: release.
        Unlock = 2,
    }

    /// Which family a lock belongs to. The two do not see each other.
    LockFamily: u8 {
        /// `fcntl` locks, of a process (POSIX) or of an open file (OFD): the owner tells.
        Posix = 0,
        /// `flock`.
        Flock = 1,
    }

    /// How an export's owners appear.
    OwnershipMode: u8 {
        /// As they are on the host.
        Host = 0,
        /// Mapped, with records in `user.osxfs.stat`.
        Map = 1,
    }

    /// What an export promises about freshness.
    Consistency: u8 {
        /// At every system call.
        Consistent = 0,
        /// The host is right.
        Cached = 1,
        /// The guest is right.
        Delegated = 2,
    }
}

wire_struct! {
    /// A byte range of a lock and what is to be done with it.
    Lock {
        /// Which family.
        family: LockFamily,
        /// What kind.
        kind: LockKind,
        /// Who holds it.
        owner: LockOwner,
        /// First byte.
        start: u64,
        /// Last byte; `i64::MAX` is the end of the file.
        end: u64,
        /// The process, for people and `F_GETLK`.
        pid: u32,
    }

    /// One node to be forgotten so many times.
    ForgetOne {
        /// The node.
        node: NodeId,
        /// How many lookups are given back.
        count: u64,
    }

    /// An attached export.
    Attached {
        /// Its number on this connection.
        attachment: Attachment,
        /// Its root.
        root: Entry,
        /// Whether writing is refused.
        read_only: bool,
        /// How owners appear.
        ownership: OwnershipMode,
        /// What is promised.
        consistency: Consistency,
    }

    /// A new open file with its entry.
    Created {
        /// The entry.
        entry: Entry,
        /// The open file.
        handle: HandleId,
        /// Its directory, as in [`Reply::Made`].
        dir: Option<AttrReply>,
    }
}

/// Supplementary groups of a caller: a list of `u32`, kept encoded.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Groups<'a>(&'a [u8]);

impl<'a> Groups<'a> {
    /// Takes groups as little-endian `u32`s.
    ///
    /// # Errors
    /// [`DecodeError::Limit`] beyond [`limits::MAX_GROUPS`], [`DecodeError::Truncated`] if the
    /// length is no multiple of four.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (got, limit) = (bytes.len() / 4, limits::MAX_GROUPS);
        match bytes.len() % 4 {
            0 if got <= limit => Ok(Self(bytes)),
            0 => Err(DecodeError::Limit { what: "groups", got, limit }),
            _ => Err(DecodeError::Truncated),
        }
    }

    /// The groups.
    pub fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        self.0.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

impl std::fmt::Debug for Groups<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Wire<'a> for Groups<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        ((self.0.len() / 4) as u32).put(out);
        out.extend_from_slice(self.0);
    }
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = from.count("groups", limits::MAX_GROUPS)?;
        from.take(count * 4).map(Self)
    }
}

wire_struct! {
    /// The guest process on whose behalf a request is made; all zero where none is. Begins the
    /// fields of every request.
    #[derive(Default)]
    Caller<'a> {
        /// File system user id.
        uid: u32,
        /// File system group id.
        gid: u32,
        /// Process (thread) id in the guest; 0 where the kernel itself asks.
        pid: u32,
        /// Supplementary groups; sent only for exports with mapped owners.
        groups: Groups<'a>,
        /// The processor to which those keep who wait for the answer, if to one. It means something
        /// where both ends run on [one machine](crate::handshake::Hello::machine).
        processor: Option<u16>,
    }
}

macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)? of $item:ty, $what:literal, $limit:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct $name $(<$life>)? (pub Vec<$item>);

        impl<'a> Wire<'a> for $name $(<$life>)? {
            fn put(&self, out: &mut Vec<u8>) {
                put_list(&self.0, out);
            }
            fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
                get_list(from, $what, $limit).map(Self)
            }
        }
    )*};
}

lists! {
    /// The components of a walk.
    Names<'a> of Name<'a>, "components", limits::MAX_WALK;
    /// Nodes to be forgotten.
    ForgetList of ForgetOne, "nodes to forget", limits::MAX_FORGET;
    /// Open files and directories to be closed.
    Handles of HandleId, "handles to close", limits::MAX_CLOSE;
    /// Directories that are watched.
    Directories of NodeId, "watched directories", limits::MAX_WATCHED;
    /// The entries found by a walk, in order.
    Entries of Entry, "entries", limits::MAX_WALK;
    /// Changes in the order in which they are to be delivered.
    Changes<'a> of Change<'a>, "changes", limits::MAX_CHANGES;
}

macro_rules! messages {
    ($(#[$doc:meta])* enum $name:ident<'a>, prefix ($($pre:ident: $prety:ty)?) {
        $($(#[$vdoc:meta])* $op:literal => $variant:ident $({ $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* })?,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub enum $name<'a> {
            $(
                $(#[$vdoc])*
                #[doc = concat!("\n\nOpcode `", stringify!($op), "`.")]
                $variant $({ $($(#[$fdoc])* $field: $ty,)* })?,
            )*
        }

        impl<'a> $name<'a> {
            /// Its number in the frame header.
            pub fn opcode(&self) -> u16 {
                match self { $(Self::$variant { .. } => $op,)* }
            }

            /// Its name, for logs and counters.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => stringify!($variant),)* }
            }

            /// Writes frame header and fields into `out`, which is cleared first. The caller sends
            /// [`payload`](Self::payload) right behind it, and keeps to the [`limits`].
            pub fn encode(&self, tag: Tag, $($pre: &$prety,)? out: &mut Vec<u8>) {
                frame::write(out, self.opcode(), tag, self.payload().len(), |out| {
                    $($pre.put(out);)?
                    match self {
                        $(Self::$variant $({ $($field,)* })? => { $($($field.put(out);)*)? })*
                    }
                });
            }

            /// Reads the body of a frame with this opcode.
            ///
            /// # Errors
            /// What the peer did wrong; its connection is to be closed.
            #[allow(unused_parens)]
            pub fn decode(opcode: u16, body: &'a [u8]) -> Result<($($prety,)? Self), DecodeError> {
                let mut from = Reader::new(body);
                $(let $pre = <$prety>::get(&mut from)?;)?
                let message = match opcode {
                    $($op => Self::$variant $({ $($field: Wire::get(&mut from)?,)* })?,)*
                    other => return Err(DecodeError::UnknownOpcode(other)),
                };
                from.finish()?;
                Ok(($($pre,)? message))
            }
        }
    };
}

impl<'a> Wire<'a> for Payload<'a> {
    /// Appends nothing: the payload is sent behind the fields from where it lies.
    fn put(&self, _out: &mut Vec<u8>) {}
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Payload::get(from)
    }
}

messages! {
    /// What an agent asks. Each is answered by one [`Reply`] with its tag, in any order, except
    /// where it says that there is no reply (the tag is then [`Tag::NONE`]).
    enum Request<'a>, prefix (caller: Caller<'a>) {
        /// Begin to use an export → [`Reply::Attached`]. `ENOENT` if there is none of the name.
        /// Attached twice, it has two attachments, with nodes of their own.
        0x10 => Attach { /// Its name.
            name: ExportName<'a>, },
        /// End the use of an export; its nodes, lookups and handles are gone → [`Reply::Done`],
        /// behind which no notice is about it. Its number may then be given again. `EINVAL` if it is
        /// not attached.
        0x11 => Detach { /// Which.
            attachment: Attachment, },
        /// Give lookups back. No reply. A node that is not known, and lookups beyond those it has,
        /// are ignored.
        0x12 => Forget { /// Nodes and counts.
            nodes: ForgetList, },
        /// Give up a request in flight. No reply of its own: the request is answered, with `EINTR`
        /// if it had not begun or was waiting. A tag not in flight is ignored.
        0x13 => Cancel { /// Its tag.
            tag: Tag, },
        /// All changes up to this sequence number are delivered. No reply. A number lower than an
        /// earlier one is ignored.
        0x14 => Acknowledge { /// From [`Notice::Changes`].
            seq: u64, },
        /// These directories, and files in them, are being watched by processes of the guest, and no
        /// others of the attachment. No reply. Said while watches are [`Scarce`](Notice::Scarce),
        /// and again when it is no longer so; directories that are not known are ignored.
        0x15 => Watched { /// Where.
            attachment: Attachment, /// Which. Of more than the limit, any.
            dirs: Directories, },
        /// These open files and directories are gone, and with a file all locks taken through it. No
        /// reply. What is not open is ignored.
        0x16 => Close { /// Which.
            handles: Handles, },
        /// Find one name → [`Reply::Entry`] or [`Reply::NoEntry`]. `ENOTDIR` where the parent is no
        /// directory. Links are found, never followed.
        0x20 => Lookup { /// Directory.
            parent: NodeId, /// Name.
            name: Name<'a>, },
        /// Find a path → [`Reply::Walked`] with the entries of all components, in order. It ends
        /// early before a component that is missing or can not be looked up, and behind one that is
        /// no directory (a symbolic link is none). Why it ended before a component is not told:
        /// [`Lookup`](Request::Lookup) tells. Without components it is answered without entries.
        0x21 => Walk { /// Where to begin.
            base: NodeId, /// Components.
            names: Names<'a>, },
        /// Attributes → [`Reply::Attr`].
        0x22 => GetAttr { /// Node.
            node: NodeId, },
        /// Set several attributes → [`Reply::Attr`]. With a handle, a size is set as `ftruncate`
        /// does, under the rights of the open file. They are set in the order owner, mode, size,
        /// times; after an error those before it may be set.
        0x23 => SetAttr { /// Node.
            node: NodeId, /// An open file of the node.
            handle: Option<HandleId>, /// What to set.
            set: SetAttr, },
        /// Target of a symbolic link → [`Reply::Target`].
        0x24 => ReadLink { /// Node.
            node: NodeId, },
        /// Make a file, fifo, socket or device → [`Reply::Made`]. This, and all that make
        /// something: it belongs to the [`Caller`]; a name that exists is `EEXIST`.
        0x25 => MkNod { /// Directory.
            parent: NodeId, /// Name.
            name: Name<'a>, /// Type and permissions.
            mode: u32, /// Bits to clear, unless a default ACL applies.
            umask: u32, /// Device number.
            rdev: u32, },
        /// Make a directory → [`Reply::Made`].
        0x26 => MkDir { /// Directory.
            parent: NodeId, /// Name.
            name: Name<'a>, /// Permissions.
            mode: u32, /// Bits to clear, unless a default ACL applies.
            umask: u32, },
        /// Make a symbolic link → [`Reply::Made`].
        0x27 => SymLink { /// Directory.
            parent: NodeId, /// Name.
            name: Name<'a>, /// Target, kept as it is.
            target: Target<'a>, },
        /// Make another name of a node → [`Reply::Made`].
        0x28 => Link { /// The node.
            node: NodeId, /// Directory of the new name.
            parent: NodeId, /// New name.
            name: Name<'a>, },
        /// Remove a name that is no directory → [`Reply::Removed`].
        0x29 => Unlink { /// Directory.
            parent: NodeId, /// Name.
            name: Name<'a>, },
        /// Remove an empty directory → [`Reply::Removed`].
        0x2a => RmDir { /// Directory.
            parent: NodeId, /// Name.
            name: Name<'a>, },
        /// Rename → [`Reply::Renamed`].
        0x2b => Rename { /// Old directory.
            parent: NodeId, /// Old name.
            name: Name<'a>, /// New directory.
            new_parent: NodeId, /// New name.
            new_name: Name<'a>, /// How.
            flags: RenameFlags, },
        /// May the caller do this → [`Reply::Done`] or `EACCES`. Only with mapped owners; otherwise
        /// the guest kernel judges by the attributes.
        0x2c => Access { /// Node.
            node: NodeId, /// What.
            mask: AccessMask, },
        /// The file system → [`Reply::StatFs`].
        0x2d => StatFs { /// Any node of it.
            node: NodeId, },
        /// Write everything of an export to disk → [`Reply::Done`].
        0x2e => SyncFs { /// Any node of it.
            node: NodeId, },
        /// Open a file → [`Reply::Opened`]. `EMFILE` if this agent holds too many.
        0x30 => Open { /// Node.
            node: NodeId, /// How.
            flags: OpenFlags, },
        /// Make and open a file, or open it if it is there → [`Reply::Created`].
        0x31 => Create { /// Directory.
            parent: NodeId, /// Name.
            name: Name<'a>, /// Permissions.
            mode: u32, /// Bits to clear, unless a default ACL applies.
            umask: u32, /// How.
            flags: OpenFlags, },
        /// Make and open a file without a name → [`Reply::Created`].
        0x32 => TmpFile { /// Directory.
            parent: NodeId, /// Permissions.
            mode: u32, /// Bits to clear, unless a default ACL applies.
            umask: u32, /// How.
            flags: OpenFlags, },
        /// Read → [`Reply::Data`]; shorter than asked only at the end of the file. Not for
        /// directories: `EBADF`.
        0x33 => Read { /// Open file.
            handle: HandleId, /// Where.
            offset: u64, /// How much, at most [`limits::MAX_PAYLOAD`].
            size: u32, },
        /// Write → [`Reply::Written`], less than sent only if an error (a full disk) came in between.
        0x34 => Write { /// Open file.
            handle: HandleId, /// Where; ignored by files opened to append.
            offset: u64, /// What.
            data: Payload<'a>, },
        /// A descriptor of the open file was closed: its POSIX locks of this owner go
        /// → [`Reply::Done`], or the error of an earlier delayed write.
        0x35 => Flush { /// Open file.
            handle: HandleId, /// Whose locks.
            owner: LockOwner, },
        /// Write to disk → [`Reply::Done`].
        0x37 => Fsync { /// Open file or directory.
            handle: HandleId, /// Content only, and what is needed to read it.
            data_only: bool, },
        /// Reserve, punch, zero → [`Reply::Done`].
        0x38 => Fallocate { /// Open file.
            handle: HandleId, /// Where.
            offset: u64, /// How much.
            length: u64, /// What.
            mode: FallocateMode, },
        /// Next data or hole → [`Reply::Offset`].
        0x39 => Seek { /// Open file.
            handle: HandleId, /// From where.
            offset: u64, /// Which.
            whence: Whence, },
        /// Copy between two open files on the host → [`Reply::Written`]; it may be less than asked,
        /// and 0 at the end of the source.
        0x3a => CopyRange { /// From.
            source: HandleId, /// Where.
            source_offset: u64, /// To.
            target: HandleId, /// Where.
            target_offset: u64, /// How much.
            length: u64, },
        /// Open a file and read all of it → [`Reply::OpenedRead`], or [`Reply::Opened`] if it is longer
        /// than that, cannot be read in this way, or changes meanwhile.
        0x3b => OpenRead { /// Node.
            node: NodeId, /// How.
            flags: OpenFlags, /// Most bytes.
            size: u32, },
        /// Open a directory → [`Reply::Opened`].
        0x40 => OpenDir { /// Node.
            node: NodeId, },
        /// Next entries → [`Reply::Listing`]; an empty one is the end. An entry that is there all the
        /// time comes exactly once in a pass from 0, whatever else comes and goes.
        0x41 => ReadDir { /// Open directory.
            handle: HandleId, /// Cookie of the last entry seen, 0 to begin.
            cookie: u64, /// Most bytes of listing, at most [`limits::MAX_PAYLOAD`].
            size: u32, /// Whether entries are to come with node and attributes.
            plus: bool, },
        /// The first entries of a directory with node and attributes, without opening it
        /// → [`Reply::Listed`]. As many as fit.
        0x42 => List { /// Directory.
            node: NodeId, /// Most bytes of listing, at most [`limits::MAX_PAYLOAD`].
            size: u32, },
        /// Value of an attribute → [`Reply::Data`], whole. `ENODATA` if there is none of the name.
        0x50 => GetXattr { /// Node.
            node: NodeId, /// Which.
            name: XattrName<'a>, },
        /// Names of all attributes, each with a NUL behind it → [`Reply::Data`].
        0x51 => ListXattr { /// Node.
            node: NodeId, },
        /// Set an attribute → [`Reply::Done`].
        0x52 => SetXattr { /// Node.
            node: NodeId, /// Which.
            name: XattrName<'a>, /// To what.
            value: XattrValue<'a>, /// How.
            flags: XattrFlags, },
        /// Remove an attribute → [`Reply::Done`].
        0x53 => RemoveXattr { /// Node.
            node: NodeId, /// Which.
            name: XattrName<'a>, },
        /// Who holds what conflicts → [`Reply::Lock`].
        0x60 => GetLock { /// Open file.
            handle: HandleId, /// What is wanted.
            lock: Lock, },
        /// Take or release → [`Reply::Done`]. `EAGAIN` if it conflicts and must not wait; `EDEADLK`
        /// if waiting would never end. Waiting blocks no other request.
        0x61 => SetLock { /// Open file.
            handle: HandleId, /// What.
            lock: Lock, /// Whether to wait for it.
            wait: bool, },
    }
}

messages! {
    /// What the server answers.
    enum Reply<'a>, prefix () {
        /// It failed. A number outside 1 to 4095 is read as `EIO`.
        0x8100 => Error { /// Why.
            errno: Errno, },
        /// It is done.
        0x8101 => Done,
        /// An export is attached.
        0x8102 => Attached { /// Which and how.
            attached: Attached, },
        /// Found.
        0x8103 => Entry { /// The object, with one lookup to be forgotten.
            entry: Entry, },
        /// There is no such name.
        0x8104 => NoEntry { /// For how long in milliseconds, or [`Validity::LEASED`].
            entry_ms: u32, },
        /// A walk went this far.
        0x8105 => Walked { /// What it found, each with one lookup to be forgotten.
            entries: Entries, },
        /// Attributes.
        0x8106 => Attr { /// And how long they hold.
            attr: AttrReply, },
        /// Target of a link.
        0x8107 => Target { /// As it is.
            target: Target<'a>, },
        /// Opened.
        0x8108 => Opened { /// As what.
            handle: HandleId, },
        /// Made and opened.
        0x8109 => Created { /// Both.
            created: Created, },
        /// Bytes.
        0x810a => Data { /// The bytes.
            data: Payload<'a>, },
        /// So many bytes are written.
        0x810b => Written { /// How many.
            size: u32, /// The file afterwards, if that could be looked at.
            attr: Option<AttrReply>, },
        /// An offset in a file.
        0x810c => Offset { /// In bytes.
            offset: u64, },
        /// Entries of a directory: see [`Listing`](crate::listing::Listing).
        0x810d => Listing { /// Encoded entries.
            data: Payload<'a>, },
        /// The file system.
        0x810e => StatFs { /// Its figures.
            statfs: StatFs, },
        /// A lock that conflicts, or one of kind [`LockKind::Unlock`] if none does.
        0x810f => Lock { /// The lock.
            lock: Lock, },
        /// Made.
        0x8110 => Made { /// The object, with one lookup to be forgotten.
            entry: Entry, /// Its directory afterwards, if that could be looked at.
            dir: Option<AttrReply>, },
        /// Removed.
        0x8111 => Removed { /// The directory afterwards, if that could be looked at.
            dir: Option<AttrReply>, },
        /// Renamed.
        0x8112 => Renamed { /// The directory of the old name, if that could be looked at.
            from: Option<AttrReply>, /// And that of the new one, if it is another.
            to: Option<AttrReply>, },
        /// Opened and read.
        0x8113 => OpenedRead { /// As what.
            handle: HandleId, /// What it was like when it was read.
            attr: AttrReply, /// All of it.
            data: Payload<'a>, },
        /// Listed from the beginning.
        0x8114 => Listed { /// Whether these are all.
            all: bool, /// Encoded entries: see [`Listing`](crate::listing::Listing).
            data: Payload<'a>, },
    }
}

messages! {
    /// What the server says unasked. The tag is [`Tag::NONE`].
    enum Notice<'a>, prefix () {
        /// What happened on the host, to be delivered in order.
        0x8200 => Changes { /// Where.
            attachment: Attachment, /// Counts up by one on each connection, from 1, whatever the attachment.
            seq: u64, /// What.
            changes: Changes<'a>, },
        /// The server ends in good order and hangs up; it takes no request behind this. The agent
        /// may reconnect.
        0x8201 => Goodbye,
        /// Whether the host has fewer watches than there are directories to be watched, on behalf of
        /// whatever is or will be attached on this connection; at first it is not so. While it is, an
        /// agent says what is [`Watched`](Request::Watched) in the guest, for that is to have the
        /// watches before anything else.
        0x8202 => Scarce { /// Whether it is so.
            scarce: bool, },
    }
}

impl<'a> Wire<'a> for Errno {
    fn put(&self, out: &mut Vec<u8>) {
        (self.raw() as u32).put(out);
    }
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        u32::get(from).map(|raw| Self::from_raw(raw.try_into().unwrap_or(0)))
    }
}

impl<'a> Request<'a> {
    /// What is to be sent right behind the encoded fields.
    pub fn payload(&self) -> &'a [u8] {
        match self {
            Self::Write { data, .. } => data.0,
            _ => &[],
        }
    }

    /// Whether a reply follows.
    pub fn is_answered(&self) -> bool {
        !matches!(
            self,
            Self::Forget { .. }
                | Self::Cancel { .. }
                | Self::Acknowledge { .. }
                | Self::Watched { .. }
                | Self::Close { .. }
        )
    }

    /// Whether a read-only export must refuse it with `EROFS`.
    pub fn modifies(&self) -> bool {
        match self {
            Self::Open { flags, .. } | Self::OpenRead { flags, .. } => {
                flags.intersects(OpenFlags::WRONLY | OpenFlags::RDWR | OpenFlags::TRUNC)
            }
            Self::SetAttr { .. }
            | Self::MkNod { .. }
            | Self::MkDir { .. }
            | Self::SymLink { .. }
            | Self::Link { .. }
            | Self::Unlink { .. }
            | Self::RmDir { .. }
            | Self::Rename { .. }
            | Self::Create { .. }
            | Self::TmpFile { .. }
            | Self::SetXattr { .. }
            | Self::RemoveXattr { .. } => true,
            _ => false,
        }
    }
}

impl<'a> Reply<'a> {
    /// What is to be sent right behind the encoded fields.
    pub fn payload(&self) -> &'a [u8] {
        match self {
            Self::Data { data }
            | Self::Listing { data }
            | Self::Listed { data, .. }
            | Self::OpenedRead { data, .. } => data.0,
            _ => &[],
        }
    }
}

impl<'a> Notice<'a> {
    /// Notices have no payload.
    pub fn payload(&self) -> &'a [u8] {
        &[]
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self { node: NodeId(0), attr: Attr::default(), valid: Validity::NONE }
    }
}

impl SetAttr {
    /// Sets nothing; to be filled in.
    pub const NOTHING: Self = Self {
        mask: crate::attr::SetAttrMask::empty(),
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        atime: Time { sec: 0, nsec: 0 },
        mtime: Time { sec: 0, nsec: 0 },
    };
}
