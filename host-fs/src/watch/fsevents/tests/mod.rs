//! Constructed streams, and what is reported of each. A line of a stream is
//!
//! ```text
//! ID FLAG|FLAG PATH #FILE [= #FILE | gone | unknown]
//! ```
//! where the last is what stands at the path when it is looked at; without it, the file itself.

mod anything;
mod directories;
mod names;
mod reconciled;
mod renames;
mod streams;

use super::*;
use crate::watch::{Doer, Kinds, Report, WatchKey};
use insta::assert_snapshot;
use protocol::NodeId;

/// `/r`, `/r/d` and `/r/d/deep` are watched as 1, 2 and 3, from event 100 on; `/r` is the stream's
/// root. Their inode numbers are 101, 102, 103.
struct Scene {
    hints: Hints,
    stream: StreamId,
}

impl Scene {
    fn new() -> Self {
        Self::with_journal(true)
    }

    fn with_journal(has_journal: bool) -> Self {
        let mut hints = Hints::default();
        let stream = hints.begin(b"/r", EventId(100), has_journal);
        let mut scene = Self { hints, stream };
        for (path, key) in [("/r", 1), ("/r/d", 2), ("/r/d/deep", 3)] {
            scene.watch(path, key, 100 + key, 100);
        }
        scene
    }

    fn watch(&mut self, path: &str, key: u64, file: u64, since: u64) {
        self.hints.watch(path.as_bytes(), WatchKey(NodeId(key)), FileId(file), EventId(since));
    }

    fn take(&mut self, events: Vec<Event>, out: &mut Vec<Report>) -> Option<Replay> {
        let batch = self.hints.sift(events);
        self.hints.take(self.stream, batch, out)
    }

    /// What is reported of one batch at once.
    fn batch(&mut self, lines: &str) -> String {
        let batch = lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(event);
        let batch: Vec<Event> = batch.collect();
        let mut out = Vec::new();
        let replay = self.take(batch, &mut out);
        let mut said = say(&out);
        if let Some(replay) = replay {
            said.push(format!("replay {} after {}", replay.root.escape_ascii(), replay.since.0));
        }
        said.join("\n")
    }

    /// The same, and what is reported once nothing more comes.
    fn all(&mut self, lines: &str) -> String {
        let first = self.batch(lines);
        let mut out = Vec::new();
        self.hints.flush(&mut out);
        let rest = say(&out).join("\n");
        [first, rest].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

fn event(line: &str) -> Event {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_default();
    let id = EventId(word().parse().unwrap());
    let flags = word().trim_matches('-').replace('|', " | ");
    let flags: Flags = bitflags::parser::from_str(&flags).unwrap();
    let path: Box<[u8]> = word().as_bytes().into();
    let number = |word: &str| word.strip_prefix('#').map(|number| FileId(number.parse().unwrap()));
    let file = number(word());
    let there = match (word(), word()) {
        ("gone", _) => There::Nothing,
        ("unknown", _) => There::Unknown,
        ("=", other) => There::File(number(other).unwrap()),
        _ => file.map_or(There::Nothing, There::File),
    };
    Event { path, flags, id, file, there }
}

/// A line for each report: the key, the name, the kinds, the cookie, and where it matters, that it may
/// have been us.
fn say(reports: &[Report]) -> Vec<String> {
    let line = |report: &Report| match report {
        Report::Hint(hint) => {
            let name =
                hint.name.as_deref().map_or("itself".into(), |n| n.escape_ascii().to_string());
            let kinds: Vec<_> = hint.kinds.iter_names().map(|(name, _)| name).collect();
            let cookie =
                if hint.cookie == 0 { String::new() } else { format!(" cookie {}", hint.cookie) };
            let dir = if hint.is_dir && hint.name.is_some() { "/" } else { "" };
            let is_of_name = hint.kinds.intersects(say::OF_NAMES);
            let own = if is_of_name && hint.by == Doer::Unknown { " by whomever" } else { "" };
            format!("{}: {name}{dir} {}{cookie}{own}", hint.dir.0, kinds.join("|"))
        }
        Report::Subtree(key) => format!("{}: compare all beneath", key.0),
        Report::Ended(key) => format!("{}: ended", key.0),
        Report::Overflow => "compare everything".into(),
    };
    reports.iter().map(line).collect()
}
