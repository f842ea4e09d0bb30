//! A real worker process against a small master that lives in the test, with a local directory as its store.

use ed25519_dalek::SigningKey;
use forebay_base::placement::shard_of;
use forebay_base::{ClusterId, ErrorKind, FileId, Fingerprint, KindError, limits, unix_now_ms};
use forebay_net::message::Wire;
use forebay_net::message::change::RecordSaved;
use forebay_net::message::cluster::{
    ClusterMap, FeedEvent, GetMountStore, Heartbeat, HeartbeatReply, LiveVersions, LiveVersionsReply, MountStore,
    RegisterWorker, WorkerInfo,
};
use forebay_net::message::data::{Read, ReadItem, ReadResult};
use forebay_net::message::handshake::Role;
use forebay_net::ticket::{Ticket, sign};
use forebay_net::transport::tokio::{Connection, Server, Service};
use forebay_net::{Endpoint, Identity, Op, Peer, Secret, decode};
use rkyv::util::AlignedVec;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CLUSTER: ClusterId = ClusterId(0xF0BE);
/// The mount of the local directory.
pub(crate) const LOCAL: u32 = 3;
pub(crate) const WAIT: Duration = Duration::from_secs(20);

/// What the master knows.
pub(crate) struct Master {
    key: SigningKey,
    stores: Mutex<HashMap<u32, MountStore>>,
    registered: Mutex<Option<WorkerInfo>>,
    heartbeat: Mutex<(u64, Option<Heartbeat>)>,
    live: Mutex<HashMap<u64, u64>>,
    events: Mutex<Vec<FeedEvent>>,
    /// Files that workers said they saved.
    pub(crate) saved: Mutex<Vec<u64>>,
}

impl Master {
    fn map(&self) -> ClusterMap {
        ClusterMap {
            epoch: 1,
            cluster_id: CLUSTER.0,
            incarnation: 1,
            ticket_key: self.key.verifying_key().to_bytes(),
            workers: self.registered.lock().unwrap().iter().cloned().collect(),
        }
    }
}

/// The service; a newtype, since the trait is foreign and so is `Arc`.
struct MasterService(Arc<Master>);

impl Service for MasterService {
    async fn call(&self, peer: Arc<Peer>, op: Op, body: AlignedVec, _: Duration) -> Result<AlignedVec, KindError> {
        assert_eq!(peer.role, Role::Worker);
        let master = &self.0;
        Ok(match op {
            Op::GetClusterMap => master.map().to_bytes(),
            Op::RegisterWorker => {
                let request: RegisterWorker = decode(&body)?;
                *master.registered.lock().unwrap() = Some(request.worker);
                master.map().to_bytes()
            }
            Op::Heartbeat => {
                let request: Heartbeat = decode(&body)?;
                let events = master.events.lock().unwrap();
                let from = (request.feed_position as usize).min(events.len());
                let reply = HeartbeatReply {
                    epoch: 1,
                    known: master.registered.lock().unwrap().is_some(),
                    events: events[from..].to_vec(),
                    feed_position: events.len() as u64,
                    feed_reset: false,
                    mounts: master.stores.lock().unwrap().keys().map(|mount| (*mount, 0)).collect(),
                };
                let mut last = master.heartbeat.lock().unwrap();
                *last = (last.0 + 1, Some(request));
                reply.to_bytes()
            }
            Op::LiveVersions => {
                let request: LiveVersions = decode(&body)?;
                let live = master.live.lock().unwrap();
                let versions = request.file_ids.iter().map(|id| live.get(id).copied().unwrap_or(0)).collect();
                LiveVersionsReply { versions }.to_bytes()
            }
            Op::GetMountStore => {
                let request: GetMountStore = decode(&body)?;
                let missing = || KindError::new(ErrorKind::NotFound, "no such mount");
                master.stores.lock().unwrap().get(&request.mount_id).cloned().ok_or_else(missing)?.to_bytes()
            }
            Op::RecordSaved => {
                let request: RecordSaved = decode(&body)?;
                master.saved.lock().unwrap().push(request.file_id);
                return Err(KindError::new(ErrorKind::Unsupported, "no attributes here"));
            }
            other => return Err(KindError::new(ErrorKind::Unsupported, format!("{other:?}"))),
        })
    }
}

/// A master, a store and, when started, a worker. Everything ends with it.
pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) master: Arc<Master>,
    server: Option<Server>,
    worker: Option<Child>,
    pub(crate) settings: Vec<String>,
}

impl Cluster {
    /// Starts the master, not the worker.
    pub(crate) async fn new() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let master = Arc::new(Master {
            key: SigningKey::from_bytes(&[5; 32]),
            stores: Mutex::default(),
            registered: Mutex::default(),
            heartbeat: Mutex::default(),
            live: Mutex::default(),
            events: Mutex::default(),
            saved: Mutex::default(),
        });
        let local = MountStore { uri: format!("file://{}", data.display()), options: Vec::new() };
        master.stores.lock().unwrap().insert(LOCAL, local);
        let identity = Identity { role: Role::Master, cluster_id: CLUSTER, secret: Secret::none() };
        let service = Arc::new(MasterService(master.clone()));
        let server = Server::bind(&Endpoint::Tcp("127.0.0.1:0".into()), identity, service).await.unwrap();
        let address = server.local_address();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let settings = vec![
            format!("cluster.masters={address}"),
            format!("cluster.socket_dir={}", path("run")),
            "cluster.rpc_timeout=2s".into(),
            "worker.listen=127.0.0.1:0".into(),
            "worker.http=off".into(),
            format!("worker.dir={}", path("worker")),
            format!("worker.ssd={}=256MiB", path("cache")),
            "worker.mem_capacity=32MiB".into(),
            "worker.buffer_memory=32MiB".into(),
            "worker.cores=2".into(),
            "worker.heartbeat=50ms".into(),
            "store.deadline=3s".into(),
        ];
        Cluster { dir, master, server: Some(server), worker: None, settings }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A worker process with these settings and no more.
    pub(crate) fn command(&self, settings: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-worker"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FOREBAY_")) {
            command.env_remove(name);
        }
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        command
    }

    /// Starts the worker and waits until it has registered and reported.
    pub(crate) async fn start(&mut self) {
        *self.master.registered.lock().unwrap() = None;
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        self.worker = Some(self.command(&self.settings).stderr(log).spawn().unwrap());
        let started = Instant::now();
        while self.master.registered.lock().unwrap().is_none() {
            let ended = self.worker.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the worker ended with {ended:?}:\n{}", self.log());
            assert!(started.elapsed() < WAIT, "no worker registered:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.next_heartbeat().await;
    }

    /// Makes the master forget the worker.
    pub(crate) fn forget_worker(&self) -> WorkerInfo {
        self.master.registered.lock().unwrap().take().expect("a worker is there")
    }

    /// The worker that the master knows.
    pub(crate) fn registered(&self) -> Option<WorkerInfo> {
        self.master.registered.lock().unwrap().clone()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("worker.log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A report that was made after this call, with figures published after it.
    pub(crate) async fn next_heartbeat(&self) -> Heartbeat {
        let from = self.master.heartbeat.lock().unwrap().0;
        let started = Instant::now();
        loop {
            let (count, last) = self.master.heartbeat.lock().unwrap().clone();
            if count >= from + 3 {
                return last.unwrap();
            }
            assert!(started.elapsed() < WAIT, "no heartbeat:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM; the worker must end well.
    pub(crate) async fn end_worker(&mut self) -> ExitStatus {
        let mut worker = self.worker.take().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(worker.id() as i32).unwrap(),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        let started = Instant::now();
        loop {
            if let Some(status) = worker.try_wait().unwrap() {
                return status;
            }
            if started.elapsed() > WAIT {
                worker.kill().unwrap();
                panic!("the worker did not end:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL.
    pub(crate) fn kill_worker(&mut self) {
        let mut worker = self.worker.take().unwrap();
        worker.kill().unwrap();
        worker.wait().unwrap();
    }

    pub(crate) async fn end_master(&mut self) {
        self.server.take().unwrap().shutdown().await;
    }

    /// Puts a file into the local directory and gives it an identity.
    pub(crate) async fn file(&self, file_id: u64, version: u64, name: &str, bytes: &[u8]) -> TestFile {
        write_old(&self.data().join(name), bytes);
        let meta = open_store(&self.data()).stat(name).await.unwrap();
        self.known(file_id, version, LOCAL, name, &meta.fingerprint, bytes)
    }

    /// Gives an identity to what is in a store.
    pub(crate) fn known(
        &self,
        file_id: u64,
        version: u64,
        mount_id: u32,
        key: &str,
        fingerprint: &Fingerprint,
        bytes: &[u8],
    ) -> TestFile {
        self.master.live.lock().unwrap().insert(file_id, version);
        let ticket = Ticket {
            file_id,
            version,
            mount_id,
            page_bytes: limits::PAGE_BYTES,
            block_bytes: limits::BLOCK_BYTES,
            size: bytes.len() as u64,
            store_key: key.into(),
            fingerprint: fingerprint.0.clone(),
            feed_position: self.master.events.lock().unwrap().len() as u64,
            store_away: false,
            expires_unix_ms: unix_now_ms() + limits::TICKET_LIFE_MS,
        };
        TestFile { ticket, bytes: bytes.to_vec() }
    }

    /// Adds a mount.
    pub(crate) fn mount(&self, mount_id: u32, uri: &str, options: Vec<(String, String)>) {
        self.master.stores.lock().unwrap().insert(mount_id, MountStore { uri: uri.into(), options });
    }

    /// Removes a mount; its files are gone.
    pub(crate) fn unmount(&self, mount_id: u32, files: &[u64]) {
        self.master.stores.lock().unwrap().remove(&mount_id);
        self.master.live.lock().unwrap().retain(|file, _| !files.contains(file));
    }

    /// The feed says that this version is the living one.
    pub(crate) fn feed(&self, file_id: u64, version: u64) {
        self.master.live.lock().unwrap().insert(file_id, version);
        self.master.events.lock().unwrap().push((file_id, version));
    }

    pub(crate) fn signed(&self, ticket: &Ticket) -> Vec<u8> {
        sign(std::slice::from_ref(ticket), &self.master.key).remove(0)
    }

    pub(crate) fn signed_write(&self, ticket: &forebay_net::write_ticket::WriteTicket) -> Vec<u8> {
        forebay_net::write_ticket::sign(ticket, &self.master.key)
    }

    /// Connections to every core.
    pub(crate) async fn client(&self, role: Role) -> Client {
        let worker = self.master.registered.lock().unwrap().clone().expect("a worker is there");
        let identity = Identity { role, cluster_id: CLUSTER, secret: Secret::none() };
        let mut cores = Vec::new();
        for (index, shard) in worker.shards.iter().enumerate() {
            let unix = Endpoint::Unix(shard.unix.clone().into());
            let endpoint = if index == 0 { unix } else { Endpoint::Tcp(shard.tcp.clone()) };
            cores.push(Connection::connect(&endpoint, &identity, WAIT).await.unwrap());
        }
        Client { cores }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}

pub(crate) fn open_store(data: &Path) -> Arc<dyn forebay_ufs::UnderStore> {
    let limits = forebay_ufs::StoreLimits { concurrency: 4, deadline: WAIT, retries: 0 };
    forebay_ufs::open(&format!("file://{}", data.display()), &[], limits).unwrap()
}

/// Writes a file that looks as if it had not changed lately.
pub(crate) fn write_old(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::thread::sleep(Duration::from_millis(25));
}

/// Bytes that differ everywhere and between seeds.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A file with a ticket for it.
#[derive(Clone)]
pub(crate) struct TestFile {
    pub(crate) ticket: Ticket,
    pub(crate) bytes: Vec<u8>,
}

impl TestFile {
    pub(crate) fn item(&self, cluster: &Cluster, offset: u64, length: u32) -> ReadItem {
        let ticket = cluster.signed(&self.ticket);
        ReadItem { file_id: self.ticket.file_id, version: self.ticket.version, offset, length, ticket }
    }
}

/// One connection to each core.
pub(crate) struct Client {
    pub(crate) cores: Vec<Connection>,
}

impl Client {
    pub(crate) fn core_of(&self, file_id: u64) -> &Connection {
        &self.cores[usize::from(shard_of(FileId(file_id), self.cores.len() as u16).0)]
    }

    /// Reads items that belong to one core; checks the checksums of what comes.
    pub(crate) async fn read(&self, items: Vec<ReadItem>) -> Result<(Vec<ReadResult>, Vec<u8>), KindError> {
        let core = self.core_of(items[0].file_id);
        let (reply, payload) = core.call_payload(&Read { items, want_checksums: true, waited_ms: 0 }, WAIT).await?;
        let sums: Vec<u32> = forebay_base::unit_checksums(&payload).collect();
        assert_eq!(reply.checksums, sums);
        let length: usize = reply.results.iter().map(|result| result.length as usize).sum();
        assert_eq!(length, payload.len());
        Ok((reply.results, payload.to_vec()))
    }

    /// Reads one range.
    pub(crate) async fn read_one(&self, item: ReadItem) -> Result<(u8, Vec<u8>), KindError> {
        let (mut results, bytes) = self.read(vec![item]).await?;
        let result = results.remove(0);
        match ErrorKind::from_code(result.status) {
            None => Ok((result.source, bytes)),
            Some(kind) => Err(KindError::new(kind, result.message)),
        }
    }

    /// Reads the whole file in steps and compares it.
    pub(crate) async fn compare(&self, cluster: &Cluster, file: &TestFile, step: u32) {
        let mut at = 0;
        while at < file.bytes.len() as u64 {
            let (_, bytes) = self.read_one(file.item(cluster, at, step)).await.unwrap();
            let want = &file.bytes[at as usize..(at as usize + step as usize).min(file.bytes.len())];
            assert!(bytes == want, "file {} differs at {at}", file.ticket.file_id);
            at += u64::from(step);
        }
    }
}
