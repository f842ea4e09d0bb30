//! `fs load`: submits a job and watches it; or only submits it, shows it, ends it.
//!
//! Invariant: the job does not depend on whoever watches: an interrupt leaves it running and says how to look again.

use super::progress::Progress;
use crate::arguments::Load;
use crate::failure::Failure;
use crate::job;
use crate::output::{self, printable};
use forebay_base::{ByteSize, ErrorKind, KindError};
use forebay_client::Client;
use forebay_client::message::job::{JOB_CANCELLED, JOB_DONE, JOB_LOAD, JOB_RUNNING, JobInfo, JobSpec, SubmitJob};
use serde_json::json;
use std::time::{Duration, Instant};

/// First and longest wait between two looks.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_millis(250);
/// A master that is away for so long is given up; the job may go on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the verb.
pub(crate) async fn load(client: &Client, load: Load) -> Result<(), Failure> {
    let target = |given: Option<String>| given.or_else(|| load.paths.first().cloned());
    if let Some(given) = load.progress.clone() {
        return match job::find(client, "fs load", target(given).as_deref()).await? {
            Some(job) => watch(client, job.job_id, load.json).await,
            None => output::line("no load runs"),
        };
    }
    if let Some(given) = load.stop.clone() {
        let job = job::find(client, "fs load", target(given).as_deref()).await?;
        let Some(job) = job.filter(|job| job.state == JOB_RUNNING) else { return output::line("no load runs") };
        return job::cancel(client, job.job_id).await;
    }
    for path in &load.paths {
        if !path.starts_with('/') {
            let message = format!("fs load: {path}: want an absolute path in the namespace, such as /data/x");
            return Err(Failure::usage(message));
        }
    }
    let spec = JobSpec {
        kind: JOB_LOAD,
        paths: load.paths.iter().map(|path| trimmed(path).to_string()).collect(),
        recursive: load.recursive,
        verify: load.verify,
        bandwidth_bytes: load.bandwidth.unwrap_or(0),
        replicas: load.replicas,
    };
    let what = if let [path] = &load.paths[..] { path.clone() } else { format!("{} paths", load.paths.len()) };
    let request = SubmitJob { spec, submitted_by: who() };
    let reply = client.master(&request).await.map_err(|error| Failure::of("fs load", &what, &error))?;
    if load.submit {
        return output::line(&match (load.json, reply.joined) {
            (true, joined) => json!({ "job_id": reply.job_id, "joined": joined }).to_string(),
            (_, false) => format!("job {}", reply.job_id),
            (_, true) => format!("job {}, which does the same already", reply.job_id),
        });
    }
    if reply.joined {
        eprintln!("forebay: fs load: job {} does the same already: waiting for it", reply.job_id);
    }
    watch(client, reply.job_id, load.json).await
}

/// A path without a slash at its end.
fn trimmed(path: &str) -> &str {
    let short = path.trim_end_matches('/');
    if short.is_empty() { "/" } else { short }
}

/// `user@host`, for people.
fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}", host.trim())
}

/// Shows a job until it ends; its report and its failures then.
async fn watch(client: &Client, id: u64, json: bool) -> Result<(), Failure> {
    let progress = Progress::new();
    let began = Instant::now();
    let waited = tokio::select! {
        ended = until_ended(client, id, &progress) => ended,
        _ = tokio::signal::ctrl_c() => {
            progress.finish();
            return Err(Failure::failed(format!(
                "fs load: interrupted; job {id} goes on: forebay job stat {id} shows it, forebay job cancel {id} ends it"
            )));
        }
    };
    progress.finish();
    let job = waited.map_err(|error| Failure::of("fs load", &format!("job {id}"), &error))?;
    let failures = job::failures(client, &job).await?;
    if json {
        output::line(&job::as_json(&job, Some(&failures)).to_string())?;
    } else {
        output::line(&report(&job, began.elapsed().as_secs_f64()))?;
    }
    let mut said = String::new();
    for failure in &failures {
        said.push_str(&format!("fs load: {}: {}\n", printable(&failure.path), failure.reason));
    }
    let named = failures.len() as u64;
    if job.tally.failed > named {
        said.push_str(&format!("fs load: {} more failed, which are not kept by name\n", job.tally.failed - named));
    }
    match job.state {
        JOB_DONE => Ok(()),
        JOB_CANCELLED => Err(Failure::failed(format!("{said}fs load: job {id} was cancelled"))),
        _ if job.tally.failed > 0 => {
            Err(Failure::failed(format!("{said}fs load: {} failed: each is named above", job.tally.failed)))
        }
        _ => Err(Failure::failed(format!("fs load: job {id} was given up: {}", job.last_error))),
    }
}

/// Looks again and again, and bears with a master that is away for a while.
async fn until_ended(client: &Client, id: u64, progress: &Progress) -> Result<JobInfo, KindError> {
    let mut wait = LOOK;
    let mut away: Option<Instant> = None;
    loop {
        match job::status(client, id, 0, 0).await {
            Ok(reply) => {
                away = None;
                let (job, tally) = (&reply.job, &reply.job.tally);
                let total = job.found_all.then_some((job.found_files, job.found_bytes));
                progress.show(tally.files + tally.failed, tally.fetched_bytes + tally.cached_bytes, total);
                if reply.job.state != JOB_RUNNING {
                    return Ok(reply.job);
                }
            }
            Err(error) if error.kind == ErrorKind::Unavailable || error.kind == ErrorKind::NotLeader => {
                if away.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).min(LOOK_MAX);
    }
}

/// What became of it, exactly.
fn report(job: &JobInfo, seconds: f64) -> String {
    let tally = &job.tally;
    let speed = if seconds > 0.0 { tally.fetched_bytes as f64 / seconds } else { 0.0 };
    let mut text = format!(
        "{} files loaded, {} failed; {} bytes ({}) fetched, {} bytes ({}) cached already; {seconds:.1} s, {}/s fetched",
        tally.files,
        tally.failed,
        tally.fetched_bytes,
        ByteSize(tally.fetched_bytes),
        tally.cached_bytes,
        ByteSize(tally.cached_bytes),
        ByteSize(speed as u64)
    );
    if job.spec.verify {
        text.push_str(&format!(
            "; {} bytes ({}) verified on SSD, {} pages were wrong and fetched again",
            tally.verified_bytes,
            ByteSize(tally.verified_bytes),
            tally.corrupt_pages
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_end_do_not_matter() {
        assert_eq!((trimmed("/a/b//"), trimmed("/"), trimmed("/a")), ("/a/b", "/", "/a"));
    }
}
