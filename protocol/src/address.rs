//! Where a server listens: the words that `--listen` and `--connect` take.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;

/// The address of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A unix stream socket.
    Unix(PathBuf),
    /// A virtio socket: context id and port (linux/vm_sockets.h).
    Vsock {
        /// Context id: 2 is the host, `u32::MAX` any.
        cid: u32,
        /// Port.
        port: u32,
    },
}

/// Text that is no address.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "\"{0}\" is no address: write unix:PATH or vsock:CID:PORT (CID may be \"any\" or \"host\")"
)]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        match text.split_once(':').ok_or_else(bad)? {
            ("unix", path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            ("vsock", rest) => {
                let (cid, port) = rest.split_once(':').ok_or_else(bad)?;
                let cid = match cid {
                    "any" => u32::MAX,
                    "host" => 2,
                    number => number.parse().map_err(|_| bad())?,
                };
                Ok(Self::Vsock { cid, port: port.parse().map_err(|_| bad())? })
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid: u32::MAX, port } => write!(f, "vsock:any:{port}"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let vsock = |cid, port| Ok(Address::Vsock { cid, port });
        for (text, expected) in [
            ("unix:/run/x.sock", Ok(Address::Unix("/run/x.sock".into()))),
            ("unix:a:b", Ok(Address::Unix("a:b".into()))),
            ("vsock:3:1525", vsock(3, 1525)),
            ("vsock:any:1525", vsock(u32::MAX, 1525)),
            ("vsock:host:1", vsock(2, 1)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for text in ["", "unix:", "unix", "/run/x.sock", "vsock:3", "vsock:x:1", "vsock:3:-1"] {
            assert_eq!(text.parse::<Address>(), Err(BadAddress(text.into())));
        }
    }
}
