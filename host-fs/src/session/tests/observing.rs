//! What the observer is told, and in which order.

use crate::observe::{Act, Done, Glance, Observe, Observer};
use crate::session::Session;
use crate::test_utils::{Host, Test, name};
use parking_lot::Mutex;
use protocol::{Attr, Errno, NodeId, OpenFlags, Place, Request};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// Writes down what it hears.
#[derive(Default)]
struct Scribe(Mutex<Vec<String>>, Mutex<Weak<Session>>);

impl Observe for Arc<Scribe> {
    fn observer(&self, session: &Arc<Session>) -> Arc<dyn Observer> {
        *self.1.lock() = Arc::downgrade(session);
        Arc::new(self.clone())
    }
}

impl Observer for Arc<Scribe> {
    fn before_read(&self, dir: NodeId, fd: BorrowedFd<'_>) {
        // The descriptor is the directory, and the session may be asked for more.
        let same = crate::os::stat(fd).map(|stat| stat.ino);
        let session = self.1.lock().upgrade();
        let known = session.and_then(|session| session.attr(dir).ok()).map(|attr| attr.ino);
        self.0.lock().push(format!("watch {}", same.ok() == known));
    }

    fn told(&self, at: Place<'_>, what: Option<(NodeId, &Attr)>, _: Option<Glance>) -> bool {
        let what = if what.is_some() { "" } else { "no " };
        self.0.lock().push(format!("told {what}{}", at.name.as_bytes().escape_ascii()));
        true
    }

    fn will(&self, act: &Act<'_>) {
        self.0.lock().push(format!("will {}", kind(act)));
    }

    fn did(&self, act: &Act<'_>, outcome: Result<Done<'_>, Errno>) {
        let outcome = outcome.map(|done| done.node.is_some());
        self.0.lock().push(format!("did {} {outcome:?}", kind(act)));
    }

    fn forgotten(&self, _node: NodeId) {
        self.0.lock().push("forgotten".into());
    }

    fn closed(&self) {
        self.0.lock().push("closed".into());
    }
}

fn kind(act: &Act<'_>) -> &'static str {
    match act {
        Act::Create { .. } => "create",
        Act::Link { .. } => "link",
        Act::Remove { .. } => "remove",
        Act::Rename { .. } => "rename",
        Act::Write { .. } => "write",
        Act::SetAttr { .. } => "set",
    }
}

fn heard(scribe: &Scribe) -> Vec<String> {
    std::mem::take(&mut *scribe.0.lock())
}

#[test]
fn a_directory_is_watched_before_it_is_read_and_acts_come_in_pairs() -> Test {
    let scribe = Arc::new(Scribe::default());
    let observe: Arc<dyn Observe> = Arc::new(scribe.clone());
    let host = Host::with_options(|_| {}, |_, options| options.observe = Some(observe));
    let guest = host.guest();
    let root = guest.root;
    assert_eq!(guest.lookup(root, "a"), Err(Errno::ENOENT));
    assert_eq!(guest.lookup(root, "a"), Err(Errno::ENOENT));
    assert_eq!(heard(&scribe), ["watch true", "told no a", "told no a"]);
    let made = guest.create(root, "a", OpenFlags::RDWR)?;
    assert_eq!(heard(&scribe), ["will create", "told a", "did create Ok(true)"]);
    guest.write(made.handle, 0, b"x")?;
    assert_eq!(heard(&scribe), ["will write", "did write Ok(true)"]);
    let (from, to) = (name("a"), name("b"));
    let flags = protocol::RenameFlags::empty();
    guest.done(&Request::Rename {
        parent: root,
        name: from,
        new_parent: root,
        new_name: to,
        flags,
    })?;
    guest.done(&Request::Unlink { parent: root, name: to })?;
    let acts = ["will rename", "did rename Ok(true)", "will remove", "did remove Ok(true)"];
    assert_eq!(heard(&scribe), acts);
    assert_eq!(
        guest.done(&Request::MkDir { parent: root, name: name(".x"), mode: 0o755, umask: 0 }),
        Ok(())
    );
    assert_eq!(
        guest.done(&Request::MkDir { parent: root, name: name(".x"), mode: 0o755, umask: 0 }),
        Err(Errno::EEXIST)
    );
    let made_dir = ["will create", "watch true", "told .x", "did create Ok(true)"];
    let acts = [&made_dir[..], &["will create", "did create Err(EEXIST)"]].concat();
    assert_eq!(heard(&scribe), acts);
    guest.session.unwatched(root);
    let handle = guest.open_dir(root)?;
    guest.data(&Request::ReadDir { handle, cookie: 0, size: 4096, plus: true })?;
    assert_eq!(heard(&scribe), ["watch true", "told .x"]);
    guest.session.give_back(made.entry.node, 1);
    guest.session.close();
    assert_eq!(heard(&scribe), ["forgotten", "closed"]);
    Ok(())
}

#[test]
fn what_the_host_renamed_is_found_when_the_session_is_told() -> Test {
    let host = Host::new();
    std::fs::create_dir(host.path("dir"))?;
    std::fs::write(host.path("dir/file"), "x")?;
    let guest = host.guest();
    let file = guest.walk("dir/file")?;
    let dir = guest.walk("dir")?.node;
    std::fs::rename(host.path("dir"), host.path("moved"))?;
    guest.session.server.dirs.clear(guest.session.id);
    assert_eq!(guest.attr(file.node), Err(Errno::ESTALE));
    let at = |text| Place { parent: guest.root, name: name(text) };
    guest.session.renamed(dir, at("dir"), at("moved"), None);
    assert_eq!(guest.attr(file.node)?.size, 1);
    assert_eq!(guest.session.place_of(dir), Some((guest.root, b"moved"[..].into())));
    let looked = guest.session.look(guest.root, b"moved")?;
    assert_eq!(looked.and_then(|looked| looked.node), Some(dir));
    guest.session.removed(dir, at("moved"));
    assert_eq!(guest.session.place_of(dir), None);
    Ok(())
}

/// Has the host rename `old` to `new` in the midst of a lookup, and hears of it before that is told.
#[derive(Default)]
struct Rival {
    session: Mutex<Weak<Session>>,
    /// The folder, and the node, until the host has done so.
    armed: Mutex<Option<(PathBuf, NodeId)>>,
    heard: Mutex<Option<NodeId>>,
    /// Before the name is entered, rather than when it is told.
    early: bool,
}

impl Rival {
    fn rename(&self) -> bool {
        let Some((folder, node)) = self.armed.lock().take() else { return true };
        let renamed = std::fs::rename(folder.join("old"), folder.join("new"));
        *self.heard.lock() = renamed.is_ok().then_some(node);
        false
    }

    fn note(&self, dir: NodeId) {
        let Some(node) = self.heard.lock().take() else { return };
        let at = |text| Place { parent: dir, name: name(text) };
        if let Some(session) = self.session.lock().upgrade() {
            session.renamed(node, at("old"), at("new"), None);
        }
    }
}

impl Observe for Arc<Rival> {
    fn observer(&self, session: &Arc<Session>) -> Arc<dyn Observer> {
        *self.session.lock() = Arc::downgrade(session);
        Arc::new(self.clone())
    }
}

impl Observer for Arc<Rival> {
    fn before_read(&self, _dir: NodeId, _fd: BorrowedFd<'_>) {}

    fn glance(&self, dir: NodeId, _name: &[u8]) -> Glance {
        self.note(dir);
        Glance::default()
    }

    fn is_current(&self, _dir: NodeId, _name: &[u8], _glance: Glance) -> bool {
        !self.early || self.rename()
    }

    fn told(&self, at: Place<'_>, _: Option<(NodeId, &Attr)>, _: Option<Glance>) -> bool {
        let is_current = self.early || self.rename();
        self.note(at.parent);
        is_current
    }
}

#[test]
fn what_was_seen_before_a_change_that_is_told_already_is_looked_at_again() -> Test {
    for early in [true, false] {
        let rival = Arc::new(Rival { early, ..Rival::default() });
        let observe: Arc<dyn Observe> = Arc::new(rival.clone());
        let host = Host::with_options(|_| {}, |_, options| options.observe = Some(observe));
        std::fs::create_dir(host.path("old"))?;
        std::fs::write(host.path("old/file"), "x")?;
        let guest = host.guest();
        let dir = guest.lookup(guest.root, "old")?.node;
        *rival.armed.lock() = Some((host.path(""), dir));
        assert_eq!(guest.lookup(guest.root, "old"), Err(Errno::ENOENT));
        // It is found by the name that it has, although the guest has not looked there.
        guest.session.server.dirs.clear(guest.session.id);
        assert_eq!(guest.session.place_of(dir), Some((guest.root, b"new"[..].into())));
        assert!(guest.session.look(dir, b"file")?.is_some());
        // The lookup that was not told counts for nothing.
        guest.session.give_back(dir, 1);
        assert!(!guest.session.knows(dir));
    }
    Ok(())
}
