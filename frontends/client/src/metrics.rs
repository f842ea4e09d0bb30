//! What a client counts. An instance for each core; whoever holds a `Client` may show them.

use forebay_net::message::data::{SOURCE_HDD, SOURCE_MEM, SOURCE_SSD};

/// Where workers found what was read; file is a worker's local file, read without asking the worker.
const SOURCES: [&str; 5] = ["mem", "ssd", "hdd", "store", "file"];
/// What workers of this host answered when they were asked for a whole file.
const LEASE_ANSWERS: [&str; 5] = ["granted", "not whole", "not yet", "no room", "failed"];
/// The place of local files in `SOURCES`.
pub(crate) const FILE: usize = 4;

forebay_base::metrics_table! {
    /// What one core of a client counts.
    pub struct ClientMetrics {
        read_bytes: Counter["source" in SOURCES] = "forebay_client_read_bytes_total",
            "bytes read, by where the worker had them: file is its local file, read without asking it";
        read_seconds: Histogram["source" in SOURCES] = "forebay_client_read_seconds",
            "time of one answered call to a worker, or of one read of its local file, by where the bytes were";
        leases: Counter["answer" in LEASE_ANSWERS] = "forebay_client_leases_total",
            "whole local files that a worker of this host was asked for, by its answer";
        failed_reads: Counter = "forebay_client_failed_reads_total",
            "reads of a piece of a file that ended with an error";
        stale_reads: Counter = "forebay_client_stale_reads_total",
            "reads refused because the file changed in the store";
        failovers: Counter = "forebay_client_failovers_total", "times that a worker failed and the next one was tried";
        read_retries: Counter = "forebay_client_read_retries_total",
            "times that a read waited because no worker served it";
        corrupt_replies: Counter = "forebay_client_corrupt_replies_total",
            "answers of workers whose bytes did not match their checksums";
        tickets_presented: Counter = "forebay_client_presented_tickets_total", "tickets sent to workers";
        ticket_renewals: Counter = "forebay_client_renewed_tickets_total", "tickets renewed while a file was open";
        master_seconds: Histogram = "forebay_client_master_seconds",
            "time of one call to the master, its retries included";
        master_retries: Counter = "forebay_client_master_retries_total", "calls to masters that were sent again";
        failed_master_calls: Counter = "forebay_client_failed_master_calls_total",
            "calls to the master that ended with an error, names that do not exist included";
        map_changes: Counter = "forebay_client_map_changes_total", "times that the cluster map changed";
    }
}

/// The place of a wire source in `SOURCES`.
pub(crate) fn source_index(source: u8) -> usize {
    match source {
        SOURCE_MEM => 0,
        SOURCE_SSD => 1,
        SOURCE_HDD => 2,
        _ => 3,
    }
}
