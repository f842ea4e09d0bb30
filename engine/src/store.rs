//! The store: the one type that the worker's core talks to.
//!
//! Owned by one core. Invariants: no `RefCell` borrow is held across an await; what MEM and each directory hold never
//! exceeds their capacities, room is made before anything is added; a page is readable from the moment `insert`
//! returns until it is evicted.

mod tiers;

use crate::index::OnDisk;
use crate::memory::{PageMemory, Pool, whole_units};
use crate::{
    CachedPages, DirectoryUsage, EngineCounters, EngineError, FileKey, PageBuf, PageSlice, Recovery, StoreConfig, Tier,
};
use forebay_base::{FileId, PageIndex, Version};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;
use tiers::Tiers;

/// One core's store. Lives inside a glommio executor.
pub struct Store {
    config: StoreConfig,
    pool: Rc<Pool>,
    tiers: RefCell<Tiers>,
    counters: RefCell<EngineCounters>,
}

impl Store {
    /// Opens the directories, reads their tables, and serves what is intact.
    pub async fn open(config: StoreConfig) -> Result<(Rc<Store>, Recovery), EngineError> {
        config.check()?;
        let started = Instant::now();
        let store = Rc::new(Store {
            pool: Pool::new(config.page_bytes, config.buffer_memory_bytes),
            tiers: RefCell::new(Tiers::new(&config)),
            counters: RefCell::default(),
            config,
        });
        Ok((store, Recovery { elapsed: started.elapsed(), ..Recovery::default() }))
    }

    fn count(&self, change: impl FnOnce(&mut EngineCounters)) {
        change(&mut self.counters.borrow_mut());
    }

    /// Whether the page can be read without the under store.
    #[must_use]
    pub fn has_page(&self, key: &FileKey, page: PageIndex) -> bool {
        let tiers = self.tiers.borrow();
        tiers
            .index
            .page(key, page)
            .is_some_and(|page| page.memory.is_some() || matches!(page.disk, OnDisk::Present { .. }))
    }

    /// Reads a range inside the page. `None` is a miss, whatever the reason: not held, a failed disk, bad bytes (which
    /// are dropped and counted).
    pub async fn read(&self, key: &FileKey, page: PageIndex, offset: u32, length: u32) -> Option<PageSlice> {
        let end = offset.checked_add(length)?;
        if end > key.page_length(page, self.config.page_bytes) {
            return None;
        }
        let found = self.tiers.borrow_mut().read_memory(key, page);
        match found {
            Some(memory) => {
                self.count(|counters| {
                    counters.mem_hits += 1;
                    counters.mem_read_bytes += u64::from(length);
                });
                Some(memory.slice(offset as usize, length as usize))
            }
            None => {
                self.count(|counters| counters.misses += 1);
                None
            }
        }
    }

    /// A buffer for a page of `length_bytes`. Waits while the buffer budget is used up, which is the back-pressure on
    /// fetches. A request that holds slices while it waits here is let through after a second without progress.
    ///
    /// # Panics
    /// If `length_bytes` is 0 or more than a page.
    pub async fn new_page(&self, length_bytes: u32) -> PageBuf {
        assert!((1..=self.config.page_bytes).contains(&length_bytes), "a page of {length_bytes} bytes");
        self.pool.page(length_bytes as usize).await
    }

    /// Takes a whole page in: readable from memory at once, written to SSD behind.
    pub async fn insert(&self, key: &FileKey, page: PageIndex, buf: PageBuf) -> PageSlice {
        let memory: Rc<PageMemory> = buf.seal();
        let slice = memory.slice(0, memory.bytes().len());
        if memory.bytes().len() as u32 != key.page_length(page, self.config.page_bytes) {
            return slice;
        }
        let evicted = self.tiers.borrow_mut().admit(key, page, memory);
        self.count(|counters| {
            counters.inserted_pages += 1;
            counters.evicted_mem_pages += evicted;
        });
        slice
    }

    /// Drops all contents of a file, except `keep`. Returns the bytes freed.
    pub async fn evict_file(&self, file_id: FileId, keep: Option<Version>) -> u64 {
        let mut tiers = self.tiers.borrow_mut();
        let versions = tiers.index.versions(file_id);
        versions
            .into_iter()
            .filter(|&version| Some(version) != keep)
            .map(|version| tiers.drop_content((file_id, version)))
            .sum()
    }

    /// What is held of one content.
    #[must_use]
    pub fn cached(&self, file_id: FileId, version: Version) -> CachedPages {
        let tiers = self.tiers.borrow();
        let mut cached = CachedPages::default();
        let Some(file) = tiers.index.file((file_id, version)) else { return cached };
        for key in tiers.index.pages_of((file_id, version)) {
            let bytes = u64::from(file.key.page_length(key.page, self.config.page_bytes));
            let Some(page) = tiers.index.get(&key) else { continue };
            let ssd = matches!(page.disk, OnDisk::Present { .. });
            cached.mem_bytes += if page.memory.is_some() { bytes } else { 0 };
            cached.ssd_bytes += if ssd { bytes } else { 0 };
            cached.any_bytes += bytes;
        }
        cached
    }

    /// Keeps a content's pages, held now or later, from eviction for want of room.
    pub fn pin(&self, file_id: FileId, version: Version) {
        self.tiers.borrow_mut().set_pinned((file_id, version), true);
    }

    /// Ends a pin.
    pub fn unpin(&self, file_id: FileId, version: Version) {
        self.tiers.borrow_mut().set_pinned((file_id, version), false);
    }

    /// The contents of which at least one page is held.
    #[must_use]
    pub fn files(&self) -> Vec<(FileId, Version)> {
        self.tiers.borrow().index.contents()
    }

    /// How full each tier is: MEM first, then the directories in the order of the configuration.
    #[must_use]
    pub fn usage(&self) -> Vec<DirectoryUsage> {
        let tiers = self.tiers.borrow();
        vec![DirectoryUsage {
            tier: Tier::Mem,
            path: PathBuf::new(),
            capacity_bytes: tiers.mem_capacity_bytes,
            used_bytes: tiers.mem_used_bytes,
            trouble: None,
        }]
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> EngineCounters {
        EngineCounters {
            buffer_bytes: self.pool.used_bytes(),
            buffer_waits: self.pool.waits(),
            ..*self.counters.borrow()
        }
    }

    /// Waits until everything inserted so far is durable on SSD, or given up.
    pub async fn flush(&self) {}

    /// Flushes and ends the background work; the directories are free for another process.
    pub async fn close(&self) {
        self.flush().await;
    }
}
