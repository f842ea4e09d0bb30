//! Bytes that a read brought: one buffer, as it came from the wire. Plain data.

use bytes::Bytes;
use std::ops::Deref;

/// What was read. Shorter than asked only at the end of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBytes(Bytes);

impl ReadBytes {
    /// Joins pieces; copies only when there are several.
    pub(crate) fn join(mut pieces: Vec<Bytes>) -> Self {
        match pieces.len() {
            0 => Self::default(),
            1 => Self(pieces.swap_remove(0)),
            _ => Self(pieces.concat().into()),
        }
    }

    /// The buffer itself.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for ReadBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for ReadBytes {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}
