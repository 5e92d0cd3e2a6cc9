//! Attributes: times, modes, owners, extended attributes, and the file system's own figures.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags,
};
use rustix::io::Errno;

use super::names;
use crate::support::{PROMPT, Shape, Suite, eventually, on_each_shape, require_root};

on_each_shape!(together:
    times_are_set_to_the_nanosecond,
    changes_move_the_times_that_they_should,
    birth_time_is_the_hosts,
    modes_are_the_hosts,
    owners_are_the_hosts_and_are_enforced,
    statfs_shows_the_hosts_figures,
    extended_attributes_work_from_both_sides,
    extended_attributes_fail_with_the_right_errno,
    access_lists_are_kept,
);

const LONG_AGO: Timespec = Timespec { tv_sec: 981_173_106, tv_nsec: 123_456_789 };
const BEFORE_1970: Timespec = Timespec { tv_sec: -86_400, tv_nsec: 999_999_999 };

fn times(path: &Path) -> [(i64, i64); 2] {
    let found = fs::symlink_metadata(path).expect("stat");
    [(found.atime(), found.atime_nsec()), (found.mtime(), found.mtime_nsec())]
}

fn times_are_set_to_the_nanosecond(shape: Shape) {
    let share = shape.mounted();
    let (guest, host) = (share.mount().join("file"), share.host().join("file"));
    fs::write(&guest, "x").expect("a file");
    let set = |last_access, last_modification| {
        let times = Timestamps { last_access, last_modification };
        rustix::fs::utimensat(CWD, &guest, &times, AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
    };
    let pair = |time: Timespec| (time.tv_sec, time.tv_nsec);
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    set(LONG_AGO, BEFORE_1970);
    let expected = [pair(LONG_AGO), pair(BEFORE_1970)];
    assert_eq!((times(&guest), times(&host)), (expected, expected));

    set(special(UTIME_OMIT), LONG_AGO);
    assert_eq!(times(&host), [pair(LONG_AGO); 2]);
    let before = std::time::SystemTime::now() - Duration::from_secs(1);
    set(special(UTIME_NOW), special(UTIME_OMIT));
    let accessed = fs::metadata(&host).expect("stat").accessed().expect("atime");
    assert!(accessed > before, "UTIME_NOW is now");
    assert_eq!(times(&guest)[1], pair(LONG_AGO));
    assert_eq!(times(&guest), times(&host));

    std::os::unix::fs::symlink("file", share.mount().join("link")).expect("a symlink");
    let link = share.mount().join("link");
    let both = Timestamps { last_access: BEFORE_1970, last_modification: BEFORE_1970 };
    rustix::fs::utimensat(CWD, &link, &both, AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
    assert_eq!(times(&share.host().join("link"))[1], pair(BEFORE_1970));
    assert_eq!(times(&host)[1], pair(LONG_AGO), "the symlink's target is another file");

    // And from the host to the guest.
    let set_by_host = Timestamps { last_access: LONG_AGO, last_modification: BEFORE_1970 };
    rustix::fs::utimensat(CWD, &host, &set_by_host, AtFlags::empty()).expect("utimensat");
    eventually("the host's times", PROMPT, || times(&guest)[1] == pair(BEFORE_1970));
}

fn changes_move_the_times_that_they_should(shape: Shape) {
    let share = shape.mounted();
    let dir = share.mount().join("dir");
    fs::create_dir(&dir).expect("a folder");
    let modified = |path: &Path| {
        let found = fs::metadata(path).expect("stat");
        (found.mtime(), found.mtime_nsec())
    };
    let changed = |path: &Path| {
        let found = fs::metadata(path).expect("stat");
        (found.ctime(), found.ctime_nsec())
    };
    let pause = || std::thread::sleep(Duration::from_millis(20));
    let file = dir.join("file");

    let before = modified(&dir);
    pause();
    fs::write(&file, "x").expect("a file");
    assert!(modified(&dir) > before, "a new entry changes its folder");

    let before = (modified(&file), changed(&file));
    pause();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("chmod");
    assert!(changed(&file) > before.1 && modified(&file) == before.0, "chmod moves ctime only");

    let before = modified(&file);
    pause();
    fs::write(&file, "y").expect("a write");
    assert!(modified(&file) > before, "a write moves mtime");

    let before = changed(&file);
    pause();
    fs::hard_link(&file, dir.join("link")).expect("a link");
    assert!(changed(&file) > before, "a link moves ctime");
    assert_eq!(modified(&file), modified(&share.host().join("dir/file")));
    assert_eq!(changed(&file), changed(&share.host().join("dir/file")));
}

fn birth_time_is_the_hosts(shape: Shape) {
    let share = shape.mounted();
    fs::write(share.mount().join("file"), "x").expect("a file");
    let birth = |side: &Path| {
        let path = side.join("file");
        let found =
            rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::BTIME).expect("statx");
        let known = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        known.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
    };
    let on_host = birth(share.host());
    assert!(on_host.is_some(), "the disk knows birth times");
    assert_eq!(birth(share.mount()), on_host);
}

fn modes_are_the_hosts(shape: Shape) {
    require_root!();
    let share = shape.mounted();
    let (guest, host) = (share.mount().join("file"), share.host().join("file"));
    fs::write(&guest, "x").expect("a file");
    let mode = |path: &Path| fs::metadata(path).expect("stat").mode() & 0o7777;
    for bits in [0o000, 0o644, 0o4755, 0o2755, 0o1777, 0o7777] {
        fs::set_permissions(&guest, Permissions::from_mode(bits)).expect("chmod");
        assert_eq!((mode(&guest), mode(&host)), (bits, bits));
    }
    fs::set_permissions(&host, Permissions::from_mode(0o604)).expect("chmod");
    eventually("the host's mode", PROMPT, || mode(&guest) == 0o604);
    // A folder's set-group-id bit is inherited.
    fs::create_dir(share.mount().join("dir")).expect("a folder");
    std::os::unix::fs::chown(share.mount().join("dir"), None, Some(34)).expect("chown");
    fs::set_permissions(share.mount().join("dir"), Permissions::from_mode(0o2775)).expect("chmod");
    fs::create_dir(share.mount().join("dir/sub")).expect("a folder");
    let found = fs::metadata(share.host().join("dir/sub")).expect("stat");
    assert_eq!((found.gid(), found.mode() & 0o2000), (34, 0o2000));
}

fn owners_are_the_hosts_and_are_enforced(shape: Shape) {
    require_root!();
    let share = shape.mounted();
    fs::set_permissions(share.host(), Permissions::from_mode(0o777)).expect("chmod");
    // Somebody else makes files as themselves, keeps others out, and is kept out.
    Suite::shell(
        Duration::from_secs(20),
        r#"cd "$1"
        echo secret > of-root; chmod 600 of-root
        as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
        as 1234 bash -c 'echo mine > mine; mkdir dir; chmod 600 mine'
        test "$(stat -c %u:%g mine dir)" = $'1234:1234\n1234:1234'
        ! as 1234 cat of-root 2> /dev/null
        ! as 4321 cat mine 2> /dev/null
        ! as 4321 rm -f dir/../mine/x 2> /dev/null
        ! as 4321 touch dir/file 2> /dev/null
        ! as 1234 chown 4321 mine 2> /dev/null
        as 1234 chmod 644 mine; as 4321 cat mine
        as 1234 mv mine dir; as 1234 rm -r dir
        echo given > given; chown 1234:4321 given; chmod 060 given
        ! as 1234 cat given 2> /dev/null
        as 4321 cat given"#,
        [share.mount()],
    );
    let found = fs::metadata(share.host().join("given")).expect("stat");
    assert_eq!((found.uid(), found.gid()), (1234, 4321));
    std::os::unix::fs::chown(share.host().join("given"), Some(77), Some(78)).expect("chown");
    eventually("the host's chown", PROMPT, || {
        let found = fs::metadata(share.mount().join("given")).expect("stat");
        (found.uid(), found.gid()) == (77, 78)
    });
}

fn statfs_shows_the_hosts_figures(shape: Shape) {
    let share = shape.mounted();
    let (guest, host) = (
        rustix::fs::statvfs(share.mount()).expect("statfs"),
        rustix::fs::statvfs(share.host()).expect("statfs"),
    );
    let space = |found: &rustix::fs::StatVfs| found.f_blocks * found.f_frsize;
    assert_eq!(space(&guest), space(&host));
    assert_eq!((guest.f_files, guest.f_namemax), (host.f_files, host.f_namemax));
    // Others use the disk meanwhile: within a tenth.
    let free = |found: &rustix::fs::StatVfs| found.f_bavail * found.f_frsize;
    assert!(free(&guest).abs_diff(free(&host)) < space(&host) / 10);
}

fn set(path: &Path, name: &str, value: &[u8], flags: XattrFlags) -> Result<(), Errno> {
    rustix::fs::setxattr(path, name, value, flags)
}

fn get(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 65_536];
    let length = rustix::fs::getxattr(path, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

/// The names of the user's attributes, sorted.
fn list(path: &Path) -> Vec<String> {
    let mut buffer = vec![0_u8; 65_536];
    let length = rustix::fs::listxattr(path, &mut buffer[..]).expect("listxattr");
    let names = buffer[..length].split(|&byte| byte == 0);
    let mut names: Vec<String> =
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.retain(|name| name.starts_with("user."));
    names.sort();
    names
}

fn extended_attributes_work_from_both_sides(shape: Shape) {
    let share = shape.mounted();
    fs::write(share.mount().join("file"), "x").expect("a file");
    fs::create_dir(share.mount().join("dir")).expect("a folder");
    for name in ["file", "dir"] {
        let (guest, host) = (share.mount().join(name), share.host().join(name));
        assert_eq!(list(&guest), [""; 0]);
        set(&guest, "user.one", b"1\0binary\xff", XattrFlags::empty()).expect("setxattr");
        set(&guest, "user.empty", b"", XattrFlags::empty()).expect("setxattr");
        assert_eq!(get(&host, "user.one"), Ok(b"1\0binary\xff".to_vec()));
        assert_eq!(get(&guest, "user.empty"), Ok(vec![]));
        assert_eq!(list(&guest), ["user.empty", "user.one"]);
        let large = vec![b'l'; 2_000];
        set(&guest, "user.one", &large, XattrFlags::REPLACE).expect("setxattr");
        assert_eq!(get(&guest, "user.one").as_deref(), Ok(&large[..]));
        rustix::fs::removexattr(&guest, "user.empty").expect("removexattr");
        assert_eq!(list(&host), ["user.one"]);
        set(&host, "user.of-host", b"h", XattrFlags::empty()).expect("setxattr");
        eventually("the host's attribute", PROMPT, || {
            get(&guest, "user.of-host") == Ok(b"h".into())
        });
    }
    assert_eq!(names(share.mount()), ["dir", "file"]);
}

fn extended_attributes_fail_with_the_right_errno(shape: Shape) {
    let share = shape.mounted();
    let (guest, host) = (share.mount().join("file"), share.host().join("file"));
    File::create(&guest).expect("a file");
    set(&guest, "user.there", b"value", XattrFlags::CREATE).expect("setxattr");
    assert_eq!(set(&guest, "user.there", b"", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set(&guest, "user.missing", b"", XattrFlags::REPLACE), Err(Errno::NODATA));
    assert_eq!(get(&guest, "user.missing"), Err(Errno::NODATA));
    assert_eq!(rustix::fs::removexattr(&guest, "user.missing"), Err(Errno::NODATA));
    let short = &mut [0_u8; 2][..];
    assert_eq!(rustix::fs::getxattr(&guest, "user.there", short), Err(Errno::RANGE));
    let short = &mut [0_u8; 2][..];
    assert_eq!(rustix::fs::listxattr(&guest, short), Err(Errno::RANGE));
    assert_eq!(set(&guest, "unknown.space", b"", XattrFlags::empty()), Err(Errno::OPNOTSUPP));
    let long = format!("user.{}", "n".repeat(300));
    assert_eq!(set(&guest, &long, b"", XattrFlags::empty()), Err(Errno::RANGE));
    // What the host's file system refuses is refused with its own reason.
    let huge = vec![0; 60_000];
    let on_host = set(&host, "user.huge", &huge, XattrFlags::empty());
    let _ = rustix::fs::removexattr(&host, "user.huge");
    assert_eq!(set(&guest, "user.huge", &huge, XattrFlags::empty()), on_host);
    std::os::unix::fs::symlink("file", share.mount().join("link")).expect("a symlink");
    let link =
        rustix::fs::lsetxattr(share.mount().join("link"), "user.x", b"", XattrFlags::empty());
    assert_eq!(link, Err(Errno::PERM));
}

/// Either the list is kept and enforced, or setting it says that it cannot be.
fn access_lists_are_kept(shape: Shape) {
    require_root!();
    crate::support::require!("setfacl");
    let share = shape.mounted();
    Suite::shell(
        Duration::from_secs(20),
        r#"cd "$1"
        echo secret > file; chmod 600 file
        if setfacl -m u:1234:r file 2> error; then
            getfacl -n --omit-header file | grep -x user:1234:r--
            setpriv --reuid 1234 --regid 1234 --clear-groups cat file
            ! setpriv --reuid 4321 --regid 4321 --clear-groups cat file 2> /dev/null
        else
            grep -i 'not supported' error
        fi"#,
        [share.mount()],
    );
}
