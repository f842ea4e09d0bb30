//! Starting, ending, restarting, running without a master, and running with less room than data.

use crate::cluster::{Cluster, pattern};
use forebay_net::message::handshake::Role;
use std::time::Duration;

const PAGE: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn warm_after_a_restart_without_the_store() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let mut files = Vec::new();
    for (id, size) in [(1u64, 3 * PAGE + 5), (2, 100 * 1024), (3, 700), (4, PAGE), (5, 9 * PAGE)] {
        files.push(cluster.file(id, 1, &format!("f{id}"), &pattern(id, size)).await);
    }
    let client = cluster.client(Role::Frontend).await;
    for file in &files {
        client.compare(&cluster, file, 1 << 20).await;
    }
    let status = cluster.end_worker().await;
    assert!(status.success(), "{status:?}:\n{}", cluster.log());
    std::fs::remove_dir_all(cluster.data()).unwrap();
    // The last file died while the worker was away.
    cluster.feed(5, 2);
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    for file in &files[..4] {
        client.compare(&cluster, file, 1 << 20).await;
    }
    assert!(client.read_one(files[4].item(&cluster, 0, 100)).await.is_err());
    let heartbeat = cluster.next_heartbeat().await;
    assert_eq!(heartbeat.counters.store_read_bytes, 0);
    assert_eq!(heartbeat.feed_position, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_comes_back_with_right_bytes() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let file = cluster.file(1, 1, "f", &pattern(1, 20 * PAGE)).await;
    client.compare(&cluster, &file, 1 << 20).await;
    cluster.kill_worker();
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    client.compare(&cluster, &file, 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_away_stops_no_read() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let cached = cluster.file(1, 1, "cached", &pattern(1, 2 * PAGE)).await;
    let fresh = cluster.file(2, 1, "fresh", &pattern(2, 2 * PAGE)).await;
    client.compare(&cluster, &cached, 1 << 20).await;
    cluster.end_master().await;
    client.compare(&cluster, &cached, 1 << 20).await;
    client.compare(&cluster, &fresh, 1 << 20).await;
    cluster.client(Role::Frontend).await.compare(&cluster, &fresh, 1 << 19).await;
    assert!(cluster.end_worker().await.success(), "{}", cluster.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn less_room_than_data() {
    let mut cluster = Cluster::new().await;
    let cache = cluster.dir.path().join("cache").display().to_string();
    cluster.settings.extend([
        format!("worker.ssd={cache}=64MiB"),
        "worker.mem_capacity=8MiB".into(),
        "worker.buffer_memory=16MiB".into(),
    ]);
    cluster.start().await;
    let idle = cluster.next_heartbeat().await.counters.resident_bytes;
    let mut files = Vec::new();
    for id in 1..=16u64 {
        files.push(cluster.file(id, 1, &format!("f{id}"), &pattern(id, 16 * PAGE)).await);
    }
    for _ in 0..2 {
        for file in &files {
            let readers = (0..4).map(|_| async {
                cluster.client(Role::Frontend).await.compare(&cluster, file, 512 * 1024).await;
            });
            futures::future::join_all(readers).await;
        }
        let heartbeat = cluster.next_heartbeat().await;
        for tier in &heartbeat.tiers {
            assert!(tier.used_bytes <= tier.capacity_bytes, "{tier:?}");
            assert!(tier.trouble.is_empty(), "{tier:?}");
        }
        let budget = (8 + 16 + 150) << 20;
        assert!(heartbeat.counters.resident_bytes <= budget, "{idle} -> {}", heartbeat.counters.resident_bytes);
        assert!(heartbeat.counters.evicted_pages > 0);
        println!("resident idle {} MiB, loaded {} MiB", idle >> 20, heartbeat.counters.resident_bytes >> 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_the_master_forgot_registers_again() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let before = cluster.forget_worker();
    cluster.next_heartbeat().await;
    assert_eq!(cluster.registered(), Some(before));
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_its_master_and_ends_when_told_meanwhile() {
    let mut cluster = Cluster::new().await;
    cluster.end_master().await;
    let mut worker = cluster.command(&cluster.settings).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(worker.try_wait().unwrap().is_none());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(worker.id() as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let status = tokio::task::spawn_blocking(move || worker.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status:?}");
}
