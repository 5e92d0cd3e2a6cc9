//! Where the guest's console goes.

use super::plan::Plan;
use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use vmm::Console;

/// How much is kept of a console that nobody watches.
const KEPT: usize = 64 * 1024;
/// How many lines of it are shown.
const SHOWN: usize = 12;

/// Both ends of a console.
pub struct Ends {
    pub output: Box<dyn Write + Send>,
    /// What is typed, if anything can be.
    pub input: Option<Box<dyn Read + Send>>,
    /// Shows what it said.
    pub kept: Kept,
}

/// Opens it. With a command, standard input and output are the command's, and the console has
/// standard error.
pub fn open(plan: &Plan) -> Result<Ends> {
    let has_command = plan.command.is_some();
    let kept = Kept::default();
    let log = plan.console_log.as_deref().map(append).transpose()?;
    let ends = |output: Box<dyn Write + Send>, input: Option<Box<dyn Read + Send>>| Ends {
        output: Box::new(Both { output, log, kept: kept.clone() }),
        input,
        kept: kept.clone(),
    };
    Ok(match &plan.console {
        None => ends(Box::new(io::sink()), None),
        Some(Console::Stdio) if has_command => ends(Box::new(io::stderr()), None),
        Some(Console::Stdio) => ends(Box::new(io::stdout()), Some(Box::new(io::stdin()))),
        Some(Console::Pty) => {
            let (terminal, name) = pseudo_terminal().context("no pseudo terminal can be had")?;
            eprintln!("osxfs: the guest's console is {name}\r");
            if let Some(place) = &plan.console_link {
                link(place, &name)?;
            }
            let input = terminal.try_clone()?;
            ends(Box::new(terminal), Some(Box::new(input)))
        }
        Some(Console::File(path)) => ends(Box::new(append(path)?), None),
    })
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
struct Both {
    output: Box<dyn Write + Send>,
    log: Option<File>,
    kept: Kept,
}

impl Write for Both {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn the_last_lines_of_a_console_are_shown_without_what_moves_a_cursor() {
        let (kept, log) = (Kept::default(), tempfile::tempfile().unwrap());
        let mut of_log = log.try_clone().unwrap();
        let output = Box::new(io::sink());
        let mut output = Both { output, log: Some(log), kept: kept.clone() };
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
