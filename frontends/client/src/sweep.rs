//! Work on whole files at their owning cores: evict, and asking what is cached.

use crate::client::Inner;
use forebay_base::{FileId, KindError, ShardId, Version, limits, placement};
use forebay_net::Message;
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::message::data::{CacheStatus, CachedBytes, Evict};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Drops files from every worker. All workers are tried; the first failure is reported.
pub(crate) async fn evict(inner: &Arc<Inner>, files: &[FileId]) -> Result<u64, KindError> {
    let placed = inner.map.get();
    let mut freed = 0;
    let mut failed = None;
    for worker in placed.map.workers.iter().filter(|worker| !worker.shards.is_empty()) {
        for (shard, mine) in by_shard(worker, files.iter().map(|file| (*file, file.0))) {
            for batch in mine.chunks(limits::BATCH_MAX) {
                let request = Evict { file_ids: batch.iter().map(|(_, id)| *id).collect() };
                match call_shard(inner, worker, shard, &request, inner.config.rpc_timeout).await {
                    Ok(reply) => freed += reply.freed_bytes,
                    Err(called) => failed = failed.or(Some(called.error)),
                }
            }
        }
    }
    failed.map_or(Ok(freed), Err)
}

/// What the workers hold of files, summed. A worker that cannot be reached counts as holding nothing.
pub(crate) async fn cached(inner: &Arc<Inner>, files: &[(FileId, Version)]) -> Result<Vec<CachedBytes>, KindError> {
    let placed = inner.map.get();
    let mut sums = vec![CachedBytes::default(); files.len()];
    for worker in placed.map.workers.iter().filter(|worker| !worker.shards.is_empty()) {
        for (shard, mine) in by_shard(worker, files.iter().enumerate().map(|(index, (file, _))| (*file, index))) {
            for batch in mine.chunks(limits::BATCH_MAX) {
                let files = batch.iter().map(|(file, index)| (file.0, files[*index].1.0)).collect();
                let reply =
                    match call_shard(inner, worker, shard, &CacheStatus { files }, inner.config.rpc_timeout).await {
                        Ok(reply) => reply,
                        Err(Called { error, answered: false }) => {
                            tracing::debug!(worker = worker.worker_id, %error, "worker not asked what it holds");
                            continue;
                        }
                        Err(Called { error, .. }) => return Err(error),
                    };
                for ((_, index), held) in batch.iter().zip(reply.files) {
                    sums[*index].mem_bytes += held.mem_bytes;
                    sums[*index].ssd_bytes += held.ssd_bytes;
                    sums[*index].any_bytes += held.any_bytes;
                }
            }
        }
    }
    Ok(sums)
}

fn shard_at(worker: &WorkerInfo, file: FileId) -> ShardId {
    placement::shard_of(file, u16::try_from(worker.shards.len()).unwrap_or(u16::MAX))
}

fn by_shard<T>(worker: &WorkerInfo, files: impl Iterator<Item = (FileId, T)>) -> BTreeMap<ShardId, Vec<(FileId, T)>> {
    let mut groups: BTreeMap<ShardId, Vec<(FileId, T)>> = BTreeMap::new();
    for (file, value) in files {
        groups.entry(shard_at(worker, file)).or_default().push((file, value));
    }
    groups
}

/// A failed call: whether the worker itself said so, or nobody answered.
struct Called {
    error: KindError,
    answered: bool,
}

async fn call_shard<M: Message>(
    inner: &Inner,
    worker: &WorkerInfo,
    shard: ShardId,
    request: &M,
    patience: Duration,
) -> Result<M::Reply, Called> {
    let identity = inner.masters.identity();
    let link = match inner.workers.link(worker, shard, &identity).await {
        Ok(link) => link,
        Err(error) => return Err(Called { error, answered: false }),
    };
    match link.connection.call(request, patience).await {
        Ok(reply) => Ok(reply),
        Err(error) => Err(Called { error, answered: !link.connection.is_closed() }),
    }
}
