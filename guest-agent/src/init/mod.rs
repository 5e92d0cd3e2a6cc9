//! The agent as the first process of a VM: it makes the guest a place in which a command can run,
//! mounts the shares, runs the command, and ends the guest.
//!
//! ```text
//! basics   /proc, /sys, /dev, …; modules; the loopback interface
//! control  one connection to the monitor: what to do, and how it went (protocol::guest)
//! mounts   the shares, by the same machinery as any agent's
//! command  the command with its terminal or pipes
//! reaper   every process that ends, ours or orphaned
//! end      the others are ended, everything is written back, and the guest powers off
//! ```
//!
//! Nothing here may panic or wait without bound: a kernel whose first process ends stops.

mod basics;
mod command;
mod control;
mod end;
mod exec;
mod modules;
mod mounts;
mod reaper;
mod settings;

use crate::clock;
use command::Running;
use control::{Control, Orders, Reports};
use protocol::guest::{Halt, Order, Outcome, Report, Start};
use reaper::Reaper;
use settings::Settings;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// What `init` could not do, for the monitor's user.
#[derive(Debug)]
struct Failure {
    /// What, with its object.
    what: String,
    /// Why.
    why: String,
}

impl Failure {
    fn new(what: impl Into<String>, why: &(impl ToString + ?Sized)) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

fn no_thread(error: &std::io::Error) -> Failure {
    Failure::new("starting a thread", error)
}

/// What happens while the guest is up.
enum Event {
    /// The monitor, or its end, wants the guest to end.
    Halt(Halt),
    /// The command has ended.
    Ended(Outcome),
}

/// Takes over if this process was started as the first one, or by it to become a command.
/// Otherwise the arguments are for somebody else.
pub fn take_over(arguments: &[OsString]) -> Option<ExitCode> {
    if let Some(command) = exec::asked_for(arguments) {
        return Some(exec::become_command(&command));
    }
    let name = arguments.first().map(std::path::Path::new).and_then(|path| path.file_name());
    (rustix::process::getpid().is_init() || name.is_some_and(|name| name == "init")).then(run)
}

/// The whole life of a guest. Returns only where it cannot be ended from here.
fn run() -> ExitCode {
    let basics = basics::prepare();
    let settings = Settings::of_this_guest();
    let filter = EnvFilter::new(settings.log.as_deref().unwrap_or("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    basics.iter().for_each(|problem| warn!("{problem}"));
    modules::load();
    basics::bring_up_loopback();
    basics::name_the_guest();
    basics::join_network();
    let halt = live(&settings);
    end::end(halt)
}

/// From the first word with the monitor to the last.
fn live(settings: &Settings) -> Halt {
    let (Control { reports, orders }, start) = match control::connect(&settings.control) {
        Ok(connected) => connected,
        Err(error) if settings.shell => {
            info!(%error, "no monitor; a shell it is");
            return shell(settings);
        }
        Err(error) => {
            warn!("no word from the monitor at {}: {error}; powering off", settings.control);
            return Halt::PowerOff;
        }
    };
    let halt = serve(settings, &reports, orders, &start).unwrap_or_else(|Failure { what, why }| {
        warn!("{what}: {why}");
        let failed = Report::Failed { what: protocol::Text(&what), why: protocol::Text(&why) };
        let _ = reports.send(&failed);
        Halt::PowerOff
    });
    reports.finish();
    halt
}

fn serve(
    settings: &Settings,
    reports: &Reports,
    orders: Orders,
    start: &control::Started,
) -> Result<Halt, Failure> {
    let start = start.get().map_err(|error| Failure::new("reading what to do", &error))?;
    clock::set(start.now);
    let mounts = mounts::mount(&settings.server, &start.mounts)?;
    reports.send(&Report::Ready).map_err(|error| Failure::new("reporting", &error))?;
    let (events, next) = mpsc::channel();
    hear_signals(&events).map_err(|error| no_thread(&error))?;
    let command = begin(settings, &start, reports)?;
    let reaper = Reaper::start(command.as_ref().map(Running::pid), &events)
        .map_err(|error| no_thread(&error))?;
    let command = command.map(Arc::new);
    let (ordered, sink) = (command.clone(), events.clone());
    thread::Builder::new()
        .name("osxfs-orders".into())
        .spawn(move || {
            let halt = obey(orders, ordered.as_deref());
            let _ = sink.send(Event::Halt(halt));
        })
        .map_err(|error| no_thread(&error))?;
    // `events` lives here too, so there is always a next one.
    let event = next.recv().unwrap_or(Event::Halt(Halt::PowerOff));
    let alone = end::end_processes(&reaper);
    // Who is still there could go on writing; then what is on its way is all that is told.
    if let Some(command) = command.iter().find(|_| alone) {
        command.drain();
    }
    mounts::unmount(&mounts);
    Ok(match event {
        Event::Halt(halt) => halt,
        Event::Ended(outcome) => {
            if let Err(error) = reports.send(&Report::Exited(outcome)) {
                warn!(%error, "nobody hears how the command ended");
            }
            Halt::PowerOff
        }
    })
}

/// How programs of the guest ask for its end: busybox's `poweroff`, `halt` and `reboot`, and the keys
/// that do so on a keyboard.
fn hear_signals(events: &mpsc::Sender<Event>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGUSR1, SIGUSR2, SIGTERM, SIGINT])?;
    let events = events.clone();
    let hear = move || {
        for signal in signals.forever() {
            let halt = match signal {
                SIGUSR1 | SIGUSR2 => Halt::PowerOff,
                _ => Halt::Restart,
            };
            let _ = events.send(Event::Halt(halt));
        }
    };
    thread::Builder::new().name("osxfs-signals".into()).spawn(hear).map(drop)
}

/// Starts what was asked for: the command, a shell on the console, or nothing.
fn begin(
    settings: &Settings,
    start: &Start<'_>,
    reports: &Reports,
) -> Result<Option<Running>, Failure> {
    if start.command.is_empty() {
        return match settings.shell {
            true => command::console_shell(settings.console.as_deref()).map(Some),
            false => Ok(None),
        };
    }
    command::start(start, reports).map(Some)
}

/// Without a monitor: a shell, and nothing after it.
fn shell(settings: &Settings) -> Halt {
    let (events, next) = mpsc::channel();
    match command::console_shell(settings.console.as_deref()).and_then(|shell| {
        hear_signals(&events).map_err(|error| no_thread(&error))?;
        Reaper::start(Some(shell.pid()), &events).map_err(|error| no_thread(&error))
    }) {
        Ok(reaper) => {
            let event = next.recv();
            end::end_processes(&reaper);
            if let Ok(Event::Halt(halt)) = event {
                return halt;
            }
        }
        Err(Failure { what, why }) => warn!("{what}: {why}"),
    }
    Halt::PowerOff
}

/// Does what the monitor says until it says that the guest is to end, or is gone.
fn obey(mut orders: Orders, command: Option<&Running>) -> Halt {
    loop {
        let order = match orders.next() {
            Ok(Some(order)) => order,
            Ok(None) => return Halt::PowerOff,
            Err(error) => {
                warn!(%error, "the monitor is gone");
                return Halt::PowerOff;
            }
        };
        match (order, command) {
            (Order::Stop(halt), _) => return halt,
            (Order::Time(now), _) => clock::set(now),
            (Order::Stdin(data), Some(command)) => command.feed(data.0),
            (Order::Resize(size), Some(command)) => command.resize(size),
            (Order::Signal(signal), Some(command)) => command.signal(signal),
            (Order::Stdin(_) | Order::Resize(_) | Order::Signal(_), None) => {}
            (Order::Start(_), _) => {
                warn!("the monitor says twice what to do");
                return Halt::PowerOff;
            }
        }
    }
}
