//! Files through our vsock: many of them arrive whole, and programs that judge file systems find what
//! they find on the local disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::host::{LOADED, share_of, shell};
use crate::suites::{fsx, pjdfstest};
use crate::support::{Scratch, Suite, tools, tree};

/// How many files are copied. An emulated processor in an emulated processor makes some fifteen a second.
const FILES: usize = 20_000;
/// How much fsx does.
const OPERATIONS: usize = 500;
const SUM: &str = "find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum";

pub fn many_files_arrive_whole() {
    let scratch = Scratch::new();
    let shared = scratch.dir("shared");
    many(&shared, |script| shell(share_of(&shared, "/shared"), script));
}

/// A guest copies them within the folder that it has at `/shared`, and both sides find the same.
pub fn many(shared: &Path, in_guest: impl FnOnce(&str) -> String) {
    tree::make(&shared.join("from"), FILES, 100, 4_000);
    let script = format!("cd /shared; cp -r from to; cd to; {SUM}");
    let in_guest = in_guest(&script);
    for folder in ["from", "to"] {
        let mut sum = std::process::Command::new("sh");
        sum.args(["-euc", SUM]).current_dir(shared.join(folder));
        let here = Suite::run("sha256sum", Duration::from_secs(300), &mut sum).succeeds().log;
        assert_eq!(here, in_guest, "{folder}");
    }
}

pub fn judges_find_no_fault() {
    let scratch = Scratch::new();
    let shared = scratch.dir("shared");
    judges(&shared, OPERATIONS, |script| shell(share_of(&shared, "/shared"), script));
}

/// fsx and pjdfstest in a guest that has the folder at `/shared`.
pub fn judges(shared: &Path, operations: usize, in_guest: impl FnOnce(&str) -> String) {
    fs::write(shared.join("fsx.toml"), fsx::CONFIGURATION).expect("a configuration");
    fs::write(shared.join("pjdfstest.toml"), pjdfstest::CONFIGURATION).expect("a configuration");
    let script = format!(
        "echo daemon:x:1:1::/:/bin/false >> /etc/passwd; echo daemon:x:1: >> /etc/group
        mkdir /shared/on
        {LOADED}/fsx -N {operations} -S 20 -f /shared/fsx.toml -P /tmp /shared/file >&2
        {LOADED}/pjdfstest --configuration-file /shared/pjdfstest.toml --path /shared/on || true"
    );
    let log = in_guest(&script);
    let program = tools::find("pjdfstest").expect("packed");
    pjdfstest::judge(
        pjdfstest::HOST_DEVIATIONS,
        pjdfstest::passes_on_disk(&program),
        &pjdfstest::passed(log),
    );
}
