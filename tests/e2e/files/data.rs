//! Content: mappings, holes, ranges, sizes, and what the other side sees of them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};

use super::shows;
use crate::support::tree::Numbers;
use crate::support::{PROMPT, Shape, eventually, on_each_shape};

const PAGE: usize = 4096;
const MEBI: u64 = 1 << 20;

on_each_shape!(together:
    what_the_guest_writes_is_on_the_host_at_once,
    what_the_host_writes_shows_up_in_open_files,
    shared_mappings_of_two_handles_are_one_memory,
    a_mapping_shows_what_the_host_wrote,
    fallocate_extends_punches_and_zeroes,
    holes_are_found_where_they_are,
    copy_file_range_copies,
    truncation_zeroes_and_shortens,
    files_beyond_4_gib_work,
    large_writes_of_any_alignment_arrive_whole,
    two_threads_write_their_parts_of_one_file,
);

fn file(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).expect("a file")
}

fn what_the_guest_writes_is_on_the_host_at_once(shape: Shape) {
    let share = shape.mounted();
    let guest = file(&share.mount().join("file"));
    let host = File::open(share.host().join("file")).expect("the file");
    for step in 0..50_u8 {
        guest.write_all_at(&[step; 100], u64::from(step) * 50).expect("a write");
        let mut seen = [0xff; 100];
        host.read_exact_at(&mut seen, u64::from(step) * 50).expect("a read");
        assert_eq!(seen, [step; 100]);
        guest.set_len(u64::from(step) * 50 + 100).expect("truncate");
    }
    guest.sync_all().expect("fsync");
    guest.sync_data().expect("fdatasync");
    File::open(share.mount()).expect("the folder").sync_all().expect("fsync of a folder");
}

fn what_the_host_writes_shows_up_in_open_files(shape: Shape) {
    let share = shape.mounted();
    let host = file(&share.host().join("file"));
    host.write_all_at(b"first", 0).expect("a write");
    let guest = file(&share.mount().join("file"));
    let reads = |expected: &[u8]| {
        eventually("an open file shows the host's write", PROMPT, || {
            let mut content = vec![0; expected.len() + 1];
            let length = guest.read_at(&mut content, 0).expect("a read");
            let size = guest.metadata().expect("fstat").len();
            &content[..length] == expected && size == expected.len() as u64
        });
    };
    reads(b"first");
    host.write_all_at(b"FIRST and more", 0).expect("a write");
    reads(b"FIRST and more");
    host.set_len(3).expect("truncate");
    reads(b"FIR");
}

/// A shared mapping of a whole file, read and written by value.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Mapping {
    fn new(file: &File, length: usize) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0)
        };
        Self { start: start.expect("mmap").cast(), length }
    }

    fn set(&self, at: usize, byte: u8) {
        assert!(at < self.length);
        // SAFETY: within the mapping; volatile, as another mapping shows the same memory.
        unsafe { self.start.wrapping_add(at).write_volatile(byte) };
    }

    fn get(&self, at: usize) -> u8 {
        assert!(at < self.length);
        // SAFETY: as in `set`.
        unsafe { self.start.wrapping_add(at).read_volatile() }
    }

    fn sync(&self) {
        // SAFETY: exactly the mapping.
        unsafe { rustix::mm::msync(self.start.cast(), self.length, MsyncFlags::SYNC) }
            .expect("msync");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping, which nobody uses any more.
        let _ = unsafe { rustix::mm::munmap(self.start.cast(), self.length) };
    }
}

fn shared_mappings_of_two_handles_are_one_memory(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("file");
    let (one, two) = (file(&path), file(&path));
    one.set_len(3 * PAGE as u64).expect("truncate");
    let (a, b) = (Mapping::new(&one, 3 * PAGE), Mapping::new(&two, 3 * PAGE));
    a.set(5, 1);
    assert_eq!(b.get(5), 1);
    b.set(2 * PAGE, 2);
    assert_eq!(a.get(2 * PAGE), 2);
    let mut byte = [0];
    two.read_exact_at(&mut byte, 5).expect("a read");
    assert_eq!(byte, [1], "read() sees a store");
    one.write_all_at(&[3], PAGE as u64).expect("a write");
    assert_eq!(b.get(PAGE), 3, "a load sees write()");
    a.sync();
    let host = fs::read(share.host().join("file")).expect("the file");
    assert_eq!((host[5], host[2 * PAGE], host[PAGE]), (1, 2, 3));
    // Also what nobody synced is there once the mapping and the handles are gone.
    a.set(7, 4);
    drop((a, b, one, two));
    shows(&share.host().join("file"), {
        let mut expected = host;
        expected[7] = 4;
        expected
    });
}

fn a_mapping_shows_what_the_host_wrote(shape: Shape) {
    let share = shape.mounted();
    fs::write(share.host().join("file"), [b'a'; 2 * PAGE]).expect("a file");
    let guest = file(&share.mount().join("file"));
    let mapping = Mapping::new(&guest, 2 * PAGE);
    assert_eq!(mapping.get(PAGE + 1), b'a');
    let host = file(&share.host().join("file"));
    host.write_all_at(b"bb", PAGE as u64).expect("a write");
    eventually("the mapping shows it", PROMPT, || mapping.get(PAGE + 1) == b'b');
}

fn fallocate_extends_punches_and_zeroes(shape: Shape) {
    let share = shape.mounted();
    let guest = file(&share.mount().join("file"));
    let host = share.host().join("file");
    let allocate = |flags, offset, length| rustix::fs::fallocate(&guest, flags, offset, length);
    allocate(FallocateFlags::empty(), 0, MEBI).expect("fallocate");
    let found = fs::metadata(&host).expect("the file");
    assert_eq!(found.len(), MEBI);
    assert!(found.blocks() * 512 >= MEBI, "space is allocated");

    allocate(FallocateFlags::KEEP_SIZE, MEBI, MEBI).expect("fallocate beyond the end");
    assert_eq!(guest.metadata().expect("fstat").len(), MEBI);

    guest.write_all_at(&vec![b'x'; MEBI as usize], 0).expect("a write");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    allocate(punch, 65_536, 65_536).expect("a hole");
    allocate(FallocateFlags::ZERO_RANGE, 262_144, 100).expect("a zeroed range");
    let mut expected = vec![b'x'; MEBI as usize];
    expected[65_536..131_072].fill(0);
    expected[262_144..262_244].fill(0);
    let mut content = vec![1; MEBI as usize];
    guest.read_exact_at(&mut content, 0).expect("a read");
    assert!(content == expected, "the guest sees hole and zeroes");
    assert!(fs::read(&host).expect("the file") == expected, "the host sees hole and zeroes");

    let extend = allocate(FallocateFlags::ZERO_RANGE, MEBI - 10, 20);
    extend.expect("zeroes across the end");
    assert_eq!(fs::metadata(&host).expect("the file").len(), MEBI + 10);
    assert_eq!(allocate(punch, 0, 0), Err(Errno::INVAL));
    let read_only = File::open(share.mount().join("file")).expect("the file");
    assert_eq!(rustix::fs::fallocate(&read_only, FallocateFlags::empty(), 0, 1), Err(Errno::BADF));
}

fn holes_are_found_where_they_are(shape: Shape) {
    let share = shape.mounted();
    let guest = file(&share.mount().join("file"));
    guest.set_len(4 * MEBI).expect("truncate");
    guest.write_all_at(&[b'd'; 70_000], MEBI).expect("a write");
    guest.write_all_at(&[b'd'; 10], 3 * MEBI).expect("a write");
    guest.sync_all().expect("fsync");
    let host = File::open(share.host().join("file")).expect("the file");
    for offset in [0, 1, MEBI - 1, MEBI, MEBI + 69_999, 2 * MEBI, 3 * MEBI + 4096, 4 * MEBI - 1] {
        for seek in [SeekFrom::Data(offset), SeekFrom::Hole(offset)] {
            let (found, expected) = (rustix::fs::seek(&guest, seek), rustix::fs::seek(&host, seek));
            assert_eq!(found, expected, "{seek:?}");
        }
    }
    assert_eq!(rustix::fs::seek(&guest, SeekFrom::Data(0)), Ok(MEBI));
    assert_eq!(rustix::fs::seek(&guest, SeekFrom::Data(3 * MEBI + 4096)), Err(Errno::NXIO));
    let blocks = guest.metadata().expect("fstat").blocks();
    assert!(blocks * 512 < MEBI, "a sparse file stays sparse: {blocks} blocks");
}

fn copy_file_range_copies(shape: Shape) {
    let share = shape.mounted();
    let mut numbers = Numbers(3);
    let content = numbers.bytes(3 * MEBI as usize + 17);
    fs::write(share.mount().join("from"), &content).expect("a file");
    let (from, to) = (file(&share.mount().join("from")), file(&share.mount().join("to")));
    let (mut source, mut target) = (0, 0);
    while source < content.len() as u64 {
        let rest = content.len() - source as usize;
        let copied =
            rustix::fs::copy_file_range(&from, Some(&mut source), &to, Some(&mut target), rest)
                .expect("copy_file_range");
        assert!(copied > 0, "it ends early, at {source}");
    }
    assert!(fs::read(share.mount().join("to")).expect("the copy") == content);
    assert!(fs::read(share.host().join("to")).expect("the copy") == content);
    // Within a file, and past the end of the source.
    let (mut source, mut target) = (0, 4 * MEBI);
    rustix::fs::copy_file_range(&to, Some(&mut source), &to, Some(&mut target), 1000)
        .expect("copy_file_range within a file");
    let mut part = vec![0; 1000];
    to.read_exact_at(&mut part, 4 * MEBI).expect("a read");
    assert!(part == content[..1000]);
    let mut beyond = 10 * MEBI;
    let copied = rustix::fs::copy_file_range(&from, Some(&mut beyond), &to, None, 10);
    assert_eq!(copied, Ok(0));
}

fn truncation_zeroes_and_shortens(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("file");
    fs::write(&path, [b'x'; 10_000]).expect("a file");
    let guest = file(&path);
    guest.set_len(100).expect("truncate");
    guest.set_len(5_000).expect("extend");
    let expected = [vec![b'x'; 100], vec![0; 4_900]].concat();
    assert_eq!(fs::read(&path).expect("the file"), expected);
    assert_eq!(fs::read(share.host().join("file")).expect("the file"), expected);
    // A mapping must not bring back what was cut off.
    let mapping = Mapping::new(&guest, 2 * PAGE);
    mapping.set(4_999, b'y');
    guest.set_len(4_000).expect("truncate under a mapping");
    guest.set_len(5_000).expect("extend under a mapping");
    assert_eq!(mapping.get(4_999), 0);
    assert_eq!(fs::read(&path).expect("the file")[4_000..], [0; 1_000]);
}

fn files_beyond_4_gib_work(shape: Shape) {
    const FAR: u64 = 5 << 30;
    let share = shape.mounted();
    let guest = file(&share.mount().join("file"));
    guest.write_all_at(b"far", FAR).expect("a write");
    assert_eq!(guest.metadata().expect("fstat").len(), FAR + 3);
    let host = File::open(share.host().join("file")).expect("the file");
    let mut content = [0; 3];
    host.read_exact_at(&mut content, FAR).expect("a read");
    assert_eq!(&content, b"far");
    guest.read_exact_at(&mut content, FAR).expect("a read");
    assert_eq!(&content, b"far");
    assert_eq!(
        rustix::fs::seek(&guest, SeekFrom::Data(0)),
        rustix::fs::seek(&host, SeekFrom::Data(0))
    );
}

fn large_writes_of_any_alignment_arrive_whole(shape: Shape) {
    let share = shape.mounted();
    let guest = file(&share.mount().join("file"));
    let mut numbers = Numbers(9);
    let mut model = vec![0; 8 * MEBI as usize];
    for _ in 0..40 {
        let offset = numbers.below(7 * MEBI) as usize;
        let length = numbers.below(MEBI) as usize;
        let piece = numbers.bytes(length);
        guest.write_all_at(&piece, offset as u64).expect("a write");
        model[offset..offset + length].copy_from_slice(&piece);
        let (offset, length) = (numbers.below(7 * MEBI) as usize, numbers.below(MEBI) as usize);
        let mut seen = vec![0; length];
        let read = guest.read_at(&mut seen, offset as u64).expect("a read");
        assert!(seen[..read] == model[offset..offset + read], "a read at {offset}");
    }
    let size = guest.metadata().expect("fstat").len() as usize;
    assert!(fs::read(share.host().join("file")).expect("the file") == model[..size]);
}

fn two_threads_write_their_parts_of_one_file(shape: Shape) {
    let share = shape.mounted();
    let path = share.mount().join("file");
    file(&path).set_len(MEBI).expect("truncate");
    std::thread::scope(|scope| {
        for part in 0..2_u8 {
            let path = &path;
            scope.spawn(move || {
                let handle = file(path);
                for block in (u64::from(part)..256).step_by(2) {
                    handle.write_all_at(&[part + 1; 4096], block * 4096).expect("a write");
                }
            });
        }
    });
    let content = fs::read(share.host().join("file")).expect("the file");
    for (block, bytes) in content.chunks(4096).enumerate() {
        let part = u8::try_from(block % 2).expect("small") + 1;
        assert!(bytes.iter().all(|&byte| byte == part), "block {block}");
    }
}
