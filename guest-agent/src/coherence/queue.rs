//! Which hand does which job when. Pure: jobs and the time come in, decisions go out.
//!
//! ```text
//! push ── waiting ── take (the leader, in order) ── done
//!                        │
//!          look ── stuck for STUCK, and others wait: another hand leads, past what it blocks
//!               ── stuck for PATIENCE: given up, with all that waits for the same directories
//! ```
//!
//! One hand *leads*: it alone takes jobs, strictly in order. While others are stuck, it takes the
//! first job that concerns no directory that a stuck hand holds or an earlier waiting job is about;
//! so the order in a directory is kept whatever happens.
//!
//! A directory whose job was given up is *lost*: jobs about it are dropped. It is compared again when
//! the kernel lets go of the stuck call; meanwhile it is *held*, and its jobs wait.

use protocol::NodeId;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// After this time at one job a hand is stuck. What is done past it comes before it, so it is longer than a
/// slow machine, as an emulated one, takes for a job.
pub const STUCK: Duration = Duration::from_millis(50);
/// How long one job may take.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Who looks so much later than planned was suspended, and the hands as well.
const SUSPENDED: Duration = Duration::from_millis(500);
/// Hands that there may be.
pub const MAX_HANDS: usize = 8;

/// The directories, and the objects that act like ones, that a job is about. Unused places are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Concerns(pub [NodeId; 4]);

impl Concerns {
    /// Those of them that are used.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().copied().filter(|node| *node != NodeId(0))
    }

    fn meets(&self, others: &[NodeId]) -> bool {
        self.iter().any(|node| others.contains(&node))
    }
}

/// What a job is a part of: something follows when all jobs of it are done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ticket {
    /// The changes of this number, of this connection.
    Notice(u32, u64),
    /// The differences that this comparison found.
    Comparison(u64),
}

/// Something to be done in its turn.
#[derive(Debug)]
pub struct Job<T> {
    /// What.
    pub act: T,
    /// Where.
    pub concerns: Concerns,
    /// As a part of what.
    pub ticket: Option<Ticket>,
    /// Since when it waits.
    pub arrived: Instant,
}

/// What a hand is at.
#[derive(Debug)]
struct Busy {
    concerns: Concerns,
    tickets: [Option<Ticket>; 2],
    since: Instant,
    arrived: Instant,
    given_up: bool,
}

/// A job that was given up.
#[derive(Debug)]
pub struct GivenUp<T> {
    /// Where it was stuck.
    pub concerns: Concerns,
    /// When it had arrived.
    pub arrived: Instant,
    /// What waited for the same directories, and is not done either.
    pub dropped: Vec<Job<T>>,
    /// What is complete by that.
    pub complete: Vec<Ticket>,
}

/// What is to be done about hands that do not get on.
#[derive(Debug)]
pub struct Look<T> {
    /// This hand leads from now on.
    pub leader: Option<usize>,
    /// These are given up.
    pub given_up: Vec<GivenUp<T>>,
    /// When to look again; never while nothing is under way.
    pub again: Option<Instant>,
}

/// The jobs of one mount.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: VecDeque<Job<T>>,
    /// Waits until everything has been compared.
    behind: VecDeque<Job<T>>,
    shut: bool,
    hands: [Option<Busy>; MAX_HANDS],
    leader: usize,
    open: HashMap<Ticket, usize>,
    /// Directories whose events were given up, and since when they are not told of.
    lost: Vec<(NodeId, Instant)>,
    /// Directories that are being compared.
    held: Vec<NodeId>,
    /// When the next look was to be.
    planned: Option<Instant>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            behind: VecDeque::new(),
            shut: false,
            hands: Default::default(),
            leader: 0,
            open: HashMap::new(),
            lost: Vec::new(),
            held: Vec::new(),
            planned: None,
        }
    }
}

impl<T> Queue<T> {
    /// How many jobs wait.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.behind.len()
    }

    /// The hand that leads.
    pub fn leader(&self) -> usize {
        self.leader
    }

    /// When it is to be looked whether a hand does not get on; never while none is at work.
    pub fn next_look(&self) -> Option<Instant> {
        let busy = self.hands.iter().flatten().filter(|busy| !busy.given_up);
        let patience = busy.map(|busy| busy.since + PATIENCE).min();
        let leads = self.hands.get(self.leader).and_then(Option::as_ref);
        let stuck = leads.filter(|_| !self.waiting.is_empty()).map(|busy| busy.since + STUCK);
        patience.into_iter().chain(stuck).min()
    }

    /// Since when the oldest of them does.
    pub fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().chain(&self.behind).map(|job| job.arrived);
        waiting.chain(self.hands.iter().flatten().map(|busy| busy.arrived)).min()
    }

    /// Adds a job. It comes back if it concerns a lost directory: it is not to be done, and what
    /// becomes complete by that is returned as well.
    pub fn push(&mut self, job: Job<T>) -> Option<(Job<T>, Option<Ticket>)> {
        self.opened(job.ticket);
        if self.concerns_lost(&job) {
            // Another directory that it is about is incomplete by that, too.
            self.lose(job.concerns, job.arrived);
            let complete = self.finished(job.ticket);
            return Some((job, complete));
        }
        match self.shut && matches!(job.ticket, Some(Ticket::Notice(..))) {
            true => self.behind.push_back(job),
            false => self.waiting.push_back(job),
        }
        None
    }

    /// Adds jobs before all that wait, in their order.
    pub fn push_front(&mut self, jobs: Vec<Job<T>>) {
        for job in jobs.into_iter().rev() {
            self.opened(job.ticket);
            self.waiting.push_front(job);
        }
    }

    /// What is told from now on waits until [`unshut`](Self::unshut).
    pub fn shut(&mut self) {
        self.shut = true;
    }

    /// It need not wait any more.
    pub fn unshut(&mut self) {
        self.shut = false;
        self.waiting.append(&mut self.behind);
    }

    /// Drops all that waits: what told of it is gone. Directories that are stuck stay lost.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.behind.clear();
        self.open.clear();
        self.held.clear();
        self.hands.iter_mut().flatten().for_each(|busy| busy.tickets = [None; 2]);
    }

    /// The next job for this hand, and where it stood. None if it does not lead or nothing can be done.
    pub fn take(&mut self, hand: usize, now: Instant) -> Option<(Job<T>, usize)> {
        if self.leader != hand || self.hands.get(hand)?.is_some() {
            return None;
        }
        let at = self.first_free()?;
        let job = self.waiting.remove(at)?;
        *self.hands.get_mut(hand)? = Some(Busy {
            concerns: job.concerns,
            tickets: [job.ticket, None],
            since: now,
            arrived: job.arrived,
            given_up: false,
        });
        Some((job, at))
    }

    /// The job that stood behind the one that this hand has taken, if it is wanted as well.
    pub fn take_too(
        &mut self,
        hand: usize,
        at: usize,
        wanted: impl FnOnce(&Job<T>) -> bool,
    ) -> Option<Job<T>> {
        self.waiting.get(at).filter(|job| wanted(job))?;
        let job = self.waiting.remove(at)?;
        if let Some(Some(busy)) = self.hands.get_mut(hand) {
            busy.tickets = [busy.tickets[0], job.ticket];
        }
        Some(job)
    }

    /// This hand has done its job: what is complete by that, and, if it had been given up, which
    /// directories are to be compared and since when they were not told of. They are held until
    /// [`compared`](Self::compared).
    pub fn done(&mut self, hand: usize) -> (Vec<Ticket>, Vec<(NodeId, Instant)>) {
        let Some(busy) = self.hands.get_mut(hand).and_then(Option::take) else {
            return Default::default();
        };
        let complete =
            busy.tickets.into_iter().filter_map(|ticket| self.finished(ticket)).collect();
        if !busy.given_up {
            return (complete, Vec::new());
        }
        let stuck = |node: &NodeId| {
            let others = self.hands.iter().flatten().filter(|busy| busy.given_up);
            others.flat_map(|busy| busy.concerns.iter()).any(|other| other == *node)
        };
        let free: Vec<_> = self.lost.iter().copied().filter(|(node, _)| !stuck(node)).collect();
        self.lost.retain(|lost| !free.contains(lost));
        self.held.extend(free.iter().map(|(node, _)| *node));
        (complete, free)
    }

    /// These directories need not wait any more.
    pub fn compared(&mut self, dirs: &[NodeId]) {
        self.held.retain(|held| !dirs.contains(held));
    }

    /// Looks whether a hand does not get on.
    pub fn look(&mut self, now: Instant, hands: usize) -> Look<T> {
        self.excuse(now);
        let mut given_up = Vec::new();
        for hand in 0..self.hands.len() {
            given_up.extend(self.give_up(hand, now));
        }
        let leader = self.hand_over(now, hands);
        // With nothing that another hand could do there is no hurry.
        let again = self.next_look().map(|at| at.max(now + STUCK));
        self.planned = again;
        Look { leader, given_up, again }
    }

    /// After a suspension of the process, or of its machine, the hands have their time once more. The
    /// first look at a hand is planned for when it takes a job.
    fn excuse(&mut self, now: Instant) {
        let hands = || self.hands.iter().flatten().filter(|busy| !busy.given_up);
        let Some(planned) = self.planned.or_else(|| hands().map(|busy| busy.since).min()) else {
            return;
        };
        if now.saturating_duration_since(planned) >= SUSPENDED {
            let hands = self.hands.iter_mut().flatten().filter(|busy| !busy.given_up);
            hands.for_each(|busy| busy.since = now);
        }
    }

    fn hand_over(&mut self, now: Instant, hands: usize) -> Option<usize> {
        let stuck = self.hands.get(self.leader)?.as_ref()?;
        if now.duration_since(stuck.since) < STUCK || self.first_free().is_none() {
            return None;
        }
        let idle = self.hands.iter().take(hands.min(MAX_HANDS)).position(Option::is_none)?;
        self.leader = idle;
        Some(idle)
    }

    fn give_up(&mut self, hand: usize, now: Instant) -> Option<GivenUp<T>> {
        let busy = self.hands.get_mut(hand)?.as_mut()?;
        if busy.given_up || now.duration_since(busy.since) < PATIENCE {
            return None;
        }
        busy.given_up = true;
        let (concerns, arrived) = (busy.concerns, busy.arrived);
        let tickets = std::mem::take(&mut busy.tickets);
        let mut complete: Vec<_> =
            tickets.into_iter().filter_map(|ticket| self.finished(ticket)).collect();
        self.lose(concerns, arrived);
        let mut dropped = Vec::new();
        // What is dropped may be about another directory as well, which then is incomplete too.
        while let Some(at) = self.waiting.iter().position(|job| self.concerns_lost(job)) {
            let Some(job) = self.waiting.remove(at) else { break };
            self.lose(job.concerns, arrived);
            complete.extend(self.finished(job.ticket));
            dropped.push(job);
        }
        Some(GivenUp { concerns, arrived, dropped, complete })
    }

    fn lose(&mut self, concerns: Concerns, since: Instant) {
        for node in concerns.iter() {
            if !self.lost.iter().any(|(lost, _)| *lost == node) {
                self.lost.push((node, since));
            }
        }
    }

    fn concerns_lost(&self, job: &Job<T>) -> bool {
        !self.lost.is_empty()
            && job.concerns.iter().any(|node| self.lost.iter().any(|(lost, _)| *lost == node))
    }

    /// Where the first job stands that nothing is in the way of.
    fn first_free(&self) -> Option<usize> {
        let stuck = self.hands.iter().flatten().flat_map(|busy| busy.concerns.iter());
        let mut blocked: Vec<NodeId> = stuck.chain(self.held.iter().copied()).collect();
        for (at, job) in self.waiting.iter().enumerate() {
            if !job.concerns.meets(&blocked) {
                return Some(at);
            }
            for node in job.concerns.iter() {
                if !blocked.contains(&node) {
                    blocked.push(node);
                }
            }
        }
        None
    }

    fn opened(&mut self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            *self.open.entry(ticket).or_default() += 1;
        }
    }

    /// One job of this ticket is done. Returns the ticket if that was the last.
    fn finished(&mut self, ticket: Option<Ticket>) -> Option<Ticket> {
        let ticket = ticket?;
        let left = self.open.get_mut(&ticket)?;
        *left -= 1;
        if *left > 0 {
            return None;
        }
        self.open.remove(&ticket);
        Some(ticket)
    }
}

#[cfg(test)]
mod tests;
