//! One end of checked connections, for tests and measurements of vsock: runs in a guest and on its
//! host, over vsock and unix sockets.
//!
//! ```text
//! vsock_peer answer ADDRESS                             answers whoever connects, for ever
//! vsock_peer MODE ADDRESS [CONNECTIONS [BYTES [CHUNK]]] connects, and exits non-zero if anything is wrong
//!
//! ADDRESS   vsock:PORT (in a guest: of the host; answer: our own) · unix:PATH · hybrid:PATH:PORT
//! MODE      exchange   both ends send BYTES at the same time, half-close, and check what they get
//!           send       BYTES to the other end, which says how many came
//!           receive    BYTES from the other end
//!           ping       CHUNK bytes there and back, BYTES times; tells the round trip
//! ```

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener, VsockStream};

/// What the connecting end says first: mode, number of the connection, bytes, chunk.
const HEAD: usize = 17;
const BUFFER: usize = 256 << 10;

type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["answer", address] => answer(address),
        [mode, address, ref rest @ ..] => Run::parse(mode, rest).and_then(|run| run.all(address)),
        _ => {
            Err("usage: vsock_peer answer ADDRESS | MODE ADDRESS [CONNECTIONS [BYTES [CHUNK]]]"
                .into())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAIL {error}");
            ExitCode::FAILURE
        }
    }
}

enum Stream {
    Unix(UnixStream),
    Vsock(VsockStream),
}

impl Stream {
    fn connect(address: &str) -> io::Result<Self> {
        if let Some(port) = address.strip_prefix("vsock:") {
            let port = port.parse().map_err(io::Error::other)?;
            return VsockStream::connect_with_cid_port(VMADDR_CID_HOST, port).map(Self::Vsock);
        }
        if let Some(path) = address.strip_prefix("unix:") {
            return UnixStream::connect(path).map(Self::Unix);
        }
        let hybrid = address.strip_prefix("hybrid:").and_then(|rest| rest.rsplit_once(':'));
        let (path, port) = hybrid.ok_or_else(|| io::Error::other("no such kind of address"))?;
        let mut stream = UnixStream::connect(path)?;
        stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
        let mut byte = [0];
        while byte != *b"\n" {
            stream.read_exact(&mut byte)?;
        }
        Ok(Self::Unix(stream))
    }

    fn half_close(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Vsock(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&mut &*stream).read(buf),
            Stream::Vsock(stream) => (&mut &*stream).read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => (&mut &*stream).write(buf),
            Stream::Vsock(stream) => (&mut &*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn answer(address: &str) -> Outcome {
    let serve = |stream: Stream| {
        thread::spawn(move || {
            if let Err(error) = Run::answer(&stream) {
                println!("FAIL {error}");
            }
        });
    };
    if let Some(port) = address.strip_prefix("vsock:") {
        let port = port.parse().map_err(|_| format!("{port} is no port"))?;
        let listener =
            VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port).map_err(say("bind"))?;
        loop {
            serve(Stream::Vsock(listener.accept().map_err(say("accept"))?.0));
        }
    }
    let path = address.strip_prefix("unix:").ok_or("answers at vsock:PORT or unix:PATH")?;
    _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(say("bind"))?;
    loop {
        serve(Stream::Unix(listener.accept().map_err(say("accept"))?.0));
    }
}

#[derive(Clone, Copy)]
struct Run {
    mode: u8,
    connections: u32,
    bytes: u64,
    chunk: u32,
}

impl Run {
    fn parse(mode: &str, rest: &[&str]) -> Outcome<Self> {
        let number = |n: usize, default: u64| {
            let word = rest.get(n).copied();
            word.map_or(Ok(default), |word| {
                word.parse().map_err(|_| format!("{word} is no number"))
            })
        };
        let mode = match mode {
            "exchange" => b'X',
            "send" => b'S',
            "receive" => b'R',
            "ping" => b'P',
            other => return Err(format!("{other} is no mode")),
        };
        let (connections, chunk) = (number(0, 1)? as u32, number(2, 65_536)?.max(1) as u32);
        Ok(Self { mode, connections, bytes: number(1, 1 << 20)?, chunk })
    }

    /// Runs all connections at once.
    fn all(self, address: &str) -> Outcome {
        let start = Instant::now();
        let outcomes: Vec<Outcome> = thread::scope(|scope| {
            let run = |id| scope.spawn(move || self.one(address, id));
            let threads: Vec<_> = (0..self.connections).map(run).collect();
            threads.into_iter().map(|one| one.join().unwrap_or(Err("panic".into()))).collect()
        });
        let bad: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
        for error in bad.iter().take(10) {
            println!("  {error}");
        }
        let Self { mode, connections, bytes, chunk } = self;
        let seconds = start.elapsed().as_secs_f64();
        let rate = f64::from(connections) * bytes as f64 / seconds / 1e6;
        let what = format!(
            "{} {connections} x {bytes} by {chunk}: {seconds:.3} s, {rate:.1} MB/s",
            mode as char
        );
        if !bad.is_empty() {
            return Err(format!("{what}; {} of {connections} connections", bad.len()));
        }
        println!("PASS {what}");
        Ok(())
    }

    /// One connection, at the end that connects.
    fn one(self, address: &str, id: u32) -> Outcome {
        let stream = &Stream::connect(address).map_err(say("connect"))?;
        let mut head = vec![self.mode];
        head.extend_from_slice(&id.to_le_bytes());
        head.extend_from_slice(&self.bytes.to_le_bytes());
        head.extend_from_slice(&self.chunk.to_le_bytes());
        (&*stream).write_all(&head).map_err(say("head"))?;
        match self.mode {
            b'X' => self.exchange(stream, 2 * id, 2 * id + 1),
            b'S' => {
                self.send(stream, 0)?;
                let mut count = [0; 8];
                (&*stream).read_exact(&mut count).map_err(say("count"))?;
                expect(u64::from_le_bytes(count), self.bytes)
            }
            b'R' => expect(drain(stream)?, self.bytes),
            _ => self.ping(stream),
        }
    }

    /// One connection, at the other end.
    fn answer(mut stream: &Stream) -> Outcome {
        let mut head = [0; HEAD];
        stream.read_exact(&mut head).map_err(say("head"))?;
        let id = u32::from_le_bytes(array(&head[1..5]));
        let bytes = u64::from_le_bytes(array(&head[5..13]));
        let chunk = u32::from_le_bytes(array(&head[13..17])).clamp(1, 16 << 20);
        let run = Self { mode: head[0], connections: 1, bytes, chunk };
        match run.mode {
            b'X' => run.exchange(stream, 2 * id + 1, 2 * id),
            b'S' => {
                let count = drain(stream)?;
                stream.write_all(&count.to_le_bytes()).map_err(say("count"))
            }
            b'R' => run.send(stream, 0),
            _ => {
                let mut buf = vec![0; chunk as usize];
                for _ in 0..bytes {
                    stream.read_exact(&mut buf).map_err(say("ping"))?;
                    stream.write_all(&buf).map_err(say("pong"))?;
                }
                Ok(())
            }
        }
    }

    fn exchange(self, stream: &Stream, ours: u32, theirs: u32) -> Outcome {
        thread::scope(|scope| {
            let sending = scope.spawn(move || self.send(stream, ours));
            self.check(stream, theirs)?;
            sending.join().unwrap_or(Err("panic".into()))
        })
    }

    fn send(self, mut stream: &Stream, seed: u32) -> Outcome {
        let mut buf = vec![0; self.chunk as usize];
        let mut at = 0;
        while at < self.bytes {
            let len = (self.bytes - at).min(buf.len() as u64);
            let part = &mut buf[..len as usize];
            if self.mode == b'X' {
                pattern(part, seed, at);
            }
            stream.write_all(part).map_err(|error| format!("write at {at}: {error}"))?;
            at += len;
        }
        stream.half_close().map_err(say("half-close"))
    }

    fn check(self, mut stream: &Stream, seed: u32) -> Outcome {
        let (mut buf, mut wanted) = (vec![0; 65_536], vec![0; 65_536]);
        let mut at = 0;
        loop {
            let len = stream.read(&mut buf).map_err(|error| format!("read at {at}: {error}"))?;
            if len == 0 {
                return expect(at, self.bytes);
            }
            pattern(&mut wanted[..len], seed, at);
            if buf[..len] != wanted[..len] {
                return Err(format!("other bytes than were sent, near {at}"));
            }
            at += len as u64;
        }
    }

    fn ping(self, mut stream: &Stream) -> Outcome {
        let mut buf = vec![0; self.chunk as usize];
        let mut times = Vec::new();
        for _ in 0..self.bytes {
            let start = Instant::now();
            stream.write_all(&buf).map_err(say("ping"))?;
            stream.read_exact(&mut buf).map_err(say("pong"))?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let at = |percent: usize| -> f64 {
            let time = times.get(times.len() * percent / 100).copied().unwrap_or_default();
            Duration::as_secs_f64(&time) * 1e6
        };
        println!("round trip: median {:.1} us, 99 % {:.1} us", at(50), at(99));
        Ok(())
    }
}

/// Bytes that tell where in which stream they belong.
fn pattern(buf: &mut [u8], seed: u32, at: u64) {
    for (place, byte) in (at..).zip(buf) {
        *byte = (place ^ (place >> 8) ^ (place >> 16)) as u8 ^ (seed as u8).wrapping_mul(37);
    }
}

fn drain(mut stream: &Stream) -> Outcome<u64> {
    let mut buf = vec![0; BUFFER];
    let mut count = 0;
    loop {
        match stream.read(&mut buf).map_err(|error| format!("read at {count}: {error}"))? {
            0 => return Ok(count),
            len => count += len as u64,
        }
    }
}

fn expect(found: u64, wanted: u64) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{found} bytes of {wanted} arrived")) }
}

fn say<E: Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}
