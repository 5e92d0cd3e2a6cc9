//! Injection: making the kernel fire the inotify events of a change that happened on the host.
//!
//! An *actuator* thread (the [`hand`]) performs on the mount the system call that would have made the change. The
//! kernel asks the file system, as always; for that thread the answers come from the [`past`], the
//! state before the change, and nothing reaches the server. The kernel then does to its own state
//! what the host did to its, and fires the events:
//!
//! | change | call | answered | events |
//! | --- | --- | --- | --- |
//! | created | `mknod`, `mkdir`, `symlink` | name absent; made: the real node | `CREATE` |
//! | removed | `unlink`, `rmdir` | name leads to the old node | `DELETE`, `DELETE_SELF` |
//! | renamed | `rename` | old name leads to the node, new one to what it replaces | `MOVED_FROM`, `MOVED_TO`, `MOVE_SELF` |
//! | modified | `open`, `ftruncate` to the real size, `close` | real attributes | `OPEN`, `MODIFY`, `CLOSE_WRITE` |
//! | attributes | `utimensat` with the real times | real attributes | `ATTRIB` |
//!
//! Before each call the kernel's old knowledge is declared void: pages and attributes by
//! `INVAL_INODE`, names by expiry, which leaves alone what is mounted on them. A name whose cached
//! state is known to be the one before the change is left as it is and costs no lookup.

mod hand;
mod past;
mod root;

use crate::fuse::session::Session;
use crate::nodes::LocalId;
use hand::Worker;
pub use hand::{Hand, Notice};
use past::{Deed, Past, Scene, Shown, What};
use protocol::{Attr, AttrReply, Change, Entry, Errno, NodeId, Place, mode};
pub use root::Root;
use root::errno;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use std::collections::VecDeque;
use std::sync::Arc;
use tracing::{debug, trace};

/// Files made a moment ago that are remembered, to tell a closing from a change.
const RECENT: usize = 64;

type Delivery = Result<Outcome, Errno>;

/// What came of an injection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The kernel performed it.
    Injected,
    /// The kernel does not know the directory: nobody can be watching.
    Unknown,
    /// The kernel refused. Its cached state was declared void.
    Refused(Errno),
}

/// The means of one actuator thread.
pub struct Injector {
    session: Arc<Session>,
    past: Arc<Past>,
    root: Root,
    worker: Worker,
    /// The directory acted in last.
    parent: Option<(LocalId, Arc<OwnedFd>)>,
    /// Files made lately and still as they were then.
    recent: VecDeque<LocalId>,
    fakes: u64,
    tid: u32,
}

impl Injector {
    /// Registers the calling thread, a hand, as an actuator that acts through `root`.
    fn new(session: Arc<Session>, root: Root, worker: Worker) -> Self {
        let past = Arc::new(Past::new(&session));
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        session.actuators.register(tid, past.clone());
        let recent = VecDeque::new();
        Self { session, past, root, worker, parent: None, recent, fakes: 0, tid }
    }

    /// Lets go of everything that makes the mount busy or keeps the kernel from forgetting.
    pub fn rest(&mut self) {
        self.parent = None;
        self.root.rest();
    }

    /// Makes the kernel's state that of the host and fires the events.
    pub fn deliver(&mut self, change: &Change<'_>) -> Outcome {
        trace!(?change, "delivering");
        let result = match change {
            Change::Created { at, entry, target, .. } => {
                self.created(at, entry, target.map(protocol::Target::as_bytes))
            }
            Change::Modified { at, entry, .. } => self.modified(at, entry),
            Change::Attrib { at, entry } => self.attrib(at.as_ref(), entry),
            Change::Removed { at, node, is_dir, .. } => self.removed(at, *node, *is_dir),
            Change::Renamed { from, to, entry, replaced } => {
                self.renamed(from, to, entry, *replaced)
            }
            // Nothing is to be done on the mount.
            Change::Doubt { .. } | Change::Passed { .. } => return Outcome::Unknown,
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
    pub fn deliver_exchange(&mut self, one: &Change<'_>, other: &Change<'_>) -> Outcome {
        let (Change::Renamed { from, to, entry, .. }, Change::Renamed { entry: second, .. }) =
            (one, other)
        else {
            return Outcome::Refused(Errno::EINVAL);
        };
        let nodes = &self.session.nodes;
        let (first, last) = (nodes.local(entry.node), nodes.local(second.node));
        let places = (self.place(from), self.place(to));
        let ((Some((old, name)), Some((new, new_name))), Some(first), Some(last)) =
            (places, first, last)
        else {
            self.deliver(one);
            return self.deliver(other);
        };
        let names = [(old, name, first, entry), (new, new_name, last, second)];
        self.exchanged(names).unwrap_or_else(Outcome::Refused)
    }

    fn exchanged(&mut self, names: [(LocalId, &[u8], LocalId, &Entry); 2]) -> Delivery {
        let [(old, name, first, entry), (new, new_name, last, second)] = names;
        for entry in [entry, second] {
            self.refresh(entry);
            self.keep_or_give_back(entry);
        }
        let Some(old_dir) = self.walk(old)? else { return Ok(Outcome::Unknown) };
        let Some(new_dir) = self.enter(new)? else { return Ok(Outcome::Unknown) };
        let nodes = &self.session.nodes;
        let as_before =
            nodes.child(old, name) == Some(first) && nodes.child(new, new_name) == Some(last);
        let result = self.act_twice(as_before, &[(old, name), (new, new_name)], || {
            let shown = names.map(|(dir, name, local, entry)| {
                Shown::new(dir, name, What::Now { local, entry: *entry })
            });
            let scene = Scene::of(Deed::Rename, shown.into());
            let flags = RenameFlags::EXCHANGE;
            self.act(scene, || rustix::fs::renameat_with(&old_dir, name, &new_dir, new_name, flags))
        });
        self.session.nodes.renamed((old, name), (new, new_name), true);
        if result.is_err() {
            self.expire(old, name);
        }
        self.conclude(result, new, new_name)
    }

    fn created(&mut self, at: &Place<'_>, entry: &Entry, target: Option<&[u8]>) -> Delivery {
        let Some((parent, name)) = self.place(at) else { return self.unwanted(entry) };
        let Some(dir) = self.enter(parent)? else { return self.unwanted(entry) };
        let local = self.refresh(entry);
        // Another name of a known file, whose own watchers hear of its link count.
        let other = local.filter(|_| entry.attr.kind() != mode::IFDIR).and_then(|local| {
            let (_, other) = self.session.nodes.path(local)?.pop()?;
            let from = self.session.nodes.known(local)?.parent?;
            ((from, &*other) != (parent, name)).then_some((from, other))
        });
        let source = match other {
            Some((from, other)) => self.walk(from)?.map(|from| (from, other)),
            None => None,
        };
        self.expire(parent, name);
        let mut scene = Scene::of(Deed::Make, vec![Shown::new(parent, name, What::Nothing)]);
        scene.carried = Some(*entry);
        let kind = entry.attr.kind();
        if let Some((from, other)) = source {
            let flags = AtFlags::empty();
            let result = self.act(scene, || rustix::fs::linkat(from, &*other, &dir, name, flags));
            return self.conclude(result, parent, name);
        }
        let result = self.act(scene, || match kind {
            mode::IFDIR => rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)),
            mode::IFLNK => rustix::fs::symlinkat(target.unwrap_or(b"?"), &dir, name),
            // As a device it would take the right to make one, and the event is the same.
            _ => {
                let kind = FileType::from_raw_mode(kind);
                rustix::fs::mknodat(&dir, name, kind, Mode::from_raw_mode(0o600), 0)
            }
        });
        if let (Ok(_), Some(local)) = (&result, self.session.nodes.local(entry.node)) {
            self.remember(local, &entry.attr);
        }
        self.conclude(result, parent, name)
    }

    fn removed(&mut self, at: &Place<'_>, node: NodeId, is_dir: bool) -> Delivery {
        let Some((parent, name)) = self.place(at) else { return Ok(Outcome::Unknown) };
        let local = self.session.nodes.local(node);
        let known = local.and_then(|local| self.session.nodes.known(local));
        let is_dir = known.map_or(is_dir, |known| known.mode & mode::IFMT == mode::IFDIR);
        let kind = if is_dir { mode::IFDIR | 0o700 } else { mode::IFREG | 0o600 };
        let attr = Attr {
            ino: known.map_or(u64::MAX, |known| known.ino),
            mode: known.map_or(kind, |known| known.mode),
            nlink: 1,
            ..Attr::default()
        };
        let shown = local.unwrap_or_else(|| self.fake());
        let Some(dir) = self.enter(parent)? else { return Ok(Outcome::Unknown) };
        let as_before = local.is_some() && self.session.nodes.child(parent, name) == local;
        if let Some(local) = local {
            self.session.nodes.bury(local);
        }
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let what = What::Before { local: shown, attr };
        let result = self.act_twice(as_before, &[(parent, name)], || {
            let scene = Scene::of(Deed::Remove, vec![Shown::new(parent, name, what.clone())]);
            self.act(scene, || rustix::fs::unlinkat(&dir, name, flags))
        });
        if as_before {
            self.session.nodes.unlinked(parent, name);
        }
        self.conclude(result, parent, name)
    }

    fn renamed(
        &mut self,
        from: &Place<'_>,
        to: &Place<'_>,
        entry: &Entry,
        replaced: NodeId,
    ) -> Delivery {
        let (Some((old, name)), Some((new, new_name))) = (self.place(from), self.place(to)) else {
            // Half of it is in sight.
            return match self.place(to) {
                Some(_) => self.created(to, entry, None),
                None => {
                    let known = self.session.nodes.local(entry.node).is_some();
                    let outcome = self.removed(
                        from,
                        if known { entry.node } else { NodeId(0) },
                        entry.attr.is_dir(),
                    );
                    self.unwanted(entry)?;
                    outcome
                }
            };
        };
        let Some(old_dir) = self.walk(old)? else {
            return self.unwanted(entry);
        };
        let Some(new_dir) = self.enter(new)? else { return self.unwanted(entry) };
        let nodes = &self.session.nodes;
        let local = self.refresh(entry);
        if local.is_some() {
            self.keep_or_give_back(entry);
        }
        let target = nodes.local(replaced);
        let there = nodes.child(new, new_name);
        let as_before = local.is_some()
            && nodes.child(old, name) == local
            && there == target
            && (replaced == NodeId(0)) == target.is_none();
        if let Some(target) = target {
            nodes.bury(target);
        }
        let what_was = match target.and_then(|target| Some((target, nodes.known(target)?))) {
            Some((local, known)) => {
                let attr = Attr { ino: known.ino, mode: known.mode, nlink: 1, ..Attr::default() };
                What::Before { local, attr }
            }
            None => What::Nothing,
        };
        let mut carried = local.is_none().then_some(*entry);
        let result = self.act_twice(as_before, &[(old, name), (new, new_name)], || {
            let moved = match local {
                Some(local) => What::Now { local, entry: *entry },
                None => What::Carried,
            };
            let names =
                vec![Shown::new(old, name, moved), Shown::new(new, new_name, what_was.clone())];
            let mut scene = Scene::of(Deed::Rename, names);
            scene.carried = carried.take();
            self.act(scene, || rustix::fs::renameat(&old_dir, name, &new_dir, new_name))
        });
        self.session.nodes.renamed((old, name), (new, new_name), false);
        if result.is_err() {
            self.expire(old, name);
        }
        self.conclude(result, new, new_name)
    }

    fn modified(&mut self, at: &Place<'_>, entry: &Entry) -> Delivery {
        let local = self.session.nodes.absorb(entry);
        if let Some(local) = local {
            // Whoever reads from now on reads the new content.
            self.worker.notice(Notice::Pages(local));
        }
        let is_file = entry.attr.kind() == mode::IFREG;
        let Some((parent, name)) = self.place(at).filter(|_| is_file) else {
            return self.leftover(local, entry);
        };
        let Some(dir) = self.enter(parent)? else { return self.leftover(local, entry) };
        // A new file that is closed as empty as it was made.
        let only_closed =
            entry.attr.size == 0 && local.is_some_and(|local| self.recent.contains(&local));
        let size = entry.attr.size;
        let result = self.on_node(parent, name, local, entry, || {
            let flags = OFlags::WRONLY
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::NOCTTY
                | OFlags::CLOEXEC;
            match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
                Ok(_) if only_closed => Ok(()),
                Ok(file) => rustix::fs::ftruncate(&file, size),
                // It is being executed, or this process may not write to it: the time alone.
                Err(rustix::io::Errno::TXTBSY | rustix::io::Errno::ACCESS) => {
                    let times = times(&entry.attr, false);
                    rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                }
                Err(errno) => Err(errno),
            }
        });
        if let Some(local) = local {
            self.recent.retain(|recent| *recent != local);
        }
        self.conclude(result, parent, name)
    }

    fn attrib(&mut self, at: Option<&Place<'_>>, entry: &Entry) -> Delivery {
        let local = self.session.nodes.absorb(entry);
        if let Some(local) = local {
            self.worker.notice(Notice::Attributes(local));
        }
        let times = times(&entry.attr, true);
        let Some(at) = at else {
            let Some(local) = local else { return self.leftover(local, entry) };
            let Some(dir) = self.walk(local)? else {
                return Ok(Outcome::Unknown);
            };
            let mut scene = Scene::of(Deed::Touch, Vec::new());
            scene.object = Some((local, reply(entry)));
            self.act(scene, || rustix::fs::utimensat(&dir, ".", &times, AtFlags::empty()))?;
            return Ok(Outcome::Injected);
        };
        let Some((parent, name)) = self.place(at) else { return self.leftover(local, entry) };
        let Some(dir) = self.enter(parent)? else { return self.leftover(local, entry) };
        let result = self.on_node(parent, name, local, entry, || {
            rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        });
        self.conclude(result, parent, name)
    }

    /// Acts on the object under a name that is what it is before and after.
    fn on_node(
        &self,
        parent: LocalId,
        name: &[u8],
        local: Option<LocalId>,
        entry: &Entry,
        call: impl Fn() -> rustix::io::Result<()>,
    ) -> Result<bool, Errno> {
        let as_before = local.is_some() && self.session.nodes.child(parent, name) == local;
        let mut carried = local.is_none().then_some(*entry);
        self.act_twice(as_before, &[(parent, name)], || {
            let what = match local {
                Some(local) => What::Now { local, entry: *entry },
                None => What::Carried,
            };
            let mut scene = Scene::of(Deed::Touch, vec![Shown::new(parent, name, what)]);
            scene.object = local.map(|local| (local, reply(entry)));
            scene.carried = carried.take();
            self.act(scene, &call)
        })
    }

    /// Performs a call twice at most: first as the names are cached, if that is believed to be
    /// right, and then with the names expired.
    fn act_twice(
        &self,
        as_before: bool,
        names: &[(LocalId, &[u8])],
        mut call: impl FnMut() -> Result<bool, Errno>,
    ) -> Result<bool, Errno> {
        if as_before {
            match call() {
                Ok(true) => return Ok(true),
                Ok(_) | Err(Errno::ENOENT | Errno::ESTALE | Errno::EISDIR | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        names.iter().for_each(|(parent, name)| self.expire(*parent, name));
        call()
    }

    /// Performs a call in the past.
    fn act(
        &self,
        scene: Scene,
        call: impl FnOnce() -> rustix::io::Result<()>,
    ) -> Result<bool, Errno> {
        self.past.enter(scene);
        let result = call();
        let (acted, carried) = self.past.leave();
        if let Some(entry) = carried {
            self.keep_or_give_back(&entry);
        }
        result.map(|()| acted).map_err(errno)
    }

    /// What the kernel refused to do it at least must not remember.
    fn conclude(&self, result: Result<bool, Errno>, parent: LocalId, name: &[u8]) -> Delivery {
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
                self.worker.notice(Notice::Attributes(parent));
                Err(errno)
            }
        }
    }

    fn expire(&self, parent: LocalId, name: &[u8]) {
        self.worker.notice(Notice::Name(parent, name.into()));
    }

    /// Takes over what is new of a node that the kernel knows, without the lookup of the entry.
    fn refresh(&self, entry: &Entry) -> Option<LocalId> {
        let local = self.session.nodes.local(entry.node)?;
        self.session.nodes.note_attr(local, &entry.attr);
        self.worker.notice(Notice::Attributes(local));
        Some(local)
    }

    fn place<'p>(&self, at: &Place<'p>) -> Option<(LocalId, &'p [u8])> {
        let parent = self.session.nodes.local(at.parent)?;
        Some((parent, at.name.as_bytes()))
    }

    /// A descriptor of a directory to act in. None if the kernel has lost it.
    fn enter(&mut self, dir: LocalId) -> Result<Option<Arc<OwnedFd>>, Errno> {
        if let Some((last, fd)) = &self.parent
            && *last == dir
        {
            return Ok(Some(fd.clone()));
        }
        let fd = self.walk(dir)?.map(Arc::new);
        self.parent = fd.clone().map(|fd| (dir, fd));
        Ok(fd)
    }

    fn walk(&mut self, dir: LocalId) -> Result<Option<OwnedFd>, Errno> {
        self.past.enter(Scene::walk());
        let fd = self.root.open_dir(&self.session, dir);
        self.past.leave();
        fd
    }

    fn remember(&mut self, local: LocalId, attr: &Attr) {
        if attr.kind() == mode::IFREG && attr.size == 0 {
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(local);
        }
    }

    /// A number that the table never gives.
    fn fake(&mut self) -> LocalId {
        self.fakes += 1;
        past::fake(self.fakes)
    }

    fn unwanted(&self, entry: &Entry) -> Delivery {
        self.keep_or_give_back(entry);
        Ok(Outcome::Unknown)
    }

    fn leftover(&self, local: Option<LocalId>, entry: &Entry) -> Delivery {
        match local {
            Some(_) => Ok(Outcome::Unknown),
            None => self.unwanted(entry),
        }
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

fn reply(entry: &Entry) -> AttrReply {
    AttrReply { attr: entry.attr, attr_ms: 0 }
}

/// The times that the object has. Setting both is a change of attributes, the second alone one of
/// content.
fn times(attr: &Attr, both: bool) -> Timestamps {
    let time = |time: protocol::Time| Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() };
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps {
        last_access: if both { time(attr.atime) } else { omit },
        last_modification: time(attr.mtime),
    }
}
