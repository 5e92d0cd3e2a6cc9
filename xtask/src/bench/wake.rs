//! What it costs to wake somebody, which is the floor of whatever asks another process. It differs by
//! more than ten between machines: where an idle processor of a virtual machine halts, its host has to
//! bring it back.

use std::io;
use std::time::{Duration, Instant};

use rustix::pipe::pipe;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::stats::Delays;

const TIMES: usize = 2000;

/// Times of a byte there and back between two threads.
pub struct Wake {
    /// Both on one processor.
    same: Duration,
    /// On two that have nothing else to do, if there are two.
    across: Option<Duration>,
}

impl Wake {
    /// Of this machine.
    ///
    /// # Errors
    /// Threads cannot be bound to processors.
    pub fn measure() -> io::Result<Self> {
        let may_use = sched_getaffinity(None)?;
        let mut processors = (0..CpuSet::MAX_CPU).filter(|cpu| may_use.is_set(*cpu));
        let one = processors.next().unwrap_or_default();
        let across = processors.next().map(|other| there_and_back(one, other)).transpose()?;
        Ok(Self { same: there_and_back(one, one)?, across })
    }

    pub fn line(&self) -> String {
        let micros = |time: Duration| format!("{:.1} µs", time.as_secs_f64() * 1e6);
        let across = self.across.map(|time| format!(", on two {}", micros(time)));
        format!(
            "a byte there and back between two threads takes {} on one processor{}",
            micros(self.same),
            across.unwrap_or_default()
        )
    }
}

/// The median, between threads that are bound to these.
fn there_and_back(one: usize, other: usize) -> io::Result<Duration> {
    let ((ask, asked), (answer, answered)) = (pipe()?, pipe()?);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut byte = [0];
            // It ends when the other end of the pipe does.
            if bind(other).is_ok() {
                while rustix::io::read(&ask, &mut byte) == Ok(1)
                    && rustix::io::write(&answered, &byte) == Ok(1)
                {}
            }
        });
        let asker = scope.spawn(move || -> io::Result<Duration> {
            bind(one)?;
            let mut times = Vec::with_capacity(TIMES);
            for _ in 0..TIMES {
                let start = Instant::now();
                rustix::io::write(&asked, &[0])?;
                if rustix::io::read(&answer, &mut [0])? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                times.push(start.elapsed());
            }
            Ok(Delays::of(times).p50)
        });
        asker.join().unwrap_or_else(|_| Err(io::Error::other("the thread that asks has panicked")))
    })
}

/// The calling thread runs on this processor from now on.
fn bind(processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    Ok(sched_setaffinity(None, &only)?)
}
