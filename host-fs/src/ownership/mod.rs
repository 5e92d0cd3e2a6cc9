//! Who may do what to an object whose owners are recorded (`--ownership map`).
//!
//! Pure rules, those of POSIX, for a caller of the guest. An object without a record obeys the
//! host's rules for the user who runs the server, by the mere attempt.

pub mod record;

use protocol::{AccessMask, Caller, Errno, mode};
pub use record::Record;

/// Whether the caller is the guest's superuser.
pub fn is_root(caller: &Caller<'_>) -> bool {
    caller.uid == 0
}

/// Whether the caller belongs to a group.
pub fn in_group(caller: &Caller<'_>, gid: u32) -> bool {
    caller.gid == gid || caller.groups.iter().any(|group| group == gid)
}

/// Whether the caller may read, write, execute. `EACCES` if not.
pub fn access(
    caller: &Caller<'_>,
    uid: u32,
    gid: u32,
    mode: u32,
    wanted: AccessMask,
) -> Result<(), Errno> {
    if is_root(caller) {
        let executable = mode & mode::IFMT == mode::IFDIR || mode & 0o111 != 0;
        let refused = wanted.contains(AccessMask::EXEC) && !executable;
        return if refused { Err(Errno::EACCES) } else { Ok(()) };
    }
    let bits = if caller.uid == uid {
        mode >> 6
    } else if in_group(caller, gid) {
        mode >> 3
    } else {
        mode
    };
    if wanted.bits() & !bits & 0o7 == 0 { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether the caller may remove or rename an entry of a directory with the sticky bit.
pub fn may_remove(
    caller: &Caller<'_>,
    dir_mode: u32,
    dir_uid: u32,
    entry_uid: u32,
) -> Result<(), Errno> {
    let sticky = dir_mode & 0o1000 != 0;
    let owner = caller.uid == dir_uid || caller.uid == entry_uid;
    if sticky && !owner && !is_root(caller) { Err(Errno::EPERM) } else { Ok(()) }
}

/// Whether the caller may give an object to `uid` and `gid`.
pub fn may_chown(
    caller: &Caller<'_>,
    (old_uid, old_gid): (u32, u32),
    uid: Option<u32>,
    gid: Option<u32>,
) -> Result<(), Errno> {
    let keeps_owner = uid.is_none_or(|uid| uid == old_uid);
    let own_group = gid.is_none_or(|gid| gid == old_gid || in_group(caller, gid));
    let allowed = is_root(caller) || (caller.uid == old_uid && keeps_owner && own_group);
    if allowed { Ok(()) } else { Err(Errno::EPERM) }
}

/// The permissions after a chown: set-id bits go, of anything but directories.
pub fn mode_after_chown(mode: u32) -> u32 {
    if mode & mode::IFMT == mode::IFDIR {
        return mode;
    }
    // Without group execution the bit marks mandatory locking and stays.
    let group = if mode & 0o010 == 0 { 0 } else { 0o2000 };
    mode & !(0o4000 | group)
}

/// The permissions that a chmod by this caller sets: who is not in the group sets no group id.
pub fn mode_for_chmod(caller: &Caller<'_>, gid: u32, bits: u32) -> u32 {
    if is_root(caller) || in_group(caller, gid) { bits } else { bits & !0o2000 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Groups;

    fn caller(uid: u32, gid: u32, groups: &[u8]) -> Caller<'_> {
        let groups = Groups::from_bytes(groups).unwrap_or_default();
        Caller { uid, gid, pid: 1, groups, processor: None }
    }

    #[test]
    fn the_first_class_that_matches_decides() {
        let groups = 30u32.to_le_bytes();
        // uid, gid, mode, wanted, allowed; the caller is 10:20 and in group 30
        let cases = [
            (10, 99, 0o100_400, AccessMask::READ, true),
            (10, 20, 0o100_077, AccessMask::READ, false),
            (11, 20, 0o100_040, AccessMask::READ, true),
            (11, 30, 0o100_040, AccessMask::READ, true),
            (11, 30, 0o100_407, AccessMask::READ, false),
            (11, 99, 0o100_004, AccessMask::READ, true),
            (11, 99, 0o100_004, AccessMask::READ | AccessMask::WRITE, false),
        ];
        for (uid, gid, mode, wanted, allowed) in cases {
            let got = access(&caller(10, 20, &groups), uid, gid, mode, wanted).is_ok();
            assert_eq!(got, allowed, "{uid}:{gid} {mode:o} {wanted:?}");
        }
    }

    #[test]
    fn root_may_all_but_execute_what_nobody_can() {
        let root = caller(0, 0, &[]);
        assert!(access(&root, 1, 1, 0o100_000, AccessMask::WRITE).is_ok());
        assert_eq!(access(&root, 1, 1, 0o100_644, AccessMask::EXEC), Err(Errno::EACCES));
        assert!(access(&root, 1, 1, 0o040_000, AccessMask::EXEC).is_ok());
    }

    #[test]
    fn a_sticky_directory_protects_the_entries_of_others() {
        let other = caller(10, 10, &[]);
        assert_eq!(may_remove(&other, 0o1777, 0, 11), Err(Errno::EPERM));
        assert!(may_remove(&other, 0o1777, 0, 10).is_ok());
        assert!(may_remove(&other, 0o1777, 10, 11).is_ok());
        assert!(may_remove(&other, 0o777, 0, 11).is_ok());
    }

    #[test]
    fn only_root_gives_files_away_and_owners_choose_among_their_groups() {
        let groups = 30u32.to_le_bytes();
        let owner = caller(10, 20, &groups);
        assert!(may_chown(&owner, (10, 20), None, Some(30)).is_ok());
        assert!(may_chown(&owner, (10, 20), Some(10), Some(20)).is_ok());
        assert_eq!(may_chown(&owner, (10, 20), Some(11), None), Err(Errno::EPERM));
        assert_eq!(may_chown(&owner, (10, 20), None, Some(31)), Err(Errno::EPERM));
        assert_eq!(may_chown(&owner, (11, 20), None, Some(30)), Err(Errno::EPERM));
        assert!(may_chown(&caller(0, 0, &[]), (11, 20), Some(5), Some(5)).is_ok());
    }

    #[test]
    fn set_id_bits_end_with_a_change_of_owner() {
        assert_eq!(mode_after_chown(0o106_755), 0o100_755);
        assert_eq!(mode_after_chown(0o106_745), 0o102_745);
        assert_eq!(mode_after_chown(0o042_755), 0o042_755);
    }
}
