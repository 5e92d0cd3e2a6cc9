//! Open files and directories of one mount: the kernel's number (`fh`) ↔ the server's handle, and
//! what is needed to open them again on another connection: node, flags, and locks held.
//!
//! What the kernel has cached in full is opened here alone: its handle is like one of a connection
//! that is no more, and becomes the server's when it is needed after all.

use crate::nodes::{LocalId, Unresolved};
use crate::rest::Rest;
use parking_lot::Mutex;
use protocol::{HandleId, Lock, LockFamily, LockKind, LockOwner, OpenFlags, Time};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;

/// How the agent opened something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// What.
    pub node: LocalId,
    /// How the server was asked to open it.
    pub flags: OpenFlags,
    /// Whether it is a directory.
    pub directory: bool,
    /// Whether the kernel writes to it without its page cache.
    pub direct: bool,
}

/// All open files of one mount. One lock, held for a few memory accesses, inside no other.
#[derive(Debug, Default)]
pub struct HandleTable {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// How many times each node is open.
    opens: FxHashMap<LocalId, u32>,
    /// How many have been locked, and how many are open here alone.
    locked: usize,
    unopened: usize,
    /// How many have a rest.
    rests: usize,
    /// Whether anything has ever been locked on the mount so that closing would unlock it.
    posix_locks: bool,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    handle: Option<Handle>,
}

#[derive(Debug)]
struct Handle {
    opened: Opened,
    server: HandleId,
    epoch: u32,
    /// A second handle without `APPEND`, for pages written back through a file opened to append.
    pages: Option<(u32, HandleId)>,
    locks: Vec<Lock>,
    /// A lock has been asked for through it.
    locked: bool,
    /// What the kernel had of it when it was opened here alone.
    cached: Option<Cached>,
    /// What is left of its listing, and whether that was void once before it was told.
    rest: Option<Box<Rest>>,
    piecemeal: bool,
}

/// So many listings have a rest, or a few more.
const MOST_RESTS: usize = 64;

/// What tells the content that the kernel has of a file from a newer one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cached {
    /// Time of modification.
    pub mtime: Time,
    /// In bytes.
    pub size: u64,
}

/// An epoch before the first connection.
const NEVER: u32 = 0;
/// An epoch behind the last: the server did not open it any more.
const LOST: u32 = u32::MAX;

/// What is left of an open file that the kernel is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// The server's handles that are still valid.
    pub server: [Option<HandleId>; 2],
    /// Somebody may be waiting for them to be closed.
    pub at_once: bool,
}

impl Handle {
    fn is_unopened(&self) -> bool {
        matches!(self.epoch, NEVER | LOST)
    }
}

impl HandleTable {
    /// Keeps a handle; returns the number for the kernel.
    pub fn insert(&self, opened: Opened, server: HandleId, epoch: u32) -> u64 {
        self.table.lock().insert(opened, server, epoch, None)
    }

    /// Keeps what is open here alone; returns the number for the kernel. `cached` of a file.
    pub fn insert_unopened(&self, opened: Opened, cached: Option<Cached>) -> u64 {
        let table = &mut *self.table.lock();
        table.unopened += 1;
        table.insert(opened, HandleId(0), NEVER, cached)
    }

    /// How many times a node is open.
    pub fn opens(&self, node: LocalId) -> u32 {
        self.table.lock().opens.get(&node).copied().unwrap_or_default()
    }

    /// One through which a node is open here alone, and whether the server may still open it.
    pub fn unopened_of(&self, node: LocalId) -> Option<(u64, bool)> {
        let table = self.table.lock();
        if table.unopened == 0 {
            return None;
        }
        let slots = (0_u64..).zip(&table.slots);
        let open = slots.filter_map(|(at, slot)| {
            let handle = slot.handle.as_ref()?;
            let found = handle.opened.node == node && handle.is_unopened();
            let fh = u64::from(slot.generation) << 32 | at;
            found.then_some((fh, handle.epoch == NEVER))
        });
        open.max_by_key(|(_, may_be_opened)| *may_be_opened)
    }

    /// What the kernel had of a file when it was opened here alone.
    pub fn cached(&self, fh: u64) -> Option<Cached> {
        self.with(fh, |handle| handle.cached)?
    }

    /// The server does not open it any more. Tells whether that is new.
    pub fn give_up(&self, fh: u64) -> bool {
        let lost = |handle: &mut Handle| {
            let new = handle.epoch == NEVER;
            handle.epoch = if new { LOST } else { handle.epoch };
            new
        };
        self.with(fh, lost).unwrap_or(false)
    }

    /// Whether something is open here alone.
    pub fn is_unopened(&self, fh: u64) -> bool {
        self.with(fh, |handle| handle.epoch == NEVER).unwrap_or(false)
    }

    /// Whether another listing may have a rest.
    pub fn may_have_rest(&self) -> bool {
        self.table.lock().rests < MOST_RESTS
    }

    /// Keeps what is left of the listing of a directory. Gives it back if that cannot be.
    pub fn put_rest(&self, fh: u64, rest: Rest) -> Option<Rest> {
        let table = &mut *self.table.lock();
        let free = |handle: &&mut Handle| handle.rest.is_none();
        let Some(handle) = table.handle(fh).filter(free) else { return Some(rest) };
        handle.rest = Some(Box::new(rest));
        table.rests += 1;
        None
    }

    /// Takes that out.
    pub fn take_rest(&self, fh: u64) -> Option<Rest> {
        let table = &mut *self.table.lock();
        let rest = table.handle(fh)?.rest.take()?;
        table.rests -= 1;
        Some(*rest)
    }

    /// A rest is void: the directory is listed piece by piece from now on.
    pub fn note_piecemeal(&self, fh: u64) {
        self.with(fh, |handle| handle.piecemeal = true);
    }

    /// Whether it is.
    pub fn is_piecemeal(&self, fh: u64) -> bool {
        self.with(fh, |handle| handle.piecemeal).unwrap_or(true)
    }

    /// The server's handle, if it is one of connection `epoch`.
    ///
    /// # Errors
    /// [`Unresolved`].
    pub fn resolve(&self, fh: u64, epoch: u32) -> Result<HandleId, Unresolved> {
        self.with(fh, |handle| match handle.epoch == epoch {
            true => Ok(handle.server),
            false => Err(Unresolved::Stale),
        })
        .unwrap_or(Err(Unresolved::Unknown))
    }

    /// The handle through which pages are written back: one that does not append.
    ///
    /// # Errors
    /// [`Unresolved::Stale`] also if it still has to be opened.
    pub fn resolve_pages(&self, fh: u64, epoch: u32) -> Result<HandleId, Unresolved> {
        self.with(fh, |handle| {
            if !handle.opened.flags.contains(OpenFlags::APPEND) {
                return if handle.epoch == epoch {
                    Ok(handle.server)
                } else {
                    Err(Unresolved::Stale)
                };
            }
            let current = handle.pages.filter(|(of, _)| *of == epoch);
            current.map(|(_, pages)| pages).ok_or(Unresolved::Stale)
        })
        .unwrap_or(Err(Unresolved::Unknown))
    }

    /// How something was opened.
    pub fn opened(&self, fh: u64) -> Option<Opened> {
        self.with(fh, |handle| handle.opened)
    }

    /// It is open again, on connection `epoch`.
    pub fn reopened(&self, fh: u64, server: HandleId, epoch: u32) {
        let table = &mut *self.table.lock();
        if let Some(handle) = table.handle(fh) {
            let before = usize::from(handle.is_unopened());
            (handle.server, handle.epoch) = (server, epoch);
            table.unopened -= before;
        }
    }

    /// Pages of `fh` are written through `server`.
    pub fn pages_opened(&self, fh: u64, server: HandleId, epoch: u32) {
        self.with(fh, |handle| handle.pages = Some((epoch, server)));
    }

    /// The kernel is done with it.
    pub fn remove(&self, fh: u64, epoch: u32) -> Removed {
        let table = &mut *self.table.lock();
        let Some(slot) = table.slots.get_mut(fh as u32 as usize) else { return Removed::default() };
        if slot.generation != (fh >> 32) as u32 {
            return Removed::default();
        }
        let Some(handle) = slot.handle.take() else { return Removed::default() };
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            table.free.push(fh as u32);
        }
        if let Entry::Occupied(mut opens) = table.opens.entry(handle.opened.node) {
            *opens.get_mut() -= 1;
            if *opens.get() == 0 {
                opens.remove();
            }
        }
        table.locked -= usize::from(handle.locked);
        table.unopened -= usize::from(handle.is_unopened());
        table.rests -= usize::from(handle.rest.is_some());
        let pages = handle.pages.filter(|(of, _)| *of == epoch).map(|(_, pages)| pages);
        Removed {
            server: [(handle.epoch == epoch).then_some(handle.server), pages],
            at_once: handle.locked || handle.opened.flags.intersects(WRITES),
        }
    }

    /// A lock is asked for through `fh`.
    pub fn locking(&self, fh: u64, family: LockFamily) {
        let table = &mut *self.table.lock();
        if let Some(handle) = table.handle(fh) {
            let before = std::mem::replace(&mut handle.locked, true);
            table.locked += usize::from(!before);
        }
        table.posix_locks |= family == LockFamily::Posix;
    }

    /// Whether anybody on the mount locks files by `fcntl`: then every close of a descriptor matters.
    /// What is locked by `flock` is unlocked by the last close, of which the kernel always tells.
    pub fn has_seen_posix_locks(&self) -> bool {
        self.table.lock().posix_locks
    }

    /// A lock was taken or released through `fh`.
    pub fn note_lock(&self, fh: u64, lock: &Lock) {
        self.with(fh, |handle| apply_lock(&mut handle.locks, lock));
    }

    /// A descriptor of the file was closed: the POSIX locks of its owner are gone, through whichever
    /// handle of the file they were taken. Tells whether there may have been some.
    pub fn drop_posix_locks(&self, fh: u64, owner: LockOwner) -> bool {
        let table = &mut *self.table.lock();
        if table.locked == 0 {
            return false;
        }
        let Some(node) = table.handle(fh).map(|handle| handle.opened.node) else { return false };
        let open = table.slots.iter_mut().filter_map(|slot| slot.handle.as_mut());
        let mut any = false;
        for handle in open.filter(|handle| handle.locked && handle.opened.node == node) {
            handle.locks.retain(|lock| lock.family != LockFamily::Posix || lock.owner != owner);
            any = true;
        }
        any
    }

    /// The locks held through `fh`.
    pub fn locks(&self, fh: u64) -> Vec<Lock> {
        self.with(fh, |handle| handle.locks.clone()).unwrap_or_default()
    }

    /// How many are open for writing, and how many in all.
    pub fn count(&self) -> (usize, usize) {
        let table = self.table.lock();
        let open = table.slots.iter().filter_map(|slot| slot.handle.as_ref());
        open.fold((0, 0), |(writers, all), handle| {
            (writers + usize::from(handle.opened.flags.intersects(WRITES)), all + 1)
        })
    }

    fn with<T>(&self, fh: u64, f: impl FnOnce(&mut Handle) -> T) -> Option<T> {
        self.table.lock().handle(fh).map(f)
    }
}

impl Table {
    fn insert(
        &mut self,
        opened: Opened,
        server: HandleId,
        epoch: u32,
        cached: Option<Cached>,
    ) -> u64 {
        *self.opens.entry(opened.node).or_default() += 1;
        let (pages, locks, locked) = (None, Vec::new(), false);
        let (rest, piecemeal) = (None, false);
        let handle =
            Some(Handle { opened, server, epoch, pages, locks, locked, cached, rest, piecemeal });
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u32
            }
        };
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                slot.handle = handle;
                u64::from(slot.generation) << 32 | u64::from(index)
            }
            None => u64::MAX,
        }
    }

    fn handle(&mut self, fh: u64) -> Option<&mut Handle> {
        let slot = self.slots.get_mut(fh as u32 as usize)?;
        slot.handle.as_mut().filter(|_| slot.generation == (fh >> 32) as u32)
    }
}

/// Flags of what is open for writing.
const WRITES: OpenFlags = OpenFlags::WRONLY.union(OpenFlags::RDWR);

/// Most locks that are remembered for one open file; those beyond are not taken again.
const MOST_LOCKS: usize = 1024;

/// Replaces what `lock` covers in `held` by it.
fn apply_lock(held: &mut Vec<Lock>, lock: &Lock) {
    let same = |other: &Lock| other.family == lock.family && other.owner == lock.owner;
    let mut rest = Vec::new();
    held.retain(|other| {
        if !same(other) || other.end < lock.start || other.start > lock.end {
            return true;
        }
        if other.start < lock.start {
            rest.push(Lock { end: lock.start - 1, ..*other });
        }
        if other.end > lock.end {
            rest.push(Lock { start: lock.end + 1, ..*other });
        }
        false
    });
    held.append(&mut rest);
    if lock.kind != LockKind::Unlock && held.len() < MOST_LOCKS {
        held.push(*lock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(kind: LockKind, start: u64, end: u64) -> Lock {
        Lock { family: LockFamily::Posix, kind, owner: LockOwner(7), start, end, pid: 1 }
    }

    fn file() -> Opened {
        Opened {
            node: LocalId(5),
            flags: OpenFlags::RDWR | OpenFlags::APPEND,
            directory: false,
            direct: false,
        }
    }

    #[test]
    fn a_handle_of_another_connection_is_stale_until_reopened() {
        let table = HandleTable::default();
        let fh = table.insert(file(), HandleId(11), 1);
        assert_eq!(table.resolve(fh, 1), Ok(HandleId(11)));
        assert_eq!(table.resolve(fh, 2), Err(Unresolved::Stale));
        table.reopened(fh, HandleId(12), 2);
        assert_eq!(table.resolve(fh, 2), Ok(HandleId(12)));
    }

    #[test]
    fn a_released_number_is_never_valid_again() {
        let table = HandleTable::default();
        let fh = table.insert(file(), HandleId(11), 1);
        assert_eq!(table.remove(fh, 1).server, [Some(HandleId(11)), None]);
        assert_eq!(table.remove(fh, 1), Removed::default());
        let next = table.insert(file(), HandleId(13), 1);
        assert_ne!(fh, next);
        assert_eq!(table.resolve(fh, 1), Err(Unresolved::Unknown));
        assert_eq!(table.resolve(u64::MAX, 1), Err(Unresolved::Unknown));
    }

    #[test]
    fn pages_of_an_appending_file_go_through_a_handle_of_their_own() {
        let table = HandleTable::default();
        let fh = table.insert(file(), HandleId(11), 1);
        assert_eq!(table.resolve_pages(fh, 1), Err(Unresolved::Stale));
        table.pages_opened(fh, HandleId(12), 1);
        assert_eq!(table.resolve_pages(fh, 1), Ok(HandleId(12)));
        assert_eq!(table.remove(fh, 1).server, [Some(HandleId(11)), Some(HandleId(12))]);
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut held = Vec::new();
        apply_lock(&mut held, &lock(LockKind::Write, 0, 99));
        apply_lock(&mut held, &lock(LockKind::Unlock, 40, 59));
        assert_eq!(held, [lock(LockKind::Write, 0, 39), lock(LockKind::Write, 60, 99)]);
        apply_lock(&mut held, &lock(LockKind::Read, 0, u64::MAX));
        assert_eq!(held, [lock(LockKind::Read, 0, u64::MAX)]);
    }

    #[test]
    fn closing_any_descriptor_drops_the_posix_locks_of_its_owner() {
        let table = HandleTable::default();
        let a = table.insert(file(), HandleId(1), 1);
        let b = table.insert(file(), HandleId(2), 1);
        assert!(!table.drop_posix_locks(b, LockOwner(7)), "there are none");
        table.locking(a, LockFamily::Flock);
        assert!(!table.has_seen_posix_locks());
        table.locking(a, LockFamily::Posix);
        assert!(table.has_seen_posix_locks());
        table.note_lock(a, &lock(LockKind::Write, 0, 9));
        assert!(table.drop_posix_locks(b, LockOwner(7)));
        assert!(table.locks(a).is_empty());
        assert!(table.remove(a, 1).at_once);
        assert!(!table.drop_posix_locks(b, LockOwner(7)), "the last that was locked is gone");
    }

    #[test]
    fn what_is_open_here_alone_is_found_when_it_is_needed() {
        let table = HandleTable::default();
        let opened = Opened { flags: OpenFlags::empty(), ..file() };
        let fh = table.insert_unopened(opened, None);
        assert_eq!(table.resolve(fh, 1), Err(Unresolved::Stale));
        assert!(table.is_unopened(fh));
        assert_eq!(table.unopened_of(LocalId(5)), Some((fh, true)));
        assert!(table.give_up(fh));
        assert!(!table.give_up(fh), "it was before");
        assert_eq!(table.unopened_of(LocalId(5)), Some((fh, false)));
        assert_eq!(table.resolve(fh, 1), Err(Unresolved::Stale));
        table.reopened(fh, HandleId(3), 1);
        assert!(!table.is_unopened(fh));
        assert_eq!(table.unopened_of(LocalId(5)), None);
        let closed = Removed { server: [Some(HandleId(3)), None], at_once: false };
        assert_eq!(table.remove(fh, 1), closed, "nobody waits for the end of a reader");
    }
}
