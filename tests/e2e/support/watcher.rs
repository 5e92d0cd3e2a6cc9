//! A watcher that hears what the kernel says, to the bit: inotify itself, with masks and cookies.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Everything that tells of a change; a reader's opening and closing does not.
pub const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF);

/// One event as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What [`Watcher::watch`] returned for what is watched.
    pub watch: i32,
    pub what: ReadFlags,
    pub cookie: u32,
    pub name: Option<Vec<u8>>,
}

/// One inotify instance.
pub struct Watcher {
    inotify: OwnedFd,
    buffer: Vec<MaybeUninit<u8>>,
    /// Read together with what was waited for, and later than that.
    later: VecDeque<Event>,
}

impl Watcher {
    pub fn new() -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.expect("an inotify instance");
        Self { inotify, buffer: vec![MaybeUninit::uninit(); 1 << 16], later: VecDeque::new() }
    }

    /// Watches a path, of a symbolic link the link itself.
    pub fn watch(&self, path: &Path) -> Result<i32, Errno> {
        inotify::add_watch(&self.inotify, path, CHANGES | WatchFlags::DONT_FOLLOW)
    }

    pub fn unwatch(&self, watch: i32) {
        let _ = inotify::remove_watch(&self.inotify, watch);
    }

    /// What has come, without waiting.
    pub fn read(&mut self) -> Vec<Event> {
        let mut events: Vec<_> = self.later.drain(..).collect();
        let mut reader = inotify::Reader::new(&self.inotify, &mut self.buffer);
        loop {
            match reader.next() {
                Ok(event) => events.push(Event {
                    watch: event.wd(),
                    what: event.events(),
                    cookie: event.cookie(),
                    name: event.file_name().map(|name| name.to_bytes().to_vec()),
                }),
                Err(Errno::AGAIN) => return events,
                Err(error) => panic!("reading events: {error}"),
            }
        }
    }

    /// What has come, waiting for the first up to `limit`.
    pub fn wait(&mut self, limit: Duration) -> Vec<Event> {
        let deadline = Instant::now() + limit;
        loop {
            let events = self.read();
            let left = deadline.saturating_duration_since(Instant::now());
            if !events.is_empty() || left.is_zero() {
                return events;
            }
            let left = Timespec::try_from(left).expect("a short time");
            let _ = poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&left));
        }
    }

    /// Waits for an event that `wanted` accepts, or fails with what came instead. What comes after it
    /// is left to be read.
    pub fn wait_for(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        let mut log = Log::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut events = self.wait(left);
            if let Some(found) = events.iter().position(&wanted) {
                self.later.extend(events.drain(found + 1..));
                return Ok(());
            }
            events.iter().for_each(|event| log.add("", event));
            if left.is_zero() {
                return Err(format!("heard only {:?}", log.lines));
            }
        }
    }
}

/// Events in words that can be compared: `CREATE|ISDIR folder/name`, the halves of a rename with
/// one number. What a watch says twice in a row is said once, as the kernel itself does it where
/// nobody has read in between: how many writes there were is not told.
#[derive(Default)]
pub struct Log {
    pub lines: Vec<String>,
    cookies: HashMap<u32, usize>,
    last: HashMap<String, String>,
}

impl Log {
    /// Adds an event on what is known as `watched`.
    pub fn add(&mut self, watched: &str, event: &Event) {
        let kinds = event.what.iter_names().map(|(name, _)| name).collect::<Vec<_>>();
        let mut line = format!("{} {watched}", kinds.join("|"));
        if let Some(name) = &event.name {
            let _ = write!(line, "/{}", name.escape_ascii());
        }
        if event.cookie != 0 {
            let next = self.cookies.len() + 1;
            let number = *self.cookies.entry(event.cookie).or_insert(next);
            let _ = write!(line, " #{number}");
        }
        if self.last.get(watched) != Some(&line) {
            self.last.insert(watched.to_owned(), line.clone());
            self.lines.push(line);
        }
    }
}
