//! Handing whole files out, on a real file system: what is handed out stays as it is whatever happens to the cache.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use forebay_base::{ClusterId, FileId, FingerprintHash, Incarnation, PageIndex, ShardId, Version};
use forebay_engine::{DirectoryConfig, EvictionPolicy, FileKey, NotLent, Pin, Store, StoreConfig, Tier};
use glommio::LocalExecutorBuilder;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

const PAGE: u32 = 1 << 20;
const CAPACITY: u64 = 32 << 20;
const HOLDER: u64 = 70;

fn run<T>(test: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::default().io_memory(1 << 20).make().unwrap().run(test)
}

fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(42),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        mem_capacity_bytes: 2 << 20,
        directories: vec![DirectoryConfig::new(Tier::Ssd, path, CAPACITY)],
        eviction: EvictionPolicy::Lru,
        buffer_memory_bytes: 16 << 20,
        verify_reads: true,
        scrub_bytes_per_second: 0,
    }
}

fn key(file: u64, size_bytes: u64) -> FileKey {
    FileKey { file_id: FileId(file), version: Version(3), fingerprint: FingerprintHash(u128::from(file)), size_bytes }
}

fn content(key: &FileKey, page: u32) -> Vec<u8> {
    let seed = key.file_id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(page) << 7;
    let bytes = 0..u64::from(key.page_length(PageIndex(page), PAGE));
    bytes.map(|at| (seed.wrapping_add(at * at) >> 5) as u8 | 1).collect()
}

fn pages(key: &FileKey) -> u32 {
    key.size_bytes.div_ceil(u64::from(PAGE)) as u32
}

fn whole(key: &FileKey) -> Vec<u8> {
    (0..pages(key)).flat_map(|page| content(key, page)).collect()
}

async fn insert(store: &Store, key: &FileKey, page: u32) {
    let bytes = content(key, page);
    let mut buffer = store.new_page(bytes.len() as u32).await;
    buffer.copy_from_slice(&bytes);
    store.insert(key, PageIndex(page), buffer).await;
}

async fn fill(store: &Store, key: &FileKey) {
    for page in 0..pages(key) {
        insert(store, key, page).await;
    }
    store.flush().await;
}

async fn opened(path: &Path) -> Rc<Store> {
    Store::open(config(path)).await.unwrap().0
}

fn is_whole(file: &File, key: &FileKey) -> bool {
    let mut bytes = vec![0; key.size_bytes as usize + 1];
    let mut done = 0;
    while let Ok(count @ 1..) = file.read_at(&mut bytes[done..], done as u64) {
        done += count;
    }
    bytes[..done] == *whole(key)
}

fn local(base: &Path, key: &FileKey) -> PathBuf {
    base.join(format!("shard-0/files/{:x}/{:016x}-{:016x}", key.file_id.0 % 16, key.file_id.0, key.version.0))
}

fn leased(store: &Store) -> u64 {
    store.usage().last().unwrap().leased_bytes
}

/// Lends a file that may have to be checked first.
async fn lend_checked(store: &Rc<Store>, key: &FileKey, lease: u64) -> File {
    let started = Instant::now();
    loop {
        match store.lend(key, lease, HOLDER).await {
            Ok(file) => return file,
            Err(NotLent::NotYet) if started.elapsed() < Duration::from_secs(60) => {
                glommio::timer::sleep(Duration::from_millis(2)).await;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited for {what}");
        glommio::timer::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn only_whole_large_files_are_handed_out_read_only_and_exact() {
    run(async {
        let dir = on_disk();
        let store = opened(dir.path()).await;
        let (small, large) = (key(1, 1 << 20), key(2, (3 << 20) + 77));
        fill(&store, &small).await;
        assert_eq!(store.lend(&small, 1, HOLDER).await.unwrap_err(), NotLent::Small);
        for page in [0, 1, 3] {
            insert(&store, &large, page).await;
        }
        store.flush().await;
        assert_eq!(store.lend(&large, 1, HOLDER).await.unwrap_err(), NotLent::NotWhole, "a page is missing");
        insert(&store, &large, 2).await;
        assert_eq!(store.lend(&large, 1, HOLDER).await.unwrap_err(), NotLent::NotWhole, "a page is not durable yet");
        store.flush().await;
        let other = FileKey { fingerprint: FingerprintHash(9), ..large };
        assert_eq!(store.lend(&other, 1, HOLDER).await.unwrap_err(), NotLent::NotWhole, "another content");
        let file = store.lend(&large, 1, HOLDER).await.unwrap();
        assert!(is_whole(&file, &large) && file.write_at(b"x", 0).is_err());
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o1400);
        assert_eq!(leased(&store), (3 << 20) + 4096);
        store.give_back(1, HOLDER + 1);
        assert_eq!(leased(&store), (3 << 20) + 4096, "somebody else's lease");
        store.give_back(1, HOLDER);
        assert_eq!(leased(&store), 0);
        store.close().await;
    });
}

#[test]
fn nothing_evicts_a_leased_file_and_leases_are_bounded() {
    run(async {
        let dir = on_disk();
        let store = opened(dir.path()).await;
        let kept = key(1, 6 << 20);
        fill(&store, &kept).await;
        let file = store.lend(&kept, 1, HOLDER).await.unwrap();
        for number in 0..20 {
            fill(&store, &key(300 + number, 4 << 20)).await;
        }
        assert_eq!(store.cached(kept.file_id, kept.version).ssd_bytes, kept.size_bytes);
        // Ten times the cache passes; the pins' ways of taking pages out and in again pass as well.
        let pin = Pin {
            file_id: kept.file_id,
            version: kept.version,
            bytes: kept.size_bytes,
            until: Instant::now() + Duration::from_secs(600),
        };
        assert!(store.pin(pin));
        store.unpin(kept.file_id, kept.version);
        for number in 0..80 {
            fill(&store, &key(100 + number, 4 << 20)).await;
        }
        assert_eq!(store.cached(kept.file_id, kept.version).ssd_bytes, kept.size_bytes);
        assert!(is_whole(&file, &kept) && local(dir.path(), &kept).exists());
        let (mut granted, mut refused) = (Vec::new(), 0);
        for number in 60..80 {
            match store.lend(&key(100 + number, 4 << 20), 10 + number, HOLDER).await {
                Ok(file) => granted.push(file),
                Err(NotLent::NoRoom) => refused += 1,
                Err(_) => {}
            }
        }
        assert!(refused > 0 && leased(&store) <= CAPACITY / 2, "{} {refused}", granted.len());
        store.give_all_back(HOLDER);
        assert_eq!(leased(&store), 0);
        for number in 0..10 {
            fill(&store, &key(200 + number, 4 << 20)).await;
        }
        assert_eq!(store.cached(kept.file_id, kept.version).ssd_bytes, 0, "without a lease it may leave");
        assert!(is_whole(&file, &kept), "and who has it open reads on");
        store.close().await;
    });
}

#[test]
fn a_file_that_was_handed_out_leaves_whole_and_its_space_counts_until_nobody_reads_it() {
    run(async {
        let dir = on_disk();
        let store = opened(dir.path()).await;
        let (old, bad) = (key(1, 5 << 20), key(2, 4 << 20));
        for key in [&old, &bad] {
            fill(&store, key).await;
        }
        let (first, second) = (store.lend(&old, 1, HOLDER).await.unwrap(), store.lend(&bad, 2, HOLDER).await.unwrap());
        // Given back, but still open: as a mapping of a frontend that closed its descriptor would be.
        store.give_back(1, HOLDER);
        let before = store.usage()[1].used_bytes;
        store.evict_file(old.file_id, None).await;
        store.drop_page(&bad, PageIndex(2));
        store.flush().await;
        assert!(!local(dir.path(), &old).exists() && !local(dir.path(), &bad).exists());
        assert!(is_whole(&first, &old) && is_whole(&second, &bad));
        assert_eq!(store.cached(bad.file_id, bad.version).ssd_bytes, 0, "a bad page takes the file with it");
        assert_eq!(store.gone_leases(HOLDER), [2]);
        let held = leased(&store);
        assert!((9 << 20..10 << 20).contains(&held), "{held}");
        assert!(store.usage()[1].used_bytes + (1 << 20) > before, "it still takes its space");
        // The same content comes again beside it and can be handed out.
        fill(&store, &old).await;
        let again = store.lend(&old, 3, HOLDER).await.unwrap();
        assert!(is_whole(&again, &old) && again.metadata().unwrap().ino() != first.metadata().unwrap().ino());
        drop((first, second));
        until("the space to be free", || {
            store.look_at_orphans();
            leased(&store) == 5 << 20
        })
        .await;
        store.close().await;
    });
}

#[test]
fn a_killed_worker_checks_what_it_hands_out_and_punches_nothing_that_was_handed_out() {
    let dir = on_disk();
    let (fine, spoilt, torn) = (key(1, 4 << 20), key(2, 3 << 20), key(3, (4 << 20) - 9));
    let file = run(async {
        let store = opened(dir.path()).await;
        for key in [&fine, &spoilt, &torn] {
            fill(&store, key).await;
        }
        let file = store.lend(&torn, 1, HOLDER).await.unwrap();
        // No close: as if the process were killed.
        std::mem::forget(store);
        file
    });
    let write = File::options().write(true).open(local(dir.path(), &spoilt)).unwrap();
    write.write_at(b"flipped", (2 << 20) + 5).unwrap();
    drop(write);
    // The header of the file that is still open is torn, so that its pages are lost.
    let headers = File::options().read(true).write(true).open(dir.path().join("shard-0/headers")).unwrap();
    let mut sector = [0; 4096];
    let found = (0..3).find(|slot| {
        headers.read_exact_at(&mut sector, slot * 4096).unwrap();
        u64::from_le_bytes(sector[24..32].try_into().unwrap()) == 3
    });
    headers.write_at(b"torn", found.unwrap() * 4096 + 100).unwrap();
    let copy = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // The forgotten store still has its lock, so the next one opens the directory under another name.
    std::fs::rename(dir.path().join("shard-0"), copy.path().join("shard-0")).unwrap();
    std::fs::rename(copy.path().join("shard-0/lock"), copy.path().join("shard-0/old-lock")).unwrap();
    run(async {
        let store = opened(copy.path()).await;
        assert!(is_whole(&file, &torn), "its reader keeps every byte");
        assert_eq!(store.cached(torn.file_id, torn.version).ssd_bytes, 0);
        assert_eq!(store.lend(&fine, 2, HOLDER).await.unwrap_err(), NotLent::NotYet);
        assert_eq!(store.lend(&spoilt, 3, HOLDER).await.unwrap_err(), NotLent::NotYet);
        assert!(is_whole(&lend_checked(&store, &fine, 4).await, &fine));
        until("the bad page to be found", || store.counters().corrupt_units > 0).await;
        assert_eq!(store.lend(&spoilt, 5, HOLDER).await.unwrap_err(), NotLent::NotWhole);
        assert_eq!(store.counters().checked_pages, 4 + 2);
        store.close().await;
        // A clean stop: what was checked is believed, the mark says so once.
        let store = opened(copy.path()).await;
        assert!(is_whole(&store.lend(&fine, 6, HOLDER).await.unwrap(), &fine));
        assert_eq!(std::fs::read(copy.path().join("shard-0/clean")).unwrap(), b"");
        store.close().await;
    });
}

#[test]
fn a_file_that_an_earlier_process_handed_out_is_never_punched() {
    let dir = on_disk();
    let kept = key(1, 8 << 20);
    let file = run(async {
        let store = opened(dir.path()).await;
        fill(&store, &kept).await;
        let file = store.lend(&kept, 1, HOLDER).await.unwrap();
        store.close().await;
        file
    });
    run(async {
        let store = opened(dir.path()).await;
        // One page too many: without the mark the coldest page would be punched, and read as zeros.
        for number in 0..7 {
            fill(&store, &key(100 + number, 4 << 20)).await;
        }
        assert!(is_whole(&file, &kept), "no byte changed");
        assert!(!local(dir.path(), &kept).exists());
        assert_eq!(store.cached(kept.file_id, kept.version).ssd_bytes, 0);
        store.close().await;
    });
}

#[test]
fn a_file_that_was_handed_out_and_lost_a_part_is_not_patched() {
    let dir = on_disk();
    // Small pages, so that the file has two headers.
    let config = StoreConfig { page_bytes: 16 << 10, ..config(dir.path()) };
    let kept = key(1, 6 << 20);
    let bytes: Vec<u8> = (0..6 << 20).map(|at: u32| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8 | 1).collect();
    let file = run(async {
        let (store, _) = Store::open(config.clone()).await.unwrap();
        for (page, piece) in (0..).zip(bytes.chunks(16 << 10)) {
            let mut buffer = store.new_page(16 << 10).await;
            buffer.copy_from_slice(piece);
            store.insert(&kept, PageIndex(page), buffer).await;
        }
        store.flush().await;
        let file = store.lend(&kept, 1, HOLDER).await.unwrap();
        store.close().await;
        file
    });
    let headers = File::options().write(true).open(dir.path().join("shard-0/headers")).unwrap();
    headers.write_at(b"torn", 4096 + 100).unwrap();
    run(async {
        let (store, recovery) = Store::open(config).await.unwrap();
        assert_eq!((recovery.pages, store.cached(kept.file_id, kept.version).ssd_bytes), (0, 0));
        assert!(recovery.dropped_pages >= 256 && !local(dir.path(), &kept).exists());
        let mut got = vec![0; bytes.len()];
        file.read_exact_at(&mut got, 0).unwrap();
        assert!(got == bytes, "its reader keeps every byte");
        store.close().await;
    });
}

#[test]
fn holes_and_other_lengths_are_not_handed_out() {
    run(async {
        let dir = on_disk();
        let store = opened(dir.path()).await;
        let (holed, long) = (key(1, 3 << 20), key(2, 3 << 20));
        for key in [&holed, &long] {
            fill(&store, key).await;
        }
        let write = |key: &FileKey| File::options().write(true).open(local(dir.path(), key)).unwrap();
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(write(&holed), punch, 1 << 20, 4096).unwrap();
        write(&long).set_len((3 << 20) + 1).unwrap();
        assert_eq!(store.lend(&holed, 1, HOLDER).await.unwrap_err(), NotLent::NotWhole);
        assert_eq!(store.lend(&long, 2, HOLDER).await.unwrap_err(), NotLent::NotWhole);
        assert_eq!(leased(&store), 0);
        store.close().await;
    });
}
