//! One shared directory: its settings, its root, and how its objects appear to guests.

use crate::counters::ExportCounters;
use crate::error::Error;
use crate::node::Identity;
use crate::os::{self, Object, Stat};
use crate::ownership::{Record, record};
use crate::scratch;
use parking_lot::{Mutex, RwLock};
use protocol::{Attr, Consistency, Errno, ExportName, OwnershipMode, Validity, XattrFlags, mode};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to share and how.
#[derive(Clone, Debug)]
pub struct ExportConfig {
    /// The name that agents ask for.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// Whether guests may only read.
    pub read_only: bool,
    /// How owners appear; by default `host` for a server that is root, `map` for any other.
    pub ownership: Option<OwnershipMode>,
    /// What is promised about freshness.
    pub consistency: Consistency,
    /// With mapped owners, to whom an object without a record appears to belong.
    pub uid: u32,
    /// And to which group.
    pub gid: u32,
    /// Whether guests' locks are taken on the host as well.
    pub host_locks: bool,
}

/// An opened export.
#[derive(Debug)]
pub(crate) struct Export {
    pub config: ExportConfig,
    pub ownership: OwnershipMode,
    root: RwLock<Root>,
    /// Whether birth times tell objects on the root's device apart.
    births: bool,
    /// Devices other than the root's, each in the place that its inode numbers are marked with.
    devices: Mutex<Vec<(u16, u64)>>,
    pub counters: ExportCounters,
}

/// The folder as it was found last.
#[derive(Debug)]
struct Root {
    fd: Arc<OwnedFd>,
    identity: Identity,
}

impl Root {
    fn open(path: &Path) -> Result<Self, Errno> {
        let fd = os::open_root(path)?;
        let stat = os::stat(fd.as_fd())?;
        // An anchor needs no permission to read; find out now rather than at the first listing.
        os::open_dir(fd.as_fd())?;
        let identity = Identity { dev: stat.dev, ino: stat.ino, birth: 0 };
        Ok(Self { fd: Arc::new(fd), identity })
    }
}

/// How many places there are for marks of other devices.
const MARKS: u64 = 1 << 15;

impl Export {
    pub fn open(config: ExportConfig) -> Result<Self, Error> {
        if ExportName::new(config.name.as_bytes()).is_err() {
            return Err(Error::ExportName(config.name));
        }
        let default = if os::is_privileged() { OwnershipMode::Host } else { OwnershipMode::Map };
        let ownership = config.ownership.unwrap_or(default);
        if ownership == OwnershipMode::Host && !os::is_privileged() {
            return Err(Error::NeedsRoot(config.name));
        }
        let folder = |errno| Error::Folder { path: config.path.clone(), errno };
        let root = Root::open(&config.path).map_err(folder)?;
        let births = os::birth_is_identity(root.fd.as_fd());
        Ok(Self {
            config,
            ownership,
            root: RwLock::new(root),
            births,
            devices: Mutex::default(),
            counters: ExportCounters::default(),
        })
    }

    /// An anchor of the folder.
    pub fn root(&self) -> Arc<OwnedFd> {
        self.root.read().fd.clone()
    }

    /// What the folder is.
    pub fn root_identity(&self) -> Identity {
        self.root.read().identity
    }

    /// Takes the folder that stands at its path now, which may be another than before.
    ///
    /// # Errors
    /// There is none, or it cannot be used. The one before remains.
    pub fn reopen(&self) -> Result<(), Errno> {
        let found = Root::open(&self.config.path)?;
        let mut root = self.root.write();
        if root.identity != found.identity {
            *root = found;
        }
        Ok(())
    }

    /// Whether owners are mapped.
    pub fn maps(&self) -> bool {
        self.ownership == OwnershipMode::Map
    }

    /// What makes an object with this state the same.
    pub fn identity(&self, stat: &Stat) -> Identity {
        let (dev, ino) = (stat.dev, stat.ino);
        let root = self.root_identity();
        if (dev, ino) == root.key() {
            return root;
        }
        let known = self.births && dev == root.dev;
        let nanos =
            || (stat.btime.sec as u64).wrapping_mul(1_000_000_000) + u64::from(stat.btime.nsec);
        Identity { dev, ino, birth: if known { nanos() } else { 0 } }
    }

    /// The inode number to show: the host's own on the root's device; on others marked with the
    /// device, so that it clashes with none.
    pub fn ino(&self, dev: u64, ino: u64) -> u64 {
        if dev == self.root_identity().dev {
            return ino;
        }
        let mut devices = self.devices.lock();
        let mark = devices.iter().find(|(_, known)| *known == dev).map(|(mark, _)| *mark);
        let mark = mark.unwrap_or_else(|| {
            // The place follows from the device, so it is most likely the same after a restart.
            let mut mark = (dev.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) % MARKS;
            while devices.iter().any(|(taken, _)| u64::from(*taken) == mark)
                && devices.len() < MARKS as usize
            {
                mark = (mark + 1) % MARKS;
            }
            devices.push((mark as u16, dev));
            mark as u16
        });
        ino ^ (1 << 63) ^ (u64::from(mark) << 48)
    }

    /// Attributes for guests.
    pub fn attr(&self, stat: &Stat, record: Option<&Record>) -> Attr {
        let (mode, uid, gid, rdev) = match record {
            _ if !self.maps() => (stat.mode, stat.uid, stat.gid, stat.rdev),
            Some(record) => (record.mode(stat), record.uid, record.gid, record.rdev),
            None => (stat.mode & !0o6000, self.config.uid, self.config.gid, stat.rdev),
        };
        Attr {
            ino: self.ino(stat.dev, stat.ino),
            size: stat.size,
            blocks: stat.blocks,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            btime: stat.btime,
            mode,
            nlink: stat.nlink,
            uid,
            gid,
            rdev,
            blksize: stat.blksize,
        }
    }

    /// The record of the object with this name and state.
    pub fn record_at(&self, dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Option<Record> {
        if !self.may_have_record(stat) {
            return None;
        }
        scratch::with(|value| {
            os::get_xattr_at(dir, name, record::NAME, value).ok()?;
            Record::decode(value).filter(|record| record.fits(stat))
        })
    }

    /// The record of an object with this state.
    pub fn record(&self, fd: BorrowedFd<'_>, stat: &Stat) -> Option<Record> {
        if !self.may_have_record(stat) {
            return None;
        }
        let object = Object { fd, kind: stat.mode & mode::IFMT, place: None };
        scratch::with(|value| {
            os::get_xattr(object, record::NAME, value).ok()?;
            Record::decode(value).filter(|record| record.fits(stat))
        })
    }

    fn may_have_record(&self, stat: &Stat) -> bool {
        self.maps() && matches!(stat.mode & mode::IFMT, mode::IFREG | mode::IFDIR)
    }

    /// Writes a record. `EOPNOTSUPP` on what cannot carry one.
    pub fn write_record(&self, fd: BorrowedFd<'_>, stat: &Stat, new: &Record) -> Result<(), Errno> {
        if !self.may_have_record(stat) {
            return Err(Errno::EOPNOTSUPP);
        }
        let object = Object { fd, kind: stat.mode & mode::IFMT, place: None };
        os::set_xattr(object, record::NAME, new.encode().as_bytes(), XattrFlags::empty())
    }

    /// For how long guests may believe what they are told of an entry: the one place where that is
    /// decided. `leased` says whether its directory is watched in good health. A file with several
    /// names may be changed by one where nobody watches.
    pub fn validity(&self, leased: bool, attr: Option<&Attr>) -> Validity {
        let (entry, attributes) = match self.config.consistency {
            Consistency::Consistent => return Validity::NONE,
            Consistency::Cached | Consistency::Delegated if !leased => (SHORT_MS, SHORT_MS),
            _ if attr.is_some_and(|attr| attr.is_dir() || attr.nlink == 1) => {
                (Validity::LEASED, Validity::LEASED)
            }
            _ => (Validity::LEASED, SHORT_MS),
        };
        Validity { entry_ms: entry, attr_ms: attributes }
    }
}

/// Validity without a lease.
const SHORT_MS: u32 = 1000;
