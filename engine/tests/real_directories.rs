//! The store on real file systems, through its public interface: direct I/O on the disk that holds the build, buffered
//! I/O in memory; and the directories that it refuses.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use forebay_base::placement::shard_of;
use forebay_base::{ClusterId, FileId, FingerprintHash, Incarnation, PageIndex, ShardId, Version};
use forebay_engine::{
    DirectoryConfig, EngineError, EvictionPolicy, FileKey, Store, StoreConfig, Tier, holds_cache, wipe_cache,
};
use glommio::LocalExecutorBuilder;
use std::future::Future;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

const PAGE: u32 = 1 << 20;

fn run<T>(test: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::default().io_memory(1 << 20).make().unwrap().run(test)
}

/// A place on the file system of the build, where direct I/O works (or is refused: then the other path is tested twice).
fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn config(path: &Path, capacity_bytes: u64) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(42),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 2,
        page_bytes: PAGE,
        mem_capacity_bytes: 4 << 20,
        directories: vec![DirectoryConfig::new(Tier::Ssd, path, capacity_bytes)],
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
    (0..u64::from(key.page_length(PageIndex(page), PAGE))).map(|at| (seed.wrapping_add(at * at) >> 5) as u8).collect()
}

fn pages(key: &FileKey) -> u32 {
    key.size_bytes.div_ceil(u64::from(PAGE)) as u32
}

async fn insert(store: &Store, key: &FileKey, page: u32) {
    let bytes = content(key, page);
    let mut buffer = store.new_page(bytes.len() as u32).await;
    buffer.copy_from_slice(&bytes);
    store.insert(key, PageIndex(page), buffer).await;
}

async fn read(store: &Store, key: &FileKey, page: u32) -> Option<Tier> {
    let whole = content(key, page);
    let slice = store.read(key, PageIndex(page), 0, whole.len() as u32).await?;
    assert!(*slice == *whole, "{key:?} page {page}");
    let (from, length) = (whole.len() as u32 / 3, whole.len() as u32 / 2);
    let part = store.read(key, PageIndex(page), from, length).await?;
    assert!(*part == whole[from as usize..(from + length) as usize], "{key:?} page {page}");
    Some(slice.tier())
}

fn files() -> Vec<FileKey> {
    let large = [(5u64 << 20) + 12_345, 3 << 20, (1 << 20) + 1];
    let small = [1u64, 100, 4096, 4097, 100_000, 1 << 19, (1 << 20) - 1, 1 << 20];
    large.into_iter().chain(small).enumerate().map(|(number, size)| key(number as u64 + 1, size)).collect()
}

fn find(base: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(base).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { find(&path, name) } else { path.to_string_lossy().contains(name).then_some(path) }
    })
}

fn allocated(path: &Path) -> u64 {
    let meta = path.symlink_metadata().unwrap();
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    own + std::fs::read_dir(path).unwrap().map(|entry| allocated(&entry.unwrap().path())).sum::<u64>()
}

async fn fill_and_reopen(base: &Path) {
    let config = config(base, 64 << 20);
    let (store, recovery) = Store::open(config.clone()).await.unwrap();
    assert_eq!(recovery.pages, 0);
    for key in files() {
        for page in 0..pages(&key) {
            insert(&store, &key, page).await;
            assert_eq!(read(&store, &key, page).await, Some(Tier::Mem));
        }
    }
    store.flush().await;
    assert!(matches!(Store::open(config.clone()).await, Err(EngineError::Locked { .. })), "one process at a time");
    store.close().await;

    let local = find(base, &format!("{:016x}-{:016x}", 1, 3)).unwrap();
    let meta = local.metadata().unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o777), (files()[0].size_bytes, 0o400), "whole, exact and read-only");
    let bytes: Vec<u8> = (0..pages(&files()[0])).flat_map(|page| content(&files()[0], page)).collect();
    assert!(std::fs::read(&local).unwrap() == bytes, "byte for byte the user's file");

    let (store, recovery) = Store::open(config.clone()).await.unwrap();
    let total: u32 = files().iter().map(pages).sum();
    assert_eq!((recovery.pages, recovery.dropped_pages), (u64::from(total), 0));
    for key in files() {
        for page in 0..pages(&key) {
            assert_eq!(read(&store, &key, page).await, Some(Tier::Ssd), "{key:?} {page}");
        }
    }
    let freed = store.evict_file(FileId(1), None).await;
    assert!(freed >= files()[0].size_bytes && !local.exists());
    assert_eq!(read(&store, &files()[0], 0).await, None);
    assert_eq!(store.counters().corrupt_units, 0);
    store.close().await;
}

#[test]
fn direct_io() {
    let base = on_disk();
    run(fill_and_reopen(base.path()));
}

#[test]
fn buffered_io_in_memory() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    run(fill_and_reopen(base.path()));
}

#[test]
fn the_disk_never_holds_more_than_its_capacity() {
    let base = on_disk();
    let capacity = 12u64 << 20;
    run(async {
        let (store, _) = Store::open(config(base.path(), capacity)).await.unwrap();
        for round in 0..3u64 {
            for file in 0..10 {
                let key = key(round * 100 + file, if file % 2 == 0 { (3 << 20) + 5000 } else { 300_000 });
                for page in 0..pages(&key) {
                    insert(&store, &key, page).await;
                }
                let used = allocated(base.path());
                assert!(used <= capacity, "{used} bytes allocated");
            }
            store.flush().await;
        }
        let counters = store.counters();
        assert!(counters.evicted_pages > 10 && counters.disk_errors == 0, "{counters:?}");
        let usage = store.usage();
        assert!(usage[1].used_bytes > capacity / 2 && usage[1].trouble.is_none(), "{usage:?}");
        store.close().await;
    });
    assert!(allocated(base.path()) <= capacity);
}

#[test]
fn a_changed_byte_on_the_disk_is_a_miss() {
    let base = on_disk();
    run(async {
        let (store, _) = Store::open(config(base.path(), 64 << 20)).await.unwrap();
        let key = key(9, 2 << 20);
        insert(&store, &key, 0).await;
        insert(&store, &key, 1).await;
        store.close().await;
        let local = find(base.path(), &format!("{:016x}-{:016x}", 9, 3)).unwrap();
        let file = std::fs::File::options().write(true).open(&local);
        let file = file.or_else(|_| {
            std::fs::set_permissions(&local, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            std::fs::File::options().write(true).open(&local)
        });
        file.unwrap().write_all_at(b"X", (1 << 20) + 5000).unwrap();
        let (store, _) = Store::open(config(base.path(), 64 << 20)).await.unwrap();
        assert!(store.read(&key, PageIndex(1), 0, 4096).await.is_some(), "another unit of that page is fine");
        assert!(store.read(&key, PageIndex(1), 5000, 10).await.is_none());
        assert!(!store.has_page(&key, PageIndex(1)), "dropped");
        assert_eq!(store.counters().corrupt_units, 1);
        assert_eq!(read(&store, &key, 0).await, Some(Tier::Ssd));
        store.close().await;
    });
}

#[test]
fn many_pages_are_served_at_once_after_a_restart() {
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    run(async {
        let mut small_pages = config(base.path(), 1 << 30);
        small_pages.page_bytes = 16 << 10;
        let (store, _) = Store::open(small_pages.clone()).await.unwrap();
        let large = FileKey { size_bytes: 10_000 << 14, ..key(1, 0) };
        for page in 0..10_000u32 {
            let buffer = store.new_page(16 << 10).await;
            store.insert(&large, PageIndex(page), buffer).await;
        }
        for file in 0..2_000u64 {
            let buffer = store.new_page(1000).await;
            store.insert(&key(10 + file, 1000), PageIndex(0), buffer).await;
        }
        store.close().await;
        let started = Instant::now();
        let (store, recovery) = Store::open(small_pages).await.unwrap();
        assert_eq!((recovery.pages, recovery.dropped_pages), (12_000, 0));
        assert!(store.read(&large, PageIndex(9_999), 0, 16 << 10).await.is_some());
        let elapsed = started.elapsed();
        assert!(elapsed.as_millis() < 1_500, "{elapsed:?}, {recovery:?}");
        store.close().await;
    });
}

async fn refusal(config: StoreConfig) -> EngineError {
    match Store::open(config).await {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

fn made(path: &Path) {
    run(async {
        let (store, _) = Store::open(config(path, 64 << 20)).await.unwrap();
        insert(&store, &key(5, 3 << 20), 0).await;
        insert(&store, &key(6, 1000), 0).await;
        store.close().await;
    });
}

#[test]
fn another_clusters_directory_is_refused() {
    let base = on_disk();
    made(base.path());
    run(async {
        let other = StoreConfig { cluster_id: ClusterId(43), ..config(base.path(), 64 << 20) };
        let error = refusal(other).await;
        assert!(matches!(error, EngineError::ForeignCluster { .. }));
        assert_eq!(error.to_string().lines().count(), 1);
        let (store, recovery) = Store::open(config(base.path(), 64 << 20)).await.unwrap();
        assert_eq!(recovery.pages, 2, "nothing was touched");
        store.close().await;
    });
}

#[test]
fn a_newer_format_and_a_damaged_superblock_are_refused() {
    let base = on_disk();
    made(base.path());
    let superblock = base.path().join("shard-0/superblock");
    let mut bytes = std::fs::read(&superblock).unwrap();
    bytes[8] = 2;
    std::fs::write(&superblock, &bytes).unwrap();
    run(async {
        let error = refusal(config(base.path(), 64 << 20)).await.to_string();
        assert!(error.contains("its superblock is damaged"), "{error}");
    });
    let crc = forebay_base::crc32c(&bytes[..4092]);
    bytes[4092..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&superblock, &bytes).unwrap();
    run(async {
        let error = refusal(config(base.path(), 64 << 20)).await;
        assert!(matches!(error, EngineError::NewerFormat { found: 2, known: 1, .. }), "{error}");
    });
    std::fs::remove_file(&superblock).unwrap();
    run(async {
        let error = refusal(config(base.path(), 64 << 20)).await.to_string();
        assert!(error.contains("but no superblock"), "{error}");
    });
}

#[test]
fn another_page_size_empties_the_directory_and_shards_that_are_no_more_go() {
    let base = on_disk();
    made(base.path());
    run(async {
        let changed = StoreConfig { page_bytes: 1 << 19, ..config(base.path(), 64 << 20) };
        let (store, recovery) = Store::open(changed).await.unwrap();
        assert_eq!(recovery.pages, 0);
        store.close().await;
    });
    assert_eq!(find(base.path(), &format!("{:016x}-{:016x}", 5, 3)), None);
    let surplus = base.path().join("shard-1");
    run(async {
        let other = StoreConfig { shard: ShardId(1), ..config(base.path(), 64 << 20) };
        Store::open(other).await.unwrap().0.close().await;
        assert!(surplus.join("superblock").exists());
        let one = StoreConfig { shards: 1, ..config(base.path(), 64 << 20) };
        let (store, _): (Rc<Store>, _) = Store::open(one).await.unwrap();
        assert!(!surplus.join("superblock").exists(), "shard 1 is no more");
        store.close().await;
    });
}

#[test]
fn another_number_of_shards_keeps_what_still_belongs() {
    let base = on_disk();
    let shards = |shards: u16| StoreConfig { shards, ..config(base.path(), 64 << 20) };
    run(async {
        let (store, _) = Store::open(shards(1)).await.unwrap();
        for file in 1..=40 {
            insert(&store, &key(file, 100_000), 0).await;
        }
        store.close().await;
        let (store, recovery) = Store::open(shards(2)).await.unwrap();
        let kept: Vec<u64> = store.files().iter().map(|(file, _)| file.0).collect();
        assert_eq!((recovery.pages, recovery.dropped_pages), (kept.len() as u64, 0));
        assert!((10..30).contains(&kept.len()), "{kept:?}");
        for file in 1..=40 {
            let own = shard_of(FileId(file), 2) == ShardId(0);
            assert_eq!(read(&store, &key(file, 100_000), 0).await.is_some(), own, "file {file}");
        }
        store.close().await;
        let (store, again) = Store::open(shards(2)).await.unwrap();
        assert_eq!(again.pages, recovery.pages);
        store.close().await;
    });
}

#[test]
fn a_later_incarnation_is_refused_and_an_earlier_one_taken_over() {
    let base = on_disk();
    let incarnation = |number| StoreConfig { incarnation: Incarnation(number), ..config(base.path(), 64 << 20) };
    made(base.path());
    run(async {
        let (store, recovery) = Store::open(incarnation(3)).await.unwrap();
        assert_eq!(recovery.pages, 2, "ids carry the incarnation: what is there is right");
        store.close().await;
        let error = refusal(incarnation(2)).await;
        assert!(matches!(error, EngineError::LaterIncarnation { .. }), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    });
}

#[test]
fn a_cache_is_emptied_when_the_operator_says_so_and_nothing_else_is() {
    let base = on_disk();
    made(base.path());
    let other = StoreConfig { cluster_id: ClusterId(43), ..config(base.path(), 64 << 20) };
    std::fs::write(base.path().join("notes"), "mine").unwrap();
    run(async {
        let (store, _) = Store::open(config(base.path(), 64 << 20)).await.unwrap();
        assert!(matches!(wipe_cache(base.path()), Err(EngineError::Locked { .. })));
        store.close().await;
    });
    let strange = base.path().join("shard-0/precious");
    std::fs::write(&strange, "mine").unwrap();
    assert!(matches!(wipe_cache(base.path()), Err(EngineError::NotOurs { .. })));
    assert!(base.path().join("shard-0/headers").exists(), "nothing was touched");
    std::fs::remove_file(strange).unwrap();
    assert!(holds_cache(base.path()).unwrap());
    assert_eq!(wipe_cache(base.path()).unwrap(), 1);
    assert!(!holds_cache(base.path()).unwrap() && base.path().join("notes").exists());
    assert!(!base.path().join("shard-0").exists());
    assert_eq!(wipe_cache(base.path()).unwrap(), 0);
    run(async {
        let (store, recovery) = Store::open(other).await.unwrap();
        assert_eq!(recovery.pages, 0);
        store.close().await;
    });
}

#[test]
fn a_directory_that_is_out_of_use_or_fails_leaves_the_others() {
    let (good, bad) = (on_disk(), on_disk());
    let file = bad.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let away = bad.path().join("away");
    run(async {
        let mut config = config(good.path(), 64 << 20);
        config.directories.push(DirectoryConfig::new(Tier::Hdd, &file, 64 << 20));
        let left_out = DirectoryConfig {
            out_of_use: Some("is its disk mounted?".into()),
            ..DirectoryConfig::new(Tier::Hdd, &away, 64 << 20)
        };
        config.directories.push(left_out);
        let (store, _) = Store::open(config).await.unwrap();
        insert(&store, &key(5, 3 << 20), 0).await;
        store.flush().await;
        assert_eq!(read(&store, &key(5, 3 << 20), 0).await, Some(Tier::Mem));
        let usage = store.usage();
        assert!(usage[1].trouble.is_none() && usage[1].used_bytes > 0, "{usage:?}");
        assert!(usage[2].trouble.as_ref().unwrap().contains("cannot make the directory"), "{usage:?}");
        assert_eq!(usage[3].trouble.as_deref(), Some("is its disk mounted?"));
        assert!(!away.exists(), "it is not touched");
        store.close().await;
    });
}

#[test]
fn wrong_settings_are_named() {
    let base = on_disk();
    run(async {
        let odd = StoreConfig { page_bytes: 3 << 14, ..config(base.path(), 64 << 20) };
        assert!(refusal(odd).await.to_string().contains("page size: got 49152 bytes, want a power of two"));
        let mut turned = config(base.path(), 64 << 20);
        turned.directories.insert(0, DirectoryConfig::new(Tier::Hdd, base.path(), 64 << 20));
        assert!(refusal(turned).await.to_string().contains("want SSD before HDD"));
    });
}
