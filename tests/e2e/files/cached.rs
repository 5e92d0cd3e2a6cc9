//! What the guest's kernel has cached: it costs nothing to use again, and stays what it is.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use serde_json::Value;

use super::fails;
use crate::support::{PROMPT, Shape, Share, Suite, eventually, on_each_shape};

on_each_shape!(together:
    a_second_look_asks_nothing_of_the_server,
    an_open_folder_and_the_figures_of_its_disk_ask_nothing_of_the_server,
    an_open_folder_that_the_host_removes_can_be_looked_at,
    a_folder_is_listed_with_one_request,
    a_small_file_comes_with_its_opening,
    a_cached_file_that_the_guest_removes_stays_readable,
    a_cached_file_that_the_host_removes_stays_readable,
    a_cached_file_whose_writing_is_told_late_stays_readable,
    names_told_ahead_are_those_of_the_moment,
);

// Others would lose what their kernel remembers.
on_each_shape!(alone:
    what_is_not_there_is_known_until_somebody_makes_it,
);

const FOLDERS: usize = 4;
const FILES: usize = 50;

/// Requests that the server has carried out.
pub(super) fn operations(share: &Share) -> u64 {
    let mut status = share.osxfs(["status", "--json"]);
    let text = Suite::run("osxfs status", Duration::from_secs(20), &mut status).succeeds().log;
    let found: Value = serde_json::from_str(&text).expect("JSON");
    let processes = found.as_array().expect("processes");
    let server = processes.iter().find(|process| process["exports"].is_array());
    server.expect("a server")["operations"].as_u64().expect("a number")
}

/// Looks at all there is, as `find -ls` and `grep -r` do.
fn look(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let count = |path: std::path::PathBuf| match fs::metadata(&path).expect("stat").is_dir() {
        true => look(&path),
        false => fs::read(&path).expect("a file").len(),
    };
    paths.map(count).sum()
}

fn a_second_look_asks_nothing_of_the_server(shape: Shape) {
    let share = shape.mounted();
    for folder in 0..FOLDERS {
        let folder = share.host().join(folder.to_string());
        fs::create_dir(&folder).expect("a folder");
        (0..FILES).for_each(|n| fs::write(folder.join(n.to_string()), [7; 1500]).expect("a file"));
    }
    let whole = FOLDERS * FILES * 1500;
    // Events of the making are delivered at some time, and listing a folder has changed its atime.
    let mut asked = u64::MAX;
    eventually("a look that asks nothing", PROMPT, || {
        let before = operations(&share);
        assert_eq!(look(share.mount()), whole);
        asked = operations(&share) - before;
        asked == 0
    });
}

fn an_open_folder_and_the_figures_of_its_disk_ask_nothing_of_the_server(shape: Shape) {
    let share = shape.mounted();
    let folder = share.mount().join("folder");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("file"), "x").expect("a file");
    let figures = || rustix::fs::statvfs(&folder).expect("statvfs");
    eventually("a look that asks nothing", PROMPT, || {
        let listed = || fs::read_dir(&folder).expect("a folder").count();
        assert_eq!((listed(), figures().f_namemax), (1, 255));
        let before = operations(&share);
        let open = File::open(&folder).expect("a folder");
        assert_eq!((listed(), figures().f_namemax), (1, 255));
        // Longer than a file may stay open here alone.
        sleep(Duration::from_millis(100));
        drop(open);
        operations(&share) == before
    });
    // What the guest does shows.
    let before = figures();
    fs::write(folder.join("large"), vec![1; 8 << 20]).expect("a file");
    assert!(figures().f_bfree < before.f_bfree);
}

fn an_open_folder_that_the_host_removes_can_be_looked_at(shape: Shape) {
    let share = shape.mounted();
    let folder = share.mount().join("folder");
    fs::create_dir(&folder).expect("a folder");
    for _ in 0..2 {
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0);
    }
    let open = File::open(&folder).expect("a folder");
    fs::remove_dir(share.host().join("folder")).expect("a removal");
    eventually("the folder is gone", PROMPT, || !folder.exists());
    let found = open.metadata().expect("stat");
    assert!(found.is_dir());
    let mut again = rustix::fs::Dir::read_from(&open).expect("the folder");
    let entry = again.next().map(|entry| entry.map(|entry| entry.file_name().to_owned()));
    assert!(matches!(entry, None | Some(Err(Errno::NOENT))), "{entry:?}");
}

fn a_folder_is_listed_with_one_request(shape: Shape) {
    let share = shape.mounted();
    let mut folders = 0..;
    eventually("one request for each folder", PROMPT, || {
        let top = folders.next().expect("a number").to_string();
        for folder in 0..FOLDERS {
            let folder = share.host().join(&top).join(folder.to_string());
            fs::create_dir_all(&folder).expect("a folder");
            (0..FILES).for_each(|n| fs::write(folder.join(n.to_string()), "x").expect("a file"));
        }
        sleep(Duration::from_millis(200));
        let top = share.mount().join(&top);
        assert!(top.exists());
        let before = operations(&share);
        let folders = fs::read_dir(&top).expect("a folder").map(|entry| entry.expect("an entry"));
        let names = folders.map(|folder| fs::read_dir(folder.path()).expect("a folder").count());
        assert_eq!(names.sum::<usize>(), FOLDERS * FILES);
        let asked = operations(&share) - before;
        eprintln!("{asked} requests");
        asked == FOLDERS as u64 + 1
    });
}

fn a_small_file_comes_with_its_opening(shape: Shape) {
    let share = shape.mounted();
    let content = |n: usize| -> Vec<u8> {
        let size = [1, 1500, 4095, 4096, 4097, 65_535, 65_536][n % 7];
        (0..size).map(|at| (at * 31 + n) as u8).collect()
    };
    let mut folders = 0..;
    // What was made may be told while it is read, which is no first reading then.
    eventually("one request for each file", PROMPT, || {
        let folder = folders.next().expect("a number").to_string();
        fs::create_dir(share.host().join(&folder)).expect("a folder");
        let name = |n: usize| format!("{folder}/{n}");
        for n in 0..FILES {
            fs::write(share.host().join(name(n)), content(n)).expect("a file");
        }
        sleep(Duration::from_millis(200));
        assert!((0..FILES).all(|n| share.mount().join(name(n)).exists()));
        let before = operations(&share);
        for n in 0..FILES {
            let read = fs::read(share.mount().join(name(n))).expect("a file");
            assert_eq!(read, content(n), "file {n}");
        }
        // Closing is told of many at once.
        (operations(&share) - before) < FILES as u64 * 3 / 2
    });
    // What is longer is read as it is used.
    fs::write(share.host().join("long"), vec![9; 65_537]).expect("a file");
    let long = share.mount().join("long");
    eventually("the long one is there", PROMPT, || long.exists());
    assert_eq!(fs::read(&long).expect("a file"), vec![9; 65_537]);
    // And what is open already stays what it is for whoever has it.
    let open = File::open(share.mount().join("0/1")).expect("a file");
    fs::write(share.host().join("0/1"), b"new").expect("a file");
    eventually("the new content", PROMPT, || {
        fs::read(share.mount().join("0/1")).expect("a file") == b"new"
            && content_of(&open, 3) == b"new"
    });
}

/// A file that the kernel has read, open to be read again.
fn cached(share: &Share, content: &[u8]) -> File {
    fs::write(share.host().join("file"), content).expect("a file");
    let path = share.mount().join("file");
    eventually("the file is read", PROMPT, || fs::read(&path).is_ok_and(|read| read == content));
    for _ in 0..3 {
        assert_eq!(fs::read(&path).expect("the file"), content);
    }
    File::open(&path).expect("the file")
}

fn content_of(file: &File, size: usize) -> Vec<u8> {
    let mut content = vec![0; size];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut content, 0).expect("a read");
    content
}

fn a_cached_file_that_the_guest_removes_stays_readable(shape: Shape) {
    let share = shape.mounted();
    let content: Vec<u8> = (0..20_000).map(|n| n as u8).collect();
    let file = cached(&share, &content);
    fs::remove_file(share.mount().join("file")).expect("unlink");
    // Without its pages only the server has the content.
    fadvise(&file, 0, None, Advice::DontNeed).expect("fadvise");
    assert_eq!(content_of(&file, content.len()), content);
    assert_eq!(file.metadata().expect("fstat").nlink(), 0);
}

fn a_cached_file_that_the_host_removes_stays_readable(shape: Shape) {
    let share = shape.mounted();
    let content: Vec<u8> = (0..20_000).map(|n| n as u8).collect();
    let file = cached(&share, &content);
    let before = file.metadata().expect("fstat");
    fs::remove_file(share.host().join("file")).expect("unlink");
    eventually("the name is gone", PROMPT, || !share.mount().join("file").exists());
    assert_eq!(content_of(&file, content.len()), content);
    let after = file.metadata().expect("fstat");
    assert_eq!((after.len(), after.ino(), after.nlink()), (before.len(), before.ino(), 0));
    assert_eq!(after.mtime_nsec(), before.mtime_nsec());
}

/// The guest opens a file that its kernel has in full, the host puts another in its place, and only then
/// the guest hears that it was written, which drops its pages.
fn a_cached_file_whose_writing_is_told_late_stays_readable(shape: Shape) {
    let share = shape.mounted();
    let (host, guest) = (share.host().join("file"), share.mount().join("file"));
    let saved = share.host().join("saved");
    let content = |round: u32| round.to_string().repeat(300).into_bytes();
    let save = |round| {
        fs::write(&saved, content(round)).expect("a file");
        fs::rename(&saved, &host).expect("a rename");
    };
    save(0);
    for round in 0..1000 {
        let is_there = || fs::read(&guest).is_ok_and(|found| found == content(round));
        eventually("what was saved", PROMPT, is_there);
        // Not closed: the server waits half a millisecond for that before it tells.
        let writer = File::options().write(true).open(&host).expect("the file");
        writer.write_all_at(&content(round), 0).expect("a write");
        let written = Instant::now();
        assert!(is_there(), "round {round}");
        let wait = Duration::from_micros(u64::from(round) * 7 % 900);
        while written.elapsed() < wait {
            std::hint::spin_loop();
        }
        let file = File::open(&guest).expect("the file");
        save(round + 1);
        sleep(Duration::from_millis(1));
        assert_eq!(content_of(&file, content(round).len()), content(round), "round {round}");
    }
}

fn names_told_ahead_are_those_of_the_moment(shape: Shape) {
    let share = shape.mounted();
    let host = share.host().join("folder");
    let guest = share.mount().join("folder");
    fs::create_dir(&host).expect("a folder");
    (0..FILES).for_each(|n| fs::write(host.join(n.to_string()), [7; 100]).expect("a file"));
    let length = |n: usize| fs::metadata(guest.join(n.to_string())).map(|found| found.len());
    for round in 0..20 {
        // The first few have the rest told ahead.
        assert!((0..5).all(|n| length(n).is_ok_and(|length| length == 100)), "round {round}");
        fs::write(host.join("30"), vec![7; 200 + round]).expect("a write of the host");
        eventually("the size of the host's", PROMPT, || {
            length(30).is_ok_and(|length| length == 200 + round as u64)
        });
        fs::remove_file(guest.join("31")).expect("a removal by the guest");
        fails(length(31), Errno::NOENT);
        fs::rename(guest.join("32"), guest.join("moved")).expect("a rename by the guest");
        fails(length(32), Errno::NOENT);
        fs::remove_file(host.join("33")).expect("a removal by the host");
        eventually("the host's removal", PROMPT, || length(33).is_err());
        fs::write(guest.join("34"), [7; 300]).expect("a write of the guest");
        assert_eq!(length(34).expect("the guest's"), 300);
        fs::rename(host.join("moved"), host.join("32")).expect("back");
        for n in [31, 33, 34] {
            fs::write(host.join(n.to_string()), [7; 100]).expect("a file");
        }
        for n in [31, 32, 33, 34] {
            eventually("all are back", PROMPT, || length(n).is_ok_and(|length| length == 100));
        }
    }
}

fn what_is_not_there_is_known_until_somebody_makes_it(shape: Shape) {
    let share = shape.mounted();
    let (host, guest) = (share.host().join("folder"), share.mount().join("folder"));
    fs::create_dir(&guest).expect("a folder");
    let mut names = 0..;
    // Each of names that the kernel has never heard of.
    let mut look_in_vain = || {
        for n in names.by_ref().take(FILES) {
            fails(fs::metadata(guest.join(format!("nothing-{n}"))), Errno::NOENT);
        }
    };
    eventually("a look that asks next to nothing", PROMPT, || {
        let before = operations(&share);
        look_in_vain();
        operations(&share) - before < FILES as u64 / 5
    });
    let at = |name: &str| guest.join(name);
    type Make<'a> = (&'a str, &'a dyn Fn(&Path) -> std::io::Result<()>);
    let ways: [Make<'_>; 6] = [
        ("written", &|path| fs::write(path, "new")),
        ("a folder", &|path| fs::create_dir(path)),
        ("a symbolic link", &|path| symlink("written", path)),
        ("a link", &|path| fs::hard_link(at("written"), path)),
        ("renamed", &|path| fs::rename(at("a link"), path)),
        ("the host's", &|_| fs::write(host.join("the host's"), "new")),
    ];
    for (name, make) in ways {
        look_in_vain();
        make(&at(name)).expect(name);
        // What the kernel has forgotten it asks for, while the rest is known still.
        fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        let there = || fs::symlink_metadata(at(name)).is_ok();
        match name {
            "the host's" => eventually("what the host has made", PROMPT, there),
            _ => assert!(there(), "{name}"),
        }
    }
}
