//! The record that `getattrlist` gives for a name and a file id (<sys/attr.h>):
//!
//! ```text
//! 0   u32  bytes of the record
//! 4   i32  where the name is, counted from here
//! 8   u32  bytes of the name with its NUL
//! 12  u64  file id
//! ```

use super::FileId;

/// The file id and the name.
#[cfg_attr(not(target_os = "macos"), allow(dead_code))]
pub fn parse(record: &[u8]) -> Option<(FileId, Vec<u8>)> {
    let offset = i32::from_ne_bytes(record.get(4..8)?.try_into().ok()?);
    let length = u32::from_ne_bytes(record.get(8..12)?.try_into().ok()?);
    let file = u64::from_ne_bytes(record.get(12..20)?.try_into().ok()?);
    let start = 4usize.checked_add_signed(isize::try_from(offset).ok()?)?;
    let name = record.get(start..start.checked_add(usize::try_from(length).ok()?)?)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some((FileId(file), name.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i32, length: u32, name: &[u8]) -> Vec<u8> {
        let head = [&(20 + name.len() as u32).to_ne_bytes(), &offset.to_ne_bytes()[..]].concat();
        [&head[..], &length.to_ne_bytes(), &77u64.to_ne_bytes(), name].concat()
    }

    #[test]
    fn a_record_gives_the_stored_name_and_the_file_id() {
        let whole = record(16, 5, b"Name\0pad");
        assert_eq!(parse(&whole), Some((FileId(77), b"Name".to_vec())));
    }

    #[test]
    fn a_record_that_points_outside_itself_gives_nothing() {
        for (offset, length) in [(16, 500), (-5, 2), (i32::MAX, 1), (16, u32::MAX)] {
            assert_eq!(parse(&record(offset, length, b"Name\0")), None, "{offset} {length}");
        }
        assert_eq!(parse(&[0; 19]), None);
    }
}
