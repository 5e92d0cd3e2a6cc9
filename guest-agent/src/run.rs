//! The agent as a program: connect, mount, serve until everything is unmounted or a signal comes.
//! `osxfs agent` and `osxfs-agent` are both this.

use crate::client::Client;
use crate::error::Error;
use crate::live::{Mount, MountOptions};
use crate::notify;
use crate::wire;
use protocol::Address;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, mpsc};
use std::thread;
use tracing::{info, warn};

/// What is to be mounted where: `NAME:MOUNTPOINT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountSpec {
    /// The name of the export.
    pub export: String,
    /// The mount point.
    pub point: PathBuf,
}

impl FromStr for MountSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((export, point)) if !export.is_empty() && !point.is_empty() => {
                Ok(Self { export: export.to_owned(), point: point.into() })
            }
            _ => Err(format!("\"{text}\" is not NAME:MOUNTPOINT")),
        }
    }
}

/// Connects, mounts, says so on standard output and to a service manager that asks, and serves until
/// every mount is gone or a signal comes; then flushes and unmounts.
///
/// # Errors
/// See [`Error`]. Nothing stays mounted.
pub fn run(server: &Address, mounts: &[MountSpec], options: MountOptions) -> Result<(), Error> {
    run_with(server, mounts, options, |_| ())
}

/// The same; what `ready` makes of the mounts lives as long as they do.
///
/// # Errors
/// See [`Error`]. Nothing stays mounted.
pub fn run_with<T>(
    server: &Address,
    mounts: &[MountSpec],
    options: MountOptions,
    ready: impl FnOnce(&[Arc<Mount>]) -> T,
) -> Result<(), Error> {
    let ending = Ending::watch()?;
    let client = Client::new();
    wire::connect(server, client.clone())?;
    let mut running = Vec::new();
    for MountSpec { export, point } in mounts {
        running.push(Arc::new(Mount::start(client.clone(), export, point, options)?));
    }
    let _company = ready(&running);
    for mount in &running {
        let (export, point) = (mount.export(), mount.point().display());
        // Whoever started the agent may have closed its output.
        let _ = writeln!(std::io::stdout(), "mounted {export} at {point}");
    }
    notify::ready();
    ending.wait(&running)
}

enum Event {
    Signal(i32),
    AllGone,
}

/// Knows when a process that mounts is to end: at `SIGINT`, `SIGTERM` or `SIGHUP`, or when its
/// mounts are gone.
pub struct Ending {
    events: mpsc::Sender<Event>,
    next: mpsc::Receiver<Event>,
}

impl Ending {
    /// Catches the signals from now on. The first is an event; a second one ends the process at
    /// once.
    ///
    /// # Errors
    /// [`Error::Signals`] or [`Error::Thread`].
    pub fn watch() -> Result<Self, Error> {
        let (events, next) = mpsc::channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Error::Signals)?;
        let forward = {
            let events = events.clone();
            move || {
                for (number, signal) in signals.forever().enumerate() {
                    if number > 0 {
                        warn!(signal, "ending without waiting");
                        std::process::exit(128 + signal);
                    }
                    let _ = events.send(Event::Signal(signal));
                }
            }
        };
        thread::Builder::new()
            .name("osxfs-signals".into())
            .spawn(forward)
            .map_err(Error::Thread)?;
        Ok(Self { events, next })
    }

    /// Waits for the end, then flushes and unmounts what is still mounted. Whoever still stands in
    /// a mount does not hold up the end.
    ///
    /// # Errors
    /// [`Error::Thread`] or [`Error::Unmount`].
    pub fn wait(self, mounts: &[Arc<Mount>]) -> Result<(), Error> {
        let Self { events, next } = self;
        let watched = mounts.to_vec();
        let wait = move || {
            watched.iter().for_each(|mount| mount.wait());
            drop(watched);
            let _ = events.send(Event::AllGone);
        };
        thread::Builder::new().name("osxfs-wait".into()).spawn(wait).map_err(Error::Thread)?;
        if let Ok(Event::Signal(signal)) = next.recv() {
            info!(signal, "ending");
        }
        mounts.iter().try_for_each(|mount| mount.unmount())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_name_and_a_path_with_a_colon_between() {
        let spec: MountSpec = "src:/mnt/a:b".parse().unwrap();
        assert_eq!((spec.export.as_str(), spec.point.to_str()), ("src", Some("/mnt/a:b")));
        for bad in ["", "src", ":/mnt", "src:"] {
            assert!(bad.parse::<MountSpec>().is_err(), "{bad}");
        }
    }
}
