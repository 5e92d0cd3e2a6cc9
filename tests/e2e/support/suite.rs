//! A program that judges a mount, run to its end under a limit, its output kept.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::Scratch;

/// How a program ended, and what it printed.
pub struct Suite {
    name: String,
    pub status: ExitStatus,
    /// Standard output and error, as they came.
    pub log: String,
}

impl Suite {
    /// Runs `command` to its end; fails if that takes longer than `limit`.
    #[track_caller]
    pub fn run(name: &str, limit: Duration, command: &mut Command) -> Self {
        let scratch = Scratch::new();
        let path = scratch.path().join("log");
        let log = File::create(&path).expect("a log");
        let errors = log.try_clone().expect("a log");
        // A group of its own, so that all that it starts can be ended with it.
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name}: {error}"));
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break status;
            }
            if start.elapsed() > limit {
                let _ = rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL);
                // Not waited for: it may hang on the mount, which the end of the share resolves.
                panic!("{name} has not ended within {limit:?}; its log ends\n{}", tail(&path));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let log = String::from_utf8_lossy(&std::fs::read(&path).expect("the log")).into_owned();
        Self { name: name.to_owned(), status, log }
    }

    /// Runs a shell script with arguments `$1`…, and expects success.
    #[track_caller]
    pub fn shell<S: AsRef<OsStr>>(
        limit: Duration,
        script: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let name = script.trim().lines().next().unwrap_or_default().to_owned();
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script, "bash"]).args(arguments);
        Self::run(&name, limit, &mut command).succeeds()
    }

    #[track_caller]
    pub fn succeeds(self) -> Self {
        let Self { name, status, log } = &self;
        assert!(status.success(), "{name} failed: {status}; its log ends\n{}", last_lines(log));
        self
    }
}

fn tail(path: &Path) -> String {
    last_lines(&String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
