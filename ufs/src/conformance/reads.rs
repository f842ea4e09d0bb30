//! Ranges, and the condition that a read is under.

use super::{collect, expect_kind, put, read_all};
use crate::under_store::UnderStore;
use forebay_base::ErrorKind;
use futures::StreamExt;
use std::sync::Arc;

pub(super) async fn run(store: &Arc<dyn UnderStore>) {
    ranges(store).await;
    conditions(store).await;
    under_way(store).await;
    overwriting(store).await;
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31) ^ ((at >> 8) as u8) ^ seed).collect()
}

async fn ranges(store: &Arc<dyn UnderStore>) {
    let bytes = pattern(3_000_000, 1);
    let meta = put(store, "reads/ranges", &bytes).await;
    for range in [0..0, 0..1, 0..3_000_000, 4095..4097, 1 << 20..2 << 20, 2_999_999..3_000_000, 3_000_000..3_000_000] {
        let stream = store.read("reads/ranges", range.clone(), &meta.fingerprint).await;
        let stream = stream.unwrap_or_else(|error| panic!("read of {range:?}: {error}"));
        let got = collect(stream).await.unwrap_or_else(|error| panic!("read of {range:?}: {error}"));
        assert!(got == bytes[range.start as usize..range.end as usize], "the bytes of {range:?}");
    }
    for range in [0..3_000_001, 3_000_000..3_000_001, 5_000_000..5_000_001] {
        let outside = async { collect(store.read("reads/ranges", range.clone(), &meta.fingerprint).await?).await };
        expect_kind(outside.await, &[ErrorKind::Invalid], "a read outside of the object");
    }
}

async fn conditions(store: &Arc<dyn UnderStore>) {
    let old = put(store, "reads/same-length", b"one").await;
    let new = put(store, "reads/same-length", b"two").await;
    expect_kind(read_all(store, "reads/same-length", &old).await, &[ErrorKind::Stale], "a read of the content before");
    let none = async { collect(store.read("reads/same-length", 0..0, &old.fingerprint).await?).await };
    expect_kind(none.await, &[ErrorKind::Stale], "a read of nothing of the content before");
    assert_eq!(read_all(store, "reads/same-length", &new).await.expect("a read of the content now"), b"two");
    store.delete("reads/same-length").await.expect("delete");
    expect_kind(read_all(store, "reads/same-length", &new).await, &[ErrorKind::Stale], "a read of what is gone");
}

/// An overwrite while the stream is read: the old bytes to the end, or `Stale`; never a mixture.
async fn under_way(store: &Arc<dyn UnderStore>) {
    let old_bytes = pattern(8 << 20, 2);
    let old = put(store, "reads/under-way", &old_bytes).await;
    let mut stream = store.read("reads/under-way", 0..old.size, &old.fingerprint).await.expect("read");
    let mut got = stream.next().await.expect("a piece").expect("a piece").to_vec();
    put(store, "reads/under-way", &pattern(8 << 20, 3)).await;
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => got.extend_from_slice(&piece),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Stale, "an overwrite under way: {error}");
                assert!(got == old_bytes[..got.len()], "what came before the error is of the content before");
                return;
            }
        }
    }
    assert!(got == old_bytes, "a stream that ended well has one content");
}

/// Contents that replace each other as fast as the store takes them: whoever reads gets what the fingerprint says.
async fn overwriting(store: &Arc<dyn UnderStore>) {
    put(store, "reads/fast", &[0; 2000]).await;
    let writer = {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let mut written = Vec::new();
            for seed in 1..=60u8 {
                written.push((put(&store, "reads/fast", &[seed; 2000]).await.fingerprint, seed));
            }
            written
        })
    };
    let mut seen = Vec::new();
    while !writer.is_finished() {
        let meta = store.stat("reads/fast").await.expect("stat while it is replaced");
        match read_all(store, "reads/fast", &meta).await {
            Ok(bytes) => {
                assert_eq!(bytes.len(), 2000);
                assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixture of contents");
                seen.push((meta.fingerprint, bytes[0]));
            }
            Err(error) => assert_eq!(error.kind, ErrorKind::Stale, "a read while it is replaced: {error}"),
        }
    }
    let written = writer.await.expect("the writer");
    for (fingerprint, byte) in seen {
        for (other, seed) in &written {
            assert!(
                *other != fingerprint || *seed == byte,
                "{fingerprint} is the content {seed} and the content {byte}"
            );
        }
    }
}
