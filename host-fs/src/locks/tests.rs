//! The rules of the lock table, and its ranges against a byte-by-byte model.

use super::*;
use protocol::LockOwner;

const FILE: FileKey = (1, 1);
const OTHER: FileKey = (1, 2);

fn owner(session: u64, family: LockFamily) -> Owner {
    Owner { session, owner: LockOwner(1), family }
}

fn range(session: u64, exclusive: bool, start: u64, end: u64) -> Range {
    let owner = owner(session, LockFamily::Posix);
    Range { owner, handle: HandleId(session), pid: 1, exclusive, start, end }
}

fn flock(session: u64, exclusive: bool) -> Range {
    let owner = owner(session, LockFamily::Flock);
    Range { owner, ..range(session, exclusive, 0, u64::MAX) }
}

/// Takes a lock, waiting if it must; the waiter is known by its session's number.
fn take(
    table: &mut LockTable<u64>,
    file: FileKey,
    range: Range,
) -> (Option<Errno>, bool, Vec<u64>) {
    let session = range.owner.session;
    let (outcome, woken) = table.take(file, range, Some(Tag(session as u32)), session);
    match outcome {
        Outcome::Granted(_) => (None, false, woken),
        Outcome::Refused(_, errno) => (Some(errno), false, woken),
        Outcome::Waits => (None, true, woken),
    }
}

const GRANTED: (Option<Errno>, bool, Vec<u64>) = (None, false, Vec::new());
const WAITS: (Option<Errno>, bool, Vec<u64>) = (None, true, Vec::new());

#[test]
fn waiters_are_served_in_their_order_as_far_as_they_can_be() {
    let mut table = LockTable::default();
    assert_eq!(take(&mut table, FILE, range(1, true, 0, 99)), GRANTED);
    assert_eq!(take(&mut table, FILE, range(2, true, 0, 9)), WAITS);
    assert_eq!(take(&mut table, FILE, range(3, false, 5, 5)), WAITS);
    assert_eq!(take(&mut table, FILE, range(4, false, 50, 59)), WAITS);
    assert_eq!(table.release(FILE, owner(1, LockFamily::Posix), 0, 99), [2, 4]);
    assert_eq!(table.release(FILE, owner(2, LockFamily::Posix), 0, 99), [3]);
}

#[test]
fn a_downgrade_lets_readers_in() {
    let mut table = LockTable::default();
    assert_eq!(take(&mut table, FILE, range(1, true, 0, 9)), GRANTED);
    assert_eq!(take(&mut table, FILE, range(2, false, 0, 9)), WAITS);
    assert_eq!(take(&mut table, FILE, range(1, false, 0, 9)), (None, false, vec![2]));
}

#[test]
fn a_flock_is_given_up_before_it_is_converted() {
    let mut table = LockTable::default();
    assert_eq!(take(&mut table, FILE, flock(1, false)), GRANTED);
    assert_eq!(take(&mut table, FILE, flock(2, false)), GRANTED);
    // Both want to write: with the shared locks kept, neither ever could.
    assert_eq!(take(&mut table, FILE, flock(1, true)), WAITS);
    assert_eq!(take(&mut table, FILE, flock(2, true)), (None, true, vec![1]));
    assert_eq!(table.release_handle(FILE, 1, HandleId(1)), [2]);
}

#[test]
fn a_circle_over_two_files_and_three_owners_is_seen() {
    let mut table = LockTable::default();
    assert_eq!(take(&mut table, FILE, range(1, true, 0, 0)), GRANTED);
    assert_eq!(take(&mut table, OTHER, range(2, true, 0, 0)), GRANTED);
    assert_eq!(take(&mut table, FILE, range(3, true, 9, 9)), GRANTED);
    assert_eq!(take(&mut table, OTHER, range(1, true, 0, 0)), WAITS);
    assert_eq!(take(&mut table, FILE, range(2, true, 9, 9)), WAITS);
    assert_eq!(take(&mut table, FILE, range(3, true, 0, 0)).0, Some(Errno::EDEADLK));
    // Who waits for somebody who waits for nobody is no circle.
    assert_eq!(take(&mut table, OTHER, range(4, false, 0, 0)), WAITS);
}

#[test]
fn a_cancelled_wait_leaves_nothing() {
    let mut table = LockTable::default();
    assert_eq!(take(&mut table, FILE, range(1, true, 0, 0)), GRANTED);
    assert_eq!(take(&mut table, FILE, range(2, true, 0, 0)), WAITS);
    assert_eq!(table.cancel(1, Tag(2)), None, "of another session");
    assert_eq!(table.cancel(2, Tag(2)), Some(2));
    assert_eq!(table.cancel(2, Tag(2)), None);
    assert!(table.release(FILE, owner(1, LockFamily::Posix), 0, 0).is_empty());
    assert_eq!(table.files(), 0);
}

#[test]
fn the_end_of_a_session_frees_all_files() {
    let mut table = LockTable::default();
    assert_eq!(take(&mut table, FILE, range(1, true, 0, 0)), GRANTED);
    assert_eq!(take(&mut table, OTHER, flock(1, true)), GRANTED);
    assert_eq!(take(&mut table, FILE, range(2, true, 0, 0)), WAITS);
    assert_eq!(take(&mut table, OTHER, flock(3, true)), WAITS);
    assert_eq!(take(&mut table, OTHER, flock(1, false)), (None, true, vec![3]));
    let (own, woken) = table.end_session(1);
    assert_eq!((own, woken), (vec![1], vec![2]));
    let _ = table.end_session(2);
    let _ = table.end_session(3);
    assert_eq!(table.files(), 0);
}
