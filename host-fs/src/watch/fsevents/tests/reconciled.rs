//! From events to changes: streams that say too much, too little or in the wrong order, judged by the
//! real reconciler.

use super::*;
use crate::observe::place;
use crate::reconcile::{Looked, Lookup, OwnedChange, OwnedPlace, Reconciler};
use insta::assert_snapshot;
use protocol::{Attr, Entry, Time, Validity, mode};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const ROOT: NodeId = NodeId(1);

/// Files of one directory: a name, an inode number, and a size. All that the guest has been told of
/// it has a node of the same number.
#[derive(Default)]
struct Host {
    names: BTreeMap<Vec<u8>, Attr>,
    known: BTreeSet<u64>,
}

impl Host {
    fn put(&mut self, name: &str, ino: u64, size: u64) -> Attr {
        let time = Time { sec: 1000 + i64::try_from(size).unwrap(), nsec: 0 };
        let attr = Attr {
            ino,
            size,
            mode: mode::IFREG | 0o644,
            nlink: 1,
            mtime: time,
            ctime: time,
            ..Attr::default()
        };
        self.names.insert(name.into(), attr);
        attr
    }
}

impl Lookup for Host {
    fn look(&mut self, dir: NodeId, name: &[u8]) -> Looked {
        match self.names.get(name).filter(|_| dir == ROOT) {
            Some(attr) => {
                let node = self.known.contains(&attr.ino).then_some(NodeId(attr.ino));
                Looked::There { node, attr: *attr }
            }
            None => Looked::Absent,
        }
    }

    fn entry(&mut self, _dir: NodeId, name: &[u8]) -> Option<Entry> {
        let attr = *self.names.get(name)?;
        self.known.insert(attr.ino);
        Some(Entry { node: NodeId(attr.ino), attr, valid: Validity::NONE })
    }

    fn entry_of(&mut self, node: NodeId) -> Option<Entry> {
        let attr = *self.names.values().find(|attr| attr.ino == node.0)?;
        Some(Entry { node, attr, valid: Validity::NONE })
    }

    fn links(&mut self, node: NodeId) -> Option<u32> {
        self.entry_of(node).map(|entry| entry.attr.nlink)
    }

    fn target(&mut self, _node: NodeId) -> Option<Box<[u8]>> {
        None
    }
}

/// `before` is what the guest was told of `/r`, `after` what is there now; both as `NAME=INO:SIZE`.
/// Gives the changes that the events lead to.
fn changes(before: &str, after: &str, lines: &str) -> String {
    let mut host = Host::default();
    let mut core = Reconciler::default();
    core.watched(ROOT);
    let files = |list: &str| {
        let split = |file: &str| {
            let (name, state) = file.split_once('=').unwrap();
            let (ino, size) = state.split_once(':').unwrap();
            (name.to_owned(), ino.parse::<u64>().unwrap(), size.parse::<u64>().unwrap())
        };
        list.split_whitespace().map(split).collect::<Vec<_>>()
    };
    let wall = Time { sec: 1_000_000, nsec: 0 };
    for (name, ino, size) in files(before) {
        let attr = host.put(&name, ino, size);
        host.known.insert(ino);
        core.told(place(ROOT, name.as_bytes()).unwrap(), Some((NodeId(ino), &attr)), wall);
    }
    host.names.clear();
    for (name, ino, size) in files(after) {
        host.put(&name, ino, size);
    }
    let (mut scene, mut reports) = (Scene::new(), Vec::new());
    let mut batch: Vec<Event> =
        lines.lines().filter(|line| !line.trim().is_empty()).map(event).collect();
    for event in &mut batch {
        let (_, name) = split(&event.path).unwrap();
        let found = host.names.get(name).map(|attr| (FileId(attr.ino), name.to_vec()));
        event.found(found);
    }
    scene.take(batch, &mut reports);
    scene.hints.flush(&mut reports);
    let now = Instant::now();
    for report in reports {
        match report {
            Report::Hint(hint) => core.hint(now, hint, &mut host),
            other => panic!("{other:?}"),
        }
    }
    core.tick(now + Duration::from_secs(1), &mut host);
    core.take().iter().map(words).collect::<Vec<_>>().join("\n")
}

fn words(change: &OwnedChange) -> String {
    let name = |at: &OwnedPlace| at.name.escape_ascii().to_string();
    match change {
        OwnedChange::Created { at, entry, .. } => format!("created {}={}", name(at), entry.node),
        OwnedChange::Modified { at, entry, .. } => format!("modified {}={}", name(at), entry.node),
        OwnedChange::Attrib { at, entry } => {
            format!("attrib {}={}", at.as_ref().map(name).unwrap_or_default(), entry.node)
        }
        OwnedChange::Removed { at, node, .. } => format!("removed {}={node}", name(at)),
        OwnedChange::Renamed { from, to, entry, replaced } => {
            let over = if replaced.0 == 0 { String::new() } else { format!(" over {replaced}") };
            format!("renamed {} to {}={}{over}", name(from), name(to), entry.node)
        }
        OwnedChange::Passed { at, .. } => format!("passed {}", name(at)),
        OwnedChange::Doubt { dir } => format!("doubt {dir}"),
    }
}

#[test]
fn a_new_file_is_created_and_written_once() {
    assert_snapshot!(changes("", "f=7:3", "
        101 CREATED|MODIFIED|INODE_META_MOD|IS_FILE /r/f #7
        102 CREATED|MODIFIED|INODE_META_MOD|IS_FILE /r/f #7
    "), @r"
    created f=7
    modified f=7
    attrib f=7
    ");
}

#[test]
fn a_file_that_came_and_went_is_one_change() {
    assert_snapshot!(changes("", "", "
        101 CREATED|MODIFIED|REMOVED|IS_FILE /r/f #7
    "), @"passed f");
}

#[test]
fn a_file_told_under_old_flags_is_removed() {
    assert_snapshot!(changes("f=7:3", "", "
        101 CREATED|MODIFIED|REMOVED|IS_FILE /r/f #7
    "), @"removed f=7");
}

#[test]
fn a_write_without_a_difference_is_no_news() {
    assert_snapshot!(changes("f=7:3", "f=7:3", "
        101 MODIFIED|INODE_META_MOD|IS_FILE /r/f #7
    "), @"");
}

#[test]
fn a_file_removed_and_made_anew_is_both() {
    assert_snapshot!(changes("f=7:3", "f=8:4", "
        101 CREATED|MODIFIED|REMOVED|IS_FILE /r/f #8
    "), @r"
    removed f=7
    created f=8
    modified f=8
    ");
}

#[test]
fn an_atomic_save_is_a_creation_and_a_rename_over_the_old_file() {
    assert_snapshot!(changes("f=7:3", "f=8:4", "
        101 CREATED|MODIFIED|RENAMED|IS_FILE /r/tmp #8
        102 CREATED|MODIFIED|RENAMED|IS_FILE /r/f #8
    "), @r"
    created tmp=8
    modified tmp=8
    renamed tmp to f=8 over 7
    ");
    // The other way round.
    assert_snapshot!(changes("f=7:3", "f=8:4", "
        101 RENAMED|IS_FILE /r/f #8
        102 CREATED|MODIFIED|RENAMED|IS_FILE /r/tmp #8
    "), @r"
    created tmp=8
    modified tmp=8
    renamed tmp to f=8 over 7
    ");
}

#[test]
fn a_save_that_keeps_a_backup_is_a_rename_and_a_creation() {
    assert_snapshot!(changes("f=7:3", "f=8:4 f~=7:3", "
        101 CREATED|MODIFIED|RENAMED|IS_FILE /r/f #8
        102 RENAMED|IS_FILE /r/f~ #7
    "), @r"
    renamed f to f~=7
    created f=8
    modified f=8
    ");
}

#[test]
fn renames_out_of_order_are_renames() {
    assert_snapshot!(changes("a=7:3 b=8:4", "x=7:3 y=8:4", "
        101 RENAMED|IS_FILE /r/y #8
        102 RENAMED|IS_FILE /r/x #7
        103 RENAMED|IS_FILE /r/a #7
        104 RENAMED|IS_FILE /r/b #8
    "), @r"
    renamed b to y=8
    renamed a to x=7
    ");
}

#[test]
fn a_rotation_of_names_ends_with_what_is_there() {
    assert_snapshot!(changes("log=7:1 log.1=8:2", "log.1=7:1 log.2=8:2", "
        101 RENAMED|IS_FILE /r/log.1 #8
        102 RENAMED|IS_FILE /r/log.2 #8
        103 RENAMED|IS_FILE /r/log #7
        104 RENAMED|IS_FILE /r/log.1 #7
    "), @r"
    renamed log.1 to log.2=8
    renamed log to log.1=7
    ");
    // Coalesced: nothing tells that the second file was ever at the name that the first has now.
    assert_snapshot!(changes("log=7:1 log.1=8:2", "log.1=7:1 log.2=8:2", "
        102 RENAMED|IS_FILE /r/log.2 #8
        103 RENAMED|IS_FILE /r/log #7
        104 RENAMED|IS_FILE /r/log.1 #7
    "), @r"
    renamed log to log.1=7 over 8
    created log.2=8
    ");
}

#[test]
fn an_exchange_is_two_renames() {
    assert_snapshot!(changes("a=7:1 b=8:2", "a=8:2 b=7:1", "
        101 RENAMED|IS_FILE /r/a #7
        102 RENAMED|IS_FILE /r/b #8
    "), @r"
    renamed a to b=7 over 8
    renamed b to a=8
    ");
}

#[test]
fn moved_there_and_back_is_a_rename_at_most() {
    assert_snapshot!(changes("a=7:1", "a=7:1", "
        101 RENAMED|IS_FILE /r/a #7
        102 RENAMED|IS_FILE /r/b #7
    "), @"renamed b to a=7");
}
