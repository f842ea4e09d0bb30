//! Jobs: what the master does for an operator in the background. Submitted, looked at and cancelled here; each running
//! one is a task (`jobs/runner.rs`) whose progress is in the journal, so that it goes on after a restart.
//!
//! Invariants: what is started is journaled first; a job runs once in a master.

mod info;
mod lanes;
pub(crate) mod ledger;
mod pace;
mod runner;
mod send;
pub(crate) mod walk;
pub(crate) mod work;

use crate::journal::Journal;
use crate::links::Links;
use crate::members::Members;
use crate::namespace::command::TABLE;
use crate::namespace::{Command, JobRecord, JobStep, Outcome, Partition};
use crate::tree::Tree;
use forebay_base::{ErrorKind, KindError, limits, unix_now_ms};
use forebay_net::message::job::{
    CancelJob, JOB_CANCELLED, JOB_LOAD, JOB_RUNNING, JobInfo, JobSpec, JobStatus, JobStatusReply, ListJobs,
    ListJobsReply, SubmitJob, SubmitJobReply,
};
use forebay_net::message::namespace::KIND_DIRECTORY;
use hashbrown::HashMap;
use runner::Watched;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Slower limits than this cannot be kept: a page is fetched whole.
const BANDWIDTH_MIN: u64 = 64 << 10;
/// Most bytes that say who submitted a job.
const SUBMITTED_BY_MAX: usize = 256;
/// How long a cancelled job may take to note its end.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// What jobs work with.
pub(crate) struct Context {
    pub(crate) tree: Arc<Tree>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) members: Arc<Members>,
    pub(crate) links: Arc<Links>,
}

struct Running {
    cancel: watch::Sender<bool>,
    watched: Arc<Mutex<Watched>>,
    task: JoinHandle<()>,
}

/// All jobs.
pub(crate) struct Jobs {
    context: Arc<Context>,
    running: Mutex<HashMap<u64, Running>>,
}

fn invalid(message: String) -> KindError {
    KindError::new(ErrorKind::Invalid, message)
}

fn unknown(id: u64) -> KindError {
    KindError::new(ErrorKind::NotFound, format!("job {id}: there is no such job"))
}

impl Jobs {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with the jobs that ran when the last master ended.
    pub(crate) async fn resume(&self) -> Result<(), KindError> {
        let look = |partition: &Partition| {
            let records = partition.jobs().records().filter(|(record, _)| record.state == JOB_RUNNING);
            records.map(|(record, kept)| (record.clone(), kept)).collect::<Vec<_>>()
        };
        for (record, kept) in self.context.tree.cores.read(TABLE, look).await? {
            tracing::info!(job = record.id, "goes on behind {}", String::from_utf8_lossy(&record.place.path));
            self.start(record, kept);
        }
        Ok(())
    }

    fn start(&self, record: JobRecord, kept: usize) {
        let mut running = self.running();
        running.retain(|_, job| !job.task.is_finished());
        if running.contains_key(&record.id) || record.state != JOB_RUNNING {
            return;
        }
        let (cancel, cancelled) = watch::channel(false);
        let watched = Arc::new(Mutex::new(Watched {
            tally: record.tally,
            last_error: record.last_error.clone(),
            ..Watched::default()
        }));
        let id = record.id;
        let work = runner::run(Arc::clone(&self.context), record, kept as u64, Arc::clone(&watched), cancelled);
        running.insert(id, Running { cancel, watched, task: tokio::spawn(work) });
    }

    /// Stops all tasks; the jobs go on when a master starts again.
    pub(crate) fn stop(&self) {
        for (_, job) in self.running().drain() {
            job.task.abort();
        }
    }

    /// Starts a job, or finds the same one running.
    pub(crate) async fn submit(&self, request: SubmitJob) -> Result<SubmitJobReply, KindError> {
        let spec = request.spec;
        self.check(&spec).await?;
        let mut submitted_by = request.submitted_by;
        submitted_by.retain(|letter| !letter.is_control());
        while submitted_by.len() > SUBMITTED_BY_MAX {
            submitted_by.pop();
        }
        let command = Command::PutJob { spec: info::record_of(spec), submitted_by, now_ms: unix_now_ms() };
        match self.context.journal.propose(command).await? {
            Outcome::Job { id, joined } => {
                if !joined {
                    let (record, kept, _) = self.look(id, 0, 0).await?;
                    tracing::info!(job = id, by = %record.submitted_by, paths = ?record.spec.paths, "job submitted");
                    self.start(record, kept);
                }
                Ok(SubmitJobReply { job_id: id, joined })
            }
            other => Err(crate::mounts::refused(other)),
        }
    }

    async fn check(&self, spec: &JobSpec) -> Result<(), KindError> {
        if spec.kind != JOB_LOAD {
            return Err(invalid(format!("kind: got {}, want {JOB_LOAD} (load)", spec.kind)));
        }
        if spec.paths.is_empty() || spec.paths.len() > limits::JOB_PATHS_MAX {
            return Err(invalid(format!("paths: got {}, want 1 to {}", spec.paths.len(), limits::JOB_PATHS_MAX)));
        }
        if spec.bandwidth_bytes != 0 && spec.bandwidth_bytes < BANDWIDTH_MIN {
            let message = format!("bandwidth: got {} bytes/s, want at least 64KiB", spec.bandwidth_bytes);
            return Err(invalid(message));
        }
        let live = self.context.members.map().workers.len();
        if live == 0 {
            return Err(KindError::new(ErrorKind::Unavailable, "the cluster has no live worker: start one"));
        }
        if spec.replicas == 0 || usize::from(spec.replicas) > live {
            let message = format!("replicas: got {}, want 1 to {live}, the number of live workers", spec.replicas);
            return Err(invalid(message));
        }
        for path in &spec.paths {
            let attr = self.context.tree.resolve(path.as_bytes()).await?;
            if attr.kind == KIND_DIRECTORY && !spec.recursive {
                return Err(invalid(format!("{path}: is a directory: give -R for all below it")));
            }
        }
        Ok(())
    }

    async fn look(
        &self,
        id: u64,
        from: usize,
        most: usize,
    ) -> Result<(JobRecord, usize, Vec<crate::namespace::JobFailure>), KindError> {
        let look = move |partition: &Partition| partition.jobs().look(id, from, most);
        self.context.tree.cores.read(TABLE, look).await?.ok_or_else(|| unknown(id))
    }

    fn info(&self, record: JobRecord, kept: usize) -> JobInfo {
        let running = self.running();
        let watched = running.get(&record.id).filter(|_| record.state == JOB_RUNNING);
        let watched = watched.map(|job| job.watched.lock().unwrap_or_else(PoisonError::into_inner).clone());
        info::info(record, kept, watched)
    }

    /// The jobs, oldest first.
    pub(crate) async fn list(&self, request: &ListJobs) -> Result<ListJobsReply, KindError> {
        let all = request.all;
        let look = move |partition: &Partition| {
            let records = partition.jobs().records().filter(|(record, _)| all || record.state == JOB_RUNNING);
            records.map(|(record, kept)| (record.clone(), kept)).collect::<Vec<_>>()
        };
        let records = self.context.tree.cores.read(TABLE, look).await?;
        Ok(ListJobsReply { jobs: records.into_iter().map(|(record, kept)| self.info(record, kept)).collect() })
    }

    /// One job.
    pub(crate) async fn status(&self, request: &JobStatus) -> Result<JobStatusReply, KindError> {
        let most = request.failures_max.min(limits::JOB_FAILURES_PAGE) as usize;
        let from = usize::try_from(request.failures_from).unwrap_or(usize::MAX);
        let (record, kept, failures) = self.look(request.job_id, from, most).await?;
        Ok(JobStatusReply { job: self.info(record, kept), failures: failures.into_iter().map(info::failure).collect() })
    }

    /// Ends a job.
    pub(crate) async fn cancel(&self, request: &CancelJob) -> Result<(), KindError> {
        let id = request.job_id;
        let (record, kept, _) = self.look(id, 0, 0).await?;
        if record.state != JOB_RUNNING {
            return Err(invalid(format!("job {id}: it has ended already")));
        }
        let signalled = self.running().get(&id).is_some_and(|job| job.cancel.send(true).is_ok());
        if !signalled {
            let step = JobStep {
                id,
                place: record.place,
                tally: record.tally,
                failures_from: kept as u64,
                failures: Vec::new(),
                last_error: record.last_error,
            };
            let end = Command::EndJob { step, state: JOB_CANCELLED, now_ms: unix_now_ms() };
            return self.context.journal.propose(end).await.map(drop);
        }
        let asked = std::time::Instant::now();
        while asked.elapsed() < CANCEL_WAIT && self.look(id, 0, 0).await?.0.state == JOB_RUNNING {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}
