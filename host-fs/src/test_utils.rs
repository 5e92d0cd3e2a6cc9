//! A server on a temporary folder, and a guest that speaks to it in memory.

use crate::server::{Closed, ExportConfig, NoticeSink, Server, ServerOptions};
use crate::session::Session;
use protocol::{
    Attr, Caller, Consistency, Created, Entry, Errno, FrameHeader, HandleId, Handles, Name, NodeId,
    Notice, OpenFlags, OwnershipMode, Payload, Reply, Request, Tag,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// What tests return, so that `?` works on everything.
pub(crate) type Test = Result<(), Box<dyn std::error::Error>>;

/// Descriptors that each server plans with: tests run side by side.
const DESCRIPTORS: u64 = 324;

/// Ignores notices.
pub(crate) struct Deaf;

impl NoticeSink for Deaf {
    fn notice(&self, _notice: &Notice<'_>) -> Result<(), Closed> {
        Ok(())
    }
}

/// A reply, kept.
pub(crate) struct Answer(Vec<u8>);

impl Answer {
    pub fn reply(&self) -> Reply<'_> {
        let header = self.0.first_chunk().map(FrameHeader::decode);
        let Some(Ok(header)) = header else { panic!("no frame header") };
        match Reply::decode(header.opcode, &self.0[protocol::frame::HEADER..]) {
            Ok(reply) => reply,
            Err(error) => panic!("a reply that cannot be read: {error}"),
        }
    }

    pub fn errno(&self) -> Option<Errno> {
        match self.reply() {
            Reply::Error { errno } => Some(errno),
            _ => None,
        }
    }
}

/// Answers still to come.
pub(crate) struct Pending(mpsc::Receiver<Vec<u8>>);

impl Pending {
    pub fn wait(&self) -> Answer {
        match self.0.recv_timeout(Duration::from_secs(10)) {
            Ok(frame) => Answer(frame),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub fn is_waiting(&self) -> bool {
        matches!(
            self.0.recv_timeout(Duration::from_millis(50)),
            Err(mpsc::RecvTimeoutError::Timeout)
        )
    }
}

/// The folder `export` in a temporary directory, shared under the name `x`.
pub(crate) struct Host {
    pub dir: tempfile::TempDir,
    pub server: Arc<Server>,
}

impl Host {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ExportConfig)) -> Self {
        Self::with_options(change, |_, _| {})
    }

    pub fn with_options(
        change: impl FnOnce(&mut ExportConfig),
        options: impl FnOnce(&Path, &mut ServerOptions),
    ) -> Self {
        let dir =
            tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let path = dir.path().join("export");
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("no export: {error}"));
        let mut config = ExportConfig {
            name: "x".into(),
            path: path.clone(),
            read_only: false,
            ownership: None,
            consistency: Consistency::Cached,
            uid: 1000,
            gid: 1000,
            host_locks: false,
        };
        change(&mut config);
        let mut server_options = ServerOptions::default();
        options(&path, &mut server_options);
        crate::os::raise_descriptor_limit();
        crate::os::clear_umask();
        let server = Server::with_descriptors(vec![config], server_options, DESCRIPTORS);
        Self { dir, server: server.unwrap_or_else(|error| panic!("{error}")) }
    }

    pub fn mapped() -> Self {
        Self::with(|config| config.ownership = Some(OwnershipMode::Map))
    }

    /// A path in the export.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("export").join(path)
    }

    pub fn guest(&self) -> Guest {
        self.guest_that_hears(Arc::new(Deaf))
    }

    pub fn guest_that_hears(&self, notices: Arc<dyn NoticeSink>) -> Guest {
        let session = self.server.connect("test", notices);
        let session = session.unwrap_or_else(|error| panic!("{error}"));
        let guest = Guest { session, root: NodeId(0), next: AtomicU32::new(0), uid: 0, gid: 0 };
        let answer = guest.call(&Request::Attach { name: name_of_export() });
        let Reply::Attached { attached } = answer.reply() else { panic!("not attached") };
        Guest { root: attached.root.node, ..guest }
    }
}

fn name_of_export() -> protocol::ExportName<'static> {
    match protocol::ExportName::new(b"x") {
        Ok(name) => name,
        Err(error) => panic!("{error}"),
    }
}

/// A name from text.
pub(crate) fn name(text: &str) -> Name<'_> {
    match Name::new(text.as_bytes()) {
        Ok(name) => name,
        Err(error) => panic!("{text}: {error}"),
    }
}

/// An attached session, and who makes its requests.
pub(crate) struct Guest {
    pub session: Arc<Session>,
    pub root: NodeId,
    next: AtomicU32,
    pub uid: u32,
    pub gid: u32,
}

impl Guest {
    /// The same session, for another user.
    pub fn user(&self, uid: u32, gid: u32) -> Self {
        // Tags of the two must not meet.
        let next = AtomicU32::new(self.next.fetch_add(100_000, Ordering::Relaxed) + 50_000);
        Self { session: self.session.clone(), root: self.root, next, uid, gid }
    }

    pub fn send(&self, request: &Request<'_>) -> (Tag, Pending) {
        let (sender, receiver) = mpsc::channel();
        let tag = Tag(self.next.fetch_add(1, Ordering::Relaxed));
        let caller = Caller { uid: self.uid, gid: self.gid, pid: 1, ..Caller::default() };
        self.session.handle(tag, &caller, request, move |reply: &Reply<'_>| {
            let mut frame = Vec::new();
            reply.encode(tag, &mut frame);
            frame.extend_from_slice(reply.payload());
            // The test may have stopped waiting.
            let _ = sender.send(frame);
        });
        (tag, Pending(receiver))
    }

    pub fn call(&self, request: &Request<'_>) -> Answer {
        self.send(request).1.wait()
    }

    /// For requests that are answered by no more than success.
    pub fn done(&self, request: &Request<'_>) -> Result<(), Errno> {
        self.call(request).errno().map_or(Ok(()), Err)
    }

    pub fn close(&self, handle: HandleId) {
        self.send(&Request::Close { handles: Handles(vec![handle]) });
    }

    pub fn entry(&self, request: &Request<'_>) -> Result<Entry, Errno> {
        match self.call(request).reply() {
            Reply::Entry { entry } | Reply::Made { entry, .. } => Ok(entry),
            Reply::NoEntry { .. } => Err(Errno::ENOENT),
            Reply::Error { errno } => Err(errno),
            other => panic!("no entry but {other:?}"),
        }
    }

    pub fn lookup(&self, parent: NodeId, text: &str) -> Result<Entry, Errno> {
        self.entry(&Request::Lookup { parent, name: name(text) })
    }

    /// Looks up each component of a path.
    pub fn walk(&self, path: &str) -> Result<Entry, Errno> {
        let mut at = Err(Errno::EINVAL);
        for part in path.split('/') {
            at = Ok(self.lookup(at.map_or(self.root, |entry: Entry| entry.node), part)?);
        }
        at
    }

    pub fn attr(&self, node: NodeId) -> Result<Attr, Errno> {
        match self.call(&Request::GetAttr { node }).reply() {
            Reply::Attr { attr } => Ok(attr.attr),
            Reply::Error { errno } => Err(errno),
            other => panic!("no attributes but {other:?}"),
        }
    }

    pub fn open(&self, node: NodeId, flags: OpenFlags) -> Result<HandleId, Errno> {
        self.opened(&Request::Open { node, flags })
    }

    pub fn open_dir(&self, node: NodeId) -> Result<HandleId, Errno> {
        self.opened(&Request::OpenDir { node })
    }

    fn opened(&self, request: &Request<'_>) -> Result<HandleId, Errno> {
        match self.call(request).reply() {
            Reply::Opened { handle } => Ok(handle),
            Reply::Error { errno } => Err(errno),
            other => panic!("not opened but {other:?}"),
        }
    }

    pub fn create(&self, parent: NodeId, text: &str, flags: OpenFlags) -> Result<Created, Errno> {
        let name = name(text);
        let request = Request::Create { parent, name, mode: 0o644, umask: 0o022, flags };
        match self.call(&request).reply() {
            Reply::Created { created } => Ok(created),
            Reply::Error { errno } => Err(errno),
            other => panic!("not created but {other:?}"),
        }
    }

    pub fn read(&self, handle: HandleId, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.data(&Request::Read { handle, offset, size })
    }

    pub fn data(&self, request: &Request<'_>) -> Result<Vec<u8>, Errno> {
        match self.call(request).reply() {
            Reply::Data { data } | Reply::Listing { data } | Reply::Listed { data, .. } => {
                Ok(data.0.to_vec())
            }
            Reply::Error { errno } => Err(errno),
            other => panic!("no data but {other:?}"),
        }
    }

    pub fn write(&self, handle: HandleId, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        match self.call(&Request::Write { handle, offset, data: Payload(data) }).reply() {
            Reply::Written { size, .. } => Ok(size),
            Reply::Error { errno } => Err(errno),
            other => panic!("not written but {other:?}"),
        }
    }
}
