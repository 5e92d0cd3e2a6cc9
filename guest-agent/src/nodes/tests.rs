//! Tests of the node table.

use super::*;
use protocol::Time;
use protocol::mode::{IFDIR, IFREG};

fn entry(node: u64, ino: u64, mode: u32) -> Entry {
    let attr = Attr { ino, mode, ..Attr::default() };
    Entry { node: NodeId(node), attr, valid: Validity::NONE }
}

fn table() -> NodeTable {
    let table = NodeTable::new(0, &Entry::default());
    table.begin_epoch(1, &entry(10, 1, IFDIR | 0o755));
    table
}

fn names(table: &NodeTable, local: LocalId) -> Option<Vec<String>> {
    let path = table.path(local)?;
    Some(path.iter().map(|(_, name)| String::from_utf8_lossy(name).into_owned()).collect())
}

#[test]
fn the_root_has_number_one_and_is_never_forgotten() {
    let table = table();
    assert_eq!(table.resolve(LocalId::ROOT), Ok(NodeId(10)));
    assert_eq!(table.forget(LocalId::ROOT, 5), None);
    assert_eq!(table.resolve(LocalId::ROOT), Ok(NodeId(10)));
    assert_eq!(table.path(LocalId::ROOT), Some(vec![]));
}

#[test]
fn all_links_of_one_object_have_one_number() {
    let table = table();
    let a = table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    let b = table.found(LocalId::ROOT, b"b", &entry(11, 2, IFREG));
    assert_eq!(a, b);
    assert_eq!(table.known(a).unwrap().lookups, 2);
    assert_eq!(table.count(), 2);
}

#[test]
fn what_the_server_counted_is_given_back_at_the_last_forget() {
    let table = table();
    let a = table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    assert_eq!(table.absorb(&entry(11, 2, IFREG)), Some(a));
    assert_eq!(table.absorb(&entry(12, 3, IFREG)), None);
    assert_eq!(table.forget(a, 1), None);
    assert_eq!(table.forget(a, 1), Some(ForgetOne { node: NodeId(11), count: 3 }));
    assert_eq!(table.resolve(a), Err(Unresolved::Unknown));
    assert_eq!(table.forget(a, 1), None);
}

#[test]
fn a_number_is_never_used_twice() {
    let table = table();
    let a = table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    table.forget(a, 1);
    let b = table.found(LocalId::ROOT, b"a", &entry(12, 3, IFREG));
    assert_ne!(a, b);
    assert_eq!(table.resolve(a), Err(Unresolved::Unknown));
    assert_eq!(table.resolve(LocalId(0)), Err(Unresolved::Unknown));
    assert_eq!(table.resolve(LocalId(u64::MAX)), Err(Unresolved::Unknown));
}

#[test]
fn names_follow_renames_exchanges_and_removals() {
    let table = table();
    let dir = table.found(LocalId::ROOT, b"dir", &entry(11, 2, IFDIR));
    let sub = table.found(dir, b"sub", &entry(12, 3, IFDIR));
    let file = table.found(sub, b"file", &entry(13, 4, IFREG));
    assert_eq!(names(&table, file).unwrap(), ["dir", "sub", "file"]);

    table.renamed([Some(sub), None], (dir, b"sub"), (LocalId::ROOT, b"moved"), false);
    assert_eq!(names(&table, file).unwrap(), ["moved", "file"]);
    assert_eq!(table.child(dir, b"sub"), None);

    let both = [Some(dir), Some(sub)];
    table.renamed(both, (LocalId::ROOT, b"dir"), (LocalId::ROOT, b"moved"), true);
    assert_eq!(names(&table, file).unwrap(), ["dir", "file"]);
    assert_eq!(names(&table, dir).unwrap(), ["moved"]);

    // The target is overwritten.
    let over = [Some(sub), Some(dir)];
    table.renamed(over, (LocalId::ROOT, b"dir"), (LocalId::ROOT, b"moved"), false);
    assert_eq!(names(&table, dir), None);
    assert_eq!(names(&table, file).unwrap(), ["moved", "file"]);

    table.left(file, LocalId::ROOT, b"file");
    assert_eq!(names(&table, file).unwrap(), ["moved", "file"]);
    table.left(file, sub, b"file");
    assert_eq!(names(&table, file), None);
    assert!(table.resolve(file).is_ok());
}

#[test]
fn who_looks_before_the_answer_of_a_rename_or_a_removal_takes_nothing_from_what_is_there() {
    let table = table();
    let dir = table.found(LocalId::ROOT, b"old", &entry(11, 2, IFDIR));
    assert_eq!(table.found(LocalId::ROOT, b"new", &entry(11, 2, IFDIR)), dir);
    table.renamed([Some(dir), None], (LocalId::ROOT, b"old"), (LocalId::ROOT, b"new"), false);
    assert_eq!(names(&table, dir).unwrap(), ["new"]);
    assert_eq!(table.local(NodeId(11)), Some(dir));

    let successor = table.found(LocalId::ROOT, b"new", &entry(12, 3, IFDIR));
    table.removed(dir, LocalId::ROOT, b"new");
    assert_eq!(table.child(LocalId::ROOT, b"new"), Some(successor));
    assert_eq!(table.local(NodeId(12)), Some(successor));
}

#[test]
fn a_directory_keeps_its_place_where_a_late_answer_says_otherwise() {
    let table = table();
    let moved = table.found(LocalId::ROOT, b"new", &entry(11, 2, IFDIR));
    let other = table.found(LocalId::ROOT, b"old", &entry(12, 3, IFDIR));
    assert_eq!(table.found_late(LocalId::ROOT, b"old", &entry(11, 2, IFDIR)), moved);
    assert_eq!(names(&table, moved).unwrap(), ["new"]);
    assert_eq!(names(&table, other).unwrap(), ["old"]);
    // What has none takes one that is free, or that of a file.
    let file = table.found(LocalId::ROOT, b"file", &entry(13, 4, IFREG));
    let late = table.found_late(LocalId::ROOT, b"file", &entry(14, 5, IFDIR));
    assert_eq!((names(&table, file), names(&table, late).unwrap().len()), (None, 1));
    assert_eq!(table.known(moved).unwrap().lookups, 2);
}

#[test]
fn a_name_that_leads_elsewhere_now_is_taken_from_the_old_node() {
    let table = table();
    let old = table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    let new = table.found(LocalId::ROOT, b"a", &entry(12, 3, IFREG));
    assert_eq!(names(&table, old), None);
    assert_eq!(table.child(LocalId::ROOT, b"a"), Some(new));
}

#[test]
fn another_connection_makes_nodes_stale_until_they_are_met_again() {
    let table = table();
    let file = table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    let lost = table.found(LocalId::ROOT, b"b", &entry(12, 3, IFREG));
    table.begin_epoch(2, &entry(70, 1, IFDIR));
    assert_eq!(table.resolve(file), Err(Unresolved::Stale));
    assert_eq!(table.resolve(LocalId::ROOT), Ok(NodeId(70)));
    // The old number may stand for something else now, and must not lead to the old record.
    assert_eq!(table.local(NodeId(11)), None);

    assert_eq!(table.found(LocalId::ROOT, b"a", &entry(71, 2, IFREG)), file);
    assert_eq!(table.resolve(file), Ok(NodeId(71)));
    // What is owed on a lost connection is owed no more.
    assert_eq!(table.forget(lost, 1), None);
    assert_eq!(table.forget(file, 2), Some(ForgetOne { node: NodeId(71), count: 1 }));
}

#[test]
fn what_is_held_keeps_its_number_though_the_kernel_forgets_it() {
    let table = table();
    let a = table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    assert_eq!(table.hold(NodeId(11)), Some(a));
    assert_eq!(table.forget(a, 1), None);
    assert_eq!(table.local(NodeId(11)), Some(a));
    assert_eq!(table.forget(a, 1), Some(ForgetOne { node: NodeId(11), count: 1 }));
    assert_eq!(table.hold(NodeId(11)), None);
}

#[test]
fn a_stale_node_is_only_found_again_by_inode_number_and_type() {
    let table = table();
    let file = table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    table.begin_epoch(2, &entry(70, 1, IFDIR));
    assert!(!table.refound(file, &entry(71, 3, IFREG)));
    assert!(!table.refound(file, &entry(71, 2, IFDIR)));
    assert!(table.refound(file, &entry(71, 2, IFREG)));
    assert_eq!(table.resolve(file), Ok(NodeId(71)));
}

#[test]
fn pages_are_kept_only_while_time_and_size_stay() {
    let table = table();
    let file = table.found(LocalId::ROOT, b"a", &entry(11, 2, IFREG));
    assert!(!table.keeps_cache(file));
    assert!(table.keeps_cache(file));
    let mut attr = entry(11, 2, IFREG).attr;
    attr.mtime = Time { sec: 1, nsec: 5 };
    assert!(!table.note_attr(file, &attr));
    assert!(!table.keeps_cache(file));
    assert!(table.keeps_cache(file));
    table.distrust(file);
    assert!(!table.keeps_cache(file));
}

#[test]
fn a_file_grows_and_a_directory_does_not() {
    let table = table();
    let grows = |name: &[u8], entry: Entry| {
        let local = table.found(LocalId::ROOT, name, &entry);
        let sizes = [5, 5, 3, 4];
        sizes.map(|size| table.note_attr(local, &Attr { size, ..entry.attr }))
    };
    assert_eq!(grows(b"a", entry(11, 2, IFREG)), [true, false, false, true]);
    assert_eq!(grows(b"b", entry(12, 3, IFDIR)), [false; 4]);
}

#[test]
fn a_known_node_costs_less_than_400_bytes() {
    // Vectors and maps may be half empty after they grew; both maps keep 16 bytes an entry and one
    // of control.
    let name = 32;
    let most = 2 * size_of::<Slot>() + name + 2 * 2 * (16 + 1) * 8 / 7;
    assert!(most < 400, "{most}");
}

#[test]
fn missing_capabilities_are_believed_only_under_a_lease_and_until_a_change() {
    let table = table();
    let leased = Validity { entry_ms: 0, attr_ms: Validity::LEASED };
    for (valid, believed) in [(leased, true), (Validity::NONE, false)] {
        let entry = Entry { valid, ..entry(11, 2, IFREG) };
        let file = table.found(LocalId::ROOT, b"a", &entry);
        assert!(!table.has_no_capability(file));
        table.note_capability(file, false);
        assert_eq!(table.has_no_capability(file), believed);
        table.found(LocalId::ROOT, b"a", &entry);
        assert_eq!(table.has_no_capability(file), believed);
        table.absorb(&entry);
        assert!(!table.has_no_capability(file));
    }
}

#[test]
fn a_directory_that_the_kernel_removed_gets_a_new_number_where_it_is_found_again() {
    let table = table();
    let moved = entry(11, 2, IFDIR);
    let dead = table.found(LocalId::ROOT, b"old", &moved);
    table.removed(dead, LocalId::ROOT, b"old");
    assert_eq!(table.local(NodeId(11)), None);
    let alive = table.found(LocalId::ROOT, b"new", &moved);
    assert_ne!(alive, dead);
    assert_eq!(table.local(NodeId(11)), Some(alive));
    // Whoever still holds the dead one is served, and each gives back what was counted for it.
    assert_eq!(table.resolve(dead), Ok(NodeId(11)));
    assert_eq!(table.forget(dead, 1), Some(ForgetOne { node: NodeId(11), count: 1 }));
    assert_eq!(table.local(NodeId(11)), Some(alive));

    let target = table.found(LocalId::ROOT, b"target", &entry(12, 3, IFDIR));
    let over = [Some(alive), Some(target)];
    table.renamed(over, (LocalId::ROOT, b"new"), (LocalId::ROOT, b"target"), false);
    assert_eq!(table.local(NodeId(12)), None);
    assert_eq!(table.child(LocalId::ROOT, b"target"), Some(alive));
    assert_ne!(table.found(LocalId::ROOT, b"back", &entry(12, 3, IFDIR)), target);
    // A file does not die of a removed name.
    let file = table.found(LocalId::ROOT, b"file", &entry(13, 4, IFREG));
    table.removed(file, LocalId::ROOT, b"file");
    assert_eq!(table.found(LocalId::ROOT, b"link", &entry(13, 4, IFREG)), file);
}

#[test]
fn what_is_below_a_directory_is_told_deepest_first() {
    let table = table();
    let d = table.found(LocalId::ROOT, b"d", &entry(11, 2, IFDIR));
    let e = table.found(d, b"e", &entry(12, 3, IFDIR));
    let f = table.found(e, b"f", &entry(13, 4, IFREG));
    let g = table.found(d, b"g", &entry(14, 5, IFREG));
    table.found(LocalId::ROOT, b"h", &entry(15, 6, IFREG));
    let below: Vec<_> = table.below(d).into_iter().map(|(node, ..)| node).collect();
    assert_eq!(below, [f, e, g]);
    assert_eq!(table.below(f), []);
    table.left(d, LocalId::ROOT, b"d");
    assert_eq!(table.below(d).len(), 3);
    assert_eq!(table.below(LocalId::ROOT).len(), 1);
    table.placed(d, LocalId::ROOT, b"h");
    assert_eq!(names(&table, f), Some(vec!["h".into(), "e".into(), "f".into()]));
}

#[test]
fn what_is_watched_is_told_by_its_directory_on_the_present_connection() {
    let table = table();
    let dir = table.found(LocalId::ROOT, b"dir", &entry(11, 2, IFDIR));
    table.found(dir, b"file", &entry(12, 3, IFREG));
    table.found(LocalId::ROOT, b"other", &entry(13, 4, IFDIR));
    let of = |inodes: &[u64]| {
        let dirs = table.directories_of(&inodes.iter().copied().collect());
        dirs.into_iter().map(|dir| dir.0).collect::<Vec<_>>()
    };
    assert_eq!(of(&[1, 2, 5]), [10, 11]);
    assert_eq!(of(&[3]), [11], "a file by its directory");
    table.begin_epoch(2, &entry(20, 1, IFDIR | 0o755));
    assert_eq!(of(&[1, 2, 3]), [20], "what was not found again has no number");
}

#[test]
fn what_the_guest_puts_at_a_name_is_known_for_such_while_it_is_there() {
    let table = table();
    let here = |name| table.put_here(LocalId::ROOT, name);
    table.found(LocalId::ROOT, b"found", &entry(11, 2, IFREG));
    assert_eq!(here(b"found"), None);
    let made = table.made(LocalId::ROOT, b"made", &entry(12, 3, IFDIR | 0o755));
    assert_eq!(here(b"made"), Some((made, IFDIR)));
    table.renamed([Some(made), None], (LocalId::ROOT, b"made"), (LocalId::ROOT, b"moved"), false);
    assert_eq!((here(b"made"), here(b"moved")), (None, Some((made, IFDIR))));
    // By the host.
    table.placed(made, LocalId::ROOT, b"other");
    assert_eq!((here(b"moved"), here(b"other")), (None, None));
}

#[test]
fn a_listing_is_cached_until_the_directory_changes() {
    let table = table();
    let valid = Validity { entry_ms: Validity::LEASED, attr_ms: Validity::LEASED };
    let entry = |node, ino, mode| Entry { valid, ..entry(node, ino, mode) };
    let dir = table.found(LocalId::ROOT, b"dir", &entry(11, 2, IFDIR));
    let listed = || {
        table.note_listed(dir);
        assert!(table.is_cached(dir));
    };
    listed();
    let a = table.found(dir, b"a", &entry(12, 3, IFREG));
    table.forget(a, 1);
    assert!(table.is_cached(dir), "after looking and forgetting");
    let a = table.made(dir, b"a", &entry(12, 3, IFREG));
    assert!(!table.is_cached(dir), "after making");
    listed();
    table.renamed([Some(a), None], (dir, b"a"), (LocalId::ROOT, b"a"), false);
    assert!(!table.is_cached(dir), "after moving away");
    listed();
    table.renamed([Some(a), None], (LocalId::ROOT, b"a"), (dir, b"a"), false);
    assert!(!table.is_cached(dir), "after moving in");
    listed();
    table.removed(a, dir, b"a");
    assert!(!table.is_cached(dir), "after removing");
}

#[test]
fn what_is_told_next_is_told_once_and_not_behind_what_it_does_not_tell() {
    let table = table();
    let file = table.found(LocalId::ROOT, b"f", &entry(11, 2, IFREG));
    let attr = Attr { size: 5, nlink: 1, ..entry(11, 2, IFREG).attr };
    let reply = AttrReply { attr, attr_ms: Validity::LEASED };
    let tell = || table.told_next(file, &reply, 7);
    tell();
    assert_eq!((table.take_next(file, 7), table.take_next(file, 7)), (Some(reply), None));
    tell();
    assert_eq!(table.take_next(file, 8), None, "a change has come");
    tell();
    table.outdate([LocalId::ROOT, file]);
    assert_eq!(table.take_next(file, 7), None, "the guest did something");
    tell();
    table.told(file, &reply);
    assert_eq!(table.take_next(file, 7), None, "the kernel was told");
    table.told_next(file, &AttrReply { attr_ms: 1000, ..reply }, 7);
    assert_eq!(table.take_next(file, 7), None, "nobody tells when it changes");
    table.told_next(file, &AttrReply { attr: Attr { nlink: 2, ..attr }, ..reply }, 7);
    assert_eq!(table.take_next(file, 7), None, "it has another name");
    table.left(file, LocalId::ROOT, b"f");
    tell();
    assert_eq!(table.take_next(file, 7), None, "nobody knows its name");
}

#[test]
fn figures_are_told_again_until_something_is_done() {
    let table = table();
    let figures = StatFs { bfree: 5, ..StatFs::default() };
    table.told_figures(LocalId::ROOT, &figures, 7);
    assert_eq!(table.figures(LocalId::ROOT, 7), Some(figures));
    assert_eq!(table.figures(LocalId::ROOT, 8), None, "a change has come");
    assert_eq!(table.figures(LocalId(5), 7), None, "of another file system, perhaps");
    let acts = table.acts();
    table.outdate([]);
    assert_eq!(table.figures(LocalId::ROOT, 7), None, "the guest did something");
    assert_ne!(table.acts(), acts);
}
