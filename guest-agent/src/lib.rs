//! The guest's half of osxfs: it mounts what a server offers, speaks to the kernel through our own
//! FUSE layer, and makes changes of the host visible to watchers.
//!
//! ```text
//! kernel → fuse::device → fuse::request → fuse::translate → client → Transport → server
//! kernel ← fuse::device ← fuse::reply   ← fuse::translate ← client ←           ←
//! ```
//!
//! * [`Client`] is one connection: tags, completions, cancellation, the return after a loss.
//! * [`Mount`] is one mounted export.
//! * [`wire`] connects a client to a server over a socket; an embedded server is another
//!   [`Transport`].
//! * [`run`] is the whole agent as a program.
//! * [`init`] is the agent as the first process of a VM.
//!
//! The crate builds on Linux only.

mod affinity;
mod ahead;
mod bell;
pub mod client;
pub mod clock;
mod coherence;
mod counters;
mod errands;
mod error;
mod fuse;
mod groups;
mod handles;
pub mod init;
mod inject;
mod live;
mod mount;
mod nodes;
mod notify;
mod os;
mod recover;
mod rest;
pub mod run;
mod watchers;
pub mod wire;

pub use client::{Client, Disconnected, Transport};
pub use coherence::Figures;
pub use coherence::tap as watch;
pub use counters::Snapshot;
pub use error::Error;
pub use live::{Mount, MountOptions};
pub use mount::prepare as prepare_mount_point;
