//! Tables as they come from the disk, and what of the disk they vouch for. Pure.

use super::{FileName, LargeFile, NO_RECORD, Slabs, Slot, Tables};
use crate::chunked::Chunked;
use crate::format::{BLOCK_PAGES, BlockHeader, SECTOR_BYTES, SMALL_RECORDS, SmallRecord};
use crate::key::FileKey;
use crate::memory::whole_units;
use forebay_base::PageIndex;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

impl Tables {
    /// Takes in what the tables on disk say. `headers` and `records` are by slot; what was dropped is in `dirty`.
    pub(crate) fn recovered(
        page_bytes: u32,
        headers: Vec<Option<BlockHeader>>,
        records: Chunked<Option<SmallRecord>>,
        dirty: Vec<(FileName, u32)>,
    ) -> Tables {
        let in_use = records.iter().flatten().map(Slot::of);
        let mut tables = Tables { page_bytes, slabs: Slabs::recovered(in_use), ..Tables::default() };
        for (slot, header) in headers.iter().enumerate() {
            let slot = slot as u32;
            let Some(header) = header else {
                tables.free_headers.push(slot);
                continue;
            };
            let first = header.block * BLOCK_PAGES;
            let pages = header.pages.iter().map(|&(page, _)| PageIndex(first + u32::from(page)));
            tables.used_bytes += pages.map(|page| tables.page_space(&header.key, page)).sum::<u64>();
            tables.used_bytes += tables.rows_space(&header.key, header.block);
            let file = tables.files.entry(header.key.content()).or_insert_with(|| LargeFile {
                key: header.key,
                blocks: BTreeMap::new(),
                pages: 0,
            });
            file.blocks.insert(header.block, slot);
            file.pages += header.pages.len() as u32;
        }
        for (record, held) in records.iter().enumerate() {
            match held {
                Some(held) => tables.used_bytes += u64::from(held.class_bytes.get()),
                None => tables.free_records.push(record as u32),
            }
        }
        // The lowest first, so that tables stay short.
        tables.free_headers.reverse();
        tables.free_records.reverse();
        let sectors = headers.len() as u64 + (records.len() as u64).div_ceil(u64::from(SMALL_RECORDS));
        tables.used_bytes += sectors * SECTOR_BYTES as u64;
        tables.headers = headers;
        tables.records = records;
        for (file, number) in dirty {
            let dirty = if file == FileName::Headers { &mut tables.dirty_headers } else { &mut tables.dirty_sectors };
            dirty.insert(number);
        }
        tables
    }

    /// Every page that is present, for the index.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (FileKey, PageIndex, u32)> {
        let large = self.headers.iter().flatten().flat_map(|header| {
            let first = header.block * BLOCK_PAGES;
            header.pages.iter().map(move |&(page, _)| (header.key, PageIndex(first + u32::from(page)), NO_RECORD))
        });
        let records = self.records.iter().enumerate();
        let small = records.filter_map(|(number, record)| Some((record.as_ref()?.key, PageIndex(0), number as u32)));
        large.chain(small)
    }

    /// The pages that one table sector vouches for; `None` behind the last sector.
    pub(crate) fn pages_of_sector(&self, table: FileName, number: u32) -> Option<Vec<(FileKey, PageIndex, u32)>> {
        if table == FileName::Headers {
            let header = self.headers.get(number as usize)?.as_ref();
            let pages = |header: &BlockHeader| {
                let first = header.block * BLOCK_PAGES;
                let pages = header.pages.iter();
                pages.map(|&(page, _)| (header.key, PageIndex(first + u32::from(page)), NO_RECORD)).collect()
            };
            return Some(header.map(pages).unwrap_or_default());
        }
        let first = number * SMALL_RECORDS;
        let held = |number| Some((self.records.get(number as usize)?.as_ref()?.key, PageIndex(0), number));
        let pages = (first..first + SMALL_RECORDS).filter_map(held).collect();
        (first < self.records.len() as u32).then_some(pages)
    }

    /// The ranges of a file that were written for what is present, ascending; everything else in it may be punched. Exact, so
    /// that a file with no more than this allocated has nothing to punch.
    pub(crate) fn occupied(&self, file: FileName) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = match file {
            FileName::Large(file_id, version) => {
                let Some(held) = self.files.get(&(file_id, version)) else { return Vec::new() };
                let pages = self.large_pages((file_id, version)).into_iter();
                let page_bytes = u64::from(self.page_bytes);
                pages.map(|name| (u64::from(name.page.0) * page_bytes, self.page_space(&held.key, name.page))).collect()
            }
            FileName::Rows => {
                let live = self.headers.iter().enumerate().filter_map(|(slot, header)| Some((slot, header.as_ref()?)));
                let rows = live.flat_map(|(slot, header)| {
                    header.pages.iter().map(move |&(page, _)| self.row_offset(slot as u32, PageIndex(page.into())))
                });
                let sectors: BTreeSet<u64> = rows.map(|row| row - row % SECTOR_BYTES as u64).collect();
                sectors.into_iter().map(|sector| (sector, SECTOR_BYTES as u64)).collect()
            }
            FileName::Headers | FileName::Small | FileName::Slab(..) => return Vec::new(),
        };
        ranges.sort_unstable();
        ranges
    }

    /// The same for all slab files at once.
    pub(crate) fn occupied_slabs(&self) -> HashMap<(u64, u32), Vec<(u64, u64)>> {
        let mut slabs: HashMap<(u64, u32), Vec<(u64, u64)>> = HashMap::new();
        for record in self.records.iter().flatten() {
            let class_bytes = u64::from(record.class_bytes.get());
            let (row_at, row_length) = Self::row_in_slot(&record.key);
            let range = (class_bytes * u64::from(record.slot), whole_units(row_at + row_length));
            slabs.entry((class_bytes, record.slab)).or_default().push(range);
        }
        slabs.values_mut().for_each(|ranges| ranges.sort_unstable());
        slabs
    }
}
