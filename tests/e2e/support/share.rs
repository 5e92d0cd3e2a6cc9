//! A folder shared through osxfs, in each of its shapes.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Daemon, Scratch};

/// The name of the export in the shapes that have one.
pub const NAME: &str = "folder";

/// How the two halves of osxfs are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `osxfs mount`: one process.
    Embedded,
    /// `osxfs serve` and `osxfs agent`, joined by a unix socket.
    UnixSocket,
}

impl Shape {
    /// A share with the settings of a root user's machine: owners pass through and anybody may
    /// use the mount.
    pub fn share(self) -> Options {
        let root = rustix::process::geteuid().is_root();
        Options {
            shape: self,
            server: Vec::new(),
            agent: Vec::new(),
            read_only: false,
            nofile: None,
            patience: Duration::from_secs(240),
            host: None,
            server_under: Vec::new(),
        }
        .server_flags(["--ownership", if root { "host" } else { "map" }])
        .agent_flags(if root { &["--allow-other"][..] } else { &[] })
    }

    /// The same with `--ownership map`.
    pub fn mapped_share(self) -> Options {
        let mut options = self.share();
        options.server = vec!["--ownership".into(), "map".into()];
        options
    }

    /// A mounted share of an empty folder.
    pub fn mounted(self) -> Share {
        self.share().start()
    }
}

/// What to share and how.
#[derive(Clone)]
pub struct Options {
    shape: Shape,
    server: Vec<OsString>,
    agent: Vec<OsString>,
    read_only: bool,
    nofile: Option<u32>,
    patience: Duration,
    host: Option<PathBuf>,
    server_under: Vec<OsString>,
}

impl Options {
    /// Starts the half that serves by this command, which executes what follows it: as another user,
    /// or under other limits.
    pub fn server_under<S: AsRef<OsStr>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.server_under.extend(command.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// More flags for the half that serves (in one process: for it).
    pub fn server_flags<S: AsRef<OsStr>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.server.extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    /// More flags for the half that mounts.
    pub fn agent_flags<S: AsRef<OsStr>>(mut self, flags: impl IntoIterator<Item = S>) -> Self {
        self.agent.extend(flags.into_iter().map(|flag| flag.as_ref().to_owned()));
        self
    }

    pub fn consistency(self, mode: &str) -> Self {
        self.server_flags(["--consistency", mode])
    }

    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Runs each process under `ulimit -n`.
    pub fn nofile(mut self, limit: u32) -> Self {
        self.nofile = Some(limit);
        self
    }

    /// After how long the processes are ended because the test hangs.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Shares this folder instead of a new one.
    pub fn of(mut self, host: &Path) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Shares and mounts, and returns when both are ready.
    #[track_caller]
    pub fn start(self) -> Share {
        let scratch = Scratch::new();
        if !self.server_under.is_empty() {
            // Whoever it is, makes its socket here.
            scratch.open_to_all();
        }
        let host = self.host.clone().unwrap_or_else(|| scratch.dir("host"));
        let mount = scratch.dir("mount");
        let mut share = Share { daemons: Vec::new(), host, mount, options: self, scratch };
        share.start_server();
        share.start_agent();
        share
    }
}

/// A mounted share; its end unmounts and removes everything.
pub struct Share {
    /// The one process, or the server and then the agent.
    daemons: Vec<Daemon>,
    host: PathBuf,
    mount: PathBuf,
    options: Options,
    scratch: Scratch,
}

impl Share {
    /// The folder that is shared.
    pub fn host(&self) -> &Path {
        &self.host
    }

    /// The same folder as a guest sees it.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// A folder beside both, on the disk.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("socket")
    }

    /// The process that serves.
    pub fn server(&mut self) -> &mut Daemon {
        self.daemons.first_mut().expect("a server runs")
    }

    /// The process that mounts; in one process, the same.
    pub fn agent(&mut self) -> &mut Daemon {
        self.daemons.last_mut().expect("an agent runs")
    }

    pub fn daemons(&mut self) -> &mut [Daemon] {
        &mut self.daemons
    }

    /// `osxfs` with these arguments, in the surroundings of this share.
    pub fn osxfs<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = osxfs(&self.scratch, self.options.nofile);
        command.args(arguments);
        command
    }

    /// Starts what serves: in one process, all of it.
    #[track_caller]
    pub fn start_server(&mut self) {
        let Options { shape, server, agent, read_only, patience, .. } = self.options.clone();
        let mut command = self.osxfs([""; 0]);
        let (name, ready) = match shape {
            Shape::Embedded => {
                command.arg("mount").arg(&self.host).arg(&self.mount).args(server).args(agent);
                if read_only {
                    command.arg("--read-only");
                }
                ("osxfs mount", "sharing ")
            }
            Shape::UnixSocket => {
                let mut export = self.host.clone().into_os_string();
                export.push(format!(":{NAME}{}", if read_only { ":ro" } else { "" }));
                let mut listen = OsString::from("unix:");
                listen.push(self.socket());
                command.arg("serve").arg("--export").arg(export);
                command.arg("--listen").arg(listen).args(server);
                ("osxfs serve", "listening on ")
            }
        };
        let command = under(&self.options.server_under, command);
        let mut daemon = Daemon::spawn(name, command, patience);
        daemon.await_line(ready);
        self.daemons.insert(0, daemon);
    }

    /// Starts what mounts, where that is a process of its own.
    #[track_caller]
    pub fn start_agent(&mut self) {
        if self.options.shape == Shape::UnixSocket {
            let mounts = [(NAME, self.mount.clone())];
            let agent = self.another_agent(&mounts);
            self.daemons.push(agent);
        }
    }

    /// One more agent on this server, with these mounts, ready.
    #[track_caller]
    pub fn another_agent(&self, mounts: &[(&str, PathBuf)]) -> Daemon {
        let mut command = self.agent_command(mounts);
        command.args(&self.options.agent);
        let mut agent = Daemon::spawn("osxfs agent", command, self.options.patience);
        for (name, _) in mounts {
            agent.await_line(&format!("mounted {name} at "));
        }
        agent
    }

    /// `osxfs agent` for these mounts.
    pub fn agent_command(&self, mounts: &[(&str, PathBuf)]) -> Command {
        let mut connect = OsString::from("unix:");
        connect.push(self.socket());
        let mut command = self.osxfs(["agent", "--connect"]);
        command.arg(connect);
        for (name, at) in mounts {
            let mut mount = OsString::from(format!("{name}:"));
            mount.push(at);
            command.arg("--mount").arg(mount);
        }
        command
    }

    /// Forgets the processes that have ended, after a test ended them.
    pub fn reap(&mut self) {
        self.daemons.retain_mut(|daemon| daemon.wait(Duration::ZERO).is_none());
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // The agent first, as people do; what stays mounted is the scratch folder's to detach.
        while self.daemons.pop().is_some() {}
    }
}

/// `osxfs` in the surroundings of a test: its own folder for control sockets, and the end of the
/// thread that started it as its own end.
pub fn osxfs(scratch: &Scratch, nofile: Option<u32>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if let Some(limit) = nofile {
        command.args(["prlimit".to_owned(), format!("--nofile={limit}:{limit}")]);
    }
    command.arg(program()).env("OSXFS_RUNTIME_DIR", scratch.path().join("run"));
    command
}

/// The same program with the same arguments and variables, executed by `outer`.
fn under(outer: &[OsString], command: Command) -> Command {
    let [program, rest @ ..] = outer else { return command };
    let mut wrapped = Command::new(program);
    wrapped.args(rest).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped
}

pub fn program() -> OsString {
    std::env::var_os("OSXFS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_osxfs").into())
}

/// Whether something is mounted exactly there, told without touching it.
pub fn is_mounted(at: &Path) -> bool {
    mounts_below(at).iter().any(|mount| mount == at)
}

/// Where something is mounted at or below this path, in the order of mounting.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(path)).collect()
}

/// Takes a mount out of the tree, also if nobody answers behind it.
pub fn detach(at: &Path) {
    let _ = Command::new("umount").args(["-f", "-l"]).arg(at).stderr(Stdio::null()).status();
}
