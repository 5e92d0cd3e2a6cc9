//! The tools that people leave running while they work, in the guest on the mount, while every
//! change is made on the host: each must follow each change, and rest when nothing changes.
//!
//! All go through the same day ([`Project::follow`]). A project is a folder of parts, and every
//! tool makes one picture of them, `shows NAME=TEXT …`: by building them, by running what it has
//! built, or from nothing but the events it was told. The picture must come to equal the host.

mod cargo_watch;
mod chokidar;
mod nodemon;
mod tsc;
mod vite;
mod vitest;
mod watchdog;
mod webpack;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Daemon, Shape, Share, eventually, holds_within};

/// How long a tool may take to start, or to follow a change: builds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between what is seen and the next change: chokidar drops, by design, what comes within 50 ms.
const PACE: Duration = Duration::from_millis(200);
/// How long nothing may happen at the end.
const REST: Duration = Duration::from_secs(3);

/// What happens to a part on the host.
enum Change {
    Create(&'static str, &'static str),
    /// Written over in place.
    Edit(&'static str, &'static str),
    /// Replaced as editors do it: written beside, then renamed over.
    Save(&'static str, &'static str),
    Rename(&'static str, &'static str),
    Delete(&'static str),
}
use Change::{Create, Delete, Edit, Rename, Save};

/// A part that was replaced, renamed or made again must be followed like a new one: each is
/// changed once more.
const DAY: &[Change] = &[
    Edit("one", "edited"),
    Edit("one", "EDITED"),
    Create("two", "created"),
    Rename("two", "three"),
    Edit("three", "renamed-and-edited"),
    Save("one", "saved"),
    Save("one", "saved-again"),
    Edit("one", "saved-and-edited"),
    Delete("three"),
    Create("three", "made-again"),
    Save("three", "made-again-and-saved"),
    Delete("three"),
];

/// How the parts of a project are written.
struct Language {
    suffix: &'static str,
    /// What stands before and after a part's text.
    around: (&'static str, &'static str),
}

/// A folder of the share with parts in `parts`, and what a tool needs beside them.
struct Project {
    language: Language,
    parts: BTreeMap<&'static str, &'static str>,
    share: Share,
}

impl Project {
    fn new(shape: Shape, language: Language, files: &[(&str, &str)]) -> Self {
        let share = shape.mounted();
        for (name, content) in files {
            let path = share.host().join(name);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
            fs::write(path, content).expect("a file");
        }
        fs::create_dir(share.host().join("parts")).expect("a folder");
        let mut project = Self { language, parts: BTreeMap::new(), share };
        project.change(&Create("one", "original"));
        project
    }

    /// Where the tools run.
    fn guest(&self) -> &Path {
        self.share.mount()
    }

    /// Starts a tool that is given by its path, or a program of the machine, in the project.
    fn start<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Daemon {
        let name = Path::new(&program).file_name().expect("a name").to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.guest());
        // As on a developer's machine, whoever runs the tests.
        command.env_remove("CI").env_remove("CARGO_TARGET_DIR").env("NO_COLOR", "1");
        Daemon::spawn(&name, command, Duration::from_secs(200))
    }

    /// Carries out the day's changes on the host, each when the last one has arrived in what the
    /// tool shows, and then sees it rest. `others` are daemons that rest, too.
    #[track_caller]
    fn follow(
        mut self,
        tool: &Daemon,
        others: &[&Daemon],
        shown: impl Fn(&Self) -> Option<String>,
    ) {
        self.expect("the start", &shown);
        for (index, change) in DAY.iter().enumerate() {
            std::thread::sleep(PACE);
            let what = self.change(change);
            self.expect(&format!("change {index}, {what}"), &shown);
        }
        let said = || -> usize {
            let all = [tool].into_iter().chain(others.iter().copied());
            all.map(|daemon| daemon.stdout.all().len() + daemon.stderr.all().len()).sum()
        };
        // A tool may look once more at what came in short succession.
        let (mut lines, mut since) = (said(), Instant::now());
        eventually("the tool is done with the last change", PATIENCE, || {
            if said() != lines {
                (lines, since) = (said(), Instant::now());
            }
            since.elapsed() > Duration::from_secs(1)
        });
        std::thread::sleep(REST);
        assert_eq!(said(), lines, "the tool goes on though nothing changes");
        self.expect("the end", &shown);
    }

    #[track_caller]
    fn expect(&self, when: &str, shown: &impl Fn(&Self) -> Option<String>) {
        let wanted = picture(&self.parts);
        if !holds_within(PATIENCE, || shown(self).as_ref() == Some(&wanted)) {
            panic!("{when}: expected {wanted:?}, the tool shows {:?}", shown(self));
        }
    }

    /// Changes the host; tells what was done.
    fn change(&mut self, change: &Change) -> String {
        match *change {
            Create(name, text) | Edit(name, text) => {
                fs::write(self.host(name), self.content(text)).expect("a file");
                self.parts.insert(name, text);
                format!("{name} written in place")
            }
            Save(name, text) => {
                let beside = self.share.host().join("parts").join(format!(".{name}.tmp"));
                fs::write(&beside, self.content(text)).expect("a file");
                fs::rename(beside, self.host(name)).expect("a rename");
                self.parts.insert(name, text);
                format!("{name} saved")
            }
            Rename(from, to) => {
                fs::rename(self.host(from), self.host(to)).expect("a rename");
                let text = self.parts.remove(from).expect("a part");
                self.parts.insert(to, text);
                format!("{from} renamed to {to}")
            }
            Delete(name) => {
                fs::remove_file(self.host(name)).expect("a removal");
                self.parts.remove(name);
                format!("{name} deleted")
            }
        }
    }

    fn host(&self, part: &str) -> PathBuf {
        self.share.host().join("parts").join(format!("{part}{}", self.language.suffix))
    }

    fn content(&self, text: &str) -> String {
        let (before, after) = self.language.around;
        format!("{before}{text}{after}")
    }
}

/// What a tool shows of these parts.
fn picture<N: AsRef<str>, T: AsRef<str>>(parts: &BTreeMap<N, T>) -> String {
    let parts = parts.iter().map(|(name, text)| format!("{}={}", name.as_ref(), text.as_ref()));
    std::iter::once("shows".to_owned()).chain(parts).collect::<Vec<_>>().join(" ")
}

/// The last picture that a program has printed.
fn last_printed(daemon: &Daemon) -> Option<String> {
    daemon.stdout.all().into_iter().rev().find(|line| line.starts_with("shows"))
}

/// A script of ours beside this file.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/watchers").join(name)
}

/// Where Node.js finds the modules that were installed with this program, for `NODE_PATH`.
fn modules_beside(program: &Path) -> PathBuf {
    let prefix = program.ancestors().nth(2).expect("in PREFIX/bin");
    prefix.join("lib/node_modules")
}
