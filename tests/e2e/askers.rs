//! Whoever asks alone is followed to its processor, and gets on also where others never rest.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::{PROMPT, Shape, Suite, eventually, on_each_shape, require, require_root};

on_each_shape!(alone:
    who_asks_alone_is_followed_until_it_rests,
    an_asker_gets_on_where_others_never_rest,
    an_asker_that_executes_programs_gets_on,
);

/// Asks alone and fast, and executes a program with files open that are closed by that: the kernel holds
/// then what `/proc` tells of the process, while it waits for the answer to each close.
const EXECUTES: &str = "
import os
files = [os.open(f'file-{n}', os.O_RDWR | os.O_CREAT) for n in range(20)]
for turn in range(200):
    for n in range(60):
        os.path.exists(f'{turn}-{n}')
    if os.fork() == 0:
        os.execv('/bin/true', ['true'])
    os.wait()
";

/// Asks for so many names that nobody asked for before.
fn ask(mount: &Path, names: impl Iterator<Item = usize>) {
    for name in names {
        fs::metadata(mount.join(name.to_string())).expect_err("it is not there");
    }
}

fn who_asks_alone_is_followed_until_it_rests(shape: Shape) {
    require_root!();
    let mut share = shape.mounted();
    let [agent, server] = [share.agent().pid(), share.server().pid()]
        .map(|pid| Path::new("/proc").join(pid.as_raw_nonzero().to_string()));
    let last = Scheduling { comes_last: true, processors: 1 };
    let (mut asked, mut found) = (0, [false; 2]);
    eventually(
        "a thread comes last on one processor, of the agent and of the server",
        PROMPT,
        || {
            ask(share.mount(), asked..asked + 100);
            asked += 100;
            found[0] |= threads(&agent).contains(&last);
            found[1] |= threads(&server).contains(&last);
            found == [true; 2]
        },
    );
    let all = sched_getaffinity(None).expect("the processors").count();
    let free = Scheduling { comes_last: false, processors: all };
    eventually("all threads are as they were", PROMPT, || {
        threads(&agent).into_iter().chain(threads(&server)).all(|thread| thread == free)
    });
}

fn an_asker_gets_on_where_others_never_rest(shape: Shape) {
    const NAMES: usize = 40_000;
    let share = shape.mounted();
    let all = sched_getaffinity(None).expect("the processors");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for processor in (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor)) {
            let done = &done;
            scope.spawn(move || {
                let mut only = CpuSet::new();
                only.set(processor);
                sched_setaffinity(None, &only).expect("to stay there");
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let (begun, mut asked) = (Instant::now(), 0);
        while asked < NAMES && begun.elapsed() < LIMIT {
            ask(share.mount(), asked..asked + 100);
            asked += 100;
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(asked, NAMES, "in {LIMIT:?}");
    });
}

fn an_asker_that_executes_programs_gets_on(shape: Shape) {
    require!("python3");
    let share = shape.mounted();
    let mut python = Command::new("python3");
    python.args(["-c", EXECUTES]).current_dir(share.mount());
    Suite::run("the asker", LIMIT, &mut python).succeeds();
}

/// Ten times what it takes where processors have as much to do, and no thread comes last.
const LIMIT: Duration = Duration::from_secs(40);

/// How a thread is scheduled.
#[derive(Debug, PartialEq, Eq)]
struct Scheduling {
    /// `SCHED_IDLE`.
    comes_last: bool,
    processors: u32,
}

fn threads(process: &Path) -> Vec<Scheduling> {
    let tasks = fs::read_dir(process.join("task")).expect("its threads").flatten();
    tasks.filter_map(|task| Scheduling::of(&task.path())).collect()
}

impl Scheduling {
    fn of(thread: &Path) -> Option<Self> {
        let stat = fs::read_to_string(thread.join("stat")).ok()?;
        let status = fs::read_to_string(thread.join("status")).ok()?;
        // Field 41 is the policy; the second, the name, ends with the last bracket.
        let policy = stat.rsplit(") ").next()?.split(' ').nth(38)?;
        let processors = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:"))?;
        let words = processors.trim().split(',').map(|word| u32::from_str_radix(word, 16));
        Some(Self {
            comes_last: policy == "5",
            processors: words.map(|word| word.expect("a mask").count_ones()).sum(),
        })
    }
}
