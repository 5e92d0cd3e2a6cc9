//! Hints are lost, connections break, folders go and come: afterwards the guest's tree is the host's,
//! and watchers have been told the difference.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use super::settle;
use crate::support::mirror::{differences, look};
use crate::support::share::NAME;
use crate::support::watcher::Event;
use crate::support::{Daemon, Mirror, PROMPT, Shape, Share, Watcher, eventually, on_each_shape};
use crate::support::{require_root, turns};

on_each_shape!(together:
    what_happens_while_the_server_is_suspended_is_told,
    a_folder_moved_away_and_back_is_followed,
    an_export_root_made_anew_is_followed,
);

/// What is there before.
fn prepare(host: &Path) {
    for folder in ["kept", "kept/sub", "gone/deep", "gone/deep/er", "moved/sub"] {
        fs::create_dir_all(host.join(folder)).expect("folders");
        for name in ["one", "two", "three"] {
            fs::write(host.join(folder).join(name), name).expect("a file");
        }
    }
    symlink("kept", host.join("link")).expect("a symlink");
    fs::write(host.join("file"), "file").expect("a file");
    fs::write(host.join("becomes-folder"), "file").expect("a file");
}

/// A bit of everything.
fn change(host: &Path) {
    let at = |name: &str| host.join(name);
    fs::write(at("kept/new"), "new").expect("a file");
    fs::write(at("kept/one"), "ONE").expect("a file of the same length");
    fs::remove_file(at("kept/two")).expect("a removal");
    fs::rename(at("kept/three"), at("kept/sub/renamed")).expect("a rename");
    fs::remove_dir_all(at("gone/deep")).expect("a removal");
    fs::rename(at("moved"), at("kept/moved")).expect("a rename");
    fs::write(at("kept/moved/sub/one"), "changed where it is now").expect("a file");
    fs::create_dir_all(at("made/deep/er")).expect("folders");
    fs::write(at("made/deep/er/file"), "made").expect("a file");
    fs::remove_file(at("link")).expect("a removal");
    symlink("made", at("link")).expect("a symlink");
    fs::remove_file(at("becomes-folder")).expect("a removal");
    fs::create_dir(at("becomes-folder")).expect("a folder");
    fs::write(at("becomes-folder/file"), "x").expect("a file");
    fs::write(at("saved"), "saved").expect("a file");
    fs::rename(at("saved"), at("file")).expect("a rename");
    for round in 0..100 {
        fs::write(at(&format!("made/{round}")), "brief").expect("a file");
        fs::remove_file(at(&format!("made/{round}"))).expect("a removal");
    }
}

/// The mirror of a mount and the mount itself show the host.
#[track_caller]
fn agree(host: &Path, mount: &Path, mirror: &Mirror) {
    if let Err(differ) = mirror.shows(host, PROMPT) {
        let (host, guest) = (look(host), look(mount));
        let tree = if host == guest { "is right".to_owned() } else { differences(&host, &guest) };
        panic!("the mirror and the host: {differ}\nthe mount: {tree}");
    }
    let (host, guest) = (look(host), look(mount));
    assert!(host == guest, "guest and host: {}", differences(&host, &guest));
}

fn what_happens_while_the_server_is_suspended_is_told(shape: Shape) {
    let mut share = shape.mounted();
    prepare(share.host());
    let mirror = Mirror::of(share.mount());
    share.server().signal(Signal::STOP);
    change(share.host());
    // As long as an agent may wait for an answer, and longer.
    std::thread::sleep(Duration::from_secs(5));
    fs::write(share.host().join("at-the-end"), "x").expect("a file");
    share.server().signal(Signal::CONT);
    agree(share.host(), share.mount(), &mirror);
}

#[test]
fn what_happens_while_the_connection_is_down_is_told() {
    let _turn = turns::together();
    let share = Shape::UnixSocket.mounted();
    prepare(share.host());
    let proxy = Proxy::start(&share.socket(), share.scratch().path().join("proxy"));
    let there = share.scratch().dir("second");
    let mut agent = share.osxfs(["agent", "--connect"]);
    agent.arg(format!("unix:{}", proxy.path.display()));
    agent.arg("--mount").arg(format!("{NAME}:{}", there.display()));
    let mut agent = Daemon::spawn("osxfs agent", agent, Duration::from_secs(200));
    agent.await_line("mounted");
    let mirror = Mirror::of(&there);
    proxy.goes(false);
    change(share.host());
    settle();
    fs::write(share.host().join("at-the-end"), "x").expect("a file");
    proxy.goes(true);
    agree(share.host(), &there, &mirror);
    // And so it goes on.
    fs::remove_dir_all(share.host().join("made")).expect("a removal");
    agree(share.host(), &there, &mirror);
    // A connection that breaks in the midst of changes.
    for round in 0..5 {
        for index in 0..300 {
            let name = format!("kept/file-{}", (index * 7 + round) % 100);
            fs::write(share.host().join(&name), format!("{round} {index}")).expect("a file");
            if index % 3 == 0 {
                fs::remove_file(share.host().join(&name)).expect("a removal");
            }
            if index == 150 {
                proxy.goes(false);
            }
        }
        proxy.goes(true);
        agree(share.host(), &there, &mirror);
    }
}

#[test]
fn what_happens_while_no_server_runs_is_told() {
    let _turn = turns::together();
    let mut share = Shape::UnixSocket.mounted();
    prepare(share.host());
    let mirror = Mirror::of(share.mount());
    share.server().kill();
    share.reap();
    change(share.host());
    share.start_server();
    agree(share.host(), share.mount(), &mirror);
    fs::remove_dir_all(share.host().join("made")).expect("a removal");
    agree(share.host(), share.mount(), &mirror);
}

/// Away is where nobody watches.
fn a_folder_moved_away_and_back_is_followed(shape: Shape) {
    let share = shape.mounted();
    prepare(share.host());
    let mirror = Mirror::of(share.mount());
    let away = share.scratch().path().join("away");
    for round in 0..3 {
        fs::rename(share.host().join("gone"), &away).expect("a rename");
        if round > 0 {
            agree(share.host(), share.mount(), &mirror);
        }
        fs::write(away.join("deep/one"), format!("changed {round} times")).expect("a file");
        fs::rename(away.join("deep/er"), away.join("er")).expect("a rename");
        fs::rename(away.join("er"), away.join("deep/er")).expect("a rename");
        fs::write(away.join(format!("new-{round}")), "x").expect("a file");
        let back = if round == 1 { "kept/gone" } else { "gone" };
        fs::rename(&away, share.host().join(back)).expect("a rename");
        agree(share.host(), share.mount(), &mirror);
        fs::write(share.host().join(back).join("deep/two"), "changed").expect("a file");
        agree(share.host(), share.mount(), &mirror);
        if round == 1 {
            fs::rename(share.host().join(back), share.host().join("gone")).expect("a rename");
            agree(share.host(), share.mount(), &mirror);
        }
    }
}

/// `rm -r` of the export itself, and another one in its place; and one that comes back.
fn an_export_root_made_anew_is_followed(shape: Shape) {
    let share = shape.mounted();
    prepare(share.host());
    let mirror = Mirror::of(share.mount());
    fs::remove_dir_all(share.host()).expect("a removal");
    settle();
    fs::create_dir(share.host()).expect("a folder");
    fs::create_dir(share.host().join("kept")).expect("a folder");
    fs::write(share.host().join("kept/one"), "another one").expect("a file");
    fs::write(share.host().join("new"), "new").expect("a file");
    agree(share.host(), share.mount(), &mirror);
    fs::write(share.host().join("kept/later"), "x").expect("a file");
    agree(share.host(), share.mount(), &mirror);
    let away = share.scratch().path().join("away");
    fs::rename(share.host(), &away).expect("a rename");
    settle();
    fs::write(away.join("meanwhile"), "x").expect("a file");
    fs::rename(&away, share.host()).expect("a rename");
    agree(share.host(), share.mount(), &mirror);
    fs::write(share.mount().join("of-guest"), "x").expect("a file of the guest");
    agree(share.host(), share.mount(), &mirror);
}

/// In a user namespace of its own, which may have 8 watches and no fanotify.
const EIGHT_WATCHES: [&str; 6] = [
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    r#"echo 8 > /proc/sys/user/max_inotify_watches && exec "$0" "$@""#,
];

#[test]
fn with_8_watches_all_is_told_and_one_line_warns() {
    let _turn = turns::together();
    require_root!();
    let share = Shape::UnixSocket.share().server_under(EIGHT_WATCHES);
    let mut share = share.start();
    for folder in 0..20 {
        let folder = share.host().join(format!("folder-{folder}"));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("file"), "x").expect("a file");
    }
    let mirror = Mirror::of(share.mount());
    for round in 0..3 {
        for folder in 0..20 {
            let folder = share.host().join(format!("folder-{folder}"));
            fs::write(folder.join("file"), format!("round {round}")).expect("a file");
            fs::write(folder.join(format!("new-{round}")), "x").expect("a file");
        }
        agree(share.host(), share.mount(), &mirror);
    }
    let errors = share.server().stderr.all();
    let warnings = errors.iter().filter(|line| line.contains("watches")).count();
    assert_eq!(warnings, 1, "{errors:#?}");
}

/// The guest looks for something in a folder, which its kernel cannot know.
fn visit(folder: &Path) {
    static VISITS: AtomicU64 = AtomicU64::new(0);
    let name = format!("nothing-{}", VISITS.fetch_add(1, Ordering::Relaxed));
    assert!(!folder.join(name).exists());
}

/// Whether a process watches a folder, as the kernel tells.
fn watches(daemon: &Daemon, folder: &Path) -> bool {
    let number = fs::metadata(folder).expect("a folder").ino();
    let process = Path::new("/proc").join(daemon.pid().as_raw_nonzero().to_string());
    let infos = fs::read_dir(process.join("fdinfo")).expect("its descriptors").flatten();
    let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
    let wanted = format!(" ino:{number:x} ");
    let mut lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.any(|line| line.starts_with("inotify ") && line.contains(&wanted))
}

#[test]
fn with_8_watches_those_of_a_guest_are_kept_and_the_others_go_to_who_is_used() {
    let _turn = turns::together();
    require_root!();
    let mut share = Shape::UnixSocket.share().server_under(EIGHT_WATCHES).start();
    let host = |share: &Share, folder: usize| share.host().join(format!("folder-{folder}"));
    for folder in 0..50 {
        fs::create_dir(host(&share, folder)).expect("a folder");
        fs::write(host(&share, folder).join("file"), "x").expect("a file");
    }
    let guest = share.mount().to_owned();
    let guest = |folder: usize| guest.join(format!("folder-{folder}"));
    (0..50).for_each(|folder| visit(&guest(folder)));
    // The last of all that is known gets a watch for being watched.
    let watched = host(&share, 49);
    let mut watcher = Watcher::new();
    watcher.watch(&guest(49)).expect("a watch");
    eventually("the host watches what the guest watches", PROMPT * 3, || {
        watches(share.server(), &watched)
    });
    // It keeps it, whoever else is used later.
    let given_up = |share: &Share| super::of_agent(share, "given_up");
    let before = given_up(&share);
    eventually("the watches change hands", PROMPT * 6, || {
        (0..49).for_each(|folder| visit(&guest(folder)));
        assert!(watches(share.server(), &watched), "the guest's was given up");
        given_up(&share) >= before + 20
    });
    // Whoever is used gets one of them, as soon as others are not.
    for folder in [3, 30] {
        let used = host(&share, folder);
        eventually("the host watches what is used", PROMPT * 3, || {
            visit(&guest(folder));
            watches(share.server(), &used)
        });
    }
    assert!(watches(share.server(), &watched), "the guest's was given up");
    fs::write(watched.join("new"), "x").expect("a file");
    let heard = |event: &Event| event.name.as_deref() == Some(b"new");
    watcher.wait_for(PROMPT, heard).expect("what is watched is told");
    for folder in 0..50 {
        fs::write(host(&share, folder).join("file"), "changed").expect("a file");
        fs::write(host(&share, folder).join("later"), "x").expect("a file");
    }
    eventually("the guest's tree is the host's", PROMPT * 3, || {
        look(share.host()) == look(share.mount())
    });
    // Nobody watches any more: the watch is one of all.
    drop(watcher);
    eventually("what is watched no longer is given up", PROMPT * 6, || {
        (0..49).for_each(|folder| visit(&guest(folder)));
        !watches(share.server(), &watched)
    });
}

/// Between an agent and its server: forwards bytes, and breaks.
struct Proxy {
    path: PathBuf,
    up: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    fn start(server: &Path, path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).expect("a socket");
        let up = Arc::new(AtomicBool::new(true));
        let open: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
        let (server, may, all) = (server.to_owned(), up.clone(), open.clone());
        // Ends with the process; its socket goes with the test's folder.
        std::thread::spawn(move || {
            for agent in listener.incoming().map_while(Result::ok) {
                if !may.load(Ordering::Acquire) {
                    continue;
                }
                let Ok(server) = UnixStream::connect(&server) else { continue };
                for (from, to) in [(&agent, &server), (&server, &agent)] {
                    let (from, to) = (copy(from), copy(to));
                    std::thread::spawn(move || forward(from, to));
                }
                all.lock().expect("connections").extend([agent, server]);
            }
        });
        Self { path, up, open }
    }

    /// Up again, or down with all connections.
    fn goes(&self, up: bool) {
        self.up.store(up, Ordering::Release);
        if !up {
            for stream in self.open.lock().expect("connections").drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn copy(stream: &UnixStream) -> UnixStream {
    stream.try_clone().expect("a descriptor")
}

fn forward(mut from: UnixStream, mut to: UnixStream) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer) {
            Ok(length) if length > 0 && to.write_all(&buffer[..length]).is_ok() => {}
            _ => break,
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
