//! The command of a guest: starting it, its input and output, its terminal.

use super::control::Reports;
use super::{Failure, exec};
use parking_lot::Mutex;
use protocol::guest::{MAX_CHUNK, Report, Start, WindowSize};
use protocol::{Payload, codec::Argument};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use tracing::debug;

/// What a command finds in its environment if nothing else was said.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root")];
/// End of input on a terminal (`VEOF`, `^D`).
const END_OF_INPUT: &[u8] = &[4];

/// A command that was started.
pub(super) struct Running {
    pid: Pid,
    terminal: Option<File>,
    input: mpsc::Sender<Vec<u8>>,
    output: Mutex<Vec<JoinHandle<()>>>,
}

/// Starts the command of `start`, with a terminal if it is to have one, else with pipes.
pub(super) fn start(start: &Start<'_>, reports: &Reports) -> Result<Running, Failure> {
    let name = start.command.first().map(|name| shown(*name)).unwrap_or_default();
    let directory = Path::new(OsStr::from_bytes(start.directory.as_bytes()));
    let failed = |error: io::Error| {
        Failure::new(format!("starting {name} in {}", directory.display()), &error)
    };
    let mut command = wrapper(start.terminal.is_some());
    command.args(start.command.iter().map(|word| OsStr::from_bytes(word.as_bytes())));
    command.current_dir(directory);
    for variable in &start.environment {
        let mut parts = variable.as_bytes().splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if !name.is_empty() {
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(value));
        }
    }
    match start.terminal {
        Some(size) => on_terminal(command, size, reports),
        None => on_pipes(command, reports),
    }
    .map_err(failed)
}

/// A shell on this console, or if there is none, on the kernel's own.
pub(super) fn console_shell(named: Option<&str>) -> Result<Running, Failure> {
    let failed = |error: io::Error| Failure::new("starting a shell on the console", &error);
    let open = |device| File::options().read(true).write(true).open(Path::new("/dev").join(device));
    // The console itself is nobody's terminal; what it stands for is.
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let active = active.split_ascii_whitespace().next_back().unwrap_or("console");
    let console = match named.map(open) {
        Some(Ok(console)) => console,
        Some(Err(_)) | None => open(active).map_err(failed)?,
    };
    let mut command = wrapper(true);
    command.arg("/bin/sh");
    command.stdin(console.try_clone().map_err(failed)?);
    command.stdout(console.try_clone().map_err(failed)?);
    let child = command.stderr(console).spawn().map_err(failed)?;
    let (input, _) = mpsc::channel();
    Ok(Running { pid: Pid::from_child(&child), terminal: None, input, output: Mutex::default() })
}

/// This program, about to become a command.
fn wrapper(terminal: bool) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("osxfs-agent");
    command.arg(if terminal { exec::ON_TERMINAL } else { exec::ON_PIPES });
    command.env_clear().envs(ENVIRONMENT);
    command
}

fn shown(word: Argument<'_>) -> String {
    String::from_utf8_lossy(word.as_bytes()).into_owned()
}

fn on_terminal(mut command: Command, size: WindowSize, reports: &Reports) -> io::Result<Running> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let inner = ioctl_tiocgptpeer(&terminal, flags)?;
    let terminal = File::from(terminal);
    set_size(&terminal, size)?;
    command.stdin(inner.try_clone()?).stdout(inner.try_clone()?).stderr(inner);
    let child = command.spawn()?;
    // The command's ends close with it.
    drop(command);
    let input = feed(terminal.try_clone()?, true, reports)?;
    let output = vec![pump(Stream::Out, terminal.try_clone()?, reports)?];
    Ok(Running {
        pid: Pid::from_child(&child),
        terminal: Some(terminal),
        input,
        output: Mutex::new(output),
    })
}

fn on_pipes(mut command: Command, reports: &Reports) -> io::Result<Running> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let file = |end: Option<OwnedFd>| end.map(File::from).ok_or(io::ErrorKind::BrokenPipe);
    let stdin = file(child.stdin.take().map(Into::into))?;
    let stdout = file(child.stdout.take().map(Into::into))?;
    let stderr = file(child.stderr.take().map(Into::into))?;
    let input = feed(stdin, false, reports)?;
    let output = vec![pump(Stream::Out, stdout, reports)?, pump(Stream::Error, stderr, reports)?];
    Ok(Running { pid: Pid::from_child(&child), terminal: None, input, output: Mutex::new(output) })
}

/// A thread that hands input to the command, which may take it slowly or not at all. How much may
/// wait here is bounded by the window that the monitor keeps to.
fn feed(to: File, terminal: bool, reports: &Reports) -> io::Result<mpsc::Sender<Vec<u8>>> {
    let (input, next) = mpsc::channel::<Vec<u8>>();
    let reports = reports.clone();
    let feed = move || {
        let mut to = Some(to);
        for data in next {
            if data.is_empty() {
                match (&mut to, terminal) {
                    (Some(to), true) => drop(to.write_all(END_OF_INPUT)),
                    _ => to = None,
                }
                continue;
            }
            // Who does not read any more still has his input taken, or the monitor would wait.
            if to.as_mut().is_some_and(|to| to.write_all(&data).is_err()) {
                to = None;
            }
            let taken = u32::try_from(data.len()).unwrap_or(u32::MAX);
            if reports.send(&Report::Taken(taken)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("osxfs-input".into()).spawn(feed)?;
    Ok(input)
}

/// What a command writes to.
#[derive(Clone, Copy)]
enum Stream {
    Out,
    Error,
}

/// A thread that reports output until its end.
fn pump(stream: Stream, mut from: File, reports: &Reports) -> io::Result<JoinHandle<()>> {
    let reports = reports.clone();
    let pump = move || {
        let mut chunk = vec![0; MAX_CHUNK];
        loop {
            let len = match from.read(&mut chunk) {
                // A terminal that nobody has open any more answers with an error.
                Ok(0) | Err(_) => return,
                Ok(len) => len,
            };
            let data = Payload(chunk.get(..len).unwrap_or_default());
            let report = match stream {
                Stream::Out => Report::Stdout(data),
                Stream::Error => Report::Stderr(data),
            };
            if reports.send(&report).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("osxfs-output".into()).spawn(pump)
}

fn set_size(terminal: impl AsFd, size: WindowSize) -> rustix::io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size)
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Input for it; nothing is the end.
    pub fn feed(&self, data: &[u8]) {
        let _ = self.input.send(data.to_vec());
    }

    /// Its terminal has another size, of which the kernel tells it.
    pub fn resize(&self, size: WindowSize) {
        let Some(terminal) = &self.terminal else { return };
        if let Err(error) = set_size(terminal, size) {
            debug!(%error, "the terminal keeps its size");
        }
    }

    /// A signal for it and its group.
    pub fn signal(&self, number: u8) {
        let Some(signal) = Signal::from_named_raw(number.into()) else { return };
        if rustix::process::kill_process_group(self.pid, signal).is_err() {
            // It may not have its group yet.
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    /// Waits until all its output was sent; whoever could still write has ended.
    pub fn drain(&self) {
        for pump in self.output.lock().drain(..) {
            let _ = pump.join();
        }
    }
}
