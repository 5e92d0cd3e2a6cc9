//! Nothing happens: no thread of osxfs wakes up.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::watcher::Watcher;
use crate::support::{PROMPT, Shape, Share, eventually, on_each_shape};

on_each_shape!(alone: a_mount_at_rest_wakes_nobody, a_delegated_mount_at_rest_wakes_nobody);

const REST: Duration = Duration::from_secs(5);

fn a_mount_at_rest_wakes_nobody(shape: Shape) {
    at_rest(shape.mounted());
}

fn a_delegated_mount_at_rest_wakes_nobody(shape: Shape) {
    at_rest(shape.share().consistency("delegated").start());
}

fn at_rest(mut share: Share) {
    fs::create_dir(share.host().join("folder")).expect("a folder");
    fs::write(share.mount().join("folder/of-guest"), "x").expect("a file");
    let mut watcher = Watcher::new();
    for dir in ["", "folder"] {
        watcher.watch(&share.mount().join(dir)).expect("a watch");
    }
    fs::write(share.host().join("folder/of-host"), "x").expect("a file");
    let heard = |event: &crate::support::watcher::Event| event.name.as_deref() == Some(b"of-host");
    watcher.wait_for(PROMPT, heard).expect("an event");
    let mut last = wake_ups(&mut share);
    let mut woken = Vec::new();
    // What was done before may still have consequences, for a while.
    eventually("nobody wakes up any more", PROMPT * 2, || {
        std::thread::sleep(REST);
        let now = wake_ups(&mut share);
        woken = now.iter().filter(|thread| !last.contains(thread)).cloned().collect();
        last = now;
        woken.is_empty() || {
            eprintln!("in {REST:?} woke up: {woken:?}");
            false
        }
    });
}

/// Every thread of every process of the share, with its name and how often it was scheduled.
fn wake_ups(share: &mut Share) -> Vec<(String, String, u64)> {
    let pids: Vec<_> = share.daemons().iter().map(crate::support::Daemon::pid).collect();
    let mut threads = Vec::new();
    for pid in pids {
        let tasks = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("task");
        for task in fs::read_dir(tasks).expect("its threads").flatten() {
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
            let value = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                line.map(|line| line.trim_start_matches(':').trim().to_owned()).unwrap_or_default()
            };
            let count = |key: &str| value(key).parse::<u64>().expect("a number");
            let switches = count("voluntary_ctxt_switches") + count("nonvoluntary_ctxt_switches");
            let id = task.file_name().to_string_lossy().into_owned();
            threads.push((id, value("Name"), switches));
        }
    }
    threads
}
