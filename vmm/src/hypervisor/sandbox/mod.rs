//! What the threads that face the guest may still ask of the host's kernel.
//!
//! Everything is opened before the guest runs. From then on the threads of processors, and those of
//! devices, which processors start, only work with what is open: no file is opened, no program
//! started, no connection made but to sockets of this host. Should a guest take over one of them, it
//! finds a process that can do little. Whoever serves the guest from outside, such as the file server
//! at a vsock port, must therefore not start its threads on one of these.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
pub use linux::confine;

/// Nothing of that kind is known here.
#[cfg(not(target_os = "linux"))]
pub fn confine() {}
