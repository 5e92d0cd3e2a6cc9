//! `osxfs-agent`: the agent alone, as one static binary for guests. Started as the first process of
//! a VM it is its init.

use clap::{ArgAction, Parser};
use guest_agent::MountOptions;
use guest_agent::run::{MountSpec, run};
use protocol::Address;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Mount folders that `osxfs serve` offers.
#[derive(Parser, Debug)]
#[command(name = "osxfs-agent", version)]
struct Cli {
    /// The server: unix:PATH or vsock:CID:PORT (the host is CID 2).
    #[arg(long, value_name = "ADDRESS")]
    connect: Address,
    /// What to mount where; may be given several times.
    #[arg(long = "mount", value_name = "NAME:MOUNTPOINT", required = true)]
    mounts: Vec<MountSpec>,
    /// Let users other than this one use the mounts.
    #[arg(long)]
    allow_other: bool,
    /// Refuse writing, whatever the server allows.
    #[arg(long)]
    read_only: bool,
    /// Make mount points that are not there.
    #[arg(long)]
    make_points: bool,
    /// Set this machine's clock by the server's where they differ by more than a second, as after a
    /// sleep of the host.
    #[arg(long)]
    keep_clock: bool,
    /// Log more: -v what happens, -vv how, -vvv every request.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = guest_agent::init::take_over(&arguments) {
        return code;
    }
    let cli = Cli::parse();
    let level = ["warn", "info", "debug", "trace"][usize::from(cli.verbose.min(3))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let options = MountOptions {
        allow_other: cli.allow_other,
        read_only: cli.read_only,
        ..MountOptions::default()
    };
    if cli.make_points {
        for spec in &cli.mounts {
            // What does not work is said by whoever uses it.
            let _ = std::fs::create_dir_all(&spec.point);
        }
    }
    if cli.keep_clock
        && let Err(error) = guest_agent::clock::keep(cli.connect.clone())
    {
        eprintln!("osxfs-agent: the clock is not kept: {error}");
    }
    match run(&cli.connect, &cli.mounts, options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("osxfs-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
