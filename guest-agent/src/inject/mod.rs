//! Injection: making the kernel fire the inotify events of a change that happened on the host.
//!
//! An *actuator* thread (the [`hand`]) performs on the mount the system call that would have made the
//! change. The kernel asks the file system, as always; for that thread the answers come from the
//! [`past`], the state before the change, and nothing reaches the server. The kernel then does to its
//! own state what the host did to its, and fires the events:
//!
//! | change | call | answered | events |
//! | --- | --- | --- | --- |
//! | created | `mknod`, `mkdir`, `symlink`, `link` | name absent; made: the real node | `CREATE` |
//! | removed | `unlink`, `rmdir` | name leads to the old node | `DELETE`, `DELETE_SELF`; `ATTRIB` if it has other names |
//! | renamed | `rename` | old name leads to the node, new one to what it replaces | `MOVED_FROM`, `MOVED_TO`, `MOVE_SELF` |
//! | moved out of sight, or in | `rename` to [elsewhere](scene), or from there | the same | `MOVED_FROM` or `MOVED_TO`, `MOVE_SELF` |
//! | written and closed | `open`, `ftruncate` to the real size, `close` | real attributes | `OPEN`, `MODIFY`, `CLOSE_WRITE` |
//! | written | `utimensat` with the real time of change | real attributes | `MODIFY` |
//! | closed | `open`, `close` | real attributes | `OPEN`, `CLOSE_WRITE` |
//! | attributes | `utimensat` with both real times | real attributes | `ATTRIB` |
//! | came and went | the calls to make, change and remove it | name absent; a made-up node | `CREATE`, what else it was, `DELETE` |
//!
//! Before each call the kernel's old knowledge is declared void ([`notice`]): pages and attributes by
//! `INVAL_INODE`, names by expiry, which leaves alone what is mounted on them. A name whose cached
//! state is known to be the one before the change is left as it is and costs no lookup.

mod content;
mod hand;
mod moves;
mod names;
mod notice;
mod past;
mod root;
mod scene;

use crate::fuse::session::{Session, entry_of};
use crate::nodes::LocalId;
pub use hand::Hand;
use hand::Worker;
pub use notice::Notice;
use notice::Prepared;
use past::Past;
use protocol::{Change, Entry, Errno, NodeId, Place};
pub use root::Root;
use root::errno;
use rustix::fd::OwnedFd;
use scene::Scene;
pub(crate) use scene::made_up;
use std::sync::Arc;
use tracing::{debug, trace};

/// Directories that are kept open between changes.
const OPEN_DIRS: usize = 4;
/// How often a call is made with its names expired.
const TRIES: usize = 64;

type Delivery = Result<Outcome, Errno>;

/// What came of an injection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The kernel performed it.
    Injected,
    /// The kernel does not know the directory: nobody can be watching. Or there is nothing to fire.
    Unknown,
    /// The kernel refused. Its cached state was declared void.
    Refused(Errno),
}

/// How the kernel finds the names of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    /// As they were before the change, without asking.
    Cached,
    /// It looks them up. Whoever looked meanwhile may have had a directory moved to its new name.
    Expired,
}

/// The means of one actuator thread.
pub struct Injector {
    session: Arc<Session>,
    past: Arc<Past>,
    root: Root,
    worker: Worker,
    /// Notices to be given when the present change is through.
    notices: Vec<Notice>,
    /// The directories acted in lately, the last one first.
    dirs: Vec<(LocalId, Arc<OwnedFd>)>,
    /// Where to put what is out of sight, while it is open.
    elsewhere: Option<Arc<OwnedFd>>,
    /// The file that got or lost one of several names by the last change.
    linked: Option<LocalId>,
    /// Nodes that the kernel may come to know by the present change.
    adopted: Vec<LocalId>,
    tid: u32,
}

impl Injector {
    /// Registers the calling thread, a hand, as an actuator that acts through `root`.
    fn new(session: Arc<Session>, root: Root, worker: Worker) -> Self {
        let past = Arc::new(Past::new(&session, worker.clone()));
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        session.actuators.register(tid, past.clone());
        Self {
            session,
            past,
            root,
            worker,
            notices: Vec::new(),
            dirs: Vec::new(),
            elsewhere: None,
            linked: None,
            adopted: Vec::new(),
            tid,
        }
    }

    /// Lets go of everything that makes the mount busy or keeps the kernel from forgetting.
    fn rest(&mut self) {
        self.dirs.clear();
        self.elsewhere = None;
        self.root.rest();
    }

    /// What is to be told the kernel now that a change is through.
    fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Makes the kernel's state that of the host and fires the events.
    fn deliver(&mut self, change: &Change<'_>, prepared: Prepared) -> Outcome {
        trace!(?change, "delivering");
        let held = self.hold_nodes(change);
        let outcome = self.deliver_held(change, prepared);
        let freed = match change {
            Change::Removed { at, .. } | Change::Renamed { from: at, .. } => Some(at),
            _ => None,
        };
        self.show_covered(freed, outcome);
        self.let_go(held);
        outcome
    }

    /// Keeps what a change is about: the kernel may forget it while it is injected, and would be told
    /// of a number that nobody knows.
    fn hold_nodes(&self, change: &Change<'_>) -> [Option<LocalId>; 2] {
        let other = match change {
            Change::Removed { node, .. } => *node,
            Change::Renamed { replaced, .. } => *replaced,
            _ => NodeId(0),
        };
        let itself = entry_of(change).map(|entry| entry.node);
        [itself, Some(other)].map(|node| self.session.nodes.hold(node?))
    }

    /// The node of an entry, kept until the injection is over though the kernel may not know it yet.
    fn adopt(&mut self, (parent, name): (LocalId, &[u8]), entry: &Entry) -> LocalId {
        if let Some(local) = self.session.nodes.absorb(entry) {
            return local;
        }
        let local = self.session.nodes.found_before(parent, name, entry);
        self.adopted.push(local);
        local
    }

    fn let_go(&mut self, held: [Option<LocalId>; 2]) {
        for local in held.into_iter().flatten().chain(self.adopted.drain(..)) {
            self.session.forget(local.0, 1);
        }
    }

    fn deliver_held(&mut self, change: &Change<'_>, prepared: Prepared) -> Outcome {
        let linked = self.linked.take();
        let result = match change {
            Change::Created { at, entry, target, moved } => {
                self.created(at, entry, target.map(protocol::Target::as_bytes), *moved)
            }
            Change::Modified { at, entry, events } => self.modified(at, entry, *events, prepared),
            // Watchers of a file have heard by its other name that the number of names has changed.
            Change::Attrib { entry, .. }
                if prepared.nothing_new
                    && linked.is_some()
                    && self.session.nodes.local(entry.node) == linked =>
            {
                self.unwanted(entry)
            }
            Change::Attrib { at, entry } => self.attrib(at.as_ref(), entry, prepared),
            Change::Removed { at, node, is_dir, moved, links } => {
                self.removed(at, *node, *is_dir, *moved, *links, prepared)
            }
            Change::Renamed { from, to, entry, replaced } => {
                self.renamed(from, to, entry, *replaced, prepared)
            }
            Change::Passed { at, is_dir, events } => self.passed(at, *is_dir, *events),
            // Nothing is to be done on the mount.
            Change::Doubt { .. } => return Outcome::Unknown,
        };
        match result {
            Ok(outcome) => outcome,
            Err(errno) => {
                debug!(?change, %errno, "not injected");
                Outcome::Refused(errno)
            }
        }
    }

    /// The same for two renames that exchange two names.
    fn deliver_exchange(
        &mut self,
        one: &Change<'_>,
        other: &Change<'_>,
        prepared: Prepared,
    ) -> Outcome {
        let (Change::Renamed { from, to, entry, .. }, Change::Renamed { entry: second, .. }) =
            (one, other)
        else {
            return Outcome::Refused(Errno::EINVAL);
        };
        let nodes = &self.session.nodes;
        let any_known = nodes.local(entry.node).or(nodes.local(second.node)).is_some();
        let (Some((old, name)), Some((new, new_name)), true) =
            (self.place(from), self.place(to), any_known)
        else {
            self.deliver(one, Prepared::default());
            return self.deliver(other, Prepared::default());
        };
        let names = [(old, name, entry), (new, new_name, second)];
        let held = [one, other].map(|change| self.hold_nodes(change));
        let outcome = self.exchanged(names, prepared).unwrap_or_else(Outcome::Refused);
        self.show_covered(None, outcome);
        held.into_iter().for_each(|held| self.let_go(held));
        outcome
    }

    /// Performs a call until the kernel asks: first as the names are cached, if that is believed to
    /// be right, and then with the names expired. Whoever looks at a name in between has it cached
    /// as it is after the change, so it may take more than one.
    fn act_again(
        &self,
        prepared: Prepared,
        names: &[(LocalId, &[u8])],
        mut call: impl FnMut(Names) -> Result<bool, Errno>,
    ) -> Result<bool, Errno> {
        if prepared.as_before {
            match call(Names::Cached) {
                Ok(true) => return Ok(true),
                Ok(_) | Err(Errno::ENOENT | Errno::ESTALE | Errno::EISDIR | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno),
            }
            self.expire_now(names);
        }
        for _ in 1..TRIES {
            match call(Names::Expired) {
                Ok(false) | Err(Errno::ENOENT | Errno::EEXIST | Errno::ESTALE) => {
                    self.expire_now(names);
                }
                result => return result,
            }
        }
        call(Names::Expired)
    }

    fn expire_now(&self, names: &[(LocalId, &[u8])]) {
        for (parent, name) in names {
            self.worker.notice(Notice::Name(*parent, (*name).into()));
        }
    }

    /// Performs a call in the past. What the kernel did not take over of the scene goes back.
    fn act(
        &self,
        scene: Scene,
        call: impl FnOnce() -> rustix::io::Result<()>,
    ) -> Result<bool, Errno> {
        let (result, left) = self.perform(scene, call);
        if let Some(entry) = left {
            self.keep_or_give_back(&entry);
        }
        result
    }

    /// The same, and what the kernel did not take over is the caller's.
    fn perform(
        &self,
        scene: Scene,
        call: impl FnOnce() -> rustix::io::Result<()>,
    ) -> (Result<bool, Errno>, Option<Entry>) {
        self.past.enter(scene);
        let result = call();
        let (acted, carried) = self.past.leave();
        (result.map(|()| acted).map_err(errno), carried)
    }

    /// What the kernel refused to do it at least must not remember.
    fn conclude(&mut self, result: Result<bool, Errno>, parent: LocalId, name: &[u8]) -> Delivery {
        match result {
            Ok(true) => {
                self.session.counters.injected.add(1);
                Ok(Outcome::Injected)
            }
            Ok(false) => {
                self.expire(parent, name);
                Ok(Outcome::Refused(Errno::EAGAIN))
            }
            Err(errno) => {
                self.expire(parent, name);
                self.notices.push(Notice::Attributes(parent));
                Err(errno)
            }
        }
    }

    /// A name is not to be believed when the change is through.
    fn expire(&mut self, parent: LocalId, name: &[u8]) {
        self.notices.push(Notice::Name(parent, name.into()));
    }

    fn place<'p>(&self, at: &Place<'p>) -> Option<(LocalId, &'p [u8])> {
        let parent = self.session.nodes.local(at.parent)?;
        Some((parent, at.name.as_bytes()))
    }

    /// A descriptor of a directory to act in. None if the kernel has lost it.
    fn enter(&mut self, dir: LocalId) -> Result<Option<Arc<OwnedFd>>, Errno> {
        if let Some(at) = self.dirs.iter().position(|(open, _)| *open == dir) {
            self.dirs.get_mut(..=at).into_iter().for_each(|dirs| dirs.rotate_right(1));
            return Ok(self.dirs.first().map(|(_, fd)| fd.clone()));
        }
        self.past.enter(Scene::walk());
        let fd = self.root.open_dir(&self.session, dir);
        self.past.leave();
        let Some(fd) = fd?.map(Arc::new) else { return Ok(None) };
        self.dirs.truncate(OPEN_DIRS - 1);
        self.dirs.insert(0, (dir, fd.clone()));
        Ok(Some(fd))
    }

    fn unwanted(&self, entry: &Entry) -> Delivery {
        self.keep_or_give_back(entry);
        Ok(Outcome::Unknown)
    }

    fn keep_or_give_back(&self, entry: &Entry) {
        if self.session.nodes.absorb(entry).is_none() {
            self.session.give_back(entry.node, 1);
        }
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.session.actuators.unregister(self.tid);
    }
}
