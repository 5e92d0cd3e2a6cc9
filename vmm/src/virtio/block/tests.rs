//! Requests of every kind on real files, raw and qcow2, by a driver that behaves and one that does not.

mod model;
mod opening;

use super::*;
use crate::config::DiskFormat;
use crate::virtio::test_utils::{Driver, Part, Used, step};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use virtio_bindings::virtio_blk::*;

const MIB: u64 = 1 << 20;
const OK: u8 = VIRTIO_BLK_S_OK as u8;
const IOERR: u8 = VIRTIO_BLK_S_IOERR as u8;
const UNSUPP: u8 = VIRTIO_BLK_S_UNSUPP as u8;

fn disk(file: &Path, format: DiskFormat, read_only: bool) -> Disk {
    Disk { file: file.into(), format, read_only }
}

/// A program that another test is about to start has our locks, too, for a moment.
fn patiently(open: impl Fn() -> Result<Image, OpenError>) -> Image {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match open() {
            Ok(image) => return image,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn qemu_img(arguments: &[&str]) {
    let run = Command::new("qemu-img").args(arguments).output();
    let output = run.expect("qemu-img is needed: `cargo xtask setup` installs it");
    assert!(output.status.success(), "qemu-img {arguments:?}: {output:?}");
}

/// A disk of 8 MiB in a folder of its own, and a driver for it.
struct Setup {
    dir: tempfile::TempDir,
    file: PathBuf,
    format: DiskFormat,
    driver: Driver,
    desk: Desk,
    work: Requests,
}

fn setup_with(format: DiskFormat, read_only: bool, features: u64) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk");
    match format {
        DiskFormat::Raw => File::create(&file).unwrap().set_len(8 * MIB).unwrap(),
        DiskFormat::Qcow2 => {
            qemu_img(&["create", "-q", "-f", "qcow2", file.to_str().unwrap(), "8M"]);
        }
    }
    let image = patiently(|| Image::open(&disk(&file, format, read_only)));
    let mut driver = Driver::new(&QUEUE_SIZES);
    let desk = driver.desk(features);
    let work = Requests::new(image, "serial");
    Setup { dir, file, format, driver, desk, work }
}

fn setup(format: DiskFormat) -> Setup {
    setup_with(format, false, 1 << VIRTIO_BLK_F_FLUSH)
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

fn range(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut range = [0; 16];
    range[..8].copy_from_slice(&sector.to_le_bytes());
    range[8..12].copy_from_slice(&sectors.to_le_bytes());
    range[12..].copy_from_slice(&flags.to_le_bytes());
    range
}

impl Setup {
    /// Sends the parts as they are. What the device may write comes back, with what it says it wrote.
    fn send(&mut self, parts: &[Part<'_>]) -> Result<(Vec<u8>, Used), Broken> {
        let sent = self.driver.queues[0].lay(parts);
        self.driver.queues[0].offer(sent.head);
        step(&mut self.work, &mut self.desk)?;
        let used = self.driver.queues[0].collect().expect("an answer");
        assert_eq!(used.head, sent.head);
        Ok((self.driver.written(&sent, u32::MAX), used))
    }

    fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        let header = header(VIRTIO_BLK_T_OUT, sector);
        let answer = self.send(&[Part::Read(&header), Part::Read(data), Part::Write(1)]).unwrap();
        answer.0[0]
    }

    fn read(&mut self, sector: u64, len: u32) -> (u8, Vec<u8>) {
        let header = header(VIRTIO_BLK_T_IN, sector);
        let (mut data, used) =
            self.send(&[Part::Read(&header), Part::Write(len), Part::Write(1)]).unwrap();
        let status = data.pop().unwrap();
        assert_eq!(used.len, if status == OK { len + 1 } else { 0 });
        (status, data)
    }

    fn ranges(&mut self, kind: u32, ranges: &[[u8; 16]]) -> u8 {
        let header = header(kind, 0);
        let ranges = ranges.concat();
        self.send(&[Part::Read(&header), Part::Read(&ranges), Part::Write(1)]).unwrap().0[0]
    }

    fn flush(&mut self) -> u8 {
        self.send(&[Part::Read(&header(VIRTIO_BLK_T_FLUSH, 0)), Part::Write(1)]).unwrap().0[0]
    }

    /// Closes the disk and opens it again.
    fn again(self, format: DiskFormat) -> Self {
        let Self { dir, file, work, .. } = self;
        drop(work);
        let image = patiently(|| Image::open(&disk(&file, format, false)));
        let mut driver = Driver::new(&QUEUE_SIZES);
        let desk = driver.desk(1 << VIRTIO_BLK_F_FLUSH);
        Self { dir, file, format, driver, desk, work: Requests::new(image, "serial") }
    }
}

#[test]
fn what_was_written_is_read_back_also_after_opening_again() {
    for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
        let mut setup = setup(format);
        let data: Vec<u8> = (0..8192_u32).map(|n| (n * 7 % 251) as u8).collect();
        assert_eq!(setup.write(3, &data), OK);
        assert_eq!(setup.write(16_000, &data[..512]), OK);
        assert_eq!(setup.read(3, 8192), (OK, data.clone()));
        assert_eq!(setup.flush(), OK);
        let file = setup.file.clone();
        let mut setup = setup.again(format);
        assert_eq!(setup.read(3, 8192), (OK, data.clone()));
        assert_eq!(setup.read(16_000, 1024).1, [&data[..512], &[0; 512]].concat());
        drop(setup.work);
        let name = if format == DiskFormat::Raw { "raw" } else { "qcow2" };
        if format == DiskFormat::Qcow2 {
            qemu_img(&["check", "-q", file.to_str().unwrap()]);
        }
        let copy = setup.dir.path().join("copy");
        let (from, to) = (file.to_str().unwrap(), copy.to_str().unwrap());
        qemu_img(&["convert", "-q", "-f", name, "-O", "raw", from, to]);
        let mut seen = vec![0; 8192];
        File::open(&copy).unwrap().read_exact_at(&mut seen, 3 * 512).unwrap();
        assert_eq!(seen, data, "as QEMU sees it ({name})");
    }
}

#[test]
fn a_flushed_qcow2_is_whole_even_if_we_die_without_a_word() {
    let mut setup = setup(DiskFormat::Qcow2);
    for n in 0..16 {
        assert_eq!(setup.write(n * 1024, &vec![n as u8 + 1; 65536]), OK);
    }
    assert_eq!(setup.flush(), OK);
    // The file as it is now, without what closing would write.
    let copy = setup.dir.path().join("copy");
    fs::copy(&setup.file, &copy).unwrap();
    qemu_img(&["check", "-q", copy.to_str().unwrap()]);
    let image = Image::open(&disk(&copy, DiskFormat::Qcow2, true)).unwrap();
    setup.work = Requests::new(image, "");
    for n in 0..16 {
        assert_eq!(setup.read(n * 1024, 512), (OK, vec![n as u8 + 1; 512]));
    }
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let mut setup = setup(DiskFormat::Raw);
    let header_out = header(VIRTIO_BLK_T_OUT, 1);
    let data = [5; 1024];
    // The header in three parts, its end together with data.
    let tail = [&header_out[11..], &data[..100]].concat();
    let (status, _) = setup
        .send(&[
            Part::Read(&header_out[..1]),
            Part::Read(&header_out[1..11]),
            Part::Read(&tail),
            Part::Read(&data[100..]),
            Part::Write(1),
        ])
        .unwrap();
    assert_eq!(status, [OK]);
    // Header alone, and the status at the end of the data.
    let header_in = header(VIRTIO_BLK_T_IN, 1);
    let parts = [Part::Read(&header_in), Part::Write(1), Part::Write(1000), Part::Write(24)];
    let (mut answer, used) = setup.send(&parts).unwrap();
    assert_eq!((answer.pop(), used.len), (Some(OK), 1025));
    assert_eq!(answer, data);
}

#[test]
fn what_is_no_request_needs_a_reset() {
    let whole = header(VIRTIO_BLK_T_IN, 0);
    for parts in [
        &[Part::Read(&whole[..15]), Part::Write(1)][..],
        &[Part::Write(513)],
        &[Part::Read(&whole)],
        &[Part::Read(&whole), Part::Read(&[0; 512])],
    ] {
        let result = setup(DiskFormat::Raw).send(parts);
        assert!(matches!(result, Err(Broken::Request(_))), "{parts:?}");
    }
}

#[test]
fn requests_beyond_the_disk_or_in_parts_of_sectors_fail() {
    let mut setup = setup(DiskFormat::Raw);
    let last = 8 * MIB / 512 - 1;
    assert_eq!(setup.read(last, 512).0, OK);
    for (sector, len) in
        [(last, 1024), (last + 1, 512), (u64::MAX, 512), (u64::MAX / 512, 1024), (0, 511), (0, 513)]
    {
        assert_eq!(setup.read(sector, len).0, IOERR, "read {len} at {sector}");
        assert_eq!(setup.write(sector, &vec![1; len as usize]), IOERR, "write {len} at {sector}");
    }
    assert_eq!(fs::metadata(&setup.file).unwrap().len(), 8 * MIB);
}

#[test]
fn unknown_requests_are_not_supported() {
    let mut setup = setup(DiskFormat::Raw);
    for kind in [2, 3, VIRTIO_BLK_T_SECURE_ERASE, 0x8000_0000, u32::MAX] {
        let answer = setup.send(&[Part::Read(&header(kind, 0)), Part::Write(1)]).unwrap();
        assert_eq!(answer.0, [UNSUPP]);
    }
}

#[test]
fn the_serial_is_told_in_twenty_bytes() {
    let mut setup = setup(DiskFormat::Raw);
    let request = header(VIRTIO_BLK_T_GET_ID, 0);
    let (answer, used) =
        setup.send(&[Part::Read(&request), Part::Write(20), Part::Write(1)]).unwrap();
    assert_eq!((&answer[..], used.len), (&b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], 21));
}

#[test]
fn a_read_only_disk_takes_nothing() {
    let mut setup = setup_with(DiskFormat::Raw, true, 0);
    assert_eq!(setup.write(0, &[1; 512]), IOERR);
    assert_eq!(setup.ranges(VIRTIO_BLK_T_DISCARD, &[range(0, 8, 0)]), IOERR);
    assert_eq!(setup.read(0, 512), (OK, vec![0; 512]));
    assert_eq!(setup.flush(), OK);
    let block = Block::open(&disk(&setup.file, DiskFormat::Raw, true), "").unwrap();
    assert_ne!(block.features() & (1 << VIRTIO_BLK_F_RO), 0);
    assert_eq!(block.features() & (1 << VIRTIO_BLK_F_DISCARD), 0);
}

#[test]
fn discarding_gives_room_back_and_zeroing_reads_as_zero() {
    for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
        let mut setup = setup(format);
        for n in 0..4 {
            assert_eq!(setup.write(n * 512, &vec![9; 1 << 18]), OK);
        }
        assert_eq!(setup.flush(), OK);
        let before = fs::metadata(&setup.file).unwrap().blocks();
        let discarded = [range(0, 1024, 0), range(1024, 512, 0)];
        assert_eq!(setup.ranges(VIRTIO_BLK_T_DISCARD, &discarded), OK);
        let zeroed = [range(1537, 3, 0), range(1600, 300, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)];
        assert_eq!(setup.ranges(VIRTIO_BLK_T_WRITE_ZEROES, &zeroed), OK);
        assert_eq!(setup.flush(), OK);
        // A raw disk gives room back to the host, a qcow2 image keeps it for itself.
        if format == DiskFormat::Qcow2 {
            assert_eq!(setup.write(8192, &vec![9; 1 << 19]), OK);
            assert_eq!(setup.write(9216, &vec![9; 1 << 18]), OK);
            assert_eq!(setup.flush(), OK);
        }
        let after = fs::metadata(&setup.file).unwrap().blocks();
        let given_back = if format == DiskFormat::Raw { 1024 } else { 0 };
        assert!(after + given_back <= before, "{format:?}: {before} blocks, then {after}");
        let (_, data) = setup.read(1536, 512 * 512);
        for (n, sector) in (1536..).zip(data.chunks(512)) {
            let zero = (1537..1540).contains(&n) || (1600..1900).contains(&n);
            assert_eq!(sector, [if zero { 0 } else { 9 }; 512], "{format:?}, sector {n}");
        }
        if format == DiskFormat::Qcow2 {
            drop(setup.work);
            qemu_img(&["check", "-q", setup.file.to_str().unwrap()]);
        }
    }
}

#[test]
fn wrong_ranges_change_nothing() {
    let mut setup = setup(DiskFormat::Raw);
    assert_eq!(setup.write(0, &[9; 512]), OK);
    let sectors = (8 * MIB / 512) as u32;
    let good = range(0, 1, 0);
    for (kind, ranges, status) in [
        (VIRTIO_BLK_T_DISCARD, vec![good, range(0, sectors + 1, 0)], IOERR),
        (VIRTIO_BLK_T_DISCARD, vec![good, range(u64::MAX, 2, 0)], IOERR),
        (VIRTIO_BLK_T_DISCARD, vec![good, range(0, u32::MAX, 0)], IOERR),
        (VIRTIO_BLK_T_DISCARD, vec![good, range(0, 8, 1)], UNSUPP),
        (VIRTIO_BLK_T_WRITE_ZEROES, vec![good, range(0, 8, 2)], UNSUPP),
        (VIRTIO_BLK_T_WRITE_ZEROES, vec![good; MAX_RANGES as usize + 1], IOERR),
    ] {
        assert_eq!(setup.ranges(kind, &ranges), status);
    }
    let request = header(VIRTIO_BLK_T_DISCARD, 0);
    let half = [good, good].concat();
    let answer = setup.send(&[Part::Read(&request), Part::Read(&half[..24]), Part::Write(1)]);
    assert_eq!(answer.unwrap().0, [IOERR]);
    assert_eq!(setup.read(0, 512), (OK, vec![9; 512]));
}

#[test]
fn the_device_serves_its_queue_and_tells_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("disk");
    File::create(&file).unwrap().set_len(8 * MIB + 100).unwrap();
    let mut block = Block::open(&disk(&file, DiskFormat::Raw, false), "x").unwrap();
    let mut capacity = [0; 8];
    block.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), 8 * MIB / 512);
    let mut driver = Driver::new(&QUEUE_SIZES);
    for round in 0..2_u8 {
        block.activate(driver.context(0)).unwrap();
        let request = header(VIRTIO_BLK_T_OUT, 7);
        driver.send(0, &[Part::Read(&request), Part::Read(&[round; 512]), Part::Write(1)]);
        driver.wait(0);
        block.reset();
        let mut seen = [9; 512];
        File::open(&file).unwrap().read_exact_at(&mut seen, 7 * 512).unwrap();
        assert_eq!(seen, [round; 512]);
    }
}
