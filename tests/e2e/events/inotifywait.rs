//! `inotifywait` on the mount, as people try it first.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::settle;
use crate::support::share::NAME;
use crate::support::{Daemon, PROMPT, Shape, eventually, holds_within};
use crate::support::{on_each_shape, require, turns};

on_each_shape!(together:
    a_new_folder_is_heard_into,
    what_is_woken_reads_what_is_new,
    what_the_guest_does_is_heard_once,
    injection_changes_nothing_on_the_host,
);

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("a write");
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// `inotifywait -m` on paths within the folder, ready.
#[track_caller]
fn watch(dir: &Path, paths: &[&str], format: &str) -> Daemon {
    let mut command = Command::new("inotifywait");
    for event in ["create", "modify", "close_write", "attrib", "move", "delete"] {
        command.args(["-e", event]);
    }
    command.args(["-e", "move_self", "-e", "delete_self"]);
    command.args(["-m", "--format", format, "--"]).args(paths).current_dir(dir);
    let watcher = Daemon::spawn("inotifywait", command, Duration::from_secs(120));
    let ready = watcher.stderr.wait_for(PROMPT, |line| line.contains("Watches established"));
    assert!(ready.is_some(), "inotifywait is not ready: {}", watcher.report());
    watcher
}

/// What a watcher has heard so far. inotifywait ends a watched folder's name with a slash; the
/// cases name things without.
fn heard(watcher: &Daemon) -> Vec<String> {
    let lines = watcher.stdout.all();
    lines.iter().map(|line| line.trim_end_matches('/').to_owned()).collect()
}

/// Waits for these lines in this order.
fn hears(watcher: &Daemon, expected: &[&str]) -> Result<(), String> {
    let complete = || {
        let lines = heard(watcher);
        let mut rest = lines.iter();
        expected.iter().all(|line| rest.any(|found| found == line))
    };
    if holds_within(Duration::from_secs(10), complete) {
        return Ok(());
    }
    Err(format!("expected {expected:?}, heard {:?}", heard(watcher)))
}

/// A recursive watcher adds a watch when it hears of a folder, and then hears what is in it.
fn a_new_folder_is_heard_into(shape: Shape) {
    require!("inotifywait");
    let share = shape.mounted();
    let outer = watch(share.mount(), &["."], "%e %w%f");
    fs::create_dir(share.host().join("new")).expect("a folder");
    hears(&outer, &["CREATE,ISDIR ./new"]).expect("events");
    let inner = watch(share.mount(), &["new"], "%e %w%f");
    for index in 0..20 {
        let file = share.host().join(format!("new/{index}"));
        fs::write(&file, "x").expect("a file");
        hears(&inner, &[&format!("CREATE new/{index}")]).expect("events");
        fs::remove_file(&file).expect("a removal");
        hears(&inner, &[&format!("DELETE new/{index}")]).expect("events");
    }
}

/// Invalidation comes before the event: the woken reader never sees the old state.
fn what_is_woken_reads_what_is_new(shape: Shape) {
    require!("inotifywait");
    let share = shape.mounted();
    let (guest, host) = (share.mount().join("file"), share.host().join("file"));
    fs::write(&host, "round 0").expect("a file");
    eventually("the file is there", PROMPT, || guest.exists());
    let watcher = watch(share.mount(), &["."], "%e %w%f");
    for round in 1..=30 {
        let content = format!("round {round}");
        // In the guest's cache before it changes.
        assert_eq!(fs::read_to_string(&guest).expect("the file"), format!("round {}", round - 1));
        let saved = share.host().join("saved");
        fs::write(&saved, &content).expect("a file");
        fs::rename(&saved, &host).expect("a rename");
        let moves = |lines: &[String]| {
            lines.iter().filter(|line| *line == "MOVED_TO ./file").count() >= round
        };
        eventually("the watcher is woken", PROMPT, || moves(&heard(&watcher)));
        assert_eq!(fs::read_to_string(&guest).expect("the file"), content);
    }
}

/// The host sees what a guest does and would report it; that must not come back as an event.
fn what_the_guest_does_is_heard_once(shape: Shape) {
    require!("inotifywait");
    let share = shape.mounted();
    let watcher = watch(share.mount(), &["."], "%e %w%f");
    let at = |name: &str| share.mount().join(name);
    fs::create_dir(at("dir")).expect("a folder");
    File::create(at("file")).expect("a file");
    fs::rename(at("file"), at("renamed")).expect("a rename");
    fs::remove_file(at("renamed")).expect("a removal");
    fs::remove_dir(at("dir")).expect("a removal");
    settle();
    let expected = [
        "CREATE,ISDIR ./dir",
        "CREATE ./file",
        "CLOSE_WRITE,CLOSE ./file",
        "MOVED_FROM ./file",
        "MOVED_TO ./renamed",
        "DELETE ./renamed",
        "DELETE,ISDIR ./dir",
    ];
    hears(&watcher, &expected).expect("events");
    assert_eq!(heard(&watcher), expected);
}

/// The actuator's system calls end in the guest: the host's file is not touched by them.
fn injection_changes_nothing_on_the_host(shape: Shape) {
    use std::os::unix::fs::MetadataExt;
    require!("inotifywait");
    let share = shape.mounted();
    let file = share.host().join("file");
    fs::write(&file, "x").expect("a file");
    eventually("the file is there", PROMPT, || share.mount().join("file").exists());
    let watcher = watch(share.mount(), &["."], "%e %w%f");
    append(&file, "y");
    chmod(&file, 0o640);
    fs::write(share.host().join("other"), "z").expect("a file");
    // What comes and goes between two looks is no difference, and is not told.
    hears(&watcher, &["CREATE ./other"]).expect("events");
    fs::remove_file(share.host().join("other")).expect("a removal");
    let seen = |path: &Path| {
        let found = fs::metadata(path).expect("stat");
        (
            found.mode(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        )
    };
    let folder = || fs::metadata(share.host()).expect("stat").mtime_nsec();
    let before = (seen(&file), folder());
    hears(&watcher, &["MODIFY ./file", "ATTRIB ./file", "DELETE ./other"]).expect("events");
    settle();
    assert_eq!((seen(&file), folder()), before);
    assert_eq!(fs::read(&file).expect("the file"), b"xy");
}

/// What one guest does is a change of the host for every other guest.
#[test]
fn what_one_guest_does_is_heard_by_the_other() {
    let _turn = turns::together();
    require!("inotifywait");
    let share = Shape::UnixSocket.mounted();
    let there = share.scratch().dir("second");
    let _second = share.another_agent(&[(NAME, there.clone())]);
    let watcher = watch(share.mount(), &["."], "%e %w%f");
    fs::create_dir(there.join("dir")).expect("a folder");
    fs::write(there.join("file"), "x").expect("a file");
    fs::rename(there.join("file"), there.join("renamed")).expect("a rename");
    // At once, its name on the way need not be told.
    hears(&watcher, &["CREATE,ISDIR ./dir", "MOVED_TO ./renamed"]).expect("events");
    fs::remove_file(there.join("renamed")).expect("a removal");
    hears(&watcher, &["DELETE ./renamed"]).expect("events");
    fs::write(there.join("kept"), "x").expect("a file");
    hears(&watcher, &["CREATE ./kept"]).expect("events");
    chmod(&there.join("kept"), 0o604);
    hears(&watcher, &["ATTRIB ./kept"]).expect("events");
}
