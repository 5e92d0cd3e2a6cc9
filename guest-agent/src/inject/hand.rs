//! The hand: the thread that makes an actuator's calls, with a descriptor table of its own.
//!
//! A call on the mount waits for this very process. If the process is killed in that moment, the
//! thread waits for an answer that nobody gives, and while it waits it would keep the table in which
//! `/dev/fuse` is open, so that the kernel would never learn that nobody answers: a process that
//! cannot die and a mount that hangs. With a table of its own `/dev/fuse` is closed with all other
//! threads, the kernel gives the call up, and the thread ends.
//!
//! ```text
//! worker: prepare ── Order ──▶ hand ── call on the mount ──▶ kernel ──▶ FUSE threads, past
//!    ▲                          │
//!    ├────── Say::Notice ───────┤  in trouble: the worker, which waits anyhow, gives it at once
//!    └── Say::Done and notices ─┘
//! ```
//!
//! So nothing that runs on the hand may touch a descriptor that is not its own.

use super::notice::{Notice, Prepared, prepare};
use super::{Injector, Outcome, Root};
use crate::fuse::session::Session;
use crate::nodes::LocalId;
use protocol::codec::{Reader, Wire};
use protocol::{Change, Errno};
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

enum Order {
    /// Encoded changes: one, or two that are an exchange.
    Deliver(Box<[u8]>, Option<Box<[u8]>>, Prepared),
    Rest,
}

enum Say {
    /// It has a table of its own. The root that it was given goes back to where it was opened.
    Ready(Root),
    /// To be given, and then this to be done.
    Notice(Notice, Box<dyn FnOnce() + Send>),
    /// The call is over in which the kernel was told of these files.
    Told(Vec<LocalId>),
    /// What came of it, and what is to be told the kernel now.
    Done(Outcome, Vec<Notice>),
}

/// What the hand has of the worker, and its view.
#[derive(Clone)]
pub(super) struct Worker(mpsc::Sender<Say>);

#[cfg(test)]
impl Default for Worker {
    /// One that is gone.
    fn default() -> Self {
        Self(mpsc::channel().0)
    }
}

impl Worker {
    /// Has a notice given, and returns when it is.
    pub fn notice(&self, notice: Notice) {
        let (not_given, given) = mpsc::channel::<()>();
        self.notice_then(notice, Box::new(move || drop(not_given)));
        _ = given.recv();
    }

    /// Has a notice given, and then does `then` on the worker's thread. If there is no worker any more,
    /// here and now.
    pub fn notice_then(&self, notice: Notice, then: Box<dyn FnOnce() + Send>) {
        if let Err(mpsc::SendError(Say::Notice(_, then))) = self.0.send(Say::Notice(notice, then)) {
            then();
        }
    }

    /// Has others told of these files, too, of which they were told nothing for the time of a call.
    pub fn told(&self, nodes: Vec<LocalId>) {
        if !nodes.is_empty() {
            // Without a worker there is no mount any more.
            _ = self.0.send(Say::Told(nodes));
        }
    }
}

/// What the worker has of the hand.
pub struct Hand {
    session: Arc<Session>,
    orders: Option<mpsc::Sender<Order>>,
    says: mpsc::Receiver<Say>,
    thread: Option<thread::JoinHandle<Arc<Session>>>,
}

impl Hand {
    /// A hand that acts through `root`.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(session: Arc<Session>, root: Root) -> io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        let (say, says) = mpsc::channel();
        let worker = Worker(say);
        let of_hand = session.clone();
        let thread = thread::Builder::new()
            .name("osxfs-hand".into())
            .spawn(move || act(of_hand, root, worker, &ordered))?;
        let orders = Some(orders);
        let hand = Self { session, orders, says, thread: Some(thread) };
        if let Ok(Say::Ready(root)) = hand.says.recv() {
            drop(root);
        }
        Ok(hand)
    }

    /// Delivers an encoded change, or two that are an exchange.
    pub fn deliver(&self, change: Box<[u8]>, other: Option<Box<[u8]>>) -> Outcome {
        let prepared = match decode(&change, other.as_deref()) {
            Ok((change, other)) => prepare(&self.session, &change, other.as_ref()),
            Err(errno) => return Outcome::Refused(errno),
        };
        self.order(Order::Deliver(change, other, prepared));
        loop {
            match self.says.recv() {
                Ok(Say::Notice(notice, then)) => {
                    notice.give(&self.session);
                    then();
                }
                Ok(Say::Told(nodes)) => {
                    nodes.into_iter().for_each(|node| self.session.told_actuator(node));
                }
                Ok(Say::Done(outcome, notices)) => {
                    notices.iter().for_each(|notice| notice.give(&self.session));
                    return outcome;
                }
                Ok(Say::Ready(root)) => drop(root),
                Err(_) => return Outcome::Refused(Errno::EIO),
            }
        }
    }

    /// Lets the hand let go of what makes the mount busy. Does not wait.
    pub fn rest(&self) {
        self.order(Order::Rest);
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            _ = orders.send(order);
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // Its share of the session ends here: the last one closes `/dev/fuse`.
            drop(thread.join());
        }
    }
}

/// What the hand does. Gives the session back, to be let go where its descriptors are open.
fn act(
    session: Arc<Session>,
    root: Root,
    worker: Worker,
    orders: &mpsc::Receiver<Order>,
) -> Arc<Session> {
    let mine = root.adopt();
    let says = worker.0.clone();
    _ = says.send(Say::Ready(root));
    let _member = session.affinity.join();
    let mut injector = Injector::new(session.clone(), mine, worker);
    while let Ok(order) = orders.recv() {
        let (change, other, prepared) = match order {
            Order::Rest => {
                injector.rest();
                continue;
            }
            Order::Deliver(change, other, prepared) => (change, other, prepared),
        };
        let outcome = match decode(&change, other.as_deref()) {
            Ok((change, None)) => injector.deliver(&change, prepared),
            Ok((change, Some(other))) => injector.deliver_exchange(&change, &other, prepared),
            Err(errno) => Outcome::Refused(errno),
        };
        if says.send(Say::Done(outcome, injector.take_notices())).is_err() {
            break;
        }
    }
    session
}

/// Both were encoded by this process.
fn decode<'a>(
    change: &'a [u8],
    other: Option<&'a [u8]>,
) -> Result<(Change<'a>, Option<Change<'a>>), Errno> {
    let decode = |bytes| Change::get(&mut Reader::new(bytes)).map_err(|_| Errno::EINVAL);
    Ok((decode(change)?, other.map(decode).transpose()?))
}
