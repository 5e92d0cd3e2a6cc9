//! The one thing of this crate that takes unsafe code: a descriptor table for one thread alone.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit};
use rustix::thread::UnshareFlags;

/// Standard input, output and error stay.
const FIRST: RawFd = 3;

/// Gives the calling thread a descriptor table of its own, in which nothing is open but the
/// standard streams and, if wanted, another descriptor of `keep`, which is returned.
///
/// From then on this thread must neither use nor drop a descriptor that was opened before or by
/// another thread, and none that it opens may leave it: the numbers mean something else there.
///
/// # Errors
/// The table cannot be had or `keep` not be kept; the table is then shared as before, or a copy.
pub(crate) fn isolate(keep: Option<BorrowedFd<'_>>) -> rustix::io::Result<Option<OwnedFd>> {
    // SAFETY: the table is copied, so every number still names what it did; that the two tables go
    // apart from here on is what callers are told of.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES)? };
    let kept = keep.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, FIRST)).transpose()?;
    for fd in open_descriptors()? {
        if fd >= FIRST && kept.as_ref().map(AsRawFd::as_raw_fd) != Some(fd) {
            // SAFETY: the number is open in this thread's own table only as a copy; its owner closes
            // the original in the other table. Owned here it closes at the end of the statement.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Ok(kept)
}

/// The numbers that are open in this thread's table. Without `/proc`, all that can be.
fn open_descriptors() -> rustix::io::Result<Vec<RawFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::open("/proc/thread-self/fd", flags, Mode::empty()) else {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let open = |fd: &RawFd| {
            // SAFETY: only asked about, and not kept.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            rustix::io::fcntl_getfd(fd).is_ok()
        };
        return Ok((FIRST..RawFd::try_from(limit).unwrap_or(RawFd::MAX)).filter(open).collect());
    };
    let own = dir.as_raw_fd();
    let entries = rustix::fs::Dir::new(dir)?;
    let number = |entry: rustix::fs::DirEntry| entry.file_name().to_str().ok()?.parse().ok();
    Ok(entries.flatten().filter_map(number).filter(|fd| *fd != own).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    #[test]
    fn an_isolated_thread_keeps_what_it_asked_for_and_closes_nothing_of_others() {
        let mut kept = tempfile::tempfile().unwrap();
        let mut other = tempfile::tempfile().unwrap();
        let (number, one) = (other.as_raw_fd(), kept.try_clone().unwrap());
        let isolated = std::thread::spawn(move || {
            let mine = isolate(Some(std::os::fd::AsFd::as_fd(&one))).unwrap().unwrap();
            let open = open_descriptors().unwrap();
            assert!(!open.contains(&number) || number == mine.as_raw_fd(), "{open:?}");
            File::from(mine).write_all(b"mine").unwrap();
            // Dropped elsewhere: in this table it is closed already.
            one
        });
        drop(isolated.join().unwrap());
        other.write_all(b"other").unwrap();
        kept.rewind().unwrap();
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(text, "mine");
    }
}
