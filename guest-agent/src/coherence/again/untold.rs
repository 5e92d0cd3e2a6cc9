//! What was dropped because its directory will be compared. Whoever looks at a name meanwhile has the
//! node table follow, so the comparison would find nothing new and watchers would never hear of it:
//! each change is undone in what is believed, the last one first.

use crate::coherence::compare::{Belief, Object};
use crate::inject::made_up;
use crate::nodes::{LocalId, NodeTable};
use protocol::{Change, NodeId, Place, mode};

/// What is believed in some directories, to be made what watchers were told.
pub(super) struct Told<'t> {
    pub(super) nodes: &'t NodeTable,
    pub(super) dirs: &'t [LocalId],
    pub(super) beliefs: &'t mut Vec<Belief>,
}

impl Told<'_> {
    /// Nobody was told of this change.
    pub(super) fn undo(&mut self, change: &Change<'_>) {
        match change {
            Change::Created { at, entry, .. } => {
                // Put back just now, or looked up since.
                let (nodes, local) = (self.nodes, self.nodes.local(entry.node));
                let is_it = |of: &Belief| match nodes.known(of.local) {
                    Some(_) => Some(of.local) == local,
                    None => true,
                };
                if let Some(at) = self.place(at) {
                    self.beliefs.retain(|belief| !(is_at(belief, at) && is_it(belief)));
                }
            }
            Change::Removed { at, node, is_dir, .. } => self.put_back(*node, at, *is_dir),
            Change::Renamed { from, to, entry, replaced } => {
                self.put_back(entry.node, from, entry.attr.is_dir());
                if *replaced != NodeId(0) {
                    self.put_back(*replaced, to, false);
                }
            }
            Change::Modified { entry, .. } => {
                self.touch(entry.node, |belief, fresh| belief.content = !fresh.content);
            }
            Change::Attrib { entry, .. } => {
                self.touch(entry.node, |belief, fresh| belief.attrs = !fresh.attrs);
            }
            Change::Passed { .. } | Change::Doubt { .. } => {}
        }
    }

    fn place<'p>(&self, at: &Place<'p>) -> Option<(LocalId, &'p [u8])> {
        let dir = self.nodes.local(at.parent).filter(|dir| self.dirs.contains(dir))?;
        Some((dir, at.name.as_bytes()))
    }

    fn touch(&mut self, node: NodeId, change: impl Fn(&mut Belief, &Belief)) {
        let Some(fresh) = self.nodes.local(node).and_then(|local| self.nodes.belief(local)) else {
            return;
        };
        let beliefs = self.beliefs.iter_mut().filter(|belief| belief.local == fresh.local);
        beliefs.for_each(|belief| change(belief, &fresh));
    }

    /// A name leads to a node as before. The kernel may have forgotten it since; its name was watched.
    fn put_back(&mut self, node: NodeId, at: &Place<'_>, is_dir: bool) {
        let fresh = self.nodes.local(node).and_then(|local| self.nodes.belief(local));
        if let Some(fresh) = &fresh {
            self.beliefs.retain(|belief| belief.local != fresh.local);
        }
        let Some(at) = self.place(at) else { return };
        self.beliefs.retain(|belief| !is_at(belief, at));
        let unknown = || Belief {
            local: made_up(),
            parent: at.0,
            name: at.1.into(),
            object: Object {
                ino: u64::MAX,
                kind: if is_dir { mode::IFDIR } else { mode::IFREG },
                born: 0,
            },
            content: 0,
            attrs: 0,
            nlink: 1,
        };
        let fresh = fresh.unwrap_or_else(unknown);
        self.beliefs.push(Belief { parent: at.0, name: at.1.into(), ..fresh });
    }
}

fn is_at(belief: &Belief, (parent, name): (LocalId, &[u8])) -> bool {
    belief.parent == parent && *belief.name == *name
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Attr, ContentEvents, Entry, Name, Validity, mode::IFREG};

    fn entry(node: u64) -> Entry {
        let attr = Attr { ino: node, mode: IFREG, ..Attr::default() };
        Entry { node: NodeId(node), attr, valid: Validity::NONE }
    }

    fn at(name: &'static str) -> Place<'static> {
        Place { parent: NodeId(10), name: Name::new(name.as_bytes()).unwrap() }
    }

    /// The names, and whether content or attributes are in doubt, after these changes are undone.
    fn undone(nodes: &NodeTable, changes: &[Change<'_>]) -> Vec<(String, bool)> {
        let dirs = [LocalId::ROOT];
        let mut beliefs = nodes.beliefs(Some(&dirs));
        let mut told = Told { nodes, dirs: &dirs, beliefs: &mut beliefs };
        changes.iter().rev().for_each(|change| told.undo(change));
        let doubted = |belief: &Belief| {
            nodes
                .belief(belief.local)
                .is_some_and(|fresh| (fresh.content, fresh.attrs) != (belief.content, belief.attrs))
        };
        let name = |belief: &Belief| String::from_utf8_lossy(&belief.name).into_owned();
        let mut names: Vec<_> = beliefs.iter().map(|of| (name(of), doubted(of))).collect();
        names.sort();
        names
    }

    #[test]
    fn what_somebody_has_looked_at_since_is_as_it_was_told() {
        let nodes = NodeTable::new(0, &Entry::default());
        nodes.begin_epoch(1, &entry(10));
        // As they are now.
        for (name, node) in [("new", 11), ("there", 12), ("written", 13)] {
            nodes.found(LocalId::ROOT, name.as_bytes(), &entry(node));
        }
        let renamed = |from, to| Change::Renamed {
            from: at(from),
            to: at(to),
            entry: entry(12),
            replaced: NodeId(0),
        };
        let changes = [
            Change::Created { at: at("new"), entry: entry(11), target: None, moved: false },
            renamed("here", "between"),
            renamed("between", "there"),
            Change::Modified { at: at("written"), entry: entry(13), events: ContentEvents::all() },
            Change::Modified { at: at("written"), entry: entry(13), events: ContentEvents::all() },
            // The kernel has forgotten it.
            Change::Removed {
                at: at("gone"),
                node: NodeId(14),
                is_dir: false,
                moved: false,
                links: 0,
            },
        ];
        let told = [("gone", false), ("here", false), ("written", true)];
        assert_eq!(undone(&nodes, &changes), told.map(|(name, is)| (name.to_owned(), is)));
        let made_and_gone = [
            Change::Created { at: at("brief"), entry: entry(15), target: None, moved: false },
            Change::Removed {
                at: at("brief"),
                node: NodeId(15),
                is_dir: false,
                moved: false,
                links: 0,
            },
        ];
        assert_eq!(
            undone(&nodes, &made_and_gone).len(),
            3,
            "nothing is told of what came and went"
        );
    }
}
