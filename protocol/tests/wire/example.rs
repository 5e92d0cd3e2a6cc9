//! The exchange on the page of the documentation is what the crate encodes.

use crate::frames::Message;
use protocol::handshake::{Features, Handshake, Hello, MAGIC, VERSION, Welcome};
use protocol::{
    Attached, Attachment, Attr, Caller, Change, Changes, Consistency, ContentEvents, Entry,
    ExportName, Name, NodeId, Notice, OwnershipMode, Place, Reply, Request, Tag, Text, Time,
    Validity, limits,
};

const PAGE: &str = include_str!("../../EXAMPLE.md");

/// The frames of the page with the lines above them.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let block = PAGE.split("```").nth(1).expect("a block").trim_start_matches("text\n");
    let frame = |text: &'static str| {
        let (title, lines) = text.trim().split_once('\n').expect("a title and bytes");
        // Two spaces or more divide bytes from words.
        let bytes = lines.lines().filter_map(|line| line.split("  ").next());
        let digits: Vec<u8> = bytes.flat_map(str::bytes).filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).expect("ASCII");
            u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{title}: {pair}"))
        };
        (title, digits.chunks(2).map(byte).collect())
    };
    block.split("\n\n").map(frame).collect()
}

#[test]
fn the_page_shows_the_bytes_of_the_exchange() {
    let old = Time { sec: 100_000_000, nsec: 0 };
    let times = Attr { atime: old, mtime: old, ctime: old, btime: old, ..Attr::default() };
    let common = Attr { blocks: 8, uid: 1000, gid: 1000, blksize: 4096, ..times };
    let valid = Validity { entry_ms: Validity::LEASED, attr_ms: Validity::LEASED };
    let root = Attr { ino: 11, size: 4096, mode: 0o040_755, nlink: 2, ..common };
    let file = Attr { ino: 12, size: 5, mode: 0o100_644, nlink: 1, ..common };
    let new = Time { sec: 100_000_001, nsec: 1000 };
    let written = Attr { size: 6, mtime: new, ctime: new, ..file };
    let entry = |node, attr| Entry { node: NodeId(node), attr, valid };

    let name = Name::new(b"a").expect("valid");
    let nobody = Caller::default();
    let user = Caller { uid: 1000, gid: 1000, pid: 42, ..Caller::default() };
    let features = Features::CHANGES;
    let attached = Attached {
        attachment: Attachment(0),
        root: entry(1, root),
        read_only: false,
        ownership: OwnershipMode::Host,
        consistency: Consistency::Cached,
    };
    let at = Place { parent: NodeId(1), name };
    let changes = Changes(vec![Change::Modified {
        at,
        entry: entry(2, written),
        events: ContentEvents::all(),
    }]);
    let exchange = [
        (
            "agent Hello",
            Tag::NONE,
            Message::Handshake(Handshake::Hello(Hello {
                magic: MAGIC,
                min_version: VERSION,
                version: VERSION,
                features,
                name: Text("agent"),
                machine: 0,
            })),
        ),
        (
            "server Welcome",
            Tag::NONE,
            Message::Handshake(Handshake::Welcome(Welcome {
                version: VERSION,
                features,
                max_frame: limits::MAX_FRAME as u32,
                max_in_flight: limits::MAX_IN_FLIGHT as u32,
                max_handles: 1024,
                name: Text("osxfs"),
                now: new,
            })),
        ),
        (
            "agent Attach",
            Tag(1),
            Message::Request(
                nobody,
                Request::Attach { name: ExportName::new(b"src").expect("valid") },
            ),
        ),
        ("server Attached", Tag(1), Message::Reply(Reply::Attached { attached })),
        (
            "agent Lookup",
            Tag(2),
            Message::Request(user, Request::Lookup { parent: NodeId(1), name }),
        ),
        ("server Entry", Tag(2), Message::Reply(Reply::Entry { entry: entry(2, file) })),
        (
            "server Changes",
            Tag::NONE,
            Message::Notice(Notice::Changes { attachment: Attachment(0), seq: 1, changes }),
        ),
        ("agent Acknowledge", Tag::NONE, Message::Request(nobody, Request::Acknowledge { seq: 1 })),
    ];
    let page = frames();
    assert_eq!(page.len(), exchange.len());
    for ((title, bytes), (expected, tag, message)) in page.iter().zip(&exchange) {
        assert_eq!(title, expected);
        assert_eq!(bytes, &message.frame(*tag), "{title}");
    }
}
