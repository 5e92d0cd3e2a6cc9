//! Tests of translation: what becomes of each kernel request and of each reply.

use super::*;
use crate::fuse::abi;
use crate::fuse::request::Dialect;
use parking_lot::Mutex;
use protocol::listing::{self, DirEntry};
use protocol::{Attr, AttrReply, Created, Entry, Payload, Validity, mode};
use std::fmt::Write;
use zerocopy::IntoBytes;

#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Leftovers for Kept {
    fn give_back(&self, node: NodeId, count: u64) {
        self.0.lock().push(format!("give back {node} × {count}"));
    }
    fn close(&self, removed: Removed) {
        for handle in removed.server.into_iter().flatten() {
            self.0.lock().push(format!("close {handle}"));
        }
    }
}

struct Bench {
    nodes: NodeTable,
    handles: HandleTable,
    ahead: Ahead,
    policy: Policy,
    kept: Kept,
}

impl Bench {
    fn new(consistency: Consistency) -> Self {
        let nodes = NodeTable::new(0, &Entry::default());
        nodes.begin_epoch(1, &entry(100, 1, mode::IFDIR | 0o755));
        let policy = Policy { consistency, ownership: OwnershipMode::Host };
        Self {
            nodes,
            handles: HandleTable::default(),
            ahead: Ahead::default(),
            policy,
            kept: Kept::default(),
        }
    }

    fn view(&self) -> View<'_> {
        View {
            nodes: &self.nodes,
            handles: &self.handles,
            ahead: &self.ahead,
            policy: &self.policy,
            epoch: 1,
            maps_direct: true,
            arrivals: 1,
            overtaken: false,
            before: [None; 2],
            acts: self.nodes.acts(),
            leftovers: &self.kept,
        }
    }

    fn begin(&self, bytes: &[u8], attempt: u8) -> String {
        format!("{:?}", begin(&self.view(), &parse(bytes), attempt))
    }

    fn finish(&self, bytes: &[u8], reply: &Reply<'_>) -> String {
        format!("{:?}", finish(&self.view(), &parse(bytes), 0, reply))
    }
}

fn entry(node: u64, ino: u64, mode: u32) -> Entry {
    let attr = Attr { ino, mode, ..Attr::default() };
    Entry {
        node: NodeId(node),
        attr,
        valid: Validity { entry_ms: 1500, attr_ms: Validity::LEASED },
    }
}

fn message(opcode: u32, node: u64, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let header = abi::InHeader {
        len: (size_of::<abi::InHeader>() + body.len()) as u32,
        opcode,
        unique: 2,
        nodeid: node,
        uid: 1000,
        ..Default::default()
    };
    [header.as_bytes(), &body].concat()
}

fn parse(bytes: &[u8]) -> Request<'_> {
    Request::parse(bytes, Dialect { setxattr_ext: true }).unwrap()
}

use abi::opcode as op;

fn open(flags: u32) -> Vec<u8> {
    message(op::OPEN, 1, &[abi::OpenIn { flags, open_flags: 0 }.as_bytes()])
}

#[test]
fn every_operation_has_its_request() {
    let bench = Bench::new(Consistency::Cached);
    let file = bench.nodes.found(LocalId::ROOT, b"f", &entry(101, 2, mode::IFREG | 0o644));
    let of = Bench::finish(&bench, &open(2), &Reply::Opened { handle: HandleId(55) });
    assert!(of.contains("fh: 0"), "{of}");
    let mut out = String::new();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("lookup", message(op::LOOKUP, 1, &[b"a\0"])),
        ("getattr", message(op::GETATTR, file.0, &[&[0; 16]])),
        ("readlink", message(op::READLINK, file.0, &[])),
        ("symlink", message(op::SYMLINK, 1, &[b"new\0target/x\0"])),
        (
            "mknod",
            message(
                op::MKNOD,
                1,
                &[
                    abi::MknodIn { mode: 0o10644, rdev: 5, umask: 0o22, padding: 0 }.as_bytes(),
                    b"n\0",
                ],
            ),
        ),
        (
            "mkdir",
            message(op::MKDIR, 1, &[abi::MkdirIn { mode: 0o777, umask: 0o22 }.as_bytes(), b"d\0"]),
        ),
        ("unlink", message(op::UNLINK, 1, &[b"f\0"])),
        ("rmdir", message(op::RMDIR, 1, &[b"d\0"])),
        (
            "rename2 exchange",
            message(
                op::RENAME2,
                1,
                &[abi::Rename2In { newdir: 1, flags: 2, padding: 0 }.as_bytes(), b"a\0b\0"],
            ),
        ),
        (
            "rename2 unknown flag",
            message(
                op::RENAME2,
                1,
                &[abi::Rename2In { newdir: 1, flags: 64, padding: 0 }.as_bytes(), b"a\0b\0"],
            ),
        ),
        ("link", message(op::LINK, 1, &[abi::LinkIn { oldnodeid: file.0 }.as_bytes(), b"l\0"])),
        (
            "setattr size through a file",
            message(
                op::SETATTR,
                file.0,
                &[abi::SetattrIn { valid: 8 | 64 | 1024, fh: 0, size: 9, ..Default::default() }
                    .as_bytes()],
            ),
        ),
        (
            "setattr ctime only",
            message(
                op::SETATTR,
                file.0,
                &[abi::SetattrIn { valid: 1024, ..Default::default() }.as_bytes()],
            ),
        ),
        (
            "read",
            message(
                op::READ,
                file.0,
                &[abi::ReadIn { fh: 0, offset: 4096, size: 8192, ..Default::default() }.as_bytes()],
            ),
        ),
        (
            "write",
            message(
                op::WRITE,
                file.0,
                &[
                    abi::WriteIn { fh: 0, offset: 1, size: 2, ..Default::default() }.as_bytes(),
                    b"hi",
                ],
            ),
        ),
        (
            "lseek hole",
            message(
                op::LSEEK,
                file.0,
                &[abi::LseekIn { fh: 0, offset: 1, whence: 4, padding: 0 }.as_bytes()],
            ),
        ),
        (
            "lseek end",
            message(
                op::LSEEK,
                file.0,
                &[abi::LseekIn { fh: 0, offset: 1, whence: 2, padding: 0 }.as_bytes()],
            ),
        ),
        (
            "fallocate punch",
            message(
                op::FALLOCATE,
                file.0,
                &[abi::FallocateIn { fh: 0, offset: 1, length: 2, mode: 3, padding: 0 }.as_bytes()],
            ),
        ),
        (
            "copy_file_range",
            message(
                op::COPY_FILE_RANGE,
                file.0,
                &[abi::CopyFileRangeIn { len: u64::MAX, nodeid_out: file.0, ..Default::default() }
                    .as_bytes()],
            ),
        ),
        ("access", message(op::ACCESS, 1, &[abi::AccessIn { mask: 4, padding: 0 }.as_bytes()])),
        ("statfs", message(op::STATFS, 1, &[])),
        (
            "setlkw",
            message(
                op::SETLKW,
                file.0,
                &[abi::LkIn {
                    owner: 77,
                    lk: abi::FileLock { start: 0, end: 9, kind: 1, pid: 5 },
                    ..Default::default()
                }
                .as_bytes()],
            ),
        ),
        ("unknown node", message(op::READLINK, 4711, &[])),
        (
            "unknown file",
            message(
                op::READ,
                file.0,
                &[abi::ReadIn { fh: 4711, size: 1, ..Default::default() }.as_bytes()],
            ),
        ),
    ];
    for (what, bytes) in &cases {
        writeln!(out, "{what}: {}", bench.begin(bytes, 0)).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn files_are_opened_as_the_consistency_mode_asks() {
    // O_RDONLY, O_WRONLY | O_TRUNC, O_WRONLY | O_APPEND, O_RDWR | O_EXCL | O_CREAT
    let kernel = [0, 0o1001, 0o2001, 0o302];
    let mut out = String::new();
    for consistency in [Consistency::Consistent, Consistency::Cached, Consistency::Delegated] {
        for flags in kernel {
            let bench = Bench::new(consistency);
            bench.nodes.found(LocalId::ROOT, b"f", &entry(101, 2, mode::IFREG | 0o644));
            let bytes = open(flags);
            let reply = Reply::Opened { handle: HandleId(55) };
            writeln!(out, "{consistency:?} {flags:#o}").unwrap();
            writeln!(out, "  {}", bench.begin(&bytes, 0)).unwrap();
            writeln!(out, "  {}", bench.finish(&bytes, &reply)).unwrap();
            writeln!(out, "  again {}", bench.finish(&bytes, &reply)).unwrap();
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_delegated_file_that_may_not_be_read_is_opened_to_write_only() {
    let bench = Bench::new(Consistency::Delegated);
    let (bytes, denied) = (open(1), Reply::Error { errno: Errno::EACCES });
    assert!(bench.begin(&bytes, 0).contains("RDWR"));
    assert_eq!(bench.finish(&bytes, &denied), "Then(Again)");
    assert!(bench.begin(&bytes, 1).contains("WRONLY"));
    let second = finish(&bench.view(), &parse(&bytes), 1, &denied);
    assert_eq!(second, Finish::Answer(Answer::Error(Errno::EACCES)));
}

#[test]
fn a_name_that_is_not_there_may_be_remembered_as_such() {
    let bench = Bench::new(Consistency::Cached);
    let bytes = message(op::LOOKUP, 1, &[b"none\0"]);
    let none = bench.finish(&bytes, &Reply::NoEntry { entry_ms: 0 });
    assert_eq!(none, "Answer(Error(ENOENT))");
    match finish(&bench.view(), &parse(&bytes), 0, &Reply::NoEntry { entry_ms: 1500 }) {
        Finish::Answer(Answer::Entry(entry)) => {
            let valid = (entry.entry_valid, entry.entry_valid_nsec);
            assert_eq!((entry.nodeid, valid), (0, (1, 500_000_000)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_extended_attribute_is_measured_fetched_or_too_long() {
    let bench = Bench::new(Consistency::Cached);
    let get = |size| {
        let head = abi::GetxattrIn { size, padding: 0 };
        let bytes = message(op::GETXATTR, 1, &[head.as_bytes(), b"user.a\0"]);
        bench.finish(&bytes, &Reply::Data { data: Payload(b"value") })
    };
    assert_eq!(get(0), "Answer(XattrSize(5))");
    assert_eq!(get(4), "Answer(Error(ERANGE))");
    assert!(get(5).starts_with("Answer(Data("));
}

#[test]
fn entries_that_do_not_fit_are_given_back() {
    let bench = Bench::new(Consistency::Cached);
    let mut data = Vec::new();
    for (number, name) in [&b"."[..], b"..", b"one", b"two", b"three"].into_iter().enumerate() {
        let found = number > 1;
        let entry = found.then(|| entry(200 + number as u64, 20 + number as u64, mode::IFREG));
        let dirent = DirEntry { cookie: number as u64 + 1, ino: 9, kind: 8, name, entry };
        assert!(listing::push(&mut data, 4096, &dirent));
    }
    let read = abi::ReadIn { size: 160 * 4, ..Default::default() };
    let bytes = message(op::READDIRPLUS, 1, &[read.as_bytes()]);
    let reply = Reply::Listing { data: Payload(&data) };
    match finish(&bench.view(), &parse(&bytes), 0, &reply) {
        Finish::Answer(Answer::Bytes(bytes)) => assert_eq!(bytes.len(), 160 * 4),
        other => panic!("{other:?}"),
    }
    assert_eq!(*bench.kept.0.lock(), ["give back 204 × 1"]);
    assert_eq!(bench.nodes.count(), 3);
}

#[test]
fn set_id_bits_go_when_another_user_writes_past_the_cache() {
    let bench = Bench::new(Consistency::Consistent);
    let file = bench.nodes.found(LocalId::ROOT, b"f", &entry(101, 2, mode::IFREG | 0o4755));
    let opens = message(op::OPEN, file.0, &[abi::OpenIn { flags: 1, open_flags: 0 }.as_bytes()]);
    bench.finish(&opens, &Reply::Opened { handle: HandleId(5) });
    let head = abi::WriteIn { fh: 0, size: 1, ..Default::default() };
    let bytes = message(op::WRITE, file.0, &[head.as_bytes(), b"x"]);
    let finished = bench.finish(&bytes, &Reply::Written { size: 1, attr: None });
    assert!(finished.starts_with("Then(DropSetId("), "{finished}");
    assert_eq!(drop_set_id(0o6755), 0o755);
    assert_eq!(drop_set_id(0o6745), 0o2745);
}

#[test]
fn a_kernel_that_cannot_share_maps_past_the_cache_keeps_its_cache() {
    let bench = Bench::new(Consistency::Consistent);
    let file = bench.nodes.found(LocalId::ROOT, b"f", &entry(101, 2, mode::IFREG | 0o644));
    let bytes = message(op::OPEN, file.0, &[abi::OpenIn { flags: 2, open_flags: 0 }.as_bytes()]);
    let reply = Reply::Opened { handle: HandleId(5) };
    for (maps_direct, expected) in [(true, abi::FopenFlags::DIRECT_IO.bits()), (false, 0)] {
        let view = View { maps_direct, ..bench.view() };
        match finish(&view, &parse(&bytes), 0, &reply) {
            Finish::Answer(Answer::Opened(open)) => assert_eq!(open.open_flags, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_small_file_is_read_as_it_is_opened_where_nothing_else_can_be_the_content() {
    let small = |node, ino| {
        let entry = entry(node, ino, mode::IFREG | 0o644);
        Entry { attr: Attr { size: 3, ..entry.attr }, ..entry }
    };
    let bench = Bench::new(Consistency::Cached);
    let file = bench.nodes.found(LocalId::ROOT, b"f", &small(101, 2));
    let open =
        |flags: u32| message(op::OPEN, file.0, &[abi::OpenIn { flags, open_flags: 0 }.as_bytes()]);
    let asks = |bench: &Bench, flags| bench.begin(&open(flags), 0);
    assert!(asks(&bench, 0).starts_with("Ok(OpenRead"), "{}", asks(&bench, 0));
    for flags in [1, 2, 0o1000, 0o40_000] {
        assert!(asks(&bench, flags).starts_with("Ok(Open {"), "{flags:o}");
    }
    let data = Payload(b"abc");
    let reply = |attr| {
        let attr = AttrReply { attr, attr_ms: Validity::LEASED };
        Reply::OpenedRead { handle: HandleId(5), attr, data }
    };
    let opened = |view: &View<'_>, attr: Attr| {
        let (fill, out) = match finish(view, &parse(&open(0)), 0, &reply(attr)) {
            Finish::Fill(fill, out) => (Some(fill.replaces), out),
            Finish::Answer(Answer::Opened(out)) => (None, out),
            other => panic!("{other:?}"),
        };
        bench.handles.remove(out.fh, 1);
        fill
    };
    let attr = small(101, 2).attr;
    assert_eq!(opened(&bench.view(), attr), Some(false));
    // The first opening may have left pages of it.
    bench.nodes.distrust(file);
    bench.nodes.told(file, &AttrReply { attr, attr_ms: Validity::LEASED });
    assert_eq!(opened(&bench.view(), attr), Some(true));
    assert_eq!(opened(&View { overtaken: true, ..bench.view() }, attr), None);
    assert_eq!(opened(&bench.view(), Attr { size: 4, ..attr }), None);
    bench.nodes.note_written(file);
    assert_eq!(opened(&bench.view(), attr), None);
    let consistent = Bench::new(Consistency::Consistent);
    consistent.nodes.found(LocalId::ROOT, b"f", &small(101, 2));
    assert!(asks(&consistent, 0).starts_with("Ok(Open {"));
    let bench = Bench::new(Consistency::Cached);
    bench.nodes.found(LocalId::ROOT, b"f", &small(101, 2));
    bench.finish(&open(2), &Reply::Opened { handle: HandleId(5) });
    assert!(asks(&bench, 0).starts_with("Ok(Open {"), "it is open already");
}

#[test]
fn a_reply_to_another_question_is_an_io_error() {
    let bench = Bench::new(Consistency::Cached);
    let lookup = message(op::LOOKUP, 1, &[b"a\0"]);
    assert_eq!(bench.finish(&lookup, &Reply::Done), "Answer(Error(EIO))");
    // More bytes than were asked for must not reach the kernel.
    let read = message(op::READ, 1, &[abi::ReadIn { size: 2, ..Default::default() }.as_bytes()]);
    let data = Reply::Data { data: Payload(b"abc") };
    assert_eq!(bench.finish(&read, &data), "Answer(Error(EIO))");
    let attr = AttrReply { attr: Attr::default(), attr_ms: 0 };
    assert_eq!(bench.finish(&read, &Reply::Attr { attr }), "Answer(Error(EIO))");
}

#[test]
fn what_belongs_to_an_earlier_connection_is_named() {
    let bench = Bench::new(Consistency::Cached);
    let file = bench.nodes.found(LocalId::ROOT, b"f", &entry(101, 2, mode::IFREG));
    bench.finish(&open(0o2002), &Reply::Opened { handle: HandleId(5) });
    bench.nodes.begin_epoch(2, &entry(300, 1, mode::IFDIR));
    let view = View { epoch: 2, ..bench.view() };
    let stop = |bytes: &[u8]| begin(&view, &parse(bytes), 0).unwrap_err();
    assert_eq!(stop(&message(op::READLINK, file.0, &[])), Stop::Stale(Need::Node(file)));
    let read =
        message(op::READ, file.0, &[abi::ReadIn { size: 2, ..Default::default() }.as_bytes()]);
    assert_eq!(stop(&read), Stop::Stale(Need::Handle(0)));
    let pages = abi::WriteIn { write_flags: abi::WRITE_CACHE, ..Default::default() };
    let pages = message(op::WRITE, file.0, &[pages.as_bytes()]);
    assert_eq!(stop(&pages), Stop::Stale(Need::Pages(0)));
    // Closing is what the loss has done already.
    let flush = message(op::FLUSH, file.0, &[abi::FlushIn::default().as_bytes()]);
    assert_eq!(stop(&flush), Stop::Done);
    let release = message(op::RELEASE, file.0, &[abi::ReleaseIn::default().as_bytes()]);
    assert_eq!(stop(&release), Stop::Done);
}

#[test]
fn a_created_file_is_known_and_open() {
    let bench = Bench::new(Consistency::Cached);
    let head = abi::CreateIn { flags: 0o302, mode: 0o644, umask: 0o22, open_flags: 0 };
    let bytes = message(op::CREATE, 1, &[head.as_bytes(), b"new\0"]);
    let created =
        Created { entry: entry(101, 2, mode::IFREG | 0o644), handle: HandleId(9), dir: None };
    match finish(&bench.view(), &parse(&bytes), 0, &Reply::Created { created }) {
        Finish::Answer(Answer::Created(entry, open)) => {
            assert_eq!(bench.nodes.child(LocalId::ROOT, b"new"), Some(LocalId(entry.nodeid)));
            assert_eq!(bench.handles.resolve(open.fh, 1), Ok(HandleId(9)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_that_a_change_has_overtaken_takes_no_directory_its_place() {
    let bench = Bench::new(Consistency::Cached);
    let dir = bench.nodes.found(LocalId::ROOT, b"d", &entry(101, 2, mode::IFDIR | 0o755));
    let lookup = message(op::LOOKUP, 1, &[b"d\0"]);
    let told = |overtaken, before, reply: &Reply<'_>| {
        let view = View { overtaken, before: [before, None], ..bench.view() };
        let answer = finish(&view, &parse(&lookup), 0, reply);
        assert!(matches!(answer, Finish::Answer(_)), "{answer:?}");
        bench.nodes.child(LocalId::ROOT, b"d")
    };
    let none = Reply::NoEntry { entry_ms: Validity::LEASED };
    assert_eq!(told(true, Some(dir), &none), Some(dir));
    // It came there while the server was asked.
    assert_eq!(told(false, None, &none), Some(dir));
    let other = Reply::Entry { entry: entry(102, 3, mode::IFDIR | 0o755) };
    assert_eq!(told(true, Some(dir), &other), Some(dir));
    assert_ne!(told(false, Some(dir), &other), Some(dir));
    let other = bench.nodes.child(LocalId::ROOT, b"d");
    assert_eq!(told(false, other, &none), None);
}

/// A directory of four names that is listed at once, two of which the kernel has been told: the request for
/// the others.
fn listed_in_part(bench: &Bench) -> Vec<u8> {
    let mut data = Vec::new();
    for number in 1..=4 {
        let name = format!("name{number}");
        let entry = Some(entry(200 + number, 20 + number, mode::IFREG));
        let dirent = DirEntry { cookie: number, ino: 9, kind: 8, name: name.as_bytes(), entry };
        assert!(listing::push(&mut data, 4096, &dirent));
    }
    let opens = message(op::OPENDIR, 1, &[&[0; 8]]);
    begin(&bench.view(), &parse(&opens), 0).unwrap_err();
    let read = |offset| {
        let read = abi::ReadIn { offset, size: 160 * 2 + 32, ..Default::default() };
        message(op::READDIRPLUS, 1, &[read.as_bytes()])
    };
    assert_eq!(bench.begin(&read(0), 0), "Ok(List { node: NodeId(100), size: 65536 })");
    let reply = Reply::Listed { all: true, data: Payload(&data) };
    assert_eq!(told(finish(&bench.view(), &parse(&read(0)), 0, &reply)), 320);
    read(2)
}

/// How many bytes of a listing the kernel is told.
fn told(finish: Finish<'_>) -> usize {
    match finish {
        Finish::Answer(Answer::Bytes(bytes)) => bytes.len(),
        other => panic!("{other:?}"),
    }
}

fn told_here(begun: Result<protocol::Request<'_>, Stop>) -> usize {
    match begun {
        Err(Stop::Answer(answer)) => told(Finish::Answer(*answer)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_small_directory_is_listed_with_one_request() {
    let bench = Bench::new(Consistency::Cached);
    let next = listed_in_part(&bench);
    assert_eq!(told_here(begin(&bench.view(), &parse(&next), 0)), 320);
    assert!(!bench.nodes.is_cached(LocalId::ROOT));
    let read = abi::ReadIn { offset: 4, size: 4096, ..Default::default() };
    let end = message(op::READDIR, 1, &[read.as_bytes()]);
    assert_eq!(told_here(begin(&bench.view(), &parse(&end), 0)), 0);
    assert!(bench.nodes.is_cached(LocalId::ROOT));
    assert_eq!((bench.nodes.count(), bench.kept.0.lock().len()), (5, 0));
    // From the beginning it is listed anew.
    let read = abi::ReadIn { size: 4096, ..Default::default() };
    let anew = message(op::READDIRPLUS, 1, &[read.as_bytes()]);
    assert!(bench.begin(&anew, 0).starts_with("Ok(List {"));
    let nothing = Reply::Listed { all: true, data: Payload(&[]) };
    assert_eq!(told(finish(&bench.view(), &parse(&anew), 0, &nothing)), 0);
    assert!(bench.begin(&anew, 0).starts_with("Ok(List {"));
}

#[test]
fn what_is_left_of_a_listing_is_but_names_when_something_was_done() {
    let bench = Bench::new(Consistency::Cached);
    let next = listed_in_part(&bench);
    bench.nodes.outdate([]);
    assert_eq!(told_here(begin(&bench.view(), &parse(&next), 0)), 320);
    assert_eq!(*bench.kept.0.lock(), ["give back 203 × 1", "give back 204 × 1"]);
    assert_eq!(bench.nodes.count(), 3);
}

#[test]
fn what_is_left_of_a_listing_is_given_back_when_nobody_wants_it() {
    let end = message(op::RELEASEDIR, 1, &[&[0; 24]]);
    for (arrivals, epoch, given) in [(1, 1, 2), (2, 1, 2), (1, 2, 0)] {
        let bench = Bench::new(Consistency::Cached);
        listed_in_part(&bench);
        let view = View { arrivals, epoch, ..bench.view() };
        assert_eq!(begin(&view, &parse(&end), 0), Err(Stop::Done));
        assert_eq!(bench.kept.0.lock().len(), given);
    }
}

#[test]
fn a_directory_that_does_not_fit_is_opened() {
    let bench = Bench::new(Consistency::Cached);
    let opens = message(op::OPENDIR, 1, &[&[0; 8]]);
    begin(&bench.view(), &parse(&opens), 0).unwrap_err();
    let read = abi::ReadIn { size: 4096, ..Default::default() };
    let bytes = message(op::READDIRPLUS, 1, &[read.as_bytes()]);
    let reply = Reply::Listed { all: false, data: Payload(&[]) };
    assert_eq!(bench.finish(&bytes, &reply), "Then(Again)");
    assert_eq!(bench.begin(&bytes, 1), "Err(Stale(Handle(0)))");
    bench.handles.reopened(0, HandleId(7), 1);
    let ask = "Ok(ReadDir { handle: HandleId(7), cookie: 0, size: 16384, plus: true })";
    assert_eq!(bench.begin(&bytes, 0), ask);
}
