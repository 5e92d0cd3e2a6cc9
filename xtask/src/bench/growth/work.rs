//! What is done on a mount of a size, piece by piece.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::super::share::Shape;
use super::super::stats::percentile;
use super::report::{InFlight, Large};
use super::tree::{MANY, Tree, name};

/// Files that are opened, made and removed.
const SAMPLES: usize = 5_000;
/// Requests of all that are in flight together.
const REQUESTS: usize = 20_000;

/// Far from the one before, whatever their number.
const STRIDE: usize = 7_919;

pub struct Work {
    mount: PathBuf,
}

impl Work {
    pub fn new(mount: &Path) -> Self {
        Self { mount: mount.to_owned() }
    }

    /// Lists every directory and looks at every file, for the first time. The time a file.
    pub fn walk(&self, tree: &Tree) -> Result<Duration> {
        let mut times = Vec::new();
        for leaf in 0..tree.leaves() {
            let dir = self.mount.join(tree.leaf(leaf));
            let begun = Instant::now();
            let mut files = 0;
            for entry in fs::read_dir(dir)? {
                entry?.metadata()?;
                files += 1;
            }
            times.push(begun.elapsed() / files.max(1));
        }
        Ok(undisturbed(times))
    }

    /// Opens, reads and closes known files, as whoever goes through a part of the tree: directory by
    /// directory. The time of each.
    pub fn open(&self, tree: &Tree) -> Result<Duration> {
        self.open_in(tree, |number| number / MANY)
    }

    /// The same all over the tree, each time in another directory: nothing of it is in the caches of
    /// the processor.
    pub fn open_anywhere(&self, tree: &Tree) -> Result<Duration> {
        self.open_in(tree, |number| number * STRIDE)
    }

    fn open_in(&self, tree: &Tree, leaf: impl Fn(usize) -> usize) -> Result<Duration> {
        let mut content = Vec::new();
        each(SAMPLES, |number| {
            let leaf = self.mount.join(tree.leaf(leaf(number) % tree.leaves()));
            let file = leaf.join(name(number % MANY));
            timed(|| {
                content.clear();
                File::open(&file)?.read_to_end(&mut content)?;
                Ok(())
            })
        })
    }

    /// Makes files beside the tree, a hundred in each new directory. The time of each.
    pub fn create(&self) -> Result<Duration> {
        each(SAMPLES, |number| {
            let path = self.new_file(number);
            if number.is_multiple_of(MANY) {
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
            }
            timed(|| {
                let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
                file.write_all(&[b'x'; 1500])?;
                Ok(())
            })
        })
    }

    /// Removes them. The time of each.
    pub fn remove(&self) -> Result<Duration> {
        each(SAMPLES, |number| {
            let path = self.new_file(number);
            timed(|| Ok(fs::remove_file(&path)?))
        })
    }

    fn new_file(&self, number: usize) -> PathBuf {
        self.mount.join(format!("new/d{:03}", number / MANY)).join(name(number % MANY))
    }

    /// Lists the large directory, names alone and with attributes, and makes, opens and removes files
    /// in it.
    pub fn large(&self, shape: Shape) -> Result<Large> {
        let dir = self.mount.join("large");
        let begun = Instant::now();
        let entries = fs::read_dir(&dir)?.count();
        let names = begun.elapsed() / entries.max(1) as u32;
        let begun = Instant::now();
        for entry in fs::read_dir(&dir)? {
            entry?.metadata()?;
        }
        let attributes = begun.elapsed() / entries.max(1) as u32;
        let new = |number: usize| dir.join(format!("new-{number:06}"));
        let create = each(SAMPLES, |number| {
            let path = new(number);
            timed(|| Ok(fs::write(&path, b"x")?))
        })?;
        let open = each(SAMPLES, |number| {
            let path = dir.join(name(number * STRIDE % entries));
            timed(|| {
                fs::read(&path)?;
                Ok(())
            })
        })?;
        let remove = each(SAMPLES, |number| {
            let path = new(number);
            timed(|| Ok(fs::remove_file(&path)?))
        })?;
        Ok(Large { shape, names, attributes, create, open, remove })
    }

    /// So many threads ask the server for attributes of files all over the tree, and then make and
    /// remove files, each in a directory of its own.
    pub fn in_flight(&self, shape: Shape, tree: &Tree, threads: usize) -> Result<InFlight> {
        let files: Vec<PathBuf> = (0..REQUESTS)
            .map(|number| {
                let leaf = self.mount.join(tree.leaf(number * STRIDE % tree.leaves()));
                leaf.join(name(number % MANY))
            })
            .collect();
        let looks = together(threads, REQUESTS, |number, _| {
            // Past the kernel's cache: one request for each.
            let flags = AtFlags::STATX_FORCE_SYNC;
            statx(CWD, &files[number], flags, StatxFlags::BASIC_STATS)?;
            Ok(())
        })?;
        let dir = |thread: usize| self.mount.join(format!("by-{threads}/t{thread}"));
        (0..threads).try_for_each(|thread| fs::create_dir_all(dir(thread)))?;
        let creates = together(threads, REQUESTS / 4, |number, thread| {
            let path = dir(thread).join(name(number));
            fs::write(&path, b"x")?;
            Ok(fs::remove_file(path)?)
        })?;
        Ok(InFlight { shape, threads, looks, creates })
    }
}

/// Work that several threads share. How much is done in a second.
fn together(
    threads: usize,
    count: usize,
    work: impl Fn(usize, usize) -> Result<()> + Sync,
) -> Result<f64> {
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let run = |thread| -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            work(number, thread)?;
        }
    };
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let run = &run;
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let join = |handle: thread::ScopedJoinHandle<'_, _>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        handles.into_iter().map(join).collect()
    });
    let time = begun.elapsed();
    results.into_iter().collect::<Result<()>>()?;
    Ok(count as f64 / time.as_secs_f64())
}

/// Of so many.
fn each(count: usize, sample: impl FnMut(usize) -> Result<Duration>) -> Result<Duration> {
    Ok(undisturbed((0..count).map(sample).collect::<Result<_>>()?))
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// What a piece takes when nothing else happens: what disturbs the machine only adds, and on one that
/// others use as well it adds to most.
fn undisturbed(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    percentile(&times, 10)
}
