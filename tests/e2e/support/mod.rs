//! What the tests stand on: a share that is mounted and taken down again, programs run under a
//! limit, tools that `cargo xtask setup` installs, and turns on a small machine.
//!
//! Set `OSXFS_BIN` to run the suites against another program with osxfs's command line;
//! `support/bind-oracle.sh` is one that bind-mounts. A test that fails there demands something
//! that Linux itself does not do.

pub mod bind;
pub mod daemon;
pub mod mirror;
pub mod scratch;
pub mod share;
pub mod suite;
pub mod tmpfs;
pub mod tools;
pub mod tree;
pub mod turns;
pub mod watcher;

pub use bind::Bind;
pub use daemon::Daemon;
pub use mirror::Mirror;
pub use scratch::Scratch;
pub use share::{Options, Shape, Share};
pub use suite::Suite;
pub use tmpfs::Tmpfs;
pub use watcher::Watcher;

use std::time::{Duration, Instant};

/// How long anything may take that should be immediate: generous, as the machine may be busy.
pub const PROMPT: Duration = Duration::from_secs(20);

/// Waits until `condition` holds, and fails with `what` if it does not within `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(holds_within(limit, condition), "not within {limit:?}: {what}");
}

/// Whether `condition` becomes true within `limit`.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Declares for each function `fn(Shape)` a test for every shape of a share. `alone` tests have
/// the machine for themselves, `together` tests run beside each other.
macro_rules! on_each_shape {
    ($turn:ident: $($check:ident),+ $(,)?) => { $(
        mod $check {
            use $crate::support::{Shape, turns};

            #[test]
            fn embedded() {
                let _turn = turns::$turn();
                super::$check(Shape::Embedded);
            }

            #[test]
            fn unix_socket() {
                let _turn = turns::$turn();
                super::$check(Shape::UnixSocket);
            }
        }
    )+ };
}

/// The path of a tool; without it the test ends here as skipped, or fails after a setup.
macro_rules! require {
    ($tool:literal) => {
        match $crate::support::tools::find($tool) {
            Some(path) => path,
            None => return,
        }
    };
}

/// Ends the test here as skipped unless it runs as root.
macro_rules! require_root {
    () => {
        if !$crate::support::tools::is_root() {
            return;
        }
    };
}

pub(crate) use {on_each_shape, require, require_root};
