//! One core's engine: random reads from its SSD tier, interleaved with fio (io_uring, direct I/O, the same depth) on the
//! very file that the engine wrote; and writes, interleaved with fio that syncs as often.

use crate::{fio, shown};
use forebay_base::metrics::process::cpu_seconds;
use forebay_base::{ClusterId, FileId, FingerprintHash, Incarnation, PageIndex, ShardId, Version};
use forebay_engine::{DirectoryConfig, EvictionPolicy, FileKey, Store, StoreConfig, Tier};
use futures::stream::{FuturesUnordered, StreamExt};
use std::cell::Cell;
use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

const PAGE: u32 = 1 << 20;

/// One kind of read.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) kib: u32,
    pub(crate) depth: usize,
}

/// What is measured unless something else is asked for.
pub(crate) const SHAPES: [Shape; 5] = [
    Shape { kib: 4, depth: 1 },
    Shape { kib: 4, depth: 32 },
    Shape { kib: 128, depth: 8 },
    Shape { kib: 128, depth: 32 },
    Shape { kib: 1024, depth: 8 },
];

fn key(file: u64, mib: u32) -> FileKey {
    let size_bytes = u64::from(mib) << 20;
    FileKey { file_id: FileId(file), version: Version(1), fingerprint: FingerprintHash(1), size_bytes }
}

fn config(path: &Path, mib: u32) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(1),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        // No MEM tier: every read is the disk's.
        mem_capacity_bytes: 0,
        directories: vec![DirectoryConfig::new(Tier::Ssd, path, (u64::from(mib) + 64) << 20)],
        eviction: EvictionPolicy::Lru,
        buffer_memory_bytes: 64 << 20,
        verify_reads: true,
        scrub_bytes_per_second: 0,
    }
}

async fn fill(store: &Store, file: u64, mib: u32) {
    for page in 0..mib {
        let mut buffer = store.new_page(PAGE).await;
        let mut word = u64::from(page) + 1;
        for bytes in buffer.chunks_exact_mut(8) {
            word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ 0x5555;
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        store.insert(&key(file, mib), PageIndex(page), buffer).await;
    }
    store.flush().await;
}

fn cpu_us() -> f64 {
    cpu_seconds() * 1e6
}

/// MiB a second of one reader with `depth` reads under way, and its CPU time for each.
async fn reads(store: &Rc<Store>, mib: u32, shape: Shape, seconds: u64) -> Result<fio::Run, String> {
    let length = shape.kib << 10;
    let pieces = u64::from(mib) * u64::from(PAGE / length);
    let seed = Cell::new(0x1234_5678u64);
    let next = || {
        seed.set(seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let piece = (seed.get() >> 20) % pieces;
        let each = u64::from(PAGE / length);
        (PageIndex((piece / each) as u32), (piece % each) as u32 * length)
    };
    let key = key(1, mib);
    let read = |(page, offset): (PageIndex, u32)| async move { store.read(&key, page, offset, length).await.is_some() };
    let mut under_way: FuturesUnordered<_> = (0..shape.depth).map(|_| read(next())).collect();
    let (started, cpu_before) = (Instant::now(), cpu_us());
    let until = started + Duration::from_secs(seconds);
    let mut done = 0u64;
    while let Some(held) = under_way.next().await {
        if !held {
            return Err("a page is not held: the disk is too full".into());
        }
        done += 1;
        if Instant::now() < until {
            under_way.push(read(next()));
        }
    }
    let mib_per_s = done as f64 * f64::from(length) / f64::from(1 << 20) / started.elapsed().as_secs_f64();
    Ok(fio::Run { mib_per_s, cpu_us_per_op: (cpu_us() - cpu_before) / done as f64 })
}

/// The engine's data file: the one with the most bytes.
fn data_file(folder: &Path) -> std::io::Result<PathBuf> {
    let (mut folders, mut largest) = (vec![folder.to_path_buf()], (0, PathBuf::new()));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let (path, meta) = {
                let entry = entry?;
                (entry.path(), entry.metadata()?)
            };
            if meta.is_dir() {
                folders.push(path);
            } else if meta.blocks() > largest.0 {
                largest = (meta.blocks(), path);
            }
        }
    }
    Ok(largest.1)
}

/// Pages of 1 MiB put in and made durable, a file after the other, for so many seconds.
async fn writes(store: &Rc<Store>, seconds: u64) -> fio::Run {
    const FILE_MIB: u32 = 256;
    let (started, cpu_before) = (Instant::now(), cpu_us());
    let mut pages = 0u64;
    while started.elapsed() < Duration::from_secs(seconds) {
        fill(store, 2 + pages / u64::from(FILE_MIB), FILE_MIB).await;
        pages += u64::from(FILE_MIB);
    }
    let mib_per_s = pages as f64 / started.elapsed().as_secs_f64();
    fio::Run { mib_per_s, cpu_us_per_op: (cpu_us() - cpu_before) / pages as f64 }
}

fn show(what: &str, engine: &[fio::Run], limit: &[fio::Run]) {
    let of = |runs: &[fio::Run], number: fn(&fio::Run) -> f64| runs.iter().map(number).collect::<Vec<f64>>();
    let (ours, fios) = (of(engine, |run| run.mib_per_s), of(limit, |run| run.mib_per_s));
    println!("{what}");
    println!("{}", shown("  engine, MiB/s", &ours));
    println!("{}", shown("  fio io_uring O_DIRECT, MiB/s", &fios));
    let ratios: Vec<f64> = ours.iter().zip(&fios).map(|(ours, fio)| ours / fio).collect();
    println!("{}", shown("  engine / fio (target 0.95)", &ratios));
    println!("{}", shown("  engine, CPU us per operation", &of(engine, |run| run.cpu_us_per_op)));
    println!("{}", shown("  fio, CPU us per operation", &of(limit, |run| run.cpu_us_per_op)));
}

/// Each shape in turn; engine and fio take turns in every round.
pub(crate) fn measure(
    folder: &Path,
    rounds: usize,
    seconds: u64,
    mib: u32,
    shapes: &[Shape],
) -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::Builder::new().prefix("forebay-load-").tempdir_in(folder)?;
    let executor =
        glommio::LocalExecutorBuilder::default().io_memory(32 << 20).make().map_err(|error| error.to_string())?;
    println!("one core's engine, every 4 KiB checked, {mib} MiB, {rounds} rounds of {seconds} s");
    let (store, _) = executor.run(Store::open(config(temporary.path(), mib)))?;
    executor.run(fill(&store, 1, mib));
    let file = data_file(temporary.path())?;
    for shape in shapes {
        let arguments = ["--readonly".into(), "--rw=randread".into()]
            .into_iter()
            .chain([format!("--bs={}k", shape.kib), format!("--iodepth={}", shape.depth)]);
        let arguments: Vec<String> = arguments.collect();
        let (mut engine, mut limit) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            engine.push(executor.run(reads(&store, mib, *shape, seconds))?);
            limit.push(fio::run(&file, "read", &arguments, seconds)?);
        }
        show(&format!("{} KiB random reads, depth {}", shape.kib, shape.depth), &engine, &limit);
    }
    executor.run(store.close());
    drop(store);
    let (mut engine, mut limit) = (Vec::new(), Vec::new());
    // As many writes under way, and a sync as often, as the engine's batches have.
    let arguments = ["--rw=write", "--bs=1m", "--iodepth=8", "--fdatasync=16", "--fallocate=none"];
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).chain([format!("--size={mib}m")]).collect();
    for round in 0..rounds {
        let place = temporary.path().join(format!("writes-{round}"));
        let (store, _) = executor.run(Store::open(config(&place, mib)))?;
        engine.push(executor.run(writes(&store, seconds)));
        executor.run(store.close());
        drop(store);
        std::fs::remove_dir_all(&place)?;
        let file = temporary.path().join("fio");
        limit.push(fio::run(&file, "write", &arguments, seconds)?);
        std::fs::remove_file(&file)?;
    }
    show("writes of 1 MiB, durable", &engine, &limit);
    Ok(())
}
