//! What is done to files, named as the rows need it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps, mknodat, renameat_with,
    utimensat,
};

use super::Place;

pub(super) fn nothing(_: &Place) {}

pub(super) fn a_file(p: &Place) {
    write(&p.at("file"), "text");
}

pub(super) fn a_folder(p: &Place) {
    mkdir(&p.at("sub"));
    write(&p.at("sub/file"), "text");
}

pub(super) fn an_empty_folder(p: &Place) {
    mkdir(&p.at("sub"));
}

pub(super) fn a_file_and_a_folder(p: &Place) {
    a_file(p);
    a_folder(p);
}

pub(super) fn two_files(p: &Place) {
    a_file(p);
    write(&p.at("other"), "another text");
}

pub(super) fn two_folders(p: &Place) {
    mkdir(&p.at("sub"));
    mkdir(&p.at("other"));
    write(&p.at("other/file"), "text");
}

pub(super) fn two_links(p: &Place) {
    a_file(p);
    link(&p.at("file"), &p.at("another"));
}

pub(super) fn a_file_in_a(p: &Place) {
    mkdir(&p.at("a"));
    mkdir(&p.at("b"));
    write(&p.at("a/file"), "text");
}

pub(super) fn a_folder_in_a(p: &Place) {
    mkdir(&p.at("a"));
    mkdir(&p.at("b"));
    mkdir(&p.at("a/sub"));
    write(&p.at("a/sub/file"), "text");
}

pub(super) fn a_tree(p: &Place) {
    tree(&p.dir);
}

pub(super) fn a_tree_outside(p: &Place) {
    tree(&p.outside);
}

pub(super) fn trees_here_and_outside(p: &Place) {
    tree(&p.dir);
    tree(&p.outside);
}

pub(super) fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("a/b")).expect("folders");
    write(&dir.join("a/b/file"), "text");
    write(&dir.join("a/first"), "text");
}

pub(super) fn a_file_outside(p: &Place) {
    write(&p.out("file"), "text");
}

pub(super) fn a_file_here_and_outside(p: &Place) {
    a_file(p);
    write(&p.out("file"), "another text");
}

pub(super) fn a_folder_outside(p: &Place) {
    mkdir(&p.out("sub"));
    write(&p.out("sub/file"), "text");
}

pub(super) fn a_symlink(p: &Place) {
    symlink("target", p.at("link")).expect("a symlink");
}

pub(super) fn create(path: &Path) -> File {
    File::create_new(path).expect("a new file")
}

pub(super) fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
}

pub(super) fn open(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).expect("the file")
}

pub(super) fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).expect("the file");
    file.write_all(text.as_bytes()).expect("a write");
}

pub(super) fn overwrite(path: &Path, text: &str) {
    open(path).write_all(text.as_bytes()).expect("a write");
}

pub(super) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

pub(super) fn chown(path: &Path, uid: u32) {
    std::os::unix::fs::chown(path, Some(uid), None).expect("chown");
}

pub(super) fn touch(path: &Path, second: i64) {
    let time = Timespec { tv_sec: second, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::empty()).expect("utimensat");
}

pub(super) fn link(from: &Path, to: &Path) {
    fs::hard_link(from, to).expect("a link");
}

pub(super) fn unlink(path: &Path) {
    fs::remove_file(path).expect("a removal");
}

pub(super) fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).expect("a rename");
}

pub(super) fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("an exchange");
}

pub(super) fn mkdir(path: &Path) {
    fs::create_dir(path).expect("a folder");
}

pub(super) fn rmdir(path: &Path) {
    fs::remove_dir(path).expect("a removal");
}

pub(super) fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).expect("a fifo");
}

/// `cp -r`: folders as they are met, files opened with `O_CREAT|O_TRUNC`.
pub(super) fn copy(from: &Path, to: &Path) {
    if !to.exists() {
        mkdir(to);
    }
    let mut entries: Vec<_> = fs::read_dir(from).expect("a folder").flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::write(&to, fs::read(entry.path()).expect("a file")).expect("a copy");
        }
    }
}

/// Files that stay open between steps, by the path of the case.
static HELD: std::sync::Mutex<Vec<(PathBuf, File)>> = std::sync::Mutex::new(Vec::new());

/// Does something to the case's `file`, opened once and held.
pub(super) fn hold(p: &Place, act: impl FnOnce(&mut File)) {
    let mut held = HELD.lock().expect("held files");
    if !held.iter().any(|(dir, _)| *dir == p.dir) {
        held.push((p.dir.clone(), open(&p.at("file"))));
    }
    let found = held.iter_mut().find(|(dir, _)| *dir == p.dir);
    act(&mut found.expect("just opened").1);
}

pub(super) fn release(p: &Place) {
    HELD.lock().expect("held files").retain(|(dir, _)| *dir != p.dir);
}
