//! After hints were lost, and when nodes are forgotten.

use super::*;

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
