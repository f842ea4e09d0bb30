//! Asks each master by itself, over TCP, what it knows and what its clock says.

use crate::doctor::facts::{Answer, Master, WorkerSeen};
use forebay_base::KindError;
use forebay_base::settings::Settings;
use forebay_client::message::cluster::{Report, ReportReply};
use forebay_client::message::handshake::Role;
use forebay_client::{Client, ClientConfig};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(3);
/// The quickest of these answers says most about the clocks.
const ASKED: usize = 3;

/// Asks all masters.
pub(crate) async fn ask(settings: &Settings) -> Vec<Master> {
    let mut masters = Vec::new();
    for address in &settings.cluster.masters {
        masters.push(Master { address: address.clone(), answer: ask_one(settings, address).await });
    }
    masters
}

async fn ask_one(settings: &Settings, address: &str) -> Result<Answer, KindError> {
    let mut config = ClientConfig::new(settings, Role::Admin)?;
    config.masters = vec![address.to_string()];
    // The port is what other hosts use: a socket of this host would hide that it is not reached.
    config.socket_dir = PathBuf::from("/nonexistent");
    config.rpc_timeout = config.rpc_timeout.min(PATIENCE);
    let client = Client::connect(config).await?;
    let mut best: Option<Answer> = None;
    for _ in 0..ASKED {
        let (wall, start) = (forebay_base::unix_now_ms(), Instant::now());
        let report = client.master(&Report::default()).await?;
        let round_trip_us = start.elapsed().as_micros() as u64;
        let half_ms = round_trip_us / 2_000;
        let skew_ms = report.unix_ms as i64 - (wall + half_ms) as i64;
        if best.as_ref().is_none_or(|best| round_trip_us < best.round_trip_us) {
            best = Some(answer(report, round_trip_us, skew_ms));
        }
    }
    best.ok_or_else(|| KindError::new(forebay_base::ErrorKind::Unavailable, "no answer"))
}

fn answer(report: ReportReply, round_trip_us: u64, skew_ms: i64) -> Answer {
    let workers = report
        .workers
        .into_iter()
        .map(|worker| WorkerSeen {
            id: worker.worker.worker_id,
            address: worker.worker.shards.into_iter().next().map_or_else(|| "-".into(), |shard| shard.tcp),
            live: worker.live,
            silent_ms: worker.silent_ms,
            troubles: worker
                .tiers
                .into_iter()
                .filter(|tier| !tier.trouble.is_empty())
                .map(|tier| (tier.directory, tier.trouble))
                .collect(),
        })
        .collect();
    let mounts = report.mounts.len();
    let mounts_in_trouble = report
        .mounts
        .into_iter()
        .filter(|mount| !mount.trouble.is_empty())
        .map(|mount| (mount.path, mount.uri, mount.trouble))
        .collect();
    Answer { cluster_id: report.cluster_id, round_trip_us, skew_ms, workers, mounts_in_trouble, mounts }
}
