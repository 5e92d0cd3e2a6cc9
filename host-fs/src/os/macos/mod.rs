//! macOS 12 and later, on APFS and whatever else is mounted.
//!
//! macOS has no `O_PATH`: what comes nearest, `O_EVTONLY`, is a real open. [`hold`] tells what that
//! means for anchors. Nor has it magic links: an object is opened anew by asking the kernel for its
//! present path, walking there without symbolic links, and comparing (see [`find`]).
//!
//! Calls that take no directory descriptor on macOS (extended attributes, `mkfifo`, `mknod`, `bind`)
//! run with the thread's own working directory set to it; see [`inside`].

mod attr;
mod dir;
mod file;
mod find;
mod hold;
mod inside;
mod name;
mod process;
mod processor;
mod sys;
#[cfg(test)]
mod tests;

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

use super::darwin;
use protocol::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The wire's form of an error.
fn errno(error: rustix::io::Errno) -> Errno {
    darwin::errno::to_linux(error.raw_os_error())
}

/// The wire's form of the last error of this thread.
fn last_error() -> Errno {
    darwin::errno::to_linux(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// A directory given by the caller or found by us.
enum Dir<'a> {
    Given(BorrowedFd<'a>),
    Found(OwnedFd),
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Given(fd) => *fd,
            Self::Found(fd) => fd.as_fd(),
        }
    }
}
