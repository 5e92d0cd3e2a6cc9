//! Tests of the past.

use super::super::scene::{Shown, made_up, name_elsewhere};
use super::*;
use crate::client::Client;
use zerocopy::IntoBytes;

const NODE: u64 = 1;

fn session() -> Arc<Session> {
    Session::new(Client::new(), "export")
}

/// Of a hand that no worker has.
fn past(session: &Arc<Session>) -> Past {
    Past::new(session, Worker::default())
}

fn ask(past: &Past, opcode: u32, node: u64, body: &[u8]) -> Option<Answer<'static>> {
    intercept(past, opcode, node, body).map(|intercepted| intercepted.answer)
}

fn intercept(past: &Past, opcode: u32, node: u64, body: &[u8]) -> Option<Intercepted> {
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
    let past = past(&session);
    past.enter(creation());
    let absent = ask(&past, abi::opcode::LOOKUP, NODE, b"f\0");
    assert_eq!(absent, Some(Answer::Error(Errno::ENOENT)));
    let made = ask(&past, abi::opcode::MKNOD, NODE, &mknod(b"f"));
    assert!(matches!(made, Some(Answer::Entry(entry)) if entry.attr.ino == 7), "{made:?}");
    assert_eq!(past.leave(), (true, None));
    assert!(session.nodes.child(LocalId(NODE), b"f").is_some());
}

#[test]
fn a_file_that_the_kernel_knows_already_is_asked_for_anew() {
    let session = session();
    let past = past(&session);
    let make = |name: &[u8]| {
        past.enter(creation());
        let made = intercept(&past, abi::opcode::MKNOD, NODE, &mknod(name)).unwrap();
        past.leave();
        made.renewed
    };
    assert_eq!(make(b"f"), None);
    assert_eq!(make(b"other"), None, "a refusal");
    let local = session.nodes.local(made().node).unwrap();
    assert_eq!(make(b"f"), Some(local));
    let attr = protocol::AttrReply { attr: made().attr, attr_ms: 0 };
    let touch = Scene { object: Some((local, attr)), ..Scene::of(Deed::Touch, Vec::new()) };
    past.enter(touch);
    let set = abi::SetattrIn::default();
    let touched = intercept(&past, abi::opcode::SETATTR, local.0, set.as_bytes()).unwrap();
    assert_eq!(touched.renewed, Some(local));
}

#[test]
fn an_entry_that_the_kernel_does_not_take_comes_back() {
    let session = session();
    let past = past(&session);
    past.enter(creation());
    assert_eq!(past.leave(), (false, Some(made())));
}

#[test]
fn nothing_that_changes_something_goes_to_the_server() {
    let session = session();
    let past = past(&session);
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
    let past = past(&session);
    past.enter(creation());
    assert_eq!(ask(&past, abi::opcode::LOOKUP, NODE, b"g\0"), None);
    let readlink = ask(&past, abi::opcode::READLINK, NODE, &[]);
    assert_eq!(readlink, None);
}

#[test]
fn without_a_scene_the_thread_is_like_any_other() {
    let session = session();
    let past = past(&session);
    assert_eq!(ask(&past, abi::opcode::UNLINK, NODE, b"f\0"), None);
}

#[test]
fn who_is_woken_by_a_rename_finds_the_names_as_they_are_after_it() {
    let session = session();
    let past = past(&session);
    let dir = |node| {
        let attr = Attr { ino: node, mode: mode::IFDIR | 0o755, ..Attr::default() };
        Entry { node: protocol::NodeId(node), attr, valid: Validity::NONE }
    };
    let root = LocalId(NODE);
    let moved = session.nodes.found(root, b"old", &dir(7));
    let names = vec![
        Shown::new(root, b"old", What::Now { local: moved, entry: dir(7) }),
        Shown::new(root, b"new", What::Nothing),
    ];
    past.enter(Scene::of(Deed::Rename, names));
    let rename = [abi::RenameIn { newdir: NODE }.as_bytes(), b"old\0new\0"].concat();
    assert_eq!(ask(&past, abi::opcode::RENAME, NODE, &rename), Some(Answer::Done));
    let child = |name: &[u8]| session.nodes.child(root, name);
    assert_eq!((child(b"old"), child(b"new")), (None, Some(moved)));
    assert_eq!(past.leave(), (true, None));

    // The same for what is moved out of sight, and for a removal.
    let there = name_elsewhere();
    let names = vec![
        Shown::new(root, b"new", What::Before { local: moved, attr: dir(7).attr }),
        Shown::new(ELSEWHERE, &there, What::Nothing),
    ];
    past.enter(Scene::of(Deed::Rename, names));
    let rename = abi::RenameIn { newdir: ELSEWHERE.0 };
    let rename = [rename.as_bytes(), b"new\0", &there, b"\0"].concat();
    assert_eq!(ask(&past, abi::opcode::RENAME, NODE, &rename), Some(Answer::Done));
    assert_eq!((child(b"new"), session.nodes.path(moved)), (None, None));
    past.leave();
    let removed = session.nodes.found(root, b"gone", &dir(8));
    let what = What::Before { local: removed, attr: dir(8).attr };
    past.enter(Scene::of(Deed::Remove, vec![Shown::new(root, b"gone", what)]));
    assert_eq!(ask(&past, abi::opcode::RMDIR, NODE, b"gone\0"), Some(Answer::Done));
    assert_eq!(child(b"gone"), None);
}

#[test]
fn a_made_up_node_is_none_of_the_table() {
    let session = session();
    let (one, other) = (made_up(), made_up());
    assert!(session.nodes.known(one).is_none());
    assert_eq!(session.nodes.forget(one, 1), None);
    assert!(one != other && one != ELSEWHERE && name_elsewhere() != name_elsewhere());
}

#[test]
fn only_an_actuator_on_its_way_finds_elsewhere() {
    let session = session();
    let past = past(&session);
    let name = [ELSEWHERE_NAME, b"\0"].concat();
    assert_eq!(ask(&past, abi::opcode::LOOKUP, NODE, &name), None);
    past.enter(creation());
    assert_eq!(ask(&past, abi::opcode::LOOKUP, NODE, &name), None);
    past.enter(Scene::walk());
    let found = ask(&past, abi::opcode::LOOKUP, NODE, &name);
    assert!(
        matches!(found, Some(Answer::Entry(entry)) if entry.nodeid == ELSEWHERE.0),
        "{found:?}"
    );
    let empty = ask(&past, abi::opcode::LOOKUP, ELSEWHERE.0, b"f\0");
    assert_eq!(empty, Some(Answer::Error(Errno::ENOENT)));
}

#[test]
fn a_file_that_is_made_up_is_made_and_opened_at_once_and_any_other_is_not() {
    let session = session();
    let past = past(&session);
    let create = [abi::CreateIn::default().as_bytes(), b"f\0"].concat();
    past.enter(creation());
    let refused = Some(Answer::Error(Errno::EIO));
    assert_eq!(ask(&past, abi::opcode::CREATE, NODE, &create), refused);
    let local = made_up();
    let names = vec![Shown::new(LocalId(NODE), b"f", What::Nothing)];
    let made_up = Some((local, Attr::default()));
    past.enter(Scene { made_up, ..Scene::of(Deed::Make, names) });
    let made = ask(&past, abi::opcode::CREATE, NODE, &create);
    assert!(matches!(made, Some(Answer::Created(entry, _)) if entry.nodeid == local.0), "{made:?}");
    assert_eq!(session.nodes.count(), 1);
}
