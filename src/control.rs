//! The control socket of a running process: how `osxfs status` and `osxfs watch` find it and ask.
//!
//! Each server and each agent makes `PID.sock` in the runtime folder. Whoever connects writes one line:
//! `status`, which is answered by one JSON object, or `watch MOUNTPOINT` (the path as a JSON string),
//! which is answered by `{"watching":…}` and then by one JSON object for each change, until either
//! end has gone. The folder is `$OSXFS_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/osxfs`, else
//! `/run/osxfs` for root, else `osxfs-UID` in the folder for temporary files.

use anyhow::{Context, Result};
use host_fs::server::Server;
use serde_json::{Value, json};
use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// Changes as they are delivered.
pub type Changes = Box<dyn Iterator<Item = Value> + Send>;

/// What a process can be asked.
pub trait Subject: Send + Sync {
    /// What it is doing: an object.
    fn status(&self) -> Result<Value>;

    /// Everything that is delivered to this mount from now on; nothing if it is not mounted here.
    fn watch(&self, mount_point: &str) -> Option<Changes>;
}

impl Subject for Arc<Server> {
    fn status(&self) -> Result<Value> {
        Ok(serde_json::to_value(Server::status(self))?)
    }

    fn watch(&self, _: &str) -> Option<Changes> {
        None
    }
}

/// A control socket that is removed with its process.
pub struct Control {
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers questions about `subject` until the process ends.
pub fn start(subject: impl Subject + 'static) -> Result<Control> {
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
    let subject: Arc<dyn Subject> = Arc::new(subject);
    thread::Builder::new().name("osxfs-control".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let subject = subject.clone();
            let answer = move || drop(answer(&*subject, &stream));
            // Without a thread nobody is answered, who then says so.
            let _ = thread::Builder::new().name("osxfs-answer".into()).spawn(answer);
        }
    })?;
    Ok(Control { path })
}

fn answer(subject: &dyn Subject, mut stream: &UnixStream) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let Some(point) = line.trim_end().strip_prefix("watch ") else {
        stream.write_all(&serde_json::to_vec(&subject.status()?)?)?;
        return Ok(());
    };
    let point: String = serde_json::from_str(point)?;
    let Some(changes) = subject.watch(&point) else { return Ok(()) };
    stream.write_all(&line_of(&json!({ "watching": point }))?)?;
    for change in changes {
        stream.write_all(&line_of(&change)?)?;
    }
    Ok(())
}

fn line_of(value: &Value) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Asks every running server and agent; sockets that nobody answers any more are removed.
pub fn ask_all() -> Result<Vec<Value>> {
    each(|path| ask(path).map(Some))
}

/// Finds the process that has this mount, and watches it; nothing if there is none.
pub fn watch(mount_point: &str) -> Result<Option<BufReader<UnixStream>>> {
    Ok(each(|path| ask_to_watch(path, mount_point))?.into_iter().next())
}

fn ask_to_watch(path: &Path, mount_point: &str) -> Result<Option<BufReader<UnixStream>>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "watch {}", serde_json::to_string(mount_point)?)?;
    let mut lines = BufReader::new(stream);
    let mut first = String::new();
    lines.read_line(&mut first)?;
    if first.is_empty() {
        return Ok(None);
    }
    lines.get_ref().set_read_timeout(None)?;
    Ok(Some(lines))
}

/// What each control socket is good for.
fn each<T>(question: impl Fn(&Path) -> Result<Option<T>>) -> Result<Vec<T>> {
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
        match question(&path) {
            Ok(answer) => answers.extend(answer),
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

fn ask(path: &Path) -> Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(b"status\n")?;
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
