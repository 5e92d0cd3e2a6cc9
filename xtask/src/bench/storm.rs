//! How many changes a second go through: many changes as fast as the host can make them, over several
//! watched folders, until the watcher has seen the last one. And what a change costs in processor
//! time, in a storm and at a steady pace.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::act::{Act, Load, Numbers};
use super::daemon::Used;
use super::share::{Dir, Share};
use super::watcher::Watcher;

/// What is done to all files, in this order. The last one makes files that `Delete` removes.
pub const KINDS: [Act; 4] = [Act::Make, Act::Modify, Act::Delete, Act::Written];

/// With no event for so long, what is missing is lost.
const QUIET: Duration = Duration::from_secs(5);

/// One storm.
#[derive(Clone, Default)]
pub struct Storm {
    /// Events of inotify that came.
    pub events: usize,
    pub lost: usize,
    /// From the first system call to the last of the host.
    pub making: Duration,
    /// From the first system call to the last event.
    pub time: Duration,
    /// Processor time a change, of each process.
    pub cost: Vec<Used>,
}

impl Storm {
    pub fn per_second(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Storms of each kind.
pub fn measure(
    changes: u32,
    share: &Share,
    dirs: &[Dir],
    watcher: &Watcher,
    numbers: &Numbers,
) -> Result<[Storm; KINDS.len()]> {
    let first = numbers.take(changes);
    let second = numbers.take(changes);
    let storm = |act: Act, numbers: &std::ops::Range<u32>| -> Result<Storm> {
        watcher.expect(numbers.clone().flat_map(|number| act.expected(number)));
        let expected = numbers.len() * act.events().len();
        let used = share.processor_time()?;
        let start = Instant::now();
        for number in numbers.clone() {
            act.perform(&dirs[number as usize % dirs.len()].host, number)?;
        }
        let making = start.elapsed();
        let lost = watcher.missing(QUIET);
        let time = watcher.last().map_or(making, |last| last.saturating_duration_since(start));
        let cost = cost(&used, &share.processor_time()?, numbers.len());
        Ok(Storm { events: expected - lost, lost, making, time, cost })
    };
    let [make, modify, delete, written] = KINDS;
    let storms = [
        storm(make, &first)?,
        storm(modify, &first)?,
        storm(delete, &first)?,
        storm(written, &second)?,
    ];
    storm(delete, &second)?;
    Ok(storms)
}

/// A steady load, and nothing beside it.
pub struct Steady {
    pub per_second: f64,
    pub lost: usize,
    pub cost: Vec<Used>,
}

/// Measures what a change costs under this load for so long.
pub fn steady(share: &Share, load: &Load<'_>, time: Duration) -> Result<Steady> {
    let used = share.processor_time()?;
    let ((), done) = load.during(|| std::thread::sleep(time))?;
    let lost = load.watcher.missing(QUIET);
    let cost = cost(&used, &share.processor_time()?, done.changes as usize);
    Ok(Steady { per_second: f64::from(done.changes) / done.time.as_secs_f64(), lost, cost })
}

/// What was used between two moments, for one of so many changes.
fn cost(before: &[Used], after: &[Used], changes: usize) -> Vec<Used> {
    let each = |(before, after): (&Used, &Used)| {
        let time = after.time.saturating_sub(before.time).as_secs_f64() / changes.max(1) as f64;
        Used { name: after.name, time: Duration::from_secs_f64(time) }
    };
    before.iter().zip(after).map(each).collect()
}
