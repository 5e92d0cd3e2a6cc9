//! The control connection of a VM: what is said comes back, in these bytes, within the limits.

use crate::frames::split;
use crate::fuzzed::checks;
use crate::roundtrip::config;
use crate::snapshots::dump;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use protocol::codec::{Argument, DecodeError, ExportName, GuestPath, Payload, Text, Wire};
use protocol::frame::HEADER;
use protocol::guest::{
    GuestMount, Halt, MAX_CHUNK, MAX_START, Order, Outcome, Report, Start, VERSION, WindowSize,
    agree,
};
use protocol::{Tag, Time, limits};

fn argument() -> impl Strategy<Value = Argument<'static>> {
    vec(1..=u8::MAX, 0..40).prop_map(|bytes| Argument::new(bytes.leak()).expect("valid"))
}

fn guest_path() -> impl Strategy<Value = GuestPath<'static>> {
    "/[a-z/.]{0,20}".prop_map(|text| GuestPath::new(text.leak().as_bytes()).expect("valid"))
}

fn text() -> impl Strategy<Value = Text<'static>> {
    "\\PC{0,40}".prop_map(|text| Text(text.leak()))
}

fn time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(sec, nsec)| Time { sec, nsec })
}

fn size() -> impl Strategy<Value = WindowSize> {
    any::<(u16, u16)>().prop_map(|(columns, rows)| WindowSize { columns, rows })
}

fn mount() -> impl Strategy<Value = GuestMount<'static>> {
    ("[a-z]{1,8}", guest_path(), any::<bool>()).prop_map(|(name, point, read_only)| {
        let export = ExportName::new(name.leak().as_bytes()).expect("valid");
        GuestMount { export, point, read_only }
    })
}

fn start() -> impl Strategy<Value = Start<'static>> {
    let lists = (vec(mount(), 0..4), vec(argument(), 0..5), vec(argument(), 0..5));
    (any::<u16>(), time(), lists, guest_path(), option::of(size())).prop_map(
        |(version, now, (mounts, command, environment), directory, terminal)| Start {
            version,
            now,
            mounts,
            command,
            environment,
            directory,
            terminal,
        },
    )
}

fn chunk() -> impl Strategy<Value = Payload<'static>> {
    vec(any::<u8>(), 0..200).prop_map(|bytes| Payload(bytes.leak()))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    any::<(bool, u8)>().prop_map(|(killed, n)| match killed {
        true => Outcome::Signal(n),
        false => Outcome::Status(n),
    })
}

fn order() -> impl Strategy<Value = Order<'static>> {
    prop_oneof![
        start().prop_map(Order::Start),
        chunk().prop_map(Order::Stdin),
        size().prop_map(Order::Resize),
        any::<u8>().prop_map(Order::Signal),
        time().prop_map(Order::Time),
        prop_oneof![Just(Halt::PowerOff), Just(Halt::Restart)].prop_map(Order::Stop),
    ]
}

fn report() -> impl Strategy<Value = Report<'static>> {
    prop_oneof![
        (any::<u16>(), any::<u16>(), text())
            .prop_map(|(min_version, version, name)| Report::Hello { min_version, version, name }),
        Just(Report::Ready),
        chunk().prop_map(Report::Stdout),
        chunk().prop_map(Report::Stderr),
        any::<u32>().prop_map(Report::Taken),
        outcome().prop_map(Report::Exited),
        (text(), text()).prop_map(|(what, why)| Report::Failed { what, why }),
    ]
}

fn order_frame(order: &Order<'_>) -> Vec<u8> {
    let mut out = b"left over".to_vec();
    order.encode(&mut out);
    out.extend_from_slice(order.payload());
    out
}

fn report_frame(report: &Report<'_>) -> Vec<u8> {
    let mut out = b"left over".to_vec();
    report.encode(&mut out);
    out.extend_from_slice(report.payload());
    out
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn every_order_comes_back(order in order()) {
        let frame = order_frame(&order);
        let (header, body) = split(&frame);
        prop_assert_eq!((header.size, header.tag), (frame.len(), Tag::NONE));
        prop_assert_eq!(Order::decode(header.opcode, body), Ok(order));
        prop_assert_eq!(Report::decode(header.opcode, body), Err(DecodeError::UnknownOpcode(header.opcode)));
    }

    #[test]
    fn every_report_comes_back(report in report()) {
        let frame = report_frame(&report);
        let (header, body) = split(&frame);
        prop_assert_eq!((header.size, header.tag), (frame.len(), Tag::NONE));
        prop_assert_eq!(Report::decode(header.opcode, body), Ok(report));
        prop_assert_eq!(Order::decode(header.opcode, body), Err(DecodeError::UnknownOpcode(header.opcode)));
    }

    #[test]
    fn a_changed_byte_of_the_control_connection_harms_nothing(
        frame in prop_oneof![order().prop_map(|o| order_frame(&o)), report().prop_map(|r| report_frame(&r))],
        at: Index,
        to: u8,
    ) {
        // The checks take opcode and body.
        let mut data = [&frame[4..6], &frame[HEADER..]].concat();
        checks::guest(&data);
        let at = at.index(data.len());
        data[at] = to;
        checks::guest(&data);
    }
}

fn example<'a>(command: Vec<Argument<'a>>) -> Start<'a> {
    let path = |text: &'static str| GuestPath::new(text.as_bytes()).expect("valid");
    Start {
        version: 1,
        now: Time { sec: 0x6000_0000, nsec: 5 },
        mounts: vec![GuestMount {
            export: ExportName::new(b"code").expect("valid"),
            point: path("/src"),
            read_only: true,
        }],
        command,
        environment: vec![Argument::new(b"A=b").expect("valid")],
        directory: path("/"),
        terminal: Some(WindowSize { columns: 80, rows: 24 }),
    }
}

#[test]
fn the_control_connection_has_these_bytes() {
    let command = ["sh", "-c", ""].map(|text| Argument::new(text.as_bytes()).expect("valid"));
    let orders = [
        Order::Start(example(command.to_vec())),
        Order::Stdin(Payload(b"in")),
        Order::Resize(WindowSize { columns: 0x0102, rows: 0x0304 }),
        Order::Signal(15),
        Order::Time(Time { sec: 7, nsec: 9 }),
        Order::Stop(Halt::Restart),
    ];
    let reports = [
        Report::Hello { min_version: 1, version: 2, name: Text("agent") },
        Report::Ready,
        Report::Stdout(Payload(b"out")),
        Report::Stderr(Payload(b"err")),
        Report::Taken(0x0506),
        Report::Exited(Outcome::Status(3)),
        Report::Exited(Outcome::Signal(9)),
        Report::Failed { what: Text("mounting"), why: Text("no") },
    ];
    let all: Vec<String> = orders
        .iter()
        .map(order_frame)
        .chain(reports.iter().map(report_frame))
        .map(|frame| dump(&frame))
        .collect();
    insta::assert_snapshot!("control", all.join("\n"));
}

#[test]
fn a_command_may_be_as_long_as_a_frame_and_no_longer() {
    let long = vec![b'x'; limits::MAX_ARGUMENT];
    let many = |count| vec![Argument::new(&long).expect("valid"); count];
    assert_eq!(example(many(8)).check(), Ok(()));
    let error = example(many(9)).check().expect_err("too long");
    assert!(matches!(error, DecodeError::Limit { got, limit: MAX_START, .. } if got > MAX_START));
    let many = vec![Argument::new(b"").expect("valid"); limits::MAX_ARGUMENTS + 1];
    let limit = limits::MAX_ARGUMENTS;
    let error = DecodeError::Limit { what: "arguments", got: limit + 1, limit };
    assert_eq!(example(many).check(), Err(error));
    assert!(Argument::new(&[b'x'; limits::MAX_ARGUMENT + 1]).is_err());
    assert_eq!(Argument::new(b"a\0"), Err(DecodeError::BadName));
}

#[test]
fn input_and_output_come_in_chunks_of_limited_size() {
    let most = vec![0; MAX_CHUNK + 1];
    for opcode in [0xc003, 0xc004] {
        assert!(Report::decode(opcode, &most[1..]).is_ok());
        assert!(matches!(Report::decode(opcode, &most), Err(DecodeError::Limit { .. })));
    }
    assert!(Order::decode(0x4002, &most[1..]).is_ok());
    assert!(matches!(Order::decode(0x4002, &most), Err(DecodeError::Limit { .. })));
}

#[test]
fn a_path_in_the_guest_is_absolute() {
    for bad in ["", "a", "./a", "/a\0b"] {
        assert_eq!(GuestPath::new(bad.as_bytes()), Err(DecodeError::BadName), "{bad:?}");
    }
    let mut body = Vec::new();
    GuestPath::new(b"/").expect("valid").put(&mut body);
    assert_eq!(body, [1, 0, 0, 0, b'/']);
}

#[test]
fn the_highest_common_version_is_spoken() {
    assert_eq!(agree(1, 1), Some(1));
    assert_eq!(agree(1, 9), Some(VERSION));
    assert_eq!(agree(VERSION + 1, 9), None);
}

#[test]
fn a_hello_of_a_later_version_may_say_more() {
    let hello = Report::Hello { min_version: 1, version: 2, name: Text("a") };
    let frame = [report_frame(&hello), b"more".to_vec()].concat();
    assert_eq!(Report::decode(0xc001, &frame[HEADER..]), Ok(hello));
    assert_eq!(Report::decode(0xc002, b"x"), Err(DecodeError::Trailing(1)));
}

#[test]
fn a_command_that_was_killed_has_the_exit_status_of_shells() {
    assert_eq!(Outcome::Status(3).exit_status(), 3);
    assert_eq!(Outcome::Signal(9).exit_status(), 137);
    assert_eq!(Outcome::Signal(255).exit_status(), 255);
}
