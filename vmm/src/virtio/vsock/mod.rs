//! A vsock device (virtio 1.2, 5.10): sockets between guest and host, without a network.
//!
//! ```text
//! guest ── queues ── packet ── engine ──┬── host      unix sockets, in the ways that people know
//!                                │      └── stream    programs of this process
//!                             muxer ── connection     who may send what, and when
//! ```
//!
//! `muxer` and `connection` decide, and never see a byte of payload: they say how much may go where.
//! `engine` moves the bytes, on one thread; whoever owns the queues drives it: [`device`] for our own
//! monitor, `hypervisor::vhost_user` for others.

mod budget;
pub mod connection;
mod credit;
pub mod device;
pub mod engine;
mod fifo;
pub mod handshake;
pub(crate) mod host;
pub mod muxer;
pub mod packet;
mod socket;
mod stream;

pub use device::Vsock;
pub use host::{Direction, Host, HostError, HostSide, Hyperkit, PortListener, PortSocket};
pub use stream::Stream;

/// A machine's number in vsock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid(pub u64);

impl Cid {
    /// The host's (`VMADDR_CID_HOST`).
    pub const HOST: Self = Self(2);
}

/// A port of vsock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(pub u32);
