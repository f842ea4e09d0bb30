//! Random steps, with ends and crashes in between, and many readers at once. proptest prints the steps that failed.

use super::*;
use hashbrown::HashMap;
use proptest::prelude::*;
use std::slice::from_ref;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64, u32),
    Read(u64, u64, u32, u32, u32),
    Evict(u64, Option<u64>),
    Replace(u64, u64),
    Pin(u64, u64),
    Unpin(u64, u64),
    Expire,
    Flush,
    /// The mover gets its turn.
    Rest,
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0..12u64;
    let page = prop_oneof![4 => 0..4u32, 1 => 250..258u32];
    prop_oneof![
        40 => (file.clone(), 1..3u64, page.clone()).prop_map(|(f, v, p)| Step::Insert(f, v, p)),
        40 => (file.clone(), 1..3u64, page, 0..PAGE, 1..=PAGE).prop_map(|(f, v, p, o, l)| Step::Read(f, v, p, o, l)),
        3 => (file.clone(), proptest::option::of(1..3u64)).prop_map(|(f, v)| Step::Evict(f, v)),
        2 => (file.clone(), 1..3u64).prop_map(|(f, v)| Step::Replace(f, v)),
        2 => (file.clone(), 1..3u64).prop_map(|(f, v)| Step::Pin(f, v)),
        2 => (file, 1..3u64).prop_map(|(f, v)| Step::Unpin(f, v)),
        1 => Just(Step::Expire),
        3 => Just(Step::Flush),
        6 => Just(Step::Rest),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

async fn follow(config: StoreConfig, steps: Vec<Step>, seed: u64) {
    let mut disks: Vec<FaultyDisk> =
        (0..config.directories.len()).map(|number| FaultyDisk::new(seed + number as u64)).collect();
    let mut marks: HashMap<(u64, u64), u128> = HashMap::new();
    let (mut store, _) = open(&config, &disks).await;
    for step in steps {
        let key_of = |file, version| key(file, version, marks.get(&(file, version)).copied().unwrap_or(0));
        match step {
            Step::Insert(file, version, page) => {
                let key = key_of(file, version);
                if key.page_length(PageIndex(page), PAGE) > 0 {
                    insert(&store, &key, PageIndex(page)).await;
                }
            }
            Step::Read(file, version, page, offset, length) => {
                let key = key_of(file, version);
                if key.page_length(PageIndex(page), PAGE) > 0 {
                    let held = store.has_page(&key, PageIndex(page));
                    let hit = check(&store, &key, PageIndex(page), offset, length).await;
                    assert!(held || !hit);
                }
            }
            Step::Evict(file, keep) => {
                store.evict_file(FileId(file), keep.map(Version)).await;
                for version in 1..3 {
                    if Some(version) != keep {
                        assert_eq!(store.cached(FileId(file), Version(version)), CachedPages::default());
                    }
                }
            }
            Step::Replace(file, version) => *marks.entry((file, version)).or_default() += 1,
            Step::Pin(file, version) => {
                let until = Instant::now() + Duration::from_secs(60);
                let (file_id, version) = (FileId(file), Version(version));
                store.pin(Pin { file_id, version, bytes: size_of_file(file).min(4 * u64::from(PAGE)), until });
            }
            Step::Expire => store.expire_pins(Instant::now() + Duration::from_secs(61)),
            Step::Unpin(file, version) => store.unpin(FileId(file), Version(version)),
            Step::Flush => store.flush().await,
            Step::Rest => glommio::timer::sleep(Duration::from_millis(1)).await,
            Step::Reopen => {
                store.close().await;
                // Tiers are only where things are: a directory may change its tier.
                let (next, recovery) = open(&config, &disks).await;
                assert_eq!(recovery.dropped_pages, 0);
                store = next;
            }
            Step::Crash => {
                disks = disks.iter().map(FaultyDisk::after_crash).collect();
                store = open(&config, &disks).await.0;
            }
        }
        assert_within_capacity(&store, &disks);
    }
    moves_done(&store).await;
    assert_accounted(&store, &disks);
    assert_eq!(store.counters().disk_errors, 0);
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn right_bytes_or_a_miss(
        steps in proptest::collection::vec(step(), 1..150),
        seed in any::<u32>(),
        eviction in prop_oneof![
            Just(EvictionPolicy::ScanResistant), Just(EvictionPolicy::Lru), Just(EvictionPolicy::Lfu)
        ],
        mem in prop_oneof![Just(0u64), Just(3), Just(8), Just(70)],
        ssd in prop_oneof![Just(vec![]), Just(vec![24u64]), Just(vec![80]), Just(vec![20, 40])],
        hdd in prop_oneof![2 => Just(vec![]), 2 => Just(vec![60u64]), 1 => Just(vec![30, 24])],
    ) {
        let [ssd, hdd] = [ssd, hdd].map(|tier| tier.iter().map(|pages| pages * u64::from(PAGE)).collect::<Vec<u64>>());
        let config = with_hdd(config(mem * u64::from(PAGE), &ssd, eviction), &hdd);
        run(follow(config, steps, u64::from(seed)));
    }
}

#[test]
fn readers_keep_their_bytes_while_pages_come_and_go() {
    for seed in 0..8u64 {
        run(async {
            let config = config(6 * u64::from(PAGE), &[30 * u64::from(PAGE)], EvictionPolicy::Lru);
            let disk = FaultyDisk::new(seed);
            let (store, _) = open(&config, from_ref(&disk)).await;
            let tasks: Vec<_> = (0..6u64)
                .map(|number| {
                    let store = store.clone();
                    glommio::spawn_local(async move {
                        let mut random = Seed(seed * 100 + number);
                        let mut held = Vec::new();
                        for _ in 0..300 {
                            let key = key(random.below(18), 1 + random.below(2), 0);
                            let pages = key.size_bytes.div_ceil(u64::from(PAGE));
                            let page = PageIndex(random.below(pages.min(5)) as u32);
                            let whole = content(&key, page);
                            match (number, store.read(&key, page, 0, whole.len() as u32).await) {
                                (0, _) if random.below(20) == 0 => {
                                    store.evict_file(key.file_id, None).await;
                                }
                                (_, Some(slice)) => held.push((slice, whole)),
                                (_, None) => insert(&store, &key, page).await,
                            }
                            if held.len() > 1 {
                                let (slice, whole) = held.remove(0);
                                assert!(*slice == *whole, "seed {seed}");
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            store.flush().await;
            assert_within_capacity(&store, &[disk]);
            let counters = store.counters();
            assert_eq!((counters.corrupt_units, counters.disk_errors), (0, 0), "seed {seed}");
            assert!(counters.ssd_hits > 0 && counters.evicted_pages > 0, "{counters:?}");
            assert_eq!((counters.buffer_bytes, counters.write_queue_pages), (0, 0));
            store.close().await;
        });
    }
}

#[test]
fn a_page_that_changed_in_memory_is_dropped_soon() {
    run(async {
        let (store, _) = open(&config(8 * u64::from(PAGE), &[], EvictionPolicy::Lru), &[]).await;
        let (key, page) = (key(1, 1, 0), PageIndex(0));
        let mut buffer = store.new_page(PAGE).await;
        buffer.copy_from_slice(&content(&key, page));
        // As if the third unit had been another one when it arrived.
        let mut row: Vec<u32> = forebay_base::unit_checksums(&buffer).collect();
        row[2] ^= 1;
        store.tiers.borrow_mut().admit(&key, page, buffer.seal_with(Some(row.into())), false);
        for _ in 0..100 {
            assert!(store.read(&key, page, 0, 8192).await.is_some(), "another part of it is as it was");
        }
        assert!(store.has_page(&key, page));
        let mut bad = 0;
        while let Some(slice) = store.read(&key, page, 0, PAGE).await {
            let sums = slice.checksums(0..slice.len()).expect("whole units");
            assert!(!sums.sums().iter().copied().eq(forebay_base::unit_checksums(&slice)), "a client would notice");
            bad += 1;
        }
        assert!(bad < 16, "{bad} times");
        assert!(!store.has_page(&key, page));
        assert_eq!(store.counters().corrupt_units, 1);
    });
}

#[test]
fn slices_bring_the_checksums_of_their_whole_units() {
    run(async {
        let disk = FaultyDisk::new(1);
        let (store, _) = open(&config(8 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru), from_ref(&disk)).await;
        for file in [0, 2, 3] {
            let key = key(file, 1, 0);
            let page = PageIndex(if file == 3 { 3 } else { 0 });
            insert(&store, &key, page).await;
        }
        store.close().await;
        let (store, _) = open(&config(8 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru), from_ref(&disk)).await;
        let mut random = Seed(2);
        for turn in 0..400 {
            let file = [0, 2, 3][turn % 3];
            let key = key(file, 1, 0);
            let page = PageIndex(if file == 3 { 3 } else { 0 });
            let whole = content(&key, page);
            let from = random.below(whole.len() as u64) as usize;
            let length = 1 + random.below((whole.len() - from) as u64) as usize;
            let slice = store.read(&key, page, from as u32, length as u32).await.expect("it is there");
            let inside = random.below(length as u64) as usize..length;
            let bytes = &whole[from + inside.start..from + inside.end];
            let ends = inside.end + from == whole.len();
            let first = (from + inside.start).next_multiple_of(4096) - (from + inside.start);
            let rest = bytes.get(first..).unwrap_or_default();
            let units = rest.chunks(4096).filter(|unit| unit.len() == 4096 || ends);
            let want: Vec<u32> = units.map(forebay_base::crc32c).collect();
            let got = slice.checksums(inside);
            assert_eq!(got.as_ref().map_or(&[][..], |sums| sums.sums()), want, "turn {turn}, {:?}", slice.tier());
            assert!(got.is_none_or(|sums| sums.offset == first));
        }
        let counters = store.counters();
        assert!(counters.mem_hits > 50 && counters.ssd_hits > 5, "both tiers: {counters:?}");
        store.close().await;
    });
}
