//! The store: the one type that the worker's core talks to.
//!
//! Owned by one core. Invariants: no `RefCell` borrow is held across an await; what MEM and each directory hold never
//! exceeds their capacities, room is made before anything is added; a page is readable from the moment `insert`
//! returns until it is evicted.

mod commit;
mod lend;
mod read;
mod scrub;
#[cfg(test)]
mod tests;
mod tiers;
mod verify;

use crate::directory::{Departure, Directory, Recovered};
use crate::index::{OnDisk, Page};
use crate::key::PageKey;
use crate::memory::Pool;
use crate::recent::Recent;
use crate::{
    CachedPages, DirectoryUsage, EngineCounters, EngineError, FileKey, PageBuf, PageSlice, Recovery, StoreConfig, Tier,
};
use forebay_base::{FileId, PageIndex, Version};
pub use lend::NotLent;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;
use tiers::{Found, Tiers};
pub use verify::PageCheck;

/// Rows of checksums kept in memory, by page.
type Rows = Recent<PageKey, Rc<[u32]>>;

/// Memory for rows beside the tiers' budgets: at least this, or this share of the MEM tier.
const ROW_MEMORY_BYTES_MIN: u64 = 4 << 20;
const ROW_MEMORY_SHARE: u64 = 16;

/// Of so many hits in memory one is compared with its checksums. Clients compare each reply with the checksums of a page's
/// arrival; this is so that a page that changed in memory is dropped soon, when they ask again.
const MEM_CHECKED_PART: u32 = 16;

/// A content that is not to be evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin {
    /// The file.
    pub file_id: FileId,
    /// Its content.
    pub version: Version,
    /// How much of it this core is to hold.
    pub bytes: u64,
    /// When it ends, unless it is renewed.
    pub until: Instant,
}

/// One core's store. Lives inside a glommio executor.
pub struct Store {
    config: StoreConfig,
    pool: Rc<Pool>,
    tiers: RefCell<Tiers>,
    directories: Vec<Rc<Directory>>,
    rows: Rc<RefCell<Rows>>,
    counters: RefCell<EngineCounters>,
    /// Reads of disks that somebody waits for.
    disk_readers: Cell<u32>,
    /// Reads that were found in memory.
    mem_asked: Cell<u32>,
    /// Whole files to be compared with their checksums; the first one is at work.
    checks: RefCell<VecDeque<FileKey>>,
}

/// Counts a read that somebody waits for, for as long as it lives.
struct Reading<'a>(&'a Cell<u32>);

impl Reading<'_> {
    fn new(count: &Cell<u32>) -> Reading<'_> {
        count.set(count.get() + 1);
        Reading(count)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl CachedPages {
    fn add(&mut self, page: &Page, bytes: u64) {
        self.mem_bytes += if page.memory.is_some() { bytes } else { 0 };
        self.ssd_bytes += if matches!(page.disk, OnDisk::Present { .. }) { bytes } else { 0 };
        self.any_bytes += bytes;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Writers that wait for work see that there will be none.
        for directory in &self.directories {
            directory.closed.set(true);
            directory.work.notify();
        }
    }
}

impl Store {
    /// Opens the directories, reads their tables, and serves what is intact.
    pub async fn open(config: StoreConfig) -> Result<(Rc<Store>, Recovery), EngineError> {
        config.check()?;
        let started = Instant::now();
        let mut opened = Vec::new();
        for (number, directory) in config.directories.iter().enumerate() {
            opened.push(Directory::open(&config, number as u8, directory).await?);
        }
        Ok(Self::start(config, opened, started).await)
    }

    /// Takes in what was found and starts the writers.
    async fn start(
        config: StoreConfig,
        opened: Vec<(Rc<Directory>, Recovered)>,
        started: Instant,
    ) -> (Rc<Store>, Recovery) {
        let row_memory = ROW_MEMORY_BYTES_MIN.max(config.mem_capacity_bytes / ROW_MEMORY_SHARE);
        let row_bytes = crate::format::row_bytes(config.page_bytes) + 128;
        let rows: Rc<RefCell<Rows>> = Rc::new(RefCell::new(Recent::new((row_memory / row_bytes) as usize)));
        let directories: Vec<Rc<Directory>> = opened.iter().map(|(directory, _)| directory.clone()).collect();
        let mut tiers = Tiers::new(&config, directories.clone(), rows.clone());
        let mut recovery = Recovery::default();
        for (directory, recovered) in opened {
            recovery.dropped_pages += recovered.dropped;
            let tables = directory.tables.borrow();
            for (key, page, record) in tables.pages() {
                if tiers.recovered(directory.number, &key, page, record) {
                    recovery.pages += 1;
                    recovery.bytes += u64::from(key.page_length(page, config.page_bytes));
                } else {
                    directory.depart(Departure { name: key.page(page), record });
                }
            }
        }
        let store = Rc::new(Store {
            pool: Pool::new(config.page_bytes, config.buffer_memory_bytes),
            tiers: RefCell::new(tiers),
            directories,
            rows,
            counters: RefCell::default(),
            disk_readers: Cell::new(0),
            mem_asked: Cell::new(0),
            checks: RefCell::default(),
            config,
        });
        for directory in &store.directories {
            let over = directory.tables.borrow().used_bytes() > directory.limit_bytes.get();
            if !directory.bad.get() && (over || directory.has_work()) {
                // A capacity that was made smaller holds from the first moment.
                store.commit(directory).await;
            }
            commit::start(&store, directory);
        }
        scrub::start(&store);
        recovery.elapsed = started.elapsed();
        (store, recovery)
    }

    /// One hit in memory of so many is checked.
    fn is_checked_hit(&self) -> bool {
        self.mem_asked.set(self.mem_asked.get().wrapping_add(1));
        self.mem_asked.get().is_multiple_of(MEM_CHECKED_PART)
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
        // Twice: a page may move between the tiers while its disk is read.
        for _ in 0..2 {
            let found = self.tiers.borrow_mut().find(key, page, length);
            match found {
                Found::Nowhere => break,
                Found::InMemory(memory) => {
                    let range = offset as usize..end as usize;
                    if self.is_checked_hit() && !memory.is_intact(range) {
                        self.count(|counters| counters.corrupt_units += 1);
                        tracing::warn!("page {page} of file {} changed in memory: dropped", key.file_id);
                        self.drop_page(key, page);
                        break;
                    }
                    self.count(|counters| {
                        counters.mem_hits += 1;
                        counters.mem_read_bytes += u64::from(length);
                    });
                    return Some(memory.slice(offset as usize, length as usize));
                }
                Found::OnDisk(seen) => {
                    let reading = Reading::new(&self.disk_readers);
                    let read = self.read_disk(key, page, offset..end, seen, self.config.verify_reads).await;
                    drop(reading);
                    if let Ok(slice) = read {
                        self.count(|counters| {
                            counters.ssd_hits += 1;
                            counters.ssd_read_bytes += u64::from(length);
                        });
                        return Some(slice);
                    }
                }
            }
        }
        self.count(|counters| counters.misses += 1);
        None
    }

    /// Whether the page can be read without the under store; if it is in memory only, it is written to SSD now.
    pub fn keep_page(&self, key: &FileKey, page: PageIndex) -> bool {
        let is_held = self.has_page(key, page);
        if is_held {
            self.tiers.borrow_mut().keep(&key.page(page));
        }
        is_held
    }

    /// Drops one page: its bytes are not to be trusted.
    pub fn drop_page(&self, key: &FileKey, page: PageIndex) {
        self.tiers.borrow_mut().drop_page(&key.page(page));
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

    /// Takes a whole page in: readable from memory at once, written to SSD behind, if it is worth what would leave a full
    /// directory for it.
    pub async fn insert(&self, key: &FileKey, page: PageIndex, buf: PageBuf) -> PageSlice {
        self.take_in(key, page, buf, false)
    }

    /// The same for a page that somebody asked to be kept: it is written to SSD in any case.
    pub async fn insert_wanted(&self, key: &FileKey, page: PageIndex, buf: PageBuf) -> PageSlice {
        self.take_in(key, page, buf, true)
    }

    fn take_in(&self, key: &FileKey, page: PageIndex, buf: PageBuf, is_wanted: bool) -> PageSlice {
        let memory = buf.seal();
        let slice = memory.slice(0, memory.bytes().len());
        if memory.bytes().len() as u32 != key.page_length(page, self.config.page_bytes) {
            return slice;
        }
        let evicted = self.tiers.borrow_mut().admit(key, page, memory, is_wanted);
        self.count(|counters| {
            counters.inserted_pages += 1;
            counters.evicted_mem_pages += evicted;
        });
        slice
    }

    /// Drops all contents of a file, except `keep`, with their pins, and waits until their space is free. Returns the bytes freed.
    pub async fn evict_file(&self, file_id: FileId, keep: Option<Version>) -> u64 {
        self.evict_files([(file_id, keep)]).await
    }

    /// The same for many files, each with what to keep of it. One commit a directory serves them all.
    pub async fn evict_files(&self, files: impl IntoIterator<Item = (FileId, Option<Version>)>) -> u64 {
        let freed = {
            let mut tiers = self.tiers.borrow_mut();
            let mut freed = 0;
            for (file_id, keep) in files {
                tiers.unpin_file(file_id, keep);
                for version in tiers.index.versions(file_id) {
                    if Some(version) != keep {
                        freed += tiers.drop_content((file_id, version));
                    }
                }
            }
            freed
        };
        for directory in &self.directories {
            directory.departed().await;
        }
        freed
    }

    /// What is held of one content.
    #[must_use]
    pub fn cached(&self, file_id: FileId, version: Version) -> CachedPages {
        let tiers = self.tiers.borrow();
        let mut cached = CachedPages::default();
        let Some(file) = tiers.index.file((file_id, version)) else { return cached };
        for key in tiers.index.pages_of((file_id, version)) {
            let Some(page) = tiers.index.get(&key) else { continue };
            cached.add(page, u64::from(file.key.page_length(key.page, self.config.page_bytes)));
        }
        cached
    }

    /// What is held of one content in each group of `group_bytes` (a multiple of a page), ascending by group, from
    /// `first` on.
    #[must_use]
    pub fn cached_groups(
        &self,
        content: (FileId, Version),
        group_bytes: u64,
        first: u32,
    ) -> BTreeMap<u32, CachedPages> {
        let tiers = self.tiers.borrow();
        let mut groups: BTreeMap<u32, CachedPages> = BTreeMap::new();
        let Some(file) = tiers.index.file(content) else { return groups };
        for key in tiers.index.pages_of(content) {
            let Some(page) = tiers.index.get(&key) else { continue };
            let offset = u64::from(key.page.0) * u64::from(self.config.page_bytes);
            let group = u32::try_from(offset / group_bytes.max(1)).unwrap_or(u32::MAX);
            if group >= first {
                let length = u64::from(file.key.page_length(key.page, self.config.page_bytes));
                groups.entry(group).or_default().add(page, length);
            }
        }
        groups
    }

    /// Keeps a content's pages, held now or later, from eviction for want of room, until the pin's end or a pin of
    /// another version of the file. `false` if so many bytes would be more than pins may hold: 80 % of the SSD tier, of
    /// MEM where there is none.
    pub fn pin(&self, pin: Pin) -> bool {
        self.tiers.borrow_mut().pin((pin.file_id, pin.version), pin.bytes, pin.until)
    }

    /// Ends a pin.
    pub fn unpin(&self, file_id: FileId, version: Version) {
        self.tiers.borrow_mut().unpin((file_id, version));
    }

    /// Ends the pins whose time is over; to be called now and then.
    pub fn expire_pins(&self, now: Instant) {
        self.tiers.borrow_mut().expire_pins(now);
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
        let mem = DirectoryUsage {
            tier: Tier::Mem,
            path: PathBuf::new(),
            capacity_bytes: tiers.mem_capacity_bytes,
            used_bytes: tiers.mem_used_bytes,
            pinned_bytes: if self.directories.is_empty() { tiers.pinned_bytes(0) } else { 0 },
            leased_bytes: 0,
            trouble: None,
        };
        let directories = self.directories.iter().map(|directory| DirectoryUsage {
            tier: Tier::Ssd,
            path: directory.path.clone(),
            capacity_bytes: directory.configured_bytes,
            used_bytes: directory.held_bytes(),
            pinned_bytes: tiers.pinned_bytes(directory.number),
            leased_bytes: tiers.leased_bytes(directory.number),
            trouble: directory.trouble.borrow().clone(),
        });
        std::iter::once(mem).chain(directories).collect()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> EngineCounters {
        EngineCounters {
            buffer_bytes: self.pool.used_bytes(),
            buffer_waits: self.pool.waits(),
            write_queue_pages: self.directories.iter().map(|directory| directory.queue.borrow().len() as u64).sum(),
            ..*self.counters.borrow()
        }
    }

    /// Waits until everything inserted so far is durable on SSD, or given up.
    pub async fn flush(&self) {
        for directory in &self.directories {
            // The second time for what was dropped while it was being written.
            directory.settled().await;
            directory.settled().await;
        }
    }

    /// Flushes and ends the background work; the directories are free for another process. Reads are answered from
    /// memory afterwards, or not at all.
    pub async fn close(&self) {
        self.flush().await;
        for directory in &self.directories {
            directory.closed.set(true);
            directory.work.notify();
            self.tiers.borrow_mut().forget_directory(directory.number);
            if !directory.bad.replace(true) {
                directory.leave_clean_mark();
            }
            directory.unlock();
        }
    }
}
