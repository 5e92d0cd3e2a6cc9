//! A server in memory: a small tree of files and directories behind a [`Transport`], that can be
//! cut off and restarted with other node numbers. Each test binary uses a part of it.
#![allow(dead_code, missing_docs)]

pub mod host;

use guest_agent::client::{Client, Disconnected, Transport};
use protocol::listing::{self, DirEntry};
use protocol::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

pub const LEASED: Validity = Validity { entry_ms: Validity::LEASED, attr_ms: Validity::LEASED };

#[derive(Clone, Default)]
pub struct File {
    pub attr: Attr,
    pub data: Vec<u8>,
    pub children: BTreeMap<Vec<u8>, u64>,
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub struct Tree {
    pub files: HashMap<u64, File>,
    pub next_ino: u64,
    pub clock: i64,
    pub valid: Validity,
    pub consistency: Consistency,
    pub ownership: OwnershipMode,
    /// Every request that came, in short.
    pub log: Vec<String>,
}

/// The host: outlives connections.
#[derive(Clone)]
pub struct Model(Arc<Mutex<Tree>>);

impl Model {
    pub fn new(consistency: Consistency, valid: Validity) -> Self {
        let mut tree = Tree {
            files: HashMap::new(),
            next_ino: 1,
            clock: 1_000_000,
            valid,
            consistency,
            ownership: OwnershipMode::Host,
            log: Vec::new(),
        };
        tree.make(mode::IFDIR | 0o755);
        Self(Arc::new(Mutex::new(tree)))
    }

    pub fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap()
    }

    pub fn connect(&self, client: &Arc<Client>) -> Arc<Server> {
        static OFFSET: AtomicU64 = AtomicU64::new(1000);
        let server = Arc::new(Server {
            model: self.clone(),
            client: client.clone(),
            cut: AtomicBool::new(false),
            swallow: AtomicBool::new(false),
            swallowed: Mutex::default(),
            // Node numbers differ from connection to connection.
            offset: OFFSET.fetch_add(1000, Ordering::Relaxed),
            lookups: Mutex::default(),
            handles: Mutex::default(),
            slow: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            told: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            acknowledges: Condvar::new(),
        });
        client.connected(server.clone());
        server
    }
}

impl Tree {
    pub fn make(&mut self, mode: u32) -> u64 {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.clock += 1;
        let time = Time { sec: self.clock, nsec: 0 };
        let attr = Attr {
            ino,
            mode,
            nlink: 1,
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            ..Default::default()
        };
        self.files.insert(ino, File { attr, ..Default::default() });
        ino
    }

    pub fn add(&mut self, parent: u64, name: &str, mode: u32, data: &[u8]) -> u64 {
        let ino = self.make(mode);
        let file = self.files.get_mut(&ino).unwrap();
        file.data = data.to_vec();
        file.attr.size = data.len() as u64;
        self.files.get_mut(&parent).unwrap().children.insert(name.into(), ino);
        ino
    }

    /// What a path from the root leads to.
    #[track_caller]
    pub fn find(&self, path: &str) -> u64 {
        path.split('/').filter(|name| !name.is_empty()).fold(1, |dir, name| {
            *self.files[&dir].children.get(name.as_bytes()).unwrap_or_else(|| panic!("{path}"))
        })
    }

    pub fn touch(&mut self, ino: u64) {
        self.clock += 1;
        let time = Time { sec: self.clock, nsec: 0 };
        if let Some(file) = self.files.get_mut(&ino) {
            file.attr.mtime = time;
            file.attr.ctime = time;
            file.attr.size = file.data.len() as u64;
        }
    }
}

/// One connection to the model.
pub struct Server {
    model: Model,
    client: Arc<Client>,
    cut: AtomicBool,
    /// Take requests and do not answer them.
    pub swallow: AtomicBool,
    pub swallowed: Mutex<Vec<Tag>>,
    /// Take the making of directories slowly: it waits until this ends. How many wait.
    pub slow: AtomicBool,
    pub waiting: AtomicU64,
    offset: u64,
    pub lookups: Mutex<HashMap<u64, u64>>,
    handles: Mutex<HashMap<u64, (u64, OpenFlags)>>,
    /// Number of the last notice.
    told: AtomicU64,
    acknowledged: Mutex<u64>,
    acknowledges: Condvar,
}

impl Server {
    /// As if the server had been killed.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.client.disconnected();
    }

    pub fn open_handles(&self) -> usize {
        self.handles.lock().unwrap().len()
    }

    /// Tells the agent of changes; returns the number of the notice.
    pub fn announce(&self, changes: Vec<Change<'_>>) -> u64 {
        let seq = self.told.fetch_add(1, Ordering::SeqCst) + 1;
        let changes = Changes(changes);
        self.client.on_notice(&Notice::Changes { attachment: Attachment(0), seq, changes });
        seq
    }

    /// The last number that the agent acknowledged.
    pub fn acknowledged(&self) -> u64 {
        *self.acknowledged.lock().unwrap()
    }

    /// Tells the agent of changes and waits until it has delivered them.
    #[track_caller]
    pub fn tell(&self, changes: Vec<Change<'_>>) {
        let seq = self.announce(changes);
        let pending = |done: &mut u64| *done < seq;
        let guard = self.acknowledged.lock().unwrap();
        let patience = Duration::from_secs(20);
        let waited = self.acknowledges.wait_timeout_while(guard, patience, pending).unwrap();
        assert!(!waited.1.timed_out(), "changes {seq} are not acknowledged");
    }

    /// The number of an object towards the agent.
    pub fn node(&self, ino: u64) -> NodeId {
        NodeId(ino + self.offset)
    }

    /// An object, with a lookup that the agent has to give back.
    pub fn entry(&self, tree: &Tree, ino: u64) -> Entry {
        *self.lookups.lock().unwrap().entry(ino).or_default() += 1;
        Entry { node: NodeId(ino + self.offset), attr: tree.files[&ino].attr, valid: tree.valid }
    }

    /// Entries of a directory behind a cookie, and whether these are all.
    fn list(&self, tree: &Tree, ino: u64, cookie: u64, size: u32, plus: bool) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        for (at, (name, child)) in
            tree.files[&ino].children.iter().enumerate().skip(cookie as usize)
        {
            let attr = tree.files[child].attr;
            let entry = plus.then(|| Entry { attr, ..Default::default() });
            let kind = (attr.mode >> 12) as u8;
            let plain = DirEntry { cookie: at as u64 + 1, ino: *child, kind, name, entry };
            let mut probe = out.clone();
            if !listing::push(&mut probe, size as usize, &plain) {
                return (out, false);
            }
            let entry = plus.then(|| self.entry(tree, *child));
            listing::push(&mut out, size as usize, &DirEntry { entry, ..plain });
        }
        (out, true)
    }

    fn ino(&self, node: NodeId) -> Result<u64, Errno> {
        let ino = node.0.wrapping_sub(self.offset);
        let known = self.lookups.lock().unwrap().get(&ino).is_some_and(|count| *count > 0);
        if known { Ok(ino) } else { Err(Errno::ESTALE) }
    }

    fn child(&self, tree: &Tree, parent: NodeId, name: Name<'_>) -> Result<u64, Errno> {
        let dir = tree.files.get(&self.ino(parent)?).ok_or(Errno::ESTALE)?;
        dir.children.get(name.as_bytes()).copied().ok_or(Errno::ENOENT)
    }

    fn open(&self, ino: u64, flags: OpenFlags) -> HandleId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let handle = NEXT.fetch_add(1, Ordering::Relaxed);
        self.handles.lock().unwrap().insert(handle, (ino, flags));
        HandleId(handle)
    }

    fn handle(&self, handle: HandleId) -> Result<(u64, OpenFlags), Errno> {
        self.handles.lock().unwrap().get(&handle.0).copied().ok_or(Errno::ESTALE)
    }

    fn link(
        &self,
        tree: &mut Tree,
        parent: NodeId,
        name: Name<'_>,
        mode: u32,
    ) -> Result<u64, Errno> {
        let dir = self.ino(parent)?;
        if self.child(tree, parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let ino = tree.make(mode);
        tree.files.get_mut(&dir).unwrap().children.insert(name.as_bytes().to_vec(), ino);
        tree.touch(dir);
        Ok(ino)
    }

    fn answer(&self, request: &Request<'_>, send: &dyn Fn(&Reply<'_>)) -> Result<(), Errno> {
        let tree = &mut *self.model.tree();
        tree.log.push(request.name().to_owned());
        match *request {
            Request::Attach { name } => {
                if name.as_bytes() != b"export" {
                    return Err(Errno::ENOENT);
                }
                let attached = Attached {
                    attachment: Attachment(0),
                    root: self.entry(tree, 1),
                    read_only: false,
                    ownership: tree.ownership,
                    consistency: tree.consistency,
                };
                send(&Reply::Attached { attached });
            }
            Request::Lookup { parent, name } => match self.child(tree, parent, name) {
                Ok(ino) => send(&Reply::Entry { entry: self.entry(tree, ino) }),
                Err(Errno::ENOENT) => send(&Reply::NoEntry { entry_ms: tree.valid.entry_ms }),
                Err(errno) => return Err(errno),
            },
            Request::Walk { base, ref names } => {
                let mut entries = Vec::new();
                let mut at = self.ino(base)?;
                for name in &names.0 {
                    let Some(next) = tree.files[&at].children.get(name.as_bytes()) else { break };
                    at = *next;
                    entries.push(self.entry(tree, at));
                }
                send(&Reply::Walked { entries: Entries(entries) });
            }
            Request::GetAttr { node } => {
                let attr = tree.files[&self.ino(node)?].attr;
                send(&Reply::Attr { attr: AttrReply { attr, attr_ms: tree.valid.attr_ms } });
            }
            Request::SetAttr { node, set, .. } => {
                let ino = self.ino(node)?;
                let file = tree.files.get_mut(&ino).unwrap();
                if set.mask.contains(SetAttrMask::MODE) {
                    file.attr.mode = file.attr.mode & mode::IFMT | set.mode;
                }
                if set.mask.contains(SetAttrMask::UID) {
                    file.attr.uid = set.uid;
                }
                if set.mask.contains(SetAttrMask::MTIME) {
                    file.attr.mtime = set.mtime;
                }
                if set.mask.contains(SetAttrMask::SIZE) {
                    file.data.resize(set.size as usize, 0);
                    tree.touch(ino);
                }
                let attr = tree.files[&ino].attr;
                send(&Reply::Attr { attr: AttrReply { attr, attr_ms: tree.valid.attr_ms } });
            }
            Request::ReadLink { node } => {
                let target = &tree.files[&self.ino(node)?].target;
                send(&Reply::Target { target: Target::new(target).unwrap() });
            }
            Request::MkNod { parent, name, mode, .. } => {
                let ino = self.link(tree, parent, name, mode)?;
                send(&Reply::Made { entry: self.entry(tree, ino), dir: None });
            }
            Request::MkDir { parent, name, mode, .. } => {
                let ino = self.link(tree, parent, name, mode & 0o7777 | mode::IFDIR)?;
                send(&Reply::Made { entry: self.entry(tree, ino), dir: None });
            }
            Request::SymLink { parent, name, target } => {
                let ino = self.link(tree, parent, name, mode::IFLNK | 0o777)?;
                let file = tree.files.get_mut(&ino).unwrap();
                file.target = target.as_bytes().to_vec();
                file.attr.size = file.target.len() as u64;
                send(&Reply::Made { entry: self.entry(tree, ino), dir: None });
            }
            Request::Link { node, parent, name } => {
                let (ino, dir) = (self.ino(node)?, self.ino(parent)?);
                tree.files.get_mut(&dir).unwrap().children.insert(name.as_bytes().to_vec(), ino);
                tree.files.get_mut(&ino).unwrap().attr.nlink += 1;
                send(&Reply::Made { entry: self.entry(tree, ino), dir: None });
            }
            Request::Unlink { parent, name } | Request::RmDir { parent, name } => {
                self.child(tree, parent, name)?;
                let dir = self.ino(parent)?;
                tree.files.get_mut(&dir).unwrap().children.remove(name.as_bytes());
                send(&Reply::Removed { dir: None });
            }
            Request::Rename { parent, name, new_parent, new_name, .. } => {
                let ino = self.child(tree, parent, name)?;
                let (from, to) = (self.ino(parent)?, self.ino(new_parent)?);
                tree.files.get_mut(&from).unwrap().children.remove(name.as_bytes());
                let to = tree.files.get_mut(&to).unwrap();
                to.children.insert(new_name.as_bytes().to_vec(), ino);
                send(&Reply::Renamed { from: None, to: None });
            }
            Request::StatFs { .. } => {
                let statfs = StatFs {
                    blocks: 1000,
                    bfree: 500,
                    bsize: 4096,
                    frsize: 4096,
                    namelen: 255,
                    ..Default::default()
                };
                send(&Reply::StatFs { statfs });
            }
            Request::Open { node, flags } | Request::OpenRead { node, flags, .. } => {
                let ino = self.ino(node)?;
                if flags.contains(OpenFlags::TRUNC) {
                    tree.files.get_mut(&ino).unwrap().data.clear();
                    tree.touch(ino);
                }
                send(&Reply::Opened { handle: self.open(ino, flags) });
            }
            Request::OpenDir { node } => {
                let handle = self.open(self.ino(node)?, OpenFlags::empty());
                send(&Reply::Opened { handle });
            }
            Request::Create { parent, name, mode, flags, .. } => {
                let ino = match self.child(tree, parent, name) {
                    Ok(_) if flags.contains(OpenFlags::EXCL) => return Err(Errno::EEXIST),
                    Ok(ino) => ino,
                    Err(_) => self.link(tree, parent, name, mode & 0o7777 | mode::IFREG)?,
                };
                let (entry, handle) = (self.entry(tree, ino), self.open(ino, flags));
                send(&Reply::Created { created: Created { entry, handle, dir: None } });
            }
            Request::Read { handle, offset, size } => {
                let (ino, _) = self.handle(handle)?;
                let data = &tree.files[&ino].data;
                let from = (offset as usize).min(data.len());
                let to = (from + size as usize).min(data.len());
                send(&Reply::Data { data: Payload(&data[from..to]) });
            }
            Request::Write { handle, offset, data } => {
                let (ino, flags) = self.handle(handle)?;
                let file = tree.files.get_mut(&ino).unwrap();
                let at = match flags.contains(OpenFlags::APPEND) {
                    true => file.data.len(),
                    false => offset as usize,
                };
                let end = at + data.0.len();
                if file.data.len() < end {
                    file.data.resize(end, 0);
                }
                file.data[at..end].copy_from_slice(data.0);
                tree.touch(ino);
                let attr = AttrReply { attr: tree.files[&ino].attr, attr_ms: tree.valid.attr_ms };
                send(&Reply::Written { size: data.0.len() as u32, attr: Some(attr) });
            }
            Request::Close { ref handles } => {
                for handle in &handles.0 {
                    self.handles.lock().unwrap().remove(&handle.0);
                }
            }
            Request::ReadDir { handle, cookie, size, plus } => {
                let (ino, _) = self.handle(handle)?;
                let (out, _) = self.list(tree, ino, cookie, size, plus);
                send(&Reply::Listing { data: Payload(&out) });
            }
            Request::List { node, size } => {
                let (out, all) = self.list(tree, self.ino(node)?, 0, size, true);
                send(&Reply::Listed { all, data: Payload(&out) });
            }
            Request::SetXattr { node, name, value, .. } => {
                let ino = self.ino(node)?;
                let xattrs = &mut tree.files.get_mut(&ino).unwrap().xattrs;
                xattrs.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
                send(&Reply::Done);
            }
            Request::GetXattr { node, name } => {
                let xattrs = &tree.files[&self.ino(node)?].xattrs;
                let value = xattrs.get(name.as_bytes()).ok_or(Errno::ENODATA)?;
                send(&Reply::Data { data: Payload(value) });
            }
            Request::Flush { .. }
            | Request::Fsync { .. }
            | Request::SyncFs { .. }
            | Request::SetLock { .. }
            | Request::Detach { .. } => send(&Reply::Done),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        Ok(())
    }
}

impl Transport for Server {
    fn send(&self, tag: Tag, _: &Caller<'_>, request: &Request<'_>) -> Result<(), Disconnected> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Disconnected);
        }
        match request {
            Request::Forget { nodes } => {
                let mut lookups = self.lookups.lock().unwrap();
                for forget in &nodes.0 {
                    let count = lookups.get_mut(&(forget.node.0 - self.offset)).unwrap();
                    *count = count.checked_sub(forget.count).expect("more forgets than lookups");
                }
                return Ok(());
            }
            Request::Cancel { tag } => {
                let mut swallowed = self.swallowed.lock().unwrap();
                if let Some(at) = swallowed.iter().position(|of| of == tag) {
                    swallowed.remove(at);
                    drop(swallowed);
                    self.client.on_reply(*tag, &Reply::Error { errno: Errno::EINTR });
                }
                return Ok(());
            }
            Request::Acknowledge { seq } => {
                *self.acknowledged.lock().unwrap() = *seq;
                self.acknowledges.notify_all();
                return Ok(());
            }
            Request::MkDir { .. } => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                while self.slow.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
        if self.swallow.load(Ordering::SeqCst) {
            self.swallowed.lock().unwrap().push(tag);
            return Ok(());
        }
        // Encoded and decoded, so that a message that does not survive it is found.
        let mut bytes = Vec::new();
        let answer = |reply: &Reply<'_>| self.client.on_reply(tag, reply);
        request.encode(tag, &Caller::default(), &mut bytes);
        bytes.extend_from_slice(request.payload());
        let header = FrameHeader::decode(bytes.first_chunk().unwrap()).unwrap();
        let (_, request) = Request::decode(header.opcode, &bytes[frame::HEADER..]).unwrap();
        if let Err(errno) = self.answer(&request, &answer) {
            answer(&Reply::Error { errno });
        }
        Ok(())
    }
}
