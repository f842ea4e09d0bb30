//! The journal: one Raft log whose entries hold many commands each, its durable files, and the state machine behind it.
//!
//! Owned by one thread with its own tokio runtime (`raft`) and one that writes and syncs (`journal-sync`). Raft is
//! openraft, pinned exactly and seen only in this folder. One voter runs the same code path as several.
//!
//! Invariants: a command is answered only when its entry is durable and applied; after a failed write or sync nothing
//! is answered any more and `Journal::failed` says why.

mod batcher;
mod consensus;
mod files;
mod log_store;
mod machine;
mod record;
mod writer;

use crate::cores::Cores;
use crate::error::MasterError;
use crate::metrics::MasterMetrics;
use crate::namespace::{Command, Outcome};
use crate::state::State;
use batcher::Proposal;
pub(crate) use consensus::Types;
use consensus::{Consensus, NODE_ID};
use forebay_base::metrics::PerCore;
use forebay_base::{ErrorKind, KindError};
use log_store::LogStore;
use machine::Machine;
use machine::Progress;
use openraft::BasicNode;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Longest wait for leadership and for the journal's answer.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(10);
/// A cut that was asked for is asked for again after this long, this many times.
const FLUSH_STEP: Duration = Duration::from_millis(500);
const FLUSH_TRIES: usize = 240;
/// Bytes of unflushed journal that ask for a cut before its time.
const UNFLUSHED_BYTES_MAX: u64 = 64 << 20;

/// Handle of the journal.
pub(crate) struct Journal {
    raft: Consensus,
    proposals: mpsc::Sender<Proposal>,
    failed: watch::Receiver<Option<String>>,
    progress: Arc<Progress>,
    log: LogStore,
    stop: std::sync::Mutex<Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>>,
}

impl Journal {
    /// Recovers the log in `directory`, replays what `state` lacks, and leads. `address` is what other masters would
    /// call this one.
    pub(crate) fn start(
        directory: &Path,
        address: &str,
        cores: Arc<Cores>,
        state: Arc<State>,
        metrics: Arc<PerCore<MasterMetrics>>,
    ) -> Result<Self, MasterError> {
        let (failure, failed) = watch::channel(None);
        let log = LogStore::open(directory, failure, Arc::clone(&metrics))?;
        let progress = Arc::new(Progress::new(state.position()));
        log.check_behind(progress.applied().as_ref())?;
        let machine = Machine::new(cores, state, Arc::clone(&progress), Arc::clone(&metrics));
        let (proposals, incoming) = mpsc::channel(4096);
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (store, members) = (log.clone(), BTreeMap::from([(NODE_ID, BasicNode::new(address))]));
        let thread = std::thread::Builder::new().name("raft".into()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error.to_string()))),
            };
            runtime.block_on(async {
                let raft = match consensus::start(store, machine, members).await {
                    Ok(raft) => raft,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                let batcher = tokio::spawn(batcher::run(raft.clone(), incoming, metrics));
                let _ = ready.send(Ok(raft.clone()));
                let _ = stopped.await;
                batcher.abort();
                let _ = raft.shutdown().await;
            });
        })?;
        let raft = started
            .recv()
            .map_err(|_| MasterError::Journal("the raft thread ended".into()))?
            .map_err(MasterError::Journal)?;
        Ok(Self { raft, proposals, failed, progress, log, stop: std::sync::Mutex::new(Some((stop, thread))) })
    }

    /// Journals and applies a command; its outcome once it is durable.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, KindError> {
        let unavailable = |message: &str| KindError::new(ErrorKind::Unavailable, message);
        if let Some(error) = &*self.failed.borrow() {
            return Err(KindError::new(ErrorKind::Unavailable, format!("the journal failed: {error}")));
        }
        let (sender, receiver) = oneshot::channel();
        let proposal = Proposal { command, reply: sender };
        self.proposals.send(proposal).await.map_err(|_| unavailable("the journal is closed"))?;
        match tokio::time::timeout(PROPOSE_DEADLINE, receiver).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(unavailable("the journal is closed")),
            Err(_) => Err(unavailable("the journal did not answer in time")),
        }
    }

    /// Whether this master leads: what its reads say is then the newest there is.
    #[must_use]
    pub(crate) fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    /// Index of the last entry handed to the cores.
    #[must_use]
    pub(crate) fn applied_index(&self) -> u64 {
        self.progress.applied().map_or(0, |log_id| log_id.index)
    }

    /// Whether the log has grown so far since the last cut that the next should not wait.
    #[must_use]
    pub(crate) fn wants_flush(&self) -> bool {
        self.log.unpurged_bytes() > UNFLUSHED_BYTES_MAX
    }

    /// Writes the namespace behind as a cut and lets the log be purged up to it. Nothing to do is fine.
    pub(crate) async fn flush(&self) -> Result<(), KindError> {
        if self.progress.is_flushed() {
            return Ok(());
        }
        let target = self.progress.applied();
        let failed = |error: String| KindError::new(ErrorKind::Internal, format!("flush: {error}"));
        let mut flushed = self.progress.watch_flushed();
        for _ in 0..FLUSH_TRIES {
            // Asked again each time: one that runs already may have begun before `target`.
            self.raft.trigger().snapshot().await.map_err(|error| failed(error.to_string()))?;
            let reached = flushed.wait_for(|done| match done {
                Ok(position) => *position >= target,
                Err(_) => true,
            });
            match tokio::time::timeout(FLUSH_STEP, reached).await {
                Ok(Ok(done)) => return done.as_ref().map(|_| ()).map_err(|error| failed(error.clone())),
                Ok(Err(_)) => return Err(failed("the journal is closed".into())),
                Err(_) => {}
            }
        }
        Err(failed("the cut did not end in time".into()))
    }

    /// Resolves with the reason when journal or state cannot be written any more.
    pub(crate) async fn failed(&self) -> String {
        let (mut journal, mut flushed) = (self.failed.clone(), self.progress.watch_flushed());
        let journal_failed = async {
            match journal.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        let flush_failed = async {
            match flushed.wait_for(Result::is_err).await {
                Ok(reason) => reason.clone().err().unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = journal_failed => format!("journal: {reason}"),
            reason = flush_failed => format!("state: {reason}"),
        }
    }

    /// Stops raft. What is acknowledged is durable; nothing more is taken.
    pub(crate) fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some((stop, thread)) = stop {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
