//! The choice against its definition, on random directories.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn claims(most: usize, first: u64) -> impl Strategy<Value = Vec<Claim>> {
    vec((any::<bool>(), 0..20u32), 0..=most).prop_map(move |all| {
        let claim = |(at, (is_watched, used))| Claim {
            is_watched,
            used: Recency(used),
            dir: NodeId(first + at as u64),
        };
        all.into_iter().enumerate().map(claim).collect()
    })
}

fn of(claims: &[Claim], dir: NodeId) -> Claim {
    *claims.iter().find(|claim| claim.dir == dir).expect("a directory that was given")
}

/// Hands over, until nothing is to change hands; tells how often.
fn settle(held: &mut Vec<Claim>, wanting: &mut Vec<Claim>) -> usize {
    let mut changed = 0;
    loop {
        let swaps = swaps(held.clone(), wanting.clone());
        if swaps.is_empty() {
            return changed;
        }
        for Swap { from, to } in swaps {
            let (old, new) = (of(held, from), of(wanting, to));
            held.retain(|claim| claim.dir != from);
            wanting.retain(|claim| claim.dir != to);
            held.push(new);
            wanting.push(old);
            changed += 1;
        }
    }
}

fn claim(dir: u64, is_watched: bool, used: u32) -> Claim {
    Claim { is_watched, used: Recency(used), dir: NodeId(dir) }
}

proptest! {
    #[test]
    fn what_is_watched_in_the_guest_gives_nothing_up(held in claims(300, 0), wanting in claims(300, 1000)) {
        for Swap { from, .. } in swaps(held.clone(), wanting) {
            prop_assert!(!of(&held, from).is_watched);
        }
    }

    #[test]
    fn the_least_recently_used_give_up_and_the_greatest_claims_get(
        held in claims(300, 0),
        wanting in claims(300, 1000),
    ) {
        let swaps = swaps(held.clone(), wanting.clone());
        let ordinary = held.iter().filter(|claim| !claim.is_watched);
        let kept = ordinary.filter(|claim| swaps.iter().all(|swap| swap.from != claim.dir));
        let least_kept = kept.map(|claim| claim.used).min();
        let left = wanting.iter().filter(|claim| swaps.iter().all(|swap| swap.to != claim.dir));
        let most_left = left.map(|claim| (claim.is_watched, claim.used)).max();
        for Swap { from, to } in swaps {
            let (old, new) = (of(&held, from), of(&wanting, to));
            prop_assert!(new.exceeds(&old));
            prop_assert!(least_kept.is_none_or(|kept| old.used <= kept));
            prop_assert!(most_left.is_none_or(|left| (new.is_watched, new.used) >= left));
        }
    }

    /// However many there are, each gets it at most once, and in the end nothing moves.
    #[test]
    fn it_settles(held in claims(200, 0), wanting in claims(200, 1000)) {
        let (mut held, mut wanting) = (held, wanting);
        let room = held.len();
        prop_assert!(settle(&mut held, &mut wanting) <= room);
        let watched_without = wanting.iter().any(|claim| claim.is_watched);
        prop_assert!(!watched_without || held.iter().all(|claim| claim.is_watched));
        prop_assert_eq!(held.len(), room);
    }
}

#[test]
fn a_walk_moves_few_watches_at_a_time_and_a_watcher_all_that_it_needs() {
    let held: Vec<_> = (0..1000).map(|dir| claim(dir, false, 1)).collect();
    let walked = |is_watched| (1000..11_000).map(|dir| claim(dir, is_watched, 2)).collect();
    assert_eq!(swaps(held.clone(), walked(false)).len(), MOST_FOR_USE);
    assert_eq!(swaps(held, walked(true)).len(), MOST);
}

#[test]
fn what_was_only_heard_of_takes_nothing_from_what_was_used() {
    let held = vec![claim(1, false, 1), claim(2, false, 0)];
    let never = Recency::NEVER.0;
    assert_eq!(swaps(held.clone(), vec![claim(3, false, never)]), []);
    let watched = swaps(held, vec![claim(3, true, never)]);
    assert_eq!(watched, [Swap { from: NodeId(2), to: NodeId(3) }]);
}
