//! Locks: `fcntl` (POSIX and open file description) and `flock`.

use super::{Finish, Stop, View};
use crate::fuse::abi;
use crate::fuse::reply::Answer;
use crate::fuse::request::{Operation as Op, Request};
use protocol::{Errno, Lock, LockFamily, LockKind, LockOwner, Reply, Request as Ask};

pub(super) fn begin<'a>(view: &View<'_>, operation: &Op<'a>) -> Result<Ask<'a>, Stop> {
    Ok(match *operation {
        Op::GetLock { handle, owner, lock, flock } => {
            let lock = from_kernel(owner, &lock, flock)?;
            Ask::GetLock { handle: view.handle(handle)?, lock }
        }
        Op::SetLock { handle, owner, lock, flock, wait } => {
            let lock = from_kernel(owner, &lock, flock)?;
            view.handles.locking(handle, lock.family);
            Ask::SetLock { handle: view.handle(handle)?, lock, wait }
        }
        _ => return Err(Errno::ENOSYS.into()),
    })
}

fn from_kernel(owner: u64, lock: &abi::FileLock, flock: bool) -> Result<Lock, Errno> {
    let kind = match lock.kind {
        abi::F_RDLCK => LockKind::Read,
        abi::F_WRLCK => LockKind::Write,
        abi::F_UNLCK => LockKind::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let family = if flock { LockFamily::Flock } else { LockFamily::Posix };
    let (start, end) = (lock.start, lock.end);
    Ok(Lock { family, kind, owner: LockOwner(owner), start, end, pid: lock.pid })
}

fn to_kernel(lock: &Lock) -> abi::FileLock {
    let kind = match lock.kind {
        LockKind::Read => abi::F_RDLCK,
        LockKind::Write => abi::F_WRLCK,
        LockKind::Unlock => abi::F_UNLCK,
    };
    abi::FileLock { start: lock.start, end: lock.end, kind, pid: lock.pid }
}

pub(super) fn finish<'r>(
    view: &View<'_>,
    request: &Request<'_>,
    reply: &Reply<'_>,
) -> Option<Finish<'r>> {
    let answer = match (&request.operation, reply) {
        (Op::GetLock { .. }, Reply::Lock { lock }) => Answer::Lock(to_kernel(lock)),
        (Op::SetLock { handle, owner, lock, flock, .. }, Reply::Done) => {
            if let Ok(lock) = from_kernel(*owner, lock, *flock) {
                view.handles.note_lock(*handle, &lock);
            }
            Answer::Done
        }
        _ => return None,
    };
    Some(Finish::Answer(answer))
}
