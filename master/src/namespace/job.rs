//! Jobs as the journal keeps them: what to do, how far it is, what failed. Pure; lives in the table's partition.
//!
//! Invariants: numbers grow and are never used twice; what is counted is exactly what lies before the cursor, in the
//! order of the walk; at most `RUNNING_MAX` jobs run, and what is kept of those that ended is bounded.

use super::partition::DirtyRow;
use forebay_base::{ErrorKind, KindError};
use forebay_net::message::Wire;
use forebay_net::message::job::{JOB_FAILED, JOB_RUNNING};
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most jobs that run at once.
const RUNNING_MAX: usize = 16;
/// Most jobs remembered that have ended.
const ENDED_MAX: usize = 100;
/// Most failures kept of one job; the others are counted.
pub(crate) const FAILURES_MAX: usize = 10_000;
/// Most failures kept of all jobs that have ended; the oldest go first.
const ENDED_FAILURES_MAX: usize = 20_000;

/// What a job is to do; the fields are those of the wire's `JobSpec`.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct JobSpec {
    pub(crate) kind: u8,
    pub(crate) paths: Vec<String>,
    pub(crate) recursive: bool,
    pub(crate) verify: bool,
    pub(crate) bandwidth_bytes: u64,
    pub(crate) replicas: u16,
}

/// What it has done; the fields are those of the wire's `JobTally`.
#[derive(
    Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default,
)]
pub(crate) struct JobTally {
    pub(crate) files: u64,
    pub(crate) failed: u64,
    pub(crate) fetched_bytes: u64,
    pub(crate) cached_bytes: u64,
    pub(crate) verified_bytes: u64,
    pub(crate) corrupt_pages: u64,
}

/// A file or directory that failed.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct JobFailure {
    /// Its path.
    pub(crate) path: Vec<u8>,
    /// One line.
    pub(crate) reason: String,
}

/// How far a job is: everything up to `path`, in the order of the walk, is done.
#[derive(
    Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug, Default,
)]
pub(crate) struct JobPlace {
    /// Which of its paths.
    pub(crate) root: u32,
    /// A path at or below that one; empty before the first.
    pub(crate) path: Vec<u8>,
}

/// A step forward.
#[derive(Archive, Serialize, Deserialize, serde::Serialize, serde::Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct JobStep {
    /// Which job.
    pub(crate) id: u64,
    /// Where it is now.
    pub(crate) place: JobPlace,
    /// What is done up to there.
    pub(crate) tally: JobTally,
    /// Which failure the first of `failures` is, counted from 0.
    pub(crate) failures_from: u64,
    /// What failed since the last step; what is known already is not added twice.
    pub(crate) failures: Vec<JobFailure>,
    /// What last went wrong.
    pub(crate) last_error: String,
}

/// A job.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct JobRecord {
    /// Its number.
    pub(crate) id: u64,
    /// What to do.
    pub(crate) spec: JobSpec,
    /// A `JOB_` state of the wire.
    pub(crate) state: u8,
    /// Who asked for it.
    pub(crate) submitted_by: String,
    /// Milliseconds since 1970.
    pub(crate) submitted_ms: u64,
    /// Milliseconds since 1970; 0 while it runs.
    pub(crate) ended_ms: u64,
    /// How far it is.
    pub(crate) place: JobPlace,
    /// What is done.
    pub(crate) tally: JobTally,
    /// What last went wrong.
    pub(crate) last_error: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Job {
    record: JobRecord,
    failures: Vec<JobFailure>,
}

/// All jobs.
#[derive(Debug, Default)]
pub(crate) struct JobTable {
    jobs: BTreeMap<u64, Job>,
    dirty_jobs: BTreeSet<u64>,
    dirty_failures: BTreeSet<(u64, u32)>,
}

impl PartialEq for JobTable {
    /// Equality of state, whatever is dirty.
    fn eq(&self, other: &Self) -> bool {
        self.jobs == other.jobs
    }
}

/// First byte of a row that is a job.
pub(super) const JOB: u8 = b'j';
/// First byte of a row that is a failure.
pub(super) const FAILURE: u8 = b'f';

fn unknown(id: u64) -> KindError {
    KindError::new(ErrorKind::NotFound, format!("job {id}: there is no such job"))
}

impl JobTable {
    /// A new job; or the one of the same specification that runs, and true.
    pub(super) fn put(&mut self, spec: &JobSpec, by: &str, now_ms: u64) -> Result<(u64, bool), KindError> {
        let running = || self.jobs.values().filter(|job| job.record.state == JOB_RUNNING);
        if let Some(same) = running().find(|job| job.record.spec == *spec) {
            return Ok((same.record.id, true));
        }
        if running().count() >= RUNNING_MAX {
            let message = format!("{RUNNING_MAX} jobs run already: wait for one, or cancel one");
            return Err(KindError::new(ErrorKind::Overloaded, message));
        }
        // The newest job is always kept, so a number is never used twice.
        let id = self.jobs.last_key_value().map_or(1, |(last, _)| last + 1);
        let record = JobRecord {
            id,
            spec: spec.clone(),
            state: JOB_RUNNING,
            submitted_by: by.to_string(),
            submitted_ms: now_ms,
            ended_ms: 0,
            place: JobPlace::default(),
            tally: JobTally::default(),
            last_error: String::new(),
        };
        self.jobs.insert(id, Job { record, failures: Vec::new() });
        self.dirty_jobs.insert(id);
        Ok((id, false))
    }

    /// A running job is further.
    pub(super) fn step(&mut self, step: &JobStep) -> Result<(), KindError> {
        let job = self.jobs.get_mut(&step.id).ok_or_else(|| unknown(step.id))?;
        if job.record.state != JOB_RUNNING {
            return Err(KindError::new(ErrorKind::Invalid, format!("job {}: it has ended", step.id)));
        }
        job.record.place = step.place.clone();
        job.record.tally = step.tally;
        job.record.last_error.clone_from(&step.last_error);
        let from = job.failures.len();
        let known = (from as u64).saturating_sub(step.failures_from) as usize;
        job.failures.extend(step.failures.iter().skip(known).take(FAILURES_MAX - from).cloned());
        self.dirty_failures.extend((from..job.failures.len()).map(|index| (step.id, index as u32)));
        self.dirty_jobs.insert(step.id);
        Ok(())
    }

    /// Its last step; `state` says how it ended.
    pub(super) fn end(&mut self, step: &JobStep, state: u8, now_ms: u64) -> Result<(), KindError> {
        self.step(step)?;
        if let Some(job) = self.jobs.get_mut(&step.id) {
            job.record.state = if state == JOB_RUNNING { JOB_FAILED } else { state };
            job.record.ended_ms = now_ms;
        }
        let ended: Vec<u64> = self.ended().map(|job| job.record.id).collect();
        for id in &ended[..ended.len().saturating_sub(ENDED_MAX)] {
            // The newest number must stay known, see `put`.
            if self.jobs.last_key_value().is_some_and(|(last, _)| last != id) {
                self.forget_failures(*id);
                self.jobs.remove(id);
                self.dirty_jobs.insert(*id);
            }
        }
        let mut kept: usize = self.ended().map(|job| job.failures.len()).sum();
        for id in ended {
            if kept <= ENDED_FAILURES_MAX {
                break;
            }
            kept -= self.forget_failures(id);
        }
        Ok(())
    }

    fn ended(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(|job| job.record.state != JOB_RUNNING)
    }

    fn forget_failures(&mut self, id: u64) -> usize {
        let Some(job) = self.jobs.get_mut(&id) else { return 0 };
        let count = std::mem::take(&mut job.failures).len();
        self.dirty_failures.extend((0..count).map(|index| (id, index as u32)));
        count
    }

    /// The jobs with how many failures are kept of each, oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&JobRecord, usize)> {
        self.jobs.values().map(|job| (&job.record, job.failures.len()))
    }

    /// One job and some of its failures.
    pub(crate) fn look(&self, id: u64, from: usize, most: usize) -> Option<(JobRecord, usize, Vec<JobFailure>)> {
        let job = self.jobs.get(&id)?;
        let failures = job.failures.iter().skip(from).take(most).cloned().collect();
        Some((job.record.clone(), job.failures.len(), failures))
    }

    /// The rows that changed since the last call.
    pub(super) fn take_dirty(&mut self, partition: u8) -> Vec<DirtyRow> {
        let mut rows = Vec::new();
        for id in std::mem::take(&mut self.dirty_jobs) {
            let mut key = vec![JOB, partition];
            key.extend_from_slice(&id.to_be_bytes());
            rows.push((key, self.jobs.get(&id).map(|job| job.record.to_bytes().to_vec())));
        }
        for (id, index) in std::mem::take(&mut self.dirty_failures) {
            let mut key = vec![FAILURE, partition];
            key.extend_from_slice(&id.to_be_bytes());
            key.extend_from_slice(&index.to_be_bytes());
            let failure = self.jobs.get(&id).and_then(|job| job.failures.get(index as usize));
            rows.push((key, failure.map(|failure| failure.to_bytes().to_vec())));
        }
        rows
    }

    /// Puts one row back at start; `key` is what follows the partition. Rows come in order of key, so a job's failures
    /// come before the job.
    pub(super) fn restore_row(&mut self, kind: u8, key: &[u8], value: &[u8]) -> Result<(), String> {
        let id = key.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes)).ok_or("the key is too short")?;
        if kind == FAILURE {
            let failure = JobFailure::from_bytes(value).map_err(|error| error.to_string())?;
            self.entry(id).failures.push(failure);
        } else {
            self.entry(id).record = JobRecord::from_bytes(value).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn entry(&mut self, id: u64) -> &mut Job {
        self.jobs.entry(id).or_insert_with(|| Job {
            record: JobRecord {
                id,
                spec: JobSpec {
                    kind: 0,
                    paths: Vec::new(),
                    recursive: false,
                    verify: false,
                    bandwidth_bytes: 0,
                    replicas: 1,
                },
                state: JOB_FAILED,
                submitted_by: String::new(),
                submitted_ms: 0,
                ended_ms: 0,
                place: JobPlace::default(),
                tally: JobTally::default(),
                last_error: String::new(),
            },
            failures: Vec::new(),
        })
    }

    /// After the last `restore_row`: what is in RocksDB is not dirty.
    pub(super) fn restored(&mut self) {
        self.dirty_jobs.clear();
        self.dirty_failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::job::{JOB_CANCELLED, JOB_DONE, JOB_LOAD};

    fn spec(path: &str) -> JobSpec {
        JobSpec {
            kind: JOB_LOAD,
            paths: vec![path.into()],
            recursive: true,
            verify: false,
            bandwidth_bytes: 0,
            replicas: 1,
        }
    }

    fn step(id: u64, failures_from: usize, failures: usize) -> JobStep {
        let failure = |index| JobFailure { path: format!("/f{index}").into_bytes(), reason: "gone".into() };
        JobStep {
            id,
            place: JobPlace { root: 0, path: b"/d/x".to_vec() },
            tally: JobTally { files: 7, failed: failures as u64, ..JobTally::default() },
            failures_from: failures_from as u64,
            failures: (failures_from..failures_from + failures).map(failure).collect(),
            last_error: "gone".into(),
        }
    }

    fn rebuilt(table: &mut JobTable, rows: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> JobTable {
        for (key, value) in table.take_dirty(0) {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        let mut again = JobTable::default();
        for (key, value) in rows.iter() {
            again.restore_row(key[0], &key[2..], value).unwrap();
        }
        again.restored();
        again
    }

    #[test]
    fn the_same_job_runs_once_and_too_many_are_refused() {
        let mut table = JobTable::default();
        assert_eq!(table.put(&spec("/a"), "me", 5).unwrap(), (1, false));
        assert_eq!(table.put(&spec("/a"), "you", 6).unwrap(), (1, true));
        assert_eq!(table.put(&spec("/b"), "me", 7).unwrap(), (2, false));
        table.end(&step(1, 0, 0), JOB_DONE, 9).unwrap();
        assert_eq!(table.put(&spec("/a"), "me", 10).unwrap(), (3, false));
        assert_eq!(table.step(&step(1, 0, 0)).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(table.step(&step(99, 0, 0)).unwrap_err().kind, ErrorKind::NotFound);
        for index in 0..RUNNING_MAX - 2 {
            table.put(&spec(&format!("/c{index}")), "me", 11).unwrap();
        }
        assert_eq!(table.put(&spec("/z"), "me", 12).unwrap_err().kind, ErrorKind::Overloaded);
    }

    #[test]
    fn what_is_kept_is_bounded_and_comes_back_from_its_rows() {
        let (mut table, mut rows) = (JobTable::default(), BTreeMap::new());
        for round in 0..ENDED_MAX as u64 + 20 {
            let (id, _) = table.put(&spec("/a"), "me", round).unwrap();
            assert_eq!(id, round + 1);
            table.step(&step(id, 0, 150)).unwrap();
            table.end(&step(id, 100, 200), JOB_CANCELLED, round).unwrap();
            let (_, kept, failures) = table.look(id, 149, 2).unwrap();
            let paths: Vec<_> = failures.iter().map(|failure| failure.path.as_slice()).collect();
            assert_eq!((kept, paths), (300, vec![b"/f149".as_slice(), b"/f150"]), "none twice");
            if round % 7 == 0 {
                assert_eq!(rebuilt(&mut table, &mut rows), table);
            }
        }
        assert_eq!(table.records().count(), ENDED_MAX);
        let kept: usize = table.records().map(|(_, failures)| failures).sum();
        assert!(kept <= ENDED_FAILURES_MAX && kept > ENDED_FAILURES_MAX - 300, "{kept}");
        let (id, _) = table.put(&spec("/big"), "me", 1).unwrap();
        table.step(&step(id, 0, FAILURES_MAX + 5)).unwrap();
        let (record, kept, page) = table.look(id, FAILURES_MAX - 2, 100).unwrap();
        assert_eq!((record.id, kept, page.len()), (id, FAILURES_MAX, 2));
        assert_eq!(rebuilt(&mut table, &mut rows), table);
        assert!(rows.len() <= ENDED_MAX + 1 + ENDED_FAILURES_MAX + FAILURES_MAX);
    }
}
