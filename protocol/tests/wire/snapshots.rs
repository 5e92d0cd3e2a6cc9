//! The exact bytes of some frames, so that the format can not change unnoticed.
//!
//! A snapshot that differs is a new version of the protocol, not a test to be updated.

use crate::frames::Message;
use proptest::strategy::{Strategy, ValueTree};
use protocol::codec::Wire;
use protocol::handshake::{
    Features, Handshake, Hello, MAGIC, Refuse, RefuseReason, Welcome, machine,
};
use protocol::listing::{self, DirEntry};
use protocol::{
    Attached, Attachment, Attr, AttrReply, Caller, Change, Changes, Consistency, ContentEvents,
    Created, Directories, Entry, Errno, ExportName, ForgetList, ForgetOne, Groups, HandleId,
    Handles, Lock, LockFamily, LockKind, LockOwner, Name, Names, NodeId, Notice, OpenFlags,
    OwnershipMode, Payload, Place, RenameFlags, Reply, Request, SetAttr, SetAttrMask, Tag, Target,
    Text, Time, Validity, XattrFlags, XattrName, XattrValue, limits,
};
use std::fmt::Write;

/// Offset, sixteen bytes, and what of them is printable.
pub fn dump(bytes: &[u8]) -> String {
    bytes.chunks(16).enumerate().fold(String::new(), |mut out, (row, chunk)| {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = chunk
            .iter()
            .map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' })
            .collect();
        writeln!(out, "{:04x}  {:<47}  {text}", row * 16, hex.join(" ")).expect("to a string");
        out
    })
}

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).expect("valid")
}

/// Every field another value.
fn attr() -> Attr {
    let time = |sec| Time { sec, nsec: sec as u32 + 5 };
    Attr {
        ino: 0x1122_3344_5566_7788,
        size: 4097,
        blocks: 16,
        atime: time(0x10),
        mtime: time(0x20),
        ctime: time(0x30),
        btime: Time { sec: -1, nsec: 999_999_999 },
        mode: 0o100_644,
        nlink: 2,
        uid: 1000,
        gid: 1001,
        rdev: 0x0801,
        blksize: 4096,
    }
}

fn entry() -> Entry {
    let valid = Validity { entry_ms: Validity::LEASED, attr_ms: 1000 };
    Entry { node: NodeId(0x0102), attr: attr(), valid }
}

fn place(text: &str) -> Place<'_> {
    Place { parent: NodeId(1), name: name(text) }
}

#[test]
fn handshakes_have_these_bytes() {
    let features = Features::all();
    let hello = Hello {
        magic: MAGIC,
        min_version: 1,
        version: 1,
        features,
        name: Text("osxfs-agent/0.1.0"),
        machine: machine("0c9a6c1f-2f0e-4b5d-8f8e-7b1f6d3a2c11\n"),
    };
    let welcome = Welcome {
        version: 1,
        features,
        max_frame: 0x0012_0000,
        max_in_flight: 4096,
        max_handles: 900,
        name: Text("osxfs/0.1.0"),
        now: Time { sec: 1_700_000_000, nsec: 500 },
    };
    let refuse = Refuse {
        reason: RefuseReason::Busy,
        min_version: 1,
        version: 1,
        text: Text("64 agents are served; end one first"),
    };
    for (name, handshake) in [
        ("hello", Handshake::Hello(hello)),
        ("welcome", Handshake::Welcome(welcome)),
        ("refuse", Handshake::Refuse(refuse)),
    ] {
        insta::assert_snapshot!(name, dump(&Message::Handshake(handshake).frame(Tag::NONE)));
    }
}

#[test]
fn requests_have_these_bytes() {
    let groups = [4, 0, 0, 0, 27, 0, 0, 0];
    let groups = Groups::from_bytes(&groups).expect("valid");
    let caller = Caller { uid: 1000, gid: 1001, pid: 4242, groups, processor: Some(3) };
    let (parent, handle) = (NodeId(1), HandleId(7));
    let times = SetAttrMask::SIZE | SetAttrMask::ATIME | SetAttrMask::MTIME_NOW;
    let set =
        SetAttr { mask: times, size: 10, atime: Time { sec: -2, nsec: 3 }, ..SetAttr::NOTHING };
    let lock = Lock {
        family: LockFamily::Flock,
        kind: LockKind::Write,
        owner: LockOwner(0xabcd),
        start: 0,
        end: i64::MAX as u64,
        pid: 4242,
    };
    let requests = [
        ("attach", Request::Attach { name: ExportName::new(b"src").expect("valid") }),
        (
            "forget",
            Request::Forget {
                nodes: ForgetList(vec![
                    ForgetOne { node: NodeId(2), count: 1 },
                    ForgetOne { node: NodeId(3), count: 5 },
                ]),
            },
        ),
        ("close", Request::Close { handles: Handles(vec![handle, HandleId(8)]) }),
        (
            "watched",
            Request::Watched {
                attachment: Attachment(3),
                dirs: Directories(vec![NodeId(2), NodeId(0x0001_0000_0004)]),
            },
        ),
        ("walk", Request::Walk { base: parent, names: Names(vec![name("a"), name("b.txt")]) }),
        ("setattr", Request::SetAttr { node: NodeId(2), handle: Some(handle), set }),
        (
            "symlink",
            Request::SymLink {
                parent,
                name: name("link"),
                target: Target::new(b"../there").expect("valid"),
            },
        ),
        (
            "rename",
            Request::Rename {
                parent,
                name: name("old"),
                new_parent: NodeId(2),
                new_name: name("new"),
                flags: RenameFlags::NOREPLACE,
            },
        ),
        (
            "create",
            Request::Create {
                parent,
                name: name("new"),
                mode: 0o666,
                umask: 0o022,
                flags: OpenFlags::RDWR | OpenFlags::EXCL | OpenFlags::SYNC,
            },
        ),
        ("write", Request::Write { handle, offset: 4096, data: Payload(b"the payload") }),
        ("readdir", Request::ReadDir { handle, cookie: 9, size: 32_768, plus: true }),
        (
            "setxattr",
            Request::SetXattr {
                node: NodeId(2),
                name: XattrName::new(b"user.x").expect("valid"),
                value: XattrValue::new(b"\0value").expect("valid"),
                flags: XattrFlags::CREATE,
            },
        ),
        ("setlock", Request::SetLock { handle, lock, wait: true }),
        (
            "open_read",
            Request::OpenRead { node: NodeId(2), flags: OpenFlags::empty(), size: 65_536 },
        ),
    ];
    for (name, request) in requests {
        let frame = Message::Request(caller, request).frame(Tag(0x0a0b_0c0d));
        insta::assert_snapshot!(name, dump(&frame));
    }
}

#[test]
fn replies_and_notices_have_these_bytes() {
    let attached = Attached {
        attachment: Attachment(3),
        root: entry(),
        read_only: true,
        ownership: OwnershipMode::Map,
        consistency: Consistency::Delegated,
    };
    let mut listed = Vec::new();
    for (cookie, name, entry) in [(1, &b"."[..], None), (2, b"a.txt", Some(entry()))] {
        let entry = DirEntry { cookie, ino: 5, kind: 8, name, entry };
        assert!(listing::push(&mut listed, 1000, &entry));
    }
    let changes = Changes(vec![
        Change::Created {
            at: place("link"),
            entry: entry(),
            target: Some(Target::new(b"to").expect("valid")),
            moved: false,
        },
        Change::Modified { at: place("file"), entry: entry(), events: ContentEvents::all() },
        Change::Attrib { at: None, entry: entry() },
        Change::Removed {
            at: place("gone"),
            node: NodeId(9),
            is_dir: true,
            moved: false,
            links: 0,
        },
        Change::Renamed { from: place("a"), to: place("b"), entry: entry(), replaced: NodeId(0) },
        Change::Doubt { dir: NodeId(1) },
        Change::Passed { at: place("brief"), is_dir: false, events: ContentEvents::WRITTEN },
    ]);
    let created = Created { entry: entry(), handle: HandleId(7), dir: None };
    let opened_read = Reply::OpenedRead {
        handle: HandleId(7),
        attr: AttrReply { attr: entry().attr, attr_ms: 1000 },
        data: Payload(b"the payload"),
    };
    let messages = [
        ("error", Message::Reply(Reply::Error { errno: Errno::ESTALE })),
        ("attached", Message::Reply(Reply::Attached { attached })),
        ("created", Message::Reply(Reply::Created { created })),
        ("listing", Message::Reply(Reply::Listing { data: Payload(&listed) })),
        (
            "changes",
            Message::Notice(Notice::Changes { attachment: Attachment(3), seq: 17, changes }),
        ),
        ("opened_read", Message::Reply(opened_read)),
        ("goodbye", Message::Notice(Notice::Goodbye)),
        ("scarce", Message::Notice(Notice::Scarce { scarce: true })),
    ];
    for (name, message) in messages {
        insta::assert_snapshot!(name, dump(&message.frame(Tag(5))));
    }
    let mut fields = Vec::new();
    entry().put(&mut fields);
    assert_eq!(fields.len(), 112, "the size of an entry, which listings are reckoned by");
}

#[test]
fn messages_have_these_opcodes() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut lines = crate::arbitrary::messages()
        .into_iter()
        .map(|(name, strategy)| {
            let message = strategy.new_tree(&mut runner).expect("no rejections").current();
            format!("{:#06x} {name}", message.opcode())
        })
        .collect::<Vec<_>>();
    lines.sort();
    insta::assert_snapshot!("opcodes", lines.join("\n"));
}

#[test]
fn limits_have_these_values() {
    let limits = [
        ("name", limits::MAX_NAME),
        ("target", limits::MAX_TARGET),
        ("xattr name", limits::MAX_XATTR_NAME),
        ("xattr value", limits::MAX_XATTR_VALUE),
        ("export name", limits::MAX_EXPORT_NAME),
        ("payload", limits::MAX_PAYLOAD),
        ("frame", limits::MAX_FRAME),
        ("walk", limits::MAX_WALK),
        ("forget", limits::MAX_FORGET),
        ("watched", limits::MAX_WATCHED),
        ("changes", limits::MAX_CHANGES),
        ("groups", limits::MAX_GROUPS),
        ("attachments", limits::MAX_ATTACHMENTS),
        ("in flight", limits::MAX_IN_FLIGHT),
        ("unacknowledged", limits::MAX_UNACKNOWLEDGED),
        ("text", limits::MAX_TEXT),
        ("argument", limits::MAX_ARGUMENT),
        ("arguments", limits::MAX_ARGUMENTS),
        ("path in a guest", limits::MAX_GUEST_PATH),
    ];
    insta::assert_debug_snapshot!("limits", limits);
}
