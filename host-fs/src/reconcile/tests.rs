//! Each rule of the reconciler, named as a sentence.

use super::*;
use crate::watch::Kinds;
use protocol::{Validity, mode};
use std::collections::{BTreeMap, HashSet};

const ROOT: NodeId = NodeId(1);
const SUB: NodeId = NodeId(2);

/// A host of a few files: what stands where, and which nodes the guest knows.
#[derive(Default)]
struct Host {
    names: BTreeMap<(u64, Vec<u8>), Attr>,
    known: HashSet<u64>,
    clock: i64,
}

impl Host {
    fn stamp(&mut self) -> Time {
        self.clock += 1;
        Time { sec: 1000 + self.clock, nsec: 0 }
    }

    fn put(&mut self, dir: NodeId, name: &str, ino: u64, kind: u32) -> Attr {
        let now = self.stamp();
        let attr =
            Attr { ino, mode: kind | 0o644, nlink: 1, mtime: now, ctime: now, ..Attr::default() };
        self.names.insert((dir.0, name.into()), attr);
        attr
    }

    fn file(&mut self, name: &str, ino: u64) -> Attr {
        self.put(ROOT, name, ino, mode::IFREG)
    }

    fn attr(&mut self, name: &str) -> &mut Attr {
        self.names.get_mut(&(ROOT.0, name.into())).unwrap()
    }

    fn write(&mut self, name: &str) -> Attr {
        let now = self.stamp();
        let attr = self.attr(name);
        attr.size += 1;
        (attr.mtime, attr.ctime) = (now, now);
        *attr
    }

    fn chmod(&mut self, name: &str, mode: u32) -> Attr {
        let now = self.stamp();
        let attr = self.attr(name);
        (attr.mode, attr.ctime) = (attr.kind() | mode, now);
        *attr
    }

    fn touch(&mut self, name: &str) -> Attr {
        let now = self.stamp();
        let attr = self.attr(name);
        (attr.mtime, attr.ctime) = (now, now);
        *attr
    }

    fn set_xattr(&mut self, name: &str) -> Attr {
        let now = self.stamp();
        self.attr(name).ctime = now;
        *self.attr(name)
    }

    fn rename(&mut self, from: (NodeId, &str), to: (NodeId, &str)) {
        let attr = self.names.remove(&(from.0.0, from.1.into())).unwrap();
        self.names.insert((to.0.0, to.1.into()), attr);
    }

    fn remove(&mut self, name: &str) {
        self.names.remove(&(ROOT.0, name.into())).unwrap();
    }
}

impl Lookup for Host {
    fn look(&mut self, dir: NodeId, name: &[u8]) -> Looked {
        match self.names.get(&(dir.0, name.into())) {
            Some(attr) => {
                let node = self.known.contains(&attr.ino).then_some(NodeId(attr.ino));
                Looked::There { node, attr: *attr }
            }
            None => Looked::Absent,
        }
    }

    fn entry(&mut self, dir: NodeId, name: &[u8]) -> Option<Entry> {
        let attr = *self.names.get(&(dir.0, name.into()))?;
        self.known.insert(attr.ino);
        Some(Entry { node: NodeId(attr.ino), attr, valid: Validity::NONE })
    }

    fn entry_of(&mut self, node: NodeId) -> Option<Entry> {
        let attr = self.names.values().find(|attr| attr.ino == node.0).copied();
        Some(Entry { node, attr: attr.unwrap_or_default(), valid: Validity::NONE })
    }

    fn target(&mut self, _node: NodeId) -> Option<Box<[u8]>> {
        Some(Box::from(*b"target"))
    }
}

/// A reconciler, its host and its clock.
struct Scene {
    host: Host,
    core: Reconciler,
    now: Instant,
}

fn at(dir: NodeId, name: &str) -> Place<'_> {
    Place { parent: dir, name: protocol::Name::new(name.as_bytes()).unwrap() }
}

impl Scene {
    /// The guest knows the root and `sub`, and the files `names` in the root, with inode numbers
    /// from 10 on.
    fn with(names: &[&str]) -> Self {
        let mut scene =
            Self { host: Host::default(), core: Reconciler::default(), now: Instant::now() };
        scene.core.watched(ROOT);
        scene.core.watched(SUB);
        let sub = scene.host.put(ROOT, "sub", SUB.0, mode::IFDIR);
        scene.tell(ROOT, "sub", &sub);
        for (index, name) in names.iter().enumerate() {
            let attr = scene.host.file(name, 10 + index as u64);
            scene.tell(ROOT, name, &attr);
        }
        scene
    }

    /// Long after anything on the host happened.
    fn wall() -> Time {
        Time { sec: 1_000_000, nsec: 0 }
    }

    fn tell(&mut self, dir: NodeId, name: &str, attr: &Attr) {
        self.host.known.insert(attr.ino);
        self.core.told(at(dir, name), Some((NodeId(attr.ino), attr)), Self::wall());
    }

    fn full_hint(&mut self, dir: NodeId, name: &str, kinds: Kinds, cookie: u32) {
        let hint = Hint {
            dir: crate::watch::WatchKey(dir),
            name: Some(name.as_bytes().into()),
            kinds,
            cookie,
            is_dir: false,
            by: crate::watch::Doer::Unknown,
        };
        self.core.hint(self.now, hint, &mut self.host);
    }

    fn hint(&mut self, name: &str, kinds: Kinds) {
        self.full_hint(ROOT, name, kinds, 0);
    }

    fn moved(&mut self, from: (NodeId, &str), to: (NodeId, &str), cookie: u32) {
        self.full_hint(from.0, from.1, Kinds::MOVED_FROM, cookie);
        self.full_hint(to.0, to.1, Kinds::MOVED_TO, cookie);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.core.tick(self.now, &mut self.host);
    }

    fn own(&mut self, act: Act<'_>, done: Done<'_>, content: Option<&Attr>) {
        self.core.will(&act);
        self.core.did(self.now, &act, &done, content);
    }

    /// The changes since the last time, in words; numbers are inode numbers.
    fn news(&mut self) -> Vec<String> {
        let place = |at: &OwnedPlace| {
            let name = at.name.escape_ascii();
            if at.parent == SUB { format!("sub/{name}") } else { name.to_string() }
        };
        let said = self.core.take().into_iter().map(|change| match change {
            OwnedChange::Created { at, entry, target, .. } => {
                let arrow = target.map(|t| format!(" -> {}", t.escape_ascii())).unwrap_or_default();
                format!("created {}={}{arrow}", place(&at), entry.node)
            }
            OwnedChange::Modified { at, entry, .. } => {
                format!("modified {}={}", place(&at), entry.node)
            }
            OwnedChange::Attrib { at, entry } => {
                format!("attrib {}={}", at.as_ref().map(place).unwrap_or_default(), entry.node)
            }
            OwnedChange::Removed { at, node, .. } => format!("removed {}={node}", place(&at)),
            OwnedChange::Renamed { from, to, entry, replaced } => {
                let over =
                    if replaced.0 == 0 { String::new() } else { format!(" over {replaced}") };
                format!("renamed {} to {}={}{over}", place(&from), place(&to), entry.node)
            }
            OwnedChange::Doubt { dir } => format!("doubt {dir}"),
            OwnedChange::Passed { at, .. } => format!("passed {}", place(&at)),
        });
        said.collect()
    }
}

macro_rules! said {
    ($scene:expr, $($line:literal),* $(,)?) => {
        assert_eq!($scene.news(), [$($line),*] as [&str; { const N: &[&str] = &[$($line),*]; N.len() }])
    };
}

#[test]
fn a_file_made_on_the_host_is_created_and_once_closed_modified() {
    let mut scene = Scene::with(&[]);
    scene.host.file("f", 20);
    scene.host.write("f");
    scene.hint("f", Kinds::CREATE);
    said!(scene, "created f=20");
    scene.hint("f", Kinds::MODIFY);
    said!(scene,);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "modified f=20");
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene,);
}

#[test]
fn an_empty_file_that_is_made_and_closed_still_owes_its_closing() {
    let mut scene = Scene::with(&[]);
    scene.host.file("f", 20);
    scene.hint("f", Kinds::CREATE);
    scene.hint("f", Kinds::ATTRIB);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "created f=20", "attrib f=20", "modified f=20");
}

#[test]
fn a_symbolic_link_is_created_with_its_target() {
    let mut scene = Scene::with(&[]);
    scene.host.put(ROOT, "l", 20, mode::IFLNK);
    scene.hint("l", Kinds::CREATE);
    said!(scene, "created l=20 -> target");
}

#[test]
fn a_creation_is_delivered_even_if_a_listing_told_of_it_before() {
    let mut scene = Scene::with(&[]);
    let attr = scene.host.file("f", 20);
    scene.tell(ROOT, "f", &attr);
    scene.hint("f", Kinds::CREATE);
    said!(scene, "created f=20");
}

#[test]
fn a_creation_by_the_guest_is_an_echo_once() {
    let mut scene = Scene::with(&[]);
    let attr = scene.host.file("f", 20);
    scene.host.known.insert(20);
    let done = Done { node: Some(NodeId(20)), attr: Some(&attr), ..Done::default() };
    scene.own(Act::Create { at: at(ROOT, "f") }, done, None);
    scene.hint("f", Kinds::CREATE);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene,);
    scene.host.file("f", 21);
    scene.hint("f", Kinds::CREATE);
    said!(scene, "removed f=20", "created f=21");
}

#[test]
fn a_hint_waits_for_the_act_of_the_guest_that_may_have_caused_it() {
    let mut scene = Scene::with(&[]);
    let act = Act::Create { at: at(ROOT, "f") };
    scene.core.will(&act);
    let attr = scene.host.file("f", 20);
    scene.hint("f", Kinds::CREATE);
    scene.pass(Duration::from_millis(1));
    said!(scene,);
    let done = Done { node: Some(NodeId(20)), attr: Some(&attr), ..Done::default() };
    scene.core.did(scene.now, &act, &done, None);
    scene.pass(Duration::from_millis(1));
    said!(scene,);
    assert_eq!(scene.core.deadline(), None, "nothing is left to wait for");
}

#[test]
fn a_hint_of_another_directory_does_not_wait_for_an_act() {
    let mut scene = Scene::with(&[]);
    scene.core.will(&Act::Create { at: at(ROOT, "f") });
    scene.host.put(SUB, "g", 21, mode::IFREG);
    scene.full_hint(SUB, "g", Kinds::CREATE, 0);
    said!(scene, "created sub/g=21");
}

#[test]
fn an_act_that_fails_leaves_no_record() {
    let mut scene = Scene::with(&[]);
    let act = Act::Create { at: at(ROOT, "f") };
    scene.core.will(&act);
    scene.host.file("f", 20);
    scene.hint("f", Kinds::CREATE);
    scene.core.failed(&act);
    scene.pass(Duration::from_millis(1));
    said!(scene, "created f=20");
}

#[test]
fn a_run_of_writes_is_one_modification_when_closed() {
    let mut scene = Scene::with(&["f"]);
    for _ in 0..5 {
        scene.host.write("f");
        scene.hint("f", Kinds::MODIFY);
    }
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "modified f=10");
}

#[test]
fn a_write_without_a_close_is_told_after_a_moment() {
    let mut scene = Scene::with(&["f"]);
    scene.host.write("f");
    scene.hint("f", Kinds::MODIFY);
    said!(scene,);
    assert_eq!(scene.core.deadline(), Some(scene.now + SETTLE));
    scene.pass(SETTLE);
    said!(scene, "modified f=10");
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene,);
}

#[test]
fn a_hint_whose_state_was_told_is_no_news() {
    let mut scene = Scene::with(&["f"]);
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    scene.hint("f", Kinds::ATTRIB);
    scene.pass(Duration::from_secs(1));
    said!(scene,);
}

#[test]
fn a_write_that_the_guest_saw_by_reading_attributes_is_still_owed() {
    let mut scene = Scene::with(&["f"]);
    let attr = scene.host.write("f");
    scene.core.told_attr(NodeId(10), &attr, Scene::wall());
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "modified f=10");
}

#[test]
fn a_file_first_looked_up_between_its_change_and_the_hint_is_still_owed() {
    let mut scene = Scene::with(&[]);
    let attr = scene.host.file("f", 20);
    scene.host.known.insert(20);
    scene.core.told(at(ROOT, "f"), Some((NodeId(20), &attr)), attr.ctime);
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "modified f=20");
}

#[test]
fn a_write_of_the_guest_is_an_echo_by_the_state_that_it_left() {
    let mut scene = Scene::with(&["f"]);
    let attr = scene.host.write("f");
    scene.own(Act::Write { node: NodeId(10) }, Done::default(), Some(&attr));
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene,);
}

#[test]
fn a_write_of_the_host_after_one_of_the_guest_is_told() {
    let mut scene = Scene::with(&["f"]);
    let attr = scene.host.write("f");
    scene.own(Act::Write { node: NodeId(10) }, Done::default(), Some(&attr));
    scene.host.write("f");
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "modified f=10");
}

#[test]
fn hints_of_a_file_that_the_guest_writes_without_pause_are_its_echoes() {
    let mut scene = Scene::with(&["f"]);
    scene.core.will(&Act::Write { node: NodeId(10) });
    scene.host.write("f");
    scene.hint("f", Kinds::MODIFY);
    for _ in 0..10 {
        scene.pass(OWN_WAIT);
    }
    said!(scene,);
    assert_eq!(scene.core.deadline(), None);
}

#[test]
fn a_name_never_told_is_delivered_since_its_directory_is_known() {
    let mut scene = Scene::with(&[]);
    scene.host.file("f", 20);
    scene.host.write("f");
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "modified f=20");
    scene.host.remove("f");
    scene.hint("f", Kinds::DELETE);
    said!(scene, "removed f=20");
    scene.hint("g", Kinds::DELETE);
    said!(scene, "removed g=0");
}

#[test]
fn a_hint_of_a_directory_that_is_not_watched_is_dropped() {
    let mut scene = Scene::with(&[]);
    scene.host.put(NodeId(99), "f", 20, mode::IFREG);
    scene.full_hint(NodeId(99), "f", Kinds::CREATE, 0);
    said!(scene,);
}

#[test]
fn a_changed_mode_is_attrib_and_a_changed_mode_by_the_guest_is_not() {
    let mut scene = Scene::with(&["f"]);
    scene.host.chmod("f", 0o600);
    scene.hint("f", Kinds::ATTRIB);
    said!(scene, "attrib f=10");
    let attr = scene.host.chmod("f", 0o640);
    scene.own(
        Act::SetAttr { node: NodeId(10) },
        Done { attr: Some(&attr), ..Done::default() },
        None,
    );
    scene.hint("f", Kinds::ATTRIB);
    said!(scene,);
}

#[test]
fn an_extended_attribute_is_told_apart_by_the_change_time() {
    let mut scene = Scene::with(&["f"]);
    scene.host.set_xattr("f");
    scene.hint("f", Kinds::ATTRIB);
    said!(scene, "attrib f=10");
    scene.host.set_xattr("f");
    scene.own(Act::SetAttr { node: NodeId(10) }, Done::default(), None);
    scene.hint("f", Kinds::ATTRIB);
    said!(scene,);
    scene.host.set_xattr("f");
    scene.hint("f", Kinds::ATTRIB);
    said!(scene, "attrib f=10");
}

#[test]
fn a_touch_is_attrib_and_its_closing_says_nothing_new() {
    let mut scene = Scene::with(&["f"]);
    scene.host.touch("f");
    scene.hint("f", Kinds::ATTRIB);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "attrib f=10");
}

#[test]
fn a_write_behind_a_chmod_is_told_though_the_first_look_saw_both() {
    let mut scene = Scene::with(&["f"]);
    scene.host.chmod("f", 0o600);
    scene.host.write("f");
    scene.hint("f", Kinds::ATTRIB);
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "attrib f=10", "modified f=10");
}

#[test]
fn a_chmod_behind_a_write_is_told_though_the_first_look_saw_both() {
    let mut scene = Scene::with(&["f"]);
    scene.host.write("f");
    scene.host.chmod("f", 0o600);
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    scene.hint("f", Kinds::ATTRIB);
    said!(scene, "modified f=10", "attrib f=10");
}

#[test]
fn a_chmod_of_the_guest_is_no_news_behind_its_own_unlink_of_another_name() {
    let mut scene = Scene::with(&["f"]);
    scene.host.attr("f").nlink = 2;
    let attr = *scene.host.attr("f");
    scene.tell(ROOT, "f", &attr);
    scene.host.chmod("f", 0o600);
    let attr = *scene.host.attr("f");
    let done = Done { attr: Some(&attr), ..Done::default() };
    scene.own(Act::SetAttr { node: NodeId(10) }, done, Some(&attr));
    scene.own(Act::Remove { at: at(SUB, "other"), is_dir: false }, Done::default(), None);
    scene.host.attr("f").nlink = 1;
    scene.host.attr("f").ctime.sec += 1;
    scene.hint("f", Kinds::ATTRIB);
    said!(scene,);
}

#[test]
fn a_hint_of_a_file_waits_while_the_guest_links_it() {
    let mut scene = Scene::with(&["f"]);
    let link = Act::Link { node: NodeId(10), at: at(SUB, "other") };
    scene.core.will(&link);
    scene.host.attr("f").ctime.sec += 1;
    scene.hint("f", Kinds::ATTRIB);
    let attr = *scene.host.attr("f");
    let done = Done { node: Some(NodeId(10)), attr: Some(&attr), ..Done::default() };
    scene.core.did(scene.now, &link, &done, Some(&attr));
    scene.pass(Duration::from_secs(1));
    said!(scene,);
}

#[test]
fn link_counts_of_a_parent_are_not_told() {
    let mut scene = Scene::with(&[]);
    scene.host.attr("sub").nlink += 1;
    scene.hint("sub", Kinds::ATTRIB);
    said!(scene,);
}

#[test]
fn attributes_of_the_root_are_told_without_a_name() {
    let mut scene = Scene::with(&[]);
    for dir in [ROOT, SUB] {
        let hint = Hint {
            dir: crate::watch::WatchKey(dir),
            name: None,
            kinds: Kinds::SELF_ATTRIB,
            cookie: 0,
            is_dir: true,
            by: crate::watch::Doer::Unknown,
        };
        scene.core.hint(scene.now, hint, &mut scene.host);
    }
    said!(scene, "attrib =1");
}

#[test]
fn a_removal_is_told_once() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    scene.hint("f", Kinds::ATTRIB);
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::DELETE);
    said!(scene, "removed f=10");
}

#[test]
fn a_removal_by_the_guest_is_an_echo() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    scene.own(Act::Remove { at: at(ROOT, "f"), is_dir: false }, Done::default(), None);
    scene.hint("f", Kinds::DELETE);
    said!(scene,);
}

#[test]
fn what_came_and_went_between_two_looks_is_not_told() {
    let mut scene = Scene::with(&[]);
    for kinds in [Kinds::CREATE, Kinds::MODIFY, Kinds::CLOSE_WRITE, Kinds::DELETE] {
        scene.hint("tmp", kinds);
    }
    scene.pass(Duration::from_secs(1));
    said!(scene,);
}

#[test]
fn a_removed_and_remade_file_is_removed_and_created() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    scene.host.file("f", 20);
    scene.hint("f", Kinds::DELETE);
    scene.hint("f", Kinds::CREATE);
    said!(scene, "removed f=10", "created f=20");
}

#[test]
fn a_removal_whose_successor_the_guest_knows_names_no_node() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    let attr = scene.host.file("f", 20);
    scene.tell(ROOT, "f", &attr);
    scene.hint("f", Kinds::DELETE);
    scene.hint("f", Kinds::CREATE);
    said!(scene, "removed f=0", "created f=20");
}

#[test]
fn both_halves_of_a_rename_are_one() {
    let mut scene = Scene::with(&["a"]);
    scene.host.rename((ROOT, "a"), (SUB, "b"));
    scene.moved((ROOT, "a"), (SUB, "b"), 5);
    said!(scene, "renamed a to sub/b=10");
    scene.hint("a", Kinds::DELETE);
    said!(scene, "removed a=0");
}

#[test]
fn a_rename_over_a_file_names_what_it_replaced() {
    let mut scene = Scene::with(&["a", "b"]);
    scene.host.rename((ROOT, "a"), (ROOT, "b"));
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    said!(scene, "renamed a to b=10 over 11");
}

#[test]
fn a_rename_is_told_though_the_guest_saw_the_new_name_before() {
    let mut scene = Scene::with(&["a", "b"]);
    scene.host.rename((ROOT, "a"), (ROOT, "b"));
    let attr = *scene.host.attr("b");
    scene.tell(ROOT, "b", &attr);
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    said!(scene, "renamed a to b=10");
}

#[test]
fn an_atomic_save_is_told_from_its_beginning_though_only_its_end_is_seen() {
    let mut scene = Scene::with(&["f"]);
    scene.host.file("f", 20);
    for kinds in [Kinds::CREATE, Kinds::MODIFY, Kinds::CLOSE_WRITE] {
        scene.hint("f.tmp", kinds);
    }
    scene.moved((ROOT, "f.tmp"), (ROOT, "f"), 5);
    said!(scene, "created f.tmp=20", "modified f.tmp=20", "renamed f.tmp to f=20 over 10",);
}

#[test]
fn a_rename_by_the_guest_is_an_echo_and_so_is_an_exchange() {
    let mut scene = Scene::with(&["a", "b"]);
    scene.host.rename((ROOT, "a"), (ROOT, "c"));
    let done = Done { node: Some(NodeId(10)), ..Done::default() };
    scene.own(Act::Rename { from: at(ROOT, "a"), to: at(ROOT, "c"), exchange: false }, done, None);
    scene.moved((ROOT, "a"), (ROOT, "c"), 5);
    let done = Done { node: Some(NodeId(10)), replaced: Some(NodeId(11)), ..Done::default() };
    scene.own(Act::Rename { from: at(ROOT, "c"), to: at(ROOT, "b"), exchange: true }, done, None);
    scene.moved((ROOT, "c"), (ROOT, "b"), 6);
    scene.moved((ROOT, "b"), (ROOT, "c"), 7);
    scene.pass(Duration::from_secs(1));
    said!(scene,);
    assert_eq!(scene.core.memory.at(ROOT, b"c"), Some(NodeId(11)));
    assert_eq!(scene.core.memory.at(ROOT, b"b"), Some(NodeId(10)));
}

#[test]
fn half_a_rename_waits_a_moment_for_the_other() {
    let mut scene = Scene::with(&["a"]);
    scene.host.rename((ROOT, "a"), (ROOT, "b"));
    scene.full_hint(ROOT, "a", Kinds::MOVED_FROM, 5);
    scene.pass(MOVE_WAIT / 2);
    said!(scene,);
    scene.full_hint(ROOT, "b", Kinds::MOVED_TO, 5);
    said!(scene, "renamed a to b=10");
}

#[test]
fn what_is_moved_out_is_removed_and_what_is_moved_in_is_created() {
    let mut scene = Scene::with(&["a"]);
    scene.host.remove("a");
    scene.full_hint(ROOT, "a", Kinds::MOVED_FROM, 5);
    scene.pass(MOVE_WAIT);
    said!(scene, "removed a=10");
    scene.host.file("a", 30);
    scene.full_hint(ROOT, "a", Kinds::MOVED_TO, 6);
    said!(scene, "created a=30");
}

#[test]
fn a_new_file_under_the_name_of_one_moved_out_comes_after_its_removal() {
    let mut scene = Scene::with(&["a"]);
    scene.host.file("a", 30);
    scene.full_hint(ROOT, "a", Kinds::MOVED_FROM, 5);
    scene.hint("a", Kinds::CREATE);
    said!(scene, "removed a=10", "created a=30");
}

#[test]
fn a_chain_of_renames_is_one_when_only_its_end_is_seen() {
    let mut scene = Scene::with(&["a"]);
    scene.host.rename((ROOT, "a"), (SUB, "c"));
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    scene.moved((ROOT, "b"), (SUB, "c"), 6);
    said!(scene, "renamed a to sub/c=10");
}

#[test]
fn a_file_renamed_and_then_removed_is_removed() {
    let mut scene = Scene::with(&["a"]);
    scene.host.remove("a");
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    scene.hint("b", Kinds::DELETE);
    said!(scene, "removed a=10");
}

#[test]
fn a_file_written_and_then_renamed_is_modified_under_its_old_name() {
    let mut scene = Scene::with(&["a"]);
    scene.host.write("a");
    scene.host.rename((ROOT, "a"), (ROOT, "b"));
    scene.hint("a", Kinds::MODIFY);
    scene.hint("a", Kinds::CLOSE_WRITE);
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    said!(scene, "modified a=10", "renamed a to b=10");
    scene.hint("b", Kinds::CLOSE_WRITE);
    said!(scene,);
}

#[test]
fn a_file_renamed_and_then_written_is_modified_under_its_new_name() {
    let mut scene = Scene::with(&["a"]);
    scene.host.write("a");
    scene.host.rename((ROOT, "a"), (ROOT, "b"));
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    scene.hint("b", Kinds::MODIFY);
    scene.hint("b", Kinds::CLOSE_WRITE);
    said!(scene, "renamed a to b=10", "modified b=10");
}

#[test]
fn a_name_taken_by_another_object_than_the_renamed_is_told_by_what_stands_there() {
    let mut scene = Scene::with(&["a"]);
    scene.host.remove("a");
    scene.host.file("b", 30);
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    said!(scene, "removed a=10", "created b=30");
}

#[test]
fn after_a_loss_every_directory_is_in_doubt_and_every_told_name_compared() {
    let mut scene = Scene::with(&["gone", "written", "same", "other"]);
    scene.host.remove("gone");
    scene.host.write("written");
    scene.host.file("other", 30);
    let mut dirs = scene.core.lost();
    dirs.sort();
    for dir in dirs {
        let mut names = scene.core.names(dir);
        names.sort();
        names.iter().for_each(|name| scene.core.compare(dir, name, &mut scene.host));
    }
    let mut news = scene.news();
    news[..2].sort();
    assert_eq!(
        news,
        [
            "doubt 1",
            "doubt 2",
            "removed gone=10",
            "removed other=13",
            "created other=30",
            "modified written=11"
        ]
    );
}

#[test]
fn a_forgotten_node_leaves_nothing_behind() {
    let mut scene = Scene::with(&["f"]);
    scene.core.forgotten(NodeId(10));
    assert_eq!(scene.core.memory.at(ROOT, b"f"), None);
    assert!(scene.core.memory.node(NodeId(10)).is_none());
    scene.core.forgotten(SUB);
    assert!(!scene.core.is_watched(SUB));
}

#[test]
fn what_came_and_was_moved_out_between_two_looks_is_not_told() {
    let mut scene = Scene::with(&[]);
    scene.hint("tmp", Kinds::CREATE);
    scene.full_hint(ROOT, "tmp", Kinds::MOVED_FROM, 5);
    scene.pass(Duration::from_secs(1));
    said!(scene,);
}

#[test]
fn an_exchange_is_told_as_two_renames() {
    let mut scene = Scene::with(&["a", "b"]);
    let other = scene.host.names.remove(&(ROOT.0, b"b".to_vec())).unwrap();
    scene.host.rename((ROOT, "a"), (ROOT, "b"));
    scene.host.names.insert((ROOT.0, b"a".to_vec()), other);
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    scene.moved((ROOT, "b"), (ROOT, "a"), 6);
    scene.pass(Duration::from_secs(1));
    said!(scene, "renamed a to b=10 over 11", "renamed b to a=11");
}

#[test]
fn what_is_moved_away_and_back_under_another_object_is_not_removed() {
    let mut scene = Scene::with(&["a"]);
    scene.host.file("b", 30);
    scene.moved((ROOT, "a"), (ROOT, "b"), 5);
    said!(scene, "created b=30");
}

#[test]
fn a_new_file_written_and_then_renamed_is_modified_under_its_old_name() {
    let mut scene = Scene::with(&[]);
    scene.host.file("a", 20);
    scene.host.write("a");
    scene.hint("a", Kinds::CREATE);
    scene.host.rename((ROOT, "a"), (SUB, "b"));
    scene.hint("a", Kinds::MODIFY);
    scene.hint("a", Kinds::CLOSE_WRITE);
    scene.moved((ROOT, "a"), (SUB, "b"), 5);
    said!(scene, "created a=20", "modified a=20", "renamed a to sub/b=20");
}
