//! What tests do in their host: running guests, and programs in those.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{PROMPT, Suite, share};

/// How a program of the host runs in a guest, which has no libraries: by the host's own loader, from
/// the folder of programs that every guest of these tests shares.
pub const LOADED: &str = "/tools/lib/ld-linux-x86-64.so.2 --library-path /tools/lib /tools/bin";

/// `osxfs vm run` for a guest with two processors and the programs.
pub fn vm() -> Command {
    let mut command = Command::new(share::program());
    command.args(["vm", "run", "--cpus", "2", "--memory", "512M", "--share", "/tools:/tools:ro"]);
    command
}

/// A share of a folder at a place of the guest, as an argument.
pub fn share_of(folder: &Path, at: &str) -> [String; 2] {
    ["--share".into(), format!("{}:{at}", folder.display())]
}

/// Runs a guest to its end, which gets this input.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("osxfs");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let feed = std::thread::spawn(move || {
        // It may have ended before it took everything.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("its end");
    feed.join().expect("input");
    output
}

/// Runs a script in a guest, and expects its success. Returns what it printed.
#[track_caller]
pub fn shell<S: AsRef<OsStr>>(flags: impl IntoIterator<Item = S>, script: &str) -> String {
    let start = std::time::Instant::now();
    let output = run(vm().args(flags).args(["--", "sh", "-euc", script]), b"");
    println!("a guest: {:.0} s", start.elapsed().as_secs_f64());
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out
}

/// What `qemu-img` says, which must succeed.
#[track_caller]
pub fn qemu_img<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let mut command = Command::new("qemu-img");
    Suite::run("qemu-img", PROMPT, command.args(arguments)).succeeds().log
}

/// Output and error as text.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What a console says, as it comes.
pub struct Said {
    from: Box<dyn Read>,
    /// Not waited for yet.
    rest: Vec<u8>,
}

impl Said {
    pub fn of(from: impl Read + 'static) -> Self {
        Self { from: Box::new(from), rest: Vec::new() }
    }

    /// Waits until it has said this, and forgets that and all before it.
    #[track_caller]
    pub fn wait_for(&mut self, wanted: &str) {
        loop {
            let found = self.rest.windows(wanted.len()).position(|of| of == wanted.as_bytes());
            if let Some(found) = found {
                self.rest.drain(..found + wanted.len());
                return;
            }
            let mut chunk = [0; 4096];
            let len = self.from.read(&mut chunk).expect("the console");
            let rest = String::from_utf8_lossy(&self.rest);
            assert!(len > 0, "it ends before it says {wanted:?}: {rest}");
            print!("{}", String::from_utf8_lossy(&chunk[..len]));
            self.rest.extend(&chunk[..len]);
        }
    }
}
