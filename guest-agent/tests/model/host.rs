//! A host at work: changes the tree of the model and tells the agent of it, one change a time.

use super::{Model, Server};
use protocol::*;
use std::sync::Arc;

/// The host of one mount.
pub struct Host {
    pub model: Model,
    pub server: Arc<Server>,
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Host {
    fn place<'p>(&self, path: &'p str) -> Place<'p> {
        let (dir, name) = split(path);
        let parent = self.server.node(self.model.tree().find(dir));
        Place { parent, name: Name::new(name.as_bytes()).unwrap() }
    }

    fn entry(&self, ino: u64) -> Entry {
        self.server.entry(&self.model.tree(), ino)
    }

    fn link(&self, path: &str, ino: u64) {
        let (dir, name) = split(path);
        let tree = &mut *self.model.tree();
        let dir = tree.find(dir);
        tree.files.get_mut(&dir).unwrap().children.insert(name.into(), ino);
    }

    fn unlink(&self, path: &str) -> u64 {
        let (dir, name) = split(path);
        let tree = &mut *self.model.tree();
        let dir = tree.find(dir);
        tree.files.get_mut(&dir).unwrap().children.remove(name.as_bytes()).unwrap()
    }

    /// Makes something new.
    pub fn create(&self, path: &str, mode: u32) -> u64 {
        let ino = self.model.tree().make(mode);
        self.appear(path, ino, false);
        ino
    }

    /// Gives something that exists, in sight or not, another name.
    pub fn appear(&self, path: &str, ino: u64, moved: bool) {
        self.link(path, ino);
        let target = self.model.tree().files[&ino].target.clone();
        let target = (!target.is_empty()).then(|| Target::new(&target).unwrap());
        let (at, entry) = (self.place(path), self.entry(ino));
        self.server.tell(vec![Change::Created { at, entry, target, moved }]);
    }

    /// Takes a name away, and what it led to out of sight.
    pub fn vanish(&self, path: &str, moved: bool) -> u64 {
        let at = self.place(path);
        let ino = self.unlink(path);
        let (links, is_dir) = {
            let mut tree = self.model.tree();
            let attr = &mut tree.files.get_mut(&ino).unwrap().attr;
            attr.nlink -= u32::from(!moved);
            (attr.nlink, attr.is_dir())
        };
        let node = self.server.node(ino);
        self.server.tell(vec![Change::Removed { at, node, is_dir, moved, links }]);
        ino
    }

    /// Takes a name away that the agent was not told the node of.
    pub fn vanish_unseen(&self, path: &str, is_dir: bool, moved: bool) {
        let at = self.place(path);
        self.unlink(path);
        let node = NodeId(0);
        self.server.tell(vec![Change::Removed { at, node, is_dir, moved, links: 0 }]);
    }

    /// Makes another name.
    pub fn hard_link(&self, old: &str, new: &str) {
        let ino = self.model.tree().find(old);
        self.model.tree().files.get_mut(&ino).unwrap().attr.nlink += 1;
        self.appear(new, ino, false);
        self.attrib(old);
    }

    /// Changes the content.
    pub fn write(&self, path: &str, data: &[u8], events: ContentEvents) {
        let ino = {
            let tree = &mut *self.model.tree();
            let ino = tree.find(path);
            tree.files.get_mut(&ino).unwrap().data = data.to_vec();
            tree.touch(ino);
            ino
        };
        let (at, entry) = (self.place(path), self.entry(ino));
        self.server.tell(vec![Change::Modified { at, entry, events }]);
    }

    /// A file was closed as it was.
    pub fn close(&self, path: &str) {
        let ino = self.model.tree().find(path);
        let (at, entry) = (self.place(path), self.entry(ino));
        self.server.tell(vec![Change::Modified { at, entry, events: ContentEvents::CLOSED }]);
    }

    /// Attributes are told.
    pub fn attrib(&self, path: &str) {
        let ino = self.model.tree().find(path);
        let (at, entry) = (Some(self.place(path)), self.entry(ino));
        self.server.tell(vec![Change::Attrib { at, entry }]);
    }

    /// Renames.
    pub fn rename(&self, old: &str, new: &str) {
        let (from, to) = (self.place(old), self.place(new));
        let ino = self.unlink(old);
        let replaced = {
            let tree = self.model.tree();
            let dir = &tree.files[&tree.find(split(new).0)];
            dir.children
                .get(split(new).1.as_bytes())
                .map_or(NodeId(0), |ino| self.server.node(*ino))
        };
        self.link(new, ino);
        let entry = self.entry(ino);
        self.server.tell(vec![Change::Renamed { from, to, entry, replaced }]);
    }

    /// Something came and went.
    pub fn pass(&self, path: &str, is_dir: bool, events: ContentEvents) {
        let at = self.place(path);
        self.server.tell(vec![Change::Passed { at, is_dir, events }]);
    }
}
