//! The subcommands that need a Linux kernel, and what stands in for them elsewhere. The only place
//! of this package with `cfg(target_os)`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::{agent, mount};
#[cfg(target_os = "linux")]
pub use vmm::hypervisor::vhost_user::VhostUser;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::{VhostUser, agent, mount};
