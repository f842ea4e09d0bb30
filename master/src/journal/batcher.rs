//! Packs what arrived during the previous flush into one entry and routes the outcomes back. One task on raft's runtime.

use super::consensus::{Batch, Consensus};
use crate::metrics::MasterMetrics;
use crate::namespace::{Command, Outcome};
use forebay_base::metrics::PerCore;
use forebay_base::{ErrorKind, KindError};
use openraft::error::{ClientWriteError, RaftError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A command that waits for its outcome.
pub(super) struct Proposal {
    pub(super) command: Command,
    pub(super) reply: oneshot::Sender<Result<Outcome, KindError>>,
}

/// Most commands in one entry.
const COMMANDS_MAX: usize = 256;
/// Tries while nobody leads yet, 20 ms apart.
const TRIES: usize = 400;

/// Runs until the other end is dropped.
pub(super) async fn run(raft: Consensus, mut incoming: mpsc::Receiver<Proposal>, metrics: Arc<PerCore<MasterMetrics>>) {
    let mut waiting = Vec::new();
    while incoming.recv_many(&mut waiting, COMMANDS_MAX).await > 0 {
        let (commands, replies): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|proposal| (proposal.command, proposal.reply)).unzip();
        let counters = metrics.here();
        counters.journal_entries.add(1);
        counters.journal_commands.add(commands.len() as u64);
        let began = Instant::now();
        let written = write(&raft, Batch { commands: Arc::new(commands) }).await;
        metrics.here().commit_seconds.record_since(began);
        match written {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Right after the election a leader has no lease yet and refuses writes; nothing was journaled then.
async fn write(raft: &Consensus, batch: Batch) -> Result<Vec<Outcome>, KindError> {
    for _ in 0..TRIES {
        match raft.client_write(batch.clone()).await {
            Ok(response) => return Ok(response.data.0),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(KindError::new(ErrorKind::Unavailable, format!("journal: {error}"))),
        }
    }
    Err(KindError::new(ErrorKind::NotLeader, "this master does not lead"))
}
