//! Opening: creation, flags, and files that live on while they are open.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{fails, shows};
use crate::support::{Shape, Suite, on_each_shape};

on_each_shape!(together:
    exclusive_create_refuses_what_exists,
    truncating_open_empties_a_file,
    a_running_program_is_neither_opened_for_writing_nor_emptied,
    appends_of_both_sides_are_all_kept,
    umask_is_applied,
    an_unlinked_file_stays_usable,
    a_file_unlinked_by_the_host_stays_usable,
    a_replaced_file_stays_readable,
    direct_io_reaches_the_host,
    opening_the_wrong_thing_fails_with_the_right_errno,
    lookups_resolve_as_openat2_asks,
    many_handles_of_one_file_agree,
    a_handle_without_read_permission_still_writes,
);

fn exclusive_create_refuses_what_exists(shape: Shape) {
    let share = shape.mounted();
    let create = |name: &str| {
        let path = share.mount().join(name);
        OpenOptions::new().write(true).create_new(true).open(path)
    };
    create("new").expect("a new file");
    assert!(share.host().join("new").is_file());
    fails(create("new"), Errno::EXIST);

    fs::create_dir(share.mount().join("dir")).expect("a folder");
    fails(create("dir"), Errno::EXIST);
    std::os::unix::fs::symlink("nowhere", share.mount().join("dangling")).expect("a symlink");
    fails(create("dangling"), Errno::EXIST);
    assert!(!share.host().join("nowhere").exists());

    fails(fs::metadata(share.mount().join("of-host")), Errno::NOENT);
    File::create(share.host().join("of-host")).expect("a file of the host");
    fails(create("of-host"), Errno::EXIST);
}

/// The kernel says `ETXTBSY` before anything is cut: otherwise the program dies of it.
fn a_running_program_is_neither_opened_for_writing_nor_emptied(shape: Shape) {
    let share = shape.mounted();
    let program = share.mount().join("program");
    fs::copy("/bin/sleep", &program).expect("a program");
    let size = fs::metadata(&program).expect("stat").len();
    let mut running = std::process::Command::new(&program).arg("60").spawn().expect("a process");
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::TRUNC, OFlags::WRONLY | OFlags::TRUNC] {
        assert_eq!(rustix::fs::open(&program, flags, Mode::empty()).err(), Some(Errno::TXTBSY));
    }
    assert_eq!(fs::metadata(share.host().join("program")).expect("stat").len(), size);
    assert!(running.try_wait().expect("wait").is_none(), "it has died");
    running.kill().expect("kill");
    running.wait().expect("wait");
}

fn truncating_open_empties_a_file(shape: Shape) {
    let share = shape.mounted();
    let (guest, host) = (share.mount().join("file"), share.host().join("file"));
    fs::write(&guest, "of the guest").expect("a file");
    assert_eq!(fs::read(&host).expect("the file"), b"of the guest");
    File::create(&guest).expect("an emptied file");
    assert_eq!(fs::metadata(&host).expect("the file").len(), 0);

    fs::write(&guest, "again").expect("a file");
    File::create(&host).expect("a file emptied by the host");
    shows(&guest, "");
}

/// Both sides append to one file at the same time: nobody overwrites the other.
fn appends_of_both_sides_are_all_kept(shape: Shape) {
    const RECORDS: usize = 500;
    let share = shape.mounted();
    let append = |path: &Path, who: char| {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
        for record in 0..RECORDS {
            file.write_all(format!("{who}{record:030}\n").as_bytes()).expect("an append");
        }
    };
    let (guest, host) = (share.mount().join("log"), share.host().join("log"));
    File::create(&guest).expect("a file");
    std::thread::scope(|scope| {
        scope.spawn(|| append(&guest, 'g'));
        scope.spawn(|| append(&host, 'h'));
    });
    let log = fs::read_to_string(&host).expect("the log");
    assert_eq!(log.len(), 2 * RECORDS * 32);
    for who in ['g', 'h'] {
        let records: Vec<_> = log.lines().filter(|line| line.starts_with(who)).collect();
        let expected: Vec<_> = (0..RECORDS).map(|record| format!("{who}{record:030}")).collect();
        assert_eq!(records, expected);
    }
    shows(&guest, log);
}

fn umask_is_applied(shape: Shape) {
    let share = shape.mounted();
    Suite::shell(
        Duration::from_secs(20),
        r#"cd "$1"; umask 027; touch file; mkdir dir; mkfifo fifo"#,
        [share.mount()],
    );
    for (name, mode) in [("file", 0o640), ("dir", 0o750), ("fifo", 0o640)] {
        for side in [share.mount(), share.host()] {
            let found = fs::metadata(side.join(name)).expect(name).permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{name}: {found:o}");
        }
    }
}

fn an_unlinked_file_stays_usable(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("file");
    let mut file =
        File::options().read(true).write(true).create_new(true).open(&path).expect("new");
    file.write_all(b"before").expect("a write");
    fs::remove_file(&path).expect("unlink");
    assert_eq!(super::names(share.host()), [""; 0]);
    let metadata = file.metadata().expect("fstat");
    assert_eq!((metadata.nlink(), metadata.len()), (0, 6));
    file.write_all(b" and after").expect("a write to an unlinked file");
    file.set_len(12).expect("truncate of an unlinked file");
    file.set_permissions(fs::Permissions::from_mode(0o600)).expect("chmod of an unlinked file");
    file.sync_all().expect("fsync of an unlinked file");
    file.rewind().expect("seek");
    let mut content = String::new();
    file.read_to_string(&mut content).expect("a read");
    assert_eq!(content, "before and a");
    // The name is free for another file meanwhile.
    fs::write(&path, "other").expect("another file");
    assert_eq!(file.metadata().expect("fstat").len(), 12);
}

fn a_file_unlinked_by_the_host_stays_usable(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("file");
    fs::write(share.host().join("file"), "content").expect("a file");
    let file = File::options().read(true).write(true).open(&path).expect("the file");
    fs::remove_file(share.host().join("file")).expect("unlink");
    crate::support::eventually("the name is gone", crate::support::PROMPT, || !path.exists());
    let mut content = [0; 7];
    file.read_exact_at(&mut content, 0).expect("a read");
    assert_eq!(&content, b"content");
    file.write_all_at(b"C", 0).expect("a write");
    assert_eq!(file.metadata().expect("fstat").len(), 7);
}

fn a_replaced_file_stays_readable(shape: Shape) {
    let share = shape.mounted();
    let at = |name: &str| share.mount().join(name);
    fs::write(at("target"), "old").expect("a file");
    fs::write(at("source"), "new").expect("a file");
    let mut open = File::open(at("target")).expect("the file");
    fs::rename(at("source"), at("target")).expect("a rename over an open file");
    let mut content = String::new();
    open.read_to_string(&mut content).expect("a read");
    assert_eq!(content, "old");
    assert_eq!(fs::read(at("target")).expect("the file"), b"new");
    assert_eq!(fs::read(share.host().join("target")).expect("the file"), b"new");
}

fn direct_io_reaches_the_host(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("file");
    let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a flag");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .custom_flags(direct)
        .open(&path)
        .expect("a file");
    let mut memory = vec![0_u8; 3 * 4096];
    let start = memory.as_ptr().align_offset(4096);
    let page = &mut memory[start..start + 8192];
    page.fill(b'd');
    file.write_all_at(page, 4096).expect("a direct write");
    let on_host = fs::read(share.host().join("file")).expect("the file");
    assert_eq!(on_host, [vec![0; 4096], vec![b'd'; 8192]].concat());
    fs::write(share.host().join("file"), [b'h'; 8192]).expect("a write by the host");
    // Direct: no cache of the guest may answer.
    file.read_exact_at(page, 0).expect("a direct read");
    assert!(page.iter().all(|&byte| byte == b'h'));
}

fn opening_the_wrong_thing_fails_with_the_right_errno(shape: Shape) {
    let share = shape.mounted();
    let at = |name: &str| share.mount().join(name);
    fs::write(at("file"), "").expect("a file");
    fs::create_dir(at("dir")).expect("a folder");
    std::os::unix::fs::symlink("file", at("link")).expect("a symlink");
    std::os::unix::fs::symlink("loop", at("loop")).expect("a symlink");
    let open = |name: &str, flags: OFlags| {
        rustix::fs::open(at(name), flags | OFlags::CLOEXEC, Mode::empty()).map(|_| ())
    };
    let long = "n".repeat(256);
    for (name, flags, expected) in [
        ("missing", OFlags::RDONLY, Errno::NOENT),
        ("missing/below", OFlags::RDONLY, Errno::NOENT),
        ("file/below", OFlags::RDONLY, Errno::NOTDIR),
        ("file/", OFlags::RDONLY, Errno::NOTDIR),
        ("file", OFlags::DIRECTORY, Errno::NOTDIR),
        ("dir", OFlags::WRONLY, Errno::ISDIR),
        ("dir", OFlags::RDWR, Errno::ISDIR),
        ("link", OFlags::NOFOLLOW, Errno::LOOP),
        ("loop", OFlags::RDONLY, Errno::LOOP),
        (&long, OFlags::RDONLY, Errno::NAMETOOLONG),
    ] {
        assert_eq!(open(name, flags), Err(expected), "{name} {flags:?}");
    }
    open("link", OFlags::PATH | OFlags::NOFOLLOW).expect("the symlink itself");
    open("dir", OFlags::DIRECTORY).expect("the folder");
}

fn lookups_resolve_as_openat2_asks(shape: Shape) {
    let share = shape.mounted();
    fs::create_dir_all(share.mount().join("a/b")).expect("folders");
    fs::write(share.mount().join("file"), "up").expect("a file");
    std::os::unix::fs::symlink("../../file", share.mount().join("a/b/up")).expect("a symlink");
    let root = rustix::fs::open(share.mount(), OFlags::PATH, Mode::empty()).expect("the mount");
    let open = |path: &str, resolve: ResolveFlags| {
        rustix::fs::openat2(&root, path, OFlags::RDONLY, Mode::empty(), resolve).map(|_| ())
    };
    assert_eq!(open("a/b/../../file", ResolveFlags::BENEATH), Ok(()));
    assert_eq!(open("a/b/up", ResolveFlags::BENEATH), Ok(()));
    assert_eq!(open("a/b/up", ResolveFlags::NO_SYMLINKS), Err(Errno::LOOP));
    assert_eq!(open("../outside", ResolveFlags::BENEATH), Err(Errno::XDEV));
    assert_eq!(
        rustix::fs::accessat(
            CWD,
            share.mount().join("file"),
            rustix::fs::Access::READ_OK,
            AtFlags::empty()
        ),
        Ok(())
    );
}

fn many_handles_of_one_file_agree(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("file");
    fs::write(&path, [0; 64]).expect("a file");
    let open = || File::options().read(true).write(true).open(&path).expect("a handle");
    let handles: Vec<File> = std::iter::repeat_with(open).take(64).collect();
    for (index, handle) in handles.iter().enumerate() {
        let byte = u8::try_from(index).expect("small") + 1;
        handle.write_all_at(&[byte], u64::from(byte) - 1).expect("a write");
    }
    let expected: Vec<u8> = (1..=64).collect();
    for handle in &handles {
        let mut content = vec![0; 64];
        handle.read_exact_at(&mut content, 0).expect("a read");
        assert_eq!(content, expected);
    }
    assert_eq!(fs::read(share.host().join("file")).expect("the file"), expected);
}

/// POSIX checks permission when a file is opened; what is open stays open.
fn a_handle_without_read_permission_still_writes(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("file");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o000)
        .open(&path)
        .expect("a new file without permissions");
    file.write_all_at(b"kept", 0).expect("a write");
    let mut content = [0; 4];
    file.read_exact_at(&mut content, 0).expect("a read");
    assert_eq!(&content, b"kept");
    assert_eq!(fs::metadata(share.host().join("file")).expect("stat").mode() & 0o777, 0);
}
