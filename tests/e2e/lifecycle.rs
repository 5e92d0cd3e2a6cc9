//! Starting and ending: signals, `umount`, several guests and mounts, read-only shares.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::support::share::{self, NAME, is_mounted};
use crate::support::{Daemon, PROMPT, Scratch, Shape, Suite, Tmpfs, eventually};
use crate::support::{on_each_shape, require, require_root, turns};

on_each_shape!(together:
    signals_end_it_cleanly,
    umount_ends_it_cleanly,
    what_was_written_is_there_after_the_end,
    a_busy_mount_is_let_go,
    a_read_only_share_changes_nothing,
    the_mount_point_shows_its_own_content_again,
    each_consistency_mode_works,
    a_file_system_mounted_in_the_folder_is_shared_too,
);

fn signals_end_it_cleanly(shape: Shape) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut share = shape.mounted();
        fs::write(share.mount().join("file"), "x").expect("a file");
        share.agent().ends_cleanly_on(signal);
        assert!(!is_mounted(share.mount()));
        if shape == Shape::UnixSocket {
            share.server().ends_cleanly_on(signal);
            assert!(!share.socket().exists(), "the socket is removed");
        }
        assert_eq!(fs::read(share.host().join("file")).expect("the file"), b"x");
    }
}

#[test]
fn a_vsock_device_removes_all_its_sockets() {
    for signal in [Signal::TERM, Signal::INT] {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        let mut command = Command::new(share::program());
        command.args(["vsock", "--vhost-user"]).arg(at("monitor"));
        command.arg("--vsock-path").arg(at("hybrid"));
        command.arg("--vsock-dir").arg(scratch.dir("directory"));
        let mut device = Daemon::spawn("osxfs vsock", command, PROMPT);
        device.await_line("serving guest 3 at ");
        let sockets = [at("monitor"), at("hybrid"), at("directory/connect")];
        assert!(sockets.iter().all(|socket| socket.exists()));
        device.ends_cleanly_on(signal);
        let left: Vec<_> = sockets.iter().filter(|socket| socket.exists()).collect();
        assert!(left.is_empty(), "after {signal:?}: {left:?}");
    }
}

fn umount_ends_it_cleanly(shape: Shape) {
    let mut share = shape.mounted();
    fs::write(share.mount().join("file"), "x").expect("a file");
    let mut umount = Command::new("umount");
    Suite::run("umount", PROMPT, umount.arg(share.mount())).succeeds();
    share.agent().ends_cleanly();
    assert!(!is_mounted(share.mount()));
    assert_eq!(fs::read(share.host().join("file")).expect("the file"), b"x");
}

/// Also what only the guest's memory holds: a dirty mapping, a file still open.
fn what_was_written_is_there_after_the_end(shape: Shape) {
    for consistency in ["consistent", "cached", "delegated"] {
        let mut share = shape.share().consistency(consistency).start();
        let content = vec![b'x'; 3 << 20];
        fs::write(share.mount().join("file"), &content).expect("a file");
        share.agent().ends_cleanly_on(Signal::TERM);
        assert!(fs::read(share.host().join("file")).expect("the file") == content, "{consistency}");
    }
}

/// Somebody's shell stands in the mount: the end does not wait for that.
fn a_busy_mount_is_let_go(shape: Shape) {
    let mut share = shape.mounted();
    let open = File::create(share.mount().join("file")).expect("a file");
    let mut shell = Command::new("sleep");
    shell.arg("60").current_dir(share.mount());
    let shell = Daemon::spawn("sleep", shell, Duration::from_secs(100));
    share.agent().ends_cleanly_on(Signal::TERM);
    assert!(!is_mounted(share.mount()));
    drop((open, shell));
}

/// Everything that would change a folder with `file` in it, and its result there.
pub fn changes(folder: &Path) -> Vec<(&'static str, std::io::Result<()>)> {
    let at = |name: &str| folder.join(name);
    vec![
        ("create", File::create(at("new")).map(|_| ())),
        ("write", File::options().write(true).open(at("file")).map(|_| ())),
        ("mkdir", fs::create_dir(at("dir"))),
        ("unlink", fs::remove_file(at("file"))),
        ("rename", fs::rename(at("file"), at("renamed"))),
        ("link", fs::hard_link(at("file"), at("link"))),
        ("symlink", std::os::unix::fs::symlink("x", at("symlink"))),
        ("chmod", fs::set_permissions(at("file"), Permissions::from_mode(0o600))),
        (
            "truncate",
            rustix::fs::open(
                at("file"),
                rustix::fs::OFlags::TRUNC | rustix::fs::OFlags::RDWR,
                0.into(),
            )
            .map(|_| ())
            .map_err(Into::into),
        ),
        (
            "setxattr",
            rustix::fs::setxattr(at("file"), "user.x", b"", rustix::fs::XattrFlags::empty())
                .map_err(Into::into),
        ),
    ]
}

fn a_read_only_share_changes_nothing(shape: Shape) {
    let share = shape.share().read_only().start();
    fs::write(share.host().join("file"), "content").expect("a file");
    eventually("the file is there", PROMPT, || share.mount().join("file").exists());
    for (what, result) in changes(share.mount()) {
        let code = result.err().and_then(|error| Errno::from_io_error(&error));
        assert_eq!(code, Some(Errno::ROFS), "{what}");
    }
    // The host may, and the guest sees it.
    fs::write(share.host().join("file"), "changed").expect("a file");
    eventually("the change shows", PROMPT, || {
        fs::read(share.mount().join("file")).is_ok_and(|content| content == b"changed")
    });
    assert_eq!(fs::read_dir(share.host()).expect("the folder").count(), 1);
}

fn the_mount_point_shows_its_own_content_again(shape: Shape) {
    let mut share = shape.mounted();
    fs::write(share.mount().join("file"), "x").expect("a file");
    share.agent().ends_cleanly_on(Signal::TERM);
    assert_eq!(fs::read_dir(share.mount()).expect("the mount point").count(), 0);
    fs::write(share.mount().join("beneath"), "x").expect("a file");
    assert!(!share.host().join("beneath").exists());
    fs::remove_file(share.mount().join("beneath")).expect("a removal");
}

fn each_consistency_mode_works(shape: Shape) {
    for consistency in ["consistent", "cached", "delegated"] {
        let share = shape.share().consistency(consistency).start();
        fs::write(share.host().join("of-host"), "1").expect("a file");
        eventually(consistency, PROMPT, || share.mount().join("of-host").exists());
        fs::write(share.mount().join("of-guest"), "2").expect("a file");
        let there = || fs::read(share.host().join("of-guest")).is_ok_and(|found| found == b"2");
        assert!(there(), "{consistency}: closed, so it is on the host");
        for round in 0..20 {
            let content = format!("{round}");
            fs::write(share.host().join("of-host"), &content).expect("a file");
            let shows = || {
                fs::read_to_string(share.mount().join("of-host"))
                    .is_ok_and(|found| found == content)
            };
            // In this mode at every system call, in the others soon.
            assert!(consistency != "consistent" || shows(), "{consistency} round {round}");
            eventually(consistency, PROMPT, shows);
        }
    }
}

fn a_file_system_mounted_in_the_folder_is_shared_too(shape: Shape) {
    require_root!();
    let share = shape.mounted();
    let inner = share.host().join("inner");
    fs::create_dir(&inner).expect("a folder");
    let _tmpfs = Tmpfs::mount(&inner, "size=1m");
    fs::write(inner.join("of-host"), "1").expect("a file");
    eventually("a file of the inner file system", PROMPT, || {
        fs::read(share.mount().join("inner/of-host")).is_ok_and(|content| content == b"1")
    });
    fs::write(share.mount().join("inner/of-guest"), "2").expect("a file");
    assert_eq!(fs::read(inner.join("of-guest")).expect("the file"), b"2");
    let refused = fs::hard_link(share.mount().join("inner/of-guest"), share.mount().join("x"));
    let code = refused.err().and_then(|error| Errno::from_io_error(&error));
    assert_eq!(code, Some(Errno::XDEV));
}

/// The mount point lies in the folder: a guest sees there what is beneath, and no end of itself.
#[test]
fn a_mount_point_inside_the_folder_is_shown_as_what_it_covers() {
    let _turn = turns::together();
    let scratch = Scratch::new();
    let host = scratch.dir("host");
    let inside = host.join("inside");
    fs::create_dir(&inside).expect("a folder");
    fs::write(host.join("file"), "x").expect("a file");
    let mut command = share::osxfs(&scratch, None);
    command.arg("mount").arg(&host).arg(&inside);
    let mut osxfs = Daemon::spawn("osxfs mount", command, Duration::from_secs(60));
    osxfs.await_line("sharing ");
    assert_eq!(fs::read(inside.join("file")).expect("the file"), b"x");
    let mut find = Command::new("find");
    let found = Suite::run("find", PROMPT, find.arg(&inside)).succeeds().log;
    assert_eq!(found.lines().count(), 3, "{found}");
    fs::write(inside.join("inside/beneath"), "y").expect("a file beneath the mount");
    osxfs.ends_cleanly_on(Signal::TERM);
    assert_eq!(fs::read(inside.join("beneath")).expect("the file"), b"y");
}

/// An ordinary user, by `fusermount3`, in a mount namespace whose `/dev/fuse` is open to all as
/// it is on most machines.
#[test]
fn an_ordinary_user_mounts() {
    let _turn = turns::together();
    require_root!();
    require!("fusermount3");
    let scratch = Scratch::new();
    let program = scratch.path().join("osxfs");
    fs::copy(share::program(), &program).expect("the program");
    Suite::shell(
        Duration::from_secs(60),
        r#"cd "$1"
        mknod -m 666 fuse c 10 229
        mkdir host mount run; chown 65534:65534 host mount run
        export OSXFS_RUNTIME_DIR=$1/run
        unshare --mount bash -eu -c '
            mount --bind fuse /dev/fuse
            as() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
            coproc OSXFS { exec setpriv --reuid 65534 --regid 65534 --clear-groups \
                ./osxfs mount host mount; }
            read -r -t 20 ready <&"${OSXFS[0]}"
            [[ $ready = "sharing "* ]]
            as bash -c "echo of-guest > mount/file; chmod 600 mount/file"
            test "$(cat host/file)" = of-guest
            as bash -c "echo of-host > host/other"
            test "$(as cat mount/other)" = of-host
            ! ls mount 2> /dev/null # nobody else without --allow-other, not even root
            pid=$OSXFS_PID
            kill -TERM $pid; wait $pid
            ! mountpoint -q mount
        '"#,
        [scratch.path()],
    );
}

#[test]
fn two_agents_share_one_server() {
    let _turn = turns::together();
    let share = Shape::UnixSocket.mounted();
    let there = share.scratch().dir("second");
    let mut second = share.another_agent(&[(NAME, there.clone())]);
    for round in 0..20 {
        let (one, two) = (share.mount().join("file"), there.join("file"));
        let (from, to) = if round % 2 == 0 { (one, two) } else { (two, one) };
        let content = format!("round {round}");
        fs::write(from, &content).expect("a file");
        eventually("the other guest sees it", PROMPT, || {
            fs::read_to_string(&to).is_ok_and(|found| found == content)
        });
    }
    fs::create_dir(there.join("dir")).expect("a folder");
    eventually("the other guest sees it", PROMPT, || share.mount().join("dir").is_dir());
    second.ends_cleanly_on(Signal::TERM);
    assert!(!is_mounted(&there));
    fs::write(share.mount().join("file"), "still here").expect("a file");
}

#[test]
fn one_agent_has_two_mounts() {
    let _turn = turns::together();
    let share = Shape::UnixSocket.mounted();
    let scratch = share.scratch();
    let (one, two, socket) = (scratch.dir("one"), scratch.dir("two"), scratch.path().join("s"));
    let (at_one, at_two) = (scratch.dir("at-one"), scratch.dir("at-two"));
    let mut serve = share.osxfs(["serve"]);
    serve.arg("--export").arg(&one).arg("--export").arg(format!("{}:other:ro", two.display()));
    serve.arg("--listen").arg(format!("unix:{}", socket.display()));
    let mut server = Daemon::spawn("osxfs serve", serve, Duration::from_secs(100));
    server.await_line("listening on ");
    let mut agent = share.osxfs(["agent", "--connect"]);
    agent.arg(format!("unix:{}", socket.display()));
    for (name, at) in [("one", &at_one), ("other", &at_two)] {
        agent.arg("--mount").arg(format!("{name}:{}", at.display()));
    }
    let mut agent = Daemon::spawn("osxfs agent", agent, Duration::from_secs(100));
    agent.await_line("mounted one at ");
    agent.await_line("mounted other at ");

    fs::write(at_one.join("file"), "x").expect("a file");
    assert_eq!(fs::read(one.join("file")).expect("the file"), b"x");
    let refused = fs::write(at_two.join("file"), "x").err();
    assert_eq!(refused.and_then(|error| Errno::from_io_error(&error)), Some(Errno::ROFS));
    fs::write(two.join("file"), "y").expect("a file");
    eventually("the second mount", PROMPT, || {
        fs::read(at_two.join("file")).is_ok_and(|content| content == b"y")
    });

    agent.ends_cleanly_on(Signal::TERM);
    assert!(!is_mounted(&at_one) && !is_mounted(&at_two));
    server.ends_cleanly_on(Signal::TERM);
}

/// The program for guests speaks the same language as `osxfs agent`.
#[test]
fn the_guests_own_program_mounts() {
    let _turn = turns::together();
    let release = Path::new(env!("CARGO_BIN_EXE_osxfs")).parent().expect("a folder");
    let target = release.parent().expect("a folder");
    // As `cargo xtask agent` builds it, static; else as a build of the workspace does.
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let places = [target.join(host).join("release"), release.to_owned()];
    let program = places.iter().map(|dir| dir.join("osxfs-agent")).find(|path| path.is_file());
    let Some(program) = program else {
        assert!(std::env::var_os("CI").is_none(), "osxfs-agent is in none of {places:?}");
        return;
    };
    let share = Shape::UnixSocket.mounted();
    let there = share.scratch().dir("second");
    let mut command = Command::new(program);
    command.arg("--connect").arg(format!("unix:{}", share.socket().display()));
    command.arg("--mount").arg(format!("{NAME}:{}", there.display()));
    let mut agent = Daemon::spawn("osxfs-agent", command, Duration::from_secs(100));
    agent.await_line(&format!("mounted {NAME} at "));
    fs::write(there.join("file"), "x").expect("a file");
    assert_eq!(fs::read(share.host().join("file")).expect("the file"), b"x");
    agent.ends_cleanly_on(Signal::TERM);
    assert!(!is_mounted(&there));
}
