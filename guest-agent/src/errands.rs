//! What must not be done by the threads that serve the kernel or bring replies: everything that
//! waits for the server, and everything that a completion leaves to be sent.
//!
//! * *Parked* requests of the kernel wait here for a connection (or for room in flight), each until
//!   its deadline; then they fail with `EIO`. A request that meets a node or handle of an earlier
//!   connection also comes here, and these threads find the node again ([`recover`](crate::recover)).
//! * *Chores* are small jobs of the agent itself, done in order.
//! * *Forgets* are gathered and sent in batches, and so are *closes* of what was only read.
//! * What was opened here alone is *opened* on the server too, if it stays open for a while: the
//!   host may remove it.
//! * *Looks* at what is watched on the mount happen while the server wants to know
//!   ([`watchers`](crate::watchers)).

use crate::fuse::operation::{Pending, RequestBytes};
use crate::fuse::reply::Answer;
use crate::fuse::session::Session;
use crate::fuse::translate::{FollowUp, Need, Stop};
use crate::handles::Removed;
use crate::recover;
use parking_lot::{Condvar, Mutex};
use protocol::{Errno, ForgetList, ForgetOne, HandleId, Request as Ask, limits};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Threads of one mount that run errands.
pub const THREADS: usize = 2;
/// Forgets are sent at this number, or after this time.
const FORGET_BATCH: usize = 256;
const FORGET_DELAY: Duration = Duration::from_millis(200);
/// Handles to be closed are sent at this number, or after this time.
const CLOSE_BATCH: usize = 32;
const CLOSE_DELAY: Duration = Duration::from_millis(5);
/// For how long something is open here alone, or a bit less: a thread that wakes for each of many files
/// would take the processor of whoever opens them.
const OPEN_DELAY: Duration = Duration::from_millis(20);
const OPEN_EARLIER: Duration = Duration::from_millis(10);
/// Pause before a request that found too many in flight tries again.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// A job of the agent.
pub enum Chore {
    /// There is a new connection: attach the export.
    Attach,
    /// The rest of an operation.
    FollowUp(Box<Pending>, FollowUp),
    /// Acknowledge changes.
    Delivered(u64),
    /// The mount is gone.
    End,
}

/// The queues of one mount.
#[derive(Default)]
pub struct Errands {
    queues: Mutex<Queues>,
    wake: Condvar,
    must_close: AtomicBool,
}

#[derive(Default)]
struct Queues {
    chores: VecDeque<Chore>,
    parked: VecDeque<Parked>,
    forgets: Vec<(u32, ForgetOne)>,
    /// When the oldest of `forgets` came.
    forgets_since: Option<Instant>,
    closes: Vec<(u32, HandleId)>,
    /// When they are to be sent.
    close_at: Option<Instant>,
    /// What is open here alone, and when it is to be opened.
    unopened: VecDeque<(Instant, u64)>,
    /// When to look for what is watched.
    look: Option<Instant>,
    /// When to give back what was told ahead in vain.
    expire: Option<Instant>,
    ended: bool,
}

struct Parked {
    bytes: RequestBytes,
    attempt: u8,
    /// None for what only waits for room.
    deadline: Option<Instant>,
}

enum Job {
    Chore(Chore),
    Retry(Parked),
    Expired(Parked),
    Forgets(Vec<(u32, ForgetOne)>),
    Close,
    Open(Vec<u64>),
    Look,
    Expire,
    End,
}

impl Errands {
    /// Adds a chore.
    pub fn push(&self, chore: Chore) {
        let mut queues = self.queues.lock();
        if queues.ended {
            return;
        }
        if matches!(chore, Chore::End) {
            queues.ended = true;
            self.wake.notify_all();
        }
        queues.chores.push_back(chore);
        self.wake.notify_one();
    }

    /// Adds a request that waits, until `deadline` for a connection or without one for room.
    pub fn park(&self, bytes: RequestBytes, attempt: u8, deadline: Option<Instant>) {
        let queues = &mut *self.queues.lock();
        // The kernel waits for nothing any more.
        if queues.ended {
            return;
        }
        queues.parked.push_back(Parked { bytes, attempt, deadline });
        self.wake.notify_one();
    }

    /// Takes a waiting request away.
    pub fn take_parked(&self, unique: u64) -> Option<RequestBytes> {
        let queues = &mut *self.queues.lock();
        let at = queues.parked.iter().position(|of| of.bytes.unique() == Some(unique))?;
        queues.parked.remove(at).map(|parked| parked.bytes)
    }

    /// Gives lookups of connection `epoch` back, soon.
    pub fn forget(&self, epoch: u32, forget: ForgetOne) {
        let queues = &mut *self.queues.lock();
        queues.forgets.push((epoch, forget));
        let first = queues.forgets.len() == 1;
        if first {
            queues.forgets_since = Some(Instant::now());
        }
        if first || queues.forgets.len() == FORGET_BATCH {
            self.wake.notify_one();
        }
    }

    /// These are to be closed, soon; if at once, by whoever calls this and may send. Neither waits nor
    /// sends itself.
    pub fn close(&self, epoch: u32, removed: Removed) {
        let handles = removed.server.into_iter().flatten();
        let queues = &mut *self.queues.lock();
        queues.closes.extend(handles.map(|handle| (epoch, handle)));
        if queues.closes.is_empty() {
            return;
        }
        if removed.at_once || queues.closes.len() >= CLOSE_BATCH {
            self.must_close.store(true, Ordering::Relaxed);
        } else if queues.close_at.is_none() {
            queues.close_at = Some(Instant::now() + CLOSE_DELAY);
            self.wake.notify_one();
        }
    }

    /// Whether handles wait to be closed.
    pub fn has_closes(&self) -> bool {
        !self.queues.lock().closes.is_empty()
    }

    /// Whether what waits to be closed must wait no longer. Whoever may send does it then.
    pub fn must_close(&self) -> bool {
        self.must_close.load(Ordering::Relaxed)
    }

    /// What is to be closed on connection `epoch`. What was open on others is closed by their end.
    pub fn take_closes(&self, epoch: u32) -> Vec<HandleId> {
        let queues = &mut *self.queues.lock();
        queues.close_at = None;
        self.must_close.store(false, Ordering::Relaxed);
        let closes = queues.closes.drain(..);
        closes.filter(|(of, _)| *of == epoch).map(|(_, handle)| handle).collect()
    }

    /// What is open here alone is to be opened on the server, after a while.
    pub fn open_later(&self, fh: u64) {
        let queues = &mut *self.queues.lock();
        queues.unopened.push_back((Instant::now() + OPEN_DELAY, fh));
        if queues.unopened.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// What is watched on the mount is looked for at this time.
    pub fn look_for_watchers(&self, at: Instant) {
        self.queues.lock().look = Some(at);
        self.wake.notify_one();
    }

    /// Something was told ahead that has gone by at this time.
    pub fn expire_ahead(&self, at: Instant) {
        let queues = &mut *self.queues.lock();
        if queues.expire.is_none() {
            queues.expire = Some(at);
            self.wake.notify_one();
        }
    }

    fn next(&self, session: &Session) -> Job {
        let mut queues = self.queues.lock();
        loop {
            if let Some(chore) = queues.chores.pop_front() {
                return Job::Chore(chore);
            }
            if queues.ended {
                return Job::End;
            }
            let now = Instant::now();
            let due = |parked: &Parked| parked.deadline.is_some_and(|deadline| deadline <= now);
            let expired = queues.parked.iter().position(due);
            if let Some(parked) = expired.and_then(|at| queues.parked.remove(at)) {
                return Job::Expired(parked);
            }
            if !queues.parked.is_empty()
                && session.is_ready()
                && let Some(parked) = queues.parked.pop_front()
            {
                return Job::Retry(parked);
            }
            let flush = queues.forgets_since.map(|since| since + FORGET_DELAY);
            if queues.forgets.len() >= FORGET_BATCH || flush.is_some_and(|flush| flush <= now) {
                queues.forgets_since = None;
                return Job::Forgets(std::mem::take(&mut queues.forgets));
            }
            if queues.close_at.is_some_and(|at| at <= now) {
                queues.close_at = None;
                return Job::Close;
            }
            if queues.unopened.front().is_some_and(|(at, _)| *at <= now) {
                let open = queues.unopened.partition_point(|(at, _)| *at <= now + OPEN_EARLIER);
                return Job::Open(queues.unopened.drain(..open).map(|(_, fh)| fh).collect());
            }
            if queues.look.is_some_and(|at| at <= now) {
                queues.look = None;
                return Job::Look;
            }
            if queues.expire.is_some_and(|at| at <= now) {
                queues.expire = None;
                return Job::Expire;
            }
            let deadlines = queues.parked.iter().filter_map(|parked| parked.deadline);
            let open = queues.unopened.front().map(|(at, _)| *at);
            let timers = [flush, queues.close_at, open, queues.look, queues.expire];
            match deadlines.chain(timers.into_iter().flatten()).min() {
                Some(until) => {
                    let _ = self.wake.wait_until(&mut queues, until);
                }
                None => self.wake.wait(&mut queues),
            }
        }
    }

    fn drain_parked(&self) -> VecDeque<Parked> {
        std::mem::take(&mut self.queues.lock().parked)
    }

    /// Looks again at what waits: there is a connection.
    pub fn wake_all(&self) {
        let _queues = self.queues.lock();
        self.wake.notify_all();
    }
}

/// Runs errands until the mount is gone.
pub fn run(session: &Arc<Session>) {
    let errands = session.errands();
    loop {
        match errands.next(session) {
            Job::Chore(chore) => run_chore(session, chore),
            Job::Retry(parked) => retry(session, parked),
            Job::Expired(parked) => fail(session, &parked.bytes, Errno::EIO),
            Job::Forgets(forgets) => send_forgets(session, &forgets),
            Job::Expire => {
                let (given, more) = session.ahead.expire(Instant::now());
                given.into_iter().for_each(|node| session.give_back(node, 1));
                if let Some(at) = more {
                    errands.expire_ahead(at);
                }
            }
            Job::Close => session.close_now(),
            Job::Open(files) => {
                for fh in files {
                    recover::open_here(session, fh);
                }
            }
            Job::Look => {
                if let Some(again) = session.watchers.look(session) {
                    errands.look_for_watchers(again);
                }
            }
            Job::End => {
                let left = errands.drain_parked();
                left.iter().for_each(|parked| fail(session, &parked.bytes, Errno::ENOTCONN));
                return;
            }
        }
    }
}

fn run_chore(session: &Arc<Session>, chore: Chore) {
    match chore {
        Chore::Attach => {
            let epoch = session.client.epoch();
            match recover::attach(session, epoch) {
                Ok(()) => debug!(export = session.export, epoch, "attached again"),
                Err(errno) => warn!(
                    export = session.export,
                    %errno,
                    "the server is back but does not give the export back; requests fail until it does"
                ),
            }
            session.errands().wake_all();
        }
        Chore::FollowUp(pending, follow_up) => follow(session, *pending, follow_up),
        Chore::Delivered(seq) => session.delivered(seq),
        Chore::End => recover::detach(session),
    }
}

fn follow(session: &Arc<Session>, pending: Pending, follow_up: FollowUp) {
    let answer = match follow_up {
        FollowUp::Again => {
            return session.serve(pending.bytes, pending.attempt.saturating_add(1), None);
        }
        FollowUp::Close => {
            session.close_now();
            return session.serve(pending.bytes, pending.attempt, pending.deadline);
        }
        FollowUp::DropSetId(node, answer) => {
            recover::change_mode(session, pending.epoch, node, crate::fuse::translate::drop_set_id);
            answer
        }
        FollowUp::DropSetGid(node, answer) => {
            recover::change_mode(session, pending.epoch, node, |mode| mode & !0o2000);
            answer
        }
    };
    session.answer_bytes(&pending.bytes, &answer);
}

/// Finds again what a request needs, one thing after the other, and then makes it.
fn retry(session: &Arc<Session>, parked: Parked) {
    /// Two nodes or three handles are the most that one request has.
    const MOST: usize = 8;
    let Parked { bytes, attempt, deadline } = parked;
    if deadline.is_none() {
        thread::sleep(BUSY_PAUSE);
    }
    for _ in 0..MOST {
        match session.try_serve(&bytes, attempt, deadline) {
            None => return,
            Some(Stop::Error(errno)) => return fail(session, &bytes, errno),
            Some(Stop::Done) => return session.answer_bytes(&bytes, &Answer::Done),
            Some(Stop::Answer(answer)) => return session.answer_bytes(&bytes, &answer),
            Some(Stop::Stale(need)) => match recover::recover(session, need) {
                Ok(()) => {}
                Err(Errno::ENOTCONN | Errno::EAGAIN) => {
                    return session.park(bytes, attempt, deadline);
                }
                // Where it is needed it will be missed; others go on without it.
                Err(_) if matches!(need, Need::Handle(fh) if session.handles.give_up(fh)) => {}
                Err(errno) => return fail(session, &bytes, errno),
            },
        }
    }
    fail(session, &bytes, Errno::EIO);
}

fn fail(session: &Session, bytes: &RequestBytes, errno: Errno) {
    session.answer_bytes(bytes, &Answer::Error(errno));
}

/// Forgets of an earlier connection were settled by its end.
fn send_forgets(session: &Session, forgets: &[(u32, ForgetOne)]) {
    let epoch = session.epoch();
    let current: Vec<ForgetOne> =
        forgets.iter().filter(|(of, _)| *of == epoch).map(|(_, forget)| *forget).collect();
    for batch in current.chunks(limits::MAX_FORGET) {
        session.client.post(epoch, &Ask::Forget { nodes: ForgetList(batch.to_vec()) });
    }
}
