//! The process: its limits, its umask, and acting for other users.

use protocol::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// What every macOS allows as a soft limit (`OPEN_MAX` of <sys/syslimits.h>).
const ALWAYS_ALLOWED: u64 = 10_240;

pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    // The hard limit is "infinity" as a rule; the kernel's own is a setting.
    let per_process = descriptors_per_process().unwrap_or(ALWAYS_ALLOWED);
    for wanted in [most.min(per_process), most.min(ALWAYS_ALLOWED)] {
        if limit.current.is_none_or(|now| now >= wanted) {
            break;
        }
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return wanted;
        }
    }
    limit.current.unwrap_or(per_process).min(per_process)
}

/// `kern.maxfilesperproc`.
fn descriptors_per_process() -> Option<u64> {
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value);
    // SAFETY: the name is a C string, `value` has `size` bytes, and nothing is set.
    let done = unsafe {
        libc::sysctlbyname(
            c"kern.maxfilesperproc".as_ptr(),
            (&raw mut value).cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    if done == 0 { u64::try_from(value).ok().filter(|value| *value > 0) } else { None }
}

/// `sun_path` of `struct sockaddr_un`, less its NUL.
pub const MAX_SOCKET_PATH: usize = 103;

pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the descriptor is open, and both numbers are there to be written.
    let done = unsafe { libc::getpeereid(stream.as_raw_fd(), &raw mut uid, &raw mut gid) };
    if done == 0 { Ok(uid) } else { Err(io::Error::last_os_error()) }
}

pub fn clear_umask() {
    rustix::process::umask(rustix::fs::Mode::empty());
}

pub fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
}

thread_local! {
    static ACTING: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
}

/// Ends the acting when dropped.
#[derive(Debug)]
pub struct Acting {
    before: Option<(u32, u32)>,
    /// The user belongs to the thread, so the guard stays on it.
    thread: PhantomData<*const ()>,
}

/// A thread of macOS can take another user's identity only whole (`pthread_setugid_np`), and
/// would then be refused what that user may not do, which the guest has judged already with all
/// that it knows (supplementary groups, capabilities). So the thread stays root, and what it makes
/// is given to the user right after: for that moment it belongs to root, without set-id bits.
pub fn act_as(uid: u32, gid: u32) -> Result<Acting, Errno> {
    if !is_privileged() {
        return Err(Errno::EPERM);
    }
    Ok(Acting { before: ACTING.replace(Some((uid, gid))), thread: PhantomData })
}

/// Whom this thread acts for.
pub fn acting() -> Option<(u32, u32)> {
    ACTING.get()
}

impl Drop for Acting {
    fn drop(&mut self) {
        ACTING.set(self.before);
    }
}
