//! The seam between serving requests and watching the host.
//!
//! A session tells its [`Observer`] whatever it tells its guest, on the thread that serves the
//! request; the observer (the reconciler) thereby knows what this guest believes, and which hints of
//! the host stem from the guest itself. The other way round it uses the methods of
//! [`Session`] that stand in `session/host_side.rs`.
//!
//! ```text
//! request ── before_read(dir, fd) ── stat, getdents ── told(…) ── reply      watch before read
//! request ── will(act) ── system call ── did(act, …) ── reply                own work is no news
//! hint    ── look(dir, name) ── compare with what was told ── entry(…) ── NoticeSink::notice
//! ```
//!
//! No lock of the session is held during any of these calls, so an observer may call back into the
//! session. It must not block: it runs on the request path.

use crate::session::Session;
use protocol::{Attachment, Attr, Entry, Errno, Name, NodeId, Place};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Makes the observer of each new session. Given to the server by
/// [`ServerOptions::observe`](crate::server::ServerOptions).
pub trait Observe: Send + Sync {
    /// A new session has begun. Keep only a `Weak` of it: the session owns the observer.
    fn observer(&self, session: &Arc<Session>) -> Arc<dyn Observer>;
}

/// What a guest is about to do.
#[derive(Clone, Copy, Debug)]
pub enum Act<'a> {
    /// Make an object under a new name, of any type. Also reported (with a failure) where a file
    /// was merely opened by `Create` because it was there.
    Create {
        /// The name.
        at: Place<'a>,
    },
    /// Give an object another name.
    Link {
        /// The object.
        node: NodeId,
        /// The new name.
        at: Place<'a>,
    },
    /// Remove a name.
    Remove {
        /// The name.
        at: Place<'a>,
        /// Whether by `rmdir`.
        is_dir: bool,
    },
    /// Rename.
    Rename {
        /// The old name.
        from: Place<'a>,
        /// The new name.
        to: Place<'a>,
        /// Whether the two are exchanged.
        exchange: bool,
    },
    /// Change the content: write, truncate through an open file, allocate, copy, cut on opening.
    Write {
        /// The object.
        node: NodeId,
    },
    /// Change attributes (size among them) or extended attributes.
    SetAttr {
        /// The object.
        node: NodeId,
    },
}

/// How an [`Act`] that succeeded left things.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done<'a> {
    /// The object acted on: the new, the renamed, the removed one if this guest knew it.
    pub node: Option<NodeId>,
    /// Its attributes afterwards, where the session had to find them out anyway. After a write they are
    /// those of the open file, and of two writes at once the earlier may be told last.
    pub attr: Option<&'a Attr>,
    /// What the new name of a rename led to before (with an exchange: the other object).
    pub replaced: Option<NodeId>,
}

/// What had been heard of a name when it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Glance(pub u64);

/// Follows one session. Every method but [`before_read`](Self::before_read) may be left empty.
pub trait Observer: Send + Sync {
    /// The calling thread is about to carry out a request of the guest.
    fn serving(&self) {}

    /// A directory is about to be read or looked up in, for the first time since it became known
    /// or since [`Session::unwatched`]; perhaps by several threads at once. Whatever happens in it
    /// from when this returns is to be noticed. `fd`
    /// is a descriptor of it, good for the duration of the call (on Linux an `O_PATH` one:
    /// `/proc/self/fd/N` names the directory whatever its path).
    fn before_read(&self, dir: NodeId, fd: BorrowedFd<'_>);

    /// A name is about to be looked at. Whether what is seen then still counts is told by
    /// [`is_current`](Self::is_current) and [`told`](Self::told).
    fn glance(&self, dir: NodeId, name: &[u8]) -> Glance {
        let _ = (dir, name);
        Glance::default()
    }

    /// Whether nothing has been heard of the name since it was looked at. What was seen may be old
    /// otherwise. Never waits.
    fn is_current(&self, dir: NodeId, name: &[u8], glance: Glance) -> bool {
        let _ = (dir, name, glance);
        true
    }

    /// The guest is told where a name leads: to `node` with `attr`, or nowhere. Reported for each
    /// entry of a lookup, a walk, a listing with attributes, and for whatever the guest makes.
    /// `glance` is from before the name was looked at, if the guest only looks. False where that is
    /// not current any more: the guest is not to be told then.
    fn told(&self, at: Place<'_>, what: Option<(NodeId, &Attr)>, glance: Option<Glance>) -> bool {
        let _ = (at, what, glance);
        true
    }

    /// The guest is told the attributes of a node without a name.
    fn told_attr(&self, node: NodeId, attr: &Attr) {
        let _ = (node, attr);
    }

    /// The guest is about to do this itself. Always followed by [`did`](Self::did) on the same
    /// thread. Hints of the act may arrive from here on.
    fn will(&self, act: &Act<'_>) {
        let _ = act;
    }

    /// It has done so, or failed to.
    fn did(&self, act: &Act<'_>, outcome: Result<Done<'_>, Errno>) {
        let _ = (act, outcome);
    }

    /// A node is no longer known to the guest; the number will not come back.
    fn forgotten(&self, node: NodeId) {
        let _ = node;
    }

    /// Whether the directory is watched in good health, so that the guest may keep what it was
    /// told of it until told otherwise.
    fn lease(&self, dir: NodeId) -> bool {
        let _ = dir;
        false
    }

    /// An export was attached. Its root is not watched before this returns.
    fn attached(&self, attachment: Attachment, root: &Entry) {
        let _ = (attachment, root);
    }

    /// An attachment ended; all of its nodes are gone (and not reported one by one).
    fn detached(&self, attachment: Attachment) {
        let _ = attachment;
    }

    /// The guest has delivered all changes up to this sequence number.
    fn acknowledged(&self, seq: u64) {
        let _ = seq;
    }

    /// These directories of an attachment, and files in them, are being watched in the guest, and no
    /// others.
    fn watched_by_guest(&self, attachment: Attachment, dirs: &[NodeId]) {
        let _ = (attachment, dirs);
    }

    /// The session is over.
    fn closed(&self) {}

    /// Figures for `osxfs status`: leases held, hints seen, changes sent.
    fn figures(&self) -> Figures {
        Figures::default()
    }
}

/// Figures of one observer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Directories under a lease.
    pub leases: u64,
    /// Hints of the host seen.
    pub hints: u64,
    /// Changes sent to the guest.
    pub changes: u64,
    /// Directories that the host does not watch, which are compared in turn.
    pub unwatched: u64,
    /// Leases given up in favour of other directories.
    pub given_up: u64,
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blind;

impl Observe for Blind {
    fn observer(&self, _session: &Arc<Session>) -> Arc<dyn Observer> {
        Arc::new(Self)
    }
}

impl Observer for Blind {
    fn before_read(&self, _dir: NodeId, _fd: BorrowedFd<'_>) {}
}

/// A place from bytes that came from the host; none where they are no name of the protocol.
pub fn place(parent: NodeId, name: &[u8]) -> Option<Place<'_>> {
    Name::new(name).ok().map(|name| Place { parent, name })
}
