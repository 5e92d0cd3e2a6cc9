//! A watcher that believes what it is told: it watches a tree as chokidar and watchman do, looks
//! only where an event sends it, and holds what it has seen. If at rest its picture is not the
//! tree, something was lost, or what it read when it was woken was old.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::fs::inotify::ReadFlags;

use super::watcher::{Event, Watcher};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its size, and a sum over its beginning and end.
    File(u64, u64),
    Folder,
    Link(PathBuf),
    Other,
}

/// What is where, by the path below the root.
pub type Picture = BTreeMap<PathBuf, Seen>;

/// A thread that mirrors a tree until it is dropped.
pub struct Mirror {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    picture: Mutex<Picture>,
    over: AtomicBool,
    ready: AtomicBool,
    heard: AtomicU64,
    looked: AtomicU64,
    /// What was told of each path, and what was seen there then: for whoever reads a failure.
    history: Mutex<HashMap<PathBuf, Vec<String>>>,
    overflows: AtomicU64,
}

impl Mirror {
    /// Looks at the whole tree once, and returns when that is done.
    #[track_caller]
    pub fn of(root: &Path) -> Self {
        let shared = Arc::new(Shared::default());
        let mut work = Work {
            watcher: Watcher::new(),
            root: root.to_owned(),
            watched: HashMap::new(),
            watches: BTreeMap::new(),
            shared: shared.clone(),
        };
        // Deep trees are walked by recursion.
        let builder = std::thread::Builder::new().stack_size(64 << 20);
        let thread = builder.spawn(move || work.run()).expect("a thread");
        let mirror = Self { shared, thread: Some(thread) };
        let ready = || mirror.shared.ready.load(Ordering::Acquire);
        super::eventually("the mirror has looked around", Duration::from_secs(120), ready);
        mirror
    }

    pub fn picture(&self) -> Picture {
        self.shared.picture.lock().expect("the picture").clone()
    }

    /// Events so far.
    pub fn heard(&self) -> u64 {
        self.shared.heard.load(Ordering::Relaxed)
    }

    /// How often the kernel gave up on this watcher, and it had to look around again.
    pub fn overflows(&self) -> u64 {
        self.shared.overflows.load(Ordering::Relaxed)
    }

    /// Waits until the mirror shows this tree; what differs if it never does. While it is at work, it
    /// is not late.
    pub fn shows(&self, tree: &Path, limit: Duration) -> Result<(), String> {
        let work = || self.heard() + self.shared.looked.load(Ordering::Relaxed);
        let mut deadline = Instant::now() + limit;
        let mut done = work();
        loop {
            let expected = look(tree);
            let found = self.picture();
            if expected == found {
                return Ok(());
            }
            if work() != done {
                (done, deadline) = (work(), Instant::now() + limit);
            }
            if Instant::now() > deadline {
                return Err(self.explain(&expected, &found));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The differences, and what the watcher was told of those paths.
    fn explain(&self, expected: &Picture, found: &Picture) -> String {
        let mut text = differences(expected, found);
        let history = self.shared.history.lock().expect("the history");
        let above = differ(expected, found).next().into_iter().flat_map(|path| path.ancestors());
        for path in above.chain(differ(expected, found).take(10).map(PathBuf::as_path)) {
            let told = history.get(path).map_or(&[][..], Vec::as_slice);
            let _ = write!(text, "\nthe watcher on {}: {told:?}", path.display());
        }
        text
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        // Not waited for where a test has failed: it may hang on the mount.
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            let _ = thread.join();
        }
    }
}

struct Work {
    watcher: Watcher,
    root: PathBuf,
    watched: HashMap<i32, PathBuf>,
    watches: BTreeMap<PathBuf, i32>,
    shared: Arc<Shared>,
}

impl Work {
    fn run(&mut self) {
        self.enter(Path::new(""));
        self.shared.ready.store(true, Ordering::Release);
        while !self.shared.over.load(Ordering::Acquire) {
            for event in self.watcher.wait(Duration::from_millis(50)) {
                self.hear(&event);
                self.shared.heard.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        let what = event.what;
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.shared.overflows.fetch_add(1, Ordering::Relaxed);
            return self.enter_anew(Path::new(""));
        }
        let Some(folder) = self.watched.get(&event.watch).cloned() else { return };
        if what.contains(ReadFlags::IGNORED) {
            self.watched.remove(&event.watch);
            if self.watches.get(&folder) == Some(&event.watch) {
                self.watches.remove(&folder);
            }
            // What is watched as a whole is looked for again where it was.
            if folder.as_os_str().is_empty() {
                self.enter_anew(&folder);
            }
            return;
        }
        // To the kernel the root of a mount is its own parent, in which it is called `/`.
        let Some(name) = event.name.as_ref().filter(|name| *name != b"/") else { return };
        let path = folder.join(std::ffi::OsStr::from_bytes(name));
        self.record(&path, what.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|"));
        if what.contains(ReadFlags::MOVED_FROM) {
            // Of an exchange the kernel tells what came to a name before it tells what went.
            self.enter_anew(&path);
        } else if what.contains(ReadFlags::DELETE) {
            self.leave(&path);
        } else if what.contains(ReadFlags::ISDIR)
            && what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
        {
            self.enter_anew(&path);
        } else {
            self.see(&path);
        }
    }

    /// Forgets what it knows of a path and looks again.
    fn enter_anew(&mut self, path: &Path) {
        self.leave(path);
        self.see(path);
    }

    /// Watches a folder, then lists it.
    fn enter(&mut self, folder: &Path) {
        let full = self.root.join(folder);
        let watch = match self.watcher.watch(&full) {
            Ok(watch) => watch,
            Err(errno) => return self.record(folder, format!("not watched: {errno}")),
        };
        if let Some(before) = self.watched.insert(watch, folder.to_owned())
            && before != folder
        {
            self.watches.remove(&before);
        }
        self.watches.insert(folder.to_owned(), watch);
        let Ok(entries) = fs::read_dir(&full) else { return };
        for entry in entries.flatten() {
            self.see(&folder.join(entry.file_name()));
        }
    }

    /// Looks at a path, and into it if it is a folder not known yet.
    fn see(&mut self, path: &Path) {
        let seen = look_at(&self.root.join(path));
        self.shared.looked.fetch_add(1, Ordering::Relaxed);
        self.record(path, format!("saw {seen:?}"));
        let is_root = path.as_os_str().is_empty();
        let known = self.picture(|picture| match &seen {
            _ if is_root => None,
            Some(seen) => picture.insert(path.to_owned(), seen.clone()),
            None => picture.remove(path),
        });
        if seen == Some(Seen::Folder) && (known != seen || !self.watches.contains_key(path)) {
            self.enter(path);
        }
    }

    /// Forgets a path and what is below it.
    fn leave(&mut self, path: &Path) {
        self.picture(|picture| remove_below(picture, path));
        for (_, watch) in remove_below(&mut self.watches, path) {
            self.watched.remove(&watch);
            self.watcher.unwatch(watch);
        }
    }

    fn record(&self, path: &Path, line: String) {
        let mut history = self.shared.history.lock().expect("the history");
        history.entry(path.to_owned()).or_default().push(line);
    }

    fn picture<T>(&self, act: impl FnOnce(&mut Picture) -> T) -> T {
        act(&mut self.shared.picture.lock().expect("the picture"))
    }
}

fn remove_below<T>(map: &mut BTreeMap<PathBuf, T>, path: &Path) -> Vec<(PathBuf, T)> {
    let below = map.range(path.to_owned()..).map(|(key, _)| key.clone());
    let below: Vec<_> = below.take_while(|key| key.starts_with(path)).collect();
    below.into_iter().filter_map(|key| map.remove_entry(&key)).collect()
}

/// A whole tree as it is now.
pub fn look(root: &Path) -> Picture {
    let mut picture = Picture::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            if let Some(seen) = look_at(&root.join(&path)) {
                if seen == Seen::Folder {
                    folders.push(path.clone());
                }
                picture.insert(path, seen);
            }
        }
    }
    picture
}

fn look_at(path: &Path) -> Option<Seen> {
    let found = fs::symlink_metadata(path).ok()?;
    let kind = found.file_type();
    if kind.is_dir() {
        Some(Seen::Folder)
    } else if kind.is_symlink() {
        Some(Seen::Link(fs::read_link(path).ok()?))
    } else if kind.is_file() {
        sum(path).map(|(size, sum)| Seen::File(size, sum)).ok()
    } else {
        Some(Seen::Other)
    }
}

fn sum(path: &Path) -> std::io::Result<(u64, u64)> {
    const PIECE: u64 = 100_000;
    // It may have become a fifo, at which nobody is to wait.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut buffer = Vec::new();
    if !file.metadata()?.is_file() {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    (&mut file).take(PIECE).read_to_end(&mut buffer)?;
    let size = file.metadata()?.len();
    if size > PIECE {
        file.seek(SeekFrom::Start(PIECE.max(size.saturating_sub(PIECE))))?;
        file.take(PIECE).read_to_end(&mut buffer)?;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&buffer);
    Ok((size, hasher.finish()))
}

/// Where two pictures differ.
fn differ<'a>(one: &'a Picture, other: &'a Picture) -> impl Iterator<Item = &'a PathBuf> {
    let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
    keys.filter(|key| one.get(*key) != other.get(*key))
}

/// The first differences of two pictures, and how many there are.
pub fn differences(expected: &Picture, found: &Picture) -> String {
    let lines = differ(expected, found).take(10).map(|key| {
        let (expected, found) = (expected.get(key), found.get(key));
        format!("\n  {}: expected {expected:?}, found {found:?}", key.display())
    });
    let number = differ(expected, found).count();
    format!("{number} of {} differ:{}", expected.len(), lines.collect::<String>())
}
