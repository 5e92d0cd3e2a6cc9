//! When hints are left to gather, with a source that reports what a test says.

use super::GATHER;
use crate::observe::{Observe, Observer};
use crate::server::{Closed, NoticeSink};
use crate::session::Session;
use crate::test_utils::{Guest, Host, Test};
use crate::watch::driver::Driver;
use crate::watch::{Doer, Hint, HintSource, Kinds, Report, WatchError, WatchKey};
use parking_lot::Mutex;
use protocol::{Change, NodeId, Notice, OpenFlags};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(30);

/// What the driving thread asks of its source.
#[derive(PartialEq, Debug)]
enum Asked {
    /// For reports; how long it may take.
    Wait(Option<Duration>),
    Gather(Duration),
}

/// Watches nothing; each wait ends with the next batch of the test.
struct Told {
    asked: Mutex<mpsc::Sender<Asked>>,
    batches: Mutex<mpsc::Receiver<Vec<Report>>>,
}

impl HintSource for Told {
    fn watch(&self, _key: WatchKey, _dir: BorrowedFd<'_>) -> Result<(), WatchError> {
        Ok(())
    }

    fn unwatch(&self, _key: WatchKey) {}

    fn wait(&self, timeout: Option<Duration>, out: &mut Vec<Report>) -> io::Result<()> {
        _ = self.asked.lock().send(Asked::Wait(timeout));
        if let Ok(batch) = self.batches.lock().recv_timeout(timeout.unwrap_or(LONG)) {
            out.extend(batch);
        }
        Ok(())
    }

    fn gather(&self, time: Duration) {
        _ = self.asked.lock().send(Asked::Gather(time));
    }

    fn wake(&self) {}
}

struct WithTold(Arc<Told>);

impl Observe for WithTold {
    fn observer(&self, session: &Arc<Session>) -> Arc<dyn Observer> {
        Driver::start(session, self.0.clone()).unwrap()
    }
}

/// Names that the guest is told of as new.
struct Created(Mutex<mpsc::Sender<Vec<u8>>>);

impl NoticeSink for Created {
    fn notice(&self, notice: &Notice<'_>) -> Result<(), Closed> {
        if let Notice::Changes { changes, .. } = notice {
            for change in &changes.0 {
                if let Change::Created { at, .. } = change {
                    _ = self.0.lock().send(at.name.as_bytes().to_vec());
                }
            }
        }
        Ok(())
    }
}

struct Scene {
    asked: mpsc::Receiver<Asked>,
    batches: mpsc::Sender<Vec<Report>>,
    created: mpsc::Receiver<Vec<u8>>,
    guest: Guest,
    host: Host,
}

impl Scene {
    fn new() -> Self {
        let (asked_sender, asked) = mpsc::channel();
        let (batches, batches_receiver) = mpsc::channel();
        let (created_sender, created) = mpsc::channel();
        let source = Arc::new(Told {
            asked: Mutex::new(asked_sender),
            batches: Mutex::new(batches_receiver),
        });
        let observe = Arc::new(WithTold(source));
        let host = Host::with_options(|_| {}, |_, options| options.observe = Some(observe));
        let guest = host.guest_that_hears(Arc::new(Created(Mutex::new(created_sender))));
        let scene = Self { asked, batches, created, guest, host };
        assert_eq!(scene.next_asked(), Asked::Wait(None));
        scene
    }

    fn next_asked(&self) -> Asked {
        self.asked.recv_timeout(LONG).unwrap()
    }

    /// This happens to a name in the root, and is all that happens.
    fn report(&self, hints: &[(&str, Kinds, Doer)]) {
        let report = |(name, kinds, by): &(&str, Kinds, Doer)| {
            let (dir, name) = (WatchKey(self.guest.root), Some(name.as_bytes().into()));
            Report::Hint(Hint { dir, name, kinds: *kinds, cookie: 0, is_dir: false, by: *by })
        };
        self.batches.send(hints.iter().map(report).collect()).unwrap();
    }

    /// Until there is nothing to do.
    fn settles_without_gathering(&self) {
        loop {
            match self.next_asked() {
                Asked::Wait(None) => return,
                Asked::Wait(_) => {}
                Asked::Gather(time) => panic!("gathers for {time:?}"),
            }
        }
    }

    fn make(&self, name: &str) -> Result<NodeId, protocol::Errno> {
        let created = self.guest.create(self.guest.root, name, OpenFlags::WRONLY)?;
        Ok(created.entry.node)
    }
}

#[test]
fn behind_mere_echoes_hints_gather_and_are_waited_for_then() -> Test {
    let scene = Scene::new();
    scene.make("mine")?;
    scene.make("mine too")?;
    let written = Kinds::CREATE | Kinds::MODIFY | Kinds::CLOSE_WRITE;
    scene.report(&[
        ("mine", written, Doer::Ourselves),
        ("mine too", Kinds::CREATE, Doer::Ourselves),
        ("mine too", Kinds::CLOSE_WRITE, Doer::Ourselves),
    ]);
    assert_eq!(scene.next_asked(), Asked::Gather(GATHER));
    assert_eq!(scene.next_asked(), Asked::Wait(None), "with nothing to do nobody wakes up");
    assert_eq!(scene.guest.session.observer().figures().hints, 3);
    // A source that does not say who did it.
    scene.make("mine as well")?;
    scene.report(&[("mine as well", Kinds::CREATE, Doer::Unknown)]);
    assert_eq!(scene.next_asked(), Asked::Gather(GATHER));
    assert_eq!(scene.next_asked(), Asked::Wait(None));
    assert!(scene.created.try_recv().is_err(), "none of it is news");
    Ok(())
}

#[test]
fn behind_a_change_of_the_host_nothing_gathers() -> Test {
    let scene = Scene::new();
    scene.make("mine")?;
    let mixed: &[_] = &[
        ("mine", Kinds::CREATE, Doer::Ourselves),
        ("theirs", Kinds::CREATE, Doer::Another),
        ("mine", Kinds::CLOSE_WRITE, Doer::Ourselves),
    ];
    let unknown: &[_] = &[("somebody's", Kinds::CREATE, Doer::Unknown)];
    for (name, hints) in [("theirs", mixed), ("somebody's", unknown)] {
        std::fs::write(scene.host.path(name), "x")?;
        scene.report(hints);
        assert_eq!(scene.created.recv_timeout(LONG)?, name.as_bytes());
        scene.settles_without_gathering();
    }
    Ok(())
}

#[test]
fn what_two_mounts_did_is_judged_one_by_one() -> Test {
    let scene = Scene::new();
    let name = protocol::ExportName::new(b"x")?;
    scene.guest.call(&protocol::Request::Attach { name });
    std::fs::write(scene.host.path("by the other mount"), "x")?;
    scene.report(&[("by the other mount", Kinds::CREATE, Doer::Ourselves)]);
    assert_eq!(scene.created.recv_timeout(LONG)?, b"by the other mount");
    scene.settles_without_gathering();
    Ok(())
}
