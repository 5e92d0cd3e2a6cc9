//! Finding what `cargo xtask setup` installs.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The tool's path. Without it: `None` and a line that says so, on a machine that has not been
/// set up; a failure where the tool should be there, in CI and after a setup.
#[track_caller]
pub fn find(tool: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(tools_dir().join("bin"))
        .chain(std::env::split_paths(&search))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(tool))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("needs {tool} (cargo xtask setup)"));
    }
    found
}

/// Whether this is root; otherwise the test is skipped, or fails as above.
#[track_caller]
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("needs root");
    }
    root
}

/// Says that a test ends without having run; fails where it should have.
#[track_caller]
pub fn skip(reason: &str) {
    let expected = std::env::var_os("CI").is_some() || tools_dir().join("setup-is-done").exists();
    assert!(!expected || reason == "needs root", "{reason}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not `eprintln!`, which the test runner hides for a test that passes.
    let _ = writeln!(std::io::stderr(), "{test}: skipped: {reason}");
}

/// The same folder as in `xtask/src/command.rs`.
fn tools_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("OSXFS_TOOLS") {
        return dir.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache"),
        PathBuf::from,
    );
    cache.join("osxfs/tools")
}
