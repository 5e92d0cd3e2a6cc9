//! `osxfs completions` and `osxfs man`: what shells and `man` want to know of the command line.

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use anyhow::{Context, Result};
use clap::CommandFactory;

/// Prints completions.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    clap_complete::generate(args.shell, &mut Cli::command(), "osxfs", &mut std::io::stdout());
    Ok(())
}

/// Writes one page for the command and one for each subcommand.
pub fn man(args: &ManArgs) -> Result<()> {
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .with_context(|| format!("cannot write man pages into {}", args.dir.display()))
}
