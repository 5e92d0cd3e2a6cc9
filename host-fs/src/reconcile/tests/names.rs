//! Names that come, go and move.

use super::*;

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
    scene.own(Act::Remove { at: at(ROOT, "f"), is_dir: false }, Done::default());
    scene.hint("f", Kinds::DELETE);
    said!(scene,);
}

#[test]
fn what_came_and_went_between_two_looks_has_passed() {
    let mut scene = Scene::with(&[]);
    for kinds in [Kinds::CREATE, Kinds::MODIFY, Kinds::CLOSE_WRITE, Kinds::DELETE] {
        scene.hint("tmp", kinds);
    }
    scene.pass(Duration::from_secs(1));
    said!(scene, "passed tmp modified");
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
fn a_removal_whose_successor_the_guest_saw_names_what_was_removed() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    let attr = scene.host.file("f", 20);
    scene.tell(ROOT, "f", &attr);
    scene.hint("f", Kinds::DELETE);
    scene.hint("f", Kinds::CREATE);
    said!(scene, "removed f=10", "created f=20");
}

#[test]
fn a_removal_that_the_guest_saw_before_its_hint_names_what_was_removed() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    scene.tell_none(ROOT, "f");
    scene.hint("f", Kinds::DELETE);
    said!(scene, "removed f=10");
}

#[test]
fn what_the_guest_saw_long_ago_is_not_what_a_hint_is_about() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    scene.tell_none(ROOT, "f");
    scene.hint("g", Kinds::ATTRIB);
    scene.now += Duration::from_secs(3);
    scene.hint("f", Kinds::DELETE);
    said!(scene, "removed f=0");
}

#[test]
fn a_rename_that_the_guest_saw_before_its_hint_names_what_it_replaced() {
    let mut scene = Scene::with(&["a", "b"]);
    let attr = *scene.host.attr("a");
    scene.host.rename((ROOT, "a"), (ROOT, "b"));
    scene.tell_none(ROOT, "a");
    scene.tell(ROOT, "b", &attr);
    scene.moved((ROOT, "a"), (ROOT, "b"), 7);
    said!(scene, "renamed a to b=10 over 11");
}

#[test]
fn an_exchange_that_the_guest_saw_before_its_hint_is_told_as_two_renames() {
    let mut scene = Scene::with(&["a", "b"]);
    let (a, b) = (*scene.host.attr("a"), *scene.host.attr("b"));
    scene.host.rename((ROOT, "a"), (ROOT, "c"));
    scene.host.rename((ROOT, "b"), (ROOT, "a"));
    scene.host.rename((ROOT, "c"), (ROOT, "b"));
    scene.tell(ROOT, "a", &b);
    scene.tell(ROOT, "b", &a);
    scene.moved((ROOT, "a"), (ROOT, "b"), 1);
    scene.moved((ROOT, "b"), (ROOT, "a"), 2);
    said!(scene, "renamed a to b=10 over 11", "renamed b to a=11");
}

#[test]
fn what_left_sight_is_moved_out_though_the_guest_saw_its_successor() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    let attr = scene.host.file("f", 20);
    scene.tell(ROOT, "f", &attr);
    scene.full_hint(ROOT, "f", Kinds::MOVED_FROM, 3);
    scene.hint("f", Kinds::CREATE);
    said!(scene, "moved out f=10", "created f=20");
}

#[test]
fn what_was_replaced_from_out_of_sight_is_removed_if_the_guest_saw_its_successor() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    let attr = scene.host.file("f", 20);
    scene.tell(ROOT, "f", &attr);
    scene.full_hint(ROOT, "f", Kinds::MOVED_TO, 3);
    said!(scene, "removed f=10", "moved in f=20");
}

#[test]
fn what_the_guest_itself_removed_was_displaced_by_nobody() {
    let mut scene = Scene::with(&["f"]);
    scene.host.remove("f");
    let act = Act::Remove { at: at(ROOT, "f"), is_dir: false };
    scene.core.will(&act);
    // Another thread looks at it meanwhile.
    scene.tell_none(ROOT, "f");
    scene.core.did(scene.now, &act, &Done::default());
    scene.hint("f", Kinds::DELETE);
    scene.host.file("f", 20);
    scene.hint("f", Kinds::CREATE);
    said!(scene, "created f=20");
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
    scene.own(Act::Rename { from: at(ROOT, "a"), to: at(ROOT, "c"), exchange: false }, done);
    scene.moved((ROOT, "a"), (ROOT, "c"), 5);
    let done = Done { node: Some(NodeId(10)), replaced: Some(NodeId(11)), ..Done::default() };
    scene.own(Act::Rename { from: at(ROOT, "c"), to: at(ROOT, "b"), exchange: true }, done);
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
fn what_leaves_or_enters_sight_is_moved_out_or_in() {
    let mut scene = Scene::with(&["a"]);
    scene.host.remove("a");
    scene.full_hint(ROOT, "a", Kinds::MOVED_FROM, 5);
    scene.pass(MOVE_WAIT);
    said!(scene, "moved out a=10");
    scene.host.file("a", 30);
    scene.full_hint(ROOT, "a", Kinds::MOVED_TO, 6);
    said!(scene, "moved in a=30");
}

#[test]
fn a_new_file_under_the_name_of_one_moved_out_comes_after_its_removal() {
    let mut scene = Scene::with(&["a"]);
    scene.host.file("a", 30);
    scene.full_hint(ROOT, "a", Kinds::MOVED_FROM, 5);
    scene.hint("a", Kinds::CREATE);
    said!(scene, "moved out a=10", "created a=30");
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
    said!(scene, "moved out a=10", "moved in b=30");
}

#[test]
fn what_came_and_was_moved_out_between_two_looks_has_passed() {
    let mut scene = Scene::with(&[]);
    scene.hint("tmp", Kinds::CREATE);
    scene.full_hint(ROOT, "tmp", Kinds::MOVED_FROM, 5);
    scene.pass(Duration::from_secs(1));
    said!(scene, "passed tmp");
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
    said!(scene, "moved in b=30");
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

#[test]
fn what_is_moved_away_and_back_leaves_and_returns() {
    let mut scene = Scene::with(&["a"]);
    scene.moved((ROOT, "a"), (SUB, "b"), 5);
    scene.moved((SUB, "b"), (ROOT, "a"), 6);
    scene.pass(Duration::from_secs(1));
    said!(scene, "moved out a=10", "moved in a=10");
}

#[test]
fn what_the_guest_saw_where_it_is_now_and_forgot_is_renamed_nevertheless() {
    let mut scene = Scene::with(&["f"]);
    scene.host.rename((ROOT, "f"), (SUB, "g"));
    let attr = scene.host.names[&(SUB.0, b"g".to_vec())];
    scene.tell(SUB, "g", &attr);
    scene.core.forgotten(NodeId(10));
    scene.host.known.remove(&10);
    scene.moved((ROOT, "f"), (SUB, "g"), 7);
    said!(scene, "renamed f to sub/g=10");
}
