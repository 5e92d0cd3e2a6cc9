//! `cargo xtask bench profile`: what the processors do while rows of `bench fs` are measured on osxfs, as
//! flame graphs and tables: where a row that misses its budget spends its time.
//!
//! ```text
//! step of bench fs ── Meter ── perf record (all processors, only while it is measured)
//!                                 └── perf script → folded stacks → table, flame graph
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options as FolderOptions};
use inferno::flamegraph;
use rustix::process::{Pid, Signal, kill_process};

use super::environment::Environment;
use super::fs::contest::System;
use super::fs::here::Running;
use super::fs::material::{Sizes, Template};
use super::fs::measure::Meter;
use super::fs::peers;
use super::fs::rows::Row;
use super::fs::steps::{STEPS, Step};
use super::table::Table;
use crate::command::{cargo, execute, target_dir, workspace};
use crate::setup::{Probe, provide};

/// Samples a second of each processor: not in step with anything.
const FREQUENCY: &str = "1997";
/// Where the processors spend what nobody wants, and who looks.
const NOBODY: [&str; 2] = ["swapper", "perf"];
/// The least share of all samples that is told, in percent.
const WORTH_TELLING: f64 = 2.0;

#[derive(clap::Args)]
pub struct Options {
    /// Rows with these names
    #[arg(long, value_name = "ROW", default_values = ["create the tree", "`grep -r`, warm", "`git checkout`"])]
    rows: Vec<String>,
    /// Over a unix socket, and not in one process
    #[arg(long)]
    unix_socket: bool,
    /// Smaller trees
    #[arg(long)]
    quick: bool,
    /// Write the page and the pictures into this folder
    #[arg(long, value_name = "DIR", default_value_os_t = workspace().join("docs/bench"))]
    out: PathBuf,
    /// Where the folders are made: on a disk
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    let rows = options.rows.iter().map(|name| {
        let row = Row::ALL.iter().find(|row| row.name() == name);
        row.copied().with_context(|| format!("there is no row {name:?}; `bench fs` lists them"))
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    provide(&[("linux-perf", Probe::Program("perf"))])?;
    let (peers, program) = (peers::obtain()?, program()?);
    let sizes = if options.quick { Sizes::QUICK } else { Sizes::FULL };
    let template = Template::make(sizes, &options.dir)?;
    let system = if options.unix_socket { System::UnixSocket } else { System::Embedded };
    fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    let mut page = format!(
        "# Where the time goes\n\nWritten by `cargo xtask bench profile`.\n\n{}.\n\n\
         Rows of [`bench fs`](fs.md) on {}, {}; all processors are looked at {FREQUENCY} times a second \
         while a row is measured, by `perf`. What is idle is left out.\n",
        Environment::of(&program, &options.dir).line(),
        system.name(),
        sizes.line(),
    );
    let fill = |folder: &Path| template.copy_to(folder);
    let running = Running::start(system, &options.dir, &program, &peers, fill)?;
    let work = tempfile::tempdir()?;
    for row in rows {
        eprintln!("bench: {}", row.name());
        let step = STEPS.iter().find(|step| step.rows.contains(&row)).context("a step of it")?;
        let data = work.path().join("perf.data");
        measure(&running, step, row, &template, &data)?;
        let stacks = Stacks::of(&data)?;
        let file = format!("profile-{}.svg", file_name(row.name()));
        stacks.draw(&format!("{}, {}", row.name(), system.name()), &options.out.join(&file))?;
        page.push_str(&format!("\n## {}\n\n![flame graph]({file})\n\n{stacks}", row.name()));
    }
    let path = options.out.join("profile.md");
    fs::write(&path, page).with_context(|| path.display().to_string())?;
    println!("written: {}", path.display());
    Ok(())
}

/// An osxfs whose stacks can be walked, and that is the same otherwise.
fn program() -> Result<PathBuf> {
    let folder = target_dir().join("profile");
    let mut build = cargo(["build", "--release", "--package", "osxfs", "--target-dir"]);
    execute(build.arg(&folder).env("RUSTFLAGS", "-C force-frame-pointers=yes"))?;
    Ok(folder.join("release/osxfs"))
}

fn measure(
    running: &Running,
    step: &Step,
    row: Row,
    template: &Template,
    data: &Path,
) -> Result<()> {
    let begin = || Recording::begin(data);
    let mut meter = Meter::new(running).recording(row, &begin);
    (step.run)(&mut meter, &template.material)?;
    ensure!(data.is_file(), "{} was not measured", row.name());
    Ok(())
}

/// Letters, digits, and dashes between.
fn file_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// `perf` at work, until it is dropped.
pub struct Recording(Child);

impl Recording {
    fn begin(data: &Path) -> Result<Self> {
        let mut command = Command::new("perf");
        command.args(["record", "--all-cpus", "-g", "--freq", FREQUENCY, "--output"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("cannot start `perf`")?;
        // It does not say when it has begun.
        thread::sleep(Duration::from_millis(500));
        Ok(Self(child))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        _ = self.0.wait();
    }
}

/// Stacks, outermost frame first and `;` between, the thread's name before, and how often each was seen.
struct Stacks(BTreeMap<String, u64>);

impl Stacks {
    fn of(data: &Path) -> Result<Self> {
        let mut script = Command::new("perf");
        script.args(["script", "--input"]).arg(data).stdin(Stdio::null()).stderr(Stdio::null());
        let mut script = script.stdout(Stdio::piped()).spawn().context("cannot start `perf`")?;
        let output = BufReader::new(script.stdout.take().context("piped")?);
        let mut folded = Vec::new();
        Folder::from(FolderOptions::default()).collapse(output, &mut folded)?;
        let status = script.wait()?;
        if !status.success() {
            bail!("`perf script` failed: {status}");
        }
        let lines = std::str::from_utf8(&folded)?.lines();
        let stacks = lines.filter_map(|line| {
            let (stack, count) = line.rsplit_once(' ')?;
            let seen = !NOBODY.contains(&thread_of(stack));
            seen.then(|| Some((stack.to_owned(), count.parse().ok()?)))?
        });
        Ok(Self(stacks.collect()))
    }

    fn draw(&self, title: &str, path: &Path) -> Result<()> {
        let lines: Vec<_> =
            self.0.iter().map(|(stack, count)| format!("{stack} {count}")).collect();
        let mut options = flamegraph::Options::default();
        options.title = title.to_owned();
        options.min_width = 0.1;
        let file = File::create(path).with_context(|| path.display().to_string())?;
        flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), file)?;
        Ok(())
    }

    /// The share of each, of all samples, in percent; the greatest first.
    fn shares<'a>(&'a self, of: impl Fn(&'a str) -> &'a str) -> Vec<(&'a str, f64)> {
        let all: u64 = self.0.values().sum();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (stack, count) in &self.0 {
            *counts.entry(of(stack)).or_default() += count;
        }
        let share = |count: u64| 100.0 * count as f64 / all.max(1) as f64;
        let mut shares: Vec<_> = counts.into_iter().map(|(of, count)| (of, share(count))).collect();
        shares.retain(|(_, share)| *share >= WORTH_TELLING);
        shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        shares
    }
}

impl std::fmt::Display for Stacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (head, shares) in [
            ("thread", self.shares(thread_of)),
            ("function, without what it calls", self.shares(leaf_of)),
        ] {
            let mut table = Table::new([head, "% of the time"]);
            for (name, share) in shares {
                table.row([format!("`{name}`"), format!("{share:.1}")]);
            }
            writeln!(f, "{table}")?;
        }
        Ok(())
    }
}

fn thread_of(stack: &str) -> &str {
    stack.split(';').next().unwrap_or(stack)
}

fn leaf_of(stack: &str) -> &str {
    stack.rsplit(';').next().unwrap_or(stack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_samples_and_the_greatest_comes_first() {
        let stacks = [("git;main;write", 30), ("osxfs-fuse-0;work;write", 60), ("git;main;x", 9)];
        let all = stacks.iter().map(|(stack, count)| ((*stack).to_owned(), *count));
        let stacks = Stacks(all.chain([("rare;x".to_owned(), 1)]).collect());
        assert_eq!(stacks.shares(thread_of), [("osxfs-fuse-0", 60.0), ("git", 39.0)]);
        assert_eq!(stacks.shares(leaf_of), [("write", 90.0), ("x", 10.0)]);
    }

    #[test]
    fn rows_have_names_of_files() {
        assert_eq!(file_name("`grep -r`, warm"), "grep-r-warm");
        assert_eq!(file_name("create the tree"), "create-the-tree");
    }
}
