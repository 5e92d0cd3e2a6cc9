//! `cargo xtask bench fs`: how long file operations take on osxfs, on the local disk beneath it and on
//! other file systems of the same kind, whether the budgets hold, and what it costs.
//!
//! | file | job |
//! | --- | --- |
//! | `contest` | which file systems are compared, here and in a guest |
//! | `peers` | the other file systems of this machine, from the distribution |
//! | `here` | one of them over a folder of its own |
//! | `mounted` | what a measurement needs of a file system |
//! | `material` | what is worked on |
//! | `rows` | what is measured, and what is promised of it |
//! | `steps` | what is done for the rows |
//! | `measure` | cold, warm, one by one: time, requests, processor time |
//! | `results`, `report`, `plot` | medians and ratios; the page and the picture |
//!
//! All are mounted at once and do each step in turn, so that whatever disturbs the machine disturbs
//! all. Before each step everything is written out and the kernel's caches are dropped, those of the
//! mounts as well; warm rows then warm up what they need. `bench vm-fs` does the same in a guest.

pub mod contest;
pub mod here;
pub mod material;
pub mod measure;
pub mod mounted;
pub mod peers;
mod plot;
pub mod report;
mod results;
pub mod rows;
pub mod steps;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::contest::{Contest, HERE, System};
use self::here::Running;
use self::material::{Sizes, Template};
use self::measure::{Meter, Sample};
use self::report::Report;
use self::results::Results;
use self::steps::{STEPS, Step};
use super::environment::Environment;
use super::measured_program;
use crate::command::workspace;

/// What `bench fs` and `bench vm-fs` are told.
#[derive(clap::Args)]
pub struct Options {
    /// Measure so often; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: u32,
    /// Only steps with a row whose name contains this
    #[arg(long, value_name = "FILTER")]
    rows: Option<String>,
    /// Smaller trees and files
    #[arg(long)]
    pub quick: bool,
    /// Write everything that was measured into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page and the picture into this folder [default: docs/bench, if everything is measured]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Succeed also if a budget is missed
    #[arg(long)]
    report_only: bool,
    /// Measure this program instead of building one
    #[arg(long, value_name = "PROGRAM")]
    osxfs: Option<PathBuf>,
    /// Where the folders are made: on a disk
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub dir: PathBuf,
}

/// What tells the pages of the benchmarks apart.
pub struct Page {
    /// Of the files.
    pub name: &'static str,
    pub title: &'static str,
}

pub fn run(options: &Options) -> Result<()> {
    let steps = options.steps(|_| true)?;
    let peers = peers::obtain()?;
    let program = options.program()?;
    let sizes = if options.quick { Sizes::QUICK } else { Sizes::FULL };
    let template = Template::make(sizes, &options.dir)?;
    let start = |&system: &System| {
        let fill = |folder: &Path| template.copy_to(folder);
        Running::start(system, &options.dir, &program, &peers, fill)
            .with_context(|| system.name())
            .map(|running| (system, running))
    };
    let systems = HERE.systems.iter().map(start).collect::<Result<Vec<_>>>()?;
    let results = options.measure(&HERE, &steps, |system, step| {
        let mut here = systems.iter().filter(|(of, _)| *of == system);
        let mut meter = Meter::new(here.next().map(|(_, running)| running).expect("started"));
        let outcome = (step.run)(&mut meter, &template.material);
        (meter.samples, outcome)
    })?;
    let report = Report {
        environment: Environment::of(&program, &options.dir),
        peers: format!(
            "Peers: {}; sshfs speaks to `sftp-server` over a pair of sockets, without encryption.",
            peers.versions
        ),
        sizes: sizes.line(),
        rounds: options.rounds,
        results,
    };
    drop(systems);
    options.conclude(&report, &Page { name: "fs", title: "File operations" })
}

impl Options {
    /// The program to measure.
    pub fn program(&self) -> Result<PathBuf> {
        measured_program(self.osxfs.as_deref())
    }

    /// The possible steps with a row whose name contains the filter.
    pub fn steps(&self, is_possible: impl Fn(&Step) -> bool) -> Result<Vec<&'static Step>> {
        if !mounted::may_drop_caches() {
            bail!(
                "only root can drop the kernel's caches, which the cold rows need; run it as root"
            );
        }
        let filter = self.rows.as_deref().unwrap_or_default();
        let has_it = |step: &&Step| step.rows.iter().any(|row| row.name().contains(filter));
        let steps: Vec<_> = STEPS.iter().filter(|step| is_possible(step)).filter(has_it).collect();
        if steps.is_empty() {
            bail!("no row's name contains {filter:?}");
        }
        Ok(steps)
    }

    /// Every round, every step, every file system; the first one changes from step to step.
    pub fn measure(
        &self,
        contest: &'static Contest,
        steps: &[&'static Step],
        mut perform: impl FnMut(System, &'static Step) -> (Vec<Sample>, Result<()>),
    ) -> Result<Results> {
        let (mut results, rounds) = (Results::new(contest), self.rounds);
        let systems = contest.systems;
        for round in 0..rounds as usize {
            let is_due =
                |step: &Step| round == 0 || !contest.once.iter().any(|row| step.rows.contains(row));
            for (number, &step) in steps.iter().enumerate().filter(|(_, step)| is_due(step)) {
                let names: Vec<_> = step.rows.iter().map(|row| row.name()).collect();
                eprintln!("bench: round {} of {rounds}: {}", round + 1, names.join("; "));
                results.disturbance.push(measure::disturbance()?);
                for turn in 0..systems.len() {
                    let system = systems[(turn + round + number) % systems.len()];
                    let (samples, outcome) = perform(system, step);
                    if let Err(error) = outcome {
                        eprintln!("bench: {}: {error:#}", system.name());
                        results.fail(system, step.rows, &format!("{error:#}"));
                    }
                    results.add(system, samples);
                }
            }
        }
        Ok(results)
    }

    /// Shows and writes the report, and fails on a missed budget.
    pub fn conclude(&self, report: &Report, page: &Page) -> Result<()> {
        println!("{report}");
        self.write(report, page)?;
        let missed = report.missed();
        if missed > 0 && !self.report_only {
            bail!("{missed} budgets are missed");
        }
        Ok(())
    }

    fn write(&self, report: &Report, Page { name, title }: &Page) -> Result<()> {
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&report.json())?;
            fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
        }
        let whole = self.rows.is_none() && !self.quick;
        let default = || whole.then(|| workspace().join("docs/bench"));
        let Some(folder) = self.out.clone().or_else(default) else { return Ok(()) };
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let measure = report.results.contest.measures[0].name();
        let text = format!(
            "# {title}\n\nWritten by `cargo xtask bench {name}`.\n\n\
             ![Every row, as a multiple of the time of {measure}]({name}.svg)\n\n{report}"
        );
        fs::write(folder.join(format!("{name}.md")), text)?;
        fs::write(folder.join(format!("{name}.svg")), plot::svg(&report.results))?;
        println!("written: {}", folder.join(format!("{name}.md")).display());
        Ok(())
    }
}
