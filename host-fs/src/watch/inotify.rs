//! Hints from Linux's inotify: one instance for a session, one watch for each directory.
//!
//! A directory is watched through `/proc/self/fd/N` of its descriptor, so that no path of the host
//! matters. The same directory may be known under several keys (exports that overlap); the kernel
//! has one watch for it and each key gets its hints.
//!
//! Lock order: `watches` alone. It is held while a watch is added, so that a report of a new watch
//! always finds its key.

use super::{Doer, Hint, Kinds, Report, WatchError, WatchKey};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Bytes read at once: some hundreds of hints.
const BUFFER: usize = 32 * 1024;

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
            watches: Mutex::default(),
        })
    }

    /// Watches a directory from now on.
    ///
    /// # Errors
    /// It is not watched.
    pub fn watch(&self, key: WatchKey, dir: BorrowedFd<'_>) -> Result<(), WatchError> {
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

    /// Watches it no longer.
    pub fn unwatch(&self, key: WatchKey) {
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

    /// Directories with a watch that they share with no other key.
    pub fn limited(&self) -> Vec<WatchKey> {
        let watches = self.watches.lock();
        let alone = |keys: &Vec<WatchKey>| if let [key] = **keys { Some(key) } else { None };
        watches.keys.values().filter_map(alone).collect()
    }

    /// Becomes readable when there is something to [`drain`](Self::drain).
    pub fn queue(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// Takes what the kernel has queued, until `most` reports are there.
    ///
    /// # Errors
    /// The instance is beyond repair.
    pub fn drain(&self, most: usize, out: &mut Vec<Report>) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        loop {
            if out.len() >= most && reader.is_buffer_empty() {
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
