//! Moves between what is in sight and [elsewhere](super::scene).

use super::Injector;
use super::notice::{Notice, Prepared};
use super::scene::{Deed, ELSEWHERE, Scene, Shown, What, name_elsewhere};
use crate::nodes::LocalId;
use protocol::{Attr, Entry, Errno};
use rustix::fd::OwnedFd;
use std::sync::Arc;
use tracing::debug;

impl Injector {
    /// Moves what a name leads to out of sight. Tells whether that was done; if not, nothing is.
    pub(super) fn moved_out(
        &mut self,
        (parent, name): (LocalId, &[u8]),
        dir: &OwnedFd,
        (local, attr): (LocalId, Attr),
        prepared: Prepared,
    ) -> bool {
        let Ok(elsewhere) = self.enter_elsewhere() else { return false };
        // What is below of what moves away is to be let go as well.
        self.dirs.retain(|(open, _)| *open == parent);
        let there = name_elsewhere();
        let result = self.act_again(prepared, &[(parent, name)], |_| {
            let names = vec![
                Shown::new(parent, name, What::Before { local, attr }),
                Shown::new(ELSEWHERE, &there, What::Nothing),
            ];
            let scene = Scene::of(Deed::Rename, names);
            self.act(scene, || rustix::fs::renameat(dir, name, &elsewhere, &*there))
        });
        match result {
            Ok(true) => {
                self.notices.push(Notice::OutOfSight(local));
                true
            }
            other => {
                debug!(result = ?other, "not moved out of sight");
                false
            }
        }
    }

    /// Moves what is carried from out of sight to a name. Tells whether that was done. If not, but it
    /// was taken over by the kernel nevertheless, it is carried no more.
    pub(super) fn moved_in(
        &mut self,
        (parent, name): (LocalId, &[u8]),
        dir: &OwnedFd,
        carried: &mut Option<Entry>,
    ) -> bool {
        let Some(entry) = *carried else { return false };
        let Ok(elsewhere) = self.enter_elsewhere() else { return false };
        let there = name_elsewhere();
        let local = self.session.nodes.local(entry.node);
        let over = self.session.nodes.child(parent, name).filter(|over| Some(*over) != local);
        let was = match over.and_then(|over| Some((over, self.session.nodes.known(over)?))) {
            Some((local, known)) => {
                self.session.nodes.bury(local);
                let attr = Attr { ino: known.ino, mode: known.mode, nlink: 1, ..Attr::default() };
                What::Before { local, attr }
            }
            None => What::Nothing,
        };
        // Whoever looks at the name meanwhile has a directory moved there, or what is carried known.
        let result = self.act_again(Prepared::default(), &[(parent, name)], |_| {
            let local = self.session.nodes.local(entry.node);
            let what = local.map_or(What::Carried, |local| What::Now { local, entry });
            let _held = local
                .filter(|_| entry.attr.is_dir())
                .and_then(|_| self.hold((ELSEWHERE, &there), &elsewhere, &what));
            let from = Shown::new(ELSEWHERE, &there, what);
            let to = Shown::new(parent, name, was.clone());
            let mut scene = Scene::of(Deed::Rename, vec![from, to]);
            let mut kept = carried.take();
            scene.carried = kept.take_if(|_| local.is_none());
            let call = || rustix::fs::renameat(&elsewhere, &*there, dir, name);
            let (result, left) = self.perform(scene, call);
            *carried = kept.or(left);
            result
        });
        if result != Ok(true) {
            debug!(?result, "not moved into sight");
            self.expire(ELSEWHERE, &there);
            return false;
        }
        if let Some(entry) = carried.take() {
            self.keep_or_give_back(&entry);
        }
        true
    }

    fn enter_elsewhere(&mut self) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(open) = &self.elsewhere {
            return Ok(open.clone());
        }
        self.past.enter(Scene::walk());
        let open = self.root.open_elsewhere();
        self.past.leave();
        let open = Arc::new(open?);
        self.elsewhere = Some(open.clone());
        Ok(open)
    }
}
