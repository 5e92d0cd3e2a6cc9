//! History, losses, numbers and roots.

use super::*;

#[test]
fn what_happened_before_the_watch_is_history() {
    let mut scene = Scene::new();
    scene.watch("/r/late", 5, 105, 150);
    assert_snapshot!(scene.all("
        90 CREATED|IS_FILE /r/f #7
        100 RENAMED|IS_FILE /r/a #8 gone
        101 RENAMED|IS_FILE /r/b #8
        150 CREATED|IS_FILE /r/late/f #9
        151 CREATED|IS_FILE /r/late/g #10
        151 HISTORY_DONE /r #0
        152 REMOVED|IS_FILE /r/h #11 gone
    "), @r"
    1: b MOVED_TO
    5: g CREATE
    5: g CLOSE_WRITE
    1: h DELETE
    ");
}

#[test]
fn what_was_dropped_on_the_way_to_us_is_replayed() {
    let mut scene = Scene::new();
    // Asks.
    assert_snapshot!(scene.all("
        101 MODIFIED|IS_FILE /r/f #7
        105 MUST_SCAN_SUB_DIRS|USER_DROPPED / #0
        106 MODIFIED|IS_FILE /r/again #8
    "), @r"
    1: f MODIFY|CLOSE_WRITE
    replay /r after 101
    ");
    let old = scene.stream;
    scene.hints.end(old);
    let replay = Replay { root: (*b"/r").into(), since: EventId(101) };
    scene.stream = scene.hints.begin_replay(&replay);
    // Replays.
    assert_snapshot!(scene.all("
        103 CREATED|IS_FILE /r/missed #9
        106 MODIFIED|IS_FILE /r/again #8
        106 HISTORY_DONE /r #0
        107 MODIFIED|IS_FILE /r/live #8
    "), @r"
    1: missed CREATE
    1: missed CLOSE_WRITE
    1: again MODIFY|CLOSE_WRITE
    1: live MODIFY|CLOSE_WRITE
    ");
    let mut out = Vec::new();
    let batch = scene.hints.sift(vec![event("108 MODIFIED|IS_FILE /r/f #7")]);
    scene.hints.take(old, batch, &mut out);
    assert!(out.is_empty(), "the old stream is not listened to: {out:?}");
    // May ask again.
    assert_snapshot!(scene.all("109 MUST_SCAN_SUB_DIRS|USER_DROPPED / #0"), @"replay /r after 107");
}

#[test]
fn a_loss_that_no_replay_mends_is_compared() {
    let user = "101 MUST_SCAN_SUB_DIRS|USER_DROPPED / #0";
    // No journal.
    assert_snapshot!(Scene::with_journal(false).all(user), @"compare everything");
    let mut scene = Scene::new();
    let replay = Replay { root: (*b"/r").into(), since: EventId(100) };
    scene.stream = scene.hints.begin_replay(&replay);
    // A replay that loses.
    assert_snapshot!(scene.all(user), @"compare everything");
    // The kernel lost them.
    assert_snapshot!(Scene::new().all("
        101 MUST_SCAN_SUB_DIRS|KERNEL_DROPPED / #0
        102 MODIFIED|IS_FILE /r/f #7
    "), @r"
    compare everything
    1: f MODIFY|CLOSE_WRITE
    ");
}

#[test]
fn a_directory_that_was_moved_while_events_were_lost_is_watched_no_longer() {
    let mut scene = Scene::new();
    scene.batch("101 MUST_SCAN_SUB_DIRS|KERNEL_DROPPED / #0");
    let mut out = Vec::new();
    for path in scene.hints.doubtful() {
        let there = match &*path {
            b"/r" => There::File(FileId(101)),
            b"/r/d" => There::File(FileId(999)),
            _ => There::Nothing,
        };
        scene.hints.verify(&path, there, &mut out);
    }
    assert_snapshot!(say(&out).join("\n"), @r"
    2: ended
    3: ended
    ");
    assert_eq!(scene.hints.doubtful(), []);
}

#[test]
fn a_stream_is_as_far_as_its_last_event_whatever_that_is_about() {
    let mut scene = Scene::new();
    scene.batch("105 CREATED|IS_FILE /r/unwatched/f #7");
    assert_eq!(scene.hints.stream_over(b"/r"), Some((scene.stream, EventId(105))));
}

#[test]
fn a_subtree_to_be_scanned_is_compared() {
    // Watched.
    assert_snapshot!(Scene::new().all("101 MUST_SCAN_SUB_DIRS|IS_DIR /r/d #0 = #102"), @r"
    2: compare all beneath
    1: d/ ATTRIB
    ");
    // Beneath a watched one.
    assert_snapshot!(Scene::new().all("101 MUST_SCAN_SUB_DIRS|IS_DIR /r/x #0 = #9"), @"1: x/ ATTRIB");
    // Without flags.
    assert_snapshot!(Scene::new().all("101 - /r/d #0 = #102"), @r"
    2: compare all beneath
    1: d ATTRIB
    ");
    let mut scene = Scene::new();
    scene.watch("/r/d/deep", 33, 103, 100);
    // With another root in it.
    assert_snapshot!(scene.all("101 MUST_SCAN_SUB_DIRS|IS_DIR /r/d #0 = #102"), @r"
    2: compare all beneath
    3: compare all beneath
    33: compare all beneath
    1: d/ ATTRIB
    ");
}

#[test]
fn numbers_that_begin_anew_are_no_history() {
    let mut scene = Scene::new();
    // Wraps.
    assert_snapshot!(scene.all("
        18446744073709551614 MODIFIED|IS_FILE /r/f #7
        3 EVENT_IDS_WRAPPED / #0
        4 MODIFIED|IS_FILE /r/f #7
    "), @r"
    1: f MODIFY|CLOSE_WRITE
    1: f MODIFY|CLOSE_WRITE
    ");
    // Lost after it.
    assert_snapshot!(scene.all("9 MUST_SCAN_SUB_DIRS|USER_DROPPED / #0"), @"replay /r after 4");
}

#[test]
fn a_root_above_makes_the_one_beneath_superfluous() {
    let mut scene = Scene::new();
    assert_eq!(scene.hints.stream_over(b"/r/d/x").map(|(id, _)| id), Some(scene.stream));
    assert_eq!(scene.hints.stream_over(b"/rr"), None);
    scene.hints.begin(b"/", EventId(100), true);
    scene.watch("/", 9, 2, 100);
    assert_eq!(scene.hints.superfluous(), [scene.stream]);
}

#[test]
fn a_link_on_the_way_to_a_directory_is_resolved() {
    // As `/tmp`, which on macOS leads to `/private/tmp`.
    let real = tempfile::tempdir().unwrap();
    let real_path = real.path().canonicalize().unwrap();
    let link = real_path.join("link");
    std::fs::create_dir(real_path.join("dir")).unwrap();
    std::os::unix::fs::symlink(&real_path, &link).unwrap();
    let fd = crate::os::open_root(&link.join("dir")).unwrap();
    let path = crate::os::present_path(std::os::fd::AsFd::as_fd(&fd)).unwrap();
    let mut hints = Hints::default();
    let stream = hints.begin(&path, EventId(1), true);
    hints.watch(&path, WatchKey(NodeId(1)), FileId(5), EventId(1));
    let (mut out, mut event) = (Vec::new(), event("2 CREATED|IS_FILE x #7"));
    event.path = real_path.join("dir/f").into_os_string().into_encoded_bytes().into();
    let batch = hints.sift(vec![event]);
    hints.take(stream, batch, &mut out);
    assert_snapshot!(say(&out).join("\n"), @r"
    1: f CREATE
    1: f CLOSE_WRITE
    ");
}
