//! From batches of events to reports: the part about streams. What happens to names is judged in
//! [`judge`](super::judge).
//!
//! # Losses
//! Where events were lost between fseventsd and us, its journal still has them: the stream is to be
//! begun anew after the last event that came ([`Replay`]). Where the kernel lost them, the volume
//! has no journal, or a replay lost some itself, the directories are to be compared again.

use super::renames::Renames;
use super::standing::Standing;
use super::watched::{Watch, Watched};
use super::{Event, EventId, FileId, Flags, There, is_within, split};
use crate::watch::{Report, WatchKey};
use rustc_hash::{FxHashMap, FxHashSet};

/// One run of one stream. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u32);

/// The journal is to be replayed: this stream is to be ended, and one with the same root begun after
/// an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Of the stream.
    pub root: Box<[u8]>,
    /// The event.
    pub since: EventId,
}

/// Events of one stream, in their order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Those that matter.
    pub events: Vec<Event>,
    /// The last of all.
    last: EventId,
}

struct Stream {
    root: Box<[u8]>,
    last: EventId,
    has_journal: bool,
    is_replay: bool,
}

/// The state machine of one session's streams.
#[derive(Default)]
pub struct Hints {
    streams: FxHashMap<StreamId, Stream>,
    next_stream: u32,
    pub(super) watched: Watched,
    pub(super) standing: Standing,
    pub(super) cookie: u32,
    /// Halves of renames that wait for the other half.
    held: Vec<Event>,
    /// Paths that may lead to other directories by now, for all that was lost.
    doubtful: Vec<Box<[u8]>>,
}

/// Streams and watches.
impl Hints {
    /// The stream whose root is at the path or above it, and the last event that it has told of.
    pub fn stream_over(&self, path: &[u8]) -> Option<(StreamId, EventId)> {
        let mut over = self.streams.iter().filter(|(_, stream)| is_within(path, &stream.root));
        over.next().map(|(id, stream)| (*id, stream.last))
    }

    /// A stream of this root begins after an event. Streams that it makes superfluous are to be
    /// ended.
    pub fn begin(&mut self, root: &[u8], since: EventId, has_journal: bool) -> StreamId {
        self.add_stream(root, since, has_journal, false)
    }

    /// What [`take`](Self::take) asked for has been done.
    pub fn begin_replay(&mut self, replay: &Replay) -> StreamId {
        self.add_stream(&replay.root, replay.since, true, true)
    }

    fn add_stream(
        &mut self,
        root: &[u8],
        last: EventId,
        has_journal: bool,
        is_replay: bool,
    ) -> StreamId {
        self.next_stream += 1;
        let id = StreamId(self.next_stream);
        self.streams.insert(id, Stream { root: root.into(), last, has_journal, is_replay });
        id
    }

    /// A stream has ended: what it still says is not listened to.
    pub fn end(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    /// Streams beneath whose root nothing is watched, or whose root is beneath another's.
    pub fn superfluous(&self) -> Vec<StreamId> {
        let covered = |id: &StreamId, root: &[u8]| {
            self.streams.iter().any(|(other, stream)| {
                other != id
                    && is_within(root, &stream.root)
                    && (*root != *stream.root || id < other)
            })
        };
        let ids = self.streams.iter().filter(|(id, stream)| {
            !self.watched.any_within(&stream.root) || covered(id, &stream.root)
        });
        ids.map(|(id, _)| *id).collect()
    }

    /// Whether the key is in use.
    pub fn is_watched(&self, key: WatchKey) -> bool {
        self.watched.has(key)
    }

    /// Watches a directory at its present path, which a stream must cover.
    pub fn watch(&mut self, path: &[u8], key: WatchKey, file: FileId, since: EventId) {
        self.watched.add(path, Watch { key, file, since });
    }

    /// No longer watches it.
    pub fn unwatch(&mut self, key: WatchKey) {
        self.watched.remove(key);
    }

    /// Everything has to be compared again; nothing that was known counts.
    pub fn lost(&mut self, out: &mut Vec<Report>) {
        self.held.clear();
        self.standing.clear();
        self.doubt(b"/");
        out.push(Report::Overflow);
    }

    /// Directories may have been moved at the path and beneath it.
    pub(super) fn doubt(&mut self, path: &[u8]) {
        self.doubtful.extend(self.watched.within(path).map(|(path, _)| Box::from(path)));
    }

    /// The paths that are to be [verified](Self::verify), after reports of a loss.
    pub fn doubtful(&mut self) -> Vec<Box<[u8]>> {
        std::mem::take(&mut self.doubtful)
    }

    /// Ends the watches of a directory that is at its path no longer. By its descriptor it can be
    /// watched anew.
    pub fn verify(&mut self, path: &[u8], there: There, out: &mut Vec<Report>) {
        let is_gone = |watch: &&Watch| there != There::File(watch.file);
        let gone: Vec<_> = self.watched.at(path).iter().filter(is_gone).map(|w| w.key).collect();
        for key in gone {
            self.watched.remove(key);
            out.push(Report::Ended(key));
        }
    }
}

/// Events.
impl Hints {
    /// Drops what neither brings a report nor helps another to.
    pub fn sift(&self, mut events: Vec<Event>) -> Batch {
        let last = events.iter().map(|event| event.id).rfind(|id| *id != EventId(0));
        // What lies beneath a name that a directory has taken matters once that has been judged.
        let renamed = |event: &&Event| event.flags.contains(Flags::RENAMED);
        let renamed: FxHashSet<Box<[u8]>> = events
            .iter()
            .chain(&self.held)
            .filter(renamed)
            .map(|event| event.path.clone())
            .collect();
        let is_beneath = |event: &Event| {
            let mut above = std::iter::successors(split(&event.path), |(dir, _)| split(dir));
            above.any(|(dir, _)| renamed.contains(dir))
        };
        events.retain(|event| self.concerns(event) || !renamed.is_empty() && is_beneath(event));
        Batch { events, last: last.unwrap_or_default() }
    }

    fn concerns(&self, event: &Event) -> bool {
        event.flags.intersects(Flags::CONTROL | Flags::RENAMED)
            || self.watched.holding(&event.path, event.id).is_some()
            || self.watched.any_within(&event.path)
    }

    /// Takes a batch. If a replay is wanted, the rest of the batch comes again with it.
    pub fn take(
        &mut self,
        stream: StreamId,
        batch: Batch,
        out: &mut Vec<Report>,
    ) -> Option<Replay> {
        let mut events = std::mem::take(&mut self.held);
        let mut held = events.len();
        let mut replay = None;
        for event in batch.events {
            let flags = event.flags;
            if flags.contains(Flags::EVENT_IDS_WRAPPED) {
                // What came before is of the old numbers.
                self.judge_all(&events, held, true, out);
                events = std::mem::take(&mut self.held);
                held = events.len();
                self.streams.values_mut().for_each(|stream| stream.last = EventId(0));
                self.watched.wrapped();
            }
            let Some(state) = self.streams.get_mut(&stream) else { break };
            if flags.contains(Flags::HISTORY_DONE) {
                state.is_replay = false;
                continue;
            }
            if flags.intersects(Flags::LOST) {
                let may_replay = flags.contains(Flags::USER_DROPPED)
                    && !flags.contains(Flags::KERNEL_DROPPED)
                    && state.has_journal
                    && !state.is_replay;
                if may_replay {
                    replay = Some(Replay { root: state.root.clone(), since: state.last });
                    break;
                }
            }
            state.last = state.last.max(event.id);
            events.push(event);
        }
        if let (Some(state), None) = (self.streams.get_mut(&stream), &replay) {
            state.last = state.last.max(batch.last);
        }
        self.judge_all(&events, held, true, out);
        replay
    }

    /// Whether halves of renames wait for the next batch, or for [`flush`](Self::flush).
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// The other halves have not come.
    pub fn flush(&mut self, out: &mut Vec<Report>) {
        let events = std::mem::take(&mut self.held);
        self.judge_all(&events, events.len(), false, out);
    }

    /// Judges events, of which the first `held` have waited.
    fn judge_all(&mut self, events: &[Event], held: usize, may_hold: bool, out: &mut Vec<Report>) {
        let standing = &self.standing;
        let renames = Renames::of(events, |event| match event.there {
            There::File(file) => standing.is(&event.path, file),
            There::Nothing | There::Unknown => false,
        });
        let mut said = vec![false; events.len()];
        for (index, event) in events.iter().enumerate() {
            if may_hold && index >= held && renames.may_wait(index, events) {
                self.held.push(event.clone());
                continue;
            }
            self.control(event, out);
            self.judge(index, events, &renames, &mut said, out);
        }
    }
}
