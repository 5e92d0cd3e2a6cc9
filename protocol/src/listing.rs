//! Directory listings: as many entries as fit, each with or without node and attributes.
//!
//! A listing is the payload of [`Reply::Listing`](crate::Reply::Listing): encoded [`DirEntry`]s one
//! behind the other. The server fills a buffer with [`push`]; the agent iterates over a [`Listing`].
//!
//! Unlike other byte strings the name of an entry has a length of two bytes:
//! ```text
//! | cookie | ino | kind | length | name | 0            |   without node and attributes
//! | cookie | ino | kind | length | name | 1 | Entry    |   with them
//!   u64      u64   u8     u16            u8
//! ```

use crate::attr::Entry;
use crate::codec::{DecodeError, Reader, Wire};
use crate::limits::MAX_NAME;

/// One entry of a directory, `.` and `..` among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirEntry<'a> {
    /// Where to go on after this entry: the `cookie` of the next
    /// [`ReadDir`](crate::Request::ReadDir). Never zero, and opaque to the agent. It stays good as
    /// long as the handle is open, however the directory changes.
    pub cookie: u64,
    /// Inode number.
    pub ino: u64,
    /// Type as `DT_*` (linux/fs_types.h: the type bits of the mode, shifted right by 12); 0 where
    /// unknown.
    pub kind: u8,
    /// The name: unlike a [`Name`](crate::Name) it may be `.` or `..`.
    pub name: &'a [u8],
    /// Node and attributes, with one lookup to be forgotten; none for `.` and `..`, for an entry
    /// that vanished meanwhile, and where they were not asked for.
    pub entry: Option<Entry>,
}

impl<'a> Wire<'a> for DirEntry<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        self.cookie.put(out);
        self.ino.put(out);
        self.kind.put(out);
        (self.name.len() as u16).put(out);
        out.extend_from_slice(self.name);
        self.entry.put(out);
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let cookie = u64::get(from)?;
        let ino = u64::get(from)?;
        let kind = u8::get(from)?;
        let len = u16::get(from)? as usize;
        if len > MAX_NAME {
            return Err(DecodeError::Limit { what: "name", got: len, limit: MAX_NAME });
        }
        let name = from.take(len)?;
        if cookie == 0 {
            return Err(DecodeError::UnknownValue { field: "cookie", value: 0 });
        }
        if name.is_empty() || name.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(DecodeError::BadName);
        }
        Ok(Self { cookie, ino, kind, name, entry: Wire::get(from)? })
    }
}

/// Appends `entry` to `out` unless `out` would grow beyond `size`. Tells whether it did.
pub fn push(out: &mut Vec<u8>, size: usize, entry: &DirEntry<'_>) -> bool {
    let before = out.len();
    entry.put(out);
    let fits = out.len() <= size;
    if !fits {
        out.truncate(before);
    }
    fits
}

/// Iterates over an encoded listing. After an error it ends.
#[derive(Clone, Debug)]
pub struct Listing<'a>(Reader<'a>);

impl<'a> Listing<'a> {
    /// The entries of a payload.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(Reader::new(payload))
    }

    /// What has not been iterated over.
    pub fn rest(&self) -> &'a [u8] {
        self.0.clone().take_rest()
    }
}

impl<'a> Iterator for Listing<'a> {
    type Item = Result<DirEntry<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = DirEntry::get(&mut self.0);
        if entry.is_err() {
            self.0.take_rest();
        }
        Some(entry)
    }
}
