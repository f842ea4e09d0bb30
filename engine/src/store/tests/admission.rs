//! What a full directory lets in, and what MEM keeps, with the default policy.

use super::*;
use std::slice::from_ref;

const MEM_PAGES: u64 = 80;
const SSD_PAGES: u64 = 300;

fn large(file: u64, pages: u32) -> FileKey {
    FileKey { size_bytes: u64::from(pages) * u64::from(PAGE), ..key(file, 1, 0) }
}

async fn opened(mem_pages: u64) -> (FaultyDisk, Rc<Store>) {
    let config = config(mem_pages * u64::from(PAGE), &[SSD_PAGES * u64::from(PAGE)], EvictionPolicy::ScanResistant);
    let disk = FaultyDisk::new(1);
    let (store, _) = open(&config, from_ref(&disk)).await;
    (disk, store)
}

/// Reads each page in pieces, as a reader does, and fetches it where it is not held. Gives the fetches.
async fn go_through(store: &Store, key: &FileKey, pages: std::ops::Range<u32>) -> usize {
    let mut fetches = 0;
    for page in pages {
        for piece in 0..4 {
            let quarter = PAGE / 4;
            if store.read(key, PageIndex(page), piece * quarter, quarter).await.is_none() {
                insert(store, key, PageIndex(page)).await;
                fetches += 1;
            }
        }
        if page % 16 == 0 {
            store.flush().await;
        }
    }
    store.flush().await;
    fetches
}

#[test]
fn a_scan_is_served_from_memory_and_not_written() {
    run(async {
        let (disk, store) = opened(MEM_PAGES).await;
        let (hot, cold) = (large(1, 240), large(2, 3_000));
        for _ in 0..3 {
            go_through(&store, &hot, 0..240).await;
        }
        let before = store.counters();
        assert_eq!(go_through(&store, &cold, 0..3_000).await, 3_000, "each page once, and read to its end");
        let after = store.counters();
        let written = after.written_pages - before.written_pages;
        assert!(written < 120, "{written} pages of the scan were written");
        assert!(go_through(&store, &hot, 0..240).await < 12, "the hot set is still there");
        assert_within_capacity(&store, from_ref(&disk));
        store.close().await;
    });
}

#[test]
fn what_is_wanted_gets_in_and_what_moved_too() {
    run(async {
        let (_disk, store) = opened(MEM_PAGES).await;
        let (old, loaded, moved) = (large(1, 280), large(2, 200), large(3, 200));
        for _ in 0..3 {
            go_through(&store, &old, 0..280).await;
        }
        for page in 0..200 {
            let mut buffer = store.new_page(PAGE).await;
            buffer.copy_from_slice(&content(&loaded, PageIndex(page)));
            store.insert_wanted(&loaded, PageIndex(page), buffer).await;
            if page % 16 == 0 {
                store.flush().await;
            }
        }
        store.flush().await;
        assert_eq!(go_through(&store, &loaded, 0..200).await, 0, "what was loaded is held");
        for _ in 0..4 {
            go_through(&store, &moved, 0..200).await;
        }
        let fetches = go_through(&store, &moved, 0..200).await;
        assert!(fetches < 20, "{fetches} of 200 pages are not held after four rounds");
        store.close().await;
    });
}

#[test]
fn a_page_in_memory_only_goes_to_disk_when_somebody_wants_it() {
    run(async {
        let (_disk, store) = opened(MEM_PAGES).await;
        let (old, new) = (large(1, 320), large(2, 4));
        for _ in 0..3 {
            go_through(&store, &old, 0..320).await;
        }
        go_through(&store, &new, 0..2).await;
        assert_eq!(store.check_page(&new, PageIndex(0)).await, PageCheck::InMemory, "refused");
        assert!(store.keep_page(&new, PageIndex(0)));
        let until = Instant::now() + std::time::Duration::from_secs(60);
        store.flush().await;
        assert_eq!(store.check_page(&new, PageIndex(0)).await, PageCheck::Intact);
        assert_eq!(store.check_page(&new, PageIndex(1)).await, PageCheck::InMemory);
        assert!(store.pin(Pin { file_id: new.file_id, version: new.version, bytes: new.size_bytes, until }));
        store.flush().await;
        assert_eq!(store.check_page(&new, PageIndex(1)).await, PageCheck::Intact, "pinned, so it is on disk");
        assert!(!store.keep_page(&new, PageIndex(2)));
        store.close().await;
    });
}

#[test]
fn pages_read_once_from_ssd_do_not_displace_the_hot_ones_in_memory() {
    run(async {
        let (_disk, store) = opened(MEM_PAGES).await;
        let (hot, rest) = (large(1, 30), large(2, 200));
        go_through(&store, &rest, 0..200).await;
        for _ in 0..6 {
            go_through(&store, &hot, 0..30).await;
        }
        for _ in 0..3 {
            // Twice at once makes it hot in the sense of promotion.
            for page in 0..200 {
                go_through(&store, &rest, page..page + 1).await;
                go_through(&store, &rest, page..page + 1).await;
            }
            let before = store.counters().mem_hits;
            go_through(&store, &hot, 0..30).await;
            let hits = store.counters().mem_hits - before;
            assert!(hits > 100, "{hits} of 120 reads of the hot set came from memory");
        }
        store.close().await;
    });
}
