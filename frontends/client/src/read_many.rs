//! Whole small files, many in one request to each core: what a program that walks a directory will ask for next.
//!
//! Invariant: what is returned is exactly the granted version's bytes. A file that cannot be had this way at once is
//! left out, and its reader asks for it alone, with all the patience of `read_path`.

use crate::client::Inner;
use crate::grant::Grant;
use bytes::Bytes;
use forebay_base::{BlockIndex, ErrorKind, KindError, ShardId, WorkerId, limits, placement, unit_checksums};
use forebay_net::message::data::{Read, ReadItem, ReadReply};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads all of each file; none in place of those that were left out. The sizes together must fit into one reply.
pub(crate) async fn read_whole(inner: &Arc<Inner>, grants: &[Arc<Grant>]) -> Vec<Option<Bytes>> {
    let placed = inner.map.get();
    let mut groups: BTreeMap<(WorkerId, ShardId), Vec<usize>> = BTreeMap::new();
    for (index, grant) in grants.iter().enumerate() {
        let mut ranked = placed.ranked(grant.file_id(), BlockIndex(0));
        inner.workers.suspects_last(&mut ranked);
        if let Some(worker) = ranked.first().and_then(|id| placed.worker(*id)) {
            let shards = u16::try_from(worker.shards.len()).unwrap_or(u16::MAX);
            let shard = placement::shard_of(grant.file_id(), shards);
            groups.entry((WorkerId(worker.worker_id), shard)).or_default().push(index);
        }
    }
    let asked = groups.into_iter().map(|((worker, shard), members)| async move {
        let wanted: Vec<&Arc<Grant>> = members.iter().map(|index| &grants[*index]).collect();
        let answer = ask(inner, worker, shard, &wanted).await;
        (members, answer)
    });
    let mut files = vec![None; grants.len()];
    for (members, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(contents) => members.into_iter().zip(contents).for_each(|(index, content)| files[index] = content),
            Err(error) => tracing::debug!(%error, "files were not read together"),
        }
    }
    files
}

async fn ask(
    inner: &Arc<Inner>,
    worker: WorkerId,
    shard: ShardId,
    grants: &[&Arc<Grant>],
) -> Result<Vec<Option<Bytes>>, KindError> {
    let placed = inner.map.get();
    let Some(worker) = placed.worker(worker) else { return Ok(vec![None; grants.len()]) };
    let link = inner.workers.link(worker, shard, &inner.masters.identity()).await?;
    let mut tickets = Vec::with_capacity(grants.len());
    let mut items = Vec::with_capacity(grants.len());
    for grant in grants {
        let ticket = grant.ticket(inner).await?;
        let attr = grant.attr();
        let present = !grant.was_presented(link.serial, &ticket);
        items.push(ReadItem {
            file_id: attr.file_id,
            version: attr.version,
            offset: 0,
            length: u32::try_from(attr.size).unwrap_or(u32::MAX),
            ticket: if present { ticket.to_vec() } else { Vec::new() },
        });
        tickets.push(present.then_some(ticket));
    }
    let lengths: Vec<u32> = items.iter().map(|item| item.length).collect();
    let want_checksums = inner.config.verify && !link.is_unix;
    let patience = inner.config.rpc_timeout.min(inner.config.io_timeout);
    let (reply, payload) =
        link.connection.call_payload(&Read { items, want_checksums, waited_ms: 0 }, patience).await?;
    let contents = split(&reply, &payload, &lengths, want_checksums)?;
    for ((grant, ticket), content) in grants.iter().zip(tickets).zip(&contents) {
        if let (Some(ticket), Some(_)) = (ticket, content) {
            grant.set_presented(link.serial, &ticket, true);
        }
    }
    Ok(contents)
}

/// Cuts an answer into the files that were asked for, whole or not at all.
fn split(
    reply: &ReadReply,
    payload: &Bytes,
    lengths: &[u32],
    want_checksums: bool,
) -> Result<Vec<Option<Bytes>>, KindError> {
    let corrupt = |message: String| KindError::new(ErrorKind::Corrupt, message);
    if reply.results.len() != lengths.len() {
        return Err(corrupt(format!("read: got {} results, want {}", reply.results.len(), lengths.len())));
    }
    if want_checksums && !unit_checksums(payload).eq(reply.checksums.iter().copied()) {
        return Err(corrupt(format!("read: {} bytes do not match their checksums", payload.len())));
    }
    let mut at = 0;
    let mut contents = Vec::with_capacity(lengths.len());
    for (result, length) in reply.results.iter().zip(lengths) {
        let end = at + result.length as usize;
        if end > payload.len() {
            return Err(corrupt(format!("read: got {} bytes, want at least {end}", payload.len())));
        }
        let whole = result.status == 0 && result.length == *length;
        contents.push(whole.then(|| payload.slice(at..end)));
        at = end;
    }
    if at != payload.len() {
        return Err(corrupt(format!("read: got {} bytes, want {at}", payload.len())));
    }
    Ok(contents)
}

/// Whether files of these sizes may be asked for together.
pub(crate) fn fits(total_bytes: u64, files: usize) -> bool {
    total_bytes <= u64::from(limits::PAYLOAD_BYTES_MAX) && files <= limits::BATCH_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::data::{ReadResult, SOURCE_MEM};

    fn result(status: u16, length: u32) -> ReadResult {
        ReadResult { status, length, source: SOURCE_MEM, message: String::new() }
    }

    #[test]
    fn each_file_gets_its_own_bytes_or_none() {
        let payload = Bytes::from_static(b"aabbbcc");
        let results = vec![result(0, 2), result(ErrorKind::Stale.code(), 0), result(0, 3), result(0, 2)];
        let reply = ReadReply { results, checksums: unit_checksums(&payload).collect() };
        let files = split(&reply, &payload, &[2, 9, 3, 4], true).expect("a good answer");
        let want = [Some(&b"aa"[..]), None, Some(b"bbb"), None];
        assert_eq!(files.iter().map(Option::as_deref).collect::<Vec<_>>(), want);
    }

    #[test]
    fn answers_that_do_not_add_up_are_refused() {
        let payload = Bytes::from_static(b"aabbb");
        let reply = |results| ReadReply { results, checksums: vec![1] };
        let refused = |reply: &ReadReply, lengths: &[u32], sums| {
            assert_eq!(split(reply, &payload, lengths, sums).expect_err("wrong").kind, ErrorKind::Corrupt);
        };
        refused(&reply(vec![result(0, 5)]), &[2, 3], false);
        refused(&reply(vec![result(0, 2)]), &[2], false);
        refused(&reply(vec![result(0, 2), result(0, 4)]), &[2, 4], false);
        refused(&reply(vec![result(0, 2), result(0, 3)]), &[2, 3], true);
        assert!(fits(8 << 20, 4096) && !fits((8 << 20) + 1, 2) && !fits(1, 4097));
    }
}
