//! Starts a master, keeps it running, ends it. Everything is opened in the order in which it is needed and closed in
//! the reverse.

use crate::console::Console;
use crate::cores::Cores;
use crate::error::MasterError;
use crate::feed::Feed;
use crate::flights::Flights;
use crate::freshness::Freshness;
use crate::identity;
use crate::jobs::{Context, Jobs};
use crate::journal::Journal;
use crate::links::Links;
use crate::members::Members;
use crate::metrics::MasterMetrics;
use crate::mounts::{Mounts, Opener};
use crate::namespace::{Command, Outcome};
use crate::pins::Pins;
use crate::policies::Policies;
use crate::service::MasterService;
use crate::sessions::Sessions;
use crate::state::State;
use crate::tree::{Defaults, Tree};
use crate::web::Web;
use forebay_base::KindError;
use forebay_base::metrics::PerCore;
use forebay_base::settings::{Loaded, Settings, Shown};
use forebay_net::http::{HttpServer, HttpToken};
use forebay_net::message::handshake::Role;
use forebay_net::transport::tokio::Server;
use forebay_net::{Endpoint, Identity, Secret};
use forebay_ufs::StoreLimits;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// Threads that serve calls; the namespace has its own cores.
const SERVING_THREADS: usize = 2;

fn start_error(error: KindError) -> MasterError {
    MasterError::Start(error.message)
}

/// Runs a master until SIGTERM or SIGINT. Blocks.
pub fn run(loaded: Loaded) -> Result<(), MasterError> {
    let runtime =
        Builder::new_multi_thread().worker_threads(SERVING_THREADS).thread_name("master").enable_all().build()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut master = Master::start(&loaded.settings, Arc::new(forebay_ufs::open)).await?;
        master.listen_http(&loaded.settings, loaded.shown()).await?;
        tracing::info!("master ready on {} as cluster {:032x}", master.address(), master.service.cluster_id);
        let failed = loop {
            tokio::select! {
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                _ = hangup.recv() => forebay_base::log::reread("forebay-master"),
                reason = master.journal.failed() => break Some(reason),
            }
        };
        match failed {
            None => master.stop().await,
            // Nothing more can be kept, so nothing more is answered.
            Some(reason) => Err(MasterError::Failed(reason)),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// A running master.
pub(crate) struct Master {
    pub(crate) service: Arc<MasterService>,
    journal: Arc<Journal>,
    servers: Vec<Server>,
    http: Option<HttpServer>,
    tasks: Vec<JoinHandle<()>>,
    /// Held to the end: store calls run on it.
    stores: Option<Runtime>,
    _identity: identity::Identity,
}

impl Master {
    /// Recovers, leads and serves.
    pub(crate) async fn start(settings: &Settings, opener: Opener) -> Result<Self, MasterError> {
        let secret = Secret::load(settings.cluster.secret_file.as_deref()).map_err(start_error)?;
        let own = identity::open(&settings.master.dir, settings.master.partitions)?;
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let (feed, metrics) = (Arc::new(Feed::default()), Arc::<PerCore<MasterMetrics>>::default());
        let state = Arc::new(State::open(&own.state_directory)?);
        let partitions = state.load(settings.master.partitions, own.incarnation, owner)?;
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = settings.master.cores.count(available);
        let cores = Arc::new(Cores::start(partitions, threads, Arc::clone(&feed))?);
        let journal = Arc::new(Journal::start(
            &own.journal_directory,
            &settings.master.listen,
            Arc::clone(&cores),
            state,
            Arc::clone(&metrics),
        )?);
        // Its outcome comes when all that was acknowledged before is applied again.
        let boot = match journal.propose(Command::Boot).await.map_err(start_error)? {
            Outcome::Booted { boot } => boot,
            other => return Err(MasterError::Start(format!("the journal answered {other:?}"))),
        };
        feed.rebase(boot);
        let stores = Builder::new_multi_thread()
            .worker_threads(settings.store.threads)
            .thread_name("store")
            .enable_all()
            .build()?;
        let identity = Identity { role: Role::Master, cluster_id: own.cluster_id, secret };
        let links = Arc::new(Links::new(identity.clone()));
        let service = assemble(settings, opener, &own, &stores, boot, cores, &journal, feed, &metrics, links);
        let mut master = Self {
            tasks: background(settings, &service),
            service,
            journal,
            servers: Vec::new(),
            http: None,
            stores: Some(stores),
            _identity: own,
        };
        master.service.mounts.load().await.map_err(start_error)?;
        master.service.tree.policies.load().await.map_err(start_error)?;
        master.service.tree.finish_moves().await.map_err(start_error)?;
        master.listen(settings, identity).await?;
        master.service.jobs.resume().await.map_err(start_error)?;
        master.tasks.push(tokio::spawn(Arc::clone(&master.service.pins).run()));
        Ok(master)
    }

    async fn listen(&mut self, settings: &Settings, identity: Identity) -> Result<(), MasterError> {
        let tcp = Endpoint::Tcp(settings.master.listen.clone());
        let server = Server::bind(&tcp, identity.clone(), Arc::clone(&self.service)).await.map_err(start_error)?;
        let address = server.local_address();
        self.servers.push(server);
        let directory = &settings.cluster.socket_dir;
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(|error| {
            MasterError::Start(format!("cluster.socket_dir {}: cannot be created: {error}", directory.display()))
        })?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let unix = Endpoint::Unix(directory.join(format!("master-{port}.sock")));
        let server = Server::bind(&unix, identity, Arc::clone(&self.service)).await.map_err(start_error)?;
        self.servers.push(server);
        Ok(())
    }

    /// Serves the console and metrics. `shown` is what the console says of the configuration.
    async fn listen_http(&mut self, settings: &Settings, shown: Vec<Shown>) -> Result<(), MasterError> {
        let Some(address) = &settings.master.http else { return Ok(()) };
        let token = HttpToken::load(settings.cluster.http_token_file.as_deref()).map_err(start_error)?;
        let console = Console::start(Arc::clone(&self.service), token.clone(), shown);
        let web = Arc::new(Web::new(console, Arc::clone(&self.service)));
        let server = HttpServer::bind("master.http", address, token, web).await.map_err(start_error)?;
        tracing::info!("console and metrics on http://{}", server.local_address());
        self.http = Some(server);
        Ok(())
    }

    /// `host:port` of the TCP listener.
    pub(crate) fn address(&self) -> String {
        self.servers.first().map(Server::local_address).unwrap_or_default()
    }

    /// Index of the last applied entry.
    #[cfg(test)]
    pub(crate) fn journal_index(&self) -> u64 {
        self.journal.applied_index()
    }

    /// Ends without writing the state behind, as a crash would.
    #[cfg(test)]
    pub(crate) async fn kill(mut self) {
        self.service.jobs.stop();
        for server in std::mem::take(&mut self.servers) {
            server.shutdown().await;
        }
        let journal = Arc::clone(&self.journal);
        tokio::task::spawn_blocking(move || journal.stop()).await.expect("stopping does not panic");
    }

    /// Stops serving, writes the state behind, and ends.
    pub(crate) async fn stop(mut self) -> Result<(), MasterError> {
        if let Some(http) = self.http.take() {
            http.shutdown().await;
        }
        for server in std::mem::take(&mut self.servers) {
            server.shutdown().await;
        }
        self.service.jobs.stop();
        for task in &self.tasks {
            task.abort();
        }
        let flushed = self.journal.flush().await;
        let journal = Arc::clone(&self.journal);
        let _ = tokio::task::spawn_blocking(move || journal.stop()).await;
        tracing::info!("master ended");
        flushed.map_err(|error| MasterError::Failed(error.message))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.service.jobs.stop();
        for task in &self.tasks {
            task.abort();
        }
        if let Some(stores) = self.stores.take() {
            stores.shutdown_background();
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the one place where everything comes together")]
fn assemble(
    settings: &Settings,
    opener: Opener,
    own: &identity::Identity,
    stores: &Runtime,
    boot: u64,
    cores: Arc<Cores>,
    journal: &Arc<Journal>,
    feed: Arc<Feed>,
    metrics: &Arc<PerCore<MasterMetrics>>,
    links: Arc<Links>,
) -> Arc<MasterService> {
    let defaults = Defaults { owner: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()) };
    let limits = StoreLimits {
        concurrency: settings.store.concurrency,
        deadline: settings.store.deadline,
        retries: settings.store.retries,
    };
    let mut own_directories: Vec<(&'static str, PathBuf)> = vec![
        ("master.dir", settings.master.dir.clone()),
        ("worker.dir", settings.worker.dir.clone()),
        ("fuse.mountpoint", settings.fuse.mountpoint.clone()),
    ];
    own_directories.extend(settings.worker.ssd.iter().map(|tier| ("worker.ssd", tier.path.clone())));
    own_directories.extend(settings.worker.hdd.iter().map(|tier| ("worker.hdd", tier.path.clone())));
    let mounts = Arc::new(Mounts::new(
        Arc::clone(&cores),
        Arc::clone(journal),
        opener,
        limits,
        stores.handle().clone(),
        own_directories,
        defaults,
    ));
    let ticket_key = own.ticket_key.clone();
    let public = ticket_key.verifying_key().to_bytes();
    let members =
        Arc::new(Members::new((own.cluster_id, own.incarnation), public, settings.master.worker_timeout, boot));
    let tree = Arc::new(Tree {
        cores: Arc::clone(&cores),
        journal: Arc::clone(journal),
        mounts: Arc::clone(&mounts),
        feed: Arc::clone(&feed),
        metrics: Arc::clone(metrics),
        ticket_key,
        store_runtime: stores.handle().clone(),
        defaults,
        freshness: Freshness::default(),
        flights: Flights::default(),
        sessions: Sessions::default(),
        policies: Arc::new(Policies::new(Arc::clone(&cores), Arc::clone(journal))),
        started: Instant::now(),
    });
    let context = Arc::new(Context {
        tree: Arc::clone(&tree),
        journal: Arc::clone(journal),
        members: Arc::clone(&members),
        links: Arc::clone(&links),
    });
    let jobs = Arc::new(Jobs::new(Arc::clone(&context)));
    let pins = Arc::new(Pins::new(context, settings.master.pin_lease));
    Arc::new(MasterService {
        tree,
        mounts,
        members,
        journal: Arc::clone(journal),
        cores,
        feed,
        metrics: Arc::clone(metrics),
        links,
        jobs,
        pins,
        cluster_id: own.cluster_id.0,
    })
}

/// What runs beside the calls: write-behind, silent workers, detached subtrees, stores that could not be opened.
fn background(settings: &Settings, service: &Arc<MasterService>) -> Vec<JoinHandle<()>> {
    let (interval, flushing) = (settings.master.flush_interval, Arc::clone(service));
    let flush = tokio::spawn(async move {
        let mut since = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(interval.min(Duration::from_secs(1)).max(Duration::from_millis(10))).await;
            if since.elapsed() >= interval || flushing.journal.wants_flush() {
                since = tokio::time::Instant::now();
                if let Err(error) = flushing.journal.flush().await {
                    tracing::error!("{}", error.message);
                }
            }
        }
    });
    let (members, tree) = (Arc::clone(&service.members), Arc::clone(&service.tree));
    let silent = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            members.drop_silent();
        }
    });
    let reap = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Err(error) = tree.reap().await {
                tracing::debug!("removing detached directories: {}", error.message);
            }
        }
    });
    let tree = Arc::clone(&service.tree);
    let unsaved = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            match tree.drop_abandoned().await {
                Ok(0) => {}
                Ok(count) => tracing::info!("{count} files were never saved by whoever created them, and are gone"),
                Err(error) => tracing::debug!("looking for abandoned files: {}", error.message),
            }
        }
    });
    let mounts = Arc::clone(&service.mounts);
    let reopen = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            mounts.reopen();
        }
    });
    vec![flush, silent, reap, unsaved, reopen]
}
