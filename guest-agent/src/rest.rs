//! The rest of a listing: entries that came with others and that the kernel has not asked for yet.
//!
//! The kernel asks for a page of entries at a time, and once more to hear that there are no others. The
//! server is asked for many at once, and what is more than the kernel takes is kept with its open
//! directory. Each entry holds a lookup. It is as good as an answer of the server only while nothing has
//! been done or told. After that it is void: its lookups are given back, and what is open on the server is
//! listed further there. Where the server has listed all there is without opening it, the names are told
//! alone: whoever lists a directory may be told what was in it when he began.

use protocol::NodeId;
use protocol::listing::Listing;
use std::time::{Duration, Instant};

/// For how long a rest is told: the least time for which an entry is valid.
const KEPT: Duration = Duration::from_secs(1);

/// When the server was asked: on which connection, behind how many arrivals of changes, and
/// [acts](crate::nodes::NodeTable::acts) of the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Connection.
    pub epoch: u32,
    /// Arrivals.
    pub arrivals: u64,
    /// Acts.
    pub acts: u64,
}

/// What is left.
#[derive(Debug)]
pub struct Rest {
    /// An encoded [`Listing`], and how much of it was told.
    entries: Vec<u8>,
    told: usize,
    /// Whether nothing is behind it.
    pub all: bool,
    /// Whether they have attributes.
    plus: bool,
    /// The cookie of what was told last.
    last: u64,
    asked: Moment,
    came: Instant,
    void: bool,
}

impl Rest {
    /// What is left of a listing when the entry with the cookie `last` has been told.
    pub fn new(entries: &[u8], all: bool, plus: bool, last: u64, asked: Moment) -> Self {
        let (entries, came) = (entries.to_vec(), Instant::now());
        Self { entries, told: 0, all, plus, last, asked, came, void: false }
    }

    /// Whether it has become void, which is told once: its lookups are to be given back before.
    pub fn is_outdated(&self, now: Moment) -> bool {
        !self.void && (self.asked != now || self.came.elapsed() >= KEPT)
    }

    /// Only the names are of use.
    pub fn make_void(&mut self) {
        self.void = true;
    }

    /// Whether that is so.
    pub fn is_void(&self) -> bool {
        self.void
    }

    /// Whether it goes on behind this cookie, with attributes if they are wanted.
    pub fn follows(&self, cookie: u64, plus: bool) -> bool {
        self.last == cookie && (self.plus || !plus)
    }

    /// The entries.
    pub fn entries(&self) -> &[u8] {
        self.entries.get(self.told..).unwrap_or_default()
    }

    /// So many bytes of it were told, up to the entry with this cookie.
    pub fn tell(&mut self, bytes: usize, last: u64) {
        self.told += bytes;
        self.last = last;
    }

    /// The lookups that it holds on connection `epoch`.
    pub fn lookups(&self, epoch: u32) -> impl Iterator<Item = NodeId> + '_ {
        let holds = !self.void && self.asked.epoch == epoch;
        let entries = if holds { self.entries() } else { &[] };
        lookups(entries)
    }
}

/// The nodes of which these entries hold a lookup each.
pub fn lookups(entries: &[u8]) -> impl Iterator<Item = NodeId> + '_ {
    let listed = Listing::new(entries).map_while(Result::ok);
    listed.filter_map(|listed| listed.entry.map(|entry| entry.node))
}
