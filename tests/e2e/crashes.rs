//! `kill -9` of any part: the mount answers within 5 s, what was fsynced is there, and a restart
//! works at once on the same mount point.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::share::{is_mounted, mounts_below};
use crate::support::{PROMPT, Shape, Share, eventually, on_each_shape, turns};

const ANSWER: Duration = Duration::from_secs(5);
const RECORD: usize = 4096;

on_each_shape!(together: everything_killed_loses_nothing_and_restarts);

fn everything_killed_loses_nothing_and_restarts(shape: Shape) {
    let mut share = shape.mounted();
    let synced = while_a_writer_syncs(&mut share, |share| {
        for daemon in share.daemons() {
            daemon.kill();
        }
        answers(share.mount());
    });
    share.reap();
    assert_synced(&share, synced);
    // The mount of the dead is still there, and the new one takes its place.
    share.start_server();
    share.start_agent();
    works(&share);
    // Once more, with nothing going on.
    for daemon in share.daemons() {
        daemon.kill();
    }
    share.reap();
    answers(share.mount());
    share.start_server();
    share.start_agent();
    works(&share);
}

#[test]
fn a_killed_server_loses_nothing_and_is_found_again() {
    let _turn = turns::together();
    let mut share = Shape::UnixSocket.mounted();
    fs::create_dir(share.mount().join("known")).expect("a folder");
    fs::write(share.mount().join("known/before"), "x").expect("a file");
    let mut open = File::open(share.mount().join("known/before")).expect("the file");
    let synced = while_a_writer_syncs(&mut share, |share| {
        share.server().kill();
        answers(share.mount());
    });
    share.reap();
    assert_synced(&share, synced);
    fs::write(share.host().join("known/meanwhile"), "x").expect("a file");
    fs::remove_file(share.host().join("known/before")).expect("a removal");
    share.start_server();
    // The agent comes back by itself, and what changed meanwhile shows.
    eventually("the agent is back", PROMPT, || {
        let listed = fs::read_dir(share.mount().join("known"));
        listed.is_ok_and(|entries| {
            let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names == ["meanwhile"]
        })
    });
    works(&share);
    // A file that was open fails or works, and does not hang.
    let _ = std::io::Read::read(&mut open, &mut [0; 1]);
}

#[test]
fn a_killed_agent_loses_nothing_and_its_server_stays() {
    let _turn = turns::together();
    let mut share = Shape::UnixSocket.mounted();
    let synced = while_a_writer_syncs(&mut share, |share| {
        share.agent().kill();
        answers(share.mount());
    });
    share.reap();
    assert_synced(&share, synced);
    share.start_agent();
    works(&share);
    // The new mount has replaced the dead one, not covered it.
    assert_eq!(mounts_below(share.mount()).len(), 1);
    // A dead one is also found where the kernel, out of its cache, answers for it.
    eventually("the root is cached", PROMPT, || {
        fs::read_dir(share.mount()).expect("the root").count();
        fs::metadata(share.mount()).expect("the root");
        share.agent().kill();
        let cached = fs::metadata(share.mount()).is_ok();
        share.reap();
        share.start_agent();
        cached
    });
    works(&share);
    assert_eq!(mounts_below(share.mount()).len(), 1);
}

/// Runs `strike` while a thread writes and syncs records; how many it had synced.
/// Injecting an event is a call on the mount by the very process that serves it: killed in that
/// moment, it must still die, and let the mount answer.
#[test]
fn a_kill_in_the_middle_of_events_hangs_nothing() {
    let _turn = turns::together();
    let mut share = Shape::Embedded.mounted();
    let over = AtomicBool::new(false);
    let host = share.host().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let file = host.join(format!("file{}", round % 50));
                fs::write(&file, round.to_string()).expect("a file");
                let _ = fs::remove_file(host.join(format!("file{}", (round + 25) % 50)));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..15 {
                // Anywhere in the stream of events.
                std::thread::sleep(Duration::from_millis(100));
                share.server().kill();
                answers(share.mount());
                share.reap();
                share.start_server();
            }
        }));
        over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn while_a_writer_syncs(share: &mut Share, strike: impl FnOnce(&mut Share)) -> u64 {
    let (synced, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let path = share.mount().join("synced");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::create(&path).expect("a file");
            for record in 0.. {
                let offset = record * RECORD as u64;
                let written = file.write_all_at(&content_of(record), offset);
                if over.load(Ordering::Relaxed) || written.and_then(|()| file.sync_all()).is_err() {
                    break;
                }
                synced.store(record + 1, Ordering::Release);
            }
        });
        let enough = || synced.load(Ordering::Acquire) >= 20;
        let before = crate::support::holds_within(PROMPT, enough);
        if before {
            strike(share);
        }
        over.store(true, Ordering::Relaxed);
        assert!(before, "the writer does not get on");
    });
    synced.load(Ordering::Acquire)
}

fn content_of(record: u64) -> Vec<u8> {
    record.to_le_bytes().into_iter().cycle().take(RECORD).collect()
}

/// Every record whose sync had succeeded is on the host.
#[track_caller]
fn assert_synced(share: &Share, records: u64) {
    let found = fs::read(share.host().join("synced")).expect("the file");
    for record in 0..records {
        let start = usize::try_from(record).expect("small") * RECORD;
        let there = found.get(start..start + RECORD) == Some(&content_of(record)[..]);
        assert!(there, "record {record} of {records} that were synced is lost");
    }
}

/// Somebody who asks the mount gets an answer in time, of whatever kind.
#[track_caller]
fn answers(mount: &Path) {
    for ask in ["ls", "stat", "cat"] {
        let start = Instant::now();
        let mut child = Command::new(ask)
            .arg(mount.join(if ask == "cat" { "not-known-yet" } else { "." }))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        while child.try_wait().expect("wait").is_none() {
            if start.elapsed() > ANSWER {
                let _ = child.kill();
                panic!("`{ask}` has no answer after {ANSWER:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The mount is there and both directions work.
#[track_caller]
fn works(share: &Share) {
    assert!(is_mounted(share.mount()));
    fs::write(share.mount().join("of-guest"), "guest").expect("a write");
    assert_eq!(fs::read(share.host().join("of-guest")).expect("the file"), b"guest");
    fs::write(share.host().join("of-host"), "host").expect("a write");
    eventually("the host's file shows", PROMPT, || {
        fs::read(share.mount().join("of-host")).is_ok_and(|content| content == b"host")
    });
}
