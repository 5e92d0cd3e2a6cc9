//! What is told before the kernel asks: what a write left, and that a name is gone. It is as true as an
//! answer, whatever the guest does next.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, RenameFlags, Timespec, Timestamps, XattrFlags, copy_file_range,
    fallocate, removexattr, renameat_with, setxattr, utimensat,
};
use rustix::io::Errno;

use super::cached::operations;
use super::fails;
use crate::support::{PROMPT, Shape, eventually, on_each_shape};

on_each_shape!(together:
    what_is_done_to_a_written_file_shows_in_its_attributes,
    a_name_that_was_removed_leads_to_what_is_put_there,
    files_are_replaced_with_few_requests,
);

/// What is done in a folder with the files `f`, which was just written, `other` and `second`, which may be
/// `f`.
type Act = (&'static str, fn(&Path) -> std::io::Result<()>);

const ACTS: [Act; 15] = [
    ("read", |dir| fs::read(dir.join("f")).map(drop)),
    ("append", |dir| File::options().append(true).open(dir.join("f"))?.write_all(b"more")),
    ("overwrite", |dir| {
        let file = File::options().read(true).write(true).open(dir.join("f"))?;
        file.read_exact_at(&mut [0; 2], 0)?;
        file.write_all_at(b"other", 1)
    }),
    ("truncate", |dir| File::options().write(true).open(dir.join("f"))?.set_len(3)),
    ("create anew", |dir| File::create(dir.join("f"))?.write_all(b"new")),
    ("allocate", |dir| {
        let file = File::options().write(true).open(dir.join("f"))?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, 9000)?)
    }),
    ("copy", |dir| {
        let from = File::open(dir.join("other"))?;
        let to = File::options().write(true).open(dir.join("f"))?;
        Ok(copy_file_range(&from, None, &to, Some(&mut 1), 4).map(drop)?)
    }),
    ("mode", |dir| fs::set_permissions(dir.join("f"), Permissions::from_mode(0o640))),
    ("times", |dir| {
        let time = Timespec { tv_sec: 981_173_106, tv_nsec: 5 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(CWD, dir.join("f"), &times, AtFlags::empty())?)
    }),
    ("extended attribute", |dir| {
        setxattr(dir.join("f"), "user.x", b"y", XattrFlags::empty())?;
        Ok(removexattr(dir.join("f"), "user.x")?)
    }),
    ("link", |dir| fs::hard_link(dir.join("f"), dir.join("third"))),
    ("unlink", |dir| fs::remove_file(dir.join("second"))),
    ("rename", |dir| {
        fs::rename(dir.join("f"), dir.join("g"))?;
        fs::rename(dir.join("g"), dir.join("f"))
    }),
    ("replace", |dir| fs::rename(dir.join("other"), dir.join("second"))),
    ("exchange", |dir| {
        let [f, other] = ["f", "other"].map(|name| dir.join(name));
        Ok(renameat_with(CWD, &f, CWD, &other, RenameFlags::EXCHANGE)?)
    }),
];

/// What `stat` shows, but for the device, and for blocks, which the disk gives out late.
fn attributes(path: &Path) -> [i128; 9] {
    let of = fs::symlink_metadata(path).expect("stat");
    let time = |seconds: i64, nanoseconds: i64| {
        i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
    };
    [
        of.ino().into(),
        of.mode().into(),
        of.nlink().into(),
        of.uid().into(),
        of.gid().into(),
        of.size().into(),
        time(of.atime(), of.atime_nsec()),
        time(of.mtime(), of.mtime_nsec()),
        time(of.ctime(), of.ctime_nsec()),
    ]
}

fn what_is_done_to_a_written_file_shows_in_its_attributes(shape: Shape) {
    let share = shape.mounted();
    for ((what, act), linked) in ACTS.iter().flat_map(|act| [(act, false), (act, true)]) {
        let folder = format!("{what}, {linked}");
        let (guest, host) = (share.mount().join(&folder), share.host().join(&folder));
        fs::create_dir(&guest).expect("a folder");
        fs::write(guest.join("other"), "other").expect("a file");
        fs::write(guest.join("f"), "before").expect("a file");
        match linked {
            true => fs::hard_link(guest.join("f"), guest.join("second")).expect("a link"),
            false => fs::write(guest.join("second"), "second").expect("a file"),
        }
        fs::write(guest.join("f"), "content").expect("a file");
        act(&guest).unwrap_or_else(|error| panic!("{what}: {error}"));
        for name in ["f", "other", "second", "."] {
            if host.join(name).exists() {
                let seen = [&guest, &host].map(|dir| attributes(&dir.join(name)));
                assert_eq!(seen[0], seen[1], "{name} after: {what}, linked: {linked}");
            }
        }
    }
}

fn a_name_that_was_removed_leads_to_what_is_put_there(shape: Shape) {
    let share = shape.mounted();
    let (guest, host) = (share.mount(), share.host());
    let name = guest.join("name");
    let moved = guest.join("moved");
    let remove: [fn(&Path, &Path); 2] = [
        |name, _| fs::remove_file(name).expect("a removal"),
        |name, moved| fs::rename(name, moved).expect("a rename"),
    ];
    let put: [fn(&Path, &Path); 6] = [
        |name, _| fs::write(name, "again").expect("a file"),
        |name, _| fs::create_dir(name).expect("a folder"),
        |name, _| symlink("to", name).expect("a symlink"),
        |name, other| fs::hard_link(other, name).expect("a link"),
        |name, other| fs::rename(other, name).expect("a rename"),
        |name, other| {
            renameat_with(CWD, other, CWD, name, RenameFlags::NOREPLACE).expect("a rename");
        },
    ];
    let other = guest.join("other");
    for remove in remove {
        for put in put {
            fs::write(&name, "x").expect("a file");
            fs::write(&other, "y").expect("a file");
            remove(&name, &moved);
            put(&name, &other);
            let seen = [&name, &host.join("name")].map(|path| attributes(path));
            assert_eq!(seen[0], seen[1]);
            _ = fs::remove_dir(&name).or_else(|_| fs::remove_file(&name));
            fails(fs::symlink_metadata(&name), Errno::NOENT);
        }
        // And what the host puts there is found.
        fs::write(host.join("name"), "of the host").expect("a file");
        eventually("what the host has put there", PROMPT, || name.exists());
    }
}

fn files_are_replaced_with_few_requests(shape: Shape) {
    const FILES: u64 = 50;
    let share = shape.mounted();
    let path = |n: u64| share.mount().join(n.to_string());
    (0..FILES).for_each(|n| fs::write(path(n), "old").expect("a file"));
    // What is told of is void when something changes, and events of the making may still come.
    eventually("removed, made, written and closed", PROMPT, || {
        let before = operations(&share);
        for n in 0..FILES {
            fs::remove_file(path(n)).expect("a removal");
            let mut file = File::create_new(path(n)).expect("a file");
            file.write_all(b"new content").expect("a write");
            assert_eq!(file.metadata().expect("stat").len(), 11);
        }
        let asked = operations(&share) - before;
        eprintln!("{asked} requests for {FILES} files");
        asked <= FILES * 4 + FILES / 4
    });
}
