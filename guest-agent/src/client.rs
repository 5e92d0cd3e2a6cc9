//! The agent's end of the protocol: which requests are in flight, and who waits for them.
//!
//! ```text
//! submit → tag, entry in the slab → Transport::send → … → on_reply → Complete::complete
//!                                                      └→ disconnected → Complete::complete(Lost)
//! ```
//!
//! Nothing here waits, but for [`Client::call`]. A reply may come from within `send` on the same
//! thread (embedded server), so no lock is held across `send` or `complete`. Completions run on the
//! thread that brings replies: they must not wait and must not send, or both ends could fill their
//! buffers and wait for each other. What is left to do goes to the mount's errands.
//!
//! Lock order: `state` is never held while another lock of the crate is taken.

use crate::affinity::follow::Bringer;
use parking_lot::Mutex;
use protocol::{Attachment, Caller, Changes, Errno, Notice, Reply, Request, Tag, Time, limits};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;
use tracing::{debug, warn};

/// The connection is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnected;

/// A way to the server.
pub trait Transport: Send + Sync {
    /// Sends one request; its payload is not needed any more on return. The answer is brought to
    /// [`Client::on_reply`], at the earliest from within this call.
    ///
    /// # Errors
    /// [`Disconnected`] if the server cannot be reached any more.
    fn send(
        &self,
        tag: Tag,
        caller: &Caller<'_>,
        request: &Request<'_>,
    ) -> Result<(), Disconnected>;
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It was answered.
    Reply(&'a Reply<'a>),
    /// The connection was lost while it was in flight: it may have been carried out or not.
    Lost,
    /// There was no connection. It was not sent.
    NotSent,
    /// Too many are in flight. It was not sent.
    Busy,
}

/// Waits for the end of a request.
pub trait Complete: Send {
    /// It ended. Must neither wait nor send.
    fn complete(self: Box<Self>, outcome: Outcome<'_>);
}

/// Takes part in the life of the connection: one for each mount. Must neither wait nor send.
pub trait Attendant: Send + Sync {
    /// There is a new connection; nothing is attached on it.
    fn connected(&self);
    /// It is lost.
    fn disconnected(&self);
    /// The server says that these happened.
    fn changes(&self, seq: u64, changes: &Changes<'_>);
    /// The server has said that its watches are [scarce](Client::is_scarce), or no longer.
    fn scarce(&self) {}
}

/// Names a request for [`Client::cancel`]: the mount and the kernel's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The mount.
    pub mount: u64,
    /// The kernel's number of the request.
    pub unique: u64,
}

/// The client of one server, shared by all mounts of the agent.
pub struct Client {
    /// The thread that brings replies.
    pub(crate) bringer: Arc<Bringer>,
    state: Mutex<State>,
    mounts: AtomicU64,
    /// When something came last, in nanoseconds since the machine started.
    heard: AtomicU64,
}

/// What the server's clock said when.
#[derive(Clone, Copy)]
struct Clock {
    server: Time,
    at: Duration,
}

struct State {
    clock: Option<Clock>,
    transport: Option<Arc<dyn Transport>>,
    /// Counts connections, from 1.
    epoch: u32,
    slots: Vec<Option<InFlight>>,
    /// Tags of empty slots. First in, first out: a tag rests as long as possible.
    free: VecDeque<u32>,
    limit: usize,
    in_flight: usize,
    attendants: Vec<Weak<dyn Attendant>>,
    routes: Vec<(Attachment, Weak<dyn Attendant>)>,
    unacknowledged: Unacknowledged,
    /// The server has fewer watches than directories to be watched.
    scarce: bool,
}

struct InFlight {
    origin: Option<Origin>,
    complete: Box<dyn Complete>,
}

/// Which changes are still on their way to watchers. The server is told how far all are done.
#[derive(Default)]
struct Unacknowledged {
    pending: BTreeSet<u64>,
    highest: u64,
    told: u64,
}

impl Unacknowledged {
    fn arrived(&mut self, seq: u64) {
        self.pending.insert(seq);
        self.highest = self.highest.max(seq);
    }

    /// Returns what is to be acknowledged now.
    fn delivered(&mut self, seq: u64) -> Option<u64> {
        if !self.pending.remove(&seq) {
            return None;
        }
        let done = self.pending.first().map_or(self.highest, |first| first - 1);
        (done > self.told).then(|| {
            self.told = done;
            done
        })
    }
}

impl Client {
    /// A client without a connection.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            bringer: Arc::default(),
            state: Mutex::new(State {
                clock: None,
                transport: None,
                epoch: 0,
                slots: Vec::new(),
                free: VecDeque::new(),
                limit: limits::MAX_IN_FLIGHT,
                in_flight: 0,
                attendants: Vec::new(),
                routes: Vec::new(),
                unacknowledged: Unacknowledged::default(),
                scarce: false,
            }),
            mounts: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        })
    }

    /// There is a new connection. Called by whoever made it; does not wait.
    pub fn connected(&self, transport: Arc<dyn Transport>) {
        let attendants = {
            let state = &mut *self.state.lock();
            state.transport = Some(transport);
            state.epoch += 1;
            state.attendants()
        };
        attendants.iter().for_each(|attendant| attendant.connected());
    }

    /// This is what the server's clock says now. Without it the server's clock is ours.
    pub fn set_clock(&self, server: Time) {
        self.state.lock().clock = Some(Clock { server, at: up() });
    }

    /// Something came from the server.
    pub fn hear(&self) {
        self.heard.store(u64::try_from(up().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long this machine was running when something came last from a server; now, if that is not
    /// known.
    pub fn last_heard(&self) -> Duration {
        match self.heard.load(Ordering::Relaxed) {
            0 => up(),
            nanos => Duration::from_nanos(nanos),
        }
    }

    /// What the server's clock said when this machine had been running for so long.
    pub fn server_time(&self, at: Duration) -> Time {
        let clock = self.state.lock().clock.unwrap_or_else(|| {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
            Clock { server: Time { sec: now.tv_sec, nsec: now.tv_nsec as u32 }, at: up() }
        });
        let nanos = |time: Duration| time.as_nanos() as i128;
        let apart = nanos(at) - nanos(clock.at);
        let then =
            i128::from(clock.server.sec) * 1_000_000_000 + i128::from(clock.server.nsec) + apart;
        Time {
            sec: then.div_euclid(1_000_000_000) as i64,
            nsec: then.rem_euclid(1_000_000_000) as u32,
        }
    }

    /// At most so many requests may be unanswered (from the server's `Welcome`).
    pub fn limit_in_flight(&self, limit: usize) {
        self.state.lock().limit = limit.clamp(1, limits::MAX_IN_FLIGHT);
    }

    /// The connection is lost: what is in flight ends as [`Outcome::Lost`]. Does not wait.
    pub fn disconnected(&self) {
        let (lost, attendants) = {
            let state = &mut *self.state.lock();
            state.transport = None;
            state.routes.clear();
            state.unacknowledged = Unacknowledged::default();
            state.scarce = false;
            let lost: Vec<_> =
                (0..state.slots.len() as u32).filter_map(|tag| state.take(Tag(tag))).collect();
            (lost, state.attendants())
        };
        debug!(in_flight = lost.len(), "disconnected");
        attendants.iter().for_each(|attendant| attendant.disconnected());
        lost.into_iter().for_each(|entry| entry.complete.complete(Outcome::Lost));
    }

    /// A reply came. Called by the transport, possibly from within its `send`.
    pub fn on_reply(&self, tag: Tag, reply: &Reply<'_>) {
        let entry = self.state.lock().take(tag);
        match entry {
            Some(entry) => entry.complete.complete(Outcome::Reply(reply)),
            None => warn!(%tag, reply = reply.name(), "a reply to no request"),
        }
    }

    /// A notice came. Called by the transport; does not wait.
    pub fn on_notice(&self, notice: &Notice<'_>) {
        match notice {
            Notice::Changes { attachment, seq, changes } => {
                let attendant = {
                    let state = &mut *self.state.lock();
                    state.unacknowledged.arrived(*seq);
                    let route = state.routes.iter().find(|(of, _)| of == attachment);
                    route.and_then(|(_, attendant)| attendant.upgrade())
                };
                match attendant {
                    Some(attendant) => attendant.changes(*seq, changes),
                    None => debug!(%attachment, "changes for a mount that is gone"),
                }
            }
            Notice::Scarce { scarce } => {
                let attendants = {
                    let state = &mut *self.state.lock();
                    state.scarce = *scarce;
                    state.attendants()
                };
                attendants.iter().for_each(|attendant| attendant.scarce());
            }
            Notice::Goodbye => debug!("the server says goodbye"),
        }
    }

    /// The number of the present connection, or of the last if there is none.
    pub fn epoch(&self) -> u32 {
        self.state.lock().epoch
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.state.lock().transport.is_some()
    }

    /// Whether the server wants to know what is being watched, for it has too few watches.
    pub fn is_scarce(&self) -> bool {
        self.state.lock().scarce
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.state.lock().in_flight
    }

    /// From now on `attendant` takes part in the life of the connection.
    pub fn attend(&self, attendant: Weak<dyn Attendant>) {
        let state = &mut *self.state.lock();
        state.attendants.retain(|attendant| attendant.strong_count() > 0);
        state.attendants.push(attendant);
    }

    /// A number for [`Origin::mount`].
    pub fn new_mount(&self) -> u64 {
        self.mounts.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes of `attachment` go to `attendant`.
    pub fn route(&self, attachment: Attachment, attendant: Weak<dyn Attendant>) {
        let state = &mut *self.state.lock();
        state.routes.retain(|(of, _)| *of != attachment);
        state.routes.push((attachment, attendant));
    }

    /// Changes of `attachment` go nowhere.
    pub fn unroute(&self, attachment: Attachment) {
        self.state.lock().routes.retain(|(of, _)| *of != attachment);
    }

    /// Makes a request on connection `epoch`. `complete` is called exactly once, possibly before
    /// this returns.
    pub fn submit(
        &self,
        epoch: u32,
        origin: Option<Origin>,
        caller: &Caller<'_>,
        request: &Request<'_>,
        complete: Box<dyn Complete>,
    ) {
        let admitted = self.state.lock().admit(epoch, InFlight { origin, complete });
        let (tag, transport) = match admitted {
            Ok(admitted) => admitted,
            Err((refused, outcome)) => return refused.complete.complete(outcome),
        };
        if transport.send(tag, caller, request).is_err() {
            // The transport reports the loss as well; whoever comes first ends the request.
            let entry = {
                let state = &mut *self.state.lock();
                if state.epoch == epoch { state.take(tag) } else { None }
            };
            if let Some(entry) = entry {
                entry.complete.complete(Outcome::Lost);
            }
        }
    }

    /// Sends a request that is not answered. It is dropped if there is no connection `epoch`.
    pub fn post(&self, epoch: u32, request: &Request<'_>) {
        let transport = {
            let state = self.state.lock();
            state.transport.clone().filter(|_| state.epoch == epoch)
        };
        if let Some(transport) = transport {
            // A loss is reported by the transport.
            let _ = transport.send(Tag::NONE, &Caller::default(), request);
        }
    }

    /// Asks the server to give up the request of this origin. Tells whether it is in flight.
    pub fn cancel(&self, origin: Origin) -> bool {
        let (tag, epoch) = {
            let state = self.state.lock();
            let ours = |slot: &Option<InFlight>| {
                slot.as_ref().is_some_and(|entry| entry.origin == Some(origin))
            };
            let Some(index) = state.slots.iter().position(ours) else { return false };
            (Tag(index as u32), state.epoch)
        };
        self.post(epoch, &Request::Cancel { tag });
        true
    }

    /// The changes `seq` are delivered, or given up. May send.
    pub fn delivered(&self, epoch: u32, seq: u64) {
        let done = {
            let state = &mut *self.state.lock();
            if state.epoch != epoch {
                return;
            }
            state.unacknowledged.delivered(seq)
        };
        if let Some(seq) = done {
            self.post(epoch, &Request::Acknowledge { seq });
        }
    }

    /// Makes a request of the agent itself and waits for the answer, of which `take` keeps what is
    /// wanted. Not for threads that serve the kernel or bring replies.
    ///
    /// # Errors
    /// What the server answers; `ENOTCONN` if there is no connection `epoch` or it is lost,
    /// `ETIMEDOUT` if the server takes longer than `timeout`.
    pub fn call<T: Send + 'static>(
        &self,
        epoch: u32,
        request: &Request<'_>,
        timeout: Duration,
        take: impl FnOnce(&Reply<'_>) -> Option<T> + Send + 'static,
    ) -> Result<T, Errno> {
        let (answer, wait) = mpsc::sync_channel(1);
        self.submit(epoch, None, &Caller::default(), request, Box::new(Call { take, answer }));
        wait.recv_timeout(timeout).unwrap_or(Err(Errno::ETIMEDOUT))
    }
}

/// How long this machine has been running, its sleep included.
pub(crate) fn up() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Someone waits in [`Client::call`].
struct Call<T, F> {
    take: F,
    answer: mpsc::SyncSender<Result<T, Errno>>,
}

impl<T: Send, F: FnOnce(&Reply<'_>) -> Option<T> + Send> Complete for Call<T, F> {
    fn complete(self: Box<Self>, outcome: Outcome<'_>) {
        let result = match outcome {
            Outcome::Reply(Reply::Error { errno }) => Err(*errno),
            Outcome::Reply(reply) => (self.take)(reply).ok_or(Errno::EPROTO),
            Outcome::Lost | Outcome::NotSent => Err(Errno::ENOTCONN),
            Outcome::Busy => Err(Errno::EAGAIN),
        };
        // Nobody waits any more if it took too long.
        let _ = self.answer.try_send(result);
    }
}

impl State {
    /// Gives a request a tag and keeps it.
    #[allow(clippy::type_complexity)]
    fn admit(
        &mut self,
        epoch: u32,
        entry: InFlight,
    ) -> Result<(Tag, Arc<dyn Transport>), (InFlight, Outcome<'static>)> {
        let Some(transport) = self.transport.clone().filter(|_| self.epoch == epoch) else {
            return Err((entry, Outcome::NotSent));
        };
        if self.in_flight >= self.limit {
            return Err((entry, Outcome::Busy));
        }
        let rested = self.free.len() >= TAG_REST || self.slots.len() >= limits::MAX_IN_FLIGHT;
        let tag = match rested.then(|| self.free.pop_front()).flatten() {
            Some(tag) => tag,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(slot) = self.slots.get_mut(tag as usize) {
            *slot = Some(entry);
        }
        self.in_flight += 1;
        Ok((Tag(tag), transport))
    }

    fn take(&mut self, tag: Tag) -> Option<InFlight> {
        let entry = self.slots.get_mut(tag.0 as usize)?.take()?;
        self.free.push_back(tag.0);
        self.in_flight -= 1;
        Some(entry)
    }

    fn attendants(&mut self) -> Vec<Arc<dyn Attendant>> {
        self.attendants.iter().filter_map(Weak::upgrade).collect()
    }
}

/// So many tags must be free before one is used again, so that a late `Cancel` meets no other
/// request.
const TAG_REST: usize = 64;

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Client")
            .field("epoch", &state.epoch)
            .field("connected", &state.transport.is_some())
            .field("in_flight", &state.in_flight)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
