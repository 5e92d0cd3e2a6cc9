//! The seam between the FUSE session and the delivery of changes (`coherence`, `inject`).
//!
//! * Changes come in through a [`ChangeSink`], set once with [`Session::set_sink`](super::Session).
//! * Threads that act on the mount to make the kernel fire events register with [`Actuators`]; their
//!   requests are shown to an [`ActuatorView`] first and, where it answers, never reach the server.
//!
//! The session offers what both need: [`Session::device`](super::Session) for notifications,
//! `nodes` for numbers and paths, `give_back` for lookups that nobody wants, `delivered` for the
//! sequence numbers that are done.

use super::reply::Answer;
use super::request::{Operation, Request};
use crate::nodes::LocalId;
use parking_lot::RwLock;
use protocol::Changes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of every file that an actuator has open. No handle table gives it.
pub const ACTUATOR_FH: u64 = u64::MAX - 1;

/// Takes the changes of one mount. Every method is called on the thread that brings replies: none
/// may wait, nor use the mount, nor call the server.
pub trait ChangeSink: Send + Sync {
    /// These happened on the host, in this order. Each [`Entry`](protocol::Entry) in them carries a
    /// lookup: hand it to [`NodeTable::absorb`](crate::nodes::NodeTable) and, if the node is not
    /// known there, to `give_back`. Once delivered, or given up, call `delivered(seq)`.
    fn changes(&self, seq: u64, changes: &Changes<'_>);

    /// The kernel was told something that may be older than a change which has come meanwhile: of
    /// this directory, or of any node, and of these names in it.
    fn overtaken(&self, node: LocalId, names: Vec<(LocalId, Box<[u8]>)>);

    /// The server is back after a loss, and nobody has asked it anything: what is known is what it
    /// was before.
    fn reconnecting(&self);

    /// Requests can be made again. Numbers of changes begin again; what happened meanwhile was
    /// not told. All leases are void.
    fn reconnected(self: Arc<Self>);

    /// The connection is lost: no lease holds any more.
    fn disconnected(&self);

    /// The mount has been taken out of the tree: threads of the sink should end and let go of every
    /// descriptor on the mount, because those keep it alive. May be called more than once.
    fn unmounted(&self);
}

/// Answers the requests of actuator threads.
pub trait ActuatorView: Send + Sync {
    /// The answer to a request of the actuator thread `request.header.pid`, or nothing to let it go
    /// to the server. Called on a FUSE thread: must not wait.
    fn intercept(&self, request: &Request<'_>) -> Option<Intercepted>;

    /// Has what the kernel has cached of a file dropped, on a thread that may wait for it, and then does
    /// `then` there. Must not wait.
    fn drop_pages(&self, node: LocalId, then: Box<dyn FnOnce() + Send>);
}

/// What an actuator is answered.
#[derive(Clone, PartialEq, Debug)]
pub struct Intercepted {
    /// The answer.
    pub answer: Answer<'static>,
    /// A file that others may have been told of since the change which the answer tells: its
    /// attributes are to be [asked for anew](super::renew).
    pub renewed: Option<LocalId>,
}

/// An answer that is to be [asked for anew](super::renew).
#[derive(Clone)]
pub struct Renewal {
    /// Whose attributes.
    pub node: LocalId,
    /// The view that gave the answer.
    pub view: Arc<dyn ActuatorView>,
}

/// The registered threads. A request of any other costs one atomic load.
#[derive(Default)]
pub struct Actuators {
    count: AtomicUsize,
    threads: RwLock<Vec<(u32, Arc<dyn ActuatorView>)>>,
}

impl Actuators {
    /// From now on the requests of thread `tid` (as the mount's process id namespace numbers it) go
    /// to `view`.
    pub fn register(&self, tid: u32, view: Arc<dyn ActuatorView>) {
        let mut threads = self.threads.write();
        threads.retain(|(other, _)| *other != tid);
        threads.push((tid, view));
        self.count.store(threads.len(), Ordering::Release);
    }

    /// No longer.
    pub fn unregister(&self, tid: u32) {
        let mut threads = self.threads.write();
        threads.retain(|(other, _)| *other != tid);
        self.count.store(threads.len(), Ordering::Release);
    }

    /// What the view of the asking thread answers, if it has one that answers.
    pub fn intercept(&self, request: &Request<'_>) -> Option<(Answer<'static>, Option<Renewal>)> {
        // The kernel closes in its own time and in nobody's name.
        if let Operation::Release { handle: ACTUATOR_FH } = request.operation {
            return Some((Answer::Done, None));
        }
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let view = {
            let threads = self.threads.read();
            let (_, view) = threads.iter().find(|(tid, _)| *tid == request.header.pid)?;
            view.clone()
        };
        let Intercepted { answer, renewed } = view.intercept(request)?;
        Some((answer, renewed.map(|node| Renewal { node, view })))
    }
}

impl std::fmt::Debug for Actuators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actuators").field("count", &self.count).finish_non_exhaustive()
    }
}
