//! vfkit's `--device`, where it means the same here:
//!
//! | device | means |
//! | --- | --- |
//! | `virtio-blk,path=FILE` | a disk; raw, as vfkit knows nothing else |
//! | `virtio-fs,sharedDir=DIR,mountTag=TAG` | a share, which our agent mounts at once: at TAG if that is a path, else at `/mnt/TAG` |
//! | `virtio-net,unixSocketPath=PATH[,mac=…]` | a network (gvproxy, vmnet-helper) |
//! | `virtio-vsock,port=N,socketURL=PATH[,listen\|connect]` | a socket for one port: the host listens, or connects |
//! | `virtio-serial,stdio` or `pty` or `logFilePath=FILE` | the console |
//! | `virtio-rng`, `virtio-balloon` | there anyway |
//!
//! Anything else is an error.

use super::foreign::{error, option};
use super::{ConfigError, Console, Disk, DiskFormat, Net, Share};
use std::path::PathBuf;

const TOOL: &str = "--device";
/// Most ports with a socket.
const MAX_PORTS: usize = 64;

/// A socket for one port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VsockPort {
    /// The port.
    pub port: u32,
    /// The unix socket.
    pub socket: PathBuf,
    /// Whether programs of the host connect, rather than listen.
    pub to_guest: bool,
}

/// All devices together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Devices {
    /// Disks.
    pub disks: Vec<Disk>,
    /// Shared folders.
    pub shares: Vec<Share>,
    /// The network.
    pub net: Option<Net>,
    /// The address of its card, if it was chosen.
    pub mac: Option<[u8; 6]>,
    /// Sockets for ports.
    pub ports: Vec<VsockPort>,
    /// The console.
    pub console: Option<Console>,
}

impl Devices {
    /// Reads the values of all `--device`.
    ///
    /// # Errors
    /// The first that means nothing here.
    pub fn parse<'a>(all: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let mut devices = Self::default();
        all.into_iter().try_for_each(|text| devices.add(text))?;
        Ok(devices)
    }

    fn add(&mut self, text: &str) -> Result<(), ConfigError> {
        let bad = |cause: &str| error(TOOL, text, cause);
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let options: Vec<_> = parts.filter(|part| !part.is_empty()).map(option).collect();
        match kind {
            "virtio-rng" | "virtio-balloon" if options.is_empty() => {}
            "virtio-blk" => self.disks.push(disk(text, &options)?),
            "virtio-fs" => self.shares.push(share(text, &options)?),
            "virtio-net" if self.net.is_some() => {
                return Err(bad("a second network card; leave one out"));
            }
            "virtio-net" => self.net(text, &options)?,
            "virtio-vsock" => {
                let port = vsock(text, &options)?;
                if self.ports.iter().any(|other| other.port == port.port) {
                    return Err(bad("that port has a socket already; leave one out"));
                }
                if self.ports.len() >= MAX_PORTS {
                    return Err(bad("more than 64 ports; have fewer of them"));
                }
                self.ports.push(port);
            }
            "virtio-serial" if self.console.is_some() => {
                return Err(bad("a second console; leave one out"));
            }
            "virtio-serial" => {
                self.console = Some(match options[..] {
                    [("stdio", None)] => Console::Stdio,
                    [("pty", None)] => Console::Pty,
                    [("logFilePath", Some(file))] if !file.is_empty() => Console::File(file.into()),
                    _ => return Err(bad("write stdio, pty or logFilePath=FILE behind it")),
                });
            }
            "virtio-rng" | "virtio-balloon" => {
                return Err(bad("it has no options here; leave them out"));
            }
            "nvme" | "usb-mass-storage" | "nbd" => {
                return Err(bad("no such disk here; write virtio-blk,path=FILE"));
            }
            _ => return Err(bad("no device that is known here; leave it out")),
        }
        Ok(())
    }

    fn net(&mut self, text: &str, options: &[Pair<'_>]) -> Result<(), ConfigError> {
        let bad = |cause: &str| error(TOOL, text, cause);
        for option in options {
            match *option {
                ("unixSocketPath", Some(path)) if !path.is_empty() => {
                    self.net = Some(Net { socket: path.into() });
                }
                ("mac", Some(text)) => {
                    let mac = mac(text);
                    self.mac = Some(mac.ok_or_else(|| {
                        bad("that is no address of a card; write six bytes such as 52:54:00:12:34:56")
                    })?);
                }
                _ => {
                    return Err(bad(
                        "a network is joined by its socket; write unixSocketPath=PATH",
                    ));
                }
            }
        }
        match self.net {
            Some(_) => Ok(()),
            None => Err(bad("a network is joined by its socket; write unixSocketPath=PATH")),
        }
    }
}

type Pair<'a> = (&'a str, Option<&'a str>);

fn disk(text: &str, options: &[Pair<'_>]) -> Result<Disk, ConfigError> {
    match options {
        [("path", Some(path))] | [("path", Some(path)), ("deviceId", Some(_))]
            if !path.is_empty() =>
        {
            Ok(Disk { file: path.into(), format: DiskFormat::Raw, read_only: false })
        }
        _ => Err(error(TOOL, text, "write virtio-blk,path=FILE, or --disk for more")),
    }
}

fn share(text: &str, options: &[Pair<'_>]) -> Result<Share, ConfigError> {
    let bad = |cause: &str| error(TOOL, text, cause);
    let (mut host, mut tag) = (None, None);
    for option in options {
        match *option {
            ("sharedDir", Some(dir)) if !dir.is_empty() => host = Some(dir),
            ("mountTag", Some(name)) if !name.is_empty() => tag = Some(name),
            _ => return Err(bad("write virtio-fs,sharedDir=DIR,mountTag=TAG")),
        }
    }
    let (Some(host), Some(tag)) = (host, tag) else {
        return Err(bad("write virtio-fs,sharedDir=DIR,mountTag=TAG"));
    };
    let point = if tag.starts_with('/') { tag.to_owned() } else { format!("/mnt/{tag}") };
    // Its rules for the place are those of any share.
    let place: Share = format!("x:{point}")
        .parse()
        .map_err(|_| bad("the tag is no plain name or path; choose another"))?;
    if place.read_only {
        return Err(bad("the tag is no plain name or path; choose another"));
    }
    Ok(Share { host: host.into(), ..place })
}

fn vsock(text: &str, options: &[Pair<'_>]) -> Result<VsockPort, ConfigError> {
    let bad = |cause: &str| error(TOOL, text, cause);
    let (mut port, mut socket, mut to_guest) = (None, None, false);
    for option in options {
        match *option {
            ("port", Some(number)) => port = number.parse().ok().filter(|port| *port < u32::MAX),
            ("socketURL", Some(path)) if !path.is_empty() => {
                socket = Some(path.strip_prefix("unix://").unwrap_or(path));
            }
            ("listen", None) => to_guest = false,
            ("connect", None) => to_guest = true,
            _ => {
                return Err(bad("write virtio-vsock,port=N,socketURL=PATH, and listen or connect"));
            }
        }
    }
    match (port, socket) {
        (Some(port), Some(socket)) => Ok(VsockPort { port, socket: socket.into(), to_guest }),
        _ => Err(bad("write virtio-vsock,port=N,socketURL=PATH, and listen or connect")),
    }
}

/// `52:54:00:12:34:56`, not of a group.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| matches!(part.len(), 1 | 2))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    (parts.next().is_none() && bytes[0] & 1 == 0).then_some(bytes)
}
