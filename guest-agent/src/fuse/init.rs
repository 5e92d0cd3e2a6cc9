//! `FUSE_INIT`: what the kernel offers and what is taken of it.

use super::abi::{self, InitFlags};
use super::device::MAX_WRITE;
use super::request::Dialect;
use super::translate::Policy;
use protocol::{Consistency, Errno, OwnershipMode};

/// Requests that the kernel may have in flight on nobody's behalf: read-ahead and write-back.
const MAX_BACKGROUND: u16 = 128;
/// Above so many the kernel calls the mount congested.
const CONGESTION: u16 = 96;
/// Largest read-ahead that is agreed to; the kernel offers less by default.
const MAX_READAHEAD: u32 = 1 << 20;
/// From Linux 6.16 on the kernel asks for as much of a listing as its reader has room for, before for a
/// page.
const LONG_LISTINGS_MINOR: u32 = 44;
/// Pages in one request.
const MAX_PAGES: u16 = (MAX_WRITE / 4096) as u16;

/// The outcome of the negotiation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Negotiated {
    /// The answer.
    pub out: abi::InitOut,
    /// What it means for parsing.
    pub dialect: Dialect,
    /// Whether entries can be expired without detaching what is mounted below.
    pub expire_only: bool,
    /// Everything that was agreed to.
    pub flags: InitFlags,
}

/// Agrees on a version and flags.
///
/// # Errors
/// `EPROTO` for a kernel that is too old.
pub fn negotiate(
    init: &abi::CompatInitIn,
    flags2: u32,
    policy: &Policy,
) -> Result<Negotiated, Errno> {
    if init.major != abi::MAJOR || init.minor < abi::MIN_MINOR {
        return Err(Errno::EPROTO);
    }
    let mut offered = u64::from(init.flags);
    if offered & InitFlags::INIT_EXT.bits() != 0 {
        offered |= u64::from(flags2) << 32;
    }
    let offered = InitFlags::from_bits_retain(offered);
    let mut flags = wanted(policy) & offered;
    // With it, the kernel asks for attributes with the first part of a listing only. What lists a folder
    // mostly looks at all of it, and then asks for the rest one by one.
    if init.minor < LONG_LISTINGS_MINOR {
        flags -= InitFlags::READDIRPLUS_AUTO;
    }
    let bits = flags.bits();
    let out = abi::InitOut {
        major: abi::MAJOR,
        minor: init.minor.min(abi::MAX_MINOR),
        max_readahead: init.max_readahead.min(MAX_READAHEAD),
        flags: bits as u32,
        max_background: MAX_BACKGROUND,
        congestion_threshold: CONGESTION,
        max_write: MAX_WRITE as u32,
        time_gran: 1,
        max_pages: MAX_PAGES,
        flags2: (bits >> 32) as u32,
        ..Default::default()
    };
    Ok(Negotiated {
        out,
        dialect: Dialect { setxattr_ext: flags.contains(InitFlags::SETXATTR_EXT) },
        expire_only: flags.contains(InitFlags::HAS_EXPIRE_ONLY),
        flags,
    })
}

/// What is wanted, if the kernel has it. `HANDLE_KILLPRIV` is not among it: the kernel takes set-id
/// bits away by itself, but for the cases in `translate::files`. Nor is `ATOMIC_O_TRUNC`: with it a
/// program that is being run is cut to nothing *before* the kernel answers `ETXTBSY`.
fn wanted(policy: &Policy) -> InitFlags {
    let mut flags = InitFlags::ASYNC_READ
        | InitFlags::POSIX_LOCKS
        | InitFlags::FLOCK_LOCKS
        | InitFlags::BIG_WRITES
        | InitFlags::DONT_MASK
        | InitFlags::DO_READDIRPLUS
        | InitFlags::READDIRPLUS_AUTO
        | InitFlags::ASYNC_DIO
        | InitFlags::PARALLEL_DIROPS
        | InitFlags::MAX_PAGES
        | InitFlags::SETXATTR_EXT
        | InitFlags::INIT_EXT
        | InitFlags::HAS_EXPIRE_ONLY
        | InitFlags::DIRECT_IO_ALLOW_MMAP;
    match policy.consistency {
        Consistency::Consistent => flags |= InitFlags::AUTO_INVAL_DATA,
        Consistency::Cached => flags |= InitFlags::AUTO_INVAL_DATA | InitFlags::CACHE_SYMLINKS,
        Consistency::Delegated => flags |= InitFlags::WRITEBACK_CACHE | InitFlags::CACHE_SYMLINKS,
    }
    // Implies that the kernel checks permissions.
    if policy.ownership == OwnershipMode::Host {
        flags |= InitFlags::POSIX_ACL;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(consistency: Consistency, ownership: OwnershipMode) -> Policy {
        Policy { consistency, ownership }
    }

    fn kernel(minor: u32) -> abi::CompatInitIn {
        abi::CompatInitIn { major: 7, minor, max_readahead: 131_072, flags: u32::MAX }
    }

    #[test]
    fn a_kernel_before_7_31_is_refused() {
        let policy = policy(Consistency::Cached, OwnershipMode::Host);
        assert_eq!(negotiate(&kernel(30), 0, &policy), Err(Errno::EPROTO));
        assert!(negotiate(&kernel(31), 0, &policy).is_ok());
    }

    #[test]
    fn nothing_is_taken_that_was_not_offered() {
        let policy = policy(Consistency::Cached, OwnershipMode::Host);
        let offer = abi::CompatInitIn { flags: InitFlags::ASYNC_READ.bits() as u32, ..kernel(45) };
        let agreed = negotiate(&offer, u32::MAX, &policy).unwrap();
        assert_eq!(agreed.flags, InitFlags::ASYNC_READ);
        assert_eq!((agreed.out.flags2, agreed.dialect.setxattr_ext), (0, false));
    }

    #[test]
    fn where_listings_come_by_the_page_each_brings_attributes() {
        let policy = policy(Consistency::Cached, OwnershipMode::Host);
        let agreed = |minor| negotiate(&kernel(minor), u32::MAX, &policy).unwrap().flags;
        for minor in [31, 43, 44, 45] {
            assert!(agreed(minor).contains(InitFlags::DO_READDIRPLUS));
            assert_eq!(agreed(minor).contains(InitFlags::READDIRPLUS_AUTO), minor >= 44);
        }
    }

    #[test]
    fn only_delegated_writes_back_and_only_host_owners_are_checked_by_the_kernel() {
        for consistency in [Consistency::Consistent, Consistency::Cached, Consistency::Delegated] {
            for ownership in [OwnershipMode::Host, OwnershipMode::Map] {
                let agreed = negotiate(&kernel(60), u32::MAX, &policy(consistency, ownership));
                let agreed = agreed.unwrap();
                assert_eq!(agreed.out.minor, abi::MAX_MINOR);
                assert_eq!(
                    agreed.flags.contains(InitFlags::WRITEBACK_CACHE),
                    consistency == Consistency::Delegated
                );
                assert_eq!(
                    agreed.flags.contains(InitFlags::POSIX_ACL),
                    ownership == OwnershipMode::Host
                );
                assert!(!agreed.flags.contains(InitFlags::HANDLE_KILLPRIV_V2));
            }
        }
    }
}
