//! The end of a comparison: what has moved, and the order in which all of it can be performed.

use super::{Belief, Came, Comparison, Difference};
use crate::nodes::LocalId;
use protocol::mode;
use rustc_hash::{FxHashMap, FxHashSet};

/// One rename: what moves where.
#[derive(Debug)]
struct Move {
    belief: usize,
    came: Came,
    /// It turned out that it cannot be told as a rename, or it is told.
    settled: bool,
}

/// Who stands where something is to be moved to.
#[derive(Clone, Copy, Debug)]
enum Occupant {
    Gone(usize),
    Moves(usize),
}

#[derive(Default)]
struct Order {
    moves: Vec<Move>,
    occupants: FxHashMap<(LocalId, Box<[u8]>), Occupant>,
    /// The directory of each directory, as far as the moves told so far have changed it.
    parents: FxHashMap<LocalId, LocalId>,
    late: FxHashSet<usize>,
    replaced: FxHashSet<usize>,
    told: Vec<Difference>,
    created: Vec<Came>,
}

impl Comparison {
    /// What differs, in an order in which it can be performed, and what is not told after all.
    pub fn finish(mut self) -> (Vec<Difference>, Vec<Came>, Self) {
        let mut gone = self.gone();
        let mut order = Order::default();
        let mut no_news = Vec::new();
        let mut by_ino: FxHashMap<u64, usize> = FxHashMap::default();
        for index in &gone {
            if let Some(belief) = self.beliefs.get(*index) {
                by_ino.insert(belief.object.ino, *index);
            }
        }
        for (came, is_news) in std::mem::take(&mut self.came) {
            let belief = self.by_ino.get(&came.entry.attr.ino).copied();
            let same = belief.and_then(|index| Some((index, self.beliefs.get(index)?)));
            let same = same.filter(|(_, b)| b.object.is(came.is.object));
            let moved = by_ino.get(&came.entry.attr.ino).copied();
            let moved = moved.filter(|index| same.is_some_and(|(of, _)| of == *index));
            if let Some(belief) = moved {
                by_ino.remove(&came.entry.attr.ino);
                if self.beliefs.get(belief).is_some_and(|b| has_other_content(b, &came)) {
                    self.changed.push(Difference::Modified(came.clone()));
                }
                order.moves.push(Move { belief, came, settled: false });
            } else if let Some((_, other)) = same.filter(|(index, _)| self.is_present(*index)) {
                // Another link of what is known.
                let more = came.entry.attr.nlink > other.nlink;
                if more { order.created.push(came) } else { no_news.push(came) }
            } else if is_news {
                order.created.push(came);
            } else {
                no_news.push(came);
            }
        }
        let moved: FxHashSet<usize> = order.moves.iter().map(|of| of.belief).collect();
        gone.retain(|index| !moved.contains(index));
        order.arrange(&self, &gone);
        let Order { mut told, created, .. } = order;
        told.extend(created.into_iter().map(Difference::Created));
        told.append(&mut self.changed);
        (told, no_news, self)
    }

    fn is_present(&self, index: usize) -> bool {
        self.present.get(index).copied().unwrap_or(false)
    }

    /// What is believed and not found at its place, the deepest first.
    fn gone(&self) -> Vec<usize> {
        let mut gone = Vec::new();
        for (index, belief) in self.beliefs.iter().enumerate() {
            let (way, whole) = self.way(belief.parent);
            // Nothing is said of what is below a directory that cannot be listed.
            let unknown = self.skipped.contains(&belief.parent)
                || (!self.visited.contains(&belief.parent)
                    && way.iter().any(|dir| self.skipped.contains(dir)));
            if whole && !self.is_present(index) && !unknown {
                gone.push((usize::MAX - way.len(), index));
            }
        }
        gone.sort_unstable();
        gone.into_iter().map(|(_, index)| index).collect()
    }

    /// The directories from this one up, as they are believed to be; and whether the way reaches a
    /// directory that was listed.
    fn way(&self, dir: LocalId) -> (Vec<LocalId>, bool) {
        let mut way = vec![dir];
        let mut whole = self.visited.contains(&dir);
        let mut at = dir;
        while let Some(up) = self.by_local.get(&at).and_then(|index| self.beliefs.get(*index)) {
            at = up.parent;
            way.push(at);
            if way.len() > self.beliefs.len() {
                break;
            }
            whole |= self.visited.contains(&at);
        }
        (way, whole)
    }
}

fn has_other_content(belief: &Belief, came: &Came) -> bool {
    belief.object.kind == mode::IFREG && belief.content != came.is.content
}

impl Order {
    fn arrange(&mut self, of: &Comparison, gone: &[usize]) {
        for belief in of.beliefs.iter().filter(|belief| belief.is_dir()) {
            self.parents.insert(belief.local, belief.parent);
        }
        let place = |index: &usize| {
            of.beliefs.get(*index).map(|belief| (belief.parent, belief.name.clone()))
        };
        for index in gone {
            self.occupants.extend(place(index).map(|at| (at, Occupant::Gone(*index))));
        }
        for (number, one) in self.moves.iter().enumerate() {
            self.occupants.extend(place(&one.belief).map(|at| (at, Occupant::Moves(number))));
        }
        self.find_late(of, gone);
        self.find_replaced(of);
        let (late, early): (Vec<usize>, Vec<usize>) =
            gone.iter().filter(|g| !self.replaced.contains(g)).partition(|g| self.late.contains(g));
        self.told.extend(early.into_iter().map(Difference::Removed));
        // A directory cannot move below itself until what it goes to has left it.
        for _ in 0..=self.moves.len().min(64) {
            let before = self.told.len();
            (0..self.moves.len()).for_each(|number| self.tell(of, number));
            if self.told.len() == before {
                break;
            }
        }
        let depth = |one: &Move| of.beliefs.get(one.belief).map_or(0, |b| of.way(b.parent).0.len());
        let mut rest: Vec<_> = self.moves.iter().map(depth).enumerate().collect();
        rest.sort_by_key(|(_, depth)| std::cmp::Reverse(*depth));
        rest.into_iter().for_each(|(number, _)| self.tell_apart(number));
        self.told.extend(late.into_iter().map(Difference::Removed));
    }

    /// Directories that are gone, and out of which something was moved.
    fn find_late(&mut self, of: &Comparison, gone: &[usize]) {
        let mut left: FxHashSet<LocalId> = FxHashSet::default();
        for one in &self.moves {
            if let Some(belief) = of.beliefs.get(one.belief) {
                left.extend(of.way(belief.parent).0);
            }
        }
        let is_late =
            |index: &&usize| of.beliefs.get(**index).is_some_and(|b| left.contains(&b.local));
        self.late = gone.iter().filter(is_late).copied().collect();
    }

    /// What is gone because something was renamed over it. A directory is removed by itself.
    fn find_replaced(&mut self, of: &Comparison) {
        for one in &self.moves {
            let at = (one.came.dir, one.came.name.clone());
            let Some(Occupant::Gone(index)) = self.occupants.get(&at) else { continue };
            let is_dir = of.beliefs.get(*index).is_none_or(Belief::is_dir);
            if !is_dir && one.came.entry.attr.kind() != mode::IFDIR {
                self.replaced.insert(*index);
            }
        }
    }

    /// Tells a rename, and before it those that stand in its place.
    fn tell(&mut self, of: &Comparison, first: usize) {
        let mut chain = vec![first];
        let mut at = first;
        loop {
            let Some(one) = self.moves.get(at).filter(|one| !one.settled) else {
                chain.pop();
                break;
            };
            match self.occupants.get(&(one.came.dir, one.came.name.clone())) {
                Some(Occupant::Moves(next))
                    if chain.len() == 2 && *next == first && at != first =>
                {
                    self.exchange(of, first, at);
                    return;
                }
                Some(Occupant::Moves(next)) if chain.contains(next) => {
                    // A longer ring is opened where nothing is in what is removed by that, or else
                    // when everything that can leave it has done so.
                    let Some(file) = self.file_of(of, &chain) else { return };
                    self.tell_apart(file);
                    return self.tell(of, first);
                }
                Some(Occupant::Moves(next)) => {
                    chain.push(*next);
                    at = *next;
                }
                _ => break,
            }
        }
        for number in chain.into_iter().rev() {
            if !self.rename(of, number) {
                return;
            }
        }
    }

    fn file_of(&self, of: &Comparison, chain: &[usize]) -> Option<usize> {
        let is_file = |number: &&usize| {
            let one = self.moves.get(**number);
            one.and_then(|one| of.beliefs.get(one.belief)).is_some_and(|belief| !belief.is_dir())
        };
        chain.iter().find(is_file).copied()
    }

    fn exchange(&mut self, of: &Comparison, one: usize, other: usize) {
        for (this, that) in [(one, other), (other, one)] {
            let replaced = self.moves.get(that).map(|that| that.belief);
            let Some(this) = self.moves.get_mut(this) else { continue };
            this.settled = true;
            self.parents.extend(of.beliefs.get(this.belief).map(|b| (b.local, this.came.dir)));
            self.told.push(Difference::Renamed(this.belief, this.came.clone(), replaced));
        }
    }

    /// Tells one rename if it can be performed now.
    fn rename(&mut self, of: &Comparison, number: usize) -> bool {
        let Some(one) = self.moves.get(number) else { return false };
        let Some(belief) = of.beliefs.get(one.belief) else { return false };
        let (from, to) =
            ((belief.parent, belief.name.clone()), (one.came.dir, one.came.name.clone()));
        if belief.is_dir() && self.is_below(to.0, belief.local) {
            return false;
        }
        let replaced = match self.occupants.get(&to) {
            Some(Occupant::Gone(index)) if self.replaced.contains(index) => Some(*index),
            Some(Occupant::Gone(index)) if self.late.contains(index) => return false,
            Some(Occupant::Moves(other)) if *other != number => return false,
            _ => None,
        };
        let told = Difference::Renamed(one.belief, one.came.clone(), replaced);
        self.parents.insert(belief.local, to.0);
        self.occupants.remove(&from);
        self.told.push(told);
        if let Some(one) = self.moves.get_mut(number) {
            one.settled = true;
        }
        true
    }

    /// What cannot be told as a rename is a removal and a creation.
    fn tell_apart(&mut self, number: usize) {
        let Some(one) = self.moves.get_mut(number).filter(|one| !one.settled) else { return };
        one.settled = true;
        self.told.push(Difference::Removed(one.belief));
        self.created.push(one.came.clone());
        self.occupants
            .retain(|_, occupant| !matches!(occupant, Occupant::Moves(n) if *n == number));
    }

    fn is_below(&self, dir: LocalId, above: LocalId) -> bool {
        let mut at = dir;
        for _ in 0..=self.parents.len() {
            if at == above {
                return true;
            }
            match self.parents.get(&at) {
                Some(up) => at = *up,
                None => return false,
            }
        }
        false
    }
}
