//! What the simulation found, each with the seed that showed it first and a test that needs no seed.

use super::*;
use crate::chunked::Chunked;
use crate::directory::{FileName, Tables};
use crate::disk::faulty::Plan;
use crate::format::{BlockHeader, SmallRecord};
use std::num::NonZeroU32;
use std::slice::from_ref;

/// Seed 472, a cut between the write of a file's padded last page and the cut to its length: all pages of the file were
/// dropped, those that were durable for long as well.
#[test]
fn a_file_that_is_still_padded_keeps_its_pages() {
    run(async {
        let config = config(0, &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(472);
        let (store, _) = open(&config, from_ref(&disk)).await;
        let key = key(3, 1, 0);
        for page in 0..4 {
            insert(&store, &key, PageIndex(page)).await;
        }
        store.close().await;
        let path = store.directories[0].path_of(FileName::Large(key.file_id, key.version));
        assert_eq!(disk.length(&path), key.size_bytes);
        disk.leave(&path, Some(key.size_bytes.next_multiple_of(4096)), None);
        let (store, recovery) = open(&config, from_ref(&disk)).await;
        assert_eq!((recovery.pages, recovery.dropped_pages), (4, 0));
        assert_eq!(disk.length(&path), key.size_bytes, "as long as the user's file again");
        for page in 0..4 {
            assert!(check(&store, &key, PageIndex(page), 0, PAGE).await);
        }
        store.close().await;
        disk.leave(&path, Some(key.size_bytes.next_multiple_of(4096) + 4096), None);
        let (store, recovery) = open(&config, from_ref(&disk)).await;
        assert_eq!((recovery.pages, recovery.dropped_pages), (0, 4), "any other length is not ours");
        store.close().await;
    });
}

/// Seed 8118, a kill and then a power cut: headers that the killed process wrote and did not sync were believed at the
/// next start, and never made durable.
#[test]
fn what_a_start_believes_survives_the_next_cut() {
    run(async {
        let config = config(0, &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(8118);
        let (store, _) = open(&config, from_ref(&disk)).await;
        disk.plan.set(Plan { lying_sync: 1_000_000, ..Plan::default() });
        fill(&store).await;
        store.flush().await;
        drop(store);
        let killed = disk.after_kill();
        killed.plan.set(Plan::default());
        let table = |name: &str| Directory::shard_path(&config.directories[0].path, 0).join(name);
        assert!(["headers", "small"].iter().all(|name| killed.is_unsynced(&table(name))), "nothing was synced");
        let (store, _) = open(&config, from_ref(&killed)).await;
        assert!(!["headers", "small"].iter().any(|name| killed.is_unsynced(&table(name))));
        store.close().await;
    });
}

/// Seed 4760, space that no page accounts for, beside pages that take less than they are charged: it was left alone at the
/// start, and was too much once those pages had gone.
#[test]
fn what_was_written_is_known_to_the_sector() {
    let big = FileKey { size_bytes: 300 << 20, ..key(3, 1, 0) };
    let small = FileKey { size_bytes: 65 << 10, ..key(4, 1, 0) };
    let header = BlockHeader { key: big, block: 0, pages: vec![(5, 1), (6, 1), (200, 1)] };
    let class_bytes = Tables::class_bytes(&small);
    let class = NonZeroU32::new(class_bytes as u32).expect("a class has bytes");
    let mut records = Chunked::default();
    records.push(Some(SmallRecord { key: small, class_bytes: class, slab: 0, slot: 2, row_checksum: 1 }));
    let tables = Tables::recovered(1 << 20, vec![None, Some(header)], records, Vec::new());
    let first = 256 << 10;
    assert_eq!(tables.occupied(FileName::Rows), [(first + 4096, 4096), (first + 200 * 1024, 4096)]);
    assert_eq!(tables.occupied_slabs()[&(class_bytes, 0)], [(2 * class_bytes, 68 << 10)]);
    assert!(class_bytes > 68 << 10);
}

#[test]
fn space_of_nobody_is_given_back_at_the_start() {
    run(async {
        let config = config(0, &[ROOMY], EvictionPolicy::Lru);
        let disk = FaultyDisk::new(4760);
        let (store, _) = open(&config, from_ref(&disk)).await;
        let (large, small) = (key(3, 1, 0), key(2, 1, 0));
        insert(&store, &large, PageIndex(1)).await;
        insert(&store, &small, PageIndex(0)).await;
        store.close().await;
        let base = &store.directories[0];
        let names = disk.allocated_files();
        let slab = names.iter().find(|(path, _)| path.starts_with(base.path.join("slabs"))).expect("a slab").0.clone();
        // The mark of the clean stop goes with the next start.
        let before = disk.allocated_bytes() - 4096;
        disk.leave(&base.path.join("rows"), None, Some(9));
        disk.leave(&slab, None, Some(77));
        disk.leave(&base.path_of(FileName::Large(large.file_id, large.version)), None, Some(12));
        assert_eq!(disk.allocated_bytes(), before + 4 * 4096);
        let (store, recovery) = open(&config, from_ref(&disk)).await;
        assert_eq!((recovery.pages, disk.allocated_bytes()), (2, before));
        assert!(
            check(&store, &large, PageIndex(1), 0, PAGE).await && check(&store, &small, PageIndex(0), 0, PAGE).await
        );
        store.close().await;
    });
}
