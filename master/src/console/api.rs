//! The calls that show the cluster: overview, workers, mounts, throughput, configuration.

use super::Console;
use super::history::{Point, STEP};
use forebay_base::KindError;
use forebay_net::message::cluster::{ReportReply, WorkerCounters, WorkerReport};
use forebay_net::message::namespace::MountInfo;
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Console {
    pub(super) async fn overview(&self) -> Result<Value, KindError> {
        let report = self.service.report().await?;
        let live = report.workers.iter().filter(|worker| worker.live);
        let mut tiers: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        let mut counters = WorkerCounters::default();
        for worker in live.clone() {
            for tier in &worker.tiers {
                let sum = tiers.entry(&tier.tier).or_default();
                *sum = (sum.0.saturating_add(tier.capacity_bytes), sum.1.saturating_add(tier.used_bytes));
            }
            add(&mut counters, &worker.counters);
        }
        let mut tiers: Vec<_> = tiers.into_iter().collect();
        tiers.sort_by_key(|(tier, _)| ["MEM", "SSD", "HDD"].iter().position(|name| name == tier));
        let tiers: Vec<Value> = tiers
            .iter()
            .map(|(tier, (capacity, used))| json!({ "tier": tier, "capacity_bytes": capacity, "used_bytes": used }))
            .collect();
        Ok(json!({
            "cluster_id": format!("{:032x}", report.cluster_id),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_ms": self.started.elapsed().as_millis() as u64,
            "epoch": report.epoch,
            "inodes": report.inodes,
            "journal_index": report.journal_index,
            "master_resident_bytes": report.master_resident_bytes,
            "workers": { "live": live.count(), "known": report.workers.len() },
            "mounts": report.mounts.len(),
            "tiers": tiers,
            "counters": counters_json(&counters),
            "hit_rate": hit_rate(&counters),
            "troubles": troubles(&report),
            "actions_allowed": self.token.is_some(),
        }))
    }

    pub(super) fn throughput(&self) -> Value {
        let point =
            |Point { at_ms, sums: [mem, ssd, hdd, miss, store] }: &Point| json!([at_ms, mem, ssd, hdd, miss, store]);
        json!({
            "step_ms": STEP.as_millis() as u64,
            "columns": ["at_ms", "mem_hit_bytes", "ssd_hit_bytes", "hdd_hit_bytes", "miss_bytes", "store_read_bytes"],
            "points": self.history.points().iter().map(point).collect::<Vec<_>>(),
        })
    }

    pub(super) fn workers(&self) -> Value {
        json!({ "workers": self.service.members.report().iter().map(worker_json).collect::<Vec<_>>() })
    }

    pub(super) fn mounts(&self) -> Value {
        json!({ "mounts": self.service.mounts.list().iter().map(mount_json).collect::<Vec<_>>() })
    }

    pub(super) fn config(&self) -> Value {
        let settings: Vec<Value> = self
            .settings
            .iter()
            .map(|row| json!({ "name": row.name, "value": row.value, "origin": row.origin, "doc": row.doc }))
            .collect();
        json!({ "settings": settings })
    }
}

fn add(sum: &mut WorkerCounters, one: &WorkerCounters) {
    let pairs = [
        (&mut sum.mem_hit_bytes, one.mem_hit_bytes),
        (&mut sum.ssd_hit_bytes, one.ssd_hit_bytes),
        (&mut sum.hdd_hit_bytes, one.hdd_hit_bytes),
        (&mut sum.miss_bytes, one.miss_bytes),
        (&mut sum.store_read_bytes, one.store_read_bytes),
        (&mut sum.evicted_pages, one.evicted_pages),
        (&mut sum.corrupt_units, one.corrupt_units),
        (&mut sum.misrouted_requests, one.misrouted_requests),
        (&mut sum.resident_bytes, one.resident_bytes),
    ];
    for (sum, one) in pairs {
        *sum = sum.saturating_add(one);
    }
}

fn counters_json(counters: &WorkerCounters) -> Value {
    json!({
        "mem_hit_bytes": counters.mem_hit_bytes,
        "ssd_hit_bytes": counters.ssd_hit_bytes,
        "hdd_hit_bytes": counters.hdd_hit_bytes,
        "miss_bytes": counters.miss_bytes,
        "store_read_bytes": counters.store_read_bytes,
        "evicted_pages": counters.evicted_pages,
        "corrupt_units": counters.corrupt_units,
        "misrouted_requests": counters.misrouted_requests,
        "resident_bytes": counters.resident_bytes,
    })
}

/// Shares of the bytes served; null before the first one.
fn hit_rate(counters: &WorkerCounters) -> Value {
    let served = [counters.mem_hit_bytes, counters.ssd_hit_bytes, counters.hdd_hit_bytes, counters.miss_bytes];
    let sum: f64 = served.iter().map(|bytes| *bytes as f64).sum();
    let [mem, ssd, hdd, miss] = served.map(|bytes| (sum > 0.0).then(|| bytes as f64 / sum));
    json!({ "mem": mem, "ssd": ssd, "hdd": hdd, "miss": miss })
}

/// What is wrong, worst first; `page` is where to look.
fn troubles(report: &ReportReply) -> Vec<Value> {
    let mut found = Vec::new();
    let mut say = |page: &str, what: String, message: String| {
        found.push(json!({ "page": page, "what": what, "message": message }));
    };
    let live = report.workers.iter().filter(|worker| worker.live).count();
    if live == 0 {
        let message = "nothing can be read through the cache: start a worker".to_string();
        say("/workers", "no worker is live".into(), message);
    }
    for worker in report.workers.iter().filter(|worker| !worker.live) {
        let message = format!("silent for {} s; its share is read through the other workers", worker.silent_ms / 1000);
        say("/workers", name_of(worker), message);
    }
    for worker in report.workers.iter().filter(|worker| worker.live) {
        for tier in worker.tiers.iter().filter(|tier| !tier.trouble.is_empty()) {
            say("/workers", format!("{} {}", name_of(worker), tier.directory), tier.trouble.clone());
        }
        if worker.counters.corrupt_units > 0 {
            let message = format!(
                "{} units of 4 KiB failed their checksum and were fetched again: look at its disks",
                worker.counters.corrupt_units
            );
            say("/workers", name_of(worker), message);
        }
    }
    for mount in report.mounts.iter().filter(|mount| !mount.trouble.is_empty()) {
        say("/mounts", format!("mount {}", mount.path), mount.trouble.clone());
    }
    found
}

fn name_of(worker: &WorkerReport) -> String {
    let address = worker.worker.shards.first().map_or("", |shard| shard.tcp.as_str());
    format!("worker {:016x} at {address}", worker.worker.worker_id)
}

fn worker_json(worker: &WorkerReport) -> Value {
    let tiers: Vec<Value> = worker
        .tiers
        .iter()
        .map(|tier| {
            json!({
                "tier": tier.tier,
                "directory": tier.directory,
                "capacity_bytes": tier.capacity_bytes,
                "used_bytes": tier.used_bytes,
                "trouble": tier.trouble,
            })
        })
        .collect();
    let addresses: Vec<&str> = worker.worker.shards.iter().map(|shard| shard.tcp.as_str()).collect();
    json!({
        "worker_id": format!("{:016x}", worker.worker.worker_id),
        "live": worker.live,
        "silent_ms": worker.silent_ms,
        "weight": worker.worker.weight,
        "addresses": addresses,
        "tiers": tiers,
        "counters": counters_json(&worker.counters),
        "hit_rate": hit_rate(&worker.counters),
    })
}

fn mount_json(mount: &MountInfo) -> Value {
    let options: Vec<Value> =
        mount.options.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    json!({
        "path": mount.path,
        "uri": mount.uri,
        "options": options,
        // null: what was once loaded is believed for ever.
        "freshness_ms": (mount.freshness_ms != u64::MAX).then_some(mount.freshness_ms),
        "readonly": mount.readonly,
        "trouble": mount.trouble,
    })
}
