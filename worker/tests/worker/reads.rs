//! Reading: right bytes cold and warm, one fetch per page, tickets, versions.

use crate::cluster::{Cluster, open_store, pattern, write_old};
use forebay_base::{ErrorKind, unix_now_ms};
use forebay_net::message::data::{CacheStatus, Evict, Load, LoadItem, Read, SOURCE_MEM, SOURCE_SSD, SOURCE_STORE};
use forebay_net::message::handshake::Role;
use forebay_net::ticket::Ticket;
use std::time::Duration;

const PAGE: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_right_cold_and_warm_and_fetched_once() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let sizes = [0, 1, 4095, 4097, 100 * 1024, PAGE, PAGE + 1, 5 * PAGE + 12_345];
    let mut files = Vec::new();
    for (index, &size) in sizes.iter().enumerate() {
        let id = index as u64 + 10;
        files.push(cluster.file(id, 1, &format!("f{index}"), &pattern(id, size)).await);
    }
    for file in &files {
        client.compare(&cluster, file, 300_000).await;
    }
    let total: u64 = sizes.iter().map(|&size| size as u64).sum();
    let cold = cluster.next_heartbeat().await;
    assert_eq!(cold.counters.store_read_bytes, total, "{}", cluster.log());
    for file in &files {
        client.compare(&cluster, file, 1_000_003).await;
        let (source, bytes) = client.read_one(file.item(&cluster, 17, 100)).await.unwrap();
        let end = file.bytes.len().min(117);
        assert_eq!(bytes, &file.bytes[end.min(17)..end]);
        assert!([SOURCE_MEM, SOURCE_SSD].contains(&source));
        let behind = client.read_one(file.item(&cluster, 1 << 40, 100)).await.unwrap().1;
        assert!(behind.is_empty());
    }
    let warm = cluster.next_heartbeat().await;
    assert_eq!(warm.counters.store_read_bytes, total);
    assert!(warm.counters.mem_hit_bytes + warm.counters.ssd_hit_bytes >= total);
    assert!(warm.tiers.iter().any(|tier| tier.tier == "MEM" && tier.used_bytes > 0), "{:?}", warm.tiers);
    let cache = cluster.dir.path().join("cache").display().to_string();
    assert!(
        warm.tiers.iter().any(|tier| tier.directory == cache && tier.capacity_bytes == 256 << 20),
        "{:?}",
        warm.tiers
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_mixes_files_and_errors() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let mut items = Vec::new();
    let mut want = Vec::new();
    let owner = client.core_of(100) as *const _;
    for id in 100..160 {
        let file = cluster.file(id, 1, &format!("f{id}"), &pattern(id, 3000)).await;
        if !std::ptr::eq(client.core_of(id), owner) {
            continue;
        }
        let mut item = file.item(&cluster, 10, 500);
        if id % 7 == 0 {
            item.ticket.clear();
        } else {
            want.extend_from_slice(&file.bytes[10..510]);
        }
        items.push(item);
    }
    let ids: Vec<u64> = items.iter().map(|item| item.file_id).collect();
    let (results, bytes) = client.read(items).await.unwrap();
    for (id, result) in ids.iter().zip(&results) {
        let status = if id % 7 == 0 { ErrorKind::TicketRequired.code() } else { 0 };
        assert_eq!(result.status, status, "{result:?}");
    }
    assert!(bytes == want);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_one_page_share_one_fetch() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let file = cluster.file(7, 1, "hot", &pattern(7, PAGE)).await;
    let mut clients = Vec::new();
    for _ in 0..24 {
        clients.push(cluster.client(Role::Frontend).await);
    }
    let reads = clients.iter().enumerate().map(|(index, client)| {
        let item = file.item(&cluster, index as u64 * 1000, 5000);
        let want = &file.bytes[index * 1000..index * 1000 + 5000];
        async move { assert!(client.read_one(item).await.unwrap().1 == want) }
    });
    futures::future::join_all(reads).await;
    assert_eq!(cluster.next_heartbeat().await.counters.store_read_bytes, PAGE as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_readers_pay_for_touched_pages_only_and_sequential_ones_are_read_ahead() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let file = cluster.file(8, 1, "random", &pattern(8, 32 * PAGE)).await;
    for page in [30usize, 2, 19, 7, 25, 11] {
        let at = page * PAGE + 4096;
        let (source, bytes) = client.read_one(file.item(&cluster, at as u64, 4096)).await.unwrap();
        assert!(source == SOURCE_STORE && bytes == file.bytes[at..at + 4096]);
    }
    assert_eq!(cluster.next_heartbeat().await.counters.store_read_bytes, 6 * PAGE as u64);
    let file = cluster.file(9, 1, "sequential", &pattern(9, 32 * PAGE)).await;
    let mut ahead = 0;
    for at in (0..8 * PAGE).step_by(256 * 1024) {
        let (source, bytes) = client.read_one(file.item(&cluster, at as u64, 256 * 1024)).await.unwrap();
        assert!(bytes == file.bytes[at..at + 256 * 1024]);
        ahead += usize::from(at % PAGE == 0 && source != SOURCE_STORE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(ahead >= 4, "only {ahead} of 8 pages were there before they were asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_stale_and_its_new_version_has_the_new_bytes() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let old = cluster.file(20, 1, "changing", &pattern(1, 3 * PAGE)).await;
    let (_, bytes) = client.read_one(old.item(&cluster, 0, 1000)).await.unwrap();
    assert!(bytes == old.bytes[..1000]);
    // Same length, other content: what is cached stays right, what is not is refused.
    let new = cluster.file(20, 2, "changing", &pattern(2, 3 * PAGE)).await;
    let (_, bytes) = client.read_one(old.item(&cluster, 500, 1000)).await.unwrap();
    assert!(bytes == old.bytes[500..1500]);
    let error = client.read_one(old.item(&cluster, 2 * PAGE as u64, 1000)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Stale, "{error}");
    client.compare(&cluster, &new, 500_000).await;
    // The feed makes the old version dead, cached or not, tickets or not.
    cluster.feed(20, 2);
    let mut fresh = new.clone();
    fresh.ticket.feed_position = 1;
    client.compare(&cluster, &fresh, 500_000).await;
    let error = client.read_one(old.item(&cluster, 500, 1000)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Stale, "{error}");
    cluster.next_heartbeat().await;
    let status = client.core_of(20).call(&CacheStatus { files: vec![(20, 1), (20, 2)] }, Duration::from_secs(5)).await;
    let status = status.unwrap().files;
    assert_eq!((status[0].any_bytes, status[1].any_bytes), (0, 3 * PAGE as u64));
    // An object that is gone is a version that is gone.
    let gone = cluster.file(21, 1, "gone", &pattern(3, 1000)).await;
    std::fs::remove_file(cluster.data().join("gone")).unwrap();
    assert_eq!(client.read_one(gone.item(&cluster, 0, 10)).await.unwrap_err().kind, ErrorKind::Stale);
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_under_readers_never_a_mixture() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let (name, length) = ("churn", 2 * PAGE);
    let mut stale = 0;
    for version in 1..=15u64 {
        let file = cluster.file(30, version, name, &pattern(version, length)).await;
        let client = cluster.client(Role::Frontend).await;
        let path = cluster.data().join(name);
        let writer = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(version % 4));
            write_old(&path, &pattern(version + 1000, length));
        });
        for at in (0..length).step_by(128 * 1024) {
            match client.read_one(file.item(&cluster, at as u64, 128 * 1024)).await {
                Ok((_, bytes)) => assert!(bytes == file.bytes[at..at + bytes.len()], "version {version} at {at}"),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Stale, "{error}");
                    stale += 1;
                }
            }
        }
        writer.await.unwrap();
    }
    assert!(stale > 0, "no overwrite was ever noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tickets_are_refused_and_good_ones_are_remembered() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let file = cluster.file(40, 1, "secret", &pattern(4, 5000)).await;
    let good = file.item(&cluster, 0, 100);
    let bare = forebay_net::message::data::ReadItem { ticket: Vec::new(), ..good.clone() };
    let kind = |error: forebay_base::KindError| error.kind;
    let with = |ticket: Ticket| {
        let mut item = good.clone();
        item.ticket = cluster.signed(&ticket);
        item
    };
    assert_eq!(client.read_one(bare.clone()).await.map_err(kind), Err(ErrorKind::TicketRequired));
    let expired = with(Ticket { expires_unix_ms: unix_now_ms() - 1, ..file.ticket.clone() });
    let other = with(Ticket { file_id: 41, ..file.ticket.clone() });
    let mut forged = good.clone();
    *forged.ticket.last_mut().unwrap() ^= 1;
    let garbage = forebay_net::message::data::ReadItem { ticket: vec![9; 300], ..good.clone() };
    for item in [expired, other, forged, garbage] {
        assert_eq!(client.read_one(item).await.map_err(kind), Err(ErrorKind::TicketRequired));
    }
    client.read_one(good.clone()).await.unwrap();
    client.read_one(bare.clone()).await.unwrap();
    let soon = with(Ticket { expires_unix_ms: unix_now_ms() + 300, version: 9, ..file.ticket.clone() });
    let soon = forebay_net::message::data::ReadItem { version: 9, ..soon };
    client.read_one(soon.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(350)).await;
    let late = forebay_net::message::data::ReadItem { ticket: Vec::new(), ..soon };
    assert_eq!(client.read_one(late).await.map_err(kind), Err(ErrorKind::TicketRequired));
    let stranger = cluster.client(Role::Frontend).await;
    assert_eq!(stranger.read_one(bare).await.map_err(kind), Err(ErrorKind::TicketRequired));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_the_wrong_core_is_forwarded_and_too_much_and_the_wrong_role_are_refused() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Frontend).await;
    let file = cluster.file(50, 1, "f", &pattern(5, 5000)).await;
    let item = file.item(&cluster, 0, 100);
    let wrong = client.cores.iter().find(|core| !std::ptr::eq(*core, client.core_of(50))).unwrap();
    let read = Read { items: vec![item.clone()], want_checksums: false, waited_ms: 0 };
    let mut forwarded = 0;
    // Forwarded with its ticket, and then by the ticket that the owner has seen from this connection.
    for item in [item.clone(), forebay_net::message::data::ReadItem { ticket: Vec::new(), ..item.clone() }] {
        let read = Read { items: vec![item], ..read.clone() };
        let (reply, payload) = wrong.call_payload(&read, Duration::from_secs(5)).await.unwrap();
        assert_eq!((reply.results[0].status, &payload[..]), (0, &pattern(5, 5000)[..100]), "{:?}", reply.results);
        forwarded += 1;
    }
    let load = Load { items: vec![LoadItem { ticket: item.ticket.clone(), offset: 0, length: 5000 }], verify: true };
    let loaded = wrong.call(&load, Duration::from_secs(5)).await.unwrap();
    assert_eq!((loaded.results[0].cached_bytes, loaded.results[0].status), (5000, 0), "{:?}", loaded.results);
    let beside = cluster.file(50, 9, "absent", &pattern(5, 10)).await;
    let bare = forebay_net::message::data::ReadItem { ticket: Vec::new(), ..beside.item(&cluster, 0, 10) };
    let read = Read { items: vec![bare, item.clone()], ..read };
    let (reply, payload) = wrong.call_payload(&read, Duration::from_secs(5)).await.unwrap();
    assert_eq!(reply.results[0].status, ErrorKind::TicketRequired.code());
    assert_eq!((reply.results[1].status, payload.len()), (0, 100));
    assert_eq!(cluster.next_heartbeat().await.counters.misrouted_requests, forwarded + 3);
    let huge = vec![forebay_net::message::data::ReadItem { length: 5 << 20, ..item.clone() }; 2];
    assert_eq!(client.read(huge).await.unwrap_err().kind, ErrorKind::Invalid);
    let evict = Evict { file_ids: vec![50] };
    let refused = client.core_of(50).call(&evict, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_status_and_evict() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let admin = cluster.client(Role::Admin).await;
    let size = 10 * PAGE + 77;
    let file = cluster.file(60, 1, "big", &pattern(6, size)).await;
    let core = admin.core_of(60);
    let wait = Duration::from_secs(10);
    let ticket = cluster.signed(&file.ticket);
    let item = |offset: usize, length: usize| LoadItem {
        ticket: ticket.clone(),
        offset: offset as u64,
        length: length as u64,
    };
    let load = Load { items: vec![item(2 * PAGE, PAGE), item(2 * PAGE, 1)], verify: false };
    let results = core.call(&load, wait).await.unwrap().results;
    let fetched: u64 = results.iter().map(|result| result.fetched_bytes).sum();
    let cached: u64 = results.iter().map(|result| result.cached_bytes).sum();
    assert_eq!((fetched, cached), (PAGE as u64, PAGE as u64), "one fetch for both: {results:?}");
    let mut forged = item(0, 1);
    forged.ticket[70] ^= 1;
    let load = Load { items: vec![item(0, usize::MAX), forged, item(size, 5)], verify: true };
    let results = core.call(&load, wait).await.unwrap().results;
    assert_eq!((results[0].fetched_bytes, results[0].cached_bytes), ((size - PAGE) as u64, PAGE as u64));
    assert_eq!((results[0].verified_bytes, results[0].corrupt_pages), (size as u64, 0), "{results:?}");
    assert_eq!(results[1].status, ErrorKind::TicketRequired.code());
    assert_eq!((results[2].status, results[2].fetched_bytes, results[2].cached_bytes), (0, 0, 0));
    let status = core.call(&CacheStatus { files: vec![(60, 1)] }, wait).await.unwrap().files[0];
    assert_eq!(status.any_bytes, size as u64);
    // The store is not needed any more.
    std::fs::rename(cluster.data(), cluster.dir.path().join("away")).unwrap();
    admin.compare(&cluster, &file, 700_000).await;
    let freed = core.call(&Evict { file_ids: vec![60] }, wait).await.unwrap().freed_bytes;
    assert!(freed >= size as u64, "{freed}");
    let status = core.call(&CacheStatus { files: vec![(60, 1)] }, wait).await.unwrap().files[0];
    assert_eq!(status.any_bytes, 0);
    assert!(admin.read_one(file.item(&cluster, 0, 10)).await.is_err());
    std::fs::rename(cluster.dir.path().join("away"), cluster.data()).unwrap();
    open_store(&cluster.data()).check().await.unwrap();
    admin.compare(&cluster, &file, 700_000).await;
}
