//! A worker killed with SIGKILL under load: readers resume without a wrong byte, and its cache is warm when it is back.

use forebay_tests::{Cluster, Options, Pattern, Report, WorkerUse, drop_cached, eventually};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const FILES: usize = 16;
const FILE_BYTES: u64 = 96 << 20;
const SMALL_FILES: usize = 500;
const SMALL_BYTES: u64 = 60 << 10;

fn loaded() -> Cluster {
    let cluster = Cluster::start(Options::default().set("worker.mem_capacity", "\"64MiB\""));
    let folder = cluster.store("data");
    for index in 0..FILES {
        Pattern(index as u64).write(&folder.join(format!("f{index}")), FILE_BYTES).expect("space");
    }
    std::fs::create_dir(folder.join("small")).expect("a directory");
    for index in 0..SMALL_FILES {
        Pattern(1000 + index as u64).write(&folder.join(format!("small/f{index}")), SMALL_BYTES).expect("space");
    }
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    cluster.cli().ok(&["fs", "load", "-R", "/data"]);
    cluster
}

#[test]
fn readers_resume_and_the_cache_is_warm_again() {
    let mut cluster = loaded();
    let data = FILES as u64 * FILE_BYTES + SMALL_FILES as u64 * SMALL_BYTES;
    let before = cluster.settled_ssd_bytes();
    assert!(before >= data, "only {before} bytes of {data} are on SSD after a load");

    let mountpoint = cluster.mountpoint();
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let (first_hit, restarted) = std::thread::scope(|scope| {
        for reader in 0..4 {
            let (done, reads, mountpoint) = (&done, &reads, &mountpoint);
            scope.spawn(move || {
                let mut index = reader;
                while !done.load(Ordering::Relaxed) {
                    let path = mountpoint.join(format!("data/f{}", index % FILES));
                    Pattern((index % FILES) as u64).check(&path, FILE_BYTES).expect("bytes, if late ones");
                    drop_cached(&path);
                    reads.fetch_add(1, Ordering::Relaxed);
                    index += 1;
                }
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        cluster.workers[0].as_mut().expect("it runs").kill();
        std::thread::sleep(Duration::from_millis(500));
        let process = cluster.spawn_worker(0);
        let started = process.started();
        cluster.workers[0] = Some(process);
        let path = mountpoint.join("data/small/f0");
        let first_hit = eventually("a first read", Duration::from_secs(30), || {
            let read = Pattern(1000).check(&path, SMALL_BYTES);
            drop_cached(&path);
            read.ok().map(|()| started.elapsed())
        });
        let so_far = reads.load(Ordering::Relaxed);
        eventually("the readers to go on", Duration::from_secs(40), || {
            (reads.load(Ordering::Relaxed) >= so_far + 8).then_some(())
        });
        done.store(true, Ordering::Relaxed);
        (first_hit, Instant::now())
    });
    eprintln!("first hit {first_hit:?} after the start, readers resumed, {:?} ago", restarted.elapsed());
    assert!(first_hit <= Duration::from_secs(2), "the first hit came {first_hit:?} after the start, want 2 s at most");

    for index in 0..FILES {
        let path = mountpoint.join(format!("data/f{index}"));
        Pattern(index as u64).check(&path, FILE_BYTES).expect("bytes");
        drop_cached(&path);
    }
    for index in 0..SMALL_FILES {
        let path = mountpoint.join(format!("data/small/f{index}"));
        Pattern(1000 + index as u64).check(&path, SMALL_BYTES).expect("bytes");
    }
    std::thread::sleep(Duration::from_millis(1500));
    let fetched = cluster.report().store_read_bytes();
    assert!(fetched <= data / 100, "{fetched} bytes of {data} had to be fetched again: less than 99 % was warm");
    let after = cluster.settled_ssd_bytes();
    assert!(after >= before / 100 * 99, "{after} bytes on SSD, {before} before the kill");
}

#[test]
fn killed_while_it_fills_it_keeps_only_right_pages() {
    let mut cluster = Cluster::start(Options::default().set("worker.mem_capacity", "\"32MiB\""));
    let folder = cluster.store("data");
    for index in 0..FILES {
        Pattern(index as u64).write(&folder.join(format!("f{index}")), FILE_BYTES / 4).expect("space");
    }
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    let mountpoint = cluster.mountpoint();
    const KILLS: u64 = 8;
    for round in 0..KILLS {
        std::thread::scope(|scope| {
            let cli = cluster.cli();
            // Fails when the worker dies under it; that is its right.
            scope.spawn(move || drop(cli.run(&["fs", "load", "-R", "/data"])));
            std::thread::sleep(Duration::from_millis(150 + round * 115));
            cluster.workers[0].as_mut().expect("it runs").kill();
            cluster.start_worker(0);
        });
        for index in 0..FILES {
            let path = mountpoint.join(format!("data/f{index}"));
            Pattern(index as u64).check(&path, FILE_BYTES / 4).expect("bytes of the store, however torn the cache was");
            drop_cached(&path);
        }
        cluster.cli().ok(&["fs", "free", "-R", "/data"]);
    }
    assert!(Report::ask(&cluster.cli()).is_some());
    eprintln!("{KILLS} kills, every byte compared after each");
}

#[test]
fn two_workers_one_dies_and_reads_go_on() {
    let mut cluster = Cluster::start(
        Options { workers: 2, worker_cores: 1, ssd_capacity: "1GiB".into(), ..Options::default() }
            .set("master.worker_timeout", "\"3s\"")
            .set("worker.mem_capacity", "\"32MiB\""),
    );
    let folder = cluster.store("data");
    for index in 0..FILES {
        Pattern(index as u64).write(&folder.join(format!("f{index}")), 8 << 20).expect("space");
    }
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    let read_all = |cluster: &Cluster| {
        for index in 0..FILES {
            let path = cluster.mountpoint().join(format!("data/f{index}"));
            Pattern(index as u64).check(&path, 8 << 20).expect("bytes");
            drop_cached(&path);
        }
    };
    read_all(&cluster);
    eventually("both workers to hold a part", Duration::from_secs(5), || {
        let held = |worker: &WorkerUse| worker.tiers.iter().map(|tier| tier.used_bytes).sum::<u64>() > 0;
        cluster.report().workers.iter().all(held).then_some(())
    });
    cluster.workers[1].as_mut().expect("it runs").kill();
    read_all(&cluster);
    cluster.start_worker(1);
    read_all(&cluster);
}
