//! Mounting the shares, as any agent does.

use super::Failure;
use crate::client::Client;
use crate::live::{Mount, MountOptions};
use crate::wire::{self, ConnectError};
use protocol::Address;
use protocol::guest::GuestMount;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tracing::warn;

/// How long the server may take to listen, once the monitor was there.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(10);

/// Mounts all of them, in order. If one fails, none stays.
pub(super) fn mount(server: &Address, wanted: &[GuestMount<'_>]) -> Result<Vec<Mount>, Failure> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let client = Client::new();
    let begun = Instant::now();
    loop {
        match wire::connect(server, client.clone()) {
            Ok(()) => break,
            Err(ConnectError::Io { .. }) if begun.elapsed() < PATIENCE => thread::sleep(RETRY),
            Err(error) => return Err(Failure::new("finding the shares", &error)),
        }
    }
    let mut mounts = Vec::new();
    for GuestMount { export, point, read_only } in wanted {
        let export = String::from_utf8_lossy(export.as_bytes());
        let point = Path::new(OsStr::from_bytes(point.as_bytes()));
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("mounting \"{export}\" on {}", point.display()), error)
        };
        std::fs::create_dir_all(point).map_err(|error| failed(&error))?;
        let options =
            MountOptions { allow_other: true, read_only: *read_only, ..Default::default() };
        let mount = Mount::start(client.clone(), &export, point, options);
        mounts.push(mount.map_err(|error| failed(&error))?);
    }
    Ok(mounts)
}

/// Writes everything back and unmounts, the last one first: it may lie in another.
pub(super) fn unmount(mounts: &[Mount]) {
    for mount in mounts.iter().rev() {
        if let Err(error) = mount.unmount() {
            warn!(%error, "left mounted");
        }
    }
}
