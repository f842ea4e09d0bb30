//! Between the journal's records and the wire. Pure.

use super::runner::Watched;
use crate::namespace;
use forebay_net::message::job::{JOB_RUNNING, JobFailure, JobInfo, JobSpec, JobTally};

/// A specification as the journal keeps it.
pub(super) fn record_of(spec: JobSpec) -> namespace::JobSpec {
    let JobSpec { kind, paths, recursive, verify, bandwidth_bytes, replicas } = spec;
    namespace::JobSpec { kind, paths, recursive, verify, bandwidth_bytes, replicas }
}

/// A failure as people see it.
pub(super) fn failure(failure: namespace::JobFailure) -> JobFailure {
    JobFailure { path: failure.path, reason: failure.reason }
}

fn tally(tally: namespace::JobTally) -> JobTally {
    let namespace::JobTally { files, failed, fetched_bytes, cached_bytes, verified_bytes, corrupt_pages } = tally;
    JobTally { files, failed, fetched_bytes, cached_bytes, verified_bytes, corrupt_pages }
}

/// A job as people see it; `watched` while it runs here.
pub(super) fn info(record: namespace::JobRecord, kept: usize, watched: Option<Watched>) -> JobInfo {
    let namespace::JobSpec { kind, paths, recursive, verify, bandwidth_bytes, replicas } = record.spec;
    let ended = record.state != JOB_RUNNING;
    let watched = watched.unwrap_or_else(|| Watched {
        tally: record.tally,
        found_files: record.tally.files + record.tally.failed,
        found_bytes: record.tally.fetched_bytes + record.tally.cached_bytes,
        found_all: ended,
        last_error: record.last_error,
    });
    JobInfo {
        job_id: record.id,
        spec: JobSpec { kind, paths, recursive, verify, bandwidth_bytes, replicas },
        state: record.state,
        submitted_by: record.submitted_by,
        submitted_ms: record.submitted_ms,
        ended_ms: record.ended_ms,
        tally: tally(watched.tally),
        cursor: record.place.path,
        found_files: watched.found_files,
        found_bytes: watched.found_bytes,
        found_all: watched.found_all,
        failures_kept: kept as u64,
        last_error: watched.last_error,
    }
}
