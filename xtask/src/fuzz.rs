//! `cargo xtask fuzz`: runs the targets in `protocol/fuzz`, each for the same time.

use anyhow::{Context, Result, bail};
use std::process::Command;

use crate::command::{execute, output_of, tools_dir, workspace};

#[derive(clap::Args)]
pub struct Options {
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Only the targets whose name contains this
    filter: Option<String>,
}

pub fn run(options: &Options) -> Result<()> {
    let dir = workspace().join("protocol");
    let cargo_fuzz = tools_dir().join("bin/cargo-fuzz");
    if !cargo_fuzz.is_file() {
        bail!("cargo-fuzz is missing: run `cargo xtask setup --fuzz`");
    }
    let fuzz = |arguments: &[&str]| {
        // Called as cargo would call it; `RUSTUP_TOOLCHAIN` chooses nightly for all it starts.
        let mut command = Command::new(&cargo_fuzz);
        command.arg("fuzz").args(arguments).current_dir(&dir);
        command.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC");
        command
    };
    let listing = output_of(&mut fuzz(&["list"])).context("`cargo fuzz list` failed")?;
    let filter = options.filter.as_deref().unwrap_or_default();
    let targets: Vec<&str> = listing.lines().filter(|target| target.contains(filter)).collect();
    if targets.is_empty() {
        bail!("no fuzz target in {} matches {filter:?}", dir.display());
    }
    let limit = format!("-max_total_time={}", options.seconds);
    for target in targets {
        println!("== fuzz {target}, {} s", options.seconds);
        execute(&mut fuzz(&["run", target, "--", &limit, "-print_final_stats=1"]))?;
    }
    Ok(())
}
