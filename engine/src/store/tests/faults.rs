//! Cuts, torn writes, flipped bits, full and failing disks; and what keeps memory and capacity within bounds. Every
//! failure names its seed.

use super::*;
use crate::disk::faulty::{Faults, Plan};
use crate::disk::simulated::Simulation;
use crate::disk::{now, sleep};
use std::path::Path;
use std::slice::from_ref;
use std::time::Duration;

type Wanted = fn(&Path) -> bool;

#[test]
fn what_was_flushed_is_there_after_a_close_and_after_a_crash() {
    run(async {
        let config = config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(1);
        let (store, _) = open(&config, from_ref(&disk)).await;
        fill(&store).await;
        store.close().await;
        let (store, recovery) = open(&config, from_ref(&disk)).await;
        assert_eq!((recovery.pages, recovery.dropped_pages), (crowd().len() as u64, 0));
        assert_eq!(hits(&store).await, crowd().len());
        let after = disk.after_crash();
        let (store, recovery) = open(&config, &[after]).await;
        assert_eq!(recovery.pages, crowd().len() as u64);
        assert_eq!(hits(&store).await, crowd().len());
        assert_eq!(store.counters().corrupt_units, 0);
        assert_eq!(store.files().len(), 24);
    });
}

#[test]
fn power_cut_at_any_write() {
    for seed in 0..160u64 {
        run(async {
            // Little room, so that pages are evicted while others are written.
            let capacity = if seed % 2 == 0 { ROOMY } else { 50 * u64::from(PAGE) };
            let config = config(4 * u64::from(PAGE), &[capacity], EvictionPolicy::Lru);
            let disk = FaultyDisk::new(seed);
            let (store, _) = open(&config, from_ref(&disk)).await;
            let mut random = Seed(seed);
            fill(&store).await;
            if seed % 3 == 0 {
                store.flush().await;
            }
            disk.faults.set(Faults { cut_after: Some(random.below(120)), ..Faults::default() });
            for file in 0..6 {
                store.evict_file(FileId(random.below(24)), None).await;
                let key = key(100 + file, 1, 0);
                insert(&store, &key, PageIndex(0)).await;
            }
            fill(&store).await;
            store.flush().await;
            assert!(disk.is_dead() || store.counters().disk_errors == 0, "seed {seed}");
            drop(store);
            let after = disk.after_crash();
            let (store, _) = open(&config, from_ref(&after)).await;
            let first = hits(&store).await;
            assert_within_capacity(&store, from_ref(&after));
            // And it works on.
            fill(&store).await;
            store.flush().await;
            let later = hits(&store).await;
            assert!(later >= first.min(20), "seed {seed}: {first} then {later}");
            assert_accounted(&store, &[after]);
            assert_eq!(store.counters().disk_errors, 0, "seed {seed}");
            store.close().await;
        });
    }
}

#[test]
fn a_flipped_bit_is_a_miss() {
    // Most of a row sector is rows of pages that are not there, and slots have some padding: more bits there.
    let places: [(&str, u32, Wanted); 5] = [
        ("payload", 1, |path| path.to_string_lossy().contains("/files/")),
        ("slab", 4, |path| path.to_string_lossy().contains("/slabs/")),
        ("rows", 400, |path| path.ends_with("rows")),
        ("headers", 1, |path| path.ends_with("headers")),
        ("small", 1, |path| path.ends_with("small")),
    ];
    let mut noticed = [0; 5];
    for seed in 0..40u64 {
        for (number, (what, bits, place)) in places.iter().enumerate() {
            run(async {
                let config = config(0, &[ROOMY], EvictionPolicy::Lru);
                let disk = FaultyDisk::new(seed);
                let (store, _) = open(&config, from_ref(&disk)).await;
                fill(&store).await;
                store.close().await;
                let mut random = Seed(seed);
                for _ in 0..*bits {
                    assert!(disk.flip_bit(&mut random, place), "nothing in {what}");
                }
                let (store, recovery) = open(&config, &[disk]).await;
                let hits = hits(&store).await;
                let corrupt = store.counters().corrupt_units;
                if hits < crowd().len() {
                    noticed[number] += 1;
                    assert!(recovery.dropped_pages + corrupt > 0, "seed {seed} {what}");
                }
                store.close().await;
            });
        }
    }
    assert!(noticed.iter().all(|&times| times > 30), "{noticed:?}");
}

#[test]
fn a_full_disk_makes_the_directory_smaller_and_reads_go_on() {
    run(async {
        let config = config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(3);
        let (store, _) = open(&config, from_ref(&disk)).await;
        disk.faults.set(Faults { capacity_bytes: Some(40 * u64::from(PAGE)), ..Faults::default() });
        for _ in 0..3 {
            fill(&store).await;
            store.flush().await;
        }
        let usage = &store.usage()[1];
        let trouble = usage.trouble.clone().unwrap();
        assert!(trouble.starts_with("disk full at "), "{trouble}");
        assert!(disk.allocated_bytes() <= 40 * u64::from(PAGE));
        let some = hits(&store).await;
        assert!(some > 4, "{some}");
        store.close().await;
        disk.faults.set(Faults::default());
        let (store, recovery) = open(&config, &[disk]).await;
        assert!(recovery.pages > 4 && recovery.dropped_pages == 0, "{recovery:?}");
        hits(&store).await;
        store.close().await;
    });
}

#[test]
fn a_disk_that_fails_is_given_up_and_the_other_one_takes_over() {
    for (number, fault) in [
        Faults { write_errno: Some(libc::EIO), ..Faults::default() },
        Faults { sync_errno: Some(libc::EIO), ..Faults::default() },
        Faults { read_errno: Some(libc::EIO), ..Faults::default() },
    ]
    .into_iter()
    .enumerate()
    {
        run(async {
            let config = config(4 * u64::from(PAGE), &[ROOMY, ROOMY / 2], EvictionPolicy::Lru);
            let disks = [FaultyDisk::new(4), FaultyDisk::new(5)];
            let (store, _) = open(&config, &disks).await;
            fill(&store).await;
            store.flush().await;
            assert_eq!(hits(&store).await, crowd().len());
            disks[0].faults.set(fault);
            insert(&store, &key(200, 1, 0), PageIndex(0)).await;
            store.flush().await;
            for _ in 0..2 {
                hits(&store).await;
                fill(&store).await;
                store.flush().await;
            }
            let usage = store.usage();
            assert!(usage[1].trouble.as_ref().unwrap().starts_with("given up after"), "{number}: {usage:?}");
            assert_eq!(usage[2].trouble, None);
            assert_eq!(hits(&store).await, crowd().len(), "the other directory has it all");
            assert!(store.counters().disk_errors > 0);
            store.close().await;
        });
    }
}

#[test]
fn a_disk_that_cannot_be_read_at_the_start_leaves_a_store_without_it() {
    run(async {
        let config = config(8 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(6);
        let (store, _) = open(&config, from_ref(&disk)).await;
        fill(&store).await;
        store.close().await;
        disk.faults.set(Faults { read_errno: Some(libc::EIO), ..Faults::default() });
        let (store, recovery) = open(&config, &[disk]).await;
        assert_eq!(recovery.pages, 0);
        assert!(store.usage()[1].trouble.as_ref().unwrap().starts_with("cannot read its tables"));
        fill(&store).await;
        assert!(hits(&store).await > 0);
        store.close().await;
    });
}

#[test]
fn a_page_that_is_read_again_and_again_moves_to_memory() {
    run(async {
        let config = config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(8);
        let (store, _) = open(&config, from_ref(&disk)).await;
        let key = key(3, 1, 0);
        insert(&store, &key, PageIndex(0)).await;
        store.close().await;
        let (store, _) = open(&config, &[disk]).await;
        let mut tiers = Vec::new();
        for _ in 0..3 {
            tiers.push(store.read(&key, PageIndex(0), 0, PAGE).await.unwrap().tier());
        }
        assert_eq!(tiers, [Tier::Ssd, Tier::Ssd, Tier::Mem]);
        let cached = store.cached(key.file_id, key.version);
        let page = u64::from(PAGE);
        assert_eq!(cached, CachedPages { mem_bytes: page, ssd_bytes: page, any_bytes: page, ..CachedPages::default() });
        assert!(store.read(&key, PageIndex(3), 0, 4098).await.is_none(), "behind the end");
        store.close().await;
    });
}

#[test]
fn pinned_pages_stay_and_smaller_capacities_hold_from_the_start() {
    run(async {
        let roomy = config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(9);
        let (store, _) = open(&roomy, from_ref(&disk)).await;
        fill(&store).await;
        store.close().await;
        let tight = config(4 * u64::from(PAGE), &[40 * u64::from(PAGE)], EvictionPolicy::Lru);
        let (store, _) = open(&tight, from_ref(&disk)).await;
        assert_within_capacity(&store, from_ref(&disk));
        let pinned = key(3, 1, 0);
        for page in 0..4 {
            insert(&store, &pinned, PageIndex(page)).await;
        }
        store.flush().await;
        let now = Instant::now();
        let pin = Pin { file_id: pinned.file_id, version: pinned.version, bytes: 4 * u64::from(PAGE), until: now };
        assert!(store.pin(pin));
        for _ in 0..3 {
            fill(&store).await;
            store.flush().await;
        }
        for page in 0..4 {
            assert!(check(&store, &pinned, PageIndex(page), 0, PAGE).await);
        }
        assert!(store.usage()[1].pinned_bytes > 3 * u64::from(PAGE));
        assert_within_capacity(&store, from_ref(&disk));
        store.expire_pins(now);
        assert_eq!(store.usage()[1].pinned_bytes, 0);
        fill(&store).await;
        store.flush().await;
        assert!(!check(&store, &pinned, PageIndex(0), 0, PAGE).await, "its lease was over");
        assert_accounted(&store, &[disk]);
        store.close().await;
    });
}

#[test]
fn pins_hold_a_share_and_no_more() {
    for ssd in [Some(40), None] {
        run(async {
            let directories: Vec<u64> = ssd.iter().map(|pages| pages * u64::from(PAGE)).collect();
            let mem = if ssd.is_some() { 4 } else { 40 };
            let disks: Vec<FaultyDisk> = directories.iter().map(|_| FaultyDisk::new(3)).collect();
            let (store, _) = open(&config(mem * u64::from(PAGE), &directories, EvictionPolicy::Lru), &disks).await;
            let big = key(5, 1, 0);
            let (file_id, version, until) = (big.file_id, big.version, Instant::now());
            let pin = |pages: u64| Pin { file_id, version, bytes: pages * u64::from(PAGE), until };
            assert!(!store.pin(pin(40)) && store.pin(pin(20)));
            // More of it comes than was said: what is beyond the share may leave, and something else always fits.
            for page in 0..40 {
                insert(&store, &big, PageIndex(page)).await;
                store.flush().await;
            }
            let usage = store.usage().pop().expect("a tier");
            assert!(usage.pinned_bytes > 24 * u64::from(PAGE), "{usage:?}");
            assert_within_capacity(&store, &disks);
            let other = key(2, 1, 0);
            insert(&store, &other, PageIndex(0)).await;
            store.flush().await;
            assert!(check(&store, &other, PageIndex(0), 0, PAGE).await);
            // A new version takes the pin over; what was evicted takes its pin along.
            assert!(store.pin(Pin { version: Version(2), ..pin(20) }));
            assert_eq!(store.usage().pop().expect("a tier").pinned_bytes, 0);
            assert!(store.pin(pin(20)));
            assert!(store.usage().pop().expect("a tier").pinned_bytes > 0);
            store.evict_file(file_id, None).await;
            assert_eq!(store.usage().pop().expect("a tier").pinned_bytes, 0);
            assert!(store.pin(Pin { file_id: FileId(9), ..pin(20) }), "nothing is reserved any more");
            store.close().await;
        });
    }
}

#[test]
fn pins_spread_over_the_directories_that_have_room_for_them() {
    run(async {
        let size = 40 * u64::from(PAGE);
        let disks = [FaultyDisk::new(4), FaultyDisk::new(5)];
        let (store, _) = open(&config(4 * u64::from(PAGE), &[size, size], EvictionPolicy::Lru), &disks).await;
        fill(&store).await;
        store.flush().await;
        let until = Instant::now();
        let files: Vec<FileKey> = (100..144).map(|number| key(6 * number + 1, 1, 0)).collect();
        for file in &files {
            let (file_id, version) = (file.file_id, file.version);
            assert!(store.pin(Pin { file_id, version, bytes: file.size_bytes, until }));
            insert(&store, file, PageIndex(0)).await;
            store.flush().await;
        }
        fill(&store).await;
        store.flush().await;
        for file in &files {
            assert!(store.has_page(file, PageIndex(0)), "{file:?} was evicted: {:?}", store.usage());
        }
        assert_within_capacity(&store, &disks);
        store.close().await;
    });
}

#[test]
fn buffers_hold_back_and_never_for_ever() {
    run(async {
        let config = config(0, &[], EvictionPolicy::Lru);
        let (store, _) = open(&config, &[]).await;
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(store.new_page(PAGE).await);
        }
        assert_eq!(store.counters().buffer_bytes, 16 * u64::from(PAGE));
        let started = Instant::now();
        held.push(store.new_page(PAGE).await);
        assert!(started.elapsed().as_millis() >= 900, "waited {:?}", started.elapsed());
        assert_eq!(store.counters().buffer_waits, 1);
        held.clear();
        assert_eq!(store.counters().buffer_bytes, 0);
    });
}

#[test]
fn the_scrub_finds_what_nobody_reads() {
    let places: [(&str, Wanted); 3] = [
        ("payload", |path| path.to_string_lossy().contains("/files/")),
        ("slab", |path| path.to_string_lossy().contains("/slabs/")),
        ("rows", |path| path.ends_with("rows")),
    ];
    for (what, place) in places {
        let (found, _) = Simulation::run(10, async move {
            let rate = 1 << 20;
            let config = StoreConfig { scrub_bytes_per_second: rate, ..config(0, &[ROOMY], EvictionPolicy::Lru) };
            let disk = FaultyDisk::new(10);
            let (store, _) = open(&config, from_ref(&disk)).await;
            fill(&store).await;
            store.flush().await;
            let whole: u64 = crowd().iter().map(|(key, page)| u64::from(key.page_length(*page, PAGE))).sum();
            sleep(Duration::from_secs(2 * whole / rate + 120)).await;
            let counters = store.counters();
            assert!(counters.scrub_rounds >= 1 && counters.scrubbed_bytes >= whole, "{counters:?}");
            assert_eq!((counters.scrub_bad_pages, counters.corrupt_units, counters.disk_errors), (0, 0, 0));
            // No faster than it may, rounds and pauses together.
            let most = rate * (2 * whole / rate + 121);
            assert!(counters.scrubbed_bytes <= most, "{} bytes, at most {most}", counters.scrubbed_bytes);
            let mut random = Seed(3);
            for _ in 0..if what == "rows" { 2000 } else { 3 } {
                assert!(disk.flip_bit(&mut random, place), "nothing in {what}");
            }
            let reads = store.counters().ssd_hits;
            sleep(Duration::from_secs(2 * whole / rate + 120)).await;
            let counters = store.counters();
            assert_eq!(counters.ssd_hits, reads, "nobody has read");
            assert_eq!(counters.scrub_bad_pages, counters.corrupt_units);
            let held = crowd().iter().filter(|(key, page)| store.has_page(key, *page)).count();
            assert_eq!(held as u64 + counters.scrub_bad_pages, crowd().len() as u64, "{what}: dropped");
            assert_eq!(hits(&store).await, held, "what is left is good");
            store.close().await;
            counters.scrub_bad_pages
        });
        assert!(found > 0, "{what}");
    }
}

#[test]
fn the_scrub_lets_readers_go_first() {
    let (bytes, _) = Simulation::run(11, async {
        let config = StoreConfig { scrub_bytes_per_second: 1 << 30, ..config(0, &[ROOMY], EvictionPolicy::Lru) };
        let disk = FaultyDisk::new(11);
        disk.plan.set(Plan { latency: Duration::from_millis(2), ..Plan::default() });
        let (store, _) = open(&config, from_ref(&disk)).await;
        fill(&store).await;
        store.flush().await;
        sleep(Duration::from_secs(90)).await;
        let key = key(3, 1, 0);
        let before = store.counters().scrubbed_bytes;
        // Somebody reads all the time, longer than a pause between two rounds.
        let until = now() + Duration::from_secs(130);
        while now() < until {
            let reads = [store.read(&key, PageIndex(0), 0, 100), store.read(&key, PageIndex(1), 0, 100)];
            assert!(futures::future::join_all(reads).await.iter().all(Option::is_some));
        }
        let bytes = store.counters().scrubbed_bytes - before;
        store.close().await;
        bytes
    });
    // It stepped aside for a second before each page, and went on nevertheless.
    assert!(bytes > 0 && bytes <= 131 * u64::from(PAGE), "{bytes}");
}
