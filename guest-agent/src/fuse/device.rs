//! `/dev/fuse`: requests in, answers and notifications out.
//!
//! One descriptor is shared by all threads of a mount: `read(2)` hands each request to exactly one
//! of them, and an answer must go to the descriptor through which its request came.

use super::abi;
use super::reply::Answer;
use protocol::{Errno, limits};
use rustix::fd::OwnedFd;
use std::io::{self, IoSlice};
use std::sync::OnceLock;
use zerocopy::IntoBytes;

/// Largest payload of a write that the kernel may send.
pub const MAX_WRITE: usize = limits::MAX_PAYLOAD;
/// Size of a buffer that takes any request: the payload and a page for everything before it.
pub const BUFFER: usize = MAX_WRITE + 4096;

/// What [`Device::read`] brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A request of so many bytes.
    Request(usize),
    /// The mount is gone.
    Unmounted,
}

/// The `/dev/fuse` of a mount. Before it is mounted there is nothing to read and to write to.
#[derive(Debug, Default)]
pub struct Device {
    fd: OnceLock<OwnedFd>,
}

impl Device {
    /// `fd` is an open `/dev/fuse` that has been mounted. Later ones are dropped.
    pub fn mounted(&self, fd: OwnedFd) {
        let _ = self.fd.set(fd);
    }

    /// Waits for the next request. `buffer` must have [`BUFFER`] bytes.
    ///
    /// # Errors
    /// What the kernel says, but for what stands for "try again" or for the end of the mount.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Incoming> {
        use rustix::io::Errno as E;
        let Some(fd) = self.fd.get() else { return Ok(Incoming::Unmounted) };
        loop {
            match rustix::io::read(fd, &mut *buffer) {
                Ok(0) | Err(E::NODEV) => return Ok(Incoming::Unmounted),
                Ok(len) => return Ok(Incoming::Request(len)),
                // NOENT: the request was taken back before it was read.
                Err(E::INTR | E::NOENT | E::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Answers the request `unique`.
    ///
    /// # Errors
    /// `ENOENT` if the kernel no longer waits for it; the answer has then not been taken, and with
    /// it no lookup and no open file.
    pub fn reply(&self, unique: u64, answer: &Answer<'_>) -> Result<(), Errno> {
        let fixed = answer.fixed();
        self.write(unique, answer.error(), fixed.as_bytes(), answer.payload())
    }

    /// Drops the cached attributes of a node and the cached pages from `offset` on (a negative
    /// offset leaves the pages alone). `len` 0 is up to the end. May wait for pages that are being
    /// written or read. Fires no event.
    ///
    /// # Errors
    /// `ENOENT` if the kernel does not have the node.
    pub fn invalidate_inode(&self, node: u64, offset: i64, len: i64) -> Result<(), Errno> {
        let out = abi::NotifyInvalInodeOut { ino: node, off: offset, len };
        self.write(0, abi::notify::INVAL_INODE, out.as_bytes(), &[])
    }

    /// Puts bytes from the beginning of a file into the page cache, where they are taken for its content.
    /// A file that is shorter in the kernel becomes as long. Waits for pages that are being read or
    /// written: only for a file whose pages nobody can be asking for.
    ///
    /// # Errors
    /// `ENOENT` if the kernel does not have the node, `ENOMEM`.
    pub fn store(&self, node: u64, data: &[u8]) -> Result<(), Errno> {
        let size = data.len() as u32;
        let out = abi::NotifyStoreOut { nodeid: node, offset: 0, size, padding: 0 };
        self.write(0, abi::notify::STORE, out.as_bytes(), data)
    }

    /// Drops a name at once. **Detaches whatever is mounted below it**: use
    /// [`expire_entry`](Self::expire_entry) where that may be. Waits for operations in `parent`.
    ///
    /// # Errors
    /// `ENOENT` if the kernel has no such name cached.
    pub fn invalidate_entry(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        self.notify_entry(parent, name, 0)
    }

    /// Lets a name expire: it is looked up again at its next use. Needs a kernel that announced
    /// `HAS_EXPIRE_ONLY` (7.38). Waits for operations in `parent`.
    ///
    /// # Errors
    /// `ENOENT` if the kernel has no such name cached.
    pub fn expire_entry(&self, parent: u64, name: &[u8]) -> Result<(), Errno> {
        self.notify_entry(parent, name, abi::notify::EXPIRE_ONLY)
    }

    /// Has the kernel forget what it remembers of nodes and nobody uses: of a directory only if nothing
    /// below is remembered. Detaches no mount, fires no event. Needs 7.45.
    ///
    /// # Errors
    /// What the kernel says. That it does not have a node is no error.
    pub fn prune(&self, nodes: &[u64]) -> Result<(), Errno> {
        let out = abi::NotifyPruneOut { count: nodes.len() as u32, ..Default::default() };
        self.write(0, abi::notify::PRUNE, out.as_bytes(), nodes.as_bytes())
    }

    fn notify_entry(&self, parent: u64, name: &[u8], flags: u32) -> Result<(), Errno> {
        let out = abi::NotifyInvalEntryOut { parent, namelen: name.len() as u32, flags };
        self.notify_named(abi::notify::INVAL_ENTRY, out.as_bytes(), name)
    }

    /// Names end with a NUL that `namelen` does not count.
    fn notify_named(&self, code: i32, out: &[u8], name: &[u8]) -> Result<(), Errno> {
        let mut terminated = Vec::with_capacity(name.len() + 1);
        terminated.extend_from_slice(name);
        terminated.push(0);
        self.write(0, code, out, &terminated)
    }

    fn write(&self, unique: u64, error: i32, fixed: &[u8], payload: &[u8]) -> Result<(), Errno> {
        let len = (size_of::<abi::OutHeader>() + fixed.len() + payload.len()) as u32;
        let header = abi::OutHeader { len, error, unique };
        let slices = [IoSlice::new(header.as_bytes()), IoSlice::new(fixed), IoSlice::new(payload)];
        // Empty slices at the end would only cost time.
        let used = if !payload.is_empty() { 3 } else { 1 + usize::from(!fixed.is_empty()) };
        let Some(fd) = self.fd.get() else { return Err(Errno::ENODEV) };
        loop {
            match rustix::io::writev(fd, &slices[..used]) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Errno::from_raw(error.raw_os_error())),
            }
        }
    }
}
