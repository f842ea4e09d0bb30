//! Membership, the cluster map, the feed of dead versions, and the operator's report.

use super::message;
use super::namespace::MountInfo;
use rkyv::{Archive, Deserialize, Serialize};

/// How to reach one shard.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ShardAddress {
    /// `host:port`.
    pub tcp: String,
    /// Unix socket, usable by clients whose host id equals the worker's.
    pub unix: String,
}

/// A worker in the map.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct WorkerInfo {
    /// `WorkerId`.
    pub worker_id: u64,
    /// Placement weight.
    pub weight: u32,
    /// `/etc/machine-id` and boot id, hashed: equal on one host only.
    pub host_id: u64,
    /// One per core; the index is the `ShardId`.
    pub shards: Vec<ShardAddress>,
}

/// The map: who owns what follows from it by `base::placement`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ClusterMap {
    /// Grows with each change.
    pub epoch: u64,
    /// The cluster.
    pub cluster_id: u128,
    /// How often its state was restored.
    pub incarnation: u16,
    /// Ed25519 key that signs tickets.
    pub ticket_key: [u8; 32],
    /// In order of id.
    pub workers: Vec<WorkerInfo>,
}

/// Asks for the map.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct GetClusterMap {
    /// Always 0.
    pub reserved: u8,
}
message!(GetClusterMap => ClusterMap);

/// A worker joins (role Worker).
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct RegisterWorker {
    /// Itself.
    pub worker: WorkerInfo,
    /// The cluster its directories belong to; 0 if they are new.
    pub cluster_id: u128,
}
message!(RegisterWorker => ClusterMap);

/// One tier directory (MEM has the name "MEM").
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct TierUsage {
    /// MEM, SSD or HDD.
    pub tier: String,
    /// Path, or empty for memory.
    pub directory: String,
    /// Bytes it may hold.
    pub capacity_bytes: u64,
    /// Bytes it holds.
    pub used_bytes: u64,
    /// Bytes that pins keep from leaving it.
    pub pinned_bytes: u64,
    /// Bytes that leases of whole files keep from leaving it, and of files that somebody reads on without a name.
    pub leased_bytes: u64,
    /// Empty when healthy, else why it is out of use.
    pub trouble: String,
}

/// What a worker has done since it started.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct WorkerCounters {
    /// Bytes served from memory.
    pub mem_hit_bytes: u64,
    /// Bytes served from SSD.
    pub ssd_hit_bytes: u64,
    /// Bytes served from HDD.
    pub hdd_hit_bytes: u64,
    /// Bytes served that had to be fetched.
    pub miss_bytes: u64,
    /// Bytes read from stores.
    pub store_read_bytes: u64,
    /// Pages evicted.
    pub evicted_pages: u64,
    /// Units whose checksum was wrong.
    pub corrupt_units: u64,
    /// Requests that arrived at the wrong core.
    pub misrouted_requests: u64,
    /// Resident memory of the process, bytes.
    pub resident_bytes: u64,
}

/// A worker reports, each second.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// `WorkerId`.
    pub worker_id: u64,
    /// Its tiers.
    pub tiers: Vec<TierUsage>,
    /// Its counters.
    pub counters: WorkerCounters,
    /// How far it has read the feed.
    pub feed_position: u64,
}

/// A file whose cached content is dead: (`FileId`, live `Version`, or 0 when the file is gone).
pub type FeedEvent = (u64, u64);

/// Answers `Heartbeat`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatReply {
    /// The map's epoch.
    pub epoch: u64,
    /// False when the master does not know this worker: register again.
    pub known: bool,
    /// Events behind the reported position, oldest first; at most `limits::BATCH_MAX`.
    pub events: Vec<FeedEvent>,
    /// Position after these events.
    pub feed_position: u64,
    /// The worker was too far behind: it must ask `LiveVersions` for all that it holds, then go on from `feed_position`.
    pub feed_reset: bool,
    /// (`MountId`, generation) of the mounts that exist; data of others is dead and their store connections are closed. With
    /// another generation the store has other options and is opened again.
    pub mounts: Vec<(u32, u32)>,
}
message!(Heartbeat => HeartbeatReply);

/// Live versions of files (role Worker).
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct LiveVersions {
    /// `FileId`s, at most `limits::BATCH_MAX`.
    pub file_ids: Vec<u64>,
}

/// Answers `LiveVersions`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct LiveVersionsReply {
    /// The live `Version` of each, 0 when gone, in the order asked.
    pub versions: Vec<u64>,
}
message!(LiveVersions => LiveVersionsReply);

/// How to reach a mount's store (role Worker).
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct GetMountStore {
    /// `MountId`.
    pub mount_id: u32,
}

/// Answers `GetMountStore`. Holds secrets: never logged, never sent to a frontend.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq)]
pub struct MountStore {
    /// The store's URI.
    pub uri: String,
    /// Options with secrets.
    pub options: Vec<(String, String)>,
}
message!(GetMountStore => MountStore);

/// Asks for the report.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Always 0.
    pub reserved: u8,
}

/// A worker in the report.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct WorkerReport {
    /// Who and where.
    pub worker: WorkerInfo,
    /// Whether it is in the map now.
    pub live: bool,
    /// Milliseconds since its last heartbeat.
    pub silent_ms: u64,
    /// Its tiers, as last reported.
    pub tiers: Vec<TierUsage>,
    /// Its counters, as last reported.
    pub counters: WorkerCounters,
}

/// Answers `Report`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ReportReply {
    /// The cluster.
    pub cluster_id: u128,
    /// The map's epoch.
    pub epoch: u64,
    /// Known inodes.
    pub inodes: u64,
    /// Last applied journal index.
    pub journal_index: u64,
    /// Resident memory of the master, bytes.
    pub master_resident_bytes: u64,
    /// The master's wall clock when it answered.
    pub unix_ms: u64,
    /// Workers.
    pub workers: Vec<WorkerReport>,
    /// Mounts.
    pub mounts: Vec<MountInfo>,
}
message!(Report => ReportReply);

/// Shows or changes the log filter of the process that gets it (role Admin).
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct LogLevel {
    /// The new tracing filter; empty to show the one in force.
    pub filter: String,
}

/// Answers `LogLevel`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct LogLevelReply {
    /// The filter in force now.
    pub filter: String,
}
message!(LogLevel => LogLevelReply);
