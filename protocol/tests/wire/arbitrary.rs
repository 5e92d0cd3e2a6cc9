//! Random messages: for each variant of each message one strategy, so that none is left out.
//!
//! Messages borrow from the frame they came in. Here they borrow from leaked bytes instead: a test
//! process is short.

use crate::frames::Message;
use proptest::bits;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use protocol::handshake::{Features, Handshake, Hello, Refuse, RefuseReason, Welcome};
use protocol::listing::DirEntry;
use protocol::{
    AccessMask, Attached, Attachment, Attr, AttrReply, Caller, Change, Changes, Consistency,
    ContentEvents, Created, Directories, Entries, Entry, Errno, ExportName, FallocateMode,
    ForgetList, ForgetOne, Groups, HandleId, Handles, Lock, LockFamily, LockKind, LockOwner, Name,
    Names, NodeId, Notice, OpenFlags, OwnershipMode, Payload, Place, RenameFlags, Reply, Request,
    SetAttr, SetAttrMask, StatFs, Tag, Target, Text, Time, Validity, Whence, XattrFlags, XattrName,
    XattrValue, limits,
};

/// One strategy a variant, with the variant's name.
pub type Variants<T> = Vec<(&'static str, BoxedStrategy<T>)>;

fn leak(bytes: Vec<u8>) -> &'static [u8] {
    bytes.leak()
}

/// Lengths: mostly short, sometimes at the limit.
fn sized(limit: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..=24), 1 => vec(any::<u8>(), limit..=limit)]
}

macro_rules! newtypes {
    ($($function:ident: $type:ident($inner:ty);)*) => {$(
        fn $function() -> impl Strategy<Value = $type> + Clone {
            prop_oneof![any::<u8>().prop_map(|n| $type(n.into())), any::<$inner>().prop_map($type)]
        }
    )*};
}
newtypes! {
    node: NodeId(u64);
    handle: HandleId(u64);
    owner: LockOwner(u64);
    attachment: Attachment(u16);
    tag: Tag(u32);
}

macro_rules! byte_strings {
    ($($function:ident: $type:ident, $limit:expr;)*) => {$(
        /// Random bytes, kept if they are a valid value.
        fn $function() -> impl Strategy<Value = $type<'static>> + Clone {
            sized($limit).prop_map(|bytes| bytes.into_iter().filter(|b| !matches!(b, 0 | b'/')))
                .prop_map(|bytes| leak(bytes.collect()))
                .prop_map(|bytes| $type::new(bytes).unwrap_or($type::new(b"x").expect("valid")))
                .boxed()
        }
    )*};
}
byte_strings! {
    name: Name, limits::MAX_NAME;
    target: Target, limits::MAX_TARGET;
    xattr_name: XattrName, limits::MAX_XATTR_NAME;
    xattr_value: XattrValue, limits::MAX_XATTR_VALUE;
    export_name: ExportName, limits::MAX_EXPORT_NAME;
}

fn payload() -> impl Strategy<Value = Payload<'static>> {
    vec(any::<u8>(), 0..=200).prop_map(|bytes| Payload(leak(bytes)))
}

fn text() -> impl Strategy<Value = Text<'static>> {
    "\\PC{0,40}".prop_map(|text| Text(text.leak()))
}

fn time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(sec, nsec)| Time { sec, nsec })
}

fn attr() -> impl Strategy<Value = Attr> {
    let numbers = (any::<[u64; 3]>(), any::<[u32; 6]>());
    (numbers, time(), time(), time(), time()).prop_map(
        |((long, short), atime, mtime, ctime, btime)| {
            let [ino, size, blocks] = long;
            let [mode, nlink, uid, gid, rdev, blksize] = short;
            Attr {
                ino,
                size,
                blocks,
                atime,
                mtime,
                ctime,
                btime,
                mode,
                nlink,
                uid,
                gid,
                rdev,
                blksize,
            }
        },
    )
}

fn milliseconds() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1000), Just(Validity::LEASED), any::<u32>()]
}

fn entry() -> BoxedStrategy<Entry> {
    (node(), attr(), milliseconds(), milliseconds())
        .prop_map(|(node, attr, entry_ms, attr_ms)| Entry {
            node,
            attr,
            valid: Validity { entry_ms, attr_ms },
        })
        .boxed()
}

fn set_attr() -> impl Strategy<Value = SetAttr> {
    let numbers = (any::<[u32; 3]>(), any::<u64>());
    (flags(SetAttrMask::all().bits()), numbers, time(), time()).prop_map(
        |(mask, ([mode, uid, gid], size), atime, mtime)| SetAttr {
            mask: SetAttrMask::from_bits_truncate(mask),
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        },
    )
}

fn flags(all: u32) -> impl Strategy<Value = u32> {
    bits::u32::masked(all)
}

fn open_flags() -> impl Strategy<Value = OpenFlags> {
    flags(OpenFlags::all().bits()).prop_map(OpenFlags::from_bits_truncate)
}

fn lock() -> impl Strategy<Value = Lock> {
    let family = prop_oneof![Just(LockFamily::Posix), Just(LockFamily::Flock)];
    let kind = prop_oneof![Just(LockKind::Read), Just(LockKind::Write), Just(LockKind::Unlock)];
    (family, kind, owner(), any::<[u64; 2]>(), any::<u32>()).prop_map(
        |(family, kind, owner, [start, end], pid)| Lock { family, kind, owner, start, end, pid },
    )
}

fn place() -> impl Strategy<Value = Place<'static>> {
    (node(), name()).prop_map(|(parent, name)| Place { parent, name })
}

fn attached() -> impl Strategy<Value = Attached> {
    let ownership = prop_oneof![Just(OwnershipMode::Host), Just(OwnershipMode::Map)];
    let consistency = prop_oneof![
        Just(Consistency::Consistent),
        Just(Consistency::Cached),
        Just(Consistency::Delegated)
    ];
    (attachment(), entry(), any::<bool>(), ownership, consistency).prop_map(
        |(attachment, root, read_only, ownership, consistency)| Attached {
            attachment,
            root,
            read_only,
            ownership,
            consistency,
        },
    )
}

fn statfs() -> impl Strategy<Value = StatFs> {
    (any::<[u64; 5]>(), any::<[u32; 3]>()).prop_map(|(long, [bsize, frsize, namelen])| {
        let [blocks, bfree, bavail, files, ffree] = long;
        StatFs { blocks, bfree, bavail, files, ffree, bsize, frsize, namelen }
    })
}

/// A caller with few or many groups.
pub fn caller() -> impl Strategy<Value = Caller<'static>> {
    let counts = prop_oneof![Just(0), 0..4usize, Just(limits::MAX_GROUPS)];
    (any::<[u32; 3]>(), counts, any::<u32>(), any::<Option<u16>>()).prop_map(
        |([uid, gid, pid], count, group, processor)| {
            let groups = leak(group.to_le_bytes().repeat(count));
            let groups = Groups::from_bytes(groups).expect("within the limit");
            Caller { uid, gid, pid, groups, processor }
        },
    )
}

macro_rules! variants {
    ($type:ident { $($variant:ident $({ $($field:ident: $strategy:expr),* $(,)? })?,)* }) => {
        vec![$((
            stringify!($variant),
            (Just(()), $($($strategy,)*)?)
                .prop_map(|((), $($($field,)*)?)| $type::$variant $({ $($field),* })?)
                .boxed(),
        ),)*]
    };
}

fn content_events() -> impl Strategy<Value = ContentEvents> {
    (0..=3u8).prop_map(ContentEvents::from_bits_truncate)
}

/// All changes.
pub fn changes() -> Variants<Change<'static>> {
    variants!(Change {
        Created { at: place(), entry: entry(), target: option::of(target()), moved: any::<bool>() },
        Modified { at: place(), entry: entry(), events: content_events() },
        Attrib { at: option::of(place()), entry: entry() },
        Removed {
            at: place(), node: node(), is_dir: any::<bool>(), moved: any::<bool>(),
            links: any::<u32>(),
        },
        Renamed { from: place(), to: place(), entry: entry(), replaced: node() },
        Doubt { dir: node() },
        Passed { at: place(), is_dir: any::<bool>(), events: content_events() },
    })
}

/// All requests.
pub fn requests() -> Variants<Request<'static>> {
    let names = || vec(name(), 0..=4).prop_map(Names);
    let forget = (node(), any::<u64>()).prop_map(|(node, count)| ForgetOne { node, count });
    let rename_flags = flags(7).prop_map(RenameFlags::from_bits_truncate);
    let allocate = flags(FallocateMode::all().bits()).prop_map(FallocateMode::from_bits_truncate);
    let xattr_flags = flags(3).prop_map(XattrFlags::from_bits_truncate);
    let access = flags(7).prop_map(AccessMask::from_bits_truncate);
    let whence = prop_oneof![Just(Whence::Data), Just(Whence::Hole)];
    variants!(Request {
        Attach { name: export_name() },
        Detach { attachment: attachment() },
        Forget { nodes: vec(forget, 0..=5).prop_map(ForgetList) },
        Close { handles: vec(handle(), 0..=5).prop_map(Handles) },
        Cancel { tag: tag() },
        Acknowledge { seq: any::<u64>() },
        Watched { attachment: attachment(), dirs: vec(node(), 0..=5).prop_map(Directories) },
        Lookup { parent: node(), name: name() },
        Walk { base: node(), names: names() },
        GetAttr { node: node() },
        SetAttr { node: node(), handle: option::of(handle()), set: set_attr() },
        ReadLink { node: node() },
        MkNod {
            parent: node(), name: name(), mode: any::<u32>(), umask: any::<u32>(),
            rdev: any::<u32>(),
        },
        MkDir { parent: node(), name: name(), mode: any::<u32>(), umask: any::<u32>() },
        SymLink { parent: node(), name: name(), target: target() },
        Link { node: node(), parent: node(), name: name() },
        Unlink { parent: node(), name: name() },
        RmDir { parent: node(), name: name() },
        Rename {
            parent: node(), name: name(), new_parent: node(), new_name: name(),
            flags: rename_flags,
        },
        Access { node: node(), mask: access },
        StatFs { node: node() },
        SyncFs { node: node() },
        Open { node: node(), flags: open_flags() },
        Create {
            parent: node(), name: name(), mode: any::<u32>(), umask: any::<u32>(),
            flags: open_flags(),
        },
        TmpFile { parent: node(), mode: any::<u32>(), umask: any::<u32>(), flags: open_flags() },
        Read { handle: handle(), offset: any::<u64>(), size: any::<u32>() },
        Write { handle: handle(), offset: any::<u64>(), data: payload() },
        Flush { handle: handle(), owner: owner() },
        Fsync { handle: handle(), data_only: any::<bool>() },
        Fallocate {
            handle: handle(), offset: any::<u64>(), length: any::<u64>(), mode: allocate,
        },
        Seek { handle: handle(), offset: any::<u64>(), whence: whence },
        CopyRange {
            source: handle(), source_offset: any::<u64>(), target: handle(),
            target_offset: any::<u64>(), length: any::<u64>(),
        },
        OpenRead { node: node(), flags: open_flags(), size: any::<u32>() },
        OpenDir { node: node() },
        ReadDir { handle: handle(), cookie: any::<u64>(), size: any::<u32>(), plus: any::<bool>() },
        List { node: node(), size: any::<u32>() },
        GetXattr { node: node(), name: xattr_name() },
        ListXattr { node: node() },
        SetXattr { node: node(), name: xattr_name(), value: xattr_value(), flags: xattr_flags },
        RemoveXattr { node: node(), name: xattr_name() },
        GetLock { handle: handle(), lock: lock() },
        SetLock { handle: handle(), lock: lock(), wait: any::<bool>() },
    })
}

/// All replies.
pub fn replies() -> Variants<Reply<'static>> {
    let attr_reply =
        || (attr(), milliseconds()).prop_map(|(attr, attr_ms)| AttrReply { attr, attr_ms });
    let dir = || proptest::option::of(attr_reply());
    let created =
        (entry(), handle(), dir()).prop_map(|(entry, handle, dir)| Created { entry, handle, dir });
    variants!(Reply {
        Error { errno: (1..=4095i32).prop_map(Errno::from_raw) },
        Done,
        Attached { attached: attached() },
        Entry { entry: entry() },
        NoEntry { entry_ms: milliseconds() },
        Walked { entries: vec(entry(), 0..=4).prop_map(Entries) },
        Attr { attr: attr_reply() },
        Target { target: target() },
        Opened { handle: handle() },
        Created { created: created },
        Data { data: payload() },
        Written { size: any::<u32>(), attr: dir() },
        Offset { offset: any::<u64>() },
        Listing { data: payload() },
        StatFs { statfs: statfs() },
        Lock { lock: lock() },
        Made { entry: entry(), dir: dir() },
        Removed { dir: dir() },
        Renamed { from: dir(), to: dir() },
        OpenedRead { handle: handle(), attr: attr_reply(), data: payload() },
        Listed { all: any::<bool>(), data: payload() },
    })
}

/// All notices, with lists of every change.
pub fn notices() -> Variants<Notice<'static>> {
    let change = proptest::strategy::Union::new(changes().into_iter().map(|(_, change)| change));
    variants!(Notice {
        Changes {
            attachment: attachment(), seq: any::<u64>(),
            changes: vec(change, 0..=8).prop_map(Changes),
        },
        Goodbye,
        Scarce { scarce: any::<bool>() },
    })
}

/// All frames of the handshake.
pub fn handshakes() -> Variants<Handshake<'static>> {
    let features = || any::<u64>().prop_map(Features::from_bits_truncate);
    let reason = prop_oneof![
        Just(RefuseReason::Version),
        Just(RefuseReason::NotHello),
        Just(RefuseReason::Busy),
        Just(RefuseReason::Denied)
    ];
    let hello = (any::<[u64; 2]>(), any::<[u16; 2]>(), features(), text()).prop_map(
        |([magic, machine], [min_version, version], features, name)| {
            Handshake::Hello(Hello { magic, min_version, version, features, name, machine })
        },
    );
    let welcome = (any::<u16>(), features(), any::<[u32; 3]>(), text(), time()).prop_map(
        |(version, features, [max_frame, max_in_flight, max_handles], name, now)| {
            Handshake::Welcome(Welcome {
                version,
                features,
                max_frame,
                max_in_flight,
                max_handles,
                name,
                now,
            })
        },
    );
    let refuse =
        (reason, any::<[u16; 2]>(), text()).prop_map(|(reason, [min_version, version], text)| {
            Handshake::Refuse(Refuse { reason, min_version, version, text })
        });
    vec![("Hello", hello.boxed()), ("Welcome", welcome.boxed()), ("Refuse", refuse.boxed())]
}

/// Directory entries, `.` and `..` among them.
pub fn dir_entry() -> impl Strategy<Value = DirEntry<'static>> {
    let any_name = prop_oneof![
        Just(&b"."[..]),
        Just(&b".."[..]),
        name().prop_map(|name: Name<'static>| name.as_bytes())
    ];
    (1..=u64::MAX, any::<u64>(), any::<u8>(), any_name, option::of(entry()))
        .prop_map(|(cookie, ino, kind, name, entry)| DirEntry { cookie, ino, kind, name, entry })
}

/// Every variant of every message.
pub fn messages() -> Variants<Message<'static>> {
    let mut all: Variants<Message<'static>> = Vec::new();
    for (name, request) in requests() {
        let message = (caller(), request).prop_map(|(c, request)| Message::Request(c, request));
        all.push((name, message.boxed()));
    }
    all.extend(replies().into_iter().map(|(name, m)| (name, m.prop_map(Message::Reply).boxed())));
    all.extend(notices().into_iter().map(|(name, m)| (name, m.prop_map(Message::Notice).boxed())));
    all.extend(
        handshakes().into_iter().map(|(name, m)| (name, m.prop_map(Message::Handshake).boxed())),
    );
    all
}

/// Any one message.
pub fn message() -> impl Strategy<Value = Message<'static>> {
    proptest::strategy::Union::new(messages().into_iter().map(|(_, message)| message))
}
