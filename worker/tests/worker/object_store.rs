//! Reading from an object store: long conditional requests, objects that change, stores that fail.

use crate::bucket::{Bucket, Mood};
use crate::cluster::{Cluster, TestFile, WAIT, pattern};
use forebay_base::ErrorKind;
use forebay_net::message::data::{CacheStatus, Load, LoadItem, Read};
use forebay_net::message::handshake::Role;
use std::time::{Duration, Instant};

const PAGE: usize = 1 << 20;
const MOUNT: u32 = 9;

async fn object(cluster: &Cluster, bucket: &Bucket, file_id: u64, version: u64, key: &str, bytes: &[u8]) -> TestFile {
    bucket.put(key, bytes);
    let limits = forebay_ufs::StoreLimits { concurrency: 4, deadline: WAIT, retries: 0 };
    let store = forebay_ufs::open("s3://bucket", &bucket.options(), limits).unwrap();
    let meta = store.stat(key).await.unwrap();
    cluster.known(file_id, version, MOUNT, key, &meta.fingerprint, bytes)
}

async fn with_bucket() -> (Cluster, Bucket) {
    let mut cluster = Cluster::new().await;
    let bucket = Bucket::new().await;
    let mut options = bucket.options();
    options.push(("deadline".into(), "1s".into()));
    cluster.mount(MOUNT, "s3://bucket", options);
    cluster.start().await;
    (cluster, bucket)
}

#[tokio::test(flavor = "multi_thread")]
async fn long_reads_are_few_requests_and_each_byte_comes_once() {
    let (cluster, bucket) = with_bucket().await;
    let client = cluster.client(Role::Frontend).await;
    let size = 20 * PAGE + 999;
    let file = object(&cluster, &bucket, 1, 1, "a/big", &pattern(1, size)).await;
    let item = LoadItem { ticket: cluster.signed(&file.ticket), offset: 0, length: u64::MAX };
    let load = Load { items: vec![item], verify: false };
    let reply = client.core_of(1).call(&load, WAIT).await.unwrap().results.remove(0);
    assert_eq!((reply.fetched_bytes, reply.cached_bytes), (size as u64, 0));
    client.compare(&cluster, &file, 900_000).await;
    let gets = bucket.gets();
    assert_eq!(gets.len(), 3, "{gets:?}");
    assert_eq!(gets.iter().map(|(_, length)| length).sum::<u64>(), size as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_object_is_stale_and_a_cut_answer_leaves_only_whole_pages() {
    let (cluster, bucket) = with_bucket().await;
    let client = cluster.client(Role::Frontend).await;
    let old = object(&cluster, &bucket, 2, 1, "k", &pattern(1, 8 * PAGE)).await;
    client.read_one(old.item(&cluster, 0, 1000)).await.unwrap();
    let new = object(&cluster, &bucket, 2, 2, "k", &pattern(2, 8 * PAGE)).await;
    let error = client.read_one(old.item(&cluster, PAGE as u64, 1000)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Stale, "{error}");
    bucket.set_mood(Mood::Short);
    let item = LoadItem { ticket: cluster.signed(&new.ticket), offset: 0, length: u64::MAX };
    let load = Load { items: vec![item], verify: false };
    let failed = client.core_of(2).call(&load, WAIT).await.unwrap().results.remove(0);
    assert!([ErrorKind::Unavailable.code(), ErrorKind::Corrupt.code()].contains(&failed.status), "{failed:?}");
    assert!(failed.message.contains("s3://bucket"), "{failed:?}");
    let status = client.core_of(2).call(&CacheStatus { files: vec![(2, 2)] }, WAIT).await.unwrap().files[0];
    assert_eq!(status.any_bytes, PAGE as u64, "only what arrived whole is kept");
    bucket.set_mood(Mood::Well);
    client.compare(&cluster, &new, 700_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_store_is_named_in_time_and_slows_no_other() {
    let (cluster, bucket) = with_bucket().await;
    let client = cluster.client(Role::Frontend).await;
    let mut silent = Vec::new();
    for id in 100..140 {
        silent.push(object(&cluster, &bucket, id, 1, &format!("o{id}"), &pattern(id, 2 * PAGE)).await);
    }
    let cached = object(&cluster, &bucket, 99, 1, "cached", &pattern(99, 2 * PAGE)).await;
    client.compare(&cluster, &cached, 1 << 20).await;
    bucket.set_mood(Mood::Silent);
    let asked = Instant::now();
    let waiting = silent.iter().map(|file| client.read_one(file.item(&cluster, 0, 1000)));
    let waiting = futures::future::join_all(waiting);
    let others = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let local = cluster.file(1, 1, "local", &pattern(1, 4 * PAGE)).await;
        let begun = Instant::now();
        client.compare(&cluster, &local, 1 << 19).await;
        client.compare(&cluster, &cached, 1 << 19).await;
        begun.elapsed()
    };
    let (answers, other) = tokio::join!(waiting, others);
    assert!(other < Duration::from_millis(800), "the local directory waited {other:?} for the silent store");
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.message.contains("s3://bucket"), "{error}");
    }
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    // Readers hear of a silent store before its requests have ended, and it is these that are logged.
    while !(cluster.log().contains("store read failed") && cluster.log().contains("s3://bucket")) {
        assert!(asked.elapsed() < Duration::from_secs(20), "{}", cluster.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A request with little time gets its answer in that time.
    let item = silent[0].item(&cluster, PAGE as u64, 10);
    let begun = Instant::now();
    let read = Read { items: vec![item], want_checksums: false, waited_ms: 0 };
    let (reply, _) = client.core_of(100).call_payload(&read, Duration::from_millis(500)).await.unwrap();
    assert_eq!(reply.results[0].status, ErrorKind::Unavailable.code(), "{reply:?}");
    assert!(begun.elapsed() < Duration::from_millis(500));
    bucket.set_mood(Mood::Well);
    client.compare(&cluster, &silent[1], 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_credentials_are_taken_up_and_an_unmounted_store_is_forgotten() {
    let (cluster, bucket) = with_bucket().await;
    let client = cluster.client(Role::Frontend).await;
    let file = object(&cluster, &bucket, 5, 1, "k", &pattern(5, 3 * PAGE)).await;
    client.read_one(file.item(&cluster, 0, 100)).await.unwrap();
    bucket.set_mood(Mood::Forbidding);
    let error = client.read_one(file.item(&cluster, PAGE as u64, 100)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    // The data moved to another endpoint: the old one refuses, the master knows better.
    let other = Bucket::new().await;
    other.put("k", &file.bytes);
    cluster.mount(MOUNT, "s3://bucket", other.options());
    tokio::time::sleep(Duration::from_millis(3100)).await;
    client.compare(&cluster, &file, 1 << 20).await;
    let held = CacheStatus { files: vec![(5, 1)] };
    assert!(client.core_of(5).call(&held, WAIT).await.unwrap().files[0].any_bytes > 0);
    cluster.unmount(MOUNT, &[5]);
    let begun = Instant::now();
    while client.core_of(5).call(&held, WAIT).await.unwrap().files[0].any_bytes > 0 {
        assert!(begun.elapsed() < WAIT, "data of a gone mount are kept:\n{}", cluster.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.read_one(file.item(&cluster, 0, 100)).await.unwrap_err().kind, ErrorKind::Stale);
}
