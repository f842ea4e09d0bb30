//! openraft's types as this master uses them, its configuration, and the network of a master without peers.

use super::log_store::LogStore;
use super::machine::{Cut, Machine};
use crate::namespace::{Command, Outcome};
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::type_config::alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::{BasicNode, Config, Raft, SnapshotPolicy};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// Commands of one entry.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Batch {
    pub(super) commands: Arc<Vec<Command>>,
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.commands.len())
    }
}

/// Outcomes of one entry, one per command.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Outcomes(pub(super) Vec<Outcome>);

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outcomes", self.0.len())
    }
}

openraft::declare_raft_types!(
    /// This master's Raft.
    pub(crate) Types: D = Batch, R = Outcomes
);

pub(super) type Consensus = Raft<Types, Machine>;
pub(super) type Entry = EntryOf<Types>;
pub(super) type LogId = LogIdOf<Types>;
pub(super) type Vote = VoteOf<Types>;
pub(super) type Membership = StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = SnapshotMetaOf<Types>;
pub(super) type Snapshot = SnapshotOf<Types, Cut>;

/// This master's node id.
pub(super) const NODE_ID: u64 = 1;

/// Starts raft on the current runtime and makes it lead.
pub(super) async fn start(
    log: LogStore,
    machine: Machine,
    members: BTreeMap<u64, BasicNode>,
) -> Result<Consensus, String> {
    let config = Config {
        cluster_name: "forebay".into(),
        heartbeat_interval: 500,
        election_timeout_min: 2_000,
        election_timeout_max: 4_000,
        // Cuts are asked for by the flush loop; the log is purged up to the last one.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 1,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|error| error.to_string())?);
    let raft = Raft::new(NODE_ID, config, NoPeers, log, machine).await.map_err(|error| error.to_string())?;
    if !raft.is_initialized().await.map_err(|error| error.to_string())? {
        raft.initialize(members).await.map_err(|error| error.to_string())?;
    } else {
        // The only voter need not wait for an election timeout.
        raft.trigger().elect(false).await.map_err(|error| error.to_string())?;
    }
    Ok(raft)
}

/// The network of the only voter: there is nobody to call.
pub(super) struct NoPeers;

impl RaftNetworkFactory<Types> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> NoPeer {
        NoPeer(format!("master {target} at {}: this cluster is configured with one master", node.addr))
    }
}

/// A peer that does not exist.
pub(super) struct NoPeer(String);

impl NoPeer {
    fn unreachable(&self) -> Unreachable<Types> {
        Unreachable::new(&std::io::Error::new(std::io::ErrorKind::NotConnected, self.0.clone()))
    }
}

impl RaftNetworkV2<Types> for NoPeer {
    type SnapshotData = Cut;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}
