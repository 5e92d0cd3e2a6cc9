//! Nothing invented: what a guest does itself is no news to it, what one guest does is news to the
//! others, and telling changes nothing on the host.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{count, settle};
use crate::support::share::NAME;
use crate::support::watcher::Log;
use crate::support::{Mirror, PROMPT, Scratch, Shape, Suite, Watcher, eventually};
use crate::support::{on_each_shape, require, tree, turns};

on_each_shape!(alone:
    a_script_of_the_guest_tells_what_it_tells_locally,
    a_checkout_of_the_guest_tells_what_it_tells_locally,
    fsx_in_the_guest_tells_what_it_tells_locally,
    npm_install_in_the_guest_is_told_once,
    telling_changes_nothing_on_the_host,
);

/// Watches every folder there is below `root`; what `act` makes it hear, until nothing comes any
/// more for a while.
fn told(root: &Path, act: impl FnOnce(&Path)) -> Vec<String> {
    let mut watcher = Watcher::new();
    let mut names = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let watch = watcher.watch(&root.join(&folder)).expect("a watch");
        names.insert(watch, Path::new(".").join(&folder).display().to_string());
        for entry in fs::read_dir(root.join(&folder)).expect("a folder").flatten() {
            if entry.file_type().expect("a type").is_dir() && entry.file_name() != ".git" {
                folders.push(folder.join(entry.file_name()));
            }
        }
    }
    // What was done to prepare is told by then.
    settle();
    watcher.read();
    act(root);
    let mut log = Log::default();
    loop {
        // An echo comes late.
        let events = watcher.wait(Duration::from_millis(1500));
        if events.is_empty() {
            return log.lines;
        }
        for event in events {
            log.add(names.get(&event.watch).map_or("?", String::as_str), &event);
        }
    }
}

/// The same on a local folder and on the mount, each prepared by `before`.
fn tells_the_same(shape: Shape, before: impl Fn(&Path), act: impl Fn(&Path)) {
    let share = shape.mounted();
    let local = share.scratch().dir("local");
    before(&local);
    before(share.mount());
    settle();
    let expected = told(&local, &act);
    let injected = count(&share, "events");
    let found = told(share.mount(), &act);
    let invented = count(&share, "events") - injected;
    assert!(!expected.is_empty());
    let differ = expected.iter().zip(&found).position(|(local, share)| local != share);
    let at = differ.unwrap_or(expected.len().min(found.len()));
    assert!(
        expected == found,
        "{} events locally, {} on the mount; from the {at}th on, locally {:#?}, on the mount {:#?}",
        expected.len(),
        found.len(),
        &expected[at..(at + 10).min(expected.len())],
        &found[at..(at + 10).min(found.len())]
    );
    assert_eq!(invented, 0, "changes were told to whom had made them");
}

fn a_script_of_the_guest_tells_what_it_tells_locally(shape: Shape) {
    const SCRIPT: &str = r#"cd "$1"
        for n in 1 2 3 4 5 6 7 8 9; do
            echo "$n" > a/new; echo more >> a/new; mv a/new b/moved; ln b/moved b/link
            chmod 600 b/moved; touch -d 2001-01-01 b/link; rm b/moved; mv b/link a/back
            truncate -s 100 a/back; cp a/back b/copy; mv b/copy a/back; rm a/back
            mkdir c; rmdir c; ln -s target d; ln -s other d.new; mv -T d.new d; rm d; mkfifo e; rm e
            echo x > file.tmp; mv file.tmp file; setfattr -n user.x -v "$n" file || true
        done"#;
    let run = |root: &Path| drop(Suite::shell(PROMPT, SCRIPT, [root]));
    tells_the_same(shape, folders, run);
}

fn folders(root: &Path) {
    for folder in ["a", "b"] {
        fs::create_dir(root.join(folder)).expect("a folder");
    }
}

/// Between two commits that have the same folders.
fn a_checkout_of_the_guest_tells_what_it_tells_locally(shape: Shape) {
    require!("git");
    let origin = Scratch::new();
    tree::make(origin.path(), 1_000, 25, 3_000);
    Suite::shell(
        PROMPT,
        r#"cd "$1"; git init --quiet --initial-branch=main; git add --all
        commit() { git -c user.name=a -c user.email=a@b commit --quiet --all --message "$1"; }
        commit one; git switch --quiet --create other
        for folder in */*; do
            echo changed > "$(ls -d $folder/* | head -1)"
            git mv "$(ls -d $folder/* | tail -1)" $folder/moved; echo new > $folder/new
        done
        git add --all; commit two"#,
        [origin.path()],
    );
    let before = |root: &Path| {
        let clone = r#"git clone --quiet --branch main "file://$1" "$2""#;
        Suite::shell(Duration::from_secs(60), clone, [origin.path(), root]);
    };
    let act = |root: &Path| {
        let script =
            r#"cd "$1"; git switch --quiet --detach origin/other; git switch --quiet main"#;
        Suite::shell(Duration::from_secs(60), script, [root]);
    };
    tells_the_same(shape, before, act);
}

fn fsx_in_the_guest_tells_what_it_tells_locally(shape: Shape) {
    let fsx = require!("fsx");
    let scratch = Scratch::new();
    let act = |root: &Path| {
        let mut command = Command::new(&fsx);
        command.args(["-N", "3000", "-S", "7", "-P"]).arg(scratch.path()).arg(root.join("file"));
        Suite::run("fsx", Duration::from_secs(60), &mut command).succeeds();
    };
    tells_the_same(shape, folders, act);
}

/// What npm does differs a little from run to run. But a name that is made is made once, unless it
/// went in between; and when npm is done, so are the events.
fn npm_install_in_the_guest_is_told_once(shape: Shape) {
    require!("npm");
    const MAKE: &str = r#"cd "$1"; mkdir -p source/package site
        for n in $(seq 300); do
            mkdir -p "source/package/lib/$((n % 20))"
            echo "module.exports = $n" > "source/package/lib/$((n % 20))/$n.js"
        done
        echo '{"name":"dependency","version":"1.0.0"}' > source/package/package.json
        tar -czf dependency.tgz -C source package
        echo '{"name":"site","private":true,"dependencies":{"dependency":"file:../dependency.tgz"}}' \
            > site/package.json"#;
    const INSTALL: &str = r#"cd "$1/site"
        npm install --offline --no-audit --no-fund --loglevel=error --cache "$2"
        test -f node_modules/dependency/lib/7/7.js"#;
    let share = shape.mounted();
    Suite::shell(PROMPT, MAKE, [share.mount()]);
    settle();
    let cache = share.scratch().dir("cache");
    let injected = count(&share, "events");
    let mirror = Mirror::of(share.mount());
    let site = |root: &Path| drop(Suite::shell(Duration::from_secs(100), INSTALL, [root, &cache]));
    let events = told(share.mount(), site);
    let mut there = BTreeMap::new();
    for event in &events {
        let mut words = event.split(' ');
        let (what, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let appears = what.starts_with("CREATE") || what.starts_with("MOVED_TO");
        let goes = what.starts_with("DELETE") || what.starts_with("MOVED_FROM");
        if what.starts_with("CREATE") {
            assert_ne!(there.get(path), Some(&true), "{path} is made twice: {events:#?}");
        }
        if goes {
            assert_ne!(there.get(path), Some(&false), "{path} goes twice: {events:#?}");
        }
        if appears || goes {
            there.insert(path.to_owned(), appears);
        }
    }
    assert!(!there.is_empty(), "{events:#?}");
    mirror.shows(share.host(), PROMPT).expect("what was installed is seen");
    let heard = mirror.heard();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(mirror.heard(), heard, "events come after the end");
    assert_eq!(count(&share, "events"), injected, "changes were told to whom had made them");
}

/// The other guest's watchers hear it all.
#[test]
fn what_one_guest_does_is_followed_by_the_other() {
    let _turn = turns::alone();
    require!("git");
    let share = Shape::UnixSocket.mounted();
    let there = share.scratch().dir("second");
    let _second = share.another_agent(&[(NAME, there.clone())]);
    let mirror = Mirror::of(&there);
    let origin = Scratch::new();
    tree::make(origin.path(), 1_000, 25, 3_000);
    Suite::shell(
        Duration::from_secs(100),
        r#"cp -r "$1" "$2/tree"; cd "$2"; mv tree/0 tree/moved; rm -r tree/1; mkdir tree/1
        find tree/2 -type f -name '*7*' | while read -r file; do echo changed > "$file"; done
        for n in $(seq 50); do echo "$n" > save.tmp; mv save.tmp saved; done"#,
        [origin.path(), share.mount()],
    );
    mirror.shows(share.host(), PROMPT).expect("the other guest's picture");
}

/// Content, mode, owner, times, even the time of the last change of attributes: for every file.
fn telling_changes_nothing_on_the_host(shape: Shape) {
    let share = shape.mounted();
    tree::make(share.host(), 500, 25, 2_000);
    let mirror = Mirror::of(share.mount());
    let heard = mirror.heard();
    // Told at once on the host, so that telling comes after it.
    const CHANGES: &str = r#"cd "$1"
        for file in $(find . -type f -name '*[01].txt'); do echo more >> $file; done
        for file in $(find . -type f -name '*[23].txt'); do chmod 600 $file; done
        for file in $(find . -type f -name '*4.txt'); do mv $file $file.moved; done
        for file in $(find . -type f -name '*5.txt'); do rm $file; done
        for file in $(find . -type f -name '*6.txt'); do echo new > $file.tmp; mv $file.tmp $file; done
        for file in $(find . -type f -name '*7.txt'); do ln $file $file.link; chown 33 $file; done
        mv 0/0 0/moved; mkdir 0/0; ln -s target link; mkfifo fifo; rm -r 1/1"#;
    Suite::shell(PROMPT, CHANGES, [share.host()]);
    let before = snapshot(share.host());
    mirror.shows(share.host(), PROMPT).expect("the changes are told");
    settle();
    assert!(mirror.heard() > heard + 500);
    let after = snapshot(share.host());
    for (path, found) in &before {
        assert_eq!(after.get(path), Some(found), "{}", path.display());
    }
    assert_eq!(before.len(), after.len());
    // The guest's view has the same times.
    eventually("the times are the same", PROMPT, || {
        snapshot(share.mount()).iter().all(|(path, found)| after.get(path) == Some(found))
    });
}

/// Everything that can be known of a tree without changing it, but access times.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        let stat = fs::symlink_metadata(&path).expect("lstat");
        let mut text = format!(
            "inode {} mode {:o} links {} owner {}:{} size {} modified {}.{:09} changed {}.{:09}",
            stat.ino(),
            stat.mode(),
            stat.nlink(),
            stat.uid(),
            stat.gid(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec()
        );
        if stat.is_file() {
            let content = fs::read(&path).expect("a file");
            let _ = write!(text, " {}", content.escape_ascii());
        } else if stat.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder").flatten();
            paths.extend(entries.map(|entry| entry.path()));
        }
        found.insert(path.strip_prefix(root).expect("below").to_owned(), text);
    }
    found
}
