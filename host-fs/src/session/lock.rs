//! Locks of guests: among all agents, and on the host where that is wanted.

use super::{Responder, Session, Waiting, handle_request::Result};
use crate::handle::OpenFile;
use crate::host_locks::{self, Wait};
use crate::locks::{FileKey, LockTable, Outcome, Owner, Range};
use crate::os;
use protocol::{Errno, HandleId, Lock, LockFamily, LockKind, LockOwner, OpenFlags, Reply, Tag};
use std::sync::Arc;

/// The last byte of a file, as the protocol says it.
const LAST: u64 = i64::MAX as u64;

impl Session {
    fn owner(&self, family: LockFamily, owner: LockOwner) -> Owner {
        Owner { session: self.id, owner, family }
    }

    fn range(&self, handle: HandleId, lock: &Lock) -> Result<Range> {
        // A flock is on the whole file, whatever the range says.
        let (start, end) = match lock.family {
            LockFamily::Posix => (lock.start, lock.end),
            LockFamily::Flock => (0, LAST),
        };
        if start > end || end > LAST {
            return Err(Errno::EINVAL);
        }
        let exclusive = lock.kind == LockKind::Write;
        let owner = self.owner(lock.family, lock.owner);
        Ok(Range { owner, handle, pid: lock.pid, exclusive, start, end })
    }

    pub(super) fn get_lock(&self, handle: HandleId, lock: &Lock) -> Result<Lock> {
        let file = self.state.lock().handles.file(handle)?;
        let wanted = self.range(handle, lock)?;
        let conflict = self.server.locks.lock().conflict(file.identity.key(), &wanted);
        Ok(match conflict {
            Some(held) => {
                let mut held = held.to_wire();
                // A process of another guest has no number here.
                held.pid =
                    if conflict.is_some_and(|c| c.owner.session == self.id) { held.pid } else { 0 };
                held
            }
            None => Lock { kind: LockKind::Unlock, ..*lock },
        })
    }

    pub(super) fn set_lock<R: Responder>(
        &self,
        tag: Tag,
        handle: HandleId,
        lock: &Lock,
        wait: bool,
        respond: R,
    ) {
        match self.prepare(handle, lock) {
            Err(errno) => respond.respond(&Reply::Error { errno }),
            Ok((file, range)) if lock.kind == LockKind::Unlock => {
                self.releasing(&file, |locks, key| {
                    locks.release(key, range.owner, range.start, range.end)
                });
                respond.respond(&Reply::Done);
            }
            Ok((file, range)) => {
                let answer: Waiting = Box::new(move |reply: &Reply<'_>| respond.respond(reply));
                let tag = wait.then_some(tag);
                if file.export.config.host_locks {
                    self.take_host_lock(file, range, tag, answer);
                } else {
                    self.take_lock(&file, range, tag, answer);
                }
            }
        }
    }

    fn prepare(&self, handle: HandleId, lock: &Lock) -> Result<(Arc<OpenFile>, Range)> {
        let file = self.state.lock().handles.file(handle)?;
        // As fcntl(2): the file must be open for what the lock protects.
        let writes_only = file.flags.contains(OpenFlags::WRONLY);
        let refused = lock.family == LockFamily::Posix
            && match lock.kind {
                LockKind::Read => writes_only,
                LockKind::Write => !file.writable(),
                LockKind::Unlock => false,
            };
        if refused {
            return Err(Errno::EBADF);
        }
        Ok((file, self.range(handle, lock)?))
    }

    fn take_lock(&self, file: &OpenFile, range: Range, tag: Option<Tag>, answer: Waiting) {
        let key = file.identity.key();
        let (outcome, woken) = self.server.locks.lock().take(key, range, tag, answer);
        wake(woken);
        match outcome {
            Outcome::Granted(answer) => answer(&Reply::Done),
            Outcome::Refused(answer, errno) => answer(&Reply::Error { errno }),
            Outcome::Waits => self.drop_locks_if_closed(),
        }
    }

    /// Takes a lock on the host as well; what must wait is tried again on a thread of its own.
    fn take_host_lock(&self, file: Arc<OpenFile>, range: Range, tag: Option<Tag>, answer: Waiting) {
        let server = &self.server;
        let taken = server.host_locks.take(&mut server.locks.lock(), &file, &self.share, range);
        match (taken, tag) {
            (Ok(woken), _) => {
                wake(woken);
                host_locks::answer(answer, Ok(()));
            }
            (Err(Errno::EAGAIN), Some(tag)) => {
                let share = self.share.clone();
                if server.host_locks.wait(Wait { file, range, tag, answer, share }) {
                    self.start_retrying();
                }
                self.drop_locks_if_closed();
            }
            (Err(errno), _) => host_locks::answer(answer, Err(errno)),
        }
    }

    fn start_retrying(&self) {
        let server = self.server.clone();
        let run = move || {
            while server.host_locks.due() {
                let done = server.host_locks.try_all(&mut server.locks.lock());
                for (waiting, result) in done {
                    host_locks::answer(waiting, result);
                }
            }
        };
        let started = os::spawn("host-locks", run);
        if let Err(error) = started {
            tracing::warn!(%error, "cannot start a thread; locks that wait are refused");
            for waiting in self.server.host_locks.give_up() {
                host_locks::answer(waiting, Err(Errno::ENOLCK));
            }
        }
    }

    /// Releases something of a file: the host follows, and who waits for it goes on.
    fn releasing(
        &self,
        file: &OpenFile,
        release: impl FnOnce(&mut LockTable<Waiting>, FileKey) -> Vec<Waiting>,
    ) {
        let key = file.identity.key();
        let woken = {
            let mut locks = self.server.locks.lock();
            let woken = release(&mut locks, key);
            if file.export.config.host_locks {
                self.server.host_locks.follow(&locks, key);
            }
            woken
        };
        wake(woken);
    }

    pub(super) fn cancel(&self, tag: Tag) {
        let cancelled = self.server.locks.lock().cancel(self.id, tag);
        let host = self.server.host_locks.cancel(self.id, Some(tag));
        for answer in cancelled.into_iter().chain(host) {
            host_locks::answer(answer, Err(Errno::EINTR));
        }
    }

    /// Whoever closed the session meanwhile has not seen a wait that has just begun.
    fn drop_locks_if_closed(&self) {
        if self.closed.load(std::sync::atomic::Ordering::SeqCst) {
            self.drop_locks_of_session();
        }
    }

    pub(super) fn drop_locks_of_owner(&self, file: &OpenFile, owner: LockOwner) {
        let owner = self.owner(LockFamily::Posix, owner);
        self.releasing(file, |locks, key| locks.release_owner(key, owner));
    }

    pub(super) fn drop_locks_of_handle(&self, file: &OpenFile, handle: HandleId) {
        self.releasing(file, |locks, key| locks.release_handle(key, self.id, handle));
    }

    pub(super) fn drop_locks_of_session(&self) {
        let host = self.server.host_locks.cancel(self.id, None);
        let (own, woken) = {
            let mut locks = self.server.locks.lock();
            let ended = locks.end_session(self.id);
            self.server.host_locks.follow_all(&locks);
            ended
        };
        wake(woken);
        for answer in own.into_iter().chain(host) {
            host_locks::answer(answer, Err(Errno::ENOTCONN));
        }
    }
}

/// Answers those who have their lock now. No lock is held.
pub(crate) fn wake(woken: Vec<Waiting>) {
    for answer in woken {
        answer(&Reply::Done);
    }
}
