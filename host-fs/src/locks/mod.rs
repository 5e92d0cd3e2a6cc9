//! Locks among all agents: who holds what, who waits, and whether waiting could ever end.
//!
//! Pure: a request goes in, an [`Outcome`] and the waiters that may go on come out. `W` is what a
//! waiter is to be answered with.

pub mod ranges;

use protocol::{Errno, HandleId, LockFamily, Tag};
pub use ranges::{Owner, Range, Ranges};
use rustc_hash::{FxHashMap, FxHashSet};

/// Device and inode number of a file.
pub type FileKey = (u64, u64);

/// Most ranges held and waits pending of one session.
const MAX_LOCKS: usize = 1 << 16;

/// One who waits.
#[derive(Debug)]
struct Waiter<W> {
    wanted: Range,
    tag: Tag,
    answer: W,
}

#[derive(Debug)]
struct File<W> {
    held: Ranges,
    /// In the order of their arrival.
    waiting: Vec<Waiter<W>>,
}

impl<W> Default for File<W> {
    fn default() -> Self {
        Self { held: Ranges::default(), waiting: Vec::new() }
    }
}

/// What became of a request to take a lock.
#[derive(Debug)]
pub enum Outcome<W> {
    /// Taken.
    Granted(W),
    /// Not taken, with this error.
    Refused(W, Errno),
    /// Waits; answered by a later call.
    Waits,
}

/// The locks of all files.
#[derive(Debug)]
pub struct LockTable<W> {
    files: FxHashMap<FileKey, File<W>>,
}

impl<W> Default for LockTable<W> {
    fn default() -> Self {
        Self { files: FxHashMap::default() }
    }
}

/// A waiter that has its lock now.
pub type Woken<W> = Vec<W>;

impl<W> LockTable<W> {
    /// What stands in the way of a lock.
    pub fn conflict(&self, file: FileKey, wanted: &Range) -> Option<Range> {
        self.files.get(&file)?.held.conflict(wanted).copied()
    }

    /// What is held on a file.
    pub fn held(&self, file: FileKey) -> impl Iterator<Item = &Range> {
        self.files.get(&file).into_iter().flat_map(|state| state.held.iter())
    }

    /// Takes a lock that is known to conflict with nothing.
    pub fn put(&mut self, file: FileKey, range: Range) -> Woken<W> {
        let state = self.files.entry(file).or_default();
        state.held.set(range);
        if range.exclusive { Vec::new() } else { grant(state) }
    }

    /// Takes a lock, or waits for it if `tag` is given.
    pub fn take(
        &mut self,
        file: FileKey,
        wanted: Range,
        tag: Option<Tag>,
        answer: W,
    ) -> (Outcome<W>, Woken<W>) {
        let mut woken = Vec::new();
        let state = self.files.entry(file).or_default();
        // A flock is converted by giving the old one up first (flock(2)).
        if wanted.owner.family == LockFamily::Flock
            && state.held.differs(wanted.owner, wanted.exclusive)
        {
            state.held.clear(wanted.owner, 0, u64::MAX);
            woken = grant(state);
        }
        let state = self.files.entry(file).or_default();
        let count =
            state.held.iter().filter(|held| held.owner.session == wanted.owner.session).count();
        let outcome = if count + state.waiting.len() >= MAX_LOCKS {
            Outcome::Refused(answer, Errno::ENOLCK)
        } else if state.held.conflict(&wanted).is_none() {
            state.held.set(wanted);
            Outcome::Granted(answer)
        } else if let Some(tag) = tag {
            if wanted.owner.family == LockFamily::Posix && self.would_deadlock(file, &wanted) {
                Outcome::Refused(answer, Errno::EDEADLK)
            } else {
                let state = self.files.entry(file).or_default();
                state.waiting.push(Waiter { wanted, tag, answer });
                Outcome::Waits
            }
        } else {
            Outcome::Refused(answer, Errno::EAGAIN)
        };
        // A downgrade lets others in.
        if matches!(outcome, Outcome::Granted(_)) && !wanted.exclusive {
            woken.extend(self.files.get_mut(&file).map(grant).unwrap_or_default());
        }
        self.tidy(file);
        (outcome, woken)
    }

    /// Releases what an owner holds of a range.
    pub fn release(&mut self, file: FileKey, owner: Owner, start: u64, end: u64) -> Woken<W> {
        self.change(file, |held| held.clear(owner, start, end))
    }

    /// Releases all of an owner: a descriptor was closed.
    pub fn release_owner(&mut self, file: FileKey, owner: Owner) -> Woken<W> {
        self.change(file, |held| held.clear_where(|range| range.owner == owner))
    }

    /// Releases all that was taken through an open file.
    pub fn release_handle(&mut self, file: FileKey, session: u64, handle: HandleId) -> Woken<W> {
        let through = |range: &Range| range.owner.session == session && range.handle == handle;
        self.change(file, |held| held.clear_where(through))
    }

    fn change(&mut self, file: FileKey, change: impl FnOnce(&mut Ranges) -> bool) -> Woken<W> {
        let Some(state) = self.files.get_mut(&file) else { return Vec::new() };
        let woken = if change(&mut state.held) { grant(state) } else { Vec::new() };
        self.tidy(file);
        woken
    }

    /// Takes back a waiting request.
    pub fn cancel(&mut self, session: u64, tag: Tag) -> Option<W> {
        let is_it = |w: &Waiter<W>| w.wanted.owner.session == session && w.tag == tag;
        let (file, at) = self
            .files
            .iter()
            .find_map(|(file, state)| state.waiting.iter().position(is_it).map(|at| (*file, at)))?;
        let waiter = self.files.get_mut(&file).map(|state| state.waiting.remove(at));
        self.tidy(file);
        waiter.map(|waiter| waiter.answer)
    }

    /// Releases all of a session. Gives its own waiters, and those of others that go on.
    pub fn end_session(&mut self, session: u64) -> (Vec<W>, Woken<W>) {
        let (mut own, mut woken) = (Vec::new(), Vec::new());
        for state in self.files.values_mut() {
            let waiting = std::mem::take(&mut state.waiting);
            for waiter in waiting {
                if waiter.wanted.owner.session == session {
                    own.push(waiter.answer);
                } else {
                    state.waiting.push(waiter);
                }
            }
            if state.held.clear_where(|range| range.owner.session == session) {
                woken.extend(grant(state));
            }
        }
        self.files.retain(|_, state| !state.held.is_empty() || !state.waiting.is_empty());
        (own, woken)
    }

    /// Whether the wait for `wanted` would close a circle of owners that wait for each other.
    fn would_deadlock(&self, file: FileKey, wanted: &Range) -> bool {
        let me = wanted.owner;
        let mut seen = FxHashSet::default();
        let mut next: Vec<Owner> = self.blockers(file, wanted).collect();
        while let Some(owner) = next.pop() {
            if owner == me {
                return true;
            }
            if !seen.insert(owner) {
                continue;
            }
            for (file, state) in &self.files {
                for waiter in state.waiting.iter().filter(|waiter| waiter.wanted.owner == owner) {
                    next.extend(self.blockers(*file, &waiter.wanted));
                }
            }
        }
        false
    }

    fn blockers<'a>(
        &'a self,
        file: FileKey,
        wanted: &'a Range,
    ) -> impl Iterator<Item = Owner> + 'a {
        self.held(file).filter(move |held| held.conflicts(wanted)).map(|held| held.owner)
    }

    fn tidy(&mut self, file: FileKey) {
        let empty = |state: &File<W>| state.held.is_empty() && state.waiting.is_empty();
        if self.files.get(&file).is_some_and(empty) {
            self.files.remove(&file);
        }
    }

    /// How many files have locks.
    pub fn files(&self) -> usize {
        self.files.len()
    }
}

/// Grants what waiters can have now, first come, first served.
fn grant<W>(state: &mut File<W>) -> Woken<W> {
    let mut woken = Vec::new();
    let mut at = 0;
    while let Some(waiter) = state.waiting.get(at) {
        if state.held.conflict(&waiter.wanted).is_some() {
            at += 1;
            continue;
        }
        let waiter = state.waiting.remove(at);
        state.held.set(waiter.wanted);
        woken.push(waiter.answer);
    }
    woken
}

#[cfg(test)]
mod tests;
