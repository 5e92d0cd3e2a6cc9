//! Changes of names: made, removed, renamed, exchanged.

use super::notice::{Notice, Prepared};
use super::scene::{self, Deed, Scene, Shown, What};
use super::{Delivery, Injector, Names, Outcome};
use crate::nodes::{Known, LocalId};
use protocol::{Attr, Entry, Errno, NodeId, Place, mode};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, StatxFlags};
use tracing::debug;

impl Injector {
    pub(super) fn created(
        &mut self,
        at: &Place<'_>,
        entry: &Entry,
        target: Option<&[u8]>,
        moved: bool,
    ) -> Delivery {
        let Some((parent, name)) = self.place(at) else { return self.unwanted(entry) };
        let Some(dir) = self.enter(parent)? else { return self.unwanted(entry) };
        let mut carried = Some(*entry);
        if moved && self.moved_in((parent, name), &dir, &mut carried) {
            return self.conclude(Ok(true), parent, name);
        }
        if carried.is_none() {
            return self.conclude(Ok(false), parent, name);
        }
        let local = self.session.nodes.local(entry.node);
        // Another name of a known file, whose own watchers hear of its link count.
        let other = local.filter(|_| entry.attr.kind() != mode::IFDIR).and_then(|local| {
            let (_, other) = self.session.nodes.path(local)?.pop()?;
            let from = self.session.nodes.known(local)?.parent?;
            ((from, &*other) != (parent, name)).then_some((from, other))
        });
        let scene = || Scene::of(Deed::Make, vec![Shown::new(parent, name, What::Nothing)]);
        if let Some((from, other)) = other
            && let Some(from) = self.enter(from)?
        {
            let flags = AtFlags::empty();
            let scene = Scene { carried: carried.take(), ..scene() };
            let link = || rustix::fs::linkat(from, &*other, &dir, name, flags);
            let (result, left) = self.perform(scene, link);
            carried = left;
            if result == Ok(true) {
                self.linked = local;
            }
            if result == Ok(true) || carried.is_none() {
                return self.conclude(result, parent, name);
            }
            // The other name is gone meanwhile, as where a file is saved by a link.
            self.expire_now(&[(parent, name)]);
        }
        let kind = entry.attr.kind();
        let make = || make(&dir, name, kind, target);
        // Its names are expired already, if they were cached.
        let result = self.act_again(Prepared::default(), &[(parent, name)], |_| {
            let (result, left) = self.perform(Scene { carried: carried.take(), ..scene() }, make);
            carried = left;
            result
        });
        if let Some(entry) = carried {
            self.keep_or_give_back(&entry);
        }
        self.conclude(result, parent, name)
    }

    pub(super) fn removed(
        &mut self,
        at: &Place<'_>,
        node: NodeId,
        is_dir: bool,
        moved: bool,
        links: u32,
        prepared: Prepared,
    ) -> Delivery {
        let Some((parent, name)) = self.place(at) else { return Ok(Outcome::Unknown) };
        let local = self.session.nodes.local(node);
        let known = local.and_then(|local| self.session.nodes.known(local));
        let is_dir = known.map_or(is_dir, |known| known.mode & mode::IFMT == mode::IFDIR);
        let kind = if is_dir { mode::IFDIR | 0o700 } else { mode::IFREG | 0o600 };
        let attr = Attr {
            ino: known.map_or(u64::MAX, |known| known.ino),
            mode: known.map_or(kind, |known| known.mode),
            nlink: 1,
            ..Attr::default()
        };
        if is_dir {
            // An open directory is not gone, and its watchers would hear of it late.
            self.dirs.retain(|(open, _)| Some(*open) != local);
        }
        let Some(dir) = self.enter(parent)? else { return Ok(Outcome::Unknown) };
        let shown = local.unwrap_or_else(scene::made_up);
        let mut what = What::Before { local: shown, attr };
        if moved && self.moved_out((parent, name), &dir, (shown, attr), prepared) {
            return self.conclude(Ok(true), parent, name);
        }
        let mut prepared = prepared;
        if let (Some(local), Some(known)) = (local, known.filter(|_| !is_dir))
            && let Some(attr) = self.miscounted(&dir, (parent, name), known, links, &what)
        {
            if prepared.as_before {
                self.worker.notice(Notice::Name(parent, name.into()));
            }
            prepared.as_before = false;
            what = What::Linked { local, attr };
        }
        if let Some(local) = local {
            self.session.nodes.bury(local);
        }
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let scene = || Scene::of(Deed::Remove, vec![Shown::new(parent, name, what.clone())]);
        let result = self.act_again(prepared, &[(parent, name)], |_| {
            self.act(scene(), || rustix::fs::unlinkat(&dir, name, flags))
        });
        if result != Ok(true) {
            scene().follow(&self.session.nodes);
        }
        if links > 0 {
            self.linked = local.filter(|_| result == Ok(true));
            self.notices.extend(local.map(Notice::Attributes));
        }
        self.conclude(result, parent, name)
    }

    /// A file has so many names left. If the kernel counts otherwise, it would take it for dead, or
    /// not: then these are its attributes, as the kernel has them but for the number of names.
    fn miscounted(
        &self,
        dir: &OwnedFd,
        (parent, name): (LocalId, &[u8]),
        known: Known,
        links: u32,
        what: &What,
    ) -> Option<Attr> {
        if links == 0 && known.nlink == 1 {
            return None;
        }
        self.past.enter(Scene::of(Deed::Walk, vec![Shown::new(parent, name, what.clone())]));
        // Not what the server says: it knows the number afterwards, and the sizes that go with it.
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
        let found = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS);
        self.past.leave();
        let found = found.ok()?;
        let nlink = links + 1;
        if found.stx_nlink == nlink || found.stx_nlink > nlink && links > 0 {
            return None;
        }
        let time = |time: rustix::fs::StatxTimestamp| protocol::Time {
            sec: time.tv_sec,
            nsec: time.tv_nsec,
        };
        Some(Attr {
            ino: known.ino,
            size: found.stx_size,
            blocks: found.stx_blocks,
            atime: time(found.stx_atime),
            mtime: time(found.stx_mtime),
            ctime: time(found.stx_ctime),
            mode: found.stx_mode.into(),
            nlink,
            uid: found.stx_uid,
            gid: found.stx_gid,
            blksize: found.stx_blksize,
            ..Attr::default()
        })
    }

    pub(super) fn renamed(
        &mut self,
        from: &Place<'_>,
        to: &Place<'_>,
        entry: &Entry,
        replaced: NodeId,
        prepared: Prepared,
    ) -> Delivery {
        let (Some((old, name)), Some((new, new_name))) = (self.place(from), self.place(to)) else {
            // Half of it is in sight.
            if self.place(to).is_some() {
                return self.created(to, entry, None, true);
            }
            let node = match self.session.nodes.local(entry.node) {
                Some(_) => entry.node,
                None => NodeId(0),
            };
            let left = Prepared::default();
            let outcome = self.removed(from, node, entry.attr.is_dir(), true, 0, left);
            self.unwanted(entry)?;
            return outcome;
        };
        let Some(old_dir) = self.enter(old)? else { return self.unwanted(entry) };
        let Some(new_dir) = self.enter(new)? else { return self.unwanted(entry) };
        let local = self.adopt((old, name), entry);
        let nodes = &self.session.nodes;
        let target = nodes.local(replaced);
        if let Some(target) = target {
            nodes.bury(target);
        }
        let what_was = match target.and_then(|target| Some((target, nodes.known(target)?))) {
            Some((local, known)) => {
                let attr = Attr { ino: known.ino, mode: known.mode, nlink: 1, ..Attr::default() };
                What::Before { local, attr }
            }
            None => What::Nothing,
        };
        self.dirs.retain(|(open, _)| Some(*open) != target);
        let what_is = What::Now { local, entry: *entry };
        let shown = [Shown::new(old, name, what_is.clone()), Shown::new(new, new_name, what_was)];
        let scene = || Scene::of(Deed::Rename, shown.clone().into());
        let result = self.act_again(prepared, &[(old, name), (new, new_name)], |found| {
            let _held = (found == Names::Expired && entry.attr.is_dir())
                .then(|| self.hold((old, name), &old_dir, &what_is));
            self.act(scene(), || rustix::fs::renameat(&old_dir, name, &new_dir, new_name))
        });
        if result != Ok(true) {
            scene().follow(&self.session.nodes);
        }
        if result.is_err() {
            self.expire(old, name);
        }
        self.conclude(result, new, new_name)
    }

    pub(super) fn exchanged(
        &mut self,
        names: [(LocalId, &[u8], &Entry); 2],
        prepared: Prepared,
    ) -> Delivery {
        let [(old, name, entry), (new, new_name, second)] = names;
        let dirs = (self.enter(old)?, self.enter(new)?);
        let (Some(old_dir), Some(new_dir)) = dirs else {
            [entry, second].iter().for_each(|entry| self.keep_or_give_back(entry));
            return Ok(Outcome::Unknown);
        };
        let shown = names.map(|(dir, name, entry)| {
            let local = self.adopt((dir, name), entry);
            Shown::new(dir, name, What::Now { local, entry: *entry })
        });
        let scene = || Scene::of(Deed::Rename, shown.clone().into());
        let result = self.act_again(prepared, &[(old, name), (new, new_name)], |found| {
            let both = [(&old_dir, entry), (&new_dir, second)].into_iter().zip(&shown);
            let _held: Vec<_> = both
                .filter(|((_, entry), _)| found == Names::Expired && entry.attr.is_dir())
                .map(|((dir, _), shown)| self.hold(shown.at(), dir, &shown.what))
                .collect();
            self.act(scene(), || {
                let flags = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&old_dir, name, &new_dir, new_name, flags)
            })
        });
        if result != Ok(true) {
            scene().follow(&self.session.nodes);
        }
        if result.is_err() {
            self.expire(old, name);
        }
        self.conclude(result, new, new_name)
    }

    /// What the guest itself has put under a name before it was told that the name was free: watchers
    /// have heard of it too early, and last that what was there before is gone. They hear of it again.
    pub(super) fn show_covered(&mut self, freed: Option<&Place<'_>>, outcome: Outcome) {
        let freed = freed.filter(|_| outcome == Outcome::Injected);
        let covered = self.past.take_covered();
        if let Some((parent, name)) = freed.and_then(|at| self.place(at))
            && let Some((put, kind)) = self.session.nodes.put_here(parent, name)
            && covered.contains(&put)
            && let Ok(Some(dir)) = self.enter(parent)
        {
            // The node itself would need its present attributes; the next who looks finds it.
            let result = self.make_up((parent, name), &dir, kind);
            debug!(?result, "shown again");
            self.expire(parent, name);
        }
        covered.into_iter().for_each(|put| self.session.forget(put.0, 1));
    }

    /// Has the kernel make something of this type that the next lookup will not find.
    fn make_up(
        &self,
        (parent, name): (LocalId, &[u8]),
        dir: &OwnedFd,
        kind: u32,
    ) -> Result<bool, Errno> {
        let attr = Attr { ino: u64::MAX, mode: kind | 0o700, nlink: 1, ..Attr::default() };
        self.act_again(Prepared::default(), &[(parent, name)], |_| {
            let mut scene = Scene::of(Deed::Make, vec![Shown::new(parent, name, What::Nothing)]);
            scene.made_up = Some((scene::made_up(), attr));
            self.act(scene, || make(dir, name, kind, None))
        })
    }

    /// Has the kernel find a directory under a name, and keep it so. It has one name in the kernel,
    /// which may be another one, and while something is renamed between directories it can not be
    /// brought from there.
    pub(super) fn hold(
        &self,
        (parent, name): (LocalId, &[u8]),
        dir: &OwnedFd,
        what: &What,
    ) -> Option<OwnedFd> {
        self.past.enter(Scene::of(Deed::Walk, vec![Shown::new(parent, name, what.clone())]));
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(dir, name, flags, Mode::empty());
        self.past.leave();
        held.ok()
    }
}

/// The call that makes something of this type.
fn make(dir: &OwnedFd, name: &[u8], kind: u32, target: Option<&[u8]>) -> rustix::io::Result<()> {
    match kind {
        mode::IFDIR => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)),
        mode::IFLNK => rustix::fs::symlinkat(target.unwrap_or(b"?"), dir, name),
        // As a device it would take the right to make one, and the event is the same.
        _ => {
            let kind = FileType::from_raw_mode(kind);
            rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), 0)
        }
    }
}
