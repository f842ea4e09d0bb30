//! What the trait promises, asked of a store. Panics with what was wrong.
//!
//! It needs an empty store that it may write to, and leaves it with objects.

mod directories;
mod listing;
mod objects;
mod reads;
mod renames;
mod uploads;

use crate::under_store::{ObjectMeta, ReadStream, StoreError, UnderStore};
use bytes::Bytes;
use forebay_base::ErrorKind;
use futures::StreamExt;
use std::sync::Arc;

/// Holds `store`, which must be empty, to every promise of `UnderStore`.
pub async fn run(store: Arc<dyn UnderStore>) {
    store.check().await.expect("check of a good store");
    objects::run(&store).await;
    reads::run(&store).await;
    uploads::run(&store).await;
    directories::run(&store).await;
    renames::run(&store).await;
    listing::run(&store).await;
}

async fn put(store: &Arc<dyn UnderStore>, key: &str, bytes: &[u8]) -> ObjectMeta {
    let put = store.put(key, Bytes::copy_from_slice(bytes), false).await;
    put.unwrap_or_else(|error| panic!("put of \"{key}\": {error}"))
}

async fn collect(mut stream: ReadStream) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// All of an object, in the content that `meta` describes.
async fn read_all(store: &Arc<dyn UnderStore>, key: &str, meta: &ObjectMeta) -> Result<Vec<u8>, StoreError> {
    collect(store.read(key, 0..meta.size, &meta.fingerprint).await?).await
}

#[track_caller]
fn expect_kind<T>(result: Result<T, StoreError>, kinds: &[ErrorKind], what: &str) {
    match result {
        Ok(_) => panic!("{what} went well, want one of {kinds:?}"),
        Err(error) => {
            assert!(kinds.contains(&error.kind), "{what}: {error} is {:?}, want one of {kinds:?}", error.kind);
            let text = error.to_string();
            assert!(!text.contains('\n'), "{what}: more than one line: {text}");
        }
    }
}
