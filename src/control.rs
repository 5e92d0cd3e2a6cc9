//! The control socket of a running server: how `osxfs status` finds it and asks.
//!
//! Each server makes `PID.sock` in the runtime folder; whoever connects is sent one JSON object and
//! the end of the stream. The folder is `$OSXFS_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/osxfs`, else
//! `/run/osxfs` for root, else `osxfs-UID` in the folder for temporary files.

use anyhow::{Context, Result};
use host_fs::server::Server;
use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// A control socket that is removed with its server.
pub struct Control {
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers status questions of `server` until the process ends.
pub fn start(server: &Arc<Server>) -> Result<Control> {
    let dir = runtime_dir();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("cannot make the runtime folder {}", dir.display()))?;
    let owner = fs::metadata(&dir)?.uid();
    anyhow::ensure!(
        owner == rustix::process::geteuid().as_raw(),
        "the runtime folder {} belongs to user {owner}; set OSXFS_RUNTIME_DIR to one of yours",
        dir.display()
    );
    let path = dir.join(format!("{}.sock", std::process::id()));
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot make the control socket {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let server = server.clone();
    thread::Builder::new().name("osxfs-control".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(&server, &stream);
        }
    })?;
    Ok(Control { path })
}

fn answer(server: &Server, mut stream: &UnixStream) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&serde_json::to_vec(&server.status())?)?;
    Ok(())
}

/// Asks every running server; sockets that nobody answers any more are removed.
pub fn ask_all() -> Result<Vec<serde_json::Value>> {
    let dir = runtime_dir();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", dir.display()));
        }
    };
    let mut sockets: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    sockets.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
    sockets.sort();
    let mut answers = Vec::new();
    for path in sockets {
        match ask(&path) {
            Ok(answer) => answers.push(answer),
            Err(error) if is_refused(&error) => {
                let _ = fs::remove_file(&path);
            }
            Err(error) => {
                return Err(error.context(format!("no answer from {}", path.display())));
            }
        }
    }
    Ok(answers)
}

fn ask(path: &Path) -> Result<serde_json::Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn is_refused(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn runtime_dir() -> PathBuf {
    let from = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = from("OSXFS_RUNTIME_DIR") {
        return dir;
    }
    if let Some(dir) = from("XDG_RUNTIME_DIR") {
        return dir.join("osxfs");
    }
    match rustix::process::geteuid() {
        uid if uid.is_root() => "/run/osxfs".into(),
        uid => std::env::temp_dir().join(format!("osxfs-{}", uid.as_raw())),
    }
}
