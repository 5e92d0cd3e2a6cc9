//! One connection, seen from the host. Pure: packets, facts about the host's side and the time come
//! in; what to send to the guest comes out. Payload never passes through here, only its length.
//!
//! ```text
//! guest                     host                         guest                     host
//!   │ Request ───────────────▶ │ is somebody there?        │ ◀────────────── Request │ a client came
//!   │ ◀───────────── Response  │ yes (else Reset)          │ Response ─────────────▶ │
//!   │                          │                           │
//!   │ Data ══════════════════▶ │  never more than the room that the receiver told of;
//!   │ ◀══════════════════ Data │  every packet tells it anew
//!   │ ◀───────── CreditUpdate  │  when there is no data to tell it with
//!   │ CreditRequest ─────────▶ │  "tell me": answered by CreditUpdate
//!   │                          │
//!   │ Shutdown(SEND) ────────▶ │  half-closed: the host reads the rest, then the end of the
//!   │ ◀══════════════════ Data │  stream, and may go on sending
//!   │ ◀─────── Shutdown(both)  │  both directions are at their end
//!   │ Reset ─────────────────▶ │  whoever is told "both" and has read everything resets: gone
//! ```
//!
//! A guest that breaks these rules has its connection reset. One that does not answer is reset when
//! its time is up: a request after [`REQUEST_TIMEOUT`], a last `Shutdown` after [`LINGER`].

use super::credit::{Allowance, Window};
use super::packet::{Header, MAX_PAYLOAD, Op, Shutdown};
use bitflags::bitflags;
use std::time::{Duration, Instant};

/// How long a guest may take to answer a request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a guest may take to reset a connection that is closed in both directions.
pub const LINGER: Duration = Duration::from_secs(10);
/// Pauses between two questions for credit to a guest that answered that it has none.
const ASK_AGAIN: Duration = Duration::from_millis(5);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_millis(320);

bitflags! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Due: u8 {
        const REQUEST = 1;
        const RESPONSE = 2;
        const CREDIT_UPDATE = 4;
        const CREDIT_REQUEST = 8;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The guest asks; nobody has answered.
    Offered,
    /// We ask.
    Requested,
    Established,
}

/// What a packet means for the host's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing.
    Nothing,
    /// The guest has agreed to the connection.
    Established,
    /// The payload is to be passed on.
    Data,
    /// The guest will not send, or not receive, any more.
    Shutdown,
    /// The guest has reset it.
    Ended,
    /// The guest has closed it, or broken the rules: it is to be reset.
    Reset,
}

/// What to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A packet without payload.
    Control(Op, Shutdown),
    /// Up to so many bytes of payload.
    Data(u32),
}

/// One connection. See the module.
#[derive(Debug)]
pub struct Connection {
    state: State,
    window: Window,
    allowance: Allowance,
    /// What the guest does not do any more; what the host's side does not; what of it was sent.
    peer: Shutdown,
    ours: Shutdown,
    told: Shutdown,
    due: Due,
    /// The host's side may have data.
    readable: bool,
    /// Credit was asked for and no answer has come; how much was sent since.
    asked: bool,
    sent_since_asked: u32,
    ask_again: Option<Instant>,
    pause: Duration,
    deadline: Option<Instant>,
}

impl Connection {
    fn new(state: State, buffer: u32) -> Self {
        Self {
            state,
            window: Window::default(),
            allowance: Allowance::new(buffer),
            peer: Shutdown::empty(),
            ours: Shutdown::empty(),
            told: Shutdown::empty(),
            due: Due::empty(),
            readable: false,
            asked: false,
            sent_since_asked: 0,
            ask_again: None,
            pause: ASK_AGAIN,
            deadline: None,
        }
    }

    /// One that the guest asks for by `request`. It may be given `buffer` bytes to hold.
    pub fn offered(request: &Header, buffer: u32) -> Self {
        let mut this = Self::new(State::Offered, buffer);
        this.window.update(request.buf_alloc, request.fwd_cnt);
        this
    }

    /// One that the host asks for.
    pub fn requested(buffer: u32, now: Instant) -> Self {
        let mut this = Self::new(State::Requested, buffer);
        this.due = Due::REQUEST;
        this.deadline = Some(now + REQUEST_TIMEOUT);
        this
    }

    /// Somebody is there for a connection that was offered.
    pub fn accept(&mut self) {
        if self.state == State::Offered {
            self.state = State::Established;
            self.due |= Due::RESPONSE;
        }
    }

    /// A packet of the guest.
    pub fn receive(&mut self, header: &Header, now: Instant) -> Reaction {
        let Some(op) = Op::from_number(header.op) else { return Reaction::Reset };
        if op == Op::Reset {
            return Reaction::Ended;
        }
        if self.window.update(header.buf_alloc, header.fwd_cnt) {
            self.pause = ASK_AGAIN;
            self.ask_again = None;
        }
        match (self.state, op) {
            (State::Requested, Op::Response) => {
                self.state = State::Established;
                self.deadline = None;
                Reaction::Established
            }
            (State::Established, Op::Data) => self.receive_data(header.len),
            (State::Established, Op::Shutdown) => {
                self.peer |= Shutdown::from_bits_truncate(header.flags);
                if self.peer == Shutdown::all() {
                    return Reaction::Reset;
                }
                self.close_if_over();
                Reaction::Shutdown
            }
            (State::Established, Op::CreditUpdate) => {
                if self.asked {
                    self.asked = false;
                    if self.window.free() == 0 {
                        self.ask_again = Some(now + self.pause);
                        self.pause = (self.pause * 2).min(ASK_AGAIN_AT_MOST);
                    }
                }
                Reaction::Nothing
            }
            (State::Established, Op::CreditRequest) => {
                self.due |= Due::CREDIT_UPDATE;
                Reaction::Nothing
            }
            _ => Reaction::Reset,
        }
    }

    fn receive_data(&mut self, len: u32) -> Reaction {
        if self.peer.contains(Shutdown::SEND) || self.allowance.receive(len).is_err() {
            return Reaction::Reset;
        }
        if self.ours.contains(Shutdown::RECEIVE) {
            // It was on its way when the host left.
            self.allowance.forward(len);
            return Reaction::Nothing;
        }
        if len == 0 { Reaction::Nothing } else { Reaction::Data }
    }

    /// The host's side may have data.
    pub fn readable(&mut self) {
        self.readable = true;
    }

    /// The host's side has no more data at the moment.
    pub fn drained(&mut self) {
        self.readable = false;
    }

    /// The host's side has taken `len` bytes that the guest sent.
    pub fn forwarded(&mut self, len: u32) {
        self.allowance.forward(len);
    }

    /// The host's side will not do this any more. (All that it sent has been sent on.)
    pub fn shutdown(&mut self, what: Shutdown) {
        self.ours |= what;
        self.close_if_over();
    }

    /// When nothing can go either way, says so as a whole, whoever closed which direction.
    fn close_if_over(&mut self) {
        let to_guest = self.ours.contains(Shutdown::SEND) || self.peer.contains(Shutdown::RECEIVE);
        let to_host = self.peer.contains(Shutdown::SEND) || self.ours.contains(Shutdown::RECEIVE);
        if to_guest && to_host {
            self.ours = Shutdown::all();
        }
    }

    /// Whether bytes can still go to the guest.
    pub fn sends(&self) -> bool {
        self.state == State::Established
            && !self.ours.contains(Shutdown::SEND)
            && !self.peer.contains(Shutdown::RECEIVE)
    }

    /// Whether the guest has said that it sends nothing more.
    pub fn peer(&self) -> Shutdown {
        self.peer
    }

    /// Whether [`next`](Self::next) has something.
    pub fn has_next(&self) -> bool {
        self.peek().is_some()
    }

    fn peek(&self) -> Option<Next> {
        let control = |op| Some(Next::Control(op, Shutdown::empty()));
        if self.due.contains(Due::REQUEST) {
            return control(Op::Request);
        }
        if self.due.contains(Due::RESPONSE) {
            return control(Op::Response);
        }
        if self.state != State::Established {
            return None;
        }
        if self.due.contains(Due::CREDIT_REQUEST) {
            return control(Op::CreditRequest);
        }
        if self.readable && self.sends() {
            let free = self.window.free();
            if free > 0 {
                return Some(Next::Data(free.min(MAX_PAYLOAD)));
            }
            if !self.asked && self.ask_again.is_none() {
                return control(Op::CreditRequest);
            }
        }
        if self.ours != self.told {
            return Some(Next::Control(Op::Shutdown, self.ours));
        }
        if self.due.contains(Due::CREDIT_UPDATE) || self.allowance.is_due(self.window.size()) {
            return control(Op::CreditUpdate);
        }
        None
    }

    /// What to send now. A control packet counts as sent; data when [`sent`](Self::sent) says so.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        let next = self.peek()?;
        if let Next::Control(op, _) = next {
            match op {
                Op::Request => self.due.remove(Due::REQUEST),
                Op::Response => self.due.remove(Due::RESPONSE),
                Op::CreditRequest => {
                    self.due.remove(Due::CREDIT_REQUEST);
                    self.asked = true;
                    self.sent_since_asked = 0;
                }
                Op::CreditUpdate => self.due.remove(Due::CREDIT_UPDATE),
                Op::Shutdown => {
                    self.told = self.ours;
                    if self.told == Shutdown::all() {
                        self.deadline = Some(now + LINGER);
                    }
                }
                Op::Reset | Op::Data => {}
            }
        }
        Some(next)
    }

    /// A packet with `len` bytes of payload goes to the guest; not more than [`Next::Data`] said.
    pub fn sent(&mut self, len: u32) {
        self.window.send(len);
        self.due.remove(Due::CREDIT_UPDATE);
        // Asking at half of the buffer keeps the guest from telling only when all of it is used up.
        self.sent_since_asked = self.sent_since_asked.saturating_add(len);
        if !self.asked && self.sent_since_asked >= self.window.size() / 2 {
            self.due |= Due::CREDIT_REQUEST;
        }
    }

    /// What every packet tells: the size of our buffer, and what has left it.
    pub fn credit(&mut self) -> (u32, u32) {
        (self.allowance.size(), self.allowance.tell())
    }

    /// After how many bytes taken by the host's side the guest is worth telling.
    pub fn step(&self) -> u32 {
        self.allowance.step(self.window.size())
    }

    /// When time itself will change something.
    pub fn wakes(&self) -> Option<Instant> {
        match (self.deadline, self.ask_again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Time has passed. Tells whether the guest's is up, so that the connection is to be reset.
    pub fn expire(&mut self, now: Instant) -> bool {
        if self.ask_again.is_some_and(|at| at <= now) {
            self.ask_again = None;
        }
        self.deadline.is_some_and(|at| at <= now)
    }
}
