//! S3: the conformance suite against a real server, what its refusals become, and what happens when it goes away.

mod server;

use bytes::Bytes;
use forebay_base::{ErrorKind, Fingerprint};
use forebay_ufs::{StoreError, StoreLimits, UnderStore, conformance, open};
use futures::StreamExt;
use server::{ACCESS_KEY, S3Server, SECRET_KEY};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const LIMITS: StoreLimits = StoreLimits { concurrency: 32, deadline: Duration::from_secs(60), retries: 3 };
const SHORT: StoreLimits = StoreLimits { concurrency: 4, deadline: Duration::from_secs(2), retries: 3 };

fn store_with(uri: &str, options: &[(&str, &str)], limits: StoreLimits) -> Arc<dyn UnderStore> {
    let options: Vec<_> = options.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
    open(uri, &options, limits).expect("good options")
}

fn store(endpoint: &str, uri: &str, limits: StoreLimits) -> Arc<dyn UnderStore> {
    store_with(uri, &[("endpoint", endpoint), ("access_key", ACCESS_KEY), ("secret_key", SECRET_KEY)], limits)
}

#[track_caller]
fn assert_says(error: &StoreError, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind, kind, "{text}");
    assert!(!text.contains('\n') && !text.contains(SECRET_KEY), "{text}");
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is missing in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_promises_of_the_trait() {
    let server = S3Server::start(&["bucket"]);
    conformance::run(store(&server.endpoint(), "s3://bucket", LIMITS)).await;
    assert_eq!(server.multipart_uploads("bucket"), 0, "something is left of what was given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_them_beneath_a_prefix_and_leaves_the_rest_alone() {
    let server = S3Server::start(&["bucket"]);
    let whole = store(&server.endpoint(), "s3://bucket", LIMITS);
    for key in ["outside", "pre/beside", "pre/fix2/x"] {
        whole.put(key, Bytes::from_static(b"kept"), false).await.unwrap();
    }
    conformance::run(store(&server.endpoint(), "s3://bucket/pre/fix", LIMITS)).await;
    for key in ["outside", "pre/beside", "pre/fix2/x"] {
        assert_eq!(whole.stat(key).await.unwrap().size, 4);
    }
    let names: Vec<_> = whole.list("pre", None).await.unwrap().entries.into_iter().map(|meta| meta.name).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let empty = store(&server.endpoint(), "s3://bucket/no/such/prefix", LIMITS);
    empty.check().await.unwrap();
    empty.stat("").await.unwrap();
    assert!(empty.list("", None).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn markers_of_directories_are_no_children() {
    let server = S3Server::start(&["bucket"]);
    std::fs::create_dir_all(server.bucket_directory("bucket").join("empty")).unwrap();
    let store = store(&server.endpoint(), "s3://bucket", LIMITS);
    store.put("full/a", Bytes::from_static(b"x"), false).await.unwrap();
    let names: Vec<_> = store.list("full", None).await.unwrap().entries.into_iter().map(|meta| meta.name).collect();
    assert_eq!(names, ["a"]);
    if let Ok(page) = store.list("empty", None).await {
        assert!(page.entries.is_empty());
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let server = S3Server::start(&["bucket"]);
    let endpoint = server.endpoint();
    let check = async |uri: &str, options: &[(&str, &str)]| {
        let options = [&[("endpoint", endpoint.as_str())], options].concat();
        store_with(uri, &options, SHORT).check().await
    };
    check("s3://bucket", &[("access_key", ACCESS_KEY), ("secret_key", SECRET_KEY)]).await.unwrap();
    let wrong_key = check("s3://bucket", &[("access_key", "nobody"), ("secret_key", SECRET_KEY)]).await.unwrap_err();
    assert_says(&wrong_key, ErrorKind::Denied, &["s3://bucket", "does not know this access key", "access_key"]);
    let wrong_secret = check("s3://bucket", &[("access_key", ACCESS_KEY), ("secret_key", "wrong")]).await.unwrap_err();
    assert_says(&wrong_secret, ErrorKind::Denied, &["secret_key", "SignatureDoesNotMatch"]);
    let anonymous = check("s3://bucket", &[("anonymous", "true")]).await.unwrap_err();
    assert_says(&anonymous, ErrorKind::Denied, &["AccessDenied"]);
    let missing = check("s3://missing", &[("access_key", ACCESS_KEY), ("secret_key", SECRET_KEY)]).await.unwrap_err();
    assert_says(&missing, ErrorKind::NotFound, &["bucket \"missing\" does not exist"]);
    let missing = store(&endpoint, "s3://missing/p", SHORT);
    assert_says(&missing.stat("k").await.unwrap_err(), ErrorKind::NotFound, &["bucket \"missing\""]);
    assert_says(&missing.list("", None).await.unwrap_err(), ErrorKind::NotFound, &["bucket \"missing\""]);
    let read = missing.read("k", 0..1, &Fingerprint("etag:\"x\"".into())).await.err().unwrap();
    assert_says(&read, ErrorKind::NotFound, &["bucket \"missing\""]);
    let put = missing.put("k", Bytes::from_static(b"x"), false).await.unwrap_err();
    assert_says(&put, ErrorKind::NotFound, &["bucket \"missing\""]);
}

#[tokio::test]
async fn wrong_region_is_named() {
    let server = S3Server::start(&["bucket"]);
    let options = [
        ("endpoint", server.endpoint()),
        ("access_key", ACCESS_KEY.into()),
        ("secret_key", SECRET_KEY.into()),
        ("region", "mars-1".into()),
    ];
    let options = options.each_ref().map(|(name, value)| (*name, value.as_str()));
    let error = store_with("s3://bucket", &options, SHORT).check().await.unwrap_err();
    assert_says(&error, ErrorKind::Invalid, &["region"]);
}

#[tokio::test]
async fn what_cannot_be_reached_is_unavailable_in_time() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let endpoints = [
        (format!("http://{closed}"), vec![closed.to_string(), "refused".to_string()]),
        (format!("https://{closed}"), vec![closed.to_string(), "refused".to_string()]),
        ("http://no-such-host.invalid:9000".to_string(), vec!["no-such-host.invalid:9000".to_string()]),
        (format!("http://{address}"), vec![]),
    ];
    for (endpoint, parts) in endpoints {
        let store = store(&endpoint, "s3://bucket", SHORT);
        let parts: Vec<&str> = parts.iter().map(String::as_str).chain(["s3://bucket"]).collect();
        let some = Fingerprint("etag:\"x\"".into());
        let calls = async {
            tokio::join!(
                store.check(),
                async { store.stat("k").await.map(drop) },
                async { store.list("", None).await.map(drop) },
                async { store.read("k", 0..1, &some).await.map(drop) },
            )
        };
        let started = Instant::now();
        let (check, stat, list, read) = calls.await;
        let put = store.put("k", Bytes::from_static(b"x"), true).await.map(drop);
        assert!(started.elapsed() < Duration::from_secs(6), "{endpoint} took {:?}", started.elapsed());
        for result in [check, stat, list, read, put] {
            assert_says(&result.unwrap_err(), ErrorKind::Unavailable, &parts);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_a_read_ends_it_in_time() {
    let mut server = S3Server::start(&["bucket"]);
    let store = store(&server.endpoint(), "s3://bucket", SHORT);
    let size = 64 << 20;
    let meta = store.put("big", Bytes::from(vec![7; size]), false).await.unwrap();
    let mut stream = store.read("big", 0..meta.size, &meta.fingerprint).await.unwrap();
    let mut got = stream.next().await.unwrap().unwrap().len();
    server.kill();
    let started = Instant::now();
    let error = loop {
        match stream.next().await.expect("no good end: most of the bytes never came") {
            Ok(piece) => {
                assert!(piece.iter().all(|byte| *byte == 7));
                got += piece.len();
            }
            Err(error) => break error,
        }
    };
    assert!(got < size && started.elapsed() < Duration::from_secs(6), "{got} bytes, {:?}", started.elapsed());
    assert_says(&error, ErrorKind::Unavailable, &["s3://bucket", "read \"big\""]);
    assert_says(&store.check().await.unwrap_err(), ErrorKind::Unavailable, &["refused"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_the_allowed_streams_are_open() {
    let server = S3Server::start(&["bucket"]);
    let limits = StoreLimits { concurrency: 2, deadline: Duration::from_millis(700), retries: 0 };
    let store = store(&server.endpoint(), "s3://bucket", limits);
    let meta = store.put("k", Bytes::from(vec![1; 1 << 20]), false).await.unwrap();
    let first = store.read("k", 0..meta.size, &meta.fingerprint).await.unwrap();
    let _second = store.read("k", 0..meta.size, &meta.fingerprint).await.unwrap();
    let third = store.read("k", 0..meta.size, &meta.fingerprint).await.err().unwrap();
    assert_says(&third, ErrorKind::Unavailable, &["concurrency"]);
    drop(first);
    assert!(store.read("k", 0..meta.size, &meta.fingerprint).await.is_ok());
}
