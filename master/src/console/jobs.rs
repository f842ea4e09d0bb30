//! The calls on jobs: from the master's own table, with the names that `forebay job ls --json` uses.

use super::Console;
use crate::audit;
use forebay_base::{ErrorKind, KindError, limits};
use forebay_net::Op;
use forebay_net::http::HttpRequest;
use forebay_net::message::job::{
    CancelJob, JOB_CANCELLED, JOB_DONE, JOB_LOAD, JOB_PARTLY, JOB_RUNNING, JobInfo, JobStatus, ListJobs,
};
use serde_json::{Value, json};

/// Paths of a job that the list of jobs shows; there may be many, each long.
const LISTED_PATHS: usize = 8;

impl Console {
    /// All jobs that are remembered, oldest first.
    pub(super) async fn jobs(&self) -> Result<Value, KindError> {
        let jobs = self.service.jobs.list(&ListJobs { all: true }).await?.jobs;
        let rows: Vec<Value> = jobs.iter().map(|job| job_json(job, LISTED_PATHS)).collect();
        Ok(json!({ "jobs": rows, "actions_allowed": self.token.is_some() }))
    }

    /// One job with a part of its failures.
    pub(super) async fn job(&self, id: &str, request: &HttpRequest) -> Result<Value, KindError> {
        let job_id = number(id)?;
        let from = match request.query_value("failures_from") {
            None => 0,
            Some(text) => text.parse().map_err(|_| {
                let message = format!("failures_from: got \"{text}\", want a whole number from 0");
                KindError::new(ErrorKind::Invalid, message)
            })?,
        };
        let status = JobStatus { job_id, failures_from: from, failures_max: limits::JOB_FAILURES_PAGE };
        let reply = self.service.jobs.status(&status).await?;
        let mut value = job_json(&reply.job, limits::JOB_PATHS_MAX);
        let failures = reply.failures.iter();
        let failures = failures.map(|one| json!({ "path": String::from_utf8_lossy(&one.path), "reason": one.reason }));
        value["failures"] = failures.collect();
        let next = from.saturating_add(reply.failures.len() as u64);
        value["next"] = json!((!reply.failures.is_empty() && next < reply.job.failures_kept).then_some(next));
        value["actions_allowed"] = json!(self.token.is_some());
        Ok(value)
    }

    /// Ends a job; what is loaded stays.
    pub(super) async fn cancel_job(&self, id: &str) -> Result<Value, KindError> {
        let job_id = number(id)?;
        let cancelled = self.service.jobs.cancel(&CancelJob { job_id }).await;
        audit::write_http(Op::CancelJob, &format!("job {job_id}"), &cancelled);
        cancelled?;
        let status = JobStatus { job_id, failures_from: 0, failures_max: 0 };
        Ok(job_json(&self.service.jobs.status(&status).await?.job, LISTED_PATHS))
    }
}

fn number(text: &str) -> Result<u64, KindError> {
    text.parse().map_err(|_| {
        KindError::new(ErrorKind::Invalid, format!("job {text:?}: want its number, as the list of jobs gives it"))
    })
}

fn state(job: &JobInfo) -> &'static str {
    match job.state {
        JOB_RUNNING => "running",
        JOB_DONE => "done",
        JOB_PARTLY => "partial",
        JOB_CANCELLED => "cancelled",
        _ => "failed",
    }
}

fn job_json(job: &JobInfo, paths_max: usize) -> Value {
    let (spec, tally) = (&job.spec, &job.tally);
    json!({
        "job_id": job.job_id,
        "kind": if spec.kind == JOB_LOAD { "load" } else { "unknown" },
        "state": state(job),
        "paths": spec.paths.iter().take(paths_max).collect::<Vec<_>>(),
        "paths_count": spec.paths.len(),
        "recursive": spec.recursive,
        "verify": spec.verify,
        // null: no limit.
        "bandwidth_bytes": (spec.bandwidth_bytes > 0).then_some(spec.bandwidth_bytes),
        "replicas": spec.replicas,
        "submitted_by": job.submitted_by,
        "submitted_ms": job.submitted_ms,
        "ended_ms": (job.ended_ms > 0).then_some(job.ended_ms),
        "files": tally.files,
        "failed": tally.failed,
        "fetched_bytes": tally.fetched_bytes,
        "cached_bytes": tally.cached_bytes,
        "verified_bytes": tally.verified_bytes,
        "corrupt_pages": tally.corrupt_pages,
        "cursor": String::from_utf8_lossy(&job.cursor),
        "found_files": job.found_files,
        "found_bytes": job.found_bytes,
        "found_all": job.found_all,
        "failures_kept": job.failures_kept,
        "last_error": (!job.last_error.is_empty()).then_some(&job.last_error),
    })
}
