//! What a comparison says, case by case, and that it always leads from beliefs to the listing.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SINCE: i64 = 1000;
const ROOT: u64 = 1;

/// One object of a host. A directory's node has the same number as its inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Thing {
    ino: u64,
    dir: bool,
    content: u64,
    attrs: u32,
    born: i64,
    /// Content, and anything, was changed last.
    mtime: i64,
    ctime: i64,
}

type Tree = BTreeMap<(u64, String), Thing>;

fn file(ino: u64) -> Thing {
    Thing { ino, dir: false, content: 0, attrs: 0, born: 10, mtime: 10, ctime: 10 }
}

fn dir(ino: u64) -> Thing {
    Thing { dir: true, ..file(ino) }
}

fn now(thing: Thing) -> Thing {
    Thing { ctime: SINCE + 5, ..thing }
}

fn new(thing: Thing) -> Thing {
    Thing { born: SINCE + 5, mtime: SINCE + 5, ..now(thing) }
}

fn written(thing: Thing) -> Thing {
    Thing { content: thing.content + 1, mtime: SINCE + 5, ..now(thing) }
}

fn object(thing: &Thing) -> Object {
    let kind = if thing.dir { mode::IFDIR } else { mode::IFREG };
    Object { ino: thing.ino, kind, born: thing.born as u32 }
}

fn beliefs(tree: &Tree) -> Vec<Belief> {
    let belief = |((parent, name), thing): (&(u64, String), &Thing)| Belief {
        local: LocalId(thing.ino),
        parent: LocalId(*parent),
        name: name.as_bytes().into(),
        object: object(thing),
        content: thing.content,
        attrs: thing.attrs,
        nlink: 1,
    };
    tree.iter().map(belief).collect()
}

/// Compares as the driver does: lists what is known, from the root down.
fn compare(before: &Tree, after: &Tree) -> (Vec<Difference>, Comparison) {
    let time = |sec| Time { sec, nsec: 0 };
    let mut comparison = Comparison::new(beliefs(before), Some(time(SINCE)));
    let mut next = vec![LocalId(ROOT)];
    while let Some(dir) = next.pop() {
        comparison.visit(dir);
        for ((_, name), thing) in after.iter().filter(|((of, _), _)| *of == dir.0) {
            let attr = Attr {
                ino: thing.ino,
                mode: object(thing).kind,
                nlink: 1,
                btime: time(thing.born),
                mtime: time(thing.mtime),
                ctime: time(thing.ctime),
                ..Attr::default()
            };
            let entry = Entry { attr, ..Entry::default() };
            let is = Digests { object: object(thing), content: thing.content, attrs: thing.attrs };
            let verdict = comparison.listed(dir, name.as_bytes(), &entry, is);
            if let Verdict::Same(index) | Verdict::Differs(index) = verdict
                && thing.dir
            {
                next.push(comparison.belief(index).unwrap().local);
            }
        }
    }
    let (differences, _, comparison) = comparison.finish();
    (differences, comparison)
}

/// In words, as `removed 1/a` with the number of the directory.
fn words(before: &Tree, after: &Tree) -> Vec<String> {
    let (differences, comparison) = compare(before, after);
    let place = |came: &Came| format!("{}/{}", came.dir.0, came.name.escape_ascii());
    let belief = |index: &usize| {
        let belief = comparison.belief(*index).unwrap();
        format!("{}/{}", belief.parent.0, belief.name.escape_ascii())
    };
    let word = |difference: &Difference| match difference {
        Difference::Removed(gone) => format!("removed {}", belief(gone)),
        Difference::Renamed(from, to, None) => format!("renamed {} {}", belief(from), place(to)),
        Difference::Renamed(from, to, Some(over)) => {
            format!("renamed {} {} over {}", belief(from), place(to), belief(over))
        }
        Difference::Created(came) => format!("created {}", place(came)),
        Difference::Modified(came) => format!("modified {}", place(came)),
        Difference::Attrib(came) => format!("attrib {}", place(came)),
    };
    differences.iter().map(word).collect()
}

/// A name of a case: the directory, the name and what is there.
type At = (u64, &'static str, Thing);
/// What is tried, what was there, what is there, and what is told.
type Case<'c> = (&'c str, &'c [At], &'c [At], &'c [&'c str]);

fn tree(of: &[At]) -> Tree {
    of.iter().map(|(dir, name, thing)| ((*dir, (*name).to_owned()), *thing)).collect()
}

#[test]
fn each_difference_is_told_once_and_in_order() {
    let a = file(5);
    let moved_dir = [(1, "d", dir(7)), (7, "f", file(8))];
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("nothing", &[(1, "a", a)], &[(1, "a", a)], &[]),
        ("new", &[], &[(1, "a", new(a))], &["created 1/a"]),
        ("there all the time, never looked up", &[], &[(1, "a", a)], &[]),
        ("never looked up, written", &[], &[(1, "a", written(a))], &["modified 1/a"]),
        ("moved in", &[], &[(1, "a", now(a))], &["created 1/a"]),
        ("written", &[(1, "a", a)], &[(1, "a", written(a))], &["modified 1/a"]),
        ("differs since before the loss: the guest's own", &[(1, "a", a)],
            &[(1, "a", Thing { content: 9, ..a })], &[]),
        ("other mode", &[(1, "a", a)], &[(1, "a", now(Thing { attrs: 1, ..a }))], &["attrib 1/a"]),
        ("gone", &[(1, "a", a)], &[], &["removed 1/a"]),
        ("renamed", &[(1, "a", a)], &[(1, "b", now(a))], &["renamed 1/a 1/b"]),
        ("renamed and written", &[(1, "a", a)], &[(1, "b", written(a))],
            &["renamed 1/a 1/b", "modified 1/b"]),
        ("renamed over", &[(1, "a", a), (1, "b", file(6))], &[(1, "b", now(a))],
            &["renamed 1/a 1/b over 1/b"]),
        ("replaced by a new one", &[(1, "a", a)], &[(1, "a", new(file(6)))],
            &["removed 1/a", "created 1/a"]),
        ("its number given to another", &[(1, "a", a)], &[(1, "b", new(a))],
            &["removed 1/a", "created 1/b"]),
        ("exchanged", &[(1, "a", a), (1, "b", file(6))], &[(1, "b", now(a)), (1, "a", now(file(6)))],
            &["renamed 1/b 1/a over 1/a", "renamed 1/a 1/b over 1/b"]),
        ("shifted", &[(1, "a", a), (1, "b", file(6))], &[(1, "b", now(a)), (1, "c", now(file(6)))],
            &["renamed 1/b 1/c", "renamed 1/a 1/b"]),
        ("a file by a directory", &[(1, "a", a)], &[(1, "a", new(dir(6)))],
            &["removed 1/a", "created 1/a"]),
        ("a tree gone", &[(1, "d", dir(7)), (7, "e", dir(8)), (8, "f", a)], &[],
            &["removed 8/f", "removed 7/e", "removed 1/d"]),
        ("a directory moved", &moved_dir, &[(1, "e", now(dir(7))), (7, "f", file(8))],
            &["renamed 1/d 1/e"]),
        ("a directory moved, and changed inside", &moved_dir,
            &[(1, "e", now(dir(7))), (7, "g", new(file(9)))],
            &["removed 7/f", "renamed 1/d 1/e", "created 7/g"]),
        ("saved from a tree that is gone", &moved_dir, &[(1, "f", now(file(8)))],
            &["renamed 7/f 1/f", "removed 1/d"]),
        ("turned inside out", &[(1, "a", dir(7)), (7, "b", dir(8))],
            &[(1, "b", now(dir(8))), (8, "a", now(dir(7)))],
            &["renamed 7/b 1/b", "renamed 1/a 8/a"]),
        ("a directory whose names changed", &[(1, "d", dir(7))],
            &[(1, "d", Thing { mtime: SINCE + 5, ..now(dir(7)) })], &[]),
    ];
    for (name, before, after, expected) in cases {
        assert_eq!(words(&tree(before), &tree(after)), *expected, "{name}");
    }
}

#[test]
fn nothing_is_said_of_what_cannot_be_listed() {
    let before = tree(&[(1, "d", dir(7)), (7, "e", dir(8)), (8, "f", file(9)), (1, "a", file(5))]);
    let mut comparison = Comparison::new(beliefs(&before), None);
    comparison.visit(LocalId(1));
    let d = before[&(1, "d".to_owned())];
    let attr = Attr { ino: 7, mode: mode::IFDIR, ..Attr::default() };
    let is = Digests { object: object(&d), content: 0, attrs: 0 };
    comparison.listed(LocalId(1), b"d", &Entry { attr, ..Entry::default() }, is);
    comparison.skip(LocalId(7));
    assert_eq!(comparison.directories_in(LocalId(7)), [LocalId(8)]);
    let (differences, _, comparison) = comparison.finish();
    let [Difference::Removed(index)] = differences[..] else { panic!("{differences:?}") };
    assert_eq!(*comparison.belief(index).unwrap().name, *b"a");
}

#[derive(Clone, Debug)]
enum Step {
    Make(u64, u8, bool),
    Remove(u64, u8),
    Rename(u64, u8, u64, u8),
    Exchange(u64, u8, u64, u8),
    Write(u64, u8),
    Chmod(u64, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..6_u64, 0..4_u8);
    let step = prop_oneof![
        (place(), any::<bool>()).prop_map(|((d, n), is)| Step::Make(d, n, is)),
        place().prop_map(|(d, n)| Step::Remove(d, n)),
        (place(), place()).prop_map(|((d, n), (e, m))| Step::Rename(d, n, e, m)),
        (place(), place()).prop_map(|((d, n), (e, m))| Step::Exchange(d, n, e, m)),
        place().prop_map(|(d, n)| Step::Write(d, n)),
        place().prop_map(|(d, n)| Step::Chmod(d, n)),
    ];
    proptest::collection::vec(step, 0..25)
}

struct Host {
    tree: Tree,
    next: u64,
}

impl Host {
    /// One of the directories that there are.
    fn dir(&self, number: u64) -> u64 {
        let dirs = self.tree.values().filter(|thing| thing.dir).map(|thing| thing.ino);
        let dirs: Vec<u64> = std::iter::once(ROOT).chain(dirs).collect();
        dirs[number as usize % dirs.len()]
    }

    fn at(&self, (dir, name): (u64, u8)) -> (u64, String) {
        (self.dir(dir), char::from(b'a' + name).to_string())
    }

    fn is_below(&self, dir: u64, above: u64) -> bool {
        let up = self.tree.iter().find(|(_, thing)| thing.ino == dir).map(|((up, _), _)| *up);
        dir == above || up.is_some_and(|up| self.is_below(up, above))
    }

    fn is_empty(&self, dir: u64) -> bool {
        !self.tree.keys().any(|(of, _)| *of == dir)
    }

    fn touch(&mut self, at: &(u64, String), change: impl FnOnce(Thing) -> Thing) {
        if let Some(thing) = self.tree.get_mut(at) {
            *thing = change(*thing);
        }
    }

    fn apply(&mut self, step: &Step, make: fn(Thing) -> Thing) {
        match *step {
            Step::Make(d, n, is_dir) => {
                let (at, ino) = (self.at((d, n)), self.next);
                self.next += 1;
                let thing = make(if is_dir { dir(ino) } else { file(ino) });
                self.tree.entry(at).or_insert(thing);
            }
            Step::Remove(d, n) => {
                let at = self.at((d, n));
                let empty = self.tree.get(&at).is_some_and(|of| !of.dir || self.is_empty(of.ino));
                if empty {
                    self.tree.remove(&at);
                }
            }
            Step::Rename(d, n, e, m) => {
                let (from, to) = (self.at((d, n)), self.at((e, m)));
                let Some(thing) = self.tree.get(&from).copied() else { return };
                let target = self.tree.get(&to);
                let fits = target.is_none_or(|of| of.dir == thing.dir && self.is_empty(of.ino));
                if from != to && fits && !(thing.dir && self.is_below(to.0, thing.ino)) {
                    self.tree.remove(&from);
                    self.tree.insert(to, now(thing));
                }
            }
            Step::Exchange(d, n, e, m) => {
                let (from, to) = (self.at((d, n)), self.at((e, m)));
                let pair = (self.tree.get(&from).copied(), self.tree.get(&to).copied());
                let (Some(one), Some(other)) = pair else { return };
                let inside = |thing: Thing, dir| thing.dir && self.is_below(dir, thing.ino);
                if !inside(one, to.0) && !inside(other, from.0) {
                    self.tree.insert(from, now(other));
                    self.tree.insert(to, now(one));
                }
            }
            Step::Write(d, n) => {
                let at = self.at((d, n));
                self.touch(&at, |thing| if thing.dir { thing } else { written(thing) });
            }
            Step::Chmod(d, n) => {
                let at = self.at((d, n));
                self.touch(&at, |thing| now(Thing { attrs: thing.attrs + 1, ..thing }));
            }
        }
    }
}

/// Performs a difference on what was believed, as a kernel would.
fn perform(
    tree: &mut Tree,
    of: &Comparison,
    after: &Tree,
    difference: &Difference,
    is_exchange: bool,
) {
    let at = |came: &Came| (came.dir.0, String::from_utf8(came.name.to_vec()).unwrap());
    let place = |index: usize| {
        let belief = of.belief(index).unwrap();
        ((belief.parent.0, String::from_utf8(belief.name.to_vec()).unwrap()), belief.object.ino)
    };
    match difference {
        Difference::Removed(index) => {
            let (at, ino) = place(*index);
            let gone = tree.remove(&at).unwrap_or_else(|| panic!("{at:?} is not there"));
            assert_eq!(gone.ino, ino);
            forget_below(tree, ino);
        }
        Difference::Renamed(index, to, over) => {
            let (from, _) = place(*index);
            let to = at(to);
            let thing = tree.remove(&from).unwrap_or_else(|| panic!("{from:?} is not there"));
            let before = tree.insert(to.clone(), thing);
            match over {
                None => assert_eq!(before, None, "over {to:?}"),
                Some(over) => {
                    assert!(before.is_some_and(|of| of.ino == place(*over).1));
                    if let Some(other) = before.filter(|_| is_exchange) {
                        tree.insert(from, other);
                    }
                }
            }
        }
        Difference::Created(came) => {
            let at = at(came);
            let before = tree.insert(at.clone(), after[&at]);
            assert_eq!(before, None, "{at:?} is there");
        }
        Difference::Modified(came) | Difference::Attrib(came) => {
            let at = at(came);
            let is = after[&at];
            let before = tree.insert(at.clone(), is);
            assert!(before.is_some_and(|of| of.ino == is.ino), "{at:?} is another");
        }
    }
}

fn forget_below(tree: &mut Tree, dir: u64) {
    let below: Vec<_> = tree.keys().filter(|(of, _)| *of == dir).cloned().collect();
    for at in below {
        let gone = tree.remove(&at);
        gone.into_iter().for_each(|gone| forget_below(tree, gone.ino));
    }
}

proptest! {
    #[test]
    fn differences_applied_to_what_was_believed_give_what_is_there(
        made in steps(),
        changed in steps(),
    ) {
        let mut host = Host { tree: Tree::new(), next: 2 };
        made.iter().for_each(|step| host.apply(step, |thing| thing));
        host.tree.values_mut().for_each(|thing| *thing = Thing { ctime: 10, mtime: 10, ..*thing });
        let before = host.tree.clone();
        let known = host.next;
        changed.iter().for_each(|step| host.apply(step, new));
        let after = host.tree;

        let (differences, comparison) = compare(&before, &after);
        // A ring of nothing but directories is no sequence of renames: they are told as new.
        let torn = |difference: &Difference| matches!(difference, Difference::Created(came)
            if before.values().any(|thing| thing.dir && thing.ino == came.entry.attr.ino));
        prop_assume!(!differences.iter().any(torn));
        let mut kernel = before;
        let mut rest = differences.iter().peekable();
        while let Some(difference) = rest.next() {
            // The second half of an exchange is performed with the first.
            let other = rest.next_if(|next| match (difference, next) {
                (Difference::Renamed(a, _, b), Difference::Renamed(c, _, d)) => {
                    b.is_some() && (Some(*a), *b) == (*d, Some(*c))
                }
                _ => false,
            });
            perform(&mut kernel, &comparison, &after, difference, other.is_some());
        }
        // What is in a new directory is found by whoever looks, and so is what a ring of renames is
        // broken up at.
        let made_anew: Vec<u64> = differences.iter().filter_map(|difference| match difference {
            Difference::Created(came) => Some(came.entry.attr.ino),
            _ => None,
        }).collect();
        let seen = |dir: u64| dir == ROOT || (dir < known && !made_anew.contains(&dir)
            && kernel.values().any(|thing| thing.ino == dir));
        let brief = |tree: &Tree| -> Vec<(u64, String, u64, u64)> {
            tree.iter().filter(|((dir, _), _)| seen(*dir))
                .map(|((dir, name), thing)| (*dir, name.clone(), thing.ino, thing.content)).collect()
        };
        prop_assert_eq!(brief(&kernel), brief(&after));
    }
}
