//! The control thread's talk with the master: registration, heartbeats, the feed of dead versions, and mounts that come
//! and go. Runs on the control thread's tokio runtime.
//!
//! Invariants: the feed's position moves only when every core has taken the events before it; a master that is away
//! stops nothing but this.

use crate::allocator;
use crate::counters::ShardView;
use crate::feed::FeedPosition;
use crate::masters::Masters;
use crate::report;
use crate::shard::Command;
use crate::store_gate::StoreGate;
use ed25519_dalek::VerifyingKey;
use forebay_base::{ClusterId, ErrorKind, FileId, KindError, MountId, Version, limits};
use forebay_net::message::cluster::{
    ClusterMap, FeedEvent, Heartbeat, HeartbeatReply, LiveVersions, RegisterWorker, WorkerInfo,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Pauses between requests for the feed that shards ask for.
const PULL_PAUSE: Duration = Duration::from_millis(10);
/// Code, index, rings and stacks; resident memory beyond the budgets and this is freed memory that the heaps hold.
const RESIDENT_SLACK_BYTES: u64 = 64 << 20;

/// What the talk needs.
pub(crate) struct Control {
    pub(crate) masters: Arc<Masters>,
    pub(crate) worker: WorkerInfo,
    pub(crate) cluster_id: ClusterId,
    pub(crate) ticket_key: Arc<Mutex<VerifyingKey>>,
    pub(crate) gate: Arc<StoreGate>,
    pub(crate) feed: Arc<FeedPosition>,
    pub(crate) views: Vec<Arc<ShardView>>,
    pub(crate) shards: Vec<mpsc::Sender<Command>>,
    pub(crate) heartbeat: Duration,
    /// What the MEM tier and the pages in flight may take.
    pub(crate) budget_bytes: u64,
}

impl Control {
    /// Joins the cluster.
    pub(crate) async fn register(&self) -> Result<(), KindError> {
        let request = RegisterWorker { worker: self.worker.clone(), cluster_id: self.cluster_id.0 };
        let map = self.masters.call(&request).await?;
        *self.ticket_key.lock().unwrap_or_else(PoisonError::into_inner) = ticket_key(&map)?;
        Ok(())
    }

    /// Reports and listens, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut away: Option<u32> = None;
        let mut mounts: Option<BTreeMap<u32, u32>> = None;
        let mut work: Option<JoinHandle<Result<(), KindError>>> = None;
        // After a start the cache may hold what died meanwhile, so everything held is asked about once.
        let mut sweep_wanted = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.heartbeat) => {}
                () = self.feed.asked() => tokio::time::sleep(PULL_PAUSE).await,
                done = finished(&mut work) => if let Err(error) = done {
                    tracing::warn!(%error, "cannot bring the cache up to date with the namespace yet");
                    sweep_wanted = true;
                    tokio::time::sleep(self.heartbeat).await;
                }
            }
            let reply = match self.masters.call(&self.report()).await {
                Ok(reply) => reply,
                Err(error) => {
                    let tries = away.get_or_insert(0);
                    if tries.is_power_of_two() || *tries == 0 {
                        tracing::warn!(%error, "the master does not answer; cached data are served on");
                    }
                    *tries = tries.saturating_add(1);
                    continue;
                }
            };
            if away.take().is_some() {
                tracing::info!("the master answers again");
            }
            if !reply.known {
                match self.register().await {
                    Ok(()) => tracing::info!("registered with the master again"),
                    Err(error) => tracing::error!(%error, "the master forgot this worker and does not take it back"),
                }
            }
            let now: BTreeMap<u32, u32> = reply.mounts.iter().copied().collect();
            if mounts.as_ref() != Some(&now) {
                let gone = mounts.as_ref().is_some_and(|before| before.keys().any(|mount| !now.contains_key(mount)));
                sweep_wanted |= gone;
                mounts = Some(now);
            }
            self.gate
                .set_mounts(&reply.mounts.iter().map(|&(mount, generation)| (MountId(mount), generation)).collect());
            if work.is_some() {
                continue;
            }
            let behind = reply.feed_reset || reply.feed_position < self.feed.get();
            if sweep_wanted || behind {
                sweep_wanted = false;
                work = Some(tokio::spawn(self.clone().sweep(reply.feed_position)));
            } else if reply.feed_position != self.feed.get() {
                work = Some(tokio::spawn(self.clone().follow(reply)));
            }
        }
    }

    fn report(&self) -> Heartbeat {
        let counters = report::counters(&self.views);
        if counters.resident_bytes > self.budget_bytes + RESIDENT_SLACK_BYTES {
            allocator::give_back();
        }
        Heartbeat {
            worker_id: self.worker.worker_id,
            tiers: report::tiers(&self.views),
            counters,
            feed_position: self.feed.get(),
        }
    }

    /// Takes the events of a heartbeat's answer.
    async fn follow(self: Arc<Self>, reply: HeartbeatReply) -> Result<(), KindError> {
        self.tell_shards(reply.events).await?;
        self.feed.publish(reply.feed_position);
        Ok(())
    }

    /// Asks the master about every file held and drops what is dead; afterwards the feed goes on from `position`.
    async fn sweep(self: Arc<Self>, position: u64) -> Result<(), KindError> {
        let mut held: Vec<(FileId, Version)> = Vec::new();
        for shard in &self.shards {
            let (reply, files) = oneshot::channel();
            shard.send(Command::Files { reply }).await.map_err(|_| ending())?;
            held.extend(files.await.map_err(|_| ending())?);
        }
        held.sort_unstable();
        let (mut asked, mut dead) = (0, 0);
        let mut rest = &held[..];
        while !rest.is_empty() {
            let batch = rest.len().min(limits::BATCH_MAX);
            let (now, later) = rest.split_at(batch);
            rest = later;
            let mut file_ids: Vec<u64> = now.iter().map(|(file, _)| file.0).collect();
            file_ids.dedup();
            let found = self.masters.call(&LiveVersions { file_ids: file_ids.clone() }).await?;
            if found.versions.len() != file_ids.len() {
                let message = format!("LiveVersions: got {} answers, want {}", found.versions.len(), file_ids.len());
                return Err(KindError::new(ErrorKind::Corrupt, message));
            }
            let live: Vec<FeedEvent> = file_ids.into_iter().zip(found.versions).collect();
            let is_dead = |event: &FeedEvent| {
                let from = now.partition_point(|(file, _)| file.0 < event.0);
                now[from..].iter().take_while(|(file, _)| file.0 == event.0).any(|(_, version)| version.0 != event.1)
            };
            let events: Vec<FeedEvent> = live.into_iter().filter(is_dead).collect();
            asked += now.len();
            dead += events.len();
            self.tell_shards(events).await?;
        }
        tracing::info!(held = asked, dead, "compared the cache with the namespace");
        self.feed.publish(position);
        Ok(())
    }

    async fn tell_shards(&self, events: Vec<FeedEvent>) -> Result<(), KindError> {
        if events.is_empty() {
            return Ok(());
        }
        let events = Arc::new(events);
        let mut all_taken = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (taken, wait) = oneshot::channel();
            shard.send(Command::Feed { events: events.clone(), taken }).await.map_err(|_| ending())?;
            all_taken.push(wait);
        }
        for wait in all_taken {
            wait.await.map_err(|_| ending())?;
        }
        Ok(())
    }
}

/// The key that signs tickets, from the map.
pub(crate) fn ticket_key(map: &ClusterMap) -> Result<VerifyingKey, KindError> {
    VerifyingKey::from_bytes(&map.ticket_key)
        .map_err(|error| KindError::new(ErrorKind::Corrupt, format!("the cluster map's ticket key: {error}")))
}

/// The outcome of the work under way; for ever pending when there is none.
async fn finished(work: &mut Option<JoinHandle<Result<(), KindError>>>) -> Result<(), KindError> {
    let Some(handle) = work else { return std::future::pending().await };
    let done = handle.await;
    *work = None;
    done.unwrap_or_else(|error| Err(KindError::new(ErrorKind::Internal, error.to_string())))
}

fn ending() -> KindError {
    KindError::new(ErrorKind::Closed, "this worker is ending")
}
