//! Which bytes may be a name, and which a name never is.

use crate::frames::CALLER;
use protocol::listing::Listing;
use protocol::{DecodeError, ExportName, Name, Request, Target, XattrName};

const LONG: &[u8] = &[b'n'; 256];

/// Bytes, whether a [`Name`] may hold them, and whether a [`Target`] and an [`XattrName`] may.
const CASES: &[(&[u8], bool, bool)] = &[
    (b"a", true, true),
    (b"...", true, true),
    (b".hidden", true, true),
    (b"a.", true, true),
    (b" ", true, true),
    (b"a\nb", true, true),
    (b"C:\\x", true, true),
    (b"\xff\xfe not utf-8", true, true),
    (b"\x01", true, true),
    (b"", false, false),
    (b".", false, true),
    (b"..", false, true),
    (b"/", false, true),
    (b"a/b", false, true),
    (b"../a", false, true),
    (b"a/", false, true),
    (b"\0", false, false),
    (b"a\0", false, false),
    (b"a\0b", false, false),
];

fn lookup(name: &[u8]) -> Result<(), DecodeError> {
    let body = [&[0; CALLER + 8], &(name.len() as u32).to_le_bytes()[..], name].concat();
    Request::decode(0x20, &body).map(|_| ())
}

fn listed(name: &[u8]) -> Result<(), DecodeError> {
    let fields = [&[1; 17], &(name.len() as u16).to_le_bytes()[..], name, &[0]].concat();
    Listing::new(&fields).next().expect("one entry").map(|_| ())
}

#[test]
fn only_a_single_component_is_a_name() {
    for (bytes, name, target) in CASES {
        let expected = |good: bool| if good { Ok(()) } else { Err(DecodeError::BadName) };
        assert_eq!(Name::new(bytes).map(|_| ()), expected(*name), "{bytes:?}");
        assert_eq!(lookup(bytes), expected(*name), "{bytes:?}");
        assert_eq!(ExportName::new(bytes).map(|_| ()), expected(*name), "{bytes:?}");
        assert_eq!(Target::new(bytes).map(|_| ()), expected(*target), "{bytes:?}");
        assert_eq!(XattrName::new(bytes).map(|_| ()), expected(*target), "{bytes:?}");
        let dots = matches!(*bytes, b"." | b"..");
        assert_eq!(listed(bytes), expected(*name || dots), "{bytes:?}");
    }
}

#[test]
fn a_name_has_at_most_255_bytes() {
    let too_long = Err(DecodeError::Limit { what: "name", got: 256, limit: 255 });
    assert_eq!(Name::new(LONG).map(|_| ()), too_long);
    assert_eq!(lookup(LONG), too_long);
    assert_eq!(listed(LONG), too_long);
    assert_eq!(Name::new(&LONG[1..]).map(|_| ()), Ok(()));
    assert_eq!(lookup(&LONG[1..]), Ok(()));
    assert_eq!(listed(&LONG[1..]), Ok(()));
}
