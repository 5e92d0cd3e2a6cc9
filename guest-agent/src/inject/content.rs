//! Changes of what is in a file or said of an object, and files that came and went.

use super::notice::{Notice, Prepared};
use super::scene::{self, Deed, Scene, Shown, What};
use super::{Delivery, Injector, Outcome};
use crate::fuse::abi::InitFlags;
use crate::nodes::LocalId;
use protocol::{Attr, AttrReply, ContentEvents, Entry, Errno, Place, mode};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};

impl Injector {
    pub(super) fn modified(
        &mut self,
        at: &Place<'_>,
        entry: &Entry,
        events: ContentEvents,
        prepared: Prepared,
    ) -> Delivery {
        let local = self.session.nodes.absorb(entry);
        self.catch_up(local, prepared, Notice::Pages);
        let fires = entry.attr.kind() == mode::IFREG && !events.is_empty();
        let Some((parent, name)) = self.place(at).filter(|_| fires) else {
            return self.leftover(local, entry);
        };
        let Some(dir) = self.enter(parent)? else { return self.leftover(local, entry) };
        let sizes = self.keeps_sizes();
        let events = if sizes { events | ContentEvents::CLOSED } else { events };
        let result = self.on_node((parent, name), local, entry, prepared, || {
            change_content(&dir, name, &entry.attr, events, sizes)
        });
        self.conclude(result, parent, name)
    }

    /// The kernel has learned of a node since the change was prepared, perhaps as it was before.
    fn catch_up(
        &self,
        local: Option<LocalId>,
        prepared: Prepared,
        notice: impl FnOnce(LocalId) -> Notice,
    ) {
        if let Some(local) = local.filter(|_| !prepared.refreshed) {
            self.worker.notice(notice(local));
        }
    }

    /// Whether the kernel believes its own sizes of files. Then only `ftruncate` brings it a new one.
    fn keeps_sizes(&self) -> bool {
        let agreed = self.session.negotiated();
        agreed.is_some_and(|agreed| agreed.flags.contains(InitFlags::WRITEBACK_CACHE))
    }

    pub(super) fn attrib(
        &mut self,
        at: Option<&Place<'_>>,
        entry: &Entry,
        prepared: Prepared,
    ) -> Delivery {
        let local = self.session.nodes.absorb(entry);
        self.catch_up(local, prepared, Notice::Attributes);
        let times = times(&entry.attr, true);
        let Some(at) = at else {
            let Some(local) = local else { return self.leftover(local, entry) };
            let Some(dir) = self.enter(local)? else {
                return Ok(Outcome::Unknown);
            };
            let mut scene = Scene::of(Deed::Touch, Vec::new());
            scene.object = Some((local, reply(&entry.attr)));
            self.act(scene, || rustix::fs::utimensat(&dir, ".", &times, AtFlags::empty()))?;
            return Ok(Outcome::Injected);
        };
        let Some((parent, name)) = self.place(at) else { return self.leftover(local, entry) };
        let Some(dir) = self.enter(parent)? else { return self.leftover(local, entry) };
        let result = self.on_node((parent, name), local, entry, prepared, || {
            rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        });
        self.conclude(result, parent, name)
    }

    /// Acts on the object under a name that is what it is before and after.
    fn on_node(
        &mut self,
        (parent, name): (LocalId, &[u8]),
        local: Option<LocalId>,
        entry: &Entry,
        prepared: Prepared,
        call: impl Fn() -> rustix::io::Result<()>,
    ) -> Result<bool, Errno> {
        let local = local.unwrap_or_else(|| self.adopt((parent, name), entry));
        self.act_again(prepared, &[(parent, name)], |_| {
            let what = What::Now { local, entry: *entry };
            let mut scene = Scene::of(Deed::Touch, vec![Shown::new(parent, name, what)]);
            scene.object = Some((local, reply(&entry.attr)));
            self.act(scene, &call)
        })
    }

    pub(super) fn passed(
        &mut self,
        at: &Place<'_>,
        is_dir: bool,
        events: ContentEvents,
    ) -> Delivery {
        let Some((parent, name)) = self.place(at) else { return Ok(Outcome::Unknown) };
        if self.session.nodes.child(parent, name).is_some() {
            // Something else is there by now, or still.
            return Ok(Outcome::Unknown);
        }
        let Some(dir) = self.enter(parent)? else { return Ok(Outcome::Unknown) };
        let result = self.pass((parent, name), &dir, is_dir, events);
        self.conclude(result, parent, name)
    }

    /// Makes something up, does to it what was done, and removes it.
    fn pass(
        &self,
        (parent, name): (LocalId, &[u8]),
        dir: &OwnedFd,
        is_dir: bool,
        events: ContentEvents,
    ) -> Result<bool, Errno> {
        let kind = if is_dir { mode::IFDIR | 0o700 } else { mode::IFREG | 0o600 };
        let attr = Attr { ino: u64::MAX, mode: kind, nlink: 1, blksize: 4096, ..Attr::default() };
        let local = scene::made_up();
        let scene = |deed, what| {
            let mut scene = Scene::of(deed, vec![Shown::new(parent, name, what)]);
            scene.made_up = Some((local, attr));
            scene.object = Some((local, reply(&attr)));
            scene
        };
        let there = || What::Before { local, attr };
        let closed = events.contains(ContentEvents::CLOSED) && !is_dir;
        let private = Mode::from_raw_mode(0o600);
        let made = self.act(scene(Deed::Make, What::Nothing), || match is_dir {
            true => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)),
            false if closed => {
                let flags = WRITE | OFlags::CREATE | OFlags::EXCL;
                let file = rustix::fs::openat(dir, name, flags, private)?;
                if events.contains(ContentEvents::WRITTEN) {
                    rustix::fs::ftruncate(&file, 0)?;
                }
                Ok(())
            }
            false => rustix::fs::mknodat(dir, name, FileType::RegularFile, private, 0),
        })?;
        if !made {
            return Ok(false);
        }
        if events.contains(ContentEvents::WRITTEN) && !closed && !is_dir {
            self.act(scene(Deed::Touch, there()), || {
                change_content(dir, name, &attr, ContentEvents::WRITTEN, false)
            })?;
        }
        let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        self.act(scene(Deed::Remove, there()), || rustix::fs::unlinkat(dir, name, flags))
    }

    fn leftover(&self, local: Option<LocalId>, entry: &Entry) -> Delivery {
        match local {
            Some(_) => Ok(Outcome::Unknown),
            None => self.unwanted(entry),
        }
    }
}

const WRITE: OFlags = OFlags::WRONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// The calls that do to the content of a file what was done to it. `sizes`: only a call that sets the
/// size tells the kernel of a new one.
fn change_content(
    dir: &OwnedFd,
    name: &[u8],
    attr: &Attr,
    events: ContentEvents,
    sizes: bool,
) -> rustix::io::Result<()> {
    use rustix::io::Errno as E;
    let written = events.contains(ContentEvents::WRITTEN);
    let touch = || {
        let times = times(attr, false);
        rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    };
    if !events.contains(ContentEvents::CLOSED) {
        return touch();
    }
    match rustix::fs::openat(dir, name, WRITE, Mode::empty()) {
        // The time alone asks fewer questions than a size: whether capabilities go with it, too.
        Ok(file) if written && !sizes => rustix::fs::futimens(&file, &times(attr, false))
            .or_else(|_| rustix::fs::ftruncate(&file, attr.size)),
        Ok(file) if written => rustix::fs::ftruncate(&file, attr.size),
        Ok(_) => Ok(()),
        // It is being executed, or leased, or this process may not write to it: the time alone.
        Err(E::TXTBSY | E::WOULDBLOCK | E::ACCESS) if written => touch(),
        Err(errno) => Err(errno),
    }
}

fn reply(attr: &Attr) -> AttrReply {
    AttrReply { attr: *attr, attr_ms: 0 }
}

/// The times that the object has. Setting both is a change of attributes, the second alone one of
/// content.
fn times(attr: &Attr, both: bool) -> Timestamps {
    let time = |time: protocol::Time| Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() };
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps {
        last_access: if both { time(attr.atime) } else { omit },
        last_modification: time(attr.mtime),
    }
}
