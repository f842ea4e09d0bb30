//! The audit log: one line for each call that changes something, with who asked, what for, and what came of it.
//!
//! Invariants: every operation is placed in `is_audited` on purpose; of a request only names are shown, never options,
//! which hold secrets.

use forebay_base::log::AUDIT;
use forebay_base::{FileId, KindError};
use forebay_net::message::change::{CreateFile, GrantSession, MakeDirectory, RecordSaved, Remove, Rename, SetAttr};
use forebay_net::message::cluster::{LogLevel, RegisterWorker};
use forebay_net::message::job::{CancelJob, SubmitJob};
use forebay_net::message::namespace::{Mount, Refresh, RemovePathPolicy, SetPathPolicy, Unmount, UpdateMount};
use forebay_net::message::write::{GrantWrite, RecordWrite};
use forebay_net::{Message, Op, Peer};

/// A job may have many paths.
const PATHS_SHOWN: usize = 8;

/// Whether calls of this operation are written down.
fn is_audited(op: Op) -> bool {
    match op {
        Op::Mount
        | Op::Unmount
        | Op::RegisterWorker
        | Op::LogLevel
        | Op::SubmitJob
        | Op::CancelJob
        | Op::UpdateMount
        | Op::Refresh
        | Op::GrantWrite
        | Op::RecordWrite
        | Op::CreateFile
        | Op::GrantSession
        | Op::RecordSaved
        | Op::MakeDirectory
        | Op::Remove
        | Op::Rename
        | Op::SetAttr
        | Op::SetPathPolicy
        | Op::RemovePathPolicy => true,
        Op::Hello
        | Op::Prove
        | Op::Lookup
        | Op::GetAttr
        | Op::ReadDir
        | Op::OpenRead
        | Op::Resolve
        | Op::ListMounts
        | Op::HoldMounts
        | Op::Recheck
        | Op::GetClusterMap
        | Op::Heartbeat
        | Op::GetMountStore
        | Op::Report
        | Op::LiveVersions
        | Op::Read
        | Op::Load
        | Op::Evict
        | Op::CacheStatus
        | Op::ListPathPolicies
        | Op::ListPins
        | Op::GetFeedPosition
        | Op::Pin
        | Op::CachedBlocks
        | Op::Explain
        | Op::Verify
        | Op::BeginUpload
        | Op::UploadPiece
        | Op::FinishUpload
        | Op::AbortUpload
        | Op::HoldSessions
        | Op::OpenSession
        | Op::WriteSession
        | Op::ReadSession
        | Op::ResizeSession
        | Op::SyncSession
        | Op::SaveSession
        | Op::EndSession
        | Op::RenewSessions
        | Op::LeaseFile
        | Op::ReturnLeases
        | Op::RenewLeases
        | Op::ListJobs
        | Op::JobStatus => false,
    }
}

/// A URI without what stands before `@` of its host, and without its query: neither belongs there, both may be secret.
fn without_credentials(uri: &str) -> String {
    let uri = uri.split_once(['?', '#']).map_or(uri, |(bare, _)| bare);
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_string() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{}{path}", host.rsplit_once('@').map_or(host, |(_, host)| host))
}

fn named(parent: u64, name: &[u8]) -> String {
    format!("\"{}\" in {}", String::from_utf8_lossy(name), FileId(parent))
}

/// What a request is about, in a few words without secrets.
fn subject(op: Op, body: &[u8]) -> String {
    fn read<M: Message>(body: &[u8], words: impl FnOnce(M) -> String) -> String {
        M::from_bytes(body).map(words).unwrap_or_default()
    }
    match op {
        Op::Mount => read(body, |request: Mount| format!("{} {}", request.path, without_credentials(&request.uri))),
        Op::Unmount => read(
            body,
            |request: Unmount| {
                if request.force { format!("{} by force", request.path) } else { request.path }
            },
        ),
        Op::UpdateMount => read(body, |request: UpdateMount| {
            let set = request.set_options.into_iter().map(|(name, _)| name);
            let names: Vec<String> = set.chain(request.remove_options).collect();
            format!("{} options: {}", request.path, names.join(" "))
        }),
        Op::Refresh => read(body, |request: Refresh| {
            let only = if request.apply { "" } else { ", only told" };
            format!("file {}{only}", FileId(request.file_id))
        }),
        Op::GrantWrite => read(body, |request: GrantWrite| {
            let replaces = if request.overwrite { ", replacing what is there" } else { "" };
            format!("{}{replaces}", String::from_utf8_lossy(&request.path))
        }),
        Op::RecordWrite => read(body, |request: RecordWrite| String::from_utf8_lossy(&request.path).into_owned()),
        Op::CreateFile => read(body, |request: CreateFile| named(request.parent, &request.name)),
        Op::GrantSession => read(body, |request: GrantSession| format!("file {}", FileId(request.file_id))),
        Op::RecordSaved => read(body, |request: RecordSaved| format!("file {}", FileId(request.file_id))),
        Op::MakeDirectory => read(body, |request: MakeDirectory| named(request.parent, &request.name)),
        Op::Remove => read(body, |request: Remove| named(request.parent, &request.name)),
        Op::Rename => read(body, |request: Rename| {
            let (old, new) = (named(request.parent, &request.name), named(request.new_parent, &request.new_name));
            format!("{old} to {new}")
        }),
        Op::SetAttr => read(body, |request: SetAttr| format!("file {}", FileId(request.file_id))),
        Op::SetPathPolicy => read(body, |request: SetPathPolicy| {
            let mut text = request.policy.path;
            text.extend(request.policy.freshness_ms.map(|ms| format!(" freshness {ms} ms")));
            text.extend(request.policy.pin.map(|pin| if pin { " pin" } else { " unpin" }.to_string()));
            text
        }),
        Op::RemovePathPolicy => read(body, |request: RemovePathPolicy| request.path),
        Op::RegisterWorker => read(body, |request: RegisterWorker| {
            let address = request.worker.shards.first().map(|shard| shard.tcp.clone()).unwrap_or_default();
            format!("worker {:016x} at {address}", request.worker.worker_id)
        }),
        Op::LogLevel => read(body, |request: LogLevel| request.filter),
        Op::SubmitJob => read(body, |request: SubmitJob| {
            let (paths, more) = (&request.spec.paths, request.spec.paths.len().saturating_sub(PATHS_SHOWN));
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let shown = paths[..paths.len().min(PATHS_SHOWN)].join(" ");
            format!("load {shown}{more} for {}", request.submitted_by)
        }),
        Op::CancelJob => read(body, |request: CancelJob| format!("job {}", request.job_id)),
        _ => String::new(),
    }
}

/// Writes the line of what the console did for a holder of its token.
pub(crate) fn write_http<T>(op: Op, subject: &str, result: &Result<T, KindError>) {
    let outcome =
        result.as_ref().err().map_or("done".into(), |error| format!("refused ({}): {}", error.kind, error.message));
    tracing::info!(target: AUDIT, ?op, role = "token", peer = "http", subject, outcome);
}

/// A call that will be written down when its outcome is known.
pub(crate) struct Entry {
    op: Op,
    subject: String,
}

impl Entry {
    /// `None` for a call that changes nothing.
    pub(crate) fn of(op: Op, body: &[u8]) -> Option<Self> {
        if !is_audited(op) {
            return None;
        }
        let subject = subject(op, body);
        // Only asked for.
        if op == Op::LogLevel && subject.is_empty() {
            return None;
        }
        Some(Self { op, subject })
    }

    /// Writes the line.
    pub(crate) fn write<T>(self, peer: &Peer, result: &Result<T, KindError>) {
        let Self { op, subject } = self;
        let (role, peer) = (peer.role, &peer.address);
        match result {
            Ok(_) => tracing::info!(target: AUDIT, ?op, ?role, peer, subject, outcome = "done"),
            Err(error) => {
                // What is wrong with a mount may repeat its URI as it came.
                let hides = op == Op::Mount && error.message.contains('@');
                let message = if hides { "its reason is not shown: it may hold credentials" } else { &error.message };
                let outcome = format!("refused ({}): {message}", error.kind);
                tracing::info!(target: AUDIT, ?op, ?role, peer, subject, outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_net::message::Wire;
    use forebay_net::message::cluster::Report;
    use forebay_net::message::job::{JOB_LOAD, JobSpec};

    #[test]
    fn names_are_shown_and_secrets_are_not() {
        let mount = Mount {
            path: "/data".into(),
            uri: "s3://bucket".into(),
            options: vec![("secret_key".into(), "hunter2".into())],
            freshness_ms: 0,
            readonly: true,
        };
        let entry = Entry::of(Op::Mount, &mount.to_bytes()).expect("audited");
        assert_eq!(entry.subject, "/data s3://bucket");
        assert_eq!(without_credentials("s3://key:hunter2@bucket/a@b?secret=hunter2"), "s3://bucket/a@b");
        assert_eq!(without_credentials("file:///a@b"), "file:///a@b");
        let spec = JobSpec {
            kind: JOB_LOAD,
            paths: (0..10).map(|number| format!("/{number}")).collect(),
            recursive: true,
            verify: false,
            bandwidth_bytes: 0,
            replicas: 1,
        };
        let submitted = SubmitJob { spec, submitted_by: "ops@host".into() };
        let entry = Entry::of(Op::SubmitJob, &submitted.to_bytes()).expect("audited");
        assert_eq!(entry.subject, "load /0 /1 /2 /3 /4 /5 /6 /7 and 2 more for ops@host");
        assert_eq!(Entry::of(Op::CancelJob, &CancelJob { job_id: 7 }.to_bytes()).expect("audited").subject, "job 7");
        let unmount = Unmount { path: "/data".into(), force: true };
        assert_eq!(Entry::of(Op::Unmount, &unmount.to_bytes()).expect("audited").subject, "/data by force");
        assert!(Entry::of(Op::Report, &Report::default().to_bytes()).is_none());
        assert!(Entry::of(Op::LogLevel, &LogLevel { filter: String::new() }.to_bytes()).is_none());
        assert_eq!(Entry::of(Op::Mount, b"damaged").expect("audited all the same").subject, "");
    }
}
