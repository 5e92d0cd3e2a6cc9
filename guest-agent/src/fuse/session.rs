//! One mount at work: its tables, its device, and the threads that read requests.
//!
//! Every worker thread reads a request and carries it as far as it goes without waiting: answered
//! here, or sent to the server, or handed to the [errands](crate::errands) if the connection is gone
//! or the node belongs to an earlier one.
//!
//! Lock order: none of the session's locks is held while another is taken, nor across I/O.

use super::abi::{self, InitFlags};
use super::actuator::{Actuators, ChangeSink};
use super::device::{Device, Incoming};
use super::init::{self, Negotiated};
use super::operation::{BufferPool, Pending, RequestBytes};
use super::reply::Answer;
use super::request::{Dialect, Operation, Request};
use super::translate::{self, Leftovers, Policy, Stop, View};
use super::withhold::Withheld;
use crate::affinity::Affinity;
use crate::affinity::follow::Following;
use crate::ahead::Ahead;
use crate::bell::Bell;
use crate::client::{Attendant, Client, Origin};
use crate::coherence::own::Own;
use crate::counters::Counters;
use crate::errands::{Chore, Errands};
use crate::groups::with_groups;
use crate::handles::{HandleTable, Removed};
use crate::nodes::{LocalId, NodeTable};
use crate::watchers::Watchers;
use parking_lot::{Condvar, Mutex, MutexGuard};
use protocol::{
    Attached, Attachment, Caller, Changes, Entry, Errno, ForgetOne, Groups, Handles, NodeId,
    OwnershipMode, Request as Ask, limits,
};
use rustc_hash::FxHashSet;
use rustix::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// How long a request waits for a connection before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// The shared state of one mount.
pub struct Session {
    /// The server.
    pub client: Arc<Client>,
    /// The kernel.
    pub device: Device,
    /// What the kernel knows.
    pub nodes: NodeTable,
    /// What is open.
    pub handles: HandleTable,
    /// What was told before it is asked for.
    pub ahead: Ahead,
    /// Threads whose requests are answered here.
    pub actuators: Actuators,
    /// What others are not told while those are.
    pub withheld: Withheld,
    /// The threads that take turns at an injection.
    pub affinity: Arc<Affinity>,
    /// The threads that read requests.
    following: Following,
    /// What has been done.
    pub counters: Counters,
    /// What the guest did while directories are compared.
    pub own: Own,
    /// Rung when a file is opened.
    pub opened: Bell,
    /// Rung when anything is done.
    pub active: Bell,
    /// What is watched on the mount, and its `st_dev` once there is one.
    pub watchers: Watchers,
    /// Rung once, when the mount is gone.
    pub gone: OnceLock<OwnedFd>,
    /// Counts arrivals of changes.
    arrivals: AtomicU64,
    /// Those that are not delivered yet.
    undelivered: Mutex<FxHashSet<u64>>,
    /// The name of the export.
    pub export: String,
    /// For [`Origin`].
    mount: u64,
    policy: OnceLock<Policy>,
    negotiated: OnceLock<Negotiated>,
    sink: OnceLock<Arc<dyn ChangeSink>>,
    /// The connection on which the export is attached; 0 before the first.
    epoch: AtomicU32,
    attached: Mutex<Option<Attached>>,
    errands: Errands,
    /// Since when requests cannot be made.
    lost: Mutex<Option<Instant>>,
    /// Held while something is found again.
    recovery: Mutex<()>,
    pool: Arc<BufferPool>,
    phase: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Starting,
    Serving,
    Ended,
}

impl Session {
    /// A session that is neither attached nor mounted.
    pub fn new(client: Arc<Client>, export: &str) -> Arc<Self> {
        let mount = client.new_mount();
        let affinity = Arc::<Affinity>::default();
        let following = Following::new(affinity.clone(), client.bringer.clone());
        let session = Arc::new(Self {
            client,
            device: Device::default(),
            nodes: NodeTable::new(0, &Entry::default()),
            handles: HandleTable::default(),
            ahead: Ahead::default(),
            actuators: Actuators::default(),
            withheld: Withheld::default(),
            affinity,
            following,
            counters: Counters::default(),
            own: Own::default(),
            opened: Bell::default(),
            active: Bell::default(),
            watchers: Watchers::default(),
            gone: OnceLock::new(),
            arrivals: AtomicU64::new(0),
            undelivered: Mutex::default(),
            export: export.to_owned(),
            mount,
            policy: OnceLock::new(),
            negotiated: OnceLock::new(),
            sink: OnceLock::new(),
            epoch: AtomicU32::new(0),
            attached: Mutex::new(None),
            errands: Errands::default(),
            lost: Mutex::new(None),
            recovery: Mutex::new(()),
            pool: Arc::default(),
            phase: Mutex::new(Phase::Starting),
            changed: Condvar::new(),
        });
        let attendant: Weak<Self> = Arc::downgrade(&session);
        session.client.attend(attendant);
        session
    }

    /// Changes go to `sink` from now on. Only the first counts.
    pub fn set_sink(&self, sink: Arc<dyn ChangeSink>) {
        let _ = self.sink.set(sink);
    }

    /// The connection on which the export is attached.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What the server said of the export when it was attached last.
    pub fn attached(&self) -> Option<Attached> {
        *self.attached.lock()
    }

    /// What was agreed with the kernel.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.get()
    }

    /// How requests are parsed.
    pub fn dialect(&self) -> Dialect {
        self.negotiated.get().map(|agreed| agreed.dialect).unwrap_or_default()
    }

    /// What is left to do.
    pub(crate) fn errands(&self) -> &Errands {
        &self.errands
    }

    /// One thing is found again at a time. The only lock that is held across I/O.
    pub(crate) fn recovery(&self) -> MutexGuard<'_, ()> {
        self.recovery.lock()
    }

    /// Lookups that came on the present connection and that the kernel is not told of.
    pub fn give_back(&self, node: NodeId, count: u64) {
        self.errands.forget(self.epoch(), ForgetOne { node, count });
    }

    /// Something has changed: what was told ahead is void.
    pub(super) fn drop_ahead(&self) {
        self.ahead.clear().into_iter().for_each(|node| self.give_back(node, 1));
    }

    /// The changes `seq` are delivered or given up. May send: not for threads that bring replies.
    pub fn delivered(&self, seq: u64) {
        self.undelivered.lock().remove(&seq);
        self.client.delivered(self.epoch(), seq);
    }

    /// The export is attached on connection `epoch`. Called while the reply is brought, so before
    /// anything else can come on that connection.
    pub(crate) fn attach(self: &Arc<Self>, epoch: u32, attached: &Attached) {
        let policy = Policy { consistency: attached.consistency, ownership: attached.ownership };
        if *self.policy.get_or_init(|| policy) != policy {
            warn!(
                export = self.export,
                "the server shares the export otherwise than before; the mount keeps the old ways"
            );
        }
        let weak: Weak<Self> = Arc::downgrade(self);
        self.client.route(attached.attachment, weak);
        let before = self.attached.lock().replace(*attached);
        if let Some(sink) = self.sink.get().filter(|_| before.is_some()) {
            sink.reconnecting();
        }
        self.nodes.begin_epoch(epoch, &attached.root);
        self.epoch.store(epoch, Ordering::Release);
        *self.lost.lock() = None;
        // The server may have said so before it knew of this mount.
        if self.client.is_scarce() {
            self.errands.look_for_watchers(Instant::now());
        }
        if before.is_some() {
            self.counters.reconnects.add(1);
            if let Some(sink) = self.sink.get() {
                sink.clone().reconnected();
            }
        }
    }

    /// Whether requests can be made.
    pub(crate) fn is_ready(&self) -> bool {
        self.client.is_connected() && self.client.epoch() == self.epoch()
    }

    /// Runs `f` with the tables as connection `epoch` sees them; nothing before the first attach.
    pub(crate) fn with_view<T>(&self, epoch: u32, f: impl FnOnce(&View<'_>) -> T) -> Option<T> {
        let policy = self.policy.get()?;
        let leftovers = SessionLeftovers { session: self, epoch };
        let (nodes, handles) = (&self.nodes, &self.handles);
        let agreed = self.negotiated.get().map(|agreed| agreed.flags);
        let maps_direct = agreed.is_some_and(|f| f.contains(InitFlags::DIRECT_IO_ALLOW_MMAP));
        let leftovers = &leftovers;
        Some(f(&View {
            nodes,
            handles,
            ahead: &self.ahead,
            policy,
            epoch,
            maps_direct,
            arrivals: self.arrivals(),
            overtaken: false,
            before: [None; 2],
            acts: self.nodes.acts(),
            leftovers,
        }))
    }

    /// What the kernel was told in answer to this may be older than a change that it heard of.
    pub(crate) fn overtaken(&self, request: &Request<'_>) {
        let node = LocalId(request.node());
        let named = |name: &[u8]| {
            let child = self.nodes.child(node, name).unwrap_or(node);
            vec![(child, Box::from(name))]
        };
        let names = match &request.operation {
            Operation::Lookup { name }
            | Operation::MkNod { name, .. }
            | Operation::MkDir { name, .. }
            | Operation::SymLink { name, .. }
            | Operation::Link { name, .. }
            | Operation::Create { name, .. } => named(name.as_bytes()),
            Operation::ReadDir { plus: true, .. } => self.nodes.children(node),
            Operation::GetAttr | Operation::SetAttr { .. } | Operation::Statx => Vec::new(),
            _ => return,
        };
        if let Some(sink) = self.sink.get() {
            sink.overtaken(node, names);
        }
    }

    /// Counts arrivals of changes. What was asked before one and is answered behind it may be old.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Acquire)
    }

    /// Whether the kernel is to ask again for what it is told now: since `seen` arrivals a change
    /// has come, or one that has is not delivered, so that the kernel has to learn of it by the
    /// injection and must not have it cached before.
    pub(crate) fn is_behind(&self, seen: u64) -> bool {
        self.arrivals() != seen || !self.undelivered.lock().is_empty()
    }

    pub(crate) fn may_repeat(&self, request: &Request<'_>) -> bool {
        self.with_view(self.epoch(), |view| translate::is_repeatable(view, &request.operation))
            .unwrap_or(false)
    }

    /// Reads and serves requests until the mount is gone.
    fn work(self: &Arc<Self>) {
        let _member = self.affinity.join();
        let mut reader = self.following.join();
        let mut buffer = self.pool.take();
        loop {
            reader.stand_by();
            match self.device.read(buffer.as_mut()) {
                Ok(Incoming::Unmounted) => break,
                Ok(Incoming::Request(len)) => {
                    let bytes = buffer.as_slice().get(..len).unwrap_or_default();
                    match Request::parse(bytes, self.dialect()) {
                        Ok(request) => {
                            reader.asked(request.header.pid, request.operation.is_bulk());
                            if self.serve_here(&request, bytes) {
                                continue;
                            }
                            self.counters.operations.add(1);
                            self.active.ring();
                            let bytes = RequestBytes::keep(&mut buffer, len, &self.pool);
                            self.serve(bytes, 0, None);
                        }
                        Err(malformed) => {
                            // Names that are too long, for example.
                            match malformed.errno {
                                Errno::EIO => {
                                    error!(?malformed, len, "the kernel is not understood");
                                }
                                _ => debug!(?malformed, "refused"),
                            }
                            if let Some(unique) = malformed.unique {
                                let _ = self.device.reply(unique, &Answer::Error(malformed.errno));
                            }
                        }
                    }
                }
                Err(error) => {
                    error!(%error, "cannot read /dev/fuse; the mount ends");
                    break;
                }
            }
        }
        self.set_phase(Phase::Ended);
    }

    /// Serves what needs no server. Tells whether it did.
    fn serve_here(self: &Arc<Self>, request: &Request<'_>, bytes: &[u8]) -> bool {
        match &request.operation {
            Operation::Forget { count } => self.forget(request.node(), *count),
            Operation::BatchForget { items } => {
                items.iter().for_each(|item| self.forget(item.nodeid, item.nlookup));
            }
            Operation::Interrupt { unique } => self.interrupt(request, *unique),
            Operation::Init { init, flags2 } => self.init(request, init, *flags2),
            Operation::Destroy => self.answer(request, &Answer::Done),
            _ => {
                let Some((answer, renewal)) = self.actuators.intercept(request) else {
                    return false;
                };
                self.counters.injected_requests.add(1);
                match renewal {
                    Some(renewal) => self.answer_renewed(bytes, answer, renewal),
                    None => self.reply(request, &answer),
                }
            }
        }
        true
    }

    /// The kernel, or an actuator in its stead, needs a node so many times less.
    pub(crate) fn forget(&self, node: u64, count: u64) {
        if let Some(owed) = self.nodes.forget(LocalId(node), count) {
            self.give_back(owed.node, owed.count);
        }
    }

    fn init(&self, request: &Request<'_>, init: &abi::CompatInitIn, flags2: u32) {
        let Some(policy) = self.policy.get() else {
            return self.answer(request, &Answer::Error(Errno::EIO));
        };
        match init::negotiate(init, flags2, policy) {
            Ok(agreed) => {
                debug!(minor = init.minor, flags = ?agreed.flags, "FUSE is agreed on");
                let _ = self.negotiated.set(agreed);
                self.answer(request, &Answer::Init(agreed.out));
                self.set_phase(Phase::Serving);
            }
            Err(errno) => {
                error!(
                    major = init.major,
                    minor = init.minor,
                    "this kernel's FUSE is older than 7.31"
                );
                self.answer(request, &Answer::Error(errno));
                self.set_phase(Phase::Ended);
            }
        }
    }

    /// A caller was interrupted. If its request is neither in flight nor waiting, it is just being
    /// read or answered: the kernel is asked to say it again, which it does only in the first case.
    fn interrupt(&self, request: &Request<'_>, unique: u64) {
        if self.client.cancel(Origin { mount: self.mount, unique }) {
            return;
        }
        if let Some(bytes) = self.errands.take_parked(unique) {
            return self.answer_bytes(&bytes, &Answer::Error(Errno::EINTR));
        }
        let again = self.device.reply(request.unique(), &Answer::Error(Errno::EAGAIN));
        if again.is_ok() {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Begins a request with the server.
    pub(crate) fn serve(
        self: &Arc<Self>,
        bytes: RequestBytes,
        attempt: u8,
        deadline: Option<Instant>,
    ) {
        let seen = self.arrivals();
        match self.try_serve(&bytes, attempt, deadline) {
            None => {}
            Some(Stop::Error(errno)) => self.answer_bytes(&bytes, &Answer::Error(errno)),
            Some(Stop::Done) => self.answer_bytes(&bytes, &Answer::Done),
            Some(Stop::Answer(answer)) => {
                self.answer_bytes(&bytes, &answer);
                if self.arrivals() != seen
                    && let Ok(request) = Request::parse(&bytes, self.dialect())
                {
                    self.overtaken(&request);
                }
            }
            Some(Stop::Stale(_)) => self.park(bytes, attempt, deadline),
        }
        if self.errands.must_close() {
            self.close_now();
        }
    }

    /// Tells the server what nobody uses any more. May send.
    pub(crate) fn close_now(&self) {
        let epoch = self.epoch();
        let handles = self.errands.take_closes(epoch);
        for batch in handles.chunks(limits::MAX_CLOSE) {
            self.client.post(epoch, &Ask::Close { handles: Handles(batch.to_vec()) });
        }
    }

    /// Sends a request to the server, or says why not.
    pub(crate) fn try_serve(
        self: &Arc<Self>,
        bytes: &RequestBytes,
        attempt: u8,
        deadline: Option<Instant>,
    ) -> Option<Stop> {
        let Ok(request) = Request::parse(bytes, self.dialect()) else { return None };
        let (epoch, seen, acts) = (self.epoch(), self.arrivals(), self.nodes.acts());
        let begun = self.with_view(epoch, |view| {
            let view = View { arrivals: seen, acts, ..*view };
            let ask = translate::begin(&view, &request, attempt)?;
            let before = translate::led_to(&self.nodes, &request);
            translate::outdate(&View { before, ..view }, &request);
            Ok((ask, before))
        });
        let (ask, before) = match begun {
            None => return Some(Errno::EIO.into()),
            Some(Err(stop)) => return Some(stop),
            Some(Ok(begun)) => begun,
        };
        let abi::InHeader { uid, gid, pid, unique, .. } = request.header;
        let session = self.clone();
        let bytes = bytes.clone();
        let pending = Pending { session, bytes, attempt, deadline, epoch, seen, acts, before };
        let pending = Box::new(pending);
        let origin = Some(Origin { mount: self.mount, unique });
        let submit = |groups: &[u8]| {
            let groups = Groups::from_bytes(groups).unwrap_or_default();
            let caller = Caller { uid, gid, pid, groups, processor: None };
            self.client.submit(epoch, origin, &caller, &ask, pending);
        };
        if matches!(request.operation, Operation::Lookup { .. }) {
            self.look_ahead(epoch, LocalId(request.node()));
        }
        let mapped = self.policy.get().is_some_and(|of| of.ownership == OwnershipMode::Map);
        if mapped && uid != 0 && pid != 0 {
            with_groups(pid, uid, gid, submit);
        } else {
            submit(&[]);
        }
        None
    }

    /// Keeps a request until there is a connection, for a while. The while begins with the loss, so
    /// that a system call of many requests does not wait for each.
    pub(crate) fn park(&self, bytes: RequestBytes, attempt: u8, deadline: Option<Instant>) {
        self.counters.parked.add(1);
        let since = self.lost.lock().unwrap_or_else(Instant::now);
        let deadline = deadline.unwrap_or(since + PATIENCE);
        self.errands.park(bytes, attempt, Some(deadline));
    }

    /// Keeps a request until fewer are in flight.
    pub(crate) fn park_busy(&self, bytes: RequestBytes, attempt: u8) {
        self.errands.park(bytes, attempt, None);
    }

    /// Answers a request that was kept.
    pub(crate) fn answer_bytes(&self, bytes: &RequestBytes, answer: &Answer<'_>) {
        // It did parse before.
        if let Ok(request) = Request::parse(bytes, self.dialect()) {
            self.answer(&request, answer);
        }
    }

    /// Answers the kernel what came of a request of the guest.
    pub(crate) fn answer(&self, request: &Request<'_>, answer: &Answer<'_>) {
        if !matches!(answer, Answer::Error(_)) {
            self.own.note(request);
        }
        if let Answer::Opened(open) | Answer::Created(_, open) = answer {
            self.opened.ring();
            // Of a directory there is nothing that the host could take away.
            let is_dir = matches!(request.operation, Operation::OpenDir);
            if !is_dir && self.handles.is_unopened(open.fh) {
                self.errands.open_later(open.fh);
            }
        }
        if !self.withheld.keeps(request, answer) {
            self.reply(request, answer);
        }
    }

    /// Answers the kernel.
    pub(super) fn reply(&self, request: &Request<'_>, answer: &Answer<'_>) {
        if request.wants_answer() {
            self.give(request.unique(), request.name(), answer);
        }
    }

    /// Answers the kernel's request of this number, an operation of this name.
    pub(super) fn give(&self, unique: u64, operation: &'static str, answer: &Answer<'_>) {
        match answer {
            Answer::Data(bytes) => self.counters.bytes_read.add(bytes.len() as u64),
            Answer::Written(size) => self.counters.bytes_written.add((*size).into()),
            Answer::Error(errno) if *errno != Errno::ENOENT => {
                self.counters.errors.add(1);
                debug!(operation, unique, %errno, "failed");
            }
            _ => {}
        }
        if let Err(errno) = self.device.reply(unique, answer) {
            self.untaken(operation, answer, errno);
        }
    }

    /// The kernel did not take an answer: neither lookups nor open files that it holds.
    fn untaken(&self, operation: &'static str, answer: &Answer<'_>, errno: Errno) {
        match errno {
            Errno::ENOENT | Errno::ENODEV => {}
            _ => error!(operation, %errno, "the kernel rejects an answer"),
        }
        if let Answer::Entry(entry) | Answer::Created(entry, _) = answer {
            self.forget(entry.nodeid, 1);
        }
        if let Answer::Opened(open) | Answer::Created(_, open) = answer {
            let epoch = self.epoch();
            // This thread may not send.
            let removed = Removed { at_once: false, ..self.handles.remove(open.fh, epoch) };
            self.errands.close(epoch, removed);
        }
    }

    /// Begins to serve with so many threads.
    ///
    /// # Errors
    /// If no thread can be made.
    pub(crate) fn start(self: &Arc<Self>, threads: usize) -> std::io::Result<()> {
        self.following.allow(threads);
        for number in 0..threads {
            let session = self.clone();
            let name = format!("osxfs-fuse-{number}");
            thread::Builder::new().name(name).spawn(move || session.work())?;
        }
        for number in 0..crate::errands::THREADS {
            let session = self.clone();
            let name = format!("osxfs-errand-{number}");
            thread::Builder::new().name(name).spawn(move || crate::errands::run(&session))?;
        }
        Ok(())
    }

    fn set_phase(&self, phase: Phase) {
        let mut now = self.phase.lock();
        if *now < phase {
            *now = phase;
            self.changed.notify_all();
            drop(now);
            if phase == Phase::Ended {
                self.ended();
            }
        }
    }

    /// Waits until the kernel is being served. Tells whether it is.
    pub(crate) fn wait_serving(&self, timeout: Duration) -> bool {
        let mut phase = self.phase.lock();
        let _ = self.changed.wait_while_for(&mut phase, |at| *at == Phase::Starting, timeout);
        *phase == Phase::Serving
    }

    /// Waits until the mount is gone.
    pub(crate) fn wait_ended(&self, timeout: Option<Duration>) -> bool {
        let mut phase = self.phase.lock();
        match timeout {
            None => self.changed.wait_while(&mut phase, |at| *at != Phase::Ended),
            Some(time) => {
                let _ = self.changed.wait_while_for(&mut phase, |at| *at != Phase::Ended, time);
            }
        }
        *phase == Phase::Ended
    }

    /// The mount has left the tree: whatever the sink holds of it is to be let go. The sink may be
    /// told more than once.
    pub(crate) fn release_sink(&self) {
        if let Some(sink) = self.sink.get() {
            sink.unmounted();
        }
    }

    /// Once, when the mount is gone.
    fn ended(&self) {
        info!(export = self.export, "unmounted");
        self.release_sink();
        self.errands.push(Chore::End);
        self.opened.ring();
        self.active.ring();
        if let Some(gone) = self.gone.get() {
            // A counter of eight bytes, which whoever polls it sees.
            let _ = rustix::io::write(gone, &1_u64.to_ne_bytes());
        }
    }
}

impl Attendant for Session {
    fn connected(&self) {
        // The first time `Mount::start` attaches itself.
        if self.epoch() != 0 {
            self.errands.push(Chore::Attach);
        }
    }

    fn disconnected(&self) {
        self.lost.lock().get_or_insert_with(Instant::now);
        self.undelivered.lock().clear();
        // Its lookups went with the connection.
        self.ahead.clear();
        if let Some(sink) = self.sink.get() {
            sink.disconnected();
        }
    }

    fn changes(&self, seq: u64, changes: &Changes<'_>) {
        self.undelivered.lock().insert(seq);
        self.arrivals.fetch_add(1, Ordering::AcqRel);
        self.drop_ahead();
        self.counters.changes.add(changes.0.len() as u64);
        self.active.ring();
        match self.sink.get() {
            Some(sink) => sink.changes(seq, changes),
            None => {
                for entry in changes.0.iter().filter_map(entry_of) {
                    if self.nodes.absorb(entry).is_none() {
                        self.give_back(entry.node, 1);
                    }
                }
                self.errands.push(Chore::Delivered(seq));
            }
        }
    }

    fn scarce(&self) {
        self.errands.look_for_watchers(Instant::now());
    }
}

/// The entry that a change carries.
pub fn entry_of<'c>(change: &'c protocol::Change<'_>) -> Option<&'c Entry> {
    use protocol::Change as C;
    match change {
        C::Created { entry, .. }
        | C::Modified { entry, .. }
        | C::Attrib { entry, .. }
        | C::Renamed { entry, .. } => Some(entry),
        C::Removed { .. } | C::Doubt { .. } | C::Passed { .. } => None,
    }
}

struct SessionLeftovers<'s> {
    session: &'s Session,
    epoch: u32,
}

impl Leftovers for SessionLeftovers<'_> {
    fn give_back(&self, node: NodeId, count: u64) {
        self.session.errands.forget(self.epoch, ForgetOne { node, count });
    }

    fn close(&self, removed: Removed) {
        self.session.errands.close(self.epoch, removed);
    }
}

impl Session {
    /// The number under which the export is attached.
    pub fn attachment(&self) -> Option<Attachment> {
        self.attached.lock().map(|attached| attached.attachment)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("export", &self.export).finish_non_exhaustive()
    }
}
