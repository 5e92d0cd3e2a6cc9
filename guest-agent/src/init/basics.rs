//! The file systems that every Linux program expects, and the loopback interface.

use crate::mount::table;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::ffi::CStr;
use std::path::Path;
use std::process::{Command, Stdio};
use tracing::{debug, warn};

/// Where, what, its options, and whether programs and devices in it are for use.
struct Basic {
    point: &'static str,
    kind: &'static str,
    options: &'static CStr,
    flags: MountFlags,
}

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// In the order in which they are mounted.
const BASICS: [Basic; 8] = [
    Basic { point: "/proc", kind: "proc", options: c"", flags: PLAIN },
    Basic { point: "/sys", kind: "sysfs", options: c"", flags: PLAIN },
    Basic { point: "/dev", kind: "devtmpfs", options: c"mode=755", flags: MountFlags::NOSUID },
    Basic {
        point: "/dev/pts",
        kind: "devpts",
        options: c"mode=620,ptmxmode=666",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
    },
    Basic {
        point: "/dev/shm",
        kind: "tmpfs",
        options: c"mode=1777",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
    },
    Basic {
        point: "/run",
        kind: "tmpfs",
        options: c"mode=755",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
    },
    Basic {
        point: "/tmp",
        kind: "tmpfs",
        options: c"mode=1777",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
    },
    Basic { point: "/sys/fs/cgroup", kind: "cgroup2", options: c"", flags: PLAIN },
];

/// What our image does with an address.
const DHCP_SCRIPT: &str = "/usr/share/udhcpc/default.script";

/// Names that programs take for granted, and where they lead.
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Mounts what is not mounted already. Returns what did not work, in words: a guest may do without.
pub(super) fn prepare() -> Vec<String> {
    let mut problems = Vec::new();
    // Modes are meant as they are written; who runs a command sets another.
    rustix::process::umask(Mode::empty());
    for Basic { point, kind, options, flags } in BASICS {
        if is_mounted(Path::new(point)) {
            continue;
        }
        let made = std::fs::create_dir_all(point);
        match rustix::mount::mount(kind, point, kind, flags, options) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => problems.push(match made {
                Ok(()) => format!("cannot mount {kind} on {point}: {error}"),
                Err(made) => format!("cannot make {point}: {made}"),
            }),
        }
    }
    for (name, target) in LINKS {
        // It may be there already.
        let _ = std::os::unix::fs::symlink(target, name);
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    problems
}

/// Asks the network that a card is joined to for an address, where the image has what it takes.
pub(super) fn join_network() {
    if !Path::new("/sys/class/net/eth0").exists() || !Path::new(DHCP_SCRIPT).exists() {
        return;
    }
    // Three questions, a second apart; then it goes on without.
    let asked = Command::new("/bin/busybox")
        .args(["udhcpc", "-i", "eth0", "-q", "-n", "-t", "3", "-T", "1", "-s", DHCP_SCRIPT])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match asked {
        Ok(status) if status.success() => {}
        Ok(status) => warn!("the network gives no address ({status})"),
        Err(error) => warn!("cannot ask the network for an address: {error}"),
    }
}

/// Gives a guest without a name one.
pub(super) fn name_the_guest() {
    if rustix::system::uname().nodename() == c"(none)" {
        let _ = rustix::system::sethostname(b"osxfs");
    }
}

fn is_mounted(point: &Path) -> bool {
    table::read().is_ok_and(|table| table.find(point).is_some())
}

/// `ip link set lo up`; the kernel gives it its addresses.
pub(super) fn bring_up_loopback() {
    // IFF_UP, linux/if.h.
    if let Err(error) = std::fs::write("/sys/class/net/lo/flags", "0x1") {
        debug!(%error, "no loopback interface");
    }
}
