//! Events do no harm: to what is mounted on top, to others' work, to what nobody has looked at.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::ReadFlags;
use rustix::process::Signal;

use super::{count, settle};
use crate::support::share::is_mounted;
use crate::support::{PROMPT, Shape, Tmpfs, Watcher, eventually, on_each_shape, require_root};

on_each_shape!(together:
    a_mount_on_top_survives_changes_beneath,
    nothing_is_told_of_what_nobody_has_looked_at,
);

on_each_shape!(alone: a_blocked_folder_delays_no_other);

/// A container mounts a volume on a folder of the share (`node_modules`); whatever happens to
/// that folder on the host, the volume stays.
fn a_mount_on_top_survives_changes_beneath(shape: Shape) {
    require_root!();
    let share = shape.mounted();
    let (guest, host) = (share.mount().join("modules"), share.host().join("modules"));
    fs::create_dir(&guest).expect("a folder");
    let tmpfs = Tmpfs::mount(&guest, "size=1m");
    fs::write(guest.join("on-top"), "x").expect("a file");
    let stays = |what: &str| {
        settle();
        assert!(guest.join("on-top").exists(), "the mount on top is gone: {what}");
    };
    fs::write(host.join("beneath"), "x").expect("a file");
    stays("a new file beneath");
    fs::set_permissions(&host, Permissions::from_mode(0o705)).expect("chmod");
    stays("chmod");
    fs::write(share.host().join("sibling"), "x").expect("a file");
    eventually("the sibling", PROMPT, || share.mount().join("sibling").exists());
    stays("a new sibling");
    fs::rename(share.host().join("sibling"), share.host().join("renamed")).expect("a rename");
    fs::remove_file(share.host().join("renamed")).expect("a removal");
    stays("a sibling gone");
    for round in 0..200 {
        fs::write(host.join(format!("beneath-{round}")), "x").expect("a file");
        fs::set_permissions(&host, Permissions::from_mode(0o700 + round % 2)).expect("chmod");
    }
    stays("many changes");
    assert!(is_mounted(&guest));
    drop(tmpfs);
    eventually("what is beneath", PROMPT, || guest.join("beneath").exists());
}

/// Folders that no guest has looked into carry no watch of a guest, and cost nothing.
fn nothing_is_told_of_what_nobody_has_looked_at(shape: Shape) {
    let share = shape.mounted();
    // Made elsewhere and moved in whole: a folder that is made in a known one becomes known itself.
    let made = share.scratch().path().join("known");
    fs::create_dir_all(made.join("unknown/deep")).expect("folders");
    fs::rename(made, share.host().join("known")).expect("a rename");
    eventually("the folder is there", PROMPT, || share.mount().join("known").exists());
    settle();
    let before = count(&share, "events");
    for round in 0..200 {
        let file = share.host().join(format!("known/unknown/deep/{round}"));
        fs::write(&file, "x").expect("a file");
        fs::write(&file, "changed").expect("a file");
        fs::remove_file(&file).expect("a removal");
    }
    settle();
    // Looking at the folder above may tell of the times of the one below.
    let told = count(&share, "events") - before;
    assert!(told <= 2, "{told} changes were told of a folder that nobody knows");
}

/// A folder of the export is another share whose server is stopped: who looks into it waits. Whoever
/// watches another folder is woken all the same.
fn a_blocked_folder_delays_no_other(shape: Shape) {
    require_root!();
    let mut slow = Shape::UnixSocket.mounted();
    fs::create_dir(slow.host().join("sub")).expect("a folder");
    let share = shape.mounted();
    let (fast, blocked) = (share.host().join("fast"), share.host().join("blocked"));
    for folder in [&fast, &blocked] {
        fs::create_dir(folder).expect("a folder");
    }
    let _bind = crate::support::Bind::mount(slow.mount(), &blocked, false);
    let guest = share.mount().join("fast");
    eventually("the folder is there", PROMPT, || guest.exists());
    eventually("the folder is there", PROMPT, || share.mount().join("blocked/sub").exists());
    let mut watcher = Watcher::new();
    watcher.watch(&guest).expect("a watch");
    settle();
    slow.server().signal(Signal::STOP);
    let inside = share.mount().join("blocked/sub");
    let waits = std::thread::spawn(move || drop(File::create(inside.join("new"))));
    settle();
    // More than may be on their way unacknowledged.
    let told = (0..200).try_for_each(|round| is_told_of_a_file(&mut watcher, &fast, round));
    slow.server().signal(Signal::CONT);
    let _ = waits.join();
    told.expect("a folder that blocks keeps no events of another back");
}

fn is_told_of_a_file(watcher: &mut Watcher, folder: &Path, round: u32) -> Result<(), String> {
    let name = format!("file-{round}");
    fs::write(folder.join(&name), "x").expect("a file");
    let told = watcher.wait_for(Duration::from_secs(5), |event| {
        event.what.contains(ReadFlags::CREATE) && event.name.as_deref() == Some(name.as_bytes())
    });
    told.map_err(|heard| format!("{name}: {heard}"))
}
