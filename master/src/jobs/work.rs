//! What of a job is under way: files being split into steps, steps that wait, batches that fly. Owned by one job's task.
//!
//! Invariants: every bound is here or in `lanes`; a step ends exactly once, well, failed or as outdated.

use super::Context;
use super::lanes::{BATCH_BYTES, Core, Lanes, Step, Target};
use super::ledger::{Ledger, Seq};
use super::pace::Pace;
use super::send::{Landed, Looked, look, send};
use super::walk::Met;
use crate::links::LinkError;
use forebay_base::{ErrorKind, FileId, KindError, limits};
use forebay_net::message::data::LoadResult;
use forebay_net::message::namespace::KIND_FILE;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinSet};

/// Files that are under way or wait for one in front of them.
const FILES_MAX: usize = 8192;
/// Most bytes of one step; never beyond the end of a block.
const STEP_BYTES: u64 = BATCH_BYTES;
/// Attempts at a file whose content changes while it is loaded.
const ATTEMPTS: u8 = 4;
/// Tries of a step whose ticket is refused.
const TICKET_TRIES: u32 = 3;
/// First wait before a step is sent again, and the longest.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Without any step that ends in this time the job is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A file that is being split into steps.
struct Issue {
    seq: Seq,
    attempt: u8,
    id: FileId,
    size: u64,
    offset: u64,
    copy: u16,
}

/// What comes back from a task.
pub(crate) enum Came {
    Batch(Landed),
    Look(Looked),
}

/// The work.
pub(crate) struct Work {
    context: Arc<Context>,
    pub(crate) ledger: Ledger,
    lanes: Lanes,
    pace: Pace,
    replicas: u16,
    verify: bool,
    issues: Vec<Issue>,
    retries: Vec<(Instant, Step)>,
    tasks: JoinSet<Came>,
    progress: Instant,
}

impl Work {
    pub(crate) fn new(context: Arc<Context>, ledger: Ledger, bandwidth: u64, replicas: u16, verify: bool) -> Self {
        let now = Instant::now();
        Self {
            context,
            ledger,
            lanes: Lanes::default(),
            pace: Pace::new(bandwidth, now),
            replicas: replicas.max(1),
            verify,
            issues: Vec::new(),
            retries: Vec::new(),
            tasks: JoinSet::new(),
            progress: now,
        }
    }

    /// Ends what is under way; what is known stays.
    pub(crate) fn into_ledger(self) -> Ledger {
        self.ledger
    }

    /// Whether the walk may bring more.
    pub(crate) fn wants_more(&self) -> bool {
        self.issues.is_empty() && self.ledger.len() < FILES_MAX
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.ledger.len() == 0 && self.tasks.is_empty()
    }

    /// Why the job should be given up.
    pub(crate) fn stuck(&self) -> Option<String> {
        let is_stuck = self.ledger.len() > 0 && self.progress.elapsed() > PATIENCE;
        let why = if self.lanes.worker_count() == 0 { "the cluster has no worker" } else { self.ledger.settled().2 };
        is_stuck.then(|| format!("nothing was loaded for {} s: {why}", PATIENCE.as_secs()))
    }

    /// The walk brought something.
    pub(crate) fn met(&mut self, met: Met) {
        match met {
            Met::File { place, id, size, .. } => {
                if self.ledger.len() == 0 {
                    self.progress = Instant::now();
                }
                let seq = self.ledger.open(place);
                self.issues.push(Issue { seq, attempt: 0, id, size, offset: 0, copy: 0 });
            }
            Met::Failed { place, error } => {
                let seq = self.ledger.open(place);
                self.ledger.fail(seq, 0, error.message);
            }
        }
        self.split();
    }

    /// Splits files into steps as far as their queues have room.
    fn split(&mut self) {
        let now = Instant::now();
        let step_bytes = self.pace.batch_bytes(STEP_BYTES, limits::PAGE_BYTES.into());
        let step_bytes = step_bytes / u64::from(limits::PAGE_BYTES) * u64::from(limits::PAGE_BYTES);
        while let Some(issue) = self.issues.last_mut() {
            if issue.offset >= issue.size || !self.ledger.is_current(issue.seq, issue.attempt) {
                let (seq, is_current) = (issue.seq, self.ledger.is_current(issue.seq, issue.attempt));
                self.issues.pop();
                if is_current {
                    self.ledger.issued(seq);
                }
                continue;
            }
            let block_end = (issue.offset / limits::BLOCK_BYTES + 1) * limits::BLOCK_BYTES;
            let end = issue.size.min(block_end).min(issue.offset + step_bytes);
            let step = Step {
                seq: issue.seq,
                attempt: issue.attempt,
                id: issue.id,
                size: issue.size,
                offset: issue.offset,
                length: end - issue.offset,
                copy: issue.copy,
                tries: 0,
            };
            match self.lanes.target(&step, now) {
                Target::Core(core) if !self.lanes.has_room(core) => return,
                Target::Later => return,
                target => {
                    issue.copy += 1;
                    if issue.copy == self.replicas {
                        (issue.copy, issue.offset) = (0, end);
                    }
                    self.ledger.issue(step.seq);
                    self.put(target, step);
                }
            }
        }
    }

    fn put(&mut self, target: Target, step: Step) {
        match target {
            Target::Core(core) => self.lanes.push(core, step),
            Target::Nowhere => {
                self.ledger.note(format!("{} replicas are wanted and fewer workers are live", self.replicas));
                self.ledger.skipped(step.seq, step.attempt);
            }
            Target::Later => self.retries.push((Instant::now() + RETRY, step)),
        }
    }

    /// Follows the cluster map, sends again what waited long enough, and sends what is ready.
    pub(crate) fn go_on(&mut self) {
        let now = Instant::now();
        if self.context.members.epoch() != self.lanes.epoch() {
            let homeless = self.lanes.set_map(self.context.members.map());
            let context = &self.context;
            context.links.retain(|worker| context.members.is_live(worker));
            self.retries.extend(homeless.into_iter().map(|step| (now, step)));
        }
        let mut index = 0;
        while index < self.retries.len() {
            if self.retries[index].0 > now {
                index += 1;
                continue;
            }
            let (_, step) = self.retries.swap_remove(index);
            if self.ledger.is_current(step.seq, step.attempt) {
                let target = self.lanes.target(&step, now);
                self.put(target, step);
            }
        }
        self.split();
        for core in self.lanes.ready(now) {
            while self.lanes.ready_for(core, now) && self.pace.may_send(now) {
                let bytes_max = self.pace.batch_bytes(BATCH_BYTES, limits::PAGE_BYTES.into());
                let Some((worker, mut steps)) = self.lanes.take_batch(core, bytes_max) else { break };
                steps.retain(|step| self.ledger.is_current(step.seq, step.attempt));
                if steps.is_empty() {
                    self.lanes.landed(core);
                    continue;
                }
                self.pace.draw(steps.iter().map(|step| step.length).sum());
                let (context, verify) = (self.context.clone(), self.verify);
                self.tasks.spawn(async move { Came::Batch(send(context, worker, core, steps, verify).await) });
            }
        }
    }

    /// Waits for a task; never ends while there is none.
    pub(crate) async fn next(&mut self) -> Result<Came, JoinError> {
        match self.tasks.join_next().await {
            Some(came) => came,
            None => std::future::pending().await,
        }
    }

    /// A task came back.
    pub(crate) fn came(&mut self, came: Result<Came, JoinError>) -> Result<(), KindError> {
        match came {
            Ok(Came::Batch(landed)) => self.landed(landed),
            Ok(Came::Look(looked)) => self.looked(looked),
            Err(error) => return Err(KindError::new(ErrorKind::Internal, format!("a task of the job ended: {error}"))),
        }
        Ok(())
    }

    fn landed(&mut self, landed: Landed) {
        let Landed { core, steps, outcome } = landed;
        let now = Instant::now();
        self.lanes.landed(core);
        match outcome {
            Ok(results) => {
                for (step, result) in steps.into_iter().zip(results) {
                    self.answered(core, step, result);
                }
            }
            Err(LinkError { error, answered: false }) => {
                self.ledger.note(error.message);
                let waiting = self.lanes.suspect(core.0, now);
                self.retries.extend(waiting.into_iter().map(|step| (now, step)));
                for step in steps {
                    self.retry(step);
                }
            }
            Err(LinkError { error, .. }) => {
                let (status, message) = (error.kind.code(), error.message);
                for step in steps {
                    let result = LoadResult { status, message: message.clone(), ..LoadResult::default() };
                    self.answered(core, step, result);
                }
            }
        }
    }

    fn answered(&mut self, core: Core, step: Step, result: LoadResult) {
        let (seq, attempt) = (step.seq, step.attempt);
        if !self.ledger.is_current(seq, attempt) {
            return;
        }
        if result.status == 0 {
            self.progress = Instant::now();
            self.pace.give_back(result.cached_bytes.min(step.length));
            return self.ledger.stepped(seq, attempt, &result);
        }
        match ErrorKind::from_code(result.status).unwrap_or(ErrorKind::Internal) {
            ErrorKind::Overloaded | ErrorKind::Closed => {
                self.lanes.rest(core, Instant::now() + RETRY);
                self.ledger.note(result.message);
                self.retry(step);
            }
            ErrorKind::TicketRequired if step.tries < TICKET_TRIES => self.retry(step),
            ErrorKind::Stale if attempt + 1 < ATTEMPTS => {
                if let Some(attempt) = self.ledger.restart(seq) {
                    let (context, id) = (self.context.clone(), step.id);
                    self.tasks.spawn(async move { Came::Look(look(context, seq, attempt, id).await) });
                }
            }
            _ => {
                self.progress = Instant::now();
                self.ledger.fail(seq, attempt, result.message);
            }
        }
    }

    fn retry(&mut self, mut step: Step) {
        let wait = RETRY_MAX.min(RETRY * 2u32.saturating_pow(step.tries.min(10)));
        step.tries += 1;
        self.retries.push((Instant::now() + wait, step));
    }

    fn looked(&mut self, looked: Looked) {
        let Looked { seq, attempt, id, found } = looked;
        self.progress = Instant::now();
        match found {
            Ok(attr) if attr.kind == KIND_FILE => {
                self.issues.push(Issue { seq, attempt, id, size: attr.size, offset: 0, copy: 0 });
                self.split();
            }
            Ok(_) => self.ledger.fail(seq, attempt, "it is no file any more".into()),
            Err(error) => self.ledger.fail(seq, attempt, error.message),
        }
    }
}
