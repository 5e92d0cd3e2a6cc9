//! `osxfs watch`: the changes of a mount, as they are delivered to its watchers.

use crate::cli::WatchArgs;
use crate::control;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt::Write as _;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

/// Prints each change until the mount is gone or a signal comes.
pub fn run(args: &WatchArgs) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let end = move || {
        signals.forever().next();
        std::process::exit(0);
    };
    std::thread::Builder::new().name("osxfs-signals".into()).spawn(end)?;
    let point = place(&args.mount)?;
    let Some(changes) = control::watch(&point.to_string_lossy())? else {
        bail!(
            "{} is no mount of a running osxfs of this user; `osxfs status` lists what is mounted",
            args.mount.display()
        );
    };
    let mut out = std::io::stdout().lock();
    let first = serde_json::json!({ "watching": point.to_string_lossy() }).to_string();
    for line in std::iter::once(Ok(first)).chain(changes.lines()) {
        let Ok(line) = line else { break };
        let text = match args.json {
            true => line,
            false => describe(&serde_json::from_str(&line).context("an answer that is no JSON")?),
        };
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            // Whoever read has gone.
            return Ok(());
        }
    }
    eprintln!("osxfs: {} is not mounted any more", args.mount.display());
    Ok(())
}

/// The mount point with its own name as it is: to look at it would ask a server that may be dead.
fn place(mount: &Path) -> Result<PathBuf> {
    let full = std::path::absolute(mount)?;
    let full: PathBuf = full.components().collect();
    match (full.parent(), full.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = parent
                .canonicalize()
                .with_context(|| format!("cannot find {}", mount.display()))?;
            Ok(parent.join(name))
        }
        _ => Ok(full),
    }
}

/// A change in one line: what, where, what came of it and when.
fn describe(change: &Value) -> String {
    let text = |key: &str| change[key].as_str().unwrap_or_default();
    let mut line = String::new();
    if let Some(missed) = change["missed"].as_u64().filter(|missed| *missed > 0) {
        let _ = writeln!(line, "({missed} changes were not read in time and are missing here)");
    }
    let path = |path: &str, is_dir: bool| match (path, is_dir) {
        ("", _) => ".".to_owned(),
        (path, true) => format!("{path}/"),
        (path, false) => path.to_owned(),
    };
    let is_dir = change["is_dir"] == true;
    let mut place = path(text("path"), is_dir);
    if let Some(to) = change["to"].as_str() {
        let _ = write!(place, " -> {}", path(to, is_dir));
    }
    let mut outcome = match (text("outcome"), change["error"].as_str()) {
        (outcome, Some(error)) => format!("{outcome} ({error})"),
        (outcome, None) => outcome.to_owned(),
    };
    if let Some(found) = change["differences"].as_u64() {
        outcome = format!("{found} differences");
    }
    if let Some(why) = change["compared_because"].as_str() {
        let _ = write!(outcome, ", compared again: {why}");
    }
    let millis = change["delay_us"].as_f64().unwrap_or(0.0) / 1000.0;
    let kind = match text("kind") {
        "" => return format!("watching {}", text("watching")),
        "passed" => "came+went",
        kind => kind,
    };
    let _ = write!(line, "{kind:<9} {place:<40} {millis:>9.3} ms  {outcome}");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_aligned_line() {
        let change = serde_json::json!({
            "kind": "renamed", "path": "a/b", "to": "c", "is_dir": true, "outcome": "injected",
            "delay_us": 1500, "missed": 0,
        });
        let line = format!("renamed   {:<40} {:>9} ms  injected", "a/b/ -> c/", "1.500");
        assert_eq!(describe(&change), line);
        let change = serde_json::json!({
            "kind": "modified", "path": "f", "outcome": "refused", "error": "EIO", "delay_us": 1,
            "compared_because": "the server was away", "missed": 3,
        });
        assert_eq!(
            describe(&change),
            format!(
                "(3 changes were not read in time and are missing here)\nmodified  {:<40} {:>9} ms  refused (EIO), compared again: the server was away",
                "f", "0.001"
            )
        );
    }
}
