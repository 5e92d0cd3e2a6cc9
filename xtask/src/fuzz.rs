//! `cargo xtask fuzz`: runs the targets of every crate that has some, each for the same time.

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

/// Crates with a folder `fuzz`.
const CRATES: [&str; 2] = ["protocol", "vmm"];

pub fn run(options: &Options) -> Result<()> {
    let cargo_fuzz = tools_dir().join("bin/cargo-fuzz");
    if !cargo_fuzz.is_file() {
        bail!("cargo-fuzz is missing: run `cargo xtask setup --fuzz`");
    }
    let filter = options.filter.as_deref().unwrap_or_default();
    let limit = format!("-max_total_time={}", options.seconds);
    let mut found = false;
    for name in CRATES {
        let dir = workspace().join(name);
        let fuzz = |arguments: &[&str]| {
            // Called as cargo would call it; `RUSTUP_TOOLCHAIN` chooses nightly for all it starts.
            let mut command = Command::new(&cargo_fuzz);
            command.arg("fuzz").args(arguments).current_dir(&dir);
            command.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC");
            command
        };
        let listing = output_of(&mut fuzz(&["list"]))
            .with_context(|| format!("`cargo fuzz list` failed in {}", dir.display()))?;
        for target in listing.lines().filter(|target| target.contains(filter)) {
            found = true;
            println!("== fuzz {name}: {target}, {} s", options.seconds);
            // Many inputs are lists of deeds, which need some length from the beginning.
            let arguments = ["-len_control=0", "-print_final_stats=1", &limit];
            execute(fuzz(&["run", target, "--"]).args(arguments))?;
        }
    }
    if !found {
        bail!("no fuzz target in {} matches {filter:?}", CRATES.join(" or "));
    }
    Ok(())
}
