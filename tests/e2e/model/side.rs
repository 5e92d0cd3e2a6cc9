//! Doing it: one folder as one process uses it, and what it says to each operation.

use super::operations::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    self as sys, AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, SeekFrom, Stat, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::{self, Errno};
use rustix::mm::{self, MapFlags, MsyncFlags, ProtFlags};

pub(super) type Told = Result<String, Errno>;

/// A folder as one process uses it.
pub(super) struct Side {
    pub(super) path: PathBuf,
    pub(super) root: OwnedFd,
    pub(super) slots: [Option<OwnedFd>; SLOTS],
}

impl Side {
    pub(super) fn new(path: PathBuf) -> Self {
        let root = sys::open(&path, OFlags::DIRECTORY | OFlags::PATH, Mode::empty());
        Self { root: root.expect("the root of a run"), path, slots: Default::default() }
    }

    pub(super) fn base(&self, at: &At) -> BorrowedFd<'_> {
        at.0.and_then(|slot| self.slots[slot].as_ref()).unwrap_or(&self.root).as_fd()
    }

    pub(super) fn holds_a_removed_object(&self) -> bool {
        let removed = |fd: &OwnedFd| sys::fstat(fd).is_ok_and(|stat| stat.st_nlink == 0);
        self.slots.iter().flatten().any(removed)
    }

    pub(super) fn open(&self, slot: usize) -> Result<BorrowedFd<'_>, Errno> {
        self.slots[slot].as_ref().map(OwnedFd::as_fd).ok_or(Errno::BADF)
    }

    pub(super) fn full(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    pub(super) fn apply(&mut self, op: &Op) -> Told {
        let done = |()| String::new();
        let mode = |bits: u32| Mode::from_raw_mode(bits);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        match op {
            Op::Open { slot, at, flags, mode: bits } => {
                // What was there is closed first, as the numbers of descriptors may run out.
                let base = self.base(at);
                let opened = sys::openat(base, &at.1, *flags | OFlags::CLOEXEC, mode(*bits));
                opened.map(|fd| self.slots[*slot] = Some(fd)).map(done)
            }
            Op::Close { slot } => Ok(format!("{}", self.slots[*slot].take().is_some())),
            Op::Read { slot, offset, size } => {
                let mut buffer = vec![0; *size];
                let got = match offset {
                    Some(offset) => io::pread(self.open(*slot)?, &mut buffer, *offset)?,
                    None => io::read(self.open(*slot)?, &mut buffer)?,
                };
                Ok(brief(&buffer[..got]))
            }
            Op::Write { slot, offset, size, byte } => {
                let data = vec![*byte; *size];
                let written = match offset {
                    Some(offset) => io::pwrite(self.open(*slot)?, &data, *offset)?,
                    None => io::write(self.open(*slot)?, &data)?,
                };
                Ok(written.to_string())
            }
            Op::Map { slot, offset, write } => map(self.open(*slot)?, *offset, *write),
            Op::Seek { slot, to } => {
                // Where a folder's entries stand is the file system's affair.
                let fd = self.open(*slot)?;
                if FileType::from_raw_mode(sys::fstat(fd)?.st_mode) == FileType::Directory {
                    return Err(Errno::ISDIR);
                }
                sys::seek(fd, *to).map(|at| at.to_string())
            }
            Op::Resize { slot, size } => sys::ftruncate(self.open(*slot)?, *size).map(done),
            Op::Allocate { slot, mode, offset, size } => {
                sys::fallocate(self.open(*slot)?, *mode, *offset, *size).map(done)
            }
            Op::Copy { from, from_offset, to, to_offset, size } => {
                let (mut source, mut target) = (*from_offset, *to_offset);
                let (from, to) = (self.open(*from)?, self.open(*to)?);
                sys::copy_file_range(from, Some(&mut source), to, Some(&mut target), *size)
                    .map(|copied| format!("{copied} → {source}, {target}"))
            }
            Op::Sync { slot } => sys::fsync(self.open(*slot)?).map(done),
            Op::StatOpen { slot } => Ok(describe(&sys::fstat(self.open(*slot)?)?)),
            Op::ModeOpen { slot, mode: bits } => {
                sys::fchmod(self.open(*slot)?, mode(*bits)).map(done)
            }
            Op::TimeOpen { slot, second } => {
                sys::futimens(self.open(*slot)?, &times(*second)).map(done)
            }
            Op::XattrOpen { slot, name, size } => {
                let fd = self.open(*slot)?;
                let value = vec![b'x'; (*size).min(1000)];
                sys::fsetxattr(fd, *name, &value, XattrFlags::empty())?;
                let mut buffer = vec![0; 2000];
                let got = sys::fgetxattr(fd, *name, buffer.as_mut_slice())?;
                Ok(brief(&buffer[..got]))
            }
            Op::LinkOpen { slot, at } => {
                let base = self.base(at);
                sys::linkat(self.open(*slot)?, "", base, &at.1, AtFlags::EMPTY_PATH).map(done)
            }
            Op::List { slot } => {
                let fd = self.open(*slot)?;
                sys::seek(fd, SeekFrom::Start(0))?;
                list(fd)
            }
            Op::Truncate { path, size } => truncate(&self.full(path), *size).map(done),
            Op::WriteFile { path, flags, offset, size, byte } => {
                let flags = *flags | OFlags::CLOEXEC;
                let fd = sys::open(self.full(path), flags, mode(0o666))?;
                io::pwrite(fd, &vec![*byte; *size], *offset).map(|size| size.to_string())
            }
            Op::ReadFile { path } => {
                let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
                contents(&sys::open(self.full(path), flags, Mode::empty())?)
            }
            Op::Stat { at, follow } => {
                let flags = if *follow { AtFlags::empty() } else { nofollow };
                sys::statat(self.base(at), &at.1, flags).map(|stat| describe(&stat))
            }
            Op::Unlink { at } => sys::unlinkat(self.base(at), &at.1, AtFlags::empty()).map(done),
            Op::RmDir { at } => sys::unlinkat(self.base(at), &at.1, AtFlags::REMOVEDIR).map(done),
            Op::MkDir { at, mode: bits } => {
                sys::mkdirat(self.base(at), &at.1, mode(*bits)).map(done)
            }
            Op::MkFifo { at } => {
                sys::mknodat(self.base(at), &at.1, FileType::Fifo, mode(0o644), 0).map(done)
            }
            Op::SymLink { at, target } => sys::symlinkat(*target, self.base(at), &at.1).map(done),
            Op::ReadLink { at } => sys::readlinkat(self.base(at), &at.1, Vec::new())
                .map(|target| target.to_string_lossy().into_owned()),
            Op::Link { from, to, follow } => {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                sys::linkat(self.base(from), &from.1, self.base(to), &to.1, flags).map(done)
            }
            Op::Rename { from, to, flags } => {
                sys::renameat_with(self.base(from), &from.1, self.base(to), &to.1, *flags).map(done)
            }
            Op::Mode { at, mode: bits } => {
                sys::chmodat(self.base(at), &at.1, mode(*bits), AtFlags::empty()).map(done)
            }
            Op::Owner { at, uid, gid } => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                sys::chownat(self.base(at), &at.1, uid, gid, nofollow).map(done)
            }
            Op::Time { at, second, follow } => {
                let flags = if *follow { AtFlags::empty() } else { nofollow };
                sys::utimensat(self.base(at), &at.1, &times(*second), flags).map(done)
            }
            Op::SetXattr { path, name, size, flags } => {
                sys::lsetxattr(self.full(path), *name, &vec![b'v'; *size], *flags).map(done)
            }
            Op::GetXattr { path, name, room } => {
                let mut buffer = vec![0; *room];
                let got = sys::lgetxattr(self.full(path), *name, buffer.as_mut_slice())?;
                Ok(if *room == 0 { got.to_string() } else { brief(&buffer[..got]) })
            }
            Op::ListXattr { path } => xattrs(&self.full(path)),
            Op::DropXattr { path, name } => sys::lremovexattr(self.full(path), *name).map(done),
        }
    }
}

/// `truncate(2)`, without opening.
pub(super) fn truncate(path: &Path, size: u64) -> Result<(), Errno> {
    let fd = sys::open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    sys::ftruncate(fd, size)
}

pub(super) fn map(fd: BorrowedFd<'_>, offset: u64, write: Option<u8>) -> Told {
    const PAGE: usize = 4096;
    let size = sys::fstat(fd)?.st_size as u64;
    if size <= offset {
        return Err(Errno::FAULT);
    }
    let protection =
        if write.is_some() { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
    // SAFETY: a new mapping where the kernel likes.
    let page =
        unsafe { mm::mmap(std::ptr::null_mut(), PAGE, protection, MapFlags::SHARED, fd, offset) }?;
    // SAFETY: one page is mapped there, and the file reaches into it.
    let bytes = unsafe { std::slice::from_raw_parts_mut(page.cast::<u8>(), PAGE) };
    let there = (size - offset).min(PAGE as u64) as usize;
    let told = brief(&bytes[..there]);
    if let Some(byte) = write {
        bytes[there / 2..there].fill(byte);
        // SAFETY: mapped above.
        unsafe { mm::msync(page, PAGE, MsyncFlags::SYNC) }?;
    }
    // SAFETY: mapped above, and not used any more.
    unsafe { mm::munmap(page, PAGE) }?;
    Ok(told)
}

pub(super) fn times(second: i64) -> Timestamps {
    let time = Timespec { tv_sec: second, tv_nsec: 123_456_789 };
    Timestamps { last_access: time, last_modification: time }
}

/// Bytes as runs of the same value.
pub(super) fn brief(bytes: &[u8]) -> String {
    let mut text = format!("{} bytes:", bytes.len());
    for run in bytes.chunk_by(|a, b| a == b) {
        let _ = write!(text, " {}×{:?}", run.len(), char::from(run[0]));
    }
    text
}

pub(super) fn describe(stat: &Stat) -> String {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mut text = format!(
        "{kind:?} {:o} links {} owner {}:{}",
        stat.st_mode & 0o7777,
        stat.st_nlink,
        stat.st_uid,
        stat.st_gid
    );
    if kind != FileType::Directory {
        let _ = write!(text, " size {}", stat.st_size);
    }
    // Times that were set are long ago. What goes through a fifo sets them only in the guest.
    if stat.st_mtime < 1_000_000 && kind != FileType::Fifo {
        let _ = write!(text, " time {}.{}", stat.st_mtime, stat.st_mtime_nsec);
    }
    text
}

pub(super) fn list(fd: BorrowedFd<'_>) -> Told {
    let mut space = [MaybeUninit::uninit(); 8192];
    let mut dir = RawDir::new(fd, &mut space);
    let mut names = Vec::new();
    while let Some(entry) = dir.next() {
        let entry = entry?;
        names.push(format!("{} {:?}", entry.file_name().to_string_lossy(), entry.file_type()));
    }
    names.sort();
    Ok(names.join(", "))
}

pub(super) fn xattrs(path: &Path) -> Told {
    let mut buffer = vec![0; 4096];
    let got = sys::llistxattr(path, buffer.as_mut_slice())?;
    let mut names: Vec<_> =
        buffer[..got].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    names.sort();
    Ok(names.join(" "))
}

/// The beginning and the end of a file.
pub(super) fn contents(fd: &OwnedFd) -> Told {
    const START: u64 = 200_000;
    let read = |from: u64, size: usize| {
        let mut buffer = vec![0; size];
        let mut got = 0;
        while got < size {
            match io::pread(fd, &mut buffer[got..], from + got as u64)? {
                0 => break,
                more => got += more,
            }
        }
        Ok::<_, Errno>(brief(&buffer[..got]))
    };
    let mut text = read(0, START as usize)?;
    let size = sys::fstat(fd)?.st_size as u64;
    if size > START {
        text += " … ";
        text += &read(size.saturating_sub(80_000).max(START), 90_000)?;
    }
    Ok(text)
}

/// Everything below a folder, by path. With `probe` also every name that is not listed, for a guest
/// may still know it for a moment.
pub(super) fn tree(root: &Path, probe: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    grow(root, "", probe, &mut found, &mut inodes);
    found
}

pub(super) fn grow(
    dir: &Path,
    prefix: &str,
    probe: bool,
    found: &mut BTreeMap<String, String>,
    inodes: &mut BTreeMap<u64, String>,
) {
    let told = |result: Told| result.unwrap_or_else(|errno| format!("{errno:?}"));
    let mut names: Vec<_> = match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
        Err(error) => {
            found.insert(format!("{prefix}/"), error.to_string());
            return;
        }
    };
    names.sort();
    for name in NAMES.iter().filter(|_| probe) {
        if names.iter().all(|listed| listed != name) && sys::lstat(dir.join(name)).is_ok() {
            found.insert(format!("{prefix}/{name}"), "not listed".to_owned());
        }
    }
    for name in names {
        let path = dir.join(&name);
        let key = format!("{prefix}/{}", name.to_string_lossy());
        let stat = match sys::lstat(&path) {
            Ok(stat) => stat,
            Err(errno) => {
                found.insert(key, format!("{errno:?}"));
                continue;
            }
        };
        let mut text = describe(&stat);
        let first = inodes.entry(stat.st_ino).or_insert_with(|| key.clone());
        let _ = write!(text, " object {first}, attributes {}", told(attributes(&path)));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let file = sys::open(&path, OFlags::CLOEXEC, Mode::empty());
                text += " ";
                text += &told(file.and_then(|file| contents(&file)));
            }
            FileType::Symlink => {
                text += " → ";
                text += &told(
                    sys::readlinkat(CWD, &path, Vec::new())
                        .map(|target| target.to_string_lossy().into_owned()),
                );
            }
            FileType::Directory => grow(&path, &key, probe, found, inodes),
            _ => {}
        }
        found.insert(key, text);
    }
}

pub(super) fn attributes(path: &Path) -> Told {
    let names = xattrs(path)?;
    let mut text = String::new();
    for name in names.split_whitespace() {
        let mut buffer = vec![0; 70_000];
        let got = sys::lgetxattr(path, name, buffer.as_mut_slice())?;
        let _ = write!(text, "{name}={} ", brief(&buffer[..got]));
    }
    Ok(text)
}
