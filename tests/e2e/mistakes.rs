//! Bad input: one line on stderr that names the thing, a failing exit code, nothing changed.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use protocol::Text;
use protocol::handshake::{Handshake, Refuse, RefuseReason, VERSION};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::share::{self, NAME, is_mounted};
use crate::support::tree::Numbers;
use crate::support::{PROMPT, Scratch, Shape, holds_within, require_root, turns};

/// A folder `host`, a file `file`, a folder `mount`, and `osxfs` among them.
struct Place(Scratch);

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.dir("host");
        scratch.dir("mount");
        fs::write(scratch.path().join("file"), "kept").expect("a file");
        Self(scratch)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `osxfs` with words in which `@` stands for this folder.
    #[track_caller]
    fn osxfs(&self, words: &str) -> Command {
        let mut command = share::osxfs(&self.0, None);
        let here = self.0.path().to_str().expect("a plain path");
        command.args(words.split(' ').map(|word| OsString::from(word.replace('@', here))));
        command
    }

    /// Expects a refusal: one line that has all of `words`, and the folder as it was.
    #[track_caller]
    fn refuses(&self, command: Command, words: &[&str]) {
        self.refusal(command, words).unwrap_or_else(|fault| panic!("{fault}"));
    }

    /// What is wrong with the refusal.
    fn refusal(&self, mut command: Command, words: &[&str]) -> Result<(), String> {
        let before = self.content();
        let output = ends(&mut command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        if output.status.success() {
            return Err(format!("it succeeds and says {said:?}"));
        }
        if lines.len() != 1 || !lines[0].starts_with("osxfs: ") {
            return Err(format!("not one clear line: {said}"));
        }
        if let Some(word) = words.iter().find(|word| !said.to_lowercase().contains(**word)) {
            return Err(format!("{said:?} does not say {word:?}"));
        }
        if is_mounted(&self.at("mount")) || self.content() != before {
            return Err(format!("something changed: {:?}", self.content()));
        }
        Ok(())
    }

    fn content(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.0.path().to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let entry = entry.expect("an entry");
                // The folder for control sockets is osxfs's own.
                if entry.file_name() == "run" {
                    continue;
                }
                if entry.file_type().expect("a type").is_dir() {
                    folders.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }
}

/// Runs it to its end; it must end by itself.
fn ends(command: &mut Command) -> Result<Output, String> {
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("osxfs");
    let ended = holds_within(PROMPT, || child.try_wait().expect("wait").is_some());
    if !ended {
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    }
    let output = child.wait_with_output().expect("its output");
    if ended {
        return Ok(output);
    }
    Err(format!("it runs instead: {}", String::from_utf8_lossy(&output.stdout)))
}

/// Words of a command line, and words that its refusal has.
const REFUSALS: &[(&str, &[&str])] = &[
    ("mount @/missing @/mount", &["/missing"]),
    ("mount @/file @/mount", &["/file"]),
    ("mount @/host @/nowhere", &["/nowhere"]),
    ("mount @/host @/file", &["/file"]),
    ("serve --export @/missing --listen unix:@/socket", &["/missing"]),
    ("serve --export @/file --listen unix:@/socket", &["/file"]),
    ("serve --export @/host:a --export @/mount:a --listen unix:@/socket", &["a"]),
    ("serve --export @/host --export @/host --listen unix:@/socket", &["host"]),
    ("serve --export @/host --listen unix:@/missing/socket", &["/missing/socket"]),
    ("serve --export @/host --listen unix:@/file", &["/file"]),
    ("serve --export @/host --listen tcp:80", &["tcp"]),
    ("agent --connect unix:@/socket --mount a:@/mount", &["/socket"]),
    ("agent --connect unix:@/file --mount a:@/mount", &["/file"]),
    ("agent --connect nonsense --mount a:@/mount", &["nonsense"]),
];

#[test]
fn bad_words_are_refused_in_one_line() {
    let _turn = turns::together();
    let fault = |(words, expected): &(&str, &[&str])| {
        let place = Place::new();
        let fault = place.refusal(place.osxfs(words), expected).err()?;
        Some(format!("osxfs {words}\n    {fault}"))
    };
    let faults: Vec<String> = REFUSALS.iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_socket_path_that_is_too_long_is_refused() {
    let _turn = turns::together();
    let place = Place::new();
    let long = "s".repeat(150);
    place.refuses(place.osxfs(&format!("serve --export @/host --listen unix:@/{long}")), &["long"]);
    let connect = format!("agent --connect unix:@/{long} --mount a:@/mount");
    place.refuses(place.osxfs(&connect), &["long"]);
}

#[test]
fn a_mount_point_with_something_in_it_is_refused() {
    let _turn = turns::together();
    let place = Place::new();
    fs::write(place.at("mount/something"), "kept").expect("a file");
    place.refuses(place.osxfs("mount @/host @/mount"), &["/mount", "empty"]);
    assert_eq!(fs::read(place.at("mount/something")).expect("the file"), b"kept");
}

#[test]
fn a_mount_point_in_use_is_refused() {
    let _turn = turns::together();
    let mut share = Shape::Embedded.mounted();
    fs::write(share.mount().join("file"), "x").expect("a file");
    let mut again = share.osxfs(["mount"]);
    again.arg(share.host()).arg(share.mount());
    let output = ends(&mut again).expect("a refusal");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.starts_with("osxfs: ") && said.contains("mount"), "{said}");
    // The first one has not noticed.
    assert_eq!(fs::read(share.mount().join("file")).expect("the file"), b"x");
    share.agent().ends_cleanly_on(Signal::TERM);
}

#[test]
fn a_socket_in_use_is_refused() {
    let _turn = turns::together();
    let share = Shape::UnixSocket.mounted();
    let mut again = share.osxfs(["serve", "--export"]);
    again.arg(share.host()).arg("--listen").arg(format!("unix:{}", share.socket().display()));
    let output = ends(&mut again).expect("a refusal");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.starts_with("osxfs: ") && said.contains("socket"), "{said}");
    fs::write(share.mount().join("file"), "x").expect("the first one serves on");
}

#[test]
fn an_unknown_export_is_refused() {
    let _turn = turns::together();
    let share = Shape::UnixSocket.mounted();
    let there = share.scratch().dir("second");
    let mut agent = share.agent_command(&[("nonesuch", there.clone())]);
    let output = ends(&mut agent).expect("a refusal");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.starts_with("osxfs: ") && said.contains("nonesuch"), "{said}");
    assert!(!is_mounted(&there));
}

/// One good mount and one bad one: the good one is taken back.
#[test]
fn one_bad_mount_of_two_leaves_none() {
    let _turn = turns::together();
    let share = Shape::UnixSocket.mounted();
    let (good, bad) = (share.scratch().dir("good"), share.scratch().dir("bad"));
    let mut agent = share.agent_command(&[(NAME, good.clone()), ("nonesuch", bad)]);
    let output = ends(&mut agent).expect("a refusal");
    assert!(!output.status.success());
    assert!(!is_mounted(&good));
}

#[test]
fn a_file_at_the_sockets_path_is_kept() {
    let _turn = turns::together();
    let place = Place::new();
    place.refuses(place.osxfs("serve --export @/host --listen unix:@/file"), &["/file"]);
    assert_eq!(fs::read(place.at("file")).expect("the file"), b"kept");
}

#[test]
fn a_socket_that_nobody_listens_on_any_more_is_replaced() {
    let _turn = turns::together();
    let mut share = Shape::UnixSocket.mounted();
    share.agent().ends_cleanly_on(Signal::TERM);
    share.server().kill();
    share.reap();
    assert!(share.socket().exists(), "a killed server leaves its socket");
    share.start_server();
    share.start_agent();
    fs::write(share.mount().join("file"), "x").expect("a file");
}

/// Somebody who may not use `/dev/fuse`, on a machine whose `/dev/fuse` is root's alone.
#[test]
fn no_permission_on_dev_fuse_is_said() {
    let _turn = turns::together();
    require_root!();
    let place = Place::new();
    for name in ["host", "mount"] {
        std::os::unix::fs::chown(place.at(name), Some(65_534), Some(65_534)).expect("chown");
    }
    let run = place.0.dir("run");
    fs::set_permissions(&run, Permissions::from_mode(0o777)).expect("chmod");
    // `/root` may be closed to others: the program is taken along.
    fs::copy(share::program(), place.at("osxfs")).expect("the program");
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-euc"]).arg(
        r#"mknod "$1/fuse" c 10 229; chmod 600 "$1/fuse"
        mount --bind "$1/fuse" /dev/fuse; rm "$1/fuse" 2> /dev/null || true
        exec setpriv --reuid 65534 --regid 65534 --clear-groups \
            "$1/osxfs" mount "$1/host" "$1/mount""#,
    );
    command.arg("bash").arg(place.0.path()).env("OSXFS_RUNTIME_DIR", run);
    let output = ends(&mut command).expect("a refusal");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.lines().count() == 1 && said.starts_with("osxfs: "), "not one clear line: {said}");
    assert!(said.contains("/dev/fuse") || said.contains("fusermount3"), "{said}");
}

/// A server that speaks another language: the agent says so and ends.
#[test]
fn a_peer_that_is_no_osxfs_is_refused() {
    let _turn = turns::together();
    let place = Place::new();
    let listener = UnixListener::bind(place.at("socket")).expect("bind");
    let peer = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("accept");
        let _ = peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = peer.read(&mut [0; 1024]);
    });
    place.refuses(place.osxfs("agent --connect unix:@/socket --mount a:@/mount"), &["/socket"]);
    peer.join().expect("the peer");
}

/// A server of a later version: its words reach the person.
#[test]
fn a_version_that_the_agent_does_not_speak_is_said() {
    let _turn = turns::together();
    let place = Place::new();
    let listener = UnixListener::bind(place.at("socket")).expect("bind");
    let later = Refuse {
        reason: RefuseReason::Version,
        min_version: VERSION + 1,
        version: VERSION + 1,
        text: Text("this server speaks version 2: update the agent"),
    };
    let peer = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("accept");
        let mut frame = Vec::new();
        Handshake::Refuse(later).encode(&mut frame);
        let _ = peer.read(&mut [0; 1024]);
        peer.write_all(&frame).expect("a refusal");
    });
    let words = ["/socket", "refuses", "update the agent"];
    place.refuses(place.osxfs("agent --connect unix:@/socket --mount a:@/mount"), &words);
    peer.join().expect("the peer");
}

/// The mode of the socket keeps others out, and where somebody has opened it the server does.
#[test]
fn another_user_may_not_connect() {
    let _turn = turns::together();
    require_root!();
    let share = Shape::UnixSocket.mounted();
    let scratch = share.scratch().path();
    let there = share.scratch().dir("second");
    fs::copy(share::program(), scratch.join("osxfs")).expect("the program");
    fs::set_permissions(scratch, Permissions::from_mode(0o755)).expect("chmod");
    for (mode, word) in [(0o600, "ermission denied"), (0o666, "only root")] {
        fs::set_permissions(share.socket(), Permissions::from_mode(mode)).expect("chmod");
        let mut agent = Command::new("setpriv");
        agent.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        agent.arg(scratch.join("osxfs")).args(["agent", "--connect"]);
        agent.arg(format!("unix:{}", share.socket().display()));
        agent.arg("--mount").arg(format!("{NAME}:{}", there.display()));
        let output = ends(&mut agent).expect("a refusal");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{said}");
    }
}

/// A peer that sends anything but the protocol loses its connection, and nobody else's.
#[test]
fn nonsense_ends_that_connection_alone() {
    let _turn = turns::together();
    let share = Shape::UnixSocket.mounted();
    let mut numbers = Numbers(5);
    for round in 0..50 {
        let mut peer = UnixStream::connect(share.socket()).expect("connect");
        peer.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let length = usize::try_from(numbers.below(100_000)).expect("small");
        let nonsense = if round == 0 { vec![0xff; 64] } else { numbers.bytes(length) };
        let _ = peer.write_all(&nonsense);
        let _ = peer.shutdown(std::net::Shutdown::Write);
        let _ = peer.read_to_end(&mut Vec::new());
        fs::write(share.mount().join("file"), [round]).expect("others are served");
    }
    assert_eq!(fs::read(share.host().join("file")).expect("the file"), [49]);
}
