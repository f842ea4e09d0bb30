//! What a store says about one content of one object: the promise that a `Version` stands for.
//!
//! Invariant: two different contents of one key never have equal fingerprints, as far as the store can tell them apart
//! (docs/semantics.md says where it cannot). Equality is textual; the order of fields is fixed by each store.

use sha2::{Digest, Sha256};
use std::fmt;

/// A store's own mark of one content, as text: `etag:"..."` for S3, `stat:dev:ino:size:mtime_ns:ctime_ns` for local files.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

/// The first 128 bits of SHA-256 of a fingerprint: what headers and tickets carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FingerprintHash(pub u128);

impl Fingerprint {
    /// The 128-bit hash of this fingerprint.
    #[must_use]
    pub fn hash(&self) -> FingerprintHash {
        let digest = Sha256::digest(self.0.as_bytes());
        let mut first = [0u8; 16];
        first.copy_from_slice(&digest[..16]);
        FingerprintHash(u128::from_le_bytes(first))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
