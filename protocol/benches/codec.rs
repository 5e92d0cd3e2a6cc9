//! Messages to bytes and back: time, and how often memory is allocated for it.
//!
//! `cargo bench -p osxfs-protocol`. Nothing may be allocated for what a busy mount sends and receives
//! all the time; the run fails if something is.

use criterion::Criterion;
use protocol::{
    Attr, Caller, Entry, FrameHeader, HandleId, Name, NodeId, OpenFlags, Payload, Reply, Request,
    Tag,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds in which allocations are counted.
const ROUNDS: usize = 1000;

/// The whole frame of a message, its payload behind it.
fn frame_of(head: &[u8], payload: &[u8]) -> Vec<u8> {
    [head, payload].concat()
}

fn requests(data: &[u8]) -> Vec<(&'static str, Request<'_>)> {
    let name = Name::new(b"some-file-name.txt").expect("a name");
    let (parent, handle) = (NodeId(7), HandleId(9));
    vec![
        ("lookup", Request::Lookup { parent, name }),
        ("getattr", Request::GetAttr { node: parent }),
        ("open", Request::Open { node: parent, flags: OpenFlags::empty() }),
        ("read", Request::Read { handle, offset: 4096, size: 4096 }),
        ("write 4 KiB", Request::Write { handle, offset: 4096, data: Payload(data) }),
        (
            "create",
            Request::Create { parent, name, mode: 0o644, umask: 0o022, flags: OpenFlags::WRONLY },
        ),
    ]
}

fn replies(data: &[u8]) -> Vec<(&'static str, Reply<'_>)> {
    let entry = Entry { node: NodeId(7), attr: Attr::default(), ..Entry::default() };
    vec![
        ("entry", Reply::Entry { entry }),
        ("done", Reply::Done),
        ("data 4 KiB", Reply::Data { data: Payload(data) }),
    ]
}

/// Measures `work` and tells whether it allocates nothing.
fn measure(criterion: &mut Criterion, name: &str, mut work: impl FnMut()) -> bool {
    criterion.bench_function(name, |bencher| bencher.iter(&mut work));
    let region = Region::new(ALLOCATOR);
    (0..ROUNDS).for_each(|_| work());
    let stats = region.change();
    let allocations = stats.allocations + stats.reallocations;
    println!("{name}: {allocations} allocations in {ROUNDS}");
    allocations == 0
}

fn main() -> ExitCode {
    let criterion = &mut Criterion::default().configure_from_args();
    let data = vec![7; 4096];
    let (caller, tag) = (Caller::default(), Tag(5));
    let mut is_free = true;
    let mut head = Vec::with_capacity(64 * 1024);
    for (name, request) in requests(&data) {
        is_free &= measure(criterion, &format!("request/encode/{name}"), || {
            black_box(&request).encode(tag, &caller, &mut head);
        });
        let frame = frame_of(&head, request.payload());
        is_free &= measure(criterion, &format!("request/decode/{name}"), || {
            let (header, body) = frame.split_first_chunk().expect("a header");
            let header = FrameHeader::decode(black_box(header)).expect("a frame");
            black_box(Request::decode(header.opcode, body).expect("a request"));
        });
    }
    for (name, reply) in replies(&data) {
        is_free &= measure(criterion, &format!("reply/encode/{name}"), || {
            black_box(&reply).encode(tag, &mut head);
        });
        let frame = frame_of(&head, reply.payload());
        is_free &= measure(criterion, &format!("reply/decode/{name}"), || {
            let (header, body) = frame.split_first_chunk().expect("a header");
            let header = FrameHeader::decode(black_box(header)).expect("a frame");
            black_box(Reply::decode(header.opcode, body).expect("a reply"));
        });
    }
    criterion.final_summary();
    if is_free { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
