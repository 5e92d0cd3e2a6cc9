//! Watches change hands, with a source that has few of them and a guest that answers when it is told.

use crate::observe::{Observe, Observer};
use crate::server::{Closed, NoticeSink};
use crate::session::Session;
use crate::test_utils::{Guest, Host, Test};
use crate::watch::driver::Driver;
use crate::watch::{HintSource, Report, WatchError, WatchKey};
use parking_lot::{Condvar, Mutex};
use protocol::{Attachment, Change, Directories, NodeId, Notice, Request};
use rustc_hash::FxHashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Watches nothing, but counts.
#[derive(Default)]
struct Few {
    room: usize,
    watched: Mutex<FxHashSet<WatchKey>>,
    woken: Mutex<bool>,
    wake: Condvar,
}

impl HintSource for Few {
    fn watch(&self, key: WatchKey, _dir: BorrowedFd<'_>) -> Result<(), WatchError> {
        let mut watched = self.watched.lock();
        if watched.len() == self.room && !watched.contains(&key) {
            return Err(WatchError::Limit);
        }
        watched.insert(key);
        Ok(())
    }

    fn unwatch(&self, key: WatchKey) {
        self.watched.lock().remove(&key);
    }

    fn limited(&self) -> Vec<WatchKey> {
        self.watched.lock().iter().copied().collect()
    }

    fn wait(&self, timeout: Option<Duration>, _out: &mut Vec<Report>) -> io::Result<()> {
        let mut woken = self.woken.lock();
        if !*woken {
            self.wake.wait_for(&mut woken, timeout.unwrap_or(Duration::from_secs(60)));
        }
        *woken = false;
        Ok(())
    }

    fn wake(&self) {
        *self.woken.lock() = true;
        self.wake.notify_one();
    }
}

impl Few {
    fn watches(&self, dir: NodeId) -> bool {
        self.watched.lock().contains(&WatchKey(dir))
    }
}

struct WithFew(Arc<Few>);

impl Observe for WithFew {
    fn observer(&self, session: &Arc<Session>) -> Arc<dyn Observer> {
        Driver::start(session, self.0.clone()).unwrap()
    }
}

/// What a guest was told, and the last number that it has to acknowledge.
#[derive(Default)]
struct Heard(Mutex<(Vec<bool>, Vec<NodeId>, u64)>);

impl NoticeSink for Heard {
    fn notice(&self, notice: &Notice<'_>) -> Result<(), Closed> {
        let (scarce, doubts, last) = &mut *self.0.lock();
        match notice {
            Notice::Scarce { scarce: is } => scarce.push(*is),
            Notice::Changes { seq, changes, .. } => {
                *last = *seq;
                doubts.extend(changes.0.iter().filter_map(|change| match change {
                    Change::Doubt { dir } => Some(*dir),
                    _ => None,
                }));
            }
            Notice::Goodbye => {}
        }
        Ok(())
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Scene {
    source: Arc<Few>,
    heard: Arc<Heard>,
    guest: Guest,
    host: Host,
}

impl Scene {
    /// A guest that knows `a` to `d`, of which a source with room for three watches the root and two.
    fn new() -> Self {
        let source = Arc::new(Few { room: 3, ..Few::default() });
        let observe = Arc::new(WithFew(source.clone()));
        let host = Host::with_options(|_| {}, |_, options| options.observe = Some(observe));
        ["a", "b", "c", "d"].iter().for_each(|dir| std::fs::create_dir(host.path(dir)).unwrap());
        let heard = Arc::new(Heard::default());
        let guest = host.guest_that_hears(heard.clone());
        Self { source, heard, guest, host }
    }

    fn leased(&self, dir: NodeId) -> bool {
        self.guest.session.observer().lease(dir)
    }

    fn uses(&self, dir: NodeId) {
        assert!(self.guest.lookup(dir, "nothing").is_err());
    }

    fn doubts(&self) -> Vec<NodeId> {
        self.heard.0.lock().1.clone()
    }

    fn acknowledges(&self) {
        let last = self.heard.0.lock().2;
        self.guest.session.observer().acknowledged(last);
    }

    fn gives(&self, giver: NodeId, heir: NodeId) {
        eventually("it is in doubt", || self.doubts().contains(&giver));
        assert!(
            !self.leased(giver) && self.source.watches(giver),
            "first the lease, then the watch"
        );
        assert!(!self.leased(heir) && !self.source.watches(heir));
        self.acknowledges();
        eventually("it has the watch", || self.leased(heir) && self.source.watches(heir));
        assert!(!self.leased(giver) && !self.source.watches(giver));
        self.heard.0.lock().1.clear();
    }
}

#[test]
fn the_least_used_gives_its_watch_to_what_is_used_or_watched() -> Test {
    let scene = Scene::new();
    let mut dirs = [NodeId(0); 4];
    for (dir, name) in dirs.iter_mut().zip(["a", "b", "c", "d"]) {
        *dir = scene.guest.lookup(scene.guest.root, name)?.node;
    }
    let [a, b, c, d] = dirs;
    assert_eq!([a, b, c, d].map(|dir| scene.leased(dir)), [true, true, false, false]);
    eventually("the guest is asked", || scene.heard.0.lock().0 == [true]);
    assert_eq!(scene.doubts(), [], "what nobody uses takes nothing");
    // Nobody has looked into `a`.
    scene.uses(b);
    scene.uses(c);
    scene.gives(a, c);
    // The root was used before both.
    let watched = Directories(vec![a]);
    let request = Request::Watched { attachment: Attachment(0), dirs: watched };
    scene.guest.send(&request);
    scene.gives(scene.guest.root, a);
    // `a` was never used, and is watched.
    scene.uses(d);
    scene.gives(b, d);
    eventually("the figures tell", || {
        let figures = scene.guest.session.observer().figures();
        (figures.leases, figures.unwatched, figures.given_up) == (3, 2, 3)
    });
    // What was given up is compared: nothing is lost.
    std::fs::write(scene.host.path("b/new"), "x")?;
    let before = scene.heard.0.lock().2;
    eventually("it is told", || scene.heard.0.lock().2 > before);
    Ok(())
}

#[test]
fn nobody_is_asked_where_watches_are_not_short() -> Test {
    let scene = Scene::new();
    scene.guest.lookup(scene.guest.root, "a")?;
    let of_another = Request::Watched { attachment: Attachment(7), dirs: Directories::default() };
    scene.guest.send(&of_another);
    std::thread::sleep(super::TURN * 2);
    let (scarce, doubts, _) = &*scene.heard.0.lock();
    assert!(scarce.is_empty() && doubts.is_empty(), "{scarce:?} {doubts:?}");
    Ok(())
}
