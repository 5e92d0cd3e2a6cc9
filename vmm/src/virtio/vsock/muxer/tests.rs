//! Connections of both sides, by packets alone: no guest, no sockets.

use super::*;
use crate::virtio::vsock::budget::MAX_CONNECTIONS;
use crate::virtio::vsock::connection::{LINGER, REQUEST_TIMEOUT};
use proptest::prelude::*;
use std::time::Duration;

mod exchange;

pub(in crate::virtio::vsock) const GUEST: Cid = Cid(3);
/// What the guest says that it takes ahead.
pub(in crate::virtio::vsock) const BUF_ALLOC: u32 = 256 << 10;

/// A packet of the guest.
pub(in crate::virtio::vsock) fn packet(op: Op, local: u32, peer: u32) -> Header {
    Header {
        src: Address { cid: GUEST, port: Port(peer) },
        dst: Address { cid: Cid::HOST, port: Port(local) },
        len: 0,
        kind: STREAM,
        op: op as u16,
        flags: 0,
        buf_alloc: BUF_ALLOC,
        fwd_cnt: 0,
    }
}

fn key(local: u32, peer: u32) -> Key {
    Key { local: Port(local), peer: Port(peer) }
}

fn control(muxer: &mut Muxer, now: Instant) -> Option<(Op, Key, u32)> {
    match muxer.next(now)? {
        Packet::Control(header) => {
            let key = Key { local: header.src.port, peer: header.dst.port };
            Some((Op::from_number(header.op).unwrap(), key, header.flags))
        }
        Packet::Data { .. } => panic!("data"),
    }
}

/// A muxer with an established connection `key(80, 1000)`.
fn established(now: Instant) -> Muxer {
    let mut muxer = Muxer::new(GUEST);
    let request = packet(Op::Request, 80, 1000);
    assert_eq!(muxer.receive(&request, now), Event::Requested(key(80, 1000)));
    muxer.accept(key(80, 1000));
    assert_eq!(control(&mut muxer, now), Some((Op::Response, key(80, 1000), 0)));
    muxer
}

#[test]
fn a_port_that_nobody_listens_on_is_answered_by_a_reset() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    muxer.receive(&packet(Op::Request, 80, 1000), now);
    muxer.refuse(key(80, 1000));
    assert_eq!(control(&mut muxer, now), Some((Op::Reset, key(80, 1000), 0)));
    assert!(muxer.is_empty() && !muxer.has_next());
}

#[test]
fn whatever_belongs_to_no_connection_is_answered_by_a_reset_but_a_reset_by_nothing() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    for op in [Op::Response, Op::Data, Op::Shutdown, Op::CreditUpdate, Op::CreditRequest] {
        assert_eq!(muxer.receive(&packet(op, 1, 2), now), Event::Nothing);
        assert_eq!(control(&mut muxer, now), Some((Op::Reset, key(1, 2), 0)), "{op:?}");
    }
    let nonsense = Header { op: 77, ..packet(Op::Data, 1, 2) };
    muxer.receive(&nonsense, now);
    assert_eq!(control(&mut muxer, now), Some((Op::Reset, key(1, 2), 0)));
    muxer.receive(&packet(Op::Reset, 1, 2), now);
    assert_eq!(control(&mut muxer, now), None);
}

#[test]
fn another_kind_of_socket_and_another_machine_are_refused_in_their_own_name() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    muxer.receive(&Header { kind: 2, ..packet(Op::Request, 1, 2) }, now);
    let Some(Packet::Control(answer)) = muxer.next(now) else { panic!() };
    assert_eq!((answer.kind, answer.op), (2, Op::Reset as u16));
    let elsewhere = Address { cid: Cid(9), port: Port(1) };
    muxer.receive(&Header { dst: elsewhere, ..packet(Op::Request, 1, 2) }, now);
    let Some(Packet::Control(answer)) = muxer.next(now) else { panic!() };
    assert_eq!((answer.src, answer.op), (elsewhere, Op::Reset as u16));
    muxer.receive(&Header { src: elsewhere, ..packet(Op::Request, 1, 2) }, now);
    assert!(muxer.next(now).is_none() && muxer.is_empty());
}

#[test]
fn a_guest_that_breaks_the_rules_loses_the_connection_and_no_other() {
    let now = Instant::now();
    let whole = Arc::new(Budget::default()).permit().unwrap().buffer();
    let wrong = [
        packet(Op::Request, 80, 1000),
        packet(Op::Response, 80, 1000),
        Header { op: 99, ..packet(Op::Data, 80, 1000) },
        Header { op: 0, ..packet(Op::Data, 80, 1000) },
        Header { len: whole + 1, ..packet(Op::Data, 80, 1000) },
    ];
    for header in wrong {
        let mut muxer = established(now);
        muxer.receive(&packet(Op::Request, 81, 1001), now);
        muxer.accept(key(81, 1001));
        assert_eq!(muxer.receive(&header, now), Event::Ended(key(80, 1000)), "{header:?}");
        assert_eq!(control(&mut muxer, now), Some((Op::Reset, key(80, 1000), 0)));
        assert_eq!(control(&mut muxer, now), Some((Op::Response, key(81, 1001), 0)));
        assert_eq!(muxer.len(), 1);
    }
}

#[test]
fn data_after_the_guest_said_that_it_sends_no_more_breaks_the_rules() {
    let now = Instant::now();
    let mut muxer = established(now);
    let shutdown = Header { flags: Shutdown::SEND.bits(), ..packet(Op::Shutdown, 80, 1000) };
    assert_eq!(muxer.receive(&shutdown, now), Event::Shutdown(key(80, 1000)));
    let data = Header { len: 1, ..packet(Op::Data, 80, 1000) };
    assert_eq!(muxer.receive(&data, now), Event::Ended(key(80, 1000)));
}

#[test]
fn a_guest_that_half_closed_still_gets_everything_and_then_the_end() {
    let now = Instant::now();
    let mut muxer = established(now);
    let shutdown = Header { flags: Shutdown::SEND.bits(), ..packet(Op::Shutdown, 80, 1000) };
    muxer.receive(&shutdown, now);
    muxer.readable(key(80, 1000));
    let Some(Packet::Data { max, .. }) = muxer.next(now) else { panic!() };
    assert_eq!(muxer.sent(key(80, 1000), max).len, max);
    muxer.drained(key(80, 1000));
    muxer.shutdown(key(80, 1000), Shutdown::SEND);
    let both = Shutdown::all().bits();
    assert_eq!(control(&mut muxer, now), Some((Op::Shutdown, key(80, 1000), both)));
    assert_eq!(muxer.receive(&packet(Op::Reset, 80, 1000), now), Event::Ended(key(80, 1000)));
    assert!(muxer.is_empty() && muxer.wakes().is_none());
}

#[test]
fn a_host_that_half_closed_still_gets_what_the_guest_sends() {
    let now = Instant::now();
    let mut muxer = established(now);
    muxer.shutdown(key(80, 1000), Shutdown::SEND);
    let send = Shutdown::SEND.bits();
    assert_eq!(control(&mut muxer, now), Some((Op::Shutdown, key(80, 1000), send)));
    assert_eq!(muxer.wakes(), None, "half-closed may last for ever");
    let data = Header { len: 100, ..packet(Op::Data, 80, 1000) };
    assert_eq!(muxer.receive(&data, now), Event::Data(key(80, 1000)));
    muxer.forwarded(key(80, 1000), 100);
    let both = Shutdown::all().bits();
    let shutdown = Header { flags: both, ..packet(Op::Shutdown, 80, 1000) };
    assert_eq!(muxer.receive(&shutdown, now), Event::Ended(key(80, 1000)));
    assert_eq!(control(&mut muxer, now), Some((Op::Reset, key(80, 1000), 0)));
}

#[test]
fn data_on_its_way_when_the_host_left_is_dropped_without_breaking_anything() {
    let now = Instant::now();
    let mut muxer = established(now);
    muxer.shutdown(key(80, 1000), Shutdown::RECEIVE);
    let buffer = muxer.permit(key(80, 1000)).unwrap().buffer();
    for _ in 0..3 {
        let data = Header { len: buffer / 2, ..packet(Op::Data, 80, 1000) };
        assert_eq!(muxer.receive(&data, now), Event::Nothing);
    }
    assert_eq!(muxer.len(), 1);
}

#[test]
fn a_guest_that_does_not_answer_is_reset_when_its_time_is_up() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    let asked = muxer.connect(Port(22), now).unwrap();
    assert_eq!(control(&mut muxer, now), Some((Op::Request, asked, 0)));
    assert_eq!(muxer.wakes(), Some(now + REQUEST_TIMEOUT));
    assert_eq!(muxer.expire(now + REQUEST_TIMEOUT / 2), None);
    assert_eq!(muxer.expire(now + REQUEST_TIMEOUT), Some(asked));
    assert_eq!(control(&mut muxer, now), Some((Op::Reset, asked, 0)));

    let mut muxer = established(now);
    muxer.shutdown(key(80, 1000), Shutdown::all());
    let both = Shutdown::all().bits();
    assert_eq!(control(&mut muxer, now), Some((Op::Shutdown, key(80, 1000), both)));
    assert_eq!(muxer.wakes(), Some(now + LINGER));
    assert_eq!(muxer.expire(now + LINGER), Some(key(80, 1000)));
    assert_eq!(control(&mut muxer, now), Some((Op::Reset, key(80, 1000), 0)));
    assert_eq!((muxer.wakes(), muxer.len()), (None, 0));
}

#[test]
fn an_answer_in_time_ends_the_waiting() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    let asked = muxer.connect(Port(22), now).unwrap();
    muxer.next(now);
    let response = packet(Op::Response, asked.local.0, 22);
    assert_eq!(muxer.receive(&response, now), Event::Established(asked));
    assert_eq!((muxer.wakes(), muxer.len()), (None, 1));
}

#[test]
fn connections_are_bounded() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    for peer in 0..2 * MAX_CONNECTIONS as u32 {
        muxer.receive(&packet(Op::Request, 80, peer), now);
        muxer.accept(key(80, peer));
        muxer.next(now);
    }
    assert_eq!(muxer.len(), MAX_CONNECTIONS);
    assert!(muxer.connect(Port(1), now).is_none());
    muxer.receive(&packet(Op::Reset, 80, 0), now);
    assert!(muxer.connect(Port(1), now).is_some());
}

#[test]
fn what_is_held_of_a_connection_counts_when_it_is_over() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    let mut held = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        muxer.receive(&packet(Op::Request, 80, 1000), now);
        held.extend(muxer.permit(key(80, 1000)));
        muxer.receive(&packet(Op::Reset, 80, 1000), now);
        muxer.next(now);
    }
    assert_eq!((muxer.len(), held.len()), (0, MAX_CONNECTIONS));
    muxer.clear();
    assert!(muxer.connect(Port(1), now).is_none());
    held.pop();
    assert!(muxer.connect(Port(1), now).is_some());
}

#[test]
fn a_guest_that_takes_no_resets_is_not_listened_to_until_it_does() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    let mut heard = 0;
    while !muxer.is_congested() {
        muxer.receive(&packet(Op::Data, 1, 2), now);
        heard += 1;
    }
    assert!(heard <= 1000);
    assert!(muxer.next(now).is_some());
    assert!(!muxer.is_congested());
}

#[test]
fn a_guest_that_comes_and_goes_and_takes_nothing_leaves_nothing_behind() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    for _ in 0..10_000 {
        muxer.receive(&packet(Op::Request, 80, 1000), now);
        muxer.accept(key(80, 1000));
        muxer.receive(&packet(Op::Reset, 80, 1000), now);
    }
    assert_eq!((muxer.line.len(), muxer.timers.len(), muxer.resets.len()), (0, 0, 0));
}

#[test]
fn every_connection_has_its_turn() {
    let now = Instant::now();
    let mut muxer = Muxer::new(GUEST);
    for peer in 0..4 {
        muxer.receive(&packet(Op::Request, 80, peer), now);
        muxer.accept(key(80, peer));
        muxer.next(now);
    }
    (0..4).for_each(|peer| muxer.readable(key(80, peer)));
    let mut order = Vec::new();
    for _ in 0..12 {
        let Some(Packet::Data { key, .. }) = muxer.next(now) else { panic!() };
        muxer.sent(key, 10);
        order.push(key.peer.0);
    }
    assert_eq!(order, [0, 1, 2, 3].repeat(3));
}

#[test]
fn what_is_due_stays_due_until_there_is_a_place_for_it() {
    let now = Instant::now();
    let mut muxer = established(now);
    let buffer = muxer.permit(key(80, 1000)).unwrap().buffer();
    let data = Header { len: buffer, buf_alloc: 8 << 20, ..packet(Op::Data, 80, 1000) };
    muxer.receive(&data, now);
    muxer.forwarded(key(80, 1000), buffer);
    // As long as the guest has no buffer, nobody asks.
    assert!(muxer.has_next());
    muxer.receive(&packet(Op::CreditRequest, 80, 1000), now);
    let Some(Packet::Control(update)) = muxer.next(now) else { panic!() };
    assert_eq!((update.op, update.fwd_cnt), (Op::CreditUpdate as u16, buffer));
    assert!(muxer.next(now).is_none());
}

#[test]
fn a_guest_without_room_is_asked_and_asked_again_ever_more_slowly() {
    let now = Instant::now();
    let mut muxer = established(now);
    muxer.receive(&Header { buf_alloc: 4096, ..packet(Op::CreditUpdate, 80, 1000) }, now);
    muxer.readable(key(80, 1000));
    let mut sent = 0;
    while let Some(Packet::Data { key, max }) = muxer.next(now) {
        muxer.sent(key, max);
        sent += max;
    }
    assert!(sent <= 4096);
    // The loop above took the first question out of the line.
    let mut now = now;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let none = Header { buf_alloc: 4096, ..packet(Op::CreditUpdate, 80, 1000) };
        muxer.receive(&none, now);
        assert!(muxer.next(now).is_none());
        let at = muxer.wakes().unwrap();
        pauses.push(at - now);
        now = at;
        assert_eq!(muxer.expire(now), None);
        assert_eq!(control(&mut muxer, now), Some((Op::CreditRequest, key(80, 1000), 0)));
        assert!(muxer.next(now).is_none(), "asked once");
    }
    assert!(pauses.is_sorted() && pauses[0] < pauses[3]);
    assert!(pauses[9] < Duration::from_secs(1));
    let some = Header { buf_alloc: 4096, fwd_cnt: sent, ..packet(Op::CreditUpdate, 80, 1000) };
    muxer.receive(&some, now);
    assert!(matches!(muxer.next(now), Some(Packet::Data { .. })));
}

proptest! {
    #[test]
    fn no_packet_of_a_guest_breaks_anything(
        packets in proptest::collection::vec(
            (0_u64..5, 0_u64..4, 0_u32..3, 0_u32..3, 0_u32..80_000, 0_u16..3, 0_u16..9, 0_u32..5,
             any::<u32>(), any::<u32>(), 0_u8..8),
            0..200,
        ),
    ) {
        let mut now = Instant::now();
        let mut muxer = Muxer::new(GUEST);
        for (src, dst, local, peer, len, kind, op, flags, buf_alloc, fwd_cnt, act) in packets {
            let header = Header {
                src: Address { cid: Cid(src), port: Port(peer) },
                dst: Address { cid: Cid(dst), port: Port(local) },
                len, kind, op, flags, buf_alloc, fwd_cnt,
            };
            let key = key(local, peer);
            match (muxer.receive(&header, now), act) {
                (Event::Requested(key), 0) => muxer.refuse(key),
                (Event::Requested(key), _) => muxer.accept(key),
                (Event::Data(key), 0..4) => muxer.forwarded(key, len),
                (_, 1) => muxer.readable(key),
                (_, 2) => muxer.shutdown(key, Shutdown::SEND),
                (_, 3) => muxer.shutdown(key, Shutdown::RECEIVE),
                (_, 4) => now += Duration::from_secs(3),
                (_, 5) => { _ = muxer.connect(Port(peer), now); }
                _ => {}
            }
            while muxer.expire(now).is_some() {}
            for _ in 0..act {
                if let Some(Packet::Data { key, max }) = muxer.next(now) {
                    prop_assert!(max > 0 && max <= 64 << 10);
                    muxer.sent(key, max);
                }
            }
            prop_assert!(muxer.len() <= 200);
        }
    }
}
