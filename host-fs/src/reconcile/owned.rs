//! Changes that own their names, until they are encoded.

use protocol::{Change, ContentEvents, Entry, NodeId, Place, Target};

/// A name in a directory, owned.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OwnedPlace {
    /// The directory.
    pub parent: NodeId,
    /// The name.
    pub name: Box<[u8]>,
}

impl OwnedPlace {
    /// Copies.
    pub fn new(parent: NodeId, name: &[u8]) -> Self {
        Self { parent, name: name.into() }
    }

    /// As the protocol has it.
    pub fn borrow(&self) -> Option<Place<'_>> {
        crate::observe::place(self.parent, &self.name)
    }
}

/// A [`Change`] that owns its names.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the fields are those of `protocol::Change`")]
pub enum OwnedChange {
    /// See [`Change::Created`].
    Created { at: OwnedPlace, entry: Entry, target: Option<Box<[u8]>>, moved: bool },
    /// See [`Change::Modified`].
    Modified { at: OwnedPlace, entry: Entry, events: ContentEvents },
    /// See [`Change::Attrib`].
    Attrib { at: Option<OwnedPlace>, entry: Entry },
    /// See [`Change::Removed`].
    Removed { at: OwnedPlace, node: NodeId, is_dir: bool, moved: bool, links: u32 },
    /// See [`Change::Renamed`].
    Renamed { from: OwnedPlace, to: OwnedPlace, entry: Entry, replaced: NodeId },
    /// See [`Change::Doubt`].
    Doubt { dir: NodeId },
    /// See [`Change::Passed`].
    Passed { at: OwnedPlace, is_dir: bool, events: ContentEvents },
}

impl OwnedChange {
    /// As the protocol has it. None only for a name that no file can have.
    pub fn borrow(&self) -> Option<Change<'_>> {
        Some(match self {
            Self::Created { at, entry, target, moved } => Change::Created {
                at: at.borrow()?,
                entry: *entry,
                target: target.as_deref().and_then(|target| Target::new(target).ok()),
                moved: *moved,
            },
            Self::Modified { at, entry, events } => {
                Change::Modified { at: at.borrow()?, entry: *entry, events: *events }
            }
            Self::Attrib { at, entry } => Change::Attrib {
                at: match at {
                    Some(at) => Some(at.borrow()?),
                    None => None,
                },
                entry: *entry,
            },
            Self::Removed { at, node, is_dir, moved, links } => Change::Removed {
                at: at.borrow()?,
                node: *node,
                is_dir: *is_dir,
                moved: *moved,
                links: *links,
            },
            Self::Renamed { from, to, entry, replaced } => Change::Renamed {
                from: from.borrow()?,
                to: to.borrow()?,
                entry: *entry,
                replaced: *replaced,
            },
            Self::Doubt { dir } => Change::Doubt { dir: *dir },
            Self::Passed { at, is_dir, events } => {
                Change::Passed { at: at.borrow()?, is_dir: *is_dir, events: *events }
            }
        })
    }

    /// The node that the change carries a lookup of.
    pub fn lookup(&self) -> Option<NodeId> {
        match self {
            Self::Created { entry, .. }
            | Self::Modified { entry, .. }
            | Self::Attrib { entry, .. }
            | Self::Renamed { entry, .. } => Some(entry.node),
            Self::Removed { .. } | Self::Doubt { .. } | Self::Passed { .. } => None,
        }
    }

    /// Upper bound of its encoded size in bytes.
    pub fn encoded_len(&self) -> usize {
        const FIXED: usize = 256;
        FIXED
            + match self {
                Self::Created { at, target, .. } => {
                    at.name.len() + target.as_ref().map_or(0, |target| target.len())
                }
                Self::Renamed { from, to, .. } => from.name.len() + to.name.len(),
                Self::Modified { at, .. } | Self::Removed { at, .. } | Self::Passed { at, .. } => {
                    at.name.len()
                }
                Self::Attrib { .. } => protocol::limits::MAX_NAME,
                Self::Doubt { .. } => 0,
            }
    }
}
