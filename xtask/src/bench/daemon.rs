//! A process that serves a folder while it is measured: started, awaited, and ended with whoever
//! started it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

/// How long a process may take to end before it is killed, or to mount before it is given up.
const PROMPT: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);

/// Processor time of a process, user and system, all threads.
#[derive(Clone, Copy)]
pub struct Used {
    pub name: &'static str,
    pub time: Duration,
}

pub struct Daemon {
    name: &'static str,
    child: Child,
    /// Kept so that whatever it prints later has somewhere to go.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Daemon {
    /// A command that does not outlive this program.
    pub fn command(program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program);
        command
    }

    /// Returns when it has printed a line that begins with `ready`.
    pub fn printing(name: &'static str, ready: &str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        while stdout.read_line(&mut line)? > 0 {
            if line.starts_with(ready) {
                return Ok(Self { name, child, _stdout: Some(stdout) });
            }
            line.clear();
        }
        bail!("{name} ended before it was ready: {}", child.wait()?);
    }

    /// Returns when something is mounted at `point`.
    pub fn mounting(name: &'static str, point: &Path, command: &mut Command) -> Result<Self> {
        let mounted = format!("mounted {}", point.display());
        Self::until(name, &mounted, command, || is_mounted(point))
    }

    /// Returns when it listens at the socket of this path.
    pub fn listening(name: &'static str, socket: &Path, command: &mut Command) -> Result<Self> {
        let listens = format!("made {}", socket.display());
        Self::until(name, &listens, command, || socket.exists())
    }

    /// Returns when it has done what was to be done first. What it says of its troubles later is dropped:
    /// whoever uses it meets them.
    fn until(
        name: &'static str,
        done: &str,
        command: &mut Command,
        is_done: impl Fn() -> bool,
    ) -> Result<Self> {
        let mut said = tempfile::tempfile()?;
        let mut daemon = Self::beside(name, command.stderr(said.try_clone()?))?;
        let start = Instant::now();
        while !is_done() {
            if let Some(status) = daemon.child.try_wait()? {
                let mut text = String::new();
                said.rewind()?;
                said.read_to_string(&mut text)?;
                bail!("{name} ended before it had {done} ({status}): {}", text.trim());
            }
            if start.elapsed() > PROMPT {
                bail!("{name} has not {done} in {PROMPT:?}");
            }
            thread::sleep(LOOK);
        }
        Ok(daemon)
    }

    /// Returns at once.
    pub fn beside(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, _stdout: None })
    }

    /// What it has used up to now, and what it has started.
    pub fn used(&self) -> Result<Used> {
        Ok(Used { name: self.name, time: processor_time(self.pid().as_raw_nonzero().get())? })
    }

    /// Whether it ends by itself.
    pub fn ends(&mut self) -> Result<bool> {
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > PROMPT {
                return Ok(false);
            }
            thread::sleep(LOOK);
        }
        Ok(true)
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The memory, in bytes, that it holds now and that is not a file's.
    pub fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero()))?;
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = anonymous.and_then(|rest| rest.split_whitespace().next());
        Ok(kib.context("no RssAnon in the process state")?.parse::<u64>()? * 1024)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

/// Whether a mount stands at this folder or beneath it.
pub fn is_mounted(point: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = |line: &str| Some(Path::new(line.split(' ').nth(4)?).starts_with(point));
    table.lines().any(|line| below(line).unwrap_or_default())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = rustix::process::kill_process(self.pid(), Signal::TERM);
        if !self.ends().unwrap_or(true) {
            eprintln!("bench: {} does not end and is killed", self.name);
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}

/// Of a process and its children.
pub fn processor_time(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain anything; `utime` and `stime` are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("no process state")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    let own =
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    // One that ends meanwhile has used nothing that matters.
    let of_child = |pid: &str| pid.parse().ok().and_then(|pid| processor_time(pid).ok());
    Ok(own + children.split_whitespace().filter_map(of_child).sum::<Duration>())
}
