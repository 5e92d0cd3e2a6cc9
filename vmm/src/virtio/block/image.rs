//! A disk in a file of the host: raw, or in QEMU's format by the crate `imago`.
//!
//! The format is never guessed: a guest writes the content and would choose it. Nothing that an image
//! names (a backing file, a data file) is opened, for whoever made the image would choose a file of
//! the host. The file is locked as long as the disk is open, by both kinds of locks that programs use
//! for images.

use crate::config::{Disk, DiskFormat};
use imago::file::File as ImageFile;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, StorageOpenOptions};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// The unit of virtio-blk, whatever the block size of a disk is.
pub const SECTOR: u64 = 512;
/// What a file in QEMU's format begins with.
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// Why a disk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened.
    #[error("cannot open the disk {file:?}: {source}; {next}")]
    File {
        /// The file.
        file: PathBuf,
        /// What the host says.
        source: io::Error,
        /// What may help.
        next: &'static str,
    },
    /// It is a directory, a pipe or the like.
    #[error("the disk {file:?} is neither a file nor a block device")]
    Kind {
        /// The file.
        file: PathBuf,
    },
    /// Somebody else has it.
    #[error(
        "the disk {file:?} is in use by another VM or program; stop that, or share it with `:ro` on both sides"
    )]
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// It holds no sector.
    #[error("the disk {file:?} is empty; make one with `qemu-img create -f {format} {} 10G`", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
        /// Its format.
        format: &'static str,
    },
    /// It should be in QEMU's format and is not.
    #[error("the disk {file:?} is no qcow2 image; if it is a raw one, add `:raw`")]
    NotQcow2 {
        /// The file.
        file: PathBuf,
    },
    /// An image that stands on another one.
    #[error(
        "the disk {file:?} needs the file {needed:?}, which osxfs does not open on an image's word; make it one image with `qemu-img convert -O qcow2 {} NEW`",
        file.display()
    )]
    Depends {
        /// The file.
        file: PathBuf,
        /// What it names.
        needed: String,
    },
    /// Its structures are wrong, or of a kind we do not know.
    #[error("the qcow2 image {file:?} cannot be used: {source}; see `qemu-img check {}`", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What was found.
        source: io::Error,
    },
}

/// An open disk.
pub struct Image {
    access: FormatAccess<ImageFile>,
    read_only: bool,
    qcow2: bool,
}

impl Image {
    /// Opens and locks a disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(disk: &Disk) -> Result<Self, OpenError> {
        let name = || disk.file.clone();
        let mut file =
            OpenOptions::new().read(true).write(!disk.read_only).open(&disk.file).map_err(
                |source| {
                    let next = match source.kind() {
                        io::ErrorKind::NotFound => "make it with `qemu-img create`",
                        io::ErrorKind::PermissionDenied if !disk.read_only => {
                            "check its permissions, or add `:ro`"
                        }
                        io::ErrorKind::ReadOnlyFilesystem => "add `:ro`",
                        io::ErrorKind::IsADirectory => "give a file",
                        _ => "check its path and permissions",
                    };
                    OpenError::File { file: name(), source, next }
                },
            )?;
        let unreadable = |source| OpenError::File { file: name(), source, next: "is it readable?" };
        let kind = file.metadata().map_err(unreadable)?.file_type();
        if !kind.is_file() && !std::os::unix::fs::FileTypeExt::is_block_device(&kind) {
            return Err(OpenError::Kind { file: name() });
        }
        lock(&file, disk.read_only).map_err(|cause| match cause {
            Some(source) => OpenError::File { file: name(), source, next: "can it be locked?" },
            None => OpenError::Locked { file: name() },
        })?;

        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        let qcow2 = disk.format == DiskFormat::Qcow2;
        match (qcow2, magic == QCOW2_MAGIC) {
            (true, false) if !magic.is_empty() => return Err(OpenError::NotQcow2 { file: name() }),
            (false, true) => {
                tracing::warn!(disk = ?disk.file, "a raw disk that begins like a qcow2 image");
            }
            _ => {}
        }
        let format = if qcow2 { "qcow2" } else { "raw" };
        if magic.is_empty() {
            return Err(OpenError::Empty { file: name(), format });
        }
        let options = StorageOpenOptions::new().write(!disk.read_only);
        let storage = ImageFile::from_open_file(file, options).map_err(unreadable)?;
        let access = if qcow2 {
            open_qcow2(storage, disk)?
        } else {
            FormatAccess::new(Raw::open_image(storage, !disk.read_only).map_err(unreadable)?)
        };
        let image = Self { access, read_only: disk.read_only, qcow2 };
        if image.sectors() == 0 {
            return Err(OpenError::Empty { file: name(), format });
        }
        Ok(image)
    }

    /// Its size. A last part that is no whole sector is not seen.
    pub fn sectors(&self) -> u64 {
        self.access.size() / SECTOR
    }

    /// Whether it may only be read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The sectors that are best discarded together.
    pub fn discard_sectors(&self) -> u32 {
        // What qcow2 gives back is a cluster, by default 64 KiB; a file system of the host gives back
        // its blocks.
        if self.qcow2 { 128 } else { 8 }
    }

    /// Fills guest memory from `offset` on.
    ///
    /// # Errors
    /// The host's.
    pub fn read<B: BitmapSlice>(
        &self,
        slices: &[VolatileSlice<'_, B>],
        offset: u64,
    ) -> io::Result<()> {
        let (vector, _guard) = IoVectorMut::from_volatile_slice(slices);
        self.access.readv(vector, offset)
    }

    /// Writes guest memory from `offset` on.
    ///
    /// # Errors
    /// The host's.
    pub fn write<B: BitmapSlice>(
        &self,
        slices: &[VolatileSlice<'_, B>],
        offset: u64,
    ) -> io::Result<()> {
        let (vector, _guard) = IoVector::from_volatile_slice(slices);
        self.access.writev(vector, offset)
    }

    /// What these bytes hold is of no interest any more. A raw disk gives the room back to the host; a
    /// qcow2 image uses it again for itself.
    ///
    /// # Errors
    /// The host's; `Unsupported` if its file system cannot give anything back.
    pub fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.access.discard_to_any(offset, len)
    }

    /// These bytes read as zero, and if `unmap` need no room.
    ///
    /// # Errors
    /// The host's.
    pub fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        if unmap {
            self.access.discard_to_zero(offset, len)
        } else {
            self.access.write_zeroes(offset, len)
        }
    }

    /// Everything written so far survives a crash of the host.
    ///
    /// # Errors
    /// The host's. What was written since the last success may be lost.
    pub fn sync(&self) -> io::Result<()> {
        if self.read_only {
            return Ok(());
        }
        self.access.flush()?;
        self.access.sync()
    }
}

fn open_qcow2(storage: ImageFile, disk: &Disk) -> Result<FormatAccess<ImageFile>, OpenError> {
    let corrupt = |source| OpenError::Corrupt { file: disk.file.clone(), source };
    let mut qcow2 = Qcow2::<ImageFile>::open_image(storage, !disk.read_only).map_err(corrupt)?;
    let data_file = || qcow2.implicit_external_data_file().cloned();
    let needed = match qcow2.implicit_backing_file() {
        Some(backing) => Some(backing.clone()),
        None if qcow2.requires_external_data_file() => Some(data_file().unwrap_or_default()),
        None => None,
    };
    if let Some(needed) = needed {
        return Err(OpenError::Depends { file: disk.file.clone(), needed });
    }
    qcow2.open_implicit_dependencies_gated(DenyImplicitOpenGate::default()).map_err(corrupt)?;
    Ok(FormatAccess::new(qcow2))
}

/// Locks the whole file: against other writers, and if we write against readers, too. With no cause,
/// somebody else has it.
///
/// The lock that holds is that of `flock`, which is ours as long as the file is open. QEMU and others
/// lock records of the file instead: that is tried first, and kept where both can be had (on NFS they
/// are one, and we would be in our own way).
fn lock(file: &File, read_only: bool) -> Result<(), Option<io::Error>> {
    let record = match read_only {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    match fcntl_lock(file, record) {
        Err(Errno::AGAIN | Errno::ACCESS) => return Err(None),
        Ok(()) => _ = fcntl_lock(file, FlockOperation::NonBlockingUnlock),
        // A file system without such locks.
        Err(_) => {}
    }
    match if read_only { file.try_lock_shared() } else { file.try_lock() } {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(None),
        Err(TryLockError::Error(error)) => return Err(Some(error)),
    }
    _ = fcntl_lock(file, record);
    Ok(())
}
