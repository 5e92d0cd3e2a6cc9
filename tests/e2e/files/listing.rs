//! Listing folders in which others are at work, also on file systems whose offsets shift: the entries of
//! ramfs are numbered, so behind a removed one every other has another number from then on (tmpfs did the
//! same before Linux 6.6).

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self as sys, AtFlags, Mode, OFlags, RawDir, SeekFrom};

use super::names;
use crate::support::{PROMPT, Shape, Tmpfs, eventually, on_each_shape, require_root};

on_each_shape!(together:
    a_folder_is_emptied_while_it_is_listed,
    what_stays_is_listed_once_and_as_it_is,
);

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

fn what_stays_is_listed_once_and_as_it_is(shape: Shape) {
    let share = shape.mounted();
    for (passes, files) in [(60, 30), (20, 300), (8, 1500)] {
        let [guest, host] = [share.mount(), share.host()].map(|at| at.join(files.to_string()));
        fs::create_dir(&host).expect("a folder");
        let stays: BTreeSet<_> = (0..files).map(|n| format!("stays {n}")).collect();
        stays.iter().for_each(|name| fs::write(host.join(name), "x").expect("a file"));
        eventually("the folder is there", PROMPT, || guest.exists());
        let is_over = AtomicBool::new(false);
        let work = |dir: &Path, name: &str| {
            let mut modes = (0..0o100).cycle();
            while !is_over.load(Ordering::Relaxed) {
                fs::write(dir.join(name), "y").expect("a file");
                for stays in stays.iter().step_by(7) {
                    let mode = fs::Permissions::from_mode(0o600 | modes.next().unwrap_or(0));
                    fs::set_permissions(dir.join(stays), mode).expect("chmod");
                }
                fs::remove_file(dir.join(name)).expect("a removal");
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| work(&guest, "of the guest"));
            scope.spawn(|| work(&host, "of the host"));
            for _ in 0..passes {
                let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
                let dir = sys::open(&guest, flags, Mode::empty()).expect("the folder");
                let mut space = vec![MaybeUninit::uninit(); 1000];
                let mut entries = RawDir::new(dir.as_fd(), &mut space);
                let mut listed = Vec::new();
                while let Some(entry) = entries.next() {
                    let name =
                        entry.expect("an entry").file_name().to_str().expect("UTF-8").to_owned();
                    if name.starts_with("stays") {
                        listed.push(name);
                    }
                }
                listed.sort();
                assert!(listed.iter().eq(&stays), "{} of {files} are listed", listed.len());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mode = |path: &Path| fs::metadata(path).expect("stat").mode();
        eventually("modes are those of the host", PROMPT, || {
            stays.iter().all(|name| mode(&guest.join(name)) == mode(&host.join(name)))
        });
    }
}
