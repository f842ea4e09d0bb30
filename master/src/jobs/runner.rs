//! One running job: walks, hands out, collects, and notes in the journal how far it is. A task on the serving runtime.
//!
//! Invariants: what the journal says is done is done; a job that stops without a word, because the master does, goes on
//! from there.

use super::Context;
use super::ledger::Ledger;
use super::walk::{Met, Walk};
use super::work::Work;
use crate::namespace::{Command, JobFailure, JobPlace, JobRecord, JobStep, JobTally, Outcome};
use forebay_base::{ErrorKind, KindError, unix_now_ms};
use forebay_net::message::job::{JOB_CANCELLED, JOB_DONE, JOB_FAILED, JOB_PARTLY};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// Between two notes in the journal.
const NOTE_EVERY: Duration = Duration::from_secs(2);
/// Most failures in one note.
const NOTE_FAILURES: usize = 500;
/// Tries of the last note, a second apart.
const LAST_TRIES: usize = 60;
/// What the walk may be ahead by.
const WALK_AHEAD: usize = 1024;
/// How often waiting steps are looked at.
const TICK: Duration = Duration::from_millis(20);

/// A running job as people see it; beyond what the journal knows.
#[derive(Clone, Default, Debug)]
pub(super) struct Watched {
    pub(super) tally: JobTally,
    pub(super) found_files: u64,
    pub(super) found_bytes: u64,
    pub(super) found_all: bool,
    pub(super) last_error: String,
}

/// Ends a task with the job.
struct Ending(AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Notes in the journal.
struct Notes {
    id: u64,
    /// Failures that the journal has.
    kept: u64,
    unsent: Vec<JobFailure>,
    last: (JobPlace, JobTally),
    when: Instant,
}

impl Notes {
    fn step(&mut self, ledger: &mut Ledger) -> JobStep {
        if self.unsent.is_empty() {
            self.unsent = ledger.take_failures(NOTE_FAILURES);
        }
        let (place, tally, last_error) = ledger.settled();
        JobStep {
            id: self.id,
            place: place.clone(),
            tally,
            failures_from: self.kept,
            failures: self.unsent.clone(),
            last_error: last_error.to_string(),
        }
    }

    /// Notes how far it is. A failed try is made again: a failure that the journal has already is not added twice.
    async fn note(&mut self, context: &Context, ledger: &mut Ledger) -> Result<(), KindError> {
        self.when = Instant::now();
        loop {
            let step = self.step(ledger);
            let now = (step.place.clone(), step.tally);
            if now == self.last && step.failures.is_empty() {
                return Ok(());
            }
            let more = step.failures.len() == NOTE_FAILURES;
            accepted(context.journal.propose(Command::JobProgress(step)).await?)?;
            self.kept += self.unsent.len() as u64;
            self.unsent.clear();
            self.last = now;
            if !more {
                return Ok(());
            }
        }
    }

    async fn end(&mut self, context: &Context, ledger: &mut Ledger, state: u8) -> Result<(), KindError> {
        self.note(context, ledger).await?;
        let step = self.step(ledger);
        accepted(context.journal.propose(Command::EndJob { step, state, now_ms: unix_now_ms() }).await?)
    }
}

fn accepted(outcome: Outcome) -> Result<(), KindError> {
    match outcome {
        Outcome::Done { .. } => Ok(()),
        other => Err(crate::mounts::refused(other)),
    }
}

/// Runs a job from where its record says to its end.
pub(super) async fn run(
    context: Arc<Context>,
    record: JobRecord,
    kept: u64,
    watched: Arc<Mutex<Watched>>,
    mut cancel: watch::Receiver<bool>,
) {
    let (id, since) = (record.id, Instant::now());
    let spec = record.spec;
    let walk = |from: &JobPlace| Walk::new(Arc::clone(&context.tree), spec.paths.clone(), spec.recursive, since, from);
    let (sender, mut walked) = mpsc::channel(WALK_AHEAD);
    let _walking = Ending(tokio::spawn(lead(walk(&record.place), sender)).abort_handle());
    let counting = count(walk(&JobPlace::default()), u64::from(spec.replicas.max(1)), Arc::clone(&watched));
    let _counting = Ending(tokio::spawn(counting).abort_handle());
    let mut notes =
        Notes { id, kept, unsent: Vec::new(), last: (record.place.clone(), record.tally), when: Instant::now() };
    let ledger = Ledger::new(record.place, record.tally, record.last_error);
    let mut work = Work::new(Arc::clone(&context), ledger, spec.bandwidth_bytes, spec.replicas, spec.verify);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut at_end = false;
    let state = loop {
        work.go_on();
        if at_end && work.is_idle() {
            break if work.ledger.settled().1.failed == 0 { JOB_DONE } else { JOB_PARTLY };
        }
        let came = tokio::select! {
            met = walked.recv(), if !at_end && work.wants_more() => {
                let mut met = met;
                loop {
                    match met {
                        Some(Some(next)) => work.met(next),
                        Some(None) => at_end = true,
                        None => break Err("the walk ended before its end".to_string()),
                    }
                    if at_end || !work.wants_more() {
                        break Ok(());
                    }
                    match walked.try_recv() {
                        Ok(next) => met = Some(next),
                        Err(_) => break Ok(()),
                    }
                }
            }
            came = work.next() => work.came(came).map_err(|error| error.message),
            _ = tick.tick() => Ok(()),
            Ok(()) = cancel.changed() => break JOB_CANCELLED,
        };
        if let Some(why) = came.err().or_else(|| work.stuck()) {
            work.ledger.note(why);
            break JOB_FAILED;
        }
        {
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.tally = work.ledger.seen();
            if watched.last_error != work.ledger.settled().2 {
                watched.last_error = work.ledger.settled().2.to_string();
            }
        }
        if notes.when.elapsed() >= NOTE_EVERY
            && let Err(error) = notes.note(&context, &mut work.ledger).await
        {
            tracing::warn!(job = id, "cannot note how far it is: {}", error.message);
        }
    };
    let mut ledger = work.into_ledger();
    ledger.close();
    for _ in 0..LAST_TRIES {
        match notes.end(&context, &mut ledger, state).await {
            Ok(()) => {
                let (_, done, _) = ledger.settled();
                tracing::info!(job = id, state, files = done.files, failed = done.failed, "job ended");
                return;
            }
            Err(error) if matches!(error.kind, ErrorKind::Invalid | ErrorKind::NotFound) => return,
            Err(error) => tracing::warn!(job = id, "cannot note its end: {}", error.message),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The walk that loads; `None` is its end.
async fn lead(mut walk: Walk, sender: mpsc::Sender<Option<Met>>) {
    loop {
        let met = walk.next().await;
        let is_end = met.is_none();
        if sender.send(met).await.is_err() || is_end {
            return;
        }
    }
}

/// The walk that counts, from the very beginning and ahead of the one that loads: for people, it keeps nothing.
async fn count(mut walk: Walk, replicas: u64, watched: Arc<Mutex<Watched>>) {
    while let Some(met) = walk.next().await {
        if let Met::File { size, .. } = met {
            let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.found_files += 1;
            watched.found_bytes += size * replicas;
        }
    }
    watched.lock().unwrap_or_else(PoisonError::into_inner).found_all = true;
}
