//! `osxfs vm run`: a Linux guest in our own VM monitor, with the folder in it. Here the pieces are put
//! together; what they do stands in `vmm`, `host-fs` and, inside the guest, `guest-agent`.
//!
//! ```text
//! args ─▶ plan ─┬─ image     kernel and initrd, where none are named
//!               ├─ machine   devices, and the VM itself; its consoles: the serial port, hvc
//!               └─ guest     the control connection: the command, its input and output
//! ```

mod args;
mod clock;
mod console;
mod files;
mod guest;
mod hvc;
mod image;
mod input;
mod machine;
mod news;
mod plan;
mod signals;
mod terminal;

pub use args::{RunArgs, VmArgs, VmCommand};
pub use files::Files;

use anyhow::{Result, bail};
use host_fs::server::{Server, ServerOptions};
use host_fs::watch::driver::Watching;
use machine::Machine;
use news::Told;
use plan::Plan;
use std::process::ExitCode;
use std::sync::Arc;
use vmm::Outcome;

/// Runs one of the subcommands.
pub fn run(args: VmArgs) -> Result<ExitCode> {
    match args.command {
        VmCommand::Run(args) => run_vm(*args),
    }
}

fn run_vm(args: RunArgs) -> Result<ExitCode> {
    let mut plan = Plan::new(args)?;
    let exports = std::mem::take(&mut plan.exports);
    let options = ServerOptions { observe: Some(Arc::new(Watching)), ..Default::default() };
    let server = Server::new(exports, options)?;
    let _control = crate::control::start(server.clone())?;
    let files = Files::new(server)?;
    let plan = Arc::new(plan);
    let signals = signals::Signals::catch()?;
    let console = console::Open::new(&plan)?;
    // Last, so that whatever was said before stands on lines of its own.
    let terminal = terminal::Raw::enter(plan.wants_terminal)?;
    loop {
        let machine = Machine::build(&plan, &files, &console, &signals)?;
        let (outcome, told, said) = machine.run()?;
        match (outcome, told) {
            (_, Told { ended: Some(outcome), .. }) => {
                drop(terminal);
                return Ok(ExitCode::from(outcome.exit_status()));
            }
            (_, Told { failed: Some(why), .. }) => {
                drop(terminal);
                bail!("the guest could not do it: {why}")
            }
            (Outcome::Stopped, _) => {
                drop(terminal);
                return Ok(signals.exit_code());
            }
            (Outcome::PowerOff, _) if plan.command.is_none() => return Ok(ExitCode::SUCCESS),
            (Outcome::Reboot, Told { ready: true, .. }) if plan.command.is_none() => {}
            (Outcome::PowerOff | Outcome::Reboot, told) => {
                drop(terminal);
                let what = if told.ready { "the command had ended" } else { "it was ready" };
                let how = match outcome {
                    Outcome::Reboot => "crashed or restarted",
                    _ => "powered off",
                };
                bail!("the guest {how} before {what}{said}")
            }
        }
    }
}
