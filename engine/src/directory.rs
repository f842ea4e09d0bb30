//! One directory of a disk tier: its tables in memory, its open files, and the queue of its writer.
//!
//! Owned by one core. Invariants: only the directory's writer (`store::commit`) changes what is on the disk, one batch
//! at a time; readers run beside it and check afterwards that what they read was still theirs to read. A directory that
//! failed a write or a sync is never written again.

mod lending;
mod recover;
mod slabs;
mod superblock;
mod tables;
mod wipe;

pub(crate) use recover::Recovered;
pub(crate) use slabs::{Slot, slots_per_slab};
pub use wipe::{holds_cache, wipe_cache};

pub(crate) use tables::{Chore, FileName, Freed, Location, NO_RECORD, Place, Tables};

use self::lending::Lending;
use crate::disk::{Access, Disk, DiskFile, GlommioDisk, now};
use crate::key::{FileKey, PageKey};
use crate::memory::PageMemory;
use crate::recent::Recent;
use crate::signal::Signal;
use crate::{DirectoryConfig, StoreConfig, Tier};
use forebay_base::PageIndex;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Open files kept for readers, and as many for the writer.
const OPEN_FILES_MAX: usize = 128;
/// Failed reads after which a directory is given up.
const READ_ERRORS_MAX: u32 = 8;
/// How long a full disk is left alone before its whole capacity is tried again.
const FULL_PAUSE: Duration = Duration::from_secs(30);

/// SSD and HDD.
pub(crate) const DISK_TIERS: usize = 2;

/// A page on its way to the disk.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) key: FileKey,
    pub(crate) page: PageIndex,
    pub(crate) generation: u32,
    pub(crate) memory: Rc<PageMemory>,
}

/// A page that has to go from the disk.
#[derive(Clone, Copy)]
pub(crate) struct Departure {
    pub(crate) name: PageKey,
    pub(crate) record: u32,
}

pub(crate) struct Directory {
    pub(crate) number: u8,
    pub(crate) tier: Tier,
    pub(crate) path: PathBuf,
    pub(crate) disk: Rc<dyn Disk>,
    pub(crate) page_bytes: u32,
    /// What the configuration allows.
    pub(crate) configured_bytes: u64,
    /// What is used of it now: less while the disk is fuller than we knew.
    pub(crate) limit_bytes: Cell<u64>,
    pub(crate) tables: RefCell<Tables>,
    pub(crate) queue: RefCell<VecDeque<Job>>,
    queued_bytes: Cell<u64>,
    pub(crate) departures: RefCell<Vec<Departure>>,
    /// Jobs, and departures, taken in and done: a caller can wait for what was there when it came.
    jobs: Cell<(u64, u64)>,
    leaving: Cell<(u64, u64)>,
    pub(crate) work: Signal,
    pub(crate) progress: Signal,
    pub(crate) closed: Cell<bool>,
    pub(crate) bad: Cell<bool>,
    pub(crate) trouble: RefCell<Option<String>>,
    pub(crate) lending: Lending,
    full_since: Cell<Option<Instant>>,
    read_errors: Cell<u32>,
    readers: RefCell<Recent<FileName, Rc<dyn DiskFile>>>,
    writers: RefCell<Recent<FileName, Rc<dyn DiskFile>>>,
    lock: RefCell<Option<Box<dyn Any>>>,
    /// Made for another number of shards; what belongs to others is still in it.
    pub(crate) resharded: Cell<bool>,
}

impl Directory {
    /// What pages and tables may take: a little stays for what the file system itself needs (directories, extents).
    pub(crate) fn limit_of(capacity_bytes: u64) -> u64 {
        capacity_bytes.saturating_sub(capacity_bytes / 256 + (96 << 10))
    }

    pub(crate) fn new(
        number: u8,
        path: PathBuf,
        disk: Rc<dyn Disk>,
        page_bytes: u32,
        directory: &DirectoryConfig,
        lock: Option<Box<dyn Any>>,
    ) -> Directory {
        let capacity_bytes = directory.capacity_bytes;
        Directory {
            number,
            tier: directory.tier,
            path,
            disk,
            page_bytes,
            configured_bytes: capacity_bytes,
            limit_bytes: Cell::new(Self::limit_of(capacity_bytes)),
            tables: RefCell::new(Tables::new(page_bytes)),
            queue: RefCell::default(),
            queued_bytes: Cell::new(0),
            departures: RefCell::default(),
            jobs: Cell::new((0, 0)),
            leaving: Cell::new((0, 0)),
            work: Signal::default(),
            progress: Signal::default(),
            closed: Cell::new(false),
            bad: Cell::new(false),
            trouble: RefCell::default(),
            lending: Lending::default(),
            full_since: Cell::new(None),
            read_errors: Cell::new(0),
            readers: RefCell::new(Recent::new(OPEN_FILES_MAX)),
            writers: RefCell::new(Recent::new(OPEN_FILES_MAX)),
            lock: RefCell::new(lock),
            resharded: Cell::new(false),
        }
    }

    /// A directory that is not to be touched, for reports.
    pub(crate) fn unused(number: u8, directory: &DirectoryConfig, config: &StoreConfig, why: String) -> Directory {
        let disk = Rc::new(GlommioDisk::before_probe(config.depth()));
        let unused = Directory::new(number, directory.path.clone(), disk, config.page_bytes, directory, None);
        unused.bad.set(true);
        unused.trouble.replace(Some(why));
        unused
    }

    /// Bytes of what is held, without the slots of small files that are free to be used again.
    pub(crate) fn held_bytes(&self) -> u64 {
        let tables = self.tables.borrow();
        tables.used_bytes().saturating_sub(tables.spare_bytes())
    }

    /// Its place among the disk tiers.
    pub(crate) fn tier_index(&self) -> usize {
        usize::from(self.tier == Tier::Hdd)
    }

    /// Free bytes as far as this shard knows; queued pages are counted as written.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.limit_bytes.get().saturating_sub(self.tables.borrow().used_bytes() + self.queued_bytes.get())
    }

    /// Whether so many bytes fit without anything leaving for them.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.held_bytes() + self.queued_bytes.get() + bytes <= self.limit_bytes.get()
    }

    pub(crate) fn enqueue(&self, job: Job) {
        self.queued_bytes.set(self.queued_bytes.get() + job.memory.allocated_bytes());
        self.queue.borrow_mut().push_back(job);
        let (taken, done) = self.jobs.get();
        self.jobs.set((taken + 1, done));
        self.work.notify();
    }

    /// The next page to write.
    pub(crate) fn dequeue(&self) -> Option<Job> {
        let job = self.queue.borrow_mut().pop_front()?;
        self.queued_bytes.set(self.queued_bytes.get() - job.memory.allocated_bytes());
        Some(job)
    }

    pub(crate) fn depart(&self, departure: Departure) {
        self.departures.borrow_mut().push(departure);
        let (taken, done) = self.leaving.get();
        self.leaving.set((taken + 1, done));
        self.work.notify();
    }

    pub(crate) fn finished(&self, jobs: usize, departures: usize) {
        let (taken, done) = self.jobs.get();
        self.jobs.set((taken, done + jobs as u64));
        let (taken, done) = self.leaving.get();
        self.leaving.set((taken, done + departures as u64));
        self.progress.notify();
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.queue.borrow().is_empty() || !self.departures.borrow().is_empty()
    }

    /// Waits until what had to leave so far is gone from the disk.
    pub(crate) async fn departed(&self) {
        let goal = self.leaving.get().0;
        self.progress.until(|| (self.leaving.get().1 >= goal || self.closed.get()).then_some(())).await;
    }

    /// Waits until what was queued so far is on the disk, or given up.
    pub(crate) async fn settled(&self) {
        let goal = self.jobs.get().0;
        self.progress.until(|| (self.jobs.get().1 >= goal || self.closed.get()).then_some(())).await;
        self.departed().await;
    }

    /// Where a file is below a shard's directory.
    pub(crate) fn place(shard: &Path, file: FileName) -> PathBuf {
        path_of(shard, file)
    }

    /// Where a file is.
    pub(crate) fn path_of(&self, file: FileName) -> PathBuf {
        path_of(&self.path, file)
    }

    /// A file for reading. Not kept open unless the caller says so (`keep_reader`).
    pub(crate) async fn reader(&self, file: FileName) -> io::Result<Rc<dyn DiskFile>> {
        let open = self.readers.borrow_mut().get(&file);
        match open {
            Some(open) => Ok(open),
            None => self.disk.open(&self.path_of(file), Access::Read).await,
        }
    }

    /// Keeps a file open. Only to be called while a page of it is known to be present: then it was not unlinked.
    pub(crate) fn keep_reader(&self, file: FileName, open: &Rc<dyn DiskFile>) {
        let mut readers = self.readers.borrow_mut();
        if readers.get(&file).is_none() {
            readers.put(file, open.clone());
        }
    }

    /// A file for writing, made if needed.
    pub(crate) async fn writer(&self, file: FileName) -> io::Result<Rc<dyn DiskFile>> {
        let open = self.writers.borrow_mut().get(&file);
        if let Some(open) = open {
            return Ok(open);
        }
        let open = self.disk.open(&self.path_of(file), Access::Write).await?;
        self.writers.borrow_mut().put(file, open.clone());
        Ok(open)
    }

    pub(crate) async fn unlink(&self, file: FileName) -> io::Result<()> {
        self.close_handles(file);
        self.disk.unlink(&self.path_of(file)).await
    }

    fn close_handles(&self, file: FileName) {
        self.writers.borrow_mut().remove(&file);
        self.readers.borrow_mut().remove(&file);
    }

    /// Notes that the disk is full. What is there is kept; the directory is smaller until it is tried again.
    pub(crate) fn set_full(&self) {
        let used = self.tables.borrow().used_bytes();
        self.limit_bytes.set(used.min(Self::limit_of(self.configured_bytes)));
        self.full_since.set(Some(now()));
        self.set_trouble(format!("disk full at {used} bytes of {}", self.configured_bytes));
    }

    /// Tries the whole capacity again, after a while.
    pub(crate) fn retry_full(&self) {
        if self.full_since.get().is_some_and(|since| now() - since >= FULL_PAUSE) {
            self.full_since.set(Some(now()));
            self.limit_bytes.set(Self::limit_of(self.configured_bytes));
        }
    }

    /// A batch went through: a disk that was full is not full any more if its whole capacity was allowed.
    pub(crate) fn wrote(&self) {
        if self.full_since.get().is_some() && self.limit_bytes.get() == Self::limit_of(self.configured_bytes) {
            self.full_since.set(None);
            *self.trouble.borrow_mut() = None;
            tracing::info!(directory = %self.path.display(), "the disk has room again");
        }
    }

    pub(crate) fn set_trouble(&self, what: String) {
        let mut trouble = self.trouble.borrow_mut();
        if trouble.as_ref() != Some(&what) {
            tracing::warn!(directory = %self.path.display(), "{what}");
            *trouble = Some(what);
        }
    }

    /// Counts a failed read; `true` if the directory is to be given up.
    pub(crate) fn read_failed(&self, error: &io::Error) -> bool {
        let errors = self.read_errors.get() + 1;
        self.read_errors.set(errors);
        if errors <= READ_ERRORS_MAX {
            self.set_trouble(format!("{errors} failed reads, last: {error}"));
        }
        errors == READ_ERRORS_MAX
    }

    /// Lets another process have the directory.
    pub(crate) fn unlock(&self) {
        self.lock.borrow_mut().take();
        *self.readers.borrow_mut() = Recent::new(OPEN_FILES_MAX);
        *self.writers.borrow_mut() = Recent::new(OPEN_FILES_MAX);
    }
}

/// Directories of large files: few, so that they take little room; enough to keep each short.
pub(crate) const FILE_DIRS: u64 = 16;

fn path_of(base: &Path, file: FileName) -> PathBuf {
    match file {
        FileName::Headers => base.join("headers"),
        FileName::Rows => base.join("rows"),
        FileName::Small => base.join("small"),
        FileName::Large(file_id, version) => {
            base.join(format!("files/{:x}/{:016x}-{:016x}", file_id.0 % FILE_DIRS, file_id.0, version.0))
        }
        FileName::Slab(class_bytes, slab) => base.join(format!("slabs/{class_bytes}-{slab}")),
    }
}
