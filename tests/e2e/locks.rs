//! Locks: of each kind, among processes, among guests, and with the host where that is asked for.
//!
//! The other process is a real one: `lock-holder.py` takes a lock, says how it went, and keeps it
//! until it is ended.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::share::NAME;
use crate::support::{Daemon, PROMPT, Shape, eventually, holds_within, on_each_shape, require};

const HOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/support/lock-holder.py");
const KINDS: [&str; 3] = ["posix", "ofd", "flock"];

on_each_shape!(together:
    locks_exclude_other_processes,
    shared_locks_are_shared,
    ranges_lock_apart,
    a_waiting_lock_is_taken_when_it_is_free,
    a_waiting_lock_can_be_interrupted,
    host_locks_exclude_the_host,
    a_lock_of_a_cached_file_ends_with_its_process,
);

/// Tries to take a lock; the holder, if it got it.
#[track_caller]
fn lock(kind: &str, path: &Path, how: &str) -> Result<Daemon, String> {
    let mut holder = holder(kind, path, how);
    let line = holder.await_line("lock: ");
    if line == "lock: taken" { Ok(holder) } else { Err(line) }
}

/// `how`: `shared` or `exclusive`, then maybe `wait`, then maybe `START+LENGTH`.
fn holder(kind: &str, path: &Path, how: &str) -> Daemon {
    let mut command = Command::new("/usr/bin/env");
    command.arg("python3").arg(HOLDER).arg(kind).arg(path).args(how.split(' '));
    Daemon::spawn("lock-holder", command, Duration::from_secs(100))
}

const BUSY: &str = "lock: EAGAIN";

fn locks_exclude_other_processes(shape: Shape) {
    require!("python3");
    let share = shape.mounted();
    for kind in KINDS {
        let path = share.mount().join(kind);
        std::fs::write(&path, "0123456789").expect("a file");
        let first = lock(kind, &path, "exclusive").expect("a free lock");
        assert_eq!(lock(kind, &path, "exclusive").err().as_deref(), Some(BUSY), "{kind}");
        assert_eq!(lock(kind, &path, "shared").err().as_deref(), Some(BUSY), "{kind}");
        // It ends with its process, however that ends.
        drop(first);
        let mut second = lock(kind, &path, "exclusive").expect("a lock that is free again");
        second.kill();
        lock(kind, &path, "exclusive").expect("a lock that is free again");
    }
}

fn shared_locks_are_shared(shape: Shape) {
    require!("python3");
    let share = shape.mounted();
    for kind in KINDS {
        let path = share.mount().join(kind);
        std::fs::write(&path, "0123456789").expect("a file");
        let first = lock(kind, &path, "shared").expect("a free lock");
        let _second = lock(kind, &path, "shared").expect("a shared lock");
        assert_eq!(lock(kind, &path, "exclusive").err().as_deref(), Some(BUSY), "{kind}");
        drop(first);
        assert_eq!(lock(kind, &path, "exclusive").err().as_deref(), Some(BUSY), "{kind}");
    }
}

fn a_lock_of_a_cached_file_ends_with_its_process(shape: Shape) {
    require!("python3");
    for kind in KINDS {
        // The first lock that the mount sees.
        let share = shape.mounted();
        let (host, path) = (share.host().join(kind), share.mount().join(kind));
        std::fs::write(&host, "0123456789").expect("a file");
        for _ in 0..3 {
            // From the second time on the kernel has all of it.
            eventually("it is there", PROMPT, || std::fs::read(&path).is_ok());
        }
        let first = lock(kind, &path, "shared").expect("a free lock");
        assert_eq!(lock(kind, &path, "exclusive").err().as_deref(), Some(BUSY), "{kind}");
        drop(first);
        lock(kind, &path, "exclusive").expect("a lock that is free again");
    }
}

fn ranges_lock_apart(shape: Shape) {
    require!("python3");
    let share = shape.mounted();
    for kind in ["posix", "ofd"] {
        let path = share.mount().join(kind);
        std::fs::write(&path, "0123456789").expect("a file");
        let _first = lock(kind, &path, "exclusive 0+5").expect("a free range");
        let _second = lock(kind, &path, "exclusive 5+5").expect("the range beside it");
        assert_eq!(lock(kind, &path, "exclusive 4+2").err().as_deref(), Some(BUSY), "{kind}");
        let _beyond = lock(kind, &path, "exclusive 10+0").expect("from there to the end");
        assert_eq!(lock(kind, &path, "shared 999999+1").err().as_deref(), Some(BUSY), "{kind}");
    }
}

fn a_waiting_lock_is_taken_when_it_is_free(shape: Shape) {
    require!("python3");
    let share = shape.mounted();
    for kind in KINDS {
        let path = share.mount().join(kind);
        std::fs::write(&path, "0123456789").expect("a file");
        let first = lock(kind, &path, "exclusive").expect("a free lock");
        let mut waiting = holder(kind, &path, "exclusive wait");
        let early = waiting.stdout.wait_for(Duration::from_millis(300), |_| true);
        assert_eq!(early, None, "{kind}: it waits");
        // The mount serves others meanwhile.
        std::fs::write(share.mount().join("other"), "x").expect("a file");
        drop(first);
        assert_eq!(waiting.await_line("lock: "), "lock: taken", "{kind}");
    }
}

fn a_waiting_lock_can_be_interrupted(shape: Shape) {
    require!("python3");
    let share = shape.mounted();
    for kind in KINDS {
        let path = share.mount().join(kind);
        std::fs::write(&path, "0123456789").expect("a file");
        let first = lock(kind, &path, "exclusive").expect("a free lock");
        let mut waiting = holder(kind, &path, "exclusive wait");
        let early = waiting.stdout.wait_for(Duration::from_millis(300), |_| true);
        assert_eq!(early, None, "{kind}: it waits");
        waiting.signal(rustix::process::Signal::TERM);
        assert!(waiting.wait(PROMPT).is_some(), "{kind}: it ends while it waits");
        drop(first);
        // The lock it waited for is not taken by a ghost.
        lock(kind, &path, "exclusive").expect("a free lock");
    }
}

fn host_locks_exclude_the_host(shape: Shape) {
    require!("python3");
    let share = shape.share().server_flags(["--host-locks"]).start();
    for kind in KINDS {
        let (guest, host) = (share.mount().join(kind), share.host().join(kind));
        std::fs::write(&guest, "0123456789").expect("a file");
        let of_guest = lock(kind, &guest, "exclusive").expect("a free lock");
        assert_eq!(lock(kind, &host, "exclusive").err().as_deref(), Some(BUSY), "{kind}");
        drop(of_guest);
        let free = || lock(kind, &host, "exclusive").is_ok();
        assert!(holds_within(PROMPT, free), "{kind}: free for the host");
        let of_host = lock(kind, &host, "exclusive").expect("a free lock");
        assert_eq!(lock(kind, &guest, "exclusive").err().as_deref(), Some(BUSY), "{kind}");
        drop(of_host);
        assert!(holds_within(PROMPT, || lock(kind, &guest, "exclusive").is_ok()), "{kind}");
    }
}

/// Two agents are two guests, as far as the server knows.
#[test]
fn locks_exclude_other_guests() {
    let _turn = crate::support::turns::together();
    require!("python3");
    let share = Shape::UnixSocket.mounted();
    let there = share.scratch().dir("second");
    let mut second = share.another_agent(&[(NAME, there.clone())]);
    for kind in KINDS {
        std::fs::write(share.mount().join(kind), "0123456789").expect("a file");
        let of_first = lock(kind, &share.mount().join(kind), "exclusive").expect("a free lock");
        let found = lock(kind, &there.join(kind), "exclusive").err();
        assert_eq!(found.as_deref(), Some(BUSY), "{kind}");
        drop(of_first);
        let _of_second = lock(kind, &there.join(kind), "exclusive").expect("a free lock");
        let found = lock(kind, &share.mount().join(kind), "shared").err();
        assert_eq!(found.as_deref(), Some(BUSY), "{kind}");
    }
    // A guest that dies gives its locks back.
    let _of_second = lock("posix", &there.join("posix"), "exclusive").expect("a free lock");
    second.kill();
    assert!(holds_within(PROMPT, || {
        lock("posix", &share.mount().join("posix"), "exclusive").is_ok()
    }));
}
