//! Telling a service manager that the mounts are there (`sd_notify(3)`), so that what it has ordered
//! behind the agent begins with them. Without a manager that asks for it nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use tracing::warn;

/// The variable in which a manager says where it listens.
const SOCKET: &str = "NOTIFY_SOCKET";
const READY: &[u8] = b"READY=1";

/// Says that everything is mounted.
pub(crate) fn ready() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    if let Err(error) = send(&socket, READY) {
        warn!(socket = %socket.display(), %error, "the service manager is not told that all is mounted");
    }
}

/// A name that begins with `@` is no path but one of the abstract ones.
fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket").into_os_string();
        let name = format!("@osxfs-notify-{}", std::process::id());
        let of_name = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let managers = [
            (path.clone(), UnixDatagram::bind(&path).unwrap()),
            (name.into(), UnixDatagram::bind_addr(&of_name).unwrap()),
        ];
        for (socket, manager) in managers {
            send(&socket, READY).unwrap();
            let mut heard = [0; 64];
            let len = manager.recv(&mut heard).unwrap();
            assert_eq!(&heard[..len], READY, "{}", socket.display());
        }
    }
}
