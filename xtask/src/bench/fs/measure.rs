//! How one file system is measured: at rest before and after, with the caches dropped where a row is
//! cold, and with the requests and the processor time that it took beside the time.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::daemon::Used;
use super::super::stats::{Delays, Spread};
use super::mounted::{Mounted, Requests};
use super::rows::Row;
use crate::bench::profile::Recording;

/// Processes are at rest when they have used nothing for so long; and how long that is waited for.
const REST: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_secs(20);
/// A warm act is done again up to so often, as long as it has taken no longer than this.
const REPEATS: usize = 7;
const LONG: Duration = Duration::from_secs(1);

/// One figure.
#[derive(Clone)]
pub struct Sample {
    pub row: Row,
    pub seconds: f64,
    /// Of ours only.
    pub requests: Option<Requests>,
    /// Of the device, in a guest.
    pub interrupts: Option<f64>,
    /// Of each process that serves the file system, until it is at rest again.
    pub used: Vec<Used>,
}

/// Measures on one file system, and keeps what it finds.
pub struct Meter<'a> {
    running: &'a dyn Mounted,
    pub samples: Vec<Sample>,
    record: Option<(Row, &'a dyn Fn() -> Result<Recording>)>,
}

impl<'a> Meter<'a> {
    pub fn new(running: &'a dyn Mounted) -> Self {
        Self { running, samples: Vec::new(), record: None }
    }

    /// One that has it recorded while this row is measured.
    pub fn recording(self, row: Row, begin: &'a dyn Fn() -> Result<Recording>) -> Self {
        Self { record: Some((row, begin)), ..self }
    }

    pub fn running(&self) -> &'a dyn Mounted {
        self.running
    }

    /// Everything is on the disk, nothing in memory, and nobody at work.
    pub fn forget_all(&self) -> Result<()> {
        self.rest()?;
        self.running.forget()?;
        self.rest()
    }

    /// Waits until what serves the file system does nothing any more.
    fn rest(&self) -> Result<()> {
        rest(|| self.processor_time())
    }

    fn processor_time(&self) -> Result<Duration> {
        Ok(self.running.processor_time()?.iter().map(|used| used.time).sum())
    }

    /// An act with nothing in memory.
    pub fn cold(&mut self, row: Row, act: impl FnOnce() -> Result<()>) -> Result<()> {
        self.forget_all()?;
        self.once(row, act)
    }

    /// An act as things are.
    pub fn once(&mut self, row: Row, act: impl FnOnce() -> Result<()>) -> Result<()> {
        self.measured(&[row], 1, || {
            let start = Instant::now();
            act()?;
            Ok(vec![start.elapsed().as_secs_f64()])
        })
    }

    /// An act that was just done before, several times; the figure is their median.
    pub fn warm(&mut self, row: Row, mut act: impl FnMut() -> Result<()>) -> Result<()> {
        let first = Instant::now();
        act()?;
        let time = first.elapsed().as_secs_f64().max(1e-6);
        let repeats = ((LONG.as_secs_f64() / time) as usize).clamp(1, REPEATS);
        self.measured(&[row], repeats, || {
            let times = (0..repeats).map(|_| {
                let start = Instant::now();
                act().map(|()| start.elapsed().as_secs_f64())
            });
            Ok(vec![Spread::of(&times.collect::<Result<Vec<_>>>()?).median])
        })
    }

    /// An act on each of so many things; the figures are percentiles of the single times.
    pub fn each(
        &mut self,
        (p50, p99): (Row, Option<Row>),
        count: u32,
        mut act: impl FnMut(u32) -> Result<()>,
    ) -> Result<()> {
        let rows: Vec<Row> = [Some(p50), p99].into_iter().flatten().collect();
        self.measured(&rows, count as usize, || {
            let mut times = Vec::with_capacity(count as usize);
            for number in 0..count {
                let start = Instant::now();
                act(number)?;
                times.push(start.elapsed());
            }
            let delays = Delays::of(times);
            Ok(vec![delays.p50.as_secs_f64(), delays.p99.as_secs_f64()])
        })
    }

    /// Keeps the figures of an act that was done so often, and what one time of it took.
    fn measured(
        &mut self,
        rows: &[Row],
        times: usize,
        act: impl FnOnce() -> Result<Vec<f64>>,
    ) -> Result<()> {
        self.rest()?;
        let (requests, used) = (self.running.requests()?, self.running.processor_time()?);
        let interrupts = self.running.interrupts()?;
        let record = self.record.filter(|(row, _)| rows.contains(row));
        let recording = record.map(|(_, begin)| begin()).transpose()?;
        let figures = act()?;
        drop(recording);
        self.rest()?;
        let each = |before: f64, after: f64| (after - before) / times as f64;
        let interrupts = interrupts.zip(self.running.interrupts()?);
        let interrupts = interrupts.map(|(before, after)| each(before, after));
        let requests = requests.zip(self.running.requests()?).map(|(before, after)| Requests {
            kernel: each(before.kernel, after.kernel),
            wire: each(before.wire, after.wire),
        });
        let after = self.running.processor_time()?;
        let used = used.iter().zip(&after).map(|(before, after)| Used {
            name: after.name,
            time: after.time.saturating_sub(before.time) / times as u32,
        });
        let used: Vec<Used> = used.collect();
        for (&row, seconds) in rows.iter().zip(figures) {
            self.samples.push(Sample { row, seconds, requests, interrupts, used: used.clone() });
        }
        Ok(())
    }
}

/// Waits until these processes do nothing any more.
pub fn rest(processor_time: impl Fn() -> Result<Duration>) -> Result<()> {
    let start = Instant::now();
    let mut before = processor_time()?;
    loop {
        thread::sleep(REST);
        let now = processor_time()?;
        if now == before || start.elapsed() > PATIENCE {
            return Ok(());
        }
        before = now;
    }
}

/// How much of the processors is used while the bench does nothing: by others, who disturb it.
pub fn disturbance() -> Result<f64> {
    const LOOK: Duration = Duration::from_millis(200);
    let before = processors()?;
    thread::sleep(LOOK);
    let after = processors()?;
    let [busy, all] = [after.0 - before.0, after.1 - before.1];
    Ok(busy as f64 / all.max(1) as f64)
}

/// Ticks that all processors were busy, and all ticks.
fn processors() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks = line.split_whitespace().skip(1).map(str::parse::<u64>);
    let ticks = ticks.collect::<Result<Vec<_>, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted already.
    let all: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}
