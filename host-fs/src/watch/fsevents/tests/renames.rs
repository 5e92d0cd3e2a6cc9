//! Renames, of which each half is an event.

use super::*;

#[test]
fn both_halves_of_a_rename_have_one_cookie() {
    // In order.
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/a #7 gone
        102 RENAMED|IS_FILE /r/d/b #7
    "), @r"
    1: a MOVED_FROM cookie 1
    2: b MOVED_TO cookie 1
    ");
    // Out of order.
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/d/b #7
        102 RENAMED|IS_FILE /r/a #7 gone
    "), @r"
    1: a MOVED_FROM cookie 1
    2: b MOVED_TO cookie 1
    ");
    // Among others.
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/a #7 gone
        102 RENAMED|IS_FILE /r/x #8 gone
        103 RENAMED|IS_FILE /r/b #7
        104 RENAMED|IS_FILE /r/y #8
    "), @r"
    1: a MOVED_FROM cookie 1
    1: b MOVED_TO cookie 1
    1: x MOVED_FROM cookie 2
    1: y MOVED_TO cookie 2
    ");
}

#[test]
fn the_other_half_may_come_with_the_next_batch() {
    let mut scene = Scene::new();
    // First.
    assert_snapshot!(scene.batch("101 RENAMED|IS_FILE /r/a #7 gone"), @"");
    // Second.
    assert_snapshot!(scene.batch("102 RENAMED|IS_FILE /r/b #7"), @r"
    1: a MOVED_FROM cookie 1
    1: b MOVED_TO cookie 1
    ");
}

#[test]
fn half_a_rename_is_a_move_out_or_in() {
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/out #7 gone
        102 RENAMED|IS_FILE /r/in #8
        103 RENAMED|IS_FILE /r/within #9 gone
        104 RENAMED|IS_FILE /r/unwatched/within #9
    "), @r"
    1: within MOVED_FROM
    1: out MOVED_FROM
    1: in MOVED_TO
    ");
}

#[test]
fn a_name_that_another_takes_at_once_keeps_its_order() {
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/a #7 = #8
        102 CREATED|IS_FILE /r/a #8
    "), @r"
    1: a MOVED_FROM
    1: a CREATE
    1: a CLOSE_WRITE
    ");
}

#[test]
fn a_save_over_something_is_a_creation_and_a_rename() {
    assert_snapshot!(Scene::new().all("
        101 CREATED|MODIFIED|RENAMED|IS_FILE /r/tmp #8 gone
        102 RENAMED|IS_FILE /r/f #8
    "), @r"
    1: tmp CREATE
    1: tmp MODIFY|CLOSE_WRITE
    1: tmp MOVED_FROM cookie 1
    1: f MOVED_TO cookie 1
    ");
}

#[test]
fn a_save_that_keeps_a_backup_is_a_rename_and_a_creation() {
    // Apart.
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/f #7 = #8
        102 RENAMED|IS_FILE /r/f~ #7
        103 CREATED|MODIFIED|IS_FILE /r/f #8
    "), @r"
    1: f MOVED_FROM cookie 1
    1: f~ MOVED_TO cookie 1
    1: f CREATE
    1: f MODIFY|CLOSE_WRITE
    ");
    // Coalesced under the new file.
    assert_snapshot!(Scene::new().all("
        102 RENAMED|IS_FILE /r/f~ #7
        103 RENAMED|CREATED|MODIFIED|IS_FILE /r/f #8
    "), @r"
    1: f MOVED_FROM cookie 1
    1: f~ MOVED_TO cookie 1
    1: f CREATE
    1: f MODIFY|CLOSE_WRITE
    ");
    // Coalesced under the old file.
    assert_snapshot!(Scene::new().all("
        102 RENAMED|IS_FILE /r/f~ #7
        103 RENAMED|CREATED|MODIFIED|IS_FILE /r/f #7 = #8
    "), @r"
    1: f MOVED_FROM cookie 1
    1: f~ MOVED_TO cookie 1
    1: f CREATE
    1: f MODIFY|CLOSE_WRITE
    ");
}

#[test]
fn several_renames_of_one_file_are_a_chain() {
    // Onwards.
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/a #7 gone
        102 RENAMED|IS_FILE /r/b #7 gone
        103 RENAMED|IS_FILE /r/d/c #7
    "), @r"
    1: a MOVED_FROM cookie 1
    1: b MOVED_TO cookie 1
    1: b MOVED_FROM cookie 2
    2: c MOVED_TO cookie 2
    ");
    // And removed.
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/a #7 gone
        102 RENAMED|REMOVED|IS_FILE /r/b #7 gone
    "), @r"
    1: a MOVED_FROM cookie 1
    1: b MOVED_TO cookie 1
    1: b DELETE
    ");
    // And back.
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/a #7
        102 RENAMED|IS_FILE /r/b #7 gone
    "), @r"
    1: b MOVED_FROM cookie 1
    1: a MOVED_TO cookie 1
    ");
}

#[test]
fn an_exchange_is_two_renames() {
    assert_snapshot!(Scene::new().all("
        101 RENAMED|IS_FILE /r/a #7 = #8
        102 RENAMED|IS_FILE /r/b #8 = #7
    "), @r"
    1: a MOVED_FROM cookie 1
    1: b MOVED_TO cookie 1
    1: b MOVED_FROM cookie 2
    1: a MOVED_TO cookie 2
    ");
}

#[test]
fn a_rename_that_comes_again_with_later_events_is_no_news() {
    let mut scene = Scene::new();
    scene.all("101 RENAMED|IS_FILE /r/a #7 gone\n 102 RENAMED|IS_FILE /r/b #7");
    // Written.
    assert_snapshot!(scene.batch("103 RENAMED|MODIFIED|IS_FILE /r/b #7"), @"1: b MODIFY|CLOSE_WRITE");
    // Removed.
    assert_snapshot!(scene.batch("104 RENAMED|MODIFIED|REMOVED|IS_FILE /r/b #7 gone"), @r"
    1: b MODIFY|CLOSE_WRITE
    1: b DELETE
    ");
}

#[test]
fn a_change_of_case_is_a_rename() {
    // The volume finds the file under either spelling, and tells its own.
    let mut old = event("101 RENAMED|IS_FILE /r/Readme #7");
    old.found(Some((FileId(7), b"README".to_vec())));
    assert_eq!(old.there, There::Nothing);
    let mut new = event("102 RENAMED|IS_FILE /r/README #7");
    new.found(Some((FileId(7), b"README".to_vec())));
    let (mut scene, mut out) = (Scene::new(), Vec::new());
    scene.take(vec![old, new], &mut out);
    assert_snapshot!(say(&out).join("\n"), @r"
    1: Readme MOVED_FROM cookie 1
    1: README MOVED_TO cookie 1
    ");
}

#[test]
fn an_event_under_another_spelling_is_about_the_stored_name() {
    let mut event = event("101 MODIFIED|IS_FILE /r/readme #7");
    event.found(Some((FileId(7), b"README".to_vec())));
    assert_eq!((&*event.path, event.there), (&b"/r/README"[..], There::File(FileId(7))));
}
