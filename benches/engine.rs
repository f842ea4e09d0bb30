//! Microbenchmarks of the engine: index, evictors, table sectors, and a whole store on a real glommio executor with
//! direct I/O in the build's file system (`FOREBAY_BENCH_DIR` names another place).

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay_base::{ClusterId, FileId, FingerprintHash, Incarnation, PageIndex, ShardId, Version};
use forebay_engine::bench::held::Held;
use forebay_engine::bench::{Evictor, HeaderSector};
use forebay_engine::{DirectoryConfig, EvictionPolicy, FileKey, Store, StoreConfig, Tier};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

const PAGE: u32 = 1 << 20;
const PAGES: u32 = 64;
const HELD: u32 = 100_000;

fn index(criterion: &mut Criterion) {
    let mut held = Held::new(EvictionPolicy::default());
    for page in 0..HELD {
        held.add_page(u64::from(page / 256), 256, page % 256);
    }
    let mut group = criterion.benchmark_group("index of 100,000 pages");
    let mut next = 0u32;
    group.bench_function("get", |bencher| {
        bencher.iter(|| {
            next = (next + 7919) % HELD;
            held.has_page(black_box(u64::from(next / 256)), 256, next % 256)
        });
    });
    group.bench_function("insert and remove, tables and evictor with it", |bencher| {
        bencher.iter(|| {
            held.add_page(black_box(1 << 30), 256, 7);
            held.remove_page(1 << 30, 256, 7);
        });
    });
    group.finish();
}

fn evictors(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("evictor of 100,000 pages");
    for (name, policy) in
        [("scan-resistant", EvictionPolicy::ScanResistant), ("lru", EvictionPolicy::Lru), ("lfu", EvictionPolicy::Lfu)]
    {
        let mut evictor = Evictor::new(policy);
        let nodes: Vec<u32> = (0..HELD).map(|page| evictor.insert(page)).collect();
        let mut next = 0usize;
        group.bench_function(format!("{name} hit"), |bencher| {
            bencher.iter(|| {
                next = (next + 7919) % nodes.len();
                evictor.touch(black_box(nodes[next]));
            });
        });
        group.bench_function(format!("{name} victim"), |bencher| bencher.iter(|| evictor.victim()));
    }
    group.finish();
}

fn sectors(criterion: &mut Criterion) {
    let mut sector = HeaderSector::default();
    let mut group = criterion.benchmark_group("block header of 256 pages");
    group.bench_function("in place: CRC and structure", |bencher| bencher.iter(|| sector.check()));
    group.bench_function("decoded into owned form", |bencher| bencher.iter(|| sector.decode()));
    group.bench_function("encoded", |bencher| bencher.iter(|| sector.encode(black_box(255))));
    group.finish();
}

fn key(file: u64) -> FileKey {
    let size_bytes = u64::from(PAGES) * u64::from(PAGE);
    FileKey { file_id: FileId(file), version: Version(1), fingerprint: FingerprintHash(1), size_bytes }
}

fn config(path: &Path, mem_capacity_bytes: u64) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(1),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        mem_capacity_bytes,
        directories: vec![DirectoryConfig::new(Tier::Ssd, path, 4 << 30)],
        eviction: EvictionPolicy::Lru,
        buffer_memory_bytes: 64 << 20,
        verify_reads: true,
        scrub_bytes_per_second: 0,
    }
}

async fn put(store: &Store, key: &FileKey, page: u32) {
    let mut buffer = store.new_page(PAGE).await;
    buffer.fill(page as u8);
    store.insert(key, PageIndex(page), buffer).await;
}

async fn opened(path: &Path, mem_capacity_bytes: u64) -> Rc<Store> {
    let (store, _) = Store::open(config(path, mem_capacity_bytes)).await.expect("a store in a fresh directory");
    for page in 0..PAGES {
        put(&store, &key(1), page).await;
    }
    store.flush().await;
    store
}

fn stores(criterion: &mut Criterion) {
    let place =
        std::env::var_os("FOREBAY_BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let executor = glommio::LocalExecutorBuilder::default().io_memory(8 << 20).make().expect("io_uring");
    let executor = &executor;
    let mut group = criterion.benchmark_group("engine on real glommio");
    for (tier, mem_capacity_bytes) in [(Tier::Mem, 256 << 20), (Tier::Ssd, 0)] {
        let folder = tempfile::tempdir_in(&place).expect("a directory");
        let store = executor.run(opened(folder.path(), mem_capacity_bytes));
        for length in [4 << 10, 128 << 10] {
            let mut next = 0u32;
            group.throughput(Throughput::Bytes(u64::from(length)));
            group.bench_function(format!("get {} KiB, {tier:?} hit", length >> 10), |bencher| {
                bencher.iter_custom(|rounds| {
                    executor.run(async {
                        let started = Instant::now();
                        for _ in 0..rounds {
                            next = (next + 7) % (PAGES * 8);
                            let (page, offset) = (PageIndex(next / 8), next % 8 * (128 << 10));
                            let slice = store.read(&key(1), page, offset, length).await.expect("it is held");
                            assert_eq!(black_box(slice).tier(), tier);
                        }
                        started.elapsed()
                    })
                });
            });
        }
        if tier == Tier::Ssd {
            group.throughput(Throughput::Bytes(u64::from(PAGES) * u64::from(PAGE)));
            group.sample_size(10).bench_function("put 64 MiB, durable on SSD", |bencher| {
                let mut file = 1;
                bencher.iter_custom(|rounds| {
                    executor.run(async {
                        let mut took = std::time::Duration::ZERO;
                        for _ in 0..rounds {
                            file += 1;
                            let started = Instant::now();
                            for page in 0..PAGES {
                                put(&store, &key(file), page).await;
                            }
                            store.flush().await;
                            took += started.elapsed();
                            store.evict_file(FileId(file), None).await;
                        }
                        took
                    })
                });
            });
        }
        executor.run(store.close());
    }
    group.finish();
}

criterion_group!(all, index, evictors, sectors, stores);
criterion_main!(all);
