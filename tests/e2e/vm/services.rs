//! The agent as a service (`packaging/`): a guest with Debian's systemd or OpenRC as it is, under QEMU
//! without nesting, in which the unit or the script does what people install it for.

use std::fs;

use super::lab::cpio::Archive;
use super::other::Guest;
use crate::support::{Scratch, tools};

const INIT: &str = include_str!("services-init.sh");
const CHECK: &str = include_str!("services-check.sh");
const MOUNTS: &str = "--mount shared:/shared --mount out:/out";
const TEXT: &str = "text of the host\n";
/// How much the guest writes at last.
const LAST: u64 = 3_000_000;

#[test]
fn systemd_runs_the_agent() {
    const UNIT: &str = include_str!("../../../packaging/osxfs-agent.service");
    /// A service that wants the folders says so as it would of any network file system.
    const BEHIND: &str = "[Unit]\nWants=remote-fs.target\nAfter=remote-fs.target\n[Service]\n\
        ExecStart=/check 'systemctl stop osxfs-agent' 'systemctl start osxfs-agent' \
        'systemctl poweroff'\n[Install]\nWantedBy=multi-user.target\n";
    finds_its_folders(&[
        ("init", 0o644, "/lib/systemd/systemd"),
        // It has one already, so that nobody is asked for what a new machine should be.
        ("etc/machine-id", 0o644, "0123456789abcdef0123456789abcdef\n"),
        (
            "enable",
            0o644,
            "systemctl enable osxfs-agent check; systemctl set-default multi-user
            systemctl mask serial-getty@ttyS0",
        ),
        ("etc/systemd/system/osxfs-agent.service", 0o644, UNIT),
        ("etc/default/osxfs-agent", 0o644, &format!("OSXFS_MOUNTS=\"{MOUNTS}\"\n")),
        ("etc/systemd/system/check.service", 0o644, BEHIND),
    ]);
}

#[test]
fn openrc_runs_the_agent() {
    const SCRIPT: &str = include_str!("../../../packaging/osxfs-agent.openrc");
    /// Debian's package leaves it to the scripts of sysvinit; there is nothing to mount here.
    const LOCAL: &str = "#!/sbin/openrc-run\nstart() { return 0; }\n";
    const BEHIND: &str = "#!/sbin/openrc-run\ndepend() { need osxfs-agent; }\ncommand=/check\n\
        command_args=\"'rc-service --nodeps osxfs-agent stop' \
        'rc-service --nodeps osxfs-agent start' 'openrc-shutdown --poweroff now'\"\n\
        command_background=true\npidfile=/run/check.pid\n";
    finds_its_folders(&[
        ("init", 0o644, "/sbin/openrc-init"),
        ("enable", 0o644, "rc-update add osxfs-agent default; rc-update add check default"),
        ("etc/init.d/osxfs-agent", 0o755, SCRIPT),
        ("etc/conf.d/osxfs-agent", 0o644, &format!("osxfs_mounts=\"{MOUNTS}\"\n")),
        ("etc/init.d/localmount", 0o755, LOCAL),
        ("etc/init.d/check", 0o755, BEHIND),
    ]);
}

/// Boots Debian with these files.
#[track_caller]
fn finds_its_folders(files: &[(&str, u32, &str)]) {
    let scratch = Scratch::new();
    let Some(guest) = Guest::new(&scratch, &[]) else { return };
    let system = guest.image().join("services.tar");
    if !system.is_file() {
        return tools::skip("needs a system with systemd and OpenRC (cargo xtask setup)");
    }
    fs::write(guest.at("shared/of-the-host"), TEXT).expect("a file");
    let mut archive = Archive::default();
    archive.file("start", 0o755, INIT.as_bytes());
    archive.file("added/check", 0o755, CHECK.as_bytes());
    for (path, mode, text) in files {
        archive.file(&format!("added/{path}"), *mode, text.as_bytes());
    }
    let said = guest.boot(archive, Some(&system), || ());
    // While it was stopped nothing was mounted there.
    let stopped = "/shared is not a mountpoint\n";
    assert_eq!(said, [TEXT, TEXT, stopped, TEXT].concat());
    let last = fs::metadata(guest.at("shared/last")).expect("what was written last");
    assert_eq!(last.len(), LAST);
}
