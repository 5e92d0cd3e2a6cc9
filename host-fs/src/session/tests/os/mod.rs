//! What takes a system call of one platform to bring about.

#[cfg(target_os = "linux")]
mod linux;
