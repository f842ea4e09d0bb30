//! Opening a directory: the tables are read, checked sector by sector and believed where they are intact; payload is not
//! read. What the tables do not vouch for is removed, so that space is what the tables say.

use super::slabs::{self, Places, Slot};
use super::superblock::SUPERBLOCK;
use super::tables::{FileName, Tables};
use super::{Directory, FILE_DIRS};
use crate::chunked::Chunked;
use crate::disk::{AlignedBuffer, DiskFile, Entry, GlommioDisk};
use crate::format::{BlockHeader, SECTOR_BYTES, SMALL_RECORDS, SmallRecord, SmallSector, is_blank};
use crate::key::FileKey;
use crate::memory::whole_units;
use crate::{DirectoryConfig, EngineError, StoreConfig};
use forebay_base::{FileId, Version};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

const READ_BYTES: usize = 1 << 20;

/// What was found, beside what the tables say.
#[derive(Default)]
pub(crate) struct Recovered {
    pub(crate) dropped: u64,
}

impl Directory {
    /// Takes a directory of the real disk. A disk that fails while its tables are read gives an empty directory in
    /// trouble; a directory that is not ours to use is an error.
    pub(crate) async fn open(
        config: &StoreConfig,
        number: u8,
        directory: &DirectoryConfig,
    ) -> Result<(Rc<Directory>, Recovered), EngineError> {
        let path = Self::shard_path(&directory.path, config.shard.0);
        let plain = GlommioDisk::before_probe(config.depth());
        if config.shard.0 == 0 {
            Self::remove_surplus(&plain, &directory.path, config);
        }
        let taken = Self::take(&plain, &path, config)?;
        let sample = path.join(SUPERBLOCK);
        let disk = GlommioDisk::open_directory(&sample, config.depth()).await.map_err(|source| EngineError::Io {
            path: sample,
            verb: "read",
            source,
        })?;
        let opened = Directory::new(number, path, Rc::new(disk), config.page_bytes, directory, Some(taken.lock));
        opened.resharded.set(taken.resharded);
        Ok(opened.recover().await)
    }

    /// Reads the tables of a directory that is taken.
    pub(crate) async fn recover(self) -> (Rc<Directory>, Recovered) {
        let recovered = match self.read_tables().await {
            Ok(recovered) => recovered,
            Err(error) => {
                self.set_trouble(format!("cannot read its tables: {error}"));
                self.bad.set(true);
                *self.tables.borrow_mut() = Tables::new(self.page_bytes);
                Recovered { dropped: 0 }
            }
        };
        (Rc::new(self), recovered)
    }

    async fn read_tables(&self) -> io::Result<Recovered> {
        let clean = self.take_clean_mark().await?;
        let slabs = self.path.join("slabs");
        self.disk.create_dir(&slabs)?;
        let mut large: BTreeMap<(FileId, Version), Entry> = BTreeMap::new();
        let mut strange = Vec::new();
        for number in 0..FILE_DIRS {
            let place = self.path.join(format!("files/{number:x}"));
            self.disk.create_dir(&place)?;
            for entry in self.disk.list(&place)? {
                match parse_large(&entry.name) {
                    Some(content) if content.0.0 % FILE_DIRS == number => {
                        large.insert(content, entry);
                    }
                    _ => strange.push(place.join(&entry.name)),
                }
            }
        }
        let slab_files: BTreeMap<(u64, u32), Entry> =
            self.disk.list(&slabs)?.into_iter().filter_map(|entry| Some((parse_slab(&entry.name)?, entry))).collect();

        let mut dirty = Vec::new();
        let mut dropped = 0;
        let headers = self.read_headers(&large, &mut dirty, &mut dropped).await?;
        let records = self.read_records(&slab_files, &mut dirty, &mut dropped).await?;
        let mut tables = Tables::recovered(self.page_bytes, headers, records, dirty);
        let lent: Vec<_> = large.iter().filter(|(_, entry)| entry.is_lent).map(|(content, _)| *content).collect();
        dropped += self.recover_lending(&mut tables, &lent, clean);
        *self.tables.borrow_mut() = tables;
        // Clears go to the disk before anything that they cleared is touched. What a killed process wrote and did not sync is
        // believed here, and has to survive a power cut from now on.
        self.write_tables().await?;
        for table in [FileName::Headers, FileName::Small] {
            self.writer(table).await?.sync().await?;
        }
        for path in strange {
            self.disk.unlink(&path).await?;
        }
        self.reclaim(&large, &slab_files).await?;
        Ok(Recovered { dropped })
    }

    async fn read_headers(
        &self,
        large: &BTreeMap<(FileId, Version), Entry>,
        dirty: &mut Vec<(FileName, u32)>,
        dropped: &mut u64,
    ) -> io::Result<Vec<Option<BlockHeader>>> {
        let mut headers: Vec<Option<BlockHeader>> = Vec::new();
        let mut keys: HashMap<(FileId, Version), FileKey> = HashMap::new();
        let mut seen = HashSet::new();
        let page_bytes = self.page_bytes;
        each_sector(&*self.writer(FileName::Headers).await?, |slot, sector| {
            if is_blank(sector) {
                headers.push(None);
                return;
            }
            let header = BlockHeader::decode(sector, slot, page_bytes);
            let count = header.as_ref().map_or(1, |header| header.pages.len() as u64);
            let intact = header.filter(|header| {
                let content = header.key.content();
                // Padded: the end came between the write of the last page and the cut to its length.
                let lengths = header.key.size_bytes..=whole_units(header.key.size_bytes);
                let whole = large.get(&content).is_some_and(|entry| lengths.contains(&entry.length_bytes));
                let large_enough = header.key.size_bytes > u64::from(page_bytes);
                whole
                    && large_enough
                    && *keys.entry(content).or_insert(header.key) == header.key
                    && seen.insert((content, header.block))
            });
            if intact.is_none() {
                *dropped += count;
                dirty.push((FileName::Headers, slot));
            }
            headers.push(intact.filter(|header| !header.pages.is_empty()));
        })
        .await?;
        Ok(headers)
    }

    async fn read_records(
        &self,
        slab_files: &BTreeMap<(u64, u32), Entry>,
        dirty: &mut Vec<(FileName, u32)>,
        dropped: &mut u64,
    ) -> io::Result<Chunked<Option<SmallRecord>>> {
        let mut records = Chunked::default();
        let mut places = Places::default();
        let page_bytes = u64::from(self.page_bytes);
        each_sector(&*self.writer(FileName::Small).await?, |number, sector| {
            let found = if is_blank(sector) { None } else { Some(SmallSector::decode(sector, number)) };
            if let Some(None) = found {
                *dropped += 1;
                dirty.push((FileName::Small, number));
            }
            let found = found.flatten().map_or([None; SMALL_RECORDS as usize], |found| found.records);
            for record in found {
                let Some(record) = record else {
                    records.push(None);
                    continue;
                };
                let class_bytes = u64::from(record.class_bytes.get());
                let possible = (1..=page_bytes).contains(&record.key.size_bytes)
                    && class_bytes == Tables::class_bytes(&record.key)
                    && record.slot < slabs::slots_per_slab(class_bytes)
                    && slab_files.contains_key(&(class_bytes, record.slab))
                    && places.take(Slot::of(&record));
                records.push(possible.then_some(record));
                if !possible {
                    *dropped += 1;
                    dirty.push((FileName::Small, number));
                }
            }
        })
        .await?;
        Ok(records)
    }

    /// Writes every table sector that changed, durably.
    pub(crate) async fn write_tables(&self) -> io::Result<()> {
        let dirty = self.tables.borrow_mut().take_dirty();
        let mut touched: Vec<FileName> = Vec::new();
        for (file, number) in dirty {
            let mut sector = AlignedBuffer::new(SECTOR_BYTES);
            let image = sector.bytes_mut().expect("new, so it has one owner");
            self.tables.borrow().encode(file, number, image);
            let offset = u64::from(number) * SECTOR_BYTES as u64;
            self.writer(file).await?.write_at(offset, &sector).await?;
            if !touched.contains(&file) {
                touched.push(file);
            }
        }
        for file in touched {
            self.writer(file).await?.sync().await?;
        }
        Ok(())
    }

    /// Removes files, and punches ranges, that no table vouches for.
    async fn reclaim(
        &self,
        large: &BTreeMap<(FileId, Version), Entry>,
        slab_files: &BTreeMap<(u64, u32), Entry>,
    ) -> io::Result<()> {
        for (&(file_id, version), entry) in large {
            let file = FileName::Large(file_id, version);
            let occupied = self.tables.borrow().occupied(file);
            if occupied.is_empty() {
                self.unlink(file).await?;
            } else if !entry.is_lent {
                let size_bytes = self.tables.borrow().large_size((file_id, version));
                if let Some(size_bytes) = size_bytes.filter(|&size_bytes| size_bytes != entry.length_bytes) {
                    self.writer(file).await?.truncate(size_bytes).await?;
                }
                self.punch_gaps(file, entry, &occupied).await?;
            }
        }
        let mut slabs = self.tables.borrow().occupied_slabs();
        for (&(class_bytes, slab), entry) in slab_files {
            match slabs.remove(&(class_bytes, slab)) {
                Some(occupied) => self.punch_gaps(FileName::Slab(class_bytes, slab), entry, &occupied).await?,
                None => self.unlink(FileName::Slab(class_bytes, slab)).await?,
            }
        }
        if let Some(entry) = self.disk.list(&self.path)?.iter().find(|entry| entry.name == "rows") {
            let occupied = self.tables.borrow().occupied(FileName::Rows);
            self.punch_gaps(FileName::Rows, entry, &occupied).await?;
        }
        Ok(())
    }

    async fn punch_gaps(&self, file: FileName, entry: &Entry, occupied: &[(u64, u64)]) -> io::Result<()> {
        // Extent blocks count as allocated too; then there is little to punch and it costs little to try.
        let used: u64 = occupied.iter().map(|&(_, bytes)| bytes).sum();
        if entry.allocated_bytes <= used {
            return Ok(());
        }
        let end = entry.length_bytes.next_multiple_of(SECTOR_BYTES as u64);
        let mut from = 0;
        for &(offset, bytes) in occupied.iter().chain([&(end, 0)]) {
            if offset > from {
                self.writer(file).await?.punch(from, offset - from).await?;
            }
            from = from.max(offset + bytes);
        }
        Ok(())
    }
}

/// Reads a table, one sector at a time.
async fn each_sector(file: &dyn DiskFile, mut visit: impl FnMut(u32, &[u8])) -> io::Result<()> {
    let mut number = 0u32;
    loop {
        let chunk = file.read_at(u64::from(number) * SECTOR_BYTES as u64, READ_BYTES).await?;
        // A sector that is cut off was never finished.
        for sector in chunk.chunks_exact(SECTOR_BYTES) {
            visit(number, sector);
            number += 1;
        }
        if chunk.len() < READ_BYTES {
            return Ok(());
        }
    }
}

fn parse_large(name: &str) -> Option<(FileId, Version)> {
    let (file_id, version) = name.split_once('-')?;
    let parse = |text: &str| if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None };
    Some((FileId(parse(file_id)?), Version(parse(version)?)))
}

fn parse_slab(name: &str) -> Option<(u64, u32)> {
    let (class_bytes, slab) = name.split_once('-')?;
    Some((class_bytes.parse().ok()?, slab.parse().ok()?))
}
