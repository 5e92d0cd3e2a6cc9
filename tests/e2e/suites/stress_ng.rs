//! stress-ng: its stressors of file systems, one after the other, checking their results.

use std::process::Command;
use std::time::Duration;

use crate::support::{Shape, Suite, on_each_shape, require};

/// Of the class, but not about the file system at `--temp-path`.
const ELSEWHERE: &str = "binderfs,eventfd,procfs,ioprio";

/// Stressors that find nothing to do on a mount, with the reason of each.
const SKIPPED: &[(&str, &str)] = &[
    ("fiemap", "the kernel answers it without asking a FUSE file system: not supported"),
    ("verity", "neither the kernel nor the disk has it here"),
];

/// What `stress-ng` exits with if all is well but for stressors that it skipped.
const SOME_SKIPPED: [i32; 2] = [3, 4];

on_each_shape!(alone: the_file_system_class_verifies);

fn the_file_system_class_verifies(shape: Shape) {
    let stress_ng = require!("stress-ng");
    let share = shape.share().patience(Duration::from_secs(400)).start();
    let mut command = Command::new(stress_ng);
    command
        .args(["--class", "filesystem", "--exclude", ELSEWHERE, "--sequential", "1"])
        .args(["--timeout", "1s", "--verify", "--temp-path"])
        .arg(share.mount())
        .current_dir(share.scratch().path());
    let suite = Suite::run("stress-ng", Duration::from_secs(300), &mut command);
    let passed = suite.status.success()
        || suite.status.code().is_some_and(|code| SOME_SKIPPED.contains(&code));
    let lines = |word: &'static str| suite.log.lines().filter(move |line| line.contains(word));
    let complaints: Vec<&str> = lines("fail:").chain(lines("error:")).collect();
    assert!(passed && complaints.is_empty(), "{}: {complaints:#?}\n{}", suite.status, suite.log);
    let documented =
        |line: &str| SKIPPED.iter().any(|(name, _)| line.contains(&format!(" {name}: ")));
    let skipped: Vec<&str> = lines("skipping stress").filter(|line| !documented(line)).collect();
    assert!(skipped.is_empty(), "skipped on the mount: {skipped:#?}");
}
