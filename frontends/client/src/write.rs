//! Writing whole files: leave from the master, pieces to one worker, and the master's look at what came of it.
//!
//! Invariant: a file counts as written when a worker said that the store has all of it and the namespace knows it. What
//! fails on the way is begun again from its first byte, at another worker if there is one. Workers that have no room yet
//! have not failed: they are asked in turn until one has.

use crate::client::Inner;
use crate::lane::Link;
use crate::retry::{Backoff, Verdict, verdict};
use bytes::Bytes;
use forebay_base::{BlockIndex, ErrorKind, FileId, KindError, WorkerId, placement};
use forebay_net::message::namespace::Attr;
use forebay_net::message::write::{
    AbortUpload, BeginUpload, FinishUpload, GrantWrite, PIECE_BYTES_MAX, RecordWrite, UploadPiece,
};
use futures::StreamExt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Pieces of one file under way.
const PIECES_UNDER_WAY: usize = 4;
/// Times that a file is begun again after some of it was sent.
const TRIES: u32 = 4;
/// A store may have much to do before it has the whole file.
const FINISH_PATIENCE: Duration = Duration::from_secs(600);
/// How long workers may say that other uploads take all their room.
const ROOM_PATIENCE: Duration = Duration::from_secs(600);
/// A ticket that has less left is not presented again.
const TICKET_MARGIN: Duration = Duration::from_secs(10);

/// Where the bytes of a file come from: they can be had again.
pub trait WriteSource: Sync {
    /// Bytes of the whole file.
    fn size(&self) -> u64;

    /// `length` bytes from `offset` on, which lie inside the file.
    fn read_at(&self, offset: u64, length: usize) -> impl Future<Output = Result<Vec<u8>, KindError>> + Send;

    /// Asked when all was read: an error if it was not all of one content.
    fn check(&self) -> Result<(), KindError>;
}

/// What became of one try.
enum Failed {
    /// The same everywhere.
    Final(KindError),
    /// The worker has no room for it now.
    NoRoom(KindError),
    /// Another try may help.
    Again {
        error: KindError,
        /// Some of the file had been taken.
        begun: bool,
        /// The store may have the whole file all the same.
        perhaps_done: bool,
    },
}

impl Failed {
    fn of(error: KindError, answered: bool, begun: bool, perhaps_done: bool) -> Self {
        let again = !answered || verdict(error.kind) != Verdict::Final;
        if again { Failed::Again { error, begun, perhaps_done } } else { Failed::Final(error) }
    }
}

/// Writes a file; `progress` hears how many bytes of it are taken, from 0 again with each try.
pub(crate) async fn write_file<S: WriteSource>(
    inner: &Arc<Inner>,
    path: &[u8],
    overwrite: bool,
    source: &S,
    mut progress: impl FnMut(u64),
) -> Result<Attr, KindError> {
    let mut backoff = Backoff::new(inner.config.io_timeout);
    let mut room = Backoff::new(ROOM_PATIENCE);
    let (mut tries, mut perhaps_done, mut turn) = (0, false, 0);
    let mut leave: Option<(Vec<u8>, Instant)> = None;
    let judged = |error: KindError, perhaps_done: bool| {
        if error.kind != ErrorKind::Exists || !perhaps_done {
            return error;
        }
        let message = format!("{} now; whether this copy made it is not known: compare it", error.message);
        KindError::new(ErrorKind::Exists, message)
    };
    loop {
        let (ticket, until) = match leave.take().filter(|(_, until)| Instant::now() < *until) {
            Some(leave) => leave,
            None => {
                let asked = Instant::now();
                let granted = inner.masters.call(&GrantWrite { path: path.to_vec(), overwrite }).await;
                let granted = granted.map_err(|error| judged(error, perhaps_done))?;
                let life = Duration::from_millis(granted.ticket_life_ms);
                (granted.ticket, asked + life.saturating_sub(TICKET_MARGIN))
            }
        };
        let error = match try_once(inner, path, ticket.clone(), turn, source, &mut progress).await {
            Ok(()) => break,
            Err(Failed::Final(error)) => return Err(judged(error, perhaps_done)),
            Err(Failed::NoRoom(error)) => {
                if !room.wait().await {
                    let message = format!("no worker had room for it within {ROOM_PATIENCE:?}: {error}");
                    return Err(KindError::new(ErrorKind::Overloaded, message));
                }
                turn += 1;
                leave = Some((ticket, until));
                // Whoever says so is there.
                backoff = Backoff::new(inner.config.io_timeout);
                continue;
            }
            Err(Failed::Again { error, begun, perhaps_done: perhaps }) => {
                perhaps_done |= perhaps;
                turn = 0;
                if begun {
                    tries += 1;
                    backoff = Backoff::new(inner.config.io_timeout);
                    room = Backoff::new(ROOM_PATIENCE);
                }
                error
            }
        };
        progress(0);
        tracing::debug!(%error, tries, "a file is begun again");
        if tries >= TRIES {
            let message = format!("given up after {tries} tries: {error}");
            return Err(KindError::new(error.kind, message));
        }
        inner.refresh_map(Duration::from_secs(1)).await;
        if !backoff.wait().await {
            let message = format!("no worker took it within {:?}: {error}", inner.config.io_timeout);
            return Err(KindError::new(ErrorKind::Unavailable, message));
        }
    }
    inner.masters.call(&RecordWrite { path: path.to_vec() }).await.map_err(|error| {
        let message = format!("the store has it, but the namespace does not know it yet: {error}");
        KindError::new(error.kind, message)
    })
}

async fn try_once<S: WriteSource>(
    inner: &Arc<Inner>,
    path: &[u8],
    ticket: Vec<u8>,
    turn: usize,
    source: &S,
    progress: &mut impl FnMut(u64),
) -> Result<(), Failed> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let upload_id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let (worker, link) = link(inner, path, turn).await?;
    let size = source.size();
    let lost = |error: KindError, begun, perhaps_done| {
        let answered = !link.connection.is_closed();
        if !answered {
            inner.workers.suspect(worker);
        }
        Failed::of(error, answered, begun, perhaps_done)
    };
    let (lost, connection) = (&lost, &link.connection);
    let patience = inner.config.io_timeout.max(inner.config.rpc_timeout);
    let begin = BeginUpload { upload_id, ticket, size };
    connection.call(&begin, patience).await.map_err(|error| match error.kind {
        ErrorKind::Overloaded => Failed::NoRoom(error),
        _ => lost(error, false, false),
    })?;
    let sent = async {
        let piece = |offset: u64| async move {
            let length = (size - offset).min(PIECE_BYTES_MAX as u64) as usize;
            let bytes = source.read_at(offset, length).await.map_err(Failed::Final)?;
            let piece = UploadPiece { upload_id, offset, bytes };
            // The store may be slow; the worker's own deadlines end it before this one does.
            connection.call(&piece, patience * 4).await.map_err(|error| lost(error, true, false))?;
            Ok::<u64, Failed>(length as u64)
        };
        let mut pieces =
            futures::stream::iter((0..size).step_by(PIECE_BYTES_MAX)).map(piece).buffer_unordered(PIECES_UNDER_WAY);
        let mut done = 0;
        while let Some(length) = pieces.next().await {
            done += length?;
            progress(done);
        }
        source.check().map_err(Failed::Final)
    };
    if let Err(failed) = sent.await {
        // The worker gives it up anyway when this connection ends, or after a while.
        let _ = connection.call(&AbortUpload { upload_id }, Duration::from_secs(1)).await;
        return Err(failed);
    }
    let finish = FinishUpload { upload_id, size };
    match connection.call(&finish, FINISH_PATIENCE).await {
        Ok(reply) if reply.size == size => Ok(()),
        Ok(reply) => {
            let message = format!("the store has {} bytes of it, want {size}", reply.size);
            Err(Failed::Final(KindError::new(ErrorKind::Corrupt, message)))
        }
        Err(error) => Err(lost(error, true, true)),
    }
}

/// A connection to the worker that takes the file: that which the path ranks at `turn`, those that just failed last.
async fn link(inner: &Arc<Inner>, path: &[u8], turn: usize) -> Result<(WorkerId, Link), Failed> {
    let mut hash = DefaultHasher::new();
    path.hash(&mut hash);
    let place = FileId(hash.finish());
    let placed = inner.map.get();
    let mut ranked = placed.ranked(place, BlockIndex(0));
    inner.workers.suspects_last(&mut ranked);
    let again = |error| Failed::Again { error, begun: false, perhaps_done: false };
    let Some(worker) = ranked.get(turn % ranked.len().max(1)).and_then(|id| placed.worker(*id)) else {
        return Err(again(KindError::new(ErrorKind::Unavailable, "the cluster has no worker")));
    };
    let id = WorkerId(worker.worker_id);
    let shard = placement::shard_of(place, u16::try_from(worker.shards.len()).unwrap_or(u16::MAX));
    match inner.workers.link(worker, shard, &inner.masters.identity()).await {
        Ok(link) => Ok((id, link)),
        Err(error) => {
            inner.workers.suspect(id);
            Err(again(error))
        }
    }
}

/// Bytes that are in memory.
impl WriteSource for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    async fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, KindError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        Ok(self[from..(from + length).min(self.len())].to_vec())
    }

    fn check(&self) -> Result<(), KindError> {
        Ok(())
    }
}
