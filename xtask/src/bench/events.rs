//! `cargo xtask bench events`: how fast host changes reach a watcher on the mount, what they cost,
//! and whether the budgets hold. An event that does not come at all is a miss as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::act::{Act, Load, Numbers};
use super::delay::{self, Series};
use super::environment::Environment;
use super::measured_program;
use super::report::{Report, ShapeReport};
use super::share::{Dir, Shape, Share};
use super::storm::{self, Steady, Storm};
use super::watcher::{Trouble, Watcher};

/// Folders that a storm goes over.
const STORM_DIRS: usize = 4;
/// How long the cost of the steady load is measured in each run.
const STEADY: Duration = Duration::from_secs(8);

#[derive(clap::Args)]
pub struct Options {
    /// Measure so often; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u32,
    /// Changes of each kind whose delay is measured, in each run
    #[arg(long, value_name = "N", default_value_t = 500)]
    samples: u32,
    /// Changes of each kind in a storm
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    changes: u32,
    /// Changes a second of the load
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    load: u32,
    /// Write everything that was measured into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Succeed also if a budget is missed
    #[arg(long)]
    report_only: bool,
    /// Measure this program instead of building one
    #[arg(long, value_name = "PROGRAM")]
    osxfs: Option<PathBuf>,
    /// Where the shared folders are made: in memory, so that no disk is measured
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    dir: PathBuf,
}

/// What one run over a share found.
pub struct Run {
    pub idle: Vec<Series>,
    pub loaded: Vec<Series>,
    /// Changes of the load that were lost while delays were measured.
    pub load_lost: usize,
    pub steady: Steady,
    pub storms: [Storm; storm::KINDS.len()],
    pub trouble: Trouble,
}

pub fn run(options: &Options) -> Result<()> {
    let program = measured_program(options.osxfs.as_deref())?;
    let environment = Environment::of(&program, &options.dir);
    println!("{}", environment.line());
    println!(
        "{} runs; of each kind {} changes one by one, and {} in a storm over {STORM_DIRS} folders; \
         load: {} changes a second\n",
        options.runs, options.samples, options.changes, options.load
    );
    let mut shapes = Vec::new();
    for shape in Shape::ALL {
        let runs = (1..=options.runs)
            .map(|number| {
                eprintln!("bench: {}, run {number} of {}", shape.name(), options.runs);
                run_once(shape, &program, options)
            })
            .collect::<Result<Vec<_>>>()
            .with_context(|| shape.name())?;
        let report = ShapeReport::new(shape, runs);
        println!("{report}");
        shapes.push(report);
    }
    let report = Report::new(environment, shapes);
    println!("{report}");
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    let missed = report.missed();
    if missed > 0 && !options.report_only {
        bail!("{missed} budgets are missed");
    }
    Ok(())
}

fn run_once(shape: Shape, program: &Path, options: &Options) -> Result<Run> {
    let share = Share::start(shape, program, &options.dir)?;
    let [samples, load] = [share.dir("samples")?, share.dir("load")?];
    let storms = (0..STORM_DIRS).map(|number| share.dir(&format!("storm{number}")));
    let storms = storms.collect::<Result<Vec<Dir>>>()?;
    let dirs = [&samples, &load].into_iter().chain(&storms);
    let watcher = Watcher::of(dirs.map(|dir| &*dir.mount))?;
    let numbers = Numbers::default();
    let load =
        Load { dir: &load.host, watcher: &watcher, numbers: &numbers, per_second: options.load };
    let series = |act: Act| delay::measure(act, options.samples, &samples, &watcher, &numbers);
    let all = || delay::KINDS.into_iter().map(series).collect::<Result<Vec<_>>>();

    let idle = all()?;
    watcher.missing(Duration::ZERO);
    let (loaded, _) = load.during(all)?;
    let load_lost = watcher.missing(delay::PATIENCE);
    let steady = storm::steady(&share, &load, STEADY)?;
    let storms = storm::measure(options.changes, &share, &storms, &watcher, &numbers)?;
    let trouble = watcher.trouble();
    // The watch goes before what is watched.
    drop(watcher);
    Ok(Run { idle, loaded: loaded?, load_lost, steady, storms, trouble })
}
