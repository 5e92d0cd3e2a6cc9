//! What a server does with agents that say nonsense, too much, or nothing at all: each such
//! connection ends with a reason, and nobody else notices.

use host_fs::server::{ExportConfig, Server, ServerOptions};
use host_fs::wire::{Listening, listen};
use protocol::handshake::{Features, Handshake, Hello, MAGIC, VERSION, machine};
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{
    Address, Caller, Consistency, Errno, ExportName, HandleId, Lock, LockFamily, LockKind,
    LockOwner, NodeId, OpenFlags, Payload, Reply, Request, Tag, Text, limits,
};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tempfile::TempDir;

/// A server of one folder with one file, `file`.
struct Fixture {
    dir: TempDir,
    _listening: Listening,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("export");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), vec![7; limits::MAX_PAYLOAD]).unwrap();
        let export = ExportConfig {
            name: "export".into(),
            path,
            read_only: false,
            ownership: None,
            consistency: Consistency::Cached,
            uid: 0,
            gid: 0,
            host_locks: false,
        };
        let server = Server::new(vec![export], ServerOptions::default()).unwrap();
        let address = Address::Unix(dir.path().join("socket"));
        let listening = listen(server, &address).unwrap();
        Self { dir, _listening: listening }
    }

    fn connect(&self) -> Agent {
        let stream = UnixStream::connect(self.dir.path().join("socket")).unwrap();
        // Generous: a machine may be busy.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Agent { stream, incoming: Splitter::default(), frame: Frame::default() }
    }

    /// An agent that has shaken hands and attached the export.
    fn attach(&self) -> (Agent, NodeId) {
        let mut agent = self.connect();
        agent.hello(VERSION);
        assert!(matches!(agent.handshake(), Ok(Ok(()))));
        let name = ExportName::new(b"export").unwrap();
        let root = agent.ask(Tag(1), &Request::Attach { name }, |reply| match reply {
            Reply::Attached { attached } => attached.root.node,
            other => panic!("{other:?}"),
        });
        (agent, root)
    }

    /// An agent whose owner 0 has the file locked.
    fn lock_holder(&self) -> (Agent, NodeId, HandleId) {
        let (mut agent, root) = self.attach();
        let handle = agent.open(root);
        let take = Request::SetLock { handle, lock: lock(0, LockKind::Write), wait: false };
        agent.ask(Tag(5), &take, |reply| assert_eq!(*reply, Reply::Done));
        (agent, root, handle)
    }

    /// The server still serves others.
    fn serves(&self) {
        let (mut agent, root) = self.attach();
        agent.ask(Tag(2), &Request::GetAttr { node: root }, |reply| {
            assert!(matches!(reply, Reply::Attr { .. }), "{reply:?}");
        });
    }
}

struct Agent {
    stream: UnixStream,
    incoming: Splitter,
    frame: Frame,
}

impl Agent {
    fn hello(&mut self, version: u16) {
        self.hello_of(version, 0);
    }

    fn hello_of(&mut self, version: u16, machine: u64) {
        let hello = Hello {
            magic: MAGIC,
            min_version: version,
            version,
            features: Features::all(),
            name: Text("test"),
            machine,
        };
        let mut bytes = Vec::new();
        Handshake::Hello(hello).encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Welcome, or the server's words of refusal.
    fn handshake(&mut self) -> Result<Result<(), String>, ReadError<io::Error>> {
        let stream = &mut self.stream;
        let header = self.incoming.next(&mut self.frame, |buf| stream.read(buf))?;
        Ok(match Handshake::decode(header.opcode, self.frame.body()).unwrap() {
            Handshake::Welcome(_) => Ok(()),
            Handshake::Refuse(refuse) => Err(refuse.text.0.to_owned()),
            Handshake::Hello(_) => panic!("the server says hello"),
        })
    }

    fn send(&mut self, tag: Tag, request: &Request<'_>) -> io::Result<()> {
        let bytes = encode(tag, request);
        self.stream.write_all(&bytes)
    }

    fn ask<T>(&mut self, tag: Tag, request: &Request<'_>, take: impl Fn(&Reply<'_>) -> T) -> T {
        self.send(tag, request).unwrap();
        let stream = &mut self.stream;
        let header = self.incoming.next(&mut self.frame, |buf| stream.read(buf)).unwrap();
        assert_eq!(header.tag, tag);
        take(&Reply::decode(header.opcode, self.frame.body()).unwrap())
    }

    /// The server hangs up, whatever it says before.
    fn gets_hung_up_on(mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
        }
    }

    fn open(&mut self, root: NodeId) -> HandleId {
        let name = protocol::Name::new(b"file").unwrap();
        let lookup = Request::Lookup { parent: root, name };
        let node = self.ask(Tag(3), &lookup, |reply| match reply {
            Reply::Entry { entry } => entry.node,
            other => panic!("{other:?}"),
        });
        let open = Request::Open { node, flags: OpenFlags::RDWR };
        self.ask(Tag(4), &open, |reply| match reply {
            Reply::Opened { handle } => *handle,
            other => panic!("{other:?}"),
        })
    }
}

/// The processors on which each thread that serves may run, as `/proc` tells.
fn places_of_servers() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let statuses = threads
        .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).ok());
    let servers = statuses.filter(|status| status.starts_with("Name:\tosxfs-serve\n"));
    servers.filter_map(|status| place_in(&status)).collect()
}

fn place_in(status: &str) -> Option<String> {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).map(str::to_owned)
}

fn encode(tag: Tag, request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(tag, &Caller::default(), &mut bytes);
    bytes.extend_from_slice(request.payload());
    bytes
}

fn lock(owner: u64, kind: LockKind) -> Lock {
    let (family, owner) = (LockFamily::Posix, LockOwner(owner));
    Lock { family, kind, owner, start: 0, end: i64::MAX as u64, pid: 1 }
}

#[test]
fn the_socket_is_for_its_owner_alone() {
    let fixture = Fixture::new();
    let socket = std::fs::metadata(fixture.dir.path().join("socket")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_version_that_the_server_does_not_speak_is_refused_in_words() {
    let fixture = Fixture::new();
    let mut agent = fixture.connect();
    agent.hello(VERSION + 1);
    let text = agent.handshake().unwrap().unwrap_err();
    assert!(text.contains("versions 2 to 2"), "{text}");
    agent.gets_hung_up_on();
    fixture.serves();
}

#[test]
fn a_stranger_is_refused() {
    let fixture = Fixture::new();
    let mut agent = fixture.connect();
    agent.send(Tag(1), &Request::GetAttr { node: NodeId(1) }).unwrap();
    assert!(agent.handshake().unwrap().is_err());
    agent.gets_hung_up_on();
    let mut agent = fixture.connect();
    agent.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    agent.gets_hung_up_on();
    fixture.serves();
}

#[test]
fn a_frame_cut_at_any_byte_ends_that_connection_alone() {
    let fixture = Fixture::new();
    let (_, root) = fixture.attach();
    let name = protocol::Name::new(b"file").unwrap();
    let whole = encode(Tag(2), &Request::Lookup { parent: root, name });
    for cut in 0..whole.len() {
        let (mut agent, _) = fixture.attach();
        agent.stream.write_all(&whole[..cut]).unwrap();
        agent.stream.shutdown(std::net::Shutdown::Write).unwrap();
        agent.gets_hung_up_on();
    }
    fixture.serves();
}

#[test]
fn a_frame_beyond_the_limit_or_of_no_known_kind_ends_the_connection() {
    let fixture = Fixture::new();
    let header = |size: u32, opcode: u16| {
        let mut bytes = size.to_le_bytes().to_vec();
        bytes.extend_from_slice(&opcode.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes
    };
    let none = HandleId(0);
    let too_much = vec![0; limits::MAX_PAYLOAD + 1];
    let write = Request::Write { handle: none, offset: 0, data: Payload(&too_much) };
    let cases = [
        header(11, 0x20),
        header(limits::MAX_FRAME as u32 + 1, 0x20),
        header(u32::MAX, 0x20),
        header(12, 0x7fff),
        encode(Tag(2), &write),
    ];
    for bytes in cases {
        let (mut agent, _) = fixture.attach();
        // The server may hang up before it has read all.
        let _ = agent.stream.write_all(&bytes);
        agent.gets_hung_up_on();
    }
    fixture.serves();
}

#[test]
fn a_tag_used_twice_ends_the_connection() {
    let fixture = Fixture::new();
    let (mut agent, root, handle) = fixture.lock_holder();
    let wait = Request::SetLock { handle, lock: lock(2, LockKind::Write), wait: true };
    agent.send(Tag(6), &wait).unwrap();
    agent.send(Tag(6), &Request::GetAttr { node: root }).unwrap();
    agent.gets_hung_up_on();
    fixture.serves();
}

#[test]
fn one_request_in_flight_too_many_ends_the_connection() {
    let fixture = Fixture::new();
    let (mut agent, root, handle) = fixture.lock_holder();
    let wait = |n: usize| Request::SetLock {
        handle,
        lock: lock(1 + n as u64, LockKind::Write),
        wait: true,
    };
    for n in 0..limits::MAX_IN_FLIGHT - 1 {
        agent.send(Tag(100 + n as u32), &wait(n)).unwrap();
    }
    // One place is left, and used again and again.
    for _ in 0..2 {
        agent.ask(Tag(7), &Request::GetAttr { node: root }, |reply| {
            assert!(matches!(reply, Reply::Attr { .. }), "{reply:?}");
        });
    }
    agent.send(Tag(8), &wait(limits::MAX_IN_FLIGHT)).unwrap();
    agent.send(Tag(9), &wait(limits::MAX_IN_FLIGHT + 1)).unwrap();
    agent.gets_hung_up_on();
    fixture.serves();
}

#[test]
fn a_waiting_lock_is_given_up_when_it_is_cancelled_and_an_unknown_tag_is_nothing() {
    let fixture = Fixture::new();
    let (mut agent, _, handle) = fixture.lock_holder();
    let wait = Request::SetLock { handle, lock: lock(2, LockKind::Write), wait: true };
    let mut bytes = encode(Tag(6), &wait);
    // In one write, so that the cancellation is there before the lock waits.
    bytes.extend(encode(Tag::NONE, &Request::Cancel { tag: Tag(77) }));
    bytes.extend(encode(Tag::NONE, &Request::Cancel { tag: Tag(6) }));
    agent.stream.write_all(&bytes).unwrap();
    let stream = &mut agent.stream;
    let header = agent.incoming.next(&mut agent.frame, |buf| stream.read(buf)).unwrap();
    assert_eq!(header.tag, Tag(6));
    let reply = Reply::decode(header.opcode, agent.frame.body()).unwrap();
    assert_eq!(reply, Reply::Error { errno: Errno::EINTR });
}

#[test]
fn guessed_numbers_lead_nowhere() {
    let fixture = Fixture::new();
    let (mut agent, root) = fixture.attach();
    let (mut other, other_root) = fixture.attach();
    let handle = other.open(other_root);
    for guess in (2..200).chain([u64::MAX, root.0 | 1 << 63, root.0 ^ 1 << 32]) {
        let ask = Request::GetAttr { node: NodeId(guess) };
        agent.ask(Tag(2), &ask, |reply| {
            assert_eq!(*reply, Reply::Error { errno: Errno::ESTALE }, "{guess}");
        });
    }
    let read = Request::Read { handle, offset: 0, size: 1 };
    agent.ask(Tag(2), &read, |reply| {
        assert!(matches!(reply, Reply::Error { errno: Errno::ESTALE | Errno::EBADF }), "{reply:?}");
    });
}

#[test]
fn a_peer_that_stops_reading_delays_nobody_else() {
    let fixture = Fixture::new();
    let (mut deaf, root) = fixture.attach();
    let handle = deaf.open(root);
    // More answers than any socket buffer holds, and as many requests as it takes to occupy every
    // thread that one connection may have.
    let read = Request::Read { handle, offset: 0, size: limits::MAX_PAYLOAD as u32 };
    for n in 0..64 {
        deaf.send(Tag(100 + n), &read).unwrap();
    }
    for _ in 0..20 {
        fixture.serves();
    }
}

#[test]
fn a_thread_that_is_started_beside_an_asker_may_go_anywhere() {
    let Ok(boot) = std::fs::read_to_string("/proc/sys/kernel/random/boot_id") else {
        return eprintln!("skipped: needs Linux");
    };
    let anywhere = place_in(&std::fs::read_to_string("/proc/self/status").unwrap()).unwrap();
    let fixture = Fixture::new();
    let mut agent = fixture.connect();
    agent.hello_of(VERSION, machine(&boot));
    assert!(matches!(agent.handshake(), Ok(Ok(()))));
    // The first request of a connection finds nobody who stands by.
    let caller = Caller { processor: Some(0), ..Caller::default() };
    let name = ExportName::new(b"export").unwrap();
    let mut bytes = Vec::new();
    Request::Attach { name }.encode(Tag(1), &caller, &mut bytes);
    agent.stream.write_all(&bytes).unwrap();
    let begun = std::time::Instant::now();
    loop {
        let places = places_of_servers();
        if !places.is_empty() && places.iter().all(|place| *place == anywhere) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{places:?}, not {anywhere}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
