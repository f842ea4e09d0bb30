//! Work on whole files at their owning cores: verify, evict, and asking what is cached.

use crate::client::Inner;
use crate::open_file::OpenFile;
use crate::read_path::Piece;
use crate::retry::{Backoff, Verdict, verdict};
use forebay_base::{BlockIndex, ErrorKind, FileId, KindError, ShardId, Version, WorkerId, limits, placement};
use forebay_net::Message;
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::message::data::{
    BlockBytes, CacheStatus, CachedBlocks, CachedBytes, Evict, Explain, ExplainReply, Verify, VerifyReply,
};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What one `Verify` call asks for: progress is seen in these steps.
const STEP_BYTES: u64 = 16 << 20;
const STEPS_AT_ONCE: usize = 4;
const TICKET_TRIES: u32 = 3;

fn steps_of(size: u64, block_bytes: u64) -> impl Iterator<Item = Piece> {
    let mut next = 0;
    std::iter::from_fn(move || {
        if next >= size {
            return None;
        }
        let block_end = (next / block_bytes).saturating_add(1).saturating_mul(block_bytes);
        let stop = size.min(block_end).min(next.saturating_add(STEP_BYTES));
        let step = Piece { offset: next, length: (stop - next) as u32 };
        next = stop;
        Some(step)
    })
}

/// Compares what the owners hold of a file with the store. `progress` hears of bytes as steps end.
pub(crate) async fn verify(
    inner: &Arc<Inner>,
    file: &OpenFile,
    mut progress: impl FnMut(u64),
) -> Result<VerifyReply, KindError> {
    let attr = file.attr();
    let step_of = |step: Piece| async move {
        let request = |ticket| Verify { ticket, offset: step.offset, length: u64::from(step.length) };
        owner_step(inner, file, step, request).await
    };
    let steps = steps_of(attr.size, attr.block_bytes);
    let mut running = futures::stream::iter(steps).map(step_of).buffer_unordered(STEPS_AT_ONCE);
    let mut total = VerifyReply::default();
    while let Some(done) = running.next().await {
        let done = done?;
        total.equal_bytes += done.equal_bytes;
        total.different_bytes += done.different_bytes;
        total.uncached_bytes += done.uncached_bytes;
        progress(done.equal_bytes + done.different_bytes + done.uncached_bytes);
    }
    Ok(total)
}

/// Sends one step of work on a file to the core that owns it, with a valid ticket, until one worker has done it.
async fn owner_step<M: Message>(
    inner: &Arc<Inner>,
    file: &OpenFile,
    step: Piece,
    request: impl Fn(Vec<u8>) -> M,
) -> Result<M::Reply, KindError> {
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
                let request = request(ticket.to_vec());
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
                "{:?}: no worker did it for file {} at {}+{} within {:?}: {error}",
                M::OP,
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
        ask_worker(inner, worker, files, &mut sums).await?;
    }
    Ok(sums)
}

/// Adds what one worker holds to `sums`. False when it could not be reached.
async fn ask_worker(
    inner: &Arc<Inner>,
    worker: &WorkerInfo,
    files: &[(FileId, Version)],
    sums: &mut [CachedBytes],
) -> Result<bool, KindError> {
    for (shard, mine) in by_shard(worker, files.iter().enumerate().map(|(index, (file, _))| (*file, index))) {
        for batch in mine.chunks(limits::BATCH_MAX) {
            let files = batch.iter().map(|(file, index)| (file.0, files[*index].1.0)).collect();
            let reply = match call_shard(inner, worker, shard, &CacheStatus { files }, inner.config.rpc_timeout).await {
                Ok(reply) => reply,
                Err(Called { error, answered: false }) => {
                    tracing::debug!(worker = worker.worker_id, %error, "worker not asked what it holds");
                    return Ok(false);
                }
                Err(Called { error, .. }) => return Err(error),
            };
            for ((_, index), held) in batch.iter().zip(reply.files) {
                sums[*index] += held;
            }
        }
    }
    Ok(true)
}

/// What each worker that answers holds of files, in the order asked.
pub(crate) async fn cached_by_worker(
    inner: &Arc<Inner>,
    files: &[(FileId, Version)],
) -> Result<Vec<(WorkerId, Vec<CachedBytes>)>, KindError> {
    let placed = inner.map.get();
    let mut all = Vec::new();
    for worker in placed.map.workers.iter().filter(|worker| !worker.shards.is_empty()) {
        let mut sums = vec![CachedBytes::default(); files.len()];
        if ask_worker(inner, worker, files, &mut sums).await? {
            all.push((WorkerId(worker.worker_id), sums));
        }
    }
    Ok(all)
}

/// What each worker that answers holds of one file, block by block.
pub(crate) async fn cached_blocks(
    inner: &Arc<Inner>,
    file: FileId,
    version: Version,
) -> Result<Vec<(WorkerId, Vec<BlockBytes>)>, KindError> {
    let placed = inner.map.get();
    let mut all = Vec::new();
    for worker in placed.map.workers.iter().filter(|worker| !worker.shards.is_empty()) {
        let (mut blocks, mut first_block) = (Vec::new(), 0);
        loop {
            let request = CachedBlocks { file_id: file.0, version: version.0, first_block };
            match call_shard(inner, worker, shard_at(worker, file), &request, inner.config.rpc_timeout).await {
                Ok(reply) => {
                    let last = reply.blocks.last().map(|held| held.block);
                    blocks.extend(reply.blocks);
                    match last {
                        Some(last) if !reply.end => first_block = last.saturating_add(1),
                        _ => break,
                    }
                }
                Err(Called { answered: false, .. }) => break,
                Err(Called { error, .. }) => return Err(error),
            }
        }
        all.push((WorkerId(worker.worker_id), blocks));
    }
    Ok(all)
}

/// What each worker that answers knows of one file.
pub(crate) async fn explain(
    inner: &Arc<Inner>,
    file: FileId,
    version: Version,
) -> Result<Vec<(WorkerId, ExplainReply)>, KindError> {
    let placed = inner.map.get();
    let mut all = Vec::new();
    for worker in placed.map.workers.iter().filter(|worker| !worker.shards.is_empty()) {
        let request = Explain { file_id: file.0, version: version.0 };
        match call_shard(inner, worker, shard_at(worker, file), &request, inner.config.rpc_timeout).await {
            Ok(reply) => all.push((WorkerId(worker.worker_id), reply)),
            Err(Called { answered: false, .. }) => {}
            Err(Called { error, .. }) => return Err(error),
        }
    }
    Ok(all)
}

/// Workers for a block, the owner first, with the core that serves the file there and its address.
pub(crate) fn owners(inner: &Inner, file: FileId, block: BlockIndex) -> Vec<(WorkerId, ShardId, String)> {
    let placed = inner.map.get();
    let ranked = placed.ranked(file, block).into_iter();
    let place = |id: WorkerId| {
        let worker = placed.worker(id)?;
        let shard = shard_at(worker, file);
        Some((id, shard, worker.shards.get(usize::from(shard.0))?.tcp.clone()))
    };
    ranked.filter_map(place).collect()
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

/// Asks a worker's first core.
pub(crate) async fn call_first_shard<M: Message>(
    inner: &Inner,
    worker: &WorkerInfo,
    request: &M,
) -> Result<M::Reply, KindError> {
    let patience = inner.config.rpc_timeout;
    call_shard(inner, worker, ShardId(0), request, patience).await.map_err(|called| called.error)
}
