//! A network card for the guest (virtio 1.2, 5.1), joined to a user-mode network of the host by its
//! socket ([`link`]).
//!
//! ```text
//! queue 0 (receive)   header 12 │ frame        over one or more buffers (`MRG_RXBUF`)
//! queue 1 (transmit)  header 12 │ frame
//! ```
//!
//! Nothing is offloaded: frames are complete, checksums right. What the guest sends waits in its queue
//! when the network is slow; what the network sends waits in the socket when the guest is. A network
//! that goes away takes the link down.

pub mod frames;
pub mod link;
#[cfg(test)]
mod tests;

pub use link::{Link, OpenError};

use super::chain::Chain;
use super::worker::{Desk, Task, Wake, Work};
use super::{Broken, Context, Device, read_config};
use crate::config::Net as Config;
use frames::MAX_FRAME;
use mio::Interest;
use rustix::fd::{AsFd, BorrowedFd};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};

const QUEUE_SIZES: [u16; 2] = [256, 256];
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// `struct virtio_net_hdr_v1`, of which only the number of buffers, its last field, is used.
const HEADER: usize = 12;
/// The least that Ethernet calls a frame: two addresses and a type.
const MIN_FRAME: usize = 14;
/// The most buffers that a frame is spread over.
const MAX_BUFFERS: usize = 64;

/// The address of a card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// One that nobody else is likely to have: of those that are given locally, not to a group.
    pub fn random() -> Self {
        let [first, second, third, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        let [fourth, fifth, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
        Self([0x52, 0x54, first ^ fifth, second, third, fourth])
    }
}

/// The device.
pub struct Net {
    mac: Mac,
    up: Arc<AtomicBool>,
    task: Task<Card>,
}

impl Net {
    /// Joins a network.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: &Config, mac: Mac) -> Result<Self, OpenError> {
        Ok(Self::new(Link::connect(&config.socket)?, mac))
    }

    /// Over a link that is there.
    pub fn new(link: Link, mac: Mac) -> Self {
        let up = Arc::new(AtomicBool::new(true));
        Self { mac, up: up.clone(), task: Task::Idle(Card::new(link, up)) }
    }
}

impl Device for Net {
    fn id(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS | 1 << VIRTIO_NET_F_MRG_RXBUF
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let [m0, m1, m2, m3, m4, m5] = self.mac.0;
        let status = if self.up.load(Ordering::Relaxed) { VIRTIO_NET_S_LINK_UP } else { 0 };
        read_config(&[m0, m1, m2, m3, m4, m5, status as u8, 0], offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, context: Context) -> io::Result<()> {
        self.task.activate("virtio-net", context)
    }

    fn reset(&mut self) {
        self.task.reset();
    }
}

/// What the device does.
pub struct Card {
    link: Option<Link>,
    up: Arc<AtomicBool>,
    mergeable: bool,
    frame: Vec<u8>,
}

impl Card {
    /// A card on a link, which says there when that goes down.
    pub fn new(link: Link, up: Arc<AtomicBool>) -> Self {
        Self { link: Some(link), up, mergeable: false, frame: Vec::new() }
    }

    /// From the guest to the network, until one has nothing or the other takes nothing.
    fn transmit(&mut self, desk: &mut Desk) -> Result<(), Broken> {
        loop {
            if let Some(link) = &mut self.link {
                let pushed = link.push();
                self.check(pushed, desk);
            }
            if self.link.as_ref().is_some_and(Link::is_congested) {
                return Ok(());
            }
            let memory = desk.memory.clone();
            let Some(mut chain) = desk.ring(TRANSMIT)?.pop()? else { return Ok(()) };
            let header: Option<[u8; HEADER]> = chain.readable.read_array(&memory)?;
            let len = chain.readable.len();
            if header.is_none() || !(MIN_FRAME..=MAX_FRAME).contains(&len) {
                return Err(Broken::Request("what should be sent is no frame"));
            }
            self.frame.resize(len, 0);
            chain.readable.read(&memory, &mut self.frame)?;
            if let Some(link) = &mut self.link {
                let sent = link.send(&self.frame);
                self.check(sent, desk);
            }
            desk.ring(TRANSMIT)?.complete(chain.head, 0)?;
        }
    }

    /// From the network to the guest, likewise.
    fn receive(&mut self, desk: &mut Desk) -> Result<(), Broken> {
        while let Some(link) = &mut self.link {
            match link.frame() {
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => match deliver(frame, self.mergeable, desk)? {
                    Delivery::Done => link.consume(),
                    Delivery::NoBuffers => return Ok(()),
                },
                Err(error) => self.check(Err(error), desk),
            }
        }
        Ok(())
    }

    /// Without a network there is no link.
    fn check(&mut self, result: io::Result<()>, desk: &Desk) {
        if let Err(error) = result {
            tracing::warn!(%error, "the network has gone; the guest's link is down");
            self.link = None;
            self.up.store(false, Ordering::Relaxed);
            desk.signal.config_changed();
        }
    }
}

enum Delivery {
    /// It is with the guest, or lost because it fits no buffers.
    Done,
    /// It waits until the guest has buffers.
    NoBuffers,
}

/// Puts a frame into the guest's buffers.
fn deliver(frame: &[u8], mergeable: bool, desk: &mut Desk) -> Result<Delivery, Broken> {
    let memory = desk.memory.clone();
    let ring = desk.ring(RECEIVE)?;
    let needed = HEADER + frame.len();
    let mut chains: Vec<Chain> = Vec::new();
    let mut room = 0_usize;
    while room < needed {
        let Some(chain) = ring.pop()? else {
            chains.iter().for_each(|_| ring.unpop());
            return Ok(Delivery::NoBuffers);
        };
        if chain.writable.len() < HEADER {
            return Err(Broken::Request("a buffer for frames without room for their header"));
        }
        room = room.saturating_add(chain.writable.len());
        chains.push(chain);
        if room < needed && (!mergeable || chains.len() == MAX_BUFFERS) {
            tracing::debug!(len = frame.len(), "a frame too long for the guest's buffers is lost");
            chains.iter().for_each(|_| ring.unpop());
            return Ok(Delivery::Done);
        }
    }
    let [low, high] = u16::try_from(chains.len()).unwrap_or(u16::MAX).to_le_bytes();
    let data: [u8; HEADER] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, low, high];
    let mut rest = frame;
    let mut done = Vec::with_capacity(chains.len());
    for (n, mut chain) in chains.into_iter().enumerate() {
        let header = if n == 0 { chain.writable.write(&memory, &data)? } else { 0 };
        let written = chain.writable.write(&memory, rest)?;
        rest = rest.get(written..).unwrap_or_default();
        done.push((chain.head, header + written));
    }
    // A driver that finds the first buffer expects the others to be there.
    ring.complete_together(&done)?;
    Ok(Delivery::Done)
}

impl Work for Card {
    fn sources(&self) -> Vec<(BorrowedFd<'_>, Interest)> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.link.iter().map(|link| (link.as_fd(), both)).collect()
    }

    fn begin(&mut self, desk: &mut Desk) {
        self.mergeable = desk.features & (1 << VIRTIO_NET_F_MRG_RXBUF) != 0;
    }

    fn run(&mut self, wake: Wake, desk: &mut Desk) -> Result<(), Broken> {
        match wake {
            Wake::Queue(RECEIVE) => self.receive(desk),
            Wake::Queue(_) => self.transmit(desk),
            Wake::Source(_) => {
                self.transmit(desk)?;
                self.receive(desk)
            }
        }
    }
}
