//! What is measured, and what is promised of it.

use super::contest::System;
use System::{Embedded, Local, PassthroughHp, Sshfs, UnixSocket, VirtioSock, VirtiofsdAuto};

/// What is promised of a file system of ours.
#[derive(Clone, Copy)]
pub struct Budget {
    pub of: System,
    pub limit: Limit,
}

/// What a figure may be at most.
#[derive(Clone, Copy)]
pub enum Limit {
    /// So many times that of another file system in the same run.
    Times(f64, System),
    /// So many requests on the wire.
    Requests(f64),
}

const fn at_most(of: System, ratio: f64, to: System) -> Budget {
    Budget { of, limit: Limit::Times(ratio, to) }
}

/// Names and attributes that are known.
const KNOWN: &[Budget] = &[
    at_most(Embedded, 1.1, Local),
    at_most(UnixSocket, 1.1, Local),
    at_most(VirtioSock, 0.5, VirtiofsdAuto),
    Budget { of: VirtioSock, limit: Limit::Requests(0.0) },
];
/// Small files whose content is known.
const KNOWN_CONTENT: &[Budget] = &[
    at_most(Embedded, 0.2, PassthroughHp),
    at_most(UnixSocket, 0.2, PassthroughHp),
    at_most(VirtioSock, 0.25, VirtiofsdAuto),
];
const UNKNOWN: &[Budget] = &[
    at_most(Embedded, 1.0, PassthroughHp),
    at_most(UnixSocket, 1.2, PassthroughHp),
    at_most(VirtioSock, 0.5, VirtiofsdAuto),
];
const UNKNOWN_STATUS: &[Budget] = &[
    at_most(Embedded, 1.0, PassthroughHp),
    at_most(UnixSocket, 1.2, PassthroughHp),
    at_most(UnixSocket, 0.2, Sshfs),
    at_most(VirtioSock, 0.5, VirtiofsdAuto),
];
const UNKNOWN_CONTENT: &[Budget] = &[
    at_most(Embedded, 1.0, PassthroughHp),
    at_most(UnixSocket, 1.2, PassthroughHp),
    at_most(VirtioSock, 0.7, VirtiofsdAuto),
];
const CHANGING: &[Budget] = &[
    at_most(Embedded, 0.8, PassthroughHp),
    at_most(UnixSocket, 1.2, PassthroughHp),
    at_most(VirtioSock, 0.8, VirtiofsdAuto),
];
const DATA: &[Budget] = &[
    at_most(Embedded, 1.2, Local),
    at_most(UnixSocket, 1.2, PassthroughHp),
    at_most(VirtioSock, 1.0, VirtiofsdAuto),
];
const KNOWN_DATA: &[Budget] = &[
    at_most(Embedded, 1.2, Local),
    at_most(UnixSocket, 1.2, Local),
    at_most(VirtioSock, 1.0, VirtiofsdAuto),
];
/// Told, not promised.
const NONE: &[Budget] = &[];

macro_rules! rows {
    ($($row:ident: $name:literal, $budgets:ident;)*) => {
        /// One figure: seconds, of each file system.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Row { $($row,)* }

        impl Row {
            pub const ALL: &'static [Self] = &[$(Self::$row,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$row => $name,)* }
            }

            pub fn budgets(self) -> impl Iterator<Item = Budget> {
                match self { $(Self::$row => $budgets,)* }.iter().copied()
            }

            /// The row whose identifier this is.
            pub fn called(identifier: &str) -> Option<Self> {
                match identifier { $(stringify!($row) => Some(Self::$row),)* _ => None }
            }
        }
    };
}

rows! {
    Create: "create the tree", CHANGING;
    FindCold: "`find -ls`, cold", UNKNOWN;
    FindWarm: "`find -ls`, warm", KNOWN;
    GrepCold: "`grep -r`, cold", UNKNOWN_CONTENT;
    GrepWarm: "`grep -r`, warm", KNOWN_CONTENT;
    ReadersTree: "8 readers of the tree, cold", NONE;
    StatusCold: "`git status`, cold", UNKNOWN_STATUS;
    StatusWarm: "`git status`, warm", KNOWN;
    Write: "write and fsync", DATA;
    ReadCold: "read, cold", DATA;
    ReadWarm: "read, warm", KNOWN_DATA;
    Random: "random 4 KiB reads, cold", DATA;
    ReadersData: "8 readers of one file, cold", DATA;
    StatCold: "one `stat`, cold, p50", NONE;
    StatWarm: "one `stat`, warm, p50", NONE;
    StatWarmP99: "one `stat`, warm, p99", NONE;
    OpenCold: "open, read 4 KiB, close, cold, p50", NONE;
    OpenWarm: "open, read 4 KiB, close, warm, p50", KNOWN_CONTENT;
    OpenWarmP99: "open, read 4 KiB, close, warm, p99", NONE;
    Make: "create, write 4 KiB, close, p50", CHANGING;
    MakeP99: "create, write 4 KiB, close, p99", NONE;
    Remove: "remove the tree", CHANGING;
    Checkout: "`git checkout`", CHANGING;
    Npm: "`npm install`", CHANGING;
    Cargo: "`cargo build`", NONE;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_have_one_name() {
        let names: std::collections::HashSet<_> = Row::ALL.iter().map(|row| row.name()).collect();
        assert_eq!(names.len(), Row::ALL.len());
    }
}
