//! What happens to watched directories.

use super::*;

#[test]
fn a_renamed_directory_keeps_its_watches() {
    let mut scene = Scene::new();
    // Renamed.
    assert_snapshot!(scene.all("
        101 RENAMED|IS_DIR /r/d #102 gone
        102 RENAMED|IS_DIR /r/e #102
        103 CREATED|IS_FILE /r/e/f #7
    "), @r"
    1: d/ MOVED_FROM cookie 1
    1: e/ MOVED_TO cookie 1
    2: itself SELF_MOVE
    2: f CREATE
    2: f CLOSE_WRITE
    ");
    // Afterwards.
    assert_snapshot!(scene.all("
        104 CREATED|IS_FILE /r/e/deep/f #8
        105 CREATED|IS_FILE /r/d/f #9
    "), @r"
    3: f CREATE
    3: f CLOSE_WRITE
    ");
}

#[test]
fn an_event_that_is_late_finds_the_renamed_directory() {
    assert_snapshot!(Scene::new().all("
        105 RENAMED|IS_DIR /r/d #102 gone
        106 RENAMED|IS_DIR /r/e #102
        103 MODIFIED|IS_FILE /r/d/deep/f #7 gone
    "), @r"
    1: d/ MOVED_FROM cookie 1
    1: e/ MOVED_TO cookie 1
    2: itself SELF_MOVE
    3: f MODIFY|CLOSE_WRITE
    ");
}

#[test]
fn a_directory_that_leaves_or_ends_takes_its_watches_along() {
    // Moved out.
    assert_snapshot!(Scene::new().all("101 RENAMED|IS_DIR /r/d #102 gone"), @r"
    1: d/ MOVED_FROM
    2: itself SELF_MOVE
    2: ended
    3: ended
    ");
    // Removed.
    assert_snapshot!(Scene::new().all("
        101 REMOVED|IS_DIR /r/d/deep #103 gone
        102 REMOVED|IS_DIR /r/d #102 gone
    "), @r"
    2: deep/ DELETE
    3: itself SELF_DELETE
    3: ended
    1: d/ DELETE
    2: itself SELF_DELETE
    2: ended
    ");
    // Replaced.
    assert_snapshot!(Scene::new().all("
        101 CREATED|REMOVED|IS_DIR /r/d #202
    "), @r"
    1: d/ CREATE|DELETE
    2: itself SELF_DELETE
    2: ended
    3: ended
    ");
}

#[test]
fn a_directory_that_was_made_anew_and_watched_stays_watched() {
    let mut scene = Scene::new();
    scene.hints.unwatch(WatchKey(NodeId(2)));
    scene.hints.unwatch(WatchKey(NodeId(3)));
    scene.watch("/r/d", 4, 202, 100);
    assert_snapshot!(scene.all("101 CREATED|REMOVED|IS_DIR /r/d #202"), @"1: d/ CREATE|DELETE");
}

#[test]
fn a_root_that_moves_or_ends_is_watched_no_longer() {
    let mut scene = Scene::new();
    // Gone.
    assert_snapshot!(scene.all("0 ROOT_CHANGED /r #0 gone"), @r"
    1: itself SELF_MOVE
    1: ended
    2: ended
    3: ended
    ");
    assert_eq!(scene.hints.superfluous(), [scene.stream]);
    // Made anew.
    assert_snapshot!(Scene::new().all("0 ROOT_CHANGED /r #0 = #999"), @r"
    1: itself SELF_MOVE
    1: ended
    2: ended
    3: ended
    ");
    // Back again.
    assert_snapshot!(Scene::new().all("0 ROOT_CHANGED /r #0 = #101"), @"compare everything");
}

#[test]
fn what_a_mount_covers_is_watched_no_longer() {
    // Mounted.
    assert_snapshot!(Scene::new().all("101 MOUNT /r/d #0 = #2"), @r"
    1: d ATTRIB
    2: ended
    3: ended
    ");
    // Unmounted.
    assert_snapshot!(Scene::new().all("101 UNMOUNT /r/d #0 = #102"), @r"
    1: d ATTRIB
    2: ended
    3: ended
    ");
}
