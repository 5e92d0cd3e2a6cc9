//! Cutting paths for calls that take no longer ones.

/// Longest path handed to one call (`PATH_MAX` of <sys/syslimits.h> is 1024 with its NUL).
pub const MAX_PATH: usize = 1000;

/// The name of the resource fork's directory, which the kernel knows beneath *files*. It is
/// taken literally only if the walk insists on a directory at every step.
const NAMED_FORK: &[u8] = b"..namedfork";

/// Whether every component of a relative path is a plain name.
pub fn is_plain(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').all(|name| !matches!(name, b"" | b"." | b"..") && !name.contains(&0))
}

/// The directory's path (empty for none) and the last name.
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// A piece from the front that one call can take, and the rest without its slash. One name if the
/// path has a component that must be walked to by itself, or if `singly`.
pub fn first_piece(path: &[u8], singly: bool) -> (&[u8], &[u8]) {
    let cut = if singly || path.split(|b| *b == b'/').any(|name| name == NAMED_FORK) {
        path.iter().position(|b| *b == b'/')
    } else if path.len() > MAX_PATH {
        // A single name of more than the limit is for the kernel to refuse.
        let last = path[..MAX_PATH].iter().rposition(|b| *b == b'/');
        last.or_else(|| path.iter().position(|b| *b == b'/'))
    } else {
        None
    };
    cut.map_or((path, &[]), |at| (&path[..at], &path[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(mut path: &[u8], singly: bool) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while !path.is_empty() {
            let (piece, rest) = first_piece(path, singly);
            all.push(piece.to_vec());
            path = rest;
        }
        all
    }

    #[test]
    fn only_plain_names_make_a_path() {
        for path in [b"a".as_slice(), b"a/b", b"...", b"a/..b"] {
            assert!(is_plain(path), "{path:?}");
        }
        for path in
            [b"".as_slice(), b"/a", b"a/", b"a//b", b".", b"a/..", b"../a", b"a/./b", b"a\0b"]
        {
            assert!(!is_plain(path), "{path:?}");
        }
    }

    #[test]
    fn a_short_path_is_one_piece() {
        assert_eq!(pieces(b"a/b/c", false), [b"a/b/c"]);
        assert_eq!(pieces(b"a/b", true), [b"a", b"b"]);
        assert_eq!(split_last(b"a/b/c"), (b"a/b".as_slice(), b"c".as_slice()));
        assert_eq!(split_last(b"c"), (b"".as_slice(), b"c".as_slice()));
    }

    #[test]
    fn a_long_path_is_cut_at_slashes() {
        let name = vec![b'n'; 200];
        let path = vec![name.as_slice(); 13].join(&b'/');
        let pieces = pieces(&path, false);
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_PATH));
        assert_eq!(pieces.join(&b'/'), path);
        assert_eq!(pieces.len(), 4);
    }

    #[test]
    fn a_resource_fork_is_not_reached_through_its_file() {
        let steps = [b"d".as_slice(), b"..namedfork", b"rsrc"];
        assert_eq!(pieces(b"d/..namedfork/rsrc", false), steps);
    }
}
