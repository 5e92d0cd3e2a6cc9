//! Content and attributes: what is news, what is owed, and what is the echo of the guest.

use super::*;

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
    said!(scene, "created f=20", "attrib f=20", "closed f=20");
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
    scene.own(Act::Create { at: at(ROOT, "f") }, done);
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
    scene.core.did(scene.now, &act, &done);
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
    said!(scene, "written f=10");
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene, "closed f=10");
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
    scene.own(Act::Write { node: NodeId(10) }, Done { attr: Some(&attr), ..Done::default() });
    scene.hint("f", Kinds::MODIFY);
    scene.hint("f", Kinds::CLOSE_WRITE);
    said!(scene,);
}

#[test]
fn a_write_of_the_host_after_one_of_the_guest_is_told() {
    let mut scene = Scene::with(&["f"]);
    let attr = scene.host.write("f");
    scene.own(Act::Write { node: NodeId(10) }, Done { attr: Some(&attr), ..Done::default() });
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
    scene.own(Act::SetAttr { node: NodeId(10) }, Done { attr: Some(&attr), ..Done::default() });
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
    scene.own(Act::SetAttr { node: NodeId(10) }, Done::default());
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
    scene.own(Act::SetAttr { node: NodeId(10) }, done);
    scene.own(Act::Remove { at: at(SUB, "other"), is_dir: false }, Done::default());
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
    scene.core.did(scene.now, &link, &done);
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
