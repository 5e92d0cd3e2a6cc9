//! Names: renames, links, folders, and objects that are no files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags};
use rustix::io::Errno;

use super::{fails, names, shows};
use crate::support::{PROMPT, Shape, eventually, on_each_shape, require_root};

on_each_shape!(together:
    renames_move_and_replace,
    renames_that_make_no_sense_fail,
    rename_flags_are_honoured,
    a_rename_by_the_host_moves_what_is_open,
    hard_links_share_number_and_count,
    symlinks_are_kept_verbatim,
    folders_count_and_refuse,
    fifos_carry_data,
    unix_sockets_connect,
    device_nodes_keep_their_numbers,
    names_of_any_255_bytes_work,
    inode_numbers_are_stable,
    a_folder_made_by_the_host_appears_and_disappears,
    deep_paths_work,
);
on_each_shape!(alone: a_changing_folder_of_100000_lists_each_entry_once);

fn renames_move_and_replace(shape: Shape) {
    let share = shape.mounted();
    let at = |name: &str| share.mount().join(name);
    fs::create_dir_all(at("from/sub")).expect("folders");
    fs::create_dir(at("to")).expect("a folder");
    fs::write(at("from/file"), "1").expect("a file");
    fs::rename(at("from/file"), at("to/moved")).expect("a rename across folders");
    fails(fs::metadata(at("from/file")), Errno::NOENT);
    assert_eq!(fs::read(share.host().join("to/moved")).expect("the file"), b"1");

    fs::write(at("to/victim"), "2").expect("a file");
    fs::rename(at("to/moved"), at("to/victim")).expect("a rename over a file");
    assert_eq!(names(&share.host().join("to")), ["victim"]);
    assert_eq!(fs::read(at("to/victim")).expect("the file"), b"1");

    fs::write(at("from/sub/deep"), "3").expect("a file");
    fs::rename(at("from"), at("to/whole")).expect("a rename of a folder");
    assert_eq!(fs::read(at("to/whole/sub/deep")).expect("the file"), b"3");
    fs::create_dir(at("empty")).expect("a folder");
    fs::rename(at("to"), at("empty")).expect("a rename over an empty folder");
    assert_eq!(names(share.host()), ["empty"]);
    fs::rename(at("empty"), at("empty")).expect("a rename to itself");
}

fn renames_that_make_no_sense_fail(shape: Shape) {
    let share = shape.mounted();
    let at = |name: &str| share.mount().join(name);
    fs::create_dir_all(at("dir/sub")).expect("folders");
    fs::create_dir(at("other")).expect("a folder");
    fs::write(at("file"), "").expect("a file");
    for (from, to, expected) in [
        ("other", "dir", Errno::NOTEMPTY),
        ("dir", "dir/sub/dir", Errno::INVAL),
        ("file", "other", Errno::ISDIR),
        ("other", "file", Errno::NOTDIR),
        ("missing", "any", Errno::NOENT),
        ("file", "missing/any", Errno::NOENT),
        ("file", "file/any", Errno::NOTDIR),
    ] {
        let found = rustix::fs::rename(at(from), at(to));
        assert_eq!(found, Err(expected), "{from} → {to}");
    }
    assert_eq!(names(share.host()), ["dir", "file", "other"]);
}

fn rename_flags_are_honoured(shape: Shape) {
    let share = shape.mounted();
    let at = |name: &str| share.mount().join(name);
    let rename =
        |from: &str, to: &str, flags| rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags);
    fs::write(at("a"), "A").expect("a file");
    fs::write(at("b"), "B").expect("a file");
    fs::create_dir(at("dir")).expect("a folder");
    fs::write(at("dir/in"), "I").expect("a file");
    assert_eq!(rename("a", "b", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    assert_eq!(fs::read(at("b")).expect("the file"), b"B");
    assert_eq!(rename("a", "c", RenameFlags::NOREPLACE), Ok(()));
    assert_eq!(rename("c", "b", RenameFlags::EXCHANGE), Ok(()));
    let read = |name: &str| fs::read(share.host().join(name)).expect("the file");
    assert_eq!((read("c"), read("b")), (b"B".to_vec(), b"A".to_vec()));
    assert_eq!(fs::read(at("c")).expect("the file"), b"B");
    assert_eq!(rename("c", "dir", RenameFlags::EXCHANGE), Ok(()));
    assert_eq!(fs::read(at("c/in")).expect("the file"), b"I");
    assert_eq!(fs::read(at("dir")).expect("the file"), b"B");
    assert_eq!(rename("c", "missing", RenameFlags::EXCHANGE), Err(Errno::NOENT));
}

fn a_rename_by_the_host_moves_what_is_open(shape: Shape) {
    let share = shape.mounted();
    fs::create_dir_all(share.host().join("dir/sub")).expect("folders");
    fs::write(share.host().join("dir/sub/file"), "old").expect("a file");
    let path = share.mount().join("dir/sub/file");
    let mut open = File::options().append(true).read(true).open(&path).expect("the file");
    let inode = open.metadata().expect("fstat").ino();
    fs::rename(share.host().join("dir"), share.host().join("moved")).expect("a rename");
    let moved = share.mount().join("moved/sub/file");
    eventually("the new name is there", PROMPT, || moved.exists());
    eventually("the old name is gone", PROMPT, || !path.exists());
    open.write_all(b" and new").expect("a write");
    shows(&share.host().join("moved/sub/file"), "old and new");
    assert_eq!(fs::metadata(&moved).expect("stat").ino(), inode);
}

fn hard_links_share_number_and_count(shape: Shape) {
    let share = shape.mounted();
    let at = |name: &str| share.mount().join(name);
    fs::create_dir(at("dir")).expect("a folder");
    fs::write(at("one"), "x").expect("a file");
    fs::hard_link(at("one"), at("dir/two")).expect("a link");
    fs::hard_link(share.host().join("one"), share.host().join("three")).expect("a link");
    let stat = |name: &str| fs::metadata(at(name)).map(|found| (found.ino(), found.nlink()));
    eventually("three links of one inode", PROMPT, || {
        let one = stat("one").expect("stat");
        one.1 == 3 && ["dir/two", "three"].iter().all(|name| stat(name).is_ok_and(|s| s == one))
    });
    fs::write(at("three"), "through another name").expect("a write");
    assert_eq!(fs::read(at("dir/two")).expect("the file"), b"through another name");
    fs::remove_file(at("one")).expect("unlink");
    assert_eq!(stat("three").expect("stat").1, 2);
    fails(fs::hard_link(at("dir"), at("no")), Errno::PERM);
    fails(fs::hard_link(at("three"), at("dir/two")), Errno::EXIST);
    // A symlink is linked itself, not what it points to.
    symlink("nowhere", at("link")).expect("a symlink");
    fs::hard_link(at("link"), at("link-2")).expect("a link of a symlink");
    assert_eq!(
        fs::read_link(share.host().join("link-2")).expect("a symlink"),
        Path::new("nowhere")
    );
}

fn symlinks_are_kept_verbatim(shape: Shape) {
    let share = shape.mounted();
    let long = format!("{}end", "../".repeat(1_300));
    for (index, target) in
        ["/etc/passwd", "../../outside", "a//b/./c/", ".", " ", "\u{fc}\n", &long]
            .iter()
            .enumerate()
    {
        let name = format!("link-{index}");
        let (guest, host) = (share.mount().join(&name), share.host().join(&name));
        symlink(target, &guest).expect("a symlink");
        assert_eq!(fs::read_link(&host).expect("a symlink").as_os_str(), *target);
        assert_eq!(fs::read_link(&guest).expect("a symlink").as_os_str(), *target);
        let size = fs::symlink_metadata(&guest).expect("lstat").len();
        assert_eq!(size, target.len() as u64);
    }
    let bytes = OsStr::from_bytes(b"\xff\x01target");
    symlink(bytes, share.host().join("of-host")).expect("a symlink");
    let guest = share.mount().join("of-host");
    eventually("the host's symlink", PROMPT, || {
        fs::read_link(&guest).is_ok_and(|target| target.as_os_str() == bytes)
    });
    // A guest resolves them in its own world.
    assert!(fs::metadata(share.mount().join("link-0")).expect("passwd").is_file());
    fails(fs::read_link(share.mount()), Errno::INVAL);
}

fn folders_count_and_refuse(shape: Shape) {
    let share = shape.mounted();
    let at = |name: &str| share.mount().join(name);
    fs::create_dir_all(at("dir/a")).expect("folders");
    fs::create_dir(at("dir/b")).expect("a folder");
    fs::write(at("dir/file"), "").expect("a file");
    let links = |dir: &Path| fs::metadata(dir.join("dir")).expect("stat").nlink();
    assert_eq!(links(share.mount()), links(share.host()));
    fails(fs::create_dir(at("dir")), Errno::EXIST);
    fails(fs::remove_dir(at("dir")), Errno::NOTEMPTY);
    fails(fs::remove_dir(at("dir/file")), Errno::NOTDIR);
    fails(fs::remove_file(at("dir/a")), Errno::ISDIR);
    fails(fs::remove_dir(at("dir/a/.")), Errno::INVAL);
    fs::remove_dir(at("dir/a")).expect("rmdir");
    assert_eq!(names(&at("dir")), ["b", "file"]);
    assert_eq!(links(share.mount()), links(share.host()));
    // A removed folder that is open is empty and takes nothing new.
    let open = File::open(at("dir/b")).expect("the folder");
    fs::remove_dir(at("dir/b")).expect("rmdir");
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let inside = rustix::fs::openat(&open, "new", flags, Mode::RUSR).map(|_| ());
    assert_eq!(inside, Err(Errno::NOENT));
}

fn fifos_carry_data(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("fifo");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).expect("mkfifo");
    assert!(fs::metadata(share.host().join("fifo")).expect("stat").file_type().is_fifo());
    std::thread::scope(|scope| {
        scope.spawn(|| fs::write(&path, "through").expect("a write"));
        let mut content = String::new();
        File::open(&path).expect("the fifo").read_to_string(&mut content).expect("a read");
        assert_eq!(content, "through");
    });
}

fn unix_sockets_connect(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("socket");
    let listener = UnixListener::bind(&path).expect("bind");
    assert!(fs::metadata(share.host().join("socket")).expect("stat").file_type().is_socket());
    let mut client = UnixStream::connect(&path).expect("connect");
    let (mut server, _) = listener.accept().expect("accept");
    client.write_all(b"hi").expect("a write");
    let mut content = [0; 2];
    server.read_exact(&mut content).expect("a read");
    assert_eq!(&content, b"hi");
    fails(UnixListener::bind(&path), Errno::ADDRINUSE);
    fs::remove_file(&path).expect("unlink");
}

fn device_nodes_keep_their_numbers(shape: Shape) {
    require_root!();
    let share = shape.mounted();
    let path = share.mount().join("device");
    let number = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::from(0o604), number)
        .expect("mknod");
    for side in [share.mount(), share.host()] {
        let found = fs::metadata(side.join("device")).expect("stat");
        assert!(found.file_type().is_char_device());
        assert_eq!((found.rdev(), found.mode() & 0o777), (number, 0o604));
    }
}

fn names_of_any_255_bytes_work(shape: Shape) {
    let share = shape.mounted();
    let everything: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let longest = OsString::from_vec([&everything[..], b"x"].concat());
    assert_eq!(longest.len(), 255);
    let all: Vec<OsString> = vec![
        longest,
        OsString::from_vec(vec![0xff; 255]),
        "\u{e4}".into(),
        "a\u{308}".into(),
        " leading and trailing ".into(),
        "new\nline".into(),
        "CASE".into(),
        "case".into(),
        "...".into(),
        "-rf".into(),
    ];
    for (index, name) in all.iter().enumerate() {
        let side = if index % 2 == 0 { share.mount() } else { share.host() };
        fs::write(side.join(name), name.as_bytes()).expect("a file");
    }
    let mut sorted = all.clone();
    sorted.sort();
    eventually("all names are listed", PROMPT, || names(share.mount()) == sorted);
    assert_eq!(names(share.host()), sorted);
    for name in &all {
        assert_eq!(fs::read(share.mount().join(name)).expect("a file"), name.as_bytes());
        fs::remove_file(share.mount().join(name)).expect("unlink");
    }
    assert_eq!(names(share.host()), [""; 0]);
    let too_long = share.mount().join("x".repeat(256));
    fails(fs::write(too_long, ""), Errno::NAMETOOLONG);
}

fn inode_numbers_are_stable(shape: Shape) {
    let share = shape.mounted();
    let at = |name: &str| share.mount().join(name);
    fs::create_dir(at("dir")).expect("a folder");
    for index in 0..100 {
        fs::write(at(&format!("dir/{index}")), "").expect("a file");
    }
    let list = || -> BTreeMap<PathBuf, u64> {
        let entries = fs::read_dir(at("dir")).expect("the folder").map(|e| e.expect("an entry"));
        entries.map(|entry| (entry.path(), entry.ino())).collect()
    };
    let listed = list();
    let distinct: std::collections::BTreeSet<_> = listed.values().collect();
    assert_eq!(distinct.len(), 100);
    for (path, number) in &listed {
        assert_eq!(fs::metadata(path).expect("stat").ino(), *number, "{path:?}");
    }
    fs::rename(at("dir"), at("renamed")).expect("a rename");
    fs::rename(at("renamed/7"), at("seven")).expect("a rename");
    assert_eq!(fs::metadata(at("seven")).expect("stat").ino(), listed[&at("dir/7")]);
    fs::rename(at("renamed"), at("dir")).expect("a rename");
    assert_eq!(list(), {
        let mut rest = listed.clone();
        rest.remove(&at("dir/7"));
        rest
    });
}

fn a_folder_made_by_the_host_appears_and_disappears(shape: Shape) {
    let share = shape.mounted();
    // Looked at before, so that a cache could be wrong.
    fails(fs::metadata(share.mount().join("dir/sub/file")), Errno::NOENT);
    assert_eq!(names(share.mount()), [""; 0]);
    fs::create_dir_all(share.host().join("dir/sub")).expect("folders");
    fs::write(share.host().join("dir/sub/file"), "x").expect("a file");
    shows(&share.mount().join("dir/sub/file"), "x");
    eventually("it is listed", PROMPT, || names(share.mount()) == ["dir"]);
    fs::remove_dir_all(share.host().join("dir")).expect("a removal");
    eventually("it is gone", PROMPT, || !share.mount().join("dir/sub/file").exists());
    eventually("it is not listed", PROMPT, || names(share.mount()).is_empty());
}

fn deep_paths_work(shape: Shape) {
    let share = shape.mounted();
    let deep: PathBuf = std::iter::repeat_n("d", 1_500).collect();
    fs::create_dir_all(share.mount().join(&deep)).expect("folders");
    fs::write(share.mount().join(&deep).join("file"), "deep").expect("a file");
    assert_eq!(fs::read(share.host().join(&deep).join("file")).expect("the file"), b"deep");
    fs::remove_dir_all(share.mount().join("d")).expect("a removal");
    assert_eq!(names(share.host()), [""; 0]);
}

fn a_changing_folder_of_100000_lists_each_entry_once(shape: Shape) {
    const ENTRIES: usize = 100_000;
    let share = shape.mounted();
    let dir = share.host().join("large");
    fs::create_dir(&dir).expect("a folder");
    for index in 0..ENTRIES {
        File::create(dir.join(format!("stays-{index:06}"))).expect("a file");
    }
    let listed = AtomicBool::new(false);
    let changes = |side: &Path, who: &str| {
        // Until the listing is over, entries come and go beside those that stay.
        for index in (0..).take_while(|_| !listed.load(Ordering::Relaxed)) {
            let path = side.join(format!("large/{who}-{}", index % 500));
            if fs::remove_file(&path).is_err() {
                let _ = File::create(&path);
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| changes(share.host(), "of-host"));
        scope.spawn(|| changes(share.mount(), "of-guest"));
        let result = std::panic::catch_unwind(|| {
            for _ in 0..2 {
                let found = names(&share.mount().join("large"));
                let mut stays: Vec<_> =
                    found.iter().filter(|name| name.as_bytes().starts_with(b"stays-")).collect();
                assert_eq!(stays.len(), ENTRIES, "missing or listed twice");
                stays.dedup();
                assert_eq!(stays.len(), ENTRIES, "listed twice");
            }
        });
        listed.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}
