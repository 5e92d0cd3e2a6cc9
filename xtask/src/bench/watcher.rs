//! A watcher as a user's tool is one: a thread that blocks in reading inotify. It ticks off what it
//! is expected to see and keeps when it woke up for it.
//!
//! Files are called `LETTER-NUMBER`, a number names one file for ever, and an event is recognised by
//! the number and its kind: what comes late or twice is never taken for something else.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// The kinds that are expected. The mask of a watch is all of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    Create,
    Modify,
    CloseWrite,
    Attrib,
    MovedTo,
    Delete,
}

const EVENTS: [(Event, ReadFlags, WatchFlags); 6] = [
    (Event::Create, ReadFlags::CREATE, WatchFlags::CREATE),
    (Event::Modify, ReadFlags::MODIFY, WatchFlags::MODIFY),
    (Event::CloseWrite, ReadFlags::CLOSE_WRITE, WatchFlags::CLOSE_WRITE),
    (Event::Attrib, ReadFlags::ATTRIB, WatchFlags::ATTRIB),
    (Event::MovedTo, ReadFlags::MOVED_TO, WatchFlags::MOVED_TO),
    (Event::Delete, ReadFlags::DELETE, WatchFlags::DELETE),
];

/// A file's event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Expected {
    pub number: u32,
    pub event: Event,
}

#[derive(Default)]
struct Board {
    pending: HashSet<Expected>,
    seen: HashMap<Expected, Instant>,
    /// Somebody waits for this one.
    awaited: Option<Expected>,
    /// When the last expected one was seen.
    last: Option<Instant>,
    repeated: u64,
    overflows: u64,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    changed: Condvar,
    ended: AtomicBool,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Watcher {
    shared: Arc<Shared>,
    queue: Arc<OwnedFd>,
    watches: Vec<i32>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What went wrong while a watcher ran.
#[derive(Clone, Copy, Default)]
pub struct Trouble {
    /// Expected events that were seen more than once.
    pub repeated: u64,
    /// Overflows of the watcher's own queue.
    pub overflows: u64,
}

impl Watcher {
    /// Watches these directories.
    pub fn of<'p>(dirs: impl IntoIterator<Item = &'p Path>) -> Result<Self> {
        let queue = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let mask = EVENTS.iter().fold(WatchFlags::ONLYDIR, |mask, (.., flag)| mask | *flag);
        let watches = dirs.into_iter().map(|dir| {
            inotify::add_watch(&queue, dir, mask)
                .with_context(|| format!("cannot watch {}", dir.display()))
        });
        let watches = watches.collect::<Result<_>>()?;
        let shared = Arc::new(Shared::default());
        let (ours, theirs) = (shared.clone(), queue.clone());
        let thread = thread::Builder::new()
            .name("watcher".into())
            .spawn(move || watch(&ours, &theirs))
            .context("cannot start the watcher")?;
        Ok(Self { shared, queue, watches, thread: Some(thread) })
    }

    /// These are going to happen.
    pub fn expect(&self, expected: impl IntoIterator<Item = Expected>) {
        self.shared.board().pending.extend(expected);
    }

    /// When this was seen, waiting for it so long. It then is expected no longer.
    pub fn seen(&self, expected: Expected, patience: Duration) -> Option<Instant> {
        let mut board = self.shared.board();
        board.awaited = Some(expected);
        let (mut board, _) = self
            .shared
            .changed
            .wait_timeout_while(board, patience, |board| board.pending.contains(&expected))
            .unwrap_or_else(PoisonError::into_inner);
        board.awaited = None;
        board.pending.remove(&expected);
        board.seen.get(&expected).copied()
    }

    /// Waits until all has been seen, or until nothing has come for so long. Tells how many were
    /// not seen, which are expected no longer.
    pub fn missing(&self, quiet: Duration) -> usize {
        let mut board = self.shared.board();
        loop {
            let before = board.pending.len();
            let (next, _) = self
                .shared
                .changed
                .wait_timeout_while(board, quiet, |board| !board.pending.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            board = next;
            if board.pending.is_empty() || board.pending.len() == before {
                break;
            }
        }
        board.seen.clear();
        let missing = board.pending.len();
        board.pending.clear();
        missing
    }

    /// When the last expected event was seen.
    pub fn last(&self) -> Option<Instant> {
        self.shared.board().last
    }

    pub fn trouble(&self) -> Trouble {
        let board = self.shared.board();
        Trouble { repeated: board.repeated, overflows: board.overflows }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // The end of a watch is an event, and wakes the thread.
        for watch in &self.watches {
            _ = inotify::remove_watch(&self.queue, *watch);
        }
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn watch(shared: &Shared, queue: &OwnedFd) {
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut reader = inotify::Reader::new(queue, &mut buffer);
    let mut woke = Instant::now();
    while !shared.ended.load(Ordering::Acquire) {
        let reads = reader.is_buffer_empty();
        let Ok(event) = reader.next() else { continue };
        if reads {
            woke = Instant::now();
        }
        let mut board = shared.board();
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            board.overflows += 1;
        }
        let Some(number) = event.file_name().and_then(|name| number(name.to_bytes())) else {
            continue;
        };
        let mut ends_a_wait = false;
        for (event, flag, _) in EVENTS {
            if flags.contains(flag) {
                ends_a_wait |= board.tick_off(Expected { number, event }, woke);
            }
        }
        drop(board);
        // To wake whoever waits for each event would slow down what is measured.
        if ends_a_wait {
            shared.changed.notify_all();
        }
    }
}

impl Board {
    /// Tells whether somebody waits for it, or for the last one.
    fn tick_off(&mut self, event: Expected, at: Instant) -> bool {
        if self.pending.remove(&event) {
            self.seen.insert(event, at);
            self.last = Some(at);
            return self.awaited == Some(event) || self.pending.is_empty();
        }
        self.repeated += u64::from(self.seen.contains_key(&event));
        false
    }
}

fn number(name: &[u8]) -> Option<u32> {
    let (_, number) = std::str::from_utf8(name).ok()?.split_once('-')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CREATE: Event = Event::Create;

    #[test]
    fn what_is_expected_and_does_not_come_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::of([dir.path()]).unwrap();
        watcher.expect((1..=3).map(|number| Expected { number, event: CREATE }));
        for name in ["f-1", ".2.tmp", "f-x", "f-3", "f-4"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let third = Expected { number: 3, event: CREATE };
        assert!(watcher.seen(third, Duration::from_secs(10)).is_some());
        assert_eq!(watcher.missing(Duration::from_millis(50)), 1);
        assert_eq!(watcher.missing(Duration::ZERO), 0);
    }

    #[test]
    fn an_event_that_comes_twice_is_counted_and_stands_for_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::of([dir.path()]).unwrap();
        let [first, second] = [1, 2].map(|number| Expected { number, event: CREATE });
        watcher.expect([first, second]);
        for _ in 0..2 {
            fs::write(dir.path().join("f-1"), "").unwrap();
            fs::remove_file(dir.path().join("f-1")).unwrap();
        }
        fs::write(dir.path().join("f-2"), "").unwrap();
        assert!(watcher.seen(second, Duration::from_secs(10)).is_some());
        assert!(watcher.seen(first, Duration::ZERO).is_some());
        assert_eq!(watcher.trouble().repeated, 1);
    }
}
