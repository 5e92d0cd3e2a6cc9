//! The command `osxfs`: reads the command line, sets up logging, runs one subcommand, and turns an
//! error into one line and an exit code. What the subcommands do stands in the crates below.

mod cli;
mod control;
mod logging;
mod os;
mod serve;
mod shell;
mod status;
mod vm;
mod vsock;
mod watch;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if is_help(&error) => error.exit(),
        Err(error) => return misused(&error),
    };
    logging::start(&cli.log);
    let result = match cli.command {
        cli::Command::Vm(args) => return finish(vm::run(args)),
        cli::Command::Mount(args) => os::mount(&args),
        cli::Command::Serve(args) => serve::run(args),
        cli::Command::Vsock(args) => vsock::run(args),
        cli::Command::Agent(args) => os::agent(&args),
        cli::Command::Status(args) => status::run(&args),
        cli::Command::Watch(args) => watch::run(&args),
        cli::Command::Completions(args) => shell::completions(&args),
        cli::Command::Man(args) => shell::man(&args),
    };
    finish(result.map(|()| ExitCode::SUCCESS))
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("osxfs: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes; those that the error names itself are not said twice.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.contains(&cause) {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(&cause);
        }
    }
    line
}

fn is_help(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand as NothingAsked;
    error.exit_code() == 0 || error.kind() == NothingAsked
}

/// Says in one line what is wrong with the command line. The exit code is that of `clap`.
fn misused(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let what: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    eprintln!("osxfs: {}; see --help", what.join(" "));
    ExitCode::from(2)
}
