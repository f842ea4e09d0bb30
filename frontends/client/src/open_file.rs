//! One open file: the grant, plus the promise to the master that its mount is in use. Cheap to make; any thread.

use crate::client::Inner;
use crate::grant::Grant;
use crate::hold::Hold;
use crate::local_file::LocalFile;
use crate::local_files::LocalFiles;
use crate::metrics::FILE;
use crate::read_bytes::ReadBytes;
use crate::read_path;
use forebay_base::KindError;
use forebay_net::message::namespace::Attr;
use futures::{StreamExt, TryStreamExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// An open file. Its mount counts as used until it is dropped.
pub struct OpenFile {
    pub(crate) inner: Arc<Inner>,
    pub(crate) grant: Arc<Grant>,
    local: Mutex<Option<Arc<LocalFile>>>,
    _hold: Hold,
}

/// Pieces of one read that are under way at once.
const PIECES_AT_ONCE: usize = 4;

impl OpenFile {
    pub(crate) fn new(inner: Arc<Inner>, grant: Arc<Grant>) -> Self {
        let hold = inner.holds.take(grant.attr().mount_id);
        Self { inner, grant, local: Mutex::default(), _hold: hold }
    }

    /// The file as it was opened; `version` and `size` stay true for this handle.
    #[must_use]
    pub fn attr(&self) -> &Attr {
        self.grant.attr()
    }

    /// What this handle may read with.
    #[must_use]
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// The whole file on this host, if it is larger than a page and a worker here hands it out. Asked for once, and again
    /// now and then while it is refused.
    pub async fn local_file(&self) -> Option<Arc<LocalFile>> {
        let attr = self.attr();
        if attr.size <= u64::from(attr.page_bytes) {
            return None;
        }
        let held = self.local.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(file) = held.filter(|file| !file.has_failed()) {
            return Some(file);
        }
        let file = LocalFiles::get(&self.inner, &self.grant).await;
        self.local.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&file);
        file
    }

    /// Reads from the local file, if there is one and it can be read.
    async fn read_local(&self, offset: u64, length: u32) -> Option<ReadBytes> {
        let file = self.local_file().await?;
        let began = Instant::now();
        match file.read(offset, length).await {
            Ok(bytes) => {
                let counters = self.inner.metrics.here();
                counters.read_seconds.at(FILE).record_since(began);
                counters.read_bytes.at(FILE).add(bytes.len() as u64);
                Some(bytes.into())
            }
            Err(error) => {
                let (file_id, version) = (self.attr().file_id, self.attr().version);
                if !file.has_failed() {
                    tracing::warn!(file_id, offset, length, %error, "a local file cannot be read, its worker is asked");
                }
                file.set_failed();
                self.inner.local_files.failed(file_id, version);
                None
            }
        }
    }

    /// Reads a range; fewer bytes come back only at the end of the file. `Stale` when the file changed meanwhile.
    pub async fn read(&self, offset: u64, length: u32) -> Result<ReadBytes, KindError> {
        let attr = self.attr();
        let mut pieces = read_path::pieces(attr.size, attr.block_bytes, offset, length);
        let (Some(first), rest) = (pieces.next(), pieces.next()) else { return Ok(ReadBytes::default()) };
        if let Some(bytes) = self.read_local(offset, length).await {
            return Ok(bytes);
        }
        let Some(second) = rest else {
            return read_path::read_piece(&self.inner, &self.grant, first).await.map(ReadBytes::from);
        };
        let all = [first, second].into_iter().chain(pieces);
        let parts = futures::stream::iter(all)
            .map(|piece| read_path::read_piece(&self.inner, &self.grant, piece))
            .buffered(PIECES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(ReadBytes::join(parts))
    }
}
