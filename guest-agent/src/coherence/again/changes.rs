//! The end of a comparison: differences become changes, in the terms of the present connection.

use super::Task;
use crate::coherence::compare::{Belief, Came, Comparison, Difference};
use crate::coherence::queue::{Job, Ticket};
use crate::coherence::{Act, Coherence};
use crate::nodes::LocalId;
use crate::recover::PATIENCE;
use protocol::{
    Change, ContentEvents, Entry, Name, NodeId, Place, Reply, Request as Ask, Target, mode,
};
use rustc_hash::FxHashSet;
use std::time::Instant;

impl Task<'_> {
    /// What is to be delivered.
    pub(super) fn jobs(&self, of: &Comparison, differences: Vec<Difference>) -> Vec<Job<Act>> {
        let mut jobs = Vec::new();
        // A lookup goes with one change; if two are told of an entry the second takes another.
        let mut used: FxHashSet<(LocalId, Box<[u8]>)> = FxHashSet::default();
        for difference in differences {
            let job = match &difference {
                Difference::Removed(index) => of.belief(*index).and_then(|gone| self.removed(gone)),
                Difference::Renamed(index, came, replaced) => {
                    used.insert((came.dir, came.name.clone()));
                    let replaced = replaced.and_then(|index| of.belief(index));
                    of.belief(*index).and_then(|from| self.renamed(from, came, replaced))
                }
                Difference::Created(came) => {
                    used.insert((came.dir, came.name.clone()));
                    self.created(came)
                }
                Difference::Modified(came) | Difference::Attrib(came) => {
                    let first = used.insert((came.dir, came.name.clone()));
                    let entry = if first { Some(came.entry) } else { self.look_up(came) };
                    let content = matches!(difference, Difference::Modified(_));
                    entry.and_then(|entry| self.touched(came, entry, content))
                }
            };
            jobs.extend(job);
        }
        jobs
    }

    fn job(&self, change: &Change<'_>) -> Job<Act> {
        let ticket = Ticket::Comparison(self.id);
        Coherence::change(self.epoch, change, ticket, Instant::now())
    }

    fn place<'n>(&self, dir: LocalId, name: &'n [u8]) -> Option<Place<'n>> {
        Some(Place { parent: self.session.nodes.call(dir), name: Name::new(name).ok()? })
    }

    fn removed(&self, gone: &Belief) -> Option<Job<Act>> {
        let at = self.place(gone.parent, &gone.name)?;
        let node = self.session.nodes.call(gone.local);
        let is_dir = gone.object.kind == mode::IFDIR;
        let links = if is_dir { 0 } else { gone.nlink.saturating_sub(1) };
        Some(self.job(&Change::Removed { at, node, is_dir, moved: false, links }))
    }

    fn renamed(&self, from: &Belief, to: &Came, replaced: Option<&Belief>) -> Option<Job<Act>> {
        let call = |belief: &Belief| self.session.nodes.call(belief.local);
        Some(self.job(&Change::Renamed {
            from: self.place(from.parent, &from.name)?,
            to: self.place(to.dir, &to.name)?,
            entry: to.entry,
            replaced: replaced.map_or(NodeId(0), call),
        }))
    }

    fn created(&self, came: &Came) -> Option<Job<Act>> {
        let at = self.place(came.dir, &came.name)?;
        let (node, is_link) = (came.entry.node, came.entry.attr.kind() == mode::IFLNK);
        let target = is_link.then(|| {
            self.session.client.call(self.epoch, &Ask::ReadLink { node }, PATIENCE, |reply| {
                match reply {
                    Reply::Target { target } => Some(target.as_bytes().to_vec()),
                    _ => None,
                }
            })
        });
        let target = target.and_then(Result::ok);
        let target = target.as_deref().and_then(|target| Target::new(target).ok());
        Some(self.job(&Change::Created { at, entry: came.entry, target, moved: false }))
    }

    fn touched(&self, came: &Came, entry: Entry, content: bool) -> Option<Job<Act>> {
        let at = self.place(came.dir, &came.name)?;
        Some(self.job(&match content {
            true => Change::Modified { at, entry, events: ContentEvents::all() },
            false => Change::Attrib { at: Some(at), entry },
        }))
    }

    fn look_up(&self, came: &Came) -> Option<Entry> {
        let place = self.place(came.dir, &came.name)?;
        let ask = Ask::Lookup { parent: place.parent, name: place.name };
        let found = self.session.client.call(self.epoch, &ask, PATIENCE, |reply| match reply {
            Reply::Entry { entry } => Some(*entry),
            _ => None,
        });
        found.ok()
    }
}
