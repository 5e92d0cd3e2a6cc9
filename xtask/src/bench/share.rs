//! The shares that are measured: `osxfs mount`, `osxfs serve` with `osxfs agent`, and the bare folder
//! as a floor. Each stands in a temporary folder and is gone at the end, however it comes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// How long a process may take to end before it is killed.
const PROMPT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// No osxfs: the watcher watches the host's folder.
    Local,
    /// `osxfs mount`: one process.
    Embedded,
    /// `osxfs serve` and `osxfs agent`, joined by a unix socket.
    UnixSocket,
}

impl Shape {
    pub const ALL: [Self; 3] = [Self::Local, Self::Embedded, Self::UnixSocket];

    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "the folder itself, without osxfs",
            Self::Embedded => "embedded (`osxfs mount`)",
            Self::UnixSocket => "unix socket (`osxfs serve`, `osxfs agent`)",
        }
    }
}

/// A running share.
pub struct Share {
    /// Ended from the last to the first.
    daemons: Vec<Daemon>,
    host: PathBuf,
    mount: PathBuf,
    scratch: Option<TempDir>,
}

impl Share {
    /// Starts it below `base`, and returns when it is mounted.
    pub fn start(shape: Shape, program: &Path, base: &Path) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("osxfs-bench-")
            .tempdir_in(base)
            .with_context(|| format!("cannot make a folder in {}", base.display()))?;
        let dir = |name| {
            let dir = scratch.path().join(name);
            fs::create_dir(&dir).map(|()| dir)
        };
        let (host, point, run) = (dir("host")?, dir("mount")?, dir("run")?);
        let osxfs = || {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM"]).arg(program).env("OSXFS_RUNTIME_DIR", &run);
            command
        };
        let mount = if shape == Shape::Local { &host } else { &point }.clone();
        let socket = format!("unix:{}", scratch.path().join("socket").display());
        let mut share = Self { daemons: Vec::new(), host, mount, scratch: Some(scratch) };
        let mut spawn = |name, ready, mut command| -> Result<()> {
            share.daemons.push(Daemon::spawn(name, ready, &mut command)?);
            Ok(())
        };
        match shape {
            Shape::Local => {}
            Shape::Embedded => {
                let mut mount = osxfs();
                mount.arg("mount").arg(&share.host).arg(&point);
                spawn("osxfs mount", "sharing ", mount)?;
            }
            Shape::UnixSocket => {
                let mut serve = osxfs();
                let export = format!("{}:bench", share.host.display());
                serve.args(["serve", "--export", &export, "--listen", &socket]);
                spawn("osxfs serve", "listening on ", serve)?;
                let mut agent = osxfs();
                let mount = format!("bench:{}", point.display());
                agent.args(["agent", "--connect", &socket, "--mount", &mount]);
                spawn("osxfs agent", "mounted ", agent)?;
            }
        }
        Ok(share)
    }

    /// A folder of this name, made on the host.
    pub fn dir(&self, name: &str) -> Result<Dir> {
        let dir = Dir { host: self.host.join(name), mount: self.mount.join(name) };
        fs::create_dir(&dir.host)?;
        Ok(dir)
    }

    /// The processor time that each process has used up to now.
    pub fn processor_time(&self) -> Result<Vec<Used>> {
        self.daemons
            .iter()
            .map(|daemon| Ok(Used { name: daemon.name, time: processor_time(daemon.pid())? }))
            .collect()
    }
}

/// A folder of a share.
pub struct Dir {
    pub host: PathBuf,
    /// The same for a guest.
    pub mount: PathBuf,
}

/// Processor time of a process, user and system, all threads.
#[derive(Clone, Copy)]
pub struct Used {
    pub name: &'static str,
    pub time: Duration,
}

impl Drop for Share {
    fn drop(&mut self) {
        while self.daemons.pop().is_some() {}
        let Some(scratch) = self.scratch.take() else { return };
        let is_mounted = || {
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let here = scratch.path().to_string_lossy().into_owned();
            table.lines().any(|line| line.contains(&here))
        };
        if is_mounted() {
            let detach = ["-f", "-l"];
            _ = Command::new("umount").args(detach).arg(&self.mount).status();
        }
        // A removal must never walk into a mount.
        if is_mounted() {
            eprintln!("bench: {} is still mounted and is left", self.mount.display());
            _ = scratch.keep();
        }
    }
}

struct Daemon {
    name: &'static str,
    child: Child,
    /// Kept so that whatever it prints later has somewhere to go.
    _stdout: BufReader<ChildStdout>,
}

impl Daemon {
    /// Returns when it has printed a line that begins with `ready`.
    fn spawn(name: &'static str, ready: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        while stdout.read_line(&mut line)? > 0 {
            if line.starts_with(ready) {
                return Ok(Self { name, child, _stdout: stdout });
            }
            line.clear();
        }
        bail!("{name} ended before it was ready: {}", child.wait()?);
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let start = Instant::now();
        _ = rustix::process::kill_process(self.pid(), Signal::TERM);
        while let Ok(None) = self.child.try_wait() {
            if start.elapsed() > PROMPT {
                eprintln!("bench: {} does not end and is killed", self.name);
                _ = self.child.kill();
                _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn processor_time(pid: Pid) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The name in parentheses may contain anything; `utime` and `stime` are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("no process state")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}
