//! How a range becomes bytes: split at blocks, ask the owning core, go on to the next worker in rank when it fails.
//!
//! Invariant: what is returned is exactly the asked range of exactly the granted version, checked against its
//! checksums when it crossed a network.

use crate::client::Inner;
use crate::grant::Grant;
use crate::lane::Link;
use crate::metrics::source_index;
use crate::retry::{Backoff, Verdict, verdict};
use bytes::Bytes;
use forebay_base::{BlockIndex, ErrorKind, KindError, WorkerId, limits, placement, unit_checksums};
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::message::data::{Read, ReadItem, ReadReply};
use forebay_net::message::namespace::Recheck;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A range inside one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// Splits a range, cut at the end of the file, at block boundaries and at what one reply may carry.
pub(crate) fn pieces(size: u64, block_bytes: u64, offset: u64, length: u32) -> impl Iterator<Item = Piece> {
    let end = offset.saturating_add(u64::from(length)).min(size);
    let mut next = offset;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let block_end = (next / block_bytes).saturating_add(1).saturating_mul(block_bytes);
        let stop = end.min(block_end).min(next.saturating_add(u64::from(limits::PAYLOAD_BYTES_MAX)));
        let piece = Piece { offset: next, length: (stop - next) as u32 };
        next = stop;
        Some(piece)
    })
}

/// Whose fault a failed try was.
enum Failure {
    /// The way to the worker or the worker itself.
    Worker(KindError),
    /// The worker answered, for this item.
    Item(KindError),
}

/// How long a read has waited for the store, and how long one worker has to answer.
#[derive(Clone, Copy)]
struct Waits {
    waited: Duration,
    patience: Duration,
}

/// Times a worker may answer with an error of its own before the caller hears of it.
const ITEM_FAILURES_MAX: u32 = 2;
/// Longest a reader of a changed file waits for the master to see the change too.
const RECHECK_WAIT: Duration = Duration::from_secs(2);

/// Reads one piece, whatever worker it takes.
pub(crate) async fn read_piece(inner: &Arc<Inner>, grant: &Arc<Grant>, piece: Piece) -> Result<Bytes, KindError> {
    if let Some(error) = grant.just_failed(piece.offset) {
        return Err(error);
    }
    let result = seek_worker(inner, grant, piece).await;
    if let Err(error) = &result {
        let counters = inner.metrics.here();
        counters.failed_reads.add(1);
        counters.stale_reads.add(u64::from(error.kind == ErrorKind::Stale));
    }
    if let Err(error) = &result
        && error.kind == ErrorKind::Unavailable
    {
        grant.set_failed(piece.offset, piece.length, error);
    }
    result
}

async fn seek_worker(inner: &Arc<Inner>, grant: &Arc<Grant>, piece: Piece) -> Result<Bytes, KindError> {
    let mut backoff = Backoff::new(inner.patience());
    let block = BlockIndex((piece.offset / grant.attr().block_bytes).min(u64::from(u32::MAX)) as u32);
    // Waiting for the store counts at every worker; waiting for a worker does not.
    let (mut item_failures, mut waited) = (0, Duration::ZERO);
    grant.ticket(inner).await?;
    let mut last = KindError::new(ErrorKind::Unavailable, "the cluster has no worker");
    loop {
        let placed = inner.map.get();
        let mut ranked = placed.ranked(grant.file_id(), block);
        inner.workers.suspects_last(&mut ranked);
        let others = ranked.len() > 1;
        for worker in ranked.iter().filter_map(|id| placed.worker(*id)) {
            let patience = backoff.remaining().min(inner.config.rpc_timeout * 3 / 2);
            if patience.is_zero() {
                break;
            }
            let began = Instant::now();
            match try_worker(inner, grant, piece, worker, Waits { waited, patience }).await {
                Ok(bytes) => {
                    inner.set_outage(false);
                    return Ok(bytes);
                }
                Err(Failure::Item(error)) => match verdict(error.kind) {
                    Verdict::Elsewhere if matches!(error.kind, ErrorKind::Overloaded | ErrorKind::Closed) => {
                        last = error;
                    }
                    Verdict::Elsewhere => {
                        item_failures += 1;
                        waited += began.elapsed();
                        if item_failures >= ITEM_FAILURES_MAX || !others {
                            return Err(error);
                        }
                        last = error;
                    }
                    Verdict::Final | Verdict::Ticket => {
                        if error.kind == ErrorKind::Stale {
                            grant.mark_stale(&error.message);
                            check_now(inner, grant).await;
                        }
                        return Err(error);
                    }
                },
                Err(Failure::Worker(error)) => {
                    tracing::debug!(worker = worker.worker_id, %error, "worker failed, trying the next one");
                    inner.workers.suspect(WorkerId(worker.worker_id));
                    inner.metrics.here().failovers.add(1);
                    last = error;
                }
            }
        }
        inner.refresh_map(backoff.remaining().min(Duration::from_secs(1))).await;
        if !backoff.wait().await {
            inner.set_outage(true);
            let message = format!(
                "no worker served file {} at {}+{} within {:?}: {last}",
                grant.attr().file_id,
                piece.offset,
                piece.length,
                inner.config.io_timeout
            );
            return Err(KindError::new(ErrorKind::Unavailable, message));
        }
        inner.metrics.here().read_retries.add(1);
    }
}

/// The store's content is another one: the master is to look at once, so that the next open gets the new version and
/// not this one again until the mount's freshness ends.
async fn check_now(inner: &Arc<Inner>, grant: &Arc<Grant>) {
    let request = Recheck { file_ids: vec![grant.file_id().0] };
    match tokio::time::timeout(RECHECK_WAIT, inner.masters.call(&request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(file_id = grant.file_id().0, %error, "the master could not check the file"),
        Err(_) => tracing::debug!(file_id = grant.file_id().0, "the master still checks the file"),
    }
}

async fn try_worker(
    inner: &Arc<Inner>,
    grant: &Arc<Grant>,
    piece: Piece,
    worker: &WorkerInfo,
    waits: Waits,
) -> Result<Bytes, Failure> {
    let shards = u16::try_from(worker.shards.len()).unwrap_or(u16::MAX);
    let shard = placement::shard_of(grant.file_id(), shards);
    let identity = inner.masters.identity();
    let mut ticket = grant.ticket(inner).await.map_err(Failure::Item)?;
    let link = inner.workers.link(worker, shard, &identity).await.map_err(Failure::Worker)?;
    // The first try leaves the ticket out where the connection knows it; then it is sent; then it is renewed and sent.
    let mut must_present = false;
    for attempt in 0..3 {
        let present = must_present || !grant.was_presented(link.serial, &ticket);
        inner.metrics.here().tickets_presented.add(u64::from(present));
        let error = match ask(inner, grant, piece, &link, present.then_some(&ticket[..]), waits).await {
            Ok(bytes) => {
                if present {
                    grant.set_presented(link.serial, &ticket, true);
                }
                return Ok(bytes);
            }
            Err(Failure::Item(error)) if error.kind == ErrorKind::TicketRequired => error,
            Err(failure) => return Err(failure),
        };
        grant.set_presented(link.serial, &ticket, false);
        if present {
            if attempt == 2 {
                return Err(Failure::Item(error));
            }
            grant.renew(inner, &ticket).await.map_err(Failure::Item)?;
            ticket = grant.ticket(inner).await.map_err(Failure::Item)?;
        }
        must_present = true;
    }
    let message = format!("worker {} refused a fresh ticket", worker.worker_id);
    Err(Failure::Item(KindError::new(ErrorKind::TicketRequired, message)))
}

async fn ask(
    inner: &Inner,
    grant: &Grant,
    piece: Piece,
    link: &Link,
    ticket: Option<&[u8]>,
    waits: Waits,
) -> Result<Bytes, Failure> {
    let item = ReadItem {
        file_id: grant.attr().file_id,
        version: grant.attr().version,
        offset: piece.offset,
        length: piece.length,
        ticket: ticket.map(<[u8]>::to_vec).unwrap_or_default(),
    };
    let want_checksums = inner.config.verify && !link.is_unix;
    let waited_ms = u32::try_from(waits.waited.as_millis()).unwrap_or(u32::MAX);
    let request = Read { items: vec![item], want_checksums, waited_ms };
    let began = Instant::now();
    let (reply, payload) = match link.connection.call_payload(&request, waits.patience).await {
        Ok(answer) => answer,
        // An answer of that kind on a live connection is the worker's own word about this request.
        Err(error) if verdict(error.kind) != Verdict::Elsewhere => return Err(Failure::Item(error)),
        Err(error) => return Err(Failure::Worker(error)),
    };
    let counters = inner.metrics.here();
    match check(&reply, &payload, piece, want_checksums) {
        Ok(()) => {
            let source = source_index(reply.results.first().map_or(0, |result| result.source));
            counters.read_seconds.at(source).record_since(began);
            counters.read_bytes.at(source).add(payload.len() as u64);
            Ok(payload)
        }
        Err(error) if error.kind == ErrorKind::Corrupt => {
            counters.corrupt_replies.add(1);
            Err(Failure::Worker(error))
        }
        Err(error) => Err(Failure::Item(error)),
    }
}

/// Holds an answer to what was asked.
fn check(reply: &ReadReply, payload: &Bytes, piece: Piece, want_checksums: bool) -> Result<(), KindError> {
    let corrupt = |message: String| Err(KindError::new(ErrorKind::Corrupt, message));
    let [result] = &reply.results[..] else {
        return corrupt(format!("read: got {} results, want 1", reply.results.len()));
    };
    if result.status != 0 {
        let kind = ErrorKind::from_code(result.status).unwrap_or(ErrorKind::Internal);
        return Err(KindError::new(kind, result.message.clone()));
    }
    if payload.len() != piece.length as usize || result.length != piece.length {
        return corrupt(format!("read: got {} bytes, want {}", payload.len(), piece.length));
    }
    if want_checksums && !unit_checksums(payload).eq(reply.checksums.iter().copied()) {
        return corrupt(format!("read: {} bytes do not match their checksums", payload.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::data::{ReadResult, SOURCE_MEM};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_cover_the_range_and_stay_in_their_block(
            size in 0u64..40 << 20, block in 1u64..20 << 20, offset in 0u64..50 << 20, length in 0u32..30 << 20,
        ) {
            // Small blocks with long ranges make too many pieces to look at.
            prop_assume!(u64::from(length) / block < 10_000);
            let mut next = offset;
            for piece in pieces(size, block, offset, length) {
                prop_assert_eq!(piece.offset, next);
                prop_assert!(piece.length > 0 && piece.length <= limits::PAYLOAD_BYTES_MAX);
                let end = piece.offset + u64::from(piece.length);
                prop_assert_eq!(piece.offset / block, (end - 1) / block);
                next = end;
            }
            let end = size.min(offset + u64::from(length));
            prop_assert_eq!(next, end.max(offset));
        }
    }

    #[test]
    fn the_last_offset_does_not_overflow() {
        assert_eq!(pieces(u64::MAX, 256 << 20, u64::MAX - 3, 9).map(|piece| piece.length).sum::<u32>(), 3);
    }

    #[test]
    fn answers_are_held_to_what_was_asked() {
        let payload = Bytes::from(vec![7u8; 5000]);
        let result = ReadResult { status: 0, length: 5000, source: SOURCE_MEM, message: String::new() };
        let mut reply = ReadReply { results: vec![result], checksums: unit_checksums(&payload).collect() };
        let piece = Piece { offset: 0, length: 5000 };
        assert!(check(&reply, &payload, piece, true).is_ok());
        assert!(check(&reply, &payload.slice(1..), piece, false).is_err());
        reply.checksums[1] ^= 1;
        assert_eq!(check(&reply, &payload, piece, true).unwrap_err().kind, ErrorKind::Corrupt);
        assert!(check(&reply, &payload, piece, false).is_ok());
        reply.results[0].status = ErrorKind::Stale.code();
        assert_eq!(check(&reply, &Bytes::new(), piece, true).unwrap_err().kind, ErrorKind::Stale);
        reply.results.clear();
        assert!(check(&reply, &payload, piece, true).is_err());
    }
}
