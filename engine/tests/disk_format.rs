//! The disk format, byte by byte: a directory of each released format is kept under `fixtures/disk-format-N` and opened here,
//! and what today's code writes is compared with the fixture of its own format. `FOREBAY_TEST_WRITE=1` writes that one anew,
//! which is right only before its release.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use forebay_base::{ClusterId, FileId, FingerprintHash, Incarnation, PageIndex, ShardId, Version};
use forebay_engine::{DirectoryConfig, EvictionPolicy, FileKey, Store, StoreConfig, Tier};
use glommio::LocalExecutorBuilder;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};

const PAGE: u32 = 16 << 10;
/// The format that is written today.
const FORMAT: u32 = 1;

fn run<T>(test: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap().run(test)
}

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/disk-format-{format}"))
}

fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        mem_capacity_bytes: 1 << 20,
        directories: vec![DirectoryConfig::new(Tier::Ssd, path, 16 << 20)],
        eviction: EvictionPolicy::Lru,
        buffer_memory_bytes: 1 << 20,
        verify_reads: true,
        scrub_bytes_per_second: 0,
    }
}

/// What the fixture holds: files with the pages that are there. A large one with a gap and an odd end, a whole one, and
/// small ones of one byte, of a few units, of a whole page.
fn held() -> Vec<(FileKey, Vec<u32>)> {
    let key = |file: u64, version: u64, size_bytes: u64| FileKey {
        file_id: FileId(file),
        version: Version(version),
        fingerprint: FingerprintHash(u128::from(file) << 64 | 0xf1f2),
        size_bytes,
    };
    let page = u64::from(PAGE);
    vec![
        (key(0x0001_0000_0000_0011, 0x0001_0000_0000_0001, 3 * page + 4097), vec![0, 3]),
        (key(0x0001_0000_0000_0012, 0x0001_0000_0000_0002, page + 1), vec![0, 1]),
        (key(0x0001_0000_0000_0013, 0x0001_0000_0000_0003, 1), vec![0]),
        (key(0x0001_0000_0000_0014, 0x0001_0000_0000_0004, 5000), vec![0]),
        (key(0x0001_0000_0000_0014, 0x0001_0000_0000_0005, 5000), vec![0]),
        (key(0x0001_0000_0000_0015, 0x0001_0000_0000_0006, page), vec![0]),
    ]
}

/// Content that compresses well and differs from unit to unit.
fn content(key: &FileKey, page: u32) -> Vec<u8> {
    let length = key.page_length(PageIndex(page), PAGE) as usize;
    (0..length).map(|at| (key.file_id.0 + key.version.0 * 3 + u64::from(page) * 5 + (at / 512) as u64) as u8).collect()
}

async fn write(base: &Path) {
    let (store, _) = Store::open(config(base)).await.unwrap();
    for (key, pages) in held() {
        for page in pages {
            let bytes = content(&key, page);
            let mut buffer = store.new_page(bytes.len() as u32).await;
            buffer.copy_from_slice(&bytes);
            store.insert(&key, PageIndex(page), buffer).await;
            // One by one, so that slots follow from the order.
            store.flush().await;
        }
    }
    // A record that was used and is free again.
    let gone = FileKey { file_id: FileId(0x16), ..held()[3].0 };
    let buffer = store.new_page(5000).await;
    store.insert(&gone, PageIndex(0), buffer).await;
    store.flush().await;
    store.evict_file(gone.file_id, None).await;
    store.close().await;
    let counters = store.counters();
    assert_eq!((counters.disk_errors, counters.unwritten_pages), (0, 0));
}

/// Every file below a directory, by its path there.
fn files(base: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(base).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn copy(files: &BTreeMap<PathBuf, Vec<u8>>, to: &Path) {
    for (path, bytes) in files {
        let path = to.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn what_is_written_today_is_the_fixture_of_its_format() {
    let base = temporary();
    run(write(base.path()));
    let mut written = files(base.path());
    // What a free slot still holds is nobody's.
    for (path, bytes) in &mut written {
        if path.starts_with("shard-0/slabs") && path.to_string_lossy().contains("/8192-") {
            bytes.truncate(2 * 8192);
        }
    }
    let fixture = fixture(FORMAT);
    if std::env::var_os("FOREBAY_TEST_WRITE").is_some() {
        let _ = std::fs::remove_dir_all(&fixture);
        copy(&written, &fixture);
    }
    let kept = files(&fixture);
    assert_eq!(written.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>(), "other files than in the fixture");
    for (path, bytes) in &written {
        let kept = &kept[path];
        let differs = bytes.iter().zip(kept).position(|(now, then)| now != then);
        assert!(
            differs.is_none() && bytes.len() == kept.len(),
            "{} is not what format {FORMAT} was: differs at byte {differs:?}, {} bytes long and was {}. A released format \
             does not change: make a new one",
            path.display(),
            bytes.len(),
            kept.len()
        );
    }
    let total: usize = kept.values().map(Vec::len).sum();
    assert!(total < 200 << 10, "the fixture takes {total} bytes");
}

#[test]
fn directories_of_every_format_are_opened_and_right() {
    for format in 1..=FORMAT {
        let base = temporary();
        copy(&files(&fixture(format)), base.path());
        run(async {
            let (store, recovery) = Store::open(config(base.path())).await.unwrap();
            let pages: usize = held().iter().map(|(_, pages)| pages.len()).sum();
            assert_eq!((recovery.pages, recovery.dropped_pages), (pages as u64, 0), "format {format}");
            for (key, pages) in held() {
                for page in 0..key.size_bytes.div_ceil(u64::from(PAGE)) as u32 {
                    let whole = content(&key, page);
                    let read = store.read(&key, PageIndex(page), 0, whole.len() as u32).await;
                    assert_eq!(read.is_some(), pages.contains(&page), "format {format}: {key:?} page {page}");
                    if let Some(read) = read {
                        assert!(*read == *whole && read.tier() == Tier::Ssd, "format {format}: {key:?} page {page}");
                    }
                }
            }
            store.close().await;
        });
    }
}
