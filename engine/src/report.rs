//! What a store tells about itself. Plain data.

use crate::Tier;
use std::path::PathBuf;
use std::time::Duration;

/// What opening a store found on its disks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Pages that can be served again.
    pub pages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Pages (or whole table sectors) that failed a check and were dropped.
    pub dropped_pages: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Bytes of one content held by tier; a page in MEM and on a disk counts in both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CachedPages {
    /// In memory.
    pub mem_bytes: u64,
    /// On SSD.
    pub ssd_bytes: u64,
    /// On HDD.
    pub hdd_bytes: u64,
    /// In any.
    pub any_bytes: u64,
}

/// One tier's place and how full it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryUsage {
    /// MEM, SSD or HDD.
    pub tier: Tier,
    /// The directory; empty for MEM.
    pub path: PathBuf,
    /// What it may hold.
    pub capacity_bytes: u64,
    /// What it holds, tables included.
    pub used_bytes: u64,
    /// What pins keep from leaving.
    pub pinned_bytes: u64,
    /// What leases of whole files keep from leaving, and files without a name that somebody still reads.
    pub leased_bytes: u64,
    /// Why it is not used as it should be.
    pub trouble: Option<String>,
}

/// What happened since the store was opened. Sums and high-water marks only grow; `buffer_bytes` and
/// `write_queue_pages` are as of now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EngineCounters {
    /// Reads served from memory.
    pub mem_hits: u64,
    /// Reads served from SSD.
    pub ssd_hits: u64,
    /// Reads served from HDD.
    pub hdd_hits: u64,
    /// Reads not served.
    pub misses: u64,
    /// Bytes served from memory.
    pub mem_read_bytes: u64,
    /// Bytes served from SSD.
    pub ssd_read_bytes: u64,
    /// Bytes served from HDD.
    pub hdd_read_bytes: u64,
    /// Pages put in.
    pub inserted_pages: u64,
    /// Pages written to a disk and committed.
    pub written_pages: u64,
    /// Pages that were to go to a disk and did not: no room, a bad disk, or evicted first.
    pub unwritten_pages: u64,
    /// Pages copied from a disk to memory because they were read again.
    pub promoted_pages: u64,
    /// Pages that left memory for want of room.
    pub evicted_mem_pages: u64,
    /// Pages that left SSD for want of room and did not go to HDD.
    pub evicted_pages: u64,
    /// Pages that left HDD for want of room.
    pub evicted_hdd_pages: u64,
    /// Pages moved from SSD to HDD.
    pub demoted_pages: u64,
    /// Pages moved from HDD to SSD.
    pub lifted_pages: u64,
    /// 4 KiB units, or rows of checksums, that failed their check.
    pub corrupt_units: u64,
    /// Bytes that the scrub read.
    pub scrubbed_bytes: u64,
    /// Times that the scrub has been through all directories.
    pub scrub_rounds: u64,
    /// Bad pages that the scrub found; they are in `corrupt_units` too.
    pub scrub_bad_pages: u64,
    /// Failed disk operations.
    pub disk_errors: u64,
    /// Files handed out whole.
    pub lent_files: u64,
    /// Pages compared with their checksums before their file was handed out.
    pub checked_pages: u64,
    /// Times that `new_page` had to wait.
    pub buffer_waits: u64,
    /// Memory outside the MEM tier now: being filled, written behind, held by readers.
    pub buffer_bytes: u64,
    /// Pages waiting to be written now.
    pub write_queue_pages: u64,
}
