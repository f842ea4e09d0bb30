//! Routes calls to what answers them, and checks who may call what.

mod change;
mod paths;

use crate::cores::Cores;
use crate::feed::Feed;
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::links::Links;
use crate::members::Members;
use crate::metrics::{self, MasterMetrics};
use crate::mounts::Mounts;
use crate::pins::Pins;
use crate::served::Served;
use crate::tree::Tree;
use forebay_base::metrics::PerCore;
use forebay_base::metrics::process;
use forebay_base::{ErrorKind, FileId, KindError, limits, log};
use forebay_net::message::cluster::{
    GetClusterMap, GetMountStore, Heartbeat, HeartbeatReply, LiveVersions, LiveVersionsReply, LogLevel, LogLevelReply,
    MountStore, RegisterWorker, Report, ReportReply,
};
use forebay_net::message::handshake::Role;
use forebay_net::message::job::{CancelJob, JobStatus, ListJobs, SubmitJob};
use forebay_net::message::namespace::{
    Attr, AttrResult, GetAttr, GetAttrReply, GetFeedPosition, GetFeedPositionReply, HoldMounts, ListMounts,
    ListMountsReply, Lookup, Mount, OpenRead, OpenReadReply, ReadDir, Recheck, Resolve, Unmount,
};
use forebay_net::message::write::{GrantWrite, RecordWrite};
use forebay_net::message::{Empty, Wire};
use forebay_net::transport::tokio::Service;
use forebay_net::{Op, Peer, decode};
use rkyv::util::AlignedVec;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// What the server calls.
pub(crate) struct MasterService {
    pub(crate) tree: Arc<Tree>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) members: Arc<Members>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) cores: Arc<Cores>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) metrics: Arc<PerCore<MasterMetrics>>,
    /// To the workers' cores.
    pub(crate) links: Arc<Links>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) cluster_id: u128,
}

impl Service for MasterService {
    async fn call(
        &self,
        peer: Arc<Peer>,
        op: Op,
        body: AlignedVec,
        _deadline: Duration,
    ) -> Result<AlignedVec, KindError> {
        let served = Served::begin(&self.metrics, &peer, op, &body);
        let result = self.answer(&peer, op, body).await;
        served.end(&result);
        result
    }
}

/// The caller's role must be `want`; without a secret anyone on this host can claim one.
fn require(peer: &Peer, want: Role, op: Op) -> Result<(), KindError> {
    if peer.role == want {
        return Ok(());
    }
    let message = format!("{op:?}: the role {:?} may not do this, want {want:?}", peer.role);
    Err(KindError::new(ErrorKind::Denied, message))
}

/// Shows or changes this process's log filter. A master that does not lead does that too.
fn log_level(body: &[u8]) -> Result<AlignedVec, KindError> {
    let request: LogLevel = decode(body)?;
    if !request.filter.is_empty() {
        log::set_level(&request.filter).map_err(|problem| KindError::new(ErrorKind::Invalid, problem))?;
    }
    Ok(LogLevelReply { filter: log::level() }.to_bytes())
}

fn bounded(count: usize, op: Op) -> Result<(), KindError> {
    if count <= limits::BATCH_MAX {
        return Ok(());
    }
    let message = format!("{op:?}: got {count} items, want at most {}", limits::BATCH_MAX);
    Err(KindError::new(ErrorKind::Invalid, message))
}

fn ids(raw: &[u64]) -> Vec<FileId> {
    raw.iter().copied().map(FileId).collect()
}

fn attr_results(attrs: Vec<Result<Attr, KindError>>) -> GetAttrReply {
    let attrs = attrs.into_iter().map(|result| match result {
        Ok(attr) => AttrResult { status: 0, attr: Some(attr), message: String::new() },
        Err(error) => AttrResult { status: error.kind.code(), attr: None, message: error.message },
    });
    GetAttrReply { attrs: attrs.collect() }
}

/// Runs work whose halves belong together, also when the caller's deadline ends or its connection breaks meanwhile.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, KindError>> + Send + 'static,
) -> Result<T, KindError> {
    let ended = |error: tokio::task::JoinError| KindError::new(ErrorKind::Internal, error.to_string());
    tokio::spawn(work).await.map_err(ended)?
}

impl MasterService {
    /// The metrics of this process.
    pub(crate) async fn exposition(&self) -> Result<String, KindError> {
        let Self { metrics, cores, journal, members, mounts, pins, .. } = self;
        metrics::Sources { metrics, cores, journal, members, mounts, pins }.expose().await
    }

    async fn answer(&self, peer: &Peer, op: Op, body: AlignedVec) -> Result<AlignedVec, KindError> {
        if op == Op::LogLevel {
            require(peer, Role::Admin, op)?;
            return log_level(&body);
        }
        if !self.journal.is_leader() {
            return Err(KindError::new(ErrorKind::NotLeader, "this master does not lead, ask another or try again"));
        }
        match op {
            Op::Lookup => {
                let request: Lookup = decode(&body)?;
                Ok(self.tree.lookup(FileId(request.parent), &request.name).await?.to_bytes())
            }
            Op::GetAttr => {
                let request: GetAttr = decode(&body)?;
                bounded(request.file_ids.len(), op)?;
                Ok(attr_results(self.tree.attrs(&ids(&request.file_ids)).await?).to_bytes())
            }
            Op::Recheck => {
                let request: Recheck = decode(&body)?;
                bounded(request.file_ids.len(), op)?;
                Ok(attr_results(self.tree.recheck(&ids(&request.file_ids)).await?).to_bytes())
            }
            Op::ReadDir => {
                let request: ReadDir = decode(&body)?;
                Ok(self.tree.read_dir(&request).await?.to_bytes())
            }
            Op::OpenRead => {
                let request: OpenRead = decode(&body)?;
                bounded(request.files.len(), op)?;
                Ok(OpenReadReply { files: self.tree.open_read(&request.files).await? }.to_bytes())
            }
            Op::Resolve => {
                let request: Resolve = decode(&body)?;
                Ok(self.tree.resolve(&request.path).await?.to_bytes())
            }
            Op::GrantWrite => {
                require(peer, Role::Admin, op)?;
                let request: GrantWrite = decode(&body)?;
                Ok(self.tree.grant_write(&request.path, request.overwrite).await?.to_bytes())
            }
            Op::RecordWrite => {
                require(peer, Role::Admin, op)?;
                let request: RecordWrite = decode(&body)?;
                Ok(self.tree.record_write(&request.path).await?.to_bytes())
            }
            Op::CreateFile
            | Op::GrantSession
            | Op::RecordSaved
            | Op::HoldSessions
            | Op::MakeDirectory
            | Op::Remove
            | Op::Rename
            | Op::SetAttr => self.answer_changes(peer, op, &body).await,
            Op::Refresh
            | Op::UpdateMount
            | Op::ListPathPolicies
            | Op::SetPathPolicy
            | Op::RemovePathPolicy
            | Op::ListPins => self.answer_paths(peer, op, &body).await,
            Op::GetFeedPosition => {
                let _: GetFeedPosition = decode(&body)?;
                Ok(GetFeedPositionReply { position: self.feed.position() }.to_bytes())
            }
            Op::Mount | Op::Unmount | Op::ListMounts | Op::HoldMounts => self.answer_mounts(peer, op, &body).await,
            Op::SubmitJob | Op::ListJobs | Op::JobStatus | Op::CancelJob => self.answer_jobs(peer, op, &body).await,
            _ => self.answer_cluster(peer, op, &body).await,
        }
    }

    /// What the master knows of everything.
    pub(crate) async fn report(&self) -> Result<ReportReply, KindError> {
        let counts = self.cores.read_all(crate::namespace::Partition::inode_count).await?;
        Ok(ReportReply {
            cluster_id: self.cluster_id,
            epoch: self.members.epoch(),
            inodes: counts.into_iter().sum(),
            journal_index: self.journal.applied_index(),
            master_resident_bytes: process::resident_bytes(),
            unix_ms: forebay_base::unix_now_ms(),
            workers: self.members.report(),
            mounts: self.mounts.list(),
        })
    }

    async fn answer_mounts(&self, peer: &Peer, op: Op, body: &[u8]) -> Result<AlignedVec, KindError> {
        match op {
            Op::Mount => {
                require(peer, Role::Admin, op)?;
                let request: Mount = decode(body)?;
                let mounts = Arc::clone(&self.mounts);
                Ok(to_its_end(async move { mounts.mount(request).await }).await?.to_bytes())
            }
            Op::Unmount => {
                require(peer, Role::Admin, op)?;
                let request: Unmount = decode(body)?;
                let mounts = Arc::clone(&self.mounts);
                to_its_end(async move { mounts.unmount(request).await }).await?;
                Ok(Empty::default().to_bytes())
            }
            Op::ListMounts => {
                let _: ListMounts = decode(body)?;
                Ok(ListMountsReply { mounts: self.mounts.list() }.to_bytes())
            }
            _ => {
                let request: HoldMounts = decode(body)?;
                bounded(request.open_files.len(), op)?;
                self.mounts.hold(request);
                Ok(Empty::default().to_bytes())
            }
        }
    }

    async fn answer_jobs(&self, peer: &Peer, op: Op, body: &[u8]) -> Result<AlignedVec, KindError> {
        match op {
            Op::SubmitJob => {
                require(peer, Role::Admin, op)?;
                Ok(self.jobs.submit(decode::<SubmitJob>(body)?).await?.to_bytes())
            }
            Op::ListJobs => Ok(self.jobs.list(&decode::<ListJobs>(body)?).await?.to_bytes()),
            Op::JobStatus => Ok(self.jobs.status(&decode::<JobStatus>(body)?).await?.to_bytes()),
            _ => {
                require(peer, Role::Admin, op)?;
                self.jobs.cancel(&decode::<CancelJob>(body)?).await?;
                Ok(Empty::default().to_bytes())
            }
        }
    }

    async fn answer_cluster(&self, peer: &Peer, op: Op, body: &[u8]) -> Result<AlignedVec, KindError> {
        match op {
            Op::GetClusterMap => {
                let _: GetClusterMap = decode(body)?;
                Ok(self.members.map().to_bytes())
            }
            Op::RegisterWorker => {
                require(peer, Role::Worker, op)?;
                let request: RegisterWorker = decode(body)?;
                Ok(self.members.register(request)?.to_bytes())
            }
            Op::Heartbeat => {
                require(peer, Role::Worker, op)?;
                let request: Heartbeat = decode(body)?;
                let part = self.feed.after(request.feed_position, limits::BATCH_MAX);
                let (known, epoch) = self.members.heartbeat(request);
                let reply = HeartbeatReply {
                    epoch,
                    known,
                    events: part.events,
                    feed_position: part.position,
                    feed_reset: part.reset,
                    mounts: self.mounts.generations(),
                };
                Ok(reply.to_bytes())
            }
            Op::GetMountStore => {
                require(peer, Role::Worker, op)?;
                let request: GetMountStore = decode(body)?;
                let missing =
                    || KindError::new(ErrorKind::NotFound, format!("mount {}: it does not exist", request.mount_id));
                let mount = self.mounts.get(request.mount_id).ok_or_else(missing)?;
                let store = MountStore { uri: mount.record.uri.clone(), options: mount.record.options.clone() };
                Ok(store.to_bytes())
            }
            Op::LiveVersions => {
                require(peer, Role::Worker, op)?;
                let request: LiveVersions = decode(body)?;
                bounded(request.file_ids.len(), op)?;
                let versions = self.tree.live_versions(&ids(&request.file_ids)).await?;
                Ok(LiveVersionsReply { versions }.to_bytes())
            }
            Op::Report => {
                let _: Report = decode(body)?;
                Ok(self.report().await?.to_bytes())
            }
            _ => Err(KindError::new(ErrorKind::Unsupported, format!("{op:?}: a master does not answer this"))),
        }
    }
}
