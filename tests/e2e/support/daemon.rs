//! A program that runs in the background of a test: its lines are kept, and it never outlives
//! the test, nor its patience.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::PROMPT;

pub struct Daemon {
    name: String,
    child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
    /// Dropped with the daemon, which calls the watchdog off.
    _watchdog: mpsc::Sender<()>,
}

impl Daemon {
    /// Starts `command`; a watchdog ends it after `patience`, so that a test that hangs on a
    /// mount of it fails instead.
    pub fn spawn(name: &str, mut command: Command, patience: Duration) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("starting {name}: {error}"));
        let stdout = Lines::read(child.stdout.take().expect("piped"));
        let stderr = Lines::read(child.stderr.take().expect("piped"));
        let watchdog = watch(Pid::from_child(&child), name.to_owned(), patience);
        Self { name: name.to_owned(), child, stdout, stderr, _watchdog: watchdog }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for a line on standard output that begins with `prefix`.
    #[track_caller]
    pub fn await_line(&mut self, prefix: &str) -> String {
        let start = Instant::now();
        loop {
            let step = Duration::from_millis(50);
            if let Some(line) = self.stdout.wait_for(step, |line| line.starts_with(prefix)) {
                return line;
            }
            let ended = self.child.try_wait().expect("wait").is_some();
            assert!(
                !ended && start.elapsed() < PROMPT,
                "{} {} before it said {prefix:?}\n{}",
                self.name,
                if ended { "ended" } else { "took too long" },
                self.report(),
            );
        }
    }

    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(self.pid(), signal);
    }

    /// Waits for its end by itself.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return Some(status);
            }
            if start.elapsed() > limit {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `kill -9`, as a crash or the OOM killer would.
    #[track_caller]
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        assert!(self.wait(PROMPT).is_some(), "{} was killed and does not die", self.name);
    }

    /// Asks it to end with `signal` and expects that it does, with exit code 0.
    #[track_caller]
    pub fn ends_cleanly_on(&mut self, signal: Signal) {
        self.signal(signal);
        self.ends_cleanly();
    }

    /// Expects that it ends, with exit code 0.
    #[track_caller]
    pub fn ends_cleanly(&mut self) {
        let status = self.wait(PROMPT);
        assert!(status.is_some(), "{} has not ended\n{}", self.name, self.report());
        assert!(status.is_some_and(|s| s.success()), "{status:?}\n{}", self.report());
    }

    /// What it has printed, for people who read a failure.
    pub fn report(&self) -> String {
        format!(
            "--- {} printed:\n{}\n--- on stderr:\n{}",
            self.name,
            self.stdout.text(),
            self.stderr.text()
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.signal(Signal::TERM);
            if self.wait(Duration::from_secs(10)).is_none() {
                self.kill();
            }
        }
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

/// Lines that a thread collects as they come.
#[derive(Clone)]
pub struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    fn read(from: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let sink = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                sink.0.0.lock().expect("lines").push(line);
                sink.0.1.notify_all();
            }
        });
        lines
    }

    /// The first line that `wanted` accepts, waiting for it up to `limit`.
    pub fn wait_for(&self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let find = |lines: &[String]| lines.iter().find(|line| wanted(line)).cloned();
        let lines = self.0.0.lock().expect("lines");
        let (lines, _) = self
            .0
            .1
            .wait_timeout_while(lines, limit, |lines| find(lines).is_none())
            .expect("lines");
        find(&lines)
    }

    pub fn all(&self) -> Vec<String> {
        self.0.0.lock().expect("lines").clone()
    }

    pub fn text(&self) -> String {
        let all = self.all();
        // The end tells most; a daemon in trouble may have said the same for minutes.
        all[all.len().saturating_sub(60)..].join("\n")
    }
}

fn watch(pid: Pid, name: String, patience: Duration) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("pidfd");
    std::thread::spawn(move || {
        if receiver.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} (pid {pid}) is ended: its test takes more than {patience:?}");
            let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
        }
    });
    sender
}
