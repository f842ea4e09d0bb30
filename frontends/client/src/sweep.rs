//! Work on whole files at their owning cores: load, evict, and asking what is cached.

use crate::client::Inner;
use crate::open_file::OpenFile;
use crate::read_path::Piece;
use crate::retry::{Backoff, Verdict, verdict};
use forebay_base::{BlockIndex, ErrorKind, FileId, KindError, ShardId, Version, WorkerId, limits, placement};
use forebay_net::Message;
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::message::data::{CacheStatus, CachedBytes, Evict, Load, LoadReply};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What one `Load` call asks for: progress is seen in these steps.
const LOAD_STEP_BYTES: u64 = 16 << 20;
const LOADS_AT_ONCE: usize = 4;
const TICKET_TRIES: u32 = 3;

/// Loads all of a file, each block at its owner. `progress` hears of (fetched, already cached) bytes as steps end.
pub(crate) async fn load(
    inner: &Arc<Inner>,
    file: &OpenFile,
    mut progress: impl FnMut(u64, u64),
) -> Result<LoadReply, KindError> {
    let attr = file.attr();
    let steps = load_steps(attr.size, attr.block_bytes);
    let mut running =
        futures::stream::iter(steps).map(|step| load_step(inner, file, step)).buffer_unordered(LOADS_AT_ONCE);
    let mut total = LoadReply { fetched_bytes: 0, cached_bytes: 0 };
    while let Some(done) = running.next().await {
        let done = done?;
        total.fetched_bytes += done.fetched_bytes;
        total.cached_bytes += done.cached_bytes;
        progress(done.fetched_bytes, done.cached_bytes);
    }
    Ok(total)
}

fn load_steps(size: u64, block_bytes: u64) -> impl Iterator<Item = Piece> {
    let mut next = 0;
    std::iter::from_fn(move || {
        if next >= size {
            return None;
        }
        let block_end = (next / block_bytes).saturating_add(1).saturating_mul(block_bytes);
        let stop = size.min(block_end).min(next.saturating_add(LOAD_STEP_BYTES));
        let step = Piece { offset: next, length: (stop - next) as u32 };
        next = stop;
        Some(step)
    })
}

async fn load_step(inner: &Arc<Inner>, file: &OpenFile, step: Piece) -> Result<LoadReply, KindError> {
    let grant = &file.grant;
    let mut backoff = Backoff::new(inner.config.io_timeout);
    let block = BlockIndex((step.offset / grant.attr().block_bytes).min(u64::from(u32::MAX)) as u32);
    let mut ticket_tries = 0;
    loop {
        let placed = inner.map.get();
        let mut ranked = placed.ranked(grant.file_id(), block);
        inner.workers.suspects_last(&mut ranked);
        let error = match ranked.first().and_then(|id| placed.worker(*id)) {
            None => KindError::new(ErrorKind::Unavailable, "the cluster has no worker"),
            Some(worker) => {
                let ticket = grant.ticket(inner).await?;
                let request = Load { ticket: ticket.to_vec(), offset: step.offset, length: u64::from(step.length) };
                // A slow store may take long for 16 MiB; the worker's own deadlines end it before this one does.
                let patience = inner.config.io_timeout.max(inner.config.rpc_timeout) * 4;
                match call_shard(inner, worker, shard_at(worker, grant.file_id()), &request, patience).await {
                    Ok(reply) => return Ok(reply),
                    Err(Called { error, answered: true }) if error.kind == ErrorKind::TicketRequired => {
                        ticket_tries += 1;
                        if ticket_tries == TICKET_TRIES {
                            return Err(error);
                        }
                        grant.renew(inner, &ticket).await?;
                        continue;
                    }
                    Err(Called { error, answered: true })
                        if !matches!(error.kind, ErrorKind::Overloaded | ErrorKind::Closed) =>
                    {
                        return Err(error);
                    }
                    Err(Called { error, .. }) if verdict(error.kind) == Verdict::Final => return Err(error),
                    Err(Called { error, answered }) => {
                        if !answered {
                            inner.workers.suspect(WorkerId(worker.worker_id));
                        }
                        error
                    }
                }
            }
        };
        inner.refresh_map(Duration::from_secs(1)).await;
        if !backoff.wait().await {
            let message = format!(
                "no worker loaded file {} at {}+{} within {:?}: {error}",
                grant.attr().file_id,
                step.offset,
                step.length,
                inner.config.io_timeout
            );
            return Err(KindError::new(ErrorKind::Unavailable, message));
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_steps_cover_the_file_and_stay_in_their_block() {
        let steps: Vec<Piece> = load_steps(50 << 20, 20 << 20).collect();
        let mib = |n: u64| n << 20;
        let want = [(0, 16), (16, 4), (20, 16), (36, 4), (40, 10)];
        let want: Vec<Piece> =
            want.iter().map(|(at, len)| Piece { offset: mib(*at), length: mib(*len) as u32 }).collect();
        assert_eq!(steps, want);
        assert_eq!(load_steps(0, 20).count(), 0);
    }
}
