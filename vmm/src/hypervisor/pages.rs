//! What becomes of the pages of guest memory: some are given back to the host, none get into a core
//! dump.
#![allow(unsafe_code)] // `madvise` works on addresses.

use crate::memory::Memory;
use rustix::mm::{Advice, madvise};
use std::io;
use vm_memory::{GuestAddress, GuestMemory, Permissions};

/// Drops what these bytes hold; the guest reads zeros there when it comes back (on macOS: zeros or what
/// was there). Only whole pages of the host are dropped.
///
/// # Errors
/// They are not all guest memory, or the host refuses.
pub fn release_pages(memory: &Memory, start: GuestAddress, len: usize) -> io::Result<()> {
    let page = rustix::param::page_size();
    for slice in memory.get_slices(start, len, Permissions::Write).map_err(io::Error::other)? {
        let slice = slice.map_err(io::Error::other)?;
        let guard = slice.ptr_guard_mut();
        let address = guard.as_ptr();
        let skipped = address.addr().next_multiple_of(page) - address.addr();
        let whole = slice.len().saturating_sub(skipped) / page * page;
        if whole > 0 {
            let address = address.wrapping_add(skipped).cast();
            // SAFETY: these pages lie within a slice of guest memory, which is mapped as long as its
            // guard lives, and whose content may change at any time.
            unsafe { madvise(address, whole, ADVICE) }?;
        }
    }
    Ok(())
}

/// Keeps a guest's memory, which may be large and has its secrets, out of core dumps of the monitor. By
/// that it is also a mapping of its own, which anyone can tell from the monitor's (`/proc/PID/smaps`).
#[cfg(target_os = "linux")]
pub fn keep_out_of_dumps(memory: &Memory) {
    // Its methods have names that others here have as well.
    use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
    for region in memory.iter() {
        let Ok(address) = region.get_host_address(MemoryRegionAddress(0)) else {
            continue;
        };
        let len = usize::try_from(region.len()).unwrap_or_default();
        // SAFETY: the region is mapped, of this length, while `memory` is there, and nothing is done to
        // what it holds.
        if let Err(error) = unsafe { madvise(address.cast(), len, Advice::LinuxDontDump) } {
            tracing::debug!(%error, "core dumps would have the guest's memory in them");
        }
    }
}

/// Nothing of that kind is known here.
#[cfg(not(target_os = "linux"))]
pub fn keep_out_of_dumps(_memory: &Memory) {}

#[cfg(target_os = "linux")]
const ADVICE: Advice = Advice::LinuxDontNeed;
#[cfg(not(target_os = "linux"))]
const ADVICE: Advice = Advice::DontNeed;

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn whole_pages_are_dropped_and_parts_of_pages_stay() {
        let page = rustix::param::page_size();
        let memory = Memory::from_ranges(&[(GuestAddress(0), 8 * page)]).unwrap();
        memory.write_slice(&vec![7; 8 * page], GuestAddress(0)).unwrap();
        release_pages(&memory, GuestAddress(page as u64 + 1), 3 * page).unwrap();
        let mut all = vec![0; 8 * page];
        memory.read_slice(&mut all, GuestAddress(0)).unwrap();
        let kept = |n: usize| all[n * page..(n + 1) * page].iter().all(|&byte| byte == 7);
        assert_eq!([kept(0), kept(1), kept(4), kept(5)], [true; 4]);
        // Two of the three pages' worth of bytes are whole pages.
        #[cfg(target_os = "linux")]
        assert_eq!(all[2 * page..4 * page], vec![0; 2 * page]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_guests_memory_is_a_mapping_of_its_own_that_is_not_dumped() {
        use vm_memory::GuestMemoryBackend;
        let memory = crate::memory::map(&[(GuestAddress(0), 7 << 20)]).unwrap();
        let address = memory.get_host_address(GuestAddress(0)).unwrap().addr();
        let range = format!("{address:x}-{:x} ", address + (7 << 20));
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mapping = maps.split(&range).nth(1).expect("a mapping of this range");
        let flags = mapping.lines().find_map(|line| line.strip_prefix("VmFlags: ")).unwrap();
        assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    fn what_is_no_guest_memory_cannot_be_dropped() {
        let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
        assert!(release_pages(&memory, GuestAddress(1 << 16), 4096).is_err());
        assert!(release_pages(&memory, GuestAddress(0), 1 << 17).is_err());
        assert!(release_pages(&memory, GuestAddress(u64::MAX), 4096).is_err());
    }
}
