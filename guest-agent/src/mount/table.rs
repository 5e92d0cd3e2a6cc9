//! `/proc/self/mountinfo`: what is mounted where, without touching any of it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Device number, as `st_dev`.
    pub device: u64,
    /// Where.
    pub point: PathBuf,
    /// File system type.
    pub kind: String,
    /// What is mounted.
    pub source: String,
}

impl Entry {
    /// Whether it is a mount of osxfs, alive or not.
    pub fn is_ours(&self) -> bool {
        self.kind == super::FS_TYPE
    }
}

/// All mounts of this process's namespace, in the order in which they were made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table(Vec<Entry>);

impl Table {
    /// All of them.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The topmost mount on exactly this path.
    pub fn find(&self, point: &Path) -> Option<&Entry> {
        self.0.iter().rev().find(|entry| entry.point == point)
    }

    /// Whether a file system is mounted anywhere.
    pub fn has_device(&self, device: u64) -> bool {
        self.0.iter().any(|entry| entry.device == device)
    }
}

/// Reads the table.
///
/// # Errors
/// Those of reading the file.
pub fn read() -> io::Result<Table> {
    std::fs::read("/proc/self/mountinfo").map(|text| parse(&text))
}

/// Lines look like this (proc_pid_mountinfo(5)); there may be any number of fields before the `-`:
/// `36 35 98:0 /mnt1 /mnt/parent rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(text: &[u8]) -> Table {
    let line = |line: &[u8]| -> Option<Entry> {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = std::str::from_utf8(fields.nth(2)?).ok()?;
        let (major, minor) = device.split_once(':')?;
        let device = rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?);
        let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
        fields.find(|field| *field == b"-")?;
        let kind = String::from_utf8_lossy(fields.next()?).into_owned();
        let source = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
        Some(Entry { device, point, kind, source })
    };
    Table(text.split(|byte| *byte == b'\n').filter_map(line).collect())
}

/// Blanks, tabs, newlines and backslashes stand as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.first_chunk::<3>().filter(|digits| {
            *first == b'\\' && digits.iter().all(|digit| matches!(digit, b'0'..=b'7'))
        });
        match octal {
            Some(digits) => {
                let value =
                    digits.iter().fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                out.push(value as u8);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_on_a_path_is_found_whatever_its_name() {
        let table = parse(
            b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
              36 22 0:45 / /mnt/a\\040b rw shared:7 master:2 - tmpfs none rw\n\
              37 36 0:46 / /mnt/a\\040b rw - fuse.osxfs my\\134data rw,user_id=0\n\
              broken\n",
        );
        let entry = table.find(Path::new("/mnt/a b")).unwrap();
        assert!(entry.is_ours());
        assert_eq!(entry.device, rustix::fs::makedev(0, 46));
        assert_eq!(entry.source, "my\\data");
        assert_eq!(table.find(Path::new("/mnt")), None);
        assert!(!table.find(Path::new("/")).unwrap().is_ours());
    }

    #[test]
    fn the_table_of_this_machine_has_a_root() {
        assert!(read().unwrap().find(Path::new("/")).is_some());
    }
}
