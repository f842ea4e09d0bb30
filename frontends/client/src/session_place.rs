//! The worker core that has a write session: where it begins, and calls to it that outlast a lost connection.
//!
//! Invariant: once a session has begun, it is only ever looked for at the worker where it did.

use crate::client::Inner;
use crate::retry::Backoff;
use crate::session::WriteSession;
use forebay_base::{BlockIndex, ErrorKind, FileId, KindError, ShardId, WorkerId, placement};
use forebay_net::Message;
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::message::session::{OpenSession, SaveSession, SessionState};
use forebay_net::message::write::FinishUploadReply;
use std::sync::Arc;
use std::time::Duration;

/// A worker and its core.
pub(crate) struct Place {
    worker: WorkerInfo,
    shard: ShardId,
}

/// A failed call: whether the worker itself said so.
struct Failed {
    error: KindError,
    answered: bool,
}

/// Begins the session at the worker of this host, else at the first in rank that takes it.
pub(crate) async fn begin(session: &WriteSession) -> Result<(Place, SessionState), KindError> {
    let inner = &session.inner;
    let mut backoff = Backoff::new(inner.config.io_timeout);
    loop {
        let mut error = KindError::new(ErrorKind::Unavailable, "the cluster has no worker");
        for place in candidates(inner, session.file_id()) {
            let request = OpenSession { ticket: session.ticket().await?, join_only: false };
            match place.ask(inner, &request, inner.config.io_timeout).await {
                Ok(stands) => return Ok((place, stands)),
                // Where it might be by now, it is looked for again: nothing was written yet, an empty one lapses.
                Err(failed) if !failed.answered || is_passing(failed.error.kind) => {
                    inner.workers.suspect(WorkerId(place.worker.worker_id));
                    error = failed.error;
                }
                Err(failed) if failed.error.kind == ErrorKind::NoSpace => error = failed.error,
                Err(failed) => return Err(failed.error),
            }
        }
        inner.refresh_map(Duration::from_secs(1)).await;
        if error.kind == ErrorKind::NoSpace || !backoff.wait().await {
            return Err(error);
        }
    }
}

/// All workers, the best first.
fn candidates(inner: &Arc<Inner>, file: FileId) -> Vec<Place> {
    let placed = inner.map.get();
    let mut ranked = placed.ranked(file, BlockIndex(0));
    let is_here = |id: &WorkerId| placed.worker(*id).is_some_and(|worker| worker.host_id == inner.workers.host_id());
    ranked.sort_by_key(|id| !is_here(id));
    inner.workers.suspects_last(&mut ranked);
    let place = |worker: &WorkerInfo| Place {
        shard: placement::shard_of(file, u16::try_from(worker.shards.len()).unwrap_or(u16::MAX)),
        worker: worker.clone(),
    };
    ranked.iter().filter_map(|id| placed.worker(*id)).map(place).collect()
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Overloaded | ErrorKind::Closed | ErrorKind::Unavailable)
}

impl Place {
    /// One try, for what may be lost.
    pub(crate) async fn once<M: Message>(&self, inner: &Arc<Inner>, request: &M) -> Result<M::Reply, KindError> {
        self.ask(inner, request, inner.config.rpc_timeout).await.map_err(|failed| failed.error)
    }

    /// Asks until the worker answers, or did not for as long as this; presents a ticket where it is wanted.
    pub(crate) async fn call<M: Message>(
        &self,
        session: &WriteSession,
        request: &M,
        patience: Duration,
    ) -> Result<M::Reply, KindError> {
        self.persist(session, request, patience, patience).await
    }

    /// Saves: the store may take long, a lost worker may not. The same ticket again finds what it did.
    pub(crate) async fn save(
        &self,
        session: &WriteSession,
        request: &SaveSession,
        limit: Duration,
    ) -> Result<FinishUploadReply, KindError> {
        self.persist(session, request, session.inner.config.io_timeout, limit).await
    }

    async fn persist<M: Message>(
        &self,
        session: &WriteSession,
        request: &M,
        patience: Duration,
        limit: Duration,
    ) -> Result<M::Reply, KindError> {
        let inner = &session.inner;
        let mut backoff = Backoff::new(patience);
        loop {
            session.alive()?;
            let failed = match self.ask(inner, request, limit).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            let error = match (failed.answered, failed.error.kind) {
                (true, ErrorKind::TicketRequired) => match self.join(session, patience).await {
                    Ok(()) => failed.error,
                    Err(error) if is_passing(error.kind) => error,
                    Err(error) => return Err(error),
                },
                (true, ErrorKind::Overloaded | ErrorKind::Closed) | (false, _) => failed.error,
                (true, _) => return Err(failed.error),
            };
            if !backoff.wait().await {
                let message = format!("{:?}: worker {}: {error}", M::OP, self.worker.worker_id);
                return Err(KindError::new(ErrorKind::Unavailable, message));
            }
        }
    }

    /// Finds the session again on a new connection. If it is not there, it is gone for good.
    async fn join(&self, session: &WriteSession, patience: Duration) -> Result<(), KindError> {
        let request = OpenSession { ticket: session.ticket().await?, join_only: true };
        match self.ask(&session.inner, &request, patience).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.answered && failed.error.kind == ErrorKind::NotFound => {
                let message = format!(
                    "file {}: worker {} has no write session of it any more: what was written after the last save or sync is lost",
                    session.file_id(),
                    self.worker.worker_id
                );
                let gone = KindError::new(ErrorKind::Stale, message);
                session.gone(&gone);
                Err(gone)
            }
            Err(failed) => Err(failed.error),
        }
    }

    async fn ask<M: Message>(&self, inner: &Arc<Inner>, request: &M, limit: Duration) -> Result<M::Reply, Failed> {
        // After a restart it may serve elsewhere.
        let placed = inner.map.get();
        let worker = placed.worker(WorkerId(self.worker.worker_id));
        let worker = worker.filter(|now| now.shards.len() == self.worker.shards.len()).unwrap_or(&self.worker);
        let link = match inner.workers.link(worker, self.shard, &inner.masters.identity()).await {
            Ok(link) => link,
            Err(error) => {
                inner.refresh_map(Duration::from_secs(1)).await;
                return Err(Failed { error, answered: false });
            }
        };
        let answer = link.connection.call(request, limit).await;
        answer.map_err(|error| Failed { error, answered: !link.connection.is_closed() })
    }
}
