//! Reading a page's range from a disk.
//!
//! Invariants: bytes are returned only if the page was still the same when they had arrived, and (unless the setting
//! says otherwise) every 4 KiB unit of them matches its checksum.

use super::Store;
use crate::directory::{Directory, Location, Tables};
use crate::disk::ReadBytes;
use crate::format::{row_bytes, row_from_bytes};
use crate::gone::Cause;
use crate::key::FileKey;
use crate::memory::{DiskRow, PageSlice};
use forebay_base::{PageIndex, UNIT_BYTES, unit_checksums};
use std::io;
use std::ops::Range;
use std::rc::Rc;

const UNIT: u64 = UNIT_BYTES as u64;

/// A page on a disk, as the index saw it.
#[derive(Clone, Copy)]
pub(super) struct Sighting {
    pub(super) directory: u8,
    pub(super) record: u32,
    pub(super) generation: u32,
    /// Read often enough to be worth memory.
    pub(super) is_hot: bool,
}

/// Why a page on a disk cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lost {
    /// It went away, or is on its way elsewhere.
    Gone,
    /// It was unreadable or not what was written; it is dropped now.
    Bad,
}

impl Store {
    /// The range, checked against its checksums if `verify` says so.
    pub(super) async fn read_disk(
        &self,
        key: &FileKey,
        page: PageIndex,
        range: Range<u32>,
        seen: Sighting,
        verify: bool,
    ) -> Result<PageSlice, Lost> {
        let directory = self.directories[usize::from(seen.directory)].clone();
        let location = directory.tables.borrow().locate(key, page, seen.record).ok_or(Lost::Gone)?;
        let page_length = key.page_length(page, self.config.page_bytes);
        let buffer = if seen.is_hot { self.pool.try_page(page_length as usize) } else { None };
        // A hot page is read whole, to be kept.
        let wanted = if buffer.is_some() { 0..page_length } else { range.clone() };
        let first = u64::from(wanted.start) / UNIT * UNIT;
        let end = u64::from(wanted.end).next_multiple_of(UNIT);
        let needed = (end.min(u64::from(page_length)) - first) as usize;
        let read = self.read_units(&directory, &location, first, (end - first) as usize, key, page, seen).await;
        if !self.tiers.borrow().is_same(key, page, seen) {
            // Evicted meanwhile, and its place perhaps used by another.
            return Err(Lost::Gone);
        }
        let bytes = match read {
            Ok(bytes) if bytes.len() >= needed => bytes,
            Ok(_) => {
                self.corrupt(key, page, &directory, "shorter than it should be");
                return Err(Lost::Bad);
            }
            Err(error) => {
                self.read_failed(key, page, &directory, &error);
                return Err(Lost::Bad);
            }
        };
        let mut known = None;
        if verify {
            let row = match self.row(key, page, &directory, &location, seen).await {
                Ok(row) => row,
                Err(error) => {
                    self.read_failed(key, page, &directory, &error);
                    return Err(Lost::Bad);
                }
            };
            let first_unit = (first / UNIT) as usize;
            let intact = row.as_ref().is_some_and(|row| {
                let want = row.get(first_unit..).unwrap_or_default();
                want.len() >= needed.div_ceil(UNIT_BYTES)
                    && unit_checksums(&bytes[..needed]).zip(want).all(|(got, want)| got == *want)
            });
            if !self.tiers.borrow().is_same(key, page, seen) {
                return Err(Lost::Gone);
            }
            if !intact {
                self.corrupt(key, page, &directory, "fails its checksum");
                return Err(Lost::Bad);
            }
            known = row;
        }
        if let Some(mut buffer) = buffer {
            buffer.copy_from_slice(&bytes[..needed]);
            let evicted = self.tiers.borrow_mut().promote(key, page, buffer.seal_with(known.clone()));
            self.count(|counters| {
                counters.promoted_pages += 1;
                counters.evicted_mem_pages += evicted;
            });
        }
        let start = (u64::from(range.start) - first) as usize;
        let known = known.map(|row| DiskRow { row, first: first as usize, page_length: page_length as usize });
        Ok(self.pool.disk_slice(bytes, known, start..start + range.len(), directory.tier))
    }

    #[expect(clippy::too_many_arguments, reason = "two call sites; a struct would only rename them")]
    pub(super) async fn read_units(
        &self,
        directory: &Directory,
        location: &Location,
        first: u64,
        length: usize,
        key: &FileKey,
        page: PageIndex,
        seen: Sighting,
    ) -> io::Result<ReadBytes> {
        let file = directory.reader(location.file).await?;
        if self.tiers.borrow().is_same(key, page, seen) {
            directory.keep_reader(location.file, &file);
        }
        file.read_at(location.offset + first, length).await
    }

    /// The page's row: from memory, or from the disk.
    async fn row(
        &self,
        key: &FileKey,
        page: PageIndex,
        directory: &Directory,
        location: &Location,
        seen: Sighting,
    ) -> io::Result<Option<Rc<[u32]>>> {
        let name = key.page(page);
        if let Some(row) = self.rows.borrow_mut().get(&name) {
            return Ok(Some(row));
        }
        let row = self.read_row(key, page, directory, location, seen).await?;
        if let Some(row) = &row
            && self.tiers.borrow().is_same(key, page, seen)
        {
            self.rows.borrow_mut().put(name, row.clone());
        }
        Ok(row)
    }

    /// The page's row as it is on the disk. `None` if it does not match its own checksum.
    pub(super) async fn read_row(
        &self,
        key: &FileKey,
        page: PageIndex,
        directory: &Directory,
        location: &Location,
        seen: Sighting,
    ) -> io::Result<Option<Rc<[u32]>>> {
        let length = if key.size_bytes <= u64::from(self.config.page_bytes) {
            Tables::row_in_slot(key).1
        } else {
            row_bytes(self.config.page_bytes)
        };
        let from = location.row_offset / UNIT * UNIT;
        let to = (location.row_offset + length).next_multiple_of(UNIT);
        let file = directory.reader(location.row_file).await?;
        if self.tiers.borrow().is_same(key, page, seen) {
            directory.keep_reader(location.row_file, &file);
        }
        let bytes = file.read_at(from, (to - from) as usize).await?;
        let start = (location.row_offset - from) as usize;
        let row =
            bytes.get(start..start + length as usize).and_then(|bytes| row_from_bytes(bytes, location.row_checksum));
        Ok(row.map(Rc::from))
    }

    pub(super) fn corrupt(&self, key: &FileKey, page: PageIndex, directory: &Directory, what: &str) {
        self.count(|counters| counters.corrupt_units += 1);
        tracing::warn!(
            directory = %directory.path.display(),
            "page {page} of file {} version {} {what}: dropped", key.file_id, key.version
        );
        self.tiers.borrow_mut().drop_page(&key.page(page), Cause::Corrupt);
    }

    pub(super) fn read_failed(&self, key: &FileKey, page: PageIndex, directory: &Directory, error: &io::Error) {
        self.count(|counters| counters.disk_errors += 1);
        self.tiers.borrow_mut().drop_page(&key.page(page), Cause::Unreadable);
        if directory.read_failed(error) {
            self.give_up(directory, &format!("given up after too many failed reads, last: {error}"));
        }
    }
}
