//! FSEvents as a [`HintSource`].
//!
//! ```text
//! callbacks (a serial queue) ── Inbox ── wait: look at each path ── Hints ── reports
//! ```
//! Each topmost watched directory has a stream of its own, so that a new one disturbs no other.
//! A directory's path is what the kernel says of its descriptor: symbolic links are resolved, the
//! spelling is the volume's.
//!
//! Lock order: `state`, then the inbox. A callback takes the inbox only, so a stream may be ended
//! with `state` held.

use super::stream::{Hints, Replay, StreamId};
use super::{Event, FileId, There, sys};
use crate::os;
use crate::watch::{HintSource, Report, WatchError, WatchKey};
use dispatch2::{DispatchQueue, DispatchRetained};
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// Events kept until they are waited for.
const MOST_EVENTS: usize = 65_536;
/// How long half a rename waits for the other one: the next batch comes well before.
const HOLD: Duration = Duration::from_millis(20);
/// How often a directory that is being moved is asked for its path.
const TRIES: usize = 8;

/// Streams of one session.
pub struct FsEvents {
    inbox: Arc<Inbox>,
    queue: DispatchRetained<DispatchQueue>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hints: Hints,
    running: FxHashMap<StreamId, sys::Stream>,
}

#[derive(Default)]
struct Inbox {
    mail: Mutex<Mail>,
    ready: Condvar,
}

#[derive(Default)]
struct Mail {
    batches: Vec<(StreamId, Vec<Event>)>,
    events: usize,
    overflowed: bool,
    woken: bool,
}

impl Inbox {
    fn deliver(&self, stream: StreamId, batch: Vec<Event>) {
        let mail = &mut *self.mail.lock();
        mail.events += batch.len();
        if mail.events > MOST_EVENTS {
            mail.batches.clear();
            mail.events = 0;
            mail.overflowed = true;
        } else {
            mail.batches.push((stream, batch));
        }
        self.ready.notify_all();
    }

    fn take(&self, until: Option<Instant>) -> Mail {
        let mut mail = self.mail.lock();
        while mail.batches.is_empty() && !mail.overflowed && !mail.woken {
            match until {
                None => self.ready.wait(&mut mail),
                Some(until) => {
                    if self.ready.wait_until(&mut mail, until).timed_out() {
                        break;
                    }
                }
            }
        }
        std::mem::take(&mut *mail)
    }
}

impl FsEvents {
    /// Watches nothing yet.
    pub fn new() -> Self {
        Self { inbox: Arc::default(), queue: sys::queue(), state: Mutex::default() }
    }

    fn start(
        &self,
        state: &mut State,
        id: StreamId,
        root: &[u8],
        since: super::EventId,
    ) -> io::Result<()> {
        let inbox = self.inbox.clone();
        let deliver = Arc::new(move |batch| inbox.deliver(id, batch));
        let stream = sys::Stream::start(root, since, &self.queue, deliver)?;
        state.running.insert(id, stream);
        Ok(())
    }

    /// Adds a watch at a path, with a stream if none covers it.
    fn add(&self, key: WatchKey, path: &[u8], stat: &os::Stat) -> io::Result<()> {
        let state = &mut *self.state.lock();
        if state.hints.is_watched(key) {
            return Ok(());
        }
        let since = match state.hints.stream_over(path) {
            Some((_, since)) => since,
            None => {
                let since = sys::current_event();
                let id = state.hints.begin(path, since, sys::has_journal(stat.dev));
                if let Err(error) = self.start(state, id, path, since) {
                    state.hints.end(id);
                    return Err(error);
                }
                since
            }
        };
        state.hints.watch(path, key, FileId(stat.ino), since);
        state.sweep();
        Ok(())
    }

    /// Looks at what a batch is about, and lets it be judged.
    fn judge(&self, id: StreamId, batch: Vec<Event>, out: &mut Vec<Report>) -> io::Result<()> {
        let mut batch = self.state.lock().hints.sift(batch);
        for event in &mut batch.events {
            match sys::look(&event.path) {
                Ok(found) => event.found(found),
                Err(error) => {
                    debug!(path = %event.path.escape_ascii(), %error, "cannot look");
                    event.there = There::Unknown;
                }
            }
        }
        let state = &mut *self.state.lock();
        if let Some(replay) = state.hints.take(id, batch, out) {
            self.replay(state, id, &replay)?;
        }
        state.sweep();
        Ok(())
    }

    /// After a loss, ends what is watched at a path that leads elsewhere by now.
    fn verify(&self, out: &mut Vec<Report>) {
        let doubtful = self.state.lock().hints.doubtful();
        for path in doubtful {
            let there = match sys::look(&path) {
                Ok(Some((file, _))) => There::File(file),
                Ok(None) => There::Nothing,
                Err(_) => There::Unknown,
            };
            self.state.lock().hints.verify(&path, there, out);
        }
    }

    fn replay(&self, state: &mut State, old: StreamId, replay: &Replay) -> io::Result<()> {
        debug!(root = %replay.root.escape_ascii(), since = replay.since.0, "events were dropped; replaying");
        state.end(old);
        let id = state.hints.begin_replay(replay);
        self.start(state, id, &replay.root, replay.since)
    }
}

impl Default for FsEvents {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn end(&mut self, id: StreamId) {
        self.hints.end(id);
        self.running.remove(&id);
    }

    fn sweep(&mut self) {
        for id in self.hints.superfluous() {
            self.end(id);
        }
    }
}

impl HintSource for FsEvents {
    fn watch(&self, key: WatchKey, dir: BorrowedFd<'_>) -> Result<(), WatchError> {
        let refused = |error: io::Error| WatchError::Refused(error);
        let errno = |errno: protocol::Errno| refused(io::Error::other(errno.to_string()));
        if self.state.lock().hints.is_watched(key) {
            return Ok(());
        }
        let volume = rustix::fs::fstatfs(dir).map_err(|error| refused(error.into()))?;
        if volume.f_flags & libc::MNT_LOCAL.cast_unsigned() == 0 {
            // What another machine does there brings no event.
            return Err(refused(io::ErrorKind::Unsupported.into()));
        }
        let stat = os::stat(dir).map_err(errno)?;
        for _ in 0..TRIES {
            let path = os::present_path(dir).map_err(errno)?;
            self.add(key, &path, &stat).map_err(refused)?;
            // Had it been moved before it was in the table, the move would have been missed.
            match os::present_path(dir) {
                Ok(now) if now == path => return Ok(()),
                _ => self.unwatch(key),
            }
        }
        Err(refused(io::ErrorKind::ResourceBusy.into()))
    }

    fn unwatch(&self, key: WatchKey) {
        let state = &mut *self.state.lock();
        state.hints.unwatch(key);
        state.sweep();
    }

    fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Report>) -> io::Result<()> {
        let is_holding = self.state.lock().hints.is_holding();
        let hold = is_holding.then_some(HOLD);
        let wait = [timeout, hold].into_iter().flatten().min();
        let mail = self.inbox.take(wait.and_then(|wait| Instant::now().checked_add(wait)));
        if mail.overflowed {
            self.state.lock().hints.lost(out);
        }
        if mail.batches.is_empty() && is_holding {
            self.state.lock().hints.flush(out);
        }
        for (id, batch) in mail.batches {
            self.judge(id, batch, out)?;
        }
        self.verify(out);
        Ok(())
    }

    fn wake(&self) {
        self.inbox.mail.lock().woken = true;
        self.inbox.ready.notify_all();
    }
}
