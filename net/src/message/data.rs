//! Bytes: what clients ask the shard that owns a file.

use super::message;
use rkyv::{Archive, Deserialize, Serialize};

/// One range to read.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ReadItem {
    /// `FileId`.
    pub file_id: u64,
    /// `Version`.
    pub version: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes wanted; fewer come back only at the end of the file.
    pub length: u32,
    /// The signed ticket; empty when this connection has presented one for (file, version) that has not expired.
    pub ticket: Vec<u8>,
}

/// Reads ranges, many in one message. The sum of lengths is at most `limits::PAYLOAD_BYTES_MAX`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// At most `limits::BATCH_MAX`.
    pub items: Vec<ReadItem>,
    /// Ask for the checksums of the payload (clients over TCP do; a Unix socket needs none).
    pub want_checksums: bool,
    /// How long the reader has waited for the store already, at other workers: the store's deadline counts from its asking.
    pub waited_ms: u32,
}

/// `ReadResult::source`: the bytes came from memory.
pub const SOURCE_MEM: u8 = 1;
/// `ReadResult::source`: from SSD.
pub const SOURCE_SSD: u8 = 2;
/// `ReadResult::source`: HDD.
pub const SOURCE_HDD: u8 = 3;
/// `ReadResult::source`: at least one page was fetched from the store.
pub const SOURCE_STORE: u8 = 4;

/// What became of one item.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ReadResult {
    /// 0 or an `ErrorKind` code.
    pub status: u16,
    /// Bytes of this item in the payload; 0 on error.
    pub length: u32,
    /// Where the bytes came from.
    pub source: u8,
    /// What was wrong, else empty.
    pub message: String,
}

/// Answers `Read`; the payload holds the items' bytes in order, without gaps.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ReadReply {
    /// One per item.
    pub results: Vec<ReadResult>,
    /// When asked for: CRC32C of each 4 KiB of the payload (the last one shorter).
    pub checksums: Vec<u32>,
}
message!(Read => ReadReply);

/// One range to load.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct LoadItem {
    /// The signed ticket.
    pub ticket: Vec<u8>,
    /// First byte.
    pub offset: u64,
    /// Bytes; what lies behind the end of the file does not count.
    pub length: u64,
}

/// Fetches ranges into the cache, behind everything that readers wait for. Answered when all is held or has failed.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Load {
    /// At most `limits::BATCH_MAX`.
    pub items: Vec<LoadItem>,
    /// Wait until the pages are on SSD, read each one back and compare it with its checksums.
    pub verify: bool,
}

/// What became of one item. Pages count whole.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct LoadResult {
    /// 0 or an `ErrorKind` code.
    pub status: u16,
    /// Bytes fetched from the store by this call.
    pub fetched_bytes: u64,
    /// Bytes that were there already, or that somebody else fetched meanwhile.
    pub cached_bytes: u64,
    /// Bytes read back from SSD that match their checksums.
    pub verified_bytes: u64,
    /// Pages that did not match, or could not be read, and were fetched again.
    pub corrupt_pages: u32,
    /// What was wrong, else empty.
    pub message: String,
}

/// Answers `Load`, in the order asked.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct LoadReply {
    /// One per item.
    pub results: Vec<LoadResult>,
}
message!(Load => LoadReply);

/// Drops files from this shard's cache (role Admin or Master).
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Evict {
    /// `FileId`s, at most `limits::BATCH_MAX`.
    pub file_ids: Vec<u64>,
}

/// Answers `Evict`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct EvictReply {
    /// Bytes dropped.
    pub freed_bytes: u64,
}
message!(Evict => EvictReply);

/// What this shard holds of files.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct CacheStatus {
    /// (`FileId`, `Version`), at most `limits::BATCH_MAX`.
    pub files: Vec<(u64, u64)>,
}

/// Bytes of one file held by tier; a page in memory and on a disk counts in both.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CachedBytes {
    /// In memory.
    pub mem_bytes: u64,
    /// On SSD.
    pub ssd_bytes: u64,
    /// On HDD.
    pub hdd_bytes: u64,
    /// In any.
    pub any_bytes: u64,
}

impl std::ops::AddAssign for CachedBytes {
    fn add_assign(&mut self, more: CachedBytes) {
        self.mem_bytes = self.mem_bytes.saturating_add(more.mem_bytes);
        self.ssd_bytes = self.ssd_bytes.saturating_add(more.ssd_bytes);
        self.hdd_bytes = self.hdd_bytes.saturating_add(more.hdd_bytes);
        self.any_bytes = self.any_bytes.saturating_add(more.any_bytes);
    }
}

/// Answers `CacheStatus`, in the order asked.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct CacheStatusReply {
    /// One per file.
    pub files: Vec<CachedBytes>,
}
message!(CacheStatus => CacheStatusReply);

/// What this shard holds of one file, block by block.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct CachedBlocks {
    /// `FileId`.
    pub file_id: u64,
    /// `Version`.
    pub version: u64,
    /// First `BlockIndex` asked about.
    pub first_block: u32,
}

/// Bytes held of one block.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockBytes {
    /// `BlockIndex`.
    pub block: u32,
    /// What is held.
    pub cached: CachedBytes,
}

/// Answers `CachedBlocks`: the blocks of which something is held, ascending, at most `limits::BATCH_MAX`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct CachedBlocksReply {
    /// Blocks.
    pub blocks: Vec<BlockBytes>,
    /// Whether none follows.
    pub end: bool,
}
message!(CachedBlocks => CachedBlocksReply);

/// Compares what this shard holds of a range with a fresh read from the store that is conditional on the version (role
/// Admin or Master). Pages that differ are dropped.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Verify {
    /// The signed ticket.
    pub ticket: Vec<u8>,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Answers `Verify`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct VerifyReply {
    /// Bytes that are cached and equal.
    pub equal_bytes: u64,
    /// Bytes of cached pages that differed or could not be read, and were dropped.
    pub different_bytes: u64,
    /// Bytes that are not cached.
    pub uncached_bytes: u64,
}
message!(Verify => VerifyReply);

/// One content to keep from eviction.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PinItem {
    /// `FileId`.
    pub file_id: u64,
    /// `Version`.
    pub version: u64,
    /// Bytes of it that this shard is to hold.
    pub bytes: u64,
    /// The blocks that these are, as ranges of `BlockIndex`, ascending, the end excluded; none for a file of one block.
    pub blocks: Vec<(u32, u32)>,
}

/// Begins or renews pins of contents, cached or not (role Master). A pin of another version of a file ends the earlier one.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// At most `limits::BATCH_MAX`.
    pub items: Vec<PinItem>,
    /// How long the pins last unless they are renewed; 0 ends them now.
    pub lease_ms: u64,
}

/// `PinResult::state`: it is pinned, or with a lease of 0 not any more.
pub const PIN_DONE: u8 = 1;
/// `PinResult::state`: it would be more than pins may hold.
pub const PIN_REFUSED: u8 = 2;
/// `PinResult::state`: the version is dead.
pub const PIN_STALE: u8 = 3;

/// What became of one item.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PinResult {
    /// One of the `PIN_` states.
    pub state: u8,
    /// Bytes of the item's blocks that are cached here.
    pub cached_bytes: u64,
}

/// Answers `Pin`, in the order asked.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PinReply {
    /// One per item.
    pub results: Vec<PinResult>,
}
message!(Pin => PinReply);

/// What this shard knows of a file, and why pages of it left.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Explain {
    /// `FileId`.
    pub file_id: u64,
    /// The `Version` whose pages are looked at.
    pub version: u64,
}

/// Pages of the content in one place.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ExplainPlace {
    /// MEM, SSD or HDD.
    pub tier: String,
    /// Path, or empty for memory.
    pub directory: String,
    /// How many.
    pub pages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pages that pins keep from leaving it.
    pub pinned_pages: u64,
    /// Bytes read from there since the pages came or were last copied to memory.
    pub read_bytes: u64,
}

/// Pages that left a tier, or were refused by it.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ExplainGone {
    /// Of which `Version`.
    pub version: u64,
    /// MEM, SSD or HDD.
    pub tier: String,
    /// Why, in a word: room, dead, freed, corrupt, unreadable, directory-lost, not-written, not-admitted, pin-refused.
    pub cause: String,
    /// How many.
    pub pages: u64,
    /// How long ago the last of them did.
    pub age_ms: u64,
}

/// Answers `Explain`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ExplainReply {
    /// Where pages are, the fastest first.
    pub places: Vec<ExplainPlace>,
    /// Pages that wait to be written to a disk.
    pub queued_pages: u64,
    /// Pages on their way to another tier.
    pub moving_pages: u64,
    /// `worker.eviction`.
    pub policy: String,
    /// What its pin reserves, 0 without one.
    pub pin_bytes: u64,
    /// What its pin has left unless it is renewed.
    pub pin_ms: u64,
    /// Pages of it found no room among what is pinned.
    pub pin_short: bool,
    /// The version is dead for this worker.
    pub dead: bool,
    /// Other `Version`s of the file of which pages are held.
    pub other_versions: Vec<u64>,
    /// What left or was refused of late, the latest first.
    pub gone: Vec<ExplainGone>,
}
message!(Explain => ExplainReply);
