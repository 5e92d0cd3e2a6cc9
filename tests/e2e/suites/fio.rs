//! fio: what was written is what is read, by checksum, through each way of doing I/O.

use std::process::Command;
use std::time::Duration;

use crate::support::{Shape, Suite, on_each_shape, require};

/// A name and the arguments that differ.
const JOBS: &[(&str, &[&str])] = &[
    ("buffered", &["--ioengine=psync", "--rw=randrw", "--bsrange=512-64k"]),
    ("direct", &["--ioengine=psync", "--direct=1", "--rw=randrw", "--bsrange=4k-128k"]),
    ("asynchronous", &["--ioengine=libaio", "--direct=1", "--iodepth=16", "--rw=randwrite"]),
    ("mapped", &["--ioengine=mmap", "--rw=randwrite"]),
    ("vectored", &["--ioengine=pvsync2", "--rw=write", "--bs=1m"]),
];

on_each_shape!(alone: written_data_verifies);

fn written_data_verifies(shape: Shape) {
    let fio = require!("fio");
    let share = shape.mounted();
    for (name, arguments) in JOBS {
        let mut command = Command::new(&fio);
        command
            .arg(format!("--name={name}"))
            .arg(format!("--directory={}", share.mount().display()))
            .args(["--size=24m", "--numjobs=2", "--verify=crc32c", "--verify_fatal=1"])
            .args(["--group_reporting", "--thread", "--randseed=7"])
            .args(*arguments)
            .current_dir(share.scratch().path());
        Suite::run(&format!("fio {name}"), Duration::from_secs(90), &mut command).succeeds();
    }
}
