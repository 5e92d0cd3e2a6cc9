//! A guest that looks at a name in the moment between a change on the host and its event: it sees what is
//! there now, and the event is none the poorer for it.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::fs::inotify::ReadFlags;

use crate::support::watcher::Event;
use crate::support::{PROMPT, Shape, Watcher, eventually, on_each_shape};

const ROUNDS: usize = 150;
/// What tells that a name is there or is not.
const NAMES: ReadFlags = ReadFlags::CREATE
    .union(ReadFlags::DELETE)
    .union(ReadFlags::MOVED_FROM)
    .union(ReadFlags::MOVED_TO);

on_each_shape!(together:
    an_open_file_that_the_host_replaces_is_told_to_be_gone,
    a_folder_that_the_host_renames_to_and_fro_is_told_each_time,
    a_folder_that_the_host_moves_away_and_back_at_once_is_told_to_be_back,
    a_file_that_the_host_saves_by_a_link_is_told_to_be_created,
    a_file_made_where_the_host_removed_a_folder_is_told_last,
    a_file_moved_where_the_host_renamed_another_is_told_last,
);

/// A thread that looks at some names all the time.
struct Onlooker {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Onlooker {
    fn at(names: impl IntoIterator<Item = PathBuf>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (names, seen) = (names.into_iter().collect::<Vec<_>>(), over.clone());
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                names.iter().for_each(|name| _ = fs::symlink_metadata(name));
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[track_caller]
fn hears(watcher: &mut Watcher, round: usize, what: ReadFlags, name: Option<&str>) {
    let wanted = |event: &Event| {
        event.what.contains(what) && event.name.as_deref() == name.map(str::as_bytes)
    };
    if let Err(heard) = watcher.wait_for(PROMPT, wanted) {
        panic!("round {round}: no {what:?} of {name:?}: {heard}");
    }
}

/// The folder and its watcher, when what was made in it is told.
fn watched(folder: &Path, there: &Path) -> Watcher {
    eventually("it is there", PROMPT, || there.exists());
    super::settle();
    let watcher = Watcher::new();
    watcher.watch(folder).expect("a watch");
    watcher
}

fn an_open_file_that_the_host_replaces_is_told_to_be_gone(shape: Shape) {
    let share = shape.mounted();
    let (host, guest) = (share.host().join("file"), share.mount().join("file"));
    fs::write(&host, "0").expect("a file");
    let mut watcher = watched(share.mount(), &guest);
    let _onlooker = Onlooker::at([guest.clone()]);
    for round in 0..ROUNDS {
        let open = fs::File::open(&guest).expect("the file");
        // Heard apart, as it may come before the other.
        let mut of_file = Watcher::new();
        of_file.watch(&guest).expect("a watch");
        let new = share.host().join("new");
        fs::write(&new, round.to_string()).expect("a file");
        fs::rename(&new, &host).expect("a rename");
        hears(&mut watcher, round, ReadFlags::MOVED_TO, Some("file"));
        let links = || open.metadata().expect("fstat").nlink();
        eventually("the open file has no name", PROMPT, || links() == 0);
        drop(open);
        hears(&mut of_file, round, ReadFlags::DELETE_SELF, None);
    }
}

fn a_folder_that_the_host_renames_to_and_fro_is_told_each_time(shape: Shape) {
    let share = shape.share().consistency("consistent").start();
    let folders = ["one", "two"].map(|name| (share.host().join(name), share.mount().join(name)));
    folders.iter().for_each(|(host, _)| fs::create_dir(host).expect("a folder"));
    fs::create_dir(folders[0].0.join("x")).expect("a folder");
    let mut watcher = watched(&folders[0].1, &folders[0].1.join("x"));
    watcher.watch(&folders[1].1).expect("a watch");
    let _onlooker = Onlooker::at(folders.iter().map(|(_, guest)| guest.join("x")));
    let mut hosts = folders.map(|(host, _)| host.join("x"));
    for round in 0..ROUNDS {
        fs::rename(&hosts[0], &hosts[1]).expect("a rename");
        hosts.reverse();
        hears(&mut watcher, round, ReadFlags::MOVED_TO, Some("x"));
    }
}

fn a_folder_that_the_host_moves_away_and_back_at_once_is_told_to_be_back(shape: Shape) {
    let share = shape.share().consistency("consistent").start();
    let folders = ["here", "away"].map(|name| (share.host().join(name), share.mount().join(name)));
    folders.iter().for_each(|(host, _)| fs::create_dir(host).expect("a folder"));
    fs::create_dir(folders[0].0.join("x")).expect("a folder");
    let mut watcher = watched(&folders[0].1, &folders[0].1.join("x"));
    let _onlooker = Onlooker::at(folders.iter().map(|(_, guest)| guest.join("x")));
    let [here, away] = folders.map(|(host, _)| host.join("x"));
    for round in 0..ROUNDS {
        fs::rename(&here, &away).expect("a rename");
        fs::rename(&away, &here).expect("a rename");
        hears(&mut watcher, round, ReadFlags::MOVED_TO, Some("x"));
    }
}

fn a_file_that_the_host_saves_by_a_link_is_told_to_be_created(shape: Shape) {
    let share = shape.share().consistency("consistent").start();
    let folder = share.host().join("folder");
    fs::create_dir(&folder).expect("a folder");
    let seen = share.mount().join("folder");
    let mut watcher = watched(&seen, &seen);
    for round in 0..ROUNDS {
        fs::write(folder.join("new"), "x").expect("a file");
        hears(&mut watcher, round, ReadFlags::CLOSE_WRITE, Some("new"));
        fs::hard_link(folder.join("new"), folder.join("saved")).expect("a link");
        fs::remove_file(folder.join("new")).expect("a removal");
        hears(&mut watcher, round, ReadFlags::CREATE, Some("saved"));
        fs::remove_file(folder.join("saved")).expect("a removal");
        hears(&mut watcher, round, ReadFlags::DELETE, Some("saved"));
    }
}

fn a_file_made_where_the_host_removed_a_folder_is_told_last(shape: Shape) {
    let share = shape.share().consistency("consistent").start();
    let mut watcher = watched(share.mount(), share.mount());
    let (host, guest) = (share.host().join("name"), share.mount().join("name"));
    for round in 0..ROUNDS {
        fs::create_dir(&guest).expect("a folder");
        hears(&mut watcher, round, ReadFlags::CREATE | ReadFlags::ISDIR, Some("name"));
        fs::remove_dir(&host).expect("a removal");
        fs::File::create_new(&guest).expect("a file");
        hears(&mut watcher, round, ReadFlags::DELETE | ReadFlags::ISDIR, Some("name"));
        hears(&mut watcher, round, ReadFlags::CREATE, Some("name"));
        assert!(guest.metadata().expect("the file").is_file(), "round {round}");
        fs::remove_file(&guest).expect("a removal");
        hears(&mut watcher, round, ReadFlags::DELETE, Some("name"));
    }
}

fn a_file_moved_where_the_host_renamed_another_is_told_last(shape: Shape) {
    let share = shape.share().consistency("consistent").start();
    let mut watcher = watched(share.mount(), share.mount());
    let at = |name| (share.host().join(name), share.mount().join(name));
    let ((old_host, old), (new_host, _), (_, other)) = (at("old"), at("new"), at("other"));
    for round in 0..ROUNDS {
        fs::write(&old, "old").expect("a file");
        fs::write(&other, "other").expect("a file");
        hears(&mut watcher, round, ReadFlags::CLOSE_WRITE, Some("other"));
        fs::rename(&old_host, &new_host).expect("a rename");
        fs::rename(&other, &old).expect("a rename");
        fs::write(share.host().join("marker"), "").expect("a file");
        // Whether there is something at the old name, as far as told until the marker.
        let (there, told) = (Cell::new(false), RefCell::new(Vec::new()));
        let note = |event: &Event| {
            told.borrow_mut().push(format!("{:?} {:?}", event.what, event.name));
            if event.name.as_deref() == Some(b"old") && event.what.intersects(NAMES) {
                there.set(event.what.intersects(ReadFlags::MOVED_TO | ReadFlags::CREATE));
            }
            event.name.as_deref() == Some(b"marker")
        };
        watcher.wait_for(PROMPT, note).expect("the marker");
        assert!(there.get(), "round {round}: what is there is told last, of {:#?}", told.take());
        assert_eq!(fs::read(&old).expect("the file"), b"other", "round {round}");
        fs::remove_file(&old).expect("a removal");
        hears(&mut watcher, round, ReadFlags::DELETE, Some("old"));
        fs::remove_file(&new_host).expect("a removal");
        hears(&mut watcher, round, ReadFlags::DELETE, Some("new"));
        fs::remove_file(share.host().join("marker")).expect("a removal");
        hears(&mut watcher, round, ReadFlags::DELETE, Some("marker"));
    }
}
