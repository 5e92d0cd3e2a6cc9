//! The guest's clock: what the host's says. A guest whose host has slept is behind by that time, and
//! does not know.

use crate::wire::connect_once;
use protocol::handshake::{Features, Handshake, Hello, MAGIC, MIN_VERSION, VERSION};
use protocol::splitter::{Frame, ReadError, Splitter};
use protocol::{Address, Text, Time};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;
use tracing::{debug, info, warn};

/// A difference that is left alone: the way of the message, and no reason to make time jump.
const TOLERANCE: Duration = Duration::from_millis(50);
/// The same where others may keep the clock as well (an NTP client): only a sleep is so long.
const ASLEEP: Duration = Duration::from_secs(1);
/// How often the server is asked.
const PERIOD: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sets the clock if it is wrong.
pub(crate) fn set(now: Time) {
    set_beyond(now, TOLERANCE);
}

/// Asks the server for its time again and again, on a thread of its own, and sets the clock where the
/// host has slept.
///
/// # Errors
/// The thread cannot be started.
pub fn keep(server: Address) -> io::Result<()> {
    let keep = move || {
        loop {
            match ask(&server) {
                Ok(now) => set_beyond(now, ASLEEP),
                Err(error) => debug!(%error, "the server does not tell the time"),
            }
            thread::sleep(PERIOD);
        }
    };
    thread::Builder::new().name("osxfs-clock".into()).spawn(keep).map(drop)
}

fn set_beyond(now: Time, tolerance: Duration) {
    let ours = clock_gettime(ClockId::Realtime);
    let ours = Time { sec: ours.tv_sec, nsec: u32::try_from(ours.tv_nsec).unwrap_or(0) };
    let difference = difference(now, ours);
    if difference <= tolerance {
        return;
    }
    let time = Timespec { tv_sec: now.sec, tv_nsec: now.nsec.into() };
    match clock_settime(ClockId::Realtime, time) {
        Ok(()) => info!(?difference, "set the clock"),
        Err(error) => warn!(?difference, "cannot set the clock: {error}"),
    }
}

/// What a server's clock says, by the first words of a connection that is then given up.
fn ask(server: &Address) -> io::Result<Time> {
    let stream = File::from(connect_once(server)?);
    for which in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&stream, which, Some(PATIENCE))?;
    }
    let mut head = Vec::new();
    let hello = Hello {
        magic: MAGIC,
        min_version: MIN_VERSION,
        version: VERSION,
        features: Features::empty(),
        name: Text("osxfs-agent, asking for the time"),
        machine: 0,
    };
    Handshake::Hello(hello).encode(&mut head);
    (&stream).write_all(&head)?;
    let mut frame = Frame::default();
    let bad = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let header = match Splitter::default().next(&mut frame, |buf| (&stream).read(buf)) {
        Ok(header) => header,
        Err(ReadError::Closed) => return Err(io::ErrorKind::ConnectionReset.into()),
        Err(ReadError::Decode(error)) => return Err(bad(error)),
        Err(ReadError::Io(error)) => return Err(error),
    };
    match Handshake::decode(header.opcode, frame.body()).map_err(bad)? {
        Handshake::Welcome(welcome) => Ok(welcome.now),
        _ => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// How far two times are apart.
fn difference(a: Time, b: Time) -> Duration {
    let nanos = |time: Time| i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    let apart = nanos(a).abs_diff(nanos(b));
    Duration::from_nanos(u64::try_from(apart).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_fs::server::{Server, ServerOptions};

    #[test]
    fn times_are_apart_by_the_same_in_both_directions() {
        let time = |sec, nsec| Time { sec, nsec };
        for (a, b, apart) in [
            (time(1, 0), time(0, 999_999_999), Duration::from_nanos(1)),
            (time(-1, 5), time(1, 4), Duration::new(1, 999_999_999)),
            (time(7, 7), time(7, 7), Duration::ZERO),
        ] {
            assert_eq!(difference(a, b), apart);
            assert_eq!(difference(b, a), apart);
        }
        let most = Duration::from_nanos(u64::MAX);
        assert_eq!(difference(time(i64::MIN, 0), time(i64::MAX, 0)), most);
    }

    #[test]
    fn a_server_tells_its_time_to_whoever_connects() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::Unix(dir.path().join("socket"));
        assert!(ask(&address).is_err());
        let server = Server::new(Vec::new(), ServerOptions::default()).unwrap();
        let _listening = host_fs::wire::listen(server, &address).unwrap();
        let before = clock_gettime(ClockId::Realtime).tv_sec;
        let told = ask(&address).unwrap().sec;
        assert!((before..=clock_gettime(ClockId::Realtime).tv_sec).contains(&told));
    }
}
