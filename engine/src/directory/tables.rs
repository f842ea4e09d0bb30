//! One directory's tables as they are in memory: which block headers, small records and slots are in use, what they
//! say, and how many bytes that takes. Pure; changed only by the directory's writer (and while it is opened).
//!
//! Invariants: `used_bytes` counts everything below the directory that takes space, including what is only reserved;
//! a header or record says "present" here only while its write may follow or has been made; what was cleared gives its
//! space back only through `freed`, after the clear is durable.

mod recovered;

use super::slabs::{Slabs, Slot, class_of};
use crate::chunked::Chunked;
use crate::format::{BLOCK_PAGES, BlockHeader, SECTOR_BYTES, SMALL_RECORDS, SmallRecord, SmallSector, row_bytes};
use crate::key::{FileKey, PageKey};
use crate::memory::whole_units;
use forebay_base::{FileId, PageIndex, UNIT_BYTES, Version};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// The record number of a page that is not a small file.
pub(crate) const NO_RECORD: u32 = u32::MAX;

/// A file below the shard's directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum FileName {
    Headers,
    Rows,
    Small,
    Large(FileId, Version),
    Slab(u64, u32),
}

/// Where a page's bytes and row are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    pub(crate) file: FileName,
    pub(crate) offset: u64,
    pub(crate) row_file: FileName,
    pub(crate) row_offset: u64,
    pub(crate) row_checksum: u32,
}

/// Space reserved for one page that is about to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Large { slot: u32 },
    Small { record: u32, slot: Slot },
}

/// Space of one page whose header bit or record was cleared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Freed {
    Large { content: (FileId, Version), block: u32, offset: u64, bytes: u64 },
    Small { record: u32, slot: Slot },
}

/// What to do on the disk when space was given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chore {
    Punch { file: FileName, offset: u64, bytes: u64 },
    Unlink { content: (FileId, Version) },
}

struct LargeFile {
    key: FileKey,
    blocks: BTreeMap<u32, u32>,
    pages: u32,
}

#[derive(Default)]
pub(crate) struct Tables {
    page_bytes: u32,
    headers: Vec<Option<BlockHeader>>,
    free_headers: Vec<u32>,
    files: HashMap<(FileId, Version), LargeFile>,
    records: Chunked<Option<SmallRecord>>,
    free_records: Vec<u32>,
    slabs: Slabs,
    used_bytes: u64,
    /// Of files that have no name any more and that somebody reads.
    orphan_bytes: u64,
    dirty_headers: BTreeSet<u32>,
    dirty_sectors: BTreeSet<u32>,
}

impl Tables {
    pub(crate) fn new(page_bytes: u32) -> Tables {
        Tables { page_bytes, ..Tables::default() }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes + self.orphan_bytes
    }

    pub(crate) fn set_orphan_bytes(&mut self, bytes: u64) {
        self.orphan_bytes = bytes;
    }

    pub(crate) fn spare_bytes(&self) -> u64 {
        self.slabs.spare_bytes()
    }

    pub(crate) fn is_small(&self, key: &FileKey) -> bool {
        key.size_bytes <= u64::from(self.page_bytes)
    }

    /// Slot size for a small file with its row behind it.
    pub(crate) fn class_bytes(key: &FileKey) -> u64 {
        Self::slot_bytes(key.size_bytes)
    }

    /// The same, by the file's size.
    pub(crate) fn slot_bytes(size_bytes: u64) -> u64 {
        class_of(size_bytes.next_multiple_of(4) + size_bytes.div_ceil(UNIT_BYTES as u64) * 4)
    }

    /// Offset and length of a small file's row inside its slot.
    pub(crate) fn row_in_slot(key: &FileKey) -> (u64, u64) {
        (key.size_bytes.next_multiple_of(4), key.size_bytes.div_ceil(UNIT_BYTES as u64) * 4)
    }

    fn page_space(&self, key: &FileKey, page: PageIndex) -> u64 {
        whole_units(u64::from(key.page_length(page, self.page_bytes)))
    }

    /// Space of a block's rows in the rows file.
    fn rows_space(&self, key: &FileKey, block: u32) -> u64 {
        let pages = key.size_bytes.div_ceil(u64::from(self.page_bytes));
        let in_block = pages.saturating_sub(u64::from(block) * u64::from(BLOCK_PAGES)).min(u64::from(BLOCK_PAGES));
        whole_units(in_block * row_bytes(self.page_bytes))
    }

    fn header_slot(&self, key: &FileKey, block: u32) -> Option<u32> {
        self.files.get(&key.content())?.blocks.get(&block).copied()
    }

    /// What a page would add to `used_bytes` now.
    pub(crate) fn cost(&self, key: &FileKey, page: PageIndex) -> u64 {
        let sector = SECTOR_BYTES as u64;
        if self.is_small(key) {
            let class = Self::class_bytes(key);
            let slot = if self.slabs.has_spare(class) { 0 } else { class };
            let needs_sector =
                self.free_records.is_empty() && self.records.len().is_multiple_of(SMALL_RECORDS as usize);
            return slot + if needs_sector { sector } else { 0 };
        }
        let block = page.0 / BLOCK_PAGES;
        let tables = match self.header_slot(key, block) {
            Some(_) => 0,
            None => self.rows_space(key, block) + if self.free_headers.is_empty() { sector } else { 0 },
        };
        self.page_space(key, page) + tables
    }

    /// Reserves space. The second value is true if a table grew and its new sector has to be written blank first, so
    /// that a full disk is noticed before anything is said to be present.
    pub(crate) fn reserve(&mut self, key: &FileKey, page: PageIndex) -> (Place, bool) {
        self.used_bytes += self.cost(key, page);
        if self.is_small(key) {
            let (slot, _) = self.slabs.take(Self::class_bytes(key));
            if let Some(record) = self.free_records.pop() {
                return (Place::Small { record, slot }, false);
            }
            let record = self.records.len() as u32;
            self.records.push(None);
            return (Place::Small { record, slot }, record.is_multiple_of(SMALL_RECORDS));
        }
        let block = page.0 / BLOCK_PAGES;
        if let Some(slot) = self.header_slot(key, block) {
            return (Place::Large { slot }, false);
        }
        let header = Some(BlockHeader { key: *key, block, pages: Vec::new() });
        let (slot, grew) = match self.free_headers.pop() {
            Some(slot) => (slot, false),
            None => {
                self.headers.push(None);
                (self.headers.len() as u32 - 1, true)
            }
        };
        self.headers[slot as usize] = header;
        let file = self.files.entry(key.content()).or_insert_with(|| LargeFile {
            key: *key,
            blocks: BTreeMap::new(),
            pages: 0,
        });
        file.blocks.insert(block, slot);
        (Place::Large { slot }, grew)
    }

    /// The content of that name that the directory holds, if it is another one.
    pub(crate) fn conflicting(&self, key: &FileKey) -> bool {
        self.files.get(&key.content()).is_some_and(|file| file.key != *key)
    }

    /// Whether the directory has a local file for it.
    pub(crate) fn has_large(&self, key: &FileKey) -> bool {
        self.files.contains_key(&key.content())
    }

    /// How long the local file of a large content is.
    pub(crate) fn large_size(&self, content: (FileId, Version)) -> Option<u64> {
        self.files.get(&content).map(|file| file.key.size_bytes)
    }

    /// Gives reservations back that came to nothing. All of a failed batch at once: they may share blocks.
    pub(crate) fn undo(&mut self, reserved: &[(FileKey, PageIndex, Place)]) -> Vec<Chore> {
        let freed: Vec<Freed> = reserved
            .iter()
            .map(|&(key, page, place)| match place {
                Place::Large { .. } => Freed::Large {
                    content: key.content(),
                    block: page.0 / BLOCK_PAGES,
                    offset: u64::from(page.0) * u64::from(self.page_bytes),
                    bytes: self.page_space(&key, page),
                },
                Place::Small { record, slot } => Freed::Small { record, slot },
            })
            .collect();
        self.freed(&freed)
    }

    /// Says that a reserved page is present; its header or record has to be written now.
    pub(crate) fn commit(&mut self, key: &FileKey, page: PageIndex, place: Place, row_checksum: u32) -> u32 {
        match place {
            Place::Large { slot } => {
                let number = (page.0 % BLOCK_PAGES) as u8;
                if let Some(header) = &mut self.headers[slot as usize]
                    && let Err(at) = header.pages.binary_search_by_key(&number, |&(page, _)| page)
                {
                    header.pages.insert(at, (number, row_checksum));
                    if let Some(file) = self.files.get_mut(&key.content()) {
                        file.pages += 1;
                    }
                }
                self.dirty_headers.insert(slot);
                NO_RECORD
            }
            Place::Small { record, slot } => {
                let class_bytes = NonZeroU32::new(slot.class_bytes as u32).unwrap_or(NonZeroU32::MAX);
                self.records[record] =
                    Some(SmallRecord { key: *key, class_bytes, slab: slot.slab, slot: slot.slot, row_checksum });
                self.dirty_sectors.insert(record / SMALL_RECORDS);
                record
            }
        }
    }

    /// Whether every page of the content is present.
    pub(crate) fn is_complete(&self, key: &FileKey) -> bool {
        self.is_whole(key.content())
    }

    /// The same, of whatever content has that name.
    pub(crate) fn is_whole(&self, content: (FileId, Version)) -> bool {
        let Some(file) = self.files.get(&content) else { return false };
        u64::from(file.pages) == file.key.size_bytes.div_ceil(u64::from(self.page_bytes))
    }

    /// All large contents.
    pub(crate) fn large_contents(&self) -> impl Iterator<Item = (FileId, Version)> {
        self.files.keys().copied()
    }

    /// Whether the pages `page` of the row sector's neighbours (same sector of the rows file) are present.
    pub(crate) fn shares_row_sector(&self, slot: u32, page: PageIndex) -> bool {
        let per_sector = (SECTOR_BYTES as u64 / row_bytes(self.page_bytes)) as u32;
        let sector = page.0 % BLOCK_PAGES / per_sector;
        self.headers[slot as usize]
            .as_ref()
            .is_some_and(|header| header.pages.iter().any(|&(page, _)| u32::from(page) / per_sector == sector))
    }

    /// Offset of a page's row in the rows file.
    pub(crate) fn row_offset(&self, slot: u32, page: PageIndex) -> u64 {
        let row = u64::from(slot) * u64::from(BLOCK_PAGES) + u64::from(page.0 % BLOCK_PAGES);
        row * row_bytes(self.page_bytes)
    }

    /// Where a present page is.
    pub(crate) fn locate(&self, key: &FileKey, page: PageIndex, record: u32) -> Option<Location> {
        if record != NO_RECORD {
            let record = self.records.get(record as usize)?.as_ref().filter(|record| record.key == *key)?;
            let slot = Slot::of(record);
            let file = FileName::Slab(slot.class_bytes, slot.slab);
            let row_offset = slot.offset() + Self::row_in_slot(key).0;
            let row_checksum = record.row_checksum;
            return Some(Location { file, offset: slot.offset(), row_file: file, row_offset, row_checksum });
        }
        let slot = self.header_slot(key, page.0 / BLOCK_PAGES)?;
        let header = self.headers[slot as usize].as_ref().filter(|header| header.key == *key)?;
        let number = (page.0 % BLOCK_PAGES) as u8;
        let at = header.pages.binary_search_by_key(&number, |&(page, _)| page).ok()?;
        Some(Location {
            file: FileName::Large(key.file_id, key.version),
            offset: u64::from(page.0) * u64::from(self.page_bytes),
            row_file: FileName::Rows,
            row_offset: self.row_offset(slot, page),
            row_checksum: header.pages[at].1,
        })
    }

    /// Says that a page is no longer present; its header or record has to be written before `freed` is called.
    pub(crate) fn clear(&mut self, name: &PageKey, record: u32) -> Option<Freed> {
        if record != NO_RECORD {
            let place = self.records.get_mut(record as usize)?;
            let held = place.take_if(|held| held.key.content() == name.content())?;
            self.dirty_sectors.insert(record / SMALL_RECORDS);
            let slot = Slot::of(&held);
            return Some(Freed::Small { record, slot });
        }
        let block = name.page.0 / BLOCK_PAGES;
        let file = self.files.get_mut(&name.content())?;
        let slot = *file.blocks.get(&block)?;
        let header = self.headers[slot as usize].as_mut()?;
        let number = (name.page.0 % BLOCK_PAGES) as u8;
        let at = header.pages.binary_search_by_key(&number, |&(page, _)| page).ok()?;
        header.pages.remove(at);
        file.pages -= 1;
        self.dirty_headers.insert(slot);
        let key = file.key;
        let offset = u64::from(name.page.0) * u64::from(self.page_bytes);
        Some(Freed::Large { content: name.content(), block, offset, bytes: self.page_space(&key, name.page) })
    }

    /// Bytes that a present page's departure gives back at least.
    pub(crate) fn space_of(&self, name: &PageKey, record: u32) -> u64 {
        if record != NO_RECORD {
            let held = self.records.get(record as usize).and_then(Option::as_ref);
            return held.map_or(0, |held| u64::from(held.class_bytes.get()));
        }
        self.files.get(&name.content()).map_or(0, |file| self.page_space(&file.key, name.page))
    }

    /// All pages of a large content.
    pub(crate) fn large_pages(&self, content: (FileId, Version)) -> Vec<PageKey> {
        let Some(file) = self.files.get(&content) else { return Vec::new() };
        let headers =
            file.blocks.iter().filter_map(|(&block, &slot)| Some((block, self.headers[slot as usize].as_ref()?)));
        headers
            .flat_map(|(block, header)| {
                header.pages.iter().map(move |&(page, _)| block * BLOCK_PAGES + u32::from(page))
            })
            .map(|page| PageKey { file_id: content.0, version: content.1, page: PageIndex(page) })
            .collect()
    }

    /// Gives space back whose clearing is durable. What it returns has to be done on the disk before the space is used
    /// by anything else; one writer does both.
    pub(crate) fn freed(&mut self, freed: &[Freed]) -> Vec<Chore> {
        let mut chores: Vec<Chore> = Vec::new();
        let mut emptied: BTreeSet<(FileId, Version)> = BTreeSet::new();
        for item in freed {
            match *item {
                Freed::Small { record, slot } => {
                    self.free_records.push(record);
                    self.slabs.free(slot);
                }
                Freed::Large { content, block, offset, bytes } => {
                    self.used_bytes -= bytes;
                    let punch = Chore::Punch { file: FileName::Large(content.0, content.1), offset, bytes };
                    push_merged(&mut chores, punch);
                    self.free_block_if_empty(content, block, &mut chores);
                    if self.files.get(&content).is_some_and(|file| file.blocks.is_empty()) {
                        emptied.insert(content);
                    }
                }
            }
        }
        for content in emptied {
            self.files.remove(&content);
            chores.retain(|chore| !matches!(chore, Chore::Punch { file: FileName::Large(file, version), .. } if (*file, *version) == content));
            chores.push(Chore::Unlink { content });
        }
        chores
    }

    fn free_block_if_empty(&mut self, content: (FileId, Version), block: u32, chores: &mut Vec<Chore>) {
        let Some(file) = self.files.get_mut(&content) else { return };
        let Some(&slot) = file.blocks.get(&block) else { return };
        if self.headers[slot as usize].as_ref().is_some_and(|header| !header.pages.is_empty()) {
            return;
        }
        file.blocks.remove(&block);
        let key = file.key;
        self.headers[slot as usize] = None;
        self.free_headers.push(slot);
        let bytes = self.rows_space(&key, block);
        self.used_bytes -= bytes;
        chores.push(Chore::Punch { file: FileName::Rows, offset: self.row_offset(slot, PageIndex(0)), bytes });
    }

    /// Makes a spare slot's space free; the punch has to be done now.
    pub(crate) fn punch_spare(&mut self, except: Option<u64>) -> Option<Chore> {
        let slot = self.slabs.punch_one(except)?;
        self.used_bytes -= slot.class_bytes;
        let file = FileName::Slab(slot.class_bytes, slot.slab);
        Some(Chore::Punch { file, offset: slot.offset(), bytes: slot.class_bytes })
    }

    /// The table sectors that have to be written, as (file, offset, content by `encode`).
    pub(crate) fn take_dirty(&mut self) -> Vec<(FileName, u32)> {
        let headers = std::mem::take(&mut self.dirty_headers).into_iter().map(|slot| (FileName::Headers, slot));
        let sectors = std::mem::take(&mut self.dirty_sectors).into_iter().map(|sector| (FileName::Small, sector));
        headers.chain(sectors).collect()
    }

    /// The image of a table sector as of now.
    pub(crate) fn encode(&self, file: FileName, number: u32, sector: &mut [u8]) {
        if file == FileName::Small {
            let first = (number * SMALL_RECORDS) as usize;
            let mut records = [None; SMALL_RECORDS as usize];
            for (place, number) in records.iter_mut().zip(first..) {
                *place = self.records.get(number).copied().flatten();
            }
            return SmallSector { records }.encode(number, sector);
        }
        match self.headers.get(number as usize).and_then(Option::as_ref) {
            Some(header) if !header.pages.is_empty() => header.encode(number, self.page_bytes, sector),
            _ => sector.fill(0),
        }
    }
}

/// Adds a punch, joined with the one before it if they touch: one call for a run of pages.
fn push_merged(chores: &mut Vec<Chore>, chore: Chore) {
    if let (
        Some(Chore::Punch { file: last_file, offset: last_offset, bytes: last_bytes }),
        Chore::Punch { file, offset, bytes },
    ) = (chores.last_mut(), chore)
        && *last_file == file
        && *last_offset + *last_bytes == offset
    {
        *last_bytes += bytes;
        return;
    }
    chores.push(chore);
}
