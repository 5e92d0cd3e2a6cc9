//! The names of a directory, all of them, so that a listing can be taken up at any entry.
//!
//! macOS's directories have no cookies that outlive a change: removing entries moves the others, so
//! that one who lists and removes in turns (`rm -r`) misses some. A listing therefore reads the
//! whole directory before it gives the first entry, and an entry's cookie is its place in what was
//! read. The memory for this is bounded for the whole process by [`ROOM`].

use rustc_hash::FxHashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all snapshots together may take: some five million names.
pub const ROOM: usize = 256 << 20;

/// What an entry takes beside its name: number, type, and where it starts.
const OVERHEAD: usize = 8 + 1 + 4;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// All that was read of one directory.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Number, type and name of each entry.
    packed: Vec<u8>,
    /// Where each entry starts.
    starts: Vec<u32>,
    /// Our part of [`TAKEN`].
    taken: usize,
}

/// There is no room for another entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl Snapshot {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// An entry's number, type and name.
    pub fn get(&self, at: usize) -> Option<(u64, u8, &[u8])> {
        let start = *self.starts.get(at)? as usize;
        let end = self.starts.get(at + 1).map_or(self.packed.len(), |next| *next as usize);
        let (number, rest) = self.packed.get(start..end)?.split_first_chunk()?;
        let (kind, name) = rest.split_first()?;
        Some((u64::from_ne_bytes(*number), *kind, name))
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, ino: u64, kind: u8, name: &[u8]) -> Result<(), Full> {
        let start = u32::try_from(self.packed.len()).map_err(|_| Full)?;
        let size = OVERHEAD + name.len();
        if TAKEN.fetch_add(size, Ordering::Relaxed) + size > ROOM {
            TAKEN.fetch_sub(size, Ordering::Relaxed);
            return Err(Full);
        }
        self.taken += size;
        self.starts.push(start);
        self.packed.extend_from_slice(&ino.to_ne_bytes());
        self.packed.push(kind);
        self.packed.extend_from_slice(name);
        Ok(())
    }

    /// Adds those entries of another reading of the same directory that are not known yet.
    pub fn merge(&mut self, other: &Self) -> Result<(), Full> {
        let known = self.len();
        let missing: Vec<usize> = {
            let names: FxHashSet<&[u8]> =
                (0..known).filter_map(|at| self.get(at)).map(|(.., name)| name).collect();
            let is_new =
                |at: &usize| other.get(*at).is_some_and(|(.., name)| !names.contains(name));
            (0..other.len()).filter(is_new).collect()
        };
        for at in missing {
            if let Some((ino, kind, name)) = other.get(at) {
                self.push(ino, kind, name)?;
            }
        }
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: &[(u64, &[u8])]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (ino, name) in entries {
            snapshot.push(*ino, 8, name).unwrap();
        }
        snapshot
    }

    fn names(snapshot: &Snapshot) -> Vec<&[u8]> {
        (0..snapshot.len()).map(|at| snapshot.get(at).unwrap().2).collect()
    }

    #[test]
    fn entries_are_found_by_their_place() {
        let snapshot = of(&[(1, b"."), (2, b"a name"), (u64::MAX, &[0xff; 255])]);
        assert_eq!(snapshot.get(1), Some((2, 8, b"a name".as_slice())));
        assert_eq!(snapshot.get(2), Some((u64::MAX, 8, [0xff; 255].as_slice())));
        assert_eq!(snapshot.get(3), None);
        assert_eq!(snapshot.get(usize::MAX - 1), None);
    }

    #[test]
    fn a_second_reading_adds_only_what_the_first_missed() {
        let mut first = of(&[(1, b"a"), (2, b"b"), (3, b"c")]);
        first.merge(&of(&[(3, b"c"), (4, b"d"), (1, b"a")])).unwrap();
        assert_eq!(names(&first), [b"a", b"b", b"c", b"d"]);
    }

    #[test]
    fn what_a_snapshot_took_is_given_back() {
        for _ in 0..2 {
            let mut big = Snapshot::default();
            let name = vec![b'n'; ROOM / 16];
            for ino in 0..10 {
                big.push(ino, 8, &name).unwrap();
            }
        }
    }
}
