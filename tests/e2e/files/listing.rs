//! Listing folders of file systems whose offsets shift: the entries of ramfs are numbered, so behind a
//! removed one every other has another number from then on (tmpfs did the same before Linux 6.6).

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self as sys, AtFlags, Mode, OFlags, RawDir, SeekFrom};

use super::names;
use crate::support::{PROMPT, Shape, Tmpfs, eventually, on_each_shape, require_root};

on_each_shape!(together: a_folder_is_emptied_while_it_is_listed);

const FILES: usize = 600;

/// As `rm -r` does, with buffers as small as those of musl, or smaller than one page of the guest.
fn a_folder_is_emptied_while_it_is_listed(shape: Shape) {
    require_root!();
    let share = shape.mounted();
    fs::create_dir(share.host().join("disk")).expect("a folder");
    let disk = Tmpfs::with_shifting_offsets(&share.host().join("disk"));
    for size in [300, 2048, 5000, 32 * 1024] {
        let folder = disk.path().join("folder");
        fs::create_dir(&folder).expect("a folder");
        for number in 0..FILES {
            fs::write(folder.join(format!("file {number}")), "").expect("a file");
        }
        let seen = share.mount().join("disk/folder");
        eventually("the folder is there", PROMPT, || seen.exists());
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = sys::open(&seen, flags, Mode::empty()).expect("the folder");
        let mut space = vec![MaybeUninit::uninit(); size];
        let list = |space: &mut Vec<MaybeUninit<u8>>, remove: bool| {
            let mut listed = BTreeSet::new();
            let mut entries = RawDir::new(dir.as_fd(), space);
            while let Some(entry) = entries.next() {
                let name = entry.expect("an entry").file_name().to_owned();
                if !matches!(name.to_bytes(), b"." | b"..") {
                    if remove {
                        sys::unlinkat(&dir, &name, AtFlags::empty()).expect("a removal");
                    }
                    listed.insert(name);
                }
            }
            listed.len()
        };
        assert_eq!(list(&mut space, true), FILES, "listed, {size} bytes at a time");
        assert_eq!(names(&folder), [""; 0], "what is left");
        // From the beginning it is listed anew.
        fs::write(folder.join("new"), "").expect("a file");
        let begun = || {
            sys::seek(&dir, SeekFrom::Start(0)).expect("the beginning");
            list(&mut vec![MaybeUninit::uninit(); size], false)
        };
        eventually("the new file is listed", PROMPT, || begun() == 1);
        assert_eq!(names(&seen), ["new"].map(|name| std::ffi::OsStr::from_bytes(name.as_bytes())));
        fs::remove_dir_all(&folder).expect("the folder");
        drop(dir);
        eventually("the folder is gone", PROMPT, || !seen.exists());
    }
}
