//! Starting and ending a worker. The calling thread becomes the control thread, with a tokio runtime of its own; each
//! core gets a thread, and the stores get theirs.
//!
//! Order: directories, ports, the master's cluster and ticket key, engines, listeners, and only then registration, so
//! that no client is sent to a core that does not serve yet.

use crate::control::{Control, ticket_key};
use crate::counters::ShardView;
use crate::directories::{self, TierDirectory};
use crate::error::WorkerError;
use crate::feed::FeedPosition;
use crate::forward;
use crate::handout::Handout;
use crate::home::{Home, usable};
use crate::masters::{Masters, is_transient};
use crate::ports::{advertised, choose_ports};
use crate::report;
use crate::sessions::SessionStore;
use crate::shard::{Command, Event, ShardConfig, start};
use crate::store_gate::StoreGate;
use crate::stuck;
use crate::uploads::Uploads;
use ed25519_dalek::VerifyingKey;
use forebay_base::settings::{Cores, Settings};
use forebay_base::{ByteSize, ClusterId, Incarnation, KindError, ShardId, limits};
use forebay_engine::{DirectoryConfig, EvictionPolicy, StoreConfig};
use forebay_net::http::{HttpServer, HttpToken, MetricsOnly};
use forebay_net::message::cluster::{GetClusterMap, ShardAddress, WorkerInfo};
use forebay_net::message::handshake::Role;
use forebay_net::transport::descriptors::{DescriptorListener, descriptor_socket};
use forebay_net::{Identity, Secret};
use forebay_ufs::StoreLimits;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Longest wait for the cores to end.
const END_WAIT: Duration = Duration::from_secs(8);
/// Messages waiting for one core.
const COMMANDS_WAITING: usize = 16;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Runs a worker until SIGTERM or SIGINT, or until a core fails.
pub fn run(settings: Settings) -> Result<(), WorkerError> {
    crate::allocator::configure();
    let home = Home::open(&settings.worker.dir)?;
    usable("cluster.socket_dir", &settings.cluster.socket_dir)?;
    let directories = directories::choose(&settings, &home)?;
    let secret = Secret::load(settings.cluster.secret_file.as_deref()).map_err(WorkerError::Secret)?;
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = settings.worker.cores.count(available).min(1024) as u16;
    let ports = choose_ports(&settings.worker.listen, shards)?;
    let stores = Builder::new_multi_thread()
        .worker_threads(settings.store.threads)
        .thread_name("store")
        .enable_all()
        .build()
        .map_err(|error| runtime_error("the store threads", &error))?;
    let control =
        Builder::new_current_thread().enable_all().build().map_err(|error| runtime_error("control", &error))?;
    let result = control.block_on(worker(&settings, (home, directories), secret, ports, stores.handle().clone()));
    stores.shutdown_timeout(Duration::from_millis(500));
    result
}

/// Empties a directory of a disk tier, whoever's cache it is, and forgets that it was used before. The worker that uses
/// it has to be stopped. Returns a line for people.
pub fn wipe_cache(settings: &Settings, path: &Path) -> Result<String, WorkerError> {
    let home = match settings.worker.dir.exists() {
        true => Some(Home::open(&settings.worker.dir)?),
        false => None,
    };
    let shards = forebay_engine::wipe_cache(path).map_err(|error| WorkerError::Wipe(error.into()))?;
    if let Some(home) = &home {
        directories::forget(path, home)?;
    }
    Ok(match shards {
        0 => format!("{}: held no cache; it begins empty", path.display()),
        _ => format!("{}: the cache of {shards} cores is removed; it begins empty", path.display()),
    })
}

fn runtime_error(what: &'static str, error: &std::io::Error) -> WorkerError {
    WorkerError::Runtime { what, reason: error.to_string() }
}

/// SIGTERM and SIGINT.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> Result<Self, WorkerError> {
        let listen = |kind| signal(kind).map_err(|error| runtime_error("signal handling", &error));
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    async fn end(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }

    /// What `work` yields, or `None` if the worker is to end first.
    async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! { () = self.end() => None, value = work => Some(value) }
    }
}

/// SIGHUP.
struct Hangups(Signal);

impl Hangups {
    fn new() -> Result<Self, WorkerError> {
        signal(SignalKind::hangup()).map(Self).map_err(|error| runtime_error("signal handling", &error))
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

async fn worker(
    settings: &Settings,
    (mut home, directories): (Home, Vec<TierDirectory>),
    secret: Secret,
    ports: Vec<u16>,
    stores: Handle,
) -> Result<(), WorkerError> {
    let mut signals = Signals::new()?;
    let mut hangups = Hangups::new()?;
    let cluster = &settings.cluster;
    let masters_as = |cluster_id: ClusterId| {
        let identity = Identity { role: Role::Worker, cluster_id, secret: secret.clone() };
        Masters::new(cluster.masters.clone(), identity, cluster.rpc_timeout)
    };
    let Some(met) = signals.unless(meet_master(&masters_as(home.cluster_id))).await else { return Ok(()) };
    let (cluster_id, incarnation, key) = met?;
    home.join(cluster_id)?;
    let masters = Arc::new(masters_as(cluster_id));
    let limits = StoreLimits {
        concurrency: settings.store.concurrency,
        deadline: settings.store.deadline,
        retries: settings.store.retries,
    };
    let gate = StoreGate::new(stores.clone(), masters.clone(), limits);
    let leftovers = home.leftovers()?;
    let uploads = Uploads::new(gate.clone(), leftovers.clone());
    let sessions = Arc::new(SessionStore {
        directory: home.sessions()?,
        threads: stores.clone(),
        uploads: uploads.clone(),
        masters: masters.clone(),
    });
    let feed = Arc::new(FeedPosition::new());
    let ticket_key = Arc::new(Mutex::new(key));
    let shards = ports.len() as u16;
    let views: Vec<Arc<ShardView>> = (0..shards).map(|_| Arc::default()).collect();
    let (event_sender, mut events) = mpsc::unbounded_channel();
    let (mut commands, mut threads) = (Vec::new(), Vec::new());
    for ((index, port), (routes, forwarded)) in ports.iter().copied().enumerate().zip(forward::routes(shards)) {
        let (sender, receiver) = mpsc::channel(COMMANDS_WAITING);
        let config = ShardConfig {
            shard: ShardId(index as u16),
            shards,
            cpu: match &settings.worker.cores {
                Cores::List(list) => list.get(index).copied(),
                Cores::Auto | Cores::Count(_) => None,
            },
            store: store_config(settings, &directories, (cluster_id, incarnation), ShardId(index as u16), shards)?,
            listen: with_port(&settings.worker.listen, port),
            socket: socket_path(settings, port),
            identity: Identity { role: Role::Worker, cluster_id, secret: secret.clone() },
            read_ahead_bytes: settings.worker.read_ahead.0,
            publish_every: settings.worker.heartbeat.clamp(Duration::from_millis(20), Duration::from_secs(1)),
            gate: gate.clone(),
            uploads: uploads.clone(),
            sessions: sessions.clone(),
            view: views[index].clone(),
            feed: feed.watch(),
            ticket_key: ticket_key.clone(),
            routes,
            forwarded,
        };
        let thread =
            start(config, receiver, event_sender.clone()).map_err(|error| runtime_error("a core's thread", &error))?;
        commands.push(sender);
        threads.push(thread);
    }
    let cores = Running { commands: commands.clone(), threads };
    let started = match signals.unless(all_ready(&mut events, shards, &settings.worker.listen)).await {
        None => return cores.end(&mut events).await,
        Some(started) => started?,
    };
    directories::remember(&directories, &home)?;
    let host = advertised(&settings.worker.listen, &cluster.masters);
    let worker = WorkerInfo {
        worker_id: home.worker_id.0,
        weight: settings.worker.weight,
        host_id: forebay_net::host_id(),
        shards: started
            .iter()
            .zip(&ports)
            .map(|(tcp, &port)| ShardAddress {
                tcp: with_port(&format!("{host}:0"), port_of(tcp).unwrap_or(port)),
                unix: socket_path(settings, port).display().to_string(),
            })
            .collect(),
    };
    let _files = serve_files(
        settings,
        ports[0],
        Handout {
            identity: Identity { role: Role::Worker, cluster_id, secret: secret.clone() },
            ticket_key: ticket_key.clone(),
            feed: feed.watch(),
            cores: commands.iter().map(mpsc::Sender::downgrade).collect(),
            next_lease: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
        },
    );
    stores.spawn(leftovers.keep_clean(gate.clone()));
    let control = Arc::new(Control {
        masters,
        worker,
        cluster_id,
        ticket_key,
        gate,
        feed,
        views,
        shards: commands,
        heartbeat: settings.worker.heartbeat.max(Duration::from_millis(10)),
        budget_bytes: settings.worker.mem_capacity.0 + settings.worker.buffer_memory.0,
    });
    match signals.unless(retry("register with the master", || control.register())).await {
        None => return cores.end(&mut events).await,
        Some(registered) => registered.map_err(WorkerError::Refused)?,
    }
    tracing::info!(worker = %home.worker_id, cores = shards, address = %control.worker.shards[0].tcp, "worker ready");
    let http = serve_metrics(settings, &control).await?;
    let watch = tokio::spawn(stuck::watch(control.views.clone()));
    let talk = tokio::spawn(control.run());
    let result = loop {
        tokio::select! {
            () = signals.end() => {
                tracing::info!("ending");
                break cores.end(&mut events).await;
            }
            () = hangups.next() => forebay_base::log::reread("forebay-worker"),
            failed = first_end(&mut events) => break Err(failed),
        }
    };
    talk.abort();
    watch.abort();
    drop(http);
    result
}

/// Serves the socket on which whole local files are handed out. A worker without it serves bytes all the same.
fn serve_files(settings: &Settings, port: u16, handout: Handout) -> Option<DescriptorListener> {
    let path = descriptor_socket(&socket_path(settings, port))?;
    let served = handout.start(&path);
    served.inspect_err(|error| tracing::warn!(%error, "no files are handed to clients of this host")).ok()
}

/// Serves the metrics from the control thread.
async fn serve_metrics(settings: &Settings, control: &Control) -> Result<Option<HttpServer>, WorkerError> {
    let Some(address) = &settings.worker.http else { return Ok(None) };
    let token = HttpToken::load(settings.cluster.http_token_file.as_deref()).map_err(WorkerError::Http)?;
    let views = control.views.clone();
    let service = Arc::new(MetricsOnly(move || report::exposition(&views)));
    let server = HttpServer::bind("worker.http", address, token, service).await.map_err(WorkerError::Http)?;
    tracing::info!("metrics on http://{}/metrics", server.local_address());
    Ok(Some(server))
}

/// Learns the cluster and its ticket key, however long the master is away.
async fn meet_master(masters: &Masters) -> Result<(ClusterId, Incarnation, VerifyingKey), WorkerError> {
    let met = retry("reach the master", || async {
        let cluster_id = masters.cluster_id().await?;
        let map = masters.call(&GetClusterMap::default()).await?;
        Ok((cluster_id, Incarnation(map.incarnation), ticket_key(&map)?))
    });
    met.await.map_err(WorkerError::Refused)
}

/// Tries until it works or waiting cannot help.
async fn retry<T, F: Future<Output = Result<T, KindError>>>(
    what: &str,
    mut work: impl FnMut() -> F,
) -> Result<T, KindError> {
    let (mut pause, mut told) = (RETRY_MIN, None::<Instant>);
    loop {
        match work().await {
            Err(error) if is_transient(error.kind) => {
                if told.is_none_or(|when| when.elapsed() >= Duration::from_secs(10)) {
                    tracing::warn!(%error, "cannot {what} yet, trying on");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
            result => return result,
        }
    }
}

/// This core's share of everything.
fn store_config(
    settings: &Settings,
    directories: &[TierDirectory],
    (cluster_id, incarnation): (ClusterId, Incarnation),
    shard: ShardId,
    shards: u16,
) -> Result<StoreConfig, WorkerError> {
    let share = |size: ByteSize| size.0 / u64::from(shards);
    let worker = &settings.worker;
    Ok(StoreConfig {
        cluster_id,
        incarnation,
        shard,
        shards,
        page_bytes: limits::PAGE_BYTES,
        mem_capacity_bytes: share(worker.mem_capacity),
        directories: directories
            .iter()
            .map(|directory| DirectoryConfig {
                tier: directory.tier,
                path: directory.path.clone(),
                capacity_bytes: share(directory.capacity),
                out_of_use: directory.out_of_use.clone(),
            })
            .collect(),
        eviction: worker.eviction.parse::<EvictionPolicy>().map_err(|error| WorkerError::Setting {
            setting: "worker.eviction",
            got: worker.eviction.clone(),
            want: error.to_string(),
        })?,
        buffer_memory_bytes: share(worker.buffer_memory),
        verify_reads: worker.verify_reads,
        scrub_bytes_per_second: worker.scrub_rate.0.div_ceil(u64::from(shards)),
    })
}

fn with_port(address: &str, port: u16) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    format!("{host}:{port}")
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

fn socket_path(settings: &Settings, port: u16) -> PathBuf {
    settings.cluster.socket_dir.join(format!("worker-{port}.sock"))
}

/// Waits until every core serves; yields their TCP addresses in order.
async fn all_ready(
    events: &mut mpsc::UnboundedReceiver<Event>,
    shards: u16,
    listen: &str,
) -> Result<Vec<String>, WorkerError> {
    let mut addresses = vec![None; usize::from(shards)];
    while addresses.iter().any(Option::is_none) {
        match events.recv().await {
            Some(Event::Ready { shard, tcp, recovery }) => {
                tracing::info!(
                    %shard, %tcp, pages = recovery.pages, bytes = recovery.bytes, dropped = recovery.dropped_pages,
                    elapsed = ?recovery.elapsed, "core serves"
                );
                addresses[usize::from(shard.0)] = Some(tcp);
            }
            Some(Event::Ended { shard, result }) => return Err(shard_failed(shard, result)),
            None => return Err(shard_failed(ShardId(0), Err(format!("no core on {listen} answers")))),
        }
    }
    Ok(addresses.into_iter().flatten().collect())
}

async fn first_end(events: &mut mpsc::UnboundedReceiver<Event>) -> WorkerError {
    loop {
        match events.recv().await {
            Some(Event::Ended { shard, result }) => {
                let failed = shard_failed(shard, result);
                tracing::error!("{failed}");
                return failed;
            }
            Some(Event::Ready { .. }) => {}
            None => return shard_failed(ShardId(0), Err("no core is left".into())),
        }
    }
}

fn shard_failed(shard: ShardId, result: Result<(), String>) -> WorkerError {
    WorkerError::Shard { shard: shard.0, message: result.err().unwrap_or_else(|| "it ended unasked".into()) }
}

/// The running cores.
struct Running {
    commands: Vec<mpsc::Sender<Command>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Tells all cores to end and waits for them, but not for ever.
    async fn end(self, events: &mut mpsc::UnboundedReceiver<Event>) -> Result<(), WorkerError> {
        for core in &self.commands {
            // A core whose queue is full is told by the closed channel.
            let _ = core.try_send(Command::End);
        }
        drop(self.commands);
        let deadline = tokio::time::Instant::now() + END_WAIT;
        let mut left = self.threads.len();
        while left > 0 {
            match tokio::time::timeout_at(deadline, events.recv()).await {
                Ok(Some(Event::Ended { shard, result: Err(message) })) => {
                    return Err(WorkerError::Shard { shard: shard.0, message });
                }
                Ok(Some(Event::Ended { .. })) => left -= 1,
                Ok(Some(Event::Ready { .. })) => {}
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(cores = left, "cores did not end in {END_WAIT:?}");
                    return Ok(());
                }
            }
        }
        for thread in self.threads {
            let _ = thread.join();
        }
        tracing::info!("worker ended");
        Ok(())
    }
}
