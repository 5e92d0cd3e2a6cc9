//! Answers that are withheld while an actuator is told of the same file.
//!
//! What an actuator's call is answered, the kernel takes for the truth when that call goes on, and not
//! when it is answered. Whoever is told more meanwhile, and goes on first, would see the file cut off
//! when the other does. So nobody is, from before the server is asked what to tell until the call is
//! over. Of what is told thereafter the kernel believes no attributes, because it was asked for before:
//! it asks again.
//!
//! No actuator waits for what is withheld: what it needs locked, the kernel has locked for it by then.

use super::reply::Answer;
use super::request::Request;
use super::session::Session;
use crate::nodes::LocalId;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is withheld of one mount. While no actuator is told anything it costs an answer one atomic load.
#[derive(Default)]
pub struct Withheld {
    count: AtomicUsize,
    of: Mutex<Of>,
}

#[derive(Default)]
struct Of {
    /// As often as actuators are told of it.
    nodes: Vec<LocalId>,
    answers: Vec<Kept>,
}

struct Kept {
    node: LocalId,
    unique: u64,
    name: &'static str,
    answer: Answer<'static>,
}

impl Withheld {
    /// An actuator is going to be told of this file.
    pub fn begin(&self, node: LocalId) {
        let nodes = &mut self.of.lock().nodes;
        nodes.push(node);
        self.count.store(nodes.len(), Ordering::SeqCst);
    }

    /// Whether an actuator is being told of this file.
    pub fn covers(&self, node: LocalId) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.of.lock().nodes.contains(&node)
    }

    /// Keeps an answer if it is to be withheld, and tells whether it does.
    pub(super) fn keeps(&self, request: &Request<'_>, answer: &Answer<'_>) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let Some((node, answer)) = told_of(request, answer) else { return false };
        let of = &mut *self.of.lock();
        let keeps = of.nodes.contains(&node);
        if keeps {
            let (unique, name) = (request.unique(), request.name());
            of.answers.push(Kept { node, unique, name, answer });
        }
        keeps
    }

    /// The actuator's call is over. Gives back what nobody is in the way of any more.
    fn end(&self, node: LocalId) -> Vec<Kept> {
        let of = &mut *self.of.lock();
        if let Some(at) = of.nodes.iter().position(|other| *other == node) {
            of.nodes.swap_remove(at);
        }
        self.count.store(of.nodes.len(), Ordering::SeqCst);
        let Of { nodes, answers } = of;
        answers.extract_if(.., |kept| !nodes.contains(&kept.node)).collect()
    }
}

impl Session {
    /// The call of an actuator that was told of this file is over: so are others.
    pub fn told_actuator(&self, node: LocalId) {
        for Kept { unique, name, answer, .. } in self.withheld.end(node) {
            self.give(unique, name, &answer);
        }
    }
}

/// Whose attributes an answer tells.
fn told_of(request: &Request<'_>, answer: &Answer<'_>) -> Option<(LocalId, Answer<'static>)> {
    let of_request = LocalId(request.node());
    Some(match answer {
        Answer::Entry(entry) => (LocalId(entry.nodeid), Answer::Entry(*entry)),
        Answer::Created(entry, open) => (LocalId(entry.nodeid), Answer::Created(*entry, *open)),
        Answer::Attr(attr) => (of_request, Answer::Attr(*attr)),
        Answer::Statx(statx) => (of_request, Answer::Statx(statx.clone())),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::abi;
    use zerocopy::IntoBytes;

    const FILE: LocalId = LocalId(5);

    fn is_kept(withheld: &Withheld, unique: u64, node: LocalId, answer: &Answer<'_>) -> bool {
        let body = abi::GetattrIn::default();
        let len = (size_of::<abi::InHeader>() + size_of_val(&body)) as u32;
        let opcode = abi::opcode::GETATTR;
        let header = abi::InHeader { len, opcode, unique, nodeid: node.0, ..Default::default() };
        let bytes = [header.as_bytes(), body.as_bytes()].concat();
        withheld.keeps(&Request::parse(&bytes, Default::default()).unwrap(), answer)
    }

    fn ended(withheld: &Withheld) -> Vec<u64> {
        withheld.end(FILE).into_iter().map(|kept| kept.unique).collect()
    }

    #[test]
    fn what_a_file_is_like_is_withheld_until_no_actuator_is_told() {
        let withheld = Withheld::default();
        let attr = Answer::Attr(abi::AttrOut::default());
        assert!(!is_kept(&withheld, 1, FILE, &attr));
        withheld.begin(FILE);
        withheld.begin(FILE);
        assert!(withheld.covers(FILE) && !withheld.covers(LocalId(6)));
        assert!(is_kept(&withheld, 2, FILE, &attr));
        let entry = Answer::Entry(abi::EntryOut { nodeid: FILE.0, ..Default::default() });
        assert!(is_kept(&withheld, 3, LocalId(6), &entry), "found in another directory");
        assert!(ended(&withheld).is_empty());
        assert_eq!(ended(&withheld), [2, 3]);
        assert!(!is_kept(&withheld, 4, FILE, &attr));
    }

    #[test]
    fn content_and_other_files_are_told_at_once() {
        let withheld = Withheld::default();
        withheld.begin(FILE);
        assert!(!is_kept(&withheld, 1, FILE, &Answer::Data(b"x")));
        assert!(!is_kept(&withheld, 2, FILE, &Answer::Written(1)));
        assert!(!is_kept(&withheld, 3, LocalId(6), &Answer::Attr(abi::AttrOut::default())));
        assert!(ended(&withheld).is_empty());
    }
}
