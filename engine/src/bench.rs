//! What `benches/` reaches of this crate's inside: the very index, evictors and table sectors, by plain numbers. For no
//! other use; none of it is a promise.

pub mod held;
pub mod made;
pub mod ratios;

use crate::EvictionPolicy;
use crate::evict::{self, Node};
use crate::format::{self, BlockHeader};
use crate::key::{FileKey, PageKey};
use forebay_base::{FileId, FingerprintHash, PageIndex, Version};

fn key(file: u64) -> FileKey {
    FileKey { file_id: FileId(file), version: Version(1), fingerprint: FingerprintHash(1), size_bytes: 1 << 40 }
}

/// One tier's order of eviction, behind the same `dyn` as in the store.
pub struct Evictor(Box<dyn evict::Evictor>);

impl Evictor {
    /// An empty one.
    #[must_use]
    pub fn new(policy: EvictionPolicy) -> Self {
        Self(evict::evictor(policy))
    }

    /// Adds a page; gives its place.
    pub fn insert(&mut self, page: u32) -> Node {
        let name = PageKey { file_id: FileId(1), version: Version(1), page: PageIndex(page) };
        self.0.insert(page, evict::hash_of(&name), false)
    }

    /// A hit.
    pub fn touch(&mut self, node: Node) {
        self.0.touch(node);
    }

    /// Which page leaves next.
    pub fn victim(&mut self) -> Option<u32> {
        self.0.victim()
    }
}

/// One block header in its sector, all 256 pages present.
pub struct HeaderSector(rkyv::util::AlignedVec);

impl Default for HeaderSector {
    fn default() -> Self {
        let header = BlockHeader { key: key(1), block: 0, pages: (0..=u8::MAX).map(|page| (page, 7)).collect() };
        let mut sector = rkyv::util::AlignedVec::with_capacity(format::SECTOR_BYTES);
        sector.resize(format::SECTOR_BYTES, 0);
        header.encode(0, 1 << 20, &mut sector);
        Self(sector)
    }
}

impl HeaderSector {
    /// As recovery reads it: CRC, structure, then every field into owned form. Gives the pages.
    #[must_use]
    pub fn decode(&self) -> usize {
        BlockHeader::decode(&self.0, 0, 1 << 20).map_or(0, |header| header.pages.len())
    }

    /// Archives it anew.
    pub fn encode(&mut self, pages: u8) {
        let header = BlockHeader { key: key(1), block: 0, pages: (0..pages).map(|page| (page, 7)).collect() };
        header.encode(0, 1 << 20, &mut self.0);
    }

    /// CRC and structure, nothing copied.
    #[must_use]
    pub fn check(&self) -> bool {
        BlockHeader::check(&self.0)
    }
}
