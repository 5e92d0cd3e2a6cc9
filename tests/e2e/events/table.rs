//! The same script on a local folder and on the host of a share: who watches the share hears what
//! who watches the local folder hears, event for event, in the same order, on the same watches.
//!
//! All cases run side by side, each in a folder of its own, step by step: a step is done locally,
//! then on the host; the next one begins when every view of the share has told as much as the local
//! disk. `OSXFS_CASE=NAME` runs one case alone. What may differ is a row of [`DIFFERENCES`] and must
//! be met exactly.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cases::{self, Case, Place};
use super::differences::DIFFERENCES;
use crate::support::watcher::{Event, Log};
use crate::support::{Bind, PROMPT, Shape, Watcher, eventually, on_each_shape, require_root};

/// How much time events are given.
#[derive(Clone, Copy)]
pub struct Pace {
    /// How long a step may take on a busy machine.
    pub step: Duration,
    /// Time for events that should not come, to come.
    pub quiet: Duration,
}

const PACE: Pace = Pace { step: Duration::from_secs(5), quiet: Duration::from_millis(400) };

on_each_shape!(alone: each_kind_is_told_as_by_a_local_disk);

fn each_kind_is_told_as_by_a_local_disk(shape: Shape) {
    require_root!();
    let share = shape.mounted();
    let at = |name: &str| share.scratch().dir(name);
    let local = Side { folder: at("local"), outside: at("local-outside") };
    let host = Side { folder: share.host().join("all"), outside: at("host-outside") };
    let runs = prepare(&local, &host);
    // The ways that a guest's programs take to the folder.
    let on_mount = share.mount().join("all");
    eventually("the folders are there", PROMPT, || {
        runs.iter().all(|run| on_mount.join(&run.name).exists())
    });
    let read_only = Bind::mount(share.mount(), &at("read-only"), true);
    let below = Bind::mount(&on_mount, &at("below"), false);
    let container = Bind::in_a_namespace(share.mount(), &at("container"));
    // What was done to prepare is told by then, and is no part of it.
    std::thread::sleep(PACE.quiet);
    let ways = [
        ("mount", on_mount.clone()),
        ("read-only bind", read_only.path().join("all")),
        ("bind of a folder", below.path().to_owned()),
        ("bind in a namespace", container.path().join("all")),
    ];
    let views = ways.map(|(name, folder)| View::new(name, &folder, &runs, Watcher::new()));
    compare(&local, &host, runs, views.into(), PACE);
}

/// Makes what the scripts need on both sides.
pub fn prepare(local: &Side, host: &Side) -> Vec<Run> {
    fs::create_dir(&host.folder).expect("a folder");
    let mut runs = Vec::new();
    let only = std::env::var("OSXFS_CASE").ok();
    let chosen = |case: &Case| only.as_deref().is_none_or(|only| only == case.name);
    for case in cases::all().filter(|case| chosen(case)) {
        for watches in case.watches {
            let name = format!("{}-{}", case.name, runs.len());
            for side in [local, host] {
                let place = side.place(&name);
                for folder in [&place.dir, &place.outside] {
                    fs::create_dir(folder).expect("a folder");
                }
                (case.before)(&place);
            }
            runs.push(Run { case, watches, name, expected: vec![Vec::new()], behind: false });
        }
    }
    runs
}

/// Runs the scripts, and expects of each view of the host's side what the local disk tells.
#[track_caller]
pub fn compare(local: &Side, host: &Side, mut runs: Vec<Run>, mut views: Vec<View>, pace: Pace) {
    let mut here = View::new("local", &local.folder, &runs, Watcher::new());
    std::thread::sleep(pace.quiet);
    for view in views.iter_mut().chain([&mut here]) {
        view.read();
        view.logs.iter_mut().for_each(|log| *log = Log::default());
    }
    let steps = runs.iter().map(|run| run.case.script.len()).max().unwrap_or_default();
    for step in 0..steps {
        for run in &runs {
            if let Some(act) = run.case.script.get(step) {
                act(&local.place(&run.name));
                act(&host.place(&run.name));
            }
        }
        here.read();
        for (index, run) in runs.iter_mut().enumerate() {
            run.expect(step, &std::mem::take(&mut here.logs[index].lines));
        }
        let deadline = Instant::now() + pace.step;
        loop {
            views.iter_mut().for_each(View::read);
            let complete = |index: usize| {
                let least = runs[index].expected.iter().map(Vec::len).min().unwrap_or_default();
                views.iter().all(|view| view.logs[index].lines.len() >= least)
            };
            let missing: Vec<usize> =
                (0..runs.len()).filter(|index| !runs[*index].behind && !complete(*index)).collect();
            if missing.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                missing.into_iter().for_each(|index| runs[index].behind = true);
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(pace.quiet);
    }
    views.iter_mut().for_each(View::read);
    let mut failures = String::new();
    let mut failed = 0;
    for (index, run) in runs.iter().enumerate() {
        let differs = |view: &&View| !run.expected.contains(&view.logs[index].lines);
        let Some(view) = views.iter().find(differs) else { continue };
        let which = views.iter().filter(differs).count();
        failed += 1;
        let _ = write!(
            failures,
            "\n{}, watching {:?}, in {which} of {} views:\n{}",
            run.case.name,
            run.watches,
            views.len(),
            beside(&run.expected[0], &view.logs[index].lines)
        );
        let _ = write!(failures, "    (first: {})", view.name);
    }
    assert!(failed == 0, "{failed} of {} differ (- local, + share):{failures}", runs.len());
}

/// One case with one set of watches.
pub struct Run {
    case: &'static Case,
    watches: &'static [&'static str],
    pub name: String,
    /// What the steps so far should tell, in all: one of these.
    expected: Vec<Vec<String>>,
    /// It has not told what it should, and is not waited for any more.
    behind: bool,
}

impl Run {
    /// A local disk tells this of a step: what should a share tell?
    fn expect(&mut self, step: usize, local: &[String]) {
        let rows = DIFFERENCES.iter().filter(|row| {
            row.case == self.case.name && row.watches == self.watches && row.step == step
        });
        let mut ways: Vec<Vec<String>> = Vec::new();
        let mut exactly = true;
        for row in rows {
            assert_eq!(local, row.local, "{}: a local disk tells something else", row.case);
            ways.push(row.share.iter().map(|line| (*line).to_owned()).collect());
            exactly &= row.sometimes;
        }
        if exactly {
            ways.push(local.to_vec());
            ways.extend(late_ends(local));
        }
        let so_far = std::mem::take(&mut self.expected);
        let each = so_far.iter().flat_map(|lines| ways.iter().map(move |way| (lines, way)));
        self.expected = each.map(|(lines, way)| [&lines[..], way].concat()).collect();
    }
}

/// The same, where one of the folders that go has its end told behind the removal of its name: as on a
/// local disk while somebody has it open, here for the moment in which the kernel is told of it.
fn late_ends(local: &[String]) -> impl Iterator<Item = Vec<String>> {
    let is_end = |lines: &[String]| {
        lines[0].starts_with("DELETE_SELF ")
            && lines[1].starts_with("IGNORED ")
            && lines[2].starts_with("DELETE|ISDIR ")
    };
    let ends = local.windows(3).enumerate().filter(move |(_, lines)| is_end(lines));
    ends.map(|(at, _)| {
        let mut late = local.to_vec();
        late[at..at + 3].rotate_right(1);
        late
    })
}

/// Where scripts run: in folders within what is watched, and with folders beside it that are not.
pub struct Side {
    pub folder: PathBuf,
    pub outside: PathBuf,
}

impl Side {
    fn place(&self, name: &str) -> Place {
        Place { dir: self.folder.join(name), outside: self.outside.join(name) }
    }
}

/// What hears the events of a view.
pub trait Ears {
    /// Watches a path, of a symbolic link the link itself.
    fn watch(&mut self, path: &Path) -> Result<i32, String>;

    /// What has come, without waiting.
    fn read(&mut self) -> Vec<Event>;
}

impl Ears for Watcher {
    fn watch(&mut self, path: &Path) -> Result<i32, String> {
        Watcher::watch(self, path).map_err(|errno| errno.to_string())
    }

    fn read(&mut self) -> Vec<Event> {
        Watcher::read(self)
    }
}

/// One way to the folder, with a watcher of its own; a log for each run.
pub struct View {
    name: &'static str,
    ears: Box<dyn Ears>,
    watches: HashMap<i32, (usize, &'static str)>,
    logs: Vec<Log>,
}

impl View {
    #[track_caller]
    pub fn new(
        name: &'static str,
        folder: &Path,
        runs: &[Run],
        mut ears: impl Ears + 'static,
    ) -> Self {
        let mut watches = HashMap::new();
        for (index, run) in runs.iter().enumerate() {
            for path in run.watches {
                let full = folder.join(&run.name).join(path);
                let watch = ears.watch(&full);
                let watch = watch.unwrap_or_else(|error| panic!("{}: {error}", full.display()));
                watches.insert(watch, (index, *path));
            }
        }
        let logs = runs.iter().map(|_| Log::default()).collect();
        Self { name, ears: Box::new(ears), watches, logs }
    }

    fn read(&mut self) {
        for event in self.ears.read() {
            if let Some((run, path)) = self.watches.get(&event.watch) {
                self.logs[*run].add(path, &event);
            }
        }
    }
}

/// Two logs as `diff` shows them: what is common, what only one has.
fn beside(local: &[String], share: &[String]) -> String {
    // The longest common part, by the textbook.
    let mut length = vec![vec![0; share.len() + 1]; local.len() + 1];
    for i in (0..local.len()).rev() {
        for j in (0..share.len()).rev() {
            length[i][j] = match local[i] == share[j] {
                true => length[i + 1][j + 1] + 1,
                false => length[i + 1][j].max(length[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < local.len() || j < share.len() {
        let both = i < local.len() && j < share.len() && local[i] == share[j];
        let skip = i < local.len() && (j == share.len() || length[i + 1][j] >= length[i][j + 1]);
        let (sign, line) = match (both, skip) {
            (true, _) => (' ', &local[i]),
            (false, true) => ('-', &local[i]),
            (false, false) => ('+', &share[j]),
        };
        let _ = writeln!(text, "    {sign} {line}");
        i += usize::from(sign != '+');
        j += usize::from(sign != '-');
    }
    text
}
