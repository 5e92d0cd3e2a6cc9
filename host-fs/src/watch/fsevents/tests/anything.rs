//! Any stream at all.

use super::*;
use proptest::prelude::*;

const DIRS: [&str; 6] = ["/r", "/r/d", "/r/d/deep", "/r/e", "/r/unwatched", "/r/d/deep/d"];

fn any_event() -> impl Strategy<Value = Event> {
    let there = prop_oneof![
        3 => Just(There::Nothing),
        4 => (101..110u64).prop_map(|file| There::File(FileId(file))),
        1 => Just(There::Unknown),
    ];
    let flags = prop_oneof![
        3 => any::<u32>().prop_map(|bits| Flags::from_bits_truncate(bits & bits.rotate_left(7))),
        2 => Just(Flags::RENAMED | Flags::IS_DIR),
        1 => Just(Flags::RENAMED | Flags::CREATED),
        1 => Just(Flags::REMOVED | Flags::IS_DIR),
    ];
    let path = (0..DIRS.len(), prop::sample::select(vec!["", "/d", "/deep", "/e", "/f"]));
    let file = prop::option::weighted(0.9, (101..110u64).prop_map(FileId));
    (path, flags, 90..130u64, file, there).prop_map(|((dir, name), flags, id, file, there)| {
        let path = [DIRS[dir], name].concat().into_bytes().into();
        Event { path, flags, id: EventId(id), file, there }
    })
}

/// Whether a report makes the session look again at a name in a directory.
fn covers(report: &Report, key: WatchKey, name: &[u8]) -> bool {
    match report {
        Report::Hint(hint) => hint.dir == key && hint.name.as_deref() == Some(name),
        Report::Ended(ended) => *ended == key,
        Report::Subtree(_) | Report::Overflow => true,
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn each_event_in_a_watched_directory_is_reported(
        batches in prop::collection::vec(prop::collection::vec(any_event(), 1..8), 1..4),
    ) {
        let mut scene = Scene::new();
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        let (mut has_wrapped, mut before) = (false, Vec::new());
        for batch in batches {
            // Whether a number is later than another is not known across a wrap.
            has_wrapped |= batch.iter().any(|event| event.flags.contains(Flags::EVENT_IDS_WRAPPED));
            for event in batch.iter().filter(|_| !has_wrapped) {
                // Its directory is another by now.
                let was_moved = batch.iter().chain(&before).any(|other| {
                    other.flags.contains(Flags::RENAMED)
                        && other.id < event.id
                        && other.path != event.path
                        && is_within(&event.path, &other.path)
                });
                if was_moved || event.flags.intersects(Flags::LOST | Flags::HISTORY_DONE) {
                    continue;
                }
                let held = scene.hints.watched.holding(&event.path, event.id);
                if let Some((watches, name)) = held.filter(|_| event.flags.intersects(Flags::HAPPENED)) {
                    let counting = watches.iter().filter(|watch| watch.counts(event.id));
                    let said = counting.map(|watch| (watch.key, Box::<[u8]>::from(name), event.clone()));
                    expected.extend(said);
                }
            }
            before = batch.clone();
            if scene.take(batch, &mut out).is_some() {
                // All comes again.
                out.push(Report::Overflow);
                break;
            }
        }
        scene.hints.flush(&mut out);
        prop_assert!(!scene.hints.is_holding());
        for (key, name, event) in expected {
            prop_assert!(
                out.iter().any(|report| covers(report, key, &name)),
                "{event:?} in {key:?} was lost: {out:#?}"
            );
        }
    }

    #[test]
    fn of_a_name_that_is_gone_the_last_hint_is_its_end(
        mut events in prop::collection::vec(any_event(), 1..6),
        there in prop::option::of(101..110u64),
    ) {
        let there = there.map_or(There::Nothing, |file| There::File(FileId(file)));
        for event in &mut events {
            event.path = (*b"/r/f").into();
            event.flags = (event.flags & Flags::HAPPENED) - Flags::CLONED;
            event.flags |= Flags::MODIFIED;
            (event.id, event.there) = (EventId(101), there);
        }
        // If the last event does not tell how the name ended, another will.
        let ended = Flags::REMOVED | Flags::RENAMED;
        let told_gone = events.last().is_some_and(|event| event.flags.intersects(ended));
        let (mut scene, mut out) = (Scene::new(), Vec::new());
        scene.take(events, &mut out);
        scene.hints.flush(&mut out);
        let begins = Kinds::CREATE | Kinds::MOVED_TO;
        let ends = Kinds::DELETE | Kinds::MOVED_FROM;
        let last = out.iter().rev().find_map(|report| match report {
            Report::Hint(hint) if hint.kinds.intersects(begins | ends) => Some(hint.kinds),
            _ => None,
        });
        match there {
            There::Nothing if told_gone => prop_assert!(last.unwrap().intersects(ends), "{out:#?}"),
            There::Nothing => {}
            _ => prop_assert!(last.is_none_or(|kinds| kinds.intersects(begins)), "{out:#?}"),
        }
    }
}
