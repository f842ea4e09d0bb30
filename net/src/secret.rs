//! The cluster's shared secret: read once, proved by HMAC, never sent, logged or shown.

use crate::NetError;
use forebay_base::KindError;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// Shortest secret taken from a file, in bytes: a shorter one could be guessed from one recorded handshake.
const SECRET_BYTES_MIN: usize = 16;
/// Longest one, in bytes.
const SECRET_BYTES_MAX: usize = 4096;

/// The shared secret; empty when none is configured.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// No secret: whoever reaches the port is let in. The settings allow this on loopback only.
    #[must_use]
    pub fn none() -> Secret {
        Secret(Arc::from([]))
    }

    /// Reads the secret from its file, without white space at either end; no path means no secret.
    pub fn load(path: Option<&Path>) -> Result<Secret, KindError> {
        match path {
            None => Ok(Secret::none()),
            Some(path) => Ok(Self::read(path)?),
        }
    }

    fn read(path: &Path) -> Result<Secret, NetError> {
        let unreadable = |error: std::io::Error| NetError::SecretFile { path: path.into(), error: error.to_string() };
        let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
        if mode & 0o007 != 0 {
            tracing::warn!(path = %path.display(), "every user of this host can read the cluster's secret: chmod 600 it");
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let secret = bytes.trim_ascii();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
            return Err(NetError::SecretLength {
                path: path.into(),
                bytes: secret.len(),
                min: SECRET_BYTES_MIN,
                max: SECRET_BYTES_MAX,
            });
        }
        Ok(Secret(Arc::from(secret)))
    }

    /// A MAC keyed with the secret.
    pub(crate) fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("HMAC takes a key of any length")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(none)" } else { "Secret(***)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::ErrorKind;

    #[test]
    fn loads_trims_and_hides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let secret = Secret::load(Some(&path)).unwrap();
        assert_eq!(&*secret.0, b"0123456789abcdef");
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(format!("{:?}", Secret::load(None).unwrap()), "Secret(none)");
    }

    #[test]
    fn short_and_missing_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let error = Secret::load(Some(&path)).unwrap_err();
        assert!(error.message.contains("cluster.secret_file"), "{error}");
        std::fs::write(&path, "short").unwrap();
        let error = Secret::load(Some(&path)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains("got 5 bytes, want 16 to 4096"), "{error}");
    }
}
