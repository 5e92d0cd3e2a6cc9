//! Mounting as an ordinary user, through the set-user-id helper of libfuse.
//!
//! ```text
//! fusermount3 -o OPTIONS -- MOUNTPOINT      with a socket as the descriptor _FUSE_COMMFD
//!   → opens /dev/fuse, mounts it, sends the descriptor over the socket, ends
//! ```

use super::Plan;
use crate::error::Error;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, Stdio};

const HELPER: &str = "fusermount3";

/// Mounts and returns the device.
///
/// # Errors
/// [`Error::NoFusermount`], or [`Error::Fusermount`] with the helper's words.
pub(super) fn mount(plan: &Plan, point: &Path) -> Result<OwnedFd, Error> {
    let failed = |message: String| Error::Fusermount { path: point.to_owned(), message };
    let io = |error: rustix::io::Errno| failed(error.to_string());
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(io)?;
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(io)?;
    let options = format!(
        "{}{}nosuid,nodev,subtype=osxfs,fsname={}",
        super::common_options(plan),
        if plan.read_only { "ro," } else { "" },
        escape(&plan.source),
    );
    let child = Command::new(HELPER)
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoFusermount,
            _ => failed(error.to_string()),
        })?;
    // So that the socket ends when the helper does.
    drop(theirs);
    let received = receive(&ours);
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    match received {
        Ok(Some(fd)) if output.status.success() => Ok(fd),
        Err(error) => Err(failed(error.to_string())),
        Ok(_) => {
            let words = String::from_utf8_lossy(&output.stderr);
            let words = words.trim().trim_start_matches("fusermount3: ");
            Err(failed(if words.is_empty() { output.status.to_string() } else { words.into() }))
        }
    }
}

fn receive(socket: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(socket.as_fd(), &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok(fds.flatten().next())
}

/// In an option list commas and backslashes are preceded by a backslash.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

/// Unmounts, lazily.
///
/// # Errors
/// The helper's words.
pub(super) fn unmount(point: &Path) -> io::Result<()> {
    let output = Command::new(HELPER)
        .args(["-u", "-z", "-q", "--"])
        .arg(point)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(words.trim().to_owned()))
}
