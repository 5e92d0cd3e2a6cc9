//! The end: other processes are ended, everything is written back, and the guest powers off.

use super::reaper::Reaper;
use crate::mount::table;
use protocol::guest::Halt;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal};
use rustix::system::{RebootCommand, reboot};
use std::process::ExitCode;
use std::time::Duration;
use tracing::{debug, warn};

/// How long a process may take to end when it is asked to, and when it has no choice.
const GRACE: Duration = Duration::from_secs(2);
const LAST: Duration = Duration::from_secs(1);

/// File systems that hold nothing which would have to be kept.
const VIRTUAL: [&str; 7] = ["proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "cgroup2", "rootfs"];

/// Ends all processes but this one. Tells whether they have ended.
pub(super) fn end_processes(reaper: &Reaper) -> bool {
    for (signal, limit) in [(Signal::TERM, GRACE), (Signal::KILL, LAST)] {
        if reaper.wait_alone(Duration::ZERO) {
            return true;
        }
        signal_all(signal);
        if reaper.wait_alone(limit) {
            return true;
        }
    }
    warn!("a process does not end");
    false
}

/// To all processes but this one; the kernel's own do not mind.
fn signal_all(signal: Signal) {
    let own = rustix::process::getpid();
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let pid = number.filter(|number| *number > 0).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|pid| *pid != own) {
            let _ = rustix::process::kill_process(pid, signal);
            if signal == Signal::TERM {
                // One that is stopped would not hear it.
                let _ = rustix::process::kill_process(pid, Signal::CONT);
            }
        }
    }
}

/// Ends the guest. Returns only where that is not possible.
pub(super) fn end(halt: Halt) -> ExitCode {
    rustix::fs::sync();
    let table = table::read().map(|table| table.entries().to_vec()).unwrap_or_default();
    for entry in table.iter().rev().filter(|entry| !VIRTUAL.contains(&entry.kind.as_str())) {
        let left = if entry.point.as_os_str() == "/" {
            let flags = MountFlags::RDONLY;
            rustix::mount::mount_remount(&entry.point, flags, "")
        } else {
            rustix::mount::unmount(&entry.point, UnmountFlags::empty())
        };
        if let Err(error) = left {
            debug!(point = %entry.point.display(), %error, "left mounted");
        }
    }
    rustix::fs::sync();
    if !rustix::process::getpid().is_init() {
        warn!("not the first process, so the machine stays on");
        return ExitCode::FAILURE;
    }
    let how = match halt {
        Halt::PowerOff => RebootCommand::PowerOff,
        Halt::Restart => RebootCommand::Restart,
    };
    if let Err(error) = reboot(how) {
        warn!("cannot power off: {error}");
    }
    ExitCode::FAILURE
}
