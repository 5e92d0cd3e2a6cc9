//! Locks among guests.

use crate::test_utils::{Guest, Host, Test};
use protocol::{Errno, HandleId, Lock, LockFamily, LockKind, LockOwner, OpenFlags, Reply, Request};

fn lock(kind: LockKind, owner: u64, start: u64, end: u64) -> Lock {
    Lock { family: LockFamily::Posix, kind, owner: LockOwner(owner), start, end, pid: owner as u32 }
}

fn flock(kind: LockKind, owner: u64) -> Lock {
    Lock { family: LockFamily::Flock, ..lock(kind, owner, 0, i64::MAX as u64) }
}

fn open(guest: &Guest) -> Result<HandleId, Errno> {
    let node = guest.walk("file")?.node;
    guest.open(node, OpenFlags::RDWR)
}

fn host() -> Result<Host, std::io::Error> {
    let host = Host::new();
    std::fs::write(host.path("file"), "x")?;
    Ok(host)
}

fn take(guest: &Guest, handle: HandleId, lock: Lock) -> Result<(), Errno> {
    guest.done(&Request::SetLock { handle, lock, wait: false })
}

#[test]
fn guests_exclude_each_other_by_ranges() -> Test {
    let host = host()?;
    let (a, b) = (host.guest(), host.guest());
    let (ha, hb) = (open(&a)?, open(&b)?);
    take(&a, ha, lock(LockKind::Write, 1, 0, 9))?;
    assert_eq!(take(&b, hb, lock(LockKind::Read, 1, 5, 5)), Err(Errno::EAGAIN));
    take(&b, hb, lock(LockKind::Read, 1, 10, 19))?;
    let asked = Request::GetLock { handle: hb, lock: lock(LockKind::Write, 1, 0, 100) };
    let answer = b.call(&asked);
    let Reply::Lock { lock: held } = answer.reply() else { panic!("no lock") };
    assert_eq!((held.kind, held.start, held.end, held.pid), (LockKind::Write, 0, 9, 0));
    // The families do not see each other.
    take(&b, hb, flock(LockKind::Write, 7))?;
    assert_eq!(take(&a, ha, flock(LockKind::Read, 8)), Err(Errno::EAGAIN));
    take(&b, hb, flock(LockKind::Unlock, 7))?;
    take(&a, ha, flock(LockKind::Read, 8))?;
    Ok(())
}

#[test]
fn a_wait_ends_with_the_lock_a_cancellation_or_the_session() -> Test {
    let host = host()?;
    let (a, b, c) = (host.guest(), host.guest(), host.guest());
    let (ha, hb, hc) = (open(&a)?, open(&b)?, open(&c)?);
    take(&a, ha, lock(LockKind::Write, 1, 0, 9))?;
    let want =
        |handle| Request::SetLock { handle, lock: lock(LockKind::Write, 1, 0, 9), wait: true };
    let (tag, waiting) = b.send(&want(hb));
    assert!(waiting.is_waiting());
    b.session.handle(
        protocol::Tag::NONE,
        &protocol::Caller::default(),
        &Request::Cancel { tag },
        |_: &Reply<'_>| {},
    );
    assert_eq!(waiting.wait().errno(), Some(Errno::EINTR));
    let (_, first) = b.send(&want(hb));
    let (_, second) = c.send(&want(hc));
    a.session.close();
    assert_eq!(first.wait().errno(), None);
    assert!(second.is_waiting());
    b.done(&Request::Flush { handle: hb, owner: LockOwner(1) })?;
    assert_eq!(second.wait().errno(), None);
    assert_eq!(a.done(&Request::Flush { handle: ha, owner: LockOwner(1) }), Err(Errno::ENOTCONN));
    Ok(())
}

#[test]
fn a_release_drops_what_was_taken_through_the_handle() -> Test {
    let host = host()?;
    let (a, b) = (host.guest(), host.guest());
    let (first, second, hb) = (open(&a)?, open(&a)?, open(&b)?);
    take(&a, first, flock(LockKind::Write, 1))?;
    assert_eq!(take(&b, hb, flock(LockKind::Write, 1)), Err(Errno::EAGAIN));
    a.close(second);
    assert_eq!(take(&b, hb, flock(LockKind::Write, 1)), Err(Errno::EAGAIN));
    a.close(first);
    take(&b, hb, flock(LockKind::Write, 1))?;
    Ok(())
}

#[test]
fn waiting_in_a_circle_is_refused() -> Test {
    let host = host()?;
    let (a, b) = (host.guest(), host.guest());
    let (ha, hb) = (open(&a)?, open(&b)?);
    take(&a, ha, lock(LockKind::Write, 1, 0, 0))?;
    take(&b, hb, lock(LockKind::Write, 1, 1, 1))?;
    let wait = |handle, byte| Request::SetLock {
        handle,
        lock: lock(LockKind::Write, 1, byte, byte),
        wait: true,
    };
    let (_, waiting) = a.send(&wait(ha, 1));
    assert!(waiting.is_waiting());
    assert_eq!(b.done(&wait(hb, 0)), Err(Errno::EDEADLK));
    take(&b, hb, lock(LockKind::Unlock, 1, 1, 1))?;
    assert_eq!(waiting.wait().errno(), None);
    Ok(())
}

#[test]
fn ranges_must_be_ranges_and_files_open_for_them() -> Test {
    let host = host()?;
    let guest = host.guest();
    let handle = open(&guest)?;
    assert_eq!(take(&guest, handle, lock(LockKind::Read, 1, 5, 4)), Err(Errno::EINVAL));
    assert_eq!(take(&guest, handle, lock(LockKind::Read, 1, 0, u64::MAX)), Err(Errno::EINVAL));
    let node = guest.walk("file")?.node;
    let reader = guest.open(node, OpenFlags::empty())?;
    assert_eq!(take(&guest, reader, lock(LockKind::Write, 1, 0, 1)), Err(Errno::EBADF));
    Ok(())
}

/// Tries a lock of the host's own.
fn host_lock(host: &Host, kind: LockKind, start: u64, end: u64) -> Result<std::fs::File, Errno> {
    use std::os::fd::AsFd;
    let file = std::fs::File::options().read(true).write(true).open(host.path("file"));
    let file = file.map_err(|_| Errno::EIO)?;
    crate::os::lock_range(file.as_fd(), kind, start, end).map(|()| file)
}

#[test]
fn with_host_locks_guests_and_the_host_exclude_each_other() -> Test {
    let host = Host::with(|config| config.host_locks = true);
    std::fs::write(host.path("file"), "x")?;
    let (a, b) = (host.guest(), host.guest());
    let (ha, hb) = (open(&a)?, open(&b)?);
    take(&a, ha, lock(LockKind::Read, 1, 0, 19))?;
    take(&b, hb, lock(LockKind::Read, 2, 10, 29))?;
    take(&b, hb, lock(LockKind::Write, 2, 40, 49))?;
    let read = |start, end| host_lock(&host, LockKind::Read, start, end).map(drop);
    let write = |start, end| host_lock(&host, LockKind::Write, start, end).map(drop);
    assert_eq!((read(0, 39), read(40, 40)), (Ok(()), Err(Errno::EAGAIN)));
    assert_eq!(
        (write(0, 0), write(29, 29), write(30, 39)),
        (Err(Errno::EAGAIN), Err(Errno::EAGAIN), Ok(()))
    );
    // What one guest gives up, the other still holds.
    a.done(&Request::Flush { handle: ha, owner: LockOwner(1) })?;
    assert_eq!((write(0, 9), write(10, 10)), (Ok(()), Err(Errno::EAGAIN)));
    b.session.close();
    assert_eq!(write(0, 100), Ok(()));
    Ok(())
}

#[test]
fn a_wait_for_the_host_ends_when_the_host_lets_go_or_it_is_cancelled() -> Test {
    let host = Host::with(|config| config.host_locks = true);
    std::fs::write(host.path("file"), "x")?;
    let guest = host.guest();
    let handle = open(&guest)?;
    let held = host_lock(&host, LockKind::Write, 0, 9)?;
    assert_eq!(take(&guest, handle, lock(LockKind::Read, 1, 0, 0)), Err(Errno::EAGAIN));
    let want = Request::SetLock { handle, lock: lock(LockKind::Write, 1, 0, 9), wait: true };
    let (tag, cancelled) = guest.send(&want);
    let (_, waiting) = guest.send(&want);
    assert!(waiting.is_waiting());
    let cancel = Request::Cancel { tag };
    let caller = protocol::Caller::default();
    guest.session.handle(protocol::Tag::NONE, &caller, &cancel, |_: &Reply<'_>| {});
    assert_eq!(cancelled.wait().errno(), Some(Errno::EINTR));
    drop(held);
    assert_eq!(waiting.wait().errno(), None);
    assert_eq!(host_lock(&host, LockKind::Read, 0, 0).map(drop), Err(Errno::EAGAIN));
    Ok(())
}
