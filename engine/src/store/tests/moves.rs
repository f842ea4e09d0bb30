//! Pages between SSD and HDD: down before anything is dropped, up when they are hot, one copy at the end, and right bytes
//! whatever happens on the way.

use super::*;
use crate::disk::faulty::Faults;

const SSD: u64 = 48 * PAGE as u64;
const HDD: u64 = 400 * PAGE as u64;

fn tiered(mem_pages: u64) -> StoreConfig {
    with_hdd(config(mem_pages * u64::from(PAGE), &[SSD], EvictionPolicy::Lru), &[HDD])
}

fn disks(seed: u64) -> [FaultyDisk; 2] {
    [FaultyDisk::new(seed), FaultyDisk::new(seed + 1000)]
}

/// Files of one page and of four, more than SSD holds.
fn files() -> Vec<(FileKey, PageIndex)> {
    let large = (0..20).map(|number| key(3 + 6 * number, 1, 0)).flat_map(|key| (0..4).map(move |page| (key, page)));
    let small = (0..40).map(|number| (key(1 + 6 * number, 1, 0), 0));
    large.chain(small).map(|(key, page)| (key, PageIndex(page))).collect()
}

async fn fill_slowly(store: &Store) {
    for (key, page) in files() {
        insert(store, &key, page).await;
        moves_done(store).await;
    }
}

fn on_disks(store: &Store) -> (u64, u64) {
    let mut sum = (0, 0);
    for (file_id, version) in store.files() {
        let cached = store.cached(file_id, version);
        sum = (sum.0 + cached.ssd_bytes, sum.1 + cached.hdd_bytes);
    }
    sum
}

/// No page is on both disks, as their tables say.
fn assert_one_copy(store: &Store) {
    let names = |directory: &Rc<Directory>| {
        let tables = directory.tables.borrow();
        tables.pages().map(|(key, page, _)| key.page(page)).collect::<std::collections::BTreeSet<_>>()
    };
    let [ssd, hdd] = [0, 1].map(|number| names(&store.directories[number]));
    assert_eq!(ssd.intersection(&hdd).count(), 0);
}

#[test]
fn what_ssd_has_no_room_for_goes_down_and_nothing_is_lost() {
    run(async {
        let disks = disks(1);
        let (store, _) = open(&tiered(0), &disks).await;
        fill_slowly(&store).await;
        let counters = store.counters();
        assert_eq!((counters.evicted_pages, counters.evicted_hdd_pages), (0, 0), "{:?}", store.usage());
        assert!(counters.demoted_pages > 60, "{counters:?}");
        let total: u64 = files().iter().map(|(key, page)| u64::from(key.page_length(*page, PAGE))).sum();
        let (ssd, hdd) = on_disks(&store);
        assert!(ssd + hdd == total && ssd > SSD / 2 && hdd > total / 2, "{ssd} {hdd} {total}");
        assert_one_copy(&store);
        for (key, page) in files() {
            assert!(check(&store, &key, page, 0, PAGE).await, "{key:?} {page}");
        }
        assert!(store.counters().hdd_hits > 0);
        assert_accounted(&store, &disks);
        // A start finds every page where it was.
        store.close().await;
        let (store, recovery) = open(&tiered(0), &disks).await;
        assert_eq!((recovery.pages, recovery.dropped_pages), (files().len() as u64, 0));
        assert_eq!(on_disks(&store), (ssd, hdd));
        store.close().await;
        // The tier is not written anywhere: as SSD the slow directory keeps what it has.
        let both = config(0, &[SSD, HDD], EvictionPolicy::Lru);
        let (store, recovery) = open(&both, &disks).await;
        assert_eq!(recovery.pages, files().len() as u64);
        assert_eq!(on_disks(&store), (total, 0));
        store.close().await;
    });
}

#[test]
fn hot_pages_come_up_and_colder_ones_go_down_for_them() {
    run(async {
        let disks = disks(2);
        let (store, _) = open(&tiered(4), &disks).await;
        fill_slowly(&store).await;
        let cold =
            |store: &Store| files().iter().filter(|(key, page)| tier_of(store, key, *page) == Some(Tier::Hdd)).count();
        let before = cold(&store);
        let (hot, page) = *files().iter().find(|(key, page)| tier_of(&store, key, *page) == Some(Tier::Hdd)).unwrap();
        for _ in 0..3 {
            assert!(check(&store, &hot, page, 0, PAGE).await);
            moves_done(&store).await;
        }
        assert_eq!(tier_of(&store, &hot, page), Some(Tier::Ssd));
        assert_eq!(store.counters().lifted_pages, 1);
        assert!(cold(&store).abs_diff(before) <= 2, "{before} then {}", cold(&store));
        assert_eq!(store.counters().evicted_pages, 0);
        assert_one_copy(&store);
        store.close().await;
    });
}

fn tier_of(store: &Store, key: &FileKey, page: PageIndex) -> Option<Tier> {
    match store.tiers.borrow().index.page(key, page)?.disk {
        OnDisk::Present { directory, .. } => Some(store.directories[usize::from(directory)].tier),
        _ => None,
    }
}

#[test]
fn a_cut_at_any_point_of_a_move_leaves_one_copy_and_right_bytes() {
    let mut moved = 0;
    for seed in 0..200u64 {
        run(async {
            let disks = disks(seed);
            let (store, _) = open(&tiered(2), &disks).await;
            for (key, page) in files().into_iter().take(60) {
                insert(&store, &key, page).await;
            }
            moves_done(&store).await;
            // The mover may have found no buffer, and rests.
            glommio::timer::sleep(std::time::Duration::from_millis(25)).await;
            let mut random = Seed(seed);
            disks[(seed % 2) as usize].faults.set(Faults { cut_after: Some(random.below(200)), ..Faults::default() });
            for (key, page) in files().into_iter().skip(60) {
                insert(&store, &key, page).await;
                let (old, page) = files()[random.below(60) as usize];
                check(&store, &old, page, 0, PAGE).await;
                glommio::timer::sleep(std::time::Duration::from_micros(300)).await;
            }
            moved += store.counters().demoted_pages;
            drop(store);
            let after = disks.each_ref().map(FaultyDisk::after_crash);
            let (store, _) = open(&tiered(2), &after).await;
            moves_done(&store).await;
            assert_one_copy(&store);
            for (key, page) in files() {
                check(&store, &key, page, 0, PAGE).await;
            }
            assert_eq!(store.counters().corrupt_units, 0, "seed {seed}");
            moves_done(&store).await;
            assert_accounted(&store, &after);
            store.close().await;
        });
    }
    assert!(moved > 200, "{moved}");
}

#[test]
fn a_bad_page_is_not_carried_on_and_a_broken_hdd_costs_nothing_but_itself() {
    run(async {
        let disks = disks(5);
        let (store, _) = open(&tiered(0), &disks).await;
        for (key, page) in files().into_iter().take(36) {
            insert(&store, &key, page).await;
        }
        store.flush().await;
        let mut random = Seed(9);
        for _ in 0..40 {
            assert!(disks[0].flip_bit(&mut random, |path| path.to_string_lossy().contains("/files/")));
        }
        for (key, page) in files().into_iter().skip(36) {
            insert(&store, &key, page).await;
            moves_done(&store).await;
        }
        assert!(store.counters().corrupt_units > 0 && store.counters().demoted_pages > 0, "{:?}", store.counters());
        for (key, page) in files() {
            check(&store, &key, page, 0, PAGE).await;
        }
        disks[1].faults.set(Faults { write_errno: Some(libc::EIO), ..Faults::default() });
        for file in 0..30 {
            insert(&store, &key(1 + 6 * (100 + file), 1, 0), PageIndex(0)).await;
            store.flush().await;
            glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
        }
        let usage = store.usage();
        assert!(usage[1].trouble.is_none() && usage[2].trouble.is_some(), "{usage:?}");
        assert!(check(&store, &key(1 + 6 * 129, 1, 0), PageIndex(0), 0, PAGE).await);
        assert!(store.counters().evicted_pages > 0, "without HDD the coldest are dropped as ever");
        assert_accounted(&store, &disks[..1]);
        store.close().await;
    });
}

#[test]
fn pins_hold_on_both_tiers_and_stay_within_their_share() {
    run(async {
        let disks = disks(6);
        let (store, _) = open(&tiered(0), &disks).await;
        let until = Instant::now() + std::time::Duration::from_secs(60);
        let pinned: Vec<FileKey> = (0..60).map(|number| key(1 + 6 * number, 1, 0)).collect();
        for file in &pinned {
            let (file_id, version) = (file.file_id, file.version);
            assert!(store.pin(Pin { file_id, version, bytes: file.size_bytes, until }));
            insert(&store, file, PageIndex(0)).await;
            moves_done(&store).await;
        }
        for number in 0..300u64 {
            insert(&store, &key(3 + 6 * (200 + number), 1, 0), PageIndex(0)).await;
            store.flush().await;
        }
        for file in &pinned {
            assert!(store.has_page(file, PageIndex(0)), "{file:?} {:?}", store.usage());
        }
        let usage = store.usage();
        assert!(usage[1].pinned_bytes > SSD / 2 && usage[2].pinned_bytes > 0, "{usage:?}");
        assert_within_capacity(&store, &disks);
        store.close().await;
    });
}

#[test]
fn a_smaller_tier_keeps_what_fits_and_another_number_of_shards_what_belongs() {
    run(async {
        let disks = disks(7);
        let (store, _) = open(&tiered(0), &disks).await;
        fill_slowly(&store).await;
        store.close().await;
        let small = with_hdd(config(0, &[SSD / 2], EvictionPolicy::Lru), &[HDD / 8]);
        let (store, recovery) = open(&small, &disks).await;
        assert_eq!(recovery.pages, files().len() as u64);
        assert_within_capacity(&store, &disks);
        let (ssd, hdd) = on_disks(&store);
        assert!(ssd > SSD / 6 && hdd > HDD / 20, "{ssd} {hdd}");
        store.close().await;
        let (store, before) = open(&tiered(0), &disks).await;
        store.close().await;
        let two = StoreConfig { shards: 2, ..tiered(0) };
        let (store, after) = open(&two, &disks).await;
        assert!(after.pages > before.pages / 4 && after.pages < before.pages, "{before:?} {after:?}");
        assert!(store.files().iter().all(|(file, _)| shard_of(*file, 2) == ShardId(0)));
        for (key, page) in files() {
            check(&store, &key, page, 0, PAGE).await;
        }
        assert_accounted(&store, &disks);
        store.close().await;
        let (store, again) = open(&two, &disks).await;
        assert_eq!(again.pages, after.pages);
        store.close().await;
    });
}

/// Pages that the tables of both disks vouch for, before a start drops the second copies.
async fn pages_on_disks(disks: &[FaultyDisk]) -> (usize, u64) {
    let (mut pages, mut dropped) = (0, 0);
    for (number, (disk, directory)) in disks.iter().zip(&tiered(0).directories).enumerate() {
        let path = Directory::shard_path(&directory.path, 0);
        let opened = Directory::new(number as u8, path, Rc::new(disk.clone()), PAGE, directory, None);
        let (opened, recovered) = opened.recover().await;
        pages += opened.tables.borrow().pages().count();
        dropped += recovered.dropped;
    }
    (pages, dropped)
}

#[test]
fn a_cut_in_the_middle_of_a_move_loses_no_page() {
    run(async {
        let full = disks(8);
        let (store, _) = open(&tiered(0), &full).await;
        fill_slowly(&store).await;
        assert_eq!(store.counters().evicted_pages, 0);
        store.close().await;
        let (mut moved, mut doubled) = (0, 0);
        for seed in 0..150u64 {
            let disks = full.each_ref().map(FaultyDisk::after_crash);
            let (store, recovery) = open(&tiered(0), &disks).await;
            assert_eq!(recovery.pages, files().len() as u64);
            let cut_after = Some(Seed(seed).next() % 60);
            disks[(seed % 2) as usize].faults.set(Faults { cut_after, ..Faults::default() });
            let cold = files().into_iter().filter(|(key, page)| tier_of(&store, key, *page) == Some(Tier::Hdd));
            for (key, page) in cold.take(6).collect::<Vec<_>>() {
                for _ in 0..2 {
                    check(&store, &key, page, 0, PAGE).await;
                }
                glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
            }
            let counters = store.counters();
            assert_eq!((counters.evicted_pages, counters.evicted_hdd_pages), (0, 0), "lifting pushes nothing out");
            moved += counters.demoted_pages + counters.lifted_pages;
            drop(store);
            let after = disks.each_ref().map(FaultyDisk::after_crash);
            let (held, dropped) = pages_on_disks(&after).await;
            let (store, recovery) = open(&tiered(0), &after.each_ref().map(FaultyDisk::after_crash)).await;
            doubled += held.saturating_sub(recovery.pages as usize);
            // A table sector that was torn is a miss of all that it said, whoever wrote it.
            let torn = dropped + recovery.dropped_pages > 0;
            assert!(recovery.pages == files().len() as u64 || torn, "seed {seed}: {recovery:?}");
            moves_done(&store).await;
            assert_one_copy(&store);
            for (key, page) in files() {
                let hit = check(&store, &key, page, 0, PAGE).await;
                assert!(hit || torn, "seed {seed} {key:?} {page}");
            }
            store.close().await;
        }
        println!("{moved} moves, {doubled} pages on both disks after a cut");
        assert!(moved > 150 && doubled > 5, "{moved} moves, {doubled} pages on both disks after a cut");
    });
}
