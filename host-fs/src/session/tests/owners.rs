//! Owners: the host's own, and mapped ones with their records.

use crate::test_utils::{Guest, Host, Test, name};
use protocol::{
    AccessMask, Errno, NodeId, OpenFlags, Request, SetAttr, SetAttrMask, XattrFlags, XattrName,
    XattrValue, mode,
};
use std::os::unix::fs::MetadataExt;

fn set(guest: &Guest, node: NodeId, set: SetAttr) -> Result<(), Errno> {
    guest.done(&Request::SetAttr { node, handle: None, set })
}

fn chown(guest: &Guest, node: NodeId, uid: u32, gid: u32) -> Result<(), Errno> {
    let mask = SetAttrMask::UID | SetAttrMask::GID;
    set(guest, node, SetAttr { mask, uid, gid, ..SetAttr::NOTHING })
}

fn chmod(guest: &Guest, node: NodeId, bits: u32) -> Result<(), Errno> {
    set(guest, node, SetAttr { mask: SetAttrMask::MODE, mode: bits, ..SetAttr::NOTHING })
}

#[test]
fn with_owners_of_the_host_what_is_made_belongs_to_who_made_it() -> Test {
    if !crate::os::is_privileged() {
        eprintln!("skipped: needs root");
        return Ok(());
    }
    let host = Host::new();
    let user = host.guest().user(1234, 567);
    // A directory that the caller could not write to: the guest's kernel decides, not ours.
    let made = user.create(user.root, "file", OpenFlags::RDWR)?;
    assert_eq!((made.entry.attr.uid, made.entry.attr.gid), (1234, 567));
    let dir = Request::MkDir { parent: user.root, name: name("dir"), mode: 0o2755, umask: 0 };
    let dir = user.entry(&dir)?;
    assert_eq!((dir.attr.uid, dir.attr.gid), (1234, 567));
    std::os::unix::fs::chown(host.path("dir"), None, Some(89))?;
    chmod(&user, dir.node, 0o2777)?;
    let inside = user.create(dir.node, "inside", OpenFlags::RDWR)?;
    assert_eq!((inside.entry.attr.uid, inside.entry.attr.gid), (1234, 89));
    let found = std::fs::metadata(host.path("dir/inside"))?;
    assert_eq!((found.uid(), found.gid()), (1234, 89));
    // This thread is itself again.
    std::fs::write(host.path("mine"), "x")?;
    assert_eq!(std::fs::metadata(host.path("mine"))?.uid(), 0);
    Ok(())
}

#[test]
fn with_owners_of_the_host_devices_and_set_id_bits_are_real() -> Test {
    if !crate::os::is_privileged() {
        eprintln!("skipped: needs root");
        return Ok(());
    }
    let host = Host::new();
    let guest = host.guest();
    let rdev = 1 << 8 | 3;
    let node = Request::MkNod {
        parent: guest.root,
        name: name("null"),
        mode: mode::IFCHR | 0o666,
        umask: 0o022,
        rdev,
    };
    let made = guest.entry(&node)?;
    assert_eq!((made.attr.mode, made.attr.rdev), (mode::IFCHR | 0o644, rdev));
    assert_eq!(guest.open(made.node, OpenFlags::empty()), Err(Errno::ENXIO));
    let file = guest.create(guest.root, "file", OpenFlags::RDWR)?.entry.node;
    let mask = SetAttrMask::UID | SetAttrMask::MODE;
    set(&guest, file, SetAttr { mask, uid: 5, mode: 0o4755, ..SetAttr::NOTHING })?;
    assert_eq!(std::fs::metadata(host.path("file"))?.mode(), 0o104_755);
    Ok(())
}

#[test]
fn mapped_owners_are_recorded_and_never_real() -> Test {
    let host = Host::mapped();
    let guest = host.guest();
    let file = guest.create(guest.root, "file", OpenFlags::RDWR)?.entry;
    assert_eq!((file.attr.uid, file.attr.gid), (1000, 1000));
    chown(&guest, file.node, 33, 44)?;
    chmod(&guest, file.node, 0o4710)?;
    let attr = guest.attr(file.node)?;
    assert_eq!((attr.uid, attr.gid, attr.mode), (33, 44, 0o104_710));
    let real = std::fs::metadata(host.path("file"))?;
    assert_ne!(real.uid(), 33);
    assert_eq!(real.mode() & 0o7777, 0o710);
    // Another guest, another day.
    assert_eq!(host.guest().walk("file")?.attr.mode, 0o104_710);
    // A chown takes the bit away again.
    chown(&guest, file.node, 34, 44)?;
    assert_eq!(guest.attr(file.node)?.mode, 0o100_710);
    Ok(())
}

#[test]
fn what_is_recorded_is_enforced() -> Test {
    let host = Host::mapped();
    let root = host.guest();
    let file = root.create(root.root, "file", OpenFlags::RDWR)?.entry.node;
    let (owner, other) = (root.user(33, 33), root.user(50, 50));
    // Unrecorded: every guest user may do what the host's user may.
    assert!(other.open(file, OpenFlags::RDWR).is_ok());
    chown(&root, file, 33, 33)?;
    chmod(&owner, file, 0o640)?;
    assert_eq!(other.open(file, OpenFlags::empty()), Err(Errno::EACCES));
    assert_eq!(chmod(&other, file, 0o666), Err(Errno::EPERM));
    assert_eq!(chown(&owner, file, 50, 33), Err(Errno::EPERM));
    assert!(owner.open(file, OpenFlags::RDWR).is_ok());
    let mask = AccessMask::READ;
    assert_eq!(other.done(&Request::Access { node: file, mask }), Err(Errno::EACCES));
    assert!(owner.done(&Request::Access { node: file, mask }).is_ok());
    let dir = Request::MkDir { parent: root.root, name: name("dir"), mode: 0o777, umask: 0 };
    let dir = root.entry(&dir)?.node;
    chown(&root, dir, 33, 33)?;
    chmod(&owner, dir, 0o1777)?;
    let kept = root.create(dir, "kept", OpenFlags::RDWR)?.entry.node;
    chown(&root, kept, 33, 33)?;
    let remove = Request::Unlink { parent: dir, name: name("kept") };
    assert_eq!(other.done(&remove), Err(Errno::EPERM));
    chmod(&owner, dir, 0o700)?;
    assert_eq!(other.lookup(dir, "kept"), Err(Errno::EACCES));
    assert_eq!(other.open_dir(dir), Err(Errno::EACCES));
    let made = other.create(dir, "new", OpenFlags::RDWR);
    assert_eq!(made.map(|_| ()), Err(Errno::EACCES));
    owner.done(&remove)?;
    Ok(())
}

#[test]
fn mapped_devices_fifos_and_sockets_are_files_of_the_host() -> Test {
    let host = Host::mapped();
    let guest = host.guest();
    for (text, kind, rdev) in [
        ("null", mode::IFCHR, 1 << 8 | 3),
        ("disk", mode::IFBLK, 8 << 8),
        ("fifo", mode::IFIFO, 0),
        ("socket", mode::IFSOCK, 0),
    ] {
        let node = Request::MkNod {
            parent: guest.root,
            name: name(text),
            mode: kind | 0o600,
            umask: 0,
            rdev,
        };
        let made = guest.entry(&node)?;
        assert_eq!((made.attr.mode, made.attr.rdev), (kind | 0o600, rdev), "{text}");
        assert!(std::fs::symlink_metadata(host.path(text))?.is_file(), "{text}");
        chown(&guest, made.node, 7, 8)?;
        let attr = guest.attr(made.node)?;
        assert_eq!((attr.uid, attr.gid, attr.mode), (7, 8, kind | 0o600), "{text}");
        assert_eq!(guest.open(made.node, OpenFlags::empty()), Err(Errno::ENXIO), "{text}");
    }
    let handle = guest.open_dir(guest.root)?;
    let data = guest.data(&Request::ReadDir { handle, cookie: 0, size: 4096, plus: false })?;
    let kinds = protocol::listing::Listing::new(&data)
        .filter_map(Result::ok)
        .filter(|entry| entry.name == b"fifo")
        .map(|entry| u32::from(entry.kind) << 12);
    assert_eq!(kinds.collect::<Vec<_>>(), [mode::IFIFO]);
    Ok(())
}

#[test]
fn mapped_symlinks_keep_their_owner_and_say_so() -> Test {
    let host = Host::mapped();
    let guest = host.guest();
    let target = protocol::Target::new(b"x")?;
    let link = guest.entry(&Request::SymLink { parent: guest.root, name: name("l"), target })?;
    chown(&guest, link.node, 1000, 1000)?;
    assert_eq!(chown(&guest, link.node, 1, 1), Err(Errno::EOPNOTSUPP));
    Ok(())
}

#[test]
fn the_record_is_hidden_and_cannot_be_forged() -> Test {
    let host = Host::mapped();
    let guest = host.guest();
    let node = guest.create(guest.root, "file", OpenFlags::RDWR)?.entry.node;
    chown(&guest, node, 33, 33)?;
    let record = XattrName::new(b"user.osxfs.stat")?;
    assert_eq!(guest.data(&Request::ListXattr { node })?, b"");
    assert_eq!(guest.data(&Request::GetXattr { node, name: record }), Err(Errno::ENODATA));
    let value = XattrValue::new(b"1 0 0 104755 0 755")?;
    let forge = Request::SetXattr { node, name: record, value, flags: XattrFlags::empty() };
    assert_eq!(guest.done(&forge), Err(Errno::EPERM));
    assert_eq!(guest.done(&Request::RemoveXattr { node, name: record }), Err(Errno::ENODATA));
    // What gives power on the host does not get there.
    let capability = XattrName::new(b"security.capability")?;
    let set = Request::SetXattr { node, name: capability, value, flags: XattrFlags::empty() };
    assert_eq!(guest.done(&set), Err(Errno::EOPNOTSUPP));
    Ok(())
}

#[test]
fn a_recorded_set_group_id_directory_hands_its_group_down() -> Test {
    let host = Host::mapped();
    let guest = host.guest();
    let dir = Request::MkDir { parent: guest.root, name: name("dir"), mode: 0o755, umask: 0 };
    let dir = guest.entry(&dir)?.node;
    chown(&guest, dir, 33, 44)?;
    chmod(&guest, dir, 0o2775)?;
    let file = guest.create(dir, "file", OpenFlags::RDWR)?.entry.attr;
    assert_eq!((file.gid, file.mode), (44, 0o100_644));
    let sub = Request::MkDir { parent: dir, name: name("sub"), mode: 0o755, umask: 0 };
    let sub = guest.entry(&sub)?.attr;
    assert_eq!((sub.gid, sub.mode), (44, 0o042_755));
    Ok(())
}
