//! Work that the master does for an operator in the background: submitted, looked at, cancelled.

use super::{Empty, message};
use rkyv::{Archive, Deserialize, Serialize};

/// `JobSpec::kind`: fetches files into the cache.
pub const JOB_LOAD: u8 = 1;

/// `JobInfo::state`: it goes on.
pub const JOB_RUNNING: u8 = 1;
/// `JobInfo::state`: all of it is done.
pub const JOB_DONE: u8 = 2;
/// `JobInfo::state`: all of it was tried, some of it failed.
pub const JOB_PARTLY: u8 = 3;
/// `JobInfo::state`: it was cancelled.
pub const JOB_CANCELLED: u8 = 4;
/// `JobInfo::state`: it was given up before its end.
pub const JOB_FAILED: u8 = 5;

/// What a job is to do.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct JobSpec {
    /// `JOB_LOAD`.
    pub kind: u8,
    /// Absolute paths, at most `limits::JOB_PATHS_MAX`.
    pub paths: Vec<String>,
    /// Directories with everything below them.
    pub recursive: bool,
    /// Reads back what was written to SSD.
    pub verify: bool,
    /// Bytes from stores per second over all workers; 0 for no limit.
    pub bandwidth_bytes: u64,
    /// Workers that get each block: the first ones in rank.
    pub replicas: u16,
}

/// Starts a job (role Admin). While one of the same specification runs, that one is the answer.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SubmitJob {
    /// What to do.
    pub spec: JobSpec,
    /// Who asks, for people: `user@host`.
    pub submitted_by: String,
}

/// Answers `SubmitJob`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct SubmitJobReply {
    /// Its number.
    pub job_id: u64,
    /// It was running already.
    pub joined: bool,
}
message!(SubmitJob => SubmitJobReply);

/// What a job has done. Bytes are those of `files`: of files that did not fail.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JobTally {
    /// Files done well.
    pub files: u64,
    /// Files and directories that failed.
    pub failed: u64,
    /// Bytes fetched from stores.
    pub fetched_bytes: u64,
    /// Bytes that were cached already.
    pub cached_bytes: u64,
    /// Bytes read back and found right.
    pub verified_bytes: u64,
    /// Pages found wrong and fetched again.
    pub corrupt_pages: u64,
}

/// A job as people see it.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct JobInfo {
    /// Its number.
    pub job_id: u64,
    /// What it is to do.
    pub spec: JobSpec,
    /// A `JOB_` state.
    pub state: u8,
    /// Who asked for it.
    pub submitted_by: String,
    /// Milliseconds since 1970.
    pub submitted_ms: u64,
    /// Milliseconds since 1970; 0 while it runs.
    pub ended_ms: u64,
    /// What it has done so far.
    pub tally: JobTally,
    /// Everything up to this path, in the order of the walk, is done; a master that restarts goes on behind it.
    pub cursor: Vec<u8>,
    /// Files found so far.
    pub found_files: u64,
    /// Their bytes, times `replicas`.
    pub found_bytes: u64,
    /// All files are found.
    pub found_all: bool,
    /// Failures that are kept with path and reason; the others are only counted.
    pub failures_kept: u64,
    /// What last went wrong, else empty.
    pub last_error: String,
}

/// Lists jobs, oldest first.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ListJobs {
    /// Those that have ended too.
    pub all: bool,
}

/// Answers `ListJobs`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ListJobsReply {
    /// The jobs.
    pub jobs: Vec<JobInfo>,
}
message!(ListJobs => ListJobsReply);

/// One job, and some of its failures.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct JobStatus {
    /// Its number.
    pub job_id: u64,
    /// Failures from this one on, counted from 0.
    pub failures_from: u64,
    /// At most this many, and at most `limits::JOB_FAILURES_PAGE`.
    pub failures_max: u32,
}

/// A file or directory that failed.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct JobFailure {
    /// Its path.
    pub path: Vec<u8>,
    /// One line.
    pub reason: String,
}

/// Answers `JobStatus`.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct JobStatusReply {
    /// The job.
    pub job: JobInfo,
    /// In the order of the walk.
    pub failures: Vec<JobFailure>,
}
message!(JobStatus => JobStatusReply);

/// Ends a job (role Admin). What is loaded stays.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct CancelJob {
    /// Its number.
    pub job_id: u64,
}
message!(CancelJob => Empty);
