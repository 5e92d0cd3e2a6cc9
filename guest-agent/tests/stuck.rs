//! Events where the kernel holds a directory: a slow operation of the guest delays those of no other
//! directory, and what cannot be injected in time is found by comparing. Needs `/dev/fuse` and the
//! right to mount; without them each test says so and passes.

mod model;

use guest_agent::client::Client;
use guest_agent::watch::{Fate, Kind, Told, Why};
use guest_agent::{Error, Mount, MountOptions};
use model::{LEASED, Model, Server};
use protocol::{Change, Consistency, Name, Place, mode};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const PROMPT: Duration = Duration::from_secs(20);

struct Stage {
    model: Model,
    server: Arc<Server>,
    mount: Mount,
    dir: tempfile::TempDir,
}

impl Stage {
    /// A mount with the directories `a` and `b`, which the kernel knows; and their numbers.
    fn new() -> Option<(Self, u64, u64)> {
        let model = Model::new(Consistency::Cached, LEASED);
        let a = model.tree().add(1, "a", mode::IFDIR | 0o755, b"");
        let b = model.tree().add(1, "b", mode::IFDIR | 0o755, b"");
        let client = Client::new();
        let server = model.connect(&client);
        let dir = tempfile::tempdir().unwrap();
        match Mount::start(client, "export", dir.path(), MountOptions::default()) {
            Ok(mount) => Some((Self { model, server, mount, dir }, a, b)),
            Err(error @ (Error::NoFuse | Error::FusePermission | Error::NoFusermount)) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The host makes a file, and the server tells of it.
    fn tell(&self, dir: u64, name: &str) {
        let entry = {
            let tree = &mut *self.model.tree();
            let ino = tree.add(dir, name, mode::IFREG | 0o644, b"");
            self.server.entry(tree, ino)
        };
        let at = Place { parent: self.server.node(dir), name: Name::new(name.as_bytes()).unwrap() };
        self.server.announce(vec![Change::Created { at, entry, target: None, moved: false }]);
    }

    /// A program of the guest makes a directory in `a`, which the server does not answer for now.
    fn block(&self) -> thread::JoinHandle<()> {
        self.server.slow.store(true, Ordering::SeqCst);
        let path = self.dir.path().join("a/slow");
        let made = thread::spawn(move || fs::create_dir(path).unwrap());
        eventually("the server is asked", || self.server.waiting.load(Ordering::SeqCst) > 0);
        made
    }

    fn unblock(&self, made: thread::JoinHandle<()>) {
        self.server.slow.store(false, Ordering::SeqCst);
        made.join().unwrap();
    }
}

/// Real inotify on a directory.
struct Watcher(OwnedFd, Vec<String>);

impl Watcher {
    fn new(dir: &Path) -> Self {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&fd, dir, WatchFlags::CREATE | WatchFlags::DELETE).unwrap();
        Self(fd, Vec::new())
    }

    /// The names that came up so far.
    fn heard(&mut self) -> &[String] {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::CREATE) {
                self.1.push(event.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        &self.1
    }
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PROMPT, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_blocked_directory_delays_no_other() {
    let Some((stage, a, b)) = Stage::new() else { return };
    let mut in_a = Watcher::new(&stage.dir.path().join("a"));
    let mut in_b = Watcher::new(&stage.dir.path().join("b"));
    let made = stage.block();
    stage.tell(a, "a1");
    stage.tell(b, "b1");
    stage.tell(a, "a2");
    stage.tell(b, "b2");
    eventually("the events of the other directory", || in_b.heard() == ["b1", "b2"]);
    assert_eq!(in_a.heard(), [""; 0], "it is blocked");
    assert_eq!(stage.server.acknowledged(), 0, "the first is not delivered");
    stage.unblock(made);
    eventually("the events of the blocked directory", || in_a.heard() == ["slow", "a1", "a2"]);
    eventually("all are delivered", || stage.server.acknowledged() == 4);
    assert_eq!(stage.mount.delivery().unwrap().given_up, 0);
    // And on it goes, with one hand as before.
    stage.tell(a, "a3");
    stage.tell(b, "b3");
    eventually("what comes later", || in_a.heard().len() == 4 && in_b.heard().len() == 3);
}

#[test]
fn what_cannot_be_injected_in_time_is_given_up_and_compared() {
    let Some((stage, a, b)) = Stage::new() else { return };
    let mut in_a = Watcher::new(&stage.dir.path().join("a"));
    let mut in_b = Watcher::new(&stage.dir.path().join("b"));
    let told = stage.mount.watch().unwrap();
    // The model's time is its own: what it makes from now on is new.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    stage.model.tree().clock = now.as_secs() as i64;
    let made = stage.block();
    for name in ["a1", "a2", "a3"] {
        stage.tell(a, name);
    }
    eventually("it is given up", || stage.mount.delivery().unwrap().given_up == 1);
    eventually("the server can go on", || stage.server.acknowledged() == 3);
    stage.tell(a, "a4");
    stage.tell(b, "b1");
    eventually("the events of the other directory", || in_b.heard() == ["b1"]);
    stage.unblock(made);
    eventually("the net difference", || in_a.heard().len() >= 5);
    thread::sleep(Duration::from_millis(200));
    let mut heard = in_a.heard().to_vec();
    heard.sort();
    assert_eq!(heard, ["a1", "a2", "a3", "a4", "slow"], "each once");
    let told: Vec<Told> = drain(&told);
    let has = |kind, fate, why| told.iter().any(|t| (t.kind, t.fate, t.why) == (kind, fate, why));
    assert!(has(Kind::Doubt, Fate::GivenUp, None), "{told:#?}");
    assert!(has(Kind::Created, Fate::Dropped, None), "{told:#?}");
    assert!(has(Kind::Created, Fate::Injected, Some(Why::GivenUp)), "{told:#?}");
    assert!(told.iter().any(|t| t.kind == Kind::Compared), "{told:#?}");
}

fn drain(told: &mpsc::Receiver<Told>) -> Vec<Told> {
    told.try_iter().collect()
}
