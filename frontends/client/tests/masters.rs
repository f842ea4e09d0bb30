//! The client against a master made for the purpose: reconnecting, finding the leader, tickets, holds.

use forebay_base::{ClusterId, ErrorKind, FileId, KindError, Version};
use forebay_client::message::cluster::{ClusterMap, GetClusterMap};
use forebay_client::message::handshake::Role;
use forebay_client::message::namespace::{Attr, HoldMounts, Lookup, Mount, OpenRead, OpenReadReply, OpenResult};
use forebay_client::message::{Empty, Op, Wire};
use forebay_client::{Client, ClientConfig, Secret};
use forebay_net::transport::tokio::{Server, Service};
use forebay_net::{Endpoint, Identity, Peer};
use rkyv::util::AlignedVec;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct Fake {
    follows: AtomicBool,
    live_version: AtomicU64,
    ticket_life_ms: AtomicU64,
    opens: AtomicU64,
    mounts: AtomicU64,
    held: Mutex<Vec<Vec<(u32, u64)>>>,
}

fn attr(file_id: u64, version: u64) -> Attr {
    Attr {
        file_id,
        version,
        size: 10,
        mtime_ms: 0,
        block_bytes: 256 << 20,
        page_bytes: 1 << 20,
        mode: 0o444,
        uid: 0,
        gid: 0,
        nlink: 1,
        mount_id: 3,
        kind: 1,
        valid_for_ms: 1000,
    }
}

fn open_result(file_id: u64, version: u64, live: u64, life_ms: u64) -> OpenResult {
    let stale = version != 0 && version != live;
    OpenResult {
        status: if stale { ErrorKind::Stale.code() } else { 0 },
        message: if stale { format!("file {file_id} has version {live}") } else { String::new() },
        attr: (!stale).then(|| attr(file_id, live)),
        ticket: vec![1, 2, 3],
        ticket_life_ms: life_ms,
    }
}

impl Service for Fake {
    async fn call(
        &self,
        _peer: Arc<Peer>,
        op: Op,
        body: AlignedVec,
        _deadline: Duration,
    ) -> Result<AlignedVec, KindError> {
        if self.follows.load(Ordering::Relaxed) {
            return Err(KindError::new(ErrorKind::NotLeader, "this master follows"));
        }
        Ok(match op {
            Op::GetClusterMap => {
                forebay_net::decode::<GetClusterMap>(&body)?;
                ClusterMap { epoch: 1, cluster_id: 7, incarnation: 1, ticket_key: [0; 32], workers: Vec::new() }
                    .to_bytes()
            }
            Op::Lookup => match &forebay_net::decode::<Lookup>(&body)?.name[..] {
                b"there" => attr(5, 1).to_bytes(),
                _ => return Err(KindError::new(ErrorKind::NotFound, "no such name")),
            },
            Op::OpenRead => {
                self.opens.fetch_add(1, Ordering::Relaxed);
                let (live, life) =
                    (self.live_version.load(Ordering::Relaxed), self.ticket_life_ms.load(Ordering::Relaxed));
                let request = forebay_net::decode::<OpenRead>(&body)?;
                let files = request.files.iter().map(|(file, version)| open_result(*file, *version, live, life));
                OpenReadReply { files: files.collect() }.to_bytes()
            }
            Op::HoldMounts => {
                let request = forebay_net::decode::<HoldMounts>(&body)?;
                self.held.lock().expect("no test panics with it").push(request.open_files);
                Empty::default().to_bytes()
            }
            Op::Mount => {
                self.mounts.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
            other => return Err(KindError::new(ErrorKind::Unsupported, format!("{other:?}"))),
        })
    }
}

fn identity(role: Role) -> Identity {
    Identity { role, cluster_id: ClusterId(7), secret: Secret::none() }
}

async fn serve(fake: &Arc<Fake>, address: &str) -> Server {
    for _ in 0..100 {
        match Server::bind(&Endpoint::Tcp(address.into()), identity(Role::Master), fake.clone()).await {
            Ok(server) => return server,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{address} stays in use");
}

fn config(masters: Vec<String>) -> ClientConfig {
    ClientConfig {
        masters,
        secret: Secret::none(),
        role: Role::Frontend,
        socket_dir: "/nonexistent".into(),
        rpc_timeout: Duration::from_secs(5),
        io_timeout: Duration::from_millis(300),
        verify: true,
    }
}

#[tokio::test]
async fn a_restarted_master_is_found_again_and_a_follower_passed_over() {
    let (follower, leader) = (Arc::new(Fake::default()), Arc::new(Fake::default()));
    follower.follows.store(true, Ordering::Relaxed);
    let (first, second) = (serve(&follower, "127.0.0.1:0").await, serve(&leader, "127.0.0.1:0").await);
    let addresses = vec![first.local_address(), second.local_address()];
    let client = Client::connect(config(addresses.clone())).await.unwrap();
    assert_eq!(client.lookup(FileId(1), b"there").await.unwrap().file_id, 5);
    assert_eq!(client.lookup(FileId(1), b"none").await.unwrap_err().kind, ErrorKind::NotFound);

    second.shutdown().await;
    let address = addresses[1].clone();
    let again = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        serve(&leader, &address).await
    });
    assert_eq!(client.lookup(FileId(1), b"there").await.unwrap().file_id, 5);
    again.await.unwrap().shutdown().await;
    first.shutdown().await;
}

#[tokio::test]
async fn what_changes_something_is_not_sent_twice() {
    let fake = Arc::new(Fake::default());
    let server = serve(&fake, "127.0.0.1:0").await;
    let client = Client::connect(config(vec![server.local_address()])).await.unwrap();
    let mount =
        Mount { path: "/m".into(), uri: "file:///x".into(), options: Vec::new(), freshness_ms: 0, readonly: true };
    let call = {
        let client = client.clone();
        tokio::spawn(async move { client.master(&mount).await })
    };
    while fake.mounts.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let address = server.local_address();
    server.shutdown().await;
    let server = serve(&fake, &address).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(fake.mounts.load(Ordering::Relaxed), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_version_that_ends_makes_its_readers_stale() {
    let fake = Arc::new(Fake::default());
    fake.live_version.store(4, Ordering::Relaxed);
    // A life of nothing: every read renews first.
    let server = serve(&fake, "127.0.0.1:0").await;
    let client = Client::connect(config(vec![server.local_address()])).await.unwrap();
    assert_eq!(client.open(FileId(5), Version(3)).await.map(|_| ()).unwrap_err().kind, ErrorKind::Stale);
    let file = client.open(FileId(5), Version(0)).await.unwrap();
    assert_eq!(file.attr().version, 4);
    fake.live_version.store(5, Ordering::Relaxed);
    assert_eq!(file.read(0, 5).await.unwrap_err().kind, ErrorKind::Stale);
    let opens = fake.opens.load(Ordering::Relaxed);
    assert_eq!(file.read(0, 5).await.unwrap_err().kind, ErrorKind::Stale);
    assert_eq!(fake.opens.load(Ordering::Relaxed), opens, "stale for ever needs no more questions");
    assert!(file.read(10, 5).await.unwrap().is_empty());
    server.shutdown().await;
}

#[tokio::test]
async fn reads_without_workers_end_with_a_clear_error_and_open_files_are_held() {
    let fake = Arc::new(Fake::default());
    fake.live_version.store(4, Ordering::Relaxed);
    fake.ticket_life_ms.store(60_000, Ordering::Relaxed);
    let server = serve(&fake, "127.0.0.1:0").await;
    let client = Client::connect(config(vec![server.local_address()])).await.unwrap();
    let file = client.open(FileId(5), Version(0)).await.unwrap();
    let error = file.read(0, 5).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("no worker") && error.message.contains("file 5"), "{error}");
    drop(file);
    tokio::time::timeout(Duration::from_secs(5), async {
        while fake.held.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the master is told");
    assert_eq!(*fake.held.lock().unwrap(), [vec![(3, 1)], vec![]]);
    server.shutdown().await;
}
