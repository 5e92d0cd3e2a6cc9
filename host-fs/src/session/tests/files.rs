//! Files: what a guest does arrives, and what is unlinked, linked or renamed stays itself.

use crate::test_utils::{Guest, Host, Test, name};
use protocol::{Errno, OpenFlags, RenameFlags, Reply, Request, SetAttr, SetAttrMask, mode};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const RW: OpenFlags = OpenFlags::RDWR;

/// What the guest has found before others, or a while ago, is not kept.
fn forget_found(guest: &Guest) {
    drop(std::mem::take(&mut guest.session.state.lock().found));
}

#[test]
fn what_is_written_is_on_the_host_when_the_call_returns() -> Test {
    let host = Host::new();
    let guest = host.guest();
    let made = guest.create(guest.root, "new", RW | OpenFlags::EXCL)?;
    assert_eq!(guest.write(made.handle, 3, b"hello")?, 5);
    assert_eq!(std::fs::read(host.path("new"))?, b"\0\0\0hello");
    assert_eq!(guest.read(made.handle, 4, 100)?, b"ello");
    assert_eq!(guest.attr(made.entry.node)?.size, 8);
    assert_eq!(guest.create(guest.root, "new", RW | OpenFlags::EXCL), Err(Errno::EEXIST));
    let again = guest.create(guest.root, "new", RW | OpenFlags::TRUNC)?;
    assert_eq!(again.entry.node, made.entry.node);
    assert_eq!(std::fs::read(host.path("new"))?, b"");
    Ok(())
}

#[test]
fn a_file_is_opened_and_read_at_once_if_it_is_small_and_may_be_read() -> Test {
    let host = Host::new();
    std::fs::write(host.path("file"), "content")?;
    let guest = host.guest();
    let node = guest.lookup(guest.root, "file")?.node;
    let open_read = |flags, size| guest.call(&Request::OpenRead { node, flags, size });
    match open_read(OpenFlags::empty(), 7).reply() {
        Reply::OpenedRead { handle, attr, data } => {
            assert_eq!((attr.attr.size, data.0), (7, &b"content"[..]));
            assert_eq!(guest.read(handle, 1, 3)?, b"ont");
        }
        other => panic!("{other:?}"),
    }
    for (flags, size) in [(OpenFlags::empty(), 6), (OpenFlags::WRONLY, 7)] {
        assert!(matches!(open_read(flags, size).reply(), Reply::Opened { .. }), "{flags:?}");
    }
    Ok(())
}

#[test]
fn a_file_opened_to_append_ignores_the_offset() -> Test {
    let host = Host::new();
    std::fs::write(host.path("log"), "one\n")?;
    let guest = host.guest();
    let node = guest.lookup(guest.root, "log")?.node;
    let handle = guest.open(node, OpenFlags::WRONLY | OpenFlags::APPEND)?;
    guest.write(handle, 0, b"two\n")?;
    assert_eq!(std::fs::read(host.path("log"))?, b"one\ntwo\n");
    assert_eq!(guest.read(handle, 0, 1), Err(Errno::EBADF));
    Ok(())
}

#[test]
fn an_unlinked_file_lives_on_while_it_is_open() -> Test {
    let host = Host::new();
    let guest = host.guest();
    let made = guest.create(guest.root, "gone", RW)?;
    guest.write(made.handle, 0, b"content")?;
    guest.done(&Request::Unlink { parent: guest.root, name: name("gone") })?;
    assert_eq!(guest.lookup(guest.root, "gone"), Err(Errno::ENOENT));
    assert_eq!(guest.attr(made.entry.node)?.nlink, 0);
    assert_eq!(guest.read(made.handle, 0, 99)?, b"content");
    let set = SetAttr {
        mask: SetAttrMask::SIZE | SetAttrMask::MODE,
        size: 3,
        mode: 0o600,
        ..SetAttr::NOTHING
    };
    guest.done(&Request::SetAttr { node: made.entry.node, handle: None, set })?;
    assert_eq!(guest.read(made.handle, 0, 99)?, b"con");
    // Opened once more, it is still the same.
    let second = guest.open(made.entry.node, OpenFlags::empty())?;
    guest.close(made.handle);
    assert_eq!(guest.read(second, 0, 99)?, b"con");
    guest.close(second);
    assert_eq!(guest.attr(made.entry.node), Err(Errno::ESTALE));
    Ok(())
}

#[test]
fn what_the_guest_removed_is_reached_until_it_forgets() -> Test {
    let host = Host::new();
    std::fs::create_dir(host.path("dir"))?;
    std::fs::create_dir(host.path("replaced"))?;
    let guest = host.guest();
    let fifo = Request::MkNod {
        parent: guest.root,
        name: name("fifo"),
        mode: mode::IFIFO | 0o600,
        umask: 0,
        rdev: 0,
    };
    let fifo = guest.entry(&fifo)?.node;
    let dir = guest.lookup(guest.root, "dir")?.node;
    let replaced = guest.lookup(guest.root, "replaced")?.node;
    guest.done(&Request::Unlink { parent: guest.root, name: name("fifo") })?;
    let rename = Request::Rename {
        parent: guest.root,
        name: name("dir"),
        new_parent: guest.root,
        new_name: name("replaced"),
        flags: RenameFlags::empty(),
    };
    guest.done(&rename)?;
    assert_eq!(guest.lookup(replaced, "any"), Err(Errno::ENOENT));
    guest.done(&Request::RmDir { parent: guest.root, name: name("replaced") })?;
    for node in [fifo, dir, replaced] {
        assert_eq!(guest.attr(node)?.nlink, 0);
        let set = SetAttr { mask: SetAttrMask::MODE, mode: 0o711, ..SetAttr::NOTHING };
        guest.done(&Request::SetAttr { node, handle: None, set })?;
        assert_eq!(guest.attr(node)?.mode & 0o777, 0o711);
    }
    let made = Request::MkDir { parent: dir, name: name("new"), mode: 0o755, umask: 0 };
    assert_eq!(guest.entry(&made), Err(Errno::ENOENT));
    let listing = guest.open_dir(dir)?;
    guest.close(listing);
    // One lookup each, but for the fifo's, which was counted when it was made.
    let nodes = [fifo, dir, replaced].map(|node| protocol::ForgetOne { node, count: 1 });
    guest.send(&Request::Forget { nodes: protocol::ForgetList(nodes.to_vec()) });
    for node in [fifo, dir, replaced] {
        assert_eq!(guest.attr(node), Err(Errno::ESTALE));
    }
    Ok(())
}

#[test]
fn a_name_in_a_directory_that_the_host_removed_is_not_there() -> Test {
    let host = Host::new();
    std::fs::create_dir_all(host.path("dir/sub"))?;
    let guest = host.guest();
    let (dir, sub) = (guest.walk("dir")?.node, guest.walk("dir/sub")?.node);
    // Kept for a second, a directory is found though it was moved.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    std::fs::remove_dir_all(host.path("dir"))?;
    std::fs::create_dir(host.path("dir"))?;
    // The first to come looks the way up anew, and does not come again with this node.
    assert_eq!(guest.lookup(dir, "any"), Err(Errno::ESTALE));
    for node in [dir, sub] {
        assert_eq!(guest.lookup(node, "any"), Err(Errno::ENOENT));
        let made = Request::MkDir { parent: node, name: name("new"), mode: 0o755, umask: 0 };
        assert_eq!(guest.entry(&made), Err(Errno::ENOENT));
    }
    assert_ne!(guest.walk("dir")?.node, dir);
    Ok(())
}

#[test]
fn what_was_removed_on_one_attachment_outlives_the_end_of_another() -> Test {
    let host = Host::new();
    std::fs::create_dir(host.path("dir"))?;
    let guest = host.guest();
    let name_of_export = protocol::ExportName::new(b"x")?;
    let answer = guest.call(&Request::Attach { name: name_of_export });
    let protocol::Reply::Attached { attached } = answer.reply() else { panic!("not attached") };
    let dir = guest.lookup(guest.root, "dir")?.node;
    guest.done(&Request::RmDir { parent: guest.root, name: name("dir") })?;
    guest.done(&Request::Detach { attachment: attached.attachment })?;
    assert_eq!(guest.attr(dir)?.nlink, 0);
    Ok(())
}

#[test]
fn a_new_file_with_an_old_inode_number_is_another_node() -> Test {
    let host = Host::new();
    let guest = host.guest();
    let mut reused = 0;
    for round in 0..50 {
        std::fs::write(host.path("file"), format!("{round}"))?;
        let old = guest.lookup(guest.root, "file")?;
        std::fs::remove_file(host.path("file"))?;
        forget_found(&guest);
        std::fs::write(host.path("file"), "new")?;
        let new = guest.lookup(guest.root, "file")?;
        reused += u32::from(old.attr.ino == new.attr.ino);
        assert_ne!(old.node, new.node);
        assert_eq!(guest.attr(old.node), Err(Errno::ESTALE));
        assert_eq!(guest.attr(new.node)?.size, 3);
        std::fs::remove_file(host.path("file"))?;
    }
    eprintln!("{reused} of 50 inode numbers were used again");
    Ok(())
}

#[test]
fn hard_links_are_one_node_that_outlives_each_of_them() -> Test {
    let host = Host::new();
    std::fs::write(host.path("a"), "x")?;
    let guest = host.guest();
    let a = guest.lookup(guest.root, "a")?;
    let b = guest.entry(&Request::Link { node: a.node, parent: guest.root, name: name("b") })?;
    assert_eq!(a.node, b.node);
    assert_eq!(b.attr.nlink, 2);
    std::fs::hard_link(host.path("a"), host.path("c"))?;
    assert_eq!(guest.lookup(guest.root, "c")?.node, a.node);
    for gone in ["c", "a"] {
        guest.done(&Request::Unlink { parent: guest.root, name: name(gone) })?;
        assert!(guest.attr(a.node).is_ok(), "without {gone}");
        let handle = guest.open(a.node, OpenFlags::empty())?;
        guest.close(handle);
    }
    assert_eq!(guest.attr(a.node)?.nlink, 1);
    Ok(())
}

#[test]
fn a_renamed_directory_takes_its_nodes_along() -> Test {
    let host = Host::new();
    std::fs::create_dir_all(host.path("a/b"))?;
    std::fs::create_dir(host.path("c"))?;
    std::fs::write(host.path("a/b/file"), "x")?;
    let guest = host.guest();
    let file = guest.walk("a/b/file")?;
    let (a, c) = (guest.walk("a")?.node, guest.walk("c")?.node);
    let rename = Request::Rename {
        parent: a,
        name: name("b"),
        new_parent: c,
        new_name: name("moved"),
        flags: RenameFlags::empty(),
    };
    guest.done(&rename)?;
    guest.session.server.dirs.clear(guest.session.id);
    assert_eq!(guest.attr(file.node)?.size, 1);
    assert!(guest.open(file.node, RW).is_ok());
    assert_eq!(guest.walk("c/moved/file")?.node, file.node);
    Ok(())
}

#[test]
fn renames_replace_exchange_and_refuse() -> Test {
    let host = Host::new();
    std::fs::write(host.path("a"), "a")?;
    std::fs::write(host.path("b"), "b")?;
    let guest = host.guest();
    let (a, b) = (guest.walk("a")?.node, guest.walk("b")?.node);
    let rename = |from, to, flags| {
        let (parent, new_parent) = (guest.root, guest.root);
        guest.done(&Request::Rename {
            parent,
            name: name(from),
            new_parent,
            new_name: name(to),
            flags,
        })
    };
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Err(Errno::EEXIST));
    rename("a", "b", RenameFlags::EXCHANGE)?;
    assert_eq!((guest.walk("a")?.node, guest.walk("b")?.node), (b, a));
    assert!(guest.attr(a).is_ok() && guest.attr(b).is_ok());
    rename("a", "b", RenameFlags::empty())?;
    assert_eq!(guest.walk("b")?.node, b);
    assert_eq!(guest.attr(a)?.nlink, 0);
    forget_found(&guest);
    assert_eq!(guest.attr(a), Err(Errno::ESTALE));
    Ok(())
}

#[test]
fn a_file_that_is_replaced_when_it_was_found_is_opened() -> Test {
    let host = Host::new();
    let replace = |round: u32| {
        std::fs::write(host.path("saved"), round.to_string())?;
        std::fs::rename(host.path("saved"), host.path("file"))
    };
    let guest = host.guest();
    replace(0)?;
    for round in 0..50 {
        let found = guest.lookup(guest.root, "file")?;
        replace(round + 1)?;
        assert_eq!(guest.attr(found.node)?.nlink, 0);
        let handle = guest.open(found.node, OpenFlags::empty())?;
        assert_eq!(guest.read(handle, 0, 99)?, round.to_string().as_bytes());
        guest.close(handle);
    }
    assert!(guest.session.state.lock().found.len() < 50);
    // What the guest removes itself is gone, and so is its space.
    let found = guest.lookup(guest.root, "file")?;
    guest.done(&Request::Unlink { parent: guest.root, name: name("file") })?;
    assert_eq!(guest.attr(found.node), Err(Errno::ESTALE));
    // Large files are not kept, and what was moved away from the export is not given.
    std::fs::write(host.path("file"), vec![0; (1 << 20) + 1])?;
    let found = guest.lookup(guest.root, "file")?;
    std::fs::remove_file(host.path("file"))?;
    assert_eq!(guest.open(found.node, OpenFlags::empty()), Err(Errno::ESTALE));
    std::fs::write(host.path("file"), "x")?;
    let found = guest.lookup(guest.root, "file")?;
    std::fs::rename(host.path("file"), host.dir.path().join("out"))?;
    assert_eq!(guest.open(found.node, OpenFlags::empty()), Err(Errno::ESTALE));
    Ok(())
}

#[test]
fn a_file_renamed_on_the_host_is_found_by_its_open_handle() -> Test {
    let host = Host::new();
    std::fs::create_dir(host.path("dir"))?;
    std::fs::write(host.path("file"), "x")?;
    let guest = host.guest();
    let file = guest.walk("file")?;
    let _handle = guest.open(file.node, OpenFlags::empty())?;
    std::fs::rename(host.path("file"), host.path("dir/other"))?;
    assert!(guest.open(file.node, RW).is_ok());
    std::fs::rename(host.path("dir/other"), host.dir.path().join("out"))?;
    assert_eq!(guest.open(file.node, RW), Err(Errno::ESTALE));
    assert_eq!(guest.attr(file.node)?.size, 1);
    Ok(())
}

#[test]
fn an_unnamed_file_can_be_given_a_name() -> Test {
    let host = Host::new();
    let guest = host.guest();
    let request = Request::TmpFile { parent: guest.root, mode: 0o640, umask: 0o022, flags: RW };
    let answer = guest.call(&request);
    let protocol::Reply::Created { created } = answer.reply() else { panic!("not created") };
    guest.write(created.handle, 0, b"x")?;
    let node = created.entry.node;
    let linked = guest.entry(&Request::Link { node, parent: guest.root, name: name("named") })?;
    assert_eq!(linked.node, node);
    assert_eq!(std::fs::read(host.path("named"))?, b"x");
    assert_eq!(std::fs::metadata(host.path("named"))?.mode() & 0o777, 0o640);
    Ok(())
}

#[test]
fn symbolic_links_are_linked_and_timed_themselves() -> Test {
    let host = Host::new();
    let guest = host.guest();
    let target = protocol::Target::new(b"/nowhere/at all")?;
    let link = guest.entry(&Request::SymLink { parent: guest.root, name: name("l"), target })?;
    let hard =
        guest.entry(&Request::Link { node: link.node, parent: guest.root, name: name("m") })?;
    assert_eq!((hard.node, hard.attr.kind()), (link.node, mode::IFLNK));
    let mtime = protocol::Time { sec: -5, nsec: 7 };
    let set = SetAttr { mask: SetAttrMask::MTIME, mtime, ..SetAttr::NOTHING };
    guest.done(&Request::SetAttr { node: link.node, handle: None, set })?;
    assert_eq!(guest.attr(link.node)?.mtime, mtime);
    let set = SetAttr { mask: SetAttrMask::MODE, mode: 0o700, ..SetAttr::NOTHING };
    let refused = guest.done(&Request::SetAttr { node: link.node, handle: None, set });
    assert_eq!(refused, Err(Errno::EOPNOTSUPP));
    Ok(())
}

#[test]
fn extended_attributes_go_both_ways() -> Test {
    let host = Host::new();
    std::fs::write(host.path("file"), "x")?;
    let guest = host.guest();
    let node = guest.walk("file")?.node;
    let xattr = protocol::XattrName::new(b"user.colour")?;
    let value = protocol::XattrValue::new(b"blue")?;
    let flags = protocol::XattrFlags::CREATE;
    let set = Request::SetXattr { node, name: xattr, value, flags };
    guest.done(&set)?;
    assert_eq!(guest.done(&set), Err(Errno::EEXIST));
    assert_eq!(guest.data(&Request::GetXattr { node, name: xattr })?, b"blue");
    assert_eq!(guest.data(&Request::ListXattr { node })?, b"user.colour\0");
    guest.done(&Request::RemoveXattr { node, name: xattr })?;
    assert_eq!(guest.data(&Request::GetXattr { node, name: xattr }), Err(Errno::ENODATA));
    Ok(())
}

#[test]
fn a_guest_holds_as_many_handles_as_it_may_and_no_more() -> Test {
    let host = Host::new();
    std::fs::write(host.path("file"), "x")?;
    let guest = host.guest();
    let other = host.guest();
    let node = guest.walk("file")?.node;
    let limit = guest.session.max_handles();
    assert_eq!(limit, host.server.status().max_handles as u32 / 4 * 3);
    let mut handles = Vec::new();
    let refused = loop {
        match guest.open(node, OpenFlags::empty()) {
            Ok(handle) => handles.push(handle),
            Err(errno) => break errno,
        }
        if handles.len() > limit as usize {
            break Errno::EIO;
        }
    };
    assert_eq!((refused, handles.len()), (Errno::EMFILE, limit as usize));
    // The rest is for others.
    let theirs = other.walk("file")?.node;
    assert!(other.open(theirs, OpenFlags::empty()).is_ok());
    guest.close(handles[0]);
    assert!(guest.open(node, OpenFlags::empty()).is_ok());
    Ok(())
}

#[test]
fn sizes_are_set_with_and_without_a_handle() -> Test {
    let host = Host::new();
    std::fs::write(host.path("file"), "0123456789")?;
    let guest = host.guest();
    let node = guest.walk("file")?.node;
    let set = |size| SetAttr { mask: SetAttrMask::SIZE, size, ..SetAttr::NOTHING };
    guest.done(&Request::SetAttr { node, handle: None, set: set(5) })?;
    assert_eq!(std::fs::read(host.path("file"))?, b"01234");
    let reader = guest.open(node, OpenFlags::empty())?;
    let refused = guest.done(&Request::SetAttr { node, handle: Some(reader), set: set(1) });
    assert_eq!(refused, Err(Errno::EINVAL));
    let writer = guest.open(node, RW)?;
    guest.done(&Request::SetAttr { node, handle: Some(writer), set: set(7) })?;
    assert_eq!(std::fs::read(host.path("file"))?, b"01234\0\0");
    Ok(())
}

#[test]
fn a_path_of_a_thousand_directories_is_found() -> Test {
    let host = Host::new();
    let guest = host.guest();
    let mut at = guest.root;
    for _ in 0..1000 {
        let made = Request::MkDir { parent: at, name: name("directory"), mode: 0o755, umask: 0 };
        at = guest.entry(&made)?.node;
    }
    guest.session.server.dirs.clear(guest.session.id);
    assert!(guest.create(at, "file", RW).is_ok());
    Ok(())
}

#[test]
fn a_walk_ends_at_the_first_that_is_missing_or_no_directory() -> Test {
    let host = Host::new();
    std::fs::create_dir_all(host.path("a/b"))?;
    std::fs::write(host.path("a/b/file"), "x")?;
    let guest = host.guest();
    for (path, found) in [("a/b/file", 3), ("a/b/file/x", 3), ("a/x/file", 1), ("x", 0)] {
        let names = protocol::Names(path.split('/').map(name).collect());
        let answer = guest.call(&Request::Walk { base: guest.root, names });
        let protocol::Reply::Walked { entries } = answer.reply() else { panic!("{path}") };
        assert_eq!(entries.0.len(), found, "{path}");
    }
    Ok(())
}

#[test]
fn the_umask_applies_unless_a_default_acl_does() -> Test {
    let host = Host::new();
    let guest = host.guest();
    let create = |text| {
        let request = Request::Create {
            parent: guest.root,
            name: name(text),
            mode: 0o666,
            umask: 0o077,
            flags: RW,
        };
        guest.done(&request).map(|()| std::fs::metadata(host.path(text)))
    };
    assert_eq!(create("plain")??.permissions().mode() & 0o777, 0o600);
    // user::rwx group::rwx mask::rwx other::rwx
    let acl = [
        2u32,
        0x0007_0001,
        u32::MAX,
        0x0007_0004,
        u32::MAX,
        0x0007_0010,
        u32::MAX,
        0x0007_0020,
        u32::MAX,
    ];
    let acl: Vec<u8> = acl.iter().flat_map(|word| word.to_le_bytes()).collect();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(host.path(""), "system.posix_acl_default", &acl, flags)?;
    assert_eq!(create("by acl")??.permissions().mode() & 0o777, 0o666);
    Ok(())
}

#[test]
fn space_holes_and_copies_are_the_hosts_own() -> Test {
    use protocol::{FallocateMode, Reply, Whence};
    const BLOCK: u64 = 65536;
    let host = Host::new();
    let guest = host.guest();
    let a = guest.create(guest.root, "a", RW)?.handle;
    guest.write(a, 0, &[7; 3 * BLOCK as usize])?;
    let mode = FallocateMode::PUNCH_HOLE | FallocateMode::KEEP_SIZE;
    guest.done(&Request::Fallocate { handle: a, offset: BLOCK, length: BLOCK, mode })?;
    let seek = |whence| match guest.call(&Request::Seek { handle: a, offset: 0, whence }).reply() {
        Reply::Offset { offset } => Ok(offset),
        other => Err(format!("{other:?}")),
    };
    assert_eq!((seek(Whence::Hole)?, seek(Whence::Data)?), (BLOCK, 0));
    let beyond = Request::Seek { handle: a, offset: 4 * BLOCK, whence: Whence::Data };
    assert_eq!(guest.done(&beyond), Err(Errno::ENXIO));
    let b = guest.create(guest.root, "b", RW)?.handle;
    let copy = Request::CopyRange {
        source: a,
        source_offset: 2 * BLOCK,
        target: b,
        target_offset: 5,
        length: 10 * BLOCK,
    };
    let answer = guest.call(&copy);
    let Reply::Written { size, attr: Some(after) } = answer.reply() else { panic!("not copied") };
    assert_eq!((u64::from(size), after.attr.size), (BLOCK, BLOCK + 5));
    let copied = std::fs::read(host.path("b"))?;
    assert!(copied.starts_with(&[0, 0, 0, 0, 0, 7]) && copied.len() == 5 + BLOCK as usize);
    guest.done(&Request::Fsync { handle: b, data_only: false })?;
    guest.done(&Request::SyncFs { node: guest.root })?;
    let answer = guest.call(&Request::StatFs { node: guest.root });
    let Reply::StatFs { statfs } = answer.reply() else { panic!("no figures") };
    assert!(statfs.blocks > 0 && statfs.namelen == 255);
    Ok(())
}

#[test]
fn the_last_handle_there_is_may_be_used() -> Test {
    let host = Host::new();
    std::fs::write(host.path("file"), "x")?;
    let guest = host.guest();
    let node = guest.walk("file")?.node;
    for _ in 1..guest.session.max_handles() {
        guest.open(node, OpenFlags::empty())?;
    }
    // `Create` of what is there takes one handle, not two.
    guest.create(guest.root, "file", RW)?;
    assert_eq!(guest.open(node, OpenFlags::empty()), Err(Errno::EMFILE));
    Ok(())
}
