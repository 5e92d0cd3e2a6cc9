//! A vsock packet: its header, and how both lie in a descriptor chain.
//!
//! The header is 44 bytes (virtio 1.2, 5.10.6), the payload follows at once. A driver may spread both
//! over any number of descriptors, cut at any byte: chains are read and written as streams of bytes,
//! and descriptors are never counted.

use super::{Cid, Port};
use crate::memory::Memory;
use crate::virtio::Broken;
use crate::virtio::chain::Buffer;
use bitflags::bitflags;

/// Size of a header in bytes.
pub const HEADER: usize = 44;
/// Longest payload of one packet. Linux sends no more (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`).
pub const MAX_PAYLOAD: u32 = 64 * 1024;
/// The type of stream sockets (`VIRTIO_VSOCK_TYPE_STREAM`), the only one that we have.
pub const STREAM: u16 = 1;

/// What a packet is for (`enum virtio_vsock_op` of `linux/virtio_vsock.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Op {
    /// Asks for a connection.
    Request = 1,
    /// Agrees to one.
    Response = 2,
    /// There is no such connection, or not any more.
    Reset = 3,
    /// The sender will not send, or not receive, any more; see [`Shutdown`].
    Shutdown = 4,
    /// Carries bytes of the stream.
    Data = 5,
    /// Only tells how much room the sender has, as every packet does.
    CreditUpdate = 6,
    /// Asks for a `CreditUpdate`.
    CreditRequest = 7,
}

impl Op {
    /// The operation of this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

bitflags! {
    /// What the sender of a `Shutdown` will not do any more (`enum virtio_vsock_shutdown`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Shutdown: u32 {
        /// It receives nothing more.
        const RECEIVE = 1;
        /// It sends nothing more.
        const SEND = 2;
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The machine.
    pub cid: Cid,
    /// The port on it.
    pub port: Port,
}

/// A header as it was sent: any number may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sends.
    pub src: Address,
    /// Who is meant.
    pub dst: Address,
    /// Bytes of payload.
    pub len: u32,
    /// The type of socket; [`STREAM`].
    pub kind: u16,
    /// The number of an [`Op`].
    pub op: u16,
    /// Flags of the operation.
    pub flags: u32,
    /// The size of the sender's receive buffer.
    pub buf_alloc: u32,
    /// How many bytes have left that buffer since the connection began, modulo 2³².
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads a header.
    pub fn decode(bytes: &[u8; HEADER]) -> Self {
        let mut fields = Fields(bytes);
        let (src, dst) = (Cid(fields.u64()), Cid(fields.u64()));
        Self {
            src: Address { cid: src, port: Port(fields.u32()) },
            dst: Address { cid: dst, port: Port(fields.u32()) },
            len: fields.u32(),
            kind: fields.u16(),
            op: fields.u16(),
            flags: fields.u32(),
            buf_alloc: fields.u32(),
            fwd_cnt: fields.u32(),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut rest = &mut bytes[..];
        for field in [
            &self.src.cid.0.to_le_bytes()[..],
            &self.dst.cid.0.to_le_bytes(),
            &self.src.port.0.to_le_bytes(),
            &self.dst.port.0.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ] {
            let (here, after) = rest.split_at_mut(field.len());
            here.copy_from_slice(field);
            rest = after;
        }
        bytes
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes; zeros behind the end.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((taken, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *taken
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
}

/// Takes a packet that the guest sends: its header, and where its payload lies.
///
/// # Errors
/// The chain is no packet.
pub fn read(memory: &Memory, mut chain: Buffer) -> Result<(Header, Buffer), Broken> {
    let header = chain.read_array(memory)?.ok_or(NO_HEADER)?;
    let header = Header::decode(&header);
    // What lies behind the payload is of no interest.
    let len = header.len as usize;
    if header.len > MAX_PAYLOAD || len > chain.len() {
        return Err(Broken::Request("a vsock packet announces more bytes than it has"));
    }
    Ok((header, chain.take(len)))
}

const NO_HEADER: Broken = Broken::Request("a chain has no room for the header of a vsock packet");

/// The place for a packet to the guest.
pub struct Slot {
    header: Buffer,
    payload: Buffer,
    written: u32,
}

impl Slot {
    /// The place that a chain makes.
    ///
    /// # Errors
    /// It is too small for a header.
    pub fn new(mut chain: Buffer) -> Result<Self, Broken> {
        if chain.len() < HEADER {
            return Err(NO_HEADER);
        }
        let header = chain.take(HEADER);
        Ok(Self { header, payload: chain.take(MAX_PAYLOAD as usize), written: 0 })
    }

    /// Bytes of payload that fit.
    pub fn room(&self) -> u32 {
        // At most MAX_PAYLOAD.
        self.payload.len() as u32
    }

    /// Fills in payload, as much as fits.
    ///
    /// # Errors
    /// Guest memory cannot be written.
    pub fn write(&mut self, memory: &Memory, payload: &[u8]) -> Result<(), Broken> {
        self.written += self.payload.write(memory, payload)? as u32;
        Ok(())
    }

    /// Completes the packet with its header. Returns its size in bytes.
    ///
    /// # Errors
    /// Guest memory cannot be written.
    pub fn finish(mut self, memory: &Memory, header: &Header) -> Result<usize, Broken> {
        self.header.write(memory, &header.encode())?;
        Ok(HEADER + self.written as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::test_utils::{Driver, Part};
    use proptest::prelude::*;

    fn header(len: u32) -> Header {
        Header {
            src: Address { cid: Cid(3), port: Port(0xdead_beef) },
            dst: Address { cid: Cid::HOST, port: Port(1525) },
            len,
            kind: STREAM,
            op: Op::Data as u16,
            flags: 7,
            buf_alloc: 0x0102_0304,
            fwd_cnt: u32::MAX,
        }
    }

    #[test]
    fn a_header_has_the_layout_of_the_specification() {
        let bytes = header(5).encode();
        assert_eq!(bytes[0..8], 3_u64.to_le_bytes());
        assert_eq!(bytes[8..16], 2_u64.to_le_bytes());
        assert_eq!(bytes[16..20], 0xdead_beef_u32.to_le_bytes());
        assert_eq!(bytes[20..24], 1525_u32.to_le_bytes());
        assert_eq!(bytes[24..28], 5_u32.to_le_bytes());
        assert_eq!(bytes[28..32], [1, 0, 5, 0]);
        assert_eq!(bytes[32..36], 7_u32.to_le_bytes());
        assert_eq!(bytes[36..40], 0x0102_0304_u32.to_le_bytes());
        assert_eq!(bytes[40..44], [0xff; 4]);
        assert_eq!(Header::decode(&bytes), header(5));
    }

    fn cut(bytes: &[u8], mut at: Vec<usize>) -> Vec<&[u8]> {
        at.push(bytes.len());
        at.sort_unstable();
        at.dedup();
        let mut start = 0;
        let mut parts = Vec::new();
        for end in at {
            let end = end.min(bytes.len());
            if end > start {
                parts.push(&bytes[start..end]);
                start = end;
            }
        }
        parts
    }

    proptest! {
        #[test]
        fn a_packet_may_lie_in_any_number_of_descriptors(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            at in proptest::collection::vec(0_usize..340, 0..12),
        ) {
            let mut driver = Driver::new(&[64]);
            let mut desk = driver.desk(0);
            let mut bytes = header(payload.len() as u32).encode().to_vec();
            bytes.extend_from_slice(&payload);
            let parts: Vec<_> = cut(&bytes, at.clone()).into_iter().map(Part::Read).collect();
            driver.send(0, &parts);
            let chain = desk.rings[0].pop().unwrap().unwrap();
            let (seen, mut rest) = read(&driver.memory, chain.readable).unwrap();
            prop_assert_eq!(seen, header(payload.len() as u32));
            let mut got = vec![0; rest.len()];
            rest.read(&driver.memory, &mut got).unwrap();
            prop_assert_eq!(&got, &payload);

            let parts: Vec<_> =
                cut(&bytes, at).into_iter().map(|part| Part::Write(part.len() as u32)).collect();
            let sent = driver.send(0, &parts);
            let chain = desk.rings[0].pop().unwrap().unwrap();
            let mut slot = Slot::new(chain.writable).unwrap();
            prop_assert_eq!(slot.room() as usize, payload.len());
            slot.write(&driver.memory, &payload).unwrap();
            let len = slot.finish(&driver.memory, &header(payload.len() as u32)).unwrap();
            prop_assert_eq!(driver.written(&sent, len as u32), bytes);
        }
    }

    #[test]
    fn a_packet_that_is_no_packet_is_an_error() {
        let mut driver = Driver::new(&[64]);
        let mut desk = driver.desk(0);
        let mut try_read = |bytes: &[u8]| {
            driver.send(0, &[Part::Read(bytes)]);
            let chain = desk.rings[0].pop().unwrap().unwrap();
            read(&driver.memory, chain.readable).map(|(header, _)| header)
        };
        assert_eq!(try_read(&[0; HEADER - 1]), Err(NO_HEADER));
        assert!(try_read(&header(1).encode()).is_err());
        let mut long = header(MAX_PAYLOAD + 1).encode().to_vec();
        long.resize(HEADER + MAX_PAYLOAD as usize + 1, 0);
        assert!(try_read(&long).is_err());
        long[24..28].copy_from_slice(&MAX_PAYLOAD.to_le_bytes());
        assert!(try_read(&long).is_ok());
        driver.send(0, &[Part::Write(HEADER as u32 - 1)]);
        let chain = desk.rings[0].pop().unwrap().unwrap();
        assert!(Slot::new(chain.writable).is_err());
    }
}
