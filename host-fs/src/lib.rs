//! The host's side of osxfs: serves folders to agents, and tells them what changes.
//!
//! ```text
//!  wire (frames) or a direct call
//!        │ Session::handle(tag, caller, request, responder)
//!        ▼
//!    session ── node (who is what) ── handle, dirs (descriptors) ── locks
//!        │           export (root, owners, inode numbers) ── ownership
//!        ▼
//!       os (the only system calls)            observe ⇄ reconcile ⇄ watch (hints of the host)
//! ```
//!
//! What a guest may rely on, and what it cannot do:
//! - [`server`] is where to begin: [`Server`](server::Server), its
//!   [`ExportConfig`](server::ExportConfig)s and [`Session`]s.
//! - Everything a guest names is found by a confined walk from the root of its export and compared
//!   with what it was before: see `session/locate.rs`.
//! - Descriptors are bounded: a node costs none, see [`node`] and `handle`.
//! - Errors on the request path are Linux errnos ([`protocol::Errno`]), made where the system call
//!   is; [`Error`] is for starting up.

mod counters;
mod dirs;
mod error;
mod export;
mod handle;
mod host_locks;
pub mod locks;
pub mod mounts;
pub mod node;
pub mod observe;
pub mod os;
pub mod ownership;
pub mod reconcile;
mod scratch;
pub mod server;
pub mod session;
pub mod status;
#[cfg(test)]
pub(crate) mod test_utils;
pub mod watch;
pub mod wire;

pub use error::Error;
pub use session::Session;
