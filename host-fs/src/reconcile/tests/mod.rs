//! Each rule of the reconciler, named as a sentence.

use super::*;
use crate::watch::Kinds;
use protocol::{ContentEvents, Validity, mode};
use std::collections::{BTreeMap, HashSet};

const ROOT: NodeId = NodeId(1);
const SUB: NodeId = NodeId(2);

/// A host of a few files: what stands where, and which nodes the guest knows.
#[derive(Default)]
struct Host {
    names: BTreeMap<(u64, Vec<u8>), Attr>,
    known: HashSet<u64>,
    clock: i64,
}

impl Host {
    fn stamp(&mut self) -> Time {
        self.clock += 1;
        Time { sec: 1000 + self.clock, nsec: 0 }
    }

    fn put(&mut self, dir: NodeId, name: &str, ino: u64, kind: u32) -> Attr {
        let now = self.stamp();
        let attr =
            Attr { ino, mode: kind | 0o644, nlink: 1, mtime: now, ctime: now, ..Attr::default() };
        self.names.insert((dir.0, name.into()), attr);
        attr
    }

    fn file(&mut self, name: &str, ino: u64) -> Attr {
        self.put(ROOT, name, ino, mode::IFREG)
    }

    fn attr(&mut self, name: &str) -> &mut Attr {
        self.names.get_mut(&(ROOT.0, name.into())).unwrap()
    }

    fn write(&mut self, name: &str) -> Attr {
        let now = self.stamp();
        let attr = self.attr(name);
        attr.size += 1;
        (attr.mtime, attr.ctime) = (now, now);
        *attr
    }

    fn chmod(&mut self, name: &str, mode: u32) -> Attr {
        let now = self.stamp();
        let attr = self.attr(name);
        (attr.mode, attr.ctime) = (attr.kind() | mode, now);
        *attr
    }

    fn touch(&mut self, name: &str) -> Attr {
        let now = self.stamp();
        let attr = self.attr(name);
        (attr.mtime, attr.ctime) = (now, now);
        *attr
    }

    fn set_xattr(&mut self, name: &str) -> Attr {
        let now = self.stamp();
        self.attr(name).ctime = now;
        *self.attr(name)
    }

    fn rename(&mut self, from: (NodeId, &str), to: (NodeId, &str)) {
        let attr = self.names.remove(&(from.0.0, from.1.into())).unwrap();
        self.names.insert((to.0.0, to.1.into()), attr);
    }

    fn names_in(&self, dir: NodeId) -> Vec<Vec<u8>> {
        let names = self.names.keys().filter(|(parent, _)| *parent == dir.0);
        names.map(|(_, name)| name.clone()).collect()
    }

    fn remove(&mut self, name: &str) {
        self.names.remove(&(ROOT.0, name.into())).unwrap();
    }
}

impl Lookup for Host {
    fn look(&mut self, dir: NodeId, name: &[u8]) -> Looked {
        match self.names.get(&(dir.0, name.into())) {
            Some(attr) => {
                let node = self.known.contains(&attr.ino).then_some(NodeId(attr.ino));
                Looked::There { node, attr: *attr }
            }
            None => Looked::Absent,
        }
    }

    fn entry(&mut self, dir: NodeId, name: &[u8]) -> Option<Entry> {
        let attr = *self.names.get(&(dir.0, name.into()))?;
        self.known.insert(attr.ino);
        Some(Entry { node: NodeId(attr.ino), attr, valid: Validity::NONE })
    }

    fn entry_of(&mut self, node: NodeId) -> Option<Entry> {
        let attr = self.names.values().find(|attr| attr.ino == node.0).copied();
        Some(Entry { node, attr: attr.unwrap_or_default(), valid: Validity::NONE })
    }

    fn links(&mut self, node: NodeId) -> Option<u32> {
        self.names.values().find(|attr| attr.ino == node.0).map(|attr| attr.nlink)
    }

    fn target(&mut self, _node: NodeId) -> Option<Box<[u8]>> {
        Some(Box::from(*b"target"))
    }
}

/// A reconciler, its host and its clock.
struct Scene {
    host: Host,
    core: Reconciler,
    now: Instant,
}

fn at(dir: NodeId, name: &str) -> Place<'_> {
    Place { parent: dir, name: protocol::Name::new(name.as_bytes()).unwrap() }
}

impl Scene {
    /// The guest knows the root and `sub`, and the files `names` in the root, with inode numbers
    /// from 10 on.
    fn with(names: &[&str]) -> Self {
        let mut scene =
            Self { host: Host::default(), core: Reconciler::default(), now: Instant::now() };
        scene.core.watched(ROOT);
        scene.core.watched(SUB);
        let sub = scene.host.put(ROOT, "sub", SUB.0, mode::IFDIR);
        scene.tell(ROOT, "sub", &sub);
        for (index, name) in names.iter().enumerate() {
            let attr = scene.host.file(name, 10 + index as u64);
            scene.tell(ROOT, name, &attr);
        }
        scene
    }

    /// Long after anything on the host happened.
    fn wall() -> Time {
        Time { sec: 1_000_000, nsec: 0 }
    }

    fn tell(&mut self, dir: NodeId, name: &str, attr: &Attr) {
        self.host.known.insert(attr.ino);
        self.core.told(at(dir, name), Some((NodeId(attr.ino), attr)), Self::wall());
    }

    fn tell_none(&mut self, dir: NodeId, name: &str) {
        self.core.told(at(dir, name), None, Self::wall());
    }

    fn full_hint(&mut self, dir: NodeId, name: &str, kinds: Kinds, cookie: u32) {
        let hint = Hint {
            dir: crate::watch::WatchKey(dir),
            name: Some(name.as_bytes().into()),
            kinds,
            cookie,
            is_dir: false,
            by: crate::watch::Doer::Unknown,
        };
        self.core.hint(self.now, hint, &mut self.host);
    }

    fn hint(&mut self, name: &str, kinds: Kinds) {
        self.full_hint(ROOT, name, kinds, 0);
    }

    fn moved(&mut self, from: (NodeId, &str), to: (NodeId, &str), cookie: u32) {
        self.full_hint(from.0, from.1, Kinds::MOVED_FROM, cookie);
        self.full_hint(to.0, to.1, Kinds::MOVED_TO, cookie);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.core.tick(self.now, &mut self.host);
    }

    fn own(&mut self, act: Act<'_>, done: Done<'_>) {
        self.core.will(&act);
        self.core.did(self.now, &act, &done);
    }

    /// The changes since the last time, in words; numbers are inode numbers.
    fn news(&mut self) -> Vec<String> {
        let place = |at: &OwnedPlace| {
            let name = at.name.escape_ascii();
            if at.parent == SUB { format!("sub/{name}") } else { name.to_string() }
        };
        let said = self.core.take().into_iter().map(|change| match change {
            OwnedChange::Created { at, entry, target, moved } => {
                let arrow = target.map(|t| format!(" -> {}", t.escape_ascii())).unwrap_or_default();
                let how = if moved { "moved in" } else { "created" };
                format!("{how} {}={}{arrow}", place(&at), entry.node)
            }
            OwnedChange::Modified { at, entry, events } => {
                format!("{} {}={}", content(events), place(&at), entry.node)
            }
            OwnedChange::Attrib { at, entry } => {
                format!("attrib {}={}", at.as_ref().map(place).unwrap_or_default(), entry.node)
            }
            OwnedChange::Removed { at, node, moved, links, .. } => {
                let how = if moved { "moved out" } else { "removed" };
                let left = match links {
                    1.. if !moved => format!(", {links} left"),
                    _ => String::new(),
                };
                format!("{how} {}={node}{left}", place(&at))
            }
            OwnedChange::Renamed { from, to, entry, replaced } => {
                let over =
                    if replaced.0 == 0 { String::new() } else { format!(" over {replaced}") };
                format!("renamed {} to {}={}{over}", place(&from), place(&to), entry.node)
            }
            OwnedChange::Doubt { dir } => format!("doubt {dir}"),
            OwnedChange::Passed { at, events, .. } => {
                format!("passed {} {}", place(&at), content(events)).trim_end().to_owned()
            }
        });
        said.collect()
    }
}

fn content(events: ContentEvents) -> &'static str {
    match (events.contains(ContentEvents::WRITTEN), events.contains(ContentEvents::CLOSED)) {
        (true, true) => "modified",
        (true, false) => "written",
        (false, true) => "closed",
        (false, false) => "",
    }
}

macro_rules! said {
    ($scene:expr, $($line:literal),* $(,)?) => {
        assert_eq!($scene.news(), [$($line),*] as [&str; { const N: &[&str] = &[$($line),*]; N.len() }])
    };
}

mod content;
mod doers;
mod losses;
mod names;
