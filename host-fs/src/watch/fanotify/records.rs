//! What a fanotify group writes, taken apart. Pure; the layout is that of linux/fanotify.h:
//!
//! ```text
//! event_len u32 · vers u8 · reserved u8 · metadata_len u16 · mask u64 · fd i32 · pid i32
//!   then until event_len, each:
//!   info_type u8 · pad u8 · len u16 · fsid 2×i32 · handle_bytes u32 · handle_type i32 · handle
//!                                                        · name, NUL     (the types with a name)
//! ```

/// A directory, as events name it: file system, and handle with its type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DirHandle {
    /// `f_fsid` of `statfs(2)`.
    pub fsid: [u8; 8],
    /// `handle_type` of `struct file_handle`.
    pub kind: i32,
    /// `f_handle` of it.
    pub bytes: Box<[u8]>,
}

/// What a record is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The name, or the directory itself.
    At,
    /// The old name of a rename.
    From,
    /// The new name of a rename.
    To,
}

/// One directory with a name in it; the name is empty for the directory itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// What it says.
    pub role: Role,
    /// The directory.
    pub dir: DirHandle,
    /// The name.
    pub name: &'a [u8],
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// `FAN_*`.
    pub mask: u64,
    /// The thread that did it.
    pub thread: i32,
    /// What it is about.
    pub records: Vec<Record<'a>>,
}

/// Takes the first event off. None at the end, or where the rest is no event.
pub fn next<'a>(bytes: &mut &'a [u8]) -> Option<Event<'a>> {
    const METADATA: usize = 24;
    let head = bytes.get(..METADATA)?;
    let len = u32::from_ne_bytes(*head.first_chunk()?) as usize;
    let metadata_len = usize::from(u16::from_ne_bytes(*head.get(6..)?.first_chunk()?));
    let mask = u64::from_ne_bytes(*head.get(8..)?.first_chunk()?);
    let thread = i32::from_ne_bytes(*head.get(20..)?.first_chunk()?);
    let mut rest = bytes.get(metadata_len.max(METADATA)..len)?;
    *bytes = bytes.get(len..)?;
    let mut records = Vec::new();
    while let Some(record) = record(&mut rest) {
        records.extend(record);
    }
    Some(Event { mask, thread, records })
}

/// Takes the first record off. The inner option is for one that says nothing to us.
fn record<'a>(rest: &mut &'a [u8]) -> Option<Option<Record<'a>>> {
    const HEADER: usize = 4;
    let kind = *rest.first()?;
    let len = usize::from(u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?));
    let body = rest.get(HEADER..len)?;
    *rest = rest.get(len..)?;
    let (role, named) = match kind {
        libc::FAN_EVENT_INFO_TYPE_DFID_NAME => (Role::At, true),
        libc::FAN_EVENT_INFO_TYPE_DFID | libc::FAN_EVENT_INFO_TYPE_FID => (Role::At, false),
        libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME => (Role::From, true),
        libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME => (Role::To, true),
        _ => return Some(None),
    };
    Some(directory(body, named).map(|(dir, name)| Record { role, dir, name }))
}

fn directory(body: &[u8], named: bool) -> Option<(DirHandle, &[u8])> {
    const FIXED: usize = 16;
    let fsid = *body.first_chunk()?;
    let len = u32::from_ne_bytes(*body.get(8..)?.first_chunk()?) as usize;
    let kind = i32::from_ne_bytes(*body.get(12..)?.first_chunk()?);
    let handle = body.get(FIXED..)?.get(..len)?;
    let name = if named { body.get(FIXED + len..)? } else { &[] };
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = if name == b"." { &[] } else { name };
    Some((DirHandle { fsid, kind, bytes: handle.into() }, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, 0];
        out.extend(((4 + 16 + handle.len() + name.len()) as u16).to_ne_bytes());
        out.extend([7; 8]);
        out.extend((handle.len() as u32).to_ne_bytes());
        out.extend(1i32.to_ne_bytes());
        out.extend(handle);
        out.extend(name);
        out
    }

    fn event(mask: u64, infos: &[Vec<u8>]) -> Vec<u8> {
        let infos = infos.concat();
        let mut out = ((24 + infos.len()) as u32).to_ne_bytes().to_vec();
        out.extend([3, 0, 24, 0]);
        out.extend(mask.to_ne_bytes());
        out.extend((-1i32).to_ne_bytes());
        out.extend(42i32.to_ne_bytes());
        out.extend(infos);
        out
    }

    #[test]
    fn a_rename_names_both_ends_and_the_thread() {
        let bytes = event(
            libc::FAN_RENAME,
            &[info(10, b"abcd", b"old\0\0\0"), info(12, b"efgh", b"new\0"), info(4, b"", b"")],
        );
        let mut rest = &bytes[..];
        let event = next(&mut rest).unwrap();
        assert_eq!((event.mask, event.thread), (libc::FAN_RENAME, 42));
        let said: Vec<_> = event.records.iter().map(|r| (r.role, &*r.dir.bytes, r.name)).collect();
        let expected: [(Role, &[u8], &[u8]); 2] =
            [(Role::From, b"abcd", b"old"), (Role::To, b"efgh", b"new")];
        assert_eq!(said, expected);
        assert_eq!(next(&mut rest), None);
    }

    #[test]
    fn a_dot_is_the_directory_itself() {
        let bytes = event(libc::FAN_ATTRIB, &[info(2, b"abcd", b".\0\0\0")]);
        let event = next(&mut &bytes[..]).unwrap();
        assert!(event.records[0].name.is_empty());
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while next(&mut rest).is_some() {}
        }
    }
}
