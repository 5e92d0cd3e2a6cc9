//! Rule 8 of the design: nothing that a guest sends reaches outside the export.

use crate::test_utils::{Host, Test, name};
use protocol::{Errno, HandleId, Name, NodeId, OpenFlags, Request, mode};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A file beside the export that no guest may ever read.
const SECRET: &str = "secret of the host";

fn host_with_secret() -> Result<Host, std::io::Error> {
    let host = Host::new();
    std::fs::create_dir(host.dir.path().join("outside"))?;
    std::fs::write(host.dir.path().join("outside/file"), SECRET)?;
    Ok(host)
}

#[test]
fn a_name_that_leads_up_is_no_name() {
    for bad in [&b".."[..], b".", b"", b"a/b", b"a\0b", b"/etc"] {
        assert!(Name::new(bad).is_err(), "{}", bad.escape_ascii());
    }
}

#[test]
fn a_symlink_is_seen_and_never_followed() -> Test {
    let host = host_with_secret()?;
    symlink("/etc", host.path("absolute"))?;
    symlink("../outside", host.path("relative"))?;
    symlink("loop", host.path("loop"))?;
    let guest = host.guest();
    for (link, target) in [("absolute", "/etc"), ("relative", "../outside"), ("loop", "loop")] {
        let entry = guest.lookup(guest.root, link)?;
        assert_eq!(entry.attr.kind(), protocol::mode::IFLNK);
        let request = Request::Lookup { parent: entry.node, name: name("file") };
        assert_eq!(guest.entry(&request), Err(Errno::ENOTDIR), "{link}");
        assert_eq!(guest.open(entry.node, OpenFlags::empty()), Err(Errno::ELOOP), "{link}");
        assert_eq!(guest.open_dir(entry.node), Err(Errno::ENOTDIR), "{link}");
        let answer = guest.call(&Request::ReadLink { node: entry.node });
        let protocol::Reply::Target { target: got } = answer.reply() else { panic!("{link}") };
        assert_eq!(got.as_bytes(), target.as_bytes());
    }
    Ok(())
}

#[test]
fn a_directory_replaced_by_a_symlink_is_stale() -> Test {
    let host = host_with_secret()?;
    std::fs::create_dir_all(host.path("a/b"))?;
    std::fs::write(host.path("a/b/file"), "inside")?;
    let guest = host.guest();
    let file = guest.walk("a/b/file")?;
    let dir = guest.walk("a/b")?;
    std::thread::sleep(Duration::from_millis(1100)); // cached descriptors are trusted for a second
    std::fs::rename(host.path("a/b"), host.path("elsewhere"))?;
    symlink("../../outside", host.path("a/b"))?;
    assert_eq!(guest.open(file.node, OpenFlags::empty()), Err(Errno::ESTALE));
    assert_eq!(guest.lookup(dir.node, "file"), Err(Errno::ESTALE));
    assert_eq!(guest.attr(file.node), Err(Errno::ESTALE));
    Ok(())
}

/// Runs `change` over and over on another thread while `attempt` is made, for a while.
fn race(
    change: impl Fn() + Send + 'static,
    mut attempt: impl FnMut() -> Test,
) -> Result<u32, Box<dyn std::error::Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let changer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                change();
            }
        }
    });
    let end = Instant::now() + Duration::from_millis(1500);
    let mut attempts = 0;
    let mut result = Ok(());
    while result.is_ok() && Instant::now() < end {
        result = attempt();
        attempts += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let _ = changer.join();
    result.map(|()| attempts)
}

#[test]
fn a_symlink_swapped_in_during_a_walk_leads_nowhere() -> Test {
    let host = host_with_secret()?;
    std::fs::create_dir(host.path("dir"))?;
    std::fs::write(host.path("dir/file"), "inside")?;
    symlink("../outside", host.path("link"))?;
    let (a, b) = (host.path("dir"), host.path("link"));
    let swap = move || {
        let _ = rustix::fs::renameat_with(
            rustix::fs::CWD,
            &a,
            rustix::fs::CWD,
            &b,
            rustix::fs::RenameFlags::EXCHANGE,
        );
    };
    let guest = host.guest();
    let mut inside = 0;
    race(swap, || {
        // The names of both are tried, so that each attempt meets the directory under one.
        for path in ["dir", "link"] {
            let Ok(dir) = guest.lookup(guest.root, path) else { continue };
            guest.session.server.dirs.clear(guest.session.id); // walk each time
            let Ok(file) = guest.lookup(dir.node, "file") else { continue };
            let Ok(handle) = guest.open(file.node, OpenFlags::empty()) else { continue };
            let read = guest.read(handle, 0, 100)?;
            assert_eq!(read, b"inside");
            inside += 1;
            guest.close(handle);
        }
        Ok(())
    })?;
    assert!(inside > 0, "the race was never won by an honest walk");
    Ok(())
}

#[test]
fn a_parent_renamed_during_a_walk_leads_nowhere_else() -> Test {
    let host = host_with_secret()?;
    std::fs::create_dir_all(host.path("a/b/c"))?;
    std::fs::write(host.path("a/b/c/file"), "inside")?;
    let (from, to) = (host.path("a/b"), host.dir.path().join("outside/b"));
    let swap = move || {
        let _ = std::fs::rename(&from, &to);
        let _ = std::fs::rename(&to, &from);
    };
    let guest = host.guest();
    let dir = guest.walk("a/b/c")?;
    let file = guest.lookup(dir.node, "file")?;
    let mut inside = 0;
    race(swap, || {
        guest.session.server.dirs.clear(guest.session.id);
        match guest.open(file.node, OpenFlags::empty()) {
            Ok(handle) => {
                assert_eq!(guest.read(handle, 0, 100)?, b"inside");
                guest.close(handle);
                inside += 1;
            }
            Err(errno) => assert_eq!(errno, Errno::ESTALE),
        }
        Ok(())
    })?;
    assert!(inside > 0, "the race was never won by an honest walk");
    Ok(())
}

#[test]
fn a_directory_moved_out_of_the_export_is_lost() -> Test {
    let host = host_with_secret()?;
    std::fs::create_dir(host.path("dir"))?;
    std::fs::write(host.path("dir/file"), "inside")?;
    let guest = host.guest();
    let dir = guest.walk("dir")?;
    let handle = guest.open_dir(dir.node)?;
    std::fs::rename(host.path("dir"), host.dir.path().join("outside/dir"))?;
    std::thread::sleep(Duration::from_millis(1100));
    // Not even the open handle tells the way: it leads out of the export.
    assert_eq!(guest.lookup(dir.node, "file"), Err(Errno::ESTALE));
    guest.close(handle);
    Ok(())
}

#[test]
fn guessed_numbers_are_stale() -> Test {
    let host = Host::new();
    std::fs::write(host.path("file"), "x")?;
    let guest = host.guest();
    let file = guest.lookup(guest.root, "file")?;
    let handle = guest.open(file.node, OpenFlags::empty())?;
    let guesses = [0, 1 << 32, file.node.0 + 1, file.node.0 | 1 << 40, u64::MAX];
    for guess in guesses.map(NodeId) {
        assert_eq!(guest.attr(guess), Err(Errno::ESTALE), "{guess}");
        assert_eq!(guest.lookup(guess, "file"), Err(Errno::ESTALE), "{guess}");
        assert_eq!(guest.open(guess, OpenFlags::empty()), Err(Errno::ESTALE), "{guess}");
    }
    for guess in [0, handle.0 + 1, handle.0 ^ 1 << 32, u64::MAX].map(HandleId) {
        assert_eq!(guest.read(guess, 0, 1), Err(Errno::ESTALE), "{guess}");
        guest.close(guess);
    }
    assert!(guest.read(handle, 0, 1).is_ok());
    // What another guest has is not this one's.
    let other = host.guest();
    assert_eq!(other.attr(file.node), Err(Errno::ESTALE));
    assert_eq!(other.read(handle, 0, 1), Err(Errno::ESTALE));
    Ok(())
}

#[test]
fn a_forgotten_number_stays_void() -> Test {
    let host = Host::new();
    std::fs::write(host.path("file"), "x")?;
    let guest = host.guest();
    let first = guest.lookup(guest.root, "file")?;
    guest.session.give_back(first.node, 1);
    assert_eq!(guest.attr(first.node), Err(Errno::ESTALE));
    let second = guest.lookup(guest.root, "file")?;
    assert_ne!(first.node, second.node);
    assert_eq!(guest.attr(first.node), Err(Errno::ESTALE));
    assert_eq!(guest.attr(second.node)?.size, 1);
    Ok(())
}

#[test]
fn a_read_only_export_refuses_every_change() -> Test {
    let host = Host::with(|config| config.read_only = true);
    std::fs::write(host.path("file"), "x")?;
    std::fs::create_dir(host.path("dir"))?;
    let guest = host.guest();
    let (file, dir) =
        (guest.lookup(guest.root, "file")?.node, guest.lookup(guest.root, "dir")?.node);
    let parent = guest.root;
    let new = name("new");
    let target = protocol::Target::new(b"t")?;
    let xattr = protocol::XattrName::new(b"user.x")?;
    let changes = [
        Request::Open { node: file, flags: OpenFlags::WRONLY },
        Request::Open { node: file, flags: OpenFlags::RDWR },
        Request::Open { node: file, flags: OpenFlags::TRUNC },
        Request::OpenRead { node: file, flags: OpenFlags::TRUNC, size: 1 },
        Request::SetAttr { node: file, handle: None, set: protocol::SetAttr::NOTHING },
        Request::MkNod { parent, name: new, mode: 0o100_644, umask: 0, rdev: 0 },
        Request::MkDir { parent, name: new, mode: 0o755, umask: 0 },
        Request::SymLink { parent, name: new, target },
        Request::Link { node: file, parent, name: new },
        Request::Unlink { parent, name: name("file") },
        Request::RmDir { parent, name: name("dir") },
        Request::Rename {
            parent,
            name: name("file"),
            new_parent: dir,
            new_name: new,
            flags: protocol::RenameFlags::empty(),
        },
        Request::Create { parent, name: new, mode: 0o644, umask: 0, flags: OpenFlags::RDWR },
        Request::TmpFile { parent, mode: 0o644, umask: 0, flags: OpenFlags::RDWR },
        Request::SetXattr {
            node: file,
            name: xattr,
            value: protocol::XattrValue::new(b"v")?,
            flags: protocol::XattrFlags::empty(),
        },
        Request::RemoveXattr { node: file, name: xattr },
    ];
    for change in changes {
        assert_eq!(guest.done(&change), Err(Errno::EROFS), "{change:?}");
    }
    let handle = guest.open(file, OpenFlags::empty())?;
    assert_eq!(guest.write(handle, 0, b"y"), Err(Errno::EROFS));
    assert_eq!(guest.read(handle, 0, 9)?, b"x");
    Ok(())
}

#[test]
fn special_files_of_the_host_are_never_opened() -> Test {
    let host = Host::new();
    let root = crate::os::open_root(&host.path("."))?;
    crate::os::make_node(root.as_fd(), b"fifo", mode::IFIFO | 0o666, 0)?;
    let guest = host.guest();
    let fifo = guest.lookup(guest.root, "fifo")?;
    // Would wait for a reader for ever.
    assert_eq!(guest.open(fifo.node, OpenFlags::WRONLY), Err(Errno::ENXIO));
    Ok(())
}
