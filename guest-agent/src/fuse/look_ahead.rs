//! Asking for all names of a directory when the kernel asks for one after the other: see
//! [`Ahead`](crate::ahead::Ahead), which keeps them.

use super::session::Session;
use super::translate::{self, View};
use crate::ahead::KEPT;
use crate::client::{Complete, Outcome};
use crate::nodes::LocalId;
use protocol::{Caller, Reply, Request as Ask};
use std::sync::Arc;
use std::time::Instant;

/// How much of a directory is asked for ahead, in bytes of a listing: some 800 names.
const LIST_AHEAD: u32 = 128 * 1024;

impl Session {
    /// A name of a directory is asked for: perhaps the others will be.
    pub(super) fn look_ahead(self: &Arc<Self>, epoch: u32, dir: LocalId) {
        let seen = self.arrivals();
        let may = self.with_view(epoch, |view| view.may_be_ahead(dir));
        if may == Some(true)
            && self.ahead.missed(dir)
            && let Ok(node) = self.nodes.resolve(dir)
        {
            let listed = Box::new(Listed { session: self.clone(), dir, epoch, seen });
            let ask = Ask::List { node, size: LIST_AHEAD };
            self.client.submit(epoch, None, &Caller::default(), &ask, listed);
        }
    }
}

/// Waits for the listing of a directory.
struct Listed {
    session: Arc<Session>,
    dir: LocalId,
    epoch: u32,
    seen: u64,
}

impl Complete for Listed {
    fn complete(self: Box<Self>, outcome: Outcome<'_>) {
        let session = &self.session;
        let Outcome::Reply(Reply::Listed { all, data }) = outcome else {
            return session.ahead.not_told(self.dir);
        };
        let overtaken = session.is_behind(self.seen);
        session.with_view(self.epoch, |view| {
            translate::take_ahead(&View { overtaken, ..*view }, self.dir, data.0, *all);
        });
        // A change may have come while the names were put down.
        if session.arrivals() != self.seen {
            session.drop_ahead();
        }
        session.errands().expire_ahead(Instant::now() + KEPT);
    }
}
