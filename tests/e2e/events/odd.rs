//! Bad input: the right result, or one clear warning, and nothing lost.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::ReadFlags;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::settle;
use crate::support::watcher::Event;
use crate::support::{Mirror, PROMPT, Shape, Watcher, eventually, on_each_shape};
use crate::support::{require_root, turns};

on_each_shape!(together:
    times_far_away_are_shown_and_hide_no_change,
    a_write_whose_time_is_put_back_is_told,
    files_replaced_by_folders_and_back_are_followed,
    names_of_any_bytes_are_followed,
);

fn touch(path: &Path, second: i64, nanosecond: i64) {
    let time = Timespec { tv_sec: second, tv_nsec: nanosecond };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::empty()).expect("utimensat");
}

/// Waits for an event on `file`, in this round.
#[track_caller]
fn hears(watcher: &mut Watcher, kind: ReadFlags, round: i64) {
    let wanted = |event: &Event| {
        event.what.contains(kind) && event.name.as_deref() == Some(b"file".as_slice())
    };
    if let Err(heard) = watcher.wait_for(PROMPT, wanted) {
        panic!("round {round}: no {kind:?}: {heard}");
    }
}

/// 1970, long before, 2500, and back: the clock may jump as it likes.
fn times_far_away_are_shown_and_hide_no_change(shape: Shape) {
    let share = shape.mounted();
    let (host, guest) = (share.host().join("file"), share.mount().join("file"));
    fs::write(&host, "round -1").expect("a file");
    eventually("the file is there", PROMPT, || guest.exists());
    let mut watcher = Watcher::new();
    watcher.watch(share.mount()).expect("a watch");
    settle_events(&mut watcher);
    // What ext4 holds ends in 2446.
    for (round, second) in [0, -1, 15_000_000_000, 1, 4_102_444_800, -1_000_000, 0, 14_000_000_000]
        .into_iter()
        .cycle()
        .take(40)
        .enumerate()
    {
        let content = format!("round {}", round % 10);
        let file = OpenOptions::new().write(true).open(&host).expect("the file");
        file.write_all_at(content.as_bytes(), 0).expect("a write");
        touch(&host, second, 5);
        drop(file);
        hears(&mut watcher, ReadFlags::MODIFY, second);
        eventually("the file is closed and its time is told", PROMPT, || {
            let found = [&host, &guest].map(|path| fs::metadata(path).expect("stat"));
            (found[0].mtime(), found[0].mtime_nsec()) == (found[1].mtime(), found[1].mtime_nsec())
        });
        assert_eq!(fs::read(&guest).expect("the file")[..7], content.as_bytes()[..7]);
        hears(&mut watcher, ReadFlags::CLOSE_WRITE, second);
        watcher.read();
    }
}

/// Until nothing comes any more.
fn settle_events(watcher: &mut Watcher) {
    while !watcher.wait(Duration::from_millis(300)).is_empty() {}
}

/// `rsync --times`, `cp -p`, `tar -x`: the same size, the same time, other content.
fn a_write_whose_time_is_put_back_is_told(shape: Shape) {
    let share = shape.mounted();
    let (host, guest) = (share.host().join("file"), share.mount().join("file"));
    fs::write(&host, "round 00").expect("a file");
    touch(&host, 1_000_000_000, 0);
    eventually("the file is there", PROMPT, || guest.exists());
    let mut watcher = Watcher::new();
    watcher.watch(share.mount()).expect("a watch");
    settle_events(&mut watcher);
    let open = File::open(&guest).expect("the file");
    for round in 1..=50 {
        let content = format!("round {round:02}");
        assert!(fs::read(&guest).is_ok());
        let mut file = OpenOptions::new().write(true).open(&host).expect("the file");
        file.write_all(content.as_bytes()).expect("a write");
        touch(&host, 1_000_000_000, 0);
        drop(file);
        hears(&mut watcher, ReadFlags::CLOSE_WRITE, round);
        assert_eq!(fs::read_to_string(&guest).expect("the file"), content);
        let mut buffer = [0; 8];
        open.read_exact_at(&mut buffer, 0).expect("a read");
        assert_eq!(buffer, content.as_bytes(), "round {round}: by descriptor");
        // Its time was set before it was closed, and so told before.
        watcher.read();
    }
}

fn files_replaced_by_folders_and_back_are_followed(shape: Shape) {
    let share = shape.mounted();
    for name in 0..20 {
        fs::write(share.host().join(name.to_string()), "file").expect("a file");
    }
    let mirror = Mirror::of(share.mount());
    for round in 0..40 {
        for name in 0..20 {
            let path = share.host().join(name.to_string());
            if path.is_dir() {
                fs::remove_dir_all(&path).expect("a removal");
                fs::write(&path, format!("file {round}")).expect("a file");
            } else {
                fs::remove_file(&path).expect("a removal");
                fs::create_dir(&path).expect("a folder");
                fs::write(path.join("inside"), format!("inside {round}")).expect("a file");
            }
            if (name + round) % 3 == 0 {
                // And back at once.
                let aside = share.host().join("aside");
                fs::rename(&path, &aside).expect("a rename");
                fs::write(&path, "between").expect("a file");
                fs::remove_file(&path).expect("a removal");
                fs::rename(&aside, &path).expect("a rename");
            }
        }
    }
    mirror.shows(share.host(), PROMPT).expect("the host's tree");
}

fn names_of_any_bytes_are_followed(shape: Shape) {
    let share = shape.mounted();
    let mirror = Mirror::of(share.mount());
    let long = [b'\xe9'; 255];
    let names: [&[u8]; 9] =
        [b"\xff", b"\xc3\x28", b"new\nline", b" ", b"\\", b"\x01", b"\xed\xa0\x80", b"*?[", &long];
    for name in names {
        let folder = share.host().join(OsStr::from_bytes(name));
        fs::create_dir(&folder).expect("a folder");
        for name in names {
            fs::write(folder.join(OsStr::from_bytes(name)), name).expect("a file");
        }
    }
    mirror.shows(share.host(), PROMPT).expect("the host's tree");
    for pair in names.windows(2) {
        let [from, to] = [pair[0], pair[1]].map(OsStr::from_bytes);
        let folder = share.host().join(from);
        fs::rename(folder.join(from), folder.join("plain")).expect("a rename");
        fs::remove_file(folder.join(to)).expect("a removal");
        fs::rename(folder.join("plain"), folder.join(to)).expect("a rename");
    }
    mirror.shows(share.host(), PROMPT).expect("the host's tree");
    assert_eq!(mirror.picture().len(), names.len() * names.len() + names.len() - 8);
}

/// The server is an ordinary user, some folders are not his to read.
#[test]
fn a_folder_that_the_host_may_not_read_harms_no_other() {
    let _turn = turns::together();
    require_root!();
    let share = Shape::UnixSocket.mapped_share();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut share = share.server_under(nobody).start();
    let at = |name: &str| share.host().join(name);
    for (name, mode) in [("open", 0o755), ("unlisted", 0o711), ("closed", 0o700)] {
        fs::create_dir(at(name)).expect("a folder");
        fs::write(at(name).join("file"), "old").expect("a file");
        fs::set_permissions(at(name), Permissions::from_mode(mode)).expect("chmod");
    }
    let guest = |name: &str| share.mount().join(name);
    eventually("the folders are there", PROMPT, || guest("open/file").exists());
    let mirror = Mirror::of(&guest("open"));
    assert_eq!(fs::read(guest("unlisted/file")).expect("the file"), b"old");
    assert!(fs::read_dir(guest("unlisted")).is_err(), "it may be entered, not listed");
    assert!(fs::read(guest("closed/file")).is_err(), "it may not be entered");
    for round in 0..5 {
        for name in ["open", "unlisted", "closed"] {
            fs::write(at(name).join("file"), format!("round {round}")).expect("a file");
            fs::write(at(name).join(format!("new-{round}")), "x").expect("a file");
        }
        mirror.shows(&at("open"), PROMPT).expect("the folder that may be read");
        // No watch can be had on it, so looking is all there is.
        eventually("the file in the folder that may not be listed", PROMPT, || {
            fs::read(guest("unlisted/file"))
                .is_ok_and(|found| found == format!("round {round}").as_bytes())
        });
    }
    // Opened to all, it is as any other.
    fs::set_permissions(at("closed"), Permissions::from_mode(0o755)).expect("chmod");
    eventually("what was closed is open", PROMPT, || guest("closed/new-4").exists());
    let opened = Mirror::of(&guest("closed"));
    fs::write(at("closed/later"), "x").expect("a file");
    opened.shows(&at("closed"), PROMPT).expect("the folder that may be read now");
    settle();
    let errors = share.server().stderr.all();
    assert!(errors.len() <= 2, "one clear warning, not {errors:#?}");
}
