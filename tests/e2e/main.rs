//! End to end, as users meet it: the `osxfs` program, real mounts, real programs on them.
//!
//! | module | shows |
//! | --- | --- |
//! | [`suites`] | programs and test suites that people trust find no fault with a mount |
//! | [`files`] | each promise about files, from the guest's side and the host's |
//! | [`ownership`] | what `--ownership map` records and what stays off the host |
//! | [`locks`] | POSIX, OFD and `flock` locks hold among processes and guests |
//! | [`events`] | a change on the host wakes the watchers on the mount |
//! | [`watchers`] | the tools that people leave running follow each change, and rest |
//! | [`askers`] | who asks alone is followed to its processor, and nobody is kept waiting by that |
//! | [`crashes`] | `kill -9` of any part: the mount answers, nothing synced is lost |
//! | [`limits`] | few descriptors, many files, little memory, a full disk |
//! | [`lifecycle`] | starting, ending, several guests, read-only shares |
//! | [`mistakes`] | bad input: one clear line, a failing exit code, nothing changed |
//! | [`model`] | random operations give what they give on a local folder |
//! | [`reconnect`] | a server that was away: watchers hear what happened meanwhile |
//! | [`idle`] | nothing happens: no thread wakes up |
//! | [`watch_command`] | `osxfs watch` prints changes as they are delivered |
//! | [`vm`] | a stock kernel in our own monitor, on an emulated host: commands, disks, files, events |
//! | [`status`] | `osxfs status` tells what runs |
//!
//! One test alone: `cargo test --release --test e2e NAME`, where NAME is any part of
//! `module::sentence::shape`. Most need root and Linux with FUSE.
#![cfg(target_os = "linux")]

mod askers;
mod crashes;
mod events;
mod files;
mod idle;
mod lifecycle;
mod limits;
mod locks;
mod mistakes;
mod model;
mod ownership;
mod reconnect;
mod status;
mod suites;
mod support;
#[cfg(target_arch = "x86_64")]
mod vm;
mod watch_command;
mod watchers;
