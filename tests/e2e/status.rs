//! `osxfs status`: what runs, for people and for programs.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Shape, Share, Suite, on_each_shape};

on_each_shape!(together: status_tells_what_runs, status_counts_what_is_done, status_tells_how_changes_get_on);

/// The servers that `status --json` finds.
#[track_caller]
fn servers(share: &Share) -> Vec<Value> {
    let mut found = processes(share);
    found.retain(|process| process["exports"].is_array());
    found
}

/// The mounts that it finds, of whatever process.
#[track_caller]
fn mounts(share: &Share) -> Vec<Value> {
    let found = processes(share);
    found.iter().filter_map(|process| process["mounts"].as_array()).flatten().cloned().collect()
}

/// Servers and agents.
#[track_caller]
fn processes(share: &Share) -> Vec<Value> {
    let mut status = share.osxfs(["status", "--json"]);
    let text = Suite::run("osxfs status", Duration::from_secs(20), &mut status).succeeds().log;
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    value.as_array().expect("an array of servers").clone()
}

fn status_tells_what_runs(shape: Shape) {
    let mut share = shape.share().read_only().start();
    let found = servers(&share);
    assert_eq!(found.len(), 1, "{found:#?}");
    let pid = share.server().pid().as_raw_nonzero().get();
    assert_eq!(found[0]["pid"], pid);
    let exports = found[0]["exports"].as_array().expect("exports");
    assert_eq!(exports.len(), 1);
    assert_eq!(exports[0]["path"], share.host().to_str().expect("a plain path"));
    assert_eq!(exports[0]["read_only"], true);
    assert_eq!(found[0]["agents"].as_array().expect("agents").len(), 1);

    let mut status = share.osxfs(["status"]);
    let text = Suite::run("osxfs status", Duration::from_secs(20), &mut status).succeeds().log;
    assert!(text.contains(share.host().to_str().expect("a plain path")), "{text}");

    for daemon in share.daemons().iter_mut().rev() {
        daemon.ends_cleanly_on(rustix::process::Signal::TERM);
    }
    assert_eq!(processes(&share), [Value::Null; 0], "nothing runs any more");
}

fn status_counts_what_is_done(shape: Shape) {
    let share = shape.mounted();
    let count = |name: &str| servers(&share)[0][name].as_u64().expect("a number");
    let before = ["operations", "bytes_read", "bytes_written", "events"].map(count);
    fs::write(share.mount().join("file"), [0; 10_000]).expect("a file");
    fs::write(share.host().join("of-host"), [0; 20_000]).expect("a file");
    crate::support::eventually("the host's file", crate::support::PROMPT, || {
        fs::read(share.mount().join("of-host")).is_ok_and(|content| content.len() == 20_000)
    });
    let after = ["operations", "bytes_read", "bytes_written", "events"].map(count);
    assert!(after[0] > before[0], "operations");
    assert!(after[1] >= before[1] + 20_000, "bytes read");
    assert!(after[2] >= before[2] + 10_000, "bytes written");
    assert!(after[3] > before[3], "events");
    assert!(count("leases") > 0, "the mount's folder is watched");
}

fn status_tells_how_changes_get_on(shape: Shape) {
    let share = shape.mounted();
    let found = mounts(&share);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["mount_point"], share.mount().to_str().expect("a plain path"));
    assert_eq!(found[0]["delay_p50_us"], Value::Null, "nothing was delivered so far");
    fs::write(share.host().join("file"), "x").expect("a file");
    crate::support::eventually("a change is delivered", crate::support::PROMPT, || {
        mounts(&share)[0]["injected"].as_u64().is_some_and(|injected| injected > 0)
    });
    let mount = &mounts(&share)[0];
    let number = |key: &str| mount[key].as_u64().unwrap_or_else(|| panic!("{key}: {mount:#}"));
    assert!(number("delay_p50_us") > 0 && number("delay_p50_us") <= number("delay_p99_us"));
    assert_eq!((number("given_up"), number("waiting")), (0, 0));
    let mut status = share.osxfs(["status"]);
    let text = Suite::run("osxfs status", Duration::from_secs(20), &mut status).succeeds().log;
    assert!(text.contains(" waiting, delay "), "{text}");
}
