//! Attributes that an actuator is told, asked for anew in the last moment.
//!
//! A change says what a file was like when the host's watcher looked. Guests may have been told since of
//! what it has become, and read it just now. Answers to `SETATTR`, and to whatever makes a name, the
//! kernel takes for the truth at any rate: an older size would cut off the file under its readers.
//!
//! A newer size than the change tells is more than the kernel's pages may reach, and it sets the size
//! before it drops them: their readers would see zeros for the rest. So they are dropped first.

use super::abi::{self, FattrMask};
use super::actuator::Renewal;
use super::reply::{self, Answer};
use super::request::{Operation, Request};
use super::session::Session;
use crate::client::{Complete, Outcome};
use protocol::{Attr, AttrReply, Caller, Reply, Request as Ask};
use std::sync::Arc;

/// How often a file may have grown while its pages were dropped. Then its readers may see zeros.
const TRIES: u8 = 8;

impl Session {
    /// Answers a request with the attributes that a node has by now. If the server cannot say, they are
    /// as they are in `answer`.
    pub(super) fn answer_renewed(
        self: &Arc<Self>,
        bytes: &[u8],
        answer: Answer<'static>,
        renewal: Renewal,
    ) {
        let reaches = size(&answer);
        let (session, bytes) = (self.clone(), bytes.into());
        Box::new(Renewing { session, bytes, answer, renewal, reaches, tries: TRIES }).ask();
    }
}

/// Waits for attributes.
struct Renewing {
    session: Arc<Session>,
    bytes: Box<[u8]>,
    answer: Answer<'static>,
    renewal: Renewal,
    /// The pages that the kernel has hold so much of the file, if it does.
    reaches: u64,
    tries: u8,
}

impl Renewing {
    fn ask(self: Box<Self>) {
        let session = self.session.clone();
        let epoch = session.epoch();
        match session.nodes.resolve(self.renewal.node) {
            Ok(node) => {
                let ask = Ask::GetAttr { node };
                session.client.submit(epoch, None, &Caller::default(), &ask, self);
            }
            Err(_) => self.complete(Outcome::NotSent),
        }
    }
}

impl Complete for Renewing {
    fn complete(mut self: Box<Self>, outcome: Outcome<'_>) {
        // It did parse before.
        let Ok(request) = Request::parse(&self.bytes, self.session.dialect()) else { return };
        let Outcome::Reply(Reply::Attr { attr: AttrReply { attr, .. } }) = outcome else {
            return self.session.reply(&request, &self.answer);
        };
        if attr.size > self.reaches && self.tries > 0 && may_drop_pages(&request) {
            self.reaches = attr.size;
            self.tries -= 1;
            let Renewal { node, view } = self.renewal.clone();
            return view.drop_pages(node, Box::new(move || self.ask()));
        }
        self.session.reply(&request, &with_attr(&self.answer, attr));
    }
}

/// While the kernel sets a size, it writes no page back, nor drops one that would have to be.
fn may_drop_pages(request: &Request<'_>) -> bool {
    let Operation::SetAttr { set } = &request.operation else { return true };
    !FattrMask::from_bits_retain(set.valid).contains(FattrMask::SIZE)
}

fn size(answer: &Answer<'_>) -> u64 {
    match answer {
        Answer::Entry(entry) => entry.attr.size,
        Answer::Attr(out) => out.attr.size,
        Answer::Statx(out) => out.stat.size,
        _ => 0,
    }
}

fn with_attr(answer: &Answer<'static>, attr: &Attr) -> Answer<'static> {
    match answer {
        Answer::Entry(entry) => Answer::Entry(abi::EntryOut { attr: reply::attr(attr), ..*entry }),
        Answer::Attr(out) => Answer::Attr(abi::AttrOut { attr: reply::attr(attr), ..*out }),
        Answer::Statx(_) => reply::statx(&AttrReply { attr: *attr, attr_ms: 0 }),
        other => other.clone(),
    }
}
