//! The master's metrics: one table, an instance for each core, and the rows that are asked for when they are read.
//!
//! Invariant: a row by mount has at most `MOUNTS_MAX` values, so that no mount table is too long for a scraper.

use crate::cores::Cores;
use crate::journal::Journal;
use crate::members::Members;
use crate::mounts::Mounts;
use crate::namespace::Partition;
use crate::pins::Pins;
use forebay_base::KindError;
use forebay_base::metrics::{Exposition, PerCore, process};
use forebay_net::message::job::JOB_RUNNING;
use forebay_net::{NET_METRICS, Op};

/// What a store was asked for.
pub(crate) const STORE_CALLS: [&str; 4] = ["stat", "list", "check", "change"];
pub(crate) const STAT: usize = 0;
pub(crate) const LIST: usize = 1;
pub(crate) const CHECK: usize = 2;
pub(crate) const CHANGE: usize = 3;

/// Mounts with samples of their own; the first in order of path.
const MOUNTS_MAX: usize = 100;

forebay_base::metrics_table! {
    /// What one core of a master counts.
    pub(crate) struct MasterMetrics {
        request_seconds: Histogram["op" in Op::NAMES] = "forebay_master_request_seconds",
            "time from a decoded request to its answer, by operation";
        failed_requests: Counter = "forebay_master_failed_requests_total",
            "requests answered with an error, names that do not exist included";
        in_flight: Gauge = "forebay_master_requests_in_flight", "requests that are being answered";
        journal_entries: Counter = "forebay_master_journal_entries_total", "entries proposed to the journal";
        journal_commands: Counter = "forebay_master_journal_commands_total", "commands in those entries";
        journal_sync_seconds: Histogram = "forebay_master_journal_sync_seconds",
            "time of one write and sync of the journal's file";
        journal_bytes: Counter = "forebay_master_journal_bytes_total", "bytes written to the journal";
        commit_seconds: Histogram = "forebay_master_commit_seconds",
            "time from proposing an entry to its outcome: journaled, durable and applied";
        apply_seconds: Histogram = "forebay_master_apply_seconds",
            "time from queueing a committed entry to its last command being applied";
        store_seconds: Histogram["call" in STORE_CALLS] = "forebay_master_store_seconds",
            "time of one call to a store, its waiting for a slot and its retries included";
        tickets: Counter = "forebay_master_tickets_total", "read tickets signed";
        write_tickets: Counter = "forebay_master_write_tickets_total", "write tickets signed";
    }
    computed {
        STORE_CALLS_BY_MOUNT: Counter["mount"] = "forebay_master_store_calls_total",
            "calls to a mount's store since the master started";
        STORE_FAILURES: Counter["mount"] = "forebay_master_store_failures_total",
            "calls that a mount's store did not answer";
        MOUNT_TROUBLE: Gauge["mount"] = "forebay_master_mount_in_trouble",
            "1 while a mount's store does not answer";
        MOUNTS: Gauge = "forebay_master_mounts", "mounts";
        INODES: Gauge = "forebay_master_inodes", "inodes known";
        JOBS: Gauge = "forebay_master_running_jobs", "jobs that go on";
        PINNED: Gauge["state"] = "forebay_master_pinned_bytes",
            "bytes of pinned paths: pinned, missing (of these not cached yet), refused (beyond what pins may hold)";
        PARTITIONS: Gauge = "forebay_master_partitions", "partitions of the namespace";
        JOURNAL_INDEX: Gauge = "forebay_master_journal_index", "last applied entry of the journal";
        LEADER: Gauge = "forebay_master_is_leader", "1 while this master leads";
        WORKERS: Gauge["state"] = "forebay_master_workers", "workers by state: live, or silent for too long";
        EPOCH: Gauge = "forebay_master_map_epoch", "epoch of the cluster map: grows when workers come and go";
    }
}

/// Where the computed rows come from.
pub(crate) struct Sources<'a> {
    pub(crate) metrics: &'a PerCore<MasterMetrics>,
    pub(crate) cores: &'a Cores,
    pub(crate) journal: &'a Journal,
    pub(crate) members: &'a Members,
    pub(crate) mounts: &'a Mounts,
    pub(crate) pins: &'a Pins,
}

impl Sources<'_> {
    /// The whole text of this process.
    pub(crate) async fn expose(&self) -> Result<String, KindError> {
        let inodes: u64 = self.cores.read_all(Partition::inode_count).await?.into_iter().sum();
        let running = |partition: &Partition| {
            partition.jobs().records().filter(|(record, _)| record.state == JOB_RUNNING).count()
        };
        let jobs: usize = self.cores.read_all(running).await?.into_iter().sum();
        let mut text = Exposition::default();
        process::expose(&mut text, "master");
        text.table(self.metrics.all());
        let mounts = self.mounts.health();
        let shown = &mounts[..mounts.len().min(MOUNTS_MAX)];
        let by_mount = |number: fn(&crate::mounts::Health) -> f64| {
            shown.iter().map(move |mount| (std::slice::from_ref(&mount.path), number(mount)))
        };
        text.computed(&STORE_CALLS_BY_MOUNT, by_mount(|mount| mount.calls as f64));
        text.computed(&STORE_FAILURES, by_mount(|mount| mount.failures as f64));
        text.computed(&MOUNT_TROUBLE, by_mount(|mount| f64::from(u8::from(mount.in_trouble))));
        text.number(&MOUNTS, mounts.len() as f64);
        text.number(&INODES, inodes as f64);
        text.number(&JOBS, jobs as f64);
        let pins = self.pins.totals();
        let states = [
            (&["pinned"][..], pins.pinned_bytes as f64),
            (&["missing"][..], pins.missing_bytes as f64),
            (&["refused"][..], pins.refused_bytes as f64),
        ];
        text.computed(&PINNED, states);
        text.number(&PARTITIONS, f64::from(self.cores.partition_count()));
        text.number(&JOURNAL_INDEX, self.journal.applied_index() as f64);
        text.number(&LEADER, f64::from(u8::from(self.journal.is_leader())));
        let workers = self.members.report();
        let live = workers.iter().filter(|worker| worker.live).count();
        let states = [(&["live"][..], live as f64), (&["silent"][..], (workers.len() - live) as f64)];
        text.computed(&WORKERS, states);
        text.number(&EPOCH, self.members.epoch() as f64);
        text.table([&*NET_METRICS]);
        Ok(text.finish())
    }
}
