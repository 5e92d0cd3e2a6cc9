//! The process: its limits, its umask, and acting for other users.

use super::errno;
use protocol::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};
use std::io;
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now =
        if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    now.unwrap_or(u64::MAX)
}

/// `sun_path` of `struct sockaddr_un`, less its NUL.
pub const MAX_SOCKET_PATH: usize = 107;

pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

pub fn clear_umask() {
    rustix::process::umask(rustix::fs::Mode::empty());
}

pub fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// User and group of the process.
static OWN: OnceLock<(u32, u32)> = OnceLock::new();

/// Restores the thread's own file system ids when dropped.
#[derive(Debug)]
pub struct Acting {
    /// The ids to go back to, if they were changed.
    own: Option<(u32, u32)>,
    /// The ids belong to the thread, so the guard stays on it.
    thread: PhantomData<*const ()>,
}

pub fn act_as(uid: u32, gid: u32) -> Result<Acting, Errno> {
    let own = *OWN
        .get_or_init(|| (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()));
    let mut acting = Acting { own: None, thread: PhantomData };
    if (uid, gid) == own {
        return Ok(acting);
    }
    let CapabilitySets { effective, permitted, inheritable } = capabilities(None).map_err(errno)?;
    acting.own = Some(own);
    set_ids(uid, gid);
    // Leaving file system user 0 took the file capabilities out of the effective set.
    let regained = CapabilitySets { effective, permitted, inheritable };
    set_capabilities(None, regained).map_err(errno)?;
    // These calls tell no failure; asking with an invalid id tells the present one.
    let (now_uid, now_gid) = set_ids(u32::MAX, u32::MAX);
    if (now_uid, now_gid) == (uid, gid) { Ok(acting) } else { Err(Errno::EPERM) }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.own {
            set_ids(uid, gid);
        }
    }
}

/// Sets the thread's file system user and group; returns the ones before.
fn set_ids(uid: u32, gid: u32) -> (u32, u32) {
    // SAFETY: the call takes a number and touches no memory; it acts on this thread alone.
    let old_gid = unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    let old_uid = unsafe { libc::setfsuid(uid) };
    (old_uid as u32, old_gid as u32)
}
