//! What `getattrlistbulk(2)` writes: for each entry the attributes asked for, packed.
//!
//! ```text
//! 0   length of the record            u32   a multiple of 8
//! 4   attributes that it really has   5×u32 common, volume, directory, file, fork
//! 24  error of this entry             u32   if returned; then little else follows
//!     name                            i32,u32  offset from this field, length with its NUL
//!     type                            u32
//!     file id                         u64
//!     the name's bytes
//! ```
//! After the two at the top, attributes stand in the order of their bits.

use super::number::entry_kind;

/// `ATTR_CMN_RETURNED_ATTRS` and so on, <sys/attr.h>.
pub const RETURNED: u32 = 0x8000_0000;
/// The entry's error.
pub const ERROR: u32 = 0x2000_0000;
/// Its name.
pub const NAME: u32 = 0x0000_0001;
/// Its type.
pub const OBJTYPE: u32 = 0x0000_0008;
/// Its inode number.
pub const FILEID: u32 = 0x0200_0000;

/// Where the first attribute behind the set of returned ones stands.
const BODY: usize = 24;

/// One entry of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// File id; 0 where the file system gave none.
    pub ino: u64,
    /// `DT_*`.
    pub kind: u8,
    /// Name.
    pub name: &'a [u8],
}

/// Reads the record at the start of `bytes`; returns it with the rest. None if it is malformed.
pub fn next(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let length = word(bytes, 0)? as usize;
    let (record, rest) = bytes.split_at_checked(length)?;
    let has = word(record, 4)?;
    let mut at = BODY;
    if has & ERROR != 0 {
        at += 4;
    }
    let mut name: &[u8] = &[];
    if has & NAME != 0 {
        let start = at.checked_add_signed(word(record, at)? as i32 as isize)?;
        let end = start.checked_add(word(record, at + 4)? as usize)?;
        name = record.get(start..end)?;
        name = name.split(|b| *b == 0).next()?;
        at += 8;
    }
    let mut kind = 0;
    if has & OBJTYPE != 0 {
        kind = entry_kind(word(record, at)?);
        at += 4;
    }
    let mut ino = 0;
    if has & FILEID != 0 {
        ino = u64::from_ne_bytes(*record.get(at..)?.first_chunk()?);
    }
    Some((Record { ino, kind, name }, rest))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(has: u32, error: Option<u32>, name: &[u8], kind: u32, ino: u64) -> Vec<u8> {
        let mut record = vec![0; 4];
        for word in [has, 0, 0, 0, 0] {
            record.extend_from_slice(&word.to_ne_bytes());
        }
        if let Some(error) = error {
            record.extend_from_slice(&error.to_ne_bytes());
        }
        let behind =
            8 + if has & OBJTYPE != 0 { 4 } else { 0 } + if has & FILEID != 0 { 8 } else { 0 };
        record.extend_from_slice(&(behind as u32).to_ne_bytes());
        record.extend_from_slice(&(name.len() as u32 + 1).to_ne_bytes());
        if has & OBJTYPE != 0 {
            record.extend_from_slice(&kind.to_ne_bytes());
        }
        if has & FILEID != 0 {
            record.extend_from_slice(&ino.to_ne_bytes());
        }
        record.extend_from_slice(name);
        record.push(0);
        record.resize(record.len().next_multiple_of(8), 0);
        let length = (record.len() as u32).to_ne_bytes();
        record[..4].copy_from_slice(&length);
        record
    }

    const ALL: u32 = RETURNED | NAME | OBJTYPE | FILEID;

    #[test]
    fn records_are_read_one_after_another() {
        let mut bytes = packed(ALL, None, b"file", 1, 42);
        bytes.extend(packed(ALL, None, b"a longer name than that", 2, u64::MAX));
        let (first, rest) = next(&bytes).unwrap();
        assert_eq!(first, Record { ino: 42, kind: 8, name: b"file" });
        let (second, rest) = next(rest).unwrap();
        assert_eq!(second, Record { ino: u64::MAX, kind: 4, name: b"a longer name than that" });
        assert!(rest.is_empty());
    }

    #[test]
    fn an_entry_with_an_error_still_has_its_name() {
        let bytes = packed(RETURNED | ERROR | NAME, Some(13), b"locked", 0, 0);
        assert_eq!(next(&bytes).unwrap().0, Record { ino: 0, kind: 0, name: b"locked" });
    }

    #[test]
    fn an_attribute_that_is_missing_takes_no_room() {
        let bytes = packed(RETURNED | NAME | FILEID, None, b"x", 0, 7);
        assert_eq!(next(&bytes).unwrap().0, Record { ino: 7, kind: 0, name: b"x" });
    }

    #[test]
    fn a_cut_record_is_malformed_at_every_length() {
        let bytes = packed(ALL, None, b"name", 1, 1);
        for length in 0..bytes.len() {
            assert_eq!(next(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_name_outside_its_record_is_malformed() {
        let mut bytes = packed(ALL, None, b"name", 1, 1);
        bytes[BODY..BODY + 4].copy_from_slice(&1000u32.to_ne_bytes());
        assert_eq!(next(&bytes), None);
        bytes[BODY..BODY + 4].copy_from_slice(&(-1000i32).to_ne_bytes());
        assert_eq!(next(&bytes), None);
    }
}
