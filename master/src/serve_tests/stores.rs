//! Stores that cannot be opened at first, and listings that take long.

use super::*;
use crate::namespace::command::TABLE;
use forebay_net::message::Wire;
use forebay_net::message::handshake::Role;
use forebay_net::transport::tokio::Service;
use forebay_net::{Op, Peer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_opened_is_tried_again() {
    let bench = Bench::start().await;
    bench.mount("/m", "s3://b", 0).await.unwrap();
    let known = bench.resolve("/m/a").await.unwrap();
    bench.store.closed.store(true, Ordering::SeqCst);
    let bench = bench.restart(true).await;
    let trouble = || bench.master.service.mounts.list()[0].trouble.clone();
    assert!(trouble().contains("no credentials"), "{}", trouble());
    assert_eq!(bench.resolve("/m/a").await.unwrap().version, known.version);
    assert_eq!(bench.resolve("/m/b").await.unwrap_err().kind, ErrorKind::Unavailable);

    // Nobody asks: it is tried behind the scenes.
    bench.store.closed.store(false, Ordering::SeqCst);
    for _ in 0..150 {
        if trouble().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(trouble(), "");
    assert!(bench.resolve("/m/b").await.is_ok());

    // Somebody asks: it is tried at once, and not for each of many requests.
    bench.store.closed.store(true, Ordering::SeqCst);
    let bench = bench.restart(true).await;
    assert_eq!(bench.resolve("/m/f").await.unwrap_err().kind, ErrorKind::Unavailable);
    bench.store.closed.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(550)).await;
    assert!(bench.resolve("/m/f").await.is_ok());
    bench.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listing_does_not_undo_what_was_seen_meanwhile() {
    let bench = Bench::start().await;
    bench.mount("/m", "s3://b", 60_000).await.unwrap();
    let (old, root) = (bench.resolve("/m/a").await.unwrap(), bench.resolve("/m").await.unwrap());
    let tree = &bench.master.service.tree;
    bench.store.page_pause_ms.store(1000, Ordering::SeqCst);
    let part = ReadDir::part(root.file_id, b"", 100);
    let listing = tree.read_dir(&part);
    let change = async {
        // The page has left the store; while it is under way a reader finds that the file changed.
        tokio::time::sleep(Duration::from_millis(500)).await;
        bench.store.put("a", "changed");
        tree.recheck(&[FileId(old.file_id)]).await.unwrap();
        let new = bench.resolve("/m/a").await.unwrap();
        assert_ne!(new.version, old.version);
        new
    };
    let (listed, new) = tokio::join!(listing, change);
    assert_eq!(listed.unwrap().entries.len(), 5);
    assert_eq!(bench.resolve("/m/a").await.unwrap().version, new.version, "the old version is back");
    bench.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_takes_long_says_how_far_it_is() {
    let bench = Bench::start().await;
    for index in 0..12 {
        bench.store.put(&format!("d/f{index:02}"), "x");
    }
    bench.mount("/m", "s3://b", 0).await.unwrap();
    let id = FileId(bench.resolve("/m/d").await.unwrap().file_id);
    let tree = &bench.master.service.tree;
    bench.store.page_pause_ms.store(2200, Ordering::SeqCst);
    // The first listing, and one of a directory that is known.
    for round in 0..2 {
        let (mut since_us, mut seen) = (0, 0);
        let part = loop {
            let request = ReadDir { since_us, ..ReadDir::part(id.0, b"", 100) };
            let part = tree.read_dir(&request).await.unwrap();
            if part.names_seen == 0 {
                break part;
            }
            assert!(part.entries.is_empty() && !part.end && part.names_seen > seen, "round {round}");
            (since_us, seen) = (part.since_us, part.names_seen);
        };
        assert!(seen > 0, "round {round}: it took no longer than one request may");
        assert_eq!((part.entries.len(), part.end), (14, true));
        assert_eq!(bench.master.service.mounts.list()[0].trouble, "", "round {round}");
    }
    bench.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slow_to_check_holds_up_no_other_mount() {
    let bench = Bench::start().await;
    bench.mount("/near", "s3://b", 0).await.unwrap();
    bench.store.check_pause_ms.store(2000, Ordering::SeqCst);
    let slow = bench.mount("/far", "s3://b", 0);
    let other = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let asked = std::time::Instant::now();
        bench.unmount("/near", false).await.unwrap();
        asked.elapsed()
    };
    let (mounted, took) = tokio::join!(slow, other);
    mounted.unwrap();
    assert!(took < Duration::from_secs(1), "the unmount took {took:?}");
    bench.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_leaves_no_mount_half_done() {
    let bench = Bench::start().await;
    let service = &bench.master.service;
    let peer = Arc::new(Peer { role: Role::Admin, connection_id: 1, address: "test".into(), is_unix: true });
    for round in 0..40_u64 {
        let request = Mount {
            path: format!("/m{round}"),
            uri: "s3://b".into(),
            options: Vec::new(),
            freshness_ms: 0,
            readonly: true,
        };
        let call = service.call(Arc::clone(&peer), Op::Mount, request.to_bytes(), Duration::from_secs(10));
        let _ = tokio::time::timeout(Duration::from_micros(round * 250), call).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let journaled = service.cores.read(TABLE, |partition| partition.mounts().count()).await.unwrap();
    assert!(journaled > 0, "no mount got far enough");
    assert_eq!(service.mounts.list().len(), journaled, "the table lacks mounts that are journaled");
    bench.master.stop().await.unwrap();
}
