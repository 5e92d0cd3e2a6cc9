//! Too few watches: which directories have them, and the others compared in turn.
//!
//! ```text
//! source refuses ─▶ unwatched ── compared in turn ── has a watch when there is room for one
//!                     │    ▲
//!                 choose   │ its claim exceeds that of one that has a watch
//!                     │    │
//!     lease broken, Doubt ─┴─ acknowledged: the guest believes nothing of it any more,
//!                             the watch is removed and given to the other
//! ```
//!
//! A lease is broken first and its watch is removed after: what happens in between is hinted. From
//! then on the directory is among those that are compared, with what was not read any more.

use super::Loop;
use crate::reconcile::OwnedChange;
use crate::reconcile::again::Again;
use crate::session::Session;
use crate::watch::claims::{self, Claim, Swap};
use crate::watch::driver::Unwatched;
use crate::watch::run::Moment;
use crate::watch::{WatchError, WatchKey};
use protocol::{NodeId, Notice};
use rustc_hash::FxHashSet;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::debug;

/// How often directories without a watch are compared, and how many at a time.
pub(super) const TURN: Duration = Duration::from_secs(1);
const IN_TURN: usize = 64;

/// Leases that are broken, and whose watches are still there.
pub(super) struct Giving {
    swaps: Vec<Swap>,
    /// The notice that the guest has to acknowledge; none while it could not be sent.
    behind: Option<u64>,
}

impl Loop<'_> {
    /// Does what is due for directories without a watch.
    pub(super) fn share_out(&mut self, session: &Session) {
        self.hand_over(session);
        let is_turn = self.compared.elapsed() >= TURN;
        let is_asked = self.driver.is_asked.load(Ordering::Acquire);
        if !self.pending.is_empty() || !is_turn && !is_asked {
            return;
        }
        if is_turn {
            self.compared = Instant::now();
            self.tell_scarce(session);
            self.compare_first(session, IN_TURN);
        }
        self.choose(session);
    }

    /// Whether the guest has taken note of what is given up.
    pub(super) fn may_hand_over(&self) -> bool {
        let behind = self.giving.as_ref().and_then(|giving| giving.behind);
        behind.is_some_and(|seq| self.driver.acknowledged.load(Ordering::SeqCst) >= seq)
    }

    /// The agent is to say what is watched, or no longer.
    fn tell_scarce(&mut self, session: &Session) {
        let scarce = self.driver.unwatched.lock().iter().any(|one| one.for_room);
        if std::mem::replace(&mut self.is_scarce, scarce) != scarce
            && session.notices().notice(&Notice::Scarce { scarce }).is_err()
        {
            debug!("too few watches for a guest that is gone");
        }
    }

    /// Breaks the leases of those that need their watch less than others would.
    fn choose(&mut self, session: &Session) {
        if self.giving.is_some() || !self.is_scarce {
            return;
        }
        let is_asked = self.driver.is_asked.swap(false, Ordering::AcqRel);
        let uses = session.uses();
        if !is_asked && self.settled == Some(uses) {
            return;
        }
        let (held, wanting) = self.parties();
        let swaps = claims::swaps(self.claims(session, held), self.claims(session, wanting));
        self.settled = swaps.is_empty().then_some(uses);
        if swaps.is_empty() {
            return;
        }
        debug!(directories = swaps.len(), "leases given up in favour of others");
        for swap in &swaps {
            self.driver.leases.write().remove(&swap.from);
            self.pending.push_back(OwnedChange::Doubt { dir: swap.from });
        }
        self.driver.given_up.fetch_add(swaps.len() as u64, Ordering::Relaxed);
        self.giving = Some(Giving { swaps, behind: None });
        self.send(session);
        self.note_sent();
    }

    /// Who could give up a watch, and who would like one.
    fn parties(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let limited = self.driver.source.limited();
        let (mut held, mut wanting) = (Vec::new(), Vec::new());
        held.extend(limited.into_iter().map(|WatchKey(dir)| dir));
        let unwatched = self.driver.unwatched.lock();
        wanting.extend(unwatched.iter().filter(|one| one.for_room).map(|one| one.dir));
        drop(unwatched);
        let leases = self.driver.leases.read();
        held.retain(|dir| leases.contains(dir));
        wanting.retain(|dir| !leases.contains(dir));
        (held, wanting)
    }

    fn claims(&self, session: &Session, dirs: Vec<NodeId>) -> Vec<Claim> {
        let used = session.recency(&dirs);
        let guests = self.driver.guests.lock();
        let is_watched = |dir| guests.values().any(|dirs| dirs.contains(&dir));
        let claim = |(dir, used)| Claim { is_watched: is_watched(dir), used, dir };
        dirs.into_iter().zip(used).map(claim).collect()
    }

    fn note_sent(&mut self) {
        if let Some(giving) = self.giving.as_mut().filter(|_| self.pending.is_empty()) {
            giving.behind.get_or_insert(self.driver.sent.load(Ordering::Acquire));
        }
    }

    /// The watches of those that the guest believes nothing of any more go to the others.
    fn hand_over(&mut self, session: &Session) {
        self.note_sent();
        if !self.may_hand_over() {
            return;
        }
        let Some(Giving { mut swaps, .. }) = self.giving.take() else { return };
        // Who was watched anew meanwhile is leased anew.
        swaps.retain(|swap| !self.driver.leases.read().contains(&swap.from));
        swaps.iter().for_each(|swap| self.driver.source.unwatch(WatchKey(swap.from)));
        let heirs: FxHashSet<NodeId> = swaps.iter().map(|swap| swap.to).collect();
        let givers = swaps.iter().map(|swap| swap.from).filter(|dir| session.knows(*dir));
        let since = self.clean;
        let givers: Vec<_> = givers.map(|dir| Unwatched { dir, since, for_room: true }).collect();
        let mut unwatched = self.driver.unwatched.lock();
        let (first, rest): (Vec<_>, Vec<_>) =
            unwatched.drain(..).partition(|one| heirs.contains(&one.dir));
        let count = first.len();
        unwatched.extend(first.into_iter().chain(rest).chain(givers));
        drop(unwatched);
        self.compare_first(session, count);
    }

    /// Compares the first of the directories that are not watched, and tries to have them watched.
    fn compare_first(&mut self, session: &Session, most: usize) {
        let waiting = self.driver.unwatched.lock().len();
        let mut compared = 0;
        for _ in 0..waiting {
            if compared == most {
                return;
            }
            let Some(one) = self.driver.unwatched.lock().pop_front() else { return };
            let found = session.directory(one.dir);
            // Those that the guest has forgotten take no time of the others.
            if found.is_err() && !session.knows(one.dir) {
                continue;
            }
            compared += 1;
            let Ok(fd) = found else {
                self.driver.unwatched.lock().push_back(one);
                continue;
            };
            let now = Moment::now();
            let watched = self.driver.source.watch(WatchKey(one.dir), fd.as_fd());
            self.compare(session, &[one.dir], one.since.since(), Again::after_loss());
            match watched {
                Ok(()) => _ = self.driver.leases.write().insert(one.dir),
                Err(error) => {
                    let for_room = matches!(error, WatchError::Limit);
                    let one = Unwatched { since: now, for_room, ..one };
                    self.driver.unwatched.lock().push_back(one);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
