//! Records of small files: 31 of 128 bytes in a sector. Pure.

use super::{FORMAT, decode, encode};
use crate::key::FileKey;
use forebay_base::{FileId, FingerprintHash, Version};
use rkyv::{Archive, Serialize};
use std::num::NonZeroU32;

const MAGIC: u64 = u64::from_le_bytes(*b"FBSMALL1");
/// Records in one sector.
pub(crate) const SMALL_RECORDS: u32 = 31;
const PRESENT: u32 = 1;

#[derive(Archive, Serialize)]
struct RawRecord {
    state: u32,
    slab: u32,
    file_id: u64,
    version: u64,
    size_bytes: u64,
    fingerprint: [u8; 16],
    class_bytes: u32,
    slot: u32,
    row_checksum: u32,
    reserved: [u8; 68],
}

#[derive(Archive, Serialize)]
struct Raw {
    records: [RawRecord; SMALL_RECORDS as usize],
    magic: u64,
    format: u32,
    sector: u32,
}

const _: () = assert!(size_of::<ArchivedRawRecord>() == 128 && align_of::<ArchivedRawRecord>() == 8);
const _: () = assert!(size_of::<ArchivedRaw>() == 31 * 128 + 16 && align_of::<ArchivedRaw>() == 8);

/// Where a small file lies, and what proves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SmallRecord {
    pub(crate) key: FileKey,
    pub(crate) class_bytes: NonZeroU32,
    pub(crate) slab: u32,
    pub(crate) slot: u32,
    pub(crate) row_checksum: u32,
}

// Millions of them are held in memory.
const _: () = assert!(size_of::<Option<SmallRecord>>() == 56);

/// The records of one sector; `None` is a free one.
pub(crate) struct SmallSector {
    pub(crate) records: [Option<SmallRecord>; SMALL_RECORDS as usize],
}

impl SmallSector {
    pub(crate) fn encode(&self, sector_index: u32, sector: &mut [u8]) {
        let records = self.records.map(|record| match record {
            Some(record) => RawRecord {
                state: PRESENT,
                slab: record.slab,
                file_id: record.key.file_id.0,
                version: record.key.version.0,
                size_bytes: record.key.size_bytes,
                fingerprint: record.key.fingerprint.0.to_le_bytes(),
                class_bytes: record.class_bytes.get(),
                slot: record.slot,
                row_checksum: record.row_checksum,
                reserved: [0; 68],
            },
            None => RawRecord {
                state: 0,
                slab: 0,
                file_id: 0,
                version: 0,
                size_bytes: 0,
                fingerprint: [0; 16],
                class_bytes: 0,
                slot: 0,
                row_checksum: 0,
                reserved: [0; 68],
            },
        });
        encode(&Raw { records, magic: MAGIC, format: FORMAT, sector: sector_index }, sector);
    }

    /// `None` if the sector is not an intact sector with this index.
    pub(crate) fn decode(sector: &[u8], sector_index: u32) -> Option<SmallSector> {
        let raw = decode::<ArchivedRaw>(sector)?;
        if raw.magic != MAGIC || raw.format != FORMAT || raw.sector != sector_index {
            return None;
        }
        let mut records = [None; SMALL_RECORDS as usize];
        for (place, record) in records.iter_mut().zip(&raw.records) {
            if record.state == PRESENT {
                *place = Some(SmallRecord {
                    key: FileKey {
                        file_id: FileId(record.file_id.to_native()),
                        version: Version(record.version.to_native()),
                        fingerprint: FingerprintHash(u128::from_le_bytes(record.fingerprint)),
                        size_bytes: record.size_bytes.to_native(),
                    },
                    // What cannot be stays what cannot be: no file is that large.
                    class_bytes: NonZeroU32::new(record.class_bytes.to_native()).unwrap_or(NonZeroU32::MAX),
                    slab: record.slab.to_native(),
                    slot: record.slot.to_native(),
                    row_checksum: record.row_checksum.to_native(),
                });
            }
        }
        Some(SmallSector { records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::AlignedBuffer;

    #[test]
    fn round_trip_and_what_it_refuses() {
        let key = FileKey { file_id: FileId(7), version: Version(8), fingerprint: FingerprintHash(9), size_bytes: 100 };
        let record =
            SmallRecord { key, class_bytes: NonZeroU32::new(4096).unwrap(), slab: 3, slot: 4, row_checksum: 5 };
        let mut records = [None; SMALL_RECORDS as usize];
        records[0] = Some(record);
        records[30] = Some(SmallRecord { slot: 9, ..record });
        let mut buffer = AlignedBuffer::new(4096);
        let sector = buffer.bytes_mut().unwrap();
        SmallSector { records }.encode(2, sector);
        assert_eq!(SmallSector::decode(sector, 2).unwrap().records, records);
        assert!(SmallSector::decode(sector, 1).is_none());
        for at in (0..4096).step_by(13) {
            sector[at] ^= 0x10;
            assert!(SmallSector::decode(sector, 2).is_none(), "byte {at}");
            sector[at] ^= 0x10;
        }
    }
}
