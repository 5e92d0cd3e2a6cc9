//! Finding a node's object again: every descriptor of this server comes from here.
//!
//! A node says where its object was last seen. The way there is walked from the root of the export
//! (or a directory found less than a second ago), confined and without symbolic links, and what is
//! found counts only if it is the same object. If it is not, or is gone, an open handle of the node
//! tells where the object is now, and that way must lead to it in the same manner. Everything else
//! is `ESTALE`, upon which the guest looks the name up again.

use super::{Session, handle_request::Result};
use crate::export::Export;
use crate::handle::Handle;
use crate::node::{Node, Way};
use crate::os::{self, Object, Stat};
use protocol::{Errno, NodeId, limits, mode};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A directory, found.
#[derive(Clone)]
pub(super) struct Dir {
    pub fd: Arc<OwnedFd>,
    pub node: NodeId,
    pub key: (u64, u64),
    pub export: Arc<Export>,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Where a descriptor of an object comes from.
pub(super) enum Held {
    Anchor(OwnedFd),
    /// A directory, or what the guest removed or has just found.
    Dir(Arc<OwnedFd>),
    Open(Handle),
}

/// An object, found.
pub(super) struct Found {
    pub held: Held,
    pub stat: Stat,
    pub export: Arc<Export>,
    /// Its directory and its name there, if it was found by them.
    pub place: Option<(Dir, NameBuf)>,
}

impl Found {
    /// Runs something on the object.
    pub fn on<T>(&self, work: impl FnOnce(Object<'_>) -> Result<T>) -> Result<T> {
        let place = self.place.as_ref().map(|(dir, name)| (dir.as_fd(), &**name));
        let kind = self.stat.mode & mode::IFMT;
        match &self.held {
            Held::Anchor(fd) => work(Object { fd: fd.as_fd(), kind, place }),
            Held::Dir(fd) => work(Object { fd: fd.as_fd(), kind, place }),
            Held::Open(Handle::File(file)) => work(Object { fd: file.fd.as_fd(), kind, place }),
            Held::Open(Handle::Dir(dir)) => {
                let stream = dir.quiet()?;
                work(Object { fd: stream.as_fd(), kind, place })
            }
        }
    }
}

/// A copy of a name, on the stack.
#[derive(Clone, Copy)]
pub(super) struct NameBuf {
    bytes: [u8; limits::MAX_NAME],
    len: u8,
}

impl NameBuf {
    fn new(name: &[u8]) -> Result<Self> {
        let mut buf = Self { bytes: [0; limits::MAX_NAME], len: 0 };
        buf.bytes.get_mut(..name.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(name);
        buf.len = u8::try_from(name.len()).map_err(|_| Errno::ENAMETOOLONG)?;
        Ok(buf)
    }
}

impl std::ops::Deref for NameBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What `state` says of a node, copied out.
struct Known {
    node: Node,
    export: Arc<Export>,
    root: NodeId,
    open: Option<Handle>,
    /// A descriptor from when the guest removed it.
    kept: Option<Arc<OwnedFd>>,
    /// And from when it found it.
    found: Option<Arc<OwnedFd>>,
}

impl Session {
    fn known(&self, node: NodeId) -> Result<Known> {
        let state = self.state.lock();
        let found = state.nodes.get(node)?;
        let root = state.root(found.attachment)?;
        Ok(Known {
            node: found,
            export: root.export.clone(),
            root: root.node,
            open: state.handles.of_node(node),
            kept: state.kept.get(node),
            found: state.found.get(node),
        })
    }

    /// The export that a node belongs to.
    pub(super) fn export_of(&self, node: NodeId) -> Result<Arc<Export>> {
        self.known(node).map(|known| known.export)
    }

    /// Finds a directory. `ENOTDIR` for anything else.
    pub(super) fn dir(&self, node: NodeId) -> Result<Dir> {
        let known = self.known(node)?;
        if !known.node.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        let key = known.node.identity.key();
        let fd = match self.server.dirs.get(self.id, node) {
            Some(fd) => fd,
            None => {
                let fd = self.find_dir(node, &known)?;
                self.server.dirs.put(self.id, node, fd.clone());
                fd
            }
        };
        Ok(Dir { fd, node, key, export: known.export })
    }

    /// Finds a directory in which a name is to be looked up or changed. `ENOENT` where it was
    /// removed, as in any removed directory.
    pub(super) fn dir_of_name(&self, node: NodeId) -> Result<Dir> {
        match self.dir(node) {
            Err(Errno::ESTALE) if self.is_removed(node) => Err(Errno::ENOENT),
            other => other,
        }
    }

    /// Whether a directory that cannot be found is known to have no name any more. At first it is
    /// told to be stale, upon which the guest looks its way up anew; who then still comes with the
    /// same node holds it open.
    fn is_removed(&self, node: NodeId) -> bool {
        /// Above so many lost directories nobody looks.
        const FAR: usize = 64;
        let mut at = node;
        for _ in 0..FAR {
            let Ok(known) = self.known(at) else { return false };
            if known.root == at {
                return false;
            }
            let Ok(Some((parent, name))) = self.name_of(at, 0) else { return true };
            let Ok(dir) = self.dir(parent) else {
                at = parent;
                continue;
            };
            let Ok(stat) = self.stat_name(&dir, &name) else { return false };
            let same = |stat: &Stat| known.export.identity(stat) == known.node.identity;
            if !stat.as_ref().is_some_and(same) {
                self.state.lock().nodes.unname(at, parent, &name);
            }
            return false;
        }
        false
    }

    fn find_dir(&self, node: NodeId, known: &Known) -> Result<Arc<OwnedFd>> {
        if node == known.root {
            return Ok(known.export.root());
        }
        if let Some(fd) = self.server.own_mounts.covered(known.node.identity.key()) {
            return Ok(fd);
        }
        match self.find_by_name(node, known, 0) {
            Ok(Some((fd, stat))) if known.export.identity(&stat) == known.node.identity => {
                return Ok(Arc::new(fd));
            }
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE) => {}
            Err(errno) => return Err(errno),
        }
        match self.find_again(known) {
            Ok((fd, _)) => Ok(Arc::new(fd)),
            Err(errno) => known.kept.clone().ok_or(errno),
        }
    }

    /// Walks to the `at`-th name of a node. None if it has no such name.
    fn find_by_name(
        &self,
        node: NodeId,
        known: &Known,
        at: usize,
    ) -> Result<Option<(OwnedFd, Stat)>> {
        let mut path = Vec::new();
        let base = |dir: NodeId, node: &Node| {
            let near = self.server.dirs.get(self.id, dir);
            near.or_else(|| self.server.own_mounts.covered(node.identity.key()))
        };
        let way = self.state.lock().nodes.way(node, at, &mut path, base)?;
        let base = match way {
            None => return Ok(None),
            Some(Way::Base(fd)) => Some(fd),
            Some(Way::Root) => None,
        };
        let base = base.unwrap_or_else(|| known.export.root());
        let fd = os::open_beneath(base.as_fd(), &path)?;
        let stat = os::stat(fd.as_fd())?;
        Ok(Some((fd, stat)))
    }

    /// Asks an open handle where the object is now, and walks there from the root of the export.
    fn find_again(&self, known: &Known) -> Result<(OwnedFd, Stat)> {
        let open = known.open.as_ref().ok_or(Errno::ESTALE)?;
        let now = match open {
            Handle::File(file) => os::present_path(file.fd.as_fd()),
            Handle::Dir(dir) => dir.quiet().and_then(|stream| os::present_path(stream.as_fd())),
        };
        let now = now.map_err(|_| Errno::ESTALE)?;
        let top = known.export.root();
        let root = os::present_path(top.as_fd()).map_err(|_| Errno::ESTALE)?;
        let rest = now.strip_prefix(root.as_slice()).ok_or(Errno::ESTALE)?;
        let rest =
            if root == b"/" { rest } else { rest.strip_prefix(b"/").ok_or(Errno::ESTALE)? };
        let fd = os::open_beneath(top.as_fd(), rest).map_err(|_| Errno::ESTALE)?;
        let stat = os::stat(fd.as_fd())?;
        if known.export.identity(&stat) == known.node.identity {
            Ok((fd, stat))
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// Finds the object of a node of any type, to change it or to open it anew.
    pub(super) fn find(&self, node: NodeId) -> Result<Found> {
        let known = self.known(node)?;
        if known.node.is_dir() {
            let dir = self.dir(node)?;
            let stat = os::stat(dir.as_fd())?;
            return Ok(Found { held: Held::Dir(dir.fd), stat, export: dir.export, place: None });
        }
        for at in 0.. {
            let (parent, name) = match self.name_of(node, at)? {
                Some(place) => place,
                None => break,
            };
            let (fd, stat, place) = match self.dir(parent) {
                Ok(dir) => {
                    let Ok(fd) = os::open_beneath(dir.as_fd(), &name) else { continue };
                    let stat = os::stat(fd.as_fd())?;
                    (fd, stat, Some((dir, name)))
                }
                // The directory is not known to the guest any more, but its name still is to us.
                Err(_) => match self.find_by_name(node, &known, at) {
                    Ok(Some((fd, stat))) => (fd, stat, None),
                    _ => continue,
                },
            };
            if known.export.identity(&stat) == known.node.identity {
                return Ok(Found { held: Held::Anchor(fd), stat, export: known.export, place });
            }
        }
        if let Ok((fd, stat)) = self.find_again(&known) {
            return Ok(Found { held: Held::Anchor(fd), stat, export: known.export, place: None });
        }
        if let Some(fd) = known.kept {
            let stat = os::stat(fd.as_fd())?;
            return Ok(Found { held: Held::Dir(fd), stat, export: known.export, place: None });
        }
        // What has no name any more is nowhere else.
        if let Some(fd) = known.found {
            let stat = os::stat(fd.as_fd())?;
            if stat.nlink == 0 {
                return Ok(Found { held: Held::Dir(fd), stat, export: known.export, place: None });
            }
        }
        let open = known.open.ok_or(Errno::ESTALE)?;
        let Handle::File(file) = &open else { return Err(Errno::ESTALE) };
        let stat = os::stat(file.fd.as_fd())?;
        if stat.nlink > 0 {
            return Err(Errno::ESTALE);
        }
        Ok(Found { held: Held::Open(open), stat, export: known.export, place: None })
    }

    /// Finds the object of a node to see or change its attributes: where it is open, through the
    /// open file, wherever that is now.
    pub(super) fn find_attr(&self, node: NodeId) -> Result<Found> {
        let known = self.known(node)?;
        match known.open {
            Some(Handle::File(file)) => {
                let stat = os::stat(file.fd.as_fd())?;
                let held = Held::Open(Handle::File(file));
                Ok(Found { held, stat, export: known.export, place: None })
            }
            Some(Handle::Dir(dir)) => match self.find(node) {
                Ok(found) => Ok(found),
                // Removed and open.
                Err(Errno::ESTALE) => {
                    let stat = os::stat(dir.quiet()?.as_fd())?;
                    let held = Held::Open(Handle::Dir(dir));
                    Ok(Found { held, stat, export: known.export, place: None })
                }
                Err(errno) => Err(errno),
            },
            None => self.find(node),
        }
    }

    /// The `at`-th name of a node, latest first.
    pub(super) fn name_of(&self, node: NodeId, at: usize) -> Result<Option<(NodeId, NameBuf)>> {
        let state = self.state.lock();
        let place = state.nodes.nth_place(node, at)?;
        place.map(|(dir, name)| Ok((dir, NameBuf::new(name)?))).transpose()
    }

    /// State of a name in a directory, if it leads somewhere: beneath our own mounts, never on them.
    pub(super) fn stat_name(&self, dir: &Dir, name: &[u8]) -> Result<Option<Stat>> {
        let beneath = self.server.own_mounts.beneath(dir.key, name);
        let stat = match &beneath {
            Some(fd) => os::stat(fd.as_fd()),
            None => os::stat_at(dir.as_fd(), name),
        };
        match stat {
            Ok(stat) if beneath.is_none() && self.server.own_mounts.is_own(stat.dev) => {
                Err(Errno::ELOOP)
            }
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}
