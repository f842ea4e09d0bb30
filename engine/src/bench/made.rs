//! A directory as a store with millions of pages leaves it, made without the payload: its tables, and sparse files of the
//! right lengths. Everything reads as zeros; only what lies in the first block and the first slots has its checksums.

use crate::directory::{Directory, Slot, slots_per_slab};
use crate::directory::{FileName, Tables};
use crate::disk::GlommioDisk;
use crate::format::row_to_bytes;
use crate::format::{BLOCK_PAGES, BlockHeader, SECTOR_BYTES, SMALL_RECORDS, SmallRecord, SmallSector, row_bytes};
use crate::key::FileKey;
use crate::{EngineError, StoreConfig};
use forebay_base::{FileId, FingerprintHash, Version, crc32c, unit_checksums};
use std::fs::{File, create_dir_all};
use std::io::{self, BufWriter, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Files of four blocks each, all pages present.
    pub large_files: u64,
    /// Files of 1,000 bytes.
    pub small_files: u64,
}

const BLOCKS: u32 = 4;
const SMALL_BYTES: u64 = 1_000;
const FIRST_SMALL: u64 = 1 << 40;
/// Small files that can be read.
pub const READABLE_SMALL: u64 = 64;

/// Pages of a large file.
pub const LARGE_PAGES: u32 = BLOCKS * BLOCK_PAGES;

/// The `number`th large file; the pages of its first block can be read if it is the first file.
#[must_use]
pub fn large(number: u64, page_bytes: u32) -> FileKey {
    let size_bytes = u64::from(LARGE_PAGES) * u64::from(page_bytes);
    FileKey { file_id: FileId(number), version: Version(1), fingerprint: FingerprintHash(1), size_bytes }
}

/// The `number`th small file.
#[must_use]
pub fn small(number: u64) -> FileKey {
    FileKey {
        file_id: FileId(FIRST_SMALL + number),
        version: Version(1),
        fingerprint: FingerprintHash(1),
        size_bytes: SMALL_BYTES,
    }
}

fn sparse(path: &Path, length_bytes: u64) -> io::Result<File> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    file.set_len(length_bytes)?;
    Ok(file)
}

/// Makes the first directory of `config`, which must be empty.
pub fn make(config: &StoreConfig, made: Made) -> Result<(), EngineError> {
    let Some(directory) = config.directories.first() else { return Ok(()) };
    let path = Directory::shard_path(&directory.path, config.shard.0);
    let _lock = Directory::take(&GlommioDisk::before_probe(config.depth()), &path, config)?;
    let failed = |source| EngineError::Io { path: path.clone(), verb: "make", source };
    make_large(&path, config.page_bytes, made.large_files).map_err(failed)?;
    make_small(&path, made.small_files).map_err(failed)
}

fn make_large(path: &Path, page_bytes: u32, files: u64) -> io::Result<()> {
    let page = vec![0; page_bytes as usize];
    let row: Vec<u32> = unit_checksums(&page).collect();
    let row = row_to_bytes(&row);
    let mut headers = BufWriter::new(File::create(path.join("headers"))?);
    let mut sector = vec![0; SECTOR_BYTES];
    let mut slot = 0;
    for number in 0..files {
        let key = large(number, page_bytes);
        let place = Directory::place(path, FileName::Large(key.file_id, key.version));
        create_dir_all(place.parent().unwrap_or(path))?;
        sparse(&place, key.size_bytes)?;
        for block in 0..BLOCKS {
            let pages = (0..=u8::MAX).map(|page| (page, crc32c(&row))).collect();
            BlockHeader { key, block, pages }.encode(slot, page_bytes, &mut sector);
            headers.write_all(&sector)?;
            slot += 1;
        }
    }
    headers.into_inner()?.sync_all()?;
    let rows = sparse(&path.join("rows"), u64::from(slot) * u64::from(BLOCK_PAGES) * row_bytes(page_bytes))?;
    for at in (0..u64::from(BLOCK_PAGES)).filter(|_| slot > 0) {
        rows.write_all_at(&row, at * row_bytes(page_bytes))?;
    }
    rows.sync_all()
}

fn make_small(path: &Path, files: u64) -> io::Result<()> {
    create_dir_all(path.join("slabs"))?;
    let row: Vec<u32> = unit_checksums(&[0; SMALL_BYTES as usize]).collect();
    let row = row_to_bytes(&row);
    let class_bytes = Tables::slot_bytes(SMALL_BYTES);
    let in_slab = u64::from(slots_per_slab(class_bytes));
    let slot_of = |number: u64| Slot { class_bytes, slab: (number / in_slab) as u32, slot: (number % in_slab) as u32 };
    for slab in 0..files.div_ceil(in_slab) {
        let file = sparse(&Directory::place(path, FileName::Slab(class_bytes, slab as u32)), in_slab * class_bytes)?;
        for number in (0..READABLE_SMALL.min(files)).filter(|_| slab == 0) {
            file.write_all_at(&row, slot_of(number).offset() + Tables::row_in_slot(&small(number)).0)?;
        }
        file.sync_all()?;
    }
    let mut table = BufWriter::with_capacity(1 << 20, File::create(path.join("small"))?);
    let mut sector = vec![0; SECTOR_BYTES];
    for index in 0..files.div_ceil(SMALL_RECORDS.into()) {
        let mut records = [None; SMALL_RECORDS as usize];
        for (record, number) in records.iter_mut().zip(index * u64::from(SMALL_RECORDS)..files) {
            let slot = slot_of(number);
            *record = Some(SmallRecord {
                key: small(number),
                class_bytes: NonZeroU32::new(class_bytes as u32).unwrap_or(NonZeroU32::MAX),
                slab: slot.slab,
                slot: slot.slot,
                row_checksum: crc32c(&row),
            });
        }
        SmallSector { records }.encode(index as u32, &mut sector);
        table.write_all(&sector)?;
    }
    table.into_inner()?.sync_all()
}
