//! fsx: 100,000 random operations on one file, each read compared with what must be there.

use std::process::Command;
use std::time::Duration;

use crate::support::{Scratch, Shape, Suite, on_each_shape, require};

const OPERATIONS: &str = "100000";

/// Every operation that fsx knows. Smaller pieces than by default, to have more of them in time.
pub const CONFIGURATION: &str = "
flen = 131072
[opsize]
max = 16384
[weights]
close_open = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
invalidate = 1
truncate = 5
fsync = 0.1
fdatasync = 0.1
posix_fallocate = 2
punch_hole = 2
sendfile = 2
posix_fadvise = 1
copy_file_range = 2
";

on_each_shape!(alone: consistent_is_exact, cached_is_exact, delegated_is_exact);

fn consistent_is_exact(shape: Shape) {
    finds_no_fault(shape, "consistent");
}

fn cached_is_exact(shape: Shape) {
    finds_no_fault(shape, "cached");
}

fn delegated_is_exact(shape: Shape) {
    finds_no_fault(shape, "delegated");
}

fn finds_no_fault(shape: Shape, consistency: &str) {
    let fsx = require!("fsx");
    let share = shape.share().consistency(consistency).patience(Duration::from_secs(600)).start();
    let scratch = Scratch::new();
    let configuration = scratch.path().join("fsx.toml");
    std::fs::write(&configuration, CONFIGURATION).expect("a configuration");
    let mut command = Command::new(fsx);
    // The seed is fixed: a fault found is a fault that can be looked at.
    command.args(["-N", OPERATIONS, "-S", "20", "-f"]).arg(configuration);
    command.arg("-P").arg(scratch.path()).arg(share.mount().join("file"));
    Suite::run("fsx", Duration::from_secs(400), &mut command).succeeds();
    let on_mount = std::fs::read(share.mount().join("file")).expect("the file");
    let on_host = std::fs::read(share.host().join("file")).expect("the file");
    assert!(on_mount == on_host, "the host has other content");
}
