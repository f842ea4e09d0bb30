//! Single objects: put, stat, delete, names, and the race to create.

use super::{expect_kind, put, read_all};
use crate::under_store::{ObjectKind, UnderStore};
use bytes::Bytes;
use forebay_base::ErrorKind;
use std::sync::Arc;

/// Names that some encoding on the way might change.
pub(super) const ODD_NAMES: [&str; 14] = [
    "with space",
    " lead",
    "trail ",
    "100%25",
    "a+b",
    "a#b?c&d=e",
    "quote'\"<>",
    "back\\slash",
    "semi;colon,comma",
    "..dots..",
    "~tilde*star[x]{y}|^`",
    "\u{e4}\u{f6}\u{fc}",
    "\u{4e16}\u{754c}",
    "\u{1f980}",
];

pub(super) async fn run(store: &Arc<dyn UnderStore>) {
    root(store).await;
    life(store).await;
    odd_names(store).await;
    bad_keys(store).await;
    races(store).await;
}

async fn root(store: &Arc<dyn UnderStore>) {
    let root = store.stat("").await.expect("stat of the root");
    assert_eq!(root.kind, ObjectKind::Directory, "the root is a directory");
    expect_kind(store.stat("nothing").await, &[ErrorKind::NotFound], "stat of what is missing");
    expect_kind(store.stat("nothing/at/all").await, &[ErrorKind::NotFound], "stat beneath what is missing");
    expect_kind(store.put("", Bytes::new(), false).await, &[ErrorKind::IsADirectory], "put of the root");
}

async fn life(store: &Arc<dyn UnderStore>) {
    let first = put(store, "life/a", b"one").await;
    let found = store.stat("life/a").await.expect("stat after put");
    assert_eq!(found, first, "put and stat tell the same");
    assert_eq!((found.name.as_str(), found.kind, found.size), ("a", ObjectKind::File, 3));
    assert!(!found.fingerprint.0.is_empty(), "a file has a fingerprint");
    assert!(found.mtime_ms > 1_600_000_000_000, "the modification time is one: {}", found.mtime_ms);
    let directory = store.stat("life").await.expect("stat of a directory");
    assert_eq!((directory.kind, directory.size), (ObjectKind::Directory, 0));
    assert!(directory.fingerprint.0.is_empty(), "a directory has no fingerprint");

    let second = put(store, "life/a", b"two").await;
    assert_ne!(second.fingerprint, first.fingerprint, "another content of the same length has another fingerprint");
    assert_eq!(store.stat("life/a").await.expect("stat after overwriting").fingerprint, second.fingerprint);
    assert_eq!(read_all(store, "life/a", &second).await.expect("read after overwriting"), b"two");

    let empty = put(store, "life/empty", b"").await;
    assert_eq!(empty.size, 0);
    assert_eq!(read_all(store, "life/empty", &empty).await.expect("read of an empty object"), b"");

    let exists = store.put("life/a", Bytes::from_static(b"three"), true).await;
    expect_kind(exists, &[ErrorKind::Exists], "creating what exists");
    assert_eq!(read_all(store, "life/a", &second).await.expect("read after a refused creation"), b"two");
    store.put("life/new", Bytes::from_static(b"new"), true).await.expect("creating what is missing");

    store.delete("life/a").await.expect("delete");
    expect_kind(store.stat("life/a").await, &[ErrorKind::NotFound], "stat after delete");
    expect_kind(store.delete("life/a").await, &[ErrorKind::NotFound], "delete of what is missing");
    expect_kind(store.delete("life").await, &[ErrorKind::IsADirectory], "delete of a directory");
    put(store, "life/a", b"again").await;
}

async fn odd_names(store: &Arc<dyn UnderStore>) {
    for name in ODD_NAMES {
        let key = format!("odd/{name}");
        let meta = put(store, &key, name.as_bytes()).await;
        assert_eq!(meta.name, name);
        let found = store.stat(&key).await.unwrap_or_else(|error| panic!("stat of an odd name: {error}"));
        assert_eq!(found, meta);
        let bytes = read_all(store, &key, &found).await.unwrap_or_else(|error| panic!("read of an odd name: {error}"));
        assert_eq!(bytes, name.as_bytes(), "\"{name}\" is another object than it was");
    }
    let long = format!("odd/{}", "n".repeat(255));
    let meta = put(store, &long, b"long").await;
    assert_eq!(read_all(store, &long, &meta).await.expect("read of a long name"), b"long");
}

async fn bad_keys(store: &Arc<dyn UnderStore>) {
    let too_long = "n".repeat(256);
    for key in ["/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "a\0b", too_long.as_str()] {
        let some = forebay_base::Fingerprint("x".into());
        expect_kind(store.stat(key).await, &[ErrorKind::Invalid], "stat of a bad key");
        expect_kind(store.list(key, None).await, &[ErrorKind::Invalid], "list of a bad key");
        expect_kind(store.read(key, 0..1, &some).await.map(drop), &[ErrorKind::Invalid], "read of a bad key");
        expect_kind(store.put(key, Bytes::new(), false).await, &[ErrorKind::Invalid], "put of a bad key");
        expect_kind(store.delete(key).await, &[ErrorKind::Invalid], "delete of a bad key");
    }
}

async fn races(store: &Arc<dyn UnderStore>) {
    for round in 0..4 {
        let key = format!("race/{round}");
        let tasks: Vec<_> = (0..8u8)
            .map(|racer| {
                let (store, key) = (Arc::clone(store), key.clone());
                tokio::spawn(async move { (racer, store.put(&key, Bytes::from(vec![racer; 100]), true).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.expect("a racer") {
                (racer, Ok(_)) => winners.push(racer),
                (_, Err(error)) => assert_eq!(error.kind, ErrorKind::Exists, "the loser of a race: {error}"),
            }
        }
        assert_eq!(winners.len(), 1, "one of eight creations wins, got {winners:?}");
        let meta = store.stat(&key).await.expect("stat after a race");
        let bytes = read_all(store, &key, &meta).await.expect("read after a race");
        assert_eq!(bytes, vec![winners[0]; 100], "the winner's bytes are there");
    }
}
