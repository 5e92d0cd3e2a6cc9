//! Linux: `openat2`, `O_PATH` and the magic links of `/proc/self/fd`.

mod attr;
mod dir;
mod file;
mod find;
mod name;
mod process;
mod processor;

pub use attr::{
    get_xattr, get_xattr_at, has_default_acl, list_xattr, remove_xattr, set_mode, set_owner,
    set_size, set_times, set_xattr,
};
pub use dir::DirStream;
pub use file::{
    copy_range, fallocate, lock_range, lock_whole, read_at, seek, statfs, sync, sync_fs, truncate,
    write_at,
};
pub use find::{
    birth_is_identity, may_access, open_beneath, open_root, present_path, stat, stat_at,
};
pub use name::{
    create, create_unnamed, link, make_dir, make_node, make_symlink, open_dir, read_link,
    remove_dir, rename, reopen, unlink,
};
pub use process::{
    Acting, MAX_SOCKET_PATH, act_as, clear_umask, is_privileged, peer_uid, raise_descriptor_limit,
};
pub use processor::{Movable, boot_id, leave_inherited_place};

use protocol::Errno;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The wire's form of an error. The numbers of all Linux architectures but Alpha, MIPS, PA-RISC and
/// SPARC are the generic ones.
fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// The path of a magic link in `/proc/self/fd`, on the stack: `/proc/self/fd/N` or
/// `/proc/self/fd/N/NAME`.
struct MagicLink {
    bytes: [u8; Self::ROOM],
    len: usize,
}

impl MagicLink {
    /// `/proc/self/fd/`, a number, `/` and a name.
    const ROOM: usize = 14 + 11 + 1 + protocol::limits::MAX_NAME;

    /// Of the object that a descriptor holds.
    fn of(fd: BorrowedFd<'_>) -> Self {
        let mut bytes = [0; Self::ROOM];
        let mut rest = bytes.as_mut_slice();
        // Cannot fail: the room is enough for any number.
        let _ = write!(rest, "/proc/self/fd/{}", fd.as_raw_fd());
        let len = Self::ROOM - rest.len();
        Self { bytes, len }
    }

    /// Of the object with this name in the directory that a descriptor holds.
    fn at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Self, Errno> {
        let mut link = Self::of(dir);
        let end = link.len + 1 + name.len();
        let room = link.bytes.get_mut(link.len..end).ok_or(Errno::ENAMETOOLONG)?;
        room[0] = b'/';
        room[1..].copy_from_slice(name);
        link.len = end;
        Ok(link)
    }

    fn path(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
