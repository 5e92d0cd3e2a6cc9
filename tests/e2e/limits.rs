//! Little of everything: descriptors, memory, space.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::support::{Daemon, PROMPT, Scratch, Shape, Share, Tmpfs, eventually, tree, turns};
use crate::support::{on_each_shape, require_root};

const DESCRIPTORS: u32 = 1_024;
const FILES: usize = 300_000;
const PER_FOLDER: usize = 300;
/// One file in so many is rewritten, which keeps a run below 4 minutes on two cores.
const REWRITTEN: usize = 2;
const BYTES_PER_NODE: u64 = 400;

on_each_shape!(alone: open_files_end_in_emfile_and_not_before_900);
on_each_shape!(together:
    a_full_disk_is_said_and_loses_nothing,
    a_read_only_host_is_said,
);

/// Under `ulimit -n 1024`, all of 300,000 files are walked and read and a part rewritten, in both
/// shapes; and server and agent, as two processes, stay below 400 bytes for each node.
#[test]
fn a_tree_of_300000_files_needs_few_descriptors_and_little_memory() {
    let _turn = turns::alone();
    let disk = Scratch::new();
    let source = disk.dir("tree");
    tree::make(&source, FILES, PER_FOLDER, 40);
    for shape in [Shape::UnixSocket, Shape::Embedded] {
        let share = shape.share().of(&source).nofile(DESCRIPTORS);
        let mut share = share.patience(Duration::from_secs(600)).start();
        let before = memory(&mut share);
        let start = Instant::now();
        let files = walk(share.mount());
        let walked = start.elapsed();
        assert_eq!(files.len(), FILES, "{shape:?}");
        let after = memory(&mut share);
        let nodes = (FILES + FILES / PER_FOLDER) as u64;
        for ((name, before), (_, after)) in before.iter().zip(&after) {
            let each = after.saturating_sub(*before) / nodes;
            say(&format!("{shape:?}: {name}: {each} bytes for each of {nodes} nodes"));
            assert!(
                shape == Shape::Embedded || each < BYTES_PER_NODE,
                "{name} uses {each} bytes for each node"
            );
        }
        let mut bytes = 0;
        for (index, path) in files.iter().enumerate() {
            let content = fs::read(path).expect("a file");
            bytes += content.len();
            if index % REWRITTEN == 0 {
                fs::write(path, content).expect("a rewritten file");
            }
        }
        assert!(bytes > FILES, "files have content");
        say(&format!("{shape:?}: walked in {walked:.1?}, all in {:.1?}", start.elapsed()));
    }
}

/// Every file, each one looked at as `find -size` would.
fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let found = entry.metadata().expect("stat");
            if found.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files
}

/// What each process holds for itself, in bytes.
fn memory(share: &mut Share) -> Vec<(String, u64)> {
    let of = |daemon: &Daemon| {
        let path = format!("/proc/{}/smaps_rollup", daemon.pid().as_raw_nonzero());
        let text = fs::read_to_string(path).expect("smaps_rollup");
        let line = text.lines().find(|line| line.starts_with("Anonymous:")).expect("a figure");
        let kib: u64 = line.split_whitespace().nth(1).expect("a figure").parse().expect("a number");
        (format!("process {}", daemon.pid()), kib * 1024)
    };
    let mut found: Vec<_> = share.daemons().iter().map(of).collect();
    let names = if found.len() == 2 { &["server", "agent"][..] } else { &["both"] };
    for ((name, _), known) in found.iter_mut().zip(names) {
        (*known).clone_into(name);
    }
    found
}

/// Figures belong into the log of a run that passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn open_files_end_in_emfile_and_not_before_900(shape: Shape) {
    let share = shape.share().nofile(DESCRIPTORS).start();
    let mut open = Vec::new();
    let refused = loop {
        let index = open.len();
        match File::create_new(share.mount().join(index.to_string())) {
            Ok(file) => {
                file.write_all_at(index.to_string().as_bytes(), 0).expect("a write");
                open.push(file);
            }
            Err(error) => break error,
        }
        assert!(open.len() < 2_000, "no end with {DESCRIPTORS} descriptors");
    };
    assert_eq!(Errno::from_io_error(&refused), Some(Errno::MFILE));
    assert!(open.len() >= 900, "only {} files were open at once", open.len());
    // What is open works on, and so does all that needs no open file.
    for (index, file) in open.iter().enumerate().step_by(97) {
        file.sync_all().expect("fsync");
        let expected = index.to_string();
        assert_eq!(fs::read(share.host().join(&expected)).expect("the file"), expected.as_bytes());
    }
    assert_eq!(fs::metadata(share.mount().join("5")).expect("stat").len(), 1);
    open.clear();
    // Closing is told to the server after the fact.
    crate::support::eventually("files open again", crate::support::PROMPT, || {
        File::create(share.mount().join("again")).is_ok()
    });
}

fn a_full_disk_is_said_and_loses_nothing(shape: Shape) {
    require_root!();
    let scratch = Scratch::new();
    let disk = Tmpfs::mount(&scratch.dir("disk"), "size=1m,nr_inodes=50");
    let share = shape.share().of(disk.path()).start();
    fs::write(share.mount().join("kept"), "kept").expect("a file");
    let refused = fs::write(share.mount().join("large"), vec![b'x'; 4 << 20]);
    let code = refused.err().and_then(|error| Errno::from_io_error(&error));
    assert_eq!(code, Some(Errno::NOSPC));
    assert_eq!(fs::read(share.mount().join("kept")).expect("the file"), b"kept");
    fs::remove_file(share.mount().join("large")).expect("a removal");
    // The kernel tells the server of a last close a moment later, and with it the space comes back.
    eventually("there is space again", PROMPT, || {
        fs::write(share.mount().join("small"), "fits").is_ok()
    });
    assert_eq!(fs::read(share.host().join("small")).expect("the file"), b"fits");
    // And when it is names that run out.
    let refused =
        (0..100).find_map(|index| File::create(share.mount().join(format!("name-{index}"))).err());
    let code = refused.and_then(|error| Errno::from_io_error(&error));
    assert_eq!(code, Some(Errno::NOSPC));
    assert_eq!(fs::read(share.host().join("kept")).expect("the file"), b"kept");
}

fn a_read_only_host_is_said(shape: Shape) {
    require_root!();
    let scratch = Scratch::new();
    let disk = Tmpfs::mount(&scratch.dir("disk"), "size=1m");
    fs::write(disk.path().join("file"), "content").expect("a file");
    disk.remount("ro");
    let share = shape.share().of(disk.path()).start();
    assert_eq!(fs::read(share.mount().join("file")).expect("the file"), b"content");
    for (what, result) in crate::lifecycle::changes(share.mount()) {
        let code = result.err().and_then(|error| Errno::from_io_error(&error));
        assert_eq!(code, Some(Errno::ROFS), "{what}");
    }
}
