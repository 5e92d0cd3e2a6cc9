//! What this program does inside of a guest, where the guest itself has no program for it. The host
//! starts it there as the one test [`TEST`], with a variable that names the job.

use std::io::{self, BufRead, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener, VsockStream};

use super::host::LOADED;
use crate::support::Watcher;
use crate::support::tree::Numbers;

/// The variable that names the job.
const JOB: &str = "OSXFS_E2E_GUEST";
/// The test that does it.
const TEST: &str = "vm::guest::does_its_job";
/// The port on which either side listens.
pub const PORT: u32 = 4000;
/// How many connections there are at once, half of them opened by each side.
pub const CONNECTIONS: u64 = 64;
/// How much each carries in each direction.
const LENGTH: usize = 128 << 10;
/// What begins each line that is no chatter of the test runner.
pub const MARK: &str = "guest: ";

/// Makes `osxfs vm run` start this program for a job.
pub fn run_in(command: &mut Command, job: &str) {
    command.args(["--env", &format!("{JOB}={job}"), "--"]).args(this_program().split(' '));
}

/// A line of a script that starts it for a job.
pub fn line_of(job: &str) -> String {
    format!("{JOB}={job} {}", this_program())
}

fn this_program() -> String {
    format!("{LOADED}/e2e --exact {TEST} --ignored --nocapture")
}

#[test]
#[ignore = "runs in the guests of other tests"]
fn does_its_job() {
    match std::env::var(JOB).as_deref() {
        Ok("sockets") => sockets(),
        Ok("ears") => ears(),
        job => panic!("{JOB} is {job:?}"),
    }
}

fn say(line: &str) {
    static OUT: Mutex<()> = Mutex::new(());
    let _turn = OUT.lock().expect("a turn");
    println!("{MARK}{line}");
}

/// Echoes on what the host opens, and opens as many itself.
fn sockets() {
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, PORT).expect("a port");
    say("listening");
    std::thread::scope(|scope| {
        for number in CONNECTIONS / 2..CONNECTIONS {
            scope.spawn(move || {
                let stream = VsockStream::connect_with_cid_port(VMADDR_CID_HOST, PORT);
                first(&stream.expect("the host's port"), VsockStream::shutdown, number, true);
            });
        }
        for _ in 0..CONNECTIONS / 2 {
            let (stream, _) = listener.accept().expect("a connection of the host");
            scope.spawn(move || {
                std::io::copy(&mut &stream, &mut &stream).expect("an echo");
                stream.shutdown(Shutdown::Write).expect("closed");
            });
        }
    });
}

/// Sends data that only this connection has, closes its half, and reads meanwhile: the same must come
/// back, perhaps inverted, and then an end.
/// `shutdown` is the socket's own.
pub fn first<S: Sync>(
    stream: &S,
    shutdown: impl Fn(&S, Shutdown) -> io::Result<()> + Sync,
    number: u64,
    inverted: bool,
) where
    for<'s> &'s S: Read + Write,
{
    let data = Numbers(number).bytes(LENGTH);
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = stream;
            writer.write_all(&data).expect("sent");
            shutdown(stream, Shutdown::Write).expect("closed");
        });
        let mut reader = stream;
        reader.read_to_end(&mut answer).expect("an answer");
    });
    if inverted {
        answer.iter_mut().for_each(|byte| *byte = !*byte);
    }
    assert!(answer == data, "connection {number}: {} bytes came back", answer.len());
}

/// Watches the paths that come in, and tells what is heard: `watch NUMBER` or `error TEXT` for each
/// path in order, `event NUMBER MASK COOKIE NAME` at any time. Ends with its input.
fn ears() {
    let (paths, next) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for path in std::io::stdin().lock().split(b'\n') {
            let _ = paths.send(path.expect("a path"));
        }
    });
    let mut watcher = Watcher::new();
    say("listening");
    loop {
        match next.try_recv() {
            Ok(path) => {
                let path = Path::new(std::ffi::OsStr::from_bytes(&path));
                match watcher.watch(path) {
                    Ok(number) => say(&format!("watch {number}")),
                    Err(error) => say(&format!("error {error}")),
                }
                continue;
            }
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
        }
        for event in watcher.wait(Duration::from_millis(20)) {
            let name = event.name.unwrap_or_default();
            let name = name.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let (watch, what, cookie) = (event.watch, event.what.bits(), event.cookie);
            say(&format!("event {watch} {what} {cookie} {name}."));
        }
    }
}
