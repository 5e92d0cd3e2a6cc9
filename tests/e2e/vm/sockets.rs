//! vsock: 64 connections at once between programs of the host and of the guest, half of them opened by
//! each side, checked data in both directions, and ends that close one after the other.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::guest::{self, CONNECTIONS, PORT};
use super::host::vm;
use crate::support::{Daemon, Scratch, eventually};

pub fn many_connections_carry_their_data() {
    let scratch = Scratch::new();
    let socket = scratch.path().join("vsock");
    let mut theirs = socket.clone().into_os_string();
    theirs.push(format!("_{PORT}"));
    let listener = UnixListener::bind(PathBuf::from(theirs)).expect("a socket");
    let mut command = vm();
    command.arg("--vsock-path").arg(&socket);
    guest::run_in(&mut command, "sockets");
    let mut guest = Daemon::spawn("osxfs vm run", command, super::LIMIT);
    let ready = || guest.stdout.all().iter().any(|line| line.contains("listening"));
    eventually("the guest listens", super::LIMIT, ready);

    exchange(&socket, &listener);
    let status = guest.wait(super::LIMIT).expect("its end");
    assert!(status.success(), "{status}\n{}", guest.report());
}

/// The host's side of it, with a guest at `socket` whose own connections come to `listener`.
pub fn exchange(socket: &Path, listener: &UnixListener) {
    std::thread::scope(|scope| {
        for number in 0..CONNECTIONS / 2 {
            let stream = connect(socket);
            scope.spawn(move || guest::first(&stream, UnixStream::shutdown, number, false));
        }
        for _ in 0..CONNECTIONS / 2 {
            let (stream, _) = listener.accept().expect("a connection of the guest");
            scope.spawn(move || collects_and_answers(stream));
        }
    });
}

/// Reads until the other has closed its half, and only then says anything: the same, inverted.
fn collects_and_answers(mut stream: UnixStream) {
    let mut data = Vec::new();
    stream.read_to_end(&mut data).expect("all of it");
    data.iter_mut().for_each(|byte| *byte = !*byte);
    stream.write_all(&data).expect("sent");
    stream.shutdown(Shutdown::Write).expect("closed");
}

/// `CONNECT port`, as Firecracker has it.
fn connect(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("the socket");
    stream.set_read_timeout(Some(Duration::from_secs(300))).expect("a timeout");
    writeln!(stream, "CONNECT {PORT}").expect("asked");
    let mut line = String::new();
    // By single bytes, as what follows is data.
    let mut byte = [0];
    while !line.ends_with('\n') {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "refused: {line:?}");
        line.push(byte[0].into());
    }
    assert!(line.starts_with("OK "), "{line}");
    stream
}
