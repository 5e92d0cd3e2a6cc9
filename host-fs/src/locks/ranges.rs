//! The locks on one file: byte ranges, each held by one owner.
//!
//! Pure. Invariant: the ranges of one owner do not overlap.

use protocol::{HandleId, LockFamily, LockKind, LockOwner};

/// Who holds a lock: an owner of a session, in one of the two families.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Owner {
    /// Which session.
    pub session: u64,
    /// Which owner in it.
    pub owner: LockOwner,
    /// Which family.
    pub family: LockFamily,
}

/// A held or wanted range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Who.
    pub owner: Owner,
    /// Through which open file.
    pub handle: HandleId,
    /// The process, for people.
    pub pid: u32,
    /// Shared or exclusive.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

impl Range {
    fn overlaps(&self, start: u64, end: u64) -> bool {
        self.start <= end && start <= self.end
    }

    /// Whether the two cannot be held at once.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.owner != other.owner
            && self.owner.family == other.owner.family
            && (self.exclusive || other.exclusive)
            && self.overlaps(other.start, other.end)
    }

    /// As the protocol says it.
    pub fn to_wire(self) -> protocol::Lock {
        protocol::Lock {
            family: self.owner.family,
            kind: if self.exclusive { LockKind::Write } else { LockKind::Read },
            owner: self.owner.owner,
            start: self.start,
            end: self.end,
            pid: self.pid,
        }
    }
}

/// All that is held on one file.
#[derive(Debug, Default)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.iter()
    }

    /// The first that stands in the way of `wanted`.
    pub fn conflict(&self, wanted: &Range) -> Option<&Range> {
        self.0.iter().filter(|held| held.conflicts(wanted)).min_by_key(|held| held.start)
    }

    /// Whether the owner holds a part of a range otherwise than `exclusive` says.
    pub fn differs(&self, owner: Owner, exclusive: bool) -> bool {
        self.0.iter().any(|held| held.owner == owner && held.exclusive != exclusive)
    }

    /// Takes a range, in place of whatever its owner held there. The caller has seen that it
    /// conflicts with nothing.
    pub fn set(&mut self, new: Range) {
        self.clear(new.owner, new.start, new.end);
        let mut new = new;
        // Grow over neighbours of the same kind, taken through the same open file.
        self.0.retain(|held| {
            let same = held.owner == new.owner
                && held.exclusive == new.exclusive
                && held.handle == new.handle;
            let touches = held.end.checked_add(1) == Some(new.start)
                || new.end.checked_add(1) == Some(held.start);
            if same && touches {
                new.start = new.start.min(held.start);
                new.end = new.end.max(held.end);
            }
            !(same && touches)
        });
        self.0.push(new);
    }

    /// Releases what an owner holds of a range. Tells whether there was anything.
    pub fn clear(&mut self, owner: Owner, start: u64, end: u64) -> bool {
        let mut rest = Vec::new();
        let before = self.0.len();
        self.0.retain(|held| {
            if held.owner != owner || !held.overlaps(start, end) {
                return true;
            }
            if held.start < start {
                rest.push(Range { end: start - 1, ..*held });
            }
            if held.end > end {
                rest.push(Range { start: end + 1, ..*held });
            }
            false
        });
        let cleared = self.0.len() < before;
        self.0.append(&mut rest);
        cleared
    }

    /// Releases all that fulfil a condition. Tells whether there was anything.
    pub fn clear_where(&mut self, condition: impl Fn(&Range) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|held| !condition(held));
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES: u64 = 16;

    fn owner(number: u64) -> Owner {
        Owner { session: 1, owner: LockOwner(number), family: LockFamily::Posix }
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, u8, u64, u64, u64)>> {
        let step = (0..3u64, 0..3u8, 0..BYTES, 0..BYTES, 0..2u64);
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// Against one cell per owner and byte.
        #[test]
        fn ranges_hold_what_a_table_of_bytes_would(steps in steps()) {
            let mut ranges = Ranges::default();
            let mut table = [[None; BYTES as usize]; 3];
            for (who, kind, a, b, handle) in steps {
                let (start, end) = (a.min(b), a.max(b));
                let cells = start as usize..=end as usize;
                if kind == 2 {
                    let held = table[who as usize][cells.clone()].iter().any(Option::is_some);
                    prop_assert_eq!(ranges.clear(owner(who), start, end), held);
                    table[who as usize][cells].fill(None);
                    continue;
                }
                let wanted = Range {
                    owner: owner(who), handle: HandleId(handle), pid: 0, exclusive: kind == 1, start, end,
                };
                let blocked = (0..3).filter(|other| *other != who as usize).any(|other| {
                    table[other][cells.clone()].iter().flatten().any(|(exclusive, _)| *exclusive || wanted.exclusive)
                });
                prop_assert_eq!(ranges.conflict(&wanted).is_some(), blocked);
                if !blocked {
                    ranges.set(wanted);
                    table[who as usize][cells].fill(Some((wanted.exclusive, handle)));
                }
            }
            for (who, row) in table.iter().enumerate() {
                for (byte, cell) in row.iter().enumerate() {
                    let held: Vec<_> = ranges.iter()
                        .filter(|r| r.owner == owner(who as u64) && r.overlaps(byte as u64, byte as u64))
                        .map(|r| (r.exclusive, r.handle.0))
                        .collect();
                    prop_assert_eq!(held, cell.iter().copied().collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn a_range_may_end_at_the_last_byte_there_is() {
        let mut ranges = Ranges::default();
        let whole = Range {
            owner: owner(1),
            handle: HandleId(1),
            pid: 0,
            exclusive: true,
            start: 0,
            end: u64::MAX,
        };
        ranges.set(whole);
        ranges.set(Range { start: 10, end: u64::MAX, ..whole });
        assert!(ranges.clear(owner(1), 0, u64::MAX));
        assert!(ranges.is_empty());
    }
}
