//! One shard's counters, and what a shard tells the control thread of itself. Shared by exactly these two: the shard
//! writes, the control thread reads at any time.

use forebay_base::metrics::{Exposition, Table};
use forebay_base::metrics_table;
use forebay_base::stall::CoreWatch;
use forebay_engine::{DirectoryUsage, EngineCounters};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a read found its bytes: in the order of the wire's `SOURCE_` numbers, by `source_index`.
pub(crate) const SOURCES: [&str; 4] = ["mem", "ssd", "hdd", "store"];
/// What a worker answers.
pub(crate) static OPS: [&str; 14] = [
    "Read",
    "Load",
    "Evict",
    "CacheStatus",
    "CachedBlocks",
    "Verify",
    "UploadPiece",
    "FinishUpload",
    "Pin",
    "WriteSession",
    "ReadSession",
    "SyncSession",
    "SaveSession",
    "other",
];
/// What a load found.
pub(crate) const FOUND: [&str; 2] = ["fetched", "cached"];
pub(crate) const FETCHED: usize = 0;
pub(crate) const CACHED: usize = 1;
/// How uploads end.
pub(crate) const UPLOAD_ENDS: [&str; 3] = ["done", "failed", "given up"];
pub(crate) const UPLOAD_DONE: usize = 0;
pub(crate) const UPLOAD_FAILED: usize = 1;
pub(crate) const UPLOAD_GIVEN_UP: usize = 2;
/// How saves of write sessions end.
pub(crate) const SAVE_ENDS: [&str; 3] = ["done", "failed", "for a writer that was gone"];
pub(crate) const SAVE_DONE: usize = 0;
pub(crate) const SAVE_FAILED: usize = 1;
pub(crate) const SAVE_LAPSED: usize = 2;
pub(crate) const MEM: usize = 0;
pub(crate) const SSD: usize = 1;
pub(crate) const HDD: usize = 2;
pub(crate) const STORE: usize = 3;

metrics_table! {
    /// What a shard has done.
    pub(crate) struct ShardCounters {
        read_bytes: Counter["source" in SOURCES] = "forebay_worker_read_bytes_total",
            "bytes served, by where they were: store means that the reader waited for a fetch";
        read_seconds: Histogram["source" in SOURCES] = "forebay_worker_read_seconds",
            "time of one item of a Read, by the slowest place it needed";
        failed_reads: Counter = "forebay_worker_failed_reads_total", "items of a Read answered with an error";
        request_seconds: Histogram["op" in OPS] = "forebay_worker_request_seconds",
            "time from a decoded request to its answer, by operation";
        in_flight: Gauge = "forebay_worker_requests_in_flight", "requests that are being answered";
        load_bytes: Counter["found" in FOUND] = "forebay_worker_load_bytes_total",
            "bytes that Load was asked for, by whether they had to be fetched";
        evict_bytes: Counter = "forebay_worker_evict_bytes_total", "bytes dropped because somebody asked for it";
        store_read_bytes: Counter = "forebay_worker_store_read_bytes_total", "bytes read from stores";
        fetch_seconds: Histogram = "forebay_worker_fetch_seconds",
            "time of one request to a store, from its slot to its last byte";
        fetch_wait_seconds: Histogram = "forebay_worker_fetch_wait_seconds",
            "time that a request to a store waited for its slot";
        store_failures: Counter = "forebay_worker_store_failures_total", "requests that stores failed";
        fetches: Gauge = "forebay_worker_fetches_in_flight", "requests to stores under way";
        fetches_waiting: Gauge = "forebay_worker_fetches_waiting", "requests to stores that wait for a slot";
        read_ahead_pages: Counter = "forebay_worker_read_ahead_pages_total", "pages fetched ahead of readers";
        misrouted_requests: Counter = "forebay_worker_misrouted_requests_total", "requests that another core owns";
        uploads: Counter["end" in UPLOAD_ENDS] = "forebay_worker_uploads_total",
            "files written to stores, by how that ended: given up means that its client went away or stopped sending";
        upload_bytes: Counter = "forebay_worker_upload_bytes_total", "bytes taken from clients for stores";
        uploads_in_flight: Gauge = "forebay_worker_uploads_in_flight", "files on their way into stores";
        sessions: Gauge = "forebay_worker_sessions", "write sessions that are open";
        staged_bytes: Gauge = "forebay_worker_staged_bytes", "bytes of the content of open write sessions";
        session_bytes: Counter = "forebay_worker_session_bytes_total", "bytes written in write sessions";
        saves: Counter["end" in SAVE_ENDS] = "forebay_worker_saves_total",
            "write sessions saved into stores, by how that ended; those of writers that died count apart";
        stale_reads: Counter = "forebay_worker_stale_reads_total", "reads refused because the version is dead";
    }
    computed {
        TIER_CAPACITY: Gauge["tier", "directory"] = "forebay_worker_tier_capacity_bytes",
            "what a directory of a tier may hold";
        TIER_USED: Gauge["tier", "directory"] = "forebay_worker_tier_used_bytes", "what it holds";
        TIER_PINNED: Gauge["tier", "directory"] = "forebay_worker_tier_pinned_bytes",
            "what pins keep from leaving it";
        TIER_LEASED: Gauge["tier", "directory"] = "forebay_worker_tier_leased_bytes",
            "what leases of whole files keep from leaving it, files without a name that somebody still reads included";
        TIER_TROUBLE: Gauge["tier", "directory"] = "forebay_worker_tier_in_trouble",
            "1 while it is not used as it should be";
        INSERTED: Counter = "forebay_worker_inserted_pages_total", "pages put into the cache";
        WRITTEN: Counter = "forebay_worker_written_pages_total", "pages written to a disk tier";
        UNWRITTEN: Counter = "forebay_worker_unwritten_pages_total",
            "pages that were to go to a disk and did not: no room, a bad disk, or evicted first";
        PROMOTED: Counter = "forebay_worker_promoted_pages_total", "pages copied from a disk to memory";
        MOVED: Counter["to"] = "forebay_worker_moved_pages_total",
            "pages moved between the disk tiers: to hdd for want of room, to ssd because they were read again";
        EVICTED: Counter["tier"] = "forebay_worker_evicted_pages_total", "pages that left a tier for want of room";
        CORRUPT: Counter = "forebay_worker_corrupt_units_total",
            "units of 4 KiB whose checksum was wrong; they were fetched again";
        SCRUBBED: Counter = "forebay_worker_scrubbed_bytes_total", "bytes that the scrub read again from disks";
        SCRUB_ROUNDS: Counter = "forebay_worker_scrub_rounds_total",
            "times that a core's scrub has been through all it holds";
        SCRUB_BAD: Counter = "forebay_worker_scrub_bad_pages_total",
            "pages that the scrub found bad and dropped; they count as corrupt too";
        DISK_ERRORS: Counter = "forebay_worker_disk_errors_total", "failed disk operations";
        LENT: Counter = "forebay_worker_lent_files_total", "whole files handed out to clients of this host";
        CHECKED: Counter = "forebay_worker_checked_pages_total",
            "pages compared with their checksums before their file was handed out";
        BUFFER_WAITS: Counter = "forebay_worker_buffer_waits_total", "times that a page had to wait for a buffer";
        BUFFER_BYTES: Gauge = "forebay_worker_buffer_bytes",
            "memory outside the MEM tier: being filled, written behind, held by readers";
        WRITE_QUEUE: Gauge = "forebay_worker_write_queue_pages", "pages waiting to be written to a disk";
        STALLS: Counter = "forebay_worker_stalls_total",
            "times that one task kept a core from all others for 50 ms or more; the log names the task";
        CORES: Gauge = "forebay_worker_cores", "cores that serve data";
    }
}

/// Every row, for documentation.
pub(crate) const DEFS: &[forebay_base::metrics::MetricDef] = ShardCounters::DEFS;

/// Adds what the engines of all shards say.
pub(crate) fn expose_engine(text: &mut Exposition, engines: &[EngineCounters]) {
    let sum = |number: fn(&EngineCounters) -> u64| engines.iter().map(number).sum::<u64>() as f64;
    text.number(&INSERTED, sum(|engine| engine.inserted_pages));
    text.number(&WRITTEN, sum(|engine| engine.written_pages));
    text.number(&UNWRITTEN, sum(|engine| engine.unwritten_pages));
    text.number(&PROMOTED, sum(|engine| engine.promoted_pages));
    let moved = [(&["hdd"][..], sum(|engine| engine.demoted_pages)), (&["ssd"][..], sum(|engine| engine.lifted_pages))];
    text.computed(&MOVED, moved);
    let evicted = [
        (&["mem"][..], sum(|engine| engine.evicted_mem_pages)),
        (&["ssd"][..], sum(|engine| engine.evicted_pages)),
        (&["hdd"][..], sum(|engine| engine.evicted_hdd_pages)),
    ];
    text.computed(&EVICTED, evicted);
    text.number(&CORRUPT, sum(|engine| engine.corrupt_units));
    text.number(&SCRUBBED, sum(|engine| engine.scrubbed_bytes));
    text.number(&SCRUB_ROUNDS, sum(|engine| engine.scrub_rounds));
    text.number(&SCRUB_BAD, sum(|engine| engine.scrub_bad_pages));
    text.number(&DISK_ERRORS, sum(|engine| engine.disk_errors));
    text.number(&LENT, sum(|engine| engine.lent_files));
    text.number(&CHECKED, sum(|engine| engine.checked_pages));
    text.number(&BUFFER_WAITS, sum(|engine| engine.buffer_waits));
    text.number(&BUFFER_BYTES, sum(|engine| engine.buffer_bytes));
    text.number(&WRITE_QUEUE, sum(|engine| engine.write_queue_pages));
}

/// A shard as the control thread sees it.
pub(crate) struct ShardView {
    /// Counted by the shard itself.
    pub(crate) counters: ShardCounters,
    /// What it does now, and how often something took too long.
    pub(crate) watch: Arc<CoreWatch>,
    published: Mutex<Published>,
}

impl Default for ShardView {
    fn default() -> Self {
        ShardView {
            counters: ShardCounters::default(),
            watch: Arc::new(CoreWatch::new(&OPS)),
            published: Mutex::default(),
        }
    }
}

/// What the engine said when the shard last published.
#[derive(Clone, Default)]
pub(crate) struct Published {
    /// Tiers and directories.
    pub(crate) usage: Vec<DirectoryUsage>,
    /// The engine's own counters.
    pub(crate) engine: EngineCounters,
}

impl ShardView {
    /// Replaces what the engine said.
    pub(crate) fn publish(&self, published: Published) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
    }

    /// What the engine said last.
    pub(crate) fn published(&self) -> Published {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
