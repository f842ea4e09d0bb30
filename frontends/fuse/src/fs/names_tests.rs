//! The listings against a plain map, and when one is asked for.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap as Map;

const DIRECTORY: FileId = FileId(7);

fn attr(file_id: u64, version: u64, valid_for_ms: u64) -> Attr {
    Attr {
        file_id,
        version,
        size: 1,
        mtime_ms: 0,
        block_bytes: 1,
        page_bytes: 1,
        mode: 0,
        uid: 0,
        gid: 0,
        nlink: 1,
        mount_id: 1,
        kind: KIND_FILE,
        valid_for_ms,
    }
}

fn entries(range: std::ops::Range<u64>, valid_for_ms: u64) -> Arc<Vec<Entry>> {
    let entry = |id: u64| Entry { name: format!("f{id:04}").into_bytes(), attr: attr(id, 1, valid_for_ms) };
    Arc::new(range.map(entry).collect())
}

fn name(id: u64) -> Vec<u8> {
    format!("f{id:04}").into_bytes()
}

fn names() -> Names {
    Names::new(Duration::from_secs(60))
}

fn found(names: &Names, id: u64) -> Option<u64> {
    names.find(DIRECTORY, &name(id)).map(|(attr, _)| attr.file_id)
}

#[test]
fn names_are_found_as_long_as_the_master_allows() {
    let names = names();
    let asked = Instant::now();
    names.put(DIRECTORY, b"", entries(0..100, 600), false, asked);
    assert_eq!((found(&names, 0), found(&names, 99), found(&names, 100)), (Some(0), Some(99), None));
    assert_eq!(names.find(DIRECTORY, &name(5)).map(|(_, when)| when), Some(asked));
    assert!(names.find(FileId(8), &name(5)).is_none() && names.find(DIRECTORY, b"").is_none());
    std::thread::sleep(Duration::from_millis(620));
    assert_eq!(found(&names, 0), None);
    let short = Names::new(Duration::from_millis(20));
    short.put(DIRECTORY, b"", entries(0..10, u64::MAX), true, Instant::now());
    assert_eq!(found(&short, 3), Some(3));
    std::thread::sleep(Duration::from_millis(25));
    assert_eq!(found(&short, 3), None);
}

#[test]
fn what_was_asked_for_before_a_change_is_not_taken_in_after_it() {
    let names = names();
    let asked = Instant::now();
    names.put(DIRECTORY, b"", entries(0..10, 60_000), true, asked);
    names.forget(DIRECTORY);
    assert_eq!(found(&names, 1), None);
    names.put(DIRECTORY, b"", entries(0..10, 60_000), true, asked);
    assert_eq!(found(&names, 1), None);
    names.put(DIRECTORY, b"", entries(0..10, 60_000), true, Instant::now());
    assert_eq!(found(&names, 1), Some(1));
}

#[test]
fn followers_are_in_order_across_parts_and_only_of_the_same_content() {
    let names = names();
    let now = Instant::now();
    names.put(DIRECTORY, b"", entries(0..10, 60_000), false, now);
    names.put(DIRECTORY, &name(9), entries(10..15, 60_000), true, now);
    let ids = |id: u64, version: u64, count| {
        let found = names.following(DIRECTORY, &name(id), (FileId(id), Version(version)), count);
        found.into_iter().map(|(file, _)| file.0).collect::<Vec<_>>()
    };
    assert_eq!(ids(8, 1, 4), [9, 10, 11, 12]);
    assert_eq!(ids(12, 1, 9), [13, 14]);
    assert!(ids(14, 1, 3).is_empty() && ids(8, 2, 3).is_empty() && ids(20, 1, 3).is_empty());
}

#[test]
fn a_listing_is_asked_for_after_some_misses_and_at_once_where_a_walk_goes_on() {
    let names = names();
    let miss = |id: u64| names.missed(DIRECTORY, &name(id), 60_000);
    assert!((1..MISSES_FIRST).all(|_| miss(50).is_none()));
    assert_eq!(miss(57).as_deref(), Some(&b"f005"[..]));
    // Nobody asks twice at once.
    assert!((0..MISSES * 2).all(|_| miss(57).is_none()));
    names.put(DIRECTORY, b"f005", entries(50..60, 60_000), false, Instant::now());
    (50..60).for_each(|id| assert_eq!(found(&names, id), Some(id)));
    assert_eq!(miss(60), Some(name(59)));
    names.in_vain(DIRECTORY);
    assert!(names.missed(DIRECTORY, &name(60), 100).is_none());
}

#[test]
fn listings_that_nobody_uses_are_asked_for_ever_more_seldom() {
    let names = names();
    let (mut asked, mut misses) = (0, 0);
    while misses < 20_000 {
        misses += 1;
        if let Some(after) = names.missed(DIRECTORY, &name(misses % 9000), 60_000) {
            asked += 1;
            names.put(DIRECTORY, &after, entries(0..0, 0), false, Instant::now());
            names.in_vain(DIRECTORY);
        }
    }
    assert!(asked < 20, "{asked}");
}

#[test]
fn bounded() {
    let names = names();
    for part in 0..(ENTRIES_MAX as u64 / 1000 + 20) {
        let directory = FileId(part);
        names.put(directory, b"", entries(0..1000, 60_000), true, Instant::now());
    }
    let state = names.state();
    assert!(state.entries <= ENTRIES_MAX);
    let held: usize =
        state.directories.values().flat_map(|listed| listed.parts.values()).map(|part| part.entries.len()).sum();
    assert_eq!(held, state.entries);
    assert!(state.directories[&FileId(0)].parts.is_empty());
}

proptest! {
    /// Parts of every shape and order: what is found is what was put last over that name, or nothing; never older.
    #[test]
    fn nothing_older_shows(steps in proptest::collection::vec((0u64..60, 1u64..30, any::<bool>()), 1..40)) {
        let names = names();
        let mut model: Map<u64, u64> = Map::new();
        for (version, (first, count, end)) in steps.into_iter().enumerate() {
            let version = version as u64 + 1;
            let part = (first..first + count).map(|id| Entry { name: name(id), attr: attr(id, version, 60_000) });
            let after = if first == 0 { Vec::new() } else { name(first - 1) };
            names.put(DIRECTORY, &after, Arc::new(part.collect()), end, Instant::now());
            if end {
                model.retain(|id, _| *id < first + count);
            }
            (first..first + count).for_each(|id| { model.insert(id, version); });
            for id in 0..100 {
                if let Some((attr, _)) = names.find(DIRECTORY, &name(id)) {
                    prop_assert_eq!(Some(&attr.version), model.get(&id));
                }
            }
            prop_assert!((first..first + count).all(|id| found(&names, id) == Some(id)));
        }
    }
}
