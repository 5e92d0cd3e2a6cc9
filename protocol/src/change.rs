//! Changes: what really happened on the host, as a difference to what this agent was last told.
//!
//! Told are differences of state, not operations: applied one after the other to what the agent was
//! told before (by replies and by earlier changes), they give the state of the host. Of what came and
//! went before anybody could look, [`Passed`](Change::Passed) tells, which changes no state. A change
//! of names is told for directories whose
//! names the agent was given under a lease, and no others. What an agent did itself is told to other
//! agents, not to it, unless the server can not tell who did it.
//!
//! # What an agent does
//! Changes of one attachment are handled strictly in order, one at a time, each in three steps:
//! take it into the cache, so that whoever is woken reads the new state; make the guest kernel give
//! up what it holds; fire its events. When all of a [`Notice`](crate::Notice::Changes) are through,
//! its number is acknowledged. That is done also for what the agent no longer knows, for which it
//! drops its own state only, and for an attachment that is being detached.
//!
//! Every [`Entry`] in a change counts as one lookup, to be forgotten like any other. Its attributes
//! are those of the time when the server compared: they may be newer than the change, never older.
//! Places name directories that the agent was given, by node.
//!
//! # How others are expressed
//! * A rename out of, or into, a directory that the agent does not hold: `Removed`, or `Created`, with
//!   `moved`.
//! * A rename over something: [`Renamed`](Change::Renamed) with `replaced`, without a `Removed`.
//! * Two names exchanged: `Renamed` with `replaced`, and a second one the other way round.
//! * Another object at the same name: `Removed`, then `Created`.
//! * Another hard link: `Created`, then `Attrib` of the node if the agent knows another name of it.
//! * Content *and* attributes: `Modified` alone.
//! * A file made and then written: `Created`, and `Modified` if content came after it was told.

use crate::NodeId;
use crate::attr::Entry;
use crate::codec::{DecodeError, Name, Reader, Target, Wire, wire_struct};
use bitflags::bitflags;

bitflags! {
    /// What was done to content, as far as watchers tell it apart; a `u8`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ContentEvents: u8 {
        /// It was written (`IN_MODIFY`).
        const WRITTEN = 1;
        /// A file that was open for writing was closed (`IN_CLOSE_WRITE`).
        const CLOSED = 1 << 1;
    }
}

impl<'a> Wire<'a> for ContentEvents {
    fn put(&self, out: &mut Vec<u8>) {
        self.bits().put(out);
    }
    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let raw = u8::get(from)?;
        Self::from_bits(raw)
            .ok_or(DecodeError::UnknownValue { field: "content events", value: raw.into() })
    }
}

wire_struct! {
    /// A name in a directory.
    Place<'a> {
        /// The directory.
        parent: NodeId,
        /// The name.
        name: Name<'a>,
    }
}

/// One difference. On the wire: its number as a `u8`, then its fields in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// 1: a name leads somewhere where it led nowhere; or, `moved`, to a file where it led to another.
    Created {
        /// The name.
        at: Place<'a>,
        /// What is there now.
        entry: Entry,
        /// Its target, for a symbolic link.
        target: Option<Target<'a>>,
        /// Whether it was moved here from where the agent does not see.
        moved: bool,
    },
    /// 2: the content of a file differs, or it was closed by who could have changed it.
    Modified {
        /// One of its names.
        at: Place<'a>,
        /// What is there now.
        entry: Entry,
        /// Which of the two.
        events: ContentEvents,
    },
    /// 3: mode, owner, times, link count or extended attributes differ, and the content does not.
    Attrib {
        /// One of its names; none for the root of the export.
        at: Option<Place<'a>>,
        /// What is there now.
        entry: Entry,
    },
    /// 4: a name leads nowhere any more. The object may have other names.
    Removed {
        /// The name.
        at: Place<'a>,
        /// What it led to, as far as this agent was told; zero if it was not.
        node: NodeId,
        /// Whether that was a directory.
        is_dir: bool,
        /// Whether it was moved to where the agent does not see.
        moved: bool,
        /// How many names the object has left, as far as the server knows.
        links: u32,
    },
    /// 5: an object has another name.
    Renamed {
        /// The old name.
        from: Place<'a>,
        /// The new name.
        to: Place<'a>,
        /// The object.
        entry: Entry,
        /// What the new name led to before, as far as this agent was told; zero if nothing.
        replaced: NodeId,
    },
    /// 6: nothing cached of this directory may be believed any more: its names, what they lead to,
    /// the attributes and content of those objects, and its own. Not the names in directories below,
    /// which get a `Doubt` of their own. It is no event and fires none: the server compares, and what
    /// really differs follows as changes.
    Doubt {
        /// The directory.
        dir: NodeId,
    },
    /// 7: a name came and went. It leads nowhere, as before.
    Passed {
        /// The name.
        at: Place<'a>,
        /// Whether it was a directory.
        is_dir: bool,
        /// What was done to it meanwhile.
        events: ContentEvents,
    },
}

impl<'a> Wire<'a> for Change<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Created { at, entry, target, moved } => {
                (1u8).put(out);
                at.put(out);
                entry.put(out);
                target.put(out);
                moved.put(out);
            }
            Self::Modified { at, entry, events } => {
                (2u8).put(out);
                at.put(out);
                entry.put(out);
                events.put(out);
            }
            Self::Attrib { at, entry } => {
                (3u8).put(out);
                at.put(out);
                entry.put(out);
            }
            Self::Removed { at, node, is_dir, moved, links } => {
                (4u8).put(out);
                at.put(out);
                node.put(out);
                is_dir.put(out);
                moved.put(out);
                links.put(out);
            }
            Self::Renamed { from, to, entry, replaced } => {
                (5u8).put(out);
                from.put(out);
                to.put(out);
                entry.put(out);
                replaced.put(out);
            }
            Self::Doubt { dir } => {
                (6u8).put(out);
                dir.put(out);
            }
            Self::Passed { at, is_dir, events } => {
                (7u8).put(out);
                at.put(out);
                is_dir.put(out);
                events.put(out);
            }
        }
    }

    fn get(from: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match u8::get(from)? {
            1 => Self::Created {
                at: Wire::get(from)?,
                entry: Wire::get(from)?,
                target: Wire::get(from)?,
                moved: Wire::get(from)?,
            },
            2 => Self::Modified {
                at: Wire::get(from)?,
                entry: Wire::get(from)?,
                events: Wire::get(from)?,
            },
            3 => Self::Attrib { at: Wire::get(from)?, entry: Wire::get(from)? },
            4 => Self::Removed {
                at: Wire::get(from)?,
                node: Wire::get(from)?,
                is_dir: Wire::get(from)?,
                moved: Wire::get(from)?,
                links: Wire::get(from)?,
            },
            5 => Self::Renamed {
                from: Wire::get(from)?,
                to: Wire::get(from)?,
                entry: Wire::get(from)?,
                replaced: Wire::get(from)?,
            },
            6 => Self::Doubt { dir: Wire::get(from)? },
            7 => Self::Passed {
                at: Wire::get(from)?,
                is_dir: Wire::get(from)?,
                events: Wire::get(from)?,
            },
            other => {
                return Err(DecodeError::UnknownValue { field: "change", value: other.into() });
            }
        })
    }
}
