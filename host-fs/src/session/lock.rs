//! Locks of guests: among all agents, and on the host where that is wanted.

use super::{Responder, Session, Waiting, handle_request::Result};
use crate::handle::OpenFile;
use crate::locks::{Outcome, Owner, Range};
use protocol::{Errno, HandleId, Lock, LockFamily, LockKind, LockOwner, OpenFlags, Reply, Tag};

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
                held.pid = if conflict.is_some_and(|c| c.owner.session == self.id) { held.pid } else { 0 };
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
                let key = file.identity.key();
                let woken =
                    self.server.locks.lock().release(key, range.owner, range.start, range.end);
                self.server.after_unlock(&file, range.owner.family, range.start, range.end);
                wake(woken);
                respond.respond(&Reply::Done);
            }
            Ok((file, range)) => {
                let answer: Waiting = Box::new(move |reply: &Reply<'_>| respond.respond(reply));
                self.take_lock(&file, range, wait.then_some(tag), answer);
            }
        }
    }

    fn prepare(&self, handle: HandleId, lock: &Lock) -> Result<(std::sync::Arc<OpenFile>, Range)> {
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
            Outcome::Waits => {
                // Whoever closed the session meanwhile has not seen this wait.
                if self.closed.load(std::sync::atomic::Ordering::SeqCst) {
                    self.drop_locks_of_session();
                }
            }
        }
    }

    pub(super) fn cancel(&self, tag: Tag) {
        let cancelled = self.server.locks.lock().cancel(self.id, tag);
        if let Some(answer) = cancelled {
            answer(&Reply::Error { errno: Errno::EINTR });
        }
    }

    pub(super) fn drop_locks_of_owner(&self, file: &OpenFile, owner: LockOwner) {
        let owner = self.owner(LockFamily::Posix, owner);
        let woken = self.server.locks.lock().release_owner(file.identity.key(), owner);
        self.server.after_unlock(file, LockFamily::Posix, 0, LAST);
        wake(woken);
    }

    pub(super) fn drop_locks_of_handle(&self, file: &OpenFile, handle: HandleId) {
        let woken = self.server.locks.lock().release_handle(file.identity.key(), self.id, handle);
        self.server.after_unlock(file, LockFamily::Posix, 0, LAST);
        self.server.after_unlock(file, LockFamily::Flock, 0, LAST);
        wake(woken);
    }

    pub(super) fn drop_locks_of_session(&self) {
        let (own, woken) = self.server.locks.lock().end_session(self.id);
        wake(woken);
        for answer in own {
            answer(&Reply::Error { errno: Errno::ENOTCONN });
        }
    }
}

/// Answers those who have their lock now. No lock is held.
pub(crate) fn wake(woken: Vec<Waiting>) {
    for answer in woken {
        answer(&Reply::Done);
    }
}
