//! One call to a worker's core: tickets are signed when the batch goes, so that none is old. Each runs as a task.

use super::Context;
use super::lanes::{Core, Step};
use super::ledger::Seq;
use crate::links::LinkError;
use forebay_base::{ErrorKind, FileId, KindError, WorkerId};
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::message::data::{Load, LoadItem, LoadResult};
use forebay_net::message::namespace::Attr;
use std::sync::Arc;
use std::time::Duration;

/// Longest that a batch may take: many requests to a slow store.
const PATIENCE: Duration = Duration::from_secs(300);

/// A batch that came back.
pub(crate) struct Landed {
    pub(super) core: Core,
    pub(super) steps: Vec<Step>,
    /// One result for each step, or why there is none.
    pub(super) outcome: Result<Vec<LoadResult>, LinkError>,
}

/// A file that was looked up again.
pub(crate) struct Looked {
    pub(super) seq: Seq,
    pub(super) attempt: u8,
    pub(super) id: FileId,
    pub(super) found: Result<Attr, KindError>,
}

/// Asks the store again about a file whose content is not what it was.
pub(super) async fn look(context: Arc<Context>, seq: Seq, attempt: u8, id: FileId) -> Looked {
    Looked { seq, attempt, id, found: context.tree.recheck_for_job(id).await }
}

/// Has a batch loaded.
pub(super) async fn send(
    context: Arc<Context>,
    worker: Arc<WorkerInfo>,
    core: Core,
    steps: Vec<Step>,
    verify: bool,
) -> Landed {
    let outcome = tokio::select! {
        outcome = call(&context, &worker, core, &steps, verify) => outcome,
        () = left(&context, core.0) => {
            let message = format!("worker {:016x}: it left the cluster", core.0.0);
            Err(LinkError { error: KindError::new(ErrorKind::Unavailable, message), answered: false })
        }
    };
    Landed { core, steps, outcome }
}

fn failed(error: &KindError) -> LoadResult {
    LoadResult { status: error.kind.code(), message: error.message.clone(), ..LoadResult::default() }
}

async fn call(
    context: &Context,
    worker: &WorkerInfo,
    core: Core,
    steps: &[Step],
    verify: bool,
) -> Result<Vec<LoadResult>, LinkError> {
    let said = |error: KindError| LinkError { error, answered: true };
    let mut ids: Vec<FileId> = steps.iter().map(|step| step.id).collect();
    // Steps of one file follow each other.
    ids.dedup();
    let tickets = context.tree.tickets_for_job(&ids).await.map_err(said)?;
    let mut tickets = ids.iter().zip(tickets).peekable();
    let mut results: Vec<Option<LoadResult>> = Vec::with_capacity(steps.len());
    let mut items = Vec::with_capacity(steps.len());
    for step in steps {
        while tickets.peek().is_some_and(|(id, _)| **id != step.id) {
            tickets.next();
        }
        results.push(match tickets.peek() {
            Some((_, Ok((size, ticket)))) if *size == step.size => {
                items.push(LoadItem { ticket: ticket.clone(), offset: step.offset, length: step.length });
                None
            }
            Some((_, Err(error))) => Some(failed(error)),
            _ => Some(failed(&KindError::new(ErrorKind::Stale, "its content changed"))),
        });
    }
    let wanted = items.len();
    let mut answers = Vec::new();
    if wanted > 0 {
        answers = context.links.call(worker, core.1, &Load { items, verify }, PATIENCE).await?.results;
    }
    if answers.len() != wanted {
        let message = format!("worker {:016x}: got {} results, want {wanted}", core.0.0, answers.len());
        return Err(said(KindError::new(ErrorKind::Corrupt, message)));
    }
    let mut answers = answers.into_iter();
    Ok(results.into_iter().map(|own| own.or_else(|| answers.next()).unwrap_or_default()).collect())
}

/// Ends when the worker is not in the map any more: then nobody waits for its answer.
async fn left(context: &Context, worker: WorkerId) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !context.members.is_live(worker) {
            return;
        }
    }
}
