//! What only a Mac can show.

use crate::os::*;
use protocol::{Errno, FallocateMode, OpenFlags, RenameFlags, Whence, XattrFlags, mode};
use std::os::fd::{AsFd, OwnedFd};

struct Folder {
    path: tempfile::TempDir,
    root: OwnedFd,
}

fn folder() -> Folder {
    let path = tempfile::tempdir().unwrap();
    let root = open_root(path.path()).unwrap();
    Folder { path, root }
}

impl Folder {
    fn dir(&self) -> std::os::fd::BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn file(&self, name: &[u8], data: &[u8]) -> OwnedFd {
        let fd = create(self.dir(), name, OpenFlags::RDWR, 0o644).unwrap();
        assert_eq!(write_at(fd.as_fd(), data, 0), Ok(data.len()));
        fd
    }

    fn anchor(&self, path: &[u8]) -> OwnedFd {
        open_beneath(self.dir(), path).unwrap()
    }

    /// Does something with the object of a name.
    fn on<T>(&self, name: &[u8], work: impl FnOnce(Object<'_>) -> T) -> T {
        let anchor = self.anchor(name);
        let kind = stat(anchor.as_fd()).unwrap().mode & mode::IFMT;
        work(Object { fd: anchor.as_fd(), kind, place: Some((self.dir(), name)) })
    }
}

#[test]
fn sockets_and_fifos_have_anchors_that_open_nothing() {
    let folder = folder();
    for (name, kind) in [(b"fifo", mode::IFIFO), (b"sock", mode::IFSOCK)] {
        make_node(folder.dir(), name, kind | 0o640, 0).unwrap();
        let anchor = folder.anchor(name);
        let found = stat(anchor.as_fd()).unwrap();
        assert_eq!(found, stat_at(folder.dir(), name).unwrap());
        assert_eq!(found.mode, kind | 0o640);
        folder.on(name, |object| set_mode(object, 0o600)).unwrap();
        folder.on(name, |object| set_xattr(object, b"user.a", b"b", XattrFlags::empty())).unwrap();
        rename(folder.dir(), name, folder.dir(), b"new", RenameFlags::empty()).unwrap();
        assert_eq!(stat(anchor.as_fd()).unwrap().mode, kind | 0o600);
        assert!(present_path(anchor.as_fd()).unwrap().ends_with(b"/new"));
        if kind == mode::IFIFO {
            let writer = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
            let opened =
                rustix::fs::openat(folder.dir(), c"new", writer, rustix::fs::Mode::empty());
            assert_eq!(opened.err(), Some(rustix::io::Errno::NXIO), "the fifo has a reader");
        }
        unlink(folder.dir(), b"new").unwrap();
        assert_eq!(stat(anchor.as_fd()), Err(Errno::ESTALE));
    }
}

#[test]
fn what_cannot_be_read_still_has_an_anchor() {
    let folder = folder();
    drop(folder.file(b"shut", b""));
    folder.on(b"shut", |object| set_mode(object, 0)).unwrap();
    make_dir(folder.dir(), b"closed", 0o000).unwrap();
    for name in [b"shut".as_slice(), b"closed"] {
        let anchor = folder.anchor(name);
        assert_eq!(stat(anchor.as_fd()).unwrap().mode & mode::PERMISSIONS, 0);
    }
    folder.on(b"shut", |object| set_mode(object, 0o600)).unwrap();
    assert!(reopen(folder.anchor(b"shut").as_fd(), OpenFlags::RDWR).is_ok());
}

#[test]
fn a_way_through_a_symbolic_link_is_refused() {
    let folder = folder();
    make_dir(folder.dir(), b"d", 0o755).unwrap();
    make_dir(folder.anchor(b"d").as_fd(), b"e", 0o755).unwrap();
    drop(create(folder.anchor(b"d/e").as_fd(), b"f", OpenFlags::RDWR, 0o644).unwrap());
    make_symlink(folder.dir(), b"link", b"d").unwrap();
    for path in [b"link/e".as_slice(), b"link/e/f"] {
        assert_eq!(open_beneath(folder.dir(), path).err(), Some(Errno::ELOOP), "{path:?}");
    }
    for path in [b"../x".as_slice(), b"d/../d", b"/etc", b"d//e", b"."] {
        assert_eq!(open_beneath(folder.dir(), path).err(), Some(Errno::EINVAL), "{path:?}");
    }
    let mut target = Vec::new();
    folder.on(b"link", |object| read_link(object, &mut target)).unwrap();
    assert_eq!(target, b"d");
    assert_eq!(stat(folder.anchor(b"d/e/f").as_fd()).unwrap().mode, mode::IFREG | 0o644);
}

#[test]
fn an_anchor_is_opened_anew_wherever_it_has_gone() {
    let folder = folder();
    drop(folder.file(b"old", b"content"));
    make_dir(folder.dir(), b"d", 0o755).unwrap();
    let (anchor, dir) = (folder.anchor(b"old"), folder.anchor(b"d"));
    rename(folder.dir(), b"old", dir.as_fd(), b"new", RenameFlags::empty()).unwrap();
    drop(folder.file(b"old", b"other"));
    let mut data = Vec::new();
    let open = reopen(anchor.as_fd(), OpenFlags::RDWR).unwrap();
    read_at(open.as_fd(), &mut data, 100, 0).unwrap();
    assert_eq!(data, b"content");
    unlink(dir.as_fd(), b"new").unwrap();
    assert_eq!(present_path(anchor.as_fd()), Err(Errno::ENOENT));
    let shared = reopen(open.as_fd(), OpenFlags::RDWR).unwrap();
    assert_eq!(stat(shared.as_fd()).unwrap().nlink, 0);
}

#[test]
fn a_listing_survives_the_removal_of_what_it_lists() {
    let folder = folder();
    let name = |n: usize| format!("entry {n:05}").into_bytes();
    for n in 0..3000 {
        make_node(folder.dir(), &name(n), mode::IFREG | 0o644, 0).unwrap();
    }
    let mut stream = DirStream::new(open_dir(folder.dir()).unwrap());
    let (mut seen, mut cookies) = (Vec::new(), Vec::new());
    while let Some(entry) = stream.peek().unwrap() {
        let (cookie, entry) = (entry.cookie, entry.name.to_vec());
        if entry.starts_with(b"entry") {
            unlink(folder.dir(), &entry).unwrap();
        }
        seen.push(entry);
        cookies.push(cookie);
        stream.advance();
    }
    stream.seek(cookies[1000]).unwrap();
    assert_eq!(stream.peek().unwrap().unwrap().name, seen[1001]);
    seen.sort();
    let mut all = vec![b".".to_vec(), b"..".to_vec()];
    all.extend((0..3000).map(name));
    assert_eq!(seen, all);
    stream.seek(0).unwrap();
    for _ in 0..2 {
        assert!(stream.peek().unwrap().is_some());
        stream.advance();
    }
    assert_eq!(stream.peek(), Ok(None));
}

#[test]
fn appending_ignores_the_offset() {
    let folder = folder();
    drop(folder.file(b"log", b"one"));
    let log = reopen(folder.anchor(b"log").as_fd(), OpenFlags::RDWR | OpenFlags::APPEND).unwrap();
    assert_eq!(write_at(log.as_fd(), b"two", 0), Ok(3));
    let mut data = Vec::new();
    read_at(log.as_fd(), &mut data, 100, 0).unwrap();
    assert_eq!(data, b"onetwo");
}

#[test]
fn space_is_reserved_punched_and_zeroed() {
    let folder = folder();
    let file = folder.file(b"f", &[1; 100_000]);
    let file = file.as_fd();
    let punch = FallocateMode::PUNCH_HOLE | FallocateMode::KEEP_SIZE;
    fallocate(file, punch, 10, 50_000).unwrap();
    let mut data = Vec::new();
    read_at(file, &mut data, 200_000, 0).unwrap();
    assert!(data[10..50_010].iter().all(|b| *b == 0));
    assert_eq!((data.len(), data[9], data[50_010]), (100_000, 1, 1));
    fallocate(file, FallocateMode::ZERO_RANGE, 90_000, 20_000).unwrap();
    assert_eq!(stat(file).unwrap().size, 110_000);
    sync(file, false).unwrap();
    let hole = seek(file, 0, Whence::Hole).unwrap();
    let reserved = fallocate(file, FallocateMode::empty(), hole, 4096);
    assert_eq!(reserved, Err(Errno::EOPNOTSUPP));
    fallocate(file, FallocateMode::empty(), 110_000, 1 << 20).unwrap();
    assert_eq!(stat(file).unwrap().size, 110_000 + (1 << 20));
    let insert = FallocateMode::INSERT_RANGE;
    assert_eq!(fallocate(file, insert, 0, 4096), Err(Errno::EOPNOTSUPP));
}

#[test]
fn a_copy_has_the_content_and_the_length_of_its_source() {
    let folder = folder();
    let source = folder.file(b"source", b"begin");
    write_at(source.as_fd(), b"end", 10 << 20).unwrap();
    truncate(source.as_fd(), 12 << 20).unwrap();
    let target = folder.file(b"target", b"");
    assert_eq!(copy_range(source.as_fd(), 0, target.as_fd(), 0, u64::MAX), Ok(12 << 20));
    let (mut one, mut other) = (Vec::new(), Vec::new());
    read_at(source.as_fd(), &mut one, 13 << 20, 0).unwrap();
    read_at(target.as_fd(), &mut other, 13 << 20, 0).unwrap();
    assert!(one == other);
    let onto_itself = copy_range(source.as_fd(), 0, source.as_fd(), 1, 100);
    assert_eq!(onto_itself, Err(Errno::EINVAL));
}

#[test]
fn extended_attributes_of_the_host_stay_with_the_host() {
    let folder = folder();
    let file = folder.file(b"f", b"");
    rustix::fs::fsetxattr(&file, c"com.apple.test", b"x", rustix::fs::XattrFlags::empty()).unwrap();
    let mut value = Vec::new();
    folder.on(b"f", |object| {
        set_xattr(object, b"user.a", b"1", XattrFlags::CREATE).unwrap();
        let again = set_xattr(object, b"user.a", b"2", XattrFlags::CREATE);
        assert_eq!(again, Err(Errno::EEXIST));
        let missing = set_xattr(object, b"user.b", b"2", XattrFlags::REPLACE);
        assert_eq!(missing, Err(Errno::ENODATA));
        list_xattr(object, &mut value).unwrap();
        assert_eq!(value, b"user.a\0");
        let hidden = get_xattr(object, b"com.apple.test", &mut value);
        assert_eq!(hidden, Err(Errno::EOPNOTSUPP));
        assert_eq!(get_xattr(object, b"user.b", &mut value), Err(Errno::ENODATA));
    });
    get_xattr_at(folder.dir(), b"f", b"user.a", &mut value).unwrap();
    assert_eq!(value, b"1");
    folder.on(b"f", |object| remove_xattr(object, b"user.a")).unwrap();
    let gone = get_xattr_at(folder.dir(), b"f", b"user.a", &mut value);
    assert_eq!(gone, Err(Errno::ENODATA));
}

#[test]
fn renames_keep_or_swap_what_is_there() {
    let folder = folder();
    let (a, b) = (folder.file(b"a", b""), folder.file(b"b", b""));
    let (a, b) = (stat(a.as_fd()).unwrap().ino, stat(b.as_fd()).unwrap().ino);
    let rename = |flags| rename(folder.dir(), b"a", folder.dir(), b"b", flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EEXIST));
    rename(RenameFlags::EXCHANGE).unwrap();
    let now = |name: &[u8]| stat_at(folder.dir(), name).unwrap().ino;
    assert_eq!((now(b"a"), now(b"b")), (b, a));
    assert_eq!(rename(RenameFlags::WHITEOUT), Err(Errno::EINVAL));
    assert_eq!(unlink(folder.dir(), b"c"), Err(Errno::ENOENT));
    make_dir(folder.dir(), b"d", 0o1777).unwrap();
    assert_eq!(now(b"d"), stat(folder.anchor(b"d").as_fd()).unwrap().ino);
    assert_eq!(stat_at(folder.dir(), b"d").unwrap().mode, mode::IFDIR | 0o1777);
    assert_eq!(unlink(folder.dir(), b"d"), Err(Errno::EISDIR));
}

#[test]
fn a_link_is_of_the_object_and_not_of_the_name() {
    let folder = folder();
    let file = folder.file(b"a", b"");
    let ino = stat(file.as_fd()).unwrap().ino;
    rename(folder.dir(), b"a", folder.dir(), b"b", RenameFlags::empty()).unwrap();
    drop(folder.file(b"a", b""));
    let place = Some((folder.dir(), b"a".as_slice()));
    let object = Object { fd: file.as_fd(), kind: mode::IFREG, place };
    link(object, folder.dir(), b"c").unwrap();
    assert_eq!(stat_at(folder.dir(), b"c").unwrap().ino, ino);
    assert_eq!(stat(file.as_fd()).unwrap().nlink, 2);
}

#[test]
fn the_folder_knows_its_path() {
    let folder = folder();
    let path = folder.path.path().canonicalize().unwrap();
    let path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    assert_eq!(present_path(folder.dir()).as_deref(), Ok(path));
    assert!(raise_descriptor_limit() >= 256);
}
