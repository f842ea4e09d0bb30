//! What has to hold in a simulated life.

use super::world::Kind;
use super::*;
use crate::directory::{FileName, NO_RECORD};
use crate::disk::simulated::sleep;
use crate::format::{BLOCK_PAGES, SECTOR_BYTES, SMALL_RECORDS, row_bytes};
use std::rc::Weak;
use std::time::Duration;

/// Pages that were on SSD.
pub(super) type OnSsd = Vec<(FileKey, PageIndex)>;

/// The pages that are on SSD now and of which `wanted` says so, by directory and the table sector that vouches for them.
pub(super) fn on_ssd(store: &Store, wanted: impl Fn(u8, (FileName, u64)) -> bool) -> OnSsd {
    let tiers = store.tiers.borrow();
    let mut pages: OnSsd = Vec::new();
    for (name, page) in tiers.index.all_pages() {
        let OnDisk::Present { directory, record } = page.disk else { continue };
        let key = tiers.index.file(name.content()).expect("a page has a file").key;
        let tables = store.directories[usize::from(directory)].tables.borrow();
        let located = tables.locate(&key, name.page, record).expect("what is on SSD has a place");
        let unit = if record == NO_RECORD {
            let slot = located.row_offset / (row_bytes(PAGE) * u64::from(BLOCK_PAGES));
            (FileName::Headers, slot)
        } else {
            (FileName::Small, u64::from(record / SMALL_RECORDS))
        };
        if wanted(directory, unit) {
            pages.push((key, name.page));
        }
    }
    pages.sort_unstable_by_key(|(key, page)| (key.file_id, key.version, *page));
    pages
}

/// All of these are there, on SSD, and right. Returns how many they are.
pub(super) async fn assert_found(store: &Store, pages: &OnSsd) -> u64 {
    for (key, page) in pages {
        assert!(store.has_page(key, *page), "lost: {key:?} page {page}, it was on SSD");
        assert!(check(store, key, *page, 0, PAGE).await, "unreadable: {key:?} page {page}, it was on SSD");
    }
    pages.len() as u64
}

/// Pages that wait to be written.
pub(super) fn waiting(store: &Store) -> Vec<(PageKey, u32)> {
    let tiers = store.tiers.borrow();
    let queued = tiers.index.all_pages().filter(|(_, page)| matches!(page.disk, OnDisk::Queued { .. }));
    queued.map(|(name, page)| (name, page.generation)).collect()
}

/// After a flush nothing that came before it still waits.
pub(super) fn flushed(store: &Store, before: &[(PageKey, u32)]) {
    let tiers = store.tiers.borrow();
    for (name, generation) in before {
        let waits = tiers
            .index
            .get(name)
            .is_some_and(|page| page.generation == *generation && matches!(page.disk, OnDisk::Queued { .. }));
        assert!(!waits, "{name:?} still waits after a flush");
    }
}

/// What is used is what is said to be used; asked when nothing is in flight. Large files to the unit; tables and slots have
/// their whole space counted from the start.
pub(super) fn accounted(store: &Store, disks: &[FaultyDisk], kind: Kind) {
    for (disk, directory) in disks.iter().zip(&store.directories) {
        if directory.bad.get() {
            continue;
        }
        let tables = directory.tables.borrow();
        let allocated = disk.allocated_bytes();
        // The superblock is in the reserve of the limit.
        assert!(
            allocated <= tables.used_bytes() + SECTOR_BYTES as u64,
            "{allocated} bytes on the disk, {} counted",
            tables.used_bytes()
        );
        assert!(tables.used_bytes() <= directory.configured_bytes);
        if !kind.keeps() {
            continue;
        }
        for (path, bytes) in
            disk.allocated_files().iter().filter(|(path, _)| path.starts_with(directory.path.join("files")))
        {
            let name = path.file_name().unwrap().to_string_lossy();
            let (file_id, version) = name.split_once('-').unwrap();
            let id = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let content = FileName::Large(FileId(id(file_id)), Version(id(version)));
            let counted: u64 = tables.occupied(content).iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(*bytes, counted, "{}", path.display());
        }
    }
}

/// Nothing keeps a store alive that nobody uses. After a clean stop its writers end by themselves.
pub(super) async fn all_dropped(store: &Weak<Store>, is_clean: bool) {
    if is_clean {
        // The scrub may have a read under way, on a disk that has stalled.
        sleep(Duration::from_secs(3600)).await;
    }
    assert_eq!(store.strong_count(), 0, "a store that nobody uses is kept");
}
