//! One request of the kernel, parsed into a borrowed enum. Nothing that the device delivers makes
//! this panic: what does not parse becomes a [`Malformed`] that says how to answer it.

use super::abi::{self, opcode};
use protocol::{DecodeError, Errno, Name, Target, XattrName};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// What is read at once where the kernel reads ahead; a program's own small reads are less.
const BULK: u32 = 64 << 10;

/// How this mount's kernel encodes what depends on the flags of `FUSE_INIT`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dialect {
    /// `SETXATTR` has the longer header.
    pub setxattr_ext: bool,
}

/// A request that cannot be served, and its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// The request to answer, if it had a readable header and wants an answer.
    pub unique: Option<u64>,
    /// The answer.
    pub errno: Errno,
}

/// A parsed request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Who asks, and about which node.
    pub header: abi::InHeader,
    /// What is asked.
    pub operation: Operation<'a>,
}

/// What the kernel asks. Node ids and handles are the agent's own. Operations on one node take it
/// from the header ([`Request::node`]).
#[derive(Clone, Debug)]
pub enum Operation<'a> {
    Lookup {
        name: Name<'a>,
    },
    Forget {
        count: u64,
    },
    BatchForget {
        items: ForgetItems<'a>,
    },
    GetAttr,
    Statx,
    SetAttr {
        set: abi::SetattrIn,
    },
    ReadLink,
    SymLink {
        name: Name<'a>,
        target: Target<'a>,
    },
    MkNod {
        name: Name<'a>,
        mode: u32,
        rdev: u32,
        umask: u32,
    },
    MkDir {
        name: Name<'a>,
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: Name<'a>,
    },
    RmDir {
        name: Name<'a>,
    },
    Rename {
        name: Name<'a>,
        new_parent: u64,
        new_name: Name<'a>,
        flags: u32,
    },
    Link {
        node: u64,
        name: Name<'a>,
    },
    Open {
        flags: u32,
    },
    Create {
        name: Name<'a>,
        flags: u32,
        mode: u32,
        umask: u32,
    },
    TmpFile {
        flags: u32,
        mode: u32,
        umask: u32,
    },
    Read {
        handle: u64,
        offset: u64,
        size: u32,
    },
    Write {
        handle: u64,
        offset: u64,
        write_flags: u32,
        data: &'a [u8],
    },
    Flush {
        handle: u64,
        owner: u64,
    },
    Release {
        handle: u64,
    },
    Fsync {
        handle: u64,
        data_only: bool,
    },
    Fallocate {
        handle: u64,
        offset: u64,
        length: u64,
        mode: u32,
    },
    Lseek {
        handle: u64,
        offset: u64,
        whence: u32,
    },
    CopyFileRange {
        copy: abi::CopyFileRangeIn,
        wide: bool,
    },
    StatFs,
    SyncFs,
    Access {
        mask: u32,
    },
    OpenDir,
    ReadDir {
        handle: u64,
        offset: u64,
        size: u32,
        plus: bool,
    },
    ReleaseDir {
        handle: u64,
    },
    FsyncDir {
        handle: u64,
        data_only: bool,
    },
    SetXattr {
        name: XattrName<'a>,
        value: &'a [u8],
        flags: u32,
        kill_sgid: bool,
    },
    GetXattr {
        name: XattrName<'a>,
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: XattrName<'a>,
    },
    GetLock {
        handle: u64,
        owner: u64,
        lock: abi::FileLock,
        flock: bool,
    },
    SetLock {
        handle: u64,
        owner: u64,
        lock: abi::FileLock,
        flock: bool,
        wait: bool,
    },
    Init {
        init: abi::CompatInitIn,
        flags2: u32,
    },
    Interrupt {
        unique: u64,
    },
    Destroy,
    /// Known or unknown, not served: answered with this.
    Refused {
        errno: Errno,
    },
}

/// The nodes of a `BATCH_FORGET`.
#[derive(Clone, Copy, Debug)]
pub struct ForgetItems<'a> {
    bytes: &'a [u8],
}

impl Operation<'_> {
    /// Whether it reads so much that the kernel asks for the next before this is answered.
    pub fn is_bulk(&self) -> bool {
        matches!(self, Self::Read { size, .. } if *size >= BULK)
    }
}

impl ForgetItems<'_> {
    /// Node ids and counts.
    pub fn iter(&self) -> impl Iterator<Item = abi::ForgetOne> {
        self.bytes
            .chunks_exact(size_of::<abi::ForgetOne>())
            .filter_map(|chunk| abi::ForgetOne::read_from_bytes(chunk).ok())
    }
}

impl<'a> Request<'a> {
    /// The node in the header.
    pub fn node(&self) -> u64 {
        self.header.nodeid
    }

    /// The kernel's number of this request.
    pub fn unique(&self) -> u64 {
        self.header.unique
    }

    /// The kernel's name of the operation.
    pub fn name(&self) -> &'static str {
        opcode::name(self.header.opcode)
    }

    /// Whether the kernel waits for an answer.
    pub fn wants_answer(&self) -> bool {
        wants_answer(self.header.opcode)
    }

    /// Parses what one `read(2)` on the device gave.
    ///
    /// # Errors
    /// [`Malformed`] with the answer to give.
    pub fn parse(bytes: &'a [u8], dialect: Dialect) -> Result<Self, Malformed> {
        let Ok((header, body)) = abi::InHeader::read_from_prefix(bytes) else {
            return Err(Malformed { unique: None, errno: Errno::EIO });
        };
        let unique = wants_answer(header.opcode).then_some(header.unique);
        let malformed = |errno| Malformed { unique, errno };
        let extensions = usize::from(header.total_extlen) * 8;
        let whole = header.len as usize == bytes.len();
        match body.len().checked_sub(extensions) {
            Some(end) if whole => {
                let operation = Body(&body[..end]).operation(header.opcode, dialect);
                operation.map(|operation| Self { header, operation }).map_err(malformed)
            }
            _ => Err(malformed(Errno::EIO)),
        }
    }
}

fn wants_answer(opcode: u32) -> bool {
    !matches!(
        opcode,
        opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT | opcode::NOTIFY_REPLY
    )
}

/// What follows the header; read front to back.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn get<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Errno> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Errno::EIO)?;
        self.0 = rest;
        Ok(value)
    }

    /// Bytes up to a NUL, which is skipped.
    fn string(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|b| *b == 0).ok_or(Errno::EIO)?;
        let (string, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(string)
    }

    fn name(&mut self) -> Result<Name<'a>, Errno> {
        Name::new(self.string()?).map_err(too_long_or(Errno::ENAMETOOLONG))
    }

    fn xattr_name(&mut self) -> Result<XattrName<'a>, Errno> {
        XattrName::new(self.string()?).map_err(too_long_or(Errno::ERANGE))
    }

    fn take(&mut self, len: u32) -> Result<&'a [u8], Errno> {
        let (head, rest) = self.0.split_at_checked(len as usize).ok_or(Errno::EIO)?;
        self.0 = rest;
        Ok(head)
    }

    fn operation(&mut self, opcode: u32, dialect: Dialect) -> Result<Operation<'a>, Errno> {
        use Operation as Op;
        Ok(match opcode {
            opcode::LOOKUP => Op::Lookup { name: self.name()? },
            opcode::FORGET => Op::Forget { count: self.get::<abi::ForgetIn>()?.nlookup },
            opcode::BATCH_FORGET => {
                let count = self.get::<abi::BatchForgetIn>()?.count;
                let size = count.saturating_mul(size_of::<abi::ForgetOne>() as u32);
                Op::BatchForget { items: ForgetItems { bytes: self.take(size)? } }
            }
            // The node says it all, also for a file that is open and has no name any more.
            opcode::GETATTR => self.get::<abi::GetattrIn>().map(|_| Op::GetAttr)?,
            opcode::STATX => self.get::<abi::StatxIn>().map(|_| Op::Statx)?,
            opcode::SETATTR => Op::SetAttr { set: self.get()? },
            opcode::READLINK => Op::ReadLink,
            opcode::SYMLINK => {
                let name = self.name()?;
                let target = Target::new(self.string()?);
                Op::SymLink { name, target: target.map_err(too_long_or(Errno::ENAMETOOLONG))? }
            }
            opcode::MKNOD => {
                let abi::MknodIn { mode, rdev, umask, .. } = self.get()?;
                Op::MkNod { name: self.name()?, mode, rdev, umask }
            }
            opcode::MKDIR => {
                let abi::MkdirIn { mode, umask } = self.get()?;
                Op::MkDir { name: self.name()?, mode, umask }
            }
            opcode::UNLINK => Op::Unlink { name: self.name()? },
            opcode::RMDIR => Op::RmDir { name: self.name()? },
            opcode::RENAME => {
                let new_parent = self.get::<abi::RenameIn>()?.newdir;
                let name = self.name()?;
                Op::Rename { name, new_parent, new_name: self.name()?, flags: 0 }
            }
            opcode::RENAME2 => {
                let abi::Rename2In { newdir: new_parent, flags, .. } = self.get()?;
                let name = self.name()?;
                Op::Rename { name, new_parent, new_name: self.name()?, flags }
            }
            opcode::LINK => {
                let node = self.get::<abi::LinkIn>()?.oldnodeid;
                Op::Link { node, name: self.name()? }
            }
            opcode::OPEN => Op::Open { flags: self.get::<abi::OpenIn>()?.flags },
            opcode::CREATE => {
                let abi::CreateIn { flags, mode, umask, .. } = self.get()?;
                Op::Create { name: self.name()?, flags, mode, umask }
            }
            opcode::TMPFILE => {
                let abi::CreateIn { flags, mode, umask, .. } = self.get()?;
                Op::TmpFile { flags, mode, umask }
            }
            opcode::READ => {
                let abi::ReadIn { fh: handle, offset, size, .. } = self.get()?;
                Op::Read { handle, offset, size }
            }
            opcode::WRITE => {
                let abi::WriteIn { fh: handle, offset, size, write_flags, .. } = self.get()?;
                Op::Write { handle, offset, write_flags, data: self.take(size)? }
            }
            opcode::FLUSH => {
                let abi::FlushIn { fh: handle, lock_owner: owner, .. } = self.get()?;
                Op::Flush { handle, owner }
            }
            opcode::RELEASE => Op::Release { handle: self.get::<abi::ReleaseIn>()?.fh },
            opcode::FSYNC => {
                let (handle, data_only) = self.fsync()?;
                Op::Fsync { handle, data_only }
            }
            opcode::FSYNCDIR => {
                let (handle, data_only) = self.fsync()?;
                Op::FsyncDir { handle, data_only }
            }
            opcode::FALLOCATE => {
                let abi::FallocateIn { fh: handle, offset, length, mode, .. } = self.get()?;
                Op::Fallocate { handle, offset, length, mode }
            }
            opcode::LSEEK => {
                let abi::LseekIn { fh: handle, offset, whence, .. } = self.get()?;
                Op::Lseek { handle, offset, whence }
            }
            opcode::COPY_FILE_RANGE => Op::CopyFileRange { copy: self.get()?, wide: false },
            opcode::COPY_FILE_RANGE_64 => Op::CopyFileRange { copy: self.get()?, wide: true },
            opcode::STATFS => Op::StatFs,
            opcode::SYNCFS => Op::SyncFs,
            opcode::ACCESS => Op::Access { mask: self.get::<abi::AccessIn>()?.mask },
            opcode::OPENDIR => Op::OpenDir,
            opcode::READDIR | opcode::READDIRPLUS => {
                let abi::ReadIn { fh: handle, offset, size, .. } = self.get()?;
                Op::ReadDir { handle, offset, size, plus: opcode == opcode::READDIRPLUS }
            }
            opcode::RELEASEDIR => Op::ReleaseDir { handle: self.get::<abi::ReleaseIn>()?.fh },
            opcode::SETXATTR => {
                let (size, flags, extra) = if dialect.setxattr_ext {
                    let abi::SetxattrIn { size, flags, setxattr_flags, .. } = self.get()?;
                    (size, flags, setxattr_flags)
                } else {
                    let abi::CompatSetxattrIn { size, flags } = self.get()?;
                    (size, flags, 0)
                };
                let name = self.xattr_name()?;
                let kill_sgid = extra & abi::SETXATTR_ACL_KILL_SGID != 0;
                Op::SetXattr { name, value: self.take(size)?, flags, kill_sgid }
            }
            opcode::GETXATTR => {
                let size = self.get::<abi::GetxattrIn>()?.size;
                Op::GetXattr { name: self.xattr_name()?, size }
            }
            opcode::LISTXATTR => Op::ListXattr { size: self.get::<abi::GetxattrIn>()?.size },
            opcode::REMOVEXATTR => Op::RemoveXattr { name: self.xattr_name()? },
            opcode::GETLK => {
                let abi::LkIn { fh: handle, owner, lk: lock, lk_flags, .. } = self.get()?;
                Op::GetLock { handle, owner, lock, flock: lk_flags & abi::LK_FLOCK != 0 }
            }
            opcode::SETLK | opcode::SETLKW => {
                let abi::LkIn { fh: handle, owner, lk: lock, lk_flags, .. } = self.get()?;
                let (flock, wait) = (lk_flags & abi::LK_FLOCK != 0, opcode == opcode::SETLKW);
                Op::SetLock { handle, owner, lock, flock, wait }
            }
            opcode::INIT => {
                let init: abi::CompatInitIn = self.get()?;
                Op::Init { init, flags2: self.get::<u32>().unwrap_or(0) }
            }
            opcode::INTERRUPT => Op::Interrupt { unique: self.get::<abi::InterruptIn>()?.unique },
            opcode::DESTROY => Op::Destroy,
            opcode::IOCTL => Op::Refused { errno: Errno::ENOTTY },
            _ => Op::Refused { errno: Errno::ENOSYS },
        })
    }

    fn fsync(&mut self) -> Result<(u64, bool), Errno> {
        let abi::FsyncIn { fh, fsync_flags, .. } = self.get()?;
        Ok((fh, fsync_flags & abi::FSYNC_FDATASYNC != 0))
    }
}

fn too_long_or(too_long: Errno) -> impl Fn(DecodeError) -> Errno {
    move |error| match error {
        DecodeError::Limit { .. } => too_long,
        _ => Errno::EINVAL,
    }
}

#[cfg(test)]
mod tests;
