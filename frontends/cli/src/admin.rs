//! `admin report`: what the master knows of everything, for people or as JSON.

mod explain;
mod log_level;

pub(crate) use explain::explain;
pub(crate) use log_level::log_level;

use crate::arguments::{self, ReportPart};
use crate::failure::Failure;
use crate::fs::mounts as fs_mounts;
use crate::job;
use crate::output::{Output, printable, table};
use forebay_base::ByteSize;
use forebay_client::Client;
use forebay_client::message::cluster::{Report, ReportReply, WorkerCounters, WorkerReport};
use forebay_client::message::job::ListJobs;
use serde_json::{Value, json};

/// Fetches and shows the report.
pub(crate) async fn report(client: &Client, arguments: arguments::Report) -> Result<(), Failure> {
    let wants = |part| arguments.part.is_none_or(|only| only == part);
    let report =
        client.master(&Report::default()).await.map_err(|error| Failure::of("admin report", "master", &error))?;
    let jobs = match wants(ReportPart::Jobs) {
        true => {
            let asked = client.master(&ListJobs { all: false }).await;
            asked.map_err(|error| Failure::of("admin report", "jobs", &error))?.jobs
        }
        false => Vec::new(),
    };
    let mut output = Output::open();
    if arguments.json {
        let mut all = as_json(&report, wants);
        if wants(ReportPart::Jobs) {
            all["jobs"] = jobs.iter().map(|job| job::as_json(job, None)).collect();
        }
        output.line(&all.to_string())?;
    } else {
        show(&mut output, &report, wants)?;
        if wants(ReportPart::Jobs) && (arguments.part.is_some() || !jobs.is_empty()) {
            output.line("")?;
            match jobs.is_empty() {
                true => output.line("no job runs")?,
                false => job::show(&mut output, &jobs)?,
            }
        }
    }
    output.flush()
}

fn show(output: &mut Output, report: &ReportReply, wants: impl Fn(ReportPart) -> bool) -> Result<(), Failure> {
    output.line(&format!("cluster   {:032x}", report.cluster_id))?;
    output.line(&format!(
        "master    map epoch {}, journal index {}, {} inodes, {} resident",
        report.epoch,
        report.journal_index,
        report.inodes,
        ByteSize(report.master_resident_bytes)
    ))?;
    let live = report.workers.iter().filter(|worker| worker.live).count();
    output.line(&format!("workers   {live} live of {}", report.workers.len()))?;
    if !report.workers.is_empty() && wants(ReportPart::Capacity) {
        output.line("")?;
        table(
            output,
            &[
                "WORKER",
                "ADDRESS",
                "STATE",
                "CORES",
                "TIER",
                "CAPACITY",
                "USED",
                "",
                "PINNED",
                "LEASED",
                "DIRECTORY",
                "HEALTH",
            ],
            &[3, 5, 6, 7, 8, 9],
            &report.workers.iter().flat_map(tier_rows).collect::<Vec<_>>(),
        )?;
    }
    if !report.workers.is_empty() && wants(ReportPart::Metrics) {
        output.line("")?;
        table(
            output,
            &[
                "WORKER",
                "MEM HITS",
                "SSD HITS",
                "HDD HITS",
                "MISSES",
                "SERVED",
                "FROM STORES",
                "EVICTED",
                "CORRUPT",
                "MISROUTED",
                "RESIDENT",
            ],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            &report.workers.iter().map(counter_row).collect::<Vec<_>>(),
        )?;
    }
    if !wants(ReportPart::Mounts) {
        return Ok(());
    }
    output.line("")?;
    fs_mounts::show(output, &report.mounts)
}

fn tier_rows(worker: &WorkerReport) -> Vec<Vec<String>> {
    let head = || {
        vec![
            format!("{:016x}", worker.worker.worker_id),
            worker.worker.shards.first().map_or("-".into(), |shard| shard.tcp.clone()),
            if worker.live { "live".into() } else { format!("silent {} s", worker.silent_ms / 1000) },
            worker.worker.shards.len().to_string(),
        ]
    };
    if worker.tiers.is_empty() {
        return vec![[head(), vec!["-".to_string(); 8]].concat()];
    }
    let rows = worker.tiers.iter().map(|tier| {
        let tail = vec![
            tier.tier.clone(),
            ByteSize(tier.capacity_bytes).to_string(),
            ByteSize(tier.used_bytes).to_string(),
            percent(tier.used_bytes, tier.capacity_bytes),
            ByteSize(tier.pinned_bytes).to_string(),
            ByteSize(tier.leased_bytes).to_string(),
            if tier.directory.is_empty() { "-".into() } else { printable(tier.directory.as_bytes()) },
            if tier.trouble.is_empty() { "ok".into() } else { printable(tier.trouble.as_bytes()) },
        ];
        [head(), tail].concat()
    });
    rows.collect()
}

fn counter_row(worker: &WorkerReport) -> Vec<String> {
    let counters = &worker.counters;
    let served = served_bytes(counters);
    vec![
        format!("{:016x}", worker.worker.worker_id),
        percent(counters.mem_hit_bytes, served),
        percent(counters.ssd_hit_bytes, served),
        percent(counters.hdd_hit_bytes, served),
        percent(counters.miss_bytes, served),
        ByteSize(served).to_string(),
        ByteSize(counters.store_read_bytes).to_string(),
        counters.evicted_pages.to_string(),
        counters.corrupt_units.to_string(),
        counters.misrouted_requests.to_string(),
        ByteSize(counters.resident_bytes).to_string(),
    ]
}

fn served_bytes(counters: &WorkerCounters) -> u64 {
    let cached = [counters.mem_hit_bytes, counters.ssd_hit_bytes, counters.hdd_hit_bytes];
    cached.iter().fold(counters.miss_bytes, |sum, bytes| sum.saturating_add(*bytes))
}

fn percent(part: u64, whole: u64) -> String {
    rate(part, whole).map_or("-".into(), |rate| format!("{:.1}%", rate * 100.0))
}

fn rate(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The report for programs, or the parts of it that are wanted.
pub(crate) fn as_json(report: &ReportReply, wants: impl Fn(ReportPart) -> bool) -> Value {
    let mut all = json!({
        "cluster_id": format!("{:032x}", report.cluster_id),
        "epoch": report.epoch,
        "journal_index": report.journal_index,
        "inodes": report.inodes,
        "master_resident_bytes": report.master_resident_bytes,
        "workers": report.workers.iter().map(worker_json).collect::<Vec<_>>(),
        "mounts": report.mounts.iter().map(fs_mounts::as_json).collect::<Vec<_>>(),
    });
    if let Some(all) = all.as_object_mut() {
        let (capacity, metrics) = (wants(ReportPart::Capacity), wants(ReportPart::Metrics));
        all.retain(|key, _| match key.as_str() {
            "workers" => capacity || metrics,
            "mounts" => wants(ReportPart::Mounts),
            _ => true,
        });
        let workers = all.get_mut("workers").and_then(Value::as_array_mut).into_iter().flatten();
        for worker in workers.filter_map(Value::as_object_mut) {
            worker.retain(|key, _| match key.as_str() {
                "tiers" => capacity,
                "counters" | "hit_rate" => metrics,
                _ => true,
            });
        }
    }
    all
}

fn worker_json(worker: &WorkerReport) -> Value {
    let counters = &worker.counters;
    let served = served_bytes(counters);
    let tiers: Vec<Value> = worker
        .tiers
        .iter()
        .map(|tier| {
            json!({
                "tier": tier.tier,
                "directory": tier.directory,
                "capacity_bytes": tier.capacity_bytes,
                "used_bytes": tier.used_bytes,
                "pinned_bytes": tier.pinned_bytes,
                "leased_bytes": tier.leased_bytes,
                "trouble": (!tier.trouble.is_empty()).then_some(&tier.trouble),
            })
        })
        .collect();
    json!({
        "worker_id": format!("{:016x}", worker.worker.worker_id),
        "live": worker.live,
        "silent_ms": worker.silent_ms,
        "weight": worker.worker.weight,
        "shards": worker.worker.shards.iter().map(|shard| json!({ "tcp": shard.tcp, "unix": shard.unix })).collect::<Vec<_>>(),
        "tiers": tiers,
        "counters": {
            "mem_hit_bytes": counters.mem_hit_bytes,
            "ssd_hit_bytes": counters.ssd_hit_bytes,
            "hdd_hit_bytes": counters.hdd_hit_bytes,
            "miss_bytes": counters.miss_bytes,
            "store_read_bytes": counters.store_read_bytes,
            "evicted_pages": counters.evicted_pages,
            "corrupt_units": counters.corrupt_units,
            "misrouted_requests": counters.misrouted_requests,
            "resident_bytes": counters.resident_bytes,
        },
        // Shares of the bytes served; null before the first one.
        "hit_rate": {
            "mem": rate(counters.mem_hit_bytes, served),
            "ssd": rate(counters.ssd_hit_bytes, served),
            "hdd": rate(counters.hdd_hit_bytes, served),
            "miss": rate(counters.miss_bytes, served),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(1, 3), "33.3%");
    }
}
