//! What the node table promises.

use super::*;

const DIR: u32 = mode::IFDIR;
const FILE: u32 = mode::IFREG;

fn object(ino: u64) -> Identity {
    Identity { dev: 1, ino, birth: 0 }
}

/// A root and what is in it.
fn table() -> (NodeTable, NodeId) {
    let mut table = NodeTable::default();
    let root = table.root(0, object(2));
    (table, root)
}

fn path(table: &NodeTable, node: NodeId) -> Option<String> {
    let mut path = Vec::new();
    let way = table.way(node, 0, &mut path, |_, _| None::<()>).ok()??;
    assert_eq!(way, Way::Root);
    String::from_utf8(path).ok()
}

#[test]
fn a_way_is_the_names_from_the_root() -> Result<(), Errno> {
    let (mut table, root) = table();
    let a = table.enter(root, b"a", object(3), DIR)?;
    let b = table.enter(a, b"bc", object(4), DIR)?;
    let file = table.enter(b, b"file", object(5), FILE)?;
    assert_eq!(path(&table, file).as_deref(), Some("a/bc/file"));
    assert_eq!(path(&table, root), None);
    let mut rest = Vec::new();
    let way = table.way(file, 0, &mut rest, |dir, _| (dir == a).then_some(7))?;
    assert_eq!((way, rest.as_slice()), (Some(Way::Base(7)), &b"bc/file"[..]));
    Ok(())
}

#[test]
fn a_number_is_void_after_its_last_lookup_and_never_comes_back() -> Result<(), Errno> {
    let (mut table, root) = table();
    let first = table.enter(root, b"a", object(3), FILE)?;
    assert_eq!(table.enter(root, b"a", object(3), FILE)?, first);
    assert!(!table.forget(first, 1));
    assert!(table.forget(first, 1));
    assert!(!table.forget(first, 1), "void already");
    assert_eq!(table.get(first).map(drop), Err(Errno::ESTALE));
    assert_eq!(table.count(), 1);
    let second = table.enter(root, b"a", object(3), FILE)?;
    assert_ne!(first, second);
    assert!(table.forget(second, u64::MAX), "more than there are is all of them");
    Ok(())
}

#[test]
fn a_forgotten_directory_still_names_what_is_known_in_it() -> Result<(), Errno> {
    let (mut table, root) = table();
    let dir = table.enter(root, b"dir", object(3), DIR)?;
    let file = table.enter(dir, b"file", object(4), FILE)?;
    assert!(table.forget(dir, 1));
    assert_eq!(table.get(dir).map(drop), Err(Errno::ESTALE));
    assert_eq!(path(&table, file).as_deref(), Some("dir/file"));
    let again = table.enter(root, b"dir", object(3), DIR)?;
    assert_ne!(again, dir);
    table.forget(again, 1);
    table.forget(file, 1);
    assert_eq!(table.count(), 1, "the directory goes with the last in it");
    Ok(())
}

#[test]
fn links_are_one_node_with_several_names() -> Result<(), Errno> {
    let (mut table, root) = table();
    let dir = table.enter(root, b"dir", object(3), DIR)?;
    let node = table.enter(root, b"a", object(4), FILE)?;
    assert_eq!(table.enter(dir, b"b", object(4), FILE)?, node);
    assert_eq!(table.nth_place(node, 0)?, Some((dir, &b"b"[..])));
    assert_eq!(table.nth_place(node, 1)?, Some((root, &b"a"[..])));
    assert_eq!(table.nth_place(node, 2)?, None);
    table.unname(node, dir, b"b");
    assert_eq!(table.nth_place(node, 0)?, Some((root, &b"a"[..])));
    table.unname(node, root, b"a");
    assert_eq!(table.nth_place(node, 0)?, None);
    table.forget(dir, 1);
    assert_eq!(table.count(), 2, "no name pins the directory any more");
    Ok(())
}

#[test]
fn many_links_keep_the_latest_names() -> Result<(), Errno> {
    let (mut table, root) = table();
    let dir = table.enter(root, b"dir", object(3), DIR)?;
    let mut node = NodeId(0);
    for number in 0..100 {
        node = table.enter(dir, format!("{number}").as_bytes(), object(4), FILE)?;
    }
    assert_eq!(table.nth_place(node, MAX_ALIASES)?, Some((dir, &b"67"[..])));
    assert_eq!(table.nth_place(node, MAX_ALIASES + 1)?, None);
    table.forget(node, 100);
    table.forget(dir, 1);
    assert_eq!(table.count(), 1);
    Ok(())
}

#[test]
fn an_inode_number_used_again_is_another_node() -> Result<(), Errno> {
    let (mut table, root) = table();
    let old = table.enter(root, b"a", Identity { birth: 1, ..object(3) }, FILE)?;
    let new = table.enter(root, b"a", Identity { birth: 2, ..object(3) }, FILE)?;
    assert_ne!(old, new);
    assert_eq!(table.by_identity(0, Identity { birth: 2, ..object(3) }), Some(new));
    assert_eq!(table.by_identity(0, Identity { birth: 1, ..object(3) }), None);
    table.forget(old, 1);
    assert_eq!(table.by_identity(0, Identity { birth: 2, ..object(3) }), Some(new));
    let dir = table.enter(root, b"a", Identity { birth: 2, ..object(3) }, DIR)?;
    assert_ne!(new, dir, "nor is one of another type the same");
    Ok(())
}

#[test]
fn renamed_directories_and_circles() -> Result<(), Errno> {
    let (mut table, root) = table();
    let a = table.enter(root, b"a", object(3), DIR)?;
    let b = table.enter(a, b"b", object(4), DIR)?;
    let file = table.enter(b, b"file", object(5), FILE)?;
    table.unname(b, a, b"b");
    table.name(b, root, b"moved");
    assert_eq!(path(&table, file).as_deref(), Some("moved/file"));
    // A directory mounted below itself does not lose its way.
    assert_eq!(table.enter(b, b"self", object(4), DIR)?, b);
    assert_eq!(path(&table, file).as_deref(), Some("moved/file"));
    // The root is the root under any name.
    assert_eq!(table.enter(b, b"root", object(2), DIR)?, root);
    assert_eq!(path(&table, root), None);
    Ok(())
}

#[test]
fn what_is_in_a_removed_directory_has_no_way() -> Result<(), Errno> {
    let (mut table, root) = table();
    let dir = table.enter(root, b"dir", object(3), DIR)?;
    let file = table.enter(dir, b"file", object(4), FILE)?;
    table.unname(dir, root, b"dir");
    assert_eq!(path(&table, file), None);
    Ok(())
}

#[test]
fn the_end_of_an_attachment_voids_its_nodes_alone() -> Result<(), Errno> {
    let (mut table, root) = table();
    let other = table.root(1, object(2));
    let file = table.enter(root, b"a", object(3), FILE)?;
    let same = table.enter(other, b"a", object(3), FILE)?;
    assert_ne!(file, same);
    table.detach(0);
    assert_eq!(table.get(file).map(drop), Err(Errno::ESTALE));
    assert_eq!(table.get(root).map(drop), Err(Errno::ESTALE));
    assert!(table.get(same).is_ok());
    assert_eq!(table.count(), 2);
    Ok(())
}

#[test]
fn guesses_are_stale() {
    let (table, root) = table();
    for guess in [0, 1, 2, root.0 ^ 1 << 32, root.0 + 1, u64::MAX] {
        let expected = if guess == root.0 { Ok(()) } else { Err(Errno::ESTALE) };
        assert_eq!(table.get(NodeId(guess)).map(drop), expected, "{guess}");
    }
}

#[test]
fn use_is_remembered_in_its_order() -> Result<(), Errno> {
    let (mut table, root) = table();
    let dirs: Vec<_> = (3..6)
        .map(|ino| table.enter(root, format!("{ino}").as_bytes(), object(ino), DIR))
        .collect::<Result<_, _>>()?;
    assert!(dirs.iter().all(|dir| table.recency(*dir) == Recency::NEVER));
    assert!(!table.make_use(root), "nobody was told of it");
    table.set_watched(root, true);
    assert!(table.make_use(root));
    // To and fro, and again what was used last: two turns.
    [dirs[1], dirs[0], dirs[0]].into_iter().for_each(|dir| _ = table.make_use(dir));
    assert_eq!(table.uses(), 3);
    let order = [dirs[2], root, dirs[1], dirs[0]].map(|dir| table.recency(dir));
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    // Beyond the end of the number nothing is taken for unused.
    table.uses = u32::MAX;
    table.make_use(dirs[2]);
    assert!(table.recency(dirs[2]) >= table.recency(root));
    assert!(table.recency(root) > Recency::NEVER);
    table.forget(dirs[0], 1);
    assert_eq!(table.recency(dirs[0]), Recency::NEVER);
    Ok(())
}

#[test]
fn a_node_takes_less_than_the_promised_memory() -> Result<(), Errno> {
    const NODES: u64 = 300_000;
    const PROMISED: usize = 400;
    let (mut table, root) = table();
    for ino in 10..10 + NODES {
        table.enter(
            root,
            format!("a name of thirty-two bytes {ino:05}").as_bytes(),
            object(ino),
            FILE,
        )?;
    }
    let slots = table.slots.capacity() * size_of::<Slot>();
    // A bucket of the map, and its control byte, at its capacity of seven eighths.
    let map = table.by_object.capacity() * 8 / 7 * (size_of::<((u64, u64, u16), u32)>() + 1);
    let names =
        table.slots.iter().map(|slot| (slot.name.len() + 8).next_multiple_of(16)).sum::<usize>();
    let each = (slots + map + names) / NODES as usize;
    eprintln!("{each} bytes a node, of them {} a slot", size_of::<Slot>());
    assert!(each < PROMISED, "{each}");
    Ok(())
}
