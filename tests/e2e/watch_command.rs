//! `osxfs watch`: the changes of a mount, for people and for programs.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Daemon, PROMPT, Shape, Share, Suite, on_each_shape};

on_each_shape!(together:
    changes_are_printed_as_they_are_delivered,
    programs_read_one_object_a_line,
    the_end_of_the_mount_ends_it,
);

fn watch(share: &Share, flags: &[&str]) -> Daemon {
    let mut command = share.osxfs(["watch"]);
    command.arg(share.mount()).args(flags);
    let mut daemon = Daemon::spawn("osxfs watch", command, Duration::from_secs(120));
    // It says what it watches when it does.
    daemon.await_line(if flags.is_empty() { "watching " } else { "{\"watching\":" });
    daemon
}

fn changes_are_printed_as_they_are_delivered(shape: Shape) {
    let share = shape.mounted();
    let mut watch = watch(&share, &[]);
    fs::create_dir(share.host().join("folder")).expect("a folder");
    let made = |line: &str| line.starts_with("created   folder/ ") && line.ends_with("injected");
    assert!(watch.stdout.wait_for(PROMPT, made).is_some(), "{}", watch.report());
    fs::rename(share.host().join("folder"), share.host().join("other")).expect("a rename");
    let moved = |line: &str| line.starts_with("renamed   folder/ -> other/ ");
    assert!(watch.stdout.wait_for(PROMPT, moved).is_some(), "{}", watch.report());
    watch.ends_cleanly_on(Signal::INT);
}

fn programs_read_one_object_a_line(shape: Shape) {
    let share = shape.mounted();
    let mut watch = watch(&share, &["--json"]);
    fs::write(share.host().join("file"), "x").expect("a file");
    let made = |line: &str| line.contains("\"created\"");
    let line = watch.stdout.wait_for(PROMPT, made);
    let line = line.unwrap_or_else(|| panic!("{}", watch.report()));
    let change: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(change["path"], "file");
    assert_eq!(change["outcome"], "injected");
    assert_eq!(change["missed"], 0);
    assert!(change["delay_us"].as_u64().is_some_and(|micros| micros > 0), "{change}");
    watch.ends_cleanly_on(Signal::TERM);
}

fn the_end_of_the_mount_ends_it(shape: Shape) {
    let mut share = shape.mounted();
    let mut watch = watch(&share, &[]);
    share.agent().ends_cleanly_on(Signal::TERM);
    watch.ends_cleanly();
}

#[test]
fn what_is_no_mount_is_refused_with_the_next_step() {
    let share = Shape::Embedded.mounted();
    let mut command = share.osxfs(["watch"]);
    command.arg(share.host());
    let refused = Suite::run("osxfs watch", PROMPT, &mut command);
    assert!(!refused.status.success());
    let host = share.host().display().to_string();
    assert!(refused.log.contains(&host) && refused.log.contains("osxfs status"), "{}", refused.log);
}
