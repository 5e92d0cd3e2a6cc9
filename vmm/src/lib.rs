//! The embedded VM monitor. So far it holds the configuration of a VM only, as people write it and
//! as the monitor will take it; nothing here runs one.
#![forbid(unsafe_code)]

pub mod config;

pub use config::{ConfigError, Console, Disk, DiskFormat, MemorySize, Net, Share, VmConfig};
