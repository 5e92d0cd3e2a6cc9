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

use crate::fuse::abi::{self, FopenFlags};
use crate::fuse::actuator::ActuatorView;
use crate::fuse::reply::{self, Answer};
use crate::fuse::request::{Operation as Op, Request};
use crate::fuse::session::Session;
use crate::nodes::LocalId;
use parking_lot::Mutex;
use protocol::{Attr, AttrReply, Entry, Errno, Validity, mode};
use std::sync::{Arc, Weak};

/// The number of the file that an actuator opens. No handle table gives it.
const FH: u64 = u64::MAX - 1;

/// Made-up node `count`: for what is removed and was never looked up. The kernel forgets it with
/// the call; the table does not know it.
pub fn fake(count: u64) -> LocalId {
    LocalId(1 << 63 | count << 1 >> 1)
}

/// Where a name leads.
#[derive(Clone, Debug)]
pub enum What {
    /// Nowhere.
    Nothing,
    /// To a node that is about to go, as far as it is remembered. What the kernel has of its
    /// attributes is declared void while it asks, so that these are not taken for true.
    Before {
        /// The node.
        local: LocalId,
        /// Type, and whatever.
        attr: Attr,
    },
    /// To a node as it is now.
    Now {
        /// The node.
        local: LocalId,
        /// Its present state.
        entry: Entry,
    },
    /// To the node of the entry that the scene carries, which becomes known to the kernel by this.
    Carried,
}

/// One name in the past.
#[derive(Clone, Debug)]
pub struct Shown {
    parent: LocalId,
    name: Box<[u8]>,
    what: What,
}

impl Shown {
    /// `name` in `parent` leads to `what`.
    pub fn new(parent: LocalId, name: &[u8], what: What) -> Self {
        Self { parent, name: name.into(), what }
    }
}

/// What a scene's call is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Make the first name lead to the carried entry.
    Make,
    /// Remove the first name.
    Remove,
    /// Rename the first name to the second.
    Rename,
    /// Open or set attributes of the object.
    Touch,
    /// Go to a directory.
    Walk,
}

/// One call's view of the world.
#[derive(Debug)]
pub struct Scene {
    /// What it does.
    pub deed: Deed,
    /// The names it is about.
    pub names: Vec<Shown>,
    /// The node that is opened, and its present attributes.
    pub object: Option<(LocalId, AttrReply)>,
    /// An entry whose lookup the kernel may still take over.
    pub carried: Option<Entry>,
    /// Whether the kernel asked for the deed.
    acted: bool,
}

impl Scene {
    /// A scene of these names.
    pub fn of(deed: Deed, names: Vec<Shown>) -> Self {
        Self { deed, names, object: None, carried: None, acted: false }
    }

    /// A scene of the way to a directory.
    pub fn walk() -> Self {
        Self::of(Deed::Walk, Vec::new())
    }

    fn index(&self, parent: u64, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|shown| shown.parent.0 == parent && *shown.name == *name)
    }

    fn is_object(&self, node: u64) -> Option<AttrReply> {
        self.object.filter(|(local, _)| local.0 == node).map(|(_, reply)| reply)
    }
}

/// The view of one actuator thread. One lock, held for no I/O but a notice about attributes, which
/// never waits; the node table's lock is taken within it.
pub struct Past {
    session: Weak<Session>,
    scene: Mutex<Option<Scene>>,
}

impl Past {
    /// Of a thread that does nothing yet.
    pub fn new(session: &Arc<Session>) -> Self {
        Self { session: Arc::downgrade(session), scene: Mutex::new(None) }
    }

    /// The thread is about to make a call.
    pub fn enter(&self, scene: Scene) {
        *self.scene.lock() = Some(scene);
    }

    /// It has made it. Tells whether the kernel asked for the deed, and gives back the entry whose
    /// lookup nobody took.
    pub fn leave(&self) -> (bool, Option<Entry>) {
        match self.scene.lock().take() {
            Some(scene) => (scene.acted, scene.carried),
            None => (false, None),
        }
    }
}

impl ActuatorView for Past {
    fn intercept(&self, request: &Request<'_>) -> Option<Answer<'static>> {
        let session = self.session.upgrade()?;
        let mut scene = self.scene.lock();
        let scene = scene.as_mut()?;
        let node = request.node();
        match &request.operation {
            Op::Lookup { name } => lookup(&session, scene, node, name.as_bytes()),
            Op::MkNod { name, .. } | Op::MkDir { name, .. } | Op::SymLink { name, .. } => {
                Some(make(&session, scene, node, name.as_bytes()))
            }
            Op::Unlink { name } | Op::RmDir { name } => {
                let wanted =
                    scene.deed == Deed::Remove && scene.index(node, name.as_bytes()) == Some(0);
                Some(done(scene, wanted))
            }
            Op::Rename { name, new_parent, new_name, .. } => {
                let wanted = scene.deed == Deed::Rename
                    && scene.index(node, name.as_bytes()) == Some(0)
                    && scene.index(*new_parent, new_name.as_bytes()) == Some(1);
                Some(done(scene, wanted))
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
                None => void_attributes(&session, LocalId(node)),
            },
            Op::Statx { .. } => scene.is_object(node).map(|attr| reply::statx(&attr)),
            Op::GetXattr { name, .. } if name.as_bytes().starts_with(b"system.posix_acl_") => {
                is_directory(&session, LocalId(node)).then(|| {
                    make_void(&session, LocalId(node));
                    Answer::Error(Errno::ENODATA)
                })
            }
            // Whether a write takes capabilities away.
            Op::GetXattr { name, .. } if name.as_bytes().starts_with(b"security.") => {
                Some(Answer::Error(Errno::ENODATA))
            }
            Op::Flush { handle: FH, .. }
            | Op::Release { handle: FH }
            | Op::Fsync { handle: FH, .. } => Some(Answer::Done),
            Op::Link { name, .. } => Some(make(&session, scene, node, name.as_bytes())),
            Op::Create { .. }
            | Op::TmpFile { .. }
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

fn done(scene: &mut Scene, wanted: bool) -> Answer<'static> {
    scene.acted |= wanted;
    if wanted { Answer::Done } else { REFUSED }
}

fn lookup(
    session: &Session,
    scene: &mut Scene,
    parent: u64,
    name: &[u8],
) -> Option<Answer<'static>> {
    let Some(index) = scene.index(parent, name) else {
        let child = session.nodes.child(LocalId(parent), name)?;
        return (scene.deed == Deed::Walk)
            .then(|| before(session, child, remembered(session, child)));
    };
    let what = scene.names.get(index).map(|shown| shown.what.clone())?;
    Some(match what {
        What::Nothing => Answer::Error(Errno::ENOENT),
        What::Before { local, attr } => before(session, local, attr),
        What::Now { local, entry } => {
            session.nodes.shown(local);
            Answer::Entry(reply::entry(local.0, &brief(&entry)))
        }
        What::Carried => {
            let Some(entry) = scene.carried.take() else { return Some(REFUSED) };
            let local = session.nodes.found(LocalId(parent), name, &entry);
            if scene.deed == Deed::Touch {
                let attr = AttrReply { attr: entry.attr, attr_ms: 0 };
                scene.object = Some((local, attr));
            }
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

/// A change is old when it arrives: the guest may have gone on meanwhile. So what it says is good for
/// the event, and the next who looks asks the server.
fn brief(entry: &Entry) -> Entry {
    Entry { valid: Validity::NONE, ..*entry }
}

fn make(session: &Session, scene: &mut Scene, parent: u64, name: &[u8]) -> Answer<'static> {
    let wanted = scene.deed == Deed::Make && scene.index(parent, name) == Some(0);
    match scene.carried.take_if(|_| wanted) {
        Some(entry) => {
            scene.acted = true;
            let local = session.nodes.found(LocalId(parent), name, &entry);
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
    // Past the page cache, which stays as it is; nothing is to be flushed.
    let flags = FopenFlags::DIRECT_IO | FopenFlags::KEEP_CACHE | FopenFlags::NOFLUSH;
    Answer::Opened(abi::OpenOut { fh: FH, open_flags: flags.bits(), backing_id: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use zerocopy::IntoBytes;

    const NODE: u64 = 1;

    fn session() -> Arc<Session> {
        Session::new(Client::new(), "export")
    }

    fn ask(past: &Past, opcode: u32, node: u64, body: &[u8]) -> Option<Answer<'static>> {
        let len = (size_of::<abi::InHeader>() + body.len()) as u32;
        let header = abi::InHeader { len, opcode, unique: 2, nodeid: node, ..Default::default() };
        let bytes = [header.as_bytes(), body].concat();
        let request = Request::parse(&bytes, Default::default()).unwrap();
        past.intercept(&request)
    }

    fn made() -> Entry {
        let attr = Attr { ino: 7, mode: protocol::mode::IFREG | 0o644, ..Attr::default() };
        Entry { node: protocol::NodeId(7), attr, valid: Validity::NONE }
    }

    fn creation() -> Scene {
        let names = vec![Shown::new(LocalId(NODE), b"f", What::Nothing)];
        Scene { carried: Some(made()), ..Scene::of(Deed::Make, names) }
    }

    fn mknod(name: &[u8]) -> Vec<u8> {
        [abi::MknodIn { mode: 0o100_600, ..Default::default() }.as_bytes(), name, b"\0"].concat()
    }

    #[test]
    fn a_file_to_be_created_is_absent_and_then_the_real_one() {
        let session = session();
        let past = Past::new(&session);
        past.enter(creation());
        let absent = ask(&past, abi::opcode::LOOKUP, NODE, b"f\0");
        assert_eq!(absent, Some(Answer::Error(Errno::ENOENT)));
        let made = ask(&past, abi::opcode::MKNOD, NODE, &mknod(b"f"));
        assert!(matches!(made, Some(Answer::Entry(entry)) if entry.attr.ino == 7), "{made:?}");
        assert_eq!(past.leave(), (true, None));
        assert!(session.nodes.child(LocalId(NODE), b"f").is_some());
    }

    #[test]
    fn an_entry_that_the_kernel_does_not_take_comes_back() {
        let session = session();
        let past = Past::new(&session);
        past.enter(creation());
        assert_eq!(past.leave(), (false, Some(made())));
    }

    #[test]
    fn nothing_that_changes_something_goes_to_the_server() {
        let session = session();
        let past = Past::new(&session);
        past.enter(creation());
        let refused = Some(Answer::Error(Errno::EIO));
        assert_eq!(ask(&past, abi::opcode::MKNOD, NODE, &mknod(b"other")), refused);
        assert_eq!(ask(&past, abi::opcode::UNLINK, NODE, b"f\0"), refused);
        assert_eq!(ask(&past, abi::opcode::RMDIR, NODE, b"f\0"), refused);
        let set = abi::SetattrIn::default();
        assert_eq!(ask(&past, abi::opcode::SETATTR, NODE, set.as_bytes()), refused);
        let write = abi::WriteIn::default();
        assert_eq!(ask(&past, abi::opcode::WRITE, NODE, write.as_bytes()), refused);
    }

    #[test]
    fn looking_at_other_names_goes_to_the_server() {
        let session = session();
        let past = Past::new(&session);
        past.enter(creation());
        assert_eq!(ask(&past, abi::opcode::LOOKUP, NODE, b"g\0"), None);
        let readlink = ask(&past, abi::opcode::READLINK, NODE, &[]);
        assert_eq!(readlink, None);
    }

    #[test]
    fn without_a_scene_the_thread_is_like_any_other() {
        let session = session();
        let past = Past::new(&session);
        assert_eq!(ask(&past, abi::opcode::UNLINK, NODE, b"f\0"), None);
    }

    #[test]
    fn a_made_up_node_is_none_of_the_table() {
        let session = session();
        assert!(session.nodes.known(fake(1)).is_none());
        assert_eq!(session.nodes.forget(fake(1), 1), None);
        assert_ne!(fake(1), fake(2));
    }
}
