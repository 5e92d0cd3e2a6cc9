//! What watchers on a real mount hear of the changes that a server in memory tells, compared with what
//! they hear on a local folder. Needs `/dev/fuse` and the right to mount; without them each test says
//! so and passes.

mod model;

use guest_agent::client::Client;
use guest_agent::{Error, Mount, MountOptions};
use model::host::Host;
use model::{LEASED, Model};
use protocol::{Consistency, ContentEvents, Validity, mode};
use rustix::fs::inotify::{CreateFlags, ReadFlags, WatchFlags};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FILE: u32 = mode::IFREG | 0o644;
const DIR: u32 = mode::IFDIR | 0o755;

const MODES: [(Consistency, Validity); 3] = [
    (Consistency::Consistent, Validity::NONE),
    (Consistency::Cached, Validity { entry_ms: 1000, attr_ms: 1000 }),
    (Consistency::Cached, LEASED),
];

/// One at a time: a mount that starts or ends holds for a moment copies of what others have open in
/// this process, and they are heard closing it late.
static TURN: Mutex<()> = Mutex::new(());

struct Stage {
    host: Host,
    mount: Mount,
    dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    fn new(consistency: Consistency, valid: Validity) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let model = Model::new(consistency, valid);
        let client = Client::new();
        let server = model.connect(&client);
        let dir = tempfile::tempdir().unwrap();
        match Mount::start(client, "export", dir.path(), MountOptions::default()) {
            Ok(mount) => {
                // Once this is through, the mount has started altogether.
                server.tell(Vec::new());
                Some(Self { host: Host { model, server }, mount, dir, _turn: turn })
            }
            Err(error @ (Error::NoFuse | Error::FusePermission | Error::NoFusermount)) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Watches some paths and takes down what it hears.
struct Watcher {
    inotify: OwnedFd,
    paths: Vec<(i32, String)>,
    cookies: Vec<u32>,
}

impl Watcher {
    fn new(root: &Path, paths: &[&str]) -> Self {
        let inotify = rustix::fs::inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let mut watcher =
            Self { inotify: inotify.unwrap(), paths: Vec::new(), cookies: Vec::new() };
        paths.iter().for_each(|path| watcher.watch(root, path));
        watcher
    }

    fn watch(&mut self, root: &Path, path: &str) {
        let wanted = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF;
        let at = root.join(path);
        let watch = rustix::fs::inotify::add_watch(&self.inotify, &at, wanted).unwrap();
        self.paths.push((watch, path.to_owned()));
    }

    /// What has been heard since the last time, a line an event, with renames numbered.
    fn heard(&mut self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = rustix::fs::inotify::Reader::new(&self.inotify, &mut buffer);
        let mut lines = Vec::new();
        while let Ok(event) = reader.next() {
            let at = self.paths.iter().find(|(watch, _)| *watch == event.wd());
            let mut line =
                format!("{} {}", names(event.events()), at.map_or("?", |(_, path)| path));
            if let Some(name) = event.file_name() {
                line += &format!("/{}", name.to_str().unwrap());
            }
            if event.cookie() != 0 {
                if !self.cookies.contains(&event.cookie()) {
                    self.cookies.push(event.cookie());
                }
                let number = self.cookies.iter().position(|cookie| *cookie == event.cookie());
                line += &format!(" #{}", number.unwrap());
            }
            lines.push(line);
        }
        lines
    }
}

fn names(events: ReadFlags) -> String {
    events.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(",")
}

/// The same on a local folder and on a mount.
struct Case {
    name: &'static str,
    /// Done in the folder and, by the guest, on the mount.
    before: fn(&Path),
    watch: &'static [&'static str],
    /// Done on the local folder; `out` beside it is out of sight.
    local: fn(dir: &Path, out: &Path),
    /// What is told of it.
    told: fn(&Host),
}

const CASES: &[Case] = &[
    Case {
        name: "a file is made, written and closed",
        before: |_| {},
        watch: &["."],
        local: |dir, _| fs::write(dir.join("f"), b"text").unwrap(),
        told: |host| {
            host.create("f", FILE);
            host.write("f", b"text", ContentEvents::all());
        },
    },
    Case {
        name: "an empty file is made and closed",
        before: |_| {},
        watch: &["."],
        local: |dir, _| fs::write(dir.join("f"), b"").unwrap(),
        told: |host| {
            host.create("f", FILE);
            host.close("f");
        },
    },
    Case {
        name: "directory, link and fifo are made",
        before: |_| {},
        watch: &["."],
        local: |dir, _| {
            fs::create_dir(dir.join("d")).unwrap();
            std::os::unix::fs::symlink("d", dir.join("l")).unwrap();
            let kind = rustix::fs::FileType::Fifo;
            let at = dir.join("p");
            rustix::fs::mknodat(rustix::fs::CWD, at, kind, 0o600.into(), 0).unwrap();
        },
        told: |host| {
            host.create("d", DIR);
            let link = host.model.tree().make(mode::IFLNK | 0o777);
            host.model.tree().files.get_mut(&link).unwrap().target = b"d".to_vec();
            host.appear("l", link, false);
            host.create("p", mode::IFIFO | 0o600);
        },
    },
    Case {
        name: "a file is written and stays open",
        before: |dir| fs::write(dir.join("f"), b"old").unwrap(),
        watch: &[".", "f"],
        local: |dir, _| {
            use std::io::Write;
            let mut file = fs::OpenOptions::new().append(true).open(dir.join("f")).unwrap();
            file.write_all(b" and new").unwrap();
            std::mem::forget(file);
        },
        told: |host| host.write("f", b"old and new", ContentEvents::WRITTEN),
    },
    Case {
        name: "a file that was open for writing is closed",
        before: |dir| fs::write(dir.join("f"), b"old").unwrap(),
        watch: &[".", "f"],
        local: |dir, _| {
            drop(fs::OpenOptions::new().append(true).open(dir.join("f")).unwrap());
        },
        told: |host| host.close("f"),
    },
    Case {
        name: "the mode changes",
        before: |dir| fs::write(dir.join("f"), b"").unwrap(),
        watch: &[".", "f"],
        local: |dir, _| {
            fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
        },
        told: |host| {
            let ino = host.model.tree().find("f");
            host.model.tree().files.get_mut(&ino).unwrap().attr.mode = mode::IFREG | 0o600;
            host.attrib("f");
        },
    },
    Case {
        name: "a file is removed",
        before: |dir| fs::write(dir.join("f"), b"").unwrap(),
        watch: &[".", "f"],
        local: |dir, _| fs::remove_file(dir.join("f")).unwrap(),
        told: |host| _ = host.vanish("f", false),
    },
    Case {
        name: "a directory is removed",
        before: |dir| fs::create_dir(dir.join("d")).unwrap(),
        watch: &[".", "d"],
        local: |dir, _| fs::remove_dir(dir.join("d")).unwrap(),
        told: |host| _ = host.vanish("d", false),
    },
    Case {
        name: "a tree is removed",
        before: |dir| {
            fs::create_dir_all(dir.join("d/e")).unwrap();
            fs::write(dir.join("d/e/f"), b"").unwrap();
        },
        watch: &[".", "d", "d/e", "d/e/f"],
        local: |dir, _| fs::remove_dir_all(dir.join("d")).unwrap(),
        told: |host| ["d/e/f", "d/e", "d"].iter().for_each(|path| _ = host.vanish(path, false)),
    },
    Case {
        name: "a file gets another name and loses it again",
        before: |dir| fs::write(dir.join("f"), b"").unwrap(),
        watch: &[".", "f"],
        local: |dir, _| {
            fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
            fs::remove_file(dir.join("g")).unwrap();
        },
        told: |host| {
            host.hard_link("f", "g");
            host.vanish("g", false);
        },
    },
    Case {
        name: "both names of a file are removed",
        before: |dir| {
            fs::write(dir.join("f"), b"").unwrap();
            fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
        },
        watch: &[".", "f"],
        local: |dir, _| {
            fs::remove_file(dir.join("f")).unwrap();
            fs::remove_file(dir.join("g")).unwrap();
        },
        told: |host| {
            host.vanish("f", false);
            host.attrib("g");
            host.vanish("g", false);
        },
    },
    Case {
        name: "one of two names is removed and the kernel knows of one only",
        before: |dir| fs::write(dir.join("f"), b"").unwrap(),
        watch: &[".", "f"],
        local: |dir, out| {
            fs::hard_link(dir.join("f"), out.join("g")).unwrap();
            fs::remove_file(dir.join("f")).unwrap();
        },
        told: |host| {
            let ino = host.model.tree().find("f");
            host.model.tree().files.get_mut(&ino).unwrap().attr.nlink = 2;
            host.vanish("f", false);
        },
    },
    Case {
        name: "a file is renamed",
        before: |dir| {
            fs::create_dir(dir.join("d")).unwrap();
            fs::write(dir.join("f"), b"").unwrap();
        },
        watch: &[".", "d", "f"],
        local: |dir, _| {
            fs::rename(dir.join("f"), dir.join("g")).unwrap();
            fs::rename(dir.join("g"), dir.join("d/f")).unwrap();
        },
        told: |host| {
            host.rename("f", "g");
            host.rename("g", "d/f");
        },
    },
    Case {
        name: "a directory is renamed",
        before: |dir| {
            fs::create_dir_all(dir.join("a/d/e")).unwrap();
            fs::create_dir(dir.join("b")).unwrap();
        },
        watch: &["a", "b", "a/d", "a/d/e"],
        local: |dir, _| fs::rename(dir.join("a/d"), dir.join("b/d")).unwrap(),
        told: |host| host.rename("a/d", "b/d"),
    },
    Case {
        name: "a file is renamed over another",
        before: |dir| {
            fs::write(dir.join("f"), b"").unwrap();
            fs::write(dir.join("g"), b"").unwrap();
        },
        watch: &[".", "f", "g"],
        local: |dir, _| fs::rename(dir.join("f"), dir.join("g")).unwrap(),
        told: |host| host.rename("f", "g"),
    },
    Case {
        name: "a file is moved out",
        before: |dir| fs::write(dir.join("f"), b"").unwrap(),
        watch: &[".", "f"],
        local: |dir, out| fs::rename(dir.join("f"), out.join("f")).unwrap(),
        told: |host| _ = host.vanish("f", true),
    },
    Case {
        name: "a file is moved in",
        before: |_| {},
        watch: &["."],
        local: |dir, out| {
            fs::write(out.join("f"), b"").unwrap();
            fs::rename(out.join("f"), dir.join("f")).unwrap();
        },
        told: |host| {
            let ino = host.model.tree().make(FILE);
            host.appear("f", ino, true);
        },
    },
    Case {
        name: "a file that was never looked up is moved out, and a directory",
        before: |_| {},
        watch: &["."],
        local: |dir, out| {
            // Made before anybody watches, as far as the mount is concerned.
            fs::rename(dir.join("f"), out.join("f")).unwrap();
            fs::rename(dir.join("d"), out.join("d")).unwrap();
        },
        told: |host| {
            host.model.tree().add(1, "f", FILE, b"");
            host.model.tree().add(1, "d", DIR, b"");
            host.vanish_unseen("f", false, true);
            host.vanish_unseen("d", true, true);
        },
    },
    Case {
        name: "a directory is moved out and back and changed in between and then",
        before: |dir| {
            fs::create_dir_all(dir.join("d/e")).unwrap();
            fs::write(dir.join("d/e/f"), b"").unwrap();
            fs::create_dir(dir.join("b")).unwrap();
        },
        watch: &[".", "b", "d", "d/e", "d/e/f"],
        local: |dir, out| {
            for new in ["d", "b/d", "d"] {
                let old = if dir.join("d").exists() { "d" } else { "b/d" };
                fs::rename(dir.join(old), out.join("d")).unwrap();
                fs::rename(out.join("d"), dir.join(new)).unwrap();
                fs::write(dir.join(new).join("e/g"), b"text").unwrap();
                fs::remove_file(dir.join(new).join("e/g")).unwrap();
            }
            fs::remove_file(dir.join("d/e/f")).unwrap();
            fs::remove_dir(dir.join("d/e")).unwrap();
            fs::remove_dir(dir.join("d")).unwrap();
        },
        told: |host| {
            let mut old = "d";
            for new in ["d", "b/d", "d"] {
                let ino = host.vanish(old, true);
                host.appear(new, ino, true);
                let file = format!("{new}/e/g");
                host.create(&file, FILE);
                host.write(&file, b"text", ContentEvents::all());
                host.vanish(&file, false);
                old = new;
            }
            ["d/e/f", "d/e", "d"].iter().for_each(|path| _ = host.vanish(path, false));
        },
    },
    Case {
        name: "things come and go",
        before: |_| {},
        watch: &["."],
        local: |dir, _| {
            fs::write(dir.join("f"), b"text").unwrap();
            fs::remove_file(dir.join("f")).unwrap();
            fs::write(dir.join("f"), b"").unwrap();
            fs::remove_file(dir.join("f")).unwrap();
            fs::create_dir(dir.join("f")).unwrap();
            fs::remove_dir(dir.join("f")).unwrap();
            std::os::unix::fs::symlink("d", dir.join("f")).unwrap();
            fs::remove_file(dir.join("f")).unwrap();
        },
        told: |host| {
            host.pass("f", false, ContentEvents::all());
            host.pass("f", false, ContentEvents::CLOSED);
            host.pass("f", true, ContentEvents::empty());
            host.pass("f", false, ContentEvents::empty());
        },
    },
    Case {
        name: "a file comes, is written and goes before it is closed",
        before: |_| {},
        watch: &["."],
        local: |dir, _| {
            use std::io::Write;
            let mut file = fs::File::create(dir.join("f")).unwrap();
            file.write_all(b"text").unwrap();
            fs::remove_file(dir.join("f")).unwrap();
            std::mem::forget(file);
        },
        told: |host| host.pass("f", false, ContentEvents::WRITTEN),
    },
];

/// Waits until the kernel has let go of all but so many nodes.
#[track_caller]
fn settles_at(stage: &Stage, nodes: usize) {
    let begun = Instant::now();
    while stage.mount.nodes() != nodes {
        let known = stage.mount.nodes();
        assert!(begun.elapsed() < Duration::from_secs(10), "{known} nodes instead of {nodes}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_moved_out_or_came_and_went_is_let_go() {
    for (consistency, valid) in MODES {
        let Some(stage) = Stage::new(consistency, valid) else { return };
        let host = &stage.host;
        fs::create_dir(stage.path("stays")).unwrap();
        let names = ["a", "b", "c"];
        let deep = |dir: &str| names.map(|name| format!("{dir}/{name}"));
        let mut watcher = Watcher::new(stage.dir.path(), &["."]);
        let before = stage.mount.nodes();
        for round in 0..50 {
            host.create("d", DIR);
            for file in deep("d") {
                host.create(&file, FILE);
                assert!(stage.path(&file).exists());
            }
            host.vanish("d", true);
            assert!(!stage.path("d").exists());
            let file = host.create("f", FILE);
            assert!(stage.path("f").exists());
            host.vanish("f", true);
            host.appear("g", file, true);
            assert!(stage.path("g").exists(), "in round {round}");
            host.vanish("g", true);
            host.pass("p", false, ContentEvents::all());
            host.pass("q", true, ContentEvents::empty());
            assert!(!stage.path("p").exists() && !stage.path("q").exists());
        }
        settles_at(&stage, before);
        assert_eq!(watcher.heard().len(), 50 * (3 + 4 + 2 + 2 + 1 + 1 - 1), "{consistency:?}");
        let listed: Vec<_> = fs::read_dir(stage.dir.path()).unwrap().flatten().collect();
        assert_eq!(listed.len(), 1, "{listed:?}");
    }
}

#[test]
fn a_watched_file_that_is_moved_out_is_let_go_when_nobody_watches_it() {
    let Some(stage) = Stage::new(Consistency::Cached, LEASED) else { return };
    fs::create_dir(stage.path("d")).unwrap();
    fs::write(stage.path("d/f"), b"").unwrap();
    let mut watcher = Watcher::new(stage.dir.path(), &["d", "d/f"]);
    let dir = stage.host.vanish("d", true);
    assert_eq!(watcher.heard(), ["MOVE_SELF d"]);
    stage.host.appear("e", dir, true);
    stage.host.write("e/f", b"text", ContentEvents::WRITTEN);
    assert_eq!(watcher.heard(), ["MOVE_SELF d", "MODIFY d/f", "MODIFY d/f"]);
    stage.host.vanish("e", true);
    drop(watcher);
    settles_at(&stage, 1);
}

#[test]
fn a_mount_below_a_directory_that_moves_out_and_back_stays() {
    let Some(stage) = Stage::new(Consistency::Cached, LEASED) else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    fs::create_dir_all(stage.path("d/e")).unwrap();
    let on_top = stage.path("d/e");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &on_top, "tmpfs", flags, None).unwrap();
    fs::write(on_top.join("f"), b"on top").unwrap();
    let inside = fs::File::open(&on_top).unwrap();
    let dir = stage.host.vanish("d", true);
    assert!(!stage.path("d").exists());
    stage.host.appear("back", dir, true);
    let read = fs::read(stage.path("back/e/f"));
    drop(inside);
    let unmounted =
        rustix::mount::unmount(stage.path("back/e"), rustix::mount::UnmountFlags::DETACH);
    assert_eq!(read.unwrap(), b"on top");
    unmounted.unwrap();
}

#[test]
fn each_change_is_heard_as_on_a_local_folder() {
    let mut failures = Vec::new();
    for (consistency, valid) in MODES {
        for case in CASES {
            let Some(stage) = Stage::new(consistency, valid) else { return };
            let base = tempfile::tempdir().unwrap();
            let (dir, out) = (base.path().join("dir"), base.path().join("out"));
            fs::create_dir(&dir).unwrap();
            fs::create_dir(&out).unwrap();
            (case.before)(&dir);
            if case.name.contains("never looked up") {
                fs::write(dir.join("f"), b"").unwrap();
                fs::create_dir(dir.join("d")).unwrap();
            }
            let mut local = Watcher::new(&dir, case.watch);
            (case.local)(&dir, &out);
            (case.before)(stage.dir.path());
            let mut guest = Watcher::new(stage.dir.path(), case.watch);
            (case.told)(&stage.host);
            let (local, guest) = (local.heard(), guest.heard());
            if local != guest {
                let name = case.name;
                failures.push(format!(
                    "{consistency:?} {valid:?} {name}:\n  local {local:#?}\n  guest {guest:#?}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
