//! A server that was away: what happened meanwhile, and nothing else, is heard by who watches.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Daemon, Share, require};
use crate::support::{PROMPT, Shape, Suite, eventually, turns};

/// Made before the server goes: (path, content) of files, and folders.
const FILES: [&str; 9] = [
    "kept",
    "gone",
    "written",
    "mode",
    "old-name",
    "file-to-folder",
    "deep/er/file",
    "there/and-back",
    "moved-out",
];

fn prepare(host: &Path) {
    for dir in ["deep/er", "there", "folder-to-file", "renamed-folder"] {
        fs::create_dir_all(host.join(dir)).expect("a folder");
    }
    for file in FILES {
        fs::write(host.join(file), file).expect("a file");
    }
    fs::write(host.join("renamed-folder/inside"), "x").expect("a file");
}

fn change(host: &Path) {
    let at = |name: &str| host.join(name);
    fs::write(at("new"), "new").expect("a file");
    fs::create_dir(at("new-folder")).expect("a folder");
    fs::remove_file(at("gone")).expect("a removal");
    fs::write(at("written"), "written again").expect("a file");
    fs::set_permissions(at("mode"), Permissions::from_mode(0o600)).expect("a mode");
    fs::rename(at("old-name"), at("new-name")).expect("a rename");
    fs::remove_file(at("file-to-folder")).expect("a removal");
    fs::create_dir(at("file-to-folder")).expect("a folder");
    fs::remove_dir(at("folder-to-file")).expect("a removal");
    fs::write(at("folder-to-file"), "x").expect("a file");
    fs::remove_dir_all(at("deep")).expect("a removal");
    fs::rename(at("renamed-folder"), at("folder")).expect("a rename");
    fs::write(at("folder/inside"), "written").expect("a file");
    fs::rename(at("moved-out"), at("there/moved-in")).expect("a rename");
    // Nothing has become of this.
    fs::rename(at("there/and-back"), at("there/away")).expect("a rename");
    fs::rename(at("there/away"), at("there/and-back")).expect("a rename");
}

const HEARS: [&str; 19] = [
    "CREATE ./new",
    "CREATE,ISDIR ./new-folder",
    "DELETE ./gone",
    "MODIFY ./written",
    "ATTRIB ./mode",
    "MOVED_FROM ./old-name",
    "MOVED_TO ./new-name",
    "DELETE ./file-to-folder",
    "CREATE,ISDIR ./file-to-folder",
    "DELETE,ISDIR ./folder-to-file",
    "CREATE ./folder-to-file",
    "DELETE ./deep/er/file",
    "DELETE,ISDIR ./deep/er",
    "DELETE,ISDIR ./deep",
    "MOVED_FROM,ISDIR ./renamed-folder",
    "MOVED_TO,ISDIR ./folder",
    "MODIFY ./folder/inside",
    "MOVED_FROM ./moved-out",
    "MOVED_TO ./there/moved-in",
];

#[test]
fn a_watcher_hears_the_net_difference_of_the_time_without_a_server() {
    let inotifywait = require!("inotifywait");
    let _turn = turns::together();
    let mut share = Shape::UnixSocket.mounted();
    prepare(share.host());
    // The guest knows all of it, and what it did itself is no news later.
    fs::write(share.mount().join("own"), "of the guest").expect("a file");
    assert_eq!(listing(share.mount()), listing(share.host()));
    let mut watch = Command::new(inotifywait);
    watch.current_dir(share.mount());
    watch.args(["-m", "-r", "--format", "%e %w%f"]);
    for event in ["create", "delete", "modify", "attrib", "moved_to", "moved_from"] {
        watch.args(["-e", event]);
    }
    let watcher = Daemon::spawn(
        "inotifywait",
        {
            watch.arg(".");
            watch
        },
        std::time::Duration::from_secs(120),
    );
    let ready = |line: &str| line.contains("Watches established");
    assert!(watcher.stderr.wait_for(PROMPT, ready).is_some(), "{}", watcher.report());
    // What was told before the loss is no news after it.
    fs::write(share.host().join("before"), "x").expect("a file");
    let told = |line: &str| line == "CREATE ./before";
    assert!(watcher.stdout.wait_for(PROMPT, told).is_some(), "{}", watcher.report());
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let before = watcher.stdout.all().len();

    share.server().kill();
    share.reap();
    change(share.host());
    share.start_server();
    eventually("all of it is heard", PROMPT, || {
        let all = watcher.stdout.all();
        HEARS.iter().all(|wanted| all[before..].iter().any(|line| line == wanted))
    });
    assert_eq!(listing(share.mount()), listing(share.host()));
    // What comes later comes after it.
    fs::write(share.host().join("last"), "").expect("a file");
    let last = |line: &str| line == "CREATE ./last";
    assert!(watcher.stdout.wait_for(PROMPT, last).is_some(), "{}", watcher.report());
    let all = watcher.stdout.all();
    let mut rest: Vec<&String> =
        all[before..].iter().filter(|line| !line.ends_with("/last")).collect();
    rest.retain(|line| !HEARS.contains(&line.as_str()));
    // inotifywait itself looks into new folders.
    assert!(rest.is_empty(), "more than happened: {rest:#?}");
    for wanted in HEARS {
        let times = all[before..].iter().filter(|line| *line == wanted).count();
        assert_eq!(times, 1, "{wanted}\n{}", all[before..].join("\n"));
    }
    drop(share);
}

/// 30,000 folders are compared while the mount goes on working.
#[test]
fn a_large_tree_is_compared_in_good_time() {
    let _turn = turns::alone();
    let mut share = Shape::UnixSocket.mounted();
    for outer in 0..300 {
        for inner in 0..100 {
            fs::create_dir_all(share.host().join(format!("{outer}/{inner}"))).expect("a folder");
        }
    }
    walk(&share);
    fs::create_dir(share.mount().join("watched")).expect("a folder");
    let mut heard = crate::support::watcher::Watcher::new();
    heard.watch(&share.mount().join("299/99")).expect("a watch");
    share.server().kill();
    share.reap();
    fs::write(share.host().join("299/99/new"), "x").expect("a file");
    share.start_server();
    let begun = std::time::Instant::now();
    let new = |event: &crate::support::watcher::Event| event.name.as_deref() == Some(b"new");
    heard.wait_for(PROMPT * 3, new).expect("an event");
    eprintln!("30,000 folders were compared in {:?}", begun.elapsed());
}

fn walk(share: &Share) {
    let mut find = Command::new("find");
    Suite::run("find", PROMPT * 6, find.arg(share.mount()).args(["-printf", ""])).succeeds();
}

/// Every path with its mode and content.
fn listing(root: &Path) -> Vec<(String, u32, Vec<u8>)> {
    fn go(dir: &Path, root: &Path, out: &mut Vec<(String, u32, Vec<u8>)>) {
        let mut entries: Vec<_> = fs::read_dir(dir).expect("a folder").flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, meta) = (entry.path(), entry.metadata().expect("attributes"));
            let content =
                if meta.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
            let name = path.strip_prefix(root).expect("below").display().to_string();
            out.push((name, meta.permissions().mode(), content));
            if meta.is_dir() {
                go(&path, root, out);
            }
        }
    }
    let mut out = Vec::new();
    go(root, root, &mut out);
    out
}
