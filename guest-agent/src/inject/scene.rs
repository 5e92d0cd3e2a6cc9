//! Scenes: what the world looks like to one call of an actuator.
//!
//! # Elsewhere
//! What was moved out of sight, or comes from there, has to be moved somewhere in the kernel, too:
//! only a rename leaves the object, and the watches on it, alive. So there is a made-up directory,
//! [`ELSEWHERE`], that only actuators find, and no name in it is used twice. What is moved there is
//! believed for no time, so the kernel forgets it as soon as nobody holds or watches it.

use crate::nodes::{LocalId, NodeTable};
use protocol::{Attr, AttrReply, Entry, mode};
use std::sync::atomic::{AtomicU64, Ordering};

/// Made-up nodes have numbers from here on, which the table never gives. The kernel forgets them with
/// the call, or when the directory elsewhere is closed.
pub const MADE_UP: u64 = 1 << 63;

/// A made-up directory: where is what is out of sight.
pub const ELSEWHERE: LocalId = LocalId(MADE_UP);
/// Its name in the root of the mount. If the host should have such a name, only actuators miss it.
pub const ELSEWHERE_NAME: &[u8] = b"\x7fosxfs: elsewhere\x7f";

/// A made-up node: for what comes and goes, and for what goes and was never looked up.
pub fn made_up() -> LocalId {
    LocalId(MADE_UP | unused())
}

/// A name that nothing elsewhere has had.
pub fn name_elsewhere() -> Vec<u8> {
    unused().to_string().into_bytes()
}

/// Stuck actuators may hold what they made up, so all count together.
fn unused() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The attributes of a directory of which nothing else is to be known.
pub fn elsewhere() -> Attr {
    let attr = Attr { ino: u64::MAX, mode: mode::IFDIR | 0o777, nlink: 2, ..Attr::default() };
    Attr { blksize: 4096, ..attr }
}

/// Where a name leads.
#[derive(Clone, Debug)]
pub enum What {
    /// Nowhere.
    Nothing,
    /// To a node that is about to go, as far as it is remembered. What the kernel has of its
    /// attributes is declared void while it asks, so that these are not taken for true.
    Before {
        /// The node.
        local: LocalId,
        /// Type, and whatever.
        attr: Attr,
    },
    /// To a node that is about to lose a name, with the attributes that the kernel is to take for
    /// true meanwhile.
    Linked {
        /// The node.
        local: LocalId,
        /// What the kernel has, but for the number of links.
        attr: Attr,
    },
    /// To a node as it is now.
    Now {
        /// The node.
        local: LocalId,
        /// Its present state.
        entry: Entry,
    },
    /// To the node of the entry that the scene carries, which becomes known to the kernel by this.
    Carried,
}

impl What {
    /// The node that it leads to, if that is known.
    pub fn local(&self) -> Option<LocalId> {
        match self {
            Self::Nothing | Self::Carried => None,
            Self::Before { local, .. } | Self::Linked { local, .. } | Self::Now { local, .. } => {
                Some(*local)
            }
        }
    }
}

/// One name in the past.
#[derive(Clone, Debug)]
pub struct Shown {
    parent: LocalId,
    name: Box<[u8]>,
    /// Where it leads.
    pub what: What,
}

impl Shown {
    /// `name` in `parent` leads to `what`.
    pub fn new(parent: LocalId, name: &[u8], what: What) -> Self {
        Self { parent, name: name.into(), what }
    }

    /// The name.
    pub fn at(&self) -> (LocalId, &[u8]) {
        (self.parent, &self.name)
    }

    fn is_left(&self, nodes: &NodeTable) {
        if let Some(local) = self.what.local() {
            nodes.left(local, self.parent, &self.name);
        }
    }

    /// What was here is there now, unless that is out of sight.
    fn is_found_at(&self, there: &Self, nodes: &NodeTable) {
        if let Some(local) = self.what.local().filter(|_| there.parent != ELSEWHERE) {
            nodes.placed(local, there.parent, &there.name);
        }
    }
}

/// What a scene's call is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Make the first name lead to the carried entry, or to a made-up node.
    Make,
    /// Remove the first name.
    Remove,
    /// Rename the first name to the second.
    Rename,
    /// Open or set attributes of the object.
    Touch,
    /// Go to a directory.
    Walk,
}

/// One call's view of the world.
#[derive(Debug)]
pub struct Scene {
    /// What it does.
    pub deed: Deed,
    /// The names it is about.
    pub names: Vec<Shown>,
    /// The node that is opened, and its present attributes.
    pub object: Option<(LocalId, AttrReply)>,
    /// An entry whose lookup the kernel may still take over.
    pub carried: Option<Entry>,
    /// In its stead, a node that is made up.
    pub made_up: Option<(LocalId, Attr)>,
    /// Files of which the kernel was told, and others are not until the call is over.
    pub told: Vec<LocalId>,
    /// Whether the kernel asked for the deed.
    pub acted: bool,
}

impl Scene {
    /// A scene of these names.
    pub fn of(deed: Deed, names: Vec<Shown>) -> Self {
        Self {
            deed,
            names,
            object: None,
            carried: None,
            made_up: None,
            told: Vec::new(),
            acted: false,
        }
    }

    /// A scene of the way to a directory.
    pub fn walk() -> Self {
        Self::of(Deed::Walk, Vec::new())
    }

    /// Which of the names this is.
    pub fn index(&self, parent: u64, name: &[u8]) -> Option<usize> {
        self.names.iter().position(|shown| shown.parent.0 == parent && *shown.name == *name)
    }

    /// The kernel does what the scene is for: the table follows. To be called before the kernel is
    /// answered, while it has locked the names: whoever is woken by the event and looks them up enters
    /// what is there afterwards, and that is to stay.
    pub fn follow(&self, nodes: &NodeTable) {
        match (self.deed, &*self.names) {
            (Deed::Remove, [gone]) => gone.is_left(nodes),
            (Deed::Rename, [from, to]) => {
                from.is_left(nodes);
                to.is_left(nodes);
                from.is_found_at(to, nodes);
                // Two names are exchanged.
                if let What::Now { .. } = to.what {
                    to.is_found_at(from, nodes);
                }
            }
            _ => {}
        }
    }

    /// What is said of the attributes of a node that is none of the table.
    pub fn made_up_attr(&self, node: u64) -> Option<Attr> {
        if node == ELSEWHERE.0 {
            return Some(elsewhere());
        }
        let of_name = |shown: &Shown| match shown.what {
            What::Before { local, attr } if local.0 == node && node & MADE_UP != 0 => Some(attr),
            _ => None,
        };
        self.names.iter().find_map(of_name)
    }

    /// Whether what is said of this node is what it is like now, as the change tells.
    pub fn tells_present(&self, node: LocalId) -> bool {
        let is_now = |shown: &Shown| matches!(shown.what, What::Now { local, .. } if local == node);
        self.object.is_some_and(|(local, _)| local == node) || self.names.iter().any(is_now)
    }

    /// The present attributes, if this is the object.
    pub fn is_object(&self, node: u64) -> Option<AttrReply> {
        self.object.filter(|(local, _)| local.0 == node).map(|(_, reply)| reply)
    }
}
