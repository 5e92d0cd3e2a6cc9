//! How long a change takes from the host to the watcher: from just before the first system call of
//! the change until the watcher's `read` has returned. One change at a time, a pause between two.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::act::{Act, Numbers};
use super::share::Dir;
use super::stats::Delays;
use super::watcher::{Expected, Watcher};

/// The kinds whose delay is measured.
pub const KINDS: [Act; 9] = [
    Act::Create,
    Act::MkDir,
    Act::SymLink,
    Act::Modify,
    Act::Attrib,
    Act::Rename,
    Act::Delete,
    Act::RmDir,
    Act::Save,
];

/// Between two samples.
const PAUSE: Duration = Duration::from_millis(3);
/// After which an event is lost.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A series of changes of one kind.
#[derive(Clone, Copy, Default)]
pub struct Series {
    pub delays: Delays,
    pub lost: usize,
}

/// Measures so many changes of one kind.
pub fn measure(
    act: Act,
    samples: u32,
    dir: &Dir,
    watcher: &Watcher,
    numbers: &Numbers,
) -> Result<Series> {
    let all = numbers.take(samples);
    let mut lost = 0;
    if let Some(before) = act.before() {
        for number in all.clone() {
            perform(before, number, dir, watcher)?.is_none().then(|| lost += 1);
        }
    }
    let mut delays = Vec::with_capacity(all.len());
    for number in all {
        thread::sleep(PAUSE);
        match perform(act, number, dir, watcher)? {
            Some(delay) => delays.push(delay),
            None => lost += 1,
        }
    }
    Ok(Series { delays: Delays::of(delays), lost })
}

/// The delay of one change; nothing if it was lost.
fn perform(act: Act, number: u32, dir: &Dir, watcher: &Watcher) -> Result<Option<Duration>> {
    let expected: Vec<Expected> = act.expected(number).collect();
    watcher.expect(expected.iter().copied());
    let start = Instant::now();
    act.perform(&dir.host, number)?;
    let seen = expected.iter().map(|&expected| watcher.seen(expected, PATIENCE));
    let last = seen.collect::<Option<Vec<_>>>().and_then(|seen| seen.into_iter().max());
    Ok(last.map(|seen| seen - start))
}
