//! Whoever is woken reads what is new: content, size, attributes and names, though the guest had the
//! file in its page cache, open and mapped. In all 10,000 rounds, divided over the ways in which a
//! file changes and the shapes of a share.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::thread;
use std::time::Duration;

use rustix::fs::inotify::ReadFlags;
use rustix::mm::{self, MapFlags, ProtFlags};

use crate::support::watcher::Event;
use crate::support::{PROMPT, Shape, Share, Watcher, eventually, on_each_shape};

const OVERWRITES: usize = 1_500;
const TRUNCATIONS: usize = 700;
const APPENDS: usize = 700;
const REPLACEMENTS: usize = 1_000;
/// As many as [`read_all`] reads.
const LINES: usize = 8_000;
const RETARGETS: usize = 600;
const CASE_RENAMES: usize = 500;
/// In `consistent` mode, for each way.
const AT_ONCE: usize = 300;

on_each_shape!(together:
    a_file_overwritten_in_place_is_read_anew,
    a_truncated_file_is_read_anew,
    an_appended_file_is_read_anew,
    a_replaced_file_is_read_anew,
    a_file_that_is_being_replaced_is_never_read_in_part,
    a_file_that_grows_is_read_line_by_line_and_whole_at_last,
    a_retargeted_symlink_is_read_anew,
    a_name_that_changes_case_is_read_anew,
    in_consistent_mode_nobody_waits_for_an_event,
    what_a_guest_writes_is_on_the_host_when_the_call_returns,
    delegated_writes_arrive_by_close_fsync_or_soon,
);

/// A file of the host that the guest has in every way: cached, open, mapped, watched.
struct Held {
    share: Share,
    watcher: Watcher,
    open: File,
    map: Map,
}

impl Held {
    fn new(shape: Shape, content: &[u8]) -> Self {
        let share = shape.mounted();
        fs::write(share.host().join("file"), content).expect("a file");
        let guest = share.mount().join("file");
        eventually("the file is there", PROMPT, || guest.exists());
        let mut watcher = Watcher::new();
        watcher.watch(share.mount()).expect("a watch");
        // Its making is told by then.
        super::settle();
        watcher.read();
        let open = File::open(&guest).expect("the file");
        let map = Map::of(&open);
        Self { share, watcher, open, map }
    }

    fn host(&self) -> PathBuf {
        self.share.host().join("file")
    }

    /// After an event of this kind, the file is this one in every way. Then the rest of its events
    /// is awaited.
    fn becomes(&mut self, round: usize, kind: ReadFlags, content: &[u8]) {
        wakes(&mut self.watcher, round, kind, "file");
        self.is(round, content);
        if !kind.contains(ReadFlags::CLOSE_WRITE) {
            wakes(&mut self.watcher, round, ReadFlags::CLOSE_WRITE, "file");
            self.is(round, content);
        }
    }

    fn is(&self, round: usize, content: &[u8]) {
        let guest = self.share.mount().join("file");
        let size = fs::metadata(&guest).expect("stat").len();
        assert_eq!(size, content.len() as u64, "round {round}: size by name");
        let size = self.open.metadata().expect("fstat").len();
        assert_eq!(size, content.len() as u64, "round {round}: size by descriptor");
        same(round, "content by descriptor", &read_all(&self.open), content);
        same(round, "content by name", &fs::read(&guest).expect("the file"), content);
        let mapped = &content[..content.len().min(PAGE)];
        same(round, "content by mapping", &self.map.read(mapped.len()), mapped);
        let (host, guest) = (self.host(), guest);
        let times = [host, guest].map(|path| {
            let found = fs::metadata(path).expect("stat");
            (found.mtime(), found.mtime_nsec(), found.mode())
        });
        assert_eq!(times[0], times[1], "round {round}: time and mode");
    }
}

fn same(round: usize, what: &str, found: &[u8], expected: &[u8]) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    assert!(
        found == expected,
        "round {round}: {what} is old: {} bytes {:?}, expected {} bytes {:?}",
        found.len(),
        text(found),
        expected.len(),
        text(expected)
    );
}

fn read_all(file: &File) -> Vec<u8> {
    let mut content = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        match file.read_at(&mut content[length..], length as u64).expect("a read") {
            0 => break,
            more => length += more,
        }
    }
    content.truncate(length);
    content
}

/// Waits for an event on a name, and no longer than that.
fn wakes(watcher: &mut Watcher, round: usize, kind: ReadFlags, name: &str) {
    let wanted =
        |event: &Event| event.what.contains(kind) && event.name.as_deref() == Some(name.as_bytes());
    if let Err(heard) = watcher.wait_for(PROMPT, wanted) {
        panic!("round {round}: no {kind:?} of {name}: {heard}");
    }
}

/// The first page of a file, mapped shared.
struct Map(NonNull<u8>);

const PAGE: usize = 4096;

impl Map {
    fn of(file: &File) -> Self {
        // SAFETY: a new mapping, where the kernel likes.
        let page = unsafe {
            mm::mmap(std::ptr::null_mut(), PAGE, ProtFlags::READ, MapFlags::SHARED, file, 0)
        };
        Self(NonNull::new(page.expect("a mapping").cast()).expect("not at zero"))
    }

    /// The beginning, as it is now; `length` lies within the file and the page.
    fn read(&self, length: usize) -> Vec<u8> {
        // SAFETY: the page is mapped as long as `self` lives; each byte is read anew, because others
        // change it.
        (0..length).map(|at| unsafe { self.0.as_ptr().wrapping_add(at).read_volatile() }).collect()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`, and used by nobody any more.
        let _ = unsafe { mm::munmap(self.0.as_ptr().cast(), PAGE) };
    }
}

/// Content that tells its round, of some size.
fn content(round: usize, size: usize) -> Vec<u8> {
    format!("round {round:06} ").into_bytes().into_iter().cycle().take(size).collect()
}

fn a_file_overwritten_in_place_is_read_anew(shape: Shape) {
    let mut held = Held::new(shape, &content(0, 3000));
    for round in 1..=OVERWRITES {
        overwrite(&held.host(), &content(round, 3000));
        held.becomes(round, ReadFlags::MODIFY, &content(round, 3000));
    }
}

fn a_truncated_file_is_read_anew(shape: Shape) {
    let mut held = Held::new(shape, &content(0, 3000));
    let mut expected = content(0, 3000);
    for round in 1..=TRUNCATIONS {
        // Cut, and grown again by nothing.
        let size = 1 + round * 389 % 3000;
        OpenOptions::new()
            .write(true)
            .open(held.host())
            .and_then(|file| file.set_len(size as u64))
            .expect("truncate");
        expected.resize(size, 0);
        held.becomes(round, ReadFlags::MODIFY, &expected);
    }
}

fn an_appended_file_is_read_anew(shape: Shape) {
    let mut held = Held::new(shape, b"begin\n");
    let mut expected = b"begin\n".to_vec();
    for round in 1..=APPENDS {
        let line = format!("round {round}\n");
        expected.extend_from_slice(line.as_bytes());
        let mut file = OpenOptions::new().append(true).open(held.host()).expect("the file");
        file.write_all(line.as_bytes()).expect("a write");
        drop(file);
        held.becomes(round, ReadFlags::MODIFY, &expected);
    }
}

fn a_replaced_file_is_read_anew(shape: Shape) {
    let Held { share, mut watcher, .. } = Held::new(shape, &content(0, 3000));
    let (host, guest) = (share.host().join("file"), share.mount().join("file"));
    let saved = share.host().join("saved");
    for round in 1..=REPLACEMENTS {
        let size = 2000 + round % 3;
        let before = File::open(&guest).expect("the file");
        let old = read_all(&before);
        fs::write(&saved, content(round, size)).expect("a file");
        fs::rename(&saved, &host).expect("a rename");
        wakes(&mut watcher, round, ReadFlags::MOVED_TO, "file");
        same(round, "content", &fs::read(&guest).expect("the file"), &content(round, size));
        let found = [&host, &guest].map(|path| fs::metadata(path).expect("stat"));
        assert_eq!(found[0].len(), found[1].len(), "round {round}: size");
        assert_eq!(found[0].ino(), found[1].ino(), "round {round}: inode");
        assert!(!share.mount().join("saved").exists(), "round {round}: the old name");
        // Who held the old file holds the old file.
        same(round, "content of what was replaced", &read_all(&before), &old);
    }
}

fn a_retargeted_symlink_is_read_anew(shape: Shape) {
    let Held { share, mut watcher, .. } = Held::new(shape, b"");
    let (link, guest) = (share.host().join("link"), share.mount().join("link"));
    for target in ["a", "bb"] {
        fs::write(share.host().join(target), target).expect("a file");
    }
    symlink("a", &link).expect("a symlink");
    wakes(&mut watcher, 0, ReadFlags::CREATE, "link");
    for round in 1..=RETARGETS {
        let target = if round % 2 == 0 { "a" } else { "bb" };
        let saved = share.host().join("saved");
        symlink(target, &saved).expect("a symlink");
        fs::rename(&saved, &link).expect("a rename");
        wakes(&mut watcher, round, ReadFlags::MOVED_TO, "link");
        assert_eq!(fs::read_link(&guest).expect("the link"), Path::new(target), "round {round}");
        assert_eq!(fs::read_to_string(&guest).expect("its target"), target, "round {round}");
        let length = fs::symlink_metadata(&guest).expect("lstat").len();
        assert_eq!(length, target.len() as u64, "round {round}");
    }
}

/// Whoever does not wait for an event finds one of the contents that the name has led to, and none
/// that is older than what it has found before.
fn a_file_that_is_being_replaced_is_never_read_in_part(shape: Shape) {
    let Held { share, .. } = Held::new(shape, &replacement(0));
    let (host, saved) = (share.host().join("file"), share.host().join("saved"));
    let guest = share.mount().join("file");
    let mut found = 0;
    let replace = |round| {
        fs::write(&saved, replacement(round)).expect("a file");
        fs::rename(&saved, &host).expect("a rename");
    };
    read_meanwhile((REPLACEMENTS, Duration::from_millis(1)), replace, || {
        let content = fs::read(&guest).expect("the file");
        let round = content.get(..8).and_then(|round| str::from_utf8(round).ok()?.parse().ok());
        let round = round.unwrap_or_default();
        same(round, &format!("content behind round {found}"), &content, &replacement(round));
        assert!(round >= found, "round {round} is read behind round {found}");
        found = round;
        found
    });
}

/// What is read of a log are its lines, never fewer than before, and at last all of them.
fn a_file_that_grows_is_read_line_by_line_and_whole_at_last(shape: Shape) {
    let Held { share, open, .. } = Held::new(shape, b"");
    let (host, guest) = (share.host().join("file"), share.mount().join("file"));
    // None is in two pages, which the host's own file system would fill one after the other.
    let line = |round: usize| format!("{round:07}\n");
    let whole: String = (1..=LINES).map(line).collect();
    let mut log = OpenOptions::new().append(true).open(&host).expect("the file");
    let append = |round| log.write_all(line(round).as_bytes()).expect("a write");
    let mut found = 0;
    read_meanwhile((LINES, Duration::from_micros(300)), append, || {
        for content in [fs::read(&guest).expect("the file"), read_all(&open)] {
            let lines = content.len() / line(0).len();
            let expected = &whole.as_bytes()[..content.len()];
            same(lines, &format!("content behind line {found}"), &content, expected);
            assert!(lines >= found, "{lines} lines are read behind {found}");
            found = lines;
        }
        found
    });
}

/// The host changes a file so often, by number, with a pause behind each change, while the guest reads it
/// without any and tells which change it has found. At last it finds the last one.
fn read_meanwhile(
    (changes, pause): (usize, Duration),
    mut change: impl FnMut(usize) + Send,
    mut read: impl FnMut() -> usize,
) {
    thread::scope(|scope| {
        let changing = scope.spawn(move || {
            for round in 1..=changes {
                change(round);
                thread::sleep(pause);
            }
        });
        while !changing.is_finished() {
            read();
        }
        changing.join().expect("the host");
        eventually("the last change is read", PROMPT, || read() == changes);
    });
}

/// Its number, many times.
fn replacement(round: usize) -> Vec<u8> {
    format!("{round:08}").repeat(250 + round % 250).into_bytes()
}

fn a_name_that_changes_case_is_read_anew(shape: Shape) {
    let Held { share, mut watcher, .. } = Held::new(shape, b"x");
    let spellings = ["file", "FILE"];
    for round in 1..=CASE_RENAMES {
        let (old, new) = (spellings[(round + 1) % 2], spellings[round % 2]);
        fs::rename(share.host().join(old), share.host().join(new)).expect("a rename");
        wakes(&mut watcher, round, ReadFlags::MOVED_TO, new);
        assert!(share.mount().join(new).exists(), "round {round}: the new spelling");
        assert!(!share.mount().join(old).exists(), "round {round}: the old spelling");
        let names: Vec<_> = fs::read_dir(share.mount())
            .expect("the folder")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(names, [new], "round {round}");
    }
}

fn overwrite(path: &Path, content: &[u8]) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(content, 0))
        .expect("a write");
}

/// Each system call of the guest after one of the host sees what that did.
fn in_consistent_mode_nobody_waits_for_an_event(shape: Shape) {
    let share = shape.share().consistency("consistent").start();
    let (host, guest) = (share.host().join("file"), share.mount().join("file"));
    let saved = share.host().join("saved");
    fs::write(&host, content(0, 3000)).expect("a file");
    assert!(guest.exists());
    for round in 1..=AT_ONCE {
        let open = File::open(&guest).expect("the file");
        read_all(&open);
        overwrite(&host, &content(round, 3000));
        same(round, "content by descriptor", &read_all(&open), &content(round, 3000));
        same(round, "content by name", &fs::read(&guest).expect("the file"), &content(round, 3000));
        let size = 1 + round * 389 % 3000;
        OpenOptions::new()
            .write(true)
            .open(&host)
            .and_then(|file| file.set_len(size as u64))
            .expect("truncate");
        assert_eq!(open.metadata().expect("fstat").len(), size as u64, "round {round}: cut");
        same(round, "content, cut", &read_all(&open), &content(round, size));
        fs::write(&saved, content(round, 2000)).expect("a file");
        assert!(share.mount().join("saved").exists(), "round {round}: a new file");
        fs::rename(&saved, &host).expect("a rename");
        assert!(!share.mount().join("saved").exists(), "round {round}: the old name");
        same(round, "content, replaced", &fs::read(&guest).expect("file"), &content(round, 2000));
        symlink(format!("target-{round}"), &saved).expect("a symlink");
        fs::rename(&saved, share.host().join("link")).expect("a rename");
        let target = fs::read_link(share.mount().join("link")).expect("the link");
        assert_eq!(target, Path::new(&format!("target-{round}")), "round {round}");
        fs::rename(&host, share.host().join("FILE")).expect("a rename");
        assert!(!guest.exists(), "round {round}: the old spelling");
        fs::rename(share.host().join("FILE"), &host).expect("a rename");
        fs::write(&host, content(round, 3000)).expect("a file");
    }
}

/// In the default mode, `cached`.
fn what_a_guest_writes_is_on_the_host_when_the_call_returns(shape: Shape) {
    let share = shape.mounted();
    let (host, guest) = (share.host().join("file"), share.mount().join("file"));
    let mut file = File::create(&guest).expect("a file");
    let mut expected = Vec::new();
    for round in 1..=AT_ONCE {
        let line = content(round, 50);
        file.write_all(&line).expect("a write");
        expected.extend_from_slice(&line);
        same(round, "content", &fs::read(&host).expect("the file"), &expected);
        let (old, new) = (format!("name-{}", round - 1), format!("name-{round}"));
        if round == 1 {
            File::create(share.mount().join(&old)).expect("a file");
        }
        fs::rename(share.mount().join(&old), share.mount().join(&new)).expect("a rename");
        assert!(share.host().join(new).exists() && !share.host().join(old).exists());
    }
}

fn delegated_writes_arrive_by_close_fsync_or_soon(shape: Shape) {
    let share = shape.share().consistency("delegated").start();
    let on_host = |name: &str, expected: &[u8]| {
        fs::read(share.host().join(name)).is_ok_and(|found| found == expected)
    };
    for round in 0..50 {
        let expected = content(round, 10_000);
        let name = format!("closed-{round}");
        fs::write(share.mount().join(&name), &expected).expect("a file");
        assert!(on_host(&name, &expected), "round {round}: after close");
        let name = format!("synced-{round}");
        let mut file = File::create(share.mount().join(&name)).expect("a file");
        file.write_all(&expected).expect("a write");
        file.sync_all().expect("fsync");
        assert!(on_host(&name, &expected), "round {round}: after fsync");
    }
    let mut open = File::create(share.mount().join("open")).expect("a file");
    open.write_all(b"neither closed nor synced").expect("a write");
    // One second is promised; the machine may be busy.
    eventually("the host has it by itself", Duration::from_secs(5), || {
        on_host("open", b"neither closed nor synced")
    });
}
