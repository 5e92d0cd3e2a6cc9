//! `--ownership map`: what a guest says of owners, set-id bits and devices is remembered beside
//! the file and enforced in the guest, and never becomes true on the host.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};

use crate::support::{PROMPT, Shape, Suite, eventually, on_each_shape, require_root};

on_each_shape!(together:
    files_without_a_record_belong_to_the_mount,
    a_recorded_owner_is_shown_and_kept_off_the_host,
    a_recorded_owner_is_enforced,
    set_id_bits_never_become_real,
    device_nodes_never_become_real,
    a_record_outlives_the_mount,
);

const OWNER: [&str; 4] = ["--uid", "1234", "--gid", "4321"];

fn files_without_a_record_belong_to_the_mount(shape: Shape) {
    require_root!();
    let share = shape.mapped_share().server_flags(OWNER).start();
    fs::write(share.host().join("file"), "x").expect("a file");
    fs::set_permissions(share.host().join("file"), Permissions::from_mode(0o600)).expect("chmod");
    let file = share.mount().join("file");
    eventually("the file is there", PROMPT, || file.exists());
    let found = fs::metadata(&file).expect("stat");
    assert_eq!((found.uid(), found.gid()), (1234, 4321));
}

fn a_recorded_owner_is_shown_and_kept_off_the_host(shape: Shape) {
    require_root!();
    let share = shape.mapped_share().start();
    let (guest, host) = (share.mount().join("file"), share.host().join("file"));
    fs::write(&guest, "x").expect("a file");
    let before = fs::metadata(&host).expect("stat");
    chown(&guest, Some(33), Some(34)).expect("chown");
    let found = fs::metadata(&guest).expect("stat");
    assert_eq!((found.uid(), found.gid()), (33, 34));
    let after = fs::metadata(&host).expect("stat");
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    // The record itself is no attribute of the guest's.
    let mut names = [0_u8; 1024];
    let length = rustix::fs::listxattr(&guest, &mut names[..]).expect("listxattr");
    assert!(!String::from_utf8_lossy(&names[..length]).contains("osxfs"));
    let length = rustix::fs::listxattr(&host, &mut names[..]).expect("listxattr");
    assert!(String::from_utf8_lossy(&names[..length]).contains("user.osxfs.stat"));
}

fn a_recorded_owner_is_enforced(shape: Shape) {
    require_root!();
    let share = shape.mapped_share().start();
    Suite::shell(
        Duration::from_secs(20),
        r#"cd "$1"
        as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
        echo mine > file; chown 1234:1234 file; chmod 600 file
        as 1234 cat file
        ! as 4321 cat file 2> /dev/null
        ! as 4321 chmod 644 file 2> /dev/null
        as 1234 chmod 644 file
        as 4321 cat file"#,
        [share.mount()],
    );
}

fn set_id_bits_never_become_real(shape: Shape) {
    require_root!();
    let share = shape.mapped_share().start();
    let (guest, host) = (share.mount().join("file"), share.host().join("file"));
    fs::write(&guest, "x").expect("a file");
    fs::set_permissions(&guest, Permissions::from_mode(0o6755)).expect("chmod");
    assert_eq!(fs::metadata(&guest).expect("stat").mode() & 0o7777, 0o6755);
    assert_eq!(fs::metadata(&host).expect("stat").mode() & 0o6000, 0);
}

fn device_nodes_never_become_real(shape: Shape) {
    require_root!();
    let share = shape.mapped_share().start();
    let (guest, host) = (share.mount().join("device"), share.host().join("device"));
    let number = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, &guest, FileType::CharacterDevice, Mode::from(0o666), number)
        .expect("mknod");
    let found = fs::symlink_metadata(&guest).expect("stat");
    assert!(found.file_type().is_char_device());
    assert_eq!(found.rdev(), number);
    assert!(fs::symlink_metadata(&host).expect("stat").is_file());
}

fn a_record_outlives_the_mount(shape: Shape) {
    require_root!();
    let share = shape.mapped_share().start();
    fs::write(share.mount().join("file"), "x").expect("a file");
    chown(share.mount().join("file"), Some(33), Some(34)).expect("chown");
    fs::rename(share.mount().join("file"), share.mount().join("renamed")).expect("a rename");
    let again = shape.mapped_share().of(share.host()).start();
    let found = fs::metadata(again.mount().join("renamed")).expect("stat");
    assert_eq!((found.uid(), found.gid()), (33, 34));
}
