//! A request on its way: its bytes, kept with the tag until the reply, and its completion.

use super::abi::{self, FopenFlags};
use super::device::BUFFER;
use super::reply::Answer;
use super::request::Request;
use super::session::Session;
use super::translate::{self, Before, Finish, FollowUp, View};
use crate::client::{Complete, Outcome};
use crate::errands::Chore;
use parking_lot::Mutex;
use protocol::{Errno, Reply};
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Instant;
use zerocopy::FromBytes;

/// Requests up to this size are copied out of the read buffer; larger ones (writes) take the whole
/// buffer with them, so that their payload is not copied.
const SMALL: usize = 2048;
/// Idle buffers that are kept.
const IDLE: usize = 16;

/// A buffer that takes any request; goes back to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Weak<BufferPool>,
}

impl Buffer {
    /// All of it.
    pub fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// All of it.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.put(std::mem::take(&mut self.bytes));
        }
    }
}

/// Idle buffers.
#[derive(Debug, Default)]
pub struct BufferPool {
    idle: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// A buffer, idle or new. Pages of a new one cost nothing until they are used.
    pub fn take(self: &Arc<Self>) -> Buffer {
        let idle = self.idle.lock().pop();
        let bytes = idle.unwrap_or_else(|| vec![0; BUFFER]);
        Buffer { bytes, pool: Arc::downgrade(self) }
    }

    fn put(&self, bytes: Vec<u8>) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(bytes);
        }
    }
}

/// The bytes of one request, shared by whoever works on it.
#[derive(Clone, Debug)]
pub enum RequestBytes {
    /// Copied.
    Small(Arc<[u8]>),
    /// The read buffer itself and how much of it.
    Large(Arc<Buffer>, usize),
}

impl RequestBytes {
    /// Keeps the first `len` bytes of `buffer`, which is replaced if it goes along.
    pub fn keep(buffer: &mut Buffer, len: usize, pool: &Arc<BufferPool>) -> Self {
        if len <= SMALL {
            Self::Small(buffer.as_slice().get(..len).unwrap_or_default().into())
        } else {
            Self::Large(Arc::new(std::mem::replace(buffer, pool.take())), len)
        }
    }

    /// The kernel's number of the request.
    pub fn unique(&self) -> Option<u64> {
        abi::InHeader::read_from_prefix(self).ok().map(|(header, _)| header.unique)
    }
}

impl Deref for RequestBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(buffer, len) => buffer.as_slice().get(..*len).unwrap_or_default(),
        }
    }
}

/// What lies with a tag.
pub struct Pending {
    /// Whose request it is.
    pub session: Arc<Session>,
    /// The request.
    pub bytes: RequestBytes,
    /// How often it was begun again for its own sake.
    pub attempt: u8,
    /// When it is given up, if it has been waiting for a connection.
    pub deadline: Option<Instant>,
    /// The connection on which it was made.
    pub epoch: u32,
    /// Arrivals of changes before it was sent.
    pub seen: u64,
    /// What the guest had [done](crate::nodes::NodeTable::acts) before that.
    pub acts: u64,
    /// What its names led to then.
    pub before: Before,
}

impl Complete for Pending {
    fn complete(self: Box<Self>, outcome: Outcome<'_>) {
        let session = self.session.clone();
        let bytes = self.bytes.clone();
        // It did parse before.
        let Ok(request) = Request::parse(&bytes, session.dialect()) else { return };
        match outcome {
            Outcome::Reply(reply) => self.replied(&request, reply),
            Outcome::Lost | Outcome::NotSent if translate::is_done_by_loss(&request.operation) => {
                session.answer(&request, &Answer::Done);
            }
            Outcome::NotSent => session.park(self.bytes, self.attempt, self.deadline),
            Outcome::Busy => session.park_busy(self.bytes, self.attempt),
            Outcome::Lost if session.may_repeat(&request) => {
                session.park(self.bytes, self.attempt, None);
            }
            Outcome::Lost => session.answer(&request, &Answer::Error(Errno::EIO)),
        }
    }
}

impl Pending {
    fn replied(self: Box<Self>, request: &Request<'_>, reply: &Reply<'_>) {
        let session = &self.session;
        let full = matches!(reply, Reply::Error { errno: Errno::EMFILE });
        if full && session.errands().has_closes() {
            return self.follow_up(FollowUp::Close);
        }
        let overtaken = session.is_behind(self.seen);
        let Some(finish) = session.with_view(self.epoch, |view| {
            let (before, arrivals, acts) = (self.before, self.seen, self.acts);
            let view = View { overtaken, before, arrivals, acts, ..*view };
            translate::outdate(&view, request);
            translate::finish(&view, request, self.attempt, reply)
        }) else {
            return;
        };
        match finish {
            Finish::Answer(answer) => {
                session.answer(request, &answer);
                // The change may have been delivered just before the kernel took the answer.
                if !overtaken && session.arrivals() != self.seen {
                    session.overtaken(request);
                }
            }
            Finish::Then(follow_up) => self.follow_up(follow_up),
            Finish::Fill(fill, mut opened) => {
                if session.fill(&fill, self.seen) {
                    opened.open_flags |= FopenFlags::KEEP_CACHE.bits();
                }
                session.answer(request, &Answer::Opened(opened));
            }
        }
    }

    fn follow_up(self: Box<Self>, follow_up: FollowUp) {
        let session = self.session.clone();
        session.errands().push(Chore::FollowUp(self, follow_up));
    }
}
