//! `cargo xtask bench growth`: whether time per file and memory per node stay the same as a tree grows,
//! what a very large directory costs, and how requests that are in flight together scale.
//!
//! | file | job |
//! | --- | --- |
//! | `tree` | trees of a size, made on the host |
//! | `work` | what is done on the mount, and how long each piece takes |
//! | `report` | the page, and the budgets |
//!
//! A file is cheap, and what disturbs the machine is not: so every time is that which a tenth of many
//! small pieces of one kind, each of them a directory or a file, stayed below. Each size has a mount of its own, so that
//! what a process needs is what this size needs.

mod report;
mod tree;
mod work;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::report::{InFlight, Large, Report, Size};
use self::tree::{Tree, fill_large};
use self::work::Work;
use super::environment::Environment;
use super::measured_program;
use super::share::{Shape, Share};
use crate::command::workspace;

/// The shapes that promise something. The bare folder is measured beside them.
const PROMISING: [Shape; 2] = [Shape::Embedded, Shape::UnixSocket];
/// Requests in flight together.
const IN_FLIGHT: [usize; 3] = [1, 8, 64];
/// Files of the tree on which they are made.
const FILES_IN_FLIGHT: usize = 10_000;

#[derive(clap::Args)]
pub struct Options {
    /// Files in the trees, from the smallest to the largest
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    files: Vec<usize>,
    /// Entries of the large directory
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    entries: usize,
    /// Write the page into this folder [default: docs/bench, if the sizes are not changed]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Succeed also if a budget is missed
    #[arg(long)]
    report_only: bool,
    /// Measure this program instead of building one
    #[arg(long, value_name = "PROGRAM")]
    osxfs: Option<PathBuf>,
    /// Where the folders are made: in memory, so that no disk is measured
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    dir: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    let program = measured_program(options.osxfs.as_deref())?;
    let mut report = Report::new(Environment::of(&program, &options.dir), options.entries);
    for shape in Shape::ALL {
        for &files in &options.files {
            eprintln!("bench: {}, {files} files", shape.name());
            let size = size(shape, files, &program, &options.dir);
            report.sizes.push(size.with_context(|| format!("{}, {files} files", shape.name()))?);
        }
        eprintln!("bench: {}, a directory of {} entries", shape.name(), options.entries);
        report.large.push(large(shape, options.entries, &program, &options.dir)?);
        eprintln!("bench: {}, requests in flight", shape.name());
        report.in_flight.extend(in_flight(shape, &program, &options.dir)?);
    }
    println!("{report}");
    let default = || (options.files.len() == 3).then(|| workspace().join("docs/bench"));
    if let Some(folder) = options.out.clone().or_else(default) {
        fs::create_dir_all(&folder)?;
        let page = format!("# Growth\n\nWritten by `cargo xtask bench growth`.\n\n{report}");
        fs::write(folder.join("growth.md"), page)?;
    }
    let missed = report.missed();
    if missed > 0 && !options.report_only {
        bail!("{missed} budgets are missed");
    }
    Ok(())
}

/// Everything about one size: the tree is walked, so that the guest knows all of it, then files are
/// used, made and removed.
fn size(shape: Shape, files: usize, program: &Path, dir: &Path) -> Result<Size> {
    let mut share = Share::bare(dir)?;
    let tree = Tree::fill(share.host_path(), files)?;
    share.mount(shape, program)?;
    let before = share.memory()?;
    let work = Work::new(share.mount_path());
    let walk = work.walk(&tree)?;
    let after = share.memory()?;
    let memory = before.iter().zip(&after).map(|((name, before), (_, after))| {
        let nodes = (files + tree.directories()) as f64;
        (*name, after.saturating_sub(*before) as f64 / nodes)
    });
    Ok(Size {
        shape,
        files,
        memory: memory.collect(),
        walk,
        open: work.open(&tree)?,
        open_anywhere: work.open_anywhere(&tree)?,
        create: work.create()?,
        remove: work.remove()?,
    })
}

fn large(shape: Shape, entries: usize, program: &Path, dir: &Path) -> Result<Large> {
    let mut share = Share::bare(dir)?;
    fill_large(share.host_path(), entries)?;
    share.mount(shape, program)?;
    Work::new(share.mount_path()).large(shape)
}

fn in_flight(shape: Shape, program: &Path, dir: &Path) -> Result<Vec<InFlight>> {
    let mut share = Share::bare(dir)?;
    let tree = Tree::fill(share.host_path(), FILES_IN_FLIGHT)?;
    share.mount(shape, program)?;
    let work = Work::new(share.mount_path());
    work.walk(&tree)?;
    IN_FLIGHT.into_iter().map(|threads| work.in_flight(shape, &tree, threads)).collect()
}
