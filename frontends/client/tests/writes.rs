//! Writing files to a master and workers made for the purpose: workers without room, and ends that are not known.

use bytes::Bytes;
use forebay_base::{ClusterId, ErrorKind, KindError};
use forebay_client::message::cluster::{ClusterMap, ShardAddress, WorkerInfo};
use forebay_client::message::handshake::Role;
use forebay_client::message::namespace::Attr;
use forebay_client::message::write::{FinishUpload, FinishUploadReply, GrantWriteReply};
use forebay_client::message::{Empty, Op, Wire};
use forebay_client::{Client, ClientConfig, Secret};
use forebay_net::transport::tokio::{Server, Service};
use forebay_net::{Endpoint, Identity, Peer};
use rkyv::util::AlignedVec;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A worker: full until a moment, then with these ends to the uploads it takes, and good ones after them.
#[derive(Default)]
struct Worker {
    full_until: Mutex<Option<Instant>>,
    asked: AtomicU64,
    ends: Mutex<VecDeque<ErrorKind>>,
}

impl Service for Worker {
    async fn call(&self, _: Arc<Peer>, op: Op, body: AlignedVec, _: Duration) -> Result<AlignedVec, KindError> {
        match op {
            Op::BeginUpload => {
                self.asked.fetch_add(1, Ordering::Relaxed);
                if self.full_until.lock().expect("a lock").is_some_and(|until| Instant::now() < until) {
                    return Err(KindError::new(ErrorKind::Overloaded, "others hold all the memory"));
                }
                Ok(Empty::default().to_bytes())
            }
            Op::UploadPiece | Op::AbortUpload => Ok(Empty::default().to_bytes()),
            Op::FinishUpload => {
                let size = forebay_net::decode::<FinishUpload>(&body)?.size;
                match self.ends.lock().expect("a lock").pop_front() {
                    Some(kind) => Err(KindError::new(kind, "the store says so")),
                    None => Ok(FinishUploadReply { size, mtime_ms: 0, fingerprint: "x".into() }.to_bytes()),
                }
            }
            other => Err(KindError::new(ErrorKind::Unsupported, format!("{other:?}"))),
        }
    }
}

struct Master {
    workers: Vec<String>,
    grants: AtomicU64,
}

impl Service for Master {
    async fn call(&self, _: Arc<Peer>, op: Op, _: AlignedVec, _: Duration) -> Result<AlignedVec, KindError> {
        let worker = |(index, tcp): (usize, &String)| WorkerInfo {
            worker_id: index as u64 + 1,
            weight: 1,
            host_id: 0,
            shards: vec![ShardAddress { tcp: tcp.clone(), unix: String::new() }],
        };
        Ok(match op {
            Op::GetClusterMap => {
                let workers = self.workers.iter().enumerate().map(worker).collect();
                ClusterMap { epoch: 1, cluster_id: 7, incarnation: 1, ticket_key: [0; 32], workers }.to_bytes()
            }
            Op::GrantWrite => {
                self.grants.fetch_add(1, Ordering::Relaxed);
                GrantWriteReply { ticket: vec![1], ticket_life_ms: 60_000, mount_id: 3 }.to_bytes()
            }
            Op::RecordWrite => Attr {
                file_id: 5,
                version: 1,
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
            .to_bytes(),
            other => return Err(KindError::new(ErrorKind::Unsupported, format!("{other:?}"))),
        })
    }
}

async fn serve<S: Service>(role: Role, service: &Arc<S>) -> Server {
    let identity = Identity { role, cluster_id: ClusterId(7), secret: Secret::none() };
    Server::bind(&Endpoint::Tcp("127.0.0.1:0".into()), identity, service.clone()).await.expect("a free port")
}

/// A client that is not patient, its workers, its master and their servers.
async fn cluster() -> (Client, [Arc<Worker>; 2], Arc<Master>, Vec<Server>) {
    let workers = [Arc::new(Worker::default()), Arc::new(Worker::default())];
    let mut servers = Vec::new();
    for worker in &workers {
        servers.push(serve(Role::Worker, worker).await);
    }
    let addresses = servers.iter().map(Server::local_address).collect();
    let master = Arc::new(Master { workers: addresses, grants: AtomicU64::new(0) });
    servers.push(serve(Role::Master, &master).await);
    let config = ClientConfig {
        masters: vec![servers[2].local_address()],
        secret: Secret::none(),
        role: Role::Admin,
        socket_dir: "/nonexistent".into(),
        rpc_timeout: Duration::from_secs(5),
        io_timeout: Duration::from_millis(300),
        verify: true,
    };
    (Client::connect(config).await.expect("a master"), workers, master, servers)
}

fn source() -> Bytes {
    Bytes::from(vec![7; 3 << 20])
}

#[tokio::test]
async fn a_full_worker_is_no_lost_worker() {
    let (client, workers, master, _servers) = cluster().await;
    let until = Instant::now() + Duration::from_millis(1500);
    for worker in &workers {
        *worker.full_until.lock().expect("a lock") = Some(until);
    }
    client.write_file(b"/m/f", false, &source(), |_| {}).await.expect("room in the end, long after io_timeout");
    let asked = workers.each_ref().map(|worker| worker.asked.load(Ordering::Relaxed));
    assert!(asked.iter().all(|count| *count >= 2), "both are asked in turn: {asked:?}");
    assert_eq!(master.grants.load(Ordering::Relaxed), 1, "the ticket is still good");

    // One that has room is found at once.
    *workers[0].full_until.lock().expect("a lock") = Some(Instant::now() + Duration::from_secs(600));
    for index in 0..8 {
        client
            .write_file(format!("/m/{index}").as_bytes(), false, &source(), |_| {})
            .await
            .expect("the other has room");
    }
}

#[tokio::test]
async fn an_end_that_is_not_known_is_said_when_the_name_is_taken_then() {
    let (client, workers, _master, _servers) = cluster().await;
    let ends = |kinds: &[ErrorKind]| {
        for worker in &workers {
            *worker.ends.lock().expect("a lock") = kinds.iter().copied().collect();
        }
    };
    ends(&[ErrorKind::Exists]);
    let error = client.write_file(b"/m/f", false, &source(), |_| {}).await.expect_err("it is there");
    assert!(error.kind == ErrorKind::Exists && !error.message.contains("not known"), "{error}");
    ends(&[ErrorKind::Unavailable, ErrorKind::Exists]);
    let error = client.write_file(b"/m/f", false, &source(), |_| {}).await.expect_err("it is there, perhaps by us");
    assert!(error.kind == ErrorKind::Exists && error.message.contains("whether this copy made it"), "{error}");
    ends(&[ErrorKind::Unavailable]);
    client.write_file(b"/m/f", false, &source(), |_| {}).await.expect("begun again");
}
