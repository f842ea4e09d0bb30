//! One open file: the grant, plus the promise to the master that its mount is in use. Cheap to make; any thread.

use crate::client::Inner;
use crate::grant::Grant;
use crate::hold::Hold;
use crate::read_bytes::ReadBytes;
use crate::read_path;
use forebay_base::KindError;
use forebay_net::message::namespace::Attr;
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;

/// An open file. Its mount counts as used until it is dropped.
pub struct OpenFile {
    pub(crate) inner: Arc<Inner>,
    pub(crate) grant: Arc<Grant>,
    _hold: Hold,
}

/// Pieces of one read that are under way at once.
const PIECES_AT_ONCE: usize = 4;

impl OpenFile {
    pub(crate) fn new(inner: Arc<Inner>, grant: Arc<Grant>) -> Self {
        let hold = inner.holds.take(grant.attr().mount_id);
        Self { inner, grant, _hold: hold }
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

    /// Reads a range; fewer bytes come back only at the end of the file. `Stale` when the file changed meanwhile.
    pub async fn read(&self, offset: u64, length: u32) -> Result<ReadBytes, KindError> {
        let attr = self.attr();
        let mut pieces = read_path::pieces(attr.size, attr.block_bytes, offset, length);
        let (Some(first), rest) = (pieces.next(), pieces.next()) else { return Ok(ReadBytes::default()) };
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
