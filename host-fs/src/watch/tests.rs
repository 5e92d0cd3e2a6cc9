//! What the sources of Linux hint at, on real directories.

use super::linux::Linux;
use super::{Doer, Hint, HintSource, Kinds, Report, WatchKey};
use protocol::NodeId;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DIR: WatchKey = WatchKey(NodeId(7));

struct Scene {
    dir: TempDir,
    source: Linux,
}

impl Scene {
    fn of(source: Linux) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fd = fs::File::open(dir.path()).unwrap();
        source.anchor(fd.as_fd());
        source.watch(DIR, fd.as_fd()).unwrap();
        Self { dir, source }
    }

    /// Reports until there are `count`.
    fn reports(&self, count: usize) -> Vec<Report> {
        let mut out = Vec::new();
        let end = Instant::now() + Duration::from_secs(20);
        while out.len() < count && Instant::now() < end {
            self.source.wait(Some(Duration::from_millis(100)), &mut out).unwrap();
        }
        out
    }

    fn hints(&self, count: usize) -> Vec<Hint> {
        let hint = |report| match report {
            Report::Hint(hint) => hint,
            other => panic!("{other:?}"),
        };
        self.reports(count).into_iter().map(hint).collect()
    }
}

fn each_source(check: impl Fn(Scene)) {
    check(Scene::of(Linux::inotify_only().unwrap()));
    check(Scene::of(Linux::new().unwrap()));
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn what_happens_to_a_name_is_hinted() {
    each_source(|scene| {
        fs::write(scene.dir.path().join("f"), "x").unwrap();
        fs::create_dir(scene.dir.path().join("d")).unwrap();
        let mut found = (Kinds::empty(), Kinds::empty());
        for hint in scene.hints(2) {
            match hint.name.as_deref() {
                Some(b"f") if !hint.is_dir => found.0 |= hint.kinds,
                Some(b"d") if hint.is_dir => found.1 |= hint.kinds,
                other => panic!("{other:?}"),
            }
        }
        let file = Kinds::CREATE | Kinds::MODIFY | Kinds::CLOSE_WRITE;
        assert_eq!(found, (file, Kinds::CREATE));
    });
}

#[test]
fn both_halves_of_a_rename_have_one_cookie() {
    each_source(|scene| {
        fs::create_dir(scene.dir.path().join("a")).unwrap();
        scene.hints(1);
        fs::rename(scene.dir.path().join("a"), scene.dir.path().join("b")).unwrap();
        let hints = scene.hints(2);
        let kinds: Vec<_> = hints.iter().map(|hint| hint.kinds).collect();
        assert_eq!(kinds, [Kinds::MOVED_FROM, Kinds::MOVED_TO]);
        assert!(hints[0].cookie != 0 && hints[0].cookie == hints[1].cookie, "{hints:?}");
    });
}

#[test]
fn a_directory_under_two_keys_is_hinted_twice() {
    each_source(|scene| {
        let fd = fs::File::open(scene.dir.path()).unwrap();
        scene.source.watch(WatchKey(NodeId(8)), fd.as_fd()).unwrap();
        fs::create_dir(scene.dir.path().join("a")).unwrap();
        assert_eq!(scene.hints(2).len(), 2);
        scene.source.unwatch(DIR);
        fs::create_dir(scene.dir.path().join("b")).unwrap();
        assert_eq!(scene.hints(1).len(), 1);
    });
}

#[test]
fn what_is_watched_no_longer_is_not_hinted() {
    each_source(|scene| {
        let other = scene.dir.path().join("other");
        fs::create_dir(&other).unwrap();
        scene.hints(1);
        scene.source.unwatch(DIR);
        let fd = fs::File::open(&other).unwrap();
        scene.source.watch(WatchKey(NodeId(8)), fd.as_fd()).unwrap();
        fs::create_dir(scene.dir.path().join("unheard")).unwrap();
        fs::create_dir(other.join("heard")).unwrap();
        let names: Vec<_> = scene.hints(1).into_iter().filter_map(|hint| hint.name).collect();
        assert_eq!(names, [Box::from(&b"heard"[..])]);
    });
}

#[test]
fn only_watches_that_are_limited_are_given_up_for_others() {
    let inotify = Scene::of(Linux::inotify_only().unwrap());
    assert_eq!(inotify.source.limited(), [DIR]);
    // What two share frees no watch by being watched for one less.
    let (other, fd) = (WatchKey(NodeId(8)), fs::File::open(inotify.dir.path()).unwrap());
    inotify.source.watch(other, fd.as_fd()).unwrap();
    assert_eq!(inotify.source.limited(), []);
    inotify.source.unwatch(DIR);
    assert_eq!(inotify.source.limited(), [other]);
    if is_root() {
        assert_eq!(Scene::of(Linux::new().unwrap()).source.limited(), []);
    }
}

#[test]
fn a_removed_directory_ends_its_watch() {
    each_source(|scene| {
        let (other, key) = (scene.dir.path().join("other"), WatchKey(NodeId(8)));
        fs::create_dir(&other).unwrap();
        scene.source.watch(key, fs::File::open(&other).unwrap().as_fd()).unwrap();
        fs::remove_dir(&other).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let mut out = Vec::new();
        while !out.contains(&Report::Ended(key)) && Instant::now() < end {
            scene.source.wait(Some(Duration::from_millis(100)), &mut out).unwrap();
        }
        assert!(out.contains(&Report::Ended(key)), "{out:?}");
    });
}

#[test]
fn waking_ends_a_wait_without_reports() {
    each_source(|scene| {
        scene.source.wake();
        let mut out = Vec::new();
        scene.source.wait(None, &mut out).unwrap();
        assert!(out.is_empty());
    });
}

#[test]
fn fanotify_knows_who_did_it() {
    if !is_root() {
        return;
    }
    let scene = Scene::of(Linux::new().unwrap());
    let at = scene.dir.path().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            scene.source.serving();
            fs::create_dir(at.join("ours")).unwrap();
        });
    });
    fs::create_dir(at.join("another")).unwrap();
    let by: Vec<_> = scene.hints(2).into_iter().map(|hint| hint.by).collect();
    assert_eq!(by, [Doer::Ourselves, Doer::Another]);
}

#[test]
fn gathering_ends_when_the_waiter_is_woken_and_so_does_the_next_wait() {
    each_source(|scene| {
        scene.source.wake();
        let begun = Instant::now();
        scene.source.gather(Duration::from_secs(60));
        let mut out = Vec::new();
        scene.source.wait(Some(Duration::from_secs(60)), &mut out).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30));
        fs::write(scene.dir.path().join("f"), "x").unwrap();
        scene.source.gather(Duration::from_millis(1));
        assert!(!scene.hints(1).is_empty(), "what came meanwhile is there");
    });
}
