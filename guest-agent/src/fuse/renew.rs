//! Attributes that an actuator is told, asked for anew in the last moment.
//!
//! A change says what a file was like when the host's watcher looked. Guests may have been told since of
//! what it has become, and read it just now. Answers to `SETATTR`, and to whatever makes a name, the
//! kernel takes for the truth at any rate: an older size would cut off the file under its readers.

use super::abi;
use super::reply::{self, Answer};
use super::request::Request;
use super::session::Session;
use crate::client::{Complete, Outcome};
use crate::nodes::LocalId;
use protocol::{Attr, AttrReply, Caller, Reply, Request as Ask};
use std::sync::Arc;

impl Session {
    /// Answers a request with the attributes that `node` has by now. If the server cannot say, they are
    /// as they are in `answer`.
    pub(super) fn answer_renewed(
        self: &Arc<Self>,
        bytes: &[u8],
        answer: Answer<'static>,
        node: LocalId,
    ) {
        let epoch = self.epoch();
        let renewing = Box::new(Renewing { session: self.clone(), bytes: bytes.into(), answer });
        match self.nodes.resolve(node) {
            Ok(node) => {
                let ask = Ask::GetAttr { node };
                self.client.submit(epoch, None, &Caller::default(), &ask, renewing);
            }
            Err(_) => renewing.complete(Outcome::NotSent),
        }
    }
}

/// Waits for attributes.
struct Renewing {
    session: Arc<Session>,
    bytes: Box<[u8]>,
    answer: Answer<'static>,
}

impl Complete for Renewing {
    fn complete(self: Box<Self>, outcome: Outcome<'_>) {
        let Self { session, bytes, answer } = *self;
        let answer = match outcome {
            Outcome::Reply(Reply::Attr { attr }) => with_attr(answer, &attr.attr),
            _ => answer,
        };
        // It did parse before.
        if let Ok(request) = Request::parse(&bytes, session.dialect()) {
            session.reply(&request, &answer);
        }
    }
}

fn with_attr(answer: Answer<'static>, attr: &Attr) -> Answer<'static> {
    match answer {
        Answer::Entry(entry) => Answer::Entry(abi::EntryOut { attr: reply::attr(attr), ..entry }),
        Answer::Attr(out) => Answer::Attr(abi::AttrOut { attr: reply::attr(attr), ..out }),
        Answer::Statx(_) => reply::statx(&AttrReply { attr: *attr, attr_ms: 0 }),
        other => other,
    }
}
