//! What is done on the host: one change of each kind, and a load of mixed changes at a fixed pace.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode};

use super::watcher::{Event, Expected, Watcher};

/// Files that the load changes in turn. A file's changes are so many changes apart: only if events
/// are held up for longer can the next change swallow the one before, and that counts as a loss too.
const LOAD_FILES: u32 = 1000;

/// A kind of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// `open(O_CREAT)`, `close`.
    Create,
    /// `mknod`: one system call, and one event.
    Make,
    MkDir,
    SymLink,
    /// `open`, an append of some bytes, `close`.
    Modify,
    /// `chmod`.
    Attrib,
    Rename,
    Delete,
    RmDir,
    /// As editors do: a file beside it is written, and renamed over it.
    Save,
    /// `open(O_CREAT)`, a write, `close`: as `git checkout` and `tar` make files.
    Written,
}

impl Act {
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create file",
            Self::Make => "create file (mknod)",
            Self::MkDir => "mkdir",
            Self::SymLink => "symlink",
            Self::Modify => "modify",
            Self::Attrib => "attrib",
            Self::Rename => "rename",
            Self::Delete => "delete file",
            Self::RmDir => "rmdir",
            Self::Save => "atomic save",
            Self::Written => "create and write file",
        }
    }

    /// What the watcher waits for.
    pub fn events(self) -> &'static [Event] {
        match self {
            Self::Create | Self::Make | Self::MkDir | Self::SymLink => &[Event::Create],
            Self::Modify => &[Event::Modify],
            Self::Attrib => &[Event::Attrib],
            Self::Rename | Self::Save => &[Event::MovedTo],
            Self::Delete | Self::RmDir => &[Event::Delete],
            Self::Written => &[Event::Create, Event::CloseWrite],
        }
    }

    pub fn expected(self, number: u32) -> impl Iterator<Item = Expected> {
        self.events().iter().map(move |&event| Expected { number, event })
    }

    /// What has to be there before.
    pub fn before(self) -> Option<Self> {
        match self {
            Self::Modify | Self::Attrib | Self::Rename | Self::Delete | Self::Save => {
                Some(Self::Create)
            }
            Self::RmDir => Some(Self::MkDir),
            _ => None,
        }
    }

    /// Does it to the file of this number.
    pub fn perform(self, dir: &Path, number: u32) -> io::Result<()> {
        let file = path(dir, number);
        match self {
            Self::Create => File::create_new(file).map(drop),
            Self::Make => {
                let mode = Mode::from_raw_mode(0o644);
                rustix::fs::mknodat(CWD, file, FileType::RegularFile, mode, 0).map_err(Into::into)
            }
            Self::MkDir => fs::create_dir(file),
            Self::SymLink => symlink("target", file),
            Self::Modify => OpenOptions::new().append(true).open(file)?.write_all(b"a line more\n"),
            Self::Attrib => fs::set_permissions(file, Permissions::from_mode(0o600)),
            Self::Rename => fs::rename(file, renamed(dir, number)),
            Self::Delete => fs::remove_file(file),
            Self::RmDir => fs::remove_dir(file),
            Self::Save => {
                let beside = dir.join(format!(".{number}.tmp"));
                fs::write(&beside, "the new content\n")?;
                fs::rename(beside, file)
            }
            Self::Written => File::create_new(file)?.write_all(b"the content\n"),
        }
    }
}

fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("f-{number}"))
}

fn renamed(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("r-{number}"))
}

/// Numbers that no file has had.
#[derive(Default)]
pub struct Numbers(AtomicU32);

impl Numbers {
    pub fn take(&self, count: u32) -> std::ops::Range<u32> {
        let first = self.0.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }
}

/// Changes of mixed kinds at a fixed pace, while a measurement runs beside it.
pub struct Load<'a> {
    pub dir: &'a Path,
    pub watcher: &'a Watcher,
    pub numbers: &'a Numbers,
    pub per_second: u32,
}

/// What a load did.
#[derive(Clone, Copy)]
pub struct Done {
    pub changes: u32,
    pub time: Duration,
}

impl Load<'_> {
    /// Runs `measure` under the load.
    pub fn during<T>(&self, measure: impl FnOnce() -> T) -> io::Result<(T, Done)> {
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| self.run(&ended));
            let measured = measure();
            ended.store(true, Ordering::Relaxed);
            let done = load.join().map_err(|_| io::Error::other("the load panicked"))??;
            Ok((measured, done))
        })
    }

    fn run(&self, ended: &AtomicBool) -> io::Result<Done> {
        let start = Instant::now();
        let step = Duration::from_secs(1) / self.per_second;
        let mut lives: Vec<_> = (0..LOAD_FILES).map(|_| Life::new(self.numbers)).collect();
        // At first the files are brought to different points of their lives, so that the kinds are
        // mixed from then on.
        let files = lives.len();
        let early = (1..Life::ACTS.len())
            .flat_map(move |act| (0..files).filter(move |index| index % Life::ACTS.len() >= act));
        let mut turns = early.chain((0..files).cycle());
        let mut changes = 0;
        while let (false, Some(index)) = (ended.load(Ordering::Relaxed), turns.next()) {
            let due = start + step * changes;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            lives[index].go_on(self)?;
            changes += 1;
        }
        Ok(Done { changes, time: start.elapsed() })
    }
}

/// A file from its beginning to its end, and then another one.
struct Life {
    number: u32,
    next: usize,
}

impl Life {
    const ACTS: [Act; 5] = [Act::Create, Act::Modify, Act::Attrib, Act::Rename, Act::Delete];

    fn new(numbers: &Numbers) -> Self {
        Self { number: numbers.take(1).start, next: 0 }
    }

    fn go_on(&mut self, load: &Load<'_>) -> io::Result<()> {
        let act = Self::ACTS[self.next];
        load.watcher.expect(act.expected(self.number));
        match act {
            Act::Delete => fs::remove_file(renamed(load.dir, self.number))?,
            act => act.perform(load.dir, self.number)?,
        }
        self.next += 1;
        if self.next == Self::ACTS.len() {
            *self = Self::new(load.numbers);
        }
        Ok(())
    }
}
