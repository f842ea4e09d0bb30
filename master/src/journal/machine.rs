//! openraft's state machine: hands committed entries to the cores in log order; a snapshot is a cut written to RocksDB.
//!
//! Invariant: `applied` moves in the same critical section in which an entry enters the queues, so a cut's marker and
//! its log id are the same point of the log.

use super::consensus::{LogId, Membership, Outcomes, Snapshot, SnapshotMeta, Types};
use crate::cores::Cores;
use crate::metrics::MasterMetrics;
use crate::state::{Position, State};
use forebay_base::metrics::PerCore;
use futures::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;

/// Where log and state stand. Shared with the journal's handle.
#[derive(Debug)]
pub(crate) struct Progress {
    now: Mutex<Position>,
    flushed: watch::Sender<Result<Option<LogId>, String>>,
}

impl Progress {
    pub(super) fn new(position: Position) -> Self {
        let flushed = watch::Sender::new(Ok(position.applied));
        Self { now: Mutex::new(position), flushed }
    }

    fn now(&self) -> Position {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn applied(&self) -> Option<LogId> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).applied
    }

    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.borrow().as_ref().is_ok_and(|flushed| *flushed == self.applied())
    }

    pub(super) fn watch_flushed(&self) -> watch::Receiver<Result<Option<LogId>, String>> {
        self.flushed.subscribe()
    }

    fn advance(&self, log_id: LogId, membership: Option<Membership>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.applied = Some(log_id);
        if let Some(membership) = membership {
            now.membership = membership;
        }
    }
}

/// What a snapshot carries between masters: nothing, its content is this master's RocksDB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut;

/// The state machine. Clones share everything; a clone builds the snapshot.
#[derive(Clone)]
pub(crate) struct Machine {
    cores: Arc<Cores>,
    state: Arc<State>,
    progress: Arc<Progress>,
    metrics: Arc<PerCore<MasterMetrics>>,
}

impl Machine {
    pub(super) fn new(
        cores: Arc<Cores>,
        state: Arc<State>,
        progress: Arc<Progress>,
        metrics: Arc<PerCore<MasterMetrics>>,
    ) -> Self {
        Self { cores, state, progress, metrics }
    }
}

fn meta(position: Position) -> SnapshotMeta {
    SnapshotMeta { last_log_id: position.applied, last_membership: position.membership }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = Cut;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let progress = Arc::clone(&self.progress);
        let (position, rows) = self.cores.cut(|| progress.now()).await.map_err(io::Error::other)?;
        let (state, at) = (Arc::clone(&self.state), position.clone());
        let written = tokio::task::spawn_blocking(move || state.write_cut(&at, rows)).await;
        let written = match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        // Rows of a failed cut are lost to the next one: the journal still has them, so the master must start again.
        let _ = self.progress.flushed.send_replace(written.clone().map(|()| position.applied));
        written.map_err(io::Error::other)?;
        Ok(Snapshot { meta: meta(position), snapshot: Cut })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Cut;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        let now = self.progress.now();
        Ok((now.applied, now.membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let log_id = entry.log_id;
            let (commands, membership) = match entry.payload {
                EntryPayload::Blank => (Arc::default(), None),
                EntryPayload::Normal(batch) => (batch.commands, None),
                EntryPayload::Membership(membership) => {
                    (Arc::default(), Some(Membership::new(Some(log_id), membership)))
                }
            };
            let (metrics, began) = (Arc::clone(&self.metrics), Instant::now());
            let done = Box::new(move |outcomes| {
                metrics.here().apply_seconds.record_since(began);
                if let Some(responder) = responder {
                    responder.send(Outcomes(outcomes));
                }
            });
            let progress = Arc::clone(&self.progress);
            self.cores.dispatch(commands, done, move || progress.advance(log_id, membership));
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, _snapshot: Cut) -> Result<(), io::Error> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the state of another master cannot be installed"))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let position = self.state.position();
        Ok(position.applied.is_some().then(|| Snapshot { meta: meta(position), snapshot: Cut }))
    }
}
