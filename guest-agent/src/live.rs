//! One mounted export, from attaching to unmounting.

use crate::client::Client;
use crate::coherence::tap::Told;
use crate::coherence::{Coherence, Figures};
use crate::counters::Snapshot;
use crate::error::Error;
use crate::fuse::Session;
use crate::mount::{self, Mounted, Plan};
use crate::os;
use crate::recover;
use protocol::{Attached, Consistency, Errno, ExportName};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;
use tracing::{debug, info, warn};

/// How long the kernel may take to begin.
const INIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long flushing, and then the end of a mount that is still in use, are waited for.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Delegated writes reach the host after this time at the latest.
const WRITE_BACK: Duration = Duration::from_secs(1);
/// Read-ahead of the kernel in KiB.
const READAHEAD_KIB: u32 = 1024;

/// How to mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MountOptions {
    /// Let users other than the mounting one use the mount.
    pub allow_other: bool,
    /// Refuse writing, even if the export allows it.
    pub read_only: bool,
    /// Threads that read requests; by default as many as the machine's processors ask for.
    pub threads: Option<usize>,
}

/// A mounted export. Dropping it unmounts.
pub struct Mount {
    session: Arc<Session>,
    mounted: Arc<Mounted>,
    coherence: OnceLock<Arc<Coherence>>,
}

impl Mount {
    /// Attaches `export` and mounts it on `point`; on return the kernel uses it.
    ///
    /// # Errors
    /// See [`Error`]. Nothing stays mounted.
    pub fn start(
        client: Arc<Client>,
        export: &str,
        point: &Path,
        options: MountOptions,
    ) -> Result<Self, Error> {
        let (session, attached) = attach(client, export)?;
        let plan = Plan {
            source: export.to_owned(),
            allow_other: options.allow_other,
            read_only: options.read_only || attached.read_only,
            ownership: attached.ownership,
        };
        let (mounted, fd) = match mount::mount(&plan, point) {
            Ok(mounted) => mounted,
            Err(error) => {
                recover::detach(&session);
                return Err(error);
            }
        };
        session.device.mounted(fd);
        let mount = Self { session, mounted: Arc::new(mounted), coherence: OnceLock::new() };
        let threads = options.threads.unwrap_or_else(default_threads).clamp(1, 64);
        mount.session.start(threads).map_err(Error::Thread)?;
        if !mount.session.wait_serving(INIT_TIMEOUT) {
            return Err(Error::NoInit(mount.mounted.point.clone()));
        }
        mount.mounted.set_readahead(READAHEAD_KIB);
        mount.session.watchers.mounted(mount.mounted.device);
        let (point, device) = (mount.mounted.point.clone(), mount.mounted.device);
        let coherence = Coherence::start(&mount.session, point, device).map_err(Error::Thread)?;
        let _ = mount.coherence.set(coherence);
        // Only now, so that the way of the injector remains writable.
        if plan.read_only {
            mount.mounted.make_read_only()?;
        }
        mount.watch_over(attached.consistency)?;
        info!(export, mount_point = %mount.mounted.point.display(), "mounted");
        Ok(mount)
    }

    /// Waits until the mount is gone, by whomever it is unmounted.
    pub fn wait(&self) {
        self.session.wait_ended(None);
    }

    /// Writes everything back and unmounts. Who still uses the mount may do so for a short while.
    ///
    /// # Errors
    /// [`Error::Unmount`].
    pub fn unmount(&self) -> Result<(), Error> {
        if self.session.wait_ended(Some(Duration::ZERO)) {
            return Ok(());
        }
        self.flush();
        self.mounted.unmount()?;
        self.session.release_sink();
        if !self.session.wait_ended(Some(END_TIMEOUT)) {
            warn!(mount_point = %self.mounted.point.display(), "still in use; it ends with this process");
        }
        Ok(())
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.mounted.point
    }

    /// The name of the export.
    pub fn export(&self) -> &str {
        &self.session.export
    }

    /// Its device number: `st_dev` of everything on it.
    pub fn device(&self) -> u64 {
        self.mounted.device
    }

    /// What it has done so far.
    pub fn counters(&self) -> Snapshot {
        self.session.counters.snapshot()
    }

    /// How delivering changes gets on.
    pub fn delivery(&self) -> Option<Figures> {
        self.coherence.get().map(|coherence| coherence.figures())
    }

    /// Every change from now on, as it is delivered; ends with the mount.
    pub fn watch(&self) -> Option<mpsc::Receiver<Told>> {
        self.coherence.get().map(|coherence| coherence.tap().open())
    }

    /// Waits until somebody does something on the mount, unless `happened` already, or it ends.
    pub fn wait_active(&self, happened: impl Fn() -> bool) {
        let ended = || self.session.wait_ended(Some(Duration::ZERO));
        self.session.active.wait(|| happened() || ended());
    }

    /// Lets whoever waits for something to be done go on.
    pub fn wake_waiting(&self) {
        self.session.active.ring();
    }

    /// Nodes that the kernel knows at present.
    pub fn nodes(&self) -> usize {
        self.session.nodes.count()
    }

    /// Requests of all mounts of this client that the server has not answered yet.
    pub fn in_flight(&self) -> usize {
        self.session.client.in_flight()
    }

    fn flush(&self) {
        if !sync(&self.mounted, FLUSH_TIMEOUT) {
            warn!("the last writes did not reach the server in time");
        }
    }

    fn watch_over(&self, consistency: Consistency) -> Result<(), Error> {
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(work).map_err(Error::Thread).map(|_| ())
        };
        let (session, mounted) = (self.session.clone(), self.mounted.clone());
        spawn("osxfs-mounts", Box::new(move || watch_mounts(&session, &mounted)))?;
        if consistency == Consistency::Delegated {
            let (session, mounted) = (self.session.clone(), self.mounted.clone());
            spawn("osxfs-writeback", Box::new(move || write_back(&session, &mounted)))?;
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            warn!(%error, "left mounted");
        }
    }
}

fn attach(client: Arc<Client>, export: &str) -> Result<(Arc<Session>, Attached), Error> {
    if ExportName::new(export.as_bytes()).is_err() {
        return Err(Error::BadExportName(export.to_owned()));
    }
    let epoch = client.epoch();
    let session = Session::new(client, export);
    let attached =
        recover::attach(&session, epoch).and_then(|()| session.attached().ok_or(Errno::EPROTO));
    match attached {
        Ok(attached) => Ok((session, attached)),
        Err(Errno::ENOENT) => Err(Error::UnknownExport(export.to_owned())),
        Err(errno) => Err(Error::Attach { export: export.to_owned(), errno }),
    }
}

/// An embedded server works on these threads, so there are more than processors.
fn default_threads() -> usize {
    let processors = thread::available_parallelism().map_or(2, usize::from);
    (processors * 2).clamp(4, 16)
}

/// Asks the kernel to write back all that it holds for the mount, and tells whether that was done in
/// time. On a thread of its own, because it waits for the server and a dead one must not keep us, and
/// with a descriptor table of its own, so that it does not keep us from dying: see
/// [`hand`](crate::inject).
fn sync(mounted: &Arc<Mounted>, timeout: Duration) -> bool {
    let (done, wait) = mpsc::sync_channel(1);
    let mounted = mounted.clone();
    let flush = move || {
        if let Err(error) = os::isolate(None) {
            debug!(%error, "no descriptor table of its own for writing back");
        }
        if let Err(error) = sync_here(&mounted) {
            debug!(%error, "nothing written back");
        }
        let _ = done.try_send(());
    };
    let spawned = thread::Builder::new().name("osxfs-flush".into()).spawn(flush);
    spawned.is_err() || wait.recv_timeout(timeout).is_ok()
}

/// The root is opened and closed again, so that an `umount` meanwhile fails for a moment only.
fn sync_here(mounted: &Mounted) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let root = rustix::fs::open(&mounted.point, flags, Mode::empty())?;
    // Something else may have been mounted on top, or the mount may be gone.
    if rustix::fs::fstat(&root)?.st_dev == mounted.device {
        rustix::fs::syncfs(&root)?;
    }
    Ok(())
}

/// Once a second, while files are open. (Closing a file writes it back by itself.)
fn write_back(session: &Session, mounted: &Arc<Mounted>) {
    let ended = |time| session.wait_ended(Some(time));
    while !ended(Duration::ZERO) {
        let is_open = || session.handles.count().0 > 0;
        session.opened.wait(|| is_open() || ended(Duration::ZERO));
        while is_open() && !ended(WRITE_BACK) {
            sync(mounted, FLUSH_TIMEOUT);
        }
    }
}

/// A private clone of the mount, through which events are injected, keeps the file system alive
/// after everybody else has unmounted it. So when it has left the mount table, the clone is let go.
fn watch_mounts(session: &Session, mounted: &Mounted) {
    let Ok(table) = File::open("/proc/self/mountinfo") else { return };
    let Ok(gone) = eventfd(0, EventfdFlags::CLOEXEC) else { return };
    let gone = session.gone.get_or_init(|| gone);
    while !session.wait_ended(Some(Duration::ZERO)) {
        if !mounted.is_anywhere() {
            return session.release_sink();
        }
        // The kernel reports a change of the table as an exceptional condition.
        let mut fds = [PollFd::new(&table, PollFlags::PRI), PollFd::new(gone, PollFlags::IN)];
        let _ = poll(&mut fds, None);
    }
}
