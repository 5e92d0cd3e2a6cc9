//! A change on the host wakes the watchers on the mount, by the kernel's own inotify: each change
//! once, a rename as one pair, and whoever is woken reads what is new.
//!
//! | module | shows |
//! | --- | --- |
//! | [`table`] | all kinds, right: what a local disk tells, a share tells, by the rows of [`cases`] |
//! | [`differences`] | where it may differ, and why |
//! | [`inotifywait`] | what the program of that name prints of it |
//! | [`storms`] | nothing lost when much happens at once |
//! | [`losses`] | nothing lost when hints, connections, folders are lost |
//! | [`echo`] | nothing invented: a guest's own work is no news, the host is not touched |
//! | [`fresh`] | whoever is woken reads what is new, in each mode |
//! | [`hasty`] | whoever looks before the event comes spoils nothing |
//! | [`odd`] | bad input: the right result or one clear warning |
//! | [`harm`] | mounts on top, other folders, what nobody knows: left alone |

mod cases;
mod differences;
mod echo;
mod fresh;
mod harm;
mod hasty;
mod inotifywait;
mod losses;
mod odd;
mod storms;
pub mod table;

use std::time::Duration;

use serde_json::Value;

use crate::support::{PROMPT, Share, Suite};

/// Time for events that should not come, to come.
fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

/// A counter of `osxfs status`.
#[track_caller]
fn count(share: &Share, name: &str) -> u64 {
    number(&status(share)[0], name)
}

/// A counter of the first agent of the server.
#[track_caller]
fn of_agent(share: &Share, name: &str) -> u64 {
    let processes = status(share);
    let servers = processes.as_array().expect("processes").iter();
    let agents: Vec<_> = servers.filter_map(|server| server["agents"].as_array()).collect();
    number(&agents[0][0], name)
}

fn status(share: &Share) -> Value {
    let mut status = share.osxfs(["status", "--json"]);
    let text = Suite::run("osxfs status", PROMPT, &mut status).succeeds().log;
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_else(|| panic!("no {name} in {of:#}"))
}
