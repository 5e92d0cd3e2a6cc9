//! What happens to single names.

use super::*;

#[test]
fn what_happens_to_names_is_hinted() {
    assert_snapshot!(Scene::new().all("
        101 CREATED|IS_FILE /r/f #7
        102 CREATED|IS_DIR /r/d/new #8
        103 CREATED|IS_SYMLINK /r/link #9
        104 MODIFIED|IS_FILE /r/g #10
        105 CHANGE_OWNER|IS_FILE /r/g #10
        106 XATTR_MOD|INODE_META_MOD|IS_DIR /r/d #102
        107 REMOVED|IS_FILE /r/h #11 gone
    "), @r"
    1: f CREATE
    1: f CLOSE_WRITE
    2: new/ CREATE
    1: link CREATE
    1: g MODIFY|CLOSE_WRITE
    1: g ATTRIB
    1: d/ ATTRIB
    2: itself SELF_ATTRIB
    1: h DELETE
    ");
}

#[test]
fn accumulated_flags_are_told_apart_by_what_is_there() {
    // Gone, made and removed.
    assert_snapshot!(Scene::new().all("
        101 CREATED|REMOVED|MODIFIED|IS_FILE /r/f #7 gone
    "), @"1: f CREATE|DELETE|MODIFY|CLOSE_WRITE");
    // There, another was removed.
    assert_snapshot!(Scene::new().all("
        101 CREATED|REMOVED|MODIFIED|IS_FILE /r/f #8
    "), @r"
    1: f CREATE|DELETE
    1: f MODIFY|CLOSE_WRITE
    ");
    // Gone, and why comes later.
    assert_snapshot!(Scene::new().all("
        101 CREATED|MODIFIED|IS_FILE /r/f #8 gone
        102 MODIFIED|IS_FILE /r/g #9 gone
    "), @r"
    1: f CREATE
    1: f MODIFY|CLOSE_WRITE
    1: g MODIFY|CLOSE_WRITE
    ");
}

#[test]
fn a_creation_that_comes_again_with_later_events_is_no_news() {
    let mut scene = Scene::new();
    scene.all("101 CREATED|IS_FILE /r/f #7");
    // Written.
    assert_snapshot!(scene.all("102 CREATED|MODIFIED|IS_FILE /r/f #7"), @"1: f MODIFY|CLOSE_WRITE");
    // Removed.
    assert_snapshot!(scene.all("103 CREATED|MODIFIED|REMOVED|IS_FILE /r/f #7 gone"), @"1: f DELETE");
    // Made anew.
    assert_snapshot!(scene.all("104 CREATED|REMOVED|IS_FILE /r/f #8"), @r"
    1: f CREATE|DELETE
    1: f CLOSE_WRITE
    ");
    // Nothing new.
    assert_snapshot!(scene.all("105 CREATED|REMOVED|IS_FILE /r/f #8"), @"1: f ATTRIB");
}

#[test]
fn what_is_not_marked_as_our_own_is_anothers() {
    assert_snapshot!(Scene::new().all("
        101 CREATED|IS_FILE|OWN_EVENT /r/ours #7
        102 CREATED|IS_FILE /r/theirs #8
    "), @r"
    1: ours CREATE by whomever
    1: ours CLOSE_WRITE
    1: theirs CREATE
    1: theirs CLOSE_WRITE
    ");
}

#[test]
fn a_name_that_cannot_be_looked_at_has_its_directory_compared() {
    assert_snapshot!(Scene::new().all("
        101 CREATED|REMOVED|IS_FILE /r/d/f #7 unknown
    "), @"2: compare all beneath");
}

#[test]
fn unwatched_directories_are_silent() {
    assert_snapshot!(Scene::new().all("
        101 CREATED|IS_FILE /r/other/f #7
        102 RENAMED|IS_FILE /r/other/f #7 gone
        103 RENAMED|IS_FILE /r/other/g #7
    "), @"");
}

#[test]
fn a_directory_under_two_keys_is_hinted_twice() {
    let mut scene = Scene::new();
    scene.watch("/r/d", 22, 102, 100);
    assert_snapshot!(scene.all("101 MODIFIED|IS_FILE /r/d/f #7"), @r"
    2: f MODIFY|CLOSE_WRITE
    22: f MODIFY|CLOSE_WRITE
    ");
}
