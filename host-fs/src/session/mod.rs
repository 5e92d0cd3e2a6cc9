//! One connection's view of the server: its attachments, the nodes and handles it knows.
//!
//! [`Session::handle`] takes one request to its one answer, on the thread that calls it; only a
//! lock that waits is answered later. A concern a file: `locate` finds objects, `look` looks at
//! them, `make`, `names` and `set` change them, `kept` has what was removed, `io`, `list` and
//! `lock` serve what is open,
//! `host_side` is for the reconciler.
//!
//! Lock order: `state` is a leaf, held for no system call and no call of the observer. The server's
//! lock table comes before nothing either; it is never held together with `state`.

mod handle_request;
mod host_side;
mod io;
mod kept;
mod list;
mod locate;
mod lock;
mod look;
mod make;
mod names;
mod set;
#[cfg(test)]
mod tests;

pub use host_side::Looked;

use crate::counters::SessionCounters;
use crate::export::Export;
use crate::handle::{Handle, HandleTable, Share};
use crate::node::NodeTable;
use crate::observe::{Blind, Observer};
use crate::server::{NoticeSink, Server};
use parking_lot::Mutex;
use protocol::{
    Attached, Attachment, Attr, Entry, Errno, HandleId, NodeId, Reply, Validity, limits,
};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Answers a request. Called once, on whatever thread.
pub trait Responder: Send + 'static {
    /// Takes the answer. What it borrows is gone afterwards.
    fn respond(self, reply: &Reply<'_>);
}

impl<F: FnOnce(&Reply<'_>) + Send + 'static> Responder for F {
    fn respond(self, reply: &Reply<'_>) {
        self(reply);
    }
}

/// A responder kept for later.
pub(crate) type Waiting = Box<dyn FnOnce(&Reply<'_>) + Send>;

/// One connection.
pub struct Session {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) server: Arc<Server>,
    notices: Arc<dyn NoticeSink>,
    observer: OnceLock<Arc<dyn Observer>>,
    state: Mutex<State>,
    share: Arc<Share>,
    pub(crate) counters: SessionCounters,
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    nodes: NodeTable,
    handles: HandleTable,
    attachments: Vec<Option<Root>>,
    kept: kept::KeptTable,
    /// Found, and perhaps about to be opened.
    found: kept::KeptTable,
}

/// An attachment.
#[derive(Clone)]
struct Root {
    export: Arc<Export>,
    node: NodeId,
}

impl State {
    fn root(&self, attachment: u16) -> Result<&Root, Errno> {
        self.attachments.get(usize::from(attachment)).and_then(Option::as_ref).ok_or(Errno::ESTALE)
    }
}

impl Session {
    pub(crate) fn new(
        id: u64,
        name: &str,
        server: Arc<Server>,
        notices: Arc<dyn NoticeSink>,
    ) -> Arc<Self> {
        let share = server.budget.join();
        let session = Arc::new(Self {
            id,
            name: name.to_owned(),
            server,
            notices,
            observer: OnceLock::new(),
            state: Mutex::default(),
            share,
            counters: SessionCounters::default(),
            closed: AtomicBool::new(false),
        });
        let observer = session.server.observe.observer(&session);
        // The only place that sets it.
        let _ = session.observer.set(observer);
        session
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        self.observer.get().map_or(&Blind, |observer| &**observer)
    }

    /// Files and directories that this session may hold open.
    pub fn max_handles(&self) -> u32 {
        self.share.limit() as u32
    }

    /// How many nodes and handles it has now.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.state.lock().nodes.count(), self.share.used())
    }

    fn attach(&self, name: &[u8]) -> Result<Attached, Errno> {
        let export = self.server.export(name).ok_or(Errno::ENOENT)?;
        let top = export.root();
        let stat = crate::os::stat(top.as_fd())?;
        let attr = export.attr(&stat, export.record(top.as_fd(), &stat).as_ref());
        let (attachment, node) = {
            let mut state = self.state.lock();
            let free = state.attachments.iter().position(Option::is_none);
            let at = free.unwrap_or(state.attachments.len());
            if at >= limits::MAX_ATTACHMENTS {
                return Err(Errno::EMFILE);
            }
            let node = state.nodes.root(at as u16, export.identity(&stat));
            let root = Root { export: export.clone(), node };
            match state.attachments.get_mut(at) {
                Some(slot) => *slot = Some(root),
                None => state.attachments.push(Some(root)),
            }
            (Attachment(at as u16), node)
        };
        let entry = Entry { node, attr, valid: export.validity(false, None) };
        self.observer().attached(attachment, &entry);
        self.watch_known(node);
        Ok(Attached {
            attachment,
            root: entry,
            read_only: export.config.read_only,
            ownership: export.ownership,
            consistency: export.config.consistency,
        })
    }

    fn detach(&self, attachment: Attachment) -> Result<(), Errno> {
        let (handles, kept) = {
            let state = &mut *self.state.lock();
            let slot = state.attachments.get_mut(usize::from(attachment.0));
            slot.and_then(Option::take).ok_or(Errno::EINVAL)?;
            state.nodes.detach(attachment.0);
            let nodes = &state.nodes;
            let gone = |node| nodes.get(node).is_err();
            let kept = (state.kept.take_if(gone), state.found.take_if(gone));
            (state.handles.remove_all(Some(attachment.0)), kept)
        };
        drop(kept);
        self.server.dirs.clear(self.id);
        self.drop_handles(handles);
        self.observer().detached(attachment);
        Ok(())
    }

    fn drop_handles(&self, handles: Vec<(HandleId, Handle)>) {
        for (id, handle) in handles {
            if let Handle::File(file) = handle {
                self.drop_locks_of_handle(&file, id);
            }
        }
    }

    fn forget(&self, node: NodeId, count: u64) {
        let (void, kept) = {
            let state = &mut *self.state.lock();
            let void = state.nodes.forget(node, count);
            (void, void.then(|| (state.kept.remove(node), state.found.remove(node))))
        };
        drop(kept);
        if void {
            self.server.dirs.remove(self.id, node);
            self.observer().forgotten(node);
        }
    }

    /// Ends the session: gives up nodes, handles and locks, and wakes whoever waits for those locks.
    /// Requests that arrive later are answered `ENOTCONN`. May be called more than once.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let state = std::mem::take(&mut *self.state.lock());
        self.server.dirs.clear(self.id);
        self.drop_locks_of_session();
        drop(state);
        self.observer().closed();
        self.server.ended.add(&self.counters);
        self.server.disconnect(self.id);
    }

    /// Of a name in a directory that leads nowhere, or to this node.
    fn validity(
        &self,
        export: &Export,
        parent: Option<NodeId>,
        what: Option<(NodeId, &Attr)>,
    ) -> Validity {
        // Attributes of a directory change with what happens in it.
        let watches = |dir| self.observer().lease(dir);
        let leased = parent.is_some_and(watches)
            && what.is_none_or(|(node, attr)| !attr.is_dir() || watches(node));
        export.validity(leased, what.map(|(_, attr)| attr))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}
