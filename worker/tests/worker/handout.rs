//! Whole local files over the socket for descriptors.

use crate::cluster::{Cluster, TestFile, WAIT, pattern};
use forebay_base::{ClusterId, ErrorKind, KindError};
use forebay_net::message::data::Evict;
use forebay_net::message::handout::{
    LEASE_GRANTED, LEASE_NOT_WHOLE, LEASE_NOT_YET, LEASE_SMALL, LeaseFile, RenewLeases, ReturnLeases,
};
use forebay_net::message::handshake::Role;
use forebay_net::transport::descriptors::{DescriptorStream, descriptor_socket};
use forebay_net::{Identity, Secret};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

fn connect(cluster: &Cluster, cluster_id: u128) -> Result<DescriptorStream, KindError> {
    let worker = cluster.registered().expect("a worker is there");
    let path = descriptor_socket(Path::new(&worker.shards[0].unix)).expect("a socket for files");
    let identity = Identity { role: Role::Frontend, cluster_id: ClusterId(cluster_id), secret: Secret::none() };
    DescriptorStream::connect(&path, &identity, WAIT)
}

fn ask(
    cluster: &Cluster,
    stream: &mut DescriptorStream,
    file: &TestFile,
) -> Result<(u8, u64, Option<File>), KindError> {
    let (reply, descriptor) = stream.call(&LeaseFile { ticket: cluster.signed(&file.ticket) })?;
    assert_eq!(descriptor.is_some(), reply.state == LEASE_GRANTED);
    Ok((reply.state, reply.lease_id, descriptor.map(File::from)))
}

/// Asks until the file is on the disk.
fn lease(cluster: &Cluster, stream: &mut DescriptorStream, file: &TestFile) -> (u64, File) {
    let started = Instant::now();
    loop {
        match ask(cluster, stream, file).unwrap() {
            (LEASE_GRANTED, lease, Some(descriptor)) => return (lease, descriptor),
            (state, ..) => {
                assert!([LEASE_NOT_WHOLE, LEASE_NOT_YET].contains(&state) && started.elapsed() < WAIT, "{state}")
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn leased_bytes(cluster: &Cluster) -> u64 {
    cluster.next_heartbeat().await.tiers.iter().map(|tier| tier.leased_bytes).sum()
}

async fn until_leased(cluster: &Cluster, wanted: u64) {
    let started = Instant::now();
    loop {
        let got = leased_bytes(cluster).await;
        if got == wanted {
            return;
        }
        assert!(started.elapsed() < WAIT, "{got} bytes are leased, want {wanted}:\n{}", cluster.log());
    }
}

fn is_whole(file: &File, wanted: &TestFile) -> bool {
    let mut bytes = vec![0; wanted.bytes.len()];
    file.read_exact_at(&mut bytes, 0).is_ok()
        && bytes == wanted.bytes
        && file.metadata().unwrap().len() == bytes.len() as u64
}

#[tokio::test]
async fn a_whole_file_is_handed_out_under_its_ticket_and_the_lease_ends_with_the_connection() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let large = cluster.file(1, 1, "large", &pattern(1, (3 << 20) + 5)).await;
    let small = cluster.file(2, 1, "small", &pattern(2, 1 << 20)).await;
    let client = cluster.client(Role::Admin).await;
    assert_eq!(connect(&cluster, 77).err().unwrap().kind, ErrorKind::Denied, "another cluster");
    let mut stream = connect(&cluster, 0).unwrap();
    assert_eq!(ask(&cluster, &mut stream, &large).unwrap().0, LEASE_NOT_WHOLE);
    assert_eq!(ask(&cluster, &mut stream, &small).unwrap().0, LEASE_SMALL);
    let forged = LeaseFile { ticket: vec![7; 200] };
    assert_eq!(stream.call(&forged).unwrap_err().kind, ErrorKind::TicketRequired);
    client.compare(&cluster, &large, 1 << 20).await;
    let (lease_id, file) = lease(&cluster, &mut stream, &large);
    assert!(is_whole(&file, &large) && file.write_at(b"x", 0).is_err());
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o1400);
    until_leased(&cluster, (3 << 20) + 4096).await;
    let mut other = connect(&cluster, 0).unwrap();
    other.call(&ReturnLeases { lease_ids: vec![lease_id] }).unwrap();
    until_leased(&cluster, (3 << 20) + 4096).await;
    drop(stream);
    until_leased(&cluster, 0).await;

    // Evicted while a client holds it: it reads on, hears of it, and its space counts until it lets go.
    let (lease_id, held) = lease(&cluster, &mut other, &large);
    client.core_of(1).call(&Evict { file_ids: vec![1] }, WAIT).await.unwrap();
    assert_eq!(other.call(&RenewLeases::default()).unwrap().0.gone, [lease_id]);
    other.call(&ReturnLeases { lease_ids: vec![lease_id] }).unwrap();
    drop(file);
    assert!(is_whole(&held, &large) && leased_bytes(&cluster).await > 3 << 20);
    drop(held);
    until_leased(&cluster, 0).await;

    cluster.feed(1, 2);
    cluster.next_heartbeat().await;
    assert_eq!(ask(&cluster, &mut other, &large).unwrap_err().kind, ErrorKind::Stale, "a dead version");
    assert!(cluster.end_worker().await.success(), "it ends though a client is connected");
}

#[tokio::test]
async fn who_holds_a_file_reads_on_when_the_worker_is_killed_and_needs_the_room() {
    let mut cluster = Cluster::new().await;
    cluster.settings.retain(|setting| !setting.starts_with("worker.ssd=") && !setting.starts_with("worker.cores="));
    let cache = cluster.dir.path().join("cache").display().to_string();
    cluster.settings.extend([format!("worker.ssd={cache}=64MiB"), "worker.cores=1".into()]);
    cluster.start().await;
    let kept = cluster.file(1, 1, "kept", &pattern(1, 8 << 20)).await;
    cluster.client(Role::Admin).await.compare(&cluster, &kept, 1 << 20).await;
    let mut stream = connect(&cluster, 0).unwrap();
    let (_, file) = lease(&cluster, &mut stream, &kept);
    cluster.kill_worker();
    assert!(is_whole(&file, &kept));
    assert!(stream.call(&RenewLeases::default()).is_err(), "the connection is gone");
    cluster.start().await;
    let client = cluster.client(Role::Admin).await;
    let mut stream = connect(&cluster, 0).unwrap();
    let (_, again) = lease(&cluster, &mut stream, &kept);
    assert_eq!(again.metadata().unwrap().ino(), file.metadata().unwrap().ino(), "it was checked and is served on");
    drop(stream);
    for number in 0..12u64 {
        let other = cluster.file(10 + number, 1, &format!("other-{number}"), &pattern(10 + number, 8 << 20)).await;
        client.compare(&cluster, &other, 1 << 20).await;
    }
    assert!(is_whole(&file, &kept) && is_whole(&again, &kept), "nothing was punched");
    assert_eq!(file.metadata().unwrap().nlink(), 0, "it has left the cache as a whole");
    assert!(cluster.end_worker().await.success());
}
