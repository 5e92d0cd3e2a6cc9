//! After hints were lost, and when nodes are forgotten.

use super::again::Again;
use super::*;
use rustc_hash::FxHashSet;

/// Hints were lost since `since`; `gone` cannot be found any more. The doubts are not repeated here.
fn compared(scene: &mut Scene, since: i64, gone: &[NodeId]) -> Vec<String> {
    let dirs = scene.core.lost();
    let mut again = Again::after_loss();
    for round in 0..2 {
        for dir in dirs.iter().filter(|dir| !gone.contains(dir)) {
            let names: Vec<Vec<u8>> = scene.host.names_in(*dir);
            let host = &mut scene.host;
            if round == 0 {
                let names = names.iter().map(Vec::as_slice);
                scene.core.compare_names(&mut again, *dir, names, host);
                let present = scene.host.names_in(*dir);
                let present = present.iter().map(Vec::as_slice).collect();
                scene.core.compare_dir(&mut again, *dir, &present);
            }
        }
        scene.core.match_moves(&mut again, &mut scene.host);
    }
    for dir in gone {
        scene.core.compare_dir(&mut again, *dir, &FxHashSet::default());
    }
    scene.core.finish(again, Time { sec: since, nsec: 0 }, &mut scene.host);
    scene.news().into_iter().filter(|line| !line.starts_with("doubt")).collect()
}

#[test]
fn after_a_loss_every_directory_is_in_doubt_parents_first() {
    let mut scene = Scene::with(&[]);
    assert_eq!(scene.core.lost(), [ROOT, SUB]);
    said!(scene, "doubt 1", "doubt 2");
}

#[test]
fn after_a_loss_the_difference_is_told() {
    let mut scene = Scene::with(&["gone", "written", "same", "other", "set"]);
    scene.host.remove("gone");
    scene.host.write("written");
    scene.host.file("other", 30);
    scene.host.set_xattr("set");
    let mut news = compared(&mut scene, 0, &[]);
    news[2..4].sort();
    assert_eq!(
        news,
        [
            "attrib set=14",
            "modified written=11",
            "removed gone=10",
            "removed other=13",
            "created other=30"
        ]
    );
}

#[test]
fn what_the_guest_did_not_know_is_created_if_it_is_new() {
    let mut scene = Scene::with(&[]);
    scene.host.file("old", 30);
    scene.host.clock += 100;
    scene.host.file("new", 31);
    assert_eq!(compared(&mut scene, 1050, &[]), ["created new=31"]);
}

#[test]
fn what_is_found_under_another_name_was_renamed() {
    let mut scene = Scene::with(&["a", "b"]);
    scene.host.rename((ROOT, "a"), (SUB, "a"));
    scene.host.rename((ROOT, "b"), (ROOT, "c"));
    let mut news = compared(&mut scene, 0, &[]);
    news.sort();
    assert_eq!(news, ["renamed a to sub/a=10", "renamed b to c=11"]);
}

#[test]
fn a_directory_that_is_gone_loses_its_names_first() {
    let mut scene = Scene::with(&[]);
    let file = scene.host.put(SUB, "f", 30, mode::IFREG);
    scene.tell(SUB, "f", &file);
    scene.host.remove("sub");
    assert_eq!(compared(&mut scene, 0, &[SUB]), ["removed sub/f=30", "removed sub=2"]);
}

#[test]
fn what_the_guest_is_making_at_that_moment_is_not_told() {
    let mut scene = Scene::with(&["f"]);
    scene.core.will(&Act::Create { at: at(ROOT, "new") });
    scene.core.will(&Act::Remove { at: at(ROOT, "f"), is_dir: false });
    scene.host.file("new", 30);
    scene.host.remove("f");
    assert_eq!(compared(&mut scene, 0, &[]), [] as [&str; 0]);
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
