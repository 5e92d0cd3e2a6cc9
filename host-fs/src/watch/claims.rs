//! Who is to have a watch where there are too few: a pure choice.
//!
//! Before anything else it is a directory in which something is watched in the guest, for there
//! somebody waits for events; then one that the guest made use of later. Such a directory never loses
//! its watch, and of the others the one that was not used for longest.

use crate::node::Recency;
use protocol::NodeId;

/// Most swaps at a time for the sake of use alone: whoever walks a tree that has more directories
/// than there are watches makes all of them claims, and no watch is worth anything to him.
pub const MOST_FOR_USE: usize = 16;
/// Most swaps at a time.
pub const MOST: usize = 128;

/// How much a directory needs a watch: the greater, the more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Claim {
    /// Something in it, or it itself, is watched in the guest.
    pub is_watched: bool,
    /// When the guest last made use of it.
    pub used: Recency,
    /// Whose claim it is.
    pub dir: NodeId,
}

impl Claim {
    fn exceeds(&self, other: &Self) -> bool {
        (self.is_watched, self.used) > (other.is_watched, other.used)
    }
}

/// A watch changes hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Swap {
    /// Who gives it up.
    pub from: NodeId,
    /// Who gets it.
    pub to: NodeId,
}

/// What is to change hands, the greatest claim first. With equal claims who has it keeps it, so that
/// nothing goes back and forth.
pub fn swaps(mut held: Vec<Claim>, mut wanting: Vec<Claim>) -> Vec<Swap> {
    held.retain(|claim| !claim.is_watched);
    keep_first(&mut held, Claim::cmp);
    keep_first(&mut wanting, |a, b| b.cmp(a));
    let pairs = held.iter().zip(&wanting).enumerate();
    pairs
        .take_while(|(at, (old, new))| new.exceeds(old) && (new.is_watched || *at < MOST_FOR_USE))
        .map(|(_, (old, new))| Swap { from: old.dir, to: new.dir })
        .collect()
}

/// Keeps the first [`MOST`] in this order, sorted.
fn keep_first(claims: &mut Vec<Claim>, order: impl Fn(&Claim, &Claim) -> std::cmp::Ordering) {
    if claims.len() > MOST {
        claims.select_nth_unstable_by(MOST, &order);
        claims.truncate(MOST);
    }
    claims.sort_unstable_by(&order);
}

#[cfg(test)]
mod tests;
