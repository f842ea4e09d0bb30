//! What the store says of a file: where its pages are, what holds them, and why they left.

use super::*;
use crate::{Cause, EvictionPolicy};
use std::slice::from_ref;

fn causes(store: &Store, key: &FileKey) -> Vec<(Tier, Cause, u64)> {
    let explained = store.explain(key.file_id, key.version);
    explained.gone.iter().map(|gone| (gone.tier, gone.cause, gone.pages)).collect()
}

#[test]
fn places_pins_and_reads() {
    run(async {
        let disks = [FaultyDisk::new(1), FaultyDisk::new(2)];
        let config = with_hdd(config(4 * u64::from(PAGE), &[ROOMY], EvictionPolicy::Lru), &[ROOMY]);
        let (store, _) = open(&config, &disks).await;
        let file = key(3, 1, 0);
        for page in 0..4 {
            insert(&store, &file, PageIndex(page)).await;
        }
        store.flush().await;
        assert!(store.pin(Pin {
            file_id: file.file_id,
            version: file.version,
            bytes: file.size_bytes,
            until: Instant::now() + std::time::Duration::from_secs(60),
        }));
        store.close().await;
        let (store, _) = open(&config, &disks).await;
        assert!(check(&store, &file, PageIndex(0), 0, 5000).await);
        let explained = store.explain(file.file_id, file.version);
        let places: Vec<_> = explained.places.iter().map(|place| (place.tier, place.pages, place.read_bytes)).collect();
        assert_eq!(places, [(Some(Tier::Ssd), 4, 8192)]);
        assert_eq!((explained.places[0].bytes, explained.places[0].pinned_pages), (file.size_bytes, 0));
        assert!(explained.pin.is_none() && explained.other_versions.is_empty(), "pins end with the process");
        let until = Instant::now() + std::time::Duration::from_secs(60);
        assert!(store.pin(Pin { file_id: file.file_id, version: file.version, bytes: file.size_bytes, until }));
        let explained = store.explain(file.file_id, file.version);
        assert_eq!(explained.places[0].pinned_pages, 4);
        assert_eq!(explained.pin.map(|pin| (pin.until, pin.is_short)), Some((until, false)));
        insert(&store, &key(3, 2, 0), PageIndex(0)).await;
        assert_eq!(store.explain(file.file_id, file.version).other_versions, [Version(2)]);
        let nothing = store.explain(FileId(77), Version(1));
        assert!(nothing.places.is_empty() && nothing.gone.is_empty());
        store.close().await;
    });
}

#[test]
fn every_way_out_has_its_reason() {
    run(async {
        let small = 40 * u64::from(PAGE);
        let config = config(2 * u64::from(PAGE), &[small], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(3);
        let (store, _) = open(&config, from_ref(&disk)).await;
        let file = |number: u64| key(1 + 6 * number, 1, 0);
        for number in 0..60 {
            insert(&store, &file(number), PageIndex(0)).await;
            store.flush().await;
        }
        assert_eq!(causes(&store, &file(0)), [(Tier::Ssd, Cause::Room, 1)]);
        store.free_files([file(58).file_id]).await;
        assert_eq!(causes(&store, &file(58)), [(Tier::Ssd, Cause::Freed, 1)]);
        store.evict_file(file(59).file_id, Some(Version(2))).await;
        assert_eq!(causes(&store, &file(59))[0], (Tier::Ssd, Cause::Dead, 1));
        let (file_id, version, until) = (file(1).file_id, Version(1), Instant::now());
        assert!(!store.pin(Pin { file_id, version, bytes: 2 * small, until }));
        assert_eq!(causes(&store, &file(1))[0], (Tier::Ssd, Cause::PinRefused, 80));
        let mut random = Seed(4);
        let kept = (0..60).map(file).find(|file| store.has_page(file, PageIndex(0))).unwrap();
        for _ in 0..400 {
            disk.flip_bit(&mut random, |path| path.to_string_lossy().contains("/slabs/"));
        }
        while store.read(&kept, PageIndex(0), 0, PAGE).await.is_some() {
            disk.flip_bit(&mut random, |path| path.to_string_lossy().contains("/slabs/"));
        }
        assert_eq!(causes(&store, &kept)[0], (Tier::Ssd, Cause::Corrupt, 1));
        let kept = (0..60).map(file).find(|file| store.has_page(file, PageIndex(0))).unwrap();
        disk.faults.set(crate::disk::faulty::Faults { write_errno: Some(libc::EIO), ..Default::default() });
        insert(&store, &key(1 + 6 * 900, 1, 0), PageIndex(0)).await;
        store.flush().await;
        assert_eq!(causes(&store, &kept)[0], (Tier::Ssd, Cause::DirectoryLost, 1));
        assert_eq!(causes(&store, &key(1 + 6 * 900, 1, 0))[0], (Tier::Ssd, Cause::NotWritten, 1));
        store.close().await;
    });
}

#[test]
fn what_the_policy_refuses_is_said() {
    run(async {
        let config = config(80 * u64::from(PAGE), &[300 * u64::from(PAGE)], EvictionPolicy::ScanResistant);
        let (store, _) = open(&config, from_ref(&FaultyDisk::new(5))).await;
        let file = |number: u64| key(1 + 6 * number, 1, 0);
        for round in 0..3 {
            for number in 0..200 {
                if !check(&store, &file(number), PageIndex(0), 0, PAGE).await {
                    insert(&store, &file(number), PageIndex(0)).await;
                }
            }
            store.flush().await;
            assert!(store.usage()[1].used_bytes > 0, "round {round}");
        }
        for number in 1000..1400 {
            assert!(!check(&store, &file(number), PageIndex(0), 0, PAGE).await);
            insert(&store, &file(number), PageIndex(0)).await;
            store.flush().await;
        }
        let refused =
            (1000..1400).filter(|number| causes(&store, &file(*number)).contains(&(Tier::Ssd, Cause::NotAdmitted, 1)));
        assert!(refused.count() > 100);
        store.close().await;
    });
}
