//! What must hold for whatever a guest, or a client of a host's socket, sends: the bodies of the fuzz
//! targets. Nothing may panic or touch what is not guest memory, whatever the order of things.

mod config;
mod hostile;
mod mmio;
mod vsock;

pub use config::{options, vfkit, xhyve};
pub use mmio::mmio;
pub use vsock::{vsock, vsock_handshake};

use hostile::{Input, any_header, drive};
use imago::qcow2::Qcow2;
use imago::{FormatCreateBuilder, Storage, StorageCreateOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use vmm::virtio::balloon::{Pages, Target};
use vmm::virtio::block::Image;
use vmm::virtio::block::request::Requests;
use vmm::virtio::console::{Overflow, Terminal};
use vmm::virtio::net::frames::Inbox;
use vmm::virtio::net::{Card, Link};
use vmm::virtio::rng::Numbers;
use vmm::{Disk, DiskFormat};

/// Requests for random numbers, of a source that ends.
pub fn rng(data: &[u8]) {
    drive(&[64], data, &mut Numbers::new(std::io::repeat(7)), any_header, |_| {});
}

/// Lists of pages, reports of free memory.
pub fn balloon(data: &[u8]) {
    drive(&[64, 64, 64], data, &mut Pages::new(Target::default()), any_header, |_| {});
}

/// The header of a request to a disk, most of them known and within it.
fn request(input: &mut Input<'_>, _payload: &[u8]) -> Vec<u8> {
    let kind = input.u8();
    let kind = if kind == 255 { input.u32() } else { u32::from(kind % 16) };
    let sector = input.u16();
    let sector = if sector == u16::MAX { input.u64() } else { u64::from(sector % 2048) };
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// Requests to a raw disk of a mebibyte.
pub fn block(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk");
    std::fs::File::create(&file).unwrap().set_len(1 << 20).unwrap();
    drive(&[64], data, &mut Requests::new(open(&file, DiskFormat::Raw), "fuzz"), request, |_| {});
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 1 << 20);
}

/// The same to a qcow2 image.
pub fn block_qcow2(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let file = new_qcow2(dir.path());
    drive(&[64], data, &mut Requests::new(open(&file, DiskFormat::Qcow2), "fuzz"), request, |_| {});
    // What is left is an image.
    open(&file, DiskFormat::Qcow2);
}

/// A qcow2 image in which bytes were changed, and requests to what can be opened.
pub fn qcow2_image(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let file = new_qcow2(dir.path());
    let mut input = Input(data);
    let image = std::fs::File::options().write(true).open(&file).unwrap();
    for _ in 0..input.u8() % 16 {
        // Its structures lie at the beginnings of the first clusters.
        let place = u64::from(input.u8() % 8) * 65536 + u64::from(input.u8()) * 4;
        let len = usize::from(input.u8() % 16);
        image.write_all_at(input.bytes(len), place).unwrap();
    }
    drop(image);
    if let Ok(image) = Image::open(&Disk { file, format: DiskFormat::Qcow2, read_only: false }) {
        drive(&[64], input.0, &mut Requests::new(image, "fuzz"), request, |_| {});
    }
}

fn new_qcow2(dir: &Path) -> PathBuf {
    let file = dir.join("disk");
    let options = StorageCreateOptions::new().filename(&file);
    let storage = imago::file::File::create_open(options).unwrap();
    Qcow2::<imago::file::File>::create_builder(storage).size(1 << 20).create().unwrap();
    file
}

fn open(file: &Path, format: DiskFormat) -> Image {
    Image::open(&Disk { file: file.into(), format, read_only: false }).unwrap()
}

/// Frames of the guest, and whatever the network sends.
pub fn net(data: &[u8]) {
    let (mut network, ours) = UnixStream::pair().unwrap();
    network.set_nonblocking(true).unwrap();
    let up = Arc::new(AtomicBool::new(true));
    let mut card = Card::new(Link::over_stream(ours).unwrap(), up);
    drive(&[64, 64], data, &mut card, any_header, |bytes| _ = network.write(bytes));
}

/// The stream of a network.
pub fn net_stream(data: &[u8]) {
    let (mut inbox, mut input) = (Inbox::new(), Input(data));
    while !input.is_empty() {
        let len = input.u8().into();
        let bytes = input.bytes(len);
        let room = inbox.room();
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        inbox.filled(len);
        loop {
            match inbox.frame() {
                Ok(Some(_)) => inbox.consume(),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// What a guest prints and where it lets itself be typed to.
pub fn console(data: &[u8]) {
    let (mut typing, input) = UnixStream::pair().unwrap();
    let (output, _reading) = UnixStream::pair().unwrap();
    typing.set_nonblocking(true).unwrap();
    let overflow = if data.len() % 2 == 0 { Overflow::Wait } else { Overflow::Drop };
    let mut terminal = Terminal::new(Some(input.into()), output.into(), overflow);
    drive(&[64, 64], data, &mut terminal, any_header, |bytes| _ = typing.write(bytes));
}
