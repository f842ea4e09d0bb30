//! Renames that a process did not end, and copies in parts, against a real server.

#[path = "../../tests/s3/server.rs"]
mod server;

use super::{S3Inner, S3Store, config, copy::Copy};
use crate::{StoreLimits, UnderStore, WriteMode, options::OptionReader};
use bytes::Bytes;
use forebay_base::ErrorKind;
use futures::TryStreamExt;
use server::{ACCESS_KEY, S3Server, SECRET_KEY};
use std::{sync::Arc, time::Duration};

fn store(server: &S3Server, copy_bytes: (u64, u64)) -> S3Store {
    let given = [("endpoint", server.endpoint()), ("access_key", ACCESS_KEY.into()), ("secret_key", SECRET_KEY.into())];
    let given: Vec<(String, String)> = given.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let mut reader = OptionReader::new("s3", &given);
    let config = config::read(&mut reader, "bucket".into(), String::new());
    reader.finish().unwrap();
    let limits = StoreLimits { concurrency: 16, deadline: Duration::from_secs(30), retries: 1 };
    let S3Store { uri, inner } = S3Store::new("s3://bucket".into(), config, limits).unwrap();
    let inner = Arc::into_inner(inner).unwrap();
    S3Store { uri, inner: Arc::new(S3Inner { copy_bytes, ..inner }) }
}

async fn bytes_of(store: &S3Store, key: &str) -> Vec<u8> {
    let meta = store.stat(key).await.unwrap();
    let stream = store.read(key, 0..meta.size, &meta.fingerprint).await.unwrap();
    stream.try_fold(Vec::new(), async |all, piece| Ok([all, piece.to_vec()].concat())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_one_copy_goes_in_parts() {
    let server = S3Server::start(&["bucket"]);
    let store = store(&server, (6 << 20, 5 << 20));
    let bytes: Bytes = (0..(17 << 20) + 5u32).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    store.put("a", bytes.clone(), false).await.unwrap();
    store.put("taken", Bytes::from_static(b"t"), false).await.unwrap();
    assert_eq!(store.rename("a", "taken", false).await.unwrap_err().kind, ErrorKind::Exists);
    for (from, to) in [("a", "b/c d"), ("b/c d", "taken")] {
        let meta = store.rename(from, to, from != "a").await.unwrap();
        assert_eq!(meta.size, bytes.len() as u64);
        assert!(bytes_of(&store, to).await == bytes, "other bytes under the new name");
        assert_eq!(store.stat(from).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert_eq!(server.multipart_uploads("bucket"), 0);
    // Another content than was seen is not copied.
    let facts = store.inner.looked_up("taken").await.unwrap().unwrap();
    for length in [1, 10 << 20] {
        store.put("taken", Bytes::from(vec![7; length]), false).await.unwrap();
        let copy = Copy { from: "taken", to: "other", facts: &facts, mode: &WriteMode::Replace };
        assert_eq!(store.inner.copy(&copy).await.unwrap_err().kind, ErrorKind::Stale, "{length}");
        assert_eq!(store.stat("other").await.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert_eq!(server.multipart_uploads("bucket"), 0, "something is left of a copy that failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_that_did_not_end_goes_on() {
    let server = S3Server::start(&["bucket"]);
    let store = store(&server, super::copy::BYTES);
    let put = async |key: &str, text: &str| {
        store.put(key, Bytes::copy_from_slice(text.as_bytes()), false).await.unwrap();
    };
    for name in ["a", "b", "sub/c"] {
        put(&format!("from/{name}"), name).await;
    }
    // It ended after some copies, one of which is of a content that was replaced since.
    store.inner.marked("to/", Some(&super::rename::mark("from/"))).await.unwrap();
    put("to/a", "a").await;
    put("to/b", "older").await;
    put("other/x", "x").await;
    assert_eq!(store.rename("other", "to", false).await.unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(store.rename("other", "to", true).await.unwrap_err().kind, ErrorKind::NotEmpty);
    store.rename("from", "to", false).await.unwrap();
    for (key, text) in [("to/a", "a"), ("to/b", "b"), ("to/sub/c", "sub/c")] {
        assert_eq!(bytes_of(&store, key).await, text.as_bytes());
    }
    assert_eq!(store.stat("from").await.unwrap_err().kind, ErrorKind::NotFound);
    // It is over: the same call again finds nothing to do.
    assert_eq!(store.rename("from", "to", true).await.unwrap_err().kind, ErrorKind::NotFound);
    // It ended among its deletes, and after the last one.
    for rest in [&["a", "sub/c"][..], &["b"], &[]] {
        store.inner.marked("to/", Some(&super::rename::mark("gone/"))).await.unwrap();
        for name in rest {
            put(&format!("gone/{name}"), name).await;
        }
        store.rename("gone", "to", false).await.unwrap();
        assert_eq!(store.stat("gone").await.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(bytes_of(&store, "to/sub/c").await, b"sub/c");
    }
}
