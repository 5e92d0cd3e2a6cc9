//! Two ends in memory: the muxer, and a guest that behaves like a Linux, with random cutting, credit,
//! order of turns and half-closes.

use super::*;

/// What newer Linux charges for a packet (`SKB_TRUESIZE(0)`).
const SKB: u64 = 576;

#[derive(Clone, Debug)]
struct Plan {
    from_guest: bool,
    guest_buffer: u32,
    to_guest: u32,
    to_host: u32,
    /// Tells room as Linux before 6.8 does: only when little is left.
    sparing: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let buffer = prop_oneof![128_u32..5000, 5000_u32..70_000, Just(256_u32 << 10)];
    (any::<bool>(), buffer, 0_u32..300_000, 0_u32..300_000, any::<bool>()).prop_map(
        |(from_guest, guest_buffer, to_guest, to_host, sparing)| Plan {
            from_guest,
            guest_buffer,
            to_guest,
            to_host,
            sparing,
        },
    )
}

#[derive(Default)]
struct Guest {
    open: bool,
    over: bool,
    sent: u32,
    host_size: u32,
    host_forwarded: u32,
    received: u32,
    read: u32,
    told: u32,
    /// Packets in its buffer that are not read to the end.
    packets: VecDeque<u32>,
    end_seen: bool,
    said_end: bool,
    due: VecDeque<(Op, u32)>,
}

#[derive(Default)]
struct Host {
    sent: u32,
    said_end: bool,
    received: u32,
    taken: u32,
    end_seen: bool,
    over: bool,
}

struct Pair {
    plan: Plan,
    key: Key,
    guest: Guest,
    host: Host,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(n.max(1))) as u32
    }
}

impl Pair {
    fn header(&mut self, op: Op, len: u32, flags: u32) -> Header {
        self.guest.told = self.guest.read;
        Header {
            len,
            flags,
            buf_alloc: self.plan.guest_buffer,
            fwd_cnt: self.guest.read,
            ..packet(op, self.key.local.0, self.key.peer.0)
        }
    }

    /// Something the guest can send now.
    fn guest_packet(&mut self, random: &mut Random) -> Option<Header> {
        if self.guest.over {
            return None;
        }
        if let Some((op, flags)) = self.guest.due.pop_front() {
            self.guest.over = op == Op::Reset;
            return Some(self.header(op, 0, flags));
        }
        if !self.guest.open {
            return None;
        }
        let in_flight = self.guest.sent.wrapping_sub(self.guest.host_forwarded);
        let window = self.guest.host_size.min(self.plan.guest_buffer);
        let free = window.saturating_sub(in_flight);
        let left = self.plan.to_host - self.guest.sent;
        let len = left.min(free).min(64 << 10);
        if len > 0 {
            let len = if random.below(3) == 0 { len } else { 1 + random.below(len) };
            self.guest.sent += len;
            return Some(self.header(Op::Data, len, 0));
        }
        if left == 0 && !self.guest.said_end {
            self.guest.said_end = true;
            return Some(self.header(Op::Shutdown, 0, Shutdown::SEND.bits()));
        }
        None
    }

    fn guest_reads(&mut self, random: &mut Random) -> bool {
        let held = self.guest.received - self.guest.read;
        if held == 0 {
            return false;
        }
        self.guest.read += 1 + random.below(held);
        while self.guest.packets.front().is_some_and(|&end| end <= self.guest.read) {
            self.guest.packets.pop_front();
        }
        let untold = self.guest.read - self.guest.told;
        let free = self.plan.guest_buffer.saturating_sub(untold);
        if free < 64 << 10 || (!self.plan.sparing && self.guest.read == self.guest.received) {
            self.guest.due.push_back((Op::CreditUpdate, 0));
        }
        true
    }

    fn guest_hears(&mut self, header: &Header) {
        let op = Op::from_number(header.op).unwrap();
        assert!(!self.guest.over, "after the end: {op:?}");
        if op != Op::Reset {
            self.guest.host_size = header.buf_alloc;
            self.guest.host_forwarded = header.fwd_cnt;
        }
        match op {
            Op::Request => self.guest.due.push_back((Op::Response, 0)),
            Op::Response => self.guest.open = true,
            Op::CreditRequest => self.guest.due.push_back((Op::CreditUpdate, 0)),
            Op::Data => {
                assert!(!self.guest.end_seen && header.len > 0);
                let held = self.guest.received - self.guest.read;
                let size = self.plan.guest_buffer;
                assert!(held + header.len <= size, "more than the guest has room for");
                let cost = (self.guest.packets.len() as u64 + 1) * SKB;
                let lone = self.guest.packets.is_empty();
                let all = cost + u64::from(held + header.len);
                assert!(lone || all <= u64::from(size), "more packets than a newer guest bears");
                self.guest.received += header.len;
                self.guest.packets.push_back(self.guest.received);
            }
            Op::Shutdown => {
                self.guest.end_seen |= header.flags & Shutdown::SEND.bits() != 0;
                if header.flags == Shutdown::all().bits() {
                    self.guest.due.push_back((Op::Reset, 0));
                }
            }
            Op::Reset => self.guest.over = true,
            Op::CreditUpdate => {}
        }
    }
}

/// Lets everybody do something, in random order, until all is over.
fn run(plans: &[Plan], seed: u64) {
    let mut random = Random(seed);
    let mut now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    let mut pairs = Vec::new();
    for (n, plan) in (0..).zip(plans) {
        let mut guest = Guest::default();
        let key = if plan.from_guest {
            guest.due.push_back((Op::Request, 0));
            key(80, 1000 + n)
        } else {
            muxer.connect(Port(22 + n), now).unwrap()
        };
        let plan = plan.clone();
        pairs.push(Pair { plan, key, guest, host: Host::default() });
    }
    for turn in 0.. {
        assert!(turn < 2_000_000, "it never ends");
        let mut progress = false;
        for _ in 0..random.below(4) {
            let n = random.below(pairs.len() as u32) as usize;
            if random.below(3) == 0 {
                progress |= pairs[n].guest_reads(&mut random);
            }
            if let Some(header) = pairs[n].guest_packet(&mut random) {
                progress = true;
                host_hears(&mut muxer, &mut pairs, &header, now);
            }
            progress |= host_acts(&mut muxer, &mut pairs[n], &mut random);
        }
        for _ in 0..random.below(4) {
            let Some(next) = muxer.next(now) else { break };
            progress = true;
            let header = match next {
                Packet::Control(header) => header,
                Packet::Data { key, max } => {
                    let pair = pairs.iter_mut().find(|pair| pair.key == key).unwrap();
                    let len = max.min(pair.plan.to_guest - pair.host.sent);
                    if len == 0 {
                        muxer.drained(key);
                        continue;
                    }
                    let len = if random.below(3) == 0 { len } else { 1 + random.below(len) };
                    pair.host.sent += len;
                    muxer.sent(key, len)
                }
            };
            let key = Key { local: header.src.port, peer: header.dst.port };
            pairs.iter_mut().find(|pair| pair.key == key).unwrap().guest_hears(&header);
        }
        if pairs.iter().all(|pair| pair.host.over) && !muxer.has_next() {
            break;
        }
        if !progress && pairs.iter_mut().all(|pair| !pair.is_able(&muxer)) {
            now = muxer.wakes().expect("nobody can do anything: deadlock");
            assert_eq!(muxer.expire(now), None, "given up");
        }
    }
    for pair in &pairs {
        assert_eq!(pair.guest.read.max(pair.guest.received), pair.plan.to_guest);
        assert_eq!(pair.host.taken, pair.plan.to_host);
        assert!(pair.host.end_seen && pair.guest.end_seen);
    }
    assert!(muxer.is_empty());
}

impl Pair {
    fn is_able(&self, muxer: &Muxer) -> bool {
        let guest = &self.guest;
        let free = guest.host_size.min(self.plan.guest_buffer)
            > guest.sent.wrapping_sub(guest.host_forwarded);
        muxer.has_next()
            || (!guest.over && !guest.due.is_empty())
            || guest.read < guest.received
            || self.host.taken < self.host.received
            || (guest.open
                && !guest.over
                && !guest.said_end
                && (free || guest.sent == self.plan.to_host))
            || (self.host.sent == self.plan.to_guest && !self.host.said_end && guest.open)
    }
}

fn host_acts(muxer: &mut Muxer, pair: &mut Pair, random: &mut Random) -> bool {
    let (host, key) = (&mut pair.host, pair.key);
    let mut progress = false;
    let held = host.received - host.taken;
    if held > 0 && random.below(3) == 0 {
        let len = 1 + random.below(held);
        host.taken += len;
        muxer.forwarded(key, len);
        progress = true;
    }
    if !pair.guest.open || host.over {
        return progress;
    }
    if host.sent < pair.plan.to_guest {
        muxer.readable(key);
    } else if !host.said_end {
        host.said_end = true;
        muxer.shutdown(key, Shutdown::SEND);
        progress = true;
    }
    progress
}

fn host_hears(muxer: &mut Muxer, pairs: &mut [Pair], header: &Header, now: Instant) {
    let event = muxer.receive(header, now);
    let key = Key { local: header.dst.port, peer: header.src.port };
    let pair = pairs.iter_mut().find(|pair| pair.key == key).unwrap();
    match event {
        Event::Requested(key) => muxer.accept(key),
        Event::Established(_) => pair.guest.open = true,
        Event::Data(_) => {
            pair.host.received += header.len;
            let buffer = muxer.permit(key).unwrap().buffer();
            assert!(pair.host.received - pair.host.taken <= buffer);
        }
        Event::Shutdown(_) => pair.host.end_seen = true,
        Event::Ended(_) => {
            assert!(pair.host.said_end && pair.host.end_seen, "ended too early");
            pair.host.over = true;
            pair.host.taken = pair.host.received;
        }
        Event::Nothing => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn all_data_arrive_and_all_connections_end_whatever_the_order_of_turns(
        plans in proptest::collection::vec(plan(), 1..6),
        seed in any::<u64>(),
    ) {
        run(&plans, seed);
    }
}
