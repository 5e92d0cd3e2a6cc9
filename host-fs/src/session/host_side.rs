//! What the reconciler needs of a session: to look at the host as this guest sees it, to make
//! entries for changes, and to tell the guest.

use super::{Session, handle_request::Result};
use crate::export::Export;
use crate::node::Recency;
use crate::observe::place;
use crate::os;
use crate::server::NoticeSink;
use protocol::{Attachment, Attr, Entry, Errno, NodeId, Place, mode};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// What a name leads to at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// Attributes as the guest would see them.
    pub attr: Attr,
    /// The node, if the guest knows the object (perhaps by another name).
    pub node: Option<NodeId>,
}

impl Session {
    /// Where notices for this guest go.
    pub fn notices(&self) -> &Arc<dyn NoticeSink> {
        &self.notices
    }

    /// Its number among the sessions of the server, and its name.
    pub fn label(&self) -> (u64, &str) {
        (self.id, &self.name)
    }

    /// A descriptor of a directory, found by its place now. On Linux an `O_PATH` one.
    ///
    /// # Errors
    /// `ESTALE` if it is no longer where it was known to be, `ENOTDIR` if it is no directory.
    pub fn directory(&self, dir: NodeId) -> Result<Arc<OwnedFd>> {
        self.dir(dir).map(|dir| dir.fd)
    }

    /// A descriptor of a directory opened to be listed, for comparing what is in it.
    ///
    /// # Errors
    /// As [`directory`](Self::directory), and what the host says.
    pub fn list(&self, dir: NodeId) -> Result<os::DirStream> {
        let dir = self.dir(dir)?;
        os::open_dir(dir.as_fd()).map(os::DirStream::new)
    }

    /// What a name leads to now, without counting a lookup; none if nowhere.
    ///
    /// # Errors
    /// What the host says; `ESTALE` if the directory cannot be found.
    pub fn look(&self, dir: NodeId, name: &[u8]) -> Result<Option<Looked>> {
        let dir = self.dir(dir)?;
        let Some(stat) = self.stat_name(&dir, name)? else { return Ok(None) };
        let attr = self.attr_at(&dir, name, &stat);
        Ok(Some(Looked { attr, node: self.known_as(&dir, &stat) }))
    }

    /// An entry for a change: what a name leads to now, with one lookup counted, which the guest
    /// will give back. None if nowhere. Reports [`told`](crate::observe::Observer::told).
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn entry_for(&self, dir: NodeId, name: &[u8]) -> Result<Option<Entry>> {
        let dir = self.dir(dir)?;
        match self.stat_name(&dir, name)? {
            Some(stat) => self.entry(&dir, name, &stat).map(Some),
            None => Ok(None),
        }
    }

    /// An entry of a node itself, wherever it is found (the root of an attachment, an unlinked open
    /// file), with one lookup counted.
    ///
    /// # Errors
    /// `ESTALE` if it cannot be found.
    pub fn entry_of_node(&self, node: NodeId) -> Result<Entry> {
        let found = self.find_attr(node)?;
        let attr = self.attr_of(&found)?;
        let parent = {
            let nodes = &mut self.state.lock().nodes;
            nodes.again(node)?;
            nodes.place(node)?.map(|(parent, _)| parent)
        };
        let valid = self.validity(&found.export, parent, Some((node, &attr)));
        Ok(Entry { node, attr, valid })
    }

    /// The attributes of a node now.
    ///
    /// # Errors
    /// `ESTALE` if it cannot be found.
    pub fn attr(&self, node: NodeId) -> Result<Attr> {
        self.get_attr(node).map(|reply| reply.attr)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `ESTALE` if it cannot be found, `EINVAL` if it is no link.
    pub fn target(&self, node: NodeId) -> Result<Vec<u8>> {
        let mut target = Vec::new();
        self.read_link(node, &mut target).map(|()| target)
    }

    /// The place where a node was last seen; none for a root and for what has no name left.
    pub fn place_of(&self, node: NodeId) -> Option<(NodeId, Box<[u8]>)> {
        let state = self.state.lock();
        state.nodes.place(node).ok()?.map(|(parent, name)| (parent, name.into()))
    }

    /// Whether the guest knows this node (has lookups to give back).
    pub fn knows(&self, node: NodeId) -> bool {
        self.state.lock().nodes.get(node).is_ok()
    }

    /// Whether a known node is a directory.
    pub fn is_dir(&self, node: NodeId) -> bool {
        self.state.lock().nodes.get(node).is_ok_and(|node| node.kind == mode::IFDIR)
    }

    /// The attachment of a known node.
    pub fn attachment_of(&self, node: NodeId) -> Option<Attachment> {
        self.state.lock().nodes.get(node).ok().map(|node| Attachment(node.attachment))
    }

    /// The host renamed an object that this guest knows: its node has that name from now on.
    pub fn renamed(&self, node: NodeId, from: Place<'_>, to: Place<'_>, replaced: Option<NodeId>) {
        self.note_rename(from, to, Some(node), replaced, false);
        self.server.dirs.remove(self.id, node);
    }

    /// The host removed a name of an object that this guest knows.
    pub fn removed(&self, node: NodeId, at: Place<'_>) {
        self.state.lock().nodes.unname(node, at.parent, at.name.as_bytes());
        self.server.dirs.remove(self.id, node);
    }

    /// Gives back lookups on the guest's behalf: of an entry made for a change that was not sent.
    pub fn give_back(&self, node: NodeId, count: u64) {
        self.forget(node, count);
    }

    /// A directory is no longer watched: the observer wants to hear of it again before it is read.
    pub fn unwatched(&self, dir: NodeId) {
        self.state.lock().nodes.set_watched(dir, false);
    }

    /// How often the guest has turned from one directory to another: unless it differs, nothing in
    /// [`recency`](Self::recency) does.
    pub fn uses(&self) -> u32 {
        self.state.lock().nodes.uses()
    }

    /// When the guest last made use of each of these directories.
    pub fn recency(&self, dirs: &[NodeId]) -> Vec<Recency> {
        /// So that no request waits for long.
        const AT_ONCE: usize = 1024;
        let of_some = |some: &[NodeId]| {
            let nodes = &self.state.lock().nodes;
            some.iter().map(|dir| nodes.recency(*dir)).collect::<Vec<_>>()
        };
        dirs.chunks(AT_ONCE).flat_map(of_some).collect()
    }

    /// The export of an attachment, to count for it.
    pub(crate) fn attached_export(&self, attachment: Attachment) -> Option<Arc<Export>> {
        self.state.lock().root(attachment.0).ok().map(|root| root.export.clone())
    }

    /// The root of an attachment, and the path of its folder.
    pub fn root_of(&self, attachment: Attachment) -> Option<(NodeId, PathBuf)> {
        let state = self.state.lock();
        let root = state.root(attachment.0).ok()?;
        Some((root.node, root.export.config.path.clone()))
    }

    /// Takes the folder that stands at the path of an attachment now. Tells whether it is another
    /// than this guest knew; it is not watched then.
    ///
    /// # Errors
    /// What the host says: `ENOENT` if there is none.
    pub fn follow_root(&self, attachment: Attachment) -> Result<bool> {
        let root = self.state.lock().root(attachment.0)?.clone();
        root.export.reopen()?;
        let identity = root.export.root_identity();
        {
            let nodes = &mut self.state.lock().nodes;
            if nodes.get(root.node)?.identity == identity {
                return Ok(false);
            }
            nodes.replace_root(root.node, identity)?;
        }
        self.server.dirs.clear(self.id);
        Ok(true)
    }

    /// Has a known directory watched that is not.
    pub fn watch_again(&self, dir: NodeId) {
        self.watch_known(dir);
    }

    /// A place from a directory and a name as the host lists it.
    ///
    /// # Errors
    /// `EINVAL` for what is no name (`.`, `..`, too long).
    pub fn place<'a>(&self, dir: NodeId, name: &'a [u8]) -> Result<Place<'a>> {
        place(dir, name).ok_or(Errno::EINVAL)
    }
}
