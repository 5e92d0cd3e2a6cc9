//! Mounts of Linux inside an export: our own are not entered, others are shared.

use crate::test_utils::{Host, Test, name};
use protocol::{Errno, OpenFlags, Request};
use std::os::unix::fs::MetadataExt;

const RW: OpenFlags = OpenFlags::RDWR;

#[test]
fn a_mount_point_of_ours_shows_the_directory_beneath() -> Test {
    if !crate::os::is_privileged() {
        eprintln!("skipped: needs root to mount");
        return Ok(());
    }
    let mounts = crate::mounts::OwnMounts::default();
    let host = Host::with_options(
        |_| {},
        |path, options| {
            // Both made before the mount, as the embedder does.
            let made = std::fs::create_dir(path.join("mnt"))
                .and_then(|()| std::fs::write(path.join("mnt/beneath"), "plain"));
            made.unwrap_or_else(|error| panic!("{error}"));
            mounts.cover(&path.join("mnt")).unwrap_or_else(|error| panic!("{error}"));
            options.own_mounts = mounts.clone();
        },
    );
    let point = host.path("mnt");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", &point, "tmpfs", flags, c"size=64k")?;
    let result = (|| -> Test {
        std::fs::write(point.join("above"), "mounted")?;
        let guest = host.guest();
        let mnt = guest.walk("mnt")?;
        assert_eq!(guest.lookup(mnt.node, "above"), Err(Errno::ENOENT));
        let file = guest.lookup(mnt.node, "beneath")?;
        let handle = guest.open(file.node, OpenFlags::empty())?;
        assert_eq!(guest.read(handle, 0, 9)?, b"plain");
        let made = guest.create(mnt.node, "made", RW)?;
        guest.session.server.dirs.clear(guest.session.id);
        assert_eq!(guest.attr(made.entry.node)?.size, 0);
        assert!(!point.join("made").exists());
        let rmdir = guest.done(&Request::RmDir { parent: guest.root, name: name("mnt") });
        assert_eq!(rmdir, Err(Errno::EBUSY));
        // The same file system at another place is not entered.
        mounts.avoid(std::fs::metadata(&point)?.dev());
        std::fs::create_dir(host.path("bind"))?;
        rustix::mount::mount_bind(&point, host.path("bind"))?;
        assert_eq!(guest.lookup(guest.root, "bind"), Err(Errno::ELOOP));
        Ok(())
    })();
    let _ = rustix::mount::unmount(host.path("bind"), rustix::mount::UnmountFlags::DETACH);
    rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH)?;
    result
}

#[test]
fn other_mounts_of_the_host_are_shared_with_inode_numbers_of_their_own() -> Test {
    if !crate::os::is_privileged() {
        eprintln!("skipped: needs root to mount");
        return Ok(());
    }
    let host = Host::new();
    std::fs::create_dir(host.path("sub"))?;
    let point = host.path("sub");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", &point, "tmpfs", flags, c"size=64k")?;
    let result = (|| -> Test {
        std::fs::write(point.join("file"), "mounted")?;
        let guest = host.guest();
        let file = guest.walk("sub/file")?;
        assert_ne!(file.attr.ino, std::fs::metadata(point.join("file"))?.ino());
        let handle = guest.open(file.node, OpenFlags::empty())?;
        assert_eq!(guest.read(handle, 0, 9)?, b"mounted");
        Ok(())
    })();
    rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH)?;
    result
}
