//! Where the guest's console goes.

use super::plan::Plan;
use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use vmm::Console;

/// Takes what is typed, and waits while the guest has no room. `false` if it is gone.
pub type Sink = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// How much is kept of a console that nobody watches.
const KEPT: usize = 64 * 1024;
/// How long until it is looked again whether somebody has a pseudo terminal open.
const AWAY: Duration = Duration::from_millis(200);
/// How many lines of it are shown.
const SHOWN: usize = 12;

/// The guest's console. It outlives the guest: one that starts again goes on with it.
pub struct Open {
    output: Arc<Mutex<Output>>,
    typing: Option<Arc<Typing>>,
    /// Shows what it said.
    pub kept: Kept,
}

impl Open {
    /// Opens it. With a command, standard input and output are the command's, and the console has
    /// standard error.
    pub fn new(plan: &Plan) -> Result<Self> {
        let (output, input): (Box<dyn Write + Send>, Option<Box<dyn Read + Send>>) =
            match &plan.console {
                None => (Box::new(io::sink()), None),
                Some(Console::Stdio) if plan.command.is_some() => (Box::new(io::stderr()), None),
                Some(Console::Stdio) => (Box::new(io::stdout()), Some(Box::new(io::stdin()))),
                Some(Console::Pty) => {
                    let (terminal, name) =
                        pseudo_terminal().context("no pseudo terminal can be had")?;
                    eprintln!("osxfs: the guest's console is {name}\r");
                    if let Some(place) = &plan.console_link {
                        link(place, &name)?;
                    }
                    let input = terminal.try_clone()?;
                    (Box::new(terminal), Some(Box::new(input)))
                }
                Some(Console::File(path)) => (Box::new(append(path)?), None),
            };
        let log = plan.console_log.as_deref().map(append).transpose()?;
        let kept = Kept::default();
        let output = Arc::new(Mutex::new(Output { output, log, kept: kept.clone() }));
        let typing = input.map(Typing::start).transpose()?;
        Ok(Self { output, typing, kept })
    }

    /// Where a guest writes.
    pub fn output(&self) -> Box<dyn Write + Send> {
        Box::new(Handle(self.output.clone()))
    }

    /// What is typed goes to this guest from now on.
    pub fn attach(&self, guest: Sink) {
        if let Some(typing) = &self.typing {
            typing.attach(guest);
        }
    }
}

/// What is typed on the console, on its way to whichever guest there is.
struct Typing {
    /// With how many there were before it.
    guest: Mutex<(u64, Option<Sink>)>,
    attached: Condvar,
}

impl Typing {
    fn start(mut input: Box<dyn Read + Send>) -> io::Result<Arc<Self>> {
        let typing = Arc::new(Self { guest: Mutex::default(), attached: Condvar::new() });
        let this = typing.clone();
        let read = move || {
            let mut chunk = [0; 256];
            loop {
                match input.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(len) => this.send(chunk.get(..len).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Nobody has the other end of a pseudo terminal open at the moment.
                    Err(_) => thread::sleep(AWAY),
                }
            }
        };
        thread::Builder::new().name("osxfs-typing".into()).spawn(read)?;
        Ok(typing)
    }

    /// Waits for a guest. What the last one did not take any more is for the next.
    fn send(&self, bytes: &[u8]) {
        loop {
            let guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
            let guest = self
                .attached
                .wait_while(guest, |(_, guest)| guest.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            let (number, Some(input)) = guest.clone() else { continue };
            drop(guest);
            if input(bytes) {
                return;
            }
            let mut guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
            if guest.0 == number {
                guest.1 = None;
            }
        }
    }

    fn attach(&self, guest: Sink) {
        let mut current = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, Some(guest));
        drop(current);
        self.attached.notify_all();
    }
}

/// Replaces a link of an earlier run, and nothing else.
fn link(place: &Path, name: &str) -> Result<()> {
    if place.is_symlink() {
        let _ = std::fs::remove_file(place);
    }
    std::os::unix::fs::symlink(name, place)
        .with_context(|| format!("cannot make the console's link {}", place.display()))
}

fn append(path: &Path) -> Result<File> {
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("cannot write the console to {}", path.display()))
}

fn pseudo_terminal() -> io::Result<(File, String)> {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    fcntl_setfd(&terminal, FdFlags::CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    // Or it would echo to the guest what the guest says, until somebody opens it and makes it so.
    let mut raw = tcgetattr(&terminal)?;
    raw.make_raw();
    tcsetattr(&terminal, OptionalActions::Now, &raw)?;
    let name = ptsname(&terminal, Vec::new())?.to_string_lossy().into_owned();
    Ok((terminal.into(), name))
}

/// The last that a console said.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<VecDeque<u8>>>);

impl Kept {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
}

impl fmt::Display for Kept {
    /// The last lines, or nothing if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<u8> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let plain = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
        let lines: Vec<_> = text.lines().map(plain).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Ok(());
        }
        write!(f, "; its console said last:")?;
        lines[lines.len().saturating_sub(SHOWN)..]
            .iter()
            .try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Writes to where the console goes, and to its log, and keeps the last of it.
struct Output {
    output: Box<dyn Write + Send>,
    log: Option<File>,
    kept: Kept,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        let bytes = bytes.get(..written).unwrap_or_default();
        self.kept.add(bytes);
        if let Some(log) = &mut self.log {
            // A full disk is no reason to keep the console from whoever watches it.
            let _ = log.write_all(bytes);
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

struct Handle(Arc<Mutex<Output>>);

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn the_last_lines_of_a_console_are_shown_without_what_moves_a_cursor() {
        let (kept, log) = (Kept::default(), tempfile::tempfile().unwrap());
        let mut of_log = log.try_clone().unwrap();
        let output = Box::new(io::sink());
        let mut output = Output { output, log: Some(log), kept: kept.clone() };
        assert_eq!(kept.to_string(), "");
        for number in 0..10_000 {
            write!(output, "line {number}\r\n\x1b[2K\r\n").unwrap();
        }
        let shown = kept.to_string();
        assert!(shown.starts_with("; its console said last:\n  "), "{shown}");
        assert!(shown.ends_with("\n  line 9999\n  [2K"), "{shown}");
        assert_eq!(shown.lines().count(), SHOWN + 1);
        assert!(kept.0.lock().unwrap().len() <= KEPT);
        let mut logged = String::new();
        of_log.rewind().unwrap();
        of_log.read_to_string(&mut logged).unwrap();
        assert!(logged.starts_with("line 0\r\n"));
    }

    #[test]
    fn a_pseudo_terminal_carries_the_console() {
        let (mut terminal, name) = pseudo_terminal().unwrap();
        let mut other = File::options().read(true).open(name).unwrap();
        terminal.write_all(b"hello\n").unwrap();
        let mut got = [0; 6];
        other.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello\n");
    }
}
