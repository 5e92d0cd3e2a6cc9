//! The record of an object's owners in `user.osxfs.stat`.
//!
//! Text, so that people can read it (`getfattr`) and write it: six fields divided by single spaces.
//! ```text
//! 1 1000 1000 104755 0 755
//! | |    |    |      | `-- permissions that the host object was given with the record, octal
//! | |    |    |      `---- device number (new_encode_dev), decimal
//! | |    |    `----------- type and permissions for the guest, octal
//! | |    `---------------- group, decimal
//! | `--------------------- owner, decimal
//! `----------------------- version of the format
//! ```
//! If the host object's permissions differ from the last field, somebody has changed them on the
//! host since, and the host is right about the nine low bits. A record that cannot be read is
//! treated as none.

use crate::os::Stat;
use protocol::mode;

/// Its name.
pub const NAME: &[u8] = b"user.osxfs.stat";
const VERSION: &str = "1";
/// The permissions that a host object may really have.
const HELD: u32 = 0o777;

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Type and permissions.
    pub mode: u32,
    /// Device number in the encoding of FUSE.
    pub rdev: u32,
    /// Permissions that the host object was given.
    pub held: u32,
}

impl Record {
    /// The attribute's value.
    pub fn encode(&self) -> String {
        let Self { uid, gid, mode, rdev, held } = self;
        format!("{VERSION} {uid} {gid} {mode:o} {rdev} {held:o}")
    }

    /// Reads a value. None for anything else than the format above.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut fields = text.split(' ');
        if fields.next()? != VERSION {
            return None;
        }
        let mut number = |radix| {
            let field = fields.next()?;
            let digits = field.bytes().all(|b| b.is_ascii_digit());
            if digits { u32::from_str_radix(field, radix).ok() } else { None }
        };
        let record = Self {
            uid: number(10)?,
            gid: number(10)?,
            mode: number(8)?,
            rdev: number(10)?,
            held: number(8)?,
        };
        let known =
            record.mode & !(mode::IFMT | mode::PERMISSIONS) == 0 && record.held & !HELD == 0;
        (known && fields.next().is_none()).then_some(record)
    }

    /// Whether a record may stand on such an object: everything but directories and symbolic links
    /// is kept as a regular file.
    pub fn fits(&self, stat: &Stat) -> bool {
        match stat.mode & mode::IFMT {
            mode::IFDIR => self.mode & mode::IFMT == mode::IFDIR,
            mode::IFREG => !matches!(self.mode & mode::IFMT, mode::IFDIR | mode::IFLNK | 0),
            _ => false,
        }
    }

    /// The mode that the guest sees, with what was done on the host since.
    pub fn mode(&self, stat: &Stat) -> u32 {
        let host = stat.mode & HELD;
        if host == self.held { self.mode } else { self.mode & !HELD | host }
    }

    /// The permissions to give the host object: never set-id, and never less than what lets the
    /// server do what the record allows.
    pub fn to_hold(bits: u32, kind: u32) -> u32 {
        let least = if kind == mode::IFDIR { 0o700 } else { 0o600 };
        bits & HELD | least
    }

    /// Whether the host object can have this mode itself, without a record.
    pub fn holds(bits: u32, kind: u32) -> bool {
        let sticky_dir = if kind == mode::IFDIR { 0o1000 } else { 0 };
        bits & mode::PERMISSIONS & !(HELD | sticky_dir) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record =
        Record { uid: 1000, gid: 4_294_967_294, mode: 0o104_755, rdev: 0, held: 0o755 };

    #[test]
    fn a_record_reads_as_it_was_written() {
        assert_eq!(RECORD.encode(), "1 1000 4294967294 104755 0 755");
        assert_eq!(Record::decode(RECORD.encode().as_bytes()), Some(RECORD));
    }

    #[test]
    fn anything_else_is_no_record() {
        let cases: [&[u8]; 11] = [
            b"",
            b"1",
            b"2 0 0 100644 0 644",
            b"1 0 0 100644 0",
            b"1 0 0 100644 0 644 ",
            b"1 0 0 100644 0 644 7",
            b"1 -1 0 100644 0 644",
            b"1 +1 0 100644 0 644",
            b"1 4294967296 0 100644 0 644",
            b"1 0 0 8 0 644",
            b"1 0 0 100644 0 1777",
        ];
        for case in cases {
            assert_eq!(Record::decode(case), None, "{}", case.escape_ascii());
        }
        assert_eq!(Record::decode(&[0xff; 20]), None);
    }

    #[test]
    fn a_record_makes_no_directory_of_a_file() {
        let on = |kind| Stat { mode: kind | 0o644, ..Stat::default() };
        let record = |kind| Record { mode: kind | 0o644, ..RECORD };
        assert!(record(mode::IFCHR).fits(&on(mode::IFREG)));
        assert!(record(mode::IFDIR).fits(&on(mode::IFDIR)));
        assert!(!record(mode::IFDIR).fits(&on(mode::IFREG)));
        assert!(!record(mode::IFLNK).fits(&on(mode::IFREG)));
        assert!(!record(mode::IFREG).fits(&on(mode::IFLNK)));
        assert!(!record(mode::IFREG).fits(&on(mode::IFCHR)));
    }

    #[test]
    fn a_chmod_on_the_host_shows_through_a_record() {
        let host = |bits| Stat { mode: mode::IFREG | bits, ..Stat::default() };
        assert_eq!(RECORD.mode(&host(0o755)), 0o104_755);
        assert_eq!(RECORD.mode(&host(0o644)), 0o104_644);
    }

    #[test]
    fn set_id_bits_are_never_held_by_the_host() {
        assert_eq!(Record::to_hold(0o6755, mode::IFREG), 0o755);
        assert_eq!(Record::to_hold(0o000, mode::IFREG), 0o600);
        assert!(!Record::holds(0o4755, mode::IFREG));
        assert!(!Record::holds(0o2755, mode::IFDIR));
        assert!(Record::holds(0o1777, mode::IFDIR));
        assert!(Record::holds(0o644, mode::IFREG));
    }
}
