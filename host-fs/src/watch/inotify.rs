//! Hints from Linux's inotify: one instance for a session, one watch for each directory.
//!
//! A directory is watched through `/proc/self/fd/N` of its descriptor, so that no path of the host
//! matters. The same directory may be known under several keys (exports that overlap); the kernel
//! has one watch for it and each key gets its hints.
//!
//! Lock order: `watches` alone. It is held while a watch is added, so that a report of a new watch
//! always finds its key.

use super::{Doer, Hint, HintSource, Kinds, Report, WatchError, WatchKey};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Bytes read at once: some hundreds of hints.
const BUFFER: usize = 32 * 1024;
/// Most reports of one [`Inotify::wait`]: beyond it the caller gets to work first.
const BATCH: usize = 4096;

/// What is wanted of each directory.
const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// The number that the kernel gives a watch. Not reused before all others were.
type WatchNumber = i32;

#[derive(Default)]
struct Watches {
    keys: FxHashMap<WatchNumber, Vec<WatchKey>>,
    numbers: FxHashMap<WatchKey, WatchNumber>,
}

/// An inotify instance.
pub struct Inotify {
    queue: OwnedFd,
    wake: OwnedFd,
    watches: Mutex<Watches>,
}

impl Inotify {
    /// A new instance that watches nothing.
    ///
    /// # Errors
    /// The user has too many instances (`fs.inotify.max_user_instances`) or descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            queue: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            watches: Mutex::default(),
        })
    }

    /// Takes what the kernel has queued.
    fn drain(&self, out: &mut Vec<Report>) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        loop {
            if out.len() >= BATCH && reader.is_buffer_empty() {
                return Ok(());
            }
            match reader.next() {
                Ok(event) => self.report(&event, out),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn report(&self, event: &inotify::Event<'_>, out: &mut Vec<Report>) {
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            out.push(Report::Overflow);
            return;
        }
        let mut watches = self.watches.lock();
        if flags.contains(ReadFlags::IGNORED) {
            for key in watches.keys.remove(&event.wd()).unwrap_or_default() {
                watches.numbers.remove(&key);
                out.push(Report::Ended(key));
            }
            return;
        }
        let name = event.file_name().map(std::ffi::CStr::to_bytes);
        let kinds = kinds(flags, name.is_some());
        if kinds.is_empty() {
            return;
        }
        let is_dir = flags.contains(ReadFlags::ISDIR);
        let cookie = event.cookie();
        out.extend(watches.keys.get(&event.wd()).into_iter().flatten().map(|&dir| {
            let name = name.map(Box::from);
            Report::Hint(Hint { dir, name, kinds, cookie, is_dir, by: Doer::Unknown })
        }));
    }
}

fn kinds(flags: ReadFlags, named: bool) -> Kinds {
    const NAMED: [(ReadFlags, Kinds); 7] = [
        (ReadFlags::CREATE, Kinds::CREATE),
        (ReadFlags::DELETE, Kinds::DELETE),
        (ReadFlags::MODIFY, Kinds::MODIFY),
        (ReadFlags::CLOSE_WRITE, Kinds::CLOSE_WRITE),
        (ReadFlags::ATTRIB, Kinds::ATTRIB),
        (ReadFlags::MOVED_FROM, Kinds::MOVED_FROM),
        (ReadFlags::MOVED_TO, Kinds::MOVED_TO),
    ];
    const OWN: [(ReadFlags, Kinds); 3] = [
        (ReadFlags::DELETE_SELF, Kinds::SELF_DELETE),
        (ReadFlags::MOVE_SELF, Kinds::SELF_MOVE),
        (ReadFlags::ATTRIB, Kinds::SELF_ATTRIB),
    ];
    let table: &[_] = if named { &NAMED } else { &OWN };
    table.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, kind)| *kind).collect()
}

impl HintSource for Inotify {
    fn watch(&self, key: WatchKey, dir: BorrowedFd<'_>) -> Result<(), WatchError> {
        let mut watches = self.watches.lock();
        if watches.numbers.contains_key(&key) {
            return Ok(());
        }
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let number = match inotify::add_watch(&self.queue, path, MASK) {
            Ok(number) => number,
            Err(Errno::NOSPC) => return Err(WatchError::Limit),
            Err(error) => return Err(WatchError::Refused(error.into())),
        };
        watches.numbers.insert(key, number);
        watches.keys.entry(number).or_default().push(key);
        Ok(())
    }

    fn unwatch(&self, key: WatchKey) {
        let mut watches = self.watches.lock();
        let Some(number) = watches.numbers.remove(&key) else { return };
        let Some(keys) = watches.keys.get_mut(&number) else { return };
        keys.retain(|other| *other != key);
        if keys.is_empty() {
            watches.keys.remove(&number);
            // It may have ended by itself a moment ago.
            _ = inotify::remove_watch(&self.queue, number);
        }
    }

    fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Report>) -> io::Result<()> {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds =
            [PollFd::new(&self.queue, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[1].revents().is_empty() {
            match rustix::io::read(&self.wake, &mut [0; 8]) {
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if fds[0].revents().is_empty() { Ok(()) } else { self.drain(out) }
    }

    fn wake(&self) {
        // Fails only where the counter is full, and then the waiter is awake.
        _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::NodeId;
    use std::fs;
    use std::os::fd::AsFd;

    const DIR: WatchKey = WatchKey(NodeId(7));

    fn fresh() -> (tempfile::TempDir, Inotify, fs::File) {
        let dir = tempfile::tempdir().unwrap();
        let source = Inotify::new().unwrap();
        let fd = fs::File::open(dir.path()).unwrap();
        source.watch(DIR, fd.as_fd()).unwrap();
        (dir, source, fd)
    }

    type Told = (Kinds, Option<Box<[u8]>>, bool);

    fn hints(source: &Inotify) -> Vec<Told> {
        let mut out = Vec::new();
        source.wait(Some(Duration::from_secs(5)), &mut out).unwrap();
        let hint = |report| match report {
            Report::Hint(hint) => (hint.kinds, hint.name, hint.is_dir),
            other => panic!("{other:?}"),
        };
        out.into_iter().map(hint).collect()
    }

    #[test]
    fn what_happens_to_names_is_hinted_in_order() {
        let (dir, source, _fd) = fresh();
        fs::write(dir.path().join("f"), "x").unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::remove_file(dir.path().join("f")).unwrap();
        let name = |name: &str| Some(Box::from(name.as_bytes()));
        assert_eq!(
            hints(&source),
            [
                (Kinds::CREATE, name("f"), false),
                (Kinds::MODIFY, name("f"), false),
                (Kinds::CLOSE_WRITE, name("f"), false),
                (Kinds::CREATE, name("d"), true),
                (Kinds::DELETE, name("f"), false),
            ]
        );
    }

    #[test]
    fn both_halves_of_a_rename_have_one_cookie() {
        let (dir, source, _fd) = fresh();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        let mut out = Vec::new();
        source.wait(None, &mut out).unwrap();
        let cookies: Vec<u32> = out
            .iter()
            .filter_map(|report| match report {
                Report::Hint(hint) => Some(hint.cookie),
                _ => None,
            })
            .collect();
        assert!(matches!(cookies[..], [0, a, b] if a == b && a != 0), "{cookies:?}");
    }

    #[test]
    fn a_directory_under_two_keys_is_hinted_twice() {
        let (dir, source, fd) = fresh();
        source.watch(WatchKey(NodeId(8)), fd.as_fd()).unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        assert_eq!(hints(&source).len(), 2);
        source.unwatch(DIR);
        fs::create_dir(dir.path().join("b")).unwrap();
        assert_eq!(hints(&source).len(), 1);
    }

    #[test]
    fn a_removed_directory_ends_its_watch() {
        let (dir, source, fd) = fresh();
        drop(fd);
        dir.close().unwrap();
        let mut out = Vec::new();
        source.wait(None, &mut out).unwrap();
        assert_eq!(out.last(), Some(&Report::Ended(DIR)));
    }

    #[test]
    fn waking_ends_a_wait_without_reports() {
        let (_dir, source, _fd) = fresh();
        source.wake();
        let mut out = Vec::new();
        source.wait(None, &mut out).unwrap();
        assert!(out.is_empty());
    }
}
