//! What `/proc` tells of how a thread is scheduled.

use rustix::fs::{Mode, OFlags};
use std::io::Write;

/// What the kernel tells of a thread (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 3: `R` if it runs or would like to.
    pub state: u8,
    /// Field 39: where it ran last.
    pub processor: usize,
}

impl Stat {
    /// Of the thread with this number in `folder`, `/proc` or a `task` below it. Nothing if it is gone.
    /// Waits while its process executes a program.
    pub fn of(folder: &str, thread: u32) -> Option<Self> {
        let mut path = [0; 40];
        write!(&mut path[..], "{folder}/{thread}/stat").ok()?;
        let end = path.iter().position(|byte| *byte == 0)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path[..end], flags, Mode::empty()).ok()?;
        let mut text = [0; 1024];
        let len = rustix::io::read(file, &mut text).ok()?;
        Self::parse(text.get(..len)?)
    }

    /// The name, field 2, stands in brackets and may hold anything.
    fn parse(text: &[u8]) -> Option<Self> {
        let name_end = text.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(text.get(name_end + 1..)?).ok()?.split_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        Some(Self { state, processor: fields.nth(35)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::gettid;

    #[test]
    fn a_name_may_hold_what_separates_fields() {
        let text =
            b"12 (a) R ) (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 \
            26 27 28 29 30 31 32 33 34 35 7 37 38";
        assert_eq!(Stat::parse(text), Some(Stat { state: b'S', processor: 7 }));
        for bad in [&b""[..], b"12 (a", b"12 (a) ", b"12 (a) S 1 2", b"12 (a) \xff"] {
            assert_eq!(Stat::parse(bad), None);
        }
        let own = Stat::of("/proc", gettid().as_raw_pid().unsigned_abs()).unwrap();
        assert_eq!(own.state, b'R');
        assert_eq!(Stat::of("/proc", 0), None);
    }
}
