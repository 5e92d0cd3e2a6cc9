//! The past, in which an actuator thread lives: what its requests are answered.
//!
//! One call of the actuator is one [`Scene`]. Requests that belong to it are answered from it;
//! looking around (other names, other nodes) goes to the server as for anybody; everything that
//! would change something is refused, so that no mistake of ours can reach the host.
//!
//! The directories on the way may be gone from the host by now. The kernel asks for their attributes
//! and access control lists to check permissions; it is answered *void*: while it asks, what it has
//! is declared invalid, and so it takes no notice of the answer, goes on with what it remembers, and
//! asks again the next time.

use super::hand::Worker;
use super::notice::Notice;
use super::scene::{Deed, ELSEWHERE, ELSEWHERE_NAME, MADE_UP, Scene, What, elsewhere};
use crate::fuse::abi::{self, FopenFlags};
use crate::fuse::actuator::{ACTUATOR_FH, ActuatorView, Intercepted};
use crate::fuse::reply::{self, Answer};
use crate::fuse::request::{Operation as Op, Request};
use crate::fuse::session::Session;
use crate::nodes::LocalId;
use parking_lot::Mutex;
use protocol::{Attr, AttrReply, Entry, Errno, Validity, mode};
use std::sync::{Arc, Weak};

/// The view of one actuator thread. Its locks are held for no I/O but a notice about attributes,
/// which never waits; the node table's lock is taken within them.
pub struct Past {
    session: Weak<Session>,
    worker: Worker,
    scene: Mutex<Option<Scene>>,
    /// What the guest has put under a name that a scene showed to lead elsewhere, kept from being
    /// forgotten.
    covered: Mutex<Vec<LocalId>>,
}

impl Past {
    /// Of a hand that does nothing yet.
    pub fn new(session: &Arc<Session>, worker: Worker) -> Self {
        let session = Arc::downgrade(session);
        Self { session, worker, scene: Mutex::new(None), covered: Mutex::default() }
    }

    /// The thread is about to make a call.
    pub fn enter(&self, scene: Scene) {
        *self.scene.lock() = Some(scene);
    }

    /// It has made it. Tells whether the kernel asked for the deed, and gives back the entry whose
    /// lookup nobody took.
    pub fn leave(&self) -> (bool, Option<Entry>) {
        let Some(scene) = self.scene.lock().take() else { return (false, None) };
        self.worker.told(scene.told);
        (scene.acted, scene.carried)
    }
}

impl Past {
    /// What the guest has put where the scenes since the last time showed something else. Each is to be
    /// [forgotten](Session::forget) once more.
    pub fn take_covered(&self) -> Vec<LocalId> {
        std::mem::take(&mut *self.covered.lock())
    }

    /// The kernel drops what it has under a name for what the scene shows there, and with it what the
    /// guest may have put there meanwhile.
    fn cover(&self, session: &Session, scene: &Scene, parent: u64, name: &[u8]) {
        let shown = scene.index(parent, name).and_then(|index| scene.names.get(index));
        let Some(shown) = shown.and_then(|shown| shown.what.local()) else { return };
        if let Some((put, _)) = session.nodes.put_here(LocalId(parent), name)
            && put != shown
        {
            session.nodes.shown(put);
            self.covered.lock().push(put);
        }
    }
}

impl ActuatorView for Past {
    fn intercept(&self, request: &Request<'_>) -> Option<Intercepted> {
        let session = self.session.upgrade()?;
        let mut scene = self.scene.lock();
        let scene = scene.as_mut()?;
        let answer = self.answer(&session, scene, request)?;
        let renewed = renewed(&session, scene, request, &answer);
        // Where a name is looked up more is to come, which may have to wait for who is told of it.
        let last = !matches!(request.operation, Op::Lookup { .. });
        if let Some(local) = renewed.filter(|_| last) {
            session.withheld.begin(local);
            scene.told.push(local);
        }
        Some(Intercepted { answer, renewed })
    }

    fn drop_pages(&self, node: LocalId, then: Box<dyn FnOnce() + Send>) {
        self.worker.notice_then(Notice::Pages(node), then);
    }
}

impl Past {
    fn answer(
        &self,
        session: &Session,
        scene: &mut Scene,
        request: &Request<'_>,
    ) -> Option<Answer<'static>> {
        let node = request.node();
        match &request.operation {
            Op::Lookup { name } => {
                self.cover(session, scene, node, name.as_bytes());
                lookup(session, scene, node, name.as_bytes())
            }
            Op::MkNod { name, .. } | Op::MkDir { name, .. } | Op::SymLink { name, .. } => {
                Some(make(session, scene, node, name.as_bytes()))
            }
            Op::Unlink { name } | Op::RmDir { name } => {
                let wanted =
                    scene.deed == Deed::Remove && scene.index(node, name.as_bytes()) == Some(0);
                Some(done(session, scene, wanted))
            }
            Op::Rename { name, new_parent, new_name, .. } => {
                let wanted = scene.deed == Deed::Rename
                    && scene.index(node, name.as_bytes()) == Some(0)
                    && scene.index(*new_parent, new_name.as_bytes()) == Some(1);
                Some(done(session, scene, wanted))
            }
            Op::Open { .. } => Some(open(scene, node)),
            Op::SetAttr { .. } => Some(match scene.is_object(node) {
                Some(attr) => {
                    scene.acted = true;
                    Answer::Attr(reply::attr_out(&attr))
                }
                None => REFUSED,
            }),
            Op::GetAttr { .. } => match scene.is_object(node) {
                Some(attr) => Some(Answer::Attr(reply::attr_out(&attr))),
                None => match scene.made_up_attr(node) {
                    Some(attr) => Some(Answer::Attr(reply::attr_out(&lasting(node, attr)))),
                    None => void_attributes(session, LocalId(node)),
                },
            },
            Op::Statx { .. } => scene
                .is_object(node)
                .or_else(|| Some(lasting(node, scene.made_up_attr(node)?)))
                .map(|attr| reply::statx(&attr)),
            Op::GetXattr { .. } if node & MADE_UP != 0 => Some(Answer::Error(Errno::ENODATA)),
            Op::GetXattr { name, .. } if name.as_bytes().starts_with(b"system.posix_acl_") => {
                is_directory(session, LocalId(node)).then(|| {
                    make_void(session, LocalId(node));
                    Answer::Error(Errno::ENODATA)
                })
            }
            // Whether a write takes capabilities away.
            Op::GetXattr { name, .. } if name.as_bytes().starts_with(b"security.") => {
                Some(Answer::Error(Errno::ENODATA))
            }
            Op::Flush { handle: ACTUATOR_FH, .. } | Op::Fsync { handle: ACTUATOR_FH, .. } => {
                Some(Answer::Done)
            }
            Op::Link { name, .. } => Some(make(session, scene, node, name.as_bytes())),
            Op::Create { name, .. } => Some(create(scene, node, name.as_bytes())),
            Op::TmpFile { .. }
            | Op::Write { .. }
            | Op::Fallocate { .. }
            | Op::CopyFileRange { .. }
            | Op::SetXattr { .. }
            | Op::RemoveXattr { .. }
            | Op::SetLock { .. } => Some(REFUSED),
            _ => None,
        }
    }
}

const REFUSED: Answer<'static> = Answer::Error(Errno::EIO);

/// The file of which an answer says what it is like now, if the kernel may know better.
fn renewed(
    session: &Session,
    scene: &Scene,
    request: &Request<'_>,
    answer: &Answer<'_>,
) -> Option<LocalId> {
    // An entry has been counted as a lookup.
    let (local, counted) = match answer {
        Answer::Entry(entry) => (LocalId(entry.nodeid), 1),
        Answer::Attr(_) | Answer::Statx(_) => (LocalId(request.node()), 0),
        _ => return None,
    };
    let known = session.nodes.known(local).filter(|_| scene.tells_present(local))?;
    let is_file = known.mode & mode::IFMT == mode::IFREG;
    (is_file && known.lookups > counted).then_some(local)
}

fn done(session: &Session, scene: &mut Scene, wanted: bool) -> Answer<'static> {
    if !wanted {
        return REFUSED;
    }
    scene.acted = true;
    scene.follow(&session.nodes);
    Answer::Done
}

fn lookup(
    session: &Session,
    scene: &mut Scene,
    parent: u64,
    name: &[u8],
) -> Option<Answer<'static>> {
    let Some(index) = scene.index(parent, name) else {
        if parent == ELSEWHERE.0 {
            return Some(Answer::Error(Errno::ENOENT));
        }
        if parent == LocalId::ROOT.0 && name == ELSEWHERE_NAME && scene.deed == Deed::Walk {
            let valid = Validity { entry_ms: 0, attr_ms: Validity::LEASED };
            let entry = Entry { attr: elsewhere(), valid, ..Entry::default() };
            return Some(Answer::Entry(reply::entry(ELSEWHERE.0, &entry)));
        }
        let child = session.nodes.child(LocalId(parent), name)?;
        return (scene.deed == Deed::Walk)
            .then(|| before(session, child, remembered(session, child)));
    };
    let what = scene.names.get(index).map(|shown| shown.what.clone())?;
    Some(match what {
        What::Nothing => Answer::Error(Errno::ENOENT),
        What::Before { local, attr } => before(session, local, attr),
        What::Linked { local, attr } => {
            session.nodes.shown(local);
            Answer::Entry(reply::entry(local.0, &Entry { attr, ..Entry::default() }))
        }
        What::Now { local, entry } => {
            session.nodes.shown(local);
            Answer::Entry(reply::entry(local.0, &brief(&entry)))
        }
        What::Carried => {
            let Some(entry) = scene.carried.take() else { return Some(REFUSED) };
            let local = session.nodes.found(LocalId(parent), name, &entry);
            let answer = Answer::Entry(reply::entry(local.0, &brief(&entry)));
            if let Some(shown) = scene.names.get_mut(index) {
                shown.what = What::Now { local, entry };
            }
            answer
        }
    })
}

fn before(session: &Session, local: LocalId, attr: Attr) -> Answer<'static> {
    make_void(session, local);
    session.nodes.shown(local);
    Answer::Entry(reply::entry(local.0, &Entry { attr, ..Entry::default() }))
}

/// The kernel takes no notice of attributes that answer a request from before this notice.
fn make_void(session: &Session, local: LocalId) {
    // It fails where the kernel does not have the node, and then there is nothing to protect.
    _ = session.device.invalidate_inode(local.0, -1, 0);
}

fn is_directory(session: &Session, local: LocalId) -> bool {
    session.nodes.known(local).is_some_and(|known| known.mode & mode::IFMT == mode::IFDIR)
}

/// Type, number, and nothing else that is true.
fn remembered(session: &Session, local: LocalId) -> Attr {
    session.nodes.known(local).map_or_else(Attr::default, |known| Attr {
        ino: known.ino,
        mode: known.mode,
        nlink: 1,
        ..Attr::default()
    })
}

fn void_attributes(session: &Session, local: LocalId) -> Option<Answer<'static>> {
    is_directory(session, local).then(|| {
        make_void(session, local);
        let attr = remembered(session, local);
        Answer::Attr(reply::attr_out(&AttrReply { attr, attr_ms: 0 }))
    })
}

/// Attributes of what is made up. Those of the directory elsewhere never change.
fn lasting(node: u64, attr: Attr) -> AttrReply {
    let attr_ms = if node == ELSEWHERE.0 { Validity::LEASED } else { 0 };
    AttrReply { attr, attr_ms }
}

/// A change is old when it arrives: the guest may have gone on meanwhile. So what it says is good for
/// the event, and the next who looks asks the server.
fn brief(entry: &Entry) -> Entry {
    Entry { valid: Validity::NONE, ..*entry }
}

fn make(session: &Session, scene: &mut Scene, parent: u64, name: &[u8]) -> Answer<'static> {
    let wanted = scene.deed == Deed::Make && scene.index(parent, name) == Some(0);
    if let Some((local, attr)) = scene.made_up.filter(|_| wanted) {
        scene.acted = true;
        return Answer::Entry(reply::entry(local.0, &Entry { attr, ..Entry::default() }));
    }
    match scene.carried.take_if(|_| wanted) {
        Some(entry) => {
            scene.acted = true;
            let local = session.nodes.found(LocalId(parent), name, &entry);
            session.nodes.note_dropped(LocalId(parent));
            if let Some(shown) = scene.names.first_mut() {
                shown.what = What::Now { local, entry };
            }
            Answer::Entry(reply::entry(local.0, &brief(&entry)))
        }
        None => REFUSED,
    }
}

fn open(scene: &mut Scene, node: u64) -> Answer<'static> {
    if scene.is_object(node).is_none() {
        return REFUSED;
    }
    scene.acted = true;
    Answer::Opened(opened())
}

/// Only what is made up is opened while it is made.
fn create(scene: &mut Scene, parent: u64, name: &[u8]) -> Answer<'static> {
    let wanted = scene.deed == Deed::Make && scene.index(parent, name) == Some(0);
    match scene.made_up.filter(|_| wanted) {
        Some((local, attr)) => {
            scene.acted = true;
            let entry = reply::entry(local.0, &Entry { attr, ..Entry::default() });
            Answer::Created(entry, opened())
        }
        None => REFUSED,
    }
}

/// Past the page cache, which stays as it is; nothing is to be flushed.
fn opened() -> abi::OpenOut {
    let flags = FopenFlags::DIRECT_IO | FopenFlags::KEEP_CACHE | FopenFlags::NOFLUSH;
    abi::OpenOut { fh: ACTUATOR_FH, open_flags: flags.bits(), backing_id: 0 }
}

#[cfg(test)]
mod tests;
