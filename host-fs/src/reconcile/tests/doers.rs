//! With a source that knows who did it nothing is guessed.

use super::*;
use crate::watch::{Doer, WatchKey};

impl Scene {
    fn by(&mut self, by: Doer, name: &str, kinds: Kinds) {
        let name = Some(name.as_bytes().into());
        let hint = Hint { dir: WatchKey(ROOT), name, kinds, cookie: 0, is_dir: false, by };
        self.core.hint(self.now, hint, &mut self.host);
    }
}

#[test]
fn the_guests_own_work_is_dropped_whatever_it_is() {
    let mut scene = Scene::with(&["f"]);
    scene.host.write("f");
    scene.by(Doer::Ourselves, "f", Kinds::MODIFY | Kinds::CLOSE_WRITE | Kinds::ATTRIB);
    scene.by(Doer::Ourselves, "f", Kinds::DELETE);
    scene.pass(Duration::from_secs(1));
    said!(scene,);
    assert_eq!(scene.core.counters().echoes, 2);
}

#[test]
fn a_write_of_another_is_told_though_the_guest_has_seen_its_result() {
    let mut scene = Scene::with(&["f"]);
    let attr = scene.host.write("f");
    scene.tell(ROOT, "f", &attr);
    scene.by(Doer::Another, "f", Kinds::MODIFY | Kinds::CLOSE_WRITE);
    said!(scene, "modified f=10");
}

#[test]
fn opening_and_closing_without_a_write_is_a_closing() {
    let mut scene = Scene::with(&["f"]);
    scene.by(Doer::Another, "f", Kinds::CLOSE_WRITE);
    said!(scene, "closed f=10");
}

#[test]
fn a_write_without_a_close_is_no_closing_and_the_close_comes_later() {
    let mut scene = Scene::with(&["f"]);
    scene.host.write("f");
    scene.by(Doer::Another, "f", Kinds::MODIFY);
    scene.pass(SETTLE);
    said!(scene, "written f=10");
    scene.by(Doer::Another, "f", Kinds::CLOSE_WRITE);
    said!(scene, "closed f=10");
}

#[test]
fn another_may_remake_what_the_guest_removes_at_the_same_time() {
    let mut scene = Scene::with(&["f"]);
    scene.core.will(&Act::Remove { at: at(ROOT, "f"), is_dir: false });
    scene.host.remove("f");
    scene.host.file("f", 20);
    scene.by(Doer::Another, "f", Kinds::CREATE);
    said!(scene, "removed f=10", "created f=20");
}

#[test]
fn a_hint_of_making_and_removing_at_once_has_passed_or_is_what_stands_there() {
    let mut scene = Scene::with(&["old"]);
    let both = Kinds::CREATE | Kinds::DELETE;
    scene.by(Doer::Another, "new", both | Kinds::MODIFY);
    said!(scene, "passed new written");
    scene.host.file("new", 20);
    scene.by(Doer::Another, "new", both);
    said!(scene, "removed new=0", "created new=20");
    scene.host.remove("old");
    scene.by(Doer::Another, "old", Kinds::DELETE);
    said!(scene, "removed old=10");
}

#[test]
fn a_told_file_that_is_gone_is_removed_whatever_was_hinted_before() {
    for kinds in [&[Kinds::CREATE, Kinds::DELETE][..], &[Kinds::CREATE | Kinds::DELETE]] {
        for by in [Doer::Another, Doer::Unknown] {
            let mut scene = Scene::with(&["f"]);
            scene.host.remove("f");
            kinds.iter().for_each(|kinds| scene.by(by, "f", *kinds));
            said!(scene, "removed f=10");
        }
    }
}

#[test]
fn one_of_two_links_leaves_the_other() {
    let mut scene = Scene::with(&["f"]);
    let attr = Attr { nlink: 2, ..scene.host.write("f") };
    scene.host.names.insert((SUB.0, b"other".to_vec()), Attr { nlink: 1, ..attr });
    scene.tell(ROOT, "f", &attr);
    scene.host.remove("f");
    scene.by(Doer::Another, "f", Kinds::DELETE);
    said!(scene, "removed f=10, 1 left");
}
