//! The command `osxfs`: reads the command line, sets up logging, runs one subcommand, and turns an
//! error into one line and an exit code. What the subcommands do stands in the crates below.

mod cli;
mod control;
mod logging;
mod os;
mod serve;
mod shell;
mod status;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    logging::start(&cli.log);
    let result = match cli.command {
        cli::Command::Mount(args) => os::mount(args),
        cli::Command::Serve(args) => serve::run(args),
        cli::Command::Agent(args) => os::agent(args),
        cli::Command::Status(args) => status::run(&args),
        cli::Command::Completions(args) => shell::completions(&args),
        cli::Command::Man(args) => shell::man(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("osxfs: {error:#}");
            ExitCode::FAILURE
        }
    }
}
