//! One core's engine, 128 KiB random reads at depth 32 from its SSD tier, interleaved with fio (io_uring, direct I/O, the
//! same depth) on the very file that the engine wrote.

use crate::shown;
use forebay_base::{ClusterId, FileId, FingerprintHash, PageIndex, ShardId, Version};
use forebay_engine::{DirectoryConfig, EvictionPolicy, FileKey, Store, StoreConfig};
use futures::stream::{FuturesUnordered, StreamExt};
use std::cell::Cell;
use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

const PAGE: u32 = 1 << 20;

/// What is read.
pub(crate) struct Shape {
    pub(crate) mib: u32,
    pub(crate) depth: usize,
    pub(crate) kib: u32,
}

fn key(shape: &Shape) -> FileKey {
    let size_bytes = u64::from(shape.mib) << 20;
    FileKey { file_id: FileId(1), version: Version(1), fingerprint: FingerprintHash(1), size_bytes }
}

fn config(path: &Path, shape: &Shape, verify_reads: bool) -> StoreConfig {
    StoreConfig {
        cluster_id: ClusterId(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        // No MEM tier: every read is the disk's.
        mem_capacity_bytes: 0,
        directories: vec![DirectoryConfig { path: path.to_owned(), capacity_bytes: (u64::from(shape.mib) + 64) << 20 }],
        eviction: EvictionPolicy::Lru,
        buffer_memory_bytes: 64 << 20,
        verify_reads,
    }
}

async fn fill(store: &Store, shape: &Shape) {
    for page in 0..shape.mib {
        let mut buffer = store.new_page(PAGE).await;
        let mut word = u64::from(page) + 1;
        for bytes in buffer.chunks_exact_mut(8) {
            word = word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ 0x5555;
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        store.insert(&key(shape), PageIndex(page), buffer).await;
    }
    store.flush().await;
}

/// MiB a second of one reader with `depth` reads under way.
async fn reads(store: &Rc<Store>, shape: &Shape, seconds: u64) -> Result<f64, String> {
    let length = shape.kib << 10;
    let pieces = u64::from(shape.mib) * u64::from(PAGE / length);
    let seed = Cell::new(0x1234_5678u64);
    let next = || {
        seed.set(seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let piece = (seed.get() >> 20) % pieces;
        let each = u64::from(PAGE / length);
        (PageIndex((piece / each) as u32), (piece % each) as u32 * length)
    };
    let key = key(shape);
    let read = |(page, offset): (PageIndex, u32)| async move { store.read(&key, page, offset, length).await.is_some() };
    let mut under_way: FuturesUnordered<_> = (0..shape.depth).map(|_| read(next())).collect();
    let started = Instant::now();
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
    Ok(done as f64 * f64::from(length) / f64::from(1 << 20) / started.elapsed().as_secs_f64())
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

fn fio(file: &Path, shape: &Shape, seconds: u64) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("fio")
        .args(["--name=limit", "--readonly", "--rw=randread", "--ioengine=io_uring", "--direct=1", "--time_based"])
        .args(["--output-format=json", "--allrandrepeat=0", "--randrepeat=0"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--bs={}k", shape.kib))
        .arg(format!("--iodepth={}", shape.depth))
        .arg(format!("--runtime={seconds}"))
        .output()
        .map_err(|error| format!("fio does not run ({error}): deploy/install.sh --tests installs it"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let from = text.find('{').ok_or_else(|| format!("fio: {}", String::from_utf8_lossy(&output.stderr)))?;
    let report: serde_json::Value = serde_json::from_str(&text[from..])?;
    Ok(report["jobs"][0]["read"]["bw_bytes"].as_f64().ok_or("fio reports no bandwidth")? / f64::from(1 << 20))
}

pub(crate) fn measure(folder: &Path, rounds: usize, seconds: u64, shape: &Shape) -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::Builder::new().prefix("forebay-load-").tempdir_in(folder)?;
    let executor =
        glommio::LocalExecutorBuilder::default().io_memory(16 << 20).make().map_err(|error| error.to_string())?;
    println!(
        "{} KiB random reads, depth {}, {} MiB, one core, {rounds} rounds of {seconds} s",
        shape.kib, shape.depth, shape.mib
    );
    let mut figures: [Vec<f64>; 3] = Default::default();
    let opened = |verify| executor.run(Store::open(config(temporary.path(), shape, verify)));
    let (store, _) = opened(true)?;
    executor.run(fill(&store, shape));
    executor.run(store.close());
    drop(store);
    let file = data_file(temporary.path())?;
    for _ in 0..rounds {
        for (verify, figures) in [true, false].into_iter().zip(&mut figures) {
            let (store, _) = opened(verify)?;
            figures.push(executor.run(reads(&store, shape, seconds))?);
            executor.run(store.close());
        }
        figures[2].push(fio(&file, shape, seconds)?);
    }
    let [checked, unchecked, limit] = figures;
    println!("{}", shown("engine, every 4 KiB checked, MiB/s", &checked));
    println!("{}", shown("engine, unchecked, MiB/s", &unchecked));
    println!("{}", shown("fio io_uring O_DIRECT, MiB/s", &limit));
    let ratios = |engine: &[f64]| engine.iter().zip(&limit).map(|(engine, fio)| engine / fio).collect::<Vec<f64>>();
    println!("{}", shown("engine / fio (target 0.9)", &ratios(&checked)));
    println!("{}", shown("unchecked engine / fio", &ratios(&unchecked)));
    Ok(())
}
