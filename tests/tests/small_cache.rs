//! A data set several times the cache: reads stay right and every bound holds while they go on.

use forebay_tests::{Cluster, Options, Pattern, Report, disk_use_bytes, drop_cached, each_file, spread};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const MEM: u64 = 32 * MIB;
const SSD: u64 = 128 * MIB;
const BUFFERS: u64 = 32 * MIB;
const LARGE_FILES: usize = 10;
const LARGE_BYTES: u64 = 48 * MIB;
const SMALL_FILES: usize = 1_600;
const SMALL_BYTES: u64 = 100 << 10;

fn run(eviction: &str) {
    let options = Options { ssd_capacity: "128MiB".into(), ..Options::default() };
    let cluster = Cluster::start(
        options
            .set("worker.mem_capacity", "\"32MiB\"")
            .set("worker.buffer_memory", "\"32MiB\"")
            .set("worker.eviction", &format!("\"{eviction}\"")),
    );
    let folder = cluster.store("data");
    for index in 0..LARGE_FILES {
        Pattern(index as u64).write(&folder.join(format!("large{index}")), LARGE_BYTES).expect("space");
    }
    for index in 0..SMALL_FILES {
        let path = folder.join(spread(index));
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        Pattern(1000 + index as u64).write(&path, SMALL_BYTES).expect("space");
    }
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    let data = cluster.mountpoint().join("data");
    let (cli, cache) = (cluster.cli(), cluster.cache());
    let worker = cluster.workers[0].as_ref().expect("it runs");
    let done = AtomicBool::new(false);
    let (resident, occupied, looks) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut resident, mut occupied, mut looks) = (0, 0, 0);
            while !done.load(Ordering::Relaxed) {
                resident = resident.max(worker.resident_bytes());
                occupied = occupied.max(disk_use_bytes(&cache));
                let report = Report::ask(&cli).expect("a report");
                for tier in report.workers.iter().flat_map(|worker| &worker.tiers) {
                    assert!(tier.used_bytes <= tier.capacity_bytes, "{tier:?} passes its capacity");
                    assert!(tier.trouble.is_empty(), "{tier:?}");
                }
                looks += 1;
                std::thread::sleep(Duration::from_millis(150));
            }
            (resident, occupied, looks)
        });
        for _ in 0..2 {
            let errors = each_file(LARGE_FILES, 3, |index| {
                let path = data.join(format!("large{index}"));
                let checked = Pattern(index as u64).check(&path, LARGE_BYTES);
                drop_cached(&path);
                checked
            });
            assert!(errors.is_empty(), "{errors:?}");
            let errors = each_file(SMALL_FILES, 8, |index| {
                let path = data.join(spread(index));
                let checked = Pattern(1000 + index as u64).check(&path, SMALL_BYTES);
                drop_cached(&path);
                checked
            });
            assert!(errors.is_empty(), "{} are wrong, the first: {}", errors.len(), errors[0]);
        }
        done.store(true, Ordering::Relaxed);
        watch.join().expect("every bound held")
    });
    eprintln!("{eviction}: {} MiB resident, {} MiB on disk, {looks} looks", resident / MIB, occupied / MIB);
    assert!(looks > 5, "only {looks} looks");
    let resident_max = MEM + BUFFERS + 150 * MIB;
    assert!(resident <= resident_max, "the worker took {} MiB, want {} at most", resident / MIB, resident_max / MIB);
    // Headers and checksums of the pages are a part of a per cent; directories and half-written slabs a little more.
    let occupied_max = SSD + SSD / 50 + 2 * MIB;
    assert!(occupied <= occupied_max, "{} MiB on disk, want {} at most", occupied / MIB, occupied_max / MIB);
    let report = cluster.report();
    assert!(report.used_bytes("SSD") > SSD / 2, "the cache holds little: {report:?}");
    assert!(report.tiers("SSD").all(|tier| tier.capacity_bytes <= SSD), "{report:?}");
}

#[test]
fn four_times_the_cache_with_lru() {
    run("lru");
}

#[test]
fn four_times_the_cache_with_lfu() {
    run("lfu");
}

#[test]
fn four_times_the_cache_with_the_scan_resistant_policy() {
    run("scan-resistant");
}
