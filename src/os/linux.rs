//! `osxfs mount` and `osxfs agent`: the subcommands that mount.

use crate::cli::{AgentArgs, MountArgs, default_name};
use crate::control;
use crate::status::bytes;
use anyhow::Result;
use guest_agent::client::{Client, Disconnected, Transport};
use guest_agent::run::{self, Ending};
use guest_agent::{Mount, MountOptions, prepare_mount_point};
use host_fs::mounts::OwnMounts;
use host_fs::server::{Closed, NoticeSink, Server, ServerOptions};
use host_fs::session::Session;
use host_fs::watch::driver::Watching;
use protocol::{Caller, Notice, Reply, Request, Tag};
use std::io::{IsTerminal, Write};
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
    let _control = control::start(&server)?;
    println!("sharing {} at {}", args.dir.display(), point.display());

    let counters = std::io::stderr().is_terminal().then(|| show_counters(server.clone()));
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
    run::run(&args.connect, &mounts.map_err(anyhow::Error::msg)?, options)?;
    Ok(())
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
    thread: thread::JoinHandle<()>,
}

impl Counters {
    fn end(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}

fn show_counters(server: Arc<Server>) -> Counters {
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let mut last = String::new();
        while stopped.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let status = server.status();
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
    Counters { stop, thread }
}
