//! The store against a model and against a failing disk. Whatever happens, a read gives the right bytes or a miss.

use super::*;
use crate::disk::faulty::{Faults, FaultyDisk, Seed};
use crate::{DirectoryConfig, EvictionPolicy};
use forebay_base::{ClusterId, FingerprintHash, ShardId};
use glommio::LocalExecutorBuilder;
use hashbrown::HashMap;
use proptest::prelude::*;
use std::future::Future;
use std::path::Path;

const PAGE: u32 = 16 << 10;
const BASE: &str = "/disk";

fn run<T>(test: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap().run(test)
}

fn config(mem: u64, ssd: &[u64], eviction: EvictionPolicy) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(7),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        mem_capacity_bytes: mem,
        directories: ssd
            .iter()
            .enumerate()
            .map(|(number, &capacity_bytes)| DirectoryConfig { path: format!("{BASE}{number}").into(), capacity_bytes })
            .collect(),
        eviction,
        buffer_memory_bytes: 16 * u64::from(PAGE),
        verify_reads: true,
    }
}

async fn open(config: &StoreConfig, disks: &[FaultyDisk]) -> (Rc<Store>, Recovery) {
    let mut opened = Vec::new();
    for (number, (disk, directory)) in disks.iter().zip(&config.directories).enumerate() {
        disk.unlock();
        let path = Directory::shard_path(&directory.path, 0);
        let lock = Directory::take(disk, &path, config).unwrap();
        let disk = Rc::new(disk.clone());
        let directory =
            Directory::new(number as u8, path, disk, PAGE, directory.capacity_bytes, Some(lock)).recover().await;
        opened.push(directory);
    }
    Store::start(config.clone(), opened, Instant::now()).await
}

/// The files of the tests: of less than a unit, small ones, and large ones with odd ends and more than one block.
fn size_of_file(file: u64) -> u64 {
    match file % 6 {
        0 => 1 + file * 7,
        1 => u64::from(PAGE),
        2 => 5000,
        3 => u64::from(PAGE) * 3 + 4097,
        4 => u64::from(PAGE) + 1,
        _ => u64::from(PAGE) * 258,
    }
}

/// `mark` stands for the content: another mark under the same version is another content.
fn key(file: u64, version: u64, mark: u128) -> FileKey {
    FileKey {
        file_id: FileId(file),
        version: Version(version),
        fingerprint: FingerprintHash(mark),
        size_bytes: size_of_file(file) + mark as u64,
    }
}

fn content(key: &FileKey, page: PageIndex) -> Vec<u8> {
    let mut seed =
        Seed(key.file_id.0 << 40 ^ key.version.0 << 20 ^ (key.fingerprint.0 as u64) << 10 ^ u64::from(page.0));
    let word = seed.next().to_le_bytes();
    (0..key.page_length(page, PAGE) as usize).map(|at| word[at % 8] ^ (at / 8) as u8).collect()
}

async fn insert(store: &Store, key: &FileKey, page: PageIndex) {
    let bytes = content(key, page);
    let mut buffer = store.new_page(bytes.len() as u32).await;
    buffer.copy_from_slice(&bytes);
    assert!(*store.insert(key, page, buffer).await == *bytes);
}

/// A miss or the right bytes; says which.
async fn check(store: &Store, key: &FileKey, page: PageIndex, from: u32, length: u32) -> bool {
    let whole = content(key, page);
    let from = from.min(whole.len() as u32 - 1);
    let length = length.min(whole.len() as u32 - from);
    match store.read(key, page, from, length).await {
        Some(slice) => {
            assert!(
                *slice == whole[from as usize..(from + length) as usize],
                "wrong bytes: {key:?} page {page} from {from} length {length}, {:?}",
                slice.tier()
            );
            true
        }
        None => false,
    }
}

fn assert_within_capacity(store: &Store, disks: &[FaultyDisk]) {
    for usage in store.usage() {
        assert!(usage.used_bytes <= usage.capacity_bytes, "{usage:?}");
    }
    for (disk, usage) in disks.iter().zip(&store.usage()[1..]) {
        assert!(disk.allocated_bytes() <= usage.capacity_bytes, "{} on the disk, {usage:?}", disk.allocated_bytes());
    }
}

/// What is used is what is said to be used; to be asked when nothing is in flight.
fn assert_accounted(store: &Store, disks: &[FaultyDisk]) {
    assert_within_capacity(store, disks);
    for (disk, usage) in disks.iter().zip(&store.usage()[1..]) {
        // The superblock is in the reserve of the limit.
        assert!(disk.allocated_bytes() <= usage.used_bytes + 4096, "{} on the disk, {usage:?}", disk.allocated_bytes());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64, u32),
    Read(u64, u64, u32, u32, u32),
    Evict(u64, Option<u64>),
    Replace(u64, u64),
    Pin(u64, u64),
    Unpin(u64, u64),
    Flush,
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
        3 => Just(Step::Flush),
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
            Step::Pin(file, version) => store.pin(FileId(file), Version(version)),
            Step::Unpin(file, version) => store.unpin(FileId(file), Version(version)),
            Step::Flush => store.flush().await,
            Step::Reopen => {
                store.close().await;
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
    store.flush().await;
    assert_accounted(&store, &disks);
    assert_eq!(store.counters().disk_errors, 0);
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn right_bytes_or_a_miss(
        steps in proptest::collection::vec(step(), 1..150),
        seed in any::<u32>(),
        lfu in any::<bool>(),
        mem in prop_oneof![Just(0u64), Just(3), Just(8)],
        ssd in prop_oneof![Just(vec![]), Just(vec![24u64]), Just(vec![80]), Just(vec![20, 40])],
    ) {
        let eviction = if lfu { EvictionPolicy::Lfu } else { EvictionPolicy::Lru };
        let ssd: Vec<u64> = ssd.iter().map(|pages| pages * u64::from(PAGE)).collect();
        run(follow(config(mem * u64::from(PAGE), &ssd, eviction), steps, u64::from(seed)));
    }
}

const ROOMY: u64 = 64 << 20;

/// Pages of many files, all of which fit.
fn crowd() -> Vec<(FileKey, PageIndex)> {
    let mut pages = Vec::new();
    for file in 0..24 {
        let key = key(file, 1, 0);
        let count = key.size_bytes.div_ceil(u64::from(PAGE)) as u32;
        pages.extend((0..count.min(6)).map(|page| (key, PageIndex(page))));
        if count > 250 {
            pages.push((key, PageIndex(count - 1)));
        }
    }
    pages
}

async fn fill(store: &Store) {
    for (key, page) in crowd() {
        insert(store, &key, page).await;
    }
}

async fn hits(store: &Store) -> usize {
    let mut hits = 0;
    for (key, page) in crowd() {
        hits += usize::from(check(store, &key, page, 0, PAGE).await);
        check(store, &key, page, 4000, 5000).await;
    }
    hits
}

#[test]
fn what_was_flushed_is_there_after_a_close_and_after_a_crash() {
    run(async {
        let config = config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(1);
        let (store, _) = open(&config, &[disk.clone()]).await;
        fill(&store).await;
        store.close().await;
        let (store, recovery) = open(&config, &[disk.clone()]).await;
        assert_eq!((recovery.pages, recovery.dropped_pages), (crowd().len() as u64, 0));
        assert_eq!(hits(&store).await, crowd().len());
        let after = disk.after_crash();
        let (store, recovery) = open(&config, &[after]).await;
        assert_eq!(recovery.pages, crowd().len() as u64);
        assert_eq!(hits(&store).await, crowd().len());
        assert_eq!(store.counters().corrupt_units, 0);
        assert_eq!(store.files().len(), 24);
    });
}

#[test]
fn power_cut_at_any_write() {
    for seed in 0..160u64 {
        run(async {
            // Little room, so that pages are evicted while others are written.
            let capacity = if seed % 2 == 0 { ROOMY } else { 50 * u64::from(PAGE) };
            let config = config(4 * u64::from(PAGE), &[capacity], EvictionPolicy::Lru);
            let disk = FaultyDisk::new(seed);
            let (store, _) = open(&config, &[disk.clone()]).await;
            let mut random = Seed(seed);
            fill(&store).await;
            if seed % 3 == 0 {
                store.flush().await;
            }
            disk.faults.set(Faults { cut_after: Some(random.below(120)), ..Faults::default() });
            for file in 0..6 {
                store.evict_file(FileId(random.below(24)), None).await;
                let key = key(100 + file, 1, 0);
                insert(&store, &key, PageIndex(0)).await;
            }
            fill(&store).await;
            store.flush().await;
            assert!(disk.is_dead() || store.counters().disk_errors == 0, "seed {seed}");
            drop(store);
            let after = disk.after_crash();
            let (store, _) = open(&config, &[after.clone()]).await;
            let first = hits(&store).await;
            assert_within_capacity(&store, &[after.clone()]);
            // And it works on.
            fill(&store).await;
            store.flush().await;
            let later = hits(&store).await;
            assert!(later >= first.min(20), "seed {seed}: {first} then {later}");
            assert_accounted(&store, &[after]);
            assert_eq!(store.counters().disk_errors, 0, "seed {seed}");
            store.close().await;
        });
    }
}

#[test]
fn a_flipped_bit_is_a_miss() {
    // Most of a row sector is rows of pages that are not there, and slots have some padding: more bits there.
    let places: [(&str, u32, fn(&Path) -> bool); 5] = [
        ("payload", 1, |path| path.to_string_lossy().contains("/files/")),
        ("slab", 4, |path| path.to_string_lossy().contains("/slabs/")),
        ("rows", 400, |path| path.ends_with("rows")),
        ("headers", 1, |path| path.ends_with("headers")),
        ("small", 1, |path| path.ends_with("small")),
    ];
    let mut noticed = [0; 5];
    for seed in 0..40u64 {
        for (number, (what, bits, place)) in places.iter().enumerate() {
            run(async {
                let config = config(0, &[ROOMY], EvictionPolicy::Lru);
                let disk = FaultyDisk::new(seed);
                let (store, _) = open(&config, &[disk.clone()]).await;
                fill(&store).await;
                store.close().await;
                let mut random = Seed(seed);
                for _ in 0..*bits {
                    assert!(disk.flip_bit(&mut random, place), "nothing in {what}");
                }
                let (store, recovery) = open(&config, &[disk]).await;
                let hits = hits(&store).await;
                let corrupt = store.counters().corrupt_units;
                if hits < crowd().len() {
                    noticed[number] += 1;
                    assert!(recovery.dropped_pages + corrupt > 0, "seed {seed} {what}");
                }
                store.close().await;
            });
        }
    }
    assert!(noticed.iter().all(|&times| times > 30), "{noticed:?}");
}

#[test]
fn a_full_disk_makes_the_directory_smaller_and_reads_go_on() {
    run(async {
        let config = config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(3);
        let (store, _) = open(&config, &[disk.clone()]).await;
        disk.faults.set(Faults { capacity_bytes: Some(40 * u64::from(PAGE)), ..Faults::default() });
        for _ in 0..3 {
            fill(&store).await;
            store.flush().await;
        }
        let usage = &store.usage()[1];
        let trouble = usage.trouble.clone().unwrap();
        assert!(trouble.starts_with("disk full at "), "{trouble}");
        assert!(disk.allocated_bytes() <= 40 * u64::from(PAGE));
        let some = hits(&store).await;
        assert!(some > 4, "{some}");
        store.close().await;
        disk.faults.set(Faults::default());
        let (store, recovery) = open(&config, &[disk]).await;
        assert!(recovery.pages > 4 && recovery.dropped_pages == 0, "{recovery:?}");
        hits(&store).await;
        store.close().await;
    });
}

#[test]
fn a_disk_that_fails_is_given_up_and_the_other_one_takes_over() {
    for (number, fault) in [
        Faults { write_errno: Some(libc::EIO), ..Faults::default() },
        Faults { sync_errno: Some(libc::EIO), ..Faults::default() },
        Faults { read_errno: Some(libc::EIO), ..Faults::default() },
    ]
    .into_iter()
    .enumerate()
    {
        run(async {
            let config = config(4 * u64::from(PAGE), &[ROOMY, ROOMY / 2], EvictionPolicy::Lru);
            let disks = [FaultyDisk::new(4), FaultyDisk::new(5)];
            let (store, _) = open(&config, &disks).await;
            fill(&store).await;
            store.flush().await;
            assert_eq!(hits(&store).await, crowd().len());
            disks[0].faults.set(fault);
            insert(&store, &key(200, 1, 0), PageIndex(0)).await;
            store.flush().await;
            for _ in 0..2 {
                hits(&store).await;
                fill(&store).await;
                store.flush().await;
            }
            let usage = store.usage();
            assert!(usage[1].trouble.as_ref().unwrap().starts_with("given up after"), "{number}: {usage:?}");
            assert_eq!(usage[2].trouble, None);
            assert_eq!(hits(&store).await, crowd().len(), "the other directory has it all");
            assert!(store.counters().disk_errors > 0);
            store.close().await;
        });
    }
}

#[test]
fn a_disk_that_cannot_be_read_at_the_start_leaves_a_store_without_it() {
    run(async {
        let config = config(8 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(6);
        let (store, _) = open(&config, &[disk.clone()]).await;
        fill(&store).await;
        store.close().await;
        disk.faults.set(Faults { read_errno: Some(libc::EIO), ..Faults::default() });
        let (store, recovery) = open(&config, &[disk]).await;
        assert_eq!(recovery.pages, 0);
        assert!(store.usage()[1].trouble.as_ref().unwrap().starts_with("cannot read its tables"));
        fill(&store).await;
        assert!(hits(&store).await > 0);
        store.close().await;
    });
}

#[test]
fn a_page_that_is_read_again_and_again_moves_to_memory() {
    run(async {
        let config = config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(8);
        let (store, _) = open(&config, &[disk.clone()]).await;
        let key = key(3, 1, 0);
        insert(&store, &key, PageIndex(0)).await;
        store.close().await;
        let (store, _) = open(&config, &[disk]).await;
        let mut tiers = Vec::new();
        for _ in 0..3 {
            tiers.push(store.read(&key, PageIndex(0), 0, PAGE).await.unwrap().tier());
        }
        assert_eq!(tiers, [Tier::Ssd, Tier::Ssd, Tier::Mem]);
        let cached = store.cached(key.file_id, key.version);
        let page = u64::from(PAGE);
        assert_eq!(cached, CachedPages { mem_bytes: page, ssd_bytes: page, any_bytes: page });
        assert!(store.read(&key, PageIndex(3), 0, 4098).await.is_none(), "behind the end");
        store.close().await;
    });
}

#[test]
fn pinned_pages_stay_and_smaller_capacities_hold_from_the_start() {
    run(async {
        let roomy = config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(9);
        let (store, _) = open(&roomy, &[disk.clone()]).await;
        fill(&store).await;
        store.close().await;
        let tight = config(4 * u64::from(PAGE), &[40 * u64::from(PAGE)], EvictionPolicy::Lru);
        let (store, _) = open(&tight, &[disk.clone()]).await;
        assert_within_capacity(&store, &[disk.clone()]);
        let pinned = key(3, 1, 0);
        for page in 0..4 {
            insert(&store, &pinned, PageIndex(page)).await;
        }
        store.flush().await;
        store.pin(pinned.file_id, pinned.version);
        for _ in 0..3 {
            fill(&store).await;
            store.flush().await;
        }
        for page in 0..4 {
            assert!(check(&store, &pinned, PageIndex(page), 0, PAGE).await);
        }
        assert_within_capacity(&store, &[disk]);
        store.close().await;
    });
}

#[test]
fn buffers_hold_back_and_never_for_ever() {
    run(async {
        let config = config(0, &[], EvictionPolicy::Lru);
        let (store, _) = open(&config, &[]).await;
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(store.new_page(PAGE).await);
        }
        assert_eq!(store.counters().buffer_bytes, 16 * u64::from(PAGE));
        let started = Instant::now();
        held.push(store.new_page(PAGE).await);
        assert!(started.elapsed().as_millis() >= 900, "waited {:?}", started.elapsed());
        assert_eq!(store.counters().buffer_waits, 1);
        held.clear();
        assert_eq!(store.counters().buffer_bytes, 0);
    });
}

#[test]
fn readers_keep_their_bytes_while_pages_come_and_go() {
    for seed in 0..8u64 {
        run(async {
            let config = config(6 * u64::from(PAGE), &[30 * u64::from(PAGE)], EvictionPolicy::Lru);
            let disk = FaultyDisk::new(seed);
            let (store, _) = open(&config, &[disk.clone()]).await;
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
