//! Write sessions as a client uses them, right and wrong, at a real worker with a local directory behind it, and what is left
//! of them when their writer or the worker is killed.

use crate::cluster::{Client, Cluster, LOCAL, WAIT, pattern};
use forebay_base::{ErrorKind, KindError, limits, unix_now_ms};
use forebay_net::message::Message;
use forebay_net::message::handshake::Role;
use forebay_net::message::session::{
    EndSession, OpenSession, ReadSession, ResizeSession, SaveSession, SessionState, SyncSession, WriteSession,
};
use forebay_net::message::write::{FinishUploadReply, PIECE_BYTES_MAX};
use forebay_net::write_ticket::WriteTicket;
use std::time::{Duration, Instant};

const FILE: u64 = 77;
const MIB: u64 = 1 << 20;

fn ticket(cluster: &Cluster, file_id: u64, key: &str, replaces: Option<&str>) -> Vec<u8> {
    let expires_unix_ms = unix_now_ms() + limits::TICKET_LIFE_MS;
    let (create_only, replaces) = (replaces.is_none(), replaces.unwrap_or_default().to_string());
    cluster.signed_write(&WriteTicket {
        mount_id: LOCAL,
        store_key: key.into(),
        file_id,
        client_id: 5,
        create_only,
        replaces,
        expires_unix_ms,
    })
}

async fn call<M: Message>(client: &Client, file_id: u64, request: &M) -> Result<M::Reply, KindError> {
    client.core_of(file_id).call(request, WAIT).await
}

async fn open(client: &Client, ticket: Vec<u8>, join_only: bool) -> Result<SessionState, KindError> {
    call(client, FILE, &OpenSession { ticket, join_only }).await
}

async fn write(client: &Client, offset: u64, bytes: &[u8]) -> Result<u64, KindError> {
    let request = WriteSession { file_id: FILE, offset, bytes: bytes.to_vec() };
    call(client, FILE, &request).await.map(|stands| stands.size)
}

async fn read(client: &Client, offset: u64, length: u32) -> Result<Vec<u8>, KindError> {
    call(client, FILE, &ReadSession { file_id: FILE, offset, length }).await.map(|reply| reply.bytes)
}

async fn save(client: &Client, ticket: Vec<u8>) -> Result<FinishUploadReply, KindError> {
    call(client, FILE, &SaveSession { file_id: FILE, ticket }).await
}

async fn sync(client: &Client) -> Result<(), KindError> {
    call(client, FILE, &SyncSession { file_id: FILE }).await.map(drop)
}

fn staged(cluster: &Cluster) -> usize {
    std::fs::read_dir(cluster.dir.path().join("worker/sessions")).unwrap().count()
}

#[track_caller]
fn refused<T>(result: Result<T, KindError>, kind: ErrorKind) {
    match result {
        Ok(_) => panic!("it went well, want {kind:?}"),
        Err(error) => assert_eq!(error.kind, kind, "{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_its_beginning_to_its_end() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let first = ticket(&cluster, FILE, "f", None);
    refused(write(&client, 0, b"x").await, ErrorKind::TicketRequired);
    refused(open(&client, first.clone(), true).await, ErrorKind::NotFound);
    refused(open(&client, ticket(&cluster, 0, "f", None), false).await, ErrorKind::TicketRequired);
    assert_eq!(open(&client, first.clone(), false).await.unwrap(), SessionState { size: 0, is_new: true });
    assert_eq!(open(&client, first.clone(), false).await.unwrap(), SessionState { size: 0, is_new: false });

    // Programs write where they like, and read what they wrote; the store sees nothing of it.
    let bytes = pattern(1, 3 * PIECE_BYTES_MAX);
    for index in [2, 0, 1] {
        let at = index * PIECE_BYTES_MAX;
        write(&client, at as u64, &bytes[at..at + PIECE_BYTES_MAX]).await.unwrap();
    }
    assert_eq!(write(&client, 4 * MIB, b"end").await.unwrap(), 4 * MIB + 3);
    let mut want = bytes.clone();
    want.resize(4 << 20, 0);
    want.extend_from_slice(b"end");
    assert!(read(&client, 3 * MIB - 100, PIECE_BYTES_MAX as u32).await.unwrap() == want[(3 << 20) - 100..][..1 << 20]);
    assert_eq!(read(&client, 4 * MIB + 1, 100).await.unwrap(), b"nd");
    assert!(read(&client, 5 * MIB, 100).await.unwrap().is_empty());
    refused(write(&client, 0, &vec![0; PIECE_BYTES_MAX + 1]).await, ErrorKind::Invalid);
    refused(write(&client, limits::FILE_BYTES_MAX, b"x").await, ErrorKind::Invalid);
    refused(write(&client, u64::MAX, b"x").await, ErrorKind::Invalid);
    refused(read(&client, 0, PIECE_BYTES_MAX as u32 + 1).await, ErrorKind::Invalid);
    assert!(!cluster.data().join("f").exists());

    // A save puts all of it there; the same ticket again is told the same, another one replaces only what it names.
    let saved = save(&client, first.clone()).await.unwrap();
    assert!(std::fs::read(cluster.data().join("f")).unwrap() == want);
    assert_eq!(save(&client, first.clone()).await.unwrap(), saved);
    call(&client, FILE, &ResizeSession { file_id: FILE, size: 10 }).await.unwrap();
    assert_eq!(save(&client, first.clone()).await.unwrap().size, 10, "it replaces what it put there itself");
    assert!(std::fs::read(cluster.data().join("f")).unwrap() == want[..10]);
    write(&client, 0, b"other").await.unwrap();
    refused(save(&client, ticket(&cluster, FILE, "f", None)).await, ErrorKind::Exists);
    refused(save(&client, ticket(&cluster, FILE, "f", Some("stat:0:0"))).await, ErrorKind::Stale);
    refused(save(&client, ticket(&cluster, FILE + 2, "f", None)).await, ErrorKind::TicketRequired);
    assert!(std::fs::read(cluster.data().join("f")).unwrap() == want[..10]);

    // Another connection has to present a ticket; what is ended is gone for all.
    let other = cluster.client(Role::Frontend).await;
    refused(read(&other, 0, 5).await, ErrorKind::TicketRequired);
    open(&other, first.clone(), true).await.unwrap();
    assert_eq!(read(&other, 0, 5).await.unwrap(), b"other");
    call(&client, FILE, &EndSession { file_id: FILE }).await.unwrap();
    call(&client, FILE, &EndSession { file_id: FILE }).await.unwrap();
    refused(read(&other, 0, 5).await, ErrorKind::TicketRequired);
    refused(open(&other, first.clone(), true).await, ErrorKind::NotFound);
    assert_eq!(staged(&cluster), 0, "something is left of a session that ended");
    // A new one begins without content.
    assert_eq!(open(&other, first, false).await.unwrap(), SessionState { size: 0, is_new: true });
    cluster.end_worker().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_synced_outlives_a_killed_worker_and_its_writer() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let own = ticket(&cluster, FILE, "synced", None);
    open(&client, own.clone(), false).await.unwrap();
    let bytes = pattern(2, 1_500_000);
    for (index, piece) in bytes.chunks(PIECE_BYTES_MAX).enumerate() {
        write(&client, (index * PIECE_BYTES_MAX) as u64, piece).await.unwrap();
    }
    sync(&client).await.unwrap();
    // Another file whose writer synced nothing.
    let unsynced = OpenSession { ticket: ticket(&cluster, FILE + 1, "unsynced", None), join_only: false };
    call(&client, FILE + 1, &unsynced).await.unwrap();
    let lost = WriteSession { file_id: FILE + 1, offset: 0, bytes: vec![1; 10] };
    call(&client, FILE + 1, &lost).await.unwrap();

    cluster.kill_worker();
    cluster.start().await;
    // Its writer finds it again, with all that was written.
    let client = cluster.client(Role::Frontend).await;
    let stands = open(&client, own.clone(), true).await.unwrap();
    assert_eq!(stands, SessionState { size: bytes.len() as u64, is_new: false });
    assert!(read(&client, 1_000_000, 500_000).await.unwrap() == bytes[1_000_000..]);
    drop(client);
    // Then it is gone too: the worker saves what was synced, tells the master, and drops the rest.
    let began = Instant::now();
    while staged(&cluster) > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "sessions do not lapse:\n{}", cluster.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(std::fs::read(cluster.data().join("synced")).unwrap() == bytes);
    assert!(!cluster.data().join("unsynced").exists());
    assert_eq!(*cluster.master.saved.lock().unwrap(), [FILE]);
    let client = cluster.client(Role::Frontend).await;
    refused(open(&client, own, true).await, ErrorKind::NotFound);
    cluster.end_worker().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_machine_only_what_was_synced_counts() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let own = ticket(&cluster, FILE, "f", None);
    open(&client, own.clone(), false).await.unwrap();
    write(&client, 0, b"synced").await.unwrap();
    sync(&client).await.unwrap();
    cluster.kill_worker();
    // Another start of the machine, as far as the worker can tell.
    let note = cluster.dir.path().join(format!("worker/sessions/{FILE:016x}.note"));
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = std::fs::read_to_string(&note).unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    std::fs::write(&note, text.replace(boot.trim(), "another")).unwrap();
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    // Its writer is told that something may be missing, and does not go on as if nothing were.
    refused(open(&client, own, true).await, ErrorKind::NotFound);
    let began = Instant::now();
    while staged(&cluster) > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "it is not saved:\n{}", cluster.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(std::fs::read(cluster.data().join("f")).unwrap(), b"synced");
    cluster.end_worker().await;
}
