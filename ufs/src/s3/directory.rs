//! Directories of a store that has none: an empty object whose key ends in a slash stands for one.

use super::{S3Inner, client::Call, object::directory_meta};
use crate::{failure::Failure, key::last_name, under_store::ObjectMeta};
use forebay_base::ErrorKind;
use http::{HeaderMap, Method};
use tokio::time::Instant;

impl S3Inner {
    pub(super) async fn make_directory(&self, key: &str, deadline: Instant) -> Result<ObjectMeta, Failure> {
        let _permit = self.gate.enter(deadline).await?;
        let marker = self.directory_prefix(key);
        let is_taken = self.head_if_there(&self.full_key(key), deadline).await?.is_some()
            || self.page(&marker, "1", None, deadline).await?.is_inhabited();
        if is_taken {
            return Err(Failure::new(ErrorKind::Exists, "it exists already"));
        }
        self.put_marker(&marker, HeaderMap::new(), deadline).await?;
        Ok(directory_meta(last_name(key)))
    }

    pub(super) async fn remove_directory(&self, key: &str, deadline: Instant) -> Result<(), Failure> {
        let _permit = self.gate.enter(deadline).await?;
        let marker = self.directory_prefix(key);
        if self.head_if_there(&self.full_key(key), deadline).await?.is_some() {
            return Err(Failure::new(ErrorKind::NotADirectory, "it is an object"));
        }
        // The marker itself, and one more.
        let page = self.page(&marker, "2", None, deadline).await?;
        if !page.is_inhabited() {
            return Err(Failure::new(ErrorKind::NotFound, "neither an object nor a prefix of any"));
        }
        if page.has_more_than(&marker) {
            return Err(Failure::new(ErrorKind::NotEmpty, "the directory has entries"));
        }
        self.delete_full(&marker, deadline).await
    }

    /// Writes an empty object that stands for a directory.
    pub(super) async fn put_marker(&self, marker: &str, headers: HeaderMap, deadline: Instant) -> Result<(), Failure> {
        let call = Call { headers, ..Call::new(Method::PUT, marker) };
        self.client.send(&call, &self.gate, deadline).await?;
        Ok(())
    }
}
