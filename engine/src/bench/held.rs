//! Everything that a core keeps in memory of a page on SSD: its entry in the index, its place in the evictor, and the
//! directory's tables. The structures are the store's own; what is missing is the disk.

use crate::EvictionPolicy;
use crate::directory::Tables;
use crate::evict::{self, Evictor, hash_of};
use crate::index::{Index, OnDisk};
use crate::key::FileKey;
use forebay_base::{FileId, FingerprintHash, PageIndex, Version};

const PAGE_BYTES: u32 = 1 << 20;

/// One core's index of one directory.
pub struct Held {
    index: Index,
    evictor: Box<dyn Evictor>,
    tables: Tables,
}

fn key(file: u64, size_bytes: u64) -> FileKey {
    FileKey { file_id: FileId(file), version: Version(1), fingerprint: FingerprintHash(1), size_bytes }
}

impl Held {
    /// Nothing is held.
    #[must_use]
    pub fn new(policy: EvictionPolicy) -> Self {
        Self { index: Index::default(), evictor: evict::evictor(policy), tables: Tables::new(PAGE_BYTES) }
    }

    fn add(&mut self, key: &FileKey, page: PageIndex) {
        let (place, _) = self.tables.reserve(key, page);
        let record = self.tables.commit(key, page, place, 7);
        self.tables.take_dirty();
        let name = key.page(page);
        self.index.add(key, page);
        if let Some((id, held)) = self.index.entry_mut(&name) {
            held.disk = OnDisk::Present { directory: 0, record };
            held.disk_node = self.evictor.insert(id, hash_of(&name), false);
        }
    }

    /// Adds a page of 1 MiB of a file of `pages` pages; it must not be there.
    pub fn add_page(&mut self, file: u64, pages: u32, page: u32) {
        self.add(&key(file, u64::from(pages) * u64::from(PAGE_BYTES)), PageIndex(page));
    }

    /// Adds a file of 1,000 bytes; it must not be there.
    pub fn add_small(&mut self, file: u64) {
        self.add(&key(file, 1_000), PageIndex(0));
    }

    /// Forgets a page of a file of `pages` pages.
    pub fn remove_page(&mut self, file: u64, pages: u32, page: u32) {
        let name = key(file, u64::from(pages) * u64::from(PAGE_BYTES)).page(PageIndex(page));
        let Some(held) = self.index.remove(&name) else { return };
        self.evictor.remove(held.disk_node, hash_of(&name));
        if let OnDisk::Present { record, .. } = held.disk {
            let freed = self.tables.clear(&name, record);
            self.tables.freed(freed.as_slice());
            self.tables.take_dirty();
        }
    }

    /// Whether a page of the very content asked for is held.
    #[must_use]
    pub fn has_page(&self, file: u64, pages: u32, page: u32) -> bool {
        self.index.page(&key(file, u64::from(pages) * u64::from(PAGE_BYTES)), PageIndex(page)).is_some()
    }

    /// The same for a file of 1,000 bytes.
    #[must_use]
    pub fn has_small(&self, file: u64) -> bool {
        self.index.page(&key(file, 1_000), PageIndex(0)).is_some()
    }
}
