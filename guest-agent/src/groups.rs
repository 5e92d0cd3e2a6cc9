//! Supplementary groups of a caller, which the FUSE header does not carry.

use protocol::limits::MAX_GROUPS;
use std::cell::RefCell;
use std::fs;
use std::time::{Duration, Instant};

/// How long groups of one thread are believed.
const BELIEVED: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Last {
    pid: u32,
    uid: u32,
    gid: u32,
    read: Option<Instant>,
    groups: Vec<u8>,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

/// Calls `f` with the encoded groups of thread `pid`; with none if it is gone, is in a process id
/// namespace that cannot be seen from here, or has more than [`MAX_GROUPS`].
pub fn with_groups<T>(pid: u32, uid: u32, gid: u32, f: impl FnOnce(&[u8]) -> T) -> T {
    LAST.with_borrow_mut(|last| {
        let same = (last.pid, last.uid, last.gid) == (pid, uid, gid);
        let fresh = last.read.is_some_and(|read| read.elapsed() < BELIEVED);
        if !same || !fresh {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            (last.pid, last.uid, last.gid) = (pid, uid, gid);
            last.read = Some(Instant::now());
            parse(&status, &mut last.groups);
        }
        f(&last.groups)
    })
}

fn parse(status: &str, groups: &mut Vec<u8>) {
    groups.clear();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    let numbers = line.split_ascii_whitespace().filter_map(|number| number.parse::<u32>().ok());
    groups.extend(numbers.flat_map(u32::to_le_bytes));
    if groups.len() > MAX_GROUPS * 4 {
        groups.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_the_status_file() {
        let mut groups = Vec::new();
        parse("Name:\tx\nGroups:\t4 24 1000 \nVmPeak: 1\n", &mut groups);
        assert_eq!(groups, [4u32, 24, 1000].map(u32::to_le_bytes).concat());
        parse("", &mut groups);
        assert!(groups.is_empty());
    }

    #[test]
    fn too_many_groups_are_none() {
        let many: Vec<_> = (0..=MAX_GROUPS).map(|n| n.to_string()).collect();
        let mut groups = vec![1];
        parse(&format!("Groups:\t{}", many.join(" ")), &mut groups);
        assert!(groups.is_empty());
    }
}
