//! One request through kernel, agent and server in one process, as `osxfs mount` runs them: time, and
//! how often memory is allocated.
//!
//! `cargo bench -p osxfs --bench request`. Needs `/dev/fuse` and the right to mount. Allocations are
//! counted of the whole process, so those of the threads that watch are among them; the process that
//! uses the mount is this one.

#[cfg(target_os = "linux")]
mod linux {
    use criterion::Criterion;
    use guest_agent::client::{Client, Disconnected, Transport};
    use guest_agent::{Mount, MountOptions, prepare_mount_point};
    use host_fs::Session;
    use host_fs::mounts::OwnMounts;
    use host_fs::server::{Closed, ExportConfig, NoticeSink, Server, ServerOptions};
    use host_fs::watch::driver::Watching;
    use protocol::{Caller, Consistency, Notice, Reply, Request, Tag};
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statfs, statx, unlink};
    use rustix::io::{pread, pwrite};
    use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
    use std::alloc::System;
    use std::path::Path;
    use std::sync::Arc;

    #[global_allocator]
    static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

    /// Rounds in which allocations are counted, after a warm-up.
    const ROUNDS: usize = 1000;

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

    struct Notices(Arc<Client>);

    impl NoticeSink for Notices {
        fn notice(&self, notice: &Notice<'_>) -> Result<(), Closed> {
            self.0.on_notice(notice);
            Ok(())
        }
    }

    fn mount(folder: &Path, point: &Path) -> (Arc<Session>, Mount) {
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
        let own_mounts = OwnMounts::default();
        let options =
            ServerOptions { own_mounts: own_mounts.clone(), observe: Some(Arc::new(Watching)) };
        let server = Server::new(vec![export], options).expect("a server");
        let point = prepare_mount_point(point).expect("a mount point");
        let client = Client::new();
        let notices = Arc::new(Notices(client.clone()));
        let session = server.connect("bench", notices).expect("a session");
        client.connected(Arc::new(Direct { session: session.clone(), client: client.clone() }));
        let mount = Mount::start(client, "x", &point, MountOptions::default())
            .expect("a mount (needs /dev/fuse and the right to mount)");
        own_mounts.avoid(mount.device());
        (session, mount)
    }

    fn measure(criterion: &mut Criterion, mount: &Mount, name: &str, mut work: impl FnMut()) {
        criterion.bench_function(name, |bencher| bencher.iter(&mut work));
        let before = mount.counters().operations;
        let region = Region::new(ALLOCATOR);
        (0..ROUNDS).for_each(|_| work());
        let stats = region.change();
        let each = |count: usize| count as f64 / ROUNDS as f64;
        println!(
            "{name}: {:.2} requests, {:.2} allocations, {:.0} bytes each",
            each((mount.counters().operations - before) as usize),
            each(stats.allocations + stats.reallocations),
            each(stats.bytes_allocated)
        );
    }

    pub fn main() {
        let criterion = &mut Criterion::default().configure_from_args();
        let scratch = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let (folder, point) = (scratch.path().join("host"), scratch.path().join("mount"));
        for dir in [&folder, &point] {
            std::fs::create_dir(dir).expect("a directory");
        }
        std::fs::write(folder.join("file"), [7; 4096]).expect("a file");
        let (session, mount) = mount(&folder, &point);
        let (file, new) = (point.join("file"), point.join("new"));
        let (file, new) = (file.as_path(), new.as_path());

        let opened = open(file, OFlags::RDWR | OFlags::DIRECT, Mode::empty()).expect("a file");
        measure(criterion, &mount, "statx that asks the server", || {
            let flags = AtFlags::STATX_FORCE_SYNC;
            statx(CWD, file, flags, StatxFlags::BASIC_STATS).expect("attributes");
        });
        measure(criterion, &mount, "statfs", || _ = statfs(file).expect("space"));
        let mut buffer = vec![0; 4096];
        measure(criterion, &mount, "read of 4 KiB past the cache", || {
            pread(&opened, &mut buffer, 0).expect("data");
        });
        measure(criterion, &mount, "write of 4 KiB past the cache", || {
            pwrite(&opened, &buffer, 0).expect("written");
        });
        measure(criterion, &mount, "open and close", || {
            drop(open(file, OFlags::RDONLY, Mode::empty()).expect("a file"));
        });
        measure(criterion, &mount, "create, close, unlink", || {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            drop(open(new, flags, Mode::from_raw_mode(0o644)).expect("a new file"));
            unlink(new).expect("it is gone");
        });
        drop(opened);
        criterion.final_summary();
        mount.unmount().expect("unmounted");
        session.close();
    }
}

fn main() {
    #[cfg(target_os = "linux")]
    linux::main();
}
