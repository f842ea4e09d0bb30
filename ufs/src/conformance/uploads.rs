//! Uploads: whole or not at all, at every size around a part's bound, given up in every way, and the race to create.

use super::{expect_kind, put, read_all};
use crate::under_store::{ObjectMeta, StoreError, UnderStore};
use crate::upload::WriteMode;
use bytes::Bytes;
use forebay_base::ErrorKind;
use std::{sync::Arc, time::Duration};

const MIB: usize = 1 << 20;
/// No divisor of a part or a page.
const PIECE: usize = 700_001;

pub(super) async fn run(store: &Arc<dyn UnderStore>) {
    sizes(store).await;
    nothing_before_the_end(store).await;
    given_up(store).await;
    wrong_sizes(store).await;
    bad_keys(store).await;
    create_only(store).await;
    replace_only(store).await;
    races(store).await;
}

fn pattern(length: usize, seed: u8) -> Bytes {
    (0..length).map(|at| (at as u8).wrapping_mul(31) ^ ((at >> 8) as u8) ^ ((at >> 16) as u8) ^ seed).collect()
}

async fn upload(
    store: &Arc<dyn UnderStore>,
    key: &str,
    bytes: &Bytes,
    mode: WriteMode,
    size: Option<u64>,
) -> Result<ObjectMeta, StoreError> {
    let mut upload = store.begin_upload(key, mode, size).await?;
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        upload.write(rest.split_to(rest.len().min(PIECE))).await?;
    }
    upload.finish().await
}

async fn sizes(store: &Arc<dyn UnderStore>) {
    let around =
        [0, 1, 4096, MIB - 1, MIB, MIB + 1, 5 * MIB, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB, 29 * MIB + 3];
    for (index, length) in around.into_iter().enumerate() {
        let bytes = pattern(length, index as u8);
        for size in [Some(length as u64), None] {
            let key = format!("uploads/sizes/new-directory-{index}/{}", size.is_some());
            let meta = upload(store, &key, &bytes, WriteMode::Replace, size).await;
            let meta = meta.unwrap_or_else(|error| panic!("an upload of {length} bytes: {error}"));
            assert_eq!(meta, store.stat(&key).await.expect("stat"), "what finish and stat say of {length} bytes");
            assert_eq!(meta.size, length as u64);
            let got = read_all(store, &key, &meta).await.expect("read of what was uploaded");
            assert!(got == bytes, "other bytes than the {length} that were uploaded");
        }
    }
}

async fn names(store: &Arc<dyn UnderStore>, directory: &str) -> Vec<String> {
    match store.list(directory, None).await {
        Ok(page) => page.entries.into_iter().map(|meta| meta.name).collect(),
        Err(error) if error.kind == ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("list of \"{directory}\": {error}"),
    }
}

async fn nothing_before_the_end(store: &Arc<dyn UnderStore>) {
    let (old, new) = (pattern(MIB, 1), pattern(20 * MIB, 2));
    let before = put(store, "uploads/hidden/old", &old).await;
    let mut replacing = store.begin_upload("uploads/hidden/old", WriteMode::Replace, None).await.expect("begin");
    let mut creating = store.begin_upload("uploads/hidden/new", WriteMode::CreateOnly, None).await.expect("begin");
    let mut deep = store.begin_upload("uploads/hidden/no/such/x", WriteMode::Replace, None).await.expect("begin");
    for upload in [&mut replacing, &mut creating, &mut deep] {
        upload.write(new.clone()).await.expect("write");
    }
    assert_eq!(store.stat("uploads/hidden/old").await.expect("stat"), before, "the object before, until the end");
    expect_kind(store.stat("uploads/hidden/new").await, &[ErrorKind::NotFound], "stat of half an object");
    expect_kind(store.stat("uploads/hidden/no").await, &[ErrorKind::NotFound], "stat of its directory");
    assert_eq!(names(store, "uploads/hidden").await, ["old"], "half an object is listed");
    let after = replacing.finish().await.expect("finish");
    assert_ne!(after.fingerprint, before.fingerprint);
    expect_kind(read_all(store, "uploads/hidden/old", &before).await, &[ErrorKind::Stale], "a read of what was before");
    assert!(read_all(store, "uploads/hidden/old", &after).await.expect("read") == new);
    creating.finish().await.expect("finish");
    deep.finish().await.expect("finish");
    let mut found = names(store, "uploads/hidden").await;
    found.sort();
    assert_eq!(found, ["new", "no", "old"]);
}

async fn given_up(store: &Arc<dyn UnderStore>) {
    let bytes = pattern(20 * MIB, 3);
    for (index, length) in [0, MIB, 9 * MIB, 20 * MIB].into_iter().enumerate() {
        for abort in [true, false] {
            let key = format!("uploads/given-up/{index}-{abort}");
            let mut upload = store.begin_upload(&key, WriteMode::Replace, None).await.expect("begin");
            upload.write(bytes.slice(..length)).await.expect("write");
            let leftover = upload.leftover();
            if abort {
                upload.abort().await.expect("abort");
            } else {
                drop(upload);
                // Removed behind the back of whoever dropped it.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            expect_kind(store.stat(&key).await, &[ErrorKind::NotFound], "stat of what was given up");
            if let Some(leftover) = leftover {
                store.remove_leftover(&leftover).await.expect("nothing is left, which is fine");
            }
        }
    }
    assert!(names(store, "uploads/given-up").await.is_empty(), "what was given up is listed");
    // A process that ends in the middle gives nothing up: what it left is removed by name.
    let mut upload = store.begin_upload("uploads/given-up/crash", WriteMode::Replace, None).await.expect("begin");
    upload.write(bytes).await.expect("write");
    let leftover = upload.leftover().expect("a large upload would leave something");
    store.remove_leftover(&leftover).await.expect("removed under its writer");
    let ended = upload.finish().await;
    assert!(ended.is_err(), "what was removed cannot be finished");
    expect_kind(store.stat("uploads/given-up/crash").await, &[ErrorKind::NotFound], "stat of what was removed");
    let wrong = store.remove_leftover("uploads/sizes").await;
    assert!(wrong.is_err(), "what is no leftover is not removed");
}

async fn wrong_sizes(store: &Arc<dyn UnderStore>) {
    for (announced, length) in [(5, 4), (5, 6), (0, 1), (20 << 20, 9 * MIB), (9 << 20, 20 * MIB)] {
        let ended = upload(store, "uploads/wrong", &pattern(length, 4), WriteMode::Replace, Some(announced)).await;
        expect_kind(ended, &[ErrorKind::Invalid], "an upload of another size than announced");
        expect_kind(store.stat("uploads/wrong").await, &[ErrorKind::NotFound], "stat of an upload of a wrong size");
    }
}

async fn bad_keys(store: &Arc<dyn UnderStore>) {
    for key in ["/a", "a/", "a//b", "..", "a/../b", "a\0b"] {
        let begun = store.begin_upload(key, WriteMode::Replace, None).await.map(drop);
        expect_kind(begun, &[ErrorKind::Invalid], "an upload to a bad key");
    }
    let root = store.begin_upload("", WriteMode::Replace, None).await.map(drop);
    expect_kind(root, &[ErrorKind::IsADirectory], "an upload to the root");
}

async fn create_only(store: &Arc<dyn UnderStore>) {
    for length in [3, 9 * MIB] {
        let (first, second) = (pattern(length, 5), pattern(length, 6));
        let key = format!("uploads/once/{length}");
        let meta = upload(store, &key, &first, WriteMode::CreateOnly, None).await.expect("creating what is missing");
        let again = upload(store, &key, &second, WriteMode::CreateOnly, None).await;
        expect_kind(again, &[ErrorKind::Exists], "creating what exists");
        assert!(read_all(store, &key, &meta).await.expect("read after a refusal") == first);
        // What comes while the upload goes on counts as well.
        let late = format!("uploads/late/{length}");
        let mut upload = store.begin_upload(&late, WriteMode::CreateOnly, None).await.expect("begin");
        upload.write(second.clone()).await.expect("write");
        let meta = put(store, &late, &first).await;
        expect_kind(upload.finish().await, &[ErrorKind::Exists], "creating what was created meanwhile");
        assert!(read_all(store, &late, &meta).await.expect("read after a refusal") == first);
    }
}

async fn replace_only(store: &Arc<dyn UnderStore>) {
    for length in [3, 9 * MIB] {
        let (first, second, third) = (pattern(length, 7), pattern(length, 8), pattern(length, 9));
        let key = format!("uploads/only/{length}");
        let old = put(store, &key, &first).await;
        let only = WriteMode::ReplaceOnly(old.fingerprint.clone());
        let new = upload(store, &key, &second, only.clone(), Some(length as u64)).await.expect("replacing what it is");
        assert_ne!(new.fingerprint, old.fingerprint);
        let again = upload(store, &key, &third, only, None).await;
        expect_kind(again, &[ErrorKind::Stale], "replacing what is another one");
        assert!(read_all(store, &key, &new).await.expect("read after a refusal") == second);
        // What comes, or goes, while the upload goes on counts as well.
        let begin = async |fingerprint| {
            let only = WriteMode::ReplaceOnly(fingerprint);
            let mut upload = store.begin_upload(&key, only, None).await.expect("begin");
            upload.write(third.clone()).await.expect("write");
            upload
        };
        let late = begin(new.fingerprint.clone()).await;
        let other = put(store, &key, &first).await;
        expect_kind(late.finish().await, &[ErrorKind::Stale], "replacing what was written meanwhile");
        assert!(read_all(store, &key, &other).await.expect("read after a refusal") == first);
        let late = begin(other.fingerprint.clone()).await;
        store.delete(&key).await.expect("delete");
        expect_kind(late.finish().await, &[ErrorKind::Stale], "replacing what went meanwhile");
        expect_kind(store.stat(&key).await, &[ErrorKind::NotFound], "stat of what went");
    }
}

async fn races(store: &Arc<dyn UnderStore>) {
    for (round, length) in [100, 1000, 9 * MIB].into_iter().enumerate() {
        let key = format!("uploads/race/{round}");
        let tasks: Vec<_> = (0..4u8)
            .map(|racer| {
                let (store, key) = (Arc::clone(store), key.clone());
                let bytes = pattern(length, racer);
                tokio::spawn(async move { (racer, upload(&store, &key, &bytes, WriteMode::CreateOnly, None).await) })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.expect("a racer") {
                (racer, Ok(_)) => winners.push(racer),
                (_, Err(error)) => assert_eq!(error.kind, ErrorKind::Exists, "the loser of a race: {error}"),
            }
        }
        assert_eq!(winners.len(), 1, "one of four uploads of {length} bytes wins, got {winners:?}");
        let meta = store.stat(&key).await.expect("stat after a race");
        let bytes = read_all(store, &key, &meta).await.expect("read after a race");
        assert!(bytes == pattern(length, winners[0]), "the winner's bytes are there");
    }
}
