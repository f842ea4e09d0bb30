//! A core that starts with millions of pages on SSD: how long until the first hit, and the memory that it takes. The directory is
//! made: tables, and sparse files without payload.

use crate::{Restart, resident_bytes};
use forebay_base::{ClusterId, Incarnation, PageIndex, ShardId};
use forebay_engine::bench::made::{LARGE_PAGES, Made, large, make, small};
use forebay_engine::{DirectoryConfig, EvictionPolicy, Store, StoreConfig, Tier};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

const PAGE: u32 = 1 << 20;

/// The most that this process had resident.
fn peak_bytes() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10)
}

pub(crate) fn measure(folder: &Path, rounds: usize, what: &Restart) -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::Builder::new().prefix("forebay-load-").tempdir_in(folder)?;
    let large_files = what.pages.div_ceil(u64::from(LARGE_PAGES));
    let made = Made { large_files, small_files: what.small };
    let pages = large_files * u64::from(LARGE_PAGES) + what.small;
    let config = StoreConfig {
        cluster_id: ClusterId(1),
        incarnation: Incarnation(1),
        shard: ShardId(0),
        shards: 1,
        page_bytes: PAGE,
        mem_capacity_bytes: 16 << 20,
        directories: vec![DirectoryConfig::new(Tier::Ssd, temporary.path(), 1 << 50)],
        eviction: EvictionPolicy::default(),
        buffer_memory_bytes: 16 << 20,
        verify_reads: true,
        scrub_bytes_per_second: 0,
    };
    let started = Instant::now();
    make(&config, made)?;
    println!("made {pages} entries ({} of them small files) in {:.1} s", what.small, started.elapsed().as_secs_f64());
    let executor =
        glommio::LocalExecutorBuilder::default().io_memory(16 << 20).make().map_err(|error| error.to_string())?;
    for _ in 0..rounds {
        let before = resident_bytes()?;
        let started = Instant::now();
        let (store, recovery) = executor.run(Store::open(config.clone()))?;
        let opened = started.elapsed();
        let first = if what.small > 0 {
            executor.run(store.read(&small(0), PageIndex(0), 0, 1_000)).is_some()
        } else {
            executor.run(store.read(&large(0, PAGE), PageIndex(9), 0, 4096)).is_some()
        };
        let hit = started.elapsed();
        if !first || recovery.pages != pages || recovery.dropped_pages > 0 {
            return Err(format!("the store is not what was made: {recovery:?}").into());
        }
        let bytes = resident_bytes()?.saturating_sub(before);
        println!(
            "open {:.2} s, first hit after {:.2} s (target 2); {:.0} MiB more resident, {:.0} bytes an entry; peak {:.0} MiB",
            opened.as_secs_f64(),
            hit.as_secs_f64(),
            bytes as f64 / f64::from(1 << 20),
            bytes as f64 / pages as f64,
            peak_bytes()? as f64 / f64::from(1 << 20)
        );
        executor.run(store.close());
    }
    Ok(())
}
