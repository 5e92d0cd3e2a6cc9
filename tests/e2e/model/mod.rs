//! The same random operations on a local folder and on a mount give the same results, the same
//! errno and the same trees.
//!
//! Names come from a tiny alphabet, so that operations meet: renames over folders, links to what
//! is open, files where folders were. A second mode lets the host work on the folder in between.
//! A failure prints its seed and the fewest operations that still fail. By hand:
//! `OSXFS_MODEL_SECONDS=600 OSXFS_MODEL_SEED=1 cargo test --release --test e2e model::`.

mod operations;
mod side;

use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use operations::{Op, Step, generate};
use rustix::fs::{self as sys, Mode, OFlags};
use rustix::io::Errno;
use side::{Side, tree};

use crate::support::{Mirror, PROMPT, Shape, Share, eventually, holds_within, on_each_shape};

on_each_shape!(together:
    a_mount_is_like_a_local_folder,
    host_and_guest_work_on_one_folder,
    host_and_guest_work_and_a_watcher_follows,
    a_folder_that_the_host_moves_out_of_sight_is_whole_where_it_is_found,
);

const MODES: [&str; 3] = ["consistent", "cached", "delegated"];
/// Seeds that are tried unless a time is given.
const SEEDS: usize = 3;
/// Operations of one run, and after how many whole trees are compared.
const OPS: usize = 400;
const EVERY: usize = 25;
/// How long the sides may differ: the promise is one second, the machine may be busy.
const SETTLES: Duration = Duration::from_secs(4);

fn a_mount_is_like_a_local_folder(shape: Shape) {
    for mode in MODES {
        explore(shape, mode, Play::Guest);
    }
}

fn host_and_guest_work_on_one_folder(shape: Shape) {
    for mode in ["consistent", "cached"] {
        explore(shape, mode, Play::Both);
    }
}

fn host_and_guest_work_and_a_watcher_follows(shape: Shape) {
    for mode in ["consistent", "cached"] {
        explore(shape, mode, Play::Followed);
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Play {
    Guest,
    Both,
    /// Both, and a watcher in the guest.
    Followed,
}

/// For its watchers it was removed, in the guest's kernel as well; not so its object.
fn a_folder_that_the_host_moves_out_of_sight_is_whole_where_it_is_found(shape: Shape) {
    let share = shape.mounted();
    let (old, new) = (share.mount().join("old"), share.mount().join("hidden/deep/new"));
    fs::create_dir(&old).expect("a folder");
    fs::write(old.join("file"), "x").expect("a file");
    fs::create_dir_all(share.host().join("hidden/deep")).expect("folders");
    let held = fs::File::open(&old).expect("the folder");
    fs::rename(share.host().join("old"), share.host().join("hidden/deep/new")).expect("a rename");
    eventually("the old name is gone", PROMPT, || !old.exists());
    // Its event has been injected by then.
    std::thread::sleep(Duration::from_millis(300));
    let names = || fs::read_dir(&new).map_or(0, Iterator::count);
    assert_eq!(names(), 1, "entries of the folder where it is now");
    fs::write(new.join("another"), "y").expect("a file in the folder where it is now");
    drop(held);
}

fn explore(shape: Shape, mode: &str, play: Play) {
    if let Ok(only) = std::env::var("OSXFS_MODEL_MODE")
        && only != mode
    {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("OSXFS_MODEL_SECONDS");
    let share = shape.share().consistency(mode).patience(Duration::from_secs(100_000)).start();
    let twin = share.scratch().dir("twin");
    let mut bench = Bench { share, twin, runs: 0, play, delegated: mode == "delegated" };
    let host_works = play != Play::Guest;
    let ops = if host_works { OPS / 4 } else { OPS };
    let first = number("OSXFS_MODEL_SEED").unwrap_or(1);
    let start = Instant::now();
    for (tried, seed) in (first..).enumerate() {
        let enough = match seconds {
            Some(seconds) => start.elapsed() > Duration::from_secs(seconds),
            None => tried == SEEDS,
        };
        if enough {
            eprintln!("{shape:?} {mode}, {play:?}: {tried} seeds");
            break;
        }
        let mut steps = generate(seed, ops, host_works);
        if play == Play::Followed {
            keep_told(&mut steps);
        }
        if let Err(first) = bench.run(&steps, EVERY) {
            let (steps, why) = bench.shorten(steps, first);
            let list: String = steps.iter().fold(String::new(), |mut list, step| {
                let _ = writeln!(list, "  {step:?}");
                list
            });
            panic!("{shape:?} {mode}, {play:?}, seed {seed}, after\n{list}{why}");
        }
    }
}

struct Bench {
    share: Share,
    /// Where the local folders lie, which `..` may reach.
    twin: PathBuf,
    runs: usize,
    play: Play,
    delegated: bool,
}

/// Keeps what inotify tells a watcher of a folder. Not a write through a mapping, nor one through
/// another of the file's names; nor, for certain, one to a file that may have been opened before the
/// host renamed it (README, Limits).
fn keep_told(steps: &mut Vec<Step>) {
    let mut renamed = false;
    steps.retain(|step| {
        renamed |= step.by_host && matches!(step.op, Op::Rename { .. });
        match step.op {
            Op::Map { write: Some(_), .. } | Op::Link { .. } | Op::LinkOpen { .. } => false,
            Op::Write { .. } | Op::Resize { .. } | Op::Allocate { .. } | Op::Copy { .. } => {
                !renamed
            }
            _ => true,
        }
    });
}

impl Bench {
    /// Runs the steps on both sides. On a difference: the number of steps until it showed, and why.
    fn run(&mut self, steps: &[Step], every: usize) -> Result<(), (usize, String)> {
        self.runs += 1;
        let name = format!("run-{}", self.runs);
        let twin_path = self.twin.join(&name);
        let host_path = self.share.host().join(&name);
        let mount_path = self.share.mount().join(&name);
        fs::create_dir(&twin_path).expect("a local folder");
        fs::create_dir(&mount_path).expect("a folder of the mount");
        let result = {
            let mut guest = Side::new(mount_path.clone());
            let mut host = Side::new(host_path.clone());
            // Both are played on the twin; what the guest holds open, the host does not.
            let mut twin = Side::new(twin_path.clone());
            let host_works = steps.iter().any(|step| step.by_host);
            let mirror = (self.play == Play::Followed).then(|| Mirror::of(&mount_path));
            let check = |count: usize| {
                let same = || difference(&twin_path, &host_path, &mount_path, host_works);
                let mut last = None;
                let settles = if host_works || self.delegated { SETTLES } else { Duration::ZERO };
                let agree = holds_within(settles, || {
                    if self.delegated {
                        let _ = sys::syncfs(guest_root(&mount_path));
                    }
                    last = same();
                    last.is_none()
                });
                if !agree {
                    return Err((count, last.unwrap_or_default()));
                }
                let follows = mirror.as_ref().map_or(Ok(()), |m| m.shows(&host_path, SETTLES));
                follows.map_err(|differ| (count, format!("the watcher's picture: {differ}")))
            };
            let mut walk = || {
                for (index, step) in steps.iter().enumerate() {
                    let (there, here) = if step.by_host {
                        (host.apply(&step.op), twin.apply(&step.op))
                    } else {
                        (guest.apply(&step.op), twin.apply(&step.op))
                    };
                    // An object that the host removed, or a file of which only `O_PATH` is left, cannot
                    // be reached any more, as on any network file system.
                    if there == Err(Errno::STALE) && twin.holds_a_removed_object() {
                        guest.slots = Default::default();
                        twin.slots = Default::default();
                        continue;
                    }
                    // What the host removed is in no tree, so nothing has waited for it yet.
                    let later = host_works
                        && matches!(step.op, Op::StatOpen { .. })
                        && holds_within(SETTLES, || guest.apply(&step.op) == here);
                    if there != here && !later {
                        let why = format!("local folder: {here:?}\nmount:        {there:?}");
                        return Err((index + 1, why));
                    }
                    if step.by_host || (index + 1) % every == 0 {
                        check(index + 1)?;
                    }
                }
                check(steps.len())
            };
            walk()
        };
        for path in [&host_path, &twin_path] {
            let _ = fs::remove_dir_all(path);
        }
        result
    }

    /// Drops what is not needed to fail.
    fn shorten(&mut self, steps: Vec<Step>, first: (usize, String)) -> (Vec<Step>, String) {
        let (mut steps, mut why) = (steps, first);
        steps.truncate(why.0);
        let limit = Instant::now() + Duration::from_secs(60);
        let mut chunk = steps.len() / 2;
        while chunk > 0 && Instant::now() < limit {
            let mut from = 0;
            while from < steps.len() && Instant::now() < limit {
                let mut fewer = steps.clone();
                fewer.drain(from..(from + chunk).min(steps.len()));
                match self.run(&fewer, EVERY) {
                    Err(again) => {
                        fewer.truncate(again.0);
                        (steps, why) = (fewer, again);
                    }
                    Ok(()) => from += chunk,
                }
            }
            chunk /= 2;
        }
        (steps, why.1)
    }
}

fn guest_root(mount: &Path) -> OwnedFd {
    sys::open(mount, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("the mount")
}

/// The first difference between the three trees.
fn difference(twin: &Path, host: &Path, mount: &Path, probe: bool) -> Option<String> {
    let (expected, host) = (tree(twin, false), tree(host, false));
    let mount = tree(mount, probe);
    for (name, found) in [("the host's folder", &host), ("the mount", &mount)] {
        let keys = expected.keys().chain(found.keys());
        for key in keys {
            let (here, there) = (expected.get(key), found.get(key));
            if here != there {
                return Some(format!("{key}\nlocal folder: {here:?}\n{name}: {there:?}"));
            }
        }
    }
    None
}
