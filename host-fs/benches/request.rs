//! One request through a server that watches its folder: time, and how often memory is allocated.
//!
//! `cargo bench -p osxfs-host-fs`. The requests are made by direct calls, as `osxfs mount` makes them;
//! what is measured is the server alone, with the system calls on a file system in memory. Allocations
//! are counted of the whole process, so those of the watching thread are among them.

use criterion::Criterion;
use host_fs::Session;
use host_fs::server::{Closed, ExportConfig, NoticeSink, Server, ServerOptions};
use host_fs::watch::driver::Watching;
use protocol::{
    Caller, Consistency, ExportName, ForgetList, ForgetOne, HandleId, Handles, Name, NodeId,
    Notice, OpenFlags, Payload, Reply, Request, Tag,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds in which allocations are counted, after a warm-up.
const ROUNDS: usize = 1000;

struct Deaf;

impl NoticeSink for Deaf {
    fn notice(&self, _notice: &Notice<'_>) -> Result<(), Closed> {
        Ok(())
    }
}

/// A guest that makes one request after the other.
struct Guest {
    session: Arc<Session>,
    root: NodeId,
}

impl Guest {
    fn of(folder: &Path) -> Self {
        let export = ExportConfig {
            name: "x".into(),
            path: folder.to_owned(),
            read_only: false,
            ownership: None,
            consistency: Consistency::Cached,
            uid: 0,
            gid: 0,
            host_locks: false,
        };
        let options =
            ServerOptions { observe: Some(Arc::new(Watching)), ..ServerOptions::default() };
        let server = Server::new(vec![export], options).expect("a server");
        let session = server.connect("bench", Arc::new(Deaf)).expect("a session");
        let mut guest = Self { session, root: NodeId(0) };
        let name = ExportName::new(b"x").expect("a name");
        guest.root = guest.ask(&Request::Attach { name }, |reply| match reply {
            Reply::Attached { attached } => attached.root.node,
            other => panic!("{other:?}"),
        });
        guest
    }

    /// The answer, of which `take` keeps what is wanted.
    fn ask<T: Send + 'static>(
        &self,
        request: &Request<'_>,
        take: impl Fn(&Reply<'_>) -> T + Send + 'static,
    ) -> T {
        let (sender, answer) = mpsc::sync_channel(1);
        self.session.handle(Tag(1), &Caller::default(), request, move |reply: &Reply<'_>| {
            sender.send(take(reply)).expect("somebody waits");
        });
        answer.recv().expect("an answer")
    }

    /// Makes a request whose answer is of no interest, as long as it is none of an error.
    fn make(&self, request: &Request<'_>) {
        self.session.handle(Tag(1), &Caller::default(), request, |reply: &Reply<'_>| {
            assert!(!matches!(reply, Reply::Error { .. }), "{reply:?}");
        });
    }

    fn close(&self, handle: HandleId) {
        let handles = Handles(vec![handle]);
        self.session.handle(
            Tag::NONE,
            &Caller::default(),
            &Request::Close { handles },
            |_: &Reply<'_>| {},
        );
    }

    /// The same for what gives a node and a handle; hands both out without allocating.
    fn made(&self, request: &Request<'_>) -> (NodeId, HandleId) {
        thread_local! {
            static LAST: Rc<Cell<(NodeId, HandleId)>> = Rc::default();
        }
        self.session.handle(Tag(1), &Caller::default(), request, |reply: &Reply<'_>| {
            let made = match reply {
                Reply::Entry { entry } => (entry.node, HandleId(0)),
                Reply::Opened { handle } => (NodeId(0), *handle),
                Reply::Created { created } => (created.entry.node, created.handle),
                other => panic!("{other:?}"),
            };
            LAST.with(|last| last.set(made));
        });
        LAST.with(|last| last.get())
    }

    fn forget(&self, node: NodeId) {
        let nodes = ForgetList(vec![ForgetOne { node, count: 1 }]);
        self.session.handle(
            Tag::NONE,
            &Caller::default(),
            &Request::Forget { nodes },
            |_: &Reply<'_>| {},
        );
    }
}

fn measure(criterion: &mut Criterion, name: &str, mut work: impl FnMut()) {
    criterion.bench_function(name, |bencher| bencher.iter(&mut work));
    let region = Region::new(ALLOCATOR);
    (0..ROUNDS).for_each(|_| work());
    let stats = region.change();
    let each = |count: usize| count as f64 / ROUNDS as f64;
    println!(
        "{name}: {:.2} allocations, {:.0} bytes each",
        each(stats.allocations + stats.reallocations),
        each(stats.bytes_allocated)
    );
}

fn main() {
    let criterion = &mut Criterion::default().configure_from_args();
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder");
    std::fs::create_dir(folder.path().join("dir")).expect("a directory");
    std::fs::write(folder.path().join("dir/file"), [7; 4096]).expect("a file");
    let guest = Guest::of(folder.path());
    let name = |text: &'static str| Name::new(text.as_bytes()).expect("a name");
    let (dir, _) = guest.made(&Request::Lookup { parent: guest.root, name: name("dir") });
    let lookup = Request::Lookup { parent: dir, name: name("file") };
    let (file, _) = guest.made(&lookup);
    let (_, handle) = guest.made(&Request::Open { node: file, flags: OpenFlags::RDWR });

    measure(criterion, "lookup, a known name", || guest.make(&lookup));
    let nothing = Request::Lookup { parent: dir, name: name("nothing") };
    measure(criterion, "lookup, nothing there", || guest.make(&nothing));
    measure(criterion, "getattr of an open file", || guest.make(&Request::GetAttr { node: file }));
    measure(criterion, "getattr of a directory", || guest.make(&Request::GetAttr { node: dir }));
    let read = Request::Read { handle, offset: 0, size: 4096 };
    measure(criterion, "read of 4 KiB", || guest.make(&read));
    let data = vec![8; 4096];
    let write = Request::Write { handle, offset: 0, data: Payload(&data) };
    measure(criterion, "write of 4 KiB", || guest.make(&write));
    measure(criterion, "open and close", || {
        let (_, handle) = guest.made(&Request::Open { node: file, flags: OpenFlags::empty() });
        guest.close(handle);
    });
    let new = name("a-new-file.txt");
    measure(criterion, "create, close, unlink, forget", || {
        let create = Request::Create {
            parent: dir,
            name: new,
            mode: 0o644,
            umask: 0o022,
            flags: OpenFlags::WRONLY,
        };
        let (node, handle) = guest.made(&create);
        guest.close(handle);
        guest.make(&Request::Unlink { parent: dir, name: new });
        guest.forget(node);
    });
    criterion.final_summary();
    guest.session.close();
}
