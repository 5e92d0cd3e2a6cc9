//! `cargo xtask bench fs`: how long file operations take on osxfs, on the local disk beneath it and on
//! other file systems of the same kind, whether the budgets hold, and what it costs.
//!
//! | file | job |
//! | --- | --- |
//! | `peers` | the other file systems, from the distribution |
//! | `system` | one file system over a folder of its own |
//! | `material` | what is worked on |
//! | `rows` | what is measured, and what is promised of it |
//! | `steps` | what is done for the rows |
//! | `measure` | cold, warm, one by one: time, requests, processor time |
//! | `results`, `report`, `plot` | medians and ratios; the page and the picture |
//!
//! All are mounted at once and do each step in turn, so that whatever disturbs the machine disturbs
//! all. Before each step everything is written out and the kernel's caches are dropped, those of the
//! mounts as well; warm rows then warm up what they need.

mod material;
mod measure;
mod peers;
mod plot;
mod report;
mod results;
mod rows;
mod steps;
mod system;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::material::{Material, Sizes};
use self::measure::Meter;
use self::report::Report;
use self::results::Results;
use self::steps::{STEPS, Step};
use self::system::{Running, System};
use super::environment::Environment;
use super::measured_program;
use crate::command::workspace;

#[derive(clap::Args)]
pub struct Options {
    /// Measure so often; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Only steps with a row whose name contains this
    #[arg(long, value_name = "FILTER")]
    rows: Option<String>,
    /// Smaller trees and files
    #[arg(long)]
    quick: bool,
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
    dir: PathBuf,
}

pub fn run(options: &Options) -> Result<()> {
    if !system::may_drop_caches() {
        bail!("only root can drop the kernel's caches, which the cold rows need; run it as root");
    }
    let steps = wanted(options.rows.as_deref())?;
    let peers = peers::obtain()?;
    let program = measured_program(options.osxfs.as_deref())?;
    let sizes = if options.quick { Sizes::QUICK } else { Sizes::FULL };
    let material = Material::make(sizes, &options.dir)?;
    let systems = System::ALL
        .into_iter()
        .map(|system| {
            let fill = |folder: &Path| material.copy_to(folder);
            Running::start(system, &options.dir, &program, &peers, fill)
                .with_context(|| system.name())
        })
        .collect::<Result<Vec<_>>>()?;
    let results = measure(&systems, &material, &steps, options.rounds)?;
    let report = Report {
        environment: Environment::of(&program, &options.dir),
        peers: peers.versions,
        sizes: sizes.line(),
        rounds: options.rounds,
        results,
    };
    drop(systems);
    println!("{report}");
    write(&report, options)?;
    let missed = report.missed();
    if missed > 0 && !options.report_only {
        bail!("{missed} budgets are missed");
    }
    Ok(())
}

/// The steps with a row whose name contains the filter.
fn wanted(filter: Option<&str>) -> Result<Vec<&'static Step>> {
    let filter = filter.unwrap_or_default();
    let has_it = |step: &&Step| step.rows.iter().any(|row| row.name().contains(filter));
    let steps: Vec<_> = STEPS.iter().filter(has_it).collect();
    if steps.is_empty() {
        bail!("no row's name contains {filter:?}");
    }
    Ok(steps)
}

/// Every round, every step, every file system; the first one changes from step to step.
fn measure(
    systems: &[Running],
    material: &Material,
    steps: &[&Step],
    rounds: u32,
) -> Result<Results> {
    let mut results = Results::default();
    for round in 0..rounds as usize {
        for (number, step) in steps.iter().enumerate() {
            let names: Vec<_> = step.rows.iter().map(|row| row.name()).collect();
            eprintln!("bench: round {} of {rounds}: {}", round + 1, names.join("; "));
            results.disturbance.push(measure::disturbance()?);
            for turn in 0..systems.len() {
                let running = &systems[(turn + round + number) % systems.len()];
                let mut meter = Meter::new(running);
                if let Err(error) = (step.run)(&mut meter, material) {
                    eprintln!("bench: {}: {error:#}", running.system.name());
                    results.fail(running.system, step.rows, &format!("{error:#}"));
                }
                results.add(running.system, meter.samples);
            }
        }
    }
    Ok(results)
}

fn write(report: &Report, options: &Options) -> Result<()> {
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())?;
        fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    let whole = options.rows.is_none() && !options.quick;
    let default = || whole.then(|| workspace().join("docs/bench"));
    let Some(folder) = options.out.clone().or_else(default) else { return Ok(()) };
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let page = format!(
        "# File operations\n\nWritten by `cargo xtask bench fs`.\n\n\
         ![Every row, as a multiple of the local disk's time](fs.svg)\n\n{report}"
    );
    fs::write(folder.join("fs.md"), page)?;
    fs::write(folder.join("fs.svg"), plot::svg(&report.results))?;
    println!("written: {}", folder.join("fs.md").display());
    Ok(())
}
