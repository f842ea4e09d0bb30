//! Bounds that hold everywhere. Lengths from disk or network are capped by these before anything is allocated.

/// Default unit of fetch and presence, in bytes.
pub const PAGE_BYTES: u32 = 1 << 20;
/// Default unit of placement, in bytes (256 pages).
pub const BLOCK_BYTES: u64 = 256 << 20;
/// Longest name of one directory entry, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 4096;
/// Largest file, in bytes: page indexes are `u32`.
pub const FILE_BYTES_MAX: u64 = (u32::MAX as u64) * (PAGE_BYTES as u64);
/// Largest message body, in bytes.
pub const BODY_BYTES_MAX: u32 = 8 << 20;
/// Largest raw payload behind a message, in bytes.
pub const PAYLOAD_BYTES_MAX: u32 = 8 << 20;
/// Most entries in one listing reply.
pub const LISTING_ENTRIES_MAX: u32 = 4096;
/// Most operations batched in one message.
pub const BATCH_MAX: usize = 4096;
/// Longest life of a read ticket, in milliseconds.
pub const TICKET_LIFE_MS: u64 = 60_000;
/// Most paths of one job.
pub const JOB_PATHS_MAX: usize = 1024;
/// Most failures of a job in one reply.
pub const JOB_FAILURES_PAGE: u32 = 1000;
