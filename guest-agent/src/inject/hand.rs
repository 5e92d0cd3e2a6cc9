//! The hand: the thread that makes an actuator's calls, with a descriptor table of its own.
//!
//! A call on the mount waits for this very process. If the process is killed in that moment, the
//! thread waits for an answer that nobody gives, and while it waits it would keep the table in which
//! `/dev/fuse` is open, so that the kernel would never learn that nobody answers: a process that
//! cannot die and a mount that hangs. With a table of its own `/dev/fuse` is closed with all other
//! threads, the kernel gives the call up, and the thread ends.
//!
//! ```text
//! worker ── Order ──▶ hand ── call on the mount ──▶ kernel ──▶ FUSE threads, past
//!    ▲                  │
//!    └─── Say::Notice ──┘   what needs /dev/fuse is asked of the worker, which waits anyhow
//! ```
//!
//! So nothing that runs on the hand may touch a descriptor that is not its own.

use super::{Injector, Outcome, Root};
use crate::fuse::session::Session;
use crate::nodes::LocalId;
use protocol::codec::{Reader, Wire};
use protocol::{Change, Errno};
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

/// A notice to the kernel.
#[derive(Debug)]
pub enum Notice {
    /// The attributes of a node are void.
    Attributes(LocalId),
    /// And its pages.
    Pages(LocalId),
    /// A name is not to be believed any more.
    Name(LocalId, Box<[u8]>),
}

impl Notice {
    /// Gives it. It fails where the kernel does not have the node or name, which is as good.
    pub fn give(&self, session: &Session) {
        let device = &session.device;
        _ = match self {
            Self::Attributes(node) => device.invalidate_inode(node.0, -1, 0),
            Self::Pages(node) => device.invalidate_inode(node.0, 0, 0),
            Self::Name(parent, name) => {
                if session.negotiated().is_some_and(|agreed| agreed.expire_only) {
                    device.expire_entry(parent.0, name)
                } else if session.nodes.child(*parent, name).is_none() {
                    // The name is dropped, which is safe only where nothing is there that something
                    // could be mounted on.
                    device.invalidate_entry(parent.0, name)
                } else {
                    Ok(())
                }
            }
        };
    }
}

enum Order {
    /// Encoded changes: one, or two that are an exchange.
    Deliver(Box<[u8]>, Option<Box<[u8]>>),
    Rest,
}

enum Say {
    /// It has a table of its own. The root that it was given goes back to where it was opened.
    Ready(Root),
    Notice(Notice),
    Done(Outcome),
}

/// What the hand has of the worker.
pub(super) struct Worker {
    says: mpsc::Sender<Say>,
    given: mpsc::Receiver<()>,
}

impl Worker {
    /// Has a notice given, and returns when it is.
    pub fn notice(&self, notice: Notice) {
        if self.says.send(Say::Notice(notice)).is_ok() {
            _ = self.given.recv();
        }
    }
}

/// What the worker has of the hand.
pub struct Hand {
    session: Arc<Session>,
    orders: Option<mpsc::Sender<Order>>,
    says: mpsc::Receiver<Say>,
    given: mpsc::Sender<()>,
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
        let (given, is_given) = mpsc::channel();
        let worker = Worker { says: say, given: is_given };
        let of_hand = session.clone();
        let thread = thread::Builder::new()
            .name("osxfs-hand".into())
            .spawn(move || act(of_hand, root, worker, &ordered))?;
        let orders = Some(orders);
        let hand = Self { session, orders, says, given, thread: Some(thread) };
        if let Ok(Say::Ready(root)) = hand.says.recv() {
            drop(root);
        }
        Ok(hand)
    }

    /// Delivers an encoded change, or two that are an exchange.
    pub fn deliver(&self, change: Box<[u8]>, other: Option<Box<[u8]>>) -> Outcome {
        self.order(Order::Deliver(change, other));
        loop {
            match self.says.recv() {
                Ok(Say::Notice(notice)) => {
                    notice.give(&self.session);
                    _ = self.given.send(());
                }
                Ok(Say::Done(outcome)) => return outcome,
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
    _ = worker.says.send(Say::Ready(root));
    let says = worker.says.clone();
    let mut injector = Injector::new(session.clone(), mine, worker);
    while let Ok(order) = orders.recv() {
        let (change, other) = match order {
            Order::Rest => {
                injector.rest();
                continue;
            }
            Order::Deliver(change, other) => (change, other),
        };
        // Both were encoded by this process.
        let decode = |bytes| Change::get(&mut Reader::new(bytes));
        let outcome = match (decode(&change), other.as_deref().map(decode)) {
            (Ok(change), None) => injector.deliver(&change),
            (Ok(change), Some(Ok(other))) => injector.deliver_exchange(&change, &other),
            _ => Outcome::Refused(Errno::EINVAL),
        };
        if says.send(Say::Done(outcome)).is_err() {
            break;
        }
    }
    session
}
