//! Each promise about files, as small checks. A check gets a mounted share of an empty folder and
//! looks from both sides: `share.mount()` is the guest's, `share.host()` the host's.
//!
//! What the guest does is on the host when the call returns. What the host does shows up in the
//! guest within the event delay, so checks of that direction wait for it with [`eventually`].

mod attributes;
mod cached;
mod data;
mod listing;
mod names;
mod open;
mod told;

use std::fs;
use std::path::Path;

use rustix::io::Errno;

use crate::support::{PROMPT, eventually};

/// Waits until the file there has this content.
#[track_caller]
fn shows(path: &Path, content: impl AsRef<[u8]>) {
    let content = content.as_ref();
    eventually(&format!("{} shows what was written", path.display()), PROMPT, || {
        fs::read(path).is_ok_and(|found| found == content)
    });
}

/// Expects this error of a call through the standard library.
#[track_caller]
fn fails<T>(result: std::io::Result<T>, expected: Errno) {
    let code = result.err().and_then(|error| error.raw_os_error());
    assert_eq!(code, Some(expected.raw_os_error()), "expected {expected:?}");
}

/// The names in a folder, sorted.
fn names(dir: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(dir).expect("a folder");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    names.sort();
    names
}
