//! The pure translation between the kernel and the protocol.
//!
//! [`begin`] makes a protocol request of a kernel request, [`finish`] makes the kernel's answer of
//! the server's reply and the same kernel request: the request itself, kept with its tag, is all
//! that is pending. Neither does I/O; both read and update the tables of the mount.
//!
//! An operation that needs more than one exchange names the rest as a [`FollowUp`].

mod dirs;
mod files;
mod locks;
mod names;
mod nodes;

pub(crate) use dirs::take_ahead;
pub(crate) use files::drop_set_id;
pub(crate) use names::led_to;

use super::abi;
use super::reply::{self, Answer};
use super::request::{Operation, Request};
use crate::ahead::Ahead;
use crate::handles::{HandleTable, Removed};
use crate::nodes::{LocalId, NodeTable, Unresolved};
use crate::rest::Moment;
use protocol::{
    Attr, AttrReply, Consistency, Entry, Errno, HandleId, NodeId, OwnershipMode, Reply, Validity,
};

/// What the export and the options of the mount decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What is promised about freshness.
    pub consistency: Consistency,
    /// How owners appear.
    pub ownership: OwnershipMode,
}

impl Policy {
    /// Whether the kernel may go by what it was told, and itself decides who may do what.
    fn kernel_decides(&self) -> bool {
        self.consistency != Consistency::Consistent && self.ownership == OwnershipMode::Host
    }
}

/// Takes what an exchange leaves over. Must neither wait nor send.
pub trait Leftovers {
    /// Lookups that the kernel is not told of.
    fn give_back(&self, node: NodeId, count: u64);
    /// Handles that nobody uses.
    fn close(&self, removed: Removed);
}

/// The tables of a mount, as translation sees them.
#[derive(Clone, Copy)]
pub struct View<'m> {
    /// Its nodes.
    pub nodes: &'m NodeTable,
    /// Its open files.
    pub handles: &'m HandleTable,
    /// What was told before it is asked for.
    pub ahead: &'m Ahead,
    /// Its rules.
    pub policy: &'m Policy,
    /// The connection that is spoken to.
    pub epoch: u32,
    /// Whether a file opened past the page cache can still be mapped and shared (Linux 6.6).
    pub maps_direct: bool,
    /// How many times changes have come: for an answer, before it was asked for.
    pub arrivals: u64,
    /// Whether a change came while the request was under way, or waits for its injection: what the
    /// answer says may be older, or newer than the kernel may know yet.
    pub overtaken: bool,
    /// What the names of the request [led to](led_to) before it was made.
    pub before: Before,
    /// And how much the guest has [done](NodeTable::acts).
    pub acts: u64,
    /// Where leftovers go.
    pub leftovers: &'m dyn Leftovers,
}

/// The node under the name that a request is about, and under the new one of a rename.
pub type Before = [Option<LocalId>; 2];

impl View<'_> {
    /// The kernel is told what a name leads to.
    fn looked_up(&self, parent: LocalId, name: &[u8], entry: &Entry) -> LocalId {
        match self.overtaken {
            true => self.nodes.found_late(parent, name, entry),
            false => self.nodes.found(parent, name, entry),
        }
    }

    /// An entry, to be believed by the kernel as long as the server says, unless it may be old.
    fn entry(&self, local: LocalId, entry: &Entry) -> abi::EntryOut {
        let valid = if self.overtaken { Validity::NONE } else { entry.valid };
        reply::entry(local.0, &Entry { valid, ..*entry })
    }

    /// The same for attributes.
    fn attr(&self, attr: &AttrReply) -> AttrReply {
        AttrReply { attr_ms: self.believed(attr.attr_ms), ..*attr }
    }

    /// Whether what the kernel asks for may be answered from what was told before: it decides who may
    /// ask, and the server tells of changes.
    pub(crate) fn may_be_ahead(&self, dir: LocalId) -> bool {
        self.policy.kernel_decides() && self.nodes.is_leased(dir)
    }

    /// The guest does something under a name, has done it, or is told of it.
    fn is_asked_for(&self, dir: LocalId, name: &[u8]) {
        if let Some(node) = self.ahead.drop_name(dir, name) {
            self.leftovers.give_back(node, 1);
        }
    }

    /// What a reply told of a file or directory to or in which something was done: the kernel will ask.
    fn told_next(&self, node: LocalId, reply: &Option<AttrReply>) {
        if let Some(reply) = reply.filter(|_| !self.overtaken) {
            self.nodes.told_next(node, &reply, self.arrivals);
        }
    }

    /// The guest has taken something away from a name.
    fn is_gone(&self, dir: LocalId, name: &[u8]) {
        if !self.overtaken && self.policy.kernel_decides() {
            self.ahead.gone(dir, name);
        }
    }

    /// Whether the guest has done nothing since the request was begun.
    fn is_latest(&self) -> bool {
        self.acts == self.nodes.acts()
    }

    /// When the request was begun.
    fn moment(&self) -> Moment {
        Moment { epoch: self.epoch, arrivals: self.arrivals, acts: self.acts }
    }

    /// The same for a time of validity.
    fn believed(&self, ms: u32) -> u32 {
        if self.overtaken { 0 } else { ms }
    }
}

/// Why no request is to be sent.
#[derive(Clone, PartialEq, Debug)]
pub enum Stop {
    /// It fails.
    Error(Errno),
    /// It is done already.
    Done,
    /// The answer is known here.
    Answer(Box<Answer<'static>>),
    /// Something belongs to an earlier connection and has to be found again first.
    Stale(Need),
}

/// What has to be found again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// A node.
    Node(LocalId),
    /// An open file.
    Handle(u64),
    /// The handle for pages of a file that was opened to append.
    Pages(u64),
}

/// How an operation goes on after a reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Finish<'r> {
    /// It is over.
    Answer(Answer<'r>),
    /// Something else has to be done first.
    Then(FollowUp),
    /// A file is open, and the kernel is given its content first.
    Fill(Fill<'r>, abi::OpenOut),
}

/// Content for the page cache of the kernel.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fill<'r> {
    /// Of this file, which is open once, and not answered to be.
    pub node: LocalId,
    /// What it was like then.
    pub attr: Attr,
    /// All of it.
    pub data: &'r [u8],
    /// The kernel has other pages of it, perhaps.
    pub replaces: bool,
}

/// What may have to be done after a reply.
#[derive(Clone, PartialEq, Debug)]
pub enum FollowUp {
    /// Make the request again, as another attempt.
    Again,
    /// Close what waits to be closed, and make the request again.
    Close,
    /// Take away set-user-id and, as the kernel would, set-group-id; then give the answer.
    DropSetId(LocalId, Answer<'static>),
    /// Take away set-group-id; then give the answer.
    DropSetGid(LocalId, Answer<'static>),
}

impl From<Answer<'static>> for Stop {
    fn from(answer: Answer<'static>) -> Self {
        Self::Answer(Box::new(answer))
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

impl View<'_> {
    fn node(&self, local: u64) -> Result<NodeId, Stop> {
        let local = LocalId(local);
        self.nodes.resolve(local).map_err(|why| stop(why, Errno::ESTALE, Need::Node(local)))
    }

    /// Whether a file or directory can be opened to be read without the server: the kernel has all of
    /// it, and decides who may.
    fn needs_no_server(&self, node: LocalId) -> bool {
        self.policy.kernel_decides() && self.nodes.is_cached(node)
    }

    fn handle(&self, fh: u64) -> Result<HandleId, Stop> {
        let found = self.handles.resolve(fh, self.epoch);
        found.map_err(|why| stop(why, Errno::EBADF, Need::Handle(fh)))
    }
}

fn stop(why: Unresolved, unknown: Errno, need: Need) -> Stop {
    match why {
        Unresolved::Unknown => unknown.into(),
        Unresolved::Stale => Stop::Stale(need),
    }
}

/// The protocol request for a kernel request. `attempt` counts [`FollowUp::Again`].
///
/// # Errors
/// [`Stop`] if nothing is to be sent.
pub fn begin<'a>(
    view: &View<'_>,
    request: &Request<'a>,
    attempt: u8,
) -> Result<protocol::Request<'a>, Stop> {
    use Operation as Op;
    let node = request.node();
    match &request.operation {
        Op::Lookup { .. }
        | Op::SymLink { .. }
        | Op::MkNod { .. }
        | Op::MkDir { .. }
        | Op::Unlink { .. }
        | Op::RmDir { .. }
        | Op::Rename { .. }
        | Op::Link { .. } => names::begin(view, node, &request.operation),
        Op::GetAttr
        | Op::Statx
        | Op::SetAttr { .. }
        | Op::ReadLink
        | Op::StatFs
        | Op::SyncFs
        | Op::Access { .. }
        | Op::SetXattr { .. }
        | Op::GetXattr { .. }
        | Op::ListXattr { .. }
        | Op::RemoveXattr { .. } => nodes::begin(view, node, &request.operation),
        Op::Open { .. }
        | Op::Create { .. }
        | Op::TmpFile { .. }
        | Op::Read { .. }
        | Op::Write { .. }
        | Op::Flush { .. }
        | Op::Release { .. }
        | Op::Fsync { .. }
        | Op::Fallocate { .. }
        | Op::Lseek { .. }
        | Op::CopyFileRange { .. } => files::begin(view, node, &request.operation, attempt),
        Op::OpenDir | Op::ReadDir { .. } | Op::ReleaseDir { .. } | Op::FsyncDir { .. } => {
            dirs::begin(view, node, &request.operation, attempt)
        }
        Op::GetLock { .. } | Op::SetLock { .. } => locks::begin(view, &request.operation),
        Op::Refused { errno } => Err((*errno).into()),
        // The session answers these itself.
        Op::Forget { .. }
        | Op::BatchForget { .. }
        | Op::Interrupt { .. }
        | Op::Init { .. }
        | Op::Destroy => Err(Errno::ENOSYS.into()),
    }
}

/// A request is about to be sent, or was answered. What was told of what it changes is not to be told the
/// kernel any more.
pub fn outdate(view: &View<'_>, request: &Request<'_>) {
    use Operation as Op;
    let node = LocalId(request.node());
    let named = view.before.iter().flatten().copied();
    match &request.operation {
        Op::Read { .. } | Op::ReadDir { .. } => view.nodes.is_used(node),
        Op::SymLink { .. }
        | Op::MkNod { .. }
        | Op::MkDir { .. }
        | Op::Create { .. }
        | Op::Unlink { .. }
        | Op::RmDir { .. }
        | Op::SetAttr { .. }
        | Op::SetXattr { .. }
        | Op::RemoveXattr { .. }
        | Op::TmpFile { .. }
        | Op::Write { .. }
        | Op::Fallocate { .. } => view.nodes.outdate(named.chain([node])),
        Op::Link { node: of, .. } => view.nodes.outdate([node, LocalId(*of)]),
        Op::Rename { new_parent, .. } => {
            view.nodes.outdate(named.chain([node, LocalId(*new_parent)]));
        }
        Op::CopyFileRange { copy, .. } => {
            let of = |fh| view.handles.opened(fh).map(|opened| opened.node);
            view.nodes.outdate([copy.fh_in, copy.fh_out].into_iter().filter_map(of));
        }
        _ => {}
    }
}

/// The kernel's answer for the server's reply.
pub fn finish<'r>(
    view: &View<'_>,
    request: &Request<'_>,
    attempt: u8,
    reply: &'r Reply<'r>,
) -> Finish<'r> {
    if let Reply::Error { errno } = reply {
        if *errno == Errno::ENODATA {
            nodes::note_missing(view, request);
        }
        let here = nodes::last_known(view, request, *errno)
            .or_else(|| dirs::open_removed(view, request, *errno));
        if let Some(answer) = here {
            return Finish::Answer(answer);
        }
        return match files::retries(view, &request.operation, attempt, *errno) {
            true => Finish::Then(FollowUp::Again),
            false => Finish::Answer(Answer::Error(*errno)),
        };
    }
    let finished = names::finish(view, request, reply)
        .or_else(|| nodes::finish(view, request, reply))
        .or_else(|| files::finish(view, request, attempt, reply))
        .or_else(|| dirs::finish(view, request, reply))
        .or_else(|| locks::finish(view, request, reply));
    finished.unwrap_or_else(|| {
        tracing::error!(
            operation = request.name(),
            reply = reply.name(),
            "the server answers something else than was asked"
        );
        Finish::Answer(Answer::Error(Errno::EIO))
    })
}

/// Whether an operation may be carried out twice without harm, if the connection was lost while it
/// was in flight. An exclusive or renaming one might fail the second time only because it had
/// succeeded the first time.
pub fn is_repeatable(view: &View<'_>, operation: &Operation<'_>) -> bool {
    use Operation as Op;
    match operation {
        Op::Lookup { .. }
        | Op::GetAttr
        | Op::Statx
        | Op::SetAttr { .. }
        | Op::ReadLink
        | Op::Read { .. }
        | Op::ReadDir { .. }
        | Op::OpenDir
        | Op::Fsync { .. }
        | Op::FsyncDir { .. }
        | Op::Lseek { .. }
        | Op::StatFs
        | Op::SyncFs
        | Op::Access { .. }
        | Op::GetXattr { .. }
        | Op::ListXattr { .. }
        | Op::GetLock { .. } => true,
        // Locks of a lost connection are gone: taking one again is taking it once.
        Op::SetLock { .. } | Op::Open { .. } => true,
        Op::Write { handle, write_flags, .. } => {
            files::writes_at_offset(view, *handle, *write_flags)
        }
        _ => false,
    }
}

/// Whether a loss of the connection has done what the operation asks for: what was open on it is
/// closed.
pub fn is_done_by_loss(operation: &Operation<'_>) -> bool {
    matches!(operation, Operation::Flush { .. })
}

#[cfg(test)]
mod tests;
