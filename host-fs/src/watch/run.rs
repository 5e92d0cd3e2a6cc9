//! The thread that drives: reads hints, has them judged, sends the changes, and compares again what
//! hints were lost of.
//!
//! Hints are read as they come and kept, bounded by `BACKLOG`; beyond it, and where the source
//! itself lost some, every lease is broken first, every directory is told to be in doubt and compared
//! again. Only then are the leases given back.
//!
//! A guest at work hears itself: every file that it makes brings hints, to be dropped. After a batch
//! that held nothing else, hints gather for `GATHER` before the next is read, so that this thread does
//! not wake up for each. A change of the host waits no longer than that, and only behind such a batch.

mod scarce;
#[cfg(test)]
mod tests;

use super::driver::{Driver, UnderWay};
use super::{Doer, Report, WatchKey};
use crate::counters::ExportCounters;
use crate::os;
use crate::reconcile::again::Again;
use crate::reconcile::{Looked, Lookup, OwnedChange};
use crate::session::Session;
use protocol::{Attachment, Change, Changes, Entry, Errno, NodeId, Notice, Time, limits};
use rustc_hash::FxHashSet;
use scarce::{Giving, TURN};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tracing::{debug, info, trace, warn};

/// Hints kept while they cannot be judged.
const BACKLOG: usize = 65_536;
/// Hints judged between two notices.
const ROUND: usize = 256;
/// Names compared between two notices, after a loss.
const COMPARE_ROUND: usize = 1024;
/// Most bytes of changes in one notice, well below [`limits::MAX_FRAME`].
const NOTICE_BYTES: usize = limits::MAX_FRAME / 2;

/// How long hints gather behind a batch of mere echoes. The kernel's queues hold 16,384 events: three
/// a microsecond would have to come for one to run over meanwhile.
const GATHER: Duration = Duration::from_millis(5);
/// Echoes taken off at once, under one lock that requests want as well.
const ECHO_ROUND: usize = 32;

/// Directories out of sight that are remembered.
const MOST_AWAY: usize = 256;

/// A moment by the clock that sets the times of files, which may be set itself, and by one that is
/// not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    wall: Time,
    at: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Self { wall: os::now(), at: Instant::now() }
    }

    /// What that clock said then, or would have said as it goes now, whichever is earlier.
    fn since(&self) -> Time {
        let elapsed = self.at.elapsed();
        let now = os::now();
        let ago = i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX);
        self.wall.min(Time { sec: now.sec.saturating_sub(ago).saturating_sub(1), nsec: now.nsec })
    }
}

/// The host through the session's confined access.
struct HostView<'s>(&'s Session);

impl Lookup for HostView<'_> {
    fn look(&mut self, dir: NodeId, name: &[u8]) -> Looked {
        match self.0.look(dir, name) {
            Ok(Some(looked)) => Looked::There { node: looked.node, attr: looked.attr },
            Ok(None) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE) => Looked::Absent,
            Err(errno) => {
                debug!(%dir, name = %name.escape_ascii(), %errno, "cannot look");
                Looked::Failed
            }
        }
    }

    fn entry(&mut self, dir: NodeId, name: &[u8]) -> Option<Entry> {
        self.0.entry_for(dir, name).ok().flatten()
    }

    fn entry_of(&mut self, node: NodeId) -> Option<Entry> {
        self.0.entry_of_node(node).ok()
    }

    fn links(&mut self, node: NodeId) -> Option<u32> {
        self.0.attr(node).ok().map(|attr| attr.nlink)
    }

    fn target(&mut self, node: NodeId) -> Option<Box<[u8]>> {
        self.0.target(node).ok().map(Vec::into_boxed_slice)
    }
}

/// What only the driving thread has.
pub(super) struct Loop<'d> {
    driver: &'d Driver,
    backlog: VecDeque<Report>,
    pending: VecDeque<OwnedChange>,
    /// What was read last held only echoes of the guest's own work, as far as it is judged.
    mere_echoes: bool,
    /// Directories that were moved out of sight, and when.
    away: VecDeque<(NodeId, Moment)>,
    /// When nothing was left to be read or judged.
    clean: Moment,
    /// When the directories without a watch were compared last.
    compared: Instant,
    /// The agent knows that there are too few watches.
    is_scarce: bool,
    giving: Option<Giving>,
    /// What [`Session::uses`] was when no watch was to change hands.
    settled: Option<u32>,
}

impl<'d> Loop<'d> {
    pub fn new(driver: &'d Driver) -> Self {
        Self {
            driver,
            backlog: VecDeque::new(),
            pending: VecDeque::new(),
            mere_echoes: false,
            away: VecDeque::new(),
            clean: Moment::now(),
            compared: Instant::now(),
            is_scarce: false,
            giving: None,
            settled: None,
        }
    }

    /// Drives until the session ends.
    pub fn run(&mut self) {
        self.driver.source.serving();
        let mut reports = Vec::new();
        while !self.driver.closed.load(Ordering::Acquire) {
            let timeout = self.timeout();
            if let Err(error) = self.driver.source.wait(timeout, &mut reports) {
                warn!(%error, "the host is watched no longer");
                self.driver.leases.write().clear();
                reports.push(Report::Overflow);
            }
            let Some(session) = self.driver.session.upgrade() else { return };
            if self.backlog.is_empty() {
                self.mere_echoes = !reports.is_empty();
                if !reports.contains(&Report::Overflow) {
                    self.clean = Moment::now();
                }
            }
            self.keep(&mut reports);
            self.round(&session);
            self.share_out(&session);
            drop(session);
            // Whatever is due by then, or may be sent, comes first.
            let is_done =
                self.backlog.is_empty() && self.timeout().is_none_or(|time| time >= GATHER);
            if self.mere_echoes && is_done {
                self.driver.source.gather(GATHER);
            }
        }
        trace!("the watching thread ends");
    }

    /// How long nothing has to be done.
    fn timeout(&self) -> Option<Duration> {
        let busy = !self.backlog.is_empty() || !self.pending.is_empty();
        if busy || self.giving.is_some() {
            self.driver.stalled.store(true, Ordering::SeqCst);
            if busy && self.driver.may_send() || self.may_hand_over() {
                return Some(Duration::ZERO);
            }
        }
        // While stalled nothing that falls due could be sent.
        if busy {
            return None;
        }
        let due = self.driver.core.lock().deadline();
        let turn = (!self.driver.unwatched.lock().is_empty()).then(|| self.compared + TURN);
        let next = due.into_iter().chain(turn).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn keep(&mut self, reports: &mut Vec<Report>) {
        if self.backlog.len() + reports.len() > BACKLOG {
            let ended = |report: &Report| matches!(report, Report::Ended(_));
            self.backlog.retain(ended);
            reports.retain(ended);
            self.backlog.push_front(Report::Overflow);
        }
        self.backlog.extend(reports.drain(..));
    }

    fn round(&mut self, session: &Session) {
        self.send(session);
        for _ in 0..ROUND {
            if !self.pending.is_empty() || !self.driver.may_send() {
                return;
            }
            if self.take_echoes(session) {
                continue;
            }
            let Some(report) = self.backlog.pop_front() else { break };
            // Where nobody says who did it, what is no news is taken for an echo.
            self.mere_echoes &= matches!(&report, Report::Hint(hint) if hint.by != Doer::Another && !is_parent(hint.dir));
            match report {
                Report::Hint(hint) if is_parent(hint.dir) => {
                    let name = hint.name.as_deref().unwrap_or_default();
                    if let Some((attachment, true)) = self.driver.parent_of(hint.dir, name) {
                        self.check_root(session, attachment);
                    }
                }
                Report::Hint(mut hint) => {
                    trace!(?hint, "hint");
                    // What the guest did through one mount is news for the other.
                    if hint.by == Doer::Ourselves && self.driver.has_several_mounts() {
                        hint.by = Doer::Unknown;
                    }
                    let (now, dir) = (Instant::now(), hint.dir.0);
                    let echoes = {
                        let core = &mut *self.driver.core.lock();
                        self.driver.heard.hint(&hint);
                        let before = core.counters().echoes;
                        core.hint(now, hint, &mut HostView(session));
                        core.counters().echoes - before
                    };
                    self.driver.adopt();
                    self.collect(session);
                    count(session, dir, |counters| {
                        counters.hints.add(1);
                        counters.echoes.add(echoes);
                    });
                }
                Report::Ended(key) if is_parent(key) => {}
                Report::Ended(key) => self.ended(session, key),
                Report::Overflow => self.compare_all(session),
                Report::Subtree(WatchKey(top)) => self.compare_beneath(session, top),
            }
        }
        self.driver.core.lock().tick(Instant::now(), &mut HostView(session));
        self.driver.adopt();
        self.send(session);
        let returned = self.driver.core.lock().take_returned();
        for dir in returned {
            let left = self.away.iter().position(|(node, _)| *node == dir);
            let left = left.and_then(|at| self.away.remove(at)).map_or(self.clean, |(_, at)| at);
            let dirs = self.driver.core.lock().beneath(dir);
            self.compare(session, &dirs, left.since(), Again::default());
        }
    }

    /// Takes echoes off that stand in front, of one directory, for which nothing has to be looked at.
    /// Tells whether there were any.
    fn take_echoes(&mut self, session: &Session) -> bool {
        // What the guest did through one mount is news for the other.
        if self.driver.has_several_mounts() {
            return false;
        }
        let is_echo = |report: &Report| match report {
            Report::Hint(hint) if hint.by == Doer::Ourselves && !is_parent(hint.dir) => {
                Some(hint.dir)
            }
            _ => None,
        };
        let Some(WatchKey(dir)) = self.backlog.front().and_then(is_echo) else { return false };
        let others = self.backlog.iter().position(|other| is_echo(other) != Some(WatchKey(dir)));
        let echoes = others.unwrap_or(self.backlog.len()).min(ECHO_ROUND);
        let known = {
            let (now, core) = (Instant::now(), &mut *self.driver.core.lock());
            let before = core.counters().echoes;
            for report in self.backlog.drain(..echoes) {
                trace!(?report, "own");
                if let Report::Hint(hint) = report {
                    core.hint(now, hint, &mut HostView(session));
                }
            }
            core.counters().echoes - before
        };
        count(session, dir, |counters| {
            counters.hints.add(echoes as u64);
            counters.echoes.add(known);
        });
        true
    }

    fn ended(&mut self, session: &Session, WatchKey(dir): WatchKey) {
        self.driver.leases.write().remove(&dir);
        let told = self.driver.core.lock().unwatched(dir);
        session.unwatched(dir);
        if told && session.knows(dir) {
            self.pending.push_back(OwnedChange::Doubt { dir });
        }
    }

    /// Hints were lost.
    fn compare_all(&mut self, session: &Session) {
        let leases = std::mem::take(&mut *self.driver.leases.write());
        let dirs = self.driver.core.lock().lost();
        warn!(directories = dirs.len(), "hints were lost; comparing again");
        self.send(session);
        self.compare(session, &dirs, self.clean.since(), Again::after_loss());
        let core = self.driver.core.lock();
        let watched = dirs.into_iter().filter(|dir| leases.contains(dir) && core.is_watched(*dir));
        self.driver.leases.write().extend(watched);
    }

    /// Something happened to the name of an export's folder.
    fn check_root(&mut self, session: &Session, attachment: Attachment) {
        let Some((root, path)) = session.root_of(attachment) else { return };
        match session.follow_root(attachment) {
            Ok(false) => {}
            Ok(true) => {
                info!(path = %path.display(), "the shared folder is another one now");
                self.driver.leases.write().remove(&root);
                self.driver.source.unwatch(WatchKey(root));
                session.watch_again(root);
                self.driver.adopt();
                let dirs = self.driver.core.lock().beneath(root);
                dirs.iter().for_each(|dir| self.driver.core.lock().doubt(*dir));
                self.send(session);
                // Whatever is in it is new here, however old it is.
                self.compare(session, &dirs, Time::default(), Again::after_loss());
            }
            Err(errno) => {
                info!(path = %path.display(), %errno, "the shared folder is gone");
                self.compare_beneath(session, root);
            }
        }
    }

    /// Something may have happened beneath a directory.
    fn compare_beneath(&mut self, session: &Session, top: NodeId) {
        let dirs = self.driver.core.lock().beneath(top);
        debug!(directories = dirs.len(), "comparing again beneath a directory");
        self.compare(session, &dirs, self.clean.since(), Again::after_loss());
    }

    /// Compares directories, parents first, with what the guest was told.
    fn compare(&mut self, session: &Session, dirs: &[NodeId], since: Time, mut again: Again) {
        let mut lost: Vec<NodeId> = dirs.to_vec();
        loop {
            let known = lost.len();
            lost.retain(|dir| !self.compare_dir(session, &mut again, *dir));
            let moved = {
                let core = &mut *self.driver.core.lock();
                core.match_moves(&mut again, &mut HostView(session))
            };
            self.driver.adopt();
            self.send(session);
            // A directory that was renamed is found under its new name.
            if lost.is_empty() || lost.len() == known && !moved {
                break;
            }
        }
        for dir in lost.into_iter().filter(|dir| session.knows(*dir)) {
            self.driver.core.lock().compare_dir(&mut again, dir, &FxHashSet::default());
        }
        self.driver.core.lock().finish(again, since, &mut HostView(session));
        self.driver.adopt();
        self.send(session);
    }

    /// Compares one directory. False if it is not to be found.
    fn compare_dir(&mut self, session: &Session, again: &mut Again, dir: NodeId) -> bool {
        if !self.driver.core.lock().is_watched(dir) {
            return true;
        }
        count(session, dir, |counters| counters.comparisons.add(1));
        {
            let _core = self.driver.core.lock();
            self.driver.heard.anything();
        }
        let names = match session.list(dir).and_then(|mut stream| all_names(&mut stream)) {
            Ok(names) => names,
            Err(Errno::ESTALE | Errno::ENOENT | Errno::ENOTDIR) => return false,
            Err(errno) => {
                warn!(%dir, %errno, "a directory cannot be compared");
                return true;
            }
        };
        for part in names.chunks(COMPARE_ROUND) {
            let part = part.iter().map(|name| &**name);
            self.driver.core.lock().compare_names(again, dir, part, &mut HostView(session));
            self.driver.adopt();
            self.send(session);
        }
        let present = names.iter().map(|name| &**name).collect();
        self.driver.core.lock().compare_dir(again, dir, &present);
        true
    }

    /// Takes over what is found. Before the next hint is judged, as the session's names follow: what
    /// went and came back has its name again.
    fn collect(&mut self, session: &Session) {
        let found = self.driver.core.lock().take();
        for (index, change) in found.iter().enumerate() {
            let later = found.get(index + 1..).unwrap_or_default();
            if !later.iter().any(|later| brings_back(later, change)) {
                note(session, change);
            }
            if let OwnedChange::Removed { node, is_dir: true, moved: true, .. } = change {
                self.away.push_front((*node, Moment::now()));
                self.away.truncate(MOST_AWAY);
            }
        }
        self.mere_echoes &= found.is_empty();
        self.pending.extend(found);
    }

    /// Sends what is found, as far as it may.
    fn send(&mut self, session: &Session) {
        self.collect(session);
        while !self.pending.is_empty() && self.driver.may_send() {
            let Some(attachment) = self.next_attachment(session) else { continue };
            let mut bytes = 0;
            let mut batch = Vec::new();
            while let Some(change) = self.pending.front() {
                bytes += change.encoded_len();
                let full = batch.len() == limits::MAX_CHANGES || bytes > NOTICE_BYTES;
                let foreign = session.attachment_of(subject(change)) != Some(attachment);
                if !batch.is_empty() && (full || foreign) {
                    break;
                }
                batch.extend(self.pending.pop_front());
            }
            self.notice(session, attachment, &batch);
        }
    }

    /// The attachment of the first pending change; drops the change if it has none any more.
    fn next_attachment(&mut self, session: &Session) -> Option<Attachment> {
        let change = self.pending.front()?;
        let attachment = session.attachment_of(subject(change));
        if attachment.is_none() {
            let change = self.pending.pop_front()?;
            give_back(session, &change);
        }
        attachment
    }

    fn notice(&self, session: &Session, attachment: Attachment, batch: &[OwnedChange]) {
        let changes: Vec<Change<'_>> = batch.iter().filter_map(OwnedChange::borrow).collect();
        trace!(?changes, "changes");
        let seq = self.driver.sent.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(export) = session.attached_export(attachment) {
            let changes = changes.len() as u64;
            export.counters.changes.add(changes);
            export.counters.queued.add(changes);
            let notice = UnderWay { seq, export, changes, sent: Instant::now() };
            self.driver.under_way.lock().push_back(notice);
        }
        let notice = Notice::Changes { attachment, seq, changes: Changes(changes) };
        if session.notices().notice(&notice).is_err() {
            // The session ends with its connection, and all lookups with it.
            debug!("changes for a guest that is gone");
        }
    }
}

/// Counts something of a directory for its export.
fn count(session: &Session, dir: NodeId, add: impl FnOnce(&ExportCounters)) {
    let attachment = session.attachment_of(dir);
    if let Some(export) = attachment.and_then(|attachment| session.attached_export(attachment)) {
        add(&export.counters);
    }
}

/// Whether a name that one change says is gone leads to the same node again by the other: then the
/// session has heard of it already.
fn brings_back(later: &OwnedChange, gone: &OwnedChange) -> bool {
    let OwnedChange::Removed { at, node, .. } = gone else { return false };
    match later {
        OwnedChange::Created { at: back, entry, .. }
        | OwnedChange::Renamed { to: back, entry, .. } => back == at && entry.node == *node,
        _ => false,
    }
}

/// The session's own memory of names follows.
fn note(session: &Session, change: &OwnedChange) {
    match change {
        OwnedChange::Renamed { from, to, entry, replaced } => {
            if let (Some(from), Some(to)) = (from.borrow(), to.borrow()) {
                let replaced = (*replaced != NodeId(0)).then_some(*replaced);
                session.renamed(entry.node, from, to, replaced);
            }
        }
        OwnedChange::Removed { at, node, .. } if *node != NodeId(0) => {
            if let Some(at) = at.borrow() {
                session.removed(*node, at);
            }
        }
        _ => {}
    }
}

/// The node whose attachment a change belongs to.
fn subject(change: &OwnedChange) -> NodeId {
    match change {
        OwnedChange::Created { at, .. }
        | OwnedChange::Modified { at, .. }
        | OwnedChange::Removed { at, .. }
        | OwnedChange::Passed { at, .. }
        | OwnedChange::Attrib { at: Some(at), .. } => at.parent,
        OwnedChange::Attrib { at: None, entry } => entry.node,
        OwnedChange::Renamed { to, .. } => to.parent,
        OwnedChange::Doubt { dir } => *dir,
    }
}

fn give_back(session: &Session, change: &OwnedChange) {
    if let Some(node) = change.lookup() {
        session.give_back(node, 1);
    }
}

/// Whether this is the watch of a parent of an export.
fn is_parent(WatchKey(NodeId(number)): WatchKey) -> bool {
    number >> 32 == u64::from(u32::MAX)
}

/// All names that stand in a directory.
fn all_names(stream: &mut os::DirStream) -> Result<Vec<Box<[u8]>>, Errno> {
    let mut names = Vec::new();
    while let Some(entry) = stream.peek()? {
        if !matches!(entry.name, b"." | b"..") {
            names.push(entry.name.into());
        }
        stream.advance();
    }
    Ok(names)
}
