//! Who watches what on the mount, as the kernel tells in `/proc/PID/fdinfo`.
//!
//! Looked for only while the server says that its watches are scarce: it then keeps those of
//! directories in which somebody here waits for events. A watch that is added later makes no request
//! that we could see, so it is looked for again and again; never more than once a second, nor for
//! more than a small part of the time, however many processes there are.
//!
//! ```text
//! inotify wd:2 ino:4c1 sdev:2f mask:3c6 ignored_mask:0 …
//! fanotify ino:4c1 sdev:2f mflags:0 mask:8 ignored_mask:0 …
//! ```

use crate::fuse::Session;
use parking_lot::Mutex;
use protocol::{Directories, NodeId, Request, limits};
use rustc_hash::FxHashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tracing::debug;

/// Time between two looks: this, and so many times as long as the last one took.
const PAUSE: Duration = Duration::from_secs(1);
const REST: u32 = 50;

/// What is known of the watchers of one mount.
#[derive(Default)]
pub struct Watchers {
    /// The mount's `st_dev`.
    device: OnceLock<u64>,
    /// What the server was told, on which connection.
    told: Mutex<Option<(u32, Vec<NodeId>)>>,
    /// Processes were met that may not be looked at.
    refused: AtomicBool,
}

impl Watchers {
    /// The mount has this `st_dev`.
    pub fn mounted(&self, device: u64) {
        let _ = self.device.set(device);
    }

    /// Looks, and tells the server what is new to it. Returns when to look again, if at all.
    pub fn look(&self, session: &Session) -> Option<Instant> {
        if !session.client.is_scarce() {
            // When they are scarce again, all is said again.
            *self.told.lock() = None;
            return None;
        }
        let begun = Instant::now();
        if let (Some(device), true, Some(attachment)) =
            (self.device.get(), session.is_ready(), session.attachment())
        {
            let epoch = session.epoch();
            let inodes = self.watched(Path::new("/proc"), kernel_device(*device));
            let dirs = session.nodes.directories_of(&inodes);
            let dirs: Vec<NodeId> = dirs.into_iter().take(limits::MAX_WATCHED).collect();
            let now = Some((epoch, dirs));
            let mut told = self.told.lock();
            if *told != now {
                told.clone_from(&now);
                drop(told);
                let dirs = Directories(now.map(|(_, dirs)| dirs).unwrap_or_default());
                session.client.post(epoch, &Request::Watched { attachment, dirs });
            }
        }
        let took = begun.elapsed();
        Some(Instant::now() + PAUSE.max(took * REST))
    }

    /// The inode numbers of this device that any process watches. Processes that end meanwhile, and
    /// those that may not be looked at, watch nothing.
    fn watched(&self, proc: &Path, device: u64) -> FxHashSet<u64> {
        let mut found = FxHashSet::default();
        let numbered = |entry: &fs::DirEntry| {
            entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)
        };
        let processes = fs::read_dir(proc).into_iter().flatten().flatten().filter(numbered);
        for process in processes.map(|process| process.path()) {
            let refused = match watched_by(&process, device, &mut found) {
                Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
                Ok(()) => false,
            };
            if refused && !self.refused.swap(true, Ordering::Relaxed) {
                debug!(process = %process.display(), "may not be looked at, as perhaps others: what they watch is not known");
            }
        }
        found
    }
}

fn watched_by(process: &Path, device: u64, found: &mut FxHashSet<u64>) -> io::Result<()> {
    for descriptor in fs::read_dir(process.join("fd"))?.flatten() {
        let watches = fs::read_link(descriptor.path()).is_ok_and(|target| {
            let target = target.as_os_str();
            target == "anon_inode:inotify" || target == "anon_inode:[fanotify]"
        });
        // It may have been closed meanwhile.
        if watches
            && let Ok(info) =
                fs::read_to_string(process.join("fdinfo").join(descriptor.file_name()))
        {
            found.extend(info.lines().filter_map(|line| watched_inode(line, device)));
        }
    }
    Ok(())
}

/// The inode number in a line about a watch of this device.
fn watched_inode(line: &str, device: u64) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    fields.next().filter(|kind| matches!(*kind, "inotify" | "fanotify"))?;
    let (mut inode, mut of) = (None, None);
    for field in fields {
        match field.split_once(':') {
            Some(("ino", value)) => inode = u64::from_str_radix(value, 16).ok(),
            Some(("sdev", value)) => of = u64::from_str_radix(value, 16).ok(),
            _ => {}
        }
    }
    inode.filter(|_| of == Some(device))
}

/// A `st_dev` as the kernel itself has it (`MKDEV`, linux/kdev_t.h).
fn kernel_device(device: u64) -> u64 {
    u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn lines_of_every_kind_are_read() {
        let inotify = "inotify wd:1 ino:4c1 sdev:800020 mask:2000000 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:c1040000";
        let fanotify = "fanotify ino:4c1 sdev:800020 mflags:0 mask:3b ignored_mask:40000000";
        for line in [inotify, fanotify] {
            assert_eq!(watched_inode(line, 0x80_0020), Some(0x4c1));
            assert_eq!(watched_inode(line, 0x80_0021), None);
        }
        let others = [
            "pos:\t0",
            "",
            "fanotify flags:10 event-flags:0",
            "fanotify mnt_id:12 mflags:40 mask:38 ignored_mask:0",
            "fanotify sdev:800020 mflags:0 mask:38 ignored_mask:0",
            "inotify wd:1 ino:zz sdev:800020",
        ];
        for line in others {
            assert_eq!(watched_inode(line, 0x80_0020), None, "{line}");
        }
    }

    #[test]
    fn watches_of_a_process_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let state = fs::metadata(dir.path()).unwrap();
        let queue = inotify::init(CreateFlags::CLOEXEC).unwrap();
        let device = kernel_device(state.dev());
        let watched = || {
            let mut found = FxHashSet::default();
            watched_by(Path::new("/proc/self"), device, &mut found).unwrap();
            found.contains(&state.ino())
        };
        assert!(!watched());
        inotify::add_watch(&queue, dir.path(), WatchFlags::CREATE).unwrap();
        assert!(watched());
    }
}
