//! A change on the host wakes the watchers on the mount, by the kernel's own inotify: each change
//! once, a rename as one pair, and whoever is woken reads what is new.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::share::{NAME, is_mounted};
use crate::support::{Daemon, PROMPT, Shape, Share, Tmpfs, eventually, holds_within};
use crate::support::{on_each_shape, require, require_root, turns};

/// What happens on the host in a folder that a guest watches, and what the guest must hear.
struct Case {
    name: &'static str,
    /// Makes what is there before, with the host's folder `dir` and another one beside it.
    before: fn(dir: &Path),
    /// What to watch, relative to the folder.
    watch: &'static [&'static str],
    change: fn(dir: &Path),
    /// These lines in this order, others may stand between: `EVENTS path-within-the-case`.
    hears: &'static [&'static str],
    /// Words that no line may contain.
    never: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "create-file",
        before: |_| {},
        watch: &["."],
        change: |dir| fs::write(dir.join("new"), "content").expect("a file"),
        hears: &["CREATE ./new"],
        never: &["DELETE", "MOVED", "ISDIR"],
    },
    Case {
        name: "create-folder",
        before: |_| {},
        watch: &["."],
        change: |dir| fs::create_dir(dir.join("new")).expect("a folder"),
        hears: &["CREATE,ISDIR ./new"],
        never: &["DELETE", "MOVED"],
    },
    Case {
        name: "create-symlink",
        before: |_| {},
        watch: &["."],
        change: |dir| std::os::unix::fs::symlink("x", dir.join("new")).expect("a symlink"),
        hears: &["CREATE ./new"],
        never: &["DELETE", "MOVED", "MODIFY"],
    },
    Case {
        name: "create-link",
        before: |dir| fs::write(dir.join("old"), "").expect("a file"),
        watch: &["."],
        change: |dir| fs::hard_link(dir.join("old"), dir.join("new")).expect("a link"),
        hears: &["CREATE ./new"],
        never: &["DELETE", "MOVED", "MODIFY"],
    },
    Case {
        name: "modify",
        before: |dir| fs::write(dir.join("file"), "old").expect("a file"),
        watch: &["."],
        change: |dir| append(&dir.join("file"), "new"),
        hears: &["MODIFY ./file", "CLOSE_WRITE,CLOSE ./file"],
        never: &["CREATE", "DELETE", "MOVED"],
    },
    Case {
        name: "modify-of-a-watched-file",
        before: |dir| fs::write(dir.join("file"), "old").expect("a file"),
        watch: &["file"],
        change: |dir| append(&dir.join("file"), "new"),
        hears: &["MODIFY file", "CLOSE_WRITE,CLOSE file"],
        never: &["DELETE", "MOVE"],
    },
    Case {
        name: "modify-with-the-same-length",
        before: |dir| fs::write(dir.join("file"), "old").expect("a file"),
        watch: &["."],
        change: |dir| {
            let mut file = OpenOptions::new().write(true).open(dir.join("file")).expect("a file");
            file.write_all(b"new").expect("a write");
        },
        hears: &["MODIFY ./file"],
        never: &["CREATE", "DELETE", "MOVED"],
    },
    Case {
        name: "truncate",
        before: |dir| fs::write(dir.join("file"), "old").expect("a file"),
        watch: &["."],
        change: |dir| {
            let file = OpenOptions::new().write(true).open(dir.join("file")).expect("a file");
            file.set_len(1).expect("truncate");
        },
        hears: &["MODIFY ./file"],
        never: &["CREATE", "DELETE", "MOVED"],
    },
    Case {
        name: "attrib-of-a-file",
        before: |dir| fs::write(dir.join("file"), "").expect("a file"),
        watch: &["."],
        change: |dir| chmod(&dir.join("file"), 0o604),
        hears: &["ATTRIB ./file"],
        never: &["CREATE", "DELETE", "MOVED", "MODIFY"],
    },
    Case {
        name: "attrib-of-a-folder",
        before: |dir| fs::create_dir(dir.join("sub")).expect("a folder"),
        watch: &["."],
        change: |dir| chmod(&dir.join("sub"), 0o705),
        hears: &["ATTRIB,ISDIR ./sub"],
        never: &["CREATE", "DELETE", "MOVED", "MODIFY"],
    },
    Case {
        name: "rename-of-a-file",
        before: |dir| fs::write(dir.join("old"), "").expect("a file"),
        watch: &["."],
        change: |dir| fs::rename(dir.join("old"), dir.join("new")).expect("a rename"),
        hears: &["MOVED_FROM ./old", "MOVED_TO ./new"],
        never: &["CREATE", "DELETE", "MODIFY"],
    },
    Case {
        name: "rename-of-a-folder",
        before: |dir| fs::create_dir(dir.join("old")).expect("a folder"),
        watch: &["."],
        change: |dir| fs::rename(dir.join("old"), dir.join("new")).expect("a rename"),
        hears: &["MOVED_FROM,ISDIR ./old", "MOVED_TO,ISDIR ./new"],
        never: &["CREATE", "DELETE", "MODIFY"],
    },
    Case {
        name: "rename-across-folders",
        before: |dir| {
            fs::create_dir(dir.join("a")).expect("a folder");
            fs::create_dir(dir.join("b")).expect("a folder");
            fs::write(dir.join("a/file"), "").expect("a file");
        },
        watch: &["a", "b"],
        change: |dir| fs::rename(dir.join("a/file"), dir.join("b/file")).expect("a rename"),
        hears: &["MOVED_FROM a/file", "MOVED_TO b/file"],
        never: &["CREATE", "DELETE", "MODIFY"],
    },
    Case {
        name: "rename-of-a-folder-across-folders",
        before: |dir| {
            fs::create_dir_all(dir.join("a/sub/deep")).expect("a folder");
            fs::create_dir(dir.join("b")).expect("a folder");
        },
        watch: &["a", "b"],
        change: |dir| fs::rename(dir.join("a/sub"), dir.join("b/sub")).expect("a rename"),
        hears: &["MOVED_FROM,ISDIR a/sub", "MOVED_TO,ISDIR b/sub"],
        never: &["CREATE", "DELETE", "MODIFY"],
    },
    Case {
        // How editors save.
        name: "rename-over-a-file",
        before: |dir| fs::write(dir.join("file"), "old").expect("a file"),
        watch: &["."],
        change: |dir| {
            fs::write(dir.join("file.tmp"), "new").expect("a file");
            fs::rename(dir.join("file.tmp"), dir.join("file")).expect("a rename");
        },
        hears: &["MOVED_TO ./file"],
        never: &["DELETE ./file"],
    },
    Case {
        name: "rename-of-a-watched-file",
        before: |dir| fs::write(dir.join("file"), "").expect("a file"),
        watch: &["file"],
        change: |dir| fs::rename(dir.join("file"), dir.join("new")).expect("a rename"),
        hears: &["MOVE_SELF file"],
        never: &["DELETE", "MODIFY"],
    },
    Case {
        name: "delete-of-a-file",
        before: |dir| fs::write(dir.join("file"), "").expect("a file"),
        watch: &["."],
        change: |dir| fs::remove_file(dir.join("file")).expect("a removal"),
        hears: &["DELETE ./file"],
        never: &["CREATE", "MOVED", "MODIFY"],
    },
    Case {
        name: "delete-of-a-watched-file",
        before: |dir| fs::write(dir.join("file"), "").expect("a file"),
        watch: &["file"],
        change: |dir| fs::remove_file(dir.join("file")).expect("a removal"),
        hears: &["DELETE_SELF file"],
        never: &["MOVE", "MODIFY"],
    },
    Case {
        name: "delete-of-a-folder",
        before: |dir| fs::create_dir(dir.join("sub")).expect("a folder"),
        watch: &["."],
        change: |dir| fs::remove_dir(dir.join("sub")).expect("a removal"),
        hears: &["DELETE,ISDIR ./sub"],
        never: &["CREATE", "MOVED", "MODIFY"],
    },
    Case {
        name: "delete-of-a-watched-folder",
        before: |dir| fs::create_dir(dir.join("sub")).expect("a folder"),
        watch: &["sub"],
        change: |dir| fs::remove_dir(dir.join("sub")).expect("a removal"),
        hears: &["DELETE_SELF sub"],
        never: &["CREATE", "MOVE", "MODIFY"],
    },
    Case {
        name: "delete-of-a-tree",
        before: |dir| {
            fs::create_dir_all(dir.join("a/b")).expect("folders");
            fs::write(dir.join("a/b/file"), "").expect("a file");
        },
        watch: &[".", "a", "a/b"],
        change: |dir| fs::remove_dir_all(dir.join("a")).expect("a removal"),
        hears: &["DELETE a/b/file", "DELETE,ISDIR a/b", "DELETE,ISDIR ./a"],
        never: &["CREATE", "MOVE", "MODIFY"],
    },
];

on_each_shape!(together:
    each_change_is_heard,
    a_new_folder_is_heard_into,
    what_is_woken_reads_what_is_new,
    a_rename_is_one_pair,
    what_the_guest_does_is_heard_once,
    injection_changes_nothing_on_the_host,
    a_mount_on_top_survives_changes_beneath,
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

/// Time for events that should not come, to come.
fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

fn each_change_is_heard(shape: Shape) {
    require!("inotifywait");
    let share = shape.mounted();
    let failures: Vec<String> = CASES.iter().filter_map(|case| check(&share, case).err()).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), CASES.len(), failures.join("\n"));
}

fn check(share: &Share, case: &Case) -> Result<(), String> {
    let host = share.host().join(case.name);
    fs::create_dir(&host).expect("a folder");
    (case.before)(&host);
    let guest = share.mount().join(case.name);
    eventually("the folder is there", PROMPT, || guest.exists());
    // What was done to prepare the case is told late on a busy machine, and is no part of it.
    settle();
    let watcher = watch(&guest, case.watch, "%e %w%f");
    (case.change)(&host);
    let result = hears(&watcher, case.hears);
    settle();
    let all = heard(&watcher);
    result.map_err(|error| format!("{}: {error}", case.name))?;
    if let Some(line) = all.iter().find(|line| case.never.iter().any(|word| line.contains(word))) {
        return Err(format!("{}: heard {line:?} in {all:?}", case.name));
    }
    // What names an entry is never said twice.
    for line in case.hears.iter().filter(|line| !line.contains("MODIFY") && !line.contains("CLOSE"))
    {
        let times = all.iter().filter(|found| found == line).count();
        if times > 1 {
            return Err(format!("{}: heard {times} times {line:?} in {all:?}", case.name));
        }
    }
    Ok(())
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

fn a_rename_is_one_pair(shape: Shape) {
    require!("inotifywait");
    let share = shape.mounted();
    fs::create_dir_all(share.host().join("a")).expect("a folder");
    fs::create_dir_all(share.host().join("b")).expect("a folder");
    fs::write(share.host().join("a/file"), "x").expect("a file");
    eventually("the file is there", PROMPT, || share.mount().join("a/file").exists());
    let watcher = watch(share.mount(), &["a", "b"], "%e %w%f %c");
    fs::rename(share.host().join("a/file"), share.host().join("b/file")).expect("a rename");
    let moved = |what: &'static str| {
        let line = watcher.stdout.wait_for(PROMPT, |line| line.starts_with(what));
        let line = line.unwrap_or_else(|| panic!("{what}: {}", watcher.report()));
        line.rsplit(' ').next().expect("a cookie").to_owned()
    };
    let (from, to) = (moved("MOVED_FROM a/file"), moved("MOVED_TO b/file"));
    assert_eq!(from, to, "one cookie");
    assert_ne!(from, "0");
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
    fs::remove_file(there.join("renamed")).expect("a removal");
    hears(&watcher, &["CREATE,ISDIR ./dir", "DELETE ./renamed"]).expect("events");
    fs::write(there.join("kept"), "x").expect("a file");
    hears(&watcher, &["CREATE ./kept"]).expect("events");
    chmod(&there.join("kept"), 0o604);
    hears(&watcher, &["ATTRIB ./kept"]).expect("events");
}

/// A container mounts a volume on a folder of the share (`node_modules`); whatever happens to
/// that folder on the host, the volume stays.
fn a_mount_on_top_survives_changes_beneath(shape: Shape) {
    require_root!();
    let share = shape.mounted();
    let (guest, host) = (share.mount().join("modules"), share.host().join("modules"));
    fs::create_dir(&guest).expect("a folder");
    let tmpfs = Tmpfs::mount(&guest, "size=1m");
    fs::write(guest.join("on-top"), "x").expect("a file");
    let stays = |what: &str| {
        settle();
        assert!(guest.join("on-top").exists(), "the mount on top is gone: {what}");
    };
    fs::write(host.join("beneath"), "x").expect("a file");
    stays("a new file beneath");
    chmod(&host, 0o705);
    stays("chmod");
    fs::write(share.host().join("sibling"), "x").expect("a file");
    eventually("the sibling", PROMPT, || share.mount().join("sibling").exists());
    stays("a new sibling");
    assert!(is_mounted(&guest));
    drop(tmpfs);
    eventually("what is beneath", PROMPT, || guest.join("beneath").exists());
}
