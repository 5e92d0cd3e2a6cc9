//! `osxfs mount` and `osxfs agent`: the subcommands that mount.

use crate::cli::{AgentArgs, MountArgs, default_name};
use crate::control::{self, Changes, Subject};
use crate::status::bytes;
use anyhow::Result;
use guest_agent::client::{Client, Disconnected, Transport};
use guest_agent::run::{self, Ending};
use guest_agent::watch::{Fate, Kind, Told, Why};
use guest_agent::{Mount, MountOptions, prepare_mount_point};
use host_fs::mounts::OwnMounts;
use host_fs::server::{Closed, NoticeSink, Server, ServerOptions};
use host_fs::session::Session;
use host_fs::watch::driver::Watching;
use protocol::{Caller, Notice, Reply, Request, Tag};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// Server and agent in this process, joined by direct calls.
pub fn mount(args: &MountArgs) -> Result<()> {
    let ending = Ending::watch()?;
    let name = default_name(&args.dir);
    let export = args.export.config(name.clone(), args.dir.clone(), args.read_only);
    let own_mounts = OwnMounts::default();
    let options =
        ServerOptions { own_mounts: own_mounts.clone(), observe: Some(Arc::new(Watching)) };
    let server = Server::new(vec![export], options)?;
    let point = prepare_mount_point(&args.mountpoint)?;
    own_mounts.cover(&point)?;
    let client = Client::new();
    let notices = Arc::new(DirectNotices(client.clone()));
    let session = server.connect("osxfs mount", notices)?;
    client.connected(Arc::new(Direct { session: session.clone(), client: client.clone() }));
    let options = MountOptions {
        allow_other: args.allow_other,
        read_only: args.read_only,
        ..Default::default()
    };
    let mount = Arc::new(Mount::start(client, &name, &point, options)?);
    own_mounts.avoid(mount.device());
    let mounts = vec![mount.clone()];
    let _control = control::start(Process { server: Some(server.clone()), mounts })?;
    println!("sharing {} at {}", args.dir.display(), point.display());

    let counters =
        std::io::stderr().is_terminal().then(|| show_counters(server.clone(), mount.clone()));
    let ended = ending.wait(&[mount]);
    if let Some(counters) = counters {
        counters.end();
    }
    session.close();
    ended?;
    Ok(())
}

/// Mounts what a server offers until all mounts are gone.
pub fn agent(args: &AgentArgs) -> Result<()> {
    let options = MountOptions { allow_other: args.allow_other, ..Default::default() };
    let mounts: Result<Vec<_>, _> = args.mounts.iter().map(|spec| spec.parse()).collect();
    run::run_with(&args.connect, &mounts.map_err(anyhow::Error::msg)?, options, |mounts| {
        let control = control::start(Process { server: None, mounts: mounts.to_vec() });
        if let Err(error) = &control {
            eprintln!(
                "osxfs: `osxfs status` and `osxfs watch` will not find this agent: {error:#}"
            );
        }
        control.ok()
    })?;
    Ok(())
}

/// What runs in this process, for whoever asks.
struct Process {
    server: Option<Arc<Server>>,
    mounts: Vec<Arc<Mount>>,
}

impl Subject for Process {
    fn status(&self) -> Result<Value> {
        let mut status = match &self.server {
            Some(server) => Subject::status(server)?,
            None => json!({ "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION") }),
        };
        status["mounts"] = self.mounts.iter().map(|mount| describe(mount)).collect();
        Ok(status)
    }

    fn watch(&self, mount_point: &str) -> Option<Changes> {
        let mount = self.mounts.iter().find(|of| of.point().to_string_lossy() == mount_point)?;
        Some(Box::new(mount.watch()?.into_iter().map(|told| change(&told))))
    }
}

/// The figures of a mount. Times are in microseconds, null before the first change.
fn describe(mount: &Mount) -> Value {
    let micros = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_micros()).ok());
    let (counters, delivery) = (mount.counters(), mount.delivery());
    json!({
        "export": mount.export(),
        "mount_point": mount.point().to_string_lossy(),
        "nodes": mount.nodes(),
        "operations": counters.operations,
        "changes": counters.changes,
        "injected": counters.injected,
        "waiting": delivery.map(|of| of.waiting),
        "delay_p50_us": delivery.and_then(|of| micros(of.delay_p50)),
        "delay_p99_us": delivery.and_then(|of| micros(of.delay_p99)),
        "given_up": delivery.map(|of| of.given_up),
        "compared_directories": delivery.map(|of| of.compared),
        "reconnects": counters.reconnects,
    })
}

/// A change as one object of `osxfs watch --json`.
fn change(told: &Told) -> Value {
    let kind = match told.kind {
        Kind::Created => "created",
        Kind::Modified => "modified",
        Kind::Attrib => "attrib",
        Kind::Removed => "removed",
        Kind::Renamed => "renamed",
        Kind::Passed => "passed",
        Kind::Doubt => "doubt",
        Kind::Compared => "compared",
    };
    let fate = match told.fate {
        Fate::Injected => "injected",
        Fate::NobodyCanWatch => "nobody can watch",
        Fate::OwnWork => "the guest's own",
        Fate::Refused(_) => "refused",
        Fate::GivenUp => "given up",
        Fate::Dropped => "dropped",
        Fate::Void => "cache void",
        Fate::Found(_) => "compared",
    };
    let errno = if let Fate::Refused(errno) = told.fate { Some(errno.to_string()) } else { None };
    let found = if let Fate::Found(found) = told.fate { Some(found) } else { None };
    let why = told.why.map(|why| match why {
        Why::Reconnected => "the server was away",
        Why::GivenUp => "an injection was given up",
    });
    json!({
        "kind": kind,
        "path": told.path.to_string_lossy(),
        "to": told.to.as_ref().map(|to| to.to_string_lossy()),
        "is_dir": told.is_dir,
        "outcome": fate,
        "error": errno,
        "differences": found,
        "compared_because": why,
        "delay_us": u64::try_from(told.delay.as_micros()).ok(),
        "missed": told.missed,
    })
}

/// The way down without a wire.
struct Direct {
    session: Arc<Session>,
    client: Arc<Client>,
}

impl Transport for Direct {
    fn send(
        &self,
        tag: Tag,
        caller: &Caller<'_>,
        request: &Request<'_>,
    ) -> Result<(), Disconnected> {
        let client = self.client.clone();
        let respond = move |reply: &Reply<'_>| client.on_reply(tag, reply);
        self.session.handle(tag, caller, request, respond);
        Ok(())
    }
}

/// The way up without a wire.
struct DirectNotices(Arc<Client>);

impl NoticeSink for DirectNotices {
    fn notice(&self, notice: &Notice<'_>) -> Result<(), Closed> {
        self.0.on_notice(notice);
        Ok(())
    }
}

/// A thread that keeps one line of counters on the terminal.
struct Counters {
    stop: mpsc::Sender<()>,
    stopping: Arc<AtomicBool>,
    mount: Arc<Mount>,
    thread: thread::JoinHandle<()>,
}

impl Counters {
    fn end(self) {
        drop(self.stop);
        self.stopping.store(true, Ordering::Release);
        self.mount.wake_waiting();
        let _ = self.thread.join();
    }
}

/// At most once a second, and not at all while nothing is done.
fn show_counters(server: Arc<Server>, mount: Arc<Mount>) -> Counters {
    let (stop, stopped) = mpsc::channel::<()>();
    let stopping = Arc::new(AtomicBool::new(false));
    let (of_thread, watched) = (stopping.clone(), mount.clone());
    let thread = thread::spawn(move || {
        let mut last = String::new();
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
            watched.wait_active(|| of_thread.load(Ordering::Acquire));
            let status = Server::status(&server);
            let line = format!(
                "{} operations, {} read, {} written, {} leases, {} events",
                status.operations,
                bytes(status.bytes_read),
                bytes(status.bytes_written),
                status.leases,
                status.events,
            );
            if line != last {
                // Carriage return and "erase to the end of the line" (ECMA-48 EL).
                eprint!("\r\x1b[K{line}");
                let _ = std::io::stderr().flush();
                last = line;
            }
        }
        if !last.is_empty() {
            eprintln!();
        }
    });
    Counters { stop, stopping, mount, thread }
}
