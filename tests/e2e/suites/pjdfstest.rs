//! pjdfstest: every case that passes on the local disk passes on the mount.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::{Options, Scratch, Shape, Suite, on_each_shape, require, require_root};

/// Cases that pass on the local disk and not on a mount, with the reason of each.
pub const HOST_DEVIATIONS: &[(&str, &str)] = &[("link::link_count_max", NO_LINK_MAX)];

/// The same with `--ownership map`. A file that nobody has recorded an owner for belongs to the
/// mount's user and is open to all users of the guest: what checks that a new file belongs to the
/// one who made it, or that somebody else is refused, finds that it does not and is not.
const MAP_DEVIATIONS: &[(&str, &str)] = &[
    ("chmod::failed_chmod_unchanged_ctime::dir", OPEN_TO_ALL),
    ("chmod::failed_chmod_unchanged_ctime::regular", OPEN_TO_ALL),
    ("link::link_count_max", NO_LINK_MAX),
    ("link::unchanged_ctime_fails::regular", OPEN_TO_ALL),
    ("mkdir::uid_gid_eq_euid_egid", OWNED_BY_THE_MOUNT),
    ("mkfifo::uid_gid_eq_euid_egid", OWNED_BY_THE_MOUNT),
    ("mknod::uid_gid_eq_euid_egid", OWNED_BY_THE_MOUNT),
    ("open::uid_gid_eq_euid_egid", OWNED_BY_THE_MOUNT),
    ("rename::unchanged_ctime_failed::block", OPEN_TO_ALL),
    ("rename::unchanged_ctime_failed::char", OPEN_TO_ALL),
    ("rename::unchanged_ctime_failed::dir", OPEN_TO_ALL),
    ("rename::unchanged_ctime_failed::fifo", OPEN_TO_ALL),
    ("rename::unchanged_ctime_failed::regular", OPEN_TO_ALL),
    ("rename::unchanged_ctime_failed::socket", OPEN_TO_ALL),
    ("rename::unchanged_ctime_failed::symlink", OPEN_TO_ALL),
    ("truncate::unchanged_ctime_failed", OPEN_TO_ALL),
    ("unlink::unchanged_ctime_failed::block", OPEN_TO_ALL),
    ("unlink::unchanged_ctime_failed::char", OPEN_TO_ALL),
    ("unlink::unchanged_ctime_failed::fifo", OPEN_TO_ALL),
    ("unlink::unchanged_ctime_failed::regular", OPEN_TO_ALL),
    ("unlink::unchanged_ctime_failed::socket", OPEN_TO_ALL),
    ("utimensat::nobody", OPEN_TO_ALL),
    ("utimensat::utime_now_nobody", OPEN_TO_ALL),
    ("utimensat::write_perm", OPEN_TO_ALL),
];

const NO_LINK_MAX: &str =
    "skipped: glibc answers pathconf(_PC_LINK_MAX) from a table of file systems without FUSE";
const OWNED_BY_THE_MOUNT: &str = "without a record, the mount's user owns it";
const OPEN_TO_ALL: &str = "without a record, no user of the guest is refused";

/// Every feature of the suite that Linux has, and two users that every Linux has; the file's own
/// defaults do not exist on Debian.
pub const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}
stat_st_birthtime = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

on_each_shape!(alone: host_ownership_deviates_nowhere, map_ownership_deviates_as_documented);

fn host_ownership_deviates_nowhere(shape: Shape) {
    deviations_are(HOST_DEVIATIONS, shape.share());
}

fn map_ownership_deviates_as_documented(shape: Shape) {
    deviations_are(MAP_DEVIATIONS, shape.mapped_share());
}

fn deviations_are(documented: &[(&str, &str)], options: Options) {
    require_root!();
    let pjdfstest = require!("pjdfstest");
    let share = options.start();
    judge(documented, passes_on_disk(&pjdfstest), &passes(&pjdfstest, share.mount()));
}

/// Expects that what passed on the disk passed on a mount, but for what is documented.
#[track_caller]
pub fn judge(
    documented: &[(&str, &str)],
    on_disk: &BTreeSet<String>,
    (passed, log): &(BTreeSet<String>, String),
) {
    let found: BTreeSet<&str> = on_disk.difference(passed).map(String::as_str).collect();
    let documented: BTreeSet<&str> = documented.iter().map(|(case, _)| *case).collect();
    let new: Vec<_> = found.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&found).collect();
    let reports: Vec<_> = new.iter().map(|case| report_of(case, log)).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "fail only on the mount: {new:#?}\ndocumented, yet pass: {gone:?}\n{}",
        reports.join("\n")
    );
}

/// What passes on the disk itself, found once.
pub fn passes_on_disk(pjdfstest: &Path) -> &'static BTreeSet<String> {
    static PASSED: OnceLock<BTreeSet<String>> = OnceLock::new();
    PASSED.get_or_init(|| {
        let disk = Scratch::new();
        let (passed, log) = passes(pjdfstest, disk.path());
        assert!(passed.len() > 350, "few cases pass on the disk:\n{log}");
        passed
    })
}

/// The cases that pass there, and all that was printed.
fn passes(pjdfstest: &Path, on: &Path) -> (BTreeSet<String>, String) {
    let scratch = Scratch::new();
    let configuration = scratch.path().join("pjdfstest.toml");
    std::fs::write(&configuration, CONFIGURATION).expect("a configuration");
    let mut command = Command::new(pjdfstest);
    command.arg("--configuration-file").arg(configuration).arg("--path").arg(on);
    passed(Suite::run("pjdfstest", Duration::from_secs(180), &mut command).log)
}

/// The cases that passed by what it printed, and that.
#[track_caller]
pub fn passed(log: String) -> (BTreeSet<String>, String) {
    assert!(log.contains("Summary"), "pjdfstest did not finish:\n{log}");
    let passed = log.lines().filter_map(|line| {
        let (case, verdict) = line.split_once(' ')?;
        (verdict.trim() == "ok").then(|| case.to_owned())
    });
    (passed.collect(), log)
}

/// The lines about one case: its verdict and, indented, its reason.
fn report_of(case: &str, log: &str) -> String {
    let mut lines = log.lines().skip_while(|line| line.split(' ').next() != Some(case));
    let verdict = lines.next().unwrap_or_default();
    let reason = lines.take_while(|line| line.trim().is_empty() || line.starts_with([' ', '\t']));
    std::iter::once(verdict).chain(reason.take(8)).collect::<Vec<_>>().join("\n")
}
