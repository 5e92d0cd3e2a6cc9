//! The last step before a command: a session of its own, the terminal, and the command takes this
//! process over. init starts itself under another name to get here, as a child cannot do this between
//! `fork` and `exec` without unsafe code.

use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The first argument of a process that is to become a command; the command follows.
pub(super) const ON_TERMINAL: &str = "become-command-on-terminal";
pub(super) const ON_PIPES: &str = "become-command";

/// The exit status of shells for a command that is not there, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// What is to become of this process.
pub(super) struct Become<'a> {
    terminal: bool,
    command: &'a OsStr,
    arguments: &'a [OsString],
}

/// Whether the arguments ask for it.
pub(super) fn asked_for(arguments: &[OsString]) -> Option<Become<'_>> {
    let [_, how, command, arguments @ ..] = arguments else { return None };
    let terminal = match how.to_str()? {
        ON_TERMINAL => true,
        ON_PIPES => false,
        _ => return None,
    };
    Some(Become { terminal, command, arguments })
}

/// Returns only if there is no such command.
pub(super) fn become_command(what: &Become<'_>) -> ExitCode {
    let Become { terminal, command, arguments } = what;
    let session = rustix::process::setsid().and_then(|_| match terminal {
        true => rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()),
        false => Ok(()),
    });
    if let Err(error) = session {
        eprintln!("osxfs: the command gets no terminal of its own: {error}");
    }
    let error = Command::new(command).args(*arguments).exec();
    let missing = error.raw_os_error() == Some(Errno::NOENT.raw_os_error());
    let why = if missing { "no such command in the guest".to_owned() } else { error.to_string() };
    eprintln!("osxfs: cannot run {}: {why}", command.display());
    ExitCode::from(if missing { NOT_FOUND } else { NOT_RUN })
}
