//! Which extended attributes a Linux guest can have on a macOS host.
//!
//! Names of the `user.` namespace are stored as they are. Nothing else crosses:
//!
//! - `com.apple.*` and other names without a Linux namespace belong to the host (quarantine, Finder
//!   information, resource forks). A guest that saw them could not set them on any Linux file
//!   system, so that every `cp -a` out of the mount would complain; and it could take a quarantine
//!   away. They are hidden, cannot be changed, and stay with the file.
//! - `security.*`, `trusted.*` and `system.*` (POSIX ACLs) have no meaning here that the host would
//!   honour: `EOPNOTSUPP`.

use protocol::Errno;

/// Longest name (`XATTR_MAXNAMELEN` of <sys/xattr.h>).
const MAX_NAME: usize = 127;

const NAMESPACE: &[u8] = b"user.";

/// Checks a name to be read or removed.
pub fn check(name: &[u8]) -> Result<(), Errno> {
    match name.strip_prefix(NAMESPACE) {
        None => Err(Errno::EOPNOTSUPP),
        Some([]) => Err(Errno::EINVAL),
        // Too long to exist.
        Some(_) if name.len() > MAX_NAME => Err(Errno::ENODATA),
        Some(_) => Ok(()),
    }
}

/// Checks a name to be set.
pub fn check_new(name: &[u8]) -> Result<(), Errno> {
    check(name).map_err(|errno| if errno == Errno::ENODATA { Errno::ERANGE } else { errno })
}

/// Keeps those of a list of names, each with a NUL behind it, that a guest can see.
pub fn retain_visible(names: &mut Vec<u8>) {
    let mut kept = 0;
    let mut at = 0;
    while at < names.len() {
        let end = names[at..].iter().position(|b| *b == 0).map_or(names.len(), |n| at + n + 1);
        if names[at..end].starts_with(NAMESPACE) {
            names.copy_within(at..end, kept);
            kept += end - at;
        }
        at = end;
    }
    names.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_namespace_crosses() {
        assert_eq!(check(b"user.osxfs.stat"), Ok(()));
        let foreign = [
            b"com.apple.quarantine".as_slice(),
            b"security.capability",
            b"trusted.overlay.opaque",
            b"system.posix_acl_access",
            b"system.posix_acl_default",
            b"userX",
            b"",
        ];
        for name in foreign {
            assert_eq!(check(name), Err(Errno::EOPNOTSUPP), "{name:?}");
            assert_eq!(check_new(name), Err(Errno::EOPNOTSUPP), "{name:?}");
        }
        assert_eq!(check(b"user."), Err(Errno::EINVAL));
    }

    #[test]
    fn a_name_longer_than_the_host_keeps_does_not_exist_and_cannot_be_set() {
        let longest = [b"user.".as_slice(), &[b'n'; 122]].concat();
        let longer = [longest.as_slice(), b"n"].concat();
        assert_eq!((check(&longest), check_new(&longest)), (Ok(()), Ok(())));
        assert_eq!(check(&longer), Err(Errno::ENODATA));
        assert_eq!(check_new(&longer), Err(Errno::ERANGE));
    }

    #[test]
    fn foreign_names_are_hidden_from_a_list() {
        let mut names = b"com.apple.FinderInfo\0user.a\0security.x\0user.bcd\0".to_vec();
        retain_visible(&mut names);
        assert_eq!(names, b"user.a\0user.bcd\0");
        let mut none = b"com.apple.provenance\0".to_vec();
        retain_visible(&mut none);
        assert!(none.is_empty());
    }
}
