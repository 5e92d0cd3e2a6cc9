//! Much at once, and nothing lost: a watcher in the guest that believes what it is told ends with
//! the picture of the host.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::mirror::{differences, look};
use crate::support::{Mirror, Shape, Share, Suite, eventually, on_each_shape, require, turns};
use crate::support::{require_root, tree::Numbers};

/// Files of each of the two trees that git changes between.
const FILES: usize = 50_000;
const PER_FOLDER: usize = 100;
/// Files made and removed again, in folders of this many.
const BRIEF: usize = 50_000;
const BRIEF_FOLDERS: usize = 50;
const SAVES: usize = 1_000;
const DEEP: usize = 1_000;
/// How long the last events may take when nothing comes any more.
const QUIET: Duration = Duration::from_secs(10);

on_each_shape!(alone:
    a_file_saved_1000_times_is_followed,
    a_tree_1000_deep_is_followed_and_moved,
);

/// A share, a mirror on its mount, and what must hold when all is over.
struct Storm {
    share: Share,
    mirror: Mirror,
}

impl Storm {
    fn over(share: Share) -> Self {
        // The watcher is a slow one; what it misses by that is no fault of the share.
        let mirror = with_queues_of(2_000_000, || Mirror::of(share.mount()));
        Self { share, mirror }
    }

    /// The mirror shows the host's tree, and so does the mount to whoever looks.
    #[track_caller]
    fn ends(&self, name: &str, start: Instant) {
        let done = start.elapsed();
        let shown = self.mirror.shows(self.share.host(), QUIET);
        let (host, guest) = (look(self.share.host()), look(self.share.mount()));
        let _ = writeln!(
            std::io::stderr(),
            "{name}: host {done:.1?}, followed {:.1?}, {} events, {} overflows of the watcher",
            start.elapsed(),
            self.mirror.heard(),
            self.mirror.overflows(),
        );
        if let Err(differ) = shown {
            panic!("{name}: the mirror and the host: {differ}");
        }
        assert!(host == guest, "{name}: guest and host: {}", differences(&host, &guest));
    }
}

#[test]
fn a_checkout_between_two_trees_of_50000_files_is_followed() {
    let _turn = turns::alone();
    require!("git");
    let share = Shape::UnixSocket.share().patience(Duration::from_secs(400)).start();
    repository(share.host(), FILES);
    checks_out(share);
}

#[test]
fn a_checkout_between_two_trees_of_5000_files_is_followed_in_one_process() {
    let _turn = turns::alone();
    require!("git");
    let share = Shape::Embedded.mounted();
    repository(share.host(), FILES / 10);
    checks_out(share);
}

fn checks_out(share: Share) {
    let storm = Storm::over(share);
    let start = Instant::now();
    git(storm.share.host(), "checkout --quiet two");
    storm.ends("git checkout", start);
}

fn git(folder: &Path, arguments: &str) {
    let script = format!("cd \"$1\" && git {arguments}");
    Suite::shell(Duration::from_secs(120), &script, [folder]);
}

/// A work tree of `files` files at the first of two commits. A third of them is the same in both, a
/// third has other content, a third has another name.
fn repository(folder: &Path, files: usize) {
    let mut stream = String::new();
    for (mark, branch) in [(1, "one"), (2, "two")] {
        let _ = write!(stream, "commit refs/heads/{branch}\nmark :{mark}\n");
        let _ = write!(stream, "committer a <a@b> 0 +0000\ndata 0\n");
        for index in 0..files {
            let (name, text) = match index % 3 {
                0 => ("same", format!("same {index}")),
                1 => ("file", format!("{branch} {index}")),
                _ => (branch, format!("moved {index}")),
            };
            let path = format!("{}/{name}-{index}", index / PER_FOLDER);
            let _ = write!(stream, "M 644 inline {path}\ndata {}\n{text}\n", text.len());
        }
        stream.push('\n');
    }
    let scratch = crate::support::Scratch::new();
    let file = scratch.path().join("stream");
    fs::write(&file, stream).expect("a stream");
    // The repository lies beside the work tree, which is what is watched.
    let git_dir = folder.with_file_name("repository");
    Suite::shell(
        Duration::from_secs(120),
        r#"git init --quiet --separate-git-dir="$2" "$1" && cd "$1"
        git fast-import --quiet < "$3" && git config core.hooksPath /dev/null
        git checkout --quiet one"#,
        [folder, &git_dir, &file],
    );
}

/// 100,000 creations and deletions: all that is made is removed again, but for every tenth.
#[test]
fn what_is_made_and_removed_100000_times_is_followed() {
    let _turn = turns::alone();
    let storm = Storm::over(Shape::UnixSocket.mounted());
    makes_and_removes(&storm, BRIEF);
}

#[test]
fn what_is_made_and_removed_10000_times_is_followed_in_one_process() {
    let _turn = turns::alone();
    let storm = Storm::over(Shape::Embedded.mounted());
    makes_and_removes(&storm, BRIEF / 10);
}

fn makes_and_removes(storm: &Storm, files: usize) {
    let start = Instant::now();
    let path = |index: usize| storm.share.host().join(format!("{}/{index}", index % BRIEF_FOLDERS));
    for folder in 0..BRIEF_FOLDERS {
        fs::create_dir(storm.share.host().join(folder.to_string())).expect("a folder");
    }
    // What is removed was made anywhere between just now and a while ago.
    let mut numbers = Numbers(1);
    let mut there: Vec<usize> = Vec::new();
    for index in 0..files {
        File::create(path(index)).expect("a file");
        there.push(index);
        if there.len() > 500 {
            let chosen = there.swap_remove(numbers.below(500) as usize);
            fs::remove_file(path(chosen)).expect("a removal");
        }
    }
    for index in there.iter().filter(|index| *index % 10 != 0) {
        fs::remove_file(path(*index)).expect("a removal");
    }
    storm.ends("creations and deletions", start);
}

fn a_file_saved_1000_times_is_followed(shape: Shape) {
    let storm = Storm::over(shape.mounted());
    let (file, saved) = (storm.share.host().join("file"), storm.share.host().join("file.tmp"));
    let start = Instant::now();
    for round in 0..SAVES {
        fs::write(&saved, format!("round {round}")).expect("a file");
        fs::rename(&saved, &file).expect("a rename");
    }
    storm.ends("atomic saves", start);
}

fn a_tree_1000_deep_is_followed_and_moved(shape: Shape) {
    let storm = Storm::over(shape.mounted());
    let start = Instant::now();
    let deep = storm.share.host().join("deep");
    let bottom = (0..DEEP).fold(deep.clone(), |path, _| path.join("d"));
    fs::create_dir_all(&bottom).expect("a deep tree");
    fs::write(bottom.join("file"), "x").expect("a file");
    let on_mount = bottom.strip_prefix(storm.share.host()).expect("below");
    let on_mount = storm.share.mount().join(on_mount);
    eventually("the bottom is there", Duration::from_secs(60), || on_mount.join("file").exists());
    storm.ends("a deep tree", start);
    let start = Instant::now();
    fs::rename(&deep, storm.share.host().join("moved")).expect("a rename");
    let bottom = (0..DEEP).fold(storm.share.host().join("moved"), |path, _| path.join("d"));
    fs::write(bottom.join("file"), "changed").expect("a file");
    fs::write(bottom.join("another"), "y").expect("a file");
    storm.ends("a deep tree moved", start);
    // Half of it goes, from the bottom up.
    let start = Instant::now();
    let half = (0..DEEP / 2).fold(storm.share.host().join("moved"), |path, _| path.join("d"));
    fs::remove_dir_all(half).expect("a removal");
    storm.ends("half of a deep tree removed", start);
}

/// The queue of the server's own inotify is made so short that it overflows.
#[test]
fn a_storm_that_overflows_the_hosts_queue_is_followed() {
    let _turn = turns::alone();
    require_root!();
    for shape in [Shape::Embedded, Shape::UnixSocket] {
        let share = with_queues_of(16, || shape.mounted());
        for folder in 0..20 {
            fs::create_dir(share.host().join(format!("folder-{folder}"))).expect("a folder");
        }
        let storm = Storm::over(share);
        let start = Instant::now();
        for round in 0..5_000 {
            let folder = storm.share.host().join(format!("folder-{}", round % 20));
            let file = folder.join(format!("file-{}", round % 700));
            fs::write(&file, round.to_string()).expect("a file");
            match round % 5 {
                0 => fs::rename(&file, folder.join(format!("renamed-{}", round % 70))),
                1 => fs::remove_file(&file),
                2 => fs::create_dir_all(folder.join(format!("sub-{}/deep", round % 30))),
                3 => fs::write(folder.join(format!("sub-{}/deep/in", round % 30)), "x").or(Ok(())),
                _ => Ok(()),
            }
            .expect("a change");
        }
        storm.ends("a short queue", start);
    }
}

/// What is opened meanwhile to hear events may have so many of them wait.
fn with_queues_of<T>(events: usize, act: impl FnOnce() -> T) -> T {
    struct Restore(PathBuf, String);
    impl Drop for Restore {
        fn drop(&mut self) {
            let _ = fs::write(&self.0, &self.1);
        }
    }
    let set = |kind: &str| {
        let path = PathBuf::from(format!("/proc/sys/fs/{kind}/max_queued_events"));
        let before = fs::read_to_string(&path).ok()?;
        fs::write(&path, events.to_string()).ok()?;
        Some(Restore(path, before))
    };
    let _restore = ["inotify", "fanotify"].map(set);
    act()
}
