//! A guest without a VM: the agent as the first process of a process namespace of its own, in a root
//! folder of its own, with a real server and, in the test's hands, the monitor's end of the control
//! connection.

use host_fs::server::{ExportConfig, Server, ServerOptions};
use host_fs::wire::{self, Listening};
use protocol::codec::{Argument, ExportName, GuestPath, Payload};
use protocol::guest::{GuestMount, Order, Outcome, Report, Start, VERSION, WindowSize};
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{Address, Consistency, OwnershipMode, Time};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How the kernel ends a process namespace whose first process powers off, or restarts
/// (`reboot(2)`).
pub const POWERED_OFF: i32 = 2;
pub const RESTARTED: i32 = 1;

/// What the guest said, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Ready,
    Out(Vec<u8>),
    Err(Vec<u8>),
    Taken(usize),
    Exited(Outcome),
    Failed(String),
    Gone,
}

pub struct Guest {
    pub shared: PathBuf,
    child: Child,
    control: UnixStream,
    said: mpsc::Receiver<Said>,
    console: thread::JoinHandle<String>,
    _server: Listening,
    _root: tempfile::TempDir,
}

/// What a guest is to do.
#[derive(Clone)]
pub struct Plan<'a> {
    pub export: &'a str,
    pub read_only: bool,
    pub command: Vec<&'a str>,
    pub environment: Vec<&'a str>,
    pub directory: &'a str,
    pub terminal: Option<WindowSize>,
}

impl<'a> Plan<'a> {
    pub fn new(command: &[&'a str]) -> Self {
        Self {
            export: "share",
            read_only: false,
            command: command.to_vec(),
            environment: vec![],
            directory: "/",
            terminal: None,
        }
    }

    pub fn shell(script: &'a str) -> Self {
        Self::new(&["sh", "-c", script])
    }
}

/// Whether this machine lets us make guests; says so if not.
pub fn possible() -> bool {
    let possible = rustix::process::geteuid().is_root()
        && Path::new("/dev/fuse").exists()
        && Path::new("/bin/busybox").exists();
    if !possible {
        eprintln!("skipped: this needs root, /dev/fuse and busybox-static");
    }
    possible
}

/// What the agent is linked with, so that it runs in another root folder.
fn libraries(program: &str) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

fn build_root(root: &Path) {
    let agent = env!("CARGO_BIN_EXE_osxfs-agent");
    fs::copy(agent, root.join("init")).expect("the agent");
    for library in libraries(agent) {
        let place = root.join(library.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(place.parent().expect("a folder")).expect("folders");
        fs::copy(&library, place).expect("a library");
    }
    fs::create_dir_all(root.join("bin")).expect("bin");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    for applet in ["sh", "cat", "sleep", "stty", "ps", "grep", "wc", "dd", "id", "env", "mount"] {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    fs::create_dir(root.join("host")).expect("host");
}

impl Guest {
    pub fn start(plan: &Plan<'_>) -> Self {
        Self::with_consistency(plan, Consistency::Cached)
    }

    pub fn with_consistency(plan: &Plan<'_>, consistency: Consistency) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (root, shared) = (dir.path().join("root"), dir.path().join("shared"));
        fs::create_dir_all(&root).expect("root");
        fs::create_dir_all(&shared).expect("shared");
        build_root(&root);
        let export = ExportConfig {
            name: "share".into(),
            path: shared.clone(),
            read_only: false,
            ownership: Some(OwnershipMode::Host),
            consistency,
            uid: 0,
            gid: 0,
            host_locks: false,
        };
        let server = Server::new(vec![export], ServerOptions::default()).expect("a server");
        let listening =
            wire::listen(server, &Address::Unix(root.join("host/files"))).expect("a socket");
        let monitor = UnixListener::bind(root.join("host/control")).expect("a socket");
        let mut child = Command::new("unshare")
            .args(["--pid", "--mount", "--uts", "--fork", "--kill-child", "--root"])
            .arg(&root)
            .arg("/init")
            .env("OSXFS_INIT", "osxfs.control=unix:/host/control osxfs.server=unix:/host/files")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut stderr = child.stderr.take().expect("piped");
        let console = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let (mut control, _) = monitor.accept().expect("init connects");
        let (mut splitter, mut frame) = (Splitter::default(), Frame::default());
        let mut stream = control.try_clone().expect("clone");
        let header = splitter.next(&mut frame, |buf| stream.read(buf)).expect("a hello");
        let hello = Report::decode(header.opcode, frame.body()).expect("a hello");
        assert!(matches!(hello, Report::Hello { version: VERSION, .. }), "{hello:?}");
        order(&mut control, &Order::Start(plan.start())).expect("start");
        let (sink, said) = mpsc::channel();
        thread::spawn(move || {
            loop {
                let next = match splitter.next(&mut frame, |buf| stream.read(buf)) {
                    Ok(header) => say(&Report::decode(header.opcode, frame.body()).expect("good")),
                    Err(ReadError::Closed | ReadError::Io(_)) => Said::Gone,
                    Err(ReadError::Decode(error)) => panic!("{error}"),
                };
                let gone = next == Said::Gone;
                if sink.send(next).is_err() || gone {
                    // Init waits for our end to close as well.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return;
                }
            }
        });
        Self { shared, child, control, said, console, _server: listening, _root: dir }
    }

    pub fn order(&mut self, what: &Order<'_>) {
        order(&mut self.control, what).expect("the guest listens");
    }

    pub fn hang_up(&mut self) {
        self.control.shutdown(std::net::Shutdown::Both).expect("the guest was there");
    }

    #[track_caller]
    pub fn next(&self) -> Said {
        self.said.recv_timeout(PATIENCE).expect("the guest says something")
    }

    /// Everything until the end of the connection.
    #[track_caller]
    pub fn rest(&self) -> Vec<Said> {
        let mut all = vec![];
        loop {
            match self.next() {
                Said::Gone => return all,
                said => all.push(said),
            }
        }
    }

    /// Waits for the end. Returns the signal that tells how it ended, and what stood on the
    /// console.
    #[track_caller]
    pub fn ended(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("wait") {
                Some(status) => break status,
                None if begun.elapsed() > PATIENCE => {
                    let _ = self.child.kill();
                    panic!("the guest does not end");
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        (status.signal(), self.console.join().expect("the console"))
    }
}

impl Plan<'_> {
    fn start(&self) -> Start<'_> {
        let path = |text: &'static str| GuestPath::new(text.as_bytes()).expect("a path");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        Start {
            version: VERSION,
            now: Time { sec: now.as_secs() as i64, nsec: now.subsec_nanos() },
            mounts: vec![GuestMount {
                export: ExportName::new(self.export.as_bytes()).expect("a name"),
                point: path("/mnt/share"),
                read_only: self.read_only,
            }],
            command: self.command.iter().map(|word| argument(word)).collect(),
            environment: self.environment.iter().map(|word| argument(word)).collect(),
            directory: GuestPath::new(self.directory.as_bytes()).expect("a path"),
            terminal: self.terminal,
        }
    }
}

fn argument(word: &str) -> Argument<'_> {
    Argument::new(word.as_bytes()).expect("an argument")
}

fn order(stream: &mut UnixStream, order: &Order<'_>) -> io::Result<()> {
    let mut out = Vec::new();
    order.encode(&mut out);
    out.extend_from_slice(order.payload());
    stream.write_all(&out)
}

fn say(report: &Report<'_>) -> Said {
    match report {
        Report::Ready => Said::Ready,
        Report::Stdout(Payload(data)) => Said::Out(data.to_vec()),
        Report::Stderr(Payload(data)) => Said::Err(data.to_vec()),
        Report::Taken(bytes) => Said::Taken(*bytes as usize),
        Report::Exited(outcome) => Said::Exited(*outcome),
        Report::Failed { what, why } => Said::Failed(format!("{}: {}", what.0, why.0)),
        Report::Hello { .. } => panic!("hello twice"),
    }
}

/// All that came on standard output.
pub fn out(said: &[Said]) -> String {
    let parts = said.iter().filter_map(|said| match said {
        Said::Out(data) => Some(&data[..]),
        _ => None,
    });
    String::from_utf8_lossy(&parts.collect::<Vec<_>>().concat()).into_owned()
}

/// All that came on standard error.
pub fn err(said: &[Said]) -> String {
    let parts = said.iter().filter_map(|said| match said {
        Said::Err(data) => Some(&data[..]),
        _ => None,
    });
    String::from_utf8_lossy(&parts.collect::<Vec<_>>().concat()).into_owned()
}
