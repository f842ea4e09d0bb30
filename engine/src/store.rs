//! The store: the one type that the worker's core talks to.
//!
//! Owned by one core. Invariants: no `RefCell` borrow is held across an await; what MEM and each directory hold never
//! exceeds their capacities, room is made before anything is added; a page is readable from the moment `insert`
//! returns until it is evicted.

mod commit;
mod explain;
mod lend;
mod mover;
mod read;
mod scrub;
#[cfg(test)]
mod tests;
mod tiers;
mod usage;
mod verify;

use crate::directory::{Departure, Directory, Recovered};
use crate::gone::Cause;
use crate::index::OnDisk;
use crate::key::PageKey;
use crate::memory::Pool;
use crate::recent::Recent;
use crate::signal::Signal;
use crate::{EngineCounters, EngineError, FileKey, PageBuf, PageSlice, Recovery, StoreConfig, Tier};
pub use explain::{Explained, HeldAt, PinState};
use forebay_base::placement::shard_of;
use forebay_base::{FileId, PageIndex, Version};
pub use lend::NotLent;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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
    /// The mover looks again.
    moves: Rc<Signal>,
    closed: Cell<bool>,
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

impl Drop for Store {
    fn drop(&mut self) {
        // Writers that wait for work see that there will be none.
        for directory in &self.directories {
            directory.closed.set(true);
            directory.work.notify();
        }
        self.closed.set(true);
        self.moves.notify();
    }
}

impl Store {
    /// Opens the directories, reads their tables, and serves what is intact.
    pub async fn open(config: StoreConfig) -> Result<(Rc<Store>, Recovery), EngineError> {
        config.check()?;
        let started = Instant::now();
        let mut opened = Vec::new();
        for (number, directory) in config.directories.iter().enumerate() {
            let number = number as u8;
            let why = match &directory.out_of_use {
                Some(why) => why.clone(),
                None => match Directory::open(&config, number, directory).await {
                    // A disk that fails costs its cache, not the worker.
                    Err(error @ EngineError::Io { .. }) => {
                        tracing::error!(directory = %directory.path.display(), "left out: {error}");
                        error.to_string()
                    }
                    taken => {
                        opened.push(taken?);
                        continue;
                    }
                },
            };
            let unused = Directory::unused(number, directory, &config, why);
            opened.push((Rc::new(unused), Recovered::default()));
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
                let elsewhere = directory.resharded.get() && shard_of(key.file_id, config.shards) != config.shard;
                if !elsewhere && tiers.recovered(directory.number, &key, page, record) {
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
            moves: Rc::default(),
            closed: Cell::new(false),
            config,
        });
        for directory in &store.directories {
            let over = directory.tables.borrow().used_bytes() > directory.limit_bytes.get();
            if !directory.bad.get() && (over || directory.has_work()) {
                // A capacity that was made smaller holds from the first moment.
                store.commit(directory).await;
            }
            if directory.resharded.get() && !directory.bad.get() {
                directory.confirm(&store.config);
            }
            commit::start(&store, directory);
        }
        scrub::start(&store);
        mover::start(&store);
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
                            let (hits, bytes) = match slice.tier() {
                                Tier::Hdd => (&mut counters.hdd_hits, &mut counters.hdd_read_bytes),
                                _ => (&mut counters.ssd_hits, &mut counters.ssd_read_bytes),
                            };
                            *hits += 1;
                            *bytes += u64::from(length);
                        });
                        if slice.tier() == Tier::Hdd {
                            self.moves.notify();
                        }
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
        self.tiers.borrow_mut().drop_page(&key.page(page), Cause::Corrupt);
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

    /// Takes a whole page in: readable from memory at once, written behind to the fastest disk tier that finds it worth what
    /// would leave a full directory for it, if one does.
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
        self.drop_files(files, Cause::Dead).await
    }

    /// Drops all contents of files because somebody asked for it.
    pub async fn free_files(&self, files: impl IntoIterator<Item = FileId>) -> u64 {
        self.drop_files(files.into_iter().map(|file_id| (file_id, None)), Cause::Freed).await
    }

    async fn drop_files(&self, files: impl IntoIterator<Item = (FileId, Option<Version>)>, cause: Cause) -> u64 {
        let freed = {
            let mut tiers = self.tiers.borrow_mut();
            let mut freed = 0;
            for (file_id, keep) in files {
                tiers.unpin_file(file_id, keep);
                for version in tiers.index.versions(file_id) {
                    if Some(version) != keep {
                        freed += tiers.drop_content((file_id, version), cause);
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

    /// Keeps a content's pages, held now or later, from eviction for want of room, until the pin's end or a pin of
    /// another version of the file. `false` if so many bytes would be more than pins may hold: 80 % of the disk tiers, of
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

    /// Waits until everything inserted so far is durable on disk, or given up.
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
        // First, so that nothing new is on its way when the directories are let go.
        self.closed.set(true);
        self.moves.notify();
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
