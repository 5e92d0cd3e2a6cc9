//! The guest's memory, as devices see it.

use crate::Error;
use crate::hypervisor::{host_memory, keep_out_of_dumps};
use vm_memory::GuestAddress;

/// All of it. Cheap to clone; the mapping ends with the last clone. Addresses are
/// [`GuestAddress`].
pub type Memory = vm_memory::GuestMemoryMmap;

/// Maps memory for these ranges of guest addresses: zero, and taken from the host only where it is
/// touched. That is why more than the host has is refused here: nothing else would, until the guest
/// uses it.
///
/// # Errors
/// The host has no room for it.
pub fn map(ranges: &[(GuestAddress, usize)]) -> Result<Memory, Error> {
    let bytes: u64 = ranges.iter().map(|(_, len)| *len as u64).sum();
    let refuse = |cause| Error::Memory { size: bytes >> 20, cause };
    if let Some(host) = host_memory().filter(|host| bytes > *host) {
        return Err(refuse(format!("the host has {} MiB, swap included", host >> 20)));
    }
    let memory = Memory::from_ranges(ranges).map_err(|error| refuse(error.to_string()))?;
    keep_out_of_dumps(&memory);
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_memory_than_the_host_has_is_refused_with_what_it_has() {
        let Some(host) = host_memory() else { return };
        let much = usize::try_from(host + (1 << 20)).unwrap();
        let text = map(&[(GuestAddress(0), much)]).unwrap_err().to_string();
        assert!(text.contains(&format!("the host has {} MiB", host >> 20)), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn memory_is_not_taken_before_it_is_touched() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
            text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok())
        };
        let before = resident();
        let memory = map(&[(GuestAddress(0), 512 << 20)]).unwrap();
        if let (Some(before), Some(after)) = (before, resident()) {
            assert!(after.saturating_sub(before) < (256 << 20) / 4096);
        }
        drop(memory);
    }
}
