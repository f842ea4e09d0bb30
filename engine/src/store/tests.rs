//! The store against a model and against a failing disk. Whatever happens, a read gives the right bytes or a miss.

mod admission;
mod explained;
mod faults;
mod found;
mod model;
mod moves;
mod simulation;

use super::*;
use crate::disk::faulty::{FaultyDisk, Seed};
use crate::{CachedPages, DirectoryConfig, EvictionPolicy};
use forebay_base::{ClusterId, FingerprintHash, Incarnation, ShardId};
use glommio::LocalExecutorBuilder;
use std::future::Future;

const PAGE: u32 = 16 << 10;
const BASE: &str = "/disk";

fn run<T>(test: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap().run(test)
}

fn config(mem: u64, ssd: &[u64], eviction: EvictionPolicy) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(7),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        mem_capacity_bytes: mem,
        directories: ssd
            .iter()
            .enumerate()
            .map(|(number, &capacity_bytes)| DirectoryConfig::new(Tier::Ssd, format!("{BASE}{number}"), capacity_bytes))
            .collect(),
        eviction,
        buffer_memory_bytes: 16 * u64::from(PAGE),
        verify_reads: true,
        scrub_bytes_per_second: 0,
    }
}

/// The same with an HDD tier below.
fn with_hdd(mut config: StoreConfig, hdd: &[u64]) -> StoreConfig {
    for &capacity_bytes in hdd {
        let path = format!("{BASE}{}", config.directories.len());
        config.directories.push(DirectoryConfig::new(Tier::Hdd, path, capacity_bytes));
    }
    config
}

/// Waits until the mover has nothing to do, or can do nothing.
async fn moves_done(store: &Store) {
    for _ in 0..2000 {
        store.flush().await;
        if store.tiers.borrow().is_settled() {
            return;
        }
        glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("the mover does not end: {:?}", store.usage());
}

async fn open(config: &StoreConfig, disks: &[FaultyDisk]) -> (Rc<Store>, Recovery) {
    let mut opened = Vec::new();
    for (number, (disk, directory)) in disks.iter().zip(&config.directories).enumerate() {
        disk.unlock();
        let path = Directory::shard_path(&directory.path, 0);
        let taken = Directory::take(disk, &path, config).unwrap();
        let disk = Rc::new(disk.clone());
        let directory = Directory::new(number as u8, path, disk, PAGE, directory, Some(taken.lock));
        directory.resharded.set(taken.resharded);
        opened.push(directory.recover().await);
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
        assert!(usage.pinned_bytes <= usage.capacity_bytes / 10 * 8 + 8, "{usage:?}");
    }
    for (disk, usage) in disks.iter().zip(&store.usage()[1..]) {
        assert!(disk.allocated_bytes() <= usage.capacity_bytes, "{} on the disk, {usage:?}", disk.allocated_bytes());
    }
}

/// What is used is what is said to be used; to be asked when nothing is in flight.
fn assert_accounted(store: &Store, disks: &[FaultyDisk]) {
    assert_within_capacity(store, disks);
    for ((disk, directory), usage) in disks.iter().zip(&store.directories).zip(&store.usage()[1..]) {
        let tables = directory.tables.borrow();
        // The superblock is in the reserve of the limit.
        assert!(
            disk.allocated_bytes() <= tables.used_bytes() + 4096,
            "{} on the disk, {usage:?}",
            disk.allocated_bytes()
        );
        assert_eq!(usage.used_bytes, tables.used_bytes() - tables.spare_bytes());
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
