//! The writer of a directory: takes pages from its queue in batches and makes them durable.
//!
//! One task per directory, the only one that changes its disk. The order of a batch is what recovery relies on:
//! 1. pages that leave (evicted, dropped, or to make room): their header bits and records are cleared, durably;
//! 2. their space is punched or unlinked, and may now be used again;
//! 3. payload and rows of the new pages are written, then synced;
//! 4. only then their header bits and records are written, then synced;
//! 5. the index learns that they are there.

use super::Store;
use crate::Tier;
use crate::directory::{Chore, Departure, Directory, FileName, Freed, Job, Place, Tables};
use crate::disk::{AlignedBuffer, breathe, spawn};
use crate::format::{SECTOR_BYTES, row_bytes, row_to_bytes};
use crate::key::FileKey;
use crate::memory::whole_units;
use forebay_base::stall::{CoreTask, watched};
use forebay_base::{PageIndex, crc32c};
use futures::stream::{self, StreamExt, TryStreamExt};
use hashbrown::HashSet;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::{Rc, Weak};

/// Payload of one batch: what one sync is paid for.
const BATCH_BYTES: u64 = 16 << 20;
const BATCH_PAGES: usize = 256;
/// Writes in flight at once.
const WRITES_IN_FLIGHT: usize = 8;

/// A job with its reserved space and its row.
struct Write {
    job: Job,
    place: Place,
    row: Rc<[u32]>,
    row_checksum: u32,
}

/// Starts the writer of a directory. It ends when the directory is closed or its store is gone.
pub(super) fn start(store: &Rc<Store>, directory: &Rc<Directory>) {
    let (store, directory): (Weak<Store>, _) = (Rc::downgrade(store), directory.clone());
    spawn(watched(CoreTask::WriteBehind, async move {
        loop {
            directory.work.until(|| (directory.closed.get() || directory.has_work()).then_some(())).await;
            if directory.closed.get() {
                return;
            }
            let Some(store) = store.upgrade() else { return };
            store.commit(&directory).await;
        }
    }));
}

impl Store {
    /// One batch.
    pub(super) async fn commit(&self, directory: &Directory) {
        let mut departures = std::mem::take(&mut *directory.departures.borrow_mut());
        let departed = departures.len();
        let mut finished = 0;
        let jobs = self.take_jobs(directory, &mut finished);
        if directory.bad.get() {
            self.discard(directory, jobs);
            directory.finished(finished, departed);
            return;
        }
        directory.retry_full();
        self.make_room(directory, &jobs, &mut departures);
        self.take_lent_along(directory, &mut departures);
        let failed = match self.send_off(directory, &departures).await {
            Ok(()) => self.write_batch(directory, jobs).await.err(),
            Err(error) => {
                self.discard(directory, jobs);
                Some(error)
            }
        };
        if let Some(error) = failed {
            self.give_up(directory, &format!("given up after a failed write: {error}"));
        }
        directory.finished(finished, departed);
        self.moves.notify();
    }

    /// The next jobs that are still wanted. `finished` counts all that left the queue.
    fn take_jobs(&self, directory: &Directory, finished: &mut usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while jobs.len() < BATCH_PAGES && bytes < BATCH_BYTES {
            let Some(job) = directory.dequeue() else { break };
            *finished += 1;
            if self.tiers.borrow().is_queued(&job) {
                bytes += job.memory.allocated_bytes();
                jobs.push(job);
            } else {
                self.count(|counters| counters.unwritten_pages += 1);
            }
        }
        jobs
    }

    /// Pages that will not be written after all.
    fn discard(&self, directory: &Directory, jobs: Vec<Job>) {
        self.count(|counters| counters.unwritten_pages += jobs.len() as u64);
        let mut tiers = self.tiers.borrow_mut();
        jobs.iter().for_each(|job| tiers.not_written(directory.number, job));
    }

    /// Chooses who leaves, so that `jobs` fit. They leave the index here and the disk in `send_off`.
    fn make_room(&self, directory: &Directory, jobs: &[Job], departures: &mut Vec<Departure>) {
        let tables = directory.tables.borrow();
        for job in jobs {
            if tables.conflicting(&job.key) {
                let pages = tables.large_pages(job.key.content()).into_iter();
                departures.extend(pages.map(|name| Departure { name, record: crate::directory::NO_RECORD }));
            }
        }
        let mut blocks = HashSet::new();
        let need: u64 = jobs
            .iter()
            .map(|job| {
                let block = (job.key.content(), job.page.0 / crate::format::BLOCK_PAGES);
                let in_new_block = tables.is_small(&job.key) || blocks.insert(block);
                if in_new_block { tables.cost(&job.key, job.page) } else { job.memory.allocated_bytes() }
            })
            .sum();
        let leaving: u64 = departures.iter().map(|departure| tables.space_of(&departure.name, departure.record)).sum();
        let mut expected = (tables.used_bytes() + need).saturating_sub(leaving + tables.spare_bytes());
        let limit = directory.limit_bytes.get();
        let mut tiers = self.tiers.borrow_mut();
        while expected > limit {
            let Some(departure) = tiers.leave_disk(directory.number) else { break };
            expected = expected.saturating_sub(tables.space_of(&departure.name, departure.record));
            departures.push(departure);
            self.count(|counters| match directory.tier {
                Tier::Hdd => counters.evicted_hdd_pages += 1,
                _ => counters.evicted_pages += 1,
            });
        }
    }

    /// A local file that was handed out leaves as a whole.
    fn take_lent_along(&self, directory: &Directory, departures: &mut Vec<Departure>) {
        let rest = directory.rest_of_lent(departures);
        self.tiers.borrow_mut().lose_on_disk(&rest);
        departures.extend(rest.into_iter().map(|name| Departure { name, record: crate::directory::NO_RECORD }));
    }

    /// Clears what leaves, durably, then gives its space back.
    async fn send_off(&self, directory: &Directory, departures: &[Departure]) -> io::Result<()> {
        let freed: Vec<Freed> = {
            let mut tables = directory.tables.borrow_mut();
            departures.iter().filter_map(|departure| tables.clear(&departure.name, departure.record)).collect()
        };
        if freed.is_empty() {
            return Ok(());
        }
        directory.write_tables().await?;
        let chores = directory.tables.borrow_mut().freed(&freed);
        do_chores(directory, chores).await
    }

    /// Writes what fits. An error means that the directory is to be given up; a full disk is not one.
    async fn write_batch(&self, directory: &Directory, jobs: Vec<Job>) -> io::Result<()> {
        if jobs.is_empty() {
            return trim_spare(directory, 0, None).await;
        }
        let mut writes: Vec<Write> = Vec::with_capacity(jobs.len());
        let mut homeless = Vec::new();
        let payload = async {
            for job in &jobs {
                if !self.reserve(directory, job, &mut writes).await? {
                    homeless.push(job.clone());
                }
                // Each costs the checksums of a page.
                breathe().await;
            }
            write_payload(directory, &writes).await
        }
        .await;
        if let Err(error) = payload {
            self.discard(directory, jobs);
            return self.payload_failed(directory, &writes, error).await;
        }
        drop(jobs);
        self.discard(directory, homeless);
        let mut committed = Vec::with_capacity(writes.len());
        {
            let mut tables = directory.tables.borrow_mut();
            for write in writes {
                let record = tables.commit(&write.job.key, write.job.page, write.place, write.row_checksum);
                committed.push((write, record));
            }
        }
        if let Err(error) = directory.write_tables().await {
            self.discard(directory, committed.into_iter().map(|(write, _)| write.job).collect());
            return Err(error);
        }
        self.count(|counters| counters.written_pages += committed.len() as u64);
        seal_complete(directory, committed.iter().map(|(write, _)| write.job.key)).await;
        for (write, record) in committed {
            let name = write.job.key.page(write.job.page);
            if self.tiers.borrow_mut().written(directory.number, &write.job, record) {
                self.rows.borrow_mut().put(name, write.row);
            } else {
                // Dropped while it was written.
                directory.depart(Departure { name, record });
            }
        }
        directory.wrote();
        Ok(())
    }

    /// Reserves space for a job, punching free slots of other classes if that is what it takes; `false` if there is
    /// no room.
    async fn reserve(&self, directory: &Directory, job: &Job, writes: &mut Vec<Write>) -> io::Result<bool> {
        let (cost, is_small, is_new) = {
            let tables = directory.tables.borrow();
            (tables.cost(&job.key, job.page), tables.is_small(&job.key), !tables.has_large(&job.key))
        };
        let class = is_small.then(|| Tables::class_bytes(&job.key));
        trim_spare(directory, cost, class).await?;
        if directory.tables.borrow().used_bytes() + cost > directory.limit_bytes.get() {
            return Ok(false);
        }
        let (place, grew) = directory.tables.borrow_mut().reserve(&job.key, job.page);
        let row = job.memory.row().clone();
        let row_checksum = crc32c(&row_bytes_of(&row, is_small, directory.page_bytes));
        let (file, offset) = match place {
            Place::Large { slot } => (FileName::Headers, u64::from(slot) * SECTOR_BYTES as u64),
            Place::Small { record, .. } => {
                let sector = record / crate::format::SMALL_RECORDS;
                (FileName::Small, u64::from(sector) * SECTOR_BYTES as u64)
            }
        };
        let (key, name) = (job.key, FileName::Large(job.key.file_id, job.key.version));
        // Before anything that can fail, so that a failure gives the space back.
        writes.push(Write { job: job.clone(), place, row, row_checksum });
        if grew {
            directory.writer(file).await?.write_at(offset, &AlignedBuffer::new(SECTOR_BYTES)).await?;
        }
        if !is_small && is_new {
            directory.writer(name).await?.truncate(key.size_bytes).await?;
        }
        Ok(true)
    }

    /// A batch that could not be written: its space is given back; a full disk makes the directory smaller, anything
    /// else ends it.
    async fn payload_failed(&self, directory: &Directory, writes: &[Write], error: io::Error) -> io::Result<()> {
        let reserved: Vec<_> = writes.iter().map(|write| (write.job.key, write.job.page, write.place)).collect();
        let chores = directory.tables.borrow_mut().undo(&reserved);
        if !matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) {
            return Err(error);
        }
        self.count(|counters| counters.disk_errors += 1);
        do_chores(directory, chores).await?;
        directory.set_full();
        Ok(())
    }

    /// Ends a directory: all that it held is a miss from now on, nothing is written to it any more.
    pub(super) fn give_up(&self, directory: &Directory, why: &str) {
        self.count(|counters| counters.disk_errors += 1);
        directory.bad.set(true);
        directory.set_trouble(why.to_owned());
        let jobs: Vec<Job> = std::iter::from_fn(|| directory.dequeue()).collect();
        let departures = std::mem::take(&mut *directory.departures.borrow_mut());
        directory.finished(jobs.len(), departures.len());
        self.discard(directory, jobs);
        self.tiers.borrow_mut().forget_directory(directory.number);
    }
}

/// Takes the right to write from files that are whole now. Before the index knows that they are: from then on they may be
/// handed out, and bear the mark of it.
async fn seal_complete(directory: &Directory, keys: impl Iterator<Item = FileKey>) {
    let complete: BTreeSet<FileName> = {
        let tables = directory.tables.borrow();
        keys.filter(|key| tables.is_complete(key)).map(|key| FileName::Large(key.file_id, key.version)).collect()
    };
    for file in complete {
        if let Err(error) = directory.disk.seal(&directory.path_of(file)).await {
            tracing::debug!(directory = %directory.path.display(), "cannot make {file:?} read-only: {error}");
        }
    }
}

/// A row as it is stored: padded to the row's fixed length for a large file.
fn row_bytes_of(row: &[u32], is_small: bool, page_bytes: u32) -> Vec<u8> {
    let mut bytes = row_to_bytes(row);
    if !is_small {
        bytes.resize(row_bytes(page_bytes) as usize, 0);
    }
    bytes
}

/// Punches free slots until `cost` fits, sparing the class that needs one now.
async fn trim_spare(directory: &Directory, cost: u64, except: Option<u64>) -> io::Result<()> {
    loop {
        let chore = {
            let mut tables = directory.tables.borrow_mut();
            if tables.used_bytes() + cost <= directory.limit_bytes.get() {
                return Ok(());
            }
            tables.punch_spare(except)
        };
        let Some(chore) = chore else { return Ok(()) };
        do_chores(directory, vec![chore]).await?;
    }
}

async fn do_chores(directory: &Directory, chores: Vec<Chore>) -> io::Result<()> {
    for chore in chores {
        match chore {
            Chore::Punch { file, offset, bytes } => {
                let done = async { directory.writer(file).await?.punch(offset, bytes).await }.await;
                done?;
            }
            Chore::Unlink { content } => directory.unlink_content(content).await?,
        }
    }
    Ok(())
}

/// Payload and rows, then one sync of every file touched.
async fn write_payload(directory: &Directory, writes: &[Write]) -> io::Result<()> {
    let row_sectors = row_sectors(directory, writes).await?;
    let mut touched: BTreeSet<FileName> = writes.iter().map(payload_file).collect();
    stream::iter(writes.iter().map(|write| write_page(directory, write)))
        .buffer_unordered(WRITES_IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    if !row_sectors.is_empty() {
        touched.insert(FileName::Rows);
        let rows = directory.writer(FileName::Rows).await?;
        stream::iter(row_sectors.iter().map(|(&offset, sector)| rows.write_at(offset, sector)))
            .buffer_unordered(WRITES_IN_FLIGHT)
            .try_collect::<()>()
            .await?;
    }
    stream::iter(touched.into_iter().map(|file| async move { directory.writer(file).await?.sync().await }))
        .buffer_unordered(WRITES_IN_FLIGHT)
        .try_collect::<()>()
        .await
}

fn payload_file(write: &Write) -> FileName {
    match write.place {
        Place::Large { .. } => FileName::Large(write.job.key.file_id, write.job.key.version),
        Place::Small { slot, .. } => FileName::Slab(slot.class_bytes, slot.slab),
    }
}

async fn write_page(directory: &Directory, write: &Write) -> io::Result<()> {
    let file = directory.writer(payload_file(write)).await?;
    let Job { key, page, memory, .. } = &write.job;
    match write.place {
        Place::Large { .. } => {
            file.write_at(u64::from(page.0) * u64::from(directory.page_bytes), memory.buffer()).await?;
            if memory.bytes().len() as u64 == memory.allocated_bytes() {
                return Ok(());
            }
            // The last page was padded to whole units; the file is exactly as long as the user's.
            file.truncate(key.size_bytes).await
        }
        Place::Small { slot, .. } => {
            let (row_at, row_length) = Tables::row_in_slot(key);
            let mut image = AlignedBuffer::new(whole_units(row_at + row_length) as usize);
            let bytes = image.bytes_mut().expect("new, so it has one owner");
            bytes[..memory.bytes().len()].copy_from_slice(memory.bytes());
            bytes[row_at as usize..][..row_length as usize].copy_from_slice(&row_to_bytes(&write.row));
            file.write_at(slot.offset(), &image).await
        }
    }
}

/// The sectors of the rows file that the batch changes, by offset. Rows of other present pages in them are kept.
async fn row_sectors(directory: &Directory, writes: &[Write]) -> io::Result<BTreeMap<u64, AlignedBuffer>> {
    let mut sectors: BTreeMap<u64, AlignedBuffer> = BTreeMap::new();
    let mut shared: BTreeMap<u64, bool> = BTreeMap::new();
    for write in writes {
        if let Place::Large { slot } = write.place {
            let tables = directory.tables.borrow();
            let offset = row_sector(&tables, slot, write.job.page);
            shared.entry(offset).or_insert_with(|| tables.shares_row_sector(slot, write.job.page));
        }
    }
    for (offset, shared) in shared {
        let mut sector = AlignedBuffer::new(SECTOR_BYTES);
        if shared {
            let old = directory.writer(FileName::Rows).await?.read_at(offset, SECTOR_BYTES).await?;
            sector.bytes_mut().expect("new, so it has one owner")[..old.len()].copy_from_slice(&old);
        }
        sectors.insert(offset, sector);
    }
    let length = row_bytes(directory.page_bytes) as usize;
    for write in writes {
        if let Place::Large { slot } = write.place {
            let tables = directory.tables.borrow();
            let at = tables.row_offset(slot, write.job.page) as usize % SECTOR_BYTES;
            let sector = sectors.get_mut(&row_sector(&tables, slot, write.job.page)).expect("made above");
            let row = row_bytes_of(&write.row, false, directory.page_bytes);
            sector.bytes_mut().expect("not handed out yet")[at..at + length].copy_from_slice(&row);
        }
    }
    Ok(sectors)
}

fn row_sector(tables: &Tables, slot: u32, page: PageIndex) -> u64 {
    let offset = tables.row_offset(slot, page);
    offset - offset % SECTOR_BYTES as u64
}
