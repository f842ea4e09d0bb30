//! `job ls|stat|cancel`: what the master does in the background.

use crate::arguments::JobVerb;
use crate::failure::Failure;
use crate::output::{self, Output, date, printable, table};
use forebay_base::{ByteSize, ErrorKind, KindError, limits, unix_now_ms};
use forebay_client::Client;
use forebay_client::message::job::{
    CancelJob, JOB_CANCELLED, JOB_DONE, JOB_LOAD, JOB_PARTLY, JOB_RUNNING, JobFailure, JobInfo, JobStatus,
    JobStatusReply, ListJobs,
};
use serde_json::{Value, json};

/// Runs one verb.
pub(crate) async fn run(client: Client, verb: JobVerb) -> Result<(), Failure> {
    match verb {
        JobVerb::Ls { json, all } => list(&client, json, all).await,
        JobVerb::Stat { json, failures, id } => stat(&client, id, json, failures).await,
        JobVerb::Cancel { id } => cancel(&client, id).await,
    }
}

/// One job, and some of its failures.
pub(crate) async fn status(
    client: &Client,
    job_id: u64,
    failures_from: u64,
    failures_max: u32,
) -> Result<JobStatusReply, KindError> {
    client.master(&JobStatus { job_id, failures_from, failures_max }).await
}

/// All failures that are kept of a job.
pub(crate) async fn failures(client: &Client, job: &JobInfo) -> Result<Vec<JobFailure>, Failure> {
    let mut failures = Vec::new();
    while (failures.len() as u64) < job.failures_kept {
        let part = status(client, job.job_id, failures.len() as u64, limits::JOB_FAILURES_PAGE).await;
        let part = part.map_err(|error| Failure::of("job stat", &job.job_id.to_string(), &error))?.failures;
        if part.is_empty() {
            break;
        }
        failures.extend(part);
    }
    Ok(failures)
}

/// The job that `target` means: a number, or a path of one; the running one first, else the newest. Without a target
/// the newest that runs.
pub(crate) async fn find(client: &Client, what: &str, target: Option<&str>) -> Result<Option<JobInfo>, Failure> {
    if let Some(id) = target.and_then(|target| target.parse::<u64>().ok()) {
        let found = status(client, id, 0, 0).await;
        return found.map(|reply| Some(reply.job)).map_err(|error| Failure::of(what, &id.to_string(), &error));
    }
    let request = ListJobs { all: target.is_some() };
    let jobs = client.master(&request).await.map_err(|error| Failure::of(what, "jobs", &error))?.jobs;
    let Some(path) = target else { return Ok(jobs.into_iter().next_back()) };
    let short = path.trim_end_matches('/');
    let names = |job: &JobInfo| job.spec.paths.iter().any(|own| own == path || own == short);
    let best = jobs.into_iter().filter(names).max_by_key(|job| (job.state == JOB_RUNNING, job.job_id));
    let missing = || KindError::new(ErrorKind::NotFound, "no job that is remembered has this path");
    best.map(Some).ok_or_else(|| Failure::of(what, path, &missing()))
}

async fn list(client: &Client, json: bool, all: bool) -> Result<(), Failure> {
    let jobs = client.master(&ListJobs { all }).await.map_err(|error| Failure::of("job ls", "jobs", &error))?.jobs;
    let mut output = Output::open();
    if json {
        output.line(&Value::Array(jobs.iter().map(|job| as_json(job, None)).collect()).to_string())?;
    } else if jobs.is_empty() {
        output.line(if all { "no jobs" } else { "no job runs: --all shows those that have ended" })?;
    } else {
        show(&mut output, &jobs)?;
    }
    output.flush()
}

/// Jobs as a table.
pub(crate) fn show(output: &mut Output, jobs: &[JobInfo]) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
    let heading = ["JOB", "KIND", "STATE", "FILES", "FAILED", "BYTES", "DONE", "SUBMITTED", "BY", "PATHS"];
    table(output, &heading, &[0, 3, 4, 5, 6], &rows)
}

fn row(job: &JobInfo) -> Vec<String> {
    let paths = job.spec.paths.join(" ");
    vec![
        job.job_id.to_string(),
        kind(job).to_string(),
        state(job).to_string(),
        job.tally.files.to_string(),
        job.tally.failed.to_string(),
        ByteSize(bytes(job)).to_string(),
        share(job).map_or("-".into(), |share| format!("{:.0}%", share * 100.0)),
        date(job.submitted_ms),
        printable(job.submitted_by.as_bytes()),
        printable(paths.as_bytes()),
    ]
}

fn bytes(job: &JobInfo) -> u64 {
    job.tally.fetched_bytes.saturating_add(job.tally.cached_bytes)
}

/// What part of it is done, once everything is found.
fn share(job: &JobInfo) -> Option<f64> {
    let (done, all) = match job.found_bytes {
        0 => (job.tally.files + job.tally.failed, job.found_files),
        all => (bytes(job), all),
    };
    (job.found_all && all > 0).then(|| (done as f64 / all as f64).min(1.0))
}

fn kind(job: &JobInfo) -> &'static str {
    if job.spec.kind == JOB_LOAD { "load" } else { "unknown" }
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

async fn stat(client: &Client, id: u64, json: bool, with_failures: bool) -> Result<(), Failure> {
    let found = status(client, id, 0, 0).await;
    let job = found.map_err(|error| Failure::of("job stat", &id.to_string(), &error))?.job;
    let failures = if with_failures { failures(client, &job).await? } else { Vec::new() };
    let mut output = Output::open();
    if json {
        output.line(&as_json(&job, with_failures.then_some(&failures)).to_string())?;
        return output.flush();
    }
    for (name, value) in lines(&job) {
        output.line(&format!("{name:<10}{value}"))?;
    }
    for failure in &failures {
        output.line(&format!("{}: {}", printable(&failure.path), printable(failure.reason.as_bytes())))?;
    }
    output.flush()
}

fn lines(job: &JobInfo) -> Vec<(&'static str, String)> {
    let (spec, tally) = (&job.spec, &job.tally);
    let until = if job.ended_ms == 0 { unix_now_ms() } else { job.ended_ms };
    let seconds = until.saturating_sub(job.submitted_ms) as f64 / 1000.0;
    let speed = if seconds > 0.0 { bytes(job) as f64 / seconds } else { 0.0 };
    let total = match (job.found_all, job.state == JOB_RUNNING) {
        (true, true) => format!(" of {} files, {}", job.found_files, ByteSize(job.found_bytes)),
        (false, true) => format!(" of {} files and more", job.found_files),
        _ => String::new(),
    };
    let mut options = Vec::new();
    options.extend(spec.recursive.then(|| "recursive".to_string()));
    options.extend(spec.verify.then(|| "verify".to_string()));
    options.extend((spec.bandwidth_bytes > 0).then(|| format!("bandwidth {}/s", ByteSize(spec.bandwidth_bytes))));
    options.extend((spec.replicas > 1).then(|| format!("{} replicas", spec.replicas)));
    let mut lines = vec![
        ("job", format!("{} {} {}", job.job_id, kind(job), state(job))),
        ("paths", printable(spec.paths.join(" ").as_bytes())),
        ("options", if options.is_empty() { "none".into() } else { options.join(", ") }),
        ("submitted", format!("{} by {}", date(job.submitted_ms), printable(job.submitted_by.as_bytes()))),
        ("took", format!("{seconds:.1} s, {}/s", ByteSize(speed as u64))),
        ("files", format!("{} loaded, {} failed{total}", tally.files, tally.failed)),
        (
            "bytes",
            format!(
                "{} ({}) fetched, {} ({}) cached already",
                tally.fetched_bytes,
                ByteSize(tally.fetched_bytes),
                tally.cached_bytes,
                ByteSize(tally.cached_bytes)
            ),
        ),
    ];
    if spec.verify {
        let wrong = tally.corrupt_pages;
        lines.push(("verified", format!("{} bytes, {wrong} pages wrong and fetched again", tally.verified_bytes)));
    }
    if job.state == JOB_RUNNING {
        lines.push(("cursor", printable(&job.cursor)));
    }
    if !job.last_error.is_empty() {
        lines.push(("trouble", printable(job.last_error.as_bytes())));
    }
    lines
}

/// Ends a job.
pub(crate) async fn cancel(client: &Client, id: u64) -> Result<(), Failure> {
    client
        .master(&CancelJob { job_id: id })
        .await
        .map_err(|error| Failure::of("job cancel", &id.to_string(), &error))?;
    output::line(&format!("job {id} is cancelled; what is loaded stays"))
}

/// A job for programs.
pub(crate) fn as_json(job: &JobInfo, failures: Option<&Vec<JobFailure>>) -> Value {
    let mut value = json!({
        "job_id": job.job_id,
        "kind": kind(job),
        "state": state(job),
        "paths": job.spec.paths,
        "recursive": job.spec.recursive,
        "verify": job.spec.verify,
        // null: no limit.
        "bandwidth_bytes": (job.spec.bandwidth_bytes > 0).then_some(job.spec.bandwidth_bytes),
        "replicas": job.spec.replicas,
        "submitted_by": job.submitted_by,
        "submitted_ms": job.submitted_ms,
        "ended_ms": (job.ended_ms > 0).then_some(job.ended_ms),
        "files": job.tally.files,
        "failed": job.tally.failed,
        "fetched_bytes": job.tally.fetched_bytes,
        "cached_bytes": job.tally.cached_bytes,
        "verified_bytes": job.tally.verified_bytes,
        "corrupt_pages": job.tally.corrupt_pages,
        "cursor": String::from_utf8_lossy(&job.cursor),
        "found_files": job.found_files,
        "found_bytes": job.found_bytes,
        "found_all": job.found_all,
        "failures_kept": job.failures_kept,
        "last_error": (!job.last_error.is_empty()).then_some(&job.last_error),
    });
    if let Some(failures) = failures {
        let list = failures
            .iter()
            .map(|failure| json!({ "path": String::from_utf8_lossy(&failure.path), "reason": failure.reason }));
        value["failures"] = list.collect();
    }
    value
}
