//! Listing directories, small, large and changing.

use crate::test_utils::{Guest, Host, Test};
use protocol::listing::Listing;
use protocol::{Errno, HandleId, NodeId, Request};
use std::collections::BTreeMap;

/// How often each name came, and its node where it came with one.
type Listed = BTreeMap<Vec<u8>, (u32, Option<NodeId>)>;

/// The whole directory, in replies of `size` bytes.
fn list(
    guest: &Guest,
    handle: HandleId,
    size: u32,
    plus: bool,
    mut between: impl FnMut(usize),
) -> Result<Listed, Box<dyn std::error::Error>> {
    let (mut cookie, mut names) = (0, Listed::new());
    for round in 0.. {
        let data = guest.data(&Request::ReadDir { handle, cookie, size, plus })?;
        if data.is_empty() {
            break;
        }
        for entry in Listing::new(&data) {
            let entry = entry?;
            cookie = entry.cookie;
            let seen = names.entry(entry.name.to_vec()).or_default();
            seen.0 += 1;
            seen.1 = entry.entry.map(|entry| entry.node);
        }
        between(round);
    }
    Ok(names)
}

#[test]
fn a_listing_has_everything_once_with_and_without_attributes() -> Test {
    let host = Host::new();
    for number in 0..500 {
        std::fs::write(host.path(&format!("file {number}")), "x")?;
    }
    let guest = host.guest();
    let handle = guest.open_dir(guest.root)?;
    for (plus, size) in [(false, 300), (true, 400), (true, 1 << 20)] {
        let names = list(&guest, handle, size, plus, |_| {})?;
        assert_eq!(names.len(), 502, "with . and ..");
        for (name, (times, node)) in &names {
            let dots = matches!(name.as_slice(), b"." | b"..");
            assert_eq!((*times, node.is_some()), (1, plus && !dots), "{}", name.escape_ascii());
        }
    }
    let too_small = guest.data(&Request::ReadDir { handle, cookie: 0, size: 10, plus: false });
    assert_eq!(too_small, Err(Errno::EINVAL));
    Ok(())
}

#[test]
fn a_listing_counts_just_the_lookups_that_it_tells() -> Test {
    let host = Host::new();
    for number in 0..100 {
        std::fs::write(host.path(&format!("{number}")), "x")?;
    }
    let guest = host.guest();
    let handle = guest.open_dir(guest.root)?;
    let names = list(&guest, handle, 700, true, |_| {})?;
    for node in names.values().filter_map(|(_, node)| *node) {
        guest.session.give_back(node, 1);
        assert!(!guest.session.knows(node));
    }
    assert_eq!(host.server.status().agents[0].nodes, 1);
    Ok(())
}

#[test]
fn a_large_directory_is_listed_while_it_changes() -> Test {
    const STAY: usize = 20_000;
    let host = Host::new();
    for number in 0..STAY {
        std::fs::File::create(host.path(&format!("stays {number}")))?;
    }
    let guest = host.guest();
    let handle = guest.open_dir(guest.root)?;
    let change = |round: usize| {
        let _ = std::fs::write(host.path(&format!("comes {round}")), "x");
        let _ = std::fs::remove_file(host.path(&format!("comes {}", round / 2)));
    };
    let names = list(&guest, handle, 16 * 1024, false, change)?;
    let stayed: Vec<_> = names.iter().filter(|(name, _)| name.starts_with(b"stays")).collect();
    assert_eq!(stayed.len(), STAY);
    assert!(names.values().all(|(times, _)| *times == 1));
    Ok(())
}

#[test]
fn a_listing_goes_on_from_any_cookie() -> Test {
    let host = Host::new();
    for number in 0..50 {
        std::fs::write(host.path(&format!("{number}")), "x")?;
    }
    let guest = host.guest();
    let handle = guest.open_dir(guest.root)?;
    let whole = guest.data(&Request::ReadDir { handle, cookie: 0, size: 1 << 16, plus: false })?;
    let entries = Listing::new(&whole).collect::<Result<Vec<_>, _>>()?;
    for (at, entry) in entries.iter().enumerate().step_by(7) {
        let rest = Request::ReadDir { handle, cookie: entry.cookie, size: 1 << 16, plus: false };
        let rest = guest.data(&rest)?;
        let rest = Listing::new(&rest).collect::<Result<Vec<_>, _>>()?;
        assert_eq!(rest, entries[at + 1..]);
    }
    Ok(())
}

#[test]
fn the_directory_above_the_export_is_not_told() -> Test {
    use std::os::unix::fs::MetadataExt;
    let host = Host::new();
    let guest = host.guest();
    let handle = guest.open_dir(guest.root)?;
    let data = guest.data(&Request::ReadDir { handle, cookie: 0, size: 4096, plus: true })?;
    let root = std::fs::metadata(host.path(""))?.ino();
    for entry in Listing::new(&data) {
        assert_eq!(entry?.ino, root);
    }
    Ok(())
}
