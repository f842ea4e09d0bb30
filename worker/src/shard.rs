//! One core: a thread with a glommio executor that owns an engine store and serves one port. Talks to the control
//! thread by messages only.
//!
//! Invariant: whatever ends the thread, a panic too, is reported; a worker never goes on with half of its cores.

use crate::counters::{Published, ShardView};
use crate::feed::FeedWatch;
use crate::fetch::Fetcher;
use crate::forward::{self, Forwarded, Routes};
use crate::handout::{self, Order};
use crate::live::LiveVersions;
use crate::read_ahead::ReadAhead;
use crate::service::Service;
use crate::sessions::{SessionStore, Sessions};
use crate::store_gate::StoreGate;
use crate::uploads::Uploads;
use crate::within::within;
use ed25519_dalek::VerifyingKey;
use forebay_base::placement::shard_of;
use forebay_base::stall::{CoreTask, watch_this_thread, watched};
use forebay_base::{FileId, ShardId, Version};
use forebay_engine::{Recovery, Store, StoreConfig};
use forebay_net::Identity;
use forebay_net::message::cluster::FeedEvent;
use forebay_net::transport::glommio::ShardServer;
use futures::future::{Either, select};
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Longest wait for what is not yet on disk when the worker ends.
const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// What one core needs.
pub(crate) struct ShardConfig {
    pub(crate) shard: ShardId,
    pub(crate) shards: u16,
    /// The CPU to be pinned to.
    pub(crate) cpu: Option<usize>,
    pub(crate) store: StoreConfig,
    pub(crate) listen: String,
    pub(crate) socket: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) read_ahead_bytes: u64,
    pub(crate) publish_every: Duration,
    pub(crate) gate: Arc<StoreGate>,
    pub(crate) uploads: Arc<Uploads>,
    pub(crate) sessions: Arc<SessionStore>,
    pub(crate) view: Arc<ShardView>,
    pub(crate) feed: FeedWatch,
    pub(crate) ticket_key: Arc<Mutex<VerifyingKey>>,
    /// The ways to the other cores, and what they send here.
    pub(crate) routes: Routes,
    pub(crate) forwarded: mpsc::Receiver<Forwarded>,
}

/// From the control thread to a core.
pub(crate) enum Command {
    /// The feed: answered once reads know of the events; the data goes afterwards.
    Feed { events: Arc<Vec<FeedEvent>>, taken: oneshot::Sender<()> },
    /// Which (file, version) the core holds.
    Files { reply: oneshot::Sender<Vec<(FileId, Version)>> },
    /// About files handed out whole.
    Handout(Order),
    /// End.
    End,
}

/// From a core to the control thread.
pub(crate) enum Event {
    /// It serves.
    Ready { shard: ShardId, tcp: String, recovery: Recovery },
    /// Its thread is over; `Err` when nobody asked for that.
    Ended { shard: ShardId, result: Result<(), String> },
}

/// Starts the core's thread.
pub(crate) fn start(
    config: ShardConfig,
    commands: mpsc::Receiver<Command>,
    events: mpsc::UnboundedSender<Event>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let shard = config.shard;
    std::thread::Builder::new().name(format!("shard-{shard}")).spawn(move || {
        let told = events.clone();
        let result = guarded(|| on_executor(config, commands, events));
        let _ = told.send(Event::Ended { shard, result });
    })
}

/// A panic as an error.
fn guarded(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(format!("panic: {text}"))
    })
}

fn on_executor(
    config: ShardConfig,
    commands: mpsc::Receiver<Command>,
    events: mpsc::UnboundedSender<Event>,
) -> Result<(), String> {
    let placement = config.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let io_memory = config.store.io_memory_bytes() as usize;
    let executor = LocalExecutorBuilder::new(placement).io_memory(io_memory).make().map_err(|error| {
        let place = config.cpu.map_or("no CPU in particular".into(), |cpu| format!("CPU {cpu} of worker.cores"));
        format!("cannot start an executor on {place}: {error}")
    })?;
    watch_this_thread(config.view.watch.clone());
    executor.run(serve(config, commands, events))
}

async fn serve(
    config: ShardConfig,
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::UnboundedSender<Event>,
) -> Result<(), String> {
    let page_bytes = config.store.page_bytes;
    let policy = config.store.eviction.to_string();
    let buffer_bytes = config.store.buffer_memory_bytes;
    let (engine, recovery) = Store::open(config.store).await.map_err(|error| error.to_string())?;
    let live = Rc::new(RefCell::new(LiveVersions::default()));
    let fetcher =
        Fetcher::new(engine.clone(), config.gate.clone(), config.view.clone(), live.clone(), buffer_bytes, page_bytes);
    let sessions = Sessions::open(config.sessions, config.view.clone(), (config.shard, config.shards));
    let sessions = sessions.await.map_err(|error| error.to_string())?;
    let looking = glommio::spawn_local(sessions.clone().keep_looking());
    let service = Rc::new(Service {
        shard: config.shard,
        shards: config.shards,
        page_bytes,
        engine: engine.clone(),
        policy,
        fetcher,
        gate: config.gate,
        uploads: config.uploads,
        sessions,
        view: config.view.clone(),
        live: live.clone(),
        read_ahead: RefCell::new(ReadAhead::new(config.read_ahead_bytes, page_bytes)),
        feed: config.feed,
        ticket_key: config.ticket_key,
        roots: RefCell::default(),
        routes: config.routes,
    });
    let forwarded = glommio::spawn_local(forward::serve(service.clone(), config.forwarded));
    let server = ShardServer::bind(&config.listen, Some(&config.socket), config.identity, service)
        .map_err(|error| error.to_string())?;
    let tcp = server.tcp_address();
    let _ = events.send(Event::Ready { shard: config.shard, tcp, recovery });
    let publisher =
        glommio::spawn_local(watched(CoreTask::Report, publish(engine.clone(), config.view, config.publish_every)));
    let ended = {
        let serving = pin!(server.run());
        let following = obey(&mut commands, &engine, &live, config.shard, config.shards);
        let commanded = pin!(watched(CoreTask::Feed, following));
        match select(serving, commanded).await {
            Either::Left(_) => Err("the listener ended".to_string()),
            Either::Right(_) => Ok(()),
        }
    };
    looking.cancel().await;
    publisher.cancel().await;
    forwarded.cancel().await;
    let closing = async {
        engine.flush().await;
        engine.close().await;
    };
    if within(Instant::now() + FLUSH_WAIT, closing).await.is_none() {
        tracing::warn!(shard = %config.shard, "not everything reached the disk in {FLUSH_WAIT:?}: it will be fetched again");
    }
    ended
}

async fn publish(engine: Rc<Store>, view: Arc<ShardView>, every: Duration) {
    loop {
        engine.expire_pins(Instant::now());
        engine.look_at_orphans();
        view.publish(Published { usage: engine.usage(), engine: engine.counters() });
        glommio::timer::sleep(every).await;
    }
}

/// Follows the control thread until it says to end or is gone.
async fn obey(
    commands: &mut mpsc::Receiver<Command>,
    engine: &Rc<Store>,
    live: &RefCell<LiveVersions>,
    shard: ShardId,
    shards: u16,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::End => return,
            Command::Handout(order) => handout::obey(order, engine, &live.borrow()),
            Command::Files { reply } => drop(reply.send(engine.files())),
            Command::Feed { events, taken } => {
                let own = |event: &&FeedEvent| shard_of(FileId(event.0), shards) == shard;
                let now = Instant::now();
                for &(file, version) in events.iter().filter(own) {
                    live.borrow_mut().note(FileId(file), Version(version), now);
                }
                let _ = taken.send(());
                let keep = |version| Some(Version(version)).filter(|version| *version != Version(0));
                let dead: Vec<_> =
                    events.iter().filter(own).map(|&(file, version)| (FileId(file), keep(version))).collect();
                // What comes next does not wait for the disks.
                let engine = engine.clone();
                glommio::spawn_local(watched(CoreTask::Feed, async move {
                    engine.evict_files(dead).await;
                }))
                .detach();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_any_task_of_a_core_ends_it_and_is_told() {
        let result = guarded(|| {
            let executor = LocalExecutorBuilder::new(Placement::Unbound).make().expect("an executor");
            executor.run(async {
                glommio::spawn_local(async { panic!("boom {}", 7) }).detach();
                glommio::timer::sleep(Duration::from_secs(20)).await;
                Ok(())
            })
        });
        assert_eq!(result, Err("panic: boom 7".to_string()));
    }
}
