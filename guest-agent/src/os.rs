//! The three things of this crate that take unsafe code: a descriptor table for one thread alone, and
//! the size of a vsock socket's buffer and the scheduling of a thread, for which no crate has a safe call.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, getrlimit};
use rustix::thread::UnshareFlags;
use std::io;
use std::os::fd::AsFd;

/// Standard input, output and error stay.
const FIRST: RawFd = 3;
/// One thread (linux/ioprio.h).
const IOPRIO_WHO_PROCESS: libc::c_int = 1;
/// Options of a vsock socket (linux/vm_sockets.h).
const SO_VM_SOCKETS_BUFFER_SIZE: libc::c_int = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: libc::c_int = 2;

/// Lets a connected vsock socket hold so many bytes that its program has not read yet, and tells the
/// other end.
///
/// # Errors
/// It is no vsock socket, or its transport has no such buffer.
pub(crate) fn set_vsock_buffer(socket: impl AsFd, bytes: u64) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // The size is cut to the most there may be, so that comes first.
    for option in [SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE] {
        let len = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the descriptor is open for as long as it is borrowed, and the option is a number of
        // this length, which is only read.
        let set =
            unsafe { libc::setsockopt(fd, libc::AF_VSOCK, option, (&raw const bytes).cast(), len) };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets a thread of this process come after all others (`SCHED_IDLE`), or be as others are
/// (`SCHED_OTHER`). The disk serves it as before.
///
/// # Errors
/// The thread is gone, or the system does not let it return: that takes `CAP_SYS_NICE` or a limit of
/// `RLIMIT_NICE`.
pub(crate) fn set_idle(thread: Pid, idle: bool) -> io::Result<()> {
    let policy = if idle { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    let priority: libc::c_int = 0;
    let thread = thread.as_raw_pid();
    // What is not said follows from the policy: who comes last would come last at the disk, too.
    if idle {
        // SAFETY: numbers go in, and a number comes out.
        let at_disk = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, thread) };
        if at_disk > 0 {
            // SAFETY: the same.
            unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, thread, at_disk) };
        }
    }
    // SAFETY: `struct sched_param` is one number, which is only read. The system call, since musl's
    // function does nothing.
    let set =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, thread, policy, &raw const priority) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

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

    /// What a vsock socket holds.
    fn vsock_buffer(socket: &OwnedFd) -> u64 {
        let (mut bytes, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
        let (value, fd) = ((&raw mut bytes).cast(), socket.as_raw_fd());
        // SAFETY: the option is a number of this length, which is written to `bytes`.
        let got = unsafe {
            libc::getsockopt(fd, libc::AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, value, &raw mut len)
        };
        assert_eq!(got, 0, "{}", io::Error::last_os_error());
        bytes
    }

    #[test]
    fn a_vsock_socket_holds_more_than_it_may_by_itself_and_no_other_socket_does() {
        use rustix::net::{AddressFamily, SocketType, socket};
        let other = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        assert!(set_vsock_buffer(&other, 8 << 20).is_err());
        let Ok(socket) = socket(AddressFamily::VSOCK, SocketType::STREAM, None) else {
            eprintln!("skipped: this kernel has no vsock");
            return;
        };
        assert!(vsock_buffer(&socket) < 8 << 20);
        set_vsock_buffer(&socket, 8 << 20).unwrap();
        assert_eq!(vsock_buffer(&socket), 8 << 20);
    }

    #[test]
    fn who_comes_last_is_served_by_the_disk_as_before() {
        let at_disk = || {
            // SAFETY: takes numbers and gives one.
            unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) }
        };
        let before = at_disk();
        std::thread::spawn(move || {
            set_idle(rustix::thread::gettid(), true).unwrap();
            assert_eq!(at_disk(), before);
        })
        .join()
        .unwrap();
    }

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
