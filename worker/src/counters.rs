//! One shard's counters, and what a shard tells the control thread of itself. Shared by exactly these two: the shard
//! writes, the control thread reads at any time.

use forebay_base::metrics_table;
use forebay_engine::{DirectoryUsage, EngineCounters};
use std::sync::{Mutex, PoisonError};

metrics_table! {
    /// What a shard has done.
    pub(crate) struct ShardCounters {
        mem_hit_bytes: Counter = "forebay_worker_mem_hit_bytes_total", "bytes served from memory";
        ssd_hit_bytes: Counter = "forebay_worker_ssd_hit_bytes_total", "bytes served from SSD";
        miss_bytes: Counter = "forebay_worker_miss_bytes_total", "bytes served that had to be fetched";
        store_read_bytes: Counter = "forebay_worker_store_read_bytes_total", "bytes read from stores";
        store_requests: Counter = "forebay_worker_store_requests_total", "reads asked of stores";
        store_failures: Counter = "forebay_worker_store_failures_total", "reads that stores failed";
        read_ahead_pages: Counter = "forebay_worker_read_ahead_pages_total", "pages fetched ahead of readers";
        misrouted_requests: Counter = "forebay_worker_misrouted_requests_total", "requests that another core owns";
        stale_reads: Counter = "forebay_worker_stale_reads_total", "reads refused because the version is dead";
    }
}

/// A shard as the control thread sees it.
#[derive(Default)]
pub(crate) struct ShardView {
    /// Counted by the shard itself.
    pub(crate) counters: ShardCounters,
    published: Mutex<Published>,
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
